// SPDX-License-Identifier: Apache-2.0
// One line in, then as many lines out as keep pace.
#include "tests/bench/move_bytes.h"

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace kvasir::bench {
namespace {

constexpr size_t kLine = 64, kAhead = 4096;

#if defined(__SSE2__)

struct Line {
  __m128i a, b, c, d;
};

Line Load(const std::byte* p) {
  const auto* q = reinterpret_cast<const __m128i*>(p);
  return {_mm_load_si128(q), _mm_load_si128(q + 1), _mm_load_si128(q + 2), _mm_load_si128(q + 3)};
}

void Add(Line& sum, const Line& x) {
  sum = {_mm_add_epi64(sum.a, x.a), _mm_add_epi64(sum.b, x.b), _mm_add_epi64(sum.c, x.c), _mm_add_epi64(sum.d, x.d)};
}

void Write(const Line& x, std::byte* p) {
  auto* q = reinterpret_cast<__m128i*>(p);
  _mm_stream_si128(q, x.a);
  _mm_stream_si128(q + 1, x.b);
  _mm_stream_si128(q + 2, x.c);
  _mm_stream_si128(q + 3, x.d);
}

#else

struct Line {
  uint64_t words[8];
};

Line Load(const std::byte* p) {
  Line x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

void Add(Line& sum, const Line& x) {
  for (int i = 0; i < 8; ++i) sum.words[i] += x.words[i];
}

void Write(const Line& x, std::byte* p) { std::memcpy(p, &x, sizeof x); }

#endif

}  // namespace

void MoveBytes(std::span<const std::byte> in, std::span<std::byte> out) {
  const size_t in_lines = in.size() / kLine, out_lines = out.size() / kLine;
  Line sum = {};
  size_t written = 0, due = 0;
  for (size_t i = 0; i < in_lines; ++i) {
    __builtin_prefetch(in.data() + i * kLine + kAhead, 0, 0);
    Add(sum, Load(in.data() + i * kLine));
    for (due += out_lines; due >= in_lines; due -= in_lines) Write(sum, out.data() + kLine * written++);
  }
}

}  // namespace kvasir::bench
