// SPDX-License-Identifier: Apache-2.0
// Checks of chunks: every refusal names what is wrong.
#include "tests/model/chunk_check.h"

#include <cstdlib>
#include <string>
#include <vector>

namespace kvasir::model {
namespace {

Error Wrong(const std::string& what) { return {ErrorCode::kInvalidArgument, "chunk: " + what}; }

Result<bool> CheckRank(const RankKv& rank, const ModelConfig& config, size_t end) {
  if (rank.cache == nullptr) return Wrong("a rank has no cache");
  const PagedCache& cache = *rank.cache;
  const KvLayout& layout = cache.layout;
  if (layout.layers != config.layers || layout.kv_heads != config.kv_heads || layout.key_dim != config.head_dim ||
      layout.value_dim != config.head_dim || ElementBytes(layout.element) == 0) {
    return Wrong("a rank's cache has another layout than the model");
  }
  if (cache.memory != MemoryKind::kHost) return Wrong("a rank's pages are not in host memory");
  if (cache.first_layer != 0 || cache.layers.size() != config.layers) {
    return Wrong("a rank's cache does not hold all layers");
  }
  if (cache.page_tokens == 0 || rank.pages.size() < (end + cache.page_tokens - 1) / cache.page_tokens) {
    return Wrong("a rank has too few pages for position " + std::to_string(end - 1));
  }
  return true;
}

/// What of a context's layer is wrong; empty where nothing is.
std::string WrongLayer(const RaggedKv& context, const RaggedLayer& layer) {
  if (layer.cu_lengths.size() != size_t{context.heads} + 1 || layer.cu_lengths[0] != 0) return "cu_lengths";
  for (uint32_t head = 0; head < context.heads; ++head) {
    if (layer.cu_lengths[head] > layer.cu_lengths[head + 1]) return "cu_lengths";
  }
  const size_t rows = layer.cu_lengths.back(), element = ElementBytes(context.layout.element);
  if (layer.keys.size() != rows * context.layout.key_dim * element) return "keys";
  if (layer.values.size() != rows * context.layout.value_dim * element) return "values";
  if (!layer.weights.empty() && layer.weights.size() != 2 * rows) return "weights";
  return "";
}

Result<bool> CheckContext(const Chunk& chunk, const ModelConfig& config) {
  std::vector<uint32_t> owners(config.kv_heads);
  for (const RaggedKv& context : chunk.context) {
    const KvLayout& layout = context.layout;
    if (layout.layers != config.layers || layout.kv_heads != config.kv_heads || layout.key_dim != config.head_dim ||
        layout.value_dim != config.head_dim || ElementBytes(layout.element) == 0) {
      return Wrong("the context has another layout than the model");
    }
    if (context.tokens != chunk.context.front().tokens || context.tokens > chunk.first_position) {
      return Wrong("the context stands for " + std::to_string(context.tokens) + " tokens, position " +
                   std::to_string(chunk.first_position) + " comes next");
    }
    if (context.layers.size() != config.layers) return Wrong("the context does not hold all layers");
    if (uint64_t{context.first_head} + context.heads > config.kv_heads) {
      return Wrong("the context has KV heads that there are not");
    }
    for (uint32_t layer = 0; layer < config.layers; ++layer) {
      if (const std::string what = WrongLayer(context, context.layers[layer]); !what.empty()) {
        return Wrong("the context's " + what + " of layer " + std::to_string(layer) +
                     " have the wrong length or order");
      }
    }
    for (uint32_t head = 0; head < context.heads; ++head) ++owners[context.first_head + head];
  }
  for (uint32_t head = 0; head < config.kv_heads && !chunk.context.empty(); ++head) {
    if (owners[head] != 1) {
      return Wrong("KV head " + std::to_string(head) + " is in the context " + std::to_string(owners[head]) +
                   " times, not once");
    }
  }
  return true;
}

}  // namespace

Result<bool> CheckChunk(const Chunk& chunk, const ModelConfig& config) {
  const size_t end = size_t{chunk.first_position} + chunk.tokens.size();
  if (chunk.tokens.empty()) return Wrong("no tokens");
  if (end > config.context_max) {
    return Wrong("position " + std::to_string(end - 1) + " is beyond the context of " +
                 std::to_string(config.context_max));
  }
  for (const uint32_t token : chunk.tokens) {
    if (token >= config.vocab) return Wrong("token " + std::to_string(token) + " is outside the vocabulary");
  }
  std::vector<uint32_t> owners(config.kv_heads);
  for (const RankKv& rank : chunk.ranks) {
    if (const Result<bool> checked = CheckRank(rank, config, end); !checked.ok()) return checked.error();
    for (uint64_t head = rank.cache->first_head; head < uint64_t{rank.cache->first_head} + rank.cache->heads; ++head) {
      if (head >= config.kv_heads) {
        return Wrong("a rank holds KV head " + std::to_string(head) + ", which there is not");
      }
      ++owners[head];
    }
  }
  for (uint32_t head = 0; head < config.kv_heads; ++head) {
    if (owners[head] != 1) {
      return Wrong("KV head " + std::to_string(head) + " is held by " + std::to_string(owners[head]) + " ranks, not 1");
    }
  }
  return CheckContext(chunk, config);
}

const RankKv& OwnerOf(const Chunk& chunk, uint32_t kv_head) {
  for (const RankKv& rank : chunk.ranks) {
    if (kv_head >= rank.cache->first_head && kv_head - rank.cache->first_head < rank.cache->heads) return rank;
  }
  std::abort();  // CheckChunk saw to it
}

const RaggedKv* ContextOf(const Chunk& chunk, uint32_t kv_head) {
  for (const RaggedKv& context : chunk.context) {
    if (kv_head >= context.first_head && kv_head - context.first_head < context.heads) return &context;
  }
  return nullptr;
}

}  // namespace kvasir::model
