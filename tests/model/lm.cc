// SPDX-License-Identifier: Apache-2.0
// Runner: the forward pass. Per layer four steps, each shared out to the workers, a barrier after each:
//   1 ProjectAndStore    norm, q k v, rotation; K and V go to the pages of the rank that owns the head
//   2 UnpackPages        pages 0 .. t back to fp32 panels, new and old positions alike; or UnpackContext: rows of a
//                        ragged context, and the pages after it
//   3 AttendHeads        query head by query head, each from the panels of its own KV head
//   4 MixAndFeedForward  o projection, norm, SwiGLU; every output is one sum over all heads, in head order
// The buffer between 3 and 4 is what an all-gather over tensor-parallel ranks would give.
#include "tests/model/lm.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "tests/model/attention.h"
#include "tests/model/chunk_check.h"
#include "tests/model/lm_math.h"
#include "tests/model/lm_weights.h"
#include "tests/model/worker_pool.h"

namespace kvasir::model {
namespace {

constexpr size_t kTokenBlock = 64;    ///< tokens that go through a layer's matrices together (they stay in L2)
constexpr size_t kQueryBlock = 8;     ///< query rows of one attention task
constexpr size_t kUnpackBlock = 256;  ///< positions of one unpack task

/// Rows that a KV head has before the chunk.
size_t RowsBefore(const Chunk& chunk, uint32_t layer, uint32_t kv_head) {
  const RaggedKv* context = ContextOf(chunk, kv_head);
  if (context == nullptr) return chunk.first_position;
  return RowsOf(*context, layer, kv_head) + (chunk.first_position - context->tokens);
}

/// The most rows that a head of any layer has at the end of the chunk.
size_t RowsAtEnd(const Chunk& chunk, const ModelConfig& config) {
  size_t most = 0;
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    for (uint32_t head = 0; head < config.kv_heads; ++head) most = std::max(most, RowsBefore(chunk, layer, head));
  }
  return most + chunk.tokens.size();
}

}  // namespace

/// Activations of a chunk of n tokens, panels of the sequence so far, and what each worker needs for itself.
struct Runner::Scratch {
  struct Worker {
    std::vector<float> normed;  ///< [kTokenBlock][d_model]
    std::vector<float> wide;    ///< [kTokenBlock][q k v, or gate and up]
    std::vector<float> mixed;   ///< [kTokenBlock][d_model]
    std::vector<float> scores;  ///< [kQueryBlock][rows]
  };

  /// For n tokens that see `end` rows at most.
  void Prepare(const ModelConfig& config, size_t n, size_t end, bool weighted) {
    const size_t q_width = size_t{config.query_heads} * config.head_dim;
    const size_t qkv_width = q_width + size_t{2} * config.kv_heads * config.head_dim;
    padded = RoundUp(end, kPanel);
    residual.resize(n * config.d_model);
    queries.resize(n * q_width);
    attended.resize(n * q_width);
    keys.resize(config.kv_heads * padded * config.head_dim);
    values.resize(keys.size());
    weights.assign(weighted ? 2 * config.kv_heads * padded : 0, 1.0f);
    for (Worker& worker : workers) {
      worker.normed.resize(kTokenBlock * config.d_model);
      worker.wide.resize(kTokenBlock * std::max(qkv_width, size_t{2} * config.mlp_dim));
      worker.mixed.resize(kTokenBlock * config.d_model);
      worker.scores.resize(kQueryBlock * padded);
    }
  }
  HeadPanels Panels(const ModelConfig& config, size_t kv_head) {
    const size_t offset = kv_head * padded * config.head_dim;
    return {keys.data() + offset, values.data() + offset,
            weights.empty() ? nullptr : weights.data() + 2 * kv_head * padded};
  }

  size_t padded = 0;            ///< rows so far, rounded up to kPanel
  std::vector<float> residual;  ///< [n][d_model]
  std::vector<float> queries;   ///< [n][query heads][head_dim], rotated and scaled
  std::vector<float> attended;  ///< as queries
  std::vector<float> keys;      ///< [KV heads] panels of this layer
  std::vector<float> values;
  std::vector<float> weights;  ///< [KV heads][rows][2]; empty where no row has any
  std::vector<Worker> workers;
};

Runner::Runner(std::shared_ptr<const Model> model, const RunnerOptions& options)
    : model_(std::move(model)),
      math_(options.math != nullptr ? options.math : MathBodies().front()),
      pool_(std::make_unique<WorkerPool>(std::max(options.threads, 1u))),
      scratch_(std::make_unique<Scratch>()) {
  scratch_->workers.resize(pool_->threads());
}
Runner::~Runner() = default;

