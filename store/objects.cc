// SPDX-License-Identifier: Apache-2.0
#include "store/objects.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

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
      const std::string name = value.name.substr(sizeof kPrefix - 1);
      Held& held = objects_[name] = {version, value.value.substr(sizeof version)};
      bytes_ += name.size() + held.value.size();
    }
  }
}

/// An answer that waits for the SSD.
struct Objects::Saving {
  Answer<ObjectReply> answer;
  ObjectReply reply;
  const std::thread::id caller = std::this_thread::get_id();
  bool inside = true;  // the caller still holds mutex_; its own thread only
  absl::Status refused;
  bool is_refused = false;

  /// What a full queue refuses comes before PutValue returns: it is told when the lock is free again.
  void Saved(absl::Status status) {
    if (std::this_thread::get_id() == caller && inside) {
      is_refused = true;
      refused = std::move(status);
      return;
    }
    if (!status.ok()) return answer(std::move(status));
    answer(std::move(reply));
  }
};

void Objects::Do(const DomainId& domain, ObjectRequest request, Answer<ObjectReply> answer) {
  if (request.name.empty() || request.name.size() > kObjectNameBytesMax || request.value.size() > kObjectBytesMax) {
    return answer(absl::InvalidArgumentError("object: name must have 1 to 256 bytes, value at most 1 MiB"));
  }
  auto saving = std::make_shared<Saving>();
  saving->answer = std::move(answer);
  absl::Status status;
  bool waits = false;
  {
    MutexLock lock(mutex_);
    const std::string name = ToHex(domain) + "/" + request.name;
    if (request.put) {
      status = Put(ToHex(domain), name, request, &saving->reply);
      waits = status.ok() && ssd_ != nullptr;
      if (waits) Save(ToHex(domain), name, request, saving);
    } else if (const auto at = objects_.find(name); at != objects_.end()) {
      saving->reply = {at->second.version, at->second.value};
    } else {
      status = absl::NotFoundError("object '" + request.name + "' is not here");
    }
    saving->inside = false;
  }
  if (!waits) return saving->Saved(std::move(status));
  if (saving->is_refused) saving->Saved(saving->refused);
}

/// Under the lock: the SSD sees changes in the order in which they were made.
void Objects::Save(const std::string& domain, const std::string& name, const ObjectRequest& request,
                   const std::shared_ptr<Saving>& saving) {
  const auto saved = [saving](absl::Status status) { saving->Saved(std::move(status)); };
  if (const uint64_t version = saving->reply.version; version > 0) {
    return ssd_->PutValue({kPrefix + name, Bytes(version) + request.value}, saved);
  }
  // First the floor: without it the object stays.
  ssd_->PutValue({kFloorPrefix + domain, Bytes(FloorOf(domain))}, [saving](absl::Status status) {
    if (!status.ok() && std::this_thread::get_id() == saving->caller && saving->inside) saving->Saved(std::move(status));
  });
  if (!saving->is_refused) ssd_->PutValue({kPrefix + name, "", /*deleted=*/true}, saved);
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
    bytes_ -= name.size() + at->second.value.size();
    objects_.erase(at);
    return absl::OkStatus();
  }
  const uint64_t old_bytes = there == 0 ? 0 : name.size() + at->second.value.size();
  const uint64_t new_bytes = name.size() + request.value.size();
  if (absl::Status room = CheckRoom(old_bytes, new_bytes); !room.ok()) return room;
  bytes_ += new_bytes - old_bytes;
  reply->version = (there == 0 ? FloorOf(domain) : there) + 1;
  objects_[name] = {reply->version, request.value};
  return absl::OkStatus();
}

/// One that shrinks is taken whatever there is.
absl::Status Objects::CheckRoom(uint64_t old_bytes, uint64_t new_bytes) const {
  if (old_bytes == 0 && objects_.size() >= kObjectsMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this node has ", objects_.size(), " objects, the most it takes: drop kept inputs and scores of chains that are done with"));
  }
  if (new_bytes <= old_bytes || bytes_ + new_bytes - old_bytes <= bytes_max_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the objects of this node have ", bytes_.load(), " bytes, and may have ", bytes_max_,
                   ", a share of its memory tier: drop kept inputs and scores of chains that are done with, or give it more --dram"));
}

uint64_t Objects::FloorOf(const std::string& domain) const {
  const auto at = floors_.find(domain);
  return at == floors_.end() ? 0 : at->second;
}

}  // namespace kvasir
