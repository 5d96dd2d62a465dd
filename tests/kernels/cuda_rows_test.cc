// SPDX-License-Identifier: Apache-2.0
// Goal: what the CUDA kernels of row classes compute is what the CPU writes and reads, where no GPU is. Method: their
// bodies run by SerialTeam as the launchers run them, over specs, shapes, classes, weights and sinks by chance; frames,
// rows and dense values compared with ==, answers to damage with the CPU's.
#include <gtest/gtest.h>

#include "kernels/cuda/rows_bodies.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using namespace testing;  // frames
using Team = cuda::SerialTeam<32>;

const RowsPlan& PlanOf(const Codec& codec) {
  const DeviceCoder coder = codec.coder(KvTensor::kKey).device_coder();
  EXPECT_EQ(coder.kind, DeviceCoder::Kind::kRows) << codec.spec();
  return *coder.rows;
}

/// The launchers of kernels/cuda/rows_codec.cu, kernel after kernel; three threads share out the items.
class RowsKernels {
 public:
  RowsKernels(const RowsPlan& plan, const FrameShape& shape)
      : plan_(plan),
        shape_(shape),
        memory_(cuda::RowsRoom::Bytes(shape), 0xEE),
        room_(cuda::RowsRoom::At(shape, memory_.data())),
        codes_(shape.elements()) {}

  std::vector<std::byte> Encode(uint64_t max_bytes, const std::vector<std::byte>& dense, const FrameInputs& inputs) {
    std::vector<std::byte> frame(max_bytes, std::byte{0xEE});
    auto* out = reinterpret_cast<uint8_t*>(frame.data());
    cuda::PlanRows(team_, plan_, shape_, inputs.row_classes, inputs.row_weights != nullptr, inputs.first_token, room_);
    ForEachShare([&](cuda::Share share) {
      cuda::WriteRowsHead(shape_, room_, inputs.row_weights, share, out);
      for (uint32_t cell = 0; cell < cuda::RowsSubs(shape_, room_); ++cell) {
        cuda::EncodeRowsCell(cuda::RowsSubAt(plan_, shape_, room_, cell),
                             reinterpret_cast<const uint8_t*>(dense.data()), share, out, codes_.data());
      }
    });
    ForEachShare([&](cuda::Share share) {
      for (uint32_t cell = 0; cell < cuda::RowsSubs(shape_, room_); ++cell) {
        cuda::PackRowsCell(cuda::RowsSubAt(plan_, shape_, room_, cell), codes_.data(), share, out);
      }
    });
    frame.resize(room_.head->length);
    return frame;
  }

  /// False where the bytes are no frame. `out` becomes a dense frame, or the rows that are there.
  bool Decode(std::span<const std::byte> bytes, bool compact, std::vector<std::byte>& out) {
    const std::vector<std::byte> exact(bytes.begin(), bytes.end());
    const auto* frame = reinterpret_cast<const uint8_t*>(exact.data());
    if (!cuda::OpenRows(team_, plan_, shape_, frame, static_cast<uint32_t>(exact.size()), !compact, room_))
      return false;
    const uint64_t rows = compact ? room_.head->stored : uint64_t{shape_.heads} * shape_.tokens;
    out.assign(rows * shape_.dim * ElementBytes(shape_.element), std::byte{0xEE});
    bool right = true;
    ForEachShare([&](cuda::Share share) {
      for (uint32_t cell = 0; cell < cuda::RowsSubs(shape_, room_); ++cell) {
        const cuda::RowsSub sub = cuda::RowsSubAt(plan_, shape_, room_, cell);
        right =
            cuda::DecodeRowsCell(sub, room_, frame, compact, share, reinterpret_cast<uint8_t*>(out.data())) && right;
      }
    });
    return right;
  }
  const cuda::RowsRoom& room() const { return room_; }

 private:
  template <class F>
  static void ForEachShare(const F& f) {
    for (uint64_t thread = 3; thread-- > 0;) f(cuda::Share{thread, 3});
  }

  const RowsPlan plan_;
  const FrameShape shape_;
  std::vector<uint8_t> memory_;
  const cuda::RowsRoom room_;
  std::vector<uint8_t> codes_;
  Team team_;
};

