// SPDX-License-Identifier: Apache-2.0
// ShmLink: pulls by memcpy from the peer's memory, mapped read-only. The unix socket carries what memory cannot say:
//
//   puller                                owner
//   Resolve{grants}   ------------------>  judges scope; for a region not announced on this connection yet:
//                     <------------------  Region{number, bytes} + descriptor     checked for seals, mapped
//                     <------------------  Resolved{grant -> region, offset, length | by socket | denied}
//   copies, now and for every later pull of these grants, while the owner's thread sleeps
//                     <------------------  Revoked{grant}, RegionGone{number}     forgotten
//
// Memory without a descriptor comes through the socket, by the requests of StreamLink. The owner does not see copies:
// who revokes relies on leases (Capabilities::sees_reads is false).
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "transport/backends/copy_queue.h"
#include "transport/backends/shm_mapping.h"
#include "transport/backends/stream_link.h"

namespace kvasir {

class ShmLink : public StreamLink {
 public:
  static constexpr size_t kRegionsMax = 4096;       ///< mapped on one connection
  static constexpr size_t kGrantsKnownMax = 65536;  ///< remembered; beyond that they are asked for again
  static constexpr size_t kDescriptorsMax = 16;     ///< received ahead of their messages
  static constexpr uint64_t kRegionBytesMax = 1ull << 40;

  using StreamLink::StreamLink;

  absl::StatusOr<std::span<const std::byte>> Map(const RemoteSpan& remote) override;

  // The owner's side tells the peer.
  void TellRevoked(uint64_t grant) { Send(MessageType::kRevoked, grant, {}); }
  void TellRegionGone(GrantTable::RegionNumber region);

 protected:
  void Start(PullState& pull) override;
  bool Withdraw(PullState& pull) override;
  ssize_t Receive(iovec* parts, size_t count) override;
  absl::Status HandleOther(const Message& message) override;

 private:
  /// What the owner said about a grant.
  struct Known {
    GrantKind kind;
    uint32_t region;
    uint64_t offset;
    uint64_t length;
  };
  struct Mapped {
    ReadMapping mapping;
    bool handed_out = false;  // by Map: then it stays as long as this link
  };

  // Owner.
  absl::Status Resolve(const Message& message);
  ResolvedGrant Describe(uint64_t grant);
  bool Announce(GrantTable::RegionNumber region);

  // Puller.
  absl::Status MapRegion(const Message& message);
  absl::Status Learn(const Message& message);
  void ForgetRegion(uint32_t region);
  void AskFor(uint64_t grant, PullState* pull);
  void SendAsked();
  absl::StatusOr<std::span<const std::byte>> Locate(const RemoteSpan& remote, const Known& known);
  void Place(PullState& pull);
  void Fail(PullState& pull, absl::Status status);
  void PostCopy();
  void Copy();

  absl::flat_hash_set<GrantTable::RegionNumber> announced_;

  std::deque<UniqueFd> descriptors_;  // received, not yet named by a kRegion
  absl::flat_hash_map<uint32_t, Mapped> regions_;
  std::vector<Mapped> retired_;       // of regions gone; unmapped when no copy is under way
  absl::flat_hash_map<uint64_t, Known> known_;
  std::vector<uint64_t> to_ask_;      // grants, in the next Resolve
  bool ask_posted_ = false;
  uint64_t next_resolve_ = 1;
  absl::flat_hash_map<uint64_t, std::vector<PullState*>> asked_;  // grant -> who waits for the answer
  absl::flat_hash_map<PullState*, size_t> waiting_;               // pull -> answers still to come
  CopyQueue copies_;
  bool copy_posted_ = false;
};

}  // namespace kvasir
