// SPDX-License-Identifier: Apache-2.0
// Goal: every method's name stands for a spec that parses, prints back the same, and gives its frames back. Method: the
// whole table, each spec over one block of each fill.
#include "kernels/methods.h"

#include "gtest/gtest.h"
#include "kernels/select/select.h"
#include "tests/kernels/frames.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using testing::Fill;
using testing::MustParse;

TEST(Methods, NamesAscendAndSpecsAreFixedPoints) {
  std::string_view before;
  for (const Method& method : Methods()) {
    EXPECT_LT(before, method.name);
    before = method.name;
    EXPECT_FALSE(method.title.empty()) << method.name;
    EXPECT_LE(method.row, 63u) << method.name;
    EXPECT_EQ(FindMethod(method.name), &method);
    const auto codec = Codec::Parse(method.spec);
    ASSERT_TRUE(codec.ok()) << method.name << ": " << codec.error().message;
    EXPECT_EQ(MustParse((*codec)->spec())->spec(), (*codec)->spec()) << method.name;
    EXPECT_EQ((*CodecNamed(method.name))->spec(), (*codec)->spec());
    // A name that is a spec too must not mean two things.
    const auto by_itself = Codec::Parse(method.name);
    if (by_itself.ok()) {
      EXPECT_EQ((*by_itself)->spec(), (*codec)->spec()) << method.name;
    }
  }
  EXPECT_EQ((*CodecNamed("int(8,tok)"))->spec(), MustParse("int(8,tok)")->spec());
}

TEST(Methods, AWordThatIsNoneNamesThoseNearIt) {
  EXPECT_EQ(FindMethod("kivi3"), nullptr);
  const auto message = [](std::string_view word) { return CodecNamed(word).error().message; };
  EXPECT_EQ(message("kivi3"), "no method 'kivi3'; did you mean kivi2 or kivi4? `kvasir codecs` lists all");
  EXPECT_EQ(message("snap-kv"), "no method 'snap-kv'; did you mean snapkv? `kvasir codecs` lists all");
  EXPECT_EQ(message("SnapKV"), "no method 'SnapKV'; did you mean snapkv? `kvasir codecs` lists all");
  EXPECT_EQ(message("zip"), Codec::Parse("zip").error().message + "; or a method: `kvasir codecs` lists all");
  EXPECT_EQ(message("int(9,tok)"), Codec::Parse("int(9,tok)").error().message) << "no word, but a spec gone wrong";
  EXPECT_EQ(message(""), Codec::Parse("").error().message + "; or a method: `kvasir codecs` lists all");
}

/// What every stage may ask for, made up.
struct Brought {
  std::vector<float> query_peak, query_norm, attention_peak;
  std::vector<RowClass> classes;
  FrameInputs inputs;
  Brought(const FrameShape& shape, const Codec& codec, std::mt19937_64& rng)
      : query_peak(uint64_t{shape.heads} * shape.dim, 2.0f),
        query_norm(shape.heads, 8.0f),
        attention_peak(uint64_t{shape.heads} * shape.tokens, 0.01f) {
    inputs = {query_peak.data(), query_norm.data(), attention_peak.data(), 1024, 0, nullptr, nullptr};
    if (codec.selection() == nullptr) return;
    const RowClass others = codec.selection()->demote ? RowClass::kDemoted : RowClass::kDropped;
    for (uint64_t i = 0; i < attention_peak.size(); ++i) classes.push_back(rng() % 2 == 0 ? RowClass::kKept : others);
    inputs.row_classes = classes.data();
  }
};

/// Root of the mean square of the difference over that of `x`.
double Error(const FrameShape& shape, std::span<const std::byte> x, std::span<const std::byte> y) {
  double loss = 0, power = 0;
  for (size_t i = 0; i < x.size(); i += 2) {
    const double a = LoadElement(shape.element, reinterpret_cast<const uint8_t*>(x.data()) + i);
    const double b = LoadElement(shape.element, reinterpret_cast<const uint8_t*>(y.data()) + i);
    loss += (a - b) * (a - b);
    power += a * a;
  }
  return std::sqrt(loss / power);
}

