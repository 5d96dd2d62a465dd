// SPDX-License-Identifier: Apache-2.0
// T:sinkhorn. Sinkhorn normalisation of [tokens x channels] tiles: rows and columns are brought to unit variance by
// turns, so that neither an outlier token nor an outlier channel stretches the scale of the others (KVarN).
//
//   each round: r_t = rms of row t, x_t* /= r_t;  then c_j = rms of column j in the tile, x_*j /= c_j
// The products of all r and of all c are rounded to fp16, and the tile is corrected to those. A row or column of zeros
// keeps scale 1. Sums in the order of the channels, and of the tokens.
// Section: row scales fp16 [heads][tokens] | column scales fp16 [heads][tiles][dim].
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct SinkhornStage {
  struct Args {
    uint32_t rounds = 16;
    uint32_t tile = 128;  ///< tokens; the last tile of a frame may be shorter
  };
  static constexpr StageRole kRole = StageRole::kTransform;
  static constexpr StageInfo kInfo = {
      "T", "sinkhorn", "sinkhorn[(rounds[,tile])]",
      "Rows and columns of [tile tokens x channels] to unit variance by turns (KVarN; Sinkhorn 1967)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> rounds = in.Number(0, 16, 1, 64, "rounds");
    if (!rounds.ok()) return rounds.error();
    const Result<uint32_t> tile = in.Number(1, 128, 1, kGroupMax, "tokens in a tile");
    if (!tile.ok()) return tile.error();
    return Args{*rounds, *tile};
  }
  static std::string Print(const Args& a) { return std::to_string(a.rounds) + "," + std::to_string(a.tile); }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint64_t Tiles(const Args& a, const FrameShape& s) { return (s.tokens + a.tile - 1) / a.tile; }
  KVASIR_HD static uint64_t Columns(const Args& a, const FrameShape& s) { return s.heads * Tiles(a, s) * s.dim; }
  KVASIR_HD static uint64_t SectionBytes(const Args& a, const FrameShape& s) {
    return 2 * (uint64_t{s.heads} * s.tokens + Columns(a, s));
  }
  KVASIR_HD static uint64_t SpareFloats(const Args& a, const FrameShape& s) {
    return uint64_t{s.heads} * s.tokens + Columns(a, s);
  }
  /// Divides `count` values `stride` apart by their root mean square, and multiplies `scale` by it.
  KVASIR_HD static void Normalise(float* x, uint32_t count, uint32_t stride, float& scale) {
    float squares = 0;
    for (uint32_t i = 0; i < count; ++i) squares += x[uint64_t{i} * stride] * x[uint64_t{i} * stride];
    const float root = sqrtf(squares / static_cast<float>(count));
    if (!(root > 0)) return;
    const float inverse = 1.0f / root;
    for (uint32_t i = 0; i < count; ++i) x[uint64_t{i} * stride] *= inverse;
    scale *= root;
  }
  /// Rounds `scale` to fp16 (1 where that is 0) and answers what corrects the values to it.
  KVASIR_HD static float RoundScale(float scale, uint8_t* section) {
    uint16_t rounded = SaturatedFloat16(scale);
    if (rounded == 0) rounded = 1;  // the least fp16: the values are too small to matter, not too small to exist
    Store16(section, rounded);
    return scale / Float16ToFloat(rounded);
  }

  template <class Run>
  static void Forward(Run& run, const Args& a, const ChainFrame& frame, float* x, uint8_t* section) {
    const FrameShape s = frame.shape;
    const uint64_t rows = frame.rows(), columns = Columns(a, s), tiles = Tiles(a, s);
    const uint32_t dim = s.dim, tokens = s.tokens, tile = a.tile;
    float* row_scales = frame.spare;
    float* column_scales = frame.spare + rows;
    run(rows + columns, [=] KVASIR_HD(uint64_t i) { row_scales[i] = 1.0f; });
    for (uint32_t round = 0; round < a.rounds; ++round) {
      RunRows<RowUse::kChange>(run, rows, dim, x,
                               [=] KVASIR_HD(uint64_t row, float* at) { Normalise(at, dim, 1, row_scales[row]); });
      run(columns, [=] KVASIR_HD(uint64_t column) {
        const uint32_t first = static_cast<uint32_t>(column / dim % tiles) * tile;
        const uint32_t count = tokens - first < tile ? tokens - first : tile;
        float* at = x + (column / dim / tiles * tokens + first) * dim + column % dim;
        Normalise(at, count, dim, column_scales[column]);
      });
    }
    run(rows + columns, [=] KVASIR_HD(uint64_t i) { row_scales[i] = RoundScale(row_scales[i], section + 2 * i); });
    RunRows<RowUse::kChange>(run, rows, dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const float* correct = column_scales + (row / tokens * tiles + row % tokens / tile) * dim;
      for (uint32_t c = 0; c < dim; ++c) at[c] *= row_scales[row] * correct[c];
    });
  }
  template <class Run>
  static void Inverse(Run& run, const Args& a, const ChainFrame& frame, const uint8_t* section, float* x) {
    const FrameShape s = frame.shape;
    const uint64_t tiles = Tiles(a, s);
    const uint32_t dim = s.dim, tokens = s.tokens, tile = a.tile;
    const uint8_t* columns = section + 2 * frame.rows();
    RunRows<RowUse::kChange>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const float scale = Float16ToFloat(Load16(section + 2 * row));
      const uint8_t* column = columns + 2 * ((row / tokens * tiles + row % tokens / tile) * dim);
      for (uint32_t c = 0; c < dim; ++c) at[c] *= scale * Float16ToFloat(Load16(column + 2 * c));
    });
  }
};

}  // namespace kvasir
