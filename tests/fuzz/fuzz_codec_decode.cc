// SPDX-License-Identifier: Apache-2.0
// Codec::Decode over damaged frames: first byte the codec, second the shape, the rest the frame. It must stay inside
// frame and dense memory, whatever the bytes say. Where tokens may be missing, Codec::Rows and DecodeRows instead.
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
                                  "splitexp(ans)",
                                  "B:uni(0.5)|E:knorm|raw",
                                  "B:uni(0.5)|E:knorm|R:sink(3)|int(4,tok,32)",
                                  "B:uni(0.5)|E:knorm(demote)|raw|d:int(2,tok,32)"};

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
  const std::span<const std::byte> frame = std::as_bytes(input.subspan(2));
  std::vector<std::byte> dense(c.shape.bytes()), scratch;
  if (c.codec->drops()) {
    const auto rows = c.codec->Rows(c.tensor, c.shape, frame);
    if (!rows.ok()) return Require(rows.error().code == ErrorCode::kDataLoss, "a damaged frame is DataLoss");
    uint64_t count = 0;
    for (const uint32_t of_head : rows->counts) count += of_head;
    Require(count == rows->slots.size() && count <= uint64_t{c.shape.heads} * c.shape.tokens, "rows are of the frame");
    for (const uint32_t slot : rows->slots) Require(slot < c.shape.tokens, "a slot is a token of the frame");
    dense.resize(count * c.shape.dim * ElementBytes(c.shape.element));
  }
  const auto done = c.codec->drops() ? c.codec->DecodeRows(c.tensor, c.shape, frame, dense, scratch)
                                     : c.codec->Decode(c.tensor, c.shape, frame, dense, scratch);
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
      FrameInputs inputs;
      std::vector<RowClass> classes;
      const RowClass others = c.codec->drops() ? RowClass::kDropped : RowClass::kDemoted;
      for (uint32_t i = 0; i < c.shape.heads * c.shape.tokens; ++i)
        classes.push_back(i % 3 == 0 ? RowClass::kKept : others);
      if (c.codec->selection() != nullptr) inputs.row_classes = classes.data();
      const uint64_t bytes = c.codec->Encode(c.tensor, c.shape, dense, frame, scratch, Destination::kCache, inputs);
      std::string seed = {static_cast<char>(codec), static_cast<char>(shape)};
      seeds.push_back(seed.append(reinterpret_cast<const char*>(frame.data()), bytes));
    }
  }
  return seeds;
}

}  // namespace kvasir::fuzzing
