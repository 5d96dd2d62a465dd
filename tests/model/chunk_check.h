// SPDX-License-Identifier: Apache-2.0
// Whether a chunk can be computed, and whose each KV head is.
#pragma once

#include "kernels/result.h"
#include "tests/model/lm.h"

namespace kvasir::model {

/// kInvalidArgument names what is wrong with the chunk, its ranks or its context.
Result<bool> CheckChunk(const Chunk& chunk, const ModelConfig& config);
/// The rank that holds a KV head. REQUIRES: a chunk that CheckChunk accepts.
const RankKv& OwnerOf(const Chunk& chunk, uint32_t kv_head);
/// The part of the context that holds a KV head; null without a context. REQUIRES: as OwnerOf.
const RaggedKv* ContextOf(const Chunk& chunk, uint32_t kv_head);

}  // namespace kvasir::model
