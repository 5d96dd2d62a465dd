// SPDX-License-Identifier: Apache-2.0
// What the tests of the CUDA device share: pinned memory, engines filled with data, and a copy of an engine.
#pragma once

#include "kernels/frame_coder.h"
#include "tests/kernels/engine.h"
#include "tests/kernels/frames.h"

namespace kvasir::testing {

/// Keeps host memory pinned for the life of a scope.
class Pinned {
 public:
  Pinned(Device& device, std::span<std::byte> memory) : device_(device), memory_(memory) {
    const Result<bool> pinned = device.Pin(memory);
    EXPECT_TRUE(pinned.ok()) << pinned.error().message;
  }
  ~Pinned() { device_.Unpin(memory_); }
  Pinned(const Pinned&) = delete;

 private:
  Device& device_;
  const std::span<std::byte> memory_;
};

inline void FillBytes(Engine& engine, Fill fill, std::mt19937_64& rng) {
  const ElementType type = engine.cache.layout.element;
  const FrameShape all{1, 1, static_cast<uint32_t>(engine.memory.size() / ElementBytes(type)), type};
  const auto values = MakeFrame(all, fill, rng);
  std::copy(values.begin(), values.end(), engine.memory.begin());
}

/// The same engine in memory of its own.
inline Engine CopyOf(const Engine& engine) {
  Engine copy = engine;
  for (size_t l = 0; l < engine.cache.layers.size(); ++l) {
    const PagedLayer& from = engine.cache.layers[l];
    copy.cache.layers[l].key = copy.memory.data() + (from.key - engine.memory.data());
    if (from.value != nullptr) copy.cache.layers[l].value = copy.memory.data() + (from.value - engine.memory.data());
  }
  return copy;
}

inline bool RunsOnCuda(const Codec& codec) {
  for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
    if (codec.coder(tensor).device_coder().kind == DeviceCoder::Kind::kNone) return false;
  }
  return true;
}

}  // namespace kvasir::testing
