// SPDX-License-Identifier: Apache-2.0
// Goal: a chain whose tokens were chosen goes through parts into head extents, each head its own rows at its own
// positions. Method: selection, packing and placing by the device; the choice made once more by Select over the pages,
// and the rows read from the pages; damage to every byte of a frame.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/part_inputs.h"
#include "tests/kernels/engine.h"
#include "tests/kernels/frames.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using namespace testing;  // NOLINT: the fixtures of this folder

constexpr uint32_t kBlock = 32, kTokens = 3 * kBlock;
constexpr KvLayout kLayout = {3, 2, 8, 6, ElementType::kBfloat16};

/// A chain in pages with all inputs, its parts, and extents to place them in.
struct Chain {
  explicit Chain(uint64_t salt) : rng(Rng(salt)), device(MakeCpuDevice({.codec_threads = 2})) {
    engine = MakeEngine(kLayout, Order::kNHD, 16, kTokens, rng);
    FillRandom(engine, rng);
    brought = std::make_unique<SelectFixture>(kTokens, rng, kLayout);
    peaks.assign(kLayout.layers * kLayout.kv_heads * kTokens, 0.25f);
    brought->inputs.attention_peak = peaks;
  }
  JobStatus Choose(const std::string& spec) {
    codec = MustParse(spec);
    return RunJob(*device, SelectJob{codec, &engine.cache, engine.pages, kTokens, &brought->inputs, &selection});
  }
  /// Packs all blocks, in parts of 2 layers and 1 head, and unpacks their rows.
  void Store() {
    for (uint32_t token = 0; token < kTokens; token += kBlock) {
      for (const auto& [first_layer, layers] : {std::pair{0u, 2u}, {2u, 1u}}) {
        for (uint32_t head = 0; head < kLayout.kv_heads; ++head) {
          cells.push_back({first_layer, layers, head, 1, token, kBlock});
          Packed& packed = *parts.emplace_back(std::make_unique<Packed>());
          const PartInputs inputs(kLayout, kTokens, cells.back(), brought->inputs, &selection);
          PackJob pack = MakePack(codec, engine, cells.back(), packed);
          pack.inputs = inputs.frames();
          const JobStatus status = RunJob(*device, pack);
          ASSERT_TRUE(status.ok) << status.error.message;
        }
      }
    }
  }
  UnpackRowsJob Unpack(size_t part, PartRows& to) const {
    const PartGeometry& cell = cells[part];
    return {codec,
            kLayout,
            cell,
            cell.first_layer,
            cell.layers,
            cell.first_head,
            cell.heads,
            parts[part]->result.directory,
            std::span(parts[part]->area).first(parts[part]->result.area_bytes),
            0,
            &to};
  }
  JobStatus Place() {
    PlaceRowsJob place;
    for (size_t i = 0; i < parts.size(); ++i) {
      auto rows = std::make_shared<PartRows>();
      const JobStatus status = RunJob(*device, Unpack(i, *rows));
      if (!status.ok) return status;
      place.parts.push_back(rows);
    }
    const uint64_t rows = rows_max;
    extents = {kLayout, 0, 0, kLayout.kv_heads, rows_max, {}, MemoryKind::kHost};
    memory.assign(kLayout.layers, {});
    for (Memory& m : memory) {
      m.cu.assign(kLayout.kv_heads + 1, ~0u);
      m.keys.resize(rows * kLayout.key_dim);
      m.values.resize(rows * kLayout.value_dim);
      m.positions.resize(rows);
      m.weights.resize(2 * rows);
      extents.layers.push_back({m.cu.data(), reinterpret_cast<std::byte*>(m.keys.data()),
                                reinterpret_cast<std::byte*>(m.values.data()), m.positions.data(),
                                with_weights ? m.weights.data() : nullptr});
    }
    place.extents = &extents;
    return RunJob(*device, std::move(place));
  }
  const std::byte* Row(uint32_t layer, KvTensor tensor, uint32_t head, uint32_t token) const {
    return engine.cache.At(layer, tensor, engine.pages[token / 16], head, token % 16);
  }

