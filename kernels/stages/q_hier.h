// SPDX-License-Identifier: Apache-2.0
// Q:hier. Integers whose upper bits are an integer code of their own: a draft reads the upper part, a verifier both
// (QuantSpec, arXiv 2502.10424; the integer form of its two levels is ours).
//
// Codes of upper + lower bits as Q:int asym; X:planes cuts them there. With the upper part p alone a code stands for
// the middle of what it may have been: x^ = (p * 2^lower + (2^lower - 1) / 2) * s + z. Section: as Q:int.
#pragma once

#include "kernels/stages/q_int.h"

namespace kvasir {

struct HierStage {
  struct Args {
    IntSpec whole;
    uint32_t lower = 4;  ///< bits
  };
  static constexpr StageRole kRole = StageRole::kQuantiser;
  static constexpr StageInfo kInfo = {
      "Q", "hier", "hier(upper+lower,axis[,group])",
      "Integers whose upper bits stand alone: 4+4, 2+2, 2+1 or 6+2 bits (QuantSpec, arXiv 2502.10424)"};
  static Result<Args> Read(const StageArguments& in);
  static std::string Print(const Args& a);
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint32_t CodeBits(const Args& a) { return a.whole.bits; }
  KVASIR_HD static uint32_t LowerBits(const Args& a) { return a.lower; }
  KVASIR_HD static uint64_t SectionBytes(const Args& a, const FrameShape& s) {
    return IntStage::SectionBytes(a.whole, s);
  }
  template <class Run>
  static void Quantise(Run& run, const Args& a, const ChainFrame& frame, const float* x, uint8_t* section,
                       uint8_t* codes) {
    IntStage::Quantise(run, a.whole, frame, x, section, codes);
  }
  template <class Run>
  static void Dequantise(Run& run, const Args& a, const ChainFrame& frame, const uint8_t* section, const uint8_t* codes,
                         float* x) {
    IntStage::Dequantise(run, a.whole, frame, section, codes, x);
  }
};

}  // namespace kvasir
