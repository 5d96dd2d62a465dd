// SPDX-License-Identifier: Apache-2.0
// The chunks of P:splitexp(ans) for bf16 with AVX-512 VBMI2: the same bytes as p_splitans_chunk.cc, 64 lanes a
// register. States are kept as two planes of bytes: the low one is the slot that names the symbol (rans.h), a lookup
// among 256. Intrinsics, not Highway: its portable forms of these lookups, compressions and expansions are slower than
// the scalar bodies elsewhere.
#include "kernels/simd/bodies.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <algorithm>

#define VBMI_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2")))
#define VBMI_INLINE VBMI_TARGET inline __attribute__((always_inline))

namespace kvasir::simd {
namespace {

constexpr uint32_t kLanes = kSplitAnsLanes;
static_assert(kLanes == 64, "a register of bytes");

bool HasVbmi() {
  static const bool has = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
  return has;
}

/// 256 bytes to look up in.
struct Table {
  __m512i quarter[4];
};

VBMI_INLINE __m512i Load(const uint8_t* p) { return _mm512_loadu_si512(p); }
VBMI_INLINE __m512i U8(uint32_t v) { return _mm512_set1_epi8(static_cast<char>(v)); }
VBMI_INLINE Table LoadTable(const uint8_t* bytes) {
  return {{Load(bytes), Load(bytes + 64), Load(bytes + 128), Load(bytes + 192)}};
}
VBMI_INLINE __m512i LookUp(const Table& t, __m512i index) {
  const __m512i lower = _mm512_permutex2var_epi8(t.quarter[0], index, t.quarter[1]);
  const __m512i upper = _mm512_permutex2var_epi8(t.quarter[2], index, t.quarter[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), lower, upper);
}
constexpr uint64_t FirstLanes(uint32_t lanes) { return lanes >= 64 ? ~uint64_t{0} : (uint64_t{1} << lanes) - 1; }

/// The bytes of `mask` in front of `at`, in order of lanes.
VBMI_INLINE void PushBytes(__m512i bytes, uint64_t mask, uint8_t*& at) {
  const uint32_t count = static_cast<uint32_t>(__builtin_popcountll(mask));
  at -= count;
  _mm512_mask_storeu_epi8(at, FirstLanes(count), _mm512_maskz_compress_epi8(mask, bytes));
}

/// floor(x / f) and the rest, of 32 lanes of 16 bits. `inverse` is floor(2^16 / f), so that its product is at most one
/// too low; for f = 1 it is 2^16 - 1, which is one too low for every x that occurs.
VBMI_INLINE __m512i Divide(__m512i x, __m512i f, __m512i inverse, __m512i& rest) {
  __m512i quotient = _mm512_mulhi_epu16(x, inverse);
  rest = _mm512_sub_epi16(x, _mm512_mullo_epi16(quotient, f));
  const __mmask32 more = _mm512_cmpge_epu16_mask(rest, f);
  rest = _mm512_mask_sub_epi16(rest, more, rest, f);
  return _mm512_mask_add_epi16(quotient, more, quotient, _mm512_set1_epi16(1));
}

/// What a push needs, by symbol.
struct PushTables {
  Table frequency, first, inverse_low, inverse_high;
};
VBMI_INLINE PushTables MakePushTables(const SplitAnsModel& m) {
  alignas(64) uint8_t frequency[256], first[256], low[256], high[256];
  for (uint32_t s = 0; s < 256; ++s) {
    const uint32_t f = m.frequency[m.index[s]], inverse = f == 1 ? 65535 : 65536 / f;
    frequency[s] = static_cast<uint8_t>(f);
    first[s] = m.first[m.index[s]];
    low[s] = static_cast<uint8_t>(inverse);
    high[s] = static_cast<uint8_t>(inverse >> 8);
  }
  return {LoadTable(frequency), LoadTable(first), LoadTable(low), LoadTable(high)};
}

struct States {
  __m512i low, high;
};

/// One step: symbols of `lanes` into the states, bytes in front of `at`.
VBMI_INLINE void Push(const PushTables& t, __m512i escape_first, __m512i symbols, uint64_t lanes, States& states,
                      uint8_t*& at) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i f = LookUp(t.frequency, symbols), first = LookUp(t.first, symbols);
  const __m512i inverse_low = LookUp(t.inverse_low, symbols), inverse_high = LookUp(t.inverse_high, symbols);
  const uint64_t emits = _mm512_mask_cmpge_epu8_mask(lanes, states.high, f);
  PushBytes(states.low, emits, at);
  PushBytes(symbols, _mm512_mask_cmpeq_epu8_mask(lanes, first, escape_first), at);
  const __m512i x_low = _mm512_mask_mov_epi8(states.low, emits, states.high);
  const __m512i x_high = _mm512_maskz_mov_epi8(~emits, states.high);
  __m512i rest_a, rest_b;
  const __m512i a = Divide(_mm512_unpacklo_epi8(x_low, x_high), _mm512_unpacklo_epi8(f, zero),
                           _mm512_unpacklo_epi8(inverse_low, inverse_high), rest_a);
  const __m512i b = Divide(_mm512_unpackhi_epi8(x_low, x_high), _mm512_unpackhi_epi8(f, zero),
                           _mm512_unpackhi_epi8(inverse_low, inverse_high), rest_b);
  states.high = _mm512_mask_mov_epi8(states.high, lanes, _mm512_packus_epi16(a, b));
  states.low = _mm512_mask_mov_epi8(states.low, lanes, _mm512_add_epi8(_mm512_packus_epi16(rest_a, rest_b), first));
}

/// Values of bf16 as bytes {sign, mantissa} and exponents.
VBMI_INLINE void TakeApart64(__m512i a, __m512i b, __m512i& bytes, __m512i& exponents) {
  alignas(64) static constexpr uint8_t kEven[64] = {
      0,  2,  4,  6,  8,  10, 12,  14,  16,  18,  20,  22,  24,  26,  28,  30,  32,  34,  36,  38, 40, 42,
      44, 46, 48, 50, 52, 54, 56,  58,  60,  62,  64,  66,  68,  70,  72,  74,  76,  78,  80,  82, 84, 86,
      88, 90, 92, 94, 96, 98, 100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122, 124, 126};
  const __m512i even = Load(kEven), odd = _mm512_add_epi8(even, U8(1));
  const __m512i low = _mm512_permutex2var_epi8(a, even, b), high = _mm512_permutex2var_epi8(a, odd, b);
  bytes = _mm512_ternarylogic_epi32(U8(0x7F), low, high, 0xCA);  // mask ? low : high
  exponents = _mm512_or_si512(_mm512_add_epi8(high, high), _mm512_and_si512(_mm512_srli_epi16(low, 7), U8(1)));
}

VBMI_TARGET uint32_t EncodeChunk(const SplitAnsCoding& coding, const SplitAnsEncode& chunk) {
  const SplitAnsModel& m = coding.model;
  const PushTables tables = MakePushTables(m);
  const __m512i escape_first = U8(m.first[m.symbols]);
  const uint32_t carried_from = chunk.count - kLanes;
  __m512i bytes, symbols;
  TakeApart64(Load(chunk.in + 2 * carried_from), Load(chunk.in + 2 * carried_from + 64), bytes, symbols);
  States states{bytes, U8(1)};
  uint8_t* at = chunk.room_end;
  for (uint32_t step = (chunk.count - 1) / kLanes + 1; step-- > 0;) {
    const uint32_t begin = step * kLanes, lanes = std::min(kLanes, chunk.count - begin);
    const uint8_t* in = chunk.in + 2 * begin;
    uint8_t room[kLanes];
    const uint8_t* origins = coding.origins.Of(chunk.first + begin, lanes, room);
    if (lanes == kLanes) {
      TakeApart64(Load(in), Load(in + 64), bytes, symbols);
    } else {
      TakeApart64(_mm512_maskz_loadu_epi8(FirstLanes(2 * lanes), in),
                  _mm512_maskz_loadu_epi8(lanes > 32 ? FirstLanes(2 * lanes - 64) : 0, in + 64), bytes, symbols);
    }
    const uint64_t valid = FirstLanes(lanes);
    symbols = _mm512_sub_epi8(symbols, _mm512_maskz_loadu_epi8(valid, origins));
    if (begin < carried_from) {
      _mm512_mask_storeu_epi8(chunk.fixed + begin, FirstLanes(std::min(lanes, carried_from - begin)), bytes);
    }
    Push(tables, escape_first, symbols, valid, states, at);
  }
  at -= kSplitAnsStateBytes;
  _mm512_storeu_si512(at, states.low);
  _mm512_storeu_si512(at + kLanes, states.high);
  return static_cast<uint32_t>(chunk.room_end - at);
}

/// What a pop needs, by slot.
struct PopTables {
  Table frequency, rank, symbol;
};
VBMI_INLINE PopTables MakePopTables(const SplitAnsModel& m) {
  alignas(64) uint8_t frequency[256], rank[256], symbol[256];
  for (uint32_t slot = 0; slot < kRansTotal; ++slot) {
    const uint32_t i = m.owner[slot];
    frequency[slot] = m.frequency[i];
    rank[slot] = static_cast<uint8_t>(slot - m.first[i]);
    symbol[slot] = m.symbol[i];
  }
  return {LoadTable(frequency), LoadTable(rank), LoadTable(symbol)};
}

/// One step: symbols of `lanes` out of the states; `at` moves on. False where the tail ends before.
VBMI_INLINE bool Pop(const PopTables& t, __m512i escape_first, uint64_t lanes, States& states, const uint8_t*& at,
                     const uint8_t* end, __m512i& symbols) {
  const __m512i zero = _mm512_setzero_si512(), low_bytes = _mm512_set1_epi16(255);
  const __m512i f = LookUp(t.frequency, states.low), rank = LookUp(t.rank, states.low);
  symbols = LookUp(t.symbol, states.low);
  const uint64_t escapes = _mm512_mask_cmpge_epu8_mask(lanes, states.low, escape_first);
  if (escapes != 0) {
    const int count = __builtin_popcountll(escapes);
    if (end - at < count) return false;
    symbols = _mm512_mask_expandloadu_epi8(symbols, escapes, at);
    at += count;
  }
  const __m512i a =
      _mm512_add_epi16(_mm512_mullo_epi16(_mm512_unpacklo_epi8(f, zero), _mm512_unpacklo_epi8(states.high, zero)),
                       _mm512_unpacklo_epi8(rank, zero));
  const __m512i b =
      _mm512_add_epi16(_mm512_mullo_epi16(_mm512_unpackhi_epi8(f, zero), _mm512_unpackhi_epi8(states.high, zero)),
                       _mm512_unpackhi_epi8(rank, zero));
  const __m512i low = _mm512_packus_epi16(_mm512_and_si512(a, low_bytes), _mm512_and_si512(b, low_bytes));
  const __m512i high = _mm512_packus_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8));
  const uint64_t takes = _mm512_mask_testn_epi8_mask(lanes, high, high);
  const int count = __builtin_popcountll(takes);
  __m512i fed;
  if (end - at >= static_cast<ptrdiff_t>(kLanes)) {
    fed = _mm512_mask_expand_epi8(low, takes, Load(at));
  } else {
    if (end - at < count) return false;
    fed = _mm512_mask_expandloadu_epi8(low, takes, at);
  }
  at += count;
  states.high = _mm512_mask_mov_epi8(states.high, lanes, _mm512_mask_mov_epi8(high, takes, low));
  states.low = _mm512_mask_mov_epi8(states.low, lanes, fed);
  return true;
}

