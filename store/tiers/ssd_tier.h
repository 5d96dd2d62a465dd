// SPDX-License-Identifier: Apache-2.0
// SsdTier: parts on a local file system. Payload in append-only segment files (O_DIRECT where it works; io_uring, or
// pread/pwrite where the kernel denies it), index and metadata in RocksDB. Payload is synced before its index entry, so an
// entry always points to bytes that were there. An fsync error turns the tier read-only for good; the node goes on.
//
//   DIR/FORMAT                 "kvasir ssd 1\n": another format is refused, nothing is touched
//   DIR/LOCK                   flock: one process a directory
//   DIR/segments/00000001.seg  records: part bytes, padded to kBlockBytes
//   DIR/index/                 RocksDB: part id -> location, generation, block metadata; names; objects
//   DIR/index.damaged/         an index beyond repair, set aside; for the curious, may be deleted
//
// Space comes back by segment: a segment without live parts is reused; when room runs short the segment with the fewest
// live bytes is emptied and what it still held is reported as evicted (a cache may forget; it never lies).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/api/part.h"
#include "transport/loop.h"

namespace kvasir {

class DiskIo;

struct SsdOptions {
  std::string directory;
  uint64_t bytes_max = 20ull << 30;          ///< segments together never exceed it
  uint64_t segment_bytes = 64ull << 20;      ///< at most bytes_max / 4
  uint32_t disk_threads = 2;
  uint32_t queued_max = 4096;                ///< reads, and writes, that may wait; more are ResourceExhausted
  Duration group_commit = std::chrono::milliseconds(2);  ///< durable appends gather this long (0 = not at all)
  Duration space_probe = std::chrono::seconds(1);        ///< on a full disk: how often it is asked for space again
  bool sync = true;                          ///< false only in benchmarks
  /// Tests only: what every operation on segments goes through, on its way to the disk that is given.
  std::function<std::unique_ptr<DiskIo>(std::unique_ptr<DiskIo>)> wrap_disk;
};

/// What is known of a part beside its bytes; kept in the index, given back at recovery.
struct PartMeta {
  PartId id;
  BlockKey parent;
  DomainId domain;
  NamespaceDigest ns;
  uint32_t shard = 0;
  uint32_t block_index = 0;
  uint32_t token_count = 0;
  uint64_t bytes = 0;         ///< of the part, header included
  uint32_t frames_offset = 0;
  uint64_t generation = 0;    ///< stamped in the header
  BlockKey run;               ///< what its block is placed by; zero = unknown
  uint32_t replicas = 1;      ///< nodes that shall hold it
};

/// Where a part lies. Opaque outside the tier; a stale one reads as DataLoss, never as another part.
struct SsdLocation {
  uint32_t segment = 0;       ///< 0 = nowhere
  uint32_t incarnation = 0;   ///< of the segment: bumped when it is reused
  uint64_t offset = 0;
  friend bool operator==(const SsdLocation&, const SsdLocation&) = default;
};

struct RecoveredPart {
  PartMeta meta;
  SsdLocation location;
};
/// Small named facts that share the index: views, namespaces, objects. Kept until replaced or deleted.
struct NamedValue {
  std::string name, value;
  bool deleted = false;      ///< put: the name is forgotten, the value ignored
};

struct SsdStatus {
  uint64_t capacity = 0, used = 0, live = 0, parts = 0, segments = 0;
  bool read_only = false;
  std::string cause;          ///< why read-only
  std::string io;             ///< "io_uring, O_DIRECT"; "pread/pwrite (io_uring: EPERM), buffered"
  uint64_t read_errors = 0, write_errors = 0;  ///< operations that the disk refused
};

/// How the threads and queues of a tier are doing, for whoever judges them. Instant::max() = nothing waits.
struct SsdVitals {
  struct Thread {
    bool busy = false;
    uint64_t progress = 0;    ///< moves with everything it takes and ends
  };
  Thread writer;
  std::vector<Thread> readers;
  Instant oldest_write = Instant::max();  ///< when the oldest write that is not answered was asked for
  Instant oldest_read = Instant::max();
  bool out_of_space = false;
};

/// Thread safe. Answers come exactly once, on a thread of the tier: post to your Loop. One exception: what queued_max
/// refuses is answered before the call returns, since a queue of refusals would have no bound.
class SsdTier {
 public:
  struct Recovered {
    std::vector<RecoveredPart> parts;
    std::vector<NamedValue> values;
    uint64_t dropped = 0;      ///< entries whose bytes did not answer to them: counted, freed
    uint64_t generation_max = 0;
    std::string note;          ///< what was repaired or set aside, for the log; empty = nothing
  };
  /// Opens or makes the directory, replays the index, checks each entry against its segment's length and header (frames
  /// are checked when they are read), frees the rest. InvalidArgument / FailedPrecondition / Unavailable name the
  /// directory, the cause and the next step: not a directory, no permission, newer format, in use by another process.
  static absl::StatusOr<std::unique_ptr<SsdTier>> Open(const SsdOptions& options, Recovered* recovered);

  virtual ~SsdTier() = default;
  /// Writes a part; the bytes stay valid until the answer. With `durable` the answer comes after fdatasync of the payload
  /// and a synced index write, else after the write. Replaces an older copy of the same part. ResourceExhausted when full
  /// and nothing may be evicted, Unavailable when read-only.
  virtual void Append(const PartMeta& meta, std::span<const std::byte> bytes, bool durable,
                      absl::AnyInvocable<void(absl::StatusOr<SsdLocation>)> done) = 0;
  /// Reads the whole part into `into` (bytes long). Checks nothing but lengths and the segment's incarnation: the caller
  /// verifies header and CRCs.
  virtual void Read(const SsdLocation& location, std::span<std::byte> into,
                    absl::AnyInvocable<void(absl::Status)> done) = 0;
  /// Forgets parts. Their space comes back with their segment. A location that moved on is left alone.
  virtual void Drop(std::span<const std::pair<PartId, SsdLocation>> parts) = 0;
  /// Parts the tier had to evict to reuse a segment; called before the space is written again. Set once, before Append.
  virtual void OnEvicted(std::function<void(std::vector<PartId>)> callback) = 0;
  /// Synced before the answer.
  virtual void PutValue(NamedValue value, absl::AnyInvocable<void(absl::Status)> done) = 0;
  virtual SsdStatus Status() const = 0;
  /// Waits for no disk.
  virtual SsdVitals Vitals() const = 0;
  /// As in SsdStatus: why read-only, or empty. Waits for no disk either.
  virtual std::string Failure() const = 0;
};

/// Reads every part of a directory offline and checks header, root and every frame, for `kvasir verify`. Calls `report`
/// for each part in directory order (progress: done, total bytes) from the calling thread. Opens read-only. Unavailable
/// while a tier has the directory open: parts that move under the reader's eyes would look damaged.
struct VerifiedPart {
  PartMeta meta;
  SsdLocation location;
  absl::Status status;
};
absl::Status VerifySsdDirectory(const std::string& directory,
                                const std::function<void(const VerifiedPart&, uint64_t done, uint64_t total)>& report);

}  // namespace kvasir
