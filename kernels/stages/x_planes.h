// SPDX-License-Identifier: Apache-2.0
// X:planes. The upper bits of all codes, then the lower bits of all codes: a frame may end in between, and a tier, a
// fetch or a draft model then does with the upper plane (QuantSpec, arXiv 2502.10424). After Q:hier.
//
// Packed: upper rows as P:bits | lower rows as P:bits. Each plane is an extent of its own in the store.
#pragma once

#include "kernels/stages/p_bits.h"

namespace kvasir {

struct PlanesStage {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kPacker;
  static constexpr StageInfo kInfo = {
      "X", "planes", "planes",
      "Upper and lower bits of Q:hier as two extents: the first decodes alone (QuantSpec, arXiv 2502.10424)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint64_t UpperBytes(const Args&, const CodeWidth& width, const FrameShape& shape) {
    return uint64_t{shape.heads} * shape.tokens * PackedRowBytes(width.bits - width.lower, shape.dim);
  }
  KVASIR_HD static uint64_t MaxBytes(const Args& a, const CodeWidth& width, const FrameShape& shape) {
    return UpperBytes(a, width, shape) + uint64_t{shape.heads} * shape.tokens * PackedRowBytes(width.lower, shape.dim);
  }
  template <class Run>
  static void Pack(Run& run, const Args& a, const CodeWidth& width, const ChainFrame& frame, const uint8_t* codes,
                   uint8_t* out) {
    const uint32_t dim = frame.shape.dim, upper = width.bits - width.lower, lower = width.lower;
    const uint64_t upper_bytes = UpperBytes(a, width, frame.shape), bytes = MaxBytes(a, width, frame.shape);
    ChainOutcome* outcome = frame.outcome;
    run(frame.rows(), [=] KVASIR_HD(uint64_t row) {
      const uint8_t* in = codes + row * dim;
      PackCut(upper, lower, in, dim, out + row * PackedRowBytes(upper, dim));
      PackCut(lower, 0, in, dim, out + upper_bytes + row * PackedRowBytes(lower, dim));
      if (row == 0) outcome->packed_bytes = static_cast<uint32_t>(bytes);
    });
  }
  template <class Run>
  static void Unpack(Run& run, const Args& a, const CodeWidth& width, const ChainFrame& frame, const uint8_t* in,
                     uint32_t bytes, uint8_t* codes) {
    const uint32_t dim = frame.shape.dim, upper = width.bits - width.lower, lower = width.lower;
    const uint64_t upper_bytes = UpperBytes(a, width, frame.shape);
    const bool whole = bytes == MaxBytes(a, width, frame.shape), right = whole || bytes == upper_bytes;
    ChainOutcome* outcome = frame.outcome;
    run(frame.rows(), [=] KVASIR_HD(uint64_t row) {
      if (!right) SetFault(outcome);
      for (uint32_t i = 0; i < dim; ++i) {
        uint32_t code = 0;
        if (right) code = UnpackedCode(upper, in + row * PackedRowBytes(upper, dim), dim, i) << lower;
        if (whole) code |= UnpackedCode(lower, in + upper_bytes + row * PackedRowBytes(lower, dim), dim, i);
        codes[row * dim + i] = static_cast<uint8_t>(code);
      }
    });
  }

 private:
  /// A row of `bits` bits of each code, from bit `shift` on.
  KVASIR_HD static void PackCut(uint32_t bits, uint32_t shift, const uint8_t* codes, uint32_t count, uint8_t* out) {
    const uint64_t bytes = PackedRowBytes(bits, count);
    for (uint32_t i = 0; i < bytes; ++i) out[i] = PackedByte(bits, codes, count, i, shift);
  }
};

}  // namespace kvasir
