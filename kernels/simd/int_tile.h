// SPDX-License-Identifier: Apache-2.0
// A tile of Q:int: the stretch of tokens that the SIMD bodies take at a time, its working memory, and its way through
// the reference. Plain C++, the same for every target.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/stages/q_int.h"

namespace kvasir::simd {

inline constexpr uint32_t kLanesMax = 32;        // elements a step takes
inline constexpr uint32_t kTileParameters = 32;  // wished for, axis tok
inline constexpr uint32_t kCodesAhead = 2048;    // bytes of codes asked for ahead of use

/// A stretch of tokens of one head, and working memory for it.
struct IntTile {
  uint32_t head = 0, token = 0, rows = 0;
  uint32_t parameters = 0;   ///< groups of the tile
  int16_t* least = nullptr;  ///< [parameters], in integer order; like all arrays here padded to kLanesMax
  int16_t* greatest = nullptr;
  float* zero = nullptr;   ///< [parameters], even ones then odd ones within each step
  float* other = nullptr;  ///< 1 / scale (encode) or scale (decode)
  uint8_t* scale16 = nullptr;
  uint8_t* zero16 = nullptr;
  uint8_t* codes = nullptr;   ///< [rows][dim]
  uint8_t* packed = nullptr;  ///< [rows][row_bytes]: rows on their way past the caches
  uint8_t* room = nullptr;    ///< of the caller, on a cache line
  /// Elements asked for as rows of floats are coded: `ahead_bytes` each `ahead_stride`.
  const uint8_t* ahead = nullptr;
  uint64_t ahead_stride = 0, ahead_bytes = 0;
};

/// The same bytes as a frame with one group a row, where that is so: rows of codes have no padding, and parameters lie
/// in the order of the groups. 3 bits has planes in each row, hence not.
inline IntFrame OneGroupARow(IntFrame f) {
  if (f.spec.by_channel || f.spec.bits == 3 || f.shape.dim % f.group != 0) return f;
  f.shape.tokens *= f.groups;
  f.shape.dim = f.group;
  f.row_bytes /= f.groups;
  f.groups = 1;
  return f;
}

inline uint32_t TileRows(const IntFrame& f) {
  if (f.spec.by_channel) return f.group;
  const uint32_t rows = f.groups >= kTileParameters ? 1 : kTileParameters / f.groups;
  return rows < f.shape.tokens ? rows : f.shape.tokens;
}

/// Carves the arrays of a tile, and `room` bytes more, out of `scratch`.
inline IntTile MakeTile(const IntFrame& f, std::vector<std::byte>& scratch, uint64_t room) {
  const uint64_t rows = TileRows(f);
  const uint64_t parameters = f.spec.by_channel ? f.shape.dim : rows * f.groups;
  const uint64_t padded = (parameters + kLanesMax - 1) / kLanesMax * kLanesMax;
  const uint64_t bytes = padded * (2 + 2 + 4 + 4 + 2 + 2) + rows * (uint64_t{f.shape.dim} + f.row_bytes) + room + 192;
  if (scratch.size() < bytes) scratch.resize(bytes);
  uint8_t* p = reinterpret_cast<uint8_t*>(scratch.data());
  p += (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64;
  IntTile t;
  t.zero = reinterpret_cast<float*>(p);
  t.other = t.zero + padded;
  t.least = reinterpret_cast<int16_t*>(t.other + padded);
  t.greatest = t.least + padded;
  t.scale16 = reinterpret_cast<uint8_t*>(t.greatest + padded);
  t.zero16 = t.scale16 + 2 * padded;
  t.codes = t.zero16 + 2 * padded;
  t.packed = t.codes + rows * f.shape.dim;
  t.packed += (64 - reinterpret_cast<uintptr_t>(t.packed) % 64) % 64;
  t.room = t.packed + rows * f.row_bytes;
  t.room += (64 - reinterpret_cast<uintptr_t>(t.room) % 64) % 64;
  return t;
}

/// Sets the tile on `rows` tokens from `token` on.
inline void PlaceTile(const IntFrame& f, uint32_t head, uint32_t token, IntTile& t) {
  const uint32_t rows = TileRows(f);
  t.head = head;
  t.token = token;
  t.rows = f.shape.tokens - token < rows ? f.shape.tokens - token : rows;
  t.parameters = f.spec.by_channel ? f.shape.dim : t.rows * f.groups;
}

/// Index in the frame of the tile's first parameter; the others follow it.
inline uint64_t FirstParameter(const IntFrame& f, const IntTile& t) { return IntParameterIndex(f, t.head, t.token, 0); }

/// The packed rows of the tile in a frame.
inline uint8_t* RowsOfTile(const IntFrame& f, const IntTile& t, uint8_t* frame) {
  return frame + f.codes_at + (uint64_t{t.head} * f.shape.tokens + t.token) * f.row_bytes;
}

/// The tile by the reference: parameters into the frame, codes into t.codes.
inline void EncodeTileReference(const IntFrame& f, const uint8_t* in, const IntTile& t, uint8_t* frame) {
  const uint32_t dim = f.shape.dim;
  for (uint32_t i = 0; i < t.parameters; ++i) {
    const uint32_t row = f.spec.by_channel ? 0 : i / f.groups;
    const uint32_t channel = f.spec.by_channel ? i : i % f.groups * f.group;
    const uint32_t count = f.spec.by_channel ? t.rows : (dim - channel < f.group ? dim - channel : f.group);
    const uint64_t at = uint64_t{row} * dim + channel;
    const IntParameters p = EncodeIntGroup(f.spec, f.shape.element, in + 2 * at, f.spec.by_channel ? 2 * dim : 2, count,
                                           t.codes + at, f.spec.by_channel ? dim : 1);
    StoreIntParameters(f, p, FirstParameter(f, t) + i, frame);
  }
}

/// AVX512_BF16, which no Highway 1.0 target stands for.
inline bool CpuRoundsToBf16() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512bf16");
  return has;
#else
  return false;
#endif
}

inline bool HasIntBody(const IntFrame& f) {
  if (f.shape.element != ElementType::kBfloat16 && f.shape.element != ElementType::kFloat16) return false;
  return f.shape.dim % kLanesMax == 0 && (f.spec.by_channel || f.group % kLanesMax == 0);
}

}  // namespace kvasir::simd
