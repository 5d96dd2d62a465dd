// SPDX-License-Identifier: Apache-2.0
// LayerGate: how far one fetch has come, layer by layer, for threads that wait for it.
//
// The Loop raises it (a layer of a block is in place: its unpack jobs have ended, so that any stream and any thread sees
// the bytes); engine threads wait on it. Counts only grow; the end of the fetch opens every wait.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "client/session.h"
#include "transport/sync.h"

namespace kvasir::client {

class LayerGate {
 public:
  // ---- the Loop ----
  /// The fetch has begun: `layers` layers from `first_layer` on of `blocks` blocks.
  void Begin(uint32_t first_layer, uint32_t layers, uint32_t blocks);
  /// Every owner answered: this many leading blocks will come unless something fails. Later, fewer will.
  void Found(uint32_t blocks);
  /// A layer of a block is in place.
  void Raise(uint32_t layer, uint32_t block);
  /// The fetch ended with this many leading blocks.
  void Finish(uint32_t blocks);

  // ---- any other thread ----
  /// Leading blocks for which the layer is in place: all that were found, or what there is once no more can come.
  uint32_t WaitLayer(uint32_t layer);
  uint32_t WaitFound();
  bool finished() const;

 private:
  struct Layer {
    uint32_t leading = 0;
    std::vector<bool> in_place;
  };
  mutable Mutex mutex_;
  CondVar changed_;
  uint32_t first_layer_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Layer> layers_ ABSL_GUARDED_BY(mutex_);
  std::optional<uint32_t> found_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

/// The gates of the fetches under way and of the last kRemembered ones. Any thread.
class GateTable {
 public:
  static constexpr uint64_t kRemembered = 1024;
  std::pair<FetchId, std::shared_ptr<LayerGate>> Make();
  /// Null when there is none of this id.
  std::shared_ptr<LayerGate> Find(FetchId id) const;

 private:
  mutable Mutex mutex_;
  FetchId next_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<FetchId, std::shared_ptr<LayerGate>> gates_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir::client
