// SPDX-License-Identifier: Apache-2.0
// The reference language model: LLaMA on the CPU over paged KV. Small, real, and repeatable to the last bit.
//
//   Model    weights, immutable, shared          Runner    computes chunks of positions, layer by layer
//   PagedKv  one rank's pages (paged_kv.h)       logits    fp32, [positions][vocab]
//
// A position's K, V and logits depend on the tokens 0 .. position and the cached bytes alone: not on how positions were
// cut into chunks, on how heads are spread over ranks, on page order, thread count or SIMD width. So "resumed from a
// cache", "TP2" and "one token at a time" can be held to equality with "whole"; rows of a ragged context that lack no
// token give the same bits as pages.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/result.h"
#include "tests/model/paged_kv.h"
#include "tests/model/ragged_kv.h"

namespace kvasir::model {

struct Math;
struct Weights;
class WorkerPool;

/// The shape of a model. The defaults are the committed one's.
struct ModelConfig {
  uint32_t layers = 4;
  uint32_t d_model = 256;
  uint32_t query_heads = 8;
  uint32_t kv_heads = 4;
  uint32_t head_dim = 64;
  uint32_t mlp_dim = 704;
  uint32_t vocab = 256;  ///< bytes
  uint32_t context_max = 4096;
  double rope_theta = 10000.0;
  float norm_eps = 1e-5f;
  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

/// kInvalidArgument names the field: zero, above its limit, heads that do not divide, or (kUnimplemented) d_model,
/// head_dim, mlp_dim or vocab that is no multiple of 32.
Result<bool> CheckConfig(const ModelConfig& config);

/// Weights and shape. Immutable after it is made: shared by every Runner of a process, on any thread.
class Model {
 public:
  /// Reads `directory`'s config.json and model.safetensors (names as transformers' LlamaForCausalLM; F32, F16, BF16).
  static Result<std::shared_ptr<const Model>> Load(const std::filesystem::path& directory);
  /// Weights drawn from `seed`: the same numbers on every machine.
  static Result<std::shared_ptr<const Model>> Random(const ModelConfig& config, uint64_t seed);

  const ModelConfig& config() const { return config_; }
  /// What the KV cache holds. bf16 is the model's own; fp32 exists to compare with other implementations.
  KvLayout layout(ElementType element = ElementType::kBfloat16) const;
  /// SHA-256 (hex) of model.safetensors, or of the description of the random model.
  const std::string& WeightsDigest() const { return digest_; }
  const Weights& weights() const { return *weights_; }

 private:
  Model(const ModelConfig& config, std::shared_ptr<const Weights> weights, std::string digest);
  ModelConfig config_;
  std::shared_ptr<const Weights> weights_;  ///< shared only because its type is incomplete here
  std::string digest_;
};

/// Called on the thread that called Prefill; false stops it there with kUnavailable.
using LayerHook = std::function<bool(uint32_t layer)>;
/// What a layer computed for the n positions of a chunk, up to its attention. Valid during the call.
struct LayerView {
  uint32_t layer = 0;
  std::span<const float> hidden;    ///< [n][d_model], before the layer
  std::span<const float> queries;   ///< [n][query heads][head_dim], rotated, times 1 / sqrt(head_dim)
  std::span<const float> attended;  ///< [n][query heads][head_dim]
};
/// Called on the thread that called Prefill.
using LayerWatch = std::function<void(const LayerView& view)>;
enum class LogitsOf : uint8_t { kNone, kLast, kAll };

/// Positions [first_position, first_position + tokens.size()) of one sequence. Prefill borrows all that is named here.
struct Chunk {
  std::span<const uint32_t> tokens;
  /// K and V of all positions before it are in the pages, or will be when before_layer returns.
  uint32_t first_position = 0;
  /// One per tensor-parallel rank, in any order; together they hold each KV head exactly once. A rank's share is
  /// whatever its cache says: [first_head, first_head + heads), even or not.
  std::span<const RankKv> ranks;
  /// Empty: all earlier positions are in the pages. Else their first ones, `tokens` of them, are these rows instead,
  /// one per rank, in any order, and those pages are not read. Each head attends over its own rows, then over the
  /// pages.
  std::span<const RaggedKv> context;
  LayerHook before_layer;     ///< `layer` has not yet touched the cache: the place to wait for a fetch
  LayerHook layer_written;    ///< K and V of `layer` are written for the whole chunk: the place to push
  LayerWatch layer_attended;  ///< the attention of `layer` is done; its K and V are in the pages
  LogitsOf logits = LogitsOf::kLast;
};

struct RunnerOptions {
  uint32_t threads = 1;        ///< that compute, the caller's included
  const Math* math = nullptr;  ///< null: the fastest body of this CPU (lm_math.h)
};

/// Computes. Keeps scratch memory, so it serves one thread at a time; several Runners may share a Model.
class Runner {
 public:
  explicit Runner(std::shared_ptr<const Model> model, const RunnerOptions& options = {});
  ~Runner();

  /// Writes K (rotated) and V of the chunk into the pages and attends over positions 0 .. t. Returns
  /// logits [n][vocab], n = 0, 1 or tokens.size(). kInvalidArgument names what is wrong with the chunk, before anything
  /// is written; kUnavailable: a hook said stop; pages of the chunk's positions are then partly written.
  Result<std::vector<float>> Prefill(const Chunk& chunk);
  /// One more token: the logits after it.
  Result<std::vector<float>> Decode(uint32_t token, uint32_t position, std::span<const RankKv> ranks);

  const Model& model() const { return *model_; }

 private:
  struct Scratch;
  void ProjectAndStore(const Chunk& chunk, uint32_t layer);
  void UnpackPages(const Chunk& chunk, uint32_t layer);
  void UnpackContext(const Chunk& chunk, uint32_t layer);
  void AttendHeads(const Chunk& chunk, uint32_t layer);
  void MixAndFeedForward(const Chunk& chunk, uint32_t layer);
  std::vector<float> Logits(const Chunk& chunk);

  std::shared_ptr<const Model> model_;
  const Math* math_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<Scratch> scratch_;
};

/// The tokens of a text: its bytes.
std::vector<uint32_t> TokensOf(std::string_view text);
/// Index of the largest logit; the lowest index wins a tie. REQUIRES: not empty.
uint32_t Greedy(std::span<const float> logits);
/// Sum over rows of -ln softmax(logits)[target], in nats; perplexity = exp(sum / targets.size()). NaN logits give NaN.
/// REQUIRES: logits.size() a multiple of targets.size(), targets below the row length.
double NegativeLogLikelihood(std::span<const float> logits, std::span<const uint32_t> targets);

}  // namespace kvasir::model
