// SPDX-License-Identifier: Apache-2.0
// Extents: memory for rows of heads that differ in length, as an engine with variable-length attention has it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "kernels/row_jobs.h"

namespace kvasir::testing {

class Extents {
 public:
  static constexpr uint8_t kPoison = 0xEE;
  struct Layer {
    std::vector<uint32_t> cu_lengths, positions;
    std::vector<std::byte> keys, values;
    std::vector<float> weights;
  };

  /// Heads [first_head, first_head + heads) of all layers, with room for `rows_max` rows a layer.
  Extents(const KvLayout& layout, uint32_t first_head, uint32_t heads, uint64_t rows_max) : layers_(layout.layers) {
    const uint32_t size = ElementBytes(layout.element);
    extents_ = {layout, 0, first_head, heads, rows_max, {}, MemoryKind::kHost};
    for (Layer& layer : layers_) {
      layer.cu_lengths.assign(heads + 1, 0xEEEEEEEE);
      layer.positions.assign(rows_max, 0xEEEEEEEE);
      layer.keys.assign(rows_max * layout.key_dim * size, std::byte{kPoison});
      layer.values.assign(rows_max * layout.value_dim * size, std::byte{kPoison});
      layer.weights.assign(2 * rows_max, 0);
      extents_.layers.push_back({layer.cu_lengths.data(), layer.keys.data(), layer.values.data(), layer.positions.data(),
                                 layer.weights.data()});
    }
  }
  Extents(const Extents&) = delete;
  Extents& operator=(const Extents&) = delete;

  HeadExtents& get() { return extents_; }
  const Layer& layer(uint32_t i) const { return layers_[i]; }
  uint64_t rows(uint32_t i) const { return layers_[i].cu_lengths.back(); }

 private:
  std::vector<Layer> layers_;
  HeadExtents extents_;
};

/// The choice that a spec makes over a chain in pages, made here.
inline ChainSelection ChooseHere(const std::string& spec, const PagedCache& cache, PageTable pages, uint32_t tokens,
                                 const SelectInputs& inputs) {
  ChainSelection selection;
  const auto device = MakeCpuDevice({.codec_threads = 1});
  std::promise<JobStatus> done;
  device->Submit(SelectJob{*Codec::Parse(spec), &cache, pages, tokens, &inputs, &selection}, nullptr,
                 [&](JobStatus status) { done.set_value(std::move(status)); });
  const JobStatus status = done.get_future().get();
  EXPECT_TRUE(status.ok) << status.error.message;
  return selection;
}

}  // namespace kvasir::testing
