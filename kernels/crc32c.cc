// SPDX-License-Identifier: Apache-2.0
// CRC32C three ways, best first: folding with wide carry-less multiplies (AVX-512 VPCLMULQDQ), three interleaved chains
// of the crc32 instruction joined by a carry-less multiply, a byte table.
//
// The instruction has a latency of 3 cycles and can start every cycle, so one chain reaches a third of the machine. A
// chain of `n` zero bytes maps a crc to crc * x^(8n) mod P; with K = x^(8n - 33) mod P that is one carry-less multiply
// and one crc of the 64-bit product (Gopal et al., "Fast CRC computation for iSCSI polynomial", Intel 2011).
#include <array>

#include "kernels/crc32c_body.h"
#include "kernels/frame_directory.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>
#endif

namespace kvasir {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) table[i] = Crc32cOfByte(i);
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

uint32_t ByTable(uint32_t crc, const std::byte* p, size_t n) {
  for (; n > 0; --n, ++p) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint32_t>(*p)) & 0xFF];
  return crc;
}

#if defined(__x86_64__)

/// x^n mod P, reflected.
constexpr uint32_t PowerOfX(uint32_t n) {
  uint32_t value = 0x80000000u;
  for (; n > 0; --n) value = Crc32cTimesX(value);
  return value;
}

/// Moves `crc` over kBytes zero bytes.
template <uint32_t kBytes>
__attribute__((target("sse4.2,pclmul"))) uint64_t Skip(uint64_t crc) {
  constexpr uint32_t kFactor = PowerOfX(8 * kBytes - 33);
  const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<int64_t>(crc)),
                                               _mm_cvtsi32_si128(static_cast<int32_t>(kFactor)), 0);
  return _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(product)));
}

uint64_t Load64(const std::byte* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

constexpr uint32_t kBytesAhead = 6144;  // three streams in short turns are more than the CPU foresees by itself

/// Takes as many triples of kLane bytes as there are; advances `p` and `n`.
template <uint32_t kLane>
__attribute__((target("sse4.2,pclmul"))) uint64_t Triples(uint64_t crc, const std::byte*& p, size_t& n) {
  for (; n >= 3 * kLane; n -= 3 * kLane, p += 3 * kLane) {
    uint64_t a = crc, b = 0, c = 0;
    if constexpr (kLane >= 1024) Prefetch(reinterpret_cast<const uint8_t*>(p) + kBytesAhead, 3 * kLane);
    for (uint32_t i = 0; i < kLane; i += 8) {
      a = _mm_crc32_u64(a, Load64(p + i));
      b = _mm_crc32_u64(b, Load64(p + kLane + i));
      c = _mm_crc32_u64(c, Load64(p + 2 * kLane + i));
    }
    crc = Skip<2 * kLane>(a) ^ Skip<kLane>(b) ^ c;
  }
  return crc;
}

__attribute__((target("sse4.2,pclmul"))) uint32_t ByInstruction(uint32_t start, const std::byte* p, size_t n) {
  uint64_t crc = Triples<1024>(start, p, n);
  crc = Triples<128>(crc, p, n);
  for (; n >= 8; n -= 8, p += 8) crc = _mm_crc32_u64(crc, Load64(p));
  for (; n > 0; --n, ++p) crc = _mm_crc32_u8(static_cast<uint32_t>(crc), static_cast<uint8_t>(*p));
  return static_cast<uint32_t>(crc);
}

#define KVASIR_FOLDING __attribute__((target("avx512f,avx512dq,vpclmulqdq,sse4.2")))

/// The 128-bit lanes of `x` moved on by kBits: each 64-bit half h of value P(h) becomes P(h) * x^(its distance) mod P.
/// A carry-less product of two reflected words carries one x too many, hence the 1.
template <uint32_t kBits>
KVASIR_FOLDING __m512i Fold(__m512i x) {
  constexpr uint64_t kFirst = uint64_t{PowerOfX(kBits + 64 - 1)} << 32, kSecond = uint64_t{PowerOfX(kBits - 1)} << 32;
  const __m512i factors = _mm512_set4_epi64(static_cast<int64_t>(kSecond), static_cast<int64_t>(kFirst),
                                            static_cast<int64_t>(kSecond), static_cast<int64_t>(kFirst));
  return _mm512_xor_si512(_mm512_clmulepi64_epi128(x, factors, 0x00), _mm512_clmulepi64_epi128(x, factors, 0x11));
}

KVASIR_FOLDING __m512i Load512(const std::byte* p) { return _mm512_loadu_si512(p); }

constexpr size_t kFoldedBytes = 256;  // a turn

/// Takes as many turns as there are; advances `p` and `n`. Four accumulators become one, whose 64 bytes have the crc of
/// everything before them. REQUIRES: n >= kFoldedBytes.
KVASIR_FOLDING uint64_t Folded(uint32_t crc, const std::byte*& p, size_t& n) {
  __m512i a = _mm512_xor_si512(Load512(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int32_t>(crc))));
  __m512i b = Load512(p + 64), c = Load512(p + 128), d = Load512(p + 192);
  for (p += kFoldedBytes, n -= kFoldedBytes; n >= kFoldedBytes; p += kFoldedBytes, n -= kFoldedBytes) {
    Prefetch(reinterpret_cast<const uint8_t*>(p) + kBytesAhead, kFoldedBytes);
    a = _mm512_xor_si512(Fold<8 * kFoldedBytes>(a), Load512(p));
    b = _mm512_xor_si512(Fold<8 * kFoldedBytes>(b), Load512(p + 64));
    c = _mm512_xor_si512(Fold<8 * kFoldedBytes>(c), Load512(p + 128));
    d = _mm512_xor_si512(Fold<8 * kFoldedBytes>(d), Load512(p + 192));
  }
  b = _mm512_xor_si512(Fold<512>(a), b);
  c = _mm512_xor_si512(Fold<512>(b), c);
  d = _mm512_xor_si512(Fold<512>(c), d);
  alignas(64) uint64_t words[8];
  _mm512_store_si512(words, d);
  uint64_t result = 0;
  for (const uint64_t word : words) result = _mm_crc32_u64(result, word);
  return result;
}

uint32_t ByFolding(uint32_t start, const std::byte* p, size_t n) {
  const uint64_t crc = n >= kFoldedBytes ? Folded(start, p, n) : start;
  return ByInstruction(static_cast<uint32_t>(crc), p, n);
}

bool HasFolding() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("sse4.2") &&
                          __builtin_cpu_supports("pclmul");
  return has;
}

bool HasInstruction() {
  static const bool has = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
  return has;
}

#endif

}  // namespace

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc) {
#if defined(__x86_64__)
  if (HasFolding()) return ~ByFolding(~crc, bytes.data(), bytes.size());
  return Crc32cByInstruction(bytes, crc);
#else
  return Crc32cByTable(bytes, crc);
#endif
}

uint32_t Crc32cByInstruction(std::span<const std::byte> bytes, uint32_t crc) {
#if defined(__x86_64__)
  if (HasInstruction()) return ~ByInstruction(~crc, bytes.data(), bytes.size());
#endif
  return Crc32cByTable(bytes, crc);
}

uint32_t Crc32cByTable(std::span<const std::byte> bytes, uint32_t crc) {
  return ~ByTable(~crc, bytes.data(), bytes.size());
}

}  // namespace kvasir
