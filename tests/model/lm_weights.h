// SPDX-License-Identifier: Apache-2.0
// The weights of the reference model as the arithmetic wants them, and the two places they come from.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/result.h"
#include "tests/model/lm.h"
#include "tests/model/lm_math.h"

namespace kvasir::model {

/// A linear map, y = W x + b. Immutable; any thread.
struct Matrix {
  size_t outputs = 0;  ///< a multiple of kPanel
  size_t inputs = 0;
  std::vector<float> panels;  ///< [outputs / kPanel][inputs][kPanel]
  std::vector<float> bias;    ///< [outputs], or empty

  /// Appends the rows of W ([rows][inputs], row-major) as further outputs. REQUIRES: rows a multiple of kPanel.
  void Append(std::span<const float> rows, std::span<const float> row_bias);
  /// out[r][0, outputs) = W x[r] + b for `rows` rows; strides in floats.
  void Apply(const Math& math, size_t rows, const float* x, size_t x_stride, float* out, size_t out_stride) const;
};

struct LayerWeights {
  std::vector<float> attention_norm;
  Matrix qkv;  ///< outputs: query heads, then KV heads of K, then of V
  Matrix o;
  std::vector<float> mlp_norm;
  Matrix gate_up;  ///< outputs: gate, then up
  Matrix down;
};

struct Weights {
  explicit Weights(const ModelConfig& config) : rope(config.context_max, config.head_dim, config.rope_theta) {}
  std::vector<float> embedding;  ///< [vocab][d_model]
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;
  Matrix head;
  RopeTable rope;
};

/// Gives a tensor by its name in a transformers checkpoint; `optional` ones may come back empty.
struct TensorRequest {
  std::string name;
  std::vector<uint64_t> shape;
  bool optional = false;
};
using TensorSource = std::function<Result<std::vector<float>>(const TensorRequest&)>;

/// Asks `source` for every tensor of the model. REQUIRES: a config that CheckConfig accepts.
Result<std::shared_ptr<const Weights>> BuildWeights(const ModelConfig& config, bool tied_head,
                                                    const TensorSource& source);

/// Uniform numbers that depend on seed and tensor name only, scaled so that activations keep their size.
TensorSource RandomTensors(uint64_t seed);

}  // namespace kvasir::model
