// SPDX-License-Identifier: Apache-2.0
// Jobs about rows, on the thread of HostJobs.
#include "kernels/cuda/select_job.h"

#include <algorithm>

#include "kernels/cuda/select_launch.h"
#include "kernels/cuda/stream_memory.h"
#include "kernels/number_formats.h"
#include "kernels/select_rows.h"
#include "kernels/stages/select_list.h"

namespace kvasir::cuda {
namespace {

template <class S>
bool Is(const StageCall& stage, typename S::Args& args) {
  std::memcpy(&args, stage.args, sizeof args);
  return stage.stage == SelectStages::IndexOf<S>();
}

/// A chain in pages of the device, and what the device computes of it.
class ChainOnDevice final : public SelectRows, public SelectBodies {
 public:
  ChainOnDevice(const SelectJob& job, cudaStream_t s)
      : SelectRows(job),
        s_(s),
        layout_(job.cache->layout),
        tokens_(job.tokens),
        pages_(job.pages.size_bytes(), s),
        rows_(RowBytes(), s),
        scores_(uint64_t{tokens_} * sizeof(float), s) {
    Note(pages_.made());
    Note(rows_.made());
    Note(scores_.made());
    if (trouble_.ok()) {
      cudaMemcpyAsync(pages_.As<void>(), job.pages.data(), job.pages.size_bytes(), cudaMemcpyHostToDevice, s_);
    }
  }

  /// The first call that failed.
  const Result<bool>& trouble() const { return trouble_; }

  void Load(uint32_t layer, uint32_t head, KvTensor tensor, std::span<float> out) override {
    const uint32_t size = ElementBytes(layout_.element);
    dense_.resize(out.size() * size);
    Gather(layer, head, tensor);
    if (trouble_.ok()) cudaMemcpyAsync(dense_.data(), rows_.As<void>(), dense_.size(), cudaMemcpyDeviceToHost, s_);
    Synchronise();
    for (size_t i = 0; i < out.size(); ++i) out[i] = LoadElement(layout_.element, dense_.data() + i * size);
  }

  bool Score(const StageCall& stage, const SelectionContext& context, std::vector<float>& scores,
             Result<bool>& done) override {
    KeyNormScorer::Args by_key;
    ValueNormScores::Args by_value;
    WindowScorer::Args window;
    if (Is<KeyNormScorer>(stage, by_key)) {
      ForEachHead(KvTensor::kKey, scores,
                  [&](uint64_t, const HeadRows& keys) { LaunchKeyNorms(keys, scores_.As<float>(), s_); });
    } else if (Is<ValueNormScores>(stage, by_value) && !layout_.latent()) {
      ForEachHead(KvTensor::kValue, scores, [&](uint64_t head, const HeadRows& values) {
        cudaMemcpyAsync(scores_.As<float>(), &scores[head * tokens_], tokens_ * sizeof(float), cudaMemcpyHostToDevice,
                        s_);
        LaunchValueNorms(values, scores_.As<float>(), s_);
      });
    } else if (Is<WindowScorer>(stage, window)) {
      done = WindowScorer::CheckQueries(window, context);
      if (done.ok()) ScoreWindow(window, context, scores);
    } else {
      return false;
    }
    if (done.ok()) done = trouble_;
    return true;
  }

  bool Choose(const SelectionContext& context, std::span<const float> scores, std::span<const uint32_t> counts,
              std::span<RowClass> classes, Result<bool>& done) override {
    const StreamMemory all(scores.size_bytes(), s_), kept(counts.size_bytes(), s_), chosen(classes.size_bytes(), s_);
    for (const StreamMemory* memory : {&all, &kept, &chosen}) Note(memory->made());
    if (trouble_.ok()) {
      cudaMemcpyAsync(all.As<void>(), scores.data(), scores.size_bytes(), cudaMemcpyHostToDevice, s_);
      cudaMemcpyAsync(kept.As<void>(), counts.data(), counts.size_bytes(), cudaMemcpyHostToDevice, s_);
      LaunchChoose({tokens_, context.spec.sink_tokens, context.spec.window_tokens,
                    context.spec.demote ? RowClass::kDemoted : RowClass::kDropped},
                   static_cast<uint32_t>(counts.size()), all.As<float>(), kept.As<uint32_t>(), chosen.As<RowClass>(),
                   s_);
      cudaMemcpyAsync(classes.data(), chosen.As<void>(), classes.size_bytes(), cudaMemcpyDeviceToHost, s_);
    }
    Synchronise();
    done = trouble_;
    return true;
  }