/// Bytes and exponents as 64 values of bf16.
VBMI_INLINE void PutTogether64(__m512i bytes, __m512i exponents, uint8_t* out) {
  const __m512i sign = U8(0x80);
  const __m512i low = _mm512_ternarylogic_epi32(sign, _mm512_slli_epi16(exponents, 7), bytes, 0xCA);
  const __m512i high = _mm512_ternarylogic_epi32(sign, bytes, _mm512_srli_epi16(exponents, 1), 0xCA);
  const __m512i l = _mm512_unpacklo_epi8(low, high), u = _mm512_unpackhi_epi8(low, high);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi64(l, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), u));
  _mm512_storeu_si512(out + 64, _mm512_permutex2var_epi64(l, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), u));
}

VBMI_TARGET bool DecodeChunk(const SplitAnsCoding& coding, const SplitAnsDecode& chunk) {
  const SplitAnsModel& m = coding.model;
  const PopTables tables = MakePopTables(m);
  const __m512i escape_first = U8(m.first[m.symbols]);
  const uint32_t carried_from = chunk.count - kLanes;
  const uint8_t* at = chunk.tail.data() + kSplitAnsStateBytes;
  const uint8_t* const end = chunk.tail.data() + chunk.tail.size();
  States states{Load(chunk.tail.data()), Load(chunk.tail.data() + kLanes)};
  for (uint32_t begin = 0; begin < chunk.count; begin += kLanes) {
    const uint32_t lanes = std::min(kLanes, chunk.count - begin);
    const uint64_t valid = FirstLanes(lanes);
    __m512i symbols;
    if (!Pop(tables, escape_first, valid, states, at, end, symbols)) return false;
    uint8_t room[kLanes];
    const uint8_t* origins = coding.origins.Of(chunk.first + begin, lanes, room);
    const __m512i exponents = _mm512_add_epi8(symbols, _mm512_maskz_loadu_epi8(valid, origins));
    const uint64_t fixed = begin < carried_from ? FirstLanes(std::min(lanes, carried_from - begin)) : 0;
    const __m512i bytes = _mm512_maskz_loadu_epi8(fixed, chunk.fixed + begin);  // carried ones follow below
    if (lanes == kLanes) {
      PutTogether64(bytes, exponents, chunk.out + 2 * begin);
    } else {
      uint8_t last[2 * kLanes];
      PutTogether64(bytes, exponents, last);
      std::copy_n(last, 2 * lanes, chunk.out + 2 * begin);
    }
  }
  uint8_t* out = chunk.out + 2 * carried_from;
  __m512i bytes, exponents;
  TakeApart64(Load(out), Load(out + 64), bytes, exponents);
  PutTogether64(states.low, exponents, out);
  return at == end && _mm512_cmpneq_epu8_mask(states.high, U8(1)) == 0;  // as an encoder began
}

}  // namespace

uint32_t EncodeSplitAns(const SplitAnsCoding& coding, const SplitAnsEncode& chunk) {
  return coding.frame.half || !HasVbmi() ? 0 : EncodeChunk(coding, chunk);
}

bool DecodeSplitAns(const SplitAnsCoding& coding, const SplitAnsDecode& chunk, bool& right) {
  if (coding.frame.half || !HasVbmi()) return false;
  right = DecodeChunk(coding, chunk);
  return true;
}

}  // namespace kvasir::simd

#else

namespace kvasir::simd {
uint32_t EncodeSplitAns(const SplitAnsCoding&, const SplitAnsEncode&) { return 0; }
bool DecodeSplitAns(const SplitAnsCoding&, const SplitAnsDecode&, bool&) { return false; }
}  // namespace kvasir::simd

#endif
