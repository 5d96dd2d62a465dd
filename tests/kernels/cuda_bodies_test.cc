// SPDX-License-Identifier: Apache-2.0
// Goal: what the CUDA kernels of splitexp(ans) compute is what the CPU writes and reads, where no GPU is. Method: their
// bodies, which are the whole of the kernels but for indices, run by SerialTeam as the launcher runs them; frames
// compared with ==, decoded values and answers to damage with the CPU's. cuda_device_test compares the kernels.
#include <gtest/gtest.h>

#include "kernels/cuda/splitans_bodies.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using namespace testing;  // frames
using cuda::Divider;
using Block = cuda::SerialTeam<96>;
using Warp = cuda::SerialTeam<32>;

/// The launchers of kernels/cuda/splitans_codec.cu, kernel after kernel.
class SplitAnsKernels {
 public:
  explicit SplitAnsKernels(const FrameShape& shape)
      : f_(LayOutSplitAns(shape)),
        by_head_(Divider::By(shape.tokens * shape.dim)),
        by_dim_(Divider::By(shape.dim)),
        origins_(f_.elements),
        sample_(f_.elements),
        lengths_(f_.chunks),
        offsets_(f_.chunks),
        rooms_(uint64_t{f_.chunks} * cuda::kSplitAnsChunkRoom) {}

  std::vector<std::byte> Encode(const std::vector<std::byte>& dense) {
    const auto* in = reinterpret_cast<const uint8_t*>(dense.data());
    std::vector<std::byte> out(f_.max_bytes(), std::byte{0xEE});
    auto* frame = reinterpret_cast<uint8_t*>(out.data());
    cuda::ChooseSplitAns(block_, f_, in, origins_.data(), sample_.data(), counts_, work_);
    SplitAnsPush pushes[256];
    for (uint32_t s = 0; s < 256; ++s) pushes[s] = PushOf(work_.model, s);
    for (uint32_t c = 0; c < f_.chunks; ++c) {
      const uint32_t first = c * kSplitAnsChunk, count = f_.count(c);
      cuda::WriteSplitAnsFixed(warp_, f_, in + 2 * first, count, frame + f_.fixed_at(c));
      lengths_[c] = cuda::EncodeSplitAnsTail(warp_, f_, pushes, Table(), first, in + 2 * first, count, RoomEnd(c));
    }
    out.resize(cuda::EndSplitAns(block_, f_, work_, origins_.data(), lengths_.data(), offsets_.data(), frame));
    frame = reinterpret_cast<uint8_t*>(out.data());
    for (uint32_t c = 0; c < f_.chunks; ++c) {
      const uint32_t length = work_.mode == SplitAnsMode::kStored ? 0 : lengths_[c];
      cuda::PlaceSplitAnsTail(warp_, f_, in + 2 * c * kSplitAnsChunk, f_.count(c), length, RoomEnd(c),
                              frame + offsets_[c]);
    }
    return out;
  }

  /// False where the bytes are no frame.
  bool Decode(std::span<const std::byte> frame, std::vector<std::byte>& dense) {
    const std::vector<std::byte> exact(frame.begin(), frame.end());
    if (exact.size() <= f_.mode_at() || exact.size() > f_.max_bytes()) return false;  // MayBeLength
    const auto* in = reinterpret_cast<const uint8_t*>(exact.data());
    auto* out = reinterpret_cast<uint8_t*>(dense.data());
    if (!cuda::OpenSplitAns(block_, f_, in, static_cast<uint32_t>(exact.size()), work_, origins_.data(),
                            lengths_.data(), offsets_.data())) {
      return false;
    }
    SplitAnsPop pops[kRansTotal];
    for (uint32_t slot = 0; slot < kRansTotal; ++slot) pops[slot] = PopOf(work_.model, slot);
    bool right = true;
    for (uint32_t c = 0; c < f_.chunks; ++c) {
      const uint32_t first = c * kSplitAnsChunk, count = f_.count(c);
      const uint8_t *fixed = in + f_.fixed_at(c), *tail = in + offsets_[c];
      const cuda::SplitAnsCoded coded{first, count, fixed, tail, lengths_[c]};
      if (lengths_[c] == 0) {
        cuda::LoadSplitAns(warp_, f_, fixed, tail, count, out + 2 * first);
      } else if (f_.half) {
        right = cuda::DecodeSplitAnsTail<true>(warp_, pops, Table(), coded, out + 2 * first) && right;
      } else {
        right = cuda::DecodeSplitAnsTail<false>(warp_, pops, Table(), coded, out + 2 * first) && right;
      }
    }
    return right;
  }

 private:
  cuda::SplitAnsTable Table() const {
    return {work_.mode == SplitAnsMode::kCodedFromOrigins ? origins_.data() : nullptr, by_head_, by_dim_};
  }
  uint8_t* RoomEnd(uint32_t chunk) { return rooms_.data() + uint64_t{chunk + 1} * cuda::kSplitAnsChunkRoom; }

