// SPDX-License-Identifier: Apache-2.0
// R:out. The outliers of every vector kept exactly, the rest then needs a smaller range (GEAR, arXiv 2403.05527;
// KVQuant, arXiv 2401.18079; QAQ, arXiv 2403.04643).
//
// A vector is a channel over the tokens of a head (chan) or a token over its channels (tok). Of its m values the k
// greatest and the k least, k = share * m / 2 rounded, at least 1 and at most m / 2, are stored as (index, fp16) and
// replaced by the mean of the others. Of equal values the lower index counts as greater, and as less. Sums in index
// order. Section: for each vector k greatest, then k least: index u8 (u16 when m > 256), value fp16.
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct OutStage {
  struct Args {
    uint32_t share = 20000;  ///< millionths
    uint32_t by_channel = 0;
  };
  static constexpr uint32_t kSideMax = 64;  ///< k
  static constexpr StageRole kRole = StageRole::kTransform;
  static constexpr StageInfo kInfo = {
      "R", "out", "out(share,axis)",
      "The greatest and least values of every channel (chan) or token (tok) kept in fp16 (GEAR, arXiv 2403.05527)"};
  static Result<Args> Read(const StageArguments& in);
  static std::string Print(const Args& a) { return PrintShare(a.share) + (a.by_channel != 0 ? ",chan" : ",tok"); }
  static Result<bool> Check(const Args& a, const FrameShape& shape);

  KVASIR_HD static uint32_t Length(const Args& a, const FrameShape& s) { return a.by_channel != 0 ? s.tokens : s.dim; }
  KVASIR_HD static uint64_t Vectors(const Args& a, const FrameShape& s) {
    return uint64_t{s.heads} * (a.by_channel != 0 ? s.dim : s.tokens);
  }
  KVASIR_HD static uint32_t Side(const Args& a, const FrameShape& s) {
    const uint32_t length = Length(a, s);
    const uint64_t k = (uint64_t{a.share} * length + 1000000) / 2000000;
    return k == 0 && length > 1 ? 1 : static_cast<uint32_t>(k < length / 2 ? k : length / 2);
  }
  KVASIR_HD static uint32_t ItemBytes(const Args& a, const FrameShape& s) { return Length(a, s) > 256 ? 4 : 3; }
  KVASIR_HD static uint64_t SectionBytes(const Args& a, const FrameShape& s) {
    return Vectors(a, s) * 2 * Side(a, s) * ItemBytes(a, s);
  }
  /// Where vector `v` begins, and from one value to the next.
  KVASIR_HD static uint64_t First(const Args& a, const FrameShape& s, uint64_t v) {
    return a.by_channel != 0 ? v / s.dim * s.tokens * s.dim + v % s.dim : v * s.dim;
  }
  KVASIR_HD static uint32_t Stride(const Args& a, const FrameShape& s) { return a.by_channel != 0 ? s.dim : 1; }

  /// Takes the next greatest (or least) of `x` that comes after (`bound`, `after`) in the order of the stage.
  KVASIR_HD static uint32_t Next(const float* x, uint32_t length, uint32_t stride, bool greatest, float bound,
                                 uint32_t after, bool first) {
    uint32_t best = length;
    for (uint32_t i = 0; i < length; ++i) {
      const float v = x[uint64_t{i} * stride];
      const bool taken = !first && (greatest ? v > bound : v < bound);
      if (taken || (!first && v == bound && i <= after)) continue;
      if (best == length || (greatest ? v > x[uint64_t{best} * stride] : v < x[uint64_t{best} * stride])) best = i;
    }
    return best;
  }
  KVASIR_HD static void StoreItem(uint32_t item_bytes, uint32_t index, float value, uint8_t* out) {
    out[0] = static_cast<uint8_t>(index);
    if (item_bytes == 4) out[1] = static_cast<uint8_t>(index >> 8);
    Store16(out + item_bytes - 2, SaturatedFloat16(value));
  }
  KVASIR_HD static uint32_t LoadIndex(uint32_t item_bytes, const uint8_t* in) {
    return item_bytes == 4 ? Load16(in) : in[0];
  }

  template <class Run>
  static void Forward(Run& run, const Args& a, const ChainFrame& frame, float* x, uint8_t* section) {
    const FrameShape s = frame.shape;
    run(Vectors(a, s), [=] KVASIR_HD(uint64_t v) {
      float* at = x + First(a, s, v);
      const uint32_t length = Length(a, s), stride = Stride(a, s), side = Side(a, s), bytes = ItemBytes(a, s);
      uint8_t* out = section + v * 2 * side * bytes;
      float taken = 0;
      for (uint32_t both = 0; both < 2; ++both) {
        uint32_t index = 0;
        float bound = 0;
        for (uint32_t k = 0; k < side; ++k, out += bytes) {
          index = Next(at, length, stride, both == 0, bound, index, k == 0);
          bound = at[uint64_t{index} * stride];
          StoreItem(bytes, index, bound, out);
        }
      }
      const uint8_t* items = section + v * 2 * side * bytes;
      float sum = 0;
      uint32_t others = 0;
      for (uint32_t i = 0; i < length; ++i) {
        bool kept = false;
        for (uint32_t k = 0; k < 2 * side; ++k) kept = kept || LoadIndex(bytes, items + k * bytes) == i;
        if (kept) continue;
        sum += at[uint64_t{i} * stride];
        ++others;
      }
      taken = others > 0 ? sum / static_cast<float>(others) : 0.0f;
      for (uint32_t k = 0; k < 2 * side; ++k) at[uint64_t{LoadIndex(bytes, items + k * bytes)} * stride] = taken;
    });
  }
  template <class Run>
  static void Inverse(Run& run, const Args& a, const ChainFrame& frame, const uint8_t* section, float* x) {
    const FrameShape s = frame.shape;
    ChainOutcome* outcome = frame.outcome;
    run(Vectors(a, s), [=] KVASIR_HD(uint64_t v) {
      float* at = x + First(a, s, v);
      const uint32_t length = Length(a, s), stride = Stride(a, s), side = Side(a, s), bytes = ItemBytes(a, s);
      const uint8_t* items = section + v * 2 * side * bytes;
      for (uint32_t k = 0; k < 2 * side; ++k, items += bytes) {
        const uint32_t index = LoadIndex(bytes, items);
        if (index >= length) {
          SetFault(outcome);
        } else {
          at[uint64_t{index} * stride] = Float16ToFloat(Load16(items + bytes - 2));
        }
      }
    });
  }
};

}  // namespace kvasir
