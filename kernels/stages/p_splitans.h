// SPDX-License-Identifier: Apache-2.0
// P:splitexp(ans). Lossless bf16 and fp16: sign and mantissa as they are, exponents entropy-coded with rANS (rans.h) in
// 64 interleaved lanes (Giesen, Interleaved entropy coders, arXiv 1402.3392). One model a frame, taken from a sample.
//
// What is coded of an element with exponent e is its symbol (e - o) mod 256. o, the origin of its channel, is the
// channel's median exponent where that pays (mode 2: keys, whose channels differ in size), else 0.
//
// A frame is cut into chunks of 16,384 values in order (the last may be shorter). A chunk of n values carries
// c = 64 bytes elsewhere (0 where n < 64):
//   fixed parts, chunk after chunk | mode u8 | mode 1, 2: model | mode 2: origins | mode 1, 2: lengths u16[chunks] |
//   tails, chunk after chunk
//   fixed    bf16: n - c bytes {sign, mantissa}
//            fp16: n - c bytes {low mantissa}, then n codes of 3 bits {sign, mantissa 9..8}, packed as in p_bits.h
//   model    u8 runs, each u8 first symbol, u8 count, u8 frequency[count]; what is missing to 256 is the escape's
//   origins  u8 b, then for each head and channel 4 bits d, the even one lower: o = (b - d) mod 256
//   length   of the tail; 0 = stored, as all are in mode 0
//   tail     coded: low bytes of the 64 states, their high bytes, then for each 64 values in order: the symbols that
//            escaped, lane after lane, and the bytes that the states took in, lane after lane
//            stored: c bytes, then the exponents, 8 bits each (bf16) or 5 (fp16, packed)
// Lane i mod 64 codes value i. The states end (for the decoder) at 256 + the byte of the fixed part of one of the last
// 64 values, which need not be stored then: that is how c bytes are carried, and why 64 lanes cost only about 4 bits
// each. A frame is never longer than its elements plus kSplitAnsGrowthMax bytes: what does not shrink is stored.
//
// Bodies: scalar (p_splitans_chunk.cc), AVX-512 (simd/splitans_vbmi.cc), a warp a chunk (cuda/splitans_bodies.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/frame_coder.h"
#include "kernels/kv_layout.h"
#include "kernels/portable.h"
#include "kernels/stages/p_bits.h"
#include "kernels/stages/rans.h"

namespace kvasir {

inline constexpr uint32_t kSplitAnsChunk = 16384;     ///< values
inline constexpr uint32_t kSplitAnsLanes = 64;        ///< and the values of one step
inline constexpr uint32_t kSplitAnsStateBytes = 128;  ///< two planes of kSplitAnsLanes
inline constexpr uint32_t kSplitAnsSymbolsMax = 63;   ///< in a model, beside the escape
inline constexpr uint32_t kSplitAnsRare = 1024;       ///< symbols rarer than one in this many escape
inline constexpr uint32_t kSplitAnsModelMax = 1 + 3 * kSplitAnsSymbolsMax;  ///< bytes
inline constexpr uint32_t kSplitAnsSampleRows = 32;                         ///< of each head, at least
inline constexpr uint32_t kSplitAnsSampleValues = 4096;                     ///< of a frame, at least
inline constexpr uint32_t kSplitAnsOriginsMax = 15;                         ///< d
inline constexpr uint32_t kSplitAnsGrowthMax = 8;
/// A coded tail has at most two bytes a value beside the states; whoever encodes one has this room.
inline constexpr uint32_t kSplitAnsTailRoom = 2 * kSplitAnsChunk + kSplitAnsStateBytes;

enum class SplitAnsMode : uint8_t { kStored = 0, kCoded = 1, kCodedFromOrigins = 2 };

/// Symbols and frequencies of one frame.
struct SplitAnsModel {
  uint32_t symbols = 0;            ///< at least 1 once made; the escape is symbol number `symbols`
  uint8_t symbol[64] = {};         ///< ascending
  uint8_t frequency[64] = {};      ///< the escape's too
  uint8_t first[64] = {};          ///< sums of the frequencies before
  uint8_t index[256] = {};         ///< of each symbol; the escape's where it has none
  uint8_t owner[kRansTotal] = {};  ///< index of the symbol that owns each slot
};

/// Where everything lies in a frame of one shape.
struct SplitAnsFrame {
  bool half = false;  ///< fp16, else bf16
  FrameShape shape;
  uint64_t elements = 0;
  uint32_t chunks = 0;