  Block block_;
  Warp warp_;
  const SplitAnsFrame f_;
  const Divider by_head_, by_dim_;
  std::vector<uint8_t> origins_, sample_;
  std::vector<uint32_t> lengths_, offsets_;
  std::vector<uint8_t> rooms_;
  cuda::SplitAnsCounts counts_{};
  cuda::SplitAnsWork work_;
};

TEST(CudaBodies, SplitAnsWritesAndReadsTheBytesOfTheCpu) {
  auto rng = Rng(140);
  const auto codec = MustParse("splitexp(ans)");
  uint32_t modes[3] = {}, stored_chunks = 0;
  // Around one step of lanes and one chunk; heads that end inside a step; more chunks than a team has threads.
  const FrameShape shapes[] = {{1, 1, 1},    {1, 1, 63},    {1, 1, 64},    {1, 1, 65},    {3, 43, 3},
                               {2, 7, 80},   {5, 20, 33},   {1, 129, 127}, {1, 16385, 1}, {8, 256, 64},
                               {1, 40, 576}, {2, 200, 128}, {1, 3001, 577}};
  for (FrameShape shape : shapes) {
    for (const ElementType type : {ElementType::kBfloat16, ElementType::kFloat16}) {
      shape.element = type;
      SplitAnsKernels kernels(shape);
      for (const Fill fill : kAllFills) {
        if (shape.elements() > 1000000 && fill != Fill::kOutlierChannels && fill != Fill::kAnyBits) continue;
        SCOPED_TRACE(std::to_string(shape.heads) + " " + std::to_string(shape.tokens) + " " +
                     std::to_string(shape.dim) + " fill " + std::to_string(static_cast<int>(fill)));
        auto dense = MakeFrame(shape, fill, rng);
        if (fill == Fill::kTiny) {  // one chunk of noise among others
          for (uint64_t i = 0; i < std::min<uint64_t>(dense.size(), 2 * kSplitAnsChunk); ++i) {
            dense[i] = static_cast<std::byte>(rng());
          }
        }
        const auto expected = Encoded(*codec, KvTensor::kKey, shape, dense);
        const auto frame = kernels.Encode(dense);
        ASSERT_TRUE(frame == expected) << frame.size() << " and " << expected.size() << " bytes";
        const SplitAnsFrame f = LayOutSplitAns(shape);
        const uint32_t mode = static_cast<uint32_t>(frame[f.mode_at()]);
        ++modes[mode];
        stored_chunks += mode > 0 && fill == Fill::kTiny ? 1 : 0;
        std::vector<std::byte> back(shape.bytes());
        ASSERT_TRUE(kernels.Decode(expected, back));
        ASSERT_TRUE(back == dense);
      }
    }
  }
  std::printf("stored %u, coded %u, from origins %u, with stored chunks %u\n", modes[0], modes[1], modes[2],
              stored_chunks);
  EXPECT_GE(modes[0], 10u);
  EXPECT_GE(modes[1], 10u);
  EXPECT_GE(modes[2], 5u);
  EXPECT_GE(stored_chunks, 1u);
}

TEST(CudaBodies, SplitAnsAnswersDamageAsTheCpuDoes) {
  auto rng = Rng(141);
  const auto codec = MustParse("splitexp(ans)");
  uint32_t refused = 0, taken = 0;
  for (const ElementType type : {ElementType::kBfloat16, ElementType::kFloat16}) {
    for (const Fill fill : {Fill::kGaussian, Fill::kOutlierChannels, Fill::kConstant, Fill::kAnyBits}) {
      const FrameShape shape{2, 150, 64, type};  // two chunks
      SplitAnsKernels kernels(shape);
      const auto good = Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, fill, rng));
      const uint64_t head_at = LayOutSplitAns(shape).mode_at();
      for (int round = 0; round < 400; ++round) {
        auto bad = good;
        for (uint64_t i = 0, n = 1 + rng() % 3; i < n; ++i) {
          // Half of them in mode, model, origins, lengths and the states.
          const uint64_t at = rng() % 2 == 0 ? rng() % bad.size() : head_at + rng() % (bad.size() - head_at) / 8;
          bad[at] = rng() % 3 == 0 ? std::byte{0xFF} : static_cast<std::byte>(rng());
        }
        if (round % 5 == 4) bad.resize(bad.size() - 1 - rng() % 200);
        const auto on_cpu = Decoded(*codec, KvTensor::kKey, shape, bad);
        std::vector<std::byte> back(shape.bytes());
        ASSERT_EQ(kernels.Decode(bad, back), on_cpu.ok()) << round << (on_cpu.ok() ? "" : on_cpu.error().message);
        if (on_cpu.ok()) {
          ASSERT_TRUE(back == *on_cpu) << round;
        }
        ++(on_cpu.ok() ? taken : refused);
      }
    }
  }
  std::printf("refused: %u, taken: %u\n", refused, taken);
  EXPECT_GE(refused, 100u);
  EXPECT_GE(taken, 100u);
}

}  // namespace
}  // namespace kvasir