TEST(Methods, GiveTheirFramesBack) {
  auto rng = testing::Rng(75);
  const FrameShape shape{2, 128, 128};
  for (const Method& method : Methods()) {
    const auto codec = MustParse(std::string(method.spec));
    const auto dense = testing::MakeFrame(shape, Fill::kGaussian, rng);
    const Brought brought(shape, *codec, rng);
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      ASSERT_TRUE(codec->Check(tensor, shape).ok()) << method.name;
      ASSERT_TRUE(codec->CheckInputs(tensor, brought.inputs).ok()) << method.name;
      std::vector<std::byte> frame(codec->MaxFrameBytes(tensor, shape)), scratch;
      frame.resize(codec->Encode(tensor, shape, dense, frame, scratch, Destination::kCache, brought.inputs));
      const auto stored = codec->drops() ? codec->Rows(tensor, shape, frame) : StoredRows{};
      ASSERT_TRUE(stored.ok()) << method.name << ": " << stored.error().message;
      std::vector<std::byte> expected, back;
      if (codec->drops()) {
        for (uint32_t row = 0; row < shape.heads * shape.tokens; ++row) {
          if (brought.classes[row] == RowClass::kDropped && row % shape.tokens >= codec->selection()->sink_tokens)
            continue;
          const auto from = dense.begin() + row * 2 * shape.dim;
          expected.insert(expected.end(), from, from + 2 * shape.dim);
        }
        back.resize(stored->slots.size() * 2 * shape.dim);
        ASSERT_TRUE(codec->DecodeRows(tensor, shape, frame, back, scratch).ok()) << method.name;
      } else {
        expected = dense;
        const auto decoded = testing::Decoded(*codec, tensor, shape, frame);
        ASSERT_TRUE(decoded.ok()) << method.name << ": " << decoded.error().message;
        back = *decoded;
      }
      ASSERT_EQ(back.size(), expected.size()) << method.name;
      if (codec->lossless()) {
        EXPECT_EQ(back, expected) << method.name;
      }
      // Two bits of a Gaussian at least: Lloyd and Max reach 0.34, four levels between the extremes 0.5.
      EXPECT_LT(Error(shape, expected, back), 0.55) << method.name;
    }
  }
}

/// From scores to stored rows: what Select chose over the chain is what the blocks hold, block by block.
TEST(Methods, BlocksHoldWhatWasChosenOverTheChain) {
  auto rng = testing::Rng(76);
  const KvLayout layout{2, 2, 64, 64, ElementType::kBfloat16};
  constexpr uint32_t kBlock = 128, kTokens = 4 * kBlock;
  const FrameShape shape{2, kBlock, 64};
  uint32_t selecting = 0;
  for (const Method& method : Methods()) {
    const auto codec = MustParse(std::string(method.spec));
    if (codec->selection() == nullptr) continue;
    ++selecting;
    testing::SelectFixture f(kTokens, rng, layout, 32);
    if (method.name == "a2sf") f.inputs.attention_decay = 0.95f;
    const auto selection = Select(*codec->selection(), layout, kTokens, f.inputs, f.rows);
    ASSERT_TRUE(selection.ok()) << method.name << ": " << selection.error().message;
    std::vector<uint32_t> stored_of(f.heads());
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (uint32_t first = 0; first < kTokens; first += kBlock) {
        Brought brought(shape, *codec, rng);
        for (uint32_t row = 0; row < 2 * kBlock; ++row) {
          brought.classes[row] = selection->classes[(layer * 2 + row / kBlock) * kTokens + first + row % kBlock];
        }
        brought.inputs.first_token = first;
        std::vector<std::byte> frame(codec->MaxFrameBytes(KvTensor::kKey, shape)), scratch;
        frame.resize(codec->Encode(KvTensor::kKey, shape, testing::MakeFrame(shape, Fill::kGaussian, rng), frame,
                                   scratch, Destination::kCache, brought.inputs));
        const auto stored = codec->Rows(KvTensor::kKey, shape, frame);
        ASSERT_TRUE(stored.ok()) << method.name << ": " << stored.error().message;
        std::vector<uint32_t> slots;
        for (uint32_t row = 0; row < 2 * kBlock; ++row) {
          if (brought.classes[row] != RowClass::kDropped) slots.push_back(row % kBlock);
        }
        EXPECT_EQ(stored->slots, slots) << method.name;
        for (uint32_t head = 0; head < 2; ++head) stored_of[layer * 2 + head] += stored->counts[head];
      }
    }
    if (codec->drops()) {
      EXPECT_EQ(stored_of, selection->counts) << method.name;
    }
  }
  EXPECT_GE(selecting, 18u);
}

}  // namespace
}  // namespace kvasir
