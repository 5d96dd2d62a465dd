// SPDX-License-Identifier: Apache-2.0
// Both sides of resolving grants, and copying.
#include "transport/backends/shm_link.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "transport/check.h"

namespace kvasir {

// ---- the puller ----

void ShmLink::Start(PullState& pull) {
  size_t missing = 0;
  for (const Piece& piece : pull.pieces) {
    if (known_.contains(piece.remote.grant)) continue;
    auto asked = asked_.find(piece.remote.grant);
    const bool twice = asked != asked_.end() && !asked->second.empty() && asked->second.back() == &pull;
    if (twice) continue;
    AskFor(piece.remote.grant, &pull);
    ++missing;
  }
  if (missing > 0) {
    waiting_.emplace(&pull, missing);
  } else {
    Place(pull);
  }
}

void ShmLink::AskFor(uint64_t grant, PullState* pull) {
  auto [asked, first] = asked_.try_emplace(grant);
  if (pull != nullptr) asked->second.push_back(pull);
  if (!first) return;
  to_ask_.push_back(grant);
  if (std::exchange(ask_posted_, true)) return;
  loop().Post([self = std::static_pointer_cast<ShmLink>(shared_from_this())] { self->SendAsked(); });
}

/// One message for all that was asked for in this turn.
void ShmLink::SendAsked() {
  ask_posted_ = false;
  std::span<const uint64_t> rest(to_ask_);
  while (!rest.empty()) {
    const size_t count = std::min<size_t>(rest.size(), kGrantsPerMessageMax);
    Send(MessageType::kResolve, next_resolve_++, AsBytes(rest.first(count)));
    rest = rest.subspan(count);
  }
  to_ask_.clear();
}

absl::Status ShmLink::Learn(const Message& message) {
  if (known_.size() + message.count > kGrantsKnownMax) known_.clear();
  for (size_t i = 0; i < message.count; ++i) {
    const ResolvedGrant& resolved = message.resolved[i];
    auto node = asked_.extract(resolved.grant);
    if (node.empty()) return absl::InvalidArgumentError("malformed message: a grant that was not asked for");
    const auto kind = static_cast<GrantKind>(resolved.kind);
    if (kind == GrantKind::kMapped) {
      auto region = regions_.find(resolved.region);
      if (region == regions_.end()) return absl::InvalidArgumentError("malformed message: a grant in no region");
      const uint64_t bytes = region->second.mapping.bytes().size();
      if (resolved.offset > bytes || resolved.length > bytes - resolved.offset) {
        return absl::InvalidArgumentError("malformed message: a grant beyond its region");
      }
    }
    known_[resolved.grant] = {kind, resolved.region, resolved.offset, resolved.length};
    for (PullState* pull : node.mapped()) {
      if (--waiting_.at(pull) > 0) continue;
      waiting_.erase(pull);
      Place(*pull);
    }
  }
  return absl::OkStatus();
}

/// Every grant of the pull was answered: copies, or asks through the socket, or fails.
void ShmLink::Place(PullState& pull) {
  for (const Piece& piece : pull.pieces) {
    auto known = known_.find(piece.remote.grant);
    // Forgotten between two answers to one pull.
    if (known == known_.end()) return Fail(pull, absl::ResourceExhaustedError("kGrantsKnownMax"));
    if (known->second.kind == GrantKind::kBySocket) {
      pull.sources.clear();
      return Ask(pull);
    }
    absl::StatusOr<std::span<const std::byte>> source = Locate(piece.remote, known->second);
    if (!source.ok()) return Fail(pull, source.status());
    pull.sources.push_back(source->data());
  }
  copies_.Add(pull);
  PostCopy();
}

absl::StatusOr<std::span<const std::byte>> ShmLink::Locate(const RemoteSpan& remote, const Known& known) {
  if (known.kind == GrantKind::kDenied) return absl::PermissionDeniedError("grant refused by the peer");
  if (remote.offset > known.length || remote.length > known.length - remote.offset) {
    return absl::PermissionDeniedError("range outside the grant");
  }
  auto region = regions_.find(known.region);
  if (region == regions_.end()) return absl::PermissionDeniedError("the grant's region is gone");
  return region->second.mapping.bytes().subspan(known.offset + remote.offset, remote.length);
}

absl::StatusOr<std::span<const std::byte>> ShmLink::Map(const RemoteSpan& remote) {
  if (closed()) return closed_why();
  if (remote.incarnation != peer_incarnation_) {
    return absl::PermissionDeniedError("the grant is of another incarnation than this peer");
  }
  auto known = known_.find(remote.grant);
  if (known == known_.end()) {
    AskFor(remote.grant, nullptr);
    return absl::UnavailableError("grant not asked for yet: pull it, of zero length if need be, then map it");
  }
  if (known->second.kind == GrantKind::kBySocket) return absl::UnimplementedError("memory without a descriptor");
  absl::StatusOr<std::span<const std::byte>> bytes = Locate(remote, known->second);
  if (bytes.ok()) regions_.at(known->second.region).handed_out = true;
  return bytes;
}

void ShmLink::Fail(PullState& pull, absl::Status status) {
  End(pull, std::move(status));
  DeliverLater();
}

void ShmLink::PostCopy() {
  if (std::exchange(copy_posted_, true)) return;
  loop().Post([self = std::static_pointer_cast<ShmLink>(shared_from_this())] { self->Copy(); });
}

void ShmLink::Copy() {
  copy_posted_ = false;
  for (PullState* pull : copies_.Turn()) End(*pull, absl::OkStatus());
  if (!copies_.empty()) {
    PostCopy();
  } else {
    std::erase_if(retired_, [](const Mapped& mapped) { return !mapped.handed_out; });
  }
  Deliver();
}

bool ShmLink::Withdraw(PullState& pull) {
  copies_.Remove(pull);
  if (waiting_.erase(&pull) > 0) {
    for (const Piece& piece : pull.pieces) {
      auto asked = asked_.find(piece.remote.grant);
      if (asked != asked_.end()) std::erase(asked->second, &pull);
    }
  }
  return StreamLink::Withdraw(pull);
}

/// Receives descriptors, too.
ssize_t ShmLink::Receive(iovec* parts, size_t count) {
  constexpr size_t kAtOnce = 4;
  alignas(cmsghdr) char ancillary[CMSG_SPACE(kAtOnce * sizeof(int))];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  const ssize_t received = recvmsg(socket(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received < 0) return received;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      descriptors_.emplace_back(fd);
    }
  }
  if (descriptors_.size() > kDescriptorsMax || (message.msg_flags & MSG_CTRUNC) != 0) {
    errno = EPROTO;
    return -1;
  }
  return received;
}

