// SPDX-License-Identifier: Apache-2.0
// Jobs about rows, on the calling thread: what the CPU device's workers run.
#include <algorithm>
#include <cstring>

#include "kernels/cpu_jobs.h"
#include "kernels/job_check.h"
#include "kernels/number_formats.h"
#include "kernels/page_copy.h"
#include "kernels/select_rows.h"

namespace kvasir {
namespace {

JobStatus Failed(Error error) { return {false, std::move(error)}; }

/// The rows of a chain in pages, head by head.
class PageRows final : public SelectRows {
 public:
  explicit PageRows(const SelectJob& job) : SelectRows(job) {}

  void Load(uint32_t layer, uint32_t head, KvTensor tensor, std::span<float> out) override {
    const PagedCache& cache = *job_.cache;
    KERNELS_CHECK(head >= cache.first_head && head < cache.first_head + cache.heads);
    const uint32_t size = ElementBytes(cache.layout.element), dim = cache.layout.dim(tensor), step = cache.page_tokens;
    std::vector<std::byte> dense(uint64_t{step} * dim * size);  // of one page: it stays in the cache
    for (uint32_t token = 0; dim > 0 && token < job_.tokens; token += step) {
      GatherPages({&cache, job_.pages, layer, tensor, head, 1, token, step}, dense.data());
      float* to = out.data() + uint64_t{token} * dim;
      const auto* from = reinterpret_cast<const uint8_t*>(dense.data());
      for (uint64_t i = 0; i < uint64_t{step} * dim; ++i) to[i] = LoadElement(cache.layout.element, from + i * size);
    }
  }
};

/// Adds what one layer of a part holds to `job.rows`.
Result<bool> UnpackLayer(const UnpackRowsJob& job, uint32_t layer, CpuScratch& scratch) {
  StoredRows stored;  // of the keys; the values' must be the same
  const uint32_t skipped_heads = job.first_head - job.part.first_head;
  for (uint32_t t = 0; t < job.layout.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    const auto damaged = [&](const std::string& what) {
      return Error{ErrorCode::kDataLoss, FrameName(layer, tensor) + ": " + what};
    };
    const FrameEntry& entry = job.directory[FrameIndex(job.layout, job.part, layer, tensor)];
    const std::span<const std::byte> frame = job.frames.subspan(entry.offset - job.frames_offset, entry.length);
    if (Crc32c(frame) != entry.crc32c) return damaged("checksum of the frame is wrong");
    const FrameShape shape = ShapeOfFrame(job.layout, job.part, tensor);
    Result<StoredRows> rows = job.codec->Rows(tensor, shape, frame);
    if (!rows.ok()) return damaged(rows.error().message);
    const bool same_weights = rows->weights.size() == stored.weights.size() &&
                              (rows->weights.empty() || std::memcmp(rows->weights.data(), stored.weights.data(),
                                                                    stored.weights.size() * sizeof(float)) == 0);
    if (t > 0 && (rows->counts != stored.counts || rows->slots != stored.slots || !same_weights)) {
      return damaged("keys and values hold different rows");
    }
    stored = *std::move(rows);
    const uint64_t row_bytes = uint64_t{shape.dim} * ElementBytes(shape.element);
    scratch.dense.resize(std::max<uint64_t>(scratch.dense.size(), stored.slots.size() * row_bytes));
    const std::span<std::byte> dense = std::span(scratch.dense).first(stored.slots.size() * row_bytes);
    Result<bool> decoded = job.codec->DecodeRows(tensor, shape, frame, dense, scratch.codec);
    if (!decoded.ok()) return damaged(decoded.error().message);
    const auto begin = stored.counts.begin() + skipped_heads;
    uint64_t first = 0, count = 0;  // rows of the heads that are wanted
    for (auto head = stored.counts.begin(); head != begin; ++head) first += *head;
    for (auto head = begin; head != begin + job.heads; ++head) count += *head;
    std::vector<std::byte>& to = tensor == KvTensor::kKey ? job.rows->keys : job.rows->values;
    const auto rows_begin = dense.begin() + static_cast<ptrdiff_t>(first * row_bytes);
    to.insert(to.end(), rows_begin, rows_begin + static_cast<ptrdiff_t>(count * row_bytes));
    if (t > 0) continue;
    job.rows->counts.insert(job.rows->counts.end(), begin, begin + job.heads);
    for (uint64_t row = first; row < first + count; ++row) {
      job.rows->positions.push_back(job.part.first_token + stored.slots[row]);
      for (uint64_t w = 2 * row; w < 2 * row + 2; ++w) {
        job.rows->weights.push_back(stored.weights.empty() ? 1.0f : stored.weights[w]);
      }
    }
  }
  return true;
}

/// Where the rows of (layer, head) begin in `part`, and how many they are. REQUIRES: the part has them.
std::pair<uint64_t, uint64_t> RowsIn(const PartRows& part, uint32_t layer, uint32_t head) {
  const uint64_t cell = uint64_t{layer - part.first_layer} * part.heads + (head - part.first_head);
  uint64_t first = 0;
  for (uint64_t i = 0; i < cell; ++i) first += part.counts[i];
  return {first, part.counts[cell]};
}

Result<bool> PlaceLayer(const PlaceRowsJob& job, uint32_t layer) {
  const HeadExtents& extents = *job.extents;
  const ExtentLayer& to = extents.layers[layer - extents.first_layer];
  const uint32_t size = ElementBytes(extents.layout.element);
  const uint64_t key_bytes = uint64_t{extents.layout.key_dim} * size;
  const uint64_t value_bytes = uint64_t{extents.layout.value_dim} * size;
  uint64_t at = 0;
  bool room = true;
  for (uint32_t head = extents.first_head; head < extents.first_head + extents.heads; ++head) {
    to.cu_lengths[head - extents.first_head] = static_cast<uint32_t>(at);
    for (const std::shared_ptr<const PartRows>& part : job.parts) {
      if (layer < part->first_layer || layer >= part->first_layer + part->layers) continue;
      if (head < part->first_head || head >= part->first_head + part->heads) continue;
      const auto [first, count] = RowsIn(*part, layer, head);
      room = room && at + count <= std::min<uint64_t>(extents.rows_max, UINT32_MAX);
      if (room && count > 0) {
        std::memcpy(to.keys + at * key_bytes, part->keys.data() + first * key_bytes, count * key_bytes);
        if (value_bytes > 0) {
          std::memcpy(to.values + at * value_bytes, part->values.data() + first * value_bytes, count * value_bytes);
        }
        std::memcpy(to.positions + at, part->positions.data() + first, count * sizeof(uint32_t));
        const std::span<const float> weights = std::span(part->weights).subspan(2 * first, 2 * count);
        if (to.weights != nullptr) {
          std::memcpy(to.weights + 2 * at, weights.data(), weights.size_bytes());
        } else if (std::any_of(weights.begin(), weights.end(), [](float w) { return w != 1.0f; })) {
          return Error{ErrorCode::kInvalidArgument,
                       "head extents: layer " + std::to_string(layer) + " has rows that do not weigh 1; give weights"};
        }
      }
      at += count;
    }
  }
  if (!room) {
    return Error{ErrorCode::kResourceExhausted, "head extents: layer " + std::to_string(layer) + " has " +
                                                    std::to_string(at) + " rows, rows_max is " +
                                                    std::to_string(extents.rows_max)};
  }
  to.cu_lengths[extents.heads] = static_cast<uint32_t>(at);
  return true;
}

}  // namespace

void SelectRows::Store(uint32_t layer, uint32_t head, KvTensor tensor, std::span<const float> rows) {
  const KvLayout& layout = job_.cache->layout;
  const uint64_t at = uint64_t{layer} * layout.kv_heads + head;
  MergedRows& to = job_.result->merged[at * layout.tensors() + static_cast<uint32_t>(tensor)];
  std::vector<float> before(rows.size());
  Load(layer, head, tensor, before);
  const uint32_t dim = layout.dim(tensor);
  for (uint32_t token = 0; dim > 0 && token < job_.tokens; ++token) {
    const float* row = rows.data() + uint64_t{token} * dim;
    if (std::memcmp(row, before.data() + uint64_t{token} * dim, dim * sizeof(float)) == 0) continue;
    to.tokens.push_back(token);
    to.rows.insert(to.rows.end(), row, row + dim);
  }
}

JobStatus RunSelect(const SelectJob& job, ChainRows& rows, SelectBodies* bodies, Workers* workers) {
  const SelectionSpec& spec = *job.codec->selection();
  const PagedCache& cache = *job.cache;
  const KvLayout& layout = cache.layout;
  const ChainAtHand chain{layout, job.tokens, *job.inputs, rows, cache.first_head, cache.heads, workers, bodies};
  if (cache.heads < layout.kv_heads) {
    if (Result<bool> fit = CheckRanks(spec); !fit.ok()) return Failed(fit.error());
  }
  std::vector<float> scores(job.scores.begin(), job.scores.end());
  if (job.scores.empty()) {
    Result<std::vector<float>> scored = ScoreHeads(spec, chain);
    if (!scored.ok()) return Failed(scored.error());
    scores = *std::move(scored);
  }
  if (job.scored != nullptr) {
    *job.scored = std::move(scores);
    return {};
  }
  job.result->tokens = job.tokens;
  job.result->merged.clear();
  if (spec.has_merge) job.result->merged.resize(uint64_t{layout.layers} * layout.kv_heads * layout.tensors());
  Result<Selection> selected = SelectScored(spec, chain, std::move(scores));
  if (!selected.ok()) return Failed(selected.error());
  job.result->selection = *std::move(selected);
  return {};
}

JobStatus RunOnCpu(const SelectJob& job, Workers* workers) {
  if (Result<bool> checked = CheckJob(job); !checked.ok()) return Failed(checked.error());
  PageRows rows(job);
  return RunSelect(job, rows, nullptr, workers);
}

JobStatus RunOnCpu(const UnpackRowsJob& job, CpuScratch& scratch) {
  if (Result<bool> checked = CheckJob(job); !checked.ok()) return Failed(checked.error());
  *job.rows = {job.first_layer, job.layers, job.first_head, job.heads, {}, {}, {}, {}, {}};
  for (uint32_t layer = job.first_layer; layer < job.first_layer + job.layers; ++layer) {
    if (Result<bool> done = UnpackLayer(job, layer, scratch); !done.ok()) return Failed(done.error());
  }
  return {};
}

JobStatus RunOnCpu(const PlaceRowsJob& job, CpuScratch&) {
  const HeadExtents& extents = *job.extents;
  if (extents.memory != MemoryKind::kHost) {
    return Failed({ErrorCode::kInvalidArgument, "device job: the extents are not in host memory"});
  }
  const uint32_t end = extents.first_layer + static_cast<uint32_t>(extents.layers.size());
  for (uint32_t layer = extents.first_layer; layer < end; ++layer) {
    if (Result<bool> done = PlaceLayer(job, layer); !done.ok()) return Failed(done.error());
  }
  return {};
}

}  // namespace kvasir
