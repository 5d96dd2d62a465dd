// SPDX-License-Identifier: Apache-2.0
// Counting layers in place.
#include "client/layer_gate.h"

#include <algorithm>
#include <utility>

namespace kvasir::client {

void LayerGate::Begin(uint32_t first_layer, uint32_t layers, uint32_t blocks) {
  MutexLock lock(mutex_);
  first_layer_ = first_layer;
  layers_.assign(layers, Layer{0, std::vector<bool>(blocks)});
}

void LayerGate::Found(uint32_t blocks) {
  MutexLock lock(mutex_);
  found_ = std::min(found_.value_or(blocks), blocks);
  changed_.NotifyAll();
}

void LayerGate::Raise(uint32_t layer, uint32_t block) {
  MutexLock lock(mutex_);
  Layer& at = layers_[layer - first_layer_];
  at.in_place[block] = true;
  const uint32_t before = at.leading;
  while (at.leading < at.in_place.size() && at.in_place[at.leading]) ++at.leading;
  if (at.leading != before) changed_.NotifyAll();
}

void LayerGate::Finish(uint32_t blocks) {
  MutexLock lock(mutex_);
  found_ = blocks;
  finished_ = true;
  changed_.NotifyAll();
}

uint32_t LayerGate::WaitLayer(uint32_t layer) {
  MutexLock lock(mutex_);
  for (;;) {
    const bool known = layer >= first_layer_ && layer - first_layer_ < layers_.size();
    const uint32_t leading = known ? layers_[layer - first_layer_].leading : 0;
    if (finished_ || (!layers_.empty() && !known)) return leading;
    if (known && found_ && leading >= *found_) return leading;
    changed_.Wait(mutex_);
  }
}

uint32_t LayerGate::WaitFound() {
  MutexLock lock(mutex_);
  while (!found_ && !finished_) changed_.Wait(mutex_);
  return found_.value_or(0);
}

bool LayerGate::finished() const {
  MutexLock lock(mutex_);
  return finished_;
}

std::pair<FetchId, std::shared_ptr<LayerGate>> GateTable::Make() {
  MutexLock lock(mutex_);
  const FetchId id = next_++;
  auto gate = std::make_shared<LayerGate>();
  gates_[id] = gate;
  for (auto it = gates_.begin(); it != gates_.end() && it->first + kRemembered < id;) {
    it = it->second->finished() ? gates_.erase(it) : std::next(it);
  }
  return {id, std::move(gate)};
}

std::shared_ptr<LayerGate> GateTable::Find(FetchId id) const {
  MutexLock lock(mutex_);
  auto found = gates_.find(id);
  return found == gates_.end() ? nullptr : found->second;
}

}  // namespace kvasir::client
