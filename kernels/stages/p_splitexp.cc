// SPDX-License-Identifier: Apache-2.0
// The coder of P:splitexp: entries, damage, and the choice between the SIMD bodies and the reference.
#include "kernels/stages/p_splitexp.h"

#include <algorithm>

#include "kernels/simd/bodies.h"
#include "kernels/stages/p_splitans.h"

namespace kvasir {
namespace {

// Chunks between the one at hand and the one asked for: a chunk has two short streams, which the CPU's own prefetching
// misses.
constexpr uint32_t kChunksAhead = 2;
constexpr uint32_t kTailBytesAhead = 256;  // what the escapes of a frame usually take

Error Damaged(uint32_t chunk, const std::string& what) {
  return {ErrorCode::kDataLoss, "splitexp frame: chunk " + std::to_string(chunk) + ": " + what};
}

/// Where the parts of a frame begin.
struct SplitFrame {
  SplitFrame(const SplitFormat& format, uint64_t element_count)
      : f(format), elements(element_count), chunks(SplitChunks(element_count)) {}
  uint32_t count(uint32_t chunk) const {
    return static_cast<uint32_t>(std::min<uint64_t>(kSplitChunk, elements - uint64_t{chunk} * kSplitChunk));
  }
  uint64_t fixed_at(uint32_t chunk) const {
    return uint64_t{chunks} * kSplitEntryBytes + uint64_t{chunk} * f.fixed_bytes(kSplitChunk);
  }
  uint64_t tails_at() const { return fixed_at(chunks - 1) + f.fixed_bytes(count(chunks - 1)); }
  uint64_t max_bytes() const {
    return tails_at() + uint64_t{chunks - 1} * f.stored_tail_bytes(kSplitChunk) +
           f.stored_tail_bytes(count(chunks - 1));
  }

  const SplitFormat f;
  const uint64_t elements;
  const uint32_t chunks;
};

SplitChunk LoadEntry(const uint8_t* frame, uint32_t chunk) {
  const uint8_t* p = frame + uint64_t{chunk} * kSplitEntryBytes;
  return {p[0], p[1], Load16(p + 2)};
}

/// Fails unless every entry can be right and the lengths sum to `bytes`.
Result<bool> CheckEntries(const SplitFrame& s, std::span<const uint8_t> frame) {
  if (frame.size() < s.tails_at()) return Damaged(0, "the frame ends before the fixed parts do");
  uint64_t end = s.tails_at();
  for (uint32_t i = 0; i < s.chunks; ++i) {
    const SplitChunk chunk = LoadEntry(frame.data(), i);
    if (chunk.mode > 1) return Damaged(i, "mode is " + std::to_string(chunk.mode) + ", must be 0 or 1");
    if (chunk.top > s.f.exponent_max) return Damaged(i, "top is " + std::to_string(chunk.top));
    if (chunk.escapes > (chunk.mode == 1 ? 0 : s.count(i))) {
      return Damaged(i, std::to_string(chunk.escapes) + " escapes of " + std::to_string(s.count(i)) + " values");
    }
    end += s.f.tail_bytes(chunk, s.count(i));
  }
  if (end != frame.size()) {
    return Error{ErrorCode::kDataLoss, "splitexp frame has " + std::to_string(frame.size()) +
                                           " bytes, its entries say " + std::to_string(end)};
  }
  return true;
}

/// Escapes must ascend, lie in the chunk, and be exponents.
Result<bool> CheckEscapes(const SplitFormat& f, uint32_t index, const SplitChunk& chunk, const uint8_t* tail,
                          uint32_t count) {
  uint32_t next = 0;  // the least position allowed
  for (uint32_t i = 0; i < chunk.escapes; ++i, tail += kSplitEscapeBytes) {
    const uint32_t position = Load16(tail);
    if (position < next || position >= count) return Damaged(index, "escape position " + std::to_string(position));
    if (tail[2] > f.exponent_max) return Damaged(index, "escaped exponent " + std::to_string(tail[2]));
    next = position + 1;
  }
  return true;
}

class SplitExpCoder final : public FrameCoder {
 public:
  bool lossless() const override { return true; }
  DeviceCoder device_coder() const override { return {DeviceCoder::Kind::kSplitExp}; }
  Result<bool> Check(const FrameShape& shape) const override {
    if (shape.element == ElementType::kBfloat16 || shape.element == ElementType::kFloat16) return true;
    return Error{ErrorCode::kInvalidArgument, "splitexp takes bf16 and fp16 elements; for others use raw"};
  }
  uint64_t MaxFrameBytes(const FrameShape& shape) const override {
    return SplitFrame(SplitFormatOf(shape.element), shape.elements()).max_bytes();
  }

  uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>&,
                  Destination destination, const FrameInputs&) const override {
    const SplitFrame s(SplitFormatOf(shape.element), shape.elements());
    Prefetch(dense, std::min<uint64_t>(shape.elements(), kChunksAhead * kSplitChunk) * 2);
    uint8_t* tail = out + s.tails_at();
    for (uint32_t i = 0; i < s.chunks; ++i) {
      const uint8_t* in = dense + uint64_t{i} * kSplitChunk * 2;
      Prefetch(in + kChunksAhead * kSplitChunk * 2, kSplitChunk * 2);
      uint8_t* fixed = out + s.fixed_at(i);
      SplitChunk chunk;
      if (s.f.half || s.count(i) != kSplitChunk || !simd::EncodeSplitChunk(in, fixed, tail, chunk, destination)) {
        chunk = EncodeSplitChunkReference(s.f, in, s.count(i), fixed, tail);
      }
      uint8_t* entry = out + uint64_t{i} * kSplitEntryBytes;
      entry[0] = chunk.top;
      entry[1] = chunk.mode;
      Store16(entry + 2, chunk.escapes);
      tail += s.f.tail_bytes(chunk, s.count(i));
    }
    simd::Fence();
    return static_cast<uint64_t>(tail - out);
  }

  Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense, std::vector<std::byte>&,
                      Destination destination) const override {
    const SplitFrame s(SplitFormatOf(shape.element), shape.elements());
    Prefetch(frame.data(),
             std::min<uint64_t>(frame.size(), s.fixed_at(0) + kChunksAhead * s.f.fixed_bytes(kSplitChunk)));
    Prefetch(frame.data() + std::min<uint64_t>(frame.size(), s.tails_at()), kTailBytesAhead);
    if (Result<bool> checked = CheckEntries(s, frame); !checked.ok()) return checked;
    const uint8_t* tail = frame.data() + s.tails_at();
    for (uint32_t i = 0; i < s.chunks; ++i) {
      const SplitChunk chunk = LoadEntry(frame.data(), i);
      const uint8_t* fixed = frame.data() + s.fixed_at(i);
      Prefetch(fixed + kChunksAhead * s.f.fixed_bytes(kSplitChunk), s.f.fixed_bytes(kSplitChunk));
      uint8_t* out = dense + uint64_t{i} * kSplitChunk * 2;
      if (Result<bool> good = CheckEscapes(s.f, i, chunk, tail, s.count(i)); !good.ok()) return good;
      if (s.f.half || s.count(i) != kSplitChunk || chunk.mode != 0 ||
          !simd::DecodeSplitChunk(fixed, tail, chunk, out, destination)) {
        DecodeSplitChunkReference(s.f, chunk, fixed, tail, s.count(i), out);
      }
      tail += s.f.tail_bytes(chunk, s.count(i));
    }
    simd::Fence();
    return true;
  }
};

}  // namespace

SplitChunk EncodeSplitChunkReference(const SplitFormat& f, const uint8_t* in, uint32_t count, uint8_t* fixed,
                                     uint8_t* tail) {
  uint32_t histogram[256] = {};
  for (uint32_t i = 0; i < count; ++i) ++histogram[SplitExponent(f, Load16(in + 2 * i))];
  const SplitChunk chunk = ChooseSplit(f, histogram, count);
  uint8_t nibbles[kSplitChunk], pairs[kSplitChunk], highs[kSplitChunk];
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t x = Load16(in + 2 * i);
    const uint32_t exponent = SplitExponent(f, x);
    const uint32_t code = chunk.mode == 1 ? exponent & f.last() : WindowCode(f, chunk.top, exponent);
    if (chunk.mode == 0 && WindowExponent(f, chunk.top, code) != exponent) {
      Store16(tail, i);
      tail[2] = static_cast<uint8_t>(exponent);
      tail += kSplitEscapeBytes;
    }
    const SplitPieces p = SplitValue(f, x, code);
    fixed[i] = p.byte;
    nibbles[i] = p.nibble;
    pairs[i] = p.pair;
    highs[i] = static_cast<uint8_t>(exponent >> f.code_bits);
  }
  PackRow(4, nibbles, count, fixed + count);
  if (f.half) PackRow(2, pairs, count, fixed + count + (count + 1) / 2);
  if (chunk.mode == 1) PackRow(f.tail_bits(), highs, count, tail);
  return chunk;
}

void DecodeSplitChunkReference(const SplitFormat& f, const SplitChunk& chunk, const uint8_t* fixed, const uint8_t* tail,
                               uint32_t count, uint8_t* out) {
  for (uint32_t i = 0; i < count; ++i) Store16(out + 2 * i, SplitElement(f, chunk, fixed, tail, count, i));
  for (uint32_t i = 0; i < chunk.escapes; ++i, tail += kSplitEscapeBytes) {
    uint8_t* value = out + 2 * Load16(tail);
    Store16(value, WithExponent(f, Load16(value), tail[2]));
  }
}

Result<SplitExpStage::Args> SplitExpStage::Read(const StageArguments& in) {
  if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
  if (!in.Has(0)) return Args{};
  const Result<uint32_t> coding = in.Word(0, 0, {{"ans"}}, "how exponents are coded");
  if (!coding.ok()) return coding.error();
  return Args{1};
}

std::shared_ptr<const FrameCoder> SplitExpStage::Coder(const Args& a) {
  if (a.ans != 0) return MakeSplitAnsCoder();
  return std::make_shared<SplitExpCoder>();
}

}  // namespace kvasir