/// A frame with all that a pack may bring for it.
struct Case {
  std::shared_ptr<const Codec> codec;
  FrameShape shape;
  std::vector<std::byte> dense;
  std::vector<RowClass> classes;
  std::vector<float> weights;
  FrameInputs inputs;
  std::vector<std::byte> frame;  // the CPU's
};

Case MakeCase(int round, std::mt19937_64& rng) {
  const char* const specs[] = {"B:uni(0.5)|E:knorm|raw",
                               "B:uni(0.5)|E:knorm|int(8,tok)",
                               "B:uni(0.5)|E:knorm|R:sink(3)|int(4,chan,8)",
                               "B:uni(0.5)|E:knorm(demote)|int(8,tok)|d:int(2,chan,8)",
                               "B:uni(0.5)|E:knorm(demote)|raw|d:int(3,tok,10,sym)",
                               "R:sink(5)|int(4,tok,16)"};
  Case c;
  c.codec = MustParse(specs[round % std::size(specs)]);
  const bool selects = c.codec->selection() != nullptr, drops = c.codec->drops();
  c.shape = {1 + static_cast<uint32_t>(rng() % 3), 1 + static_cast<uint32_t>(rng() % 70),
             8 + static_cast<uint32_t>(rng() % 30), kAllElements[rng() % std::size(kAllElements)]};
  c.dense = MakeFrame(c.shape, kAllFills[rng() % std::size(kAllFills)], rng);
  c.inputs.first_token = static_cast<uint32_t>(rng() % 8);
  c.classes.resize(uint64_t{c.shape.heads} * c.shape.tokens);
  const uint64_t kinds = 1 + rng() % 4;
  for (RowClass& of : c.classes) {
    const uint64_t draw = rng() % kinds;
    of = draw == 0 ? RowClass::kKept : draw == 1 ? RowClass::kExact : drops ? RowClass::kDropped : RowClass::kDemoted;
  }
  if (selects) c.inputs.row_classes = c.classes.data();
  for (size_t i = 0; i < 2 * c.classes.size(); ++i) c.weights.push_back(static_cast<float>(rng() % 100) * 0.25f);
  if (selects && rng() % 3 == 0) c.inputs.row_weights = c.weights.data();
  std::vector<std::byte> scratch;
  c.frame.resize(c.codec->MaxFrameBytes(KvTensor::kKey, c.shape));
  c.frame.resize(c.codec->Encode(KvTensor::kKey, c.shape, c.dense, c.frame, scratch, Destination::kCache, c.inputs));
  return c;
}

TEST(CudaRows, FramesAndRowsAreThoseOfTheCpu) {
  auto rng = Rng(150);
  uint32_t dense_frames = 0, lacking = 0;
  for (int round = 0; round < 600; ++round) {
    Case c = MakeCase(round, rng);
    SCOPED_TRACE(c.codec->spec() + " round " + std::to_string(round));
    RowsKernels kernels(PlanOf(*c.codec), c.shape);
    const uint64_t max = c.codec->MaxFrameBytes(KvTensor::kKey, c.shape);
    ASSERT_TRUE(kernels.Encode(max, c.dense, c.inputs) == c.frame);
    const auto stored = c.codec->Rows(KvTensor::kKey, c.shape, c.frame);
    ASSERT_TRUE(stored.ok());
    std::vector<std::byte> rows(stored->slots.size() * c.shape.dim * ElementBytes(c.shape.element)), scratch, back;
    ASSERT_TRUE(c.codec->DecodeRows(KvTensor::kKey, c.shape, c.frame, rows, scratch).ok());
    ASSERT_TRUE(kernels.Decode(c.frame, true, back));
    ASSERT_TRUE(back == rows);
    const cuda::RowsRoom& room = kernels.room();
    ASSERT_EQ(room.head->stored, stored->slots.size());
    uint64_t at = 0;  // where the rows of each head begin, and which they are
    for (uint32_t head = 0; head < c.shape.heads; ++head) {
      for (uint32_t i = 0; i < stored->counts[head]; ++i, ++at) {
        const uint64_t row = uint64_t{head} * c.shape.tokens + stored->slots[at];
        ASSERT_NE(room.classes[row], RowClass::kDropped);
        ASSERT_EQ(room.stored[row], at);
      }
    }
    const bool whole = stored->slots.size() == c.classes.size();
    ASSERT_EQ(kernels.Decode(c.frame, false, back), whole);
    lacking += whole ? 0 : 1;
    if (!whole || c.codec->drops()) continue;
    const auto dense = Decoded(*c.codec, KvTensor::kKey, c.shape, c.frame);
    ASSERT_TRUE(dense.ok());
    ASSERT_TRUE(back == *dense);
    ++dense_frames;
  }
  EXPECT_GE(dense_frames, 200u);
  EXPECT_GE(lacking, 100u);
}

