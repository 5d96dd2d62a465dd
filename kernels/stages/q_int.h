// SPDX-License-Identifier: Apache-2.0
// Q:int. Uniform integer quantisation of groups, with fp16 parameters (KIVI, arXiv 2402.02750). CPU reference and CUDA
// body.
//
// A group is `group` tokens of one channel of one head (axis chan) or `group` channels of one token of one head (axis
// tok); the last group of an axis may be shorter. All arithmetic is float32, each operation rounded once, half to even:
//   input   x: NaN counts as 0; beyond +-65504 (the largest fp16) counts as +-65504
//   asym    z = min x, down to fp16;  s = (max x - z) / (2^b - 1), up to fp16;  code = round((x - z) * (1 / s))
//   sym     z = 0;  s = max|x| / (2^(b-1) - 1), up to fp16;                     code = round(x * (1 / s)) + 2^(b-1)
//   decode  x = (code [- 2^(b-1)]) * s + z, rounded to the element type
// s and z in the codes' formula are the stored fp16 values read back. Rounded outwards, they span the group: no code
// leaves its range, nothing is clipped, the error is at most half a step. s is 0 only where all values are equal: then
// the code is 0 (sym: 2^(b-1)). Max and min do not depend on order; a minimum of -0 is stored as +0. A code has at most
// 8 bits and s has 11, so the product of decode is exact: with or without a fused multiply-add the sum is the same.
//
// Frame: scales fp16[P] | zeros fp16[P] (asym only) | codes, packed rows of `dim` codes, [heads][tokens].
//   chan: P = heads * ceil(tokens / group) * dim, as [heads][token group][channel]
//   tok:  P = heads * tokens * ceil(dim / group), as [heads][token][channel group]
#pragma once

#include <cstdint>
#include <span>

#include "kernels/frame_coder.h"
#include "kernels/kv_layout.h"
#include "kernels/number_formats.h"
#include "kernels/portable.h"
#include "kernels/stages/p_bits.h"