Result<std::vector<float>> Runner::Prefill(const Chunk& chunk) {
  const ModelConfig& config = model_->config();
  if (const Result<bool> checked = CheckChunk(chunk, config); !checked.ok()) return checked.error();
  bool weighted = false;
  for (const RaggedKv& context : chunk.context) {
    for (const RaggedLayer& layer : context.layers) weighted = weighted || !layer.weights.empty();
  }
  scratch_->Prepare(config, chunk.tokens.size(), RowsAtEnd(chunk, config), weighted);
  for (size_t i = 0; i < chunk.tokens.size(); ++i) {
    const float* row = model_->weights().embedding.data() + size_t{chunk.tokens[i]} * config.d_model;
    std::copy_n(row, config.d_model, scratch_->residual.data() + i * config.d_model);
  }
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    const auto stopped = [&](const char* hook) {
      return Error{ErrorCode::kUnavailable, std::string(hook) + " stopped at layer " + std::to_string(layer)};
    };
    if (chunk.before_layer && !chunk.before_layer(layer)) return stopped("before_layer");
    ProjectAndStore(chunk, layer);
    if (chunk.layer_written && !chunk.layer_written(layer)) return stopped("layer_written");
    chunk.context.empty() ? UnpackPages(chunk, layer) : UnpackContext(chunk, layer);
    AttendHeads(chunk, layer);
    if (chunk.layer_attended) {
      chunk.layer_attended({layer, scratch_->residual, scratch_->queries, scratch_->attended});
    }
    MixAndFeedForward(chunk, layer);
  }
  return Logits(chunk);
}

Result<std::vector<float>> Runner::Decode(uint32_t token, uint32_t position, std::span<const RankKv> ranks) {
  Chunk chunk;
  chunk.tokens = {&token, 1};
  chunk.first_position = position;
  chunk.ranks = ranks;
  return Prefill(chunk);
}

void Runner::ProjectAndStore(const Chunk& chunk, uint32_t layer) {
  const ModelConfig& config = model_->config();
  const Weights& weights = model_->weights();
  const LayerWeights& l = weights.layers[layer];
  const size_t n = chunk.tokens.size(), dim = config.head_dim;
  const size_t q_width = config.query_heads * dim, width = l.qkv.outputs;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  pool_->Run((n + kTokenBlock - 1) / kTokenBlock, [&](size_t block, size_t worker) {
    Scratch::Worker& mine = scratch_->workers[worker];
    const size_t first = block * kTokenBlock, rows = std::min(kTokenBlock, n - first);
    for (size_t r = 0; r < rows; ++r) {
      math_->rms_norm(scratch_->residual.data() + (first + r) * config.d_model, l.attention_norm.data(),
                      config.norm_eps, mine.normed.data() + r * config.d_model, config.d_model);
    }
    l.qkv.Apply(*math_, rows, mine.normed.data(), config.d_model, mine.wide.data(), width);
    for (size_t r = 0; r < rows; ++r) {
      const size_t position = chunk.first_position + first + r;
      float* row = mine.wide.data() + r * width;
      for (size_t head = 0; head < config.query_heads + config.kv_heads; ++head) {
        weights.rope.Rotate(row + head * dim, position);
      }
      float* query = scratch_->queries.data() + (first + r) * q_width;
      for (size_t i = 0; i < q_width; ++i) query[i] = row[i] * scale;
      for (uint32_t head = 0; head < config.kv_heads; ++head) {
        const RankKv& rank = OwnerOf(chunk, head);
        StoreRow(rank, {layer, KvTensor::kKey, head, position}, row + q_width + head * dim);
        StoreRow(rank, {layer, KvTensor::kValue, head, position}, row + q_width + (config.kv_heads + head) * dim);
      }
    }
  });
}

void Runner::UnpackPages(const Chunk& chunk, uint32_t layer) {
  const ModelConfig& config = model_->config();
  const size_t end = chunk.first_position + chunk.tokens.size();
  // Memory is best read in order: all heads of a token where they lie side by side, else a run of tokens of each head.
  const PageStrides& strides = chunk.ranks.front().cache->key_strides;
  const size_t run = std::abs(strides.head) < std::abs(strides.token) ? 1 : kPanel;
  pool_->Run((end + kUnpackBlock - 1) / kUnpackBlock, [&](size_t block, size_t) {
    const size_t block_end = std::min((block + 1) * kUnpackBlock, end);
    for (size_t begin = block * kUnpackBlock; begin < block_end; begin += run) {
      const size_t run_end = std::min(begin + run, block_end);
      for (uint32_t head = 0; head < config.kv_heads; ++head) {
        UnpackHead(OwnerOf(chunk, head), layer, head, {begin, run_end, begin}, scratch_->Panels(config, head));
      }
    }
  });
}

