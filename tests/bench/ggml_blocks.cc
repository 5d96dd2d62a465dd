// SPDX-License-Identifier: Apache-2.0
// Row functions of Q4_0 and Q8_0, written from the layout.
#include "tests/bench/ggml_blocks.h"

#include <cmath>

#include "kernels/number_formats.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvasir::bench {

constexpr size_t kBlock = 32;

void EncodeQ4Plain(const float* values, size_t count, BlockQ4* out) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    float largest = 0, signed_largest = 0;
    for (size_t i = 0; i < kBlock; ++i) {
      if (std::fabs(values[i]) > largest) {
        largest = std::fabs(values[i]);
        signed_largest = values[i];
      }
    }
    const float scale = signed_largest / -8;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    out[b].scale = FloatToFloat16(scale);
    for (size_t i = 0; i < 16; ++i) {
      const int low = static_cast<int8_t>(values[i] * inverse + 8.5f);
      const int high = static_cast<int8_t>(values[i + 16] * inverse + 8.5f);
      out[b].codes[i] = static_cast<uint8_t>((low > 15 ? 15 : low) | (high > 15 ? 15 : high) << 4);
    }
  }
}

void DecodeQ4Plain(const BlockQ4* in, size_t count, float* values) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    const float scale = Float16ToFloat(in[b].scale);
    for (size_t i = 0; i < 16; ++i) {
      values[i] = static_cast<float>((in[b].codes[i] & 15) - 8) * scale;
      values[i + 16] = static_cast<float>((in[b].codes[i] >> 4) - 8) * scale;
    }
  }
}

void EncodeQ8Plain(const float* values, size_t count, BlockQ8* out) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    float largest = 0;
    for (size_t i = 0; i < kBlock; ++i) largest = std::fmax(largest, std::fabs(values[i]));
    const float scale = largest / 127;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    out[b].scale = FloatToFloat16(scale);
    for (size_t i = 0; i < kBlock; ++i) out[b].codes[i] = static_cast<int8_t>(std::roundf(values[i] * inverse));
  }
}

void DecodeQ8Plain(const BlockQ8* in, size_t count, float* values) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    const float scale = Float16ToFloat(in[b].scale);
    for (size_t i = 0; i < kBlock; ++i) values[i] = static_cast<float>(in[b].codes[i]) * scale;
  }
}

#if defined(__x86_64__)
#define KVASIR_AVX2 __attribute__((target("avx2,f16c")))

bool HasAvx2() { return __builtin_cpu_supports("avx2"); }  // every such CPU has F16C

namespace {

KVASIR_AVX2 float LargestMagnitude(const __m256 (&v)[4], bool with_sign) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 m = _mm256_andnot_ps(sign, v[0]);
  for (int i = 1; i < 4; ++i) m = _mm256_max_ps(m, _mm256_andnot_ps(sign, v[i]));
  __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  h = _mm_max_ps(h, _mm_movehl_ps(h, h));
  h = _mm_max_ss(h, _mm_movehdup_ps(h));
  const float largest = _mm_cvtss_f32(h);
  if (!with_sign) return largest;
  const __m256 negative = _mm256_set1_ps(-largest);
  for (int i = 0; i < 4; ++i) {
    if (_mm256_movemask_ps(_mm256_cmp_ps(v[i], negative, _CMP_EQ_OQ)) != 0) return -largest;
  }
  return largest;
}

/// 32 values as signed bytes in order.
KVASIR_AVX2 __m256i Bytes(const __m256i (&q)[4]) {
  const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  return _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

}  // namespace

KVASIR_AVX2 void EncodeQ4Avx2(const float* values, size_t count, BlockQ4* out) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    const __m256 v[4] = {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8), _mm256_loadu_ps(values + 16),
                         _mm256_loadu_ps(values + 24)};
    const float scale = LargestMagnitude(v, true) / -8;
    const __m256 inverse = _mm256_set1_ps(scale != 0 ? 1.0f / scale : 0.0f);
    out[b].scale = static_cast<uint16_t>(_cvtss_sh(scale, 0));
    __m256i q[4];
    for (int i = 0; i < 4; ++i) {
      q[i] = _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(v[i], inverse), _mm256_set1_ps(8.5f)));
    }
    const __m256i codes = _mm256_min_epi8(Bytes(q), _mm256_set1_epi8(15));
    const __m128i low = _mm256_castsi256_si128(codes), high = _mm256_extracti128_si256(codes, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out[b].codes), _mm_or_si128(low, _mm_slli_epi16(high, 4)));
  }
}

KVASIR_AVX2 void DecodeQ4Avx2(const BlockQ4* in, size_t count, float* values) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    const __m256 scale = _mm256_set1_ps(_cvtsh_ss(in[b].scale));
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[b].codes));
    const __m128i mask = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    const __m128i halves[2] = {_mm_sub_epi8(_mm_and_si128(bytes, mask), eight),
                               _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), eight)};
    for (int i = 0; i < 4; ++i) {
      const __m128i part = i % 2 == 0 ? halves[i / 2] : _mm_srli_si128(halves[i / 2], 8);
      _mm256_storeu_ps(values + 8 * i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(part)), scale));
    }
  }
}

KVASIR_AVX2 void EncodeQ8Avx2(const float* values, size_t count, BlockQ8* out) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    const __m256 v[4] = {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8), _mm256_loadu_ps(values + 16),
                         _mm256_loadu_ps(values + 24)};
    const float scale = LargestMagnitude(v, false) / 127;
    const __m256 inverse = _mm256_set1_ps(scale != 0 ? 1.0f / scale : 0.0f);
    out[b].scale = static_cast<uint16_t>(_cvtss_sh(scale, 0));
    __m256i q[4];
    for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[b].codes), Bytes(q));
  }
}

KVASIR_AVX2 void DecodeQ8Avx2(const BlockQ8* in, size_t count, float* values) {
  for (size_t b = 0; b < count / kBlock; ++b, values += kBlock) {
    const __m256 scale = _mm256_set1_ps(_cvtsh_ss(in[b].scale));
    for (int i = 0; i < 4; ++i) {
      const __m128i part = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in[b].codes + 8 * i));
      _mm256_storeu_ps(values + 8 * i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(part)), scale));
    }
  }
}

#else

bool HasAvx2() { return false; }
void EncodeQ4Avx2(const float*, size_t, BlockQ4*) {}
void DecodeQ4Avx2(const BlockQ4*, size_t, float*) {}
void EncodeQ8Avx2(const float*, size_t, BlockQ8*) {}
void DecodeQ8Avx2(const BlockQ8*, size_t, float*) {}

#endif

}  // namespace kvasir::bench
