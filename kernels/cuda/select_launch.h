// SPDX-License-Identifier: Apache-2.0
// The launchers of a selection. Each enqueues on `stream` and returns; pointers are device memory. Rows are those of
// one head, dense.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/select_bodies.h"

namespace kvasir::cuda {

/// Rows of one head.
struct HeadRows {
  const uint8_t* rows = nullptr;  ///< [tokens][dim]
  uint32_t tokens = 0, dim = 0;
  ElementType element = ElementType::kBfloat16;
};

/// scores[t] := E:knorm of row t; and scores[t] *= |row t|_1, unless it is kept first.
void LaunchKeyNorms(const HeadRows& keys, float* scores, CudaStream stream);
void LaunchValueNorms(const HeadRows& values, float* scores, CudaStream stream);

/// Rooms of E:win.
struct WindowRoom {
  float* dots = nullptr;             ///< [window][tokens]
  WindowSoftmax* softmax = nullptr;  ///< [window]
  double* attention = nullptr;       ///< [tokens]
  double* pooled = nullptr;          ///< [tokens], summed over the query heads
};
/// E:win of one KV head: the last shape.window of the `brought` queries of each of its query heads, [query
/// heads][brought][dim].
void LaunchWindowScores(const WindowShape& shape, const float* queries, uint32_t brought, const uint8_t* keys,
                        const WindowRoom& room, float* scores, CudaStream stream);

/// The classes of `heads` heads: scores and classes are [heads][tokens], counts [heads].
void LaunchChoose(const ChoiceRules& rules, uint32_t heads, const float* scores, const uint32_t* counts,
                  RowClass* classes, CudaStream stream);

}  // namespace kvasir::cuda