  KVASIR_HD uint32_t count(uint32_t chunk) const {
    const uint64_t left = elements - uint64_t{chunk} * kSplitAnsChunk;
    return left < kSplitAnsChunk ? static_cast<uint32_t>(left) : kSplitAnsChunk;
  }
  KVASIR_HD static uint32_t carried(uint32_t count) { return count < kSplitAnsLanes ? 0 : kSplitAnsLanes; }
  KVASIR_HD uint32_t exponent_bits() const { return half ? 5 : 8; }
  KVASIR_HD uint32_t fixed_bytes(uint32_t count) const {
    return count - carried(count) + (half ? static_cast<uint32_t>(PackedRowBytes(3, count)) : 0);
  }
  KVASIR_HD uint32_t stored_bytes(uint32_t count) const {
    return carried(count) + static_cast<uint32_t>(PackedRowBytes(exponent_bits(), count));
  }
  KVASIR_HD uint64_t fixed_at(uint32_t chunk) const { return uint64_t{chunk} * fixed_bytes(kSplitAnsChunk); }
  KVASIR_HD uint64_t mode_at() const { return fixed_at(chunks - 1) + fixed_bytes(count(chunks - 1)); }
  /// The frame in mode 0: no other is longer.
  KVASIR_HD uint64_t max_bytes() const {
    return mode_at() + 1 + uint64_t{chunks - 1} * stored_bytes(kSplitAnsChunk) + stored_bytes(count(chunks - 1));
  }
  KVASIR_HD uint64_t origins() const { return uint64_t{shape.heads} * shape.dim; }
  KVASIR_HD uint64_t origin_bytes() const { return 1 + (origins() + 1) / 2; }
  /// Every so manieth row of each head is looked at for the model.
  KVASIR_HD uint32_t sample_stride() const {
    const uint64_t of_rows = shape.tokens / kSplitAnsSampleRows, of_values = elements / kSplitAnsSampleValues;
    const uint64_t stride = of_rows < of_values ? of_rows : of_values;
    return stride > 1 ? static_cast<uint32_t>(stride) : 1;
  }
  KVASIR_HD uint32_t sample_rows() const { return (shape.tokens + sample_stride() - 1) / sample_stride(); }
};

KVASIR_HD inline SplitAnsFrame LayOutSplitAns(const FrameShape& shape) {
  SplitAnsFrame f;
  f.half = shape.element == ElementType::kFloat16;
  f.shape = shape;
  f.elements = shape.elements();
  f.chunks = static_cast<uint32_t>((f.elements + kSplitAnsChunk - 1) / kSplitAnsChunk);
  return f;
}

/// One value taken apart. `rest` is fp16's, 3 bits.
struct SplitAnsPieces {
  uint8_t byte = 0;
  uint8_t rest = 0;
  uint8_t exponent = 0;
};

KVASIR_HD inline SplitAnsPieces TakeApart(bool half, uint32_t x) {
  SplitAnsPieces p;
  p.byte = static_cast<uint8_t>(half ? x : ((x >> 8) & 0x80) | (x & 0x7F));
  p.rest = static_cast<uint8_t>(half ? (x >> 15) << 2 | ((x >> 8) & 3) : 0);
  p.exponent = static_cast<uint8_t>(half ? (x >> 10) & 31 : x >> 7);
  return p;
}

KVASIR_HD inline uint16_t PutTogether(bool half, const SplitAnsPieces& p) {
  if (half) return static_cast<uint16_t>((p.rest >> 2) << 15 | p.exponent << 10 | (p.rest & 3) << 8 | p.byte);
  return static_cast<uint16_t>((p.byte & 0x80) << 8 | p.exponent << 7 | (p.byte & 0x7F));
}

/// The median of a channel: the greatest v that at least half of the `rows` exponents, `stride` bytes apart, reach.
KVASIR_HD inline uint8_t MedianExponent(const uint8_t* exponents, uint32_t rows, uint64_t stride) {
  uint32_t v = 0;
  for (uint32_t bit = 128; bit > 0; bit /= 2) {
    uint32_t reach = 0;
    for (uint32_t r = 0; r < rows; ++r) reach += exponents[r * stride] >= (v | bit) ? 1 : 0;
    if (2 * uint64_t{reach} >= rows) v |= bit;
  }
  return static_cast<uint8_t>(v);
}

/// d of a median below the greatest one.
KVASIR_HD inline uint8_t OriginBelow(uint8_t greatest, uint8_t median) {
  const uint32_t below = static_cast<uint32_t>(greatest) - median;
  return static_cast<uint8_t>(below < kSplitAnsOriginsMax ? below : kSplitAnsOriginsMax);
}

/// What a symbol met `count` times of `total` adds to the entropy of a histogram, in 4096ths of a bit.
KVASIR_HD inline uint64_t EntropyTerm(uint32_t count, uint32_t total) {
  return count == 0 ? 0 : uint64_t{count} * (Log2In4096ths(total) - Log2In4096ths(count));
}

/// Whether the entropies of a sample of `total` values say that origins save more than they cost.
KVASIR_HD inline bool OriginsPay(const SplitAnsFrame& f, uint64_t plain, uint64_t from_origins, uint32_t total) {
  // Bytes of the frame to 4096ths of a bit of the sample; 8 more bits on the way.
  const uint64_t cost = (f.origin_bytes() * 8 * 4096 * 256 / f.elements * total) >> 8;
  return from_origins + cost < plain;
}

/// Fills in what symbols and frequencies say.
KVASIR_HD inline void CompleteModel(SplitAnsModel& m) {
  for (uint32_t s = 0; s < 256; ++s) m.index[s] = static_cast<uint8_t>(m.symbols);
  uint32_t slot = 0;
  for (uint32_t i = 0; i <= m.symbols; ++i) {
    if (i < m.symbols) m.index[m.symbol[i]] = static_cast<uint8_t>(i);
    m.first[i] = static_cast<uint8_t>(slot);
    for (uint32_t k = 0; k < m.frequency[i]; ++k) m.owner[slot++] = static_cast<uint8_t>(i);
  }
}

/// The model for a sample: its frequent symbols, at most kSplitAnsSymbolsMax. REQUIRES: total > 0.
KVASIR_HD inline SplitAnsModel ChooseModel(const uint32_t* counts, uint32_t total) {
  SplitAnsModel m;
  uint32_t least = total / kSplitAnsRare + 1;
  for (;; least *= 2) {
    uint32_t found = 0, found_next = 0;
    for (uint32_t s = 0; s < 256; ++s) {
      found += counts[s] >= least ? 1 : 0;
      found_next += counts[s] >= 2 * least ? 1 : 0;
    }
    if (found <= kSplitAnsSymbolsMax || found_next == 0) break;
  }
  uint32_t weights[64], rest = total;
  for (uint32_t s = 0; s < 256 && m.symbols < kSplitAnsSymbolsMax; ++s) {
    if (counts[s] < least) continue;
    m.symbol[m.symbols] = static_cast<uint8_t>(s);
    weights[m.symbols++] = counts[s];
    rest -= counts[s];
  }
  weights[m.symbols] = rest;
  RansFrequencies(weights, m.symbols + 1, total, m.frequency);
  CompleteModel(m);
  return m;
}

/// Writes the model; returns its bytes, at most kSplitAnsModelMax.
KVASIR_HD inline uint32_t WriteModel(const SplitAnsModel& m, uint8_t* out) {
  uint8_t* at = out + 1;
  uint8_t* count = nullptr;
  out[0] = 0;
  for (uint32_t i = 0; i < m.symbols; ++i) {
    if (i == 0 || m.symbol[i] != m.symbol[i - 1] + 1) {
      ++out[0];
      *at++ = m.symbol[i];
      count = at++;
      *count = 0;
    }
    ++*count;
    *at++ = m.frequency[i];
  }
  return static_cast<uint32_t>(at - out);
}

/// Reads a model; returns its bytes, or 0 where none can begin so.
KVASIR_HD inline uint32_t ReadModel(const uint8_t* in, uint64_t bytes, SplitAnsModel& m) {
  if (bytes < 1) return 0;
  uint64_t at = 1;
  uint32_t next = 0, sum = 0;  // the least symbol allowed; of the frequencies
  for (uint32_t run = 0; run < in[0]; ++run) {
    if (bytes - at < 2) return 0;
    const uint32_t first = in[at], count = in[at + 1];
    at += 2;
    if (first < next || count == 0 || first + count > 256 || m.symbols + count > kSplitAnsSymbolsMax) return 0;
    if (bytes - at < count) return 0;
    for (uint32_t i = 0; i < count; ++i) {
      const uint8_t frequency = in[at++];
      if (frequency == 0) return 0;
      m.symbol[m.symbols] = static_cast<uint8_t>(first + i);
      m.frequency[m.symbols++] = frequency;
      sum += frequency;
    }
    next = first + count + 1;  // neighbours would be one run
  }
  if (m.symbols == 0 || sum >= kRansTotal) return 0;
  m.frequency[m.symbols] = static_cast<uint8_t>(kRansTotal - sum);
  CompleteModel(m);
  return static_cast<uint32_t>(at);
}

/// Origins of a frame, one row a head, each repeated so that 64 neighbours of any element of the head can be loaded at
/// once. Without origins: one row of zeros for all.
struct SplitAnsOrigins {
  const uint8_t* rows = nullptr;
  uint64_t row_bytes = 0;    ///< from head to head
  uint32_t dim = 0;          ///< channels until they repeat
  uint64_t head_values = 0;  ///< values of a head
  KVASIR_HD static uint64_t RowBytes(uint32_t dim) { return uint64_t{dim} + kSplitAnsLanes; }
  KVASIR_HD uint8_t Of(uint64_t element) const {
    return rows[element / head_values * row_bytes + element % head_values % dim];
  }
  /// Those of `count` <= kSplitAnsLanes neighbours; `room` [kSplitAnsLanes] holds them where they are of two heads.
  KVASIR_HD const uint8_t* Of(uint64_t element, uint32_t count, uint8_t* room) const {
    const uint64_t in_head = element % head_values;
    if (in_head + count <= head_values) return rows + element / head_values * row_bytes + in_head % dim;
    for (uint32_t j = 0; j < count; ++j) room[j] = Of(element + j);
    return room;
  }
};

/// What all chunks of a frame share.
struct SplitAnsCoding {
  SplitAnsFrame frame;
  SplitAnsModel model;
  SplitAnsOrigins origins;
};

/// One chunk on its way to bytes. REQUIRES: count >= kSplitAnsLanes.
struct SplitAnsEncode {
  uint64_t first = 0;  ///< index of its first value in the frame
  uint32_t count = 0;
  const uint8_t* in = nullptr;
  uint8_t* fixed = nullptr;
  uint8_t* room_end = nullptr;  ///< of kSplitAnsTailRoom bytes: the tail is written up to here
  uint8_t* rest = nullptr;      ///< [count], fp16 only: room
};

/// One coded chunk on its way back. REQUIRES: count >= kSplitAnsLanes, tail.size() >= kSplitAnsStateBytes.
struct SplitAnsDecode {
  uint64_t first = 0;
  uint32_t count = 0;
  const uint8_t* fixed = nullptr;
  std::span<const uint8_t> tail;
  uint8_t* out = nullptr;
};

/// The reference. Writes fixed part and coded tail; returns the bytes of the tail.
uint32_t EncodeSplitAnsChunk(const SplitAnsCoding& coding, const SplitAnsEncode& chunk);
/// False: these bytes are no tail, and the chunk's values are unspecified.
bool DecodeSplitAnsChunk(const SplitAnsCoding& coding, const SplitAnsDecode& chunk);

/// The same stored: any count. `rest` as in SplitAnsEncode, but for bf16 too.
void StoreSplitAnsChunk(const SplitAnsFrame& f, const uint8_t* in, uint32_t count, uint8_t* fixed, uint8_t* tail,
                        uint8_t* rest);
void LoadSplitAnsChunk(const SplitAnsFrame& f, const uint8_t* fixed, const uint8_t* tail, uint32_t count, uint8_t* out);

/// The coder of P:splitexp(ans).
std::shared_ptr<const FrameCoder> MakeSplitAnsCoder();

}  // namespace kvasir
