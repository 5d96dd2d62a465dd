// SPDX-License-Identifier: Apache-2.0
// Goal: a frame with row classes gives every row back from the chain it went through, names the rows it has, and no
// damage leads outside. Method: classes by chance, against each chain alone on the rows of that class.
#include <map>

#include "gtest/gtest.h"
#include "kernels/select/select.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using testing::Fill;
using testing::MakeFrame;
using testing::MustParse;

std::vector<std::byte> EncodedWith(const Codec& codec, const FrameShape& shape, std::span<const std::byte> dense,
                                   const FrameInputs& inputs) {
  std::vector<std::byte> out(codec.MaxFrameBytes(KvTensor::kKey, shape)), scratch;
  out.resize(codec.Encode(KvTensor::kKey, shape, dense, out, scratch, Destination::kCache, inputs));
  return out;
}

std::vector<RowClass> RandomClasses(const FrameShape& shape, bool demotes, std::mt19937_64& rng) {
  std::vector<RowClass> classes(uint64_t{shape.heads} * shape.tokens);
  const uint64_t kinds = 1 + rng() % 4;
  for (RowClass& c : classes) {
    const uint64_t draw = rng() % kinds;
    c = draw == 0 ? RowClass::kKept : draw == 1 ? RowClass::kExact : demotes ? RowClass::kDemoted : RowClass::kDropped;
  }
  return classes;
}

/// What `spec` makes of the rows of one class of one head.
std::vector<std::byte> Through(const std::string& spec, const FrameShape& shape, std::span<const std::byte> rows) {
  if (rows.empty()) return {};
  const auto codec = MustParse(spec);
  const FrameShape of{1, static_cast<uint32_t>(rows.size() / (shape.dim * ElementBytes(shape.element))), shape.dim,
                      shape.element};
  return *testing::Decoded(*codec, KvTensor::kKey, of, testing::Encoded(*codec, KvTensor::kKey, of, rows));
}

TEST(Rows, EveryClassGoesItsWay) {
  auto rng = testing::Rng(70);
  for (int round = 0; round < 60; ++round) {
    const bool demotes = round % 2 == 0;
    const auto codec =
        MustParse(demotes ? "B:uni(0.5)|E:knorm(demote)|int(8,tok)|d:int(2,chan,8)" : "B:uni(0.5)|E:knorm|int(8,tok)");
    EXPECT_EQ(codec->drops(), !demotes);
    const FrameShape shape{1 + static_cast<uint32_t>(rng() % 3), 1 + static_cast<uint32_t>(rng() % 40), 24};
    const auto classes = RandomClasses(shape, demotes, rng);
    const auto dense = MakeFrame(shape, Fill::kGaussian, rng);
    FrameInputs inputs;
    inputs.row_classes = classes.data();
    const auto frame = EncodedWith(*codec, shape, dense, inputs);
    // What is expected, row by row.
    const uint32_t row_bytes = shape.dim * 2;
    std::vector<std::byte> expected;
    std::vector<uint32_t> slots, counts;
    for (uint32_t head = 0; head < shape.heads; ++head) {
      std::map<RowClass, std::vector<std::byte>> of_class;
      for (uint32_t t = 0; t < shape.tokens; ++t) {
        const uint64_t row = uint64_t{head} * shape.tokens + t;
        auto& rows = of_class[classes[row]];
        rows.insert(rows.end(), dense.begin() + static_cast<long>(row * row_bytes),
                    dense.begin() + static_cast<long>((row + 1) * row_bytes));
      }
      of_class[RowClass::kKept] = Through("int(8,tok)", shape, of_class[RowClass::kKept]);
      of_class[RowClass::kDemoted] = Through("int(2,chan,8)", shape, of_class[RowClass::kDemoted]);
      std::map<RowClass, size_t> next;
      counts.push_back(0);
      for (uint32_t t = 0; t < shape.tokens; ++t) {
        const RowClass c = classes[uint64_t{head} * shape.tokens + t];
        if (c == RowClass::kDropped) continue;
        const auto from = of_class[c].begin() + static_cast<long>(next[c]++ * row_bytes);
        expected.insert(expected.end(), from, from + row_bytes);
        slots.push_back(t);
        ++counts.back();
      }
    }
    const auto stored = codec->Rows(KvTensor::kKey, shape, frame);
    ASSERT_TRUE(stored.ok()) << stored.error().message;
    EXPECT_EQ(stored->slots, slots);
    EXPECT_EQ(stored->counts, counts);
    std::vector<std::byte> rows(expected.size()), scratch;
    const auto decoded = codec->DecodeRows(KvTensor::kKey, shape, frame, rows, scratch);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    EXPECT_EQ(rows, expected) << "round " << round;
    const auto dense_back = testing::Decoded(*codec, KvTensor::kKey, shape, frame);
    EXPECT_EQ(dense_back.ok(), demotes) << "what drops tokens has no dense form";
    if (demotes) {
      EXPECT_EQ(*dense_back, expected);
    }
  }
}