absl::Status ShmLink::HandleOther(const Message& message) {
  switch (message.type) {
    case MessageType::kResolve:
      return Resolve(message);
    case MessageType::kResolved:
      return Learn(message);
    case MessageType::kRegion:
      return MapRegion(message);
    case MessageType::kRegionGone:
      ForgetRegion(static_cast<uint32_t>(message.header.id));
      return absl::OkStatus();
    case MessageType::kRevoked: {
      auto known = known_.find(message.header.id);  // its number is never used again: it stays refused
      if (known != known_.end()) known->second.kind = GrantKind::kDenied;
      return absl::OkStatus();
    }
    default:
      return StreamLink::HandleOther(message);
  }
}

absl::Status ShmLink::MapRegion(const Message& message) {
  if (descriptors_.empty()) return absl::InvalidArgumentError("malformed message: a region without its descriptor");
  const UniqueFd descriptor = std::move(descriptors_.front());
  descriptors_.pop_front();
  if (message.region.bytes > kRegionBytesMax) return absl::InvalidArgumentError("malformed message: kRegionBytesMax");
  if (regions_.size() + retired_.size() >= kRegionsMax) return absl::ResourceExhaustedError("kRegionsMax");
  absl::StatusOr<ReadMapping> mapping = ReadMapping::Map(descriptor.get(), message.region.bytes);
  if (!mapping.ok()) return mapping.status();
  const bool added = regions_.try_emplace(static_cast<uint32_t>(message.header.id), Mapped{*std::move(mapping)}).second;
  return added ? absl::OkStatus() : absl::InvalidArgumentError("malformed message: a region announced twice");
}

void ShmLink::ForgetRegion(uint32_t region) {
  auto node = regions_.extract(region);
  if (node.empty()) return;
  if (node.mapped().handed_out || !copies_.empty()) retired_.push_back(std::move(node.mapped()));
}

// ---- the owner ----

absl::Status ShmLink::Resolve(const Message& message) {
  std::array<ResolvedGrant, kGrantsPerMessageMax> resolved;
  for (size_t i = 0; i < message.count; ++i) resolved[i] = Describe(message.grants[i]);
  const std::span<const ResolvedGrant> answers(resolved.data(), message.count);
  Send(MessageType::kResolved, message.header.id, AsBytes(answers));
  return absl::OkStatus();
}

ResolvedGrant ShmLink::Describe(uint64_t id) {
  ResolvedGrant resolved{id, 0, 0, 0, static_cast<uint32_t>(GrantKind::kDenied)};
  const absl::StatusOr<const GrantTable::Grant*> grant = home().grants->Judge(id, scope_, 0, 0);
  if (!grant.ok()) return resolved;
  if (!Announce((*grant)->region)) {
    resolved.kind = static_cast<uint32_t>(GrantKind::kBySocket);
    return resolved;
  }
  resolved.kind = static_cast<uint32_t>(GrantKind::kMapped);
  resolved.region = (*grant)->region;
  resolved.offset = (*grant)->region_offset;
  resolved.length = (*grant)->length;
  return resolved;
}

/// Sends the region's descriptor the first time. False where there is none to send: the socket has to do.
bool ShmLink::Announce(GrantTable::RegionNumber region) {
  if (announced_.contains(region)) return true;
  const MemorySpan* memory = home().grants->Region(region);
  KVASIR_CHECK(memory != nullptr, "a grant's region exists");
  if (memory->fd < 0 || announced_.size() >= kRegionsMax) return false;
  UniqueFd descriptor(fcntl(memory->fd, F_DUPFD_CLOEXEC, 0));
  if (!descriptor) return false;
  announced_.insert(region);
  const RegionBody body{memory->bytes};
  Send(MessageType::kRegion, region, AsBytes(body), std::move(descriptor));
  return true;
}

void ShmLink::TellRegionGone(GrantTable::RegionNumber region) {
  if (announced_.erase(region) > 0) Send(MessageType::kRegionGone, region, {});
}

}  // namespace kvasir
