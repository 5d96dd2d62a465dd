// SPDX-License-Identifier: Apache-2.0
// Goal: the CPU's coder of a chain, whatever SIMD bodies it takes, gives the bits of the stages one after another, both
// ways, on every instruction set of this CPU.
// Method: random specs, shapes and data; frames and elements against EncodeChain and DecodeChain over plain loops,
// which every chain has. Damaged frames: the same answer and, where there is one, the same elements.
#include "kernels/frame_coder.h"
#include "tests/kernels/each_target.h"  // before Highway's own headers
#include "tests/kernels/stage_run.h"

namespace kvasir {
namespace {

using testing::Fill;
using testing::ForEachTarget;
using testing::MakeFrame;
using testing::MustParse;

using Frame = std::vector<std::byte>;

/// The stages in plain loops.
class PlainChain {
 public:
  PlainChain(const Codec& codec, KvTensor tensor, const FrameShape& shape)
      : plan_(*codec.coder(tensor).device_coder().chain), shape_(shape), layout_(LayOutChain(plan_, shape)) {
    floats_.resize(shape.elements() * 2 + layout_.spare_floats);
    codes_.resize(shape.elements());
    room_ = {floats_.data(), floats_.data() + shape.elements(), floats_.data() + 2 * shape.elements(), codes_.data()};
  }
  Frame Encode(const Frame& dense) {
    Frame out(layout_.max_bytes());
    ChainOutcome outcome;
    testing::TestRun run;
    EncodeChain(run, plan_, layout_, {shape_, room_.spare, &outcome, {}}, Bytes(dense), Bytes(out), room_);
    EXPECT_EQ(outcome.fault, 0u);
    out.resize(layout_.packed_at + outcome.packed_bytes);
    return out;
  }
  /// Empty where the bytes are no frame.
  Frame Decode(const Frame& frame) {
    Frame dense(shape_.bytes());
    ChainOutcome outcome;
    testing::TestRun run;
    DecodeChain(run, plan_, layout_, {shape_, room_.spare, &outcome, {}}, Bytes(frame), frame.size(), Bytes(dense),
                room_);
    return outcome.fault == 0 ? dense : Frame{};
  }

 private:
  static const uint8_t* Bytes(const Frame& v) { return reinterpret_cast<const uint8_t*>(v.data()); }
  static uint8_t* Bytes(Frame& v) { return reinterpret_cast<uint8_t*>(v.data()); }