namespace kvasir {

/// The arguments of Q:int.
struct IntSpec {
  uint32_t bits = 8;        ///< 8, 4, 3 or 2
  bool by_channel = false;  ///< axis chan; else tok
  uint32_t group = 0;       ///< 0 = the whole axis
  bool symmetric = false;
};

/// Where everything lies in a frame of one shape.
struct IntFrame {
  IntSpec spec;
  FrameShape shape;
  uint32_t group = 0;       ///< as used: at least 1, at most the axis
  uint32_t groups = 0;      ///< along the axis
  uint64_t parameters = 0;  ///< P
  uint64_t row_bytes = 0;   ///< one packed row of dim codes
  uint64_t zeros_at = 0;    ///< byte offset; meaningless when symmetric
  uint64_t codes_at = 0;
  uint64_t frame_bytes = 0;
};

KVASIR_HD inline IntFrame LayOutIntFrame(const IntSpec& spec, const FrameShape& shape) {
  IntFrame f;
  f.spec = spec;
  f.shape = shape;
  const uint32_t axis = spec.by_channel ? shape.tokens : shape.dim;
  f.group = spec.group == 0 || spec.group > axis ? axis : spec.group;
  f.groups = (axis + f.group - 1) / f.group;
  f.parameters = uint64_t{shape.heads} * f.groups * (spec.by_channel ? shape.dim : shape.tokens);
  f.row_bytes = PackedRowBytes(spec.bits, shape.dim);
  f.zeros_at = 2 * f.parameters;
  f.codes_at = f.zeros_at + (spec.symmetric ? 0 : 2 * f.parameters);
  f.frame_bytes = f.codes_at + uint64_t{shape.heads} * shape.tokens * f.row_bytes;
  return f;
}

inline constexpr float kIntInputMax = 65504.0f;  ///< the largest fp16; inputs beyond saturate

KVASIR_HD inline float IntInput(float x) {
  if (!(x == x)) return 0.0f;
  return x > kIntInputMax ? kIntInputMax : x < -kIntInputMax ? -kIntInputMax : x;
}

/// What a group is coded with.
struct IntParameters {
  uint16_t scale16 = 0;
  uint16_t zero16 = 0;
  float zero = 0;
  float inverse = 0;  ///< 1 / scale, or 0
};

/// From the least and greatest IntInput of a group.
KVASIR_HD inline IntParameters ChooseIntParameters(const IntSpec& spec, float least, float greatest) {
  IntParameters p;
  float range;
  float steps;
  if (spec.symmetric) {
    const float below = -least;
    range = greatest > below ? greatest : below;
    steps = static_cast<float>((1 << (spec.bits - 1)) - 1);
  } else {
    p.zero16 = Float16Below(least + 0.0f);  // -0 becomes +0
    p.zero = Float16ToFloat(p.zero16);
    range = greatest - p.zero;
    steps = static_cast<float>((1 << spec.bits) - 1);
  }
  if (!(range > 0.0f)) range = 0.0f;  // no -0
  p.scale16 = Float16Above(range / steps);
  const float scale = Float16ToFloat(p.scale16);
  p.inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  return p;
}

/// `x` is an IntInput of the group. The sum with 2^23 rounds to an integer, half to even, and leaves the code in the
/// low bits.
KVASIR_HD inline uint8_t IntCode(const IntSpec& spec, const IntParameters& p, float x) {
  const float middle = spec.symmetric ? static_cast<float>(1 << (spec.bits - 1)) : 0.0f;
  const float v = (x - p.zero) * p.inverse;
  return static_cast<uint8_t>(BitsOfFloat(v + (8388608.0f + middle)));
}

/// `code` is a whole number, or half of one where lower bits are missing: exact either way.
KVASIR_HD inline float IntValue(const IntSpec& spec, float code, float scale, float zero) {
  const float q = spec.symmetric ? code - static_cast<float>(1 << (spec.bits - 1)) : code;
  const float product = q * scale;
  return product + zero;
}

/// True for an fp16 that no encoder writes as a parameter: infinite or NaN.
KVASIR_HD inline bool IsBadParameter(uint16_t code) { return (code & 0x7C00) == 0x7C00; }

/// True when a parameter of `parameters`, pairs of bytes, is bad.
bool HasBadParameter(std::span<const uint8_t> parameters);

/// One group: `count` values, load(i), become codes `code_stride` bytes apart.
template <class Load>
KVASIR_HD inline IntParameters EncodeIntValues(const IntSpec& spec, uint32_t count, const Load& load, uint8_t* codes,
                                               uint64_t code_stride) {
  float least = kIntInputMax;
  float greatest = -kIntInputMax;
  for (uint32_t i = 0; i < count; ++i) {
    const float x = IntInput(load(i));
    least = x < least ? x : least;
    greatest = x > greatest ? x : greatest;
  }
  const IntParameters p = ChooseIntParameters(spec, least, greatest);
  for (uint32_t i = 0; i < count; ++i) codes[i * code_stride] = IntCode(spec, p, IntInput(load(i)));
  return p;
}

/// The same of elements of `type` at `in`, `stride` bytes apart.
KVASIR_HD inline IntParameters EncodeIntGroup(const IntSpec& spec, ElementType type, const uint8_t* in, uint64_t stride,
                                              uint32_t count, uint8_t* codes, uint64_t code_stride) {
  return EncodeIntValues(
      spec, count, [=](uint32_t i) { return LoadElement(type, in + i * stride); }, codes, code_stride);
}

/// Index of the parameters of (head, token, channel).
KVASIR_HD inline uint64_t IntParameterIndex(const IntFrame& f, uint32_t head, uint32_t token, uint32_t channel) {
  if (f.spec.by_channel) return (uint64_t{head} * f.groups + token / f.group) * f.shape.dim + channel;
  return (uint64_t{head} * f.shape.tokens + token) * f.groups + channel / f.group;
}

/// Stores the parameters of a group at its index.
KVASIR_HD inline void StoreIntParameters(const IntFrame& f, const IntParameters& p, uint64_t index, uint8_t* frame) {
  Store16(frame + 2 * index, p.scale16);
  if (!f.spec.symmetric) Store16(frame + f.zeros_at + 2 * index, p.zero16);
}

/// The elements that share one pair of parameters.
struct IntGroup {
  uint64_t head = 0;
  uint32_t token = 0, channel = 0;  ///< of the first
  uint32_t count = 0;
  uint32_t stride = 0;  ///< elements from one to the next
};

/// Group `index` in the order of the parameters: neighbouring indices have neighbouring channels on axis chan.
KVASIR_HD inline IntGroup IntGroupAt(const IntFrame& f, uint64_t index) {
  const uint32_t inner = f.spec.by_channel ? f.shape.dim : f.groups;
  const uint32_t outer = f.spec.by_channel ? f.groups : f.shape.tokens;
  const uint32_t in_row = static_cast<uint32_t>(index % inner);
  const uint32_t row = static_cast<uint32_t>(index / inner % outer);
  IntGroup g;
  g.head = index / inner / outer;
  g.token = f.spec.by_channel ? row * f.group : row;
  g.channel = f.spec.by_channel ? in_row : in_row * f.group;
  const uint32_t rest = f.spec.by_channel ? f.shape.tokens - g.token : f.shape.dim - g.channel;
  g.count = rest < f.group ? rest : f.group;
  g.stride = f.spec.by_channel ? f.shape.dim : 1;
  return g;
}

/// The float that `code` at (head, token, channel) stands for, with the parameters of `frame`.
KVASIR_HD inline float IntCodeValue(const IntFrame& f, const uint8_t* frame, uint32_t head, uint32_t token,
                                    uint32_t channel, float code) {
  const uint64_t index = IntParameterIndex(f, head, token, channel);
  const float scale = Float16ToFloat(Load16(frame + 2 * index));
  const float zero = f.spec.symmetric ? 0.0f : Float16ToFloat(Load16(frame + f.zeros_at + 2 * index));
  return IntValue(f.spec, code, scale, zero);
}

/// The decoded float of (head, token, channel).
KVASIR_HD inline float IntElement(const IntFrame& f, const uint8_t* frame, uint32_t head, uint32_t token,
                                  uint32_t channel) {
  const uint8_t* row = frame + f.codes_at + (uint64_t{head} * f.shape.tokens + token) * f.row_bytes;
  return IntCodeValue(f, frame, head, token, channel, UnpackedCode(f.spec.bits, row, f.shape.dim, channel));
}

/// The whole frame, the slow and plain way: what every other body must equal. `codes` holds tokens * dim bytes.
void EncodeIntFrameReference(const IntFrame& f, const uint8_t* dense, uint8_t* frame, uint8_t* codes);
void DecodeIntFrameReference(const IntFrame& f, const uint8_t* frame, uint8_t* dense);

/// The coder of Q:int | P:bits with nothing else: it has SIMD bodies.
std::shared_ptr<const FrameCoder> MakeIntCoder(const IntSpec& spec);

/// The stage in a chain: the section is `scales | zeros` as above.
struct IntStage {
  using Args = IntSpec;
  static constexpr StageRole kRole = StageRole::kQuantiser;
  static constexpr StageInfo kInfo = {
      "Q", "int", "int(bits,axis[,group[,sym|asym]])",
      "Uniform integers of 8, 4, 3 or 2 bits with fp16 scale (and zero) for each group of tokens (chan) or channels "
      "(tok) (KIVI, arXiv 2402.02750)"};
  static Result<Args> Read(const StageArguments& in);
  static std::string Print(const Args& args);
  /// Axis and group, from argument `first` on; and as they are printed, with a comma before.
  static Result<IntSpec> ReadGroups(const StageArguments& in, size_t first);
  static std::string PrintGroups(const IntSpec& spec);
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint32_t CodeBits(const Args& args) { return args.bits; }
  KVASIR_HD static uint64_t SectionBytes(const Args& args, const FrameShape& shape) {
    return LayOutIntFrame(args, shape).codes_at;
  }
  template <class Run>
  static void Quantise(Run& run, const Args& args, const ChainFrame& frame, const float* x, uint8_t* section,
                       uint8_t* codes) {
    const IntFrame f = LayOutIntFrame(args, frame.shape);
    if (!f.spec.by_channel && f.shape.dim % f.group == 0) {  // groups are rows
      RunRows<RowUse::kRead>(run, f.parameters, f.group, x, [=] KVASIR_HD(uint64_t index, const float* in) {
        const IntParameters p = EncodeIntValues(
            f.spec, f.group, [=](uint32_t i) { return in[i]; }, codes + index * f.group, 1);
        StoreIntParameters(f, p, index, section);
      });
      return;
    }
    run(f.parameters, [=] KVASIR_HD(uint64_t index) {
      const IntGroup g = IntGroupAt(f, index);
      const uint64_t at = (g.head * f.shape.tokens + g.token) * f.shape.dim + g.channel;
      const IntParameters p = EncodeIntValues(
          f.spec, g.count, [=](uint32_t i) { return x[at + uint64_t{i} * g.stride]; }, codes + at, g.stride);
      StoreIntParameters(f, p, index, section);
    });
  }
  template <class Run>
  static void Dequantise(Run& run, const Args& args, const ChainFrame& frame, const uint8_t* section,
                         const uint8_t* codes, float* x) {
    const IntFrame f = LayOutIntFrame(args, frame.shape);
    // A code whose lower bits are missing stands for the middle of what it may have been; 0 when none are.
    const float middle = 0.5f * static_cast<float>((1u << frame.missing_bits) - 1);
    RunRows<RowUse::kWrite>(run, frame.rows(), f.shape.dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const uint32_t head = static_cast<uint32_t>(row / f.shape.tokens);
      const uint32_t token = static_cast<uint32_t>(row % f.shape.tokens);
      for (uint32_t c = 0; c < f.shape.dim; ++c) {
        const uint8_t code = codes[row * f.shape.dim + c];
        at[c] = IntCodeValue(f, section, head, token, c, static_cast<float>(code) + middle);
      }
    });
  }
};

}  // namespace kvasir
