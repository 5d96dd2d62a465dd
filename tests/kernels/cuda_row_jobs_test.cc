// SPDX-License-Identifier: Apache-2.0
// Goal: selections, parts of views that drop tokens, and head extents come out of the CUDA device as out of the CPU
// device, in the order of the stream. Method: one chain through both, over methods of every scorer, budget and merge;
// choices, frames, rows and extents compared with ==. Where no device is, skipped by name.
#include "gtest/gtest.h"
#include "kernels/part_inputs.h"
#include "kernels/row_jobs.h"
#include "tests/kernels/cuda_jobs.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using namespace testing;  // the engine, its jobs, the inputs of a selection

constexpr uint32_t kBlock = 32, kTokens = 3 * kBlock, kParts = kTokens / kBlock;
constexpr KvLayout kLayout = {3, 2, 16, 24, ElementType::kBfloat16};

/// A chain in pages that both devices read, and what the engine knows of it.
struct Chain {
  explicit Chain(uint64_t salt) : rng(Rng(salt)), engine(MakeEngine(kLayout, Order::kNHD, 16, kTokens, rng)) {
    FillRandom(engine, rng);
    brought = std::make_unique<SelectFixture>(kTokens, rng, kLayout);
    peaks.assign(kLayout.layers * kLayout.kv_heads * kTokens, 0.25f);
    brought->inputs.attention_peak = peaks;
    on_device = engine.cache;
    on_device.memory = MemoryKind::kCuda;  // pinned, which kernels reach
  }
  SelectJob Select(const std::shared_ptr<const Codec>& codec, const PagedCache& cache, ChainSelection& to) const {
    return {codec, &cache, engine.pages, kTokens, &brought->inputs, &to};
  }
  static PartGeometry Part(uint32_t i) { return {0, kLayout.layers, 0, kLayout.kv_heads, i * kBlock, kBlock}; }

  std::mt19937_64 rng;
  Engine engine;
  PagedCache on_device;
  std::unique_ptr<SelectFixture> brought;
  std::vector<float> peaks;
};

UnpackRowsJob MakeUnpackRows(const std::shared_ptr<const Codec>& codec, const PartGeometry& part, const Packed& packed,
                             PartRows& to) {
  return {codec,
          kLayout,
          part,
          part.first_layer,
          part.layers,
          part.first_head,
          part.heads,
          packed.result.directory,
          std::span(packed.area).first(packed.result.area_bytes),
          0,
          &to};
}

void ExpectSame(const PartRows& a, const PartRows& b) {
  EXPECT_EQ(a.counts, b.counts);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_TRUE(a.keys == b.keys && a.values == b.values && a.weights == b.weights);
}

/// Extents with memory of their own, in one piece that can be pinned.
struct Extents {
  explicit Extents(uint64_t rows_max, MemoryKind kind) {
    const uint64_t layer =
        (kLayout.kv_heads + 1) * 4 + rows_max * (2 * kLayout.key_dim + 2 * kLayout.value_dim + 4 + 8);
    memory.assign(layer * kLayout.layers, std::byte{0xEE});
    extents = {kLayout, 0, 0, kLayout.kv_heads, rows_max, {}, kind};
    for (uint32_t i = 0; i < kLayout.layers; ++i) {
      std::byte* p = memory.data() + i * layer;
      ExtentLayer of;
      of.cu_lengths = reinterpret_cast<uint32_t*>(p);
      of.positions = of.cu_lengths + kLayout.kv_heads + 1;
      of.weights = reinterpret_cast<float*>(of.positions + rows_max);
      of.keys = reinterpret_cast<std::byte*>(of.weights + 2 * rows_max);
      of.values = of.keys + rows_max * 2 * kLayout.key_dim;
      extents.layers.push_back(of);
    }
  }
  std::vector<std::byte> memory;
  HeadExtents extents;
};