  struct Memory {
    std::vector<uint32_t> cu, positions;
    std::vector<uint16_t> keys, values;
    std::vector<float> weights;
  };
  std::mt19937_64 rng;
  std::unique_ptr<Device> device;
  Engine engine;
  std::unique_ptr<SelectFixture> brought;
  std::vector<float> peaks;
  std::shared_ptr<const Codec> codec;
  ChainSelection selection;
  std::vector<PartGeometry> cells;
  std::vector<std::unique_ptr<Packed>> parts;
  uint64_t rows_max = kLayout.kv_heads * kTokens;
  bool with_weights = true;
  HeadExtents extents;
  std::vector<Memory> memory;
};

TEST(RowJobs, EachHeadHasTheRowsThatWereChosen) {
  for (const char* spec : {"B:uni(0.25)|E:win(8,5)|R:win(8)|raw", "B:ada(0.3)|E:acc|R:sink(3)|R:win(5)|splitexp",
                           "B:class(0.5)|E:late|R:sink(4)|R:win(20)|raw", "B:pyr(0.25,4)|E:knorm|raw"}) {
    SCOPED_TRACE(spec);
    Chain chain(7);
    const JobStatus chosen = chain.Choose(spec);
    ASSERT_TRUE(chosen.ok) << chosen.error.message;
    chain.Store();
    const JobStatus placed = chain.Place();
    ASSERT_TRUE(placed.ok) << placed.error.message;
    uint64_t kept = 0;
    for (uint32_t layer = 0; layer < kLayout.layers; ++layer) {
      const Chain::Memory& m = chain.memory[layer];
      uint32_t at = 0;
      for (uint32_t head = 0; head < kLayout.kv_heads; ++head) {
        ASSERT_EQ(m.cu[head], at);
        const RowClass* classes = &chain.selection.selection.classes[(layer * kLayout.kv_heads + head) * kTokens];
        for (uint32_t token = 0; token < kTokens; ++token) {
          if (classes[token] == RowClass::kDropped) continue;
          ASSERT_EQ(m.positions[at], token);
          EXPECT_EQ(m.weights[2 * at], 1.0f);
          EXPECT_EQ(std::memcmp(&m.keys[at * kLayout.key_dim], chain.Row(layer, KvTensor::kKey, head, token),
                                kLayout.key_dim * 2),
                    0);
          EXPECT_EQ(std::memcmp(&m.values[at * kLayout.value_dim], chain.Row(layer, KvTensor::kValue, head, token),
                                kLayout.value_dim * 2),
                    0);
          ++at;
        }
      }
      ASSERT_EQ(m.cu[kLayout.kv_heads], at);
      kept += at;
    }
    EXPECT_GT(kept, 0u);
    EXPECT_LT(kept, uint64_t{kLayout.layers} * kLayout.kv_heads * kTokens);
  }
}

TEST(RowJobs, AMergedRowIsStoredAndThePagesStay) {
  Chain chain(8);
  const std::vector<std::byte> before = chain.engine.memory;
  ASSERT_TRUE(chain.Choose("B:class(0.5)|E:late|M:comp|R:sink(4)|R:win(8)|raw").ok);
  chain.Store();
  ASSERT_TRUE(chain.Place().ok);
  EXPECT_EQ(chain.engine.memory, before);
  uint32_t merged = 0;
  for (uint32_t layer = 0; layer < kLayout.layers; ++layer) {
    const Chain::Memory& m = chain.memory[layer];
    for (uint32_t head = 0; head < kLayout.kv_heads; ++head) {
      if (m.cu[head + 1] - m.cu[head] == kTokens) continue;
      ASSERT_EQ(m.cu[head + 1] - m.cu[head], 13u);
      const uint32_t at = m.cu[head] + 4;  // the first token that is dropped
      EXPECT_EQ(m.positions[at], 4u);
      EXPECT_EQ(m.weights[2 * at], 84.0f);
      EXPECT_EQ(m.weights[2 * at + 1], 84.0f);
      for (uint32_t c = 0; c < kLayout.value_dim; ++c) {
        double sum = 0;
        for (uint32_t token = 4; token < kTokens - 8; ++token) {
          sum += LoadElement(kLayout.element,
                             reinterpret_cast<const uint8_t*>(chain.Row(layer, KvTensor::kValue, head, token)) + 2 * c);
        }
        EXPECT_EQ(m.values[at * kLayout.value_dim + c], FloatToBFloat16(static_cast<float>(sum / 84)));
      }
      ++merged;
    }
  }
  EXPECT_EQ(merged, 3u);
  chain.with_weights = false;
  const JobStatus refused = chain.Place();
  EXPECT_EQ(refused.error.message.substr(0, 22), "head extents: layer 0 ") << refused.error.message;
  EXPECT_EQ(refused.error.code, ErrorCode::kInvalidArgument);
}

