// SPDX-License-Identifier: Apache-2.0
// Packing of matrices, and the list of tensors a LLaMA has.
#include "tests/model/lm_weights.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

namespace kvasir::model {

void Matrix::Append(std::span<const float> rows, std::span<const float> row_bias) {
  const size_t count = rows.size() / inputs, first = outputs;
  panels.resize((outputs + count) * inputs);
  for (size_t row = 0; row < count; ++row) {
    const size_t output = first + row;
    float* panel = panels.data() + output / kPanel * kPanel * inputs + output % kPanel;
    for (size_t k = 0; k < inputs; ++k) panel[k * kPanel] = rows[row * inputs + k];
  }
  outputs += count;
  if (row_bias.empty() && bias.empty()) return;
  bias.resize(first, 0.0f);
  bias.insert(bias.end(), row_bias.begin(), row_bias.end());
  bias.resize(outputs, 0.0f);
}

void Matrix::Apply(const Math& math, size_t rows, const float* x, size_t x_stride, float* out,
                   size_t out_stride) const {
  for (size_t column = 0; column < outputs; column += kPanel) {
    for (size_t row = 0; row < rows; ++row) std::fill_n(out + row * out_stride + column, kPanel, 0.0f);
    math.add_products({x, x_stride, panels.data() + column * inputs, kPanel, inputs, out + column, out_stride, rows});
  }
  if (bias.empty()) return;
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < outputs; ++i) out[row * out_stride + i] += bias[i];
  }
}

namespace {

/// Remembers the first error, so that the list of tensors reads as a list.
class Reader {
 public:
  explicit Reader(const TensorSource& source) : source_(source) {}

  std::vector<float> Vector(const std::string& name, uint64_t count, bool optional = false) {
    return Take({name, {count}, optional});
  }
  std::vector<float> Table(const std::string& name, uint64_t rows, uint64_t columns) {
    return Take({name, {rows, columns}, false});
  }
  /// Appends name.weight [outputs][inputs] and, where there is one, name.bias.
  void Linear(const std::string& name, uint64_t outputs, uint64_t inputs, Matrix& to) {
    const std::vector<float> rows = Table(name + ".weight", outputs, inputs);
    const std::vector<float> bias = Vector(name + ".bias", outputs, /*optional=*/true);
    if (error_) return;
    to.inputs = inputs;
    to.Append(rows, bias);
  }
  const std::unique_ptr<Error>& error() const { return error_; }

 private:
  std::vector<float> Take(const TensorRequest& request) {
    if (error_) return {};
    Result<std::vector<float>> found = source_(request);
    if (found.ok()) return *std::move(found);
    error_ = std::make_unique<Error>(found.error());
    return {};
  }
  const TensorSource& source_;
  std::unique_ptr<Error> error_;
};

LayerWeights ReadLayer(Reader& reader, const ModelConfig& config, uint32_t layer) {
  const std::string name = "model.layers." + std::to_string(layer) + ".";
  const uint64_t q_width = uint64_t{config.query_heads} * config.head_dim,
                 kv_width = uint64_t{config.kv_heads} * config.head_dim;
  LayerWeights weights;
  weights.attention_norm = reader.Vector(name + "input_layernorm.weight", config.d_model);
  reader.Linear(name + "self_attn.q_proj", q_width, config.d_model, weights.qkv);
  reader.Linear(name + "self_attn.k_proj", kv_width, config.d_model, weights.qkv);
  reader.Linear(name + "self_attn.v_proj", kv_width, config.d_model, weights.qkv);
  reader.Linear(name + "self_attn.o_proj", config.d_model, q_width, weights.o);
  weights.mlp_norm = reader.Vector(name + "post_attention_layernorm.weight", config.d_model);
  reader.Linear(name + "mlp.gate_proj", config.mlp_dim, config.d_model, weights.gate_up);
  reader.Linear(name + "mlp.up_proj", config.mlp_dim, config.d_model, weights.gate_up);
  reader.Linear(name + "mlp.down_proj", config.d_model, config.mlp_dim, weights.down);
  return weights;
}

/// splitmix64.
uint64_t Next(uint64_t& state) {
  uint64_t z = (state += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

bool EndsWith(const std::string& text, std::string_view end) { return std::string_view(text).ends_with(end); }

}  // namespace

Result<std::shared_ptr<const Weights>> BuildWeights(const ModelConfig& config, bool tied_head,
                                                    const TensorSource& source) {
  Reader reader(source);
  auto weights = std::make_shared<Weights>(config);
  weights->embedding = reader.Table("model.embed_tokens.weight", config.vocab, config.d_model);
  for (uint32_t layer = 0; layer < config.layers; ++layer) weights->layers.push_back(ReadLayer(reader, config, layer));
  weights->final_norm = reader.Vector("model.norm.weight", config.d_model);
  if (tied_head && !reader.error()) {
    weights->head.inputs = config.d_model;
    weights->head.Append(weights->embedding, {});
  } else {
    reader.Linear("lm_head", config.vocab, config.d_model, weights->head);
  }
  if (reader.error()) return *reader.error();
  return std::shared_ptr<const Weights>(std::move(weights));
}

TensorSource RandomTensors(uint64_t seed) {
  return [seed](const TensorRequest& request) -> Result<std::vector<float>> {
    uint64_t state = seed;
    for (const char c : request.name) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
    uint64_t count = 1;
    for (const uint64_t n : request.shape) count *= n;
    const bool norm = EndsWith(request.name, "norm.weight");
    const float centre = norm ? 1.0f : 0.0f;
    const float variance = norm ? 0.01f
                           : request.shape.size() == 1 || EndsWith(request.name, "embed_tokens.weight")
                               ? 1.0f
                               : 1.0f / static_cast<float>(request.shape[1]);
    const float reach = std::sqrt(3.0f * variance);  // of a uniform distribution with that variance
    std::vector<float> values(count);
    for (float& value : values) {
      const float unit = static_cast<float>(Next(state) >> 40) * 0x1p-23f - 1.0f;
      value = centre + reach * unit;
    }
    return values;
  };
}

}  // namespace kvasir::model
