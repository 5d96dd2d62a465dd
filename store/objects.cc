// SPDX-License-Identifier: Apache-2.0
#include "store/objects.h"

#include <cstring>
#include <utility>

namespace kvasir {

namespace {
constexpr char kPrefix[] = "object/";  // object/<domain, hexadecimal>/<name> -> version (8 bytes) and value
}

void Objects::Recover(const std::vector<NamedValue>& values) {
  MutexLock lock(mutex_);
  for (const NamedValue& value : values) {
    if (!value.name.starts_with(kPrefix) || value.value.size() < sizeof(uint64_t)) continue;
    Held& held = objects_[value.name.substr(sizeof kPrefix - 1)];
    std::memcpy(&held.version, value.value.data(), sizeof held.version);
    held.value = value.value.substr(sizeof held.version);
  }
}

void Objects::Do(const DomainId& domain, ObjectRequest request, Answer<ObjectReply> answer) {
  if (request.name.empty() || request.name.size() > kObjectNameBytesMax || request.value.size() > kObjectBytesMax) {
    return answer(absl::InvalidArgumentError("object: name must have 1 to 256 bytes, value at most 1 MiB"));
  }
  const std::string name = ToHex(domain) + "/" + request.name;
  ObjectReply reply;
  absl::Status status;
  {
    MutexLock lock(mutex_);
    const auto at = objects_.find(name);
    const uint64_t there = at == objects_.end() ? 0 : at->second.version;
    if (!request.put) {
      if (there == 0) status = absl::NotFoundError("object '" + request.name + "' is not here");
      else reply = {there, at->second.value};
    } else if (request.version != there) {
      status = absl::AbortedError("object '" + request.name + "' is at version " + std::to_string(there) + ", not " +
                                  std::to_string(request.version) + ": read it again");
    } else if (there == 0 && objects_.size() >= kObjectsMax) {
      status = absl::ResourceExhaustedError("too many objects on this node");
    } else {
      reply.version = there + 1;
      objects_[name] = {reply.version, request.value};
    }
  }
  if (!status.ok()) return answer(std::move(status));
  if (!request.put || ssd_ == nullptr) return answer(std::move(reply));
  std::string kept(sizeof reply.version, '\0');
  std::memcpy(kept.data(), &reply.version, sizeof reply.version);
  ssd_->PutValue({kPrefix + name, kept + request.value}, [reply, answer = std::move(answer)](absl::Status saved) mutable {
    if (!saved.ok()) return answer(std::move(saved));
    answer(std::move(reply));
  });
}

}  // namespace kvasir