TEST(RowJobs, TooLittleRoomIsNamed) {
  Chain chain(9);
  ASSERT_TRUE(chain.Choose("B:uni(40)|E:knorm|raw").ok);
  chain.Store();
  chain.rows_max = 80;
  EXPECT_TRUE(chain.Place().ok);
  chain.rows_max = 79;
  const JobStatus refused = chain.Place();
  EXPECT_EQ(refused.error.code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error.message, "head extents: layer 0 has 80 rows, rows_max is 79");
}

TEST(RowJobs, DamagedFramesAreDataLoss) {
  Chain chain(10);
  ASSERT_TRUE(chain.Choose("B:uni(0.25)|E:acc|raw").ok);
  chain.Store();
  PartRows rows;
  ASSERT_TRUE(RunJob(*chain.device, chain.Unpack(0, rows)).ok);
  Packed& part = *chain.parts[0];
  const auto expect_loss = [&](const std::string& what) {
    const JobStatus status = RunJob(*chain.device, chain.Unpack(0, rows));
    EXPECT_EQ(status.error.code, ErrorCode::kDataLoss) << what << ": " << status.error.message;
  };
  const FrameEntry key = part.result.directory[0];
  for (uint32_t i = 0; i < key.length; ++i) {
    part.area[key.offset + i] ^= std::byte{0x10};
    expect_loss("byte " + std::to_string(i));
    part.area[key.offset + i] ^= std::byte{0x10};
  }
  // Checksums that are right: bytes of the map move rows from one class to another; keys and values then disagree.
  for (uint32_t i = 1; i < 1 + kBlock / 4; ++i) {
    part.area[key.offset + i] ^= std::byte{0x01};
    part.result.directory[0].crc32c = Crc32c(std::span(part.area).subspan(key.offset, key.length));
    expect_loss("map byte " + std::to_string(i));
    part.area[key.offset + i] ^= std::byte{0x01};
  }
  part.result.directory[0] = key;
  part.result.directory.pop_back();
  expect_loss("a directory that is short");
}

TEST(RowJobs, InputsOfEncodingStagesAreCheckedByName) {
  Chain chain(11);
  const auto refusal = [&](const std::string& spec, const SelectInputs& inputs) {
    const Result<bool> checked = CheckFrameInputs(*MustParse(spec), kLayout, kTokens, inputs);
    return checked.ok() ? std::string("accepted") : checked.error().message;
  };
  SelectInputs all = chain.brought->inputs;
  const std::vector<float> norms(6, 1.0f), query_peaks(48, 1.0f), some(5, 1.0f);
  all.query_norm = norms;
  all.query_peak = query_peaks;
  EXPECT_EQ(refusal("k:bal|k:int(8,tok)|v:adapt(value)", all), "accepted");
  EXPECT_EQ(refusal("raw", {}), "accepted");
  const auto without = [&](std::span<const float> SelectInputs::*field, std::span<const float> value) {
    SelectInputs less = all;
    less.*field = value;
    return less;
  };
  EXPECT_NE(refusal("k:bal|int(8,tok)", without(&SelectInputs::query_peak, {})).find("query_peak"), std::string::npos);
  EXPECT_NE(refusal("k:adapt(key)|v:int(8,tok)", without(&SelectInputs::query_norm, {})).find("query_norm"),
            std::string::npos);
  EXPECT_NE(refusal("k:int(8,tok)|v:adapt(value)", without(&SelectInputs::attention_peak, {})).find("attention_peak"),
            std::string::npos);
  EXPECT_EQ(refusal("raw", without(&SelectInputs::query_norm, some)),
            "the push: the input query_norm has 5 numbers, this chain needs 6");
}

}  // namespace
}  // namespace kvasir