void Runner::UnpackContext(const Chunk& chunk, uint32_t layer) {
  const ModelConfig& config = model_->config();
  const size_t end = chunk.first_position + chunk.tokens.size();
  pool_->Run(config.kv_heads, [&](size_t task, size_t) {
    const uint32_t head = static_cast<uint32_t>(task);
    const RaggedKv& context = *ContextOf(chunk, head);
    const HeadPanels panels = scratch_->Panels(config, head);
    if (panels.weights != nullptr) std::fill_n(panels.weights, 2 * scratch_->padded, 1.0f);  // of the last layer
    const size_t rows = UnpackHead(context, layer, head, panels);
    UnpackHead(OwnerOf(chunk, head), layer, head, {context.tokens, end, rows}, panels);
  });
}

void Runner::AttendHeads(const Chunk& chunk, uint32_t layer) {
  const ModelConfig& config = model_->config();
  const size_t n = chunk.tokens.size(), dim = config.head_dim, q_width = config.query_heads * dim;
  const size_t blocks = (n + kQueryBlock - 1) / kQueryBlock, group = config.query_heads / config.kv_heads;
  pool_->Run(config.query_heads * blocks, [&](size_t task, size_t worker) {
    const size_t head = task / blocks, first = task % blocks * kQueryBlock, offset = first * q_width + head * dim;
    Queries queries;
    queries.q = scratch_->queries.data() + offset;
    queries.q_stride = queries.out_stride = q_width;
    queries.rows = std::min(kQueryBlock, n - first);
    queries.first_position = RowsBefore(chunk, layer, static_cast<uint32_t>(head / group)) + first;
    queries.dim = dim;
    queries.out = scratch_->attended.data() + offset;
    Attend(*math_, queries, scratch_->Panels(config, head / group), scratch_->workers[worker].scores.data());
  });
}

void Runner::MixAndFeedForward(const Chunk& chunk, uint32_t layer) {
  const ModelConfig& config = model_->config();
  const LayerWeights& l = model_->weights().layers[layer];
  const size_t n = chunk.tokens.size(), d = config.d_model, mlp = config.mlp_dim;
  pool_->Run((n + kTokenBlock - 1) / kTokenBlock, [&](size_t block, size_t worker) {
    Scratch::Worker& mine = scratch_->workers[worker];
    const size_t first = block * kTokenBlock, rows = std::min(kTokenBlock, n - first);
    float* residual = scratch_->residual.data() + first * d;
    l.o.Apply(*math_, rows, scratch_->attended.data() + first * l.o.inputs, l.o.inputs, mine.mixed.data(), d);
    for (size_t i = 0; i < rows * d; ++i) residual[i] += mine.mixed[i];
    for (size_t r = 0; r < rows; ++r) {
      math_->rms_norm(residual + r * d, l.mlp_norm.data(), config.norm_eps, mine.normed.data() + r * d, d);
    }
    l.gate_up.Apply(*math_, rows, mine.normed.data(), d, mine.wide.data(), 2 * mlp);
    for (size_t r = 0; r < rows; ++r) {
      math_->gate(mine.wide.data() + r * 2 * mlp, mine.wide.data() + r * 2 * mlp + mlp, mlp);
    }
    l.down.Apply(*math_, rows, mine.wide.data(), 2 * mlp, mine.mixed.data(), d);
    for (size_t i = 0; i < rows * d; ++i) residual[i] += mine.mixed[i];
  });
}

std::vector<float> Runner::Logits(const Chunk& chunk) {
  const ModelConfig& config = model_->config();
  const Weights& weights = model_->weights();
  const size_t n = chunk.tokens.size();
  const size_t count = chunk.logits == LogitsOf::kAll ? n : chunk.logits == LogitsOf::kLast ? 1 : 0;
  std::vector<float> logits(count * config.vocab);
  pool_->Run((count + kTokenBlock - 1) / kTokenBlock, [&](size_t block, size_t worker) {
    float* normed = scratch_->workers[worker].normed.data();
    const size_t first = block * kTokenBlock, rows = std::min(kTokenBlock, count - first);
    const float* residual = scratch_->residual.data() + (n - count + first) * config.d_model;
    for (size_t r = 0; r < rows; ++r) {
      math_->rms_norm(residual + r * config.d_model, weights.final_norm.data(), config.norm_eps,
                      normed + r * config.d_model, config.d_model);
    }
    weights.head.Apply(*math_, rows, normed, config.d_model, logits.data() + first * config.vocab, config.vocab);
  });
  return logits;
}

std::vector<uint32_t> TokensOf(std::string_view text) {
  std::vector<uint32_t> tokens;
  tokens.reserve(text.size());
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

uint32_t Greedy(std::span<const float> logits) {
  return static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double NegativeLogLikelihood(std::span<const float> logits, std::span<const uint32_t> targets) {
  if (targets.empty()) return 0;
  const size_t vocab = logits.size() / targets.size();
  double total = 0;
  for (size_t row = 0; row < targets.size(); ++row) {
    const std::span<const float> scores = logits.subspan(row * vocab, vocab);
    const double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const float score : scores) sum += std::exp(score - max);
    total += max + std::log(sum) - scores[targets[row]];
  }
  return total;
}

}  // namespace kvasir::model