 private:
  uint64_t RowBytes() const {
    return uint64_t{tokens_} * std::max(layout_.key_dim, layout_.value_dim) * ElementBytes(layout_.element);
  }
  void Note(const Result<bool>& called) {
    if (trouble_.ok()) trouble_ = called;
  }
  void Synchronise() {
    Note(Called(cudaGetLastError(), "launch of a selection"));
    Note(Called(cudaStreamSynchronize(s_), "a selection on the device"));
  }

  /// All tokens of one head into rows_.
  void Gather(uint32_t layer, uint32_t head, KvTensor tensor) {
    if (!trouble_.ok()) return;
    const PagedCache& cache = *job_.cache;
    const PageStrides& strides = tensor == KvTensor::kKey ? cache.key_strides : cache.value_strides;
    PageView view;
    view.count = 1;
    view.base[0] = reinterpret_cast<uint8_t*>(cache.At(layer, tensor, 0, head, 0));
    view.pages = pages_.As<uint32_t>();
    view.page_stride = strides.page;
    view.head_stride = strides.head;
    view.token_stride = strides.token;
    view.page_tokens = cache.page_tokens;
    view.heads = 1;
    view.tokens = tokens_;
    view.row_bytes = layout_.dim(tensor) * ElementBytes(layout_.element);
    LaunchGather(view, rows_.As<uint8_t>(), 0, s_);
  }

  /// launch(head, rows) makes the scores of every head in scores_; `head` counts through all layers.
  template <class Launch>
  void ForEachHead(KvTensor tensor, std::vector<float>& scores, const Launch& launch) {
    for (uint64_t i = 0; i < uint64_t{layout_.layers} * layout_.kv_heads && trouble_.ok(); ++i) {
      Gather(static_cast<uint32_t>(i / layout_.kv_heads), static_cast<uint32_t>(i % layout_.kv_heads), tensor);
      launch(i, HeadRows{rows_.As<uint8_t>(), tokens_, layout_.dim(tensor), layout_.element});
      cudaMemcpyAsync(&scores[i * tokens_], scores_.As<void>(), tokens_ * sizeof(float), cudaMemcpyDeviceToHost, s_);
    }
    Synchronise();
  }

  void ScoreWindow(const WindowScorer::Args& a, const SelectionContext& context, std::vector<float>& scores) {
    const SelectInputs& in = context.inputs;
    const uint32_t group = in.query_heads / layout_.kv_heads;
    const WindowShape shape{tokens_, layout_.key_dim, a.window, a.kernel, a.max != 0, group, layout_.element};
    const uint64_t queries = uint64_t{group} * in.window * layout_.key_dim;
    const StreamMemory of_queries(queries * sizeof(float), s_), dots(uint64_t{a.window} * tokens_ * sizeof(float), s_),
        softmax(a.window * sizeof(WindowSoftmax), s_), sums(2 * uint64_t{tokens_} * sizeof(double), s_);
    for (const StreamMemory* memory : {&of_queries, &dots, &softmax, &sums}) Note(memory->made());
    const WindowRoom room{dots.As<float>(), softmax.As<WindowSoftmax>(), sums.As<double>(),
                          sums.As<double>() + tokens_};
    ForEachHead(KvTensor::kKey, scores, [&](uint64_t head, const HeadRows& keys) {
      cudaMemcpyAsync(of_queries.As<void>(), &in.window_queries[head * queries], queries * sizeof(float),
                      cudaMemcpyHostToDevice, s_);
      LaunchWindowScores(shape, of_queries.As<float>(), in.window, keys.rows, room, scores_.As<float>(), s_);
    });
  }

