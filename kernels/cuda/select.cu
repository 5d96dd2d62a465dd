// SPDX-License-Identifier: Apache-2.0
// Launchers of a selection (select_bodies.h): a thread a token, a block a query or a head.
#include <math_constants.h>

#include "kernels/cuda/select_launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocksMax = 65535;
constexpr uint32_t kTeam = 512;  // threads of a block that has a whole query or head

__global__ void KeyNormKernel(HeadRows keys, float* scores) {
  for (uint32_t t = blockIdx.x * kThreads + threadIdx.x; t < keys.tokens; t += gridDim.x * kThreads) {
    scores[t] = KeyNormScore(keys.element, keys.dim, keys.rows + uint64_t{t} * keys.dim * ElementBytes(keys.element));
  }
}

__global__ void ValueNormKernel(HeadRows values, float* scores) {
  for (uint32_t t = blockIdx.x * kThreads + threadIdx.x; t < values.tokens; t += gridDim.x * kThreads) {
    const float norm =
        ValueNorm(values.element, values.dim, values.rows + uint64_t{t} * values.dim * ElementBytes(values.element));
    if (scores[t] != CUDART_INF_F) scores[t] *= norm;
  }
}

/// Query blockIdx.y.
__global__ void DotsKernel(WindowShape shape, const float* queries, const uint8_t* keys, float* dots) {
  for (uint32_t t = blockIdx.x * kThreads + threadIdx.x; t < shape.tokens; t += gridDim.x * kThreads) {
    dots[uint64_t{blockIdx.y} * shape.tokens + t] = WindowDot(shape, queries, keys, blockIdx.y, t);
  }
}

__global__ void SoftmaxKernel(WindowShape shape, const float* dots, WindowSoftmax* softmax) {
  __shared__ double partial[kTeam];
  DeviceBlock<kTeam> team;
  SumSoftmax(team, shape, dots, blockIdx.x, partial, softmax);
}

__global__ void AttentionKernel(WindowShape shape, const float* dots, const WindowSoftmax* softmax, double* attention) {
  for (uint32_t t = blockIdx.x * kThreads + threadIdx.x; t < shape.before(); t += gridDim.x * kThreads) {
    attention[t] = WindowAttention(shape, dots, softmax, t);
  }
}

__global__ void PoolKernel(WindowShape shape, const double* attention, bool first, double* pooled) {
  for (uint32_t t = blockIdx.x * kThreads + threadIdx.x; t < shape.before(); t += gridDim.x * kThreads) {
    pooled[t] = (first ? 0.0 : pooled[t]) + PooledAttention(shape, attention, t);
  }
}

__global__ void ScoreKernel(WindowShape shape, const double* pooled, float* scores) {
  for (uint32_t t = blockIdx.x * kThreads + threadIdx.x; t < shape.tokens; t += gridDim.x * kThreads) {
    scores[t] = t < shape.before() ? WindowScore(shape, pooled[t]) : CUDART_INF_F;
  }
}

__global__ void ChooseKernel(ChoiceRules rules, const float* scores, const uint32_t* counts, RowClass* classes) {
  __shared__ ChoiceShared shared;
  const uint64_t first = uint64_t{blockIdx.x} * rules.tokens;
  DeviceBlock<kTeam> team;
  ChooseTokens(team, rules, scores + first, counts[blockIdx.x], shared, classes + first);
}

uint32_t Blocks(uint64_t items) {
  const uint64_t blocks = (items + kThreads - 1) / kThreads;
  return static_cast<uint32_t>(blocks == 0 ? 1 : blocks < kBlocksMax ? blocks : kBlocksMax);
}

}  // namespace

void LaunchKeyNorms(const HeadRows& keys, float* scores, CudaStream stream) {
  KeyNormKernel<<<Blocks(keys.tokens), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(keys, scores);
}

void LaunchValueNorms(const HeadRows& values, float* scores, CudaStream stream) {
  ValueNormKernel<<<Blocks(values.tokens), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(values, scores);
}

void LaunchWindowScores(const WindowShape& shape, const float* queries, uint32_t brought, const uint8_t* keys,
                        const WindowRoom& room, float* scores, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const uint32_t blocks = Blocks(shape.tokens);
  for (uint32_t member = 0; member < shape.query_heads; ++member) {
    const float* last = queries + (uint64_t{member + 1} * brought - shape.window) * shape.dim;
    DotsKernel<<<dim3(blocks, shape.window), kThreads, 0, s>>>(shape, last, keys, room.dots);
    SoftmaxKernel<<<shape.window, kTeam, 0, s>>>(shape, room.dots, room.softmax);
    AttentionKernel<<<blocks, kThreads, 0, s>>>(shape, room.dots, room.softmax, room.attention);
    PoolKernel<<<blocks, kThreads, 0, s>>>(shape, room.attention, member == 0, room.pooled);
  }
  ScoreKernel<<<blocks, kThreads, 0, s>>>(shape, room.pooled, scores);
}

void LaunchChoose(const ChoiceRules& rules, uint32_t heads, const float* scores, const uint32_t* counts,
                  RowClass* classes, CudaStream stream) {
  ChooseKernel<<<heads, kTeam, 0, static_cast<cudaStream_t>(stream)>>>(rules, scores, counts, classes);
}

}  // namespace kvasir::cuda
