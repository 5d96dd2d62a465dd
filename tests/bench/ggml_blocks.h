// SPDX-License-Identifier: Apache-2.0
// The reference of goal C3: rows in the published block layouts Q4_0 and Q8_0 of ggml (blocks of 32 values, one fp16
// scale; Q4_0: 16 bytes, value i in the low nibble of byte i, value i + 16 in the high one, code 8 is zero; Q8_0: 32
// signed bytes). Plain C at -O3 and AVX2. `count` is a multiple of 32; `values` are float32, as ggml's row functions
// take and give them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvasir::bench {

struct BlockQ4 {
  uint16_t scale;
  uint8_t codes[16];
};
struct BlockQ8 {
  uint16_t scale;
  int8_t codes[32];
};
static_assert(sizeof(BlockQ4) == 18 && sizeof(BlockQ8) == 34);

void EncodeQ4Plain(const float* values, size_t count, BlockQ4* out);
void DecodeQ4Plain(const BlockQ4* in, size_t count, float* values);
void EncodeQ8Plain(const float* values, size_t count, BlockQ8* out);
void DecodeQ8Plain(const BlockQ8* in, size_t count, float* values);

/// True where the AVX2 ones may be called.
bool HasAvx2();
void EncodeQ4Avx2(const float* values, size_t count, BlockQ4* out);
void DecodeQ4Avx2(const BlockQ4* in, size_t count, float* values);
void EncodeQ8Avx2(const float* values, size_t count, BlockQ8* out);
void DecodeQ8Avx2(const BlockQ8* in, size_t count, float* values);

}  // namespace kvasir::bench
