// SPDX-License-Identifier: Apache-2.0
// Codec::Decode over damaged frames: first byte the codec, second the shape, the rest the frame. It must stay inside
// frame and dense memory, whatever the bytes say.
#include <cstring>
#include <memory>

#include "kernels/codec.h"
#include "tests/fuzz/fuzz.h"

namespace kvasir::fuzzing {
namespace {

constexpr const char* kSpecs[] = {"raw",
                                  "splitexp",
                                  "int(8,tok)",
                                  "int(4,chan,32)",
                                  "int(3,tok,32)",
                                  "int(2,chan,16,sym)",
                                  "k:int(2,chan,32)|v:int(4,tok,32)",
                                  "splitexp(ans)"};

struct Case {
  std::shared_ptr<const Codec> codec;
  FrameShape shape;
  KvTensor tensor;
};

Case CaseOf(uint8_t codec, uint8_t shape) {
  static constexpr uint32_t kTokens[] = {16, 32, 64, 33};
  static constexpr uint32_t kDims[] = {64, 128};
  static constexpr ElementType kElements[] = {ElementType::kBfloat16, ElementType::kFloat16, ElementType::kFloat32,
                                              ElementType::kFloat8E4M3};
  Case c;
  c.codec = *Codec::Parse(kSpecs[codec % std::size(kSpecs)]);
  c.shape = {1u + (shape & 1), kTokens[shape >> 1 & 3], kDims[shape >> 3 & 1], kElements[shape >> 4 & 3]};
  c.tensor = (shape & 64) != 0 ? KvTensor::kValue : KvTensor::kKey;
  return c;
}

}  // namespace

void Run(std::span<const uint8_t> input) {
  if (input.size() < 2) return;
  const Case c = CaseOf(input[0], input[1]);
  if (!c.codec->Check(c.tensor, c.shape).ok()) return;
  std::vector<std::byte> dense(c.shape.bytes()), scratch;
  const auto done = c.codec->Decode(c.tensor, c.shape, std::as_bytes(input.subspan(2)), dense, scratch);
  if (!done.ok()) Require(done.error().code == ErrorCode::kDataLoss, "a damaged frame is DataLoss");
}

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (uint8_t codec = 0; codec < std::size(kSpecs); ++codec) {
    for (const uint8_t shape : {uint8_t{0}, uint8_t{66}}) {
      const Case c = CaseOf(codec, shape);
      if (!c.codec->Check(c.tensor, c.shape).ok()) continue;
      std::vector<std::byte> dense(c.shape.bytes()), frame(c.codec->MaxFrameBytes(c.tensor, c.shape)), scratch;
      for (size_t i = 0; i < dense.size(); ++i) dense[i] = static_cast<std::byte>(i * 37 % 61 + 20);
      const uint64_t bytes = c.codec->Encode(c.tensor, c.shape, dense, frame, scratch);
      std::string seed = {static_cast<char>(codec), static_cast<char>(shape)};
      seeds.push_back(seed.append(reinterpret_cast<const char*>(frame.data()), bytes));
    }
  }
  return seeds;
}

}  // namespace kvasir::fuzzing