TEST(Rows, SinksAreExactInTheFirstBlockAndCostNothingInOthers) {
  auto rng = testing::Rng(71);
  const FrameShape shape{1, 32, 64};
  const auto codec = MustParse("R:sink(4)|int(4,tok)"), plain = MustParse("int(4,tok)");
  EXPECT_EQ(codec->selection(), nullptr);
  const auto dense = MakeFrame(shape, Fill::kOutlierChannels, rng);
  for (const uint32_t first : {0u, 2u, 32u}) {
    FrameInputs inputs;
    inputs.first_token = first;
    const auto frame = EncodedWith(*codec, shape, dense, inputs);
    const auto back = testing::Decoded(*codec, KvTensor::kKey, shape, frame);
    ASSERT_TRUE(back.ok());
    const uint64_t exact = first < 4 ? (4 - first) * 128 : 0;
    EXPECT_TRUE(std::equal(back->begin(), back->begin() + static_cast<long>(exact), dense.begin()));
    EXPECT_NE(*back, dense);
    if (first == 32) {
      EXPECT_EQ(frame.size(), 1 + plain->MaxFrameBytes(KvTensor::kKey, shape));
    }
  }
}

TEST(Rows, WeightsTravel) {
  auto rng = testing::Rng(72);
  const FrameShape shape{1, 8, 16};
  const auto codec = MustParse("B:uni(0.5)|E:late|raw");
  std::vector<RowClass> classes(8, RowClass::kDropped);
  classes[3] = classes[6] = RowClass::kKept;
  std::vector<float> weights(16, 1.0f);
  weights[6] = 5.0f;
  weights[13] = 0.25f;
  FrameInputs inputs;
  inputs.row_classes = classes.data();
  inputs.row_weights = weights.data();
  const auto frame = EncodedWith(*codec, shape, MakeFrame(shape, Fill::kGaussian, rng), inputs);
  const auto stored = codec->Rows(KvTensor::kKey, shape, frame);
  ASSERT_TRUE(stored.ok());
  EXPECT_EQ(stored->slots, (std::vector<uint32_t>{3, 6}));
  EXPECT_EQ(stored->weights, (std::vector<float>{5.0f, 1.0f, 1.0f, 0.25f}));
}

TEST(Rows, SectionsSumToTheBound) {
  const FrameShape shape{2, 32, 64};
  for (const char* spec : {"raw", "int(4,chan,32)", "had|mean|out(0.1,chan)|int(4,tok)|lr(2)", "R:sink(4)|int(4,tok)",
                           "hier(4+4,tok)|planes", "B:uni(0.5)|E:knorm(demote)|int(8,tok)|d:int(2,tok)"}) {
    const auto codec = MustParse(spec);
    uint64_t sum = 0;
    for (const FrameSection& section : codec->Sections(KvTensor::kKey, shape)) sum += section.bytes;
    EXPECT_EQ(sum, codec->MaxFrameBytes(KvTensor::kKey, shape)) << spec;
    EXPECT_FALSE(codec->stages().empty());
  }
}

