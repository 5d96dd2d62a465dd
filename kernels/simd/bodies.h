// SPDX-License-Identifier: Apache-2.0
// The SIMD bodies (Highway, chosen at run time). Each answers false when it has no body for that frame: the caller then
// runs the reference, which gives the same bits. A build without Highway has simd/absent.cc instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/stages/p_splitans.h"
#include "kernels/stages/p_splitexp.h"
#include "kernels/stages/q_fp8.h"
#include "kernels/stages/q_int.h"
#include "kernels/stages/q_lm.h"
#include "kernels/stages/q_nvfp4.h"
#include "kernels/stages/t_had.h"

namespace kvasir::simd {

/// The best instruction set of this CPU that has bodies, for example "AVX3"; "scalar" without Highway.
std::string TargetName();

/// memcpy, past the caches where the destination is memory.
void Copy(const uint8_t* from, uint8_t* to, uint64_t bytes, Destination destination);
/// Makes what was written past the caches visible before anything written later: once after a frame.
void Fence();

bool EncodeIntFrame(const IntFrame& f, const uint8_t* dense, uint8_t* frame, std::vector<std::byte>& scratch,
                    Destination destination);
/// REQUIRES: the frame has f.frame_bytes and finite parameters.
bool DecodeIntFrame(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch,
                    Destination destination);

/// T:had | Q:int | P:bits, whose frame is that of Q:int. As above.
bool EncodeRotatedFrame(const HadStage::Args& had, const IntFrame& f, const uint8_t* dense, uint8_t* frame,
                        std::vector<std::byte>& scratch, Destination destination);
bool DecodeRotatedFrame(const HadStage::Args& had, const IntFrame& f, const uint8_t* frame, uint8_t* dense,
                        std::vector<std::byte>& scratch, Destination destination);

// Steps of a chain (chain.h), over rows of floats and of codes that lie one behind the other. As above; where they
// answer false, they may have written a part.

/// ChainInput of `count` elements; and finite floats back, false where one is not.
bool LoadRows(ElementType type, const uint8_t* dense, uint64_t count, float* x);
bool StoreRows(ElementType type, const float* x, uint64_t count, uint8_t* dense);
/// HadStage::Forward, or Inverse where `back`.
bool RotateFloats(const HadStage::Args& had, uint32_t dim, bool back, uint32_t rows, float* x);
/// IntStage; `missing_bits` as in ChainFrame.
bool QuantiseInt(const IntFrame& f, const float* x, uint8_t* section, uint8_t* codes);
bool DequantiseInt(const IntFrame& f, uint32_t missing_bits, const uint8_t* section, const uint8_t* codes, float* x);
/// PackRow and UnpackRow of `rows` rows.
bool PackRows(uint32_t bits, const uint8_t* codes, uint32_t dim, uint64_t rows, uint8_t* out);
bool UnpackRows(uint32_t bits, const uint8_t* in, uint32_t dim, uint64_t rows, uint8_t* codes);

/// PlanesStage: `upper` and `lower` bits of each code.
bool PackPlanes(uint32_t upper, uint32_t lower, const uint8_t* codes, uint32_t dim, uint64_t rows, uint8_t* out,
                uint32_t& bytes);
bool UnpackPlanes(uint32_t upper, uint32_t lower, const uint8_t* in, uint64_t bytes, uint32_t dim, uint64_t rows,
                  uint8_t* codes);
/// MeanStage::Forward and Inverse; NormStage::Forward; LmStage, Fp8Stage and Nvfp4Stage.
bool TakeMeans(const FrameShape& s, float* x, uint8_t* section);
bool GiveMeans(const FrameShape& s, const uint8_t* section, float* x);
bool Normalise(const FrameShape& s, float* x, uint8_t* section);
bool QuantiseLm(uint32_t bits, const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes);
bool DequantiseLm(uint32_t bits, const FrameShape& s, const uint8_t* section, const uint8_t* codes, float* x);
bool QuantiseFp8(const Fp8Stage::Args& args, const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes);
bool DequantiseFp8(const Fp8Stage::Args& args, const FrameShape& s, const uint8_t* section, const uint8_t* codes,
                   float* x);
bool QuantiseNvfp4(const FrameShape& s, const float* x, uint8_t* section, uint8_t* codes);
bool DequantiseNvfp4(const FrameShape& s, const uint8_t* section, const uint8_t* codes, float* x);

/// One full chunk (kSplitChunk values) of bf16, see p_splitexp.h: fixed part and escapes. Answers false, with both
/// unspecified, when more than kSplitFewEscapes values escape: the reference then asks the histogram.
bool EncodeSplitChunk(const uint8_t* in, uint8_t* fixed, uint8_t* tail, SplitChunk& chunk, Destination destination);
/// The same back, escapes put in. REQUIRES: mode 0; the escapes ascend and lie in the chunk.
bool DecodeSplitChunk(const uint8_t* fixed, const uint8_t* tail, const SplitChunk& chunk, uint8_t* out,
                      Destination destination);

/// As EncodeSplitAnsChunk and DecodeSplitAnsChunk, for bf16 where the CPU has AVX-512 VBMI2. Answer 0, or false, where
/// there is no body; else `right` is DecodeSplitAnsChunk's answer.
uint32_t EncodeSplitAns(const SplitAnsCoding& coding, const SplitAnsEncode& chunk);
bool DecodeSplitAns(const SplitAnsCoding& coding, const SplitAnsDecode& chunk, bool& right);

}  // namespace kvasir::simd