TEST(CudaRows, DamageIsAnsweredAsTheCpuAnswers) {
  auto rng = Rng(151);
  uint32_t refused = 0, taken = 0;
  for (int round = 0; round < 3000; ++round) {
    Case c = MakeCase(round, rng);
    RowsKernels kernels(PlanOf(*c.codec), c.shape);
    auto bad = c.frame;
    for (uint64_t i = 0, n = 1 + rng() % 3; i < n; ++i) {
      const uint64_t at = rng() % (rng() % 2 == 0 ? bad.size() : std::min<uint64_t>(bad.size(), 48));
      bad[at] = rng() % 3 == 0 ? std::byte{0xFF} : static_cast<std::byte>(rng() % 4);
    }
    if (rng() % 8 == 0 && bad.size() > 1) bad.resize(1 + rng() % (bad.size() - 1));
    const auto stored = c.codec->Rows(KvTensor::kKey, c.shape, bad);
    bool right = stored.ok();
    std::vector<std::byte> rows, scratch, back;
    if (right) {
      rows.resize(stored->slots.size() * c.shape.dim * ElementBytes(c.shape.element));
      right = c.codec->DecodeRows(KvTensor::kKey, c.shape, bad, rows, scratch).ok();
    }
    ASSERT_EQ(kernels.Decode(bad, true, back), right) << c.codec->spec() << " round " << round;
    if (right) {
      ASSERT_TRUE(back == rows) << c.codec->spec() << " round " << round;
    }
    ++(right ? taken : refused);
  }
  std::printf("refused: %u, taken: %u\n", refused, taken);
  EXPECT_GE(refused, 500u);
  EXPECT_GE(taken, 500u);
}

TEST(CudaRows, RowsOfAMergeGoToTheirPlaces) {
  auto rng = Rng(152);
  for (const ElementType type : kAllElements) {
    const FrameShape shape{2, 20, 12, type};
    auto dense = MakeFrame(shape, Fill::kGaussian, rng), expected = dense;
    const std::vector<uint32_t> slots = {0, 3, 21, 39};
    std::vector<float> rows;
    for (size_t i = 0; i < slots.size() * shape.dim; ++i) rows.push_back(static_cast<float>(rng() % 1000) * 0.37f);
    for (size_t i = rows.size(); i-- > 0;) {
      cuda::MergeRow(type, shape.dim, slots.data(), rows.data(), i, reinterpret_cast<uint8_t*>(dense.data()));
      StoreElement(type, rows[i],
                   reinterpret_cast<uint8_t*>(expected.data()) +
                       (slots[i / shape.dim] * shape.dim + i % shape.dim) * ElementBytes(type));
    }
    EXPECT_TRUE(dense == expected);
  }
}

TEST(CudaRows, WhatGoesThroughOtherStagesIsForTheJobThatKnowsTheRows) {
  for (const char* spec :
       {"R:sink(4)|had|int(4,tok)", "B:uni(0.5)|E:knorm|splitexp", "B:uni(0.5)|E:knorm(demote)|int(8,tok)|d:fp8"}) {
    EXPECT_EQ(MustParse(spec)->coder(KvTensor::kKey).device_coder().kind, DeviceCoder::Kind::kRowsOfStages) << spec;
  }
}

}  // namespace
}  // namespace kvasir
