// SPDX-License-Identifier: Apache-2.0
// Stages of chains in SIMD, over rows of floats that are multiples of 32: T:mean, T:norm, Q:lm, Q:fp8 and Q:nvfp4. Same
// bits as the stages' own bodies. A sum over the channels of a row keeps its order: each lane sums a row of its own.
#include "kernels/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/stage_rows.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>
#include <cmath>
#include <vector>

#include "hwy/highway.h"
#include "kernels/simd/bodies.h"
#include "kernels/simd/formats-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

bool TakeMeansAny(const FrameShape&, float*, uint8_t*) { return false; }
bool GiveMeansAny(const FrameShape&, const uint8_t*, float*) { return false; }
bool NormAny(const FrameShape&, float*, uint8_t*) { return false; }
bool QuantiseLmAny(uint32_t, const FrameShape&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseLmAny(uint32_t, const FrameShape&, const uint8_t*, const uint8_t*, float*) { return false; }
bool QuantiseFp8Any(const Fp8Stage::Args&, const FrameShape&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseFp8Any(const Fp8Stage::Args&, const FrameShape&, const uint8_t*, const uint8_t*, float*) {
  return false;
}
bool QuantiseNvfp4Any(const FrameShape&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseNvfp4Any(const FrameShape&, const uint8_t*, const uint8_t*, float*) { return false; }

#else

using Bytes = hn::Rebind<uint8_t, LanesU32>;  // as many as there are floats

uint64_t RowsOf(const FrameShape& s) { return uint64_t{s.heads} * s.tokens; }

void AddToRows(const float* added, uint32_t rows, uint32_t dim, float* x) {
  const LanesF32 d;
  for (uint32_t row = 0; row < rows; ++row, x += dim) {
    for (uint32_t c = 0; c < dim; c += kFloatLanes) {
      hn::StoreU(hn::Add(hn::LoadU(d, x + c), hn::LoadU(d, added + c)), d, x + c);
    }
  }
}

/// T:mean. The sum of a channel runs over the tokens: neighbouring channels are neighbouring lanes.
bool TakeMeansAny(const FrameShape& s, float* x, uint8_t* section) {
  const LanesF32 d;
  std::vector<float> means(s.dim);
  for (uint32_t head = 0; head < s.heads; ++head, section += 2 * s.dim, x += uint64_t{s.tokens} * s.dim) {
    std::fill(means.begin(), means.end(), 0.0f);
    for (uint32_t t = 0; t < s.tokens; ++t) {
      for (uint32_t c = 0; c < s.dim; c += kFloatLanes) {
        const VecF32 v = hn::LoadU(d, x + uint64_t{t} * s.dim + c);
        hn::StoreU(hn::Add(hn::LoadU(d, means.data() + c), v), d, means.data() + c);
      }
    }
    for (uint32_t c = 0; c < s.dim; ++c) {
      const uint16_t mean = SaturatedFloat16(means[c] / static_cast<float>(s.tokens));
      Store16(section + 2 * c, mean);
      means[c] = -Float16ToFloat(mean);  // x - m is x + (-m)
    }
    AddToRows(means.data(), s.tokens, s.dim, x);
  }
  return true;
}

bool GiveMeansAny(const FrameShape& s, const uint8_t* section, float* x) {
  std::vector<float> means(s.dim);
  for (uint32_t head = 0; head < s.heads; ++head, section += 2 * s.dim, x += uint64_t{s.tokens} * s.dim) {
    for (uint32_t c = 0; c < s.dim; ++c) means[c] = Float16ToFloat(Load16(section + 2 * c));
    AddToRows(means.data(), s.tokens, s.dim, x);
  }
  return true;
}

/// The sums of squares, in the order of the channels, of `rows` rows, at most kFloatLanes.
void SumSquares(const float* x, uint32_t dim, uint32_t rows, float* sums) {
  if (rows == kFloatLanes) {
    const LanesF32 d;
    const Vec32 starts = hn::Mul(hn::Iota(Lanes32(), 0), hn::Set(Lanes32(), static_cast<int32_t>(dim)));
    VecF32 sum = hn::Zero(d);
    for (uint32_t c = 0; c < dim; ++c) {
      const VecF32 v = hn::GatherIndex(d, x + c, starts);
      sum = hn::Add(sum, hn::Mul(v, v));
    }
    hn::StoreU(sum, d, sums);
    return;
  }
  for (uint32_t row = 0; row < rows; ++row, x += dim) {
    sums[row] = 0;
    for (uint32_t c = 0; c < dim; ++c) sums[row] += x[c] * x[c];
  }
}

/// body(first row, rows, sums of their squares) for as many rows at a time as there are lanes.
template <class Do>
void ForEachSums(const FrameShape& s, const float* x, const Do& body) {
  float sums[kFloatLanes];
  for (uint64_t row = 0; row < RowsOf(s); row += kFloatLanes) {
    const uint32_t rows = static_cast<uint32_t>(RowsOf(s) - row < kFloatLanes ? RowsOf(s) - row : kFloatLanes);
    SumSquares(x + row * s.dim, s.dim, rows, sums);
    body(row, rows, sums);
  }
}

bool NormAny(const FrameShape& s, float* x, uint8_t* section) {
  const LanesF32 d;
  ForEachSums(s, x, [&](uint64_t first, uint32_t rows, const float* squares) {
    for (uint32_t r = 0; r < rows; ++r) {
      const uint16_t root = SaturatedFloat16(std::sqrt(squares[r] / static_cast<float>(s.dim)));
      Store16(section + 2 * (first + r), root);
      const float inverse = Float16ToFloat(root) > 0 ? 1.0f / Float16ToFloat(root) : 0.0f;
      float* at = x + (first + r) * s.dim;
      for (uint32_t c = 0; c < s.dim; c += kFloatLanes) {
        hn::StoreU(hn::Mul(hn::LoadU(d, at + c), F32(inverse)), d, at + c);
      }
    }
  });
  return true;
}

/// The levels of Q:lm, and the middles between them.
struct LmLevels {
  explicit LmLevels(uint32_t bits) : count(1u << bits) {
    for (uint32_t i = 0; i < count; ++i) level[i] = LmStage::Level(bits, i);
    for (uint32_t i = 0; i + 1 < count; ++i) middle[i] = 0.5f * (level[i] + level[i + 1]);
  }
  uint32_t count;
  float level[16], middle[16];
};

/// The codes of a row, and the levels they stand for.
void LmRow(const LmLevels& lm, uint32_t dim, float inverse, const float* in, uint8_t* codes, float* levels) {
  const LanesF32 d;
  for (uint32_t c = 0; c < dim; c += kFloatLanes) {
    const VecF32 v = hn::Mul(hn::LoadU(d, in + c), F32(inverse));
    VecF32 level = F32(lm.level[0]);
    Vec32 code = hn::Zero(Lanes32());
    for (uint32_t i = 0; i + 1 < lm.count; ++i) {
      const auto above = hn::Gt(v, F32(lm.middle[i]));
      level = hn::IfThenElse(above, F32(lm.level[i + 1]), level);
      code = hn::Sub(code, hn::BitCast(Lanes32(), hn::VecFromMask(d, above)));
    }
    hn::StoreU(level, d, levels + c);
    hn::StoreU(hn::TruncateTo(Bytes(), hn::BitCast(LanesU32(), code)), Bytes(), codes + c);
  }
}

bool QuantiseLmAny(uint32_t bits, const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes) {
  const LmLevels lm(bits);
  std::vector<float> levels(uint64_t{kFloatLanes} * s.dim);
  ForEachSums(s, x, [&](uint64_t first, uint32_t rows, const float* squares) {
    for (uint32_t r = 0; r < rows; ++r) {
      const float inverse = squares[r] > 0 ? 1.0f / std::sqrt(squares[r] / static_cast<float>(s.dim)) : 0.0f;
      const uint64_t at = (first + r) * s.dim;
      LmRow(lm, s.dim, inverse, x + at, codes + at, levels.data() + uint64_t{r} * s.dim);
    }
    float of_levels[kFloatLanes];
    SumSquares(levels.data(), s.dim, rows, of_levels);
    for (uint32_t r = 0; r < rows; ++r) {
      Store16(section + 2 * (first + r), SaturatedFloat16(std::sqrt(squares[r]) / std::sqrt(of_levels[r])));
    }
  });
  return true;
}

/// The values that codes stand for, whatever they are.
struct CodeValues {
  template <class ValueOf>
  explicit CodeValues(const ValueOf& value_of) {
    for (uint32_t code = 0; code < 256; ++code) values[code] = value_of(static_cast<uint8_t>(code));
  }
  float values[256];
};

/// `count` values times `scale`; a multiple of the lanes.
HWY_INLINE void ScaleValues(const CodeValues& of, const uint8_t* codes, uint32_t count, float scale, float* x) {
  const LanesF32 d;
  for (uint32_t i = 0; i < count; i += kFloatLanes) {
    const Vec32 code = hn::PromoteTo(Lanes32(), hn::LoadU(Bytes(), codes + i));
    hn::StoreU(hn::Mul(hn::GatherIndex(d, of.values, code), F32(scale)), d, x + i);
  }
}

bool DequantiseLmAny(uint32_t bits, const FrameShape& s, const uint8_t* section, const uint8_t* codes, float* x) {
  const CodeValues levels([=](uint8_t code) { return LmStage::Level(bits, code); });
  for (uint64_t row = 0; row < RowsOf(s); ++row, codes += s.dim, x += s.dim) {
    ScaleValues(levels, codes, s.dim, Float16ToFloat(Load16(section + 2 * row)), x);
  }
  return true;
}

/// The greatest magnitude.
float GreatestOf(const float* x, uint64_t count) {
  const LanesF32 d;
  VecF32 greatest = hn::Zero(d);
  for (uint64_t i = 0; i < count; i += kFloatLanes) greatest = hn::Max(greatest, hn::Abs(hn::LoadU(d, x + i)));
  return hn::GetLane(hn::MaxOfLanes(d, greatest));
}

/// FloatToFloat8E4M3 (kMantissa 3) or FloatToFloat8E5M2 (2) of |v| at most the largest, in the low byte.
template <int kMantissa>
HWY_INLINE VecU32 Float8Of(VecF32 v) {
  constexpr int kShift = 23 - kMantissa, kExponent = 7 - kMantissa;
  constexpr uint32_t kRebias = (127u - ((1u << (kExponent - 1)) - 1)) << 23;
  const VecU32 sign = hn::And(BitsOf(v), U32(0x80000000u)), magnitude = hn::Xor(BitsOf(v), sign);
  VecU32 normal = hn::Sub(magnitude, U32(kRebias));
  normal = hn::Add(hn::Add(normal, U32((1u << (kShift - 1)) - 1)), hn::And(hn::ShiftRight<kShift>(normal), U32(1)));
  normal = hn::ShiftRight<kShift>(normal);
  // Adding this makes the unit in the last place that of a subnormal: the sum rounds as wanted.
  const VecU32 unit = U32(kRebias + (static_cast<uint32_t>(kShift + 1) << 23));
  const VecU32 subnormal = hn::Sub(BitsOf(hn::Add(FloatOf(magnitude), FloatOf(unit))), unit);
  const VecU32 rounded = hn::IfThenElse(Below(magnitude, U32(kRebias + (1u << 23))), subnormal, normal);
  return hn::Or(rounded, hn::ShiftRight<24>(sign));
}

bool QuantiseFp8Any(const Fp8Stage::Args& args, const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes) {
  const LanesF32 d;
  const VecF32 largest = F32(Fp8Stage::Largest(args));
  for (uint64_t row = 0; row < RowsOf(s); ++row, x += s.dim, codes += s.dim) {
    float inverse = 1.0f;
    if (args.by_row != 0) {
      const float of_row = GreatestOf(x, s.dim);
      const uint16_t scale = Float16Above((of_row < 65504.0f ? of_row : 65504.0f) / Fp8Stage::Largest(args));
      Store16(section + 2 * row, scale);
      inverse = Float16ToFloat(scale) > 0 ? 1.0f / Float16ToFloat(scale) : 0.0f;
    }
    for (uint32_t c = 0; c < s.dim; c += kFloatLanes) {
      const VecF32 v = hn::Mul(hn::LoadU(d, x + c), F32(inverse));
      const VecF32 bounded = hn::Min(hn::Max(v, hn::Neg(largest)), largest);
      const VecU32 code = args.wide != 0 ? Float8Of<2>(bounded) : Float8Of<3>(bounded);
      hn::StoreU(hn::TruncateTo(Bytes(), code), Bytes(), codes + c);
    }
  }
  return true;
}

bool DequantiseFp8Any(const Fp8Stage::Args& args, const FrameShape& s, const uint8_t* section, const uint8_t* codes,
                      float* x) {
  const CodeValues values(
      [&](uint8_t code) { return args.wide != 0 ? Float8E5M2ToFloat(code) : Float8E4M3ToFloat(code); });
  for (uint64_t row = 0; row < RowsOf(s); ++row, codes += s.dim, x += s.dim) {
    ScaleValues(values, codes, s.dim, args.by_row != 0 ? Float16ToFloat(Load16(section + 2 * row)) : 1.0f, x);
  }
  return true;
}

/// Nvfp4Stage::Code of a block.
void Nvfp4Block(const float* x, float inverse, uint8_t* codes) {
  const LanesF32 d;
  for (uint32_t c = 0; c < Nvfp4Stage::kBlock; c += kFloatLanes) {
    const VecF32 v = hn::Mul(hn::LoadU(d, x + c), F32(inverse)), m = hn::Abs(v);
    Vec32 code = hn::Zero(Lanes32());
    for (uint32_t i = 0; i < 7; ++i) {
      const VecF32 middle = F32(0.5f * (Nvfp4Stage::Magnitude(i) + Nvfp4Stage::Magnitude(i + 1)));
      const auto above = (i & 1) == 0 ? hn::Gt(m, middle) : hn::Ge(m, middle);
      code = hn::Sub(code, hn::BitCast(Lanes32(), hn::VecFromMask(d, above)));
    }
    const VecU32 sign = hn::And(BitsOf(hn::VecFromMask(d, hn::Lt(v, hn::Zero(d)))), U32(8));
    hn::StoreU(hn::TruncateTo(Bytes(), hn::Or(hn::BitCast(LanesU32(), code), sign)), Bytes(), codes + c);
  }
}

bool QuantiseNvfp4Any(const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes) {
  constexpr uint32_t kBlock = Nvfp4Stage::kBlock;
  const uint64_t of_head = uint64_t{s.tokens} * s.dim;
  uint8_t* scales = section + 4 * uint64_t{s.heads};
  for (uint32_t head = 0; head < s.heads; ++head, section += 4) {
    const float head_scale = GreatestOf(x, of_head) / (448.0f * 6.0f);
    Store32(section, BitsOfFloat(head_scale));
    for (uint64_t i = 0; i < of_head; i += kBlock, x += kBlock, codes += kBlock, ++scales) {
      const float wanted = head_scale > 0 ? GreatestOf(x, kBlock) / 6.0f / head_scale : 0.0f;
      *scales = FloatToFloat8E4M3(wanted < 448.0f ? wanted : 448.0f);
      const float scale = Float8E4M3ToFloat(*scales) * head_scale;
      const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
      if (inverse < 3.0e38f) {
        Nvfp4Block(x, inverse, codes);
      } else {
        std::fill(codes, codes + kBlock, uint8_t{0});
      }
    }
  }
  return true;
}

bool DequantiseNvfp4Any(const FrameShape& s, const uint8_t* section, const uint8_t* codes, float* x) {
  constexpr uint32_t kBlock = Nvfp4Stage::kBlock;
  const CodeValues values([](uint8_t code) { return Nvfp4Stage::Value(code); });
  const CodeValues scale_values([](uint8_t code) { return Float8E4M3ToFloat(code); });
  const uint8_t* scales = section + 4 * uint64_t{s.heads};
  for (uint32_t head = 0; head < s.heads; ++head, section += 4) {
    const float head_scale = Nvfp4Stage::LoadFloat(section);
    for (uint64_t i = 0; i < uint64_t{s.tokens} * s.dim; i += kBlock, x += kBlock, codes += kBlock) {
      ScaleValues(values, codes, kBlock, scale_values.values[*scales++] * head_scale, x);
    }
  }
  return true;
}

#endif  // HWY_SCALAR
}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvasir::simd {
namespace {

bool HasRows(const FrameShape& s) { return s.dim % 32 == 0; }

}  // namespace

HWY_EXPORT(TakeMeansAny);
HWY_EXPORT(GiveMeansAny);
HWY_EXPORT(NormAny);
HWY_EXPORT(QuantiseLmAny);
HWY_EXPORT(DequantiseLmAny);
HWY_EXPORT(QuantiseFp8Any);
HWY_EXPORT(DequantiseFp8Any);
HWY_EXPORT(QuantiseNvfp4Any);
HWY_EXPORT(DequantiseNvfp4Any);

bool TakeMeans(const FrameShape& s, float* x, uint8_t* section) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(TakeMeansAny)(s, x, section);
}
bool GiveMeans(const FrameShape& s, const uint8_t* section, float* x) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(GiveMeansAny)(s, section, x);
}
bool Normalise(const FrameShape& s, float* x, uint8_t* section) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(NormAny)(s, x, section);
}
bool QuantiseLm(uint32_t bits, const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(QuantiseLmAny)(bits, s, x, section, codes);
}
bool DequantiseLm(uint32_t bits, const FrameShape& s, const uint8_t* section, const uint8_t* codes, float* x) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(DequantiseLmAny)(bits, s, section, codes, x);
}
bool QuantiseFp8(const Fp8Stage::Args& args, const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(QuantiseFp8Any)(args, s, x, section, codes);
}

bool DequantiseFp8(const Fp8Stage::Args& args, const FrameShape& s, const uint8_t* section, const uint8_t* codes,
                   float* x) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(DequantiseFp8Any)(args, s, section, codes, x);
}
bool QuantiseNvfp4(const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(QuantiseNvfp4Any)(s, x, section, codes);
}
bool DequantiseNvfp4(const FrameShape& s, const uint8_t* section, const uint8_t* codes, float* x) {
  return HasRows(s) && HWY_DYNAMIC_DISPATCH(DequantiseNvfp4Any)(s, section, codes, x);
}

}  // namespace kvasir::simd
#endif
