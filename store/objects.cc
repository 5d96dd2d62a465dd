// SPDX-License-Identifier: Apache-2.0
#include "store/objects.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvasir {

namespace {
constexpr char kPrefix[] = "object/";  // object/<domain, hexadecimal>/<name> -> version (8 bytes) and value
constexpr char kFloorPrefix[] = "object floor/";  // object floor/<domain, hexadecimal> -> greatest version deleted (8 bytes)

std::string Bytes(uint64_t version) {
  std::string bytes(sizeof version, '\0');
  std::memcpy(bytes.data(), &version, sizeof version);
  return bytes;
}
}  // namespace

void Objects::Recover(const std::vector<NamedValue>& values) {
  MutexLock lock(mutex_);
  for (const NamedValue& value : values) {
    if (value.value.size() < sizeof(uint64_t)) continue;
    uint64_t version;
    std::memcpy(&version, value.value.data(), sizeof version);
    if (value.name.starts_with(kFloorPrefix)) {
      floors_[value.name.substr(sizeof kFloorPrefix - 1)] = version;
    } else if (value.name.starts_with(kPrefix)) {
      objects_[value.name.substr(sizeof kPrefix - 1)] = {version, value.value.substr(sizeof version)};
    }
  }
}

void Objects::Do(const DomainId& domain_id, ObjectRequest request, Answer<ObjectReply> answer) {
  if (request.name.empty() || request.name.size() > kObjectNameBytesMax || request.value.size() > kObjectBytesMax) {
    return answer(absl::InvalidArgumentError("object: name must have 1 to 256 bytes, value at most 1 MiB"));
  }
  const std::string domain = ToHex(domain_id), name = domain + "/" + request.name;
  ObjectReply reply;
  absl::Status status;
  uint64_t floor = 0;
  {
    MutexLock lock(mutex_);
    if (request.put) {
      status = Put(domain, name, request, &reply);
    } else if (const auto at = objects_.find(name); at != objects_.end()) {
      reply = {at->second.version, at->second.value};
    } else {
      status = absl::NotFoundError("object '" + request.name + "' is not here");
    }
    floor = FloorOf(domain);
  }
  if (!status.ok()) return answer(std::move(status));
  if (!request.put || ssd_ == nullptr) return answer(std::move(reply));
  auto saved = [reply, answer = std::move(answer)](absl::Status kept) mutable {
    if (!kept.ok()) return answer(std::move(kept));
    answer(std::move(reply));
  };
  if (reply.version > 0) return ssd_->PutValue({kPrefix + name, Bytes(reply.version) + request.value}, std::move(saved));
  ssd_->PutValue({kFloorPrefix + domain, Bytes(floor)}, [](const absl::Status&) {});  // carried out in order
  ssd_->PutValue({kPrefix + name, "", /*deleted=*/true}, std::move(saved));
}

absl::Status Objects::Put(const std::string& domain, const std::string& name, const ObjectRequest& request, ObjectReply* reply) {
  const auto at = objects_.find(name);
  const uint64_t there = at == objects_.end() ? 0 : at->second.version;
  const bool deletes = request.value.empty();
  if (request.version != there && !(deletes && request.version == kObjectAnyVersion)) {
    return absl::AbortedError("object '" + request.name + "' is at version " + std::to_string(there) + ", not " +
                              std::to_string(request.version) + ": read it again");
  }
  if (deletes && there == 0) return absl::OkStatus();
  if (deletes) {
    if (floors_.size() >= kFloorsMax && !floors_.contains(domain)) {
      return absl::ResourceExhaustedError("too many trust domains have deleted objects on this node");
    }
    floors_[domain] = std::max(FloorOf(domain), there);
    objects_.erase(at);
    return absl::OkStatus();
  }
  if (there == 0 && objects_.size() >= kObjectsMax) return absl::ResourceExhaustedError("too many objects on this node");
  reply->version = (there == 0 ? FloorOf(domain) : there) + 1;
  objects_[name] = {reply->version, request.value};
  return absl::OkStatus();
}

uint64_t Objects::FloorOf(const std::string& domain) const {
  const auto at = floors_.find(domain);
  return at == floors_.end() ? 0 : at->second;
}

}  // namespace kvasir
