// SPDX-License-Identifier: Apache-2.0
// The launchers of kernels/cuda/select_launch.h on the CPU: the bodies by SerialTeam.
#include <vector>

#include "kernels/cuda/select_launch.h"
#include "kernels/stages/select_stage.h"

namespace kvasir::cuda {

using Team = SerialTeam<64>;

void LaunchKeyNorms(const HeadRows& keys, float* scores, CudaStream) {
  const uint64_t row_bytes = uint64_t{keys.dim} * ElementBytes(keys.element);
  for (uint32_t t = 0; t < keys.tokens; ++t) {
    scores[t] = KeyNormScore(keys.element, keys.dim, keys.rows + t * row_bytes);
  }
}

void LaunchValueNorms(const HeadRows& values, float* scores, CudaStream) {
  const uint64_t row_bytes = uint64_t{values.dim} * ElementBytes(values.element);
  for (uint32_t t = 0; t < values.tokens; ++t) {
    if (scores[t] != kKeepFirst) scores[t] *= ValueNorm(values.element, values.dim, values.rows + t * row_bytes);
  }
}

void LaunchWindowScores(const WindowShape& shape, const float* queries, uint32_t brought, const uint8_t* keys,
                        const WindowRoom& room, float* scores, CudaStream) {
  Team team;
  std::vector<double> partial(Team::kThreads);
  for (uint32_t member = 0; member < shape.query_heads; ++member) {
    const float* last = queries + (uint64_t{member + 1} * brought - shape.window) * shape.dim;
    for (uint32_t w = 0; w < shape.window; ++w) {
      for (uint32_t t = 0; t < shape.tokens; ++t) {
        room.dots[uint64_t{w} * shape.tokens + t] = WindowDot(shape, last, keys, w, t);
      }
      SumSoftmax(team, shape, room.dots, w, partial.data(), room.softmax);
    }
    for (uint32_t t = 0; t < shape.before(); ++t) {
      room.attention[t] = WindowAttention(shape, room.dots, room.softmax, t);
    }
    for (uint32_t t = 0; t < shape.before(); ++t) {
      room.pooled[t] = (member == 0 ? 0.0 : room.pooled[t]) + PooledAttention(shape, room.attention, t);
    }
  }
  for (uint32_t t = 0; t < shape.tokens; ++t) {
    scores[t] = t < shape.before() ? WindowScore(shape, room.pooled[t]) : kKeepFirst;
  }
}

void LaunchChoose(const ChoiceRules& rules, uint32_t heads, const float* scores, const uint32_t* counts,
                  RowClass* classes, CudaStream) {
  Team team;
  for (uint32_t head = 0; head < heads; ++head) {
    const uint64_t first = uint64_t{head} * rules.tokens;
    ChoiceShared shared;
    ChooseTokens(team, rules, scores + first, counts[head], shared, classes + first);
  }
}

}  // namespace kvasir::cuda
