// SPDX-License-Identifier: Apache-2.0
// One turn of copying.
#include "transport/backends/copy_queue.h"

#include <algorithm>
#include <cstring>

namespace kvasir {
namespace {

/// Copies up to `bytes` more of a pull; answers how many.
uint64_t CopySlice(PullState& pull, uint64_t bytes) {
  uint64_t copied = 0;
  while (pull.piece < pull.pieces.size()) {
    const std::span<std::byte> local = pull.pieces[pull.piece].local;
    const uint64_t length = std::min(bytes - copied, local.size() - pull.offset);
    if (length > 0) std::memcpy(local.data() + pull.offset, pull.sources[pull.piece] + pull.offset, length);
    copied += length;
    pull.offset += length;
    if (pull.offset < local.size()) break;  // the slice is used up
    ++pull.piece;
    pull.offset = 0;
  }
  return copied;
}

}  // namespace

const std::vector<PullState*>& CopyQueue::Turn() {
  complete_.clear();
  // Every pull costs its turn something even when it has no bytes.
  constexpr uint64_t kPullCost = 64;
  uint64_t spent = 0;
  while (!pulls_.empty() && spent < kTurnBytes) {
    PullState* pull = pulls_.front();
    pulls_.pop_front();
    spent += kPullCost + CopySlice(*pull, kSliceBytes);
    if (pull->piece == pull->pieces.size()) {
      complete_.push_back(pull);
    } else {
      pulls_.push_back(pull);
    }
  }
  return complete_;
}

}  // namespace kvasir
