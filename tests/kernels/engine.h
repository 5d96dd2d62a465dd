// SPDX-License-Identifier: Apache-2.0
// A pretended engine for device tests: a paged cache of any layout with its memory, and pack and unpack jobs on it.
#pragma once

#include <algorithm>
#include <cstring>
#include <future>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/device.h"
#include "kernels/number_formats.h"

namespace kvasir::testing {

enum class Order { kNHD, kHND, kFused };

/// A paged cache and its memory.
struct Engine {
  PagedCache cache;
  std::vector<std::byte> memory;
  std::vector<uint32_t> pages;  // of the one sequence
  uint32_t page_count = 0;
};

inline Engine MakeEngine(const KvLayout& layout, Order order, uint32_t page_tokens, uint32_t tokens,
                         std::mt19937_64& rng) {
  Engine e;
  e.page_count = tokens / page_tokens + 3;
  const int64_t key_row = int64_t{layout.key_dim} * ElementBytes(layout.element);
  const int64_t value_row = int64_t{layout.value_dim} * ElementBytes(layout.element);
  const int64_t heads = layout.kv_heads, per_page = page_tokens;
  PagedCache& c = e.cache;
  c.layout = layout;
  c.heads = layout.kv_heads;
  c.page_tokens = page_tokens;
  const int64_t key_page = heads * per_page * key_row, value_page = heads * per_page * value_row;
  if (order == Order::kHND) {
    c.key_strides = {key_page, per_page * key_row, key_row};
    c.value_strides = {value_page, per_page * value_row, value_row};
  } else if (order == Order::kNHD) {
    c.key_strides = {key_page, key_row, heads * key_row};
    c.value_strides = {value_page, value_row, heads * value_row};
  } else {  // fused: K and V of a token and head side by side, pages hold both
    c.key_strides = c.value_strides = {key_page + value_page, key_row + value_row, heads * (key_row + value_row)};
  }
  const int64_t layer_bytes = (key_page + value_page) * e.page_count;
  e.memory.resize(static_cast<size_t>(layer_bytes * layout.layers));
  for (uint32_t l = 0; l < layout.layers; ++l) {
    std::byte* base = e.memory.data() + layer_bytes * l;
    std::byte* value = order == Order::kFused ? base + key_row : base + key_page * e.page_count;
    c.layers.push_back({base, layout.latent() ? nullptr : value});
  }
  e.pages.resize(e.page_count);
  std::iota(e.pages.begin(), e.pages.end(), 0u);
  std::shuffle(e.pages.begin(), e.pages.end(), rng);
  e.pages.resize(tokens / page_tokens);
  return e;
}

/// Calls f(address, row bytes, token, head, layer, tensor) for every row of the sequence.
template <class F>
void ForEachRow(const Engine& e, F f) {
  const KvLayout& layout = e.cache.layout;
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t t = 0; t < layout.tensors(); ++t) {
      const KvTensor tensor = static_cast<KvTensor>(t);
      for (uint32_t head = 0; head < layout.kv_heads; ++head) {
        for (uint32_t token = 0; token < e.pages.size() * e.cache.page_tokens; ++token) {
          f(e.cache.At(layer, tensor, e.pages[token / e.cache.page_tokens], head, token % e.cache.page_tokens),
            layout.dim(tensor) * ElementBytes(layout.element), token, head, layer, tensor);
        }
      }
    }
  }
}

inline void FillRandom(Engine& e, std::mt19937_64& rng) {
  for (size_t i = 0; i + 2 <= e.memory.size(); i += 2) {
    const uint16_t x = FloatToBFloat16(static_cast<float>(static_cast<int>(rng() % 2001) - 1000) / 300.0f);
    std::memcpy(&e.memory[i], &x, 2);
  }
}

/// Submits to the null stream and waits.
template <class Job>
JobStatus RunJob(Device& device, Job job) {
  std::promise<JobStatus> done;
  device.Submit(std::move(job), nullptr, [&](JobStatus status) { done.set_value(std::move(status)); });
  return done.get_future().get();
}

struct Packed {
  PackResult result;
  std::vector<std::byte> area;
};

inline PackJob MakePack(const std::shared_ptr<const Codec>& codec, const Engine& e, const PartGeometry& part,
                        Packed& packed) {
  packed.area.assign(MaxFrameAreaBytes(*codec, e.cache.layout, part), std::byte{0xEE});
  packed.result.directory.assign(FrameCount(e.cache.layout, part), {});
  return {.codec = codec,
          .cache = &e.cache,
          .pages = e.pages,
          .part = part,
          .area = packed.area,
          .inputs = {},
          .result = &packed.result};
}

inline UnpackJob MakeUnpack(const std::shared_ptr<const Codec>& codec, const Engine& e, const PartGeometry& part,
                            const Packed& packed) {
  UnpackJob job;
  job.codec = codec;
  job.cache = &e.cache;
  job.pages = e.pages;
  job.part = part;
  job.first_layer = part.first_layer;
  job.layers = part.layers;
  job.first_head = part.first_head;
  job.heads = part.heads;
  job.directory = packed.result.directory;
  job.frames = std::span(packed.area).first(packed.result.area_bytes);
  return job;
}

}  // namespace kvasir::testing
