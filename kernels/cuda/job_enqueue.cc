// SPDX-License-Identifier: Apache-2.0
// Windows: frames of a job that are coded together. While one window is coded on the job's stream, the one before
// (pack) or after (unpack) crosses the bus on the side stream:
//
//   pack    stream: gather, encode w      -> ready      side: place w (sums, copies into the area)   -> released
//   unpack  side:   copy w into its half  -> ready      stream: check, decode, scatter w             -> released
#include "kernels/cuda/job_enqueue.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/job_inputs.h"

namespace kvasir::cuda {
namespace {

constexpr uint64_t kFramePlace = 256;  ///< encoded frames of a window lie on multiples of this

uint64_t Aligned(uint64_t bytes, uint64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

/// What is the same for all windows of a job.
struct JobFrames {
  const Codec& codec;
  const PagedCache& cache;
  const PartGeometry& part;
  const KvLayout& layout = cache.layout;
  const uint32_t tensors = layout.tensors();

  KvTensor tensor(uint32_t index) const { return static_cast<KvTensor>(index % tensors); }
  FrameShape shape(uint32_t index) const { return ShapeOfFrame(layout, part, tensor(index)); }
  DeviceCoder coder(uint32_t index) const { return codec.coder(tensor(index)).device_coder(); }
  uint64_t dense_bytes(uint32_t index) const { return Aligned(shape(index).bytes(), kFrameAlignment); }
  /// Of the windows of a job of `count` frames.
  uint64_t window_bytes(uint32_t count) const {
    return std::clamp(dense_bytes(0) * count / 8, kCudaWindowBytesMin, kCudaWindowBytesMax);
  }
  uint64_t bytes_max(uint32_t index) const { return codec.MaxFrameBytes(tensor(index), shape(index)); }
};

/// The batch of the frames first, first + tensors, ... below `end`; `from` is the first of the window.
FrameBatch BatchOf(const JobFrames& frames, const WindowScratch& scratch, uint32_t half, uint32_t from, uint32_t first,
                   uint32_t end) {
  FrameBatch batch;
  batch.count = (end - first + frames.tensors - 1) / frames.tensors;
  batch.first_slot = half * kWindowFrames + first - from;
  batch.slot_step = frames.tensors;
  batch.first_index = first;
  batch.dense_stride = frames.dense_bytes(first);
  batch.frames = scratch.frames;
  batch.codes = scratch.codes;
  batch.offsets = scratch.offsets;
  batch.rows = scratch.rows;
  batch.outcome = scratch.outcome;
  return batch;
}

PageView ViewOf(const JobFrames& frames, const FrameBatch& batch, uint32_t first_head, uint32_t heads,
                const uint32_t* pages) {
  const KvTensor tensor = frames.tensor(batch.first_index);
  const PageStrides& strides = tensor == KvTensor::kKey ? frames.cache.key_strides : frames.cache.value_strides;
  PageView view;
  view.count = batch.count;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const uint32_t layer = frames.part.first_layer + (batch.first_index + i * batch.slot_step) / frames.tensors;
    view.base[i] = reinterpret_cast<uint8_t*>(frames.cache.At(layer, tensor, 0, first_head, 0));
  }
  view.pages = pages;
  view.page_stride = strides.page;
  view.head_stride = strides.head;
  view.token_stride = strides.token;
  view.page_tokens = frames.cache.page_tokens;
  view.heads = heads;
  view.tokens = frames.part.tokens;
  view.row_bytes = frames.layout.dim(tensor) * ElementBytes(frames.layout.element);
  return view;
}

void Begin(const JobFrames& frames, PageTable pages, JobSlot& slot, Scratch& scratch, cudaStream_t s) {
  cudaStreamWaitEvent(s, scratch.free, 0);
  const uint32_t page_tokens = frames.cache.page_tokens;
  const size_t bytes = frames.part.tokens / page_tokens * sizeof(uint32_t);
  std::memcpy(slot.pages, pages.data() + frames.part.first_token / page_tokens, bytes);
  cudaMemcpyAsync(slot.device_pages, slot.pages, bytes, cudaMemcpyHostToDevice, s);
  cudaMemsetAsync(slot.state, 0, sizeof(JobState), s);
  cudaEventRecord(scratch.begun, s);
  cudaStreamWaitEvent(scratch.side, scratch.begun, 0);
}

/// `stream` goes on when the work of `other` so far is done.
void Follow(cudaStream_t stream, cudaStream_t other, cudaEvent_t event) {
  cudaEventRecord(event, other);
  cudaStreamWaitEvent(stream, event, 0);
}

Result<bool> End(JobSlot& slot, Scratch& scratch, cudaStream_t s) {
  Follow(s, scratch.side, scratch.begun);
  cudaMemcpyAsync(slot.result, slot.state, sizeof(JobState), cudaMemcpyDeviceToHost, s);
  cudaEventRecord(scratch.free, s);
  return Called(cudaGetLastError(), "launch of a job");
}

/// The end of the window of a pack that begins with `first`.
uint32_t PackWindowEnd(const JobFrames& frames, uint32_t first, uint32_t end, uint64_t bytes) {
  uint64_t dense = 0, encoded = 0;
  uint32_t i = first;
  for (; i < end && i - first < kWindowFrames; ++i) {
    dense += frames.dense_bytes(i);
    encoded += Aligned(frames.bytes_max(i), kFramePlace);
    if (i > first && std::max(dense, encoded) > bytes) break;
  }
  return i;
}

FrameWindow EncodeWindow(const JobFrames& frames, const std::vector<FrameInputs>& inputs, JobSlot& slot,
                         const WindowScratch& scratch, uint32_t half, uint32_t from, uint32_t end, cudaStream_t s) {
  FrameWindow window;
  window.count = end - from;
  window.first_slot = half * kWindowFrames;
  window.first_index = from;
  uint64_t dense = 0, encoded = 0;
  for (uint32_t first = from; first < std::min(end, from + frames.tensors); ++first) {
    FrameBatch batch = BatchOf(frames, scratch, half, from, first, end);
    batch.dense = scratch.dense + dense;
    dense += batch.count * batch.dense_stride;
    const DeviceCoder coder = frames.coder(first);
    for (uint32_t i = 0; i < batch.count; ++i) {
      batch.offset[i] = static_cast<uint32_t>(encoded);
      encoded += Aligned(frames.bytes_max(first), kFramePlace);
      window.frame[first - from + i * frames.tensors] =
          coder.kind == DeviceCoder::Kind::kRaw ? batch.dense_at(i) : batch.frame_at(i);
    }
    LaunchGather(ViewOf(frames, batch, frames.part.first_head, frames.part.heads, slot.device_pages), batch.dense,
                 batch.dense_stride, s);
    for (uint32_t i = 0; i < batch.count; ++i) {
      LaunchMerge(frames.shape(first), inputs[first + i * frames.tensors], batch.dense_at(i), s);
    }
    LaunchEncode(coder, frames.shape(first), &inputs[first], batch, slot.state, s);
  }
  return window;
}

/// The end of the window of an unpack: frames that lie in the area one behind the other.
uint32_t UnpackWindowEnd(const JobFrames& frames, std::span<const FrameEntry> directory, uint32_t first, uint32_t end,
                         uint64_t bytes) {
  uint64_t dense = frames.dense_bytes(first);
  uint32_t i = first + 1;
  for (; i < end && i - first < kWindowFrames; ++i) {
    const FrameEntry &entry = directory[i], &before = directory[i - 1];
    dense += frames.dense_bytes(i);
    if (entry.offset < uint64_t{before.offset} + before.length) break;
    const uint32_t at = entry.offset - directory[first].offset;
    if (at % kFrameAlignment != 0 || std::max<uint64_t>(dense, uint64_t{at} + entry.length) > bytes) break;
  }
  return i;
}

/// Raw frames are dense as they are where they lie at equal distances; else they are brought there.
void UseRaw(FrameBatch& batch, uint64_t bytes, cudaStream_t s) {
  const uint32_t step = batch.count > 1 ? batch.offset[1] - batch.offset[0] : 0;
  bool even = true;
  for (uint32_t i = 1; i < batch.count; ++i) even = even && batch.offset[i] - batch.offset[i - 1] == step;
  if (even) {
    batch.dense = batch.frame_at(0);
    batch.dense_stride = step;
    return;
  }
  for (uint32_t i = 0; i < batch.count; ++i) {
    cudaMemcpyAsync(batch.dense_at(i), batch.frame_at(i), bytes, cudaMemcpyDeviceToDevice, s);
  }
}

void DecodeWindow(const JobFrames& frames, const UnpackJob& job, JobSlot& slot, const WindowScratch& scratch,
                  uint32_t half, uint32_t from, uint32_t end, cudaStream_t s) {
  FrameWindow window;
  window.count = end - from;
  window.first_slot = half * kWindowFrames;
  window.first_index = from;
  for (uint32_t i = from; i < end; ++i) {
    const FrameEntry& entry = job.directory[i];
    window.frame[i - from] = scratch.frames + (entry.offset - job.directory[from].offset);
    window.length[i - from] = entry.length;
    window.crc32c[i - from] = entry.crc32c;
  }
  LaunchCheck(window, slot.state, s);
  uint64_t dense = 0;
  for (uint32_t first = from; first < std::min(end, from + frames.tensors); ++first) {
    FrameBatch batch = BatchOf(frames, scratch, half, from, first, end);
    batch.dense = scratch.dense + dense;
    dense += batch.count * batch.dense_stride;
    for (uint32_t i = 0; i < batch.count; ++i) {
      const FrameEntry& entry = job.directory[first + i * frames.tensors];
      batch.offset[i] = entry.offset - job.directory[from].offset;
      batch.length[i] = entry.length;
    }
    const FrameShape shape = frames.shape(first);
    const DeviceCoder coder = frames.coder(first);
    if (coder.kind == DeviceCoder::Kind::kRaw) UseRaw(batch, shape.bytes(), s);
    LaunchDecode(coder, shape, batch, slot.state, s);
    const uint64_t head_bytes = shape.bytes() / shape.heads;
    LaunchScatter(ViewOf(frames, batch, job.first_head, job.heads, slot.device_pages),
                  batch.dense + (job.first_head - frames.part.first_head) * head_bytes, batch.dense_stride, slot.state,
                  s);
  }
}

}  // namespace

Result<bool> EnqueuePack(const PackJob& job, JobSlot& slot, Scratch& scratch, cudaStream_t s) {
  const JobFrames frames{*job.codec, *job.cache, job.part};
  const uint32_t end = FrameCount(frames.layout, job.part);
  Begin(frames, job.pages, slot, scratch, s);
  const std::vector<FrameInputs> inputs = StageInputs(job, slot, s);
  uint32_t half = 0;
  for (uint32_t first = 0, count = 0; first < end; first += count, half ^= 1) {
    count = PackWindowEnd(frames, first, end, frames.window_bytes(end)) - first;
    cudaStreamWaitEvent(s, scratch.released[half], 0);  // at first that of the job before: it has passed
    const FrameWindow window = EncodeWindow(frames, inputs, slot, scratch.half[half], half, first, first + count, s);
    Follow(scratch.side, s, scratch.ready[half]);
    uint64_t bytes_max = 0;
    for (uint32_t i = first; i < first + count; ++i) bytes_max = std::max(bytes_max, frames.bytes_max(i));
    LaunchPlace(window, bytes_max, reinterpret_cast<uint8_t*>(job.area.data()), slot.entries, slot.state, scratch.side);
    cudaEventRecord(scratch.released[half], scratch.side);
  }
  return End(slot, scratch, s);
}

Result<bool> EnqueueUnpack(const UnpackJob& job, JobSlot& slot, Scratch& scratch, cudaStream_t s) {
  const JobFrames frames{*job.codec, *job.cache, job.part};
  const uint32_t begin = (job.first_layer - job.part.first_layer) * frames.tensors;
  const uint32_t end = begin + job.layers * frames.tensors;
  Begin(frames, job.pages, slot, scratch, s);
  uint32_t half = 0;
  for (uint32_t first = begin, count = 0; first < end; first += count, half ^= 1) {
    count = UnpackWindowEnd(frames, job.directory, first, end, frames.window_bytes(end - begin)) - first;
    const FrameEntry &from = job.directory[first], &last = job.directory[first + count - 1];
    cudaStreamWaitEvent(scratch.side, scratch.released[half], 0);
    cudaMemcpyAsync(scratch.half[half].frames, job.frames.data() + (from.offset - job.frames_offset),
                    uint64_t{last.offset} + last.length - from.offset, cudaMemcpyDefault, scratch.side);
    Follow(s, scratch.side, scratch.ready[half]);
    DecodeWindow(frames, job, slot, scratch.half[half], half, first, first + count, s);
    cudaEventRecord(scratch.released[half], s);
  }
  return End(slot, scratch, s);
}

}  // namespace kvasir::cuda