  const cudaStream_t s_;
  const KvLayout& layout_;
  const uint32_t tokens_;
  Result<bool> trouble_ = true;
  const StreamMemory pages_, rows_, scores_;
  std::vector<uint8_t> dense_;
};

/// One layer of extents in memory of the host.
struct HostLayer {
  std::vector<uint32_t> cu_lengths, positions;
  std::vector<std::byte> keys, values;
  std::vector<float> weights;
};

/// Rows that the parts have of a layer, its heads together.
uint64_t RowsOfLayer(const PlaceRowsJob& job, uint32_t layer) {
  const HeadExtents& extents = *job.extents;
  uint64_t rows = 0;
  for (const std::shared_ptr<const PartRows>& part : job.parts) {
    for (uint32_t i = 0; i < part->heads && layer >= part->first_layer && layer < part->first_layer + part->layers;
         ++i) {
      const uint32_t head = part->first_head + i;
      if (head < extents.first_head || head >= extents.first_head + extents.heads) continue;
      rows += part->counts[uint64_t{layer - part->first_layer} * part->heads + i];
    }
  }
  return rows;
}

JobStatus PlaceLayerOnDevice(const PlaceRowsJob& job, uint32_t layer, HostLayer& host, cudaStream_t side) {
  const HeadExtents& extents = *job.extents;
  const ExtentLayer& to = extents.layers[layer - extents.first_layer];
  const uint64_t rows = RowsOfLayer(job, layer), held = std::min(rows, extents.rows_max);
  const uint32_t size = ElementBytes(extents.layout.element);
  host.cu_lengths.resize(extents.heads + 1);
  host.positions.resize(held);
  host.keys.resize(held * extents.layout.key_dim * size);
  host.values.resize(held * extents.layout.value_dim * size);
  host.weights.resize(to.weights == nullptr ? 0 : 2 * held);
  HeadExtents on_host = extents;
  on_host.memory = MemoryKind::kHost;
  on_host.first_layer = layer;
  on_host.layers = {{host.cu_lengths.data(), host.keys.data(), host.values.data(), host.positions.data(),
                     to.weights == nullptr ? nullptr : host.weights.data()}};
  CpuScratch scratch;
  if (JobStatus placed = RunOnCpu(PlaceRowsJob{job.parts, &on_host}, scratch); !placed.ok) return placed;
  const auto copy = [side](auto* device, const auto& from) {
    if (!from.empty()) {
      cudaMemcpyAsync(device, from.data(), from.size() * sizeof(from[0]), cudaMemcpyDefault, side);
    }
  };
  copy(to.cu_lengths, host.cu_lengths);
  copy(to.positions, host.positions);
  copy(to.keys, host.keys);
  copy(to.values, host.values);
  copy(to.weights, host.weights);
  const Result<bool> copied = Called(cudaStreamSynchronize(side), "copy of head extents");
  return copied.ok() ? JobStatus{} : JobStatus{false, copied.error()};
}

}  // namespace

JobStatus SelectOnDevice(const SelectJob& job, cudaStream_t side) {
  if (job.cache->memory == MemoryKind::kHost) return RunOnCpu(job, nullptr);
  ChainOnDevice chain(job, side);
  if (!chain.trouble().ok()) return {false, chain.trouble().error()};
  const JobStatus status = RunSelect(job, chain, &chain, nullptr);
  return chain.trouble().ok() ? status : JobStatus{false, chain.trouble().error()};
}

JobStatus PlaceOnDevice(const PlaceRowsJob& job, cudaStream_t side) {
  const HeadExtents& extents = *job.extents;
  if (extents.memory == MemoryKind::kHost) {
    CpuScratch scratch;
    return RunOnCpu(job, scratch);
  }
  HostLayer host;
  for (uint32_t i = 0; i < extents.layers.size(); ++i) {
    if (JobStatus placed = PlaceLayerOnDevice(job, extents.first_layer + i, host, side); !placed.ok) return placed;
  }
  return {};
}

}  // namespace kvasir::cuda
