// SPDX-License-Identifier: Apache-2.0
// SsdReader: reads whole parts, several at once. Blocks go straight to their destination where it is aligned, or where
// files are buffered; through a bounce buffer else.
#pragma once

#include <cstdint>
#include <vector>

#include "store/tiers/disk_io.h"
#include "store/tiers/ssd_ops.h"
#include "store/tiers/ssd_segments.h"

namespace kvasir {

/// One thread at a time; each disk thread has its own.
class SsdReader {
 public:
  /// `direct`: files were opened with O_DIRECT. `disk` and `segments` outlive the reader.
  SsdReader(bool direct, DiskIo& disk, SegmentTable& segments);

  /// Carries out and answers every read.
  void Run(std::vector<ReadOp> reads);

 private:
  struct Job {
    ReadOp read;
    int fd = -1;
    uint64_t done = 0;  ///< bytes of the part that are read, or on their way
    absl::Status status;
  };
  /// One operation of a round, and where its bytes go.
  struct Piece {
    size_t job = 0;
    uint64_t at = 0;     ///< in the part
    uint64_t bytes = 0;  ///< wanted; the operation may be padded
    bool bounced = false;
  };

  bool Plan(size_t job);
  void Finish();

  const bool direct_;
  DiskIo& disk_;
  SegmentTable& segments_;
  AlignedBuffer bounce_;
  std::vector<Job> jobs_;
  std::vector<Piece> pieces_;  ///< of the round
  std::vector<DiskOp> ops_;    ///< of the round, beside pieces_
  uint64_t bounce_fill_ = 0;
};

}  // namespace kvasir