  const ChainPlan plan_;
  const FrameShape shape_;
  const ChainLayout layout_;
  std::vector<float> floats_;
  std::vector<uint8_t> codes_;
  ChainRoom room_;
};

/// The index of the first byte that differs; -1 where none does.
int64_t FirstDifference(const Frame& a, const Frame& b) {
  if (a == b) return -1;
  const auto at = std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(std::min(a.size(), b.size())), b.begin());
  return at.first - a.begin();
}

/// Both ways, and with damaged bytes.
void CompareChain(const std::string& spec, const FrameShape& shape, const Frame& dense, std::mt19937_64& rng) {
  const auto codec = MustParse(spec);
  ASSERT_TRUE(codec->Check(KvTensor::kKey, shape).ok());
  PlainChain plain(*codec, KvTensor::kKey, shape);
  const Frame expected = plain.Encode(dense), expected_back = plain.Decode(expected);
  ASSERT_FALSE(expected_back.empty());
  Frame scratch;
  for (const Destination destination : {Destination::kCache, Destination::kMemory}) {
    Frame got(codec->MaxFrameBytes(KvTensor::kKey, shape), std::byte{0xCD});
    got.resize(codec->Encode(KvTensor::kKey, shape, dense, got, scratch, destination));
    ASSERT_EQ(FirstDifference(got, expected), -1) << "encode";
    Frame back(shape.bytes(), std::byte{0xCD});
    ASSERT_TRUE(codec->Decode(KvTensor::kKey, shape, expected, back, scratch, destination).ok());
    ASSERT_EQ(FirstDifference(back, expected_back), -1) << "decode";
  }
  if (codec->planes() > 1) {
    const uint64_t end = codec->PlaneEnd(KvTensor::kKey, shape, 0);
    const Frame upper(expected.begin(), expected.begin() + static_cast<ptrdiff_t>(end));
    Frame back(shape.bytes(), std::byte{0xCD});
    ASSERT_TRUE(codec->Decode(KvTensor::kKey, shape, upper, back, scratch).ok());
    ASSERT_EQ(FirstDifference(back, plain.Decode(upper)), -1) << "the first plane alone";
  }
  for (int i = 0; i < 4; ++i) {
    Frame damaged = expected;
    for (uint64_t n = 1 + rng() % 4; n > 0; --n) damaged[rng() % damaged.size()] = static_cast<std::byte>(rng());
    // The first plane alone, where there are two; else a length that is none.
    if (rng() % 8 == 0) damaged.resize(codec->PlaneEnd(KvTensor::kKey, shape, 0) - (codec->planes() > 1 ? 0 : 1));
    if (rng() % 8 == 0) damaged[rng() % std::min<size_t>(damaged.size(), 64)] = std::byte{0x7F};
    const Frame plain_back = plain.Decode(damaged);
    Frame back(shape.bytes());
    const bool decoded = codec->Decode(KvTensor::kKey, shape, damaged, back, scratch).ok();
    ASSERT_EQ(decoded, !plain_back.empty()) << "damaged";
    ASSERT_TRUE(!decoded || back == plain_back) << "decode of damaged bytes";
  }
}

ElementType AnyElement(std::mt19937_64& rng) {
  return testing::kAllElements[rng() % 8 < 5 ? rng() % 3 : rng() % 5];  // mostly those with bodies
}

/// `count` random shapes and fills for specs that make(rng, dim) gives.
template <class Make>
void CompareChains(uint64_t seed, int count, const Make& make) {
  ForEachTarget([&] {
    auto rng = testing::Rng(seed);
    for (int i = 0; i < count; ++i) {
      const uint32_t dims[] = {32, 64, 96, 128, 160, 192, 256, 512, 576, 80, 7};
      const uint32_t dim = rng() % 3 == 0 ? 128 : dims[rng() % 11];
      const FrameShape shape{static_cast<uint32_t>(1 + rng() % 3), static_cast<uint32_t>(1 + rng() % 70), dim,
                             AnyElement(rng)};
      const Fill fill = testing::kAllFills[rng() % 7];
      Frame dense = MakeFrame(shape, fill, rng);
      if (rng() % 4 == 0) dense[rng() % dense.size()] = std::byte{0x7F};  // one great value, infinity or NaN
      const std::string spec = make(rng, dim);
      SCOPED_TRACE(spec + " heads " + std::to_string(shape.heads) + " tokens " + std::to_string(shape.tokens) +
                   " dim " + std::to_string(dim) + " element " + std::to_string(static_cast<int>(shape.element)) +
                   " fill " + std::to_string(static_cast<int>(fill)));
      ASSERT_NO_FATAL_FAILURE(CompareChain(spec, shape, dense, rng));
    }
  });
}

std::string AnyInt(std::mt19937_64& rng) {
  const char* bits[] = {"8", "4", "3", "2"};
  const char* groups[] = {"0", "32", "64", "96", "128", "7"};
  return std::string("int(") + bits[rng() % 4] + (rng() % 3 == 0 ? ",chan," : ",tok,") + groups[rng() % 6] +
         (rng() % 3 == 0 ? ",sym)" : ",asym)");
}

TEST(SameChainBits, HadamardAndInt) {
  CompareChains(40, 300, [](std::mt19937_64& rng, uint32_t dim) {
    uint32_t width = 0;
    if (rng() % 3 == 0) {
      width = 1u << rng() % 10;
      while (dim % width != 0) width /= 2;
    }
    return "had(" + std::to_string(width) + "," + std::to_string(rng() % 4) + ")|" + AnyInt(rng);
  });
}

TEST(SameChainBits, HadamardOfWideRows) {
  ForEachTarget([] {
    auto rng = testing::Rng(41);
    for (const ElementType type : {ElementType::kBfloat16, ElementType::kFloat16, ElementType::kFloat32}) {
      const FrameShape shape{1, 3, 8192, type};
      ASSERT_NO_FATAL_FAILURE(CompareChain("had|int(4,tok)", shape, MakeFrame(shape, Fill::kGaussian, rng), rng));
    }
  });
}

/// Chains that take some of their steps from simd/.
TEST(SameChainBits, OtherChains) {
  CompareChains(43, 200, [](std::mt19937_64& rng, uint32_t) {
    const char* transforms[] = {"out(0.01,chan)|", "mean|",     "norm|had|",     "mean|had|",
                                "delta(4)|",       "had|norm|", "out(0.02,tok)|"};
    const char* quantisers[] = {"lm(4)", "lm(3)", "lm(2)", "fp8", "fp8(e5m2,row)", "nvfp4", "ctok(4)"};
    const std::string before = transforms[rng() % 7];
    const uint64_t which = rng() % 5;
    if (which == 4) {
      const char* widths[] = {"4+4", "2+2", "2+1", "6+2"};
      return std::string("hier(") + widths[rng() % 4] + (rng() % 2 == 0 ? ",chan,16)" : ",tok)") +
             (rng() % 2 == 0 ? "|planes" : "");
    }
    if (which == 0) {
      const char* channels[] = {"|ac", "|ac(5)", "|ac(64)", "|ac(1)"};
      return before + AnyInt(rng) + channels[rng() % 4];
    }
    if (which == 1) return before + AnyInt(rng) + "|lr(2)";
    return before + (which == 2 ? AnyInt(rng) : quantisers[rng() % 7]);
  });
}

/// Sums of the greatest elements pass the bound of Q:int behind the transform only.
TEST(SameChainBits, HadamardOfGreatValues) {
  ForEachTarget([] {
    auto rng = testing::Rng(42);
    for (const ElementType type : {ElementType::kBfloat16, ElementType::kFloat16, ElementType::kFloat32}) {
      const FrameShape shape{1, 40, 128, type};
      Frame dense(shape.bytes());
      for (uint64_t i = 0; i < shape.elements(); ++i) {
        StoreElement(type, i / 128 % 5 == 0 ? 60000.0f : static_cast<float>(rng() % 100),
                     reinterpret_cast<uint8_t*>(dense.data()) + i * ElementBytes(type));
      }
      ASSERT_NO_FATAL_FAILURE(CompareChain("had(0,0)|int(8,tok)", shape, dense, rng));
      ASSERT_NO_FATAL_FAILURE(CompareChain("had(0,0)|int(3,chan,16)", shape, dense, rng));
    }
  });
}

}  // namespace
}  // namespace kvasir
