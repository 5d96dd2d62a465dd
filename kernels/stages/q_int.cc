// SPDX-License-Identifier: Apache-2.0
// The arguments of Q:int, and the coder of Q:int | P:bits alone: lengths, damage, and the choice between the SIMD
// bodies and the reference.
#include "kernels/stages/q_int.h"

#include <algorithm>
#include <cstring>

#include "kernels/simd/bodies.h"

namespace kvasir {
namespace {

constexpr uint32_t kIntDefaultTokens = 32;  // KIVI's group along tokens

constexpr uint32_t kBytesAhead = 2048;  // of codes, asked for before the parameters are looked at

/// Groups of the same head: all codes first, then the rows are packed.
void EncodeIntHead(const IntFrame& f, uint32_t head, const uint8_t* in, uint8_t* frame, uint8_t* codes) {
  const uint32_t element = ElementBytes(f.shape.element);
  const uint64_t in_head = f.parameters / f.shape.heads;
  for (uint64_t index = head * in_head; index < (head + 1) * in_head; ++index) {
    const IntGroup g = IntGroupAt(f, index);
    const uint64_t at = uint64_t{g.token} * f.shape.dim + g.channel;
    const IntParameters p =
        EncodeIntGroup(f.spec, f.shape.element, in + at * element, g.stride * element, g.count, codes + at, g.stride);
    StoreIntParameters(f, p, index, frame);
  }
}

class IntCoder final : public FrameCoder {
 public:
  explicit IntCoder(const IntSpec& spec) : spec_(spec) {}
  bool lossless() const override { return false; }
  DeviceCoder device_coder() const override { return {DeviceCoder::Kind::kInt, &spec_}; }
  Result<bool> Check(const FrameShape&) const override { return true; }
  uint64_t MaxFrameBytes(const FrameShape& shape) const override { return LayOutIntFrame(spec_, shape).frame_bytes; }

  std::vector<FrameSection> Sections(const FrameShape& shape) const override {
    const IntFrame f = LayOutIntFrame(spec_, shape);
    return {{"Q:int", f.codes_at}, {"P:bits", f.frame_bytes - f.codes_at}};
  }

  uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>& scratch,
                  Destination destination, const FrameInputs&) const override {
    const IntFrame f = LayOutIntFrame(spec_, shape);
    if (!simd::EncodeIntFrame(f, dense, out, scratch, destination)) {
      const uint64_t bytes = uint64_t{shape.tokens} * shape.dim;
      if (scratch.size() < bytes) scratch.resize(bytes);
      EncodeIntFrameReference(f, dense, out, reinterpret_cast<uint8_t*>(scratch.data()));
    }
    return f.frame_bytes;
  }

  Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                      std::vector<std::byte>& scratch, Destination destination) const override {
    const IntFrame f = LayOutIntFrame(spec_, shape);
    if (frame.size() != f.frame_bytes) {
      return Error{ErrorCode::kDataLoss, "int frame has " + std::to_string(frame.size()) + " bytes, its shape needs " +
                                             std::to_string(f.frame_bytes)};
    }
    Prefetch(frame.data(), std::min<uint64_t>(frame.size(), f.codes_at + kBytesAhead));
    if (HasBadParameter(frame.first(f.codes_at))) {
      return Error{ErrorCode::kDataLoss, "int frame: a scale or zero is not finite"};
    }
    if (!simd::DecodeIntFrame(f, frame.data(), dense, scratch, destination))
      DecodeIntFrameReference(f, frame.data(), dense);
    return true;
  }

 private:
  const IntSpec spec_;
};

}  // namespace

/// Four fp16 at a time: an exponent of all ones plus one carries into the place of the sign.
bool HasBadParameter(std::span<const uint8_t> parameters) {
  constexpr uint64_t kExponents = 0x7C007C007C007C00u, kOnes = 0x0400040004000400u, kSigns = 0x8000800080008000u;
  uint64_t bad = 0;
  size_t at = 0;
  for (; at + 8 <= parameters.size(); at += 8) {
    uint64_t four;
    std::memcpy(&four, parameters.data() + at, sizeof four);
    bad |= (four & kExponents) + kOnes;
  }
  for (; at < parameters.size(); at += 2) bad |= IsBadParameter(Load16(parameters.data() + at)) ? kSigns : 0;
  return (bad & kSigns) != 0;
}

void EncodeIntFrameReference(const IntFrame& f, const uint8_t* dense, uint8_t* frame, uint8_t* codes) {
  const uint64_t head_bytes = uint64_t{f.shape.tokens} * f.shape.dim * ElementBytes(f.shape.element);
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    EncodeIntHead(f, head, dense + head * head_bytes, frame, codes);
    uint8_t* rows = frame + f.codes_at + uint64_t{head} * f.shape.tokens * f.row_bytes;
    for (uint32_t token = 0; token < f.shape.tokens; ++token) {
      PackRow(f.spec.bits, codes + uint64_t{token} * f.shape.dim, f.shape.dim, rows + token * f.row_bytes);
    }
  }
}

void DecodeIntFrameReference(const IntFrame& f, const uint8_t* frame, uint8_t* dense) {
  const uint32_t element = ElementBytes(f.shape.element);
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    for (uint32_t token = 0; token < f.shape.tokens; ++token) {
      for (uint32_t channel = 0; channel < f.shape.dim; ++channel, dense += element) {
        StoreElement(f.shape.element, IntElement(f, frame, head, token, channel), dense);
      }
    }
  }
}

Result<IntSpec> IntStage::Read(const StageArguments& in) {
  if (Result<bool> counted = in.Count(2, 4); !counted.ok()) return counted.error();
  const Result<uint32_t> bits = in.Number(0, 8, 2, 8, "bits: 8, 4, 3 or 2");
  if (!bits.ok()) return bits.error();
  if (*bits > 4 && *bits != 8) return in.Refuse(0, "bits: 8, 4, 3 or 2");
  Result<IntSpec> spec = ReadGroups(in, 1);
  if (!spec.ok()) return spec.error();
  spec->bits = *bits;
  const Result<uint32_t> symmetric = in.Word(3, 0, {{"asym", "sym"}}, "range");
  if (!symmetric.ok()) return symmetric.error();
  spec->symmetric = *symmetric == 1;
  return spec;
}

Result<IntSpec> IntStage::ReadGroups(const StageArguments& in, size_t first) {
  IntSpec spec;
  const Result<uint32_t> axis = in.Word(first, 0, {{"tok", "chan"}}, "axis");
  if (!axis.ok()) return axis.error();
  spec.by_channel = *axis == 1;
  const Result<uint32_t> group =
      in.Number(first + 1, spec.by_channel ? kIntDefaultTokens : 0, 0, kGroupMax, "group size, 0 for the whole axis");
  if (!group.ok()) return group.error();
  spec.group = *group;
  return spec;
}

std::string IntStage::PrintGroups(const IntSpec& spec) {
  return (spec.by_channel ? ",chan," : ",tok,") + std::to_string(spec.group);
}

std::string IntStage::Print(const IntSpec& spec) {
  return std::to_string(spec.bits) + PrintGroups(spec) + (spec.symmetric ? ",sym" : ",asym");
}

std::shared_ptr<const FrameCoder> MakeIntCoder(const IntSpec& spec) { return std::make_shared<IntCoder>(spec); }

}  // namespace kvasir