TEST(CudaRowJobs, AChainGoesThroughAsOnTheCpu) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  const auto cpu = MakeCpuDevice({});
  for (const char* spec : {"B:uni(0.25)|E:knorm|R:sink(4)|raw", "B:uni(0.3)|E:win(8,5)|R:win(8)|int(8,tok)",
                           "B:ada(0.3)|E:win(12,7,max)|R:win(12)|raw",
                           "B:uni(0.5)|E:acc|E:vnorm|R:sink(3)|R:win(5)|int(4,chan,8)", "B:pyr(0.25,4)|E:ext|raw",
                           "B:uni(0.25)|E:expq|R:sink(4)|raw", "B:var(0.25)|E:acc|M:near|R:sink(4)|R:win(8)|raw",
                           "B:uni(0.25)|E:acc|M:gauss(0.75)|R:win(8)|raw", "B:flag|E:ext|raw"}) {
    SCOPED_TRACE(spec);
    Chain chain(170);
    const auto codec = MustParse(spec);
    const Pinned pages(**cuda, chain.engine.memory);
    ChainSelection expected, chosen;
    const JobStatus on_cpu = RunJob(*cpu, chain.Select(codec, chain.engine.cache, expected));
    ASSERT_TRUE(on_cpu.ok) << on_cpu.error.message;
    const JobStatus status = RunJob(**cuda, chain.Select(codec, chain.on_device, chosen));
    ASSERT_TRUE(status.ok) << status.error.message;
    ASSERT_EQ(chosen.selection.classes, expected.selection.classes);
    ASSERT_EQ(chosen.selection.counts, expected.selection.counts);
    ASSERT_EQ(chosen.selection.weights, expected.selection.weights);
    ASSERT_EQ(chosen.merged.size(), expected.merged.size());
    for (size_t i = 0; i < chosen.merged.size(); ++i) {
      ASSERT_EQ(chosen.merged[i].tokens, expected.merged[i].tokens);
      ASSERT_EQ(chosen.merged[i].rows, expected.merged[i].rows);
    }
    PlaceRowsJob place;
    for (uint32_t i = 0; i < kParts; ++i) {
      Packed packed_cpu, packed;
      const PartInputs inputs(kLayout, kTokens, Chain::Part(i), chain.brought->inputs, &chosen);
      PackJob pack_cpu = MakePack(codec, chain.engine, Chain::Part(i), packed_cpu);
      PackJob pack = MakePack(codec, chain.engine, Chain::Part(i), packed);
      pack_cpu.inputs = pack.inputs = inputs.frames();
      const Pinned area(**cuda, packed.area);
      ASSERT_TRUE(RunJob(*cpu, pack_cpu).ok);
      const JobStatus packing = RunJob(**cuda, pack);
      ASSERT_TRUE(packing.ok) << packing.error.message;
      ASSERT_EQ(packed.result.directory, packed_cpu.result.directory);
      ASSERT_TRUE(std::equal(packed.area.begin(), packed.area.begin() + static_cast<long>(packed.result.area_bytes),
                             packed_cpu.area.begin()));
      auto rows = std::make_shared<PartRows>();
      PartRows rows_cpu;
      ASSERT_TRUE(RunJob(*cpu, MakeUnpackRows(codec, Chain::Part(i), packed_cpu, rows_cpu)).ok);
      ASSERT_TRUE(RunJob(**cuda, MakeUnpackRows(codec, Chain::Part(i), packed, *rows)).ok);
      ExpectSame(*rows, rows_cpu);
      place.parts.push_back(rows);
    }
    Extents wanted(kLayout.kv_heads * kTokens, MemoryKind::kHost), host(kLayout.kv_heads * kTokens, MemoryKind::kHost),
        device(kLayout.kv_heads * kTokens, MemoryKind::kCuda);
    const Pinned reached(**cuda, device.memory);
    place.extents = &wanted.extents;
    ASSERT_TRUE(RunJob(*cpu, place).ok);
    for (Extents* to : {&host, &device}) {
      place.extents = &to->extents;
      const JobStatus placed = RunJob(**cuda, place);
      ASSERT_TRUE(placed.ok) << placed.error.message;
      EXPECT_TRUE(to->memory == wanted.memory);
    }
  }
}

TEST(CudaRowJobs, WhatIsMissingOrTooSmallIsNamed) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  Chain chain(171);
  const Pinned pages(**cuda, chain.engine.memory);
  ChainSelection chosen;
  chain.brought->inputs.window_queries = {};
  const JobStatus missing =
      RunJob(**cuda, chain.Select(MustParse("B:uni(0.25)|E:win(8,5)|R:win(8)|raw"), chain.on_device, chosen));
  EXPECT_FALSE(missing.ok);
  EXPECT_NE(missing.error.message.find("window_queries"), std::string::npos) << missing.error.message;
  EXPECT_FALSE(RunJob(**cuda, chain.Select(MustParse("raw"), chain.on_device, chosen)).ok) << "chooses nothing";

  auto rows = std::make_shared<PartRows>();
  *rows = {0, kLayout.layers, 0, kLayout.kv_heads, {}, {}, {}, {}, {}};
  rows->counts.assign(kLayout.layers * kLayout.kv_heads, 2);
  const uint64_t all = rows->counts.size() * 2;
  rows->positions.assign(all, 1);
  rows->keys.resize(all * 2 * kLayout.key_dim);
  rows->values.resize(all * 2 * kLayout.value_dim);
  rows->weights.assign(2 * all, 1.0f);
  Extents small(3, MemoryKind::kCuda);
  const JobStatus full = RunJob(**cuda, PlaceRowsJob{{rows}, &small.extents});
  EXPECT_FALSE(full.ok);
  EXPECT_EQ(full.error.code, ErrorCode::kResourceExhausted) << full.error.message;
}

TEST(CudaRowJobs, AStreamGoesOnBehindThem) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  Chain chain(172);
  const Pinned pages(**cuda, chain.engine.memory);
  constexpr int kJobs = 20;
  std::vector<ChainSelection> chosen(kJobs);
  std::vector<std::promise<JobStatus>> done(kJobs);
  const auto codec = MustParse("B:uni(0.25)|E:knorm|raw");
  for (int i = 0; i < kJobs; ++i) {
    (*cuda)->Submit(chain.Select(codec, chain.on_device, chosen[i]), nullptr,
                    [&done, i](JobStatus status) { done[i].set_value(std::move(status)); });
  }
  (*cuda)->Record(nullptr)->Block();
  for (int i = 0; i < kJobs; ++i) {
    EXPECT_EQ(chosen[i].selection.classes, chosen[0].selection.classes) << "the event is behind all of them";
    EXPECT_FALSE(chosen[i].selection.classes.empty());
    EXPECT_TRUE(done[i].get_future().get().ok);
  }
}

}  // namespace
}  // namespace kvasir