TEST(Rows, InputsThatAreMissingAreNamedBeforeEncoding) {
  const struct {
    const char* spec;
    const char* input;
  } cases[] = {{"B:uni(0.5)|E:knorm|raw", "selection"},
               {"k:bal|int(8,tok)", "query_peak"},
               {"k:adapt(key)|v:raw", "context_tokens"}};
  for (const auto& c : cases) {
    const auto checked = MustParse(c.spec)->CheckInputs(KvTensor::kKey, {});
    ASSERT_FALSE(checked.ok()) << c.spec;
    EXPECT_NE(checked.error().message.find(c.input), std::string::npos) << checked.error().message;
  }
  FrameInputs inputs;
  inputs.context_tokens = 100;
  const auto values = MustParse("k:adapt(key)|v:adapt(value)");
  EXPECT_NE(values->CheckInputs(KvTensor::kKey, inputs).error().message.find("query_norm"), std::string::npos);
  EXPECT_NE(values->CheckInputs(KvTensor::kValue, inputs).error().message.find("attention_peak"), std::string::npos);
}

TEST(Rows, DamageNeverLeadsOutside) {
  auto rng = testing::Rng(73);
  for (const char* spec : {"B:uni(0.5)|E:knorm(demote)|had|int(8,tok)|d:out(0.1,chan)|d:int(2,chan,8)|lr(1)",
                           "B:uni(0.5)|E:knorm|int(3,tok)"}) {
    const auto codec = MustParse(spec);
    const FrameShape shape{2, 20, 32};
    for (int i = 0; i < 600; ++i) {
      const auto classes = RandomClasses(shape, !codec->drops(), rng);
      std::vector<float> weights(uint64_t{shape.heads} * shape.tokens * 2, 2.0f);
      FrameInputs inputs;
      inputs.row_classes = classes.data();
      inputs.row_weights = i % 2 == 0 ? weights.data() : nullptr;
      auto frame = EncodedWith(*codec, shape, MakeFrame(shape, Fill::kGaussian, rng), inputs);
      if (i % 3 == 0) frame.resize(rng() % (frame.size() + 40));
      const uint64_t reach = i % 3 == 1 ? std::min<uint64_t>(frame.size(), 40) : frame.size();
      for (int flips = 3; flips > 0 && reach > 0; --flips)
        frame[rng() % reach] ^= static_cast<std::byte>(1 + rng() % 255);
      const std::vector<std::byte> exact(frame.begin(), frame.end());
      const auto stored = codec->Rows(KvTensor::kKey, shape, exact);
      if (!stored.ok()) {
        EXPECT_EQ(stored.error().code, ErrorCode::kDataLoss);
        continue;
      }
      ASSERT_LE(stored->slots.size(), uint64_t{shape.heads} * shape.tokens);
      std::vector<std::byte> rows(stored->slots.size() * shape.dim * 2), scratch;
      const auto decoded = codec->DecodeRows(KvTensor::kKey, shape, exact, rows, scratch);
      EXPECT_TRUE(decoded.ok() || decoded.error().code == ErrorCode::kDataLoss);
    }
  }
}

/// Keys of chosen length.
class LengthRows final : public ChainRows {
 public:
  explicit LengthRows(std::vector<float> lengths) : lengths_(std::move(lengths)) {}
  void Load(uint32_t, uint32_t head, KvTensor, std::span<float> out) override {
    std::fill(out.begin(), out.end(), 0.0f);
    const size_t dim = out.size() / lengths_.size();
    for (size_t t = 0; t < lengths_.size(); ++t) out[t * dim + head] = lengths_[t];
  }
  void Store(uint32_t, uint32_t, KvTensor, std::span<const float>) override { FAIL() << "nothing is merged"; }

 private:
  std::vector<float> lengths_;
};

TEST(Select, KeepsTheExemptAndTheBestOfTheOthers) {
  const KvLayout layout{2, 2, 8, 8, ElementType::kBfloat16};
  LengthRows rows({1, 9, 3, 9, 2, 2, 7, 8, 9, 5});
  const auto codec = MustParse("B:uni(5)|E:knorm|R:sink(1)|R:win(2)|raw");
  const auto selection = Select(*codec->selection(), layout, 10, {}, rows);
  ASSERT_TRUE(selection.ok()) << selection.error().message;
  using enum RowClass;
  const std::vector<RowClass> head = {kExact, kDropped, kDropped, kDropped, kKept,
                                      kKept,  kDropped, kDropped, kExact,   kExact};
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(selection->counts[i], 5u);
    EXPECT_TRUE(std::equal(head.begin(), head.end(), selection->classes.begin() + i * 10)) << i;
  }
}

}  // namespace
}  // namespace kvasir
