// SPDX-License-Identifier: Apache-2.0
// The chunks of P:splitexp(ans): scalar bodies, 64 lanes a step. The format is in p_splitans.h, the steps in rans.h.
#include <algorithm>

#include "kernels/stages/p_splitans_steps.h"

namespace kvasir {
namespace {

constexpr uint32_t kLanes = kSplitAnsLanes;

/// 64 values of one step, or fewer in the last: pieces into their places, symbols out.
template <bool kHalf>
void TakeStep(const SplitAnsCoding& coding, const SplitAnsEncode& chunk, uint32_t begin, uint32_t lanes,
              uint8_t* symbols) {
  uint8_t bytes[kLanes], room[kLanes];
  const uint8_t* origins = coding.origins.Of(chunk.first + begin, lanes, room);
  for (uint32_t j = 0; j < lanes; ++j) {
    const SplitAnsPieces p = TakeApart(kHalf, Load16(chunk.in + 2 * (begin + j)));
    bytes[j] = p.byte;
    symbols[j] = static_cast<uint8_t>(p.exponent - origins[j]);
    if (kHalf) chunk.rest[begin + j] = p.rest;
  }
  const uint32_t carried_from = chunk.count - kLanes;
  if (begin < carried_from) std::copy(bytes, bytes + std::min(lanes, carried_from - begin), chunk.fixed + begin);
}

template <bool kHalf>
uint32_t Encode(const SplitAnsCoding& coding, const SplitAnsEncode& chunk) {
  const SplitAnsModel& m = coding.model;
  SplitAnsPush pushes[256];  // by symbol
  for (uint32_t s = 0; s < 256; ++s) pushes[s] = PushOf(m, s);
  const uint32_t carried_from = chunk.count - kLanes;
  uint32_t states[kLanes];
  for (uint32_t j = 0; j < kLanes; ++j) {
    states[j] = kRansLeast + TakeApart(kHalf, Load16(chunk.in + 2 * (carried_from + j))).byte;
  }
  uint8_t* at = chunk.room_end;
  for (uint32_t step = (chunk.count - 1) / kLanes + 1; step-- > 0;) {
    const uint32_t begin = step * kLanes, lanes = std::min(kLanes, chunk.count - begin);
    uint8_t symbols[kLanes];
    TakeStep<kHalf>(coding, chunk, begin, lanes, symbols);
    uint32_t escapes = 0;
    for (uint32_t j = lanes; j-- > 0;) {
      const SplitAnsPush& p = pushes[symbols[j]];
      escapes += m.index[symbols[j]] == m.symbols ? 1 : 0;
      uint32_t x = states[j];
      const bool emits = RansEmits(x, p.frequency);
      *(at - 1) = static_cast<uint8_t>(x);
      at -= emits ? 1 : 0;
      x = emits ? x >> 8 : x;
      states[j] = p.Pushed(x);
    }
    for (uint32_t j = lanes; escapes > 0;) {
      if (m.index[symbols[--j]] != m.symbols) continue;
      *--at = symbols[j];
      --escapes;
    }
  }
  at -= kSplitAnsStateBytes;
  for (uint32_t j = 0; j < kLanes; ++j) {
    at[j] = static_cast<uint8_t>(states[j]);
    at[kLanes + j] = static_cast<uint8_t>(states[j] >> 8);
  }
  if (kHalf) PackRow(3, chunk.rest, chunk.count, chunk.fixed + carried_from);
  return static_cast<uint32_t>(chunk.room_end - at);
}

/// Symbols of one step; `at` moves on. False where the tail ends before. `kSafe`: two bytes a lane are surely there.
template <bool kSafe>
bool PopStep(const SplitAnsPop* pops, uint32_t lanes, uint32_t* states, const uint8_t*& at, const uint8_t* end,
             uint8_t* symbols) {
  const uint8_t* p = at;
  uint32_t escapes = 0;
  for (uint32_t j = 0; j < lanes; ++j) {
    const SplitAnsPop& pop = pops[states[j] & 255];
    symbols[j] = pop.symbol;
    escapes += pop.escapes;
  }
  for (uint32_t j = 0; escapes > 0; ++j) {
    if (pops[states[j] & 255].escapes == 0) continue;
    if (!kSafe && p == end) return false;
    symbols[j] = *p++;
    --escapes;
  }
  for (uint32_t j = 0; j < lanes; ++j) {
    const SplitAnsPop& pop = pops[states[j] & 255];
    const uint32_t x = pop.Popped(states[j]);
    const bool takes = x < kRansLeast;
    if (!kSafe && takes && p == end) return false;
    const uint32_t fed = kSafe || takes ? x << 8 | *p : x;
    states[j] = takes ? fed : x;
    p += takes ? 1 : 0;
  }
  at = p;
  return true;
}

template <bool kHalf>
bool Decode(const SplitAnsCoding& coding, const SplitAnsDecode& chunk) {
  const SplitAnsModel& m = coding.model;
  SplitAnsPop pops[kRansTotal];  // by slot
  for (uint32_t slot = 0; slot < kRansTotal; ++slot) pops[slot] = PopOf(m, slot);
  const uint32_t carried_from = chunk.count - kLanes;
  const uint8_t* at = chunk.tail.data() + kSplitAnsStateBytes;
  const uint8_t* const end = chunk.tail.data() + chunk.tail.size();
  uint32_t states[kLanes];
  for (uint32_t j = 0; j < kLanes; ++j) states[j] = chunk.tail[j] | chunk.tail[kLanes + j] << 8;
  uint32_t beyond = 0;  // not 0: some exponent is none
  for (uint32_t begin = 0; begin < chunk.count; begin += kLanes) {
    const uint32_t lanes = std::min(kLanes, chunk.count - begin);
    uint8_t symbols[kLanes], room[kLanes], bytes[kLanes] = {};
    const bool safe = end - at > static_cast<ptrdiff_t>(2 * kLanes);
    const bool there = safe ? PopStep<true>(pops, lanes, states, at, end, symbols)
                            : PopStep<false>(pops, lanes, states, at, end, symbols);
    if (!there) return false;
    if (begin < carried_from) {
      std::copy_n(chunk.fixed + begin, std::min(lanes, carried_from - begin), bytes);  // carried ones follow below
    }
    const uint8_t* origins = coding.origins.Of(chunk.first + begin, lanes, room);
    for (uint32_t j = 0; j < lanes; ++j) {
      SplitAnsPieces p;
      p.byte = bytes[j];
      p.exponent = static_cast<uint8_t>(symbols[j] + origins[j]);
      if (kHalf) {
        beyond |= p.exponent >> 5;
        p.rest = UnpackedCode(3, chunk.fixed + carried_from, chunk.count, begin + j);
      }
      Store16(chunk.out + 2 * (begin + j), PutTogether(kHalf, p));
    }
  }
  bool ended = true;  // as an encoder began
  for (uint32_t j = 0; j < kLanes; ++j) {
    uint8_t* out = chunk.out + 2 * (carried_from + j);
    SplitAnsPieces p = TakeApart(kHalf, Load16(out));
    p.byte = static_cast<uint8_t>(states[j]);
    Store16(out, PutTogether(kHalf, p));
    ended &= states[j] >> 8 == 1;
  }
  return at == end && ended && beyond == 0;
}

}  // namespace

uint32_t EncodeSplitAnsChunk(const SplitAnsCoding& coding, const SplitAnsEncode& chunk) {
  return coding.frame.half ? Encode<true>(coding, chunk) : Encode<false>(coding, chunk);
}

bool DecodeSplitAnsChunk(const SplitAnsCoding& coding, const SplitAnsDecode& chunk) {
  return coding.frame.half ? Decode<true>(coding, chunk) : Decode<false>(coding, chunk);
}

void StoreSplitAnsChunk(const SplitAnsFrame& f, const uint8_t* in, uint32_t count, uint8_t* fixed, uint8_t* tail,
                        uint8_t* rest) {
  const uint32_t carried = f.carried(count);
  uint8_t exponents[kSplitAnsChunk];
  for (uint32_t i = 0; i < count; ++i) {
    const SplitAnsPieces p = TakeApart(f.half, Load16(in + 2 * i));
    (i < count - carried ? fixed[i] : tail[i - (count - carried)]) = p.byte;
    rest[i] = p.rest;
    exponents[i] = p.exponent;
  }
  if (f.half) PackRow(3, rest, count, fixed + count - carried);
  PackRow(f.exponent_bits(), exponents, count, tail + carried);
}

void LoadSplitAnsChunk(const SplitAnsFrame& f, const uint8_t* fixed, const uint8_t* tail, uint32_t count,
                       uint8_t* out) {
  for (uint32_t i = 0; i < count; ++i) Store16(out + 2 * i, StoredSplitAnsValue(f, fixed, tail, count, i));
}

}  // namespace kvasir
