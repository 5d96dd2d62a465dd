// SPDX-License-Identifier: Apache-2.0
// The few marks that let one body be compiled for the CPU and for CUDA, and the bit casts both understand.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__CUDACC__)
#define KVASIR_HD __host__ __device__
#else
#define KVASIR_HD
#endif

/// A broken invariant: prints where and what, aborts. On in production; host code only.
#define KERNELS_CHECK(condition)                                                                 \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      std::fprintf(stderr, "kvasir: CHECK failed: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                              \
    }                                                                                            \
  } while (false)

namespace kvasir {

KVASIR_HD inline uint32_t BitsOfFloat(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

KVASIR_HD inline float FloatOfBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/// Little-endian loads and stores at any address.
KVASIR_HD inline uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
KVASIR_HD inline void Store16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v);
  p[1] = static_cast<uint8_t>(v >> 8);
}

KVASIR_HD inline uint32_t Load32(const uint8_t* p) { return Load16(p) | uint32_t{Load16(p + 2)} << 16; }
KVASIR_HD inline void Store32(uint8_t* p, uint32_t v) {
  Store16(p, v);
  Store16(p + 2, v >> 16);
}

/// Asks for the cache lines of [p, p + bytes) ahead of use, as bytes read once: they come to the first cache and push
/// nothing out of the others. Any address will do. Host code only. Always inlined: GCC drops calls of functions that
/// only prefetch.
__attribute__((always_inline)) inline void Prefetch(const uint8_t* p, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 0);
}

}  // namespace kvasir
