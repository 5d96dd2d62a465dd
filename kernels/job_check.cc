// SPDX-License-Identifier: Apache-2.0
// The checks of pack and unpack jobs.
#include "kernels/job_check.h"

namespace kvasir {
namespace {

Error Invalid(const std::string& what) { return {ErrorCode::kInvalidArgument, "device job: " + what}; }

/// [first, first + count) lies in [outer_first, outer_first + outer_count) and is not empty.
bool Inside(uint64_t first, uint64_t count, uint64_t outer_first, uint64_t outer_count) {
  return count > 0 && first >= outer_first && first + count <= outer_first + outer_count;
}

Result<bool> CheckPages(const PagedCache& cache, PageTable pages, const PartGeometry& part) {
  if (cache.page_tokens == 0) return Invalid("cache.page_tokens is 0");
  if (part.tokens == 0 || part.first_token % cache.page_tokens != 0 || part.tokens % cache.page_tokens != 0) {
    return Invalid("part.first_token and part.tokens must be multiples of cache.page_tokens (" +
                   std::to_string(cache.page_tokens) + "), tokens at least one page");
  }
  const uint64_t needed = (uint64_t{part.first_token} + part.tokens) / cache.page_tokens;
  if (pages.size() < needed) {
    return Invalid("pages has " + std::to_string(pages.size()) + " entries, the part needs " + std::to_string(needed));
  }
  return true;
}

/// The cache owns these layers and heads.
Result<bool> CheckCache(const PagedCache& cache, uint32_t first_layer, uint32_t layers, uint32_t first_head,
                        uint32_t heads) {
  if (!Inside(first_layer, layers, cache.first_layer, cache.layers.size())) {
    return Invalid("layers [" + std::to_string(first_layer) + ", +" + std::to_string(layers) +
                   ") are not in this cache");
  }
  if (!Inside(first_head, heads, cache.first_head, cache.heads)) {
    return Invalid("heads [" + std::to_string(first_head) + ", +" + std::to_string(heads) + ") are not in this cache");
  }
  for (uint32_t i = 0; i < layers; ++i) {
    const PagedLayer& layer = cache.layers[first_layer - cache.first_layer + i];
    if (layer.key == nullptr || (layer.value == nullptr && !cache.layout.latent())) {
      return Invalid("layer " + std::to_string(first_layer + i) + " has a null base pointer");
    }
  }
  return true;
}

Result<bool> CheckCodec(const Codec& codec, const KvLayout& layout, const PartGeometry& part) {
  if (FrameCount(layout, part) > kFramesPerPartMax || part.layers > kFramesPerPartMax) {
    return Invalid("part.layers is above the limit of frames in a part");
  }
  for (uint32_t t = 0; t < layout.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    if (Result<bool> checked = codec.Check(tensor, ShapeOfFrame(layout, part, tensor)); !checked.ok()) return checked;
  }
  return true;
}

/// Every frame has what its stages need.
Result<bool> CheckInputs(const PackJob& job, const KvLayout& layout) {
  const uint32_t frames = FrameCount(layout, job.part);
  if (!job.inputs.empty() && job.inputs.size() != frames) return Invalid("inputs must be empty or one a frame");
  for (uint32_t i = 0; i < (job.inputs.empty() ? layout.tensors() : frames); ++i) {
    const KvTensor tensor = static_cast<KvTensor>(i % layout.tensors());
    Result<bool> checked = job.codec->CheckInputs(tensor, job.inputs.empty() ? FrameInputs{} : job.inputs[i]);
    if (!checked.ok()) return checked;
  }
  return true;
}

/// The frames asked for lie in the bytes that were brought.
template <class Job>
Result<bool> CheckFrames(const Job& job, const KvLayout& layout) {
  if (job.directory.size() != FrameCount(layout, job.part)) {
    return Error{ErrorCode::kDataLoss, "the frame directory has " + std::to_string(job.directory.size()) +
                                           " entries, the part has " + std::to_string(FrameCount(layout, job.part)) +
                                           " frames"};
  }
  for (uint32_t layer = job.first_layer; layer < job.first_layer + job.layers; ++layer) {
    for (uint32_t t = 0; t < layout.tensors(); ++t) {
      const KvTensor tensor = static_cast<KvTensor>(t);
      const FrameEntry& entry = job.directory[FrameIndex(layout, job.part, layer, tensor)];
      if (entry.length == 0) return Error{ErrorCode::kDataLoss, FrameName(layer, tensor) + ": no frame was written"};
      if (entry.offset < job.frames_offset ||
          uint64_t{entry.offset} - job.frames_offset + entry.length > job.frames.size()) {
        return Error{ErrorCode::kDataLoss, FrameName(layer, tensor) + ": the frame is not in the bytes at hand"};
      }
    }
  }
  return true;
}

}  // namespace

std::string FrameName(uint32_t layer, KvTensor tensor) {
  return "layer " + std::to_string(layer) + (tensor == KvTensor::kKey ? " K" : " V");
}

Result<bool> CheckJob(const PackJob& job) {
  if (job.codec == nullptr || job.cache == nullptr || job.result == nullptr)
    return Invalid("codec, cache or result is null");
  const PartGeometry& part = job.part;
  if (Result<bool> r = CheckPages(*job.cache, job.pages, part); !r.ok()) return r;
  if (Result<bool> r = CheckCache(*job.cache, part.first_layer, part.layers, part.first_head, part.heads); !r.ok())
    return r;
  if (Result<bool> r = CheckCodec(*job.codec, job.cache->layout, part); !r.ok()) return r;
  if (Result<bool> r = CheckInputs(job, job.cache->layout); !r.ok()) return r;
  if (job.result->directory.size() != FrameCount(job.cache->layout, part)) {
    return Invalid("result.directory must be sized FrameCount()");
  }
  const uint64_t needed = MaxFrameAreaBytes(*job.codec, job.cache->layout, part);
  if (needed > UINT32_MAX) return Invalid("the frame area could pass 4 GiB; use smaller parts");
  if (job.area.size() < needed) {
    return Invalid("area has " + std::to_string(job.area.size()) + " bytes, MaxFrameAreaBytes is " +
                   std::to_string(needed));
  }
  return true;
}

Result<bool> CheckJob(const UnpackJob& job) {
  if (job.codec == nullptr || job.cache == nullptr) return Invalid("codec or cache is null");
  if (Result<bool> r = CheckPages(*job.cache, job.pages, job.part); !r.ok()) return r;
  if (!Inside(job.first_layer, job.layers, job.part.first_layer, job.part.layers))
    return Invalid("layers outside the part");
  if (!Inside(job.first_head, job.heads, job.part.first_head, job.part.heads)) return Invalid("heads outside the part");
  if (Result<bool> r = CheckCache(*job.cache, job.first_layer, job.layers, job.first_head, job.heads); !r.ok())
    return r;
  if (Result<bool> r = CheckCodec(*job.codec, job.cache->layout, job.part); !r.ok()) return r;
  return CheckFrames(job, job.cache->layout);
}

Result<bool> CheckJob(const UnpackRowsJob& job) {
  if (job.codec == nullptr || job.rows == nullptr) return Invalid("codec or rows is null");
  const PartGeometry& part = job.part;
  if (!Inside(part.first_layer, part.layers, 0, job.layout.layers)) return Invalid("the part has layers of no model");
  if (!Inside(part.first_head, part.heads, 0, job.layout.kv_heads)) return Invalid("the part has heads of no model");
  if (!Inside(job.first_layer, job.layers, part.first_layer, part.layers)) return Invalid("layers outside the part");
  if (!Inside(job.first_head, job.heads, part.first_head, part.heads)) return Invalid("heads outside the part");
  if (Result<bool> r = CheckCodec(*job.codec, job.layout, part); !r.ok()) return r;
  return CheckFrames(job, job.layout);
}

Result<bool> CheckJob(const SelectJob& job, MemoryKind reached) {
  if (job.codec == nullptr || job.cache == nullptr || job.inputs == nullptr)
    return Invalid("codec, cache or inputs is null");
  if ((job.result == nullptr) == (job.scored == nullptr)) return Invalid("one of result and scored must be given");
  if (job.codec->selection() == nullptr) return Invalid("the spec chooses no tokens");
  const PagedCache& cache = *job.cache;
  const KvLayout& layout = cache.layout;
  if (cache.memory != MemoryKind::kHost && cache.memory != reached)
    return Invalid("a selection on this device reads pages in host memory only");
  if (layout.layers == 0 || layout.kv_heads == 0) return Invalid("the layout is empty");
  if (Result<bool> r = CheckPages(cache, job.pages, {0, layout.layers, 0, layout.kv_heads, 0, job.tokens}); !r.ok())
    return r;
  if (!Inside(cache.first_head, cache.heads, 0, layout.kv_heads)) return Invalid("the cache has heads of no model");
  const bool whole = job.result != nullptr && job.scores.empty();
  if (!job.scores.empty() && job.scores.size() != uint64_t{layout.layers} * layout.kv_heads * job.tokens)
    return Invalid("scores are not those of all heads");
  return whole ? CheckCache(cache, 0, layout.layers, 0, layout.kv_heads)
               : CheckCache(cache, 0, layout.layers, cache.first_head, cache.heads);
}

}  // namespace kvasir
