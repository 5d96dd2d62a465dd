// SPDX-License-Identifier: Apache-2.0
// Rows of classes through chains, a frame after a frame.
#include "kernels/cuda/rows_job.h"

#include <cstring>

#include "kernels/cuda/job_slots.h"
#include "kernels/cuda/stream_memory.h"
#include "kernels/job_check.h"
#include "kernels/number_formats.h"

namespace kvasir::cuda {
namespace {

constexpr RowClass kStoredClasses[] = {RowClass::kExact, RowClass::kKept, RowClass::kDemoted};

bool IsOfStages(const DeviceCoder& coder) { return coder.kind == DeviceCoder::Kind::kRowsOfStages; }

/// Rooms on the device for one frame at a time, and what is done there.
class FrameOnDevice {
 public:
  FrameOnDevice(const PagedCache& cache, PageTable pages, const PartGeometry& part, cudaStream_t side)
      : cache_(cache),
        part_(part),
        s_(side),
        pages_(pages.size_bytes(), side),
        order_(uint64_t{part.tokens} * sizeof(uint32_t), side),
        peaks_(uint64_t{part.tokens} * sizeof(float), side),
        dense_(kFrameRoom, side),
        rows_(kFrameRoom, side),
        frame_(kFrameRoom, side),
        codes_(kFrameRoom, side),
        offsets_(kFrameRoom / 64, side),
        floats_(3 * kChainElementsMax * sizeof(float), side),
        outcome_(sizeof(ChainOutcome), side),
        state_(sizeof(JobState), side) {
    for (const StreamMemory* memory :
         {&pages_, &order_, &peaks_, &dense_, &rows_, &frame_, &codes_, &offsets_, &floats_, &outcome_, &state_}) {
      if (made_.ok()) made_ = memory->made();
    }
    if (made_.ok()) cudaMemcpyAsync(pages_.As<void>(), pages.data(), pages.size_bytes(), cudaMemcpyHostToDevice, s_);
  }
  const Result<bool>& made() const { return made_; }

  void Begin() { cudaMemsetAsync(state_.As<void>(), 0, sizeof(JobState), s_); }
  /// The state, when all that was enqueued is done.
  Result<JobState> State() {
    JobState state;
    cudaMemcpyAsync(&state, state_.As<void>(), sizeof state, cudaMemcpyDeviceToHost, s_);
    Result<bool> done = Called(cudaGetLastError(), "launch of a job");
    if (done.ok()) done = Called(cudaStreamSynchronize(s_), "a job on the device");
    if (!done.ok()) return done.error();
    return state;
  }

  void GatherPages(uint32_t layer, KvTensor tensor) {
    LaunchGather(InPages(layer, tensor, part_.first_head, part_.heads), dense_.As<uint8_t>(), 0, s_);
  }
  void ScatterPages(uint32_t layer, KvTensor tensor, uint32_t first_head, uint32_t heads, uint64_t head_bytes) {
    LaunchScatter(InPages(layer, tensor, first_head, heads),
                  dense_.As<uint8_t>() + (first_head - part_.first_head) * head_bytes, 0, state_.As<JobState>(), s_);
  }
  Result<bool> Merge(const FrameShape& shape, const FrameInputs& inputs) {
    if (inputs.merged_count == 0) return true;
    const uint64_t bytes = uint64_t{inputs.merged_count} * shape.dim * sizeof(float);
    const StreamMemory slots(inputs.merged_count * sizeof(uint32_t), s_), rows(bytes, s_);
    if (!slots.made().ok()) return slots.made();
    if (!rows.made().ok()) return rows.made();
    cudaMemcpyAsync(slots.As<void>(), inputs.merged_slots, inputs.merged_count * sizeof(uint32_t), cudaMemcpyDefault,
                    s_);
    cudaMemcpyAsync(rows.As<void>(), inputs.merged_rows, bytes, cudaMemcpyDefault, s_);
    FrameInputs reached = inputs;
    reached.merged_slots = slots.As<uint32_t>();
    reached.merged_rows = rows.As<float>();
    LaunchMerge(shape, reached, dense_.As<uint8_t>(), s_);
    return true;
  }

  /// The rows of a head with these tokens are the ones at hand.
  void TakeRows(const FrameShape& shape, uint32_t head, const std::vector<uint32_t>& tokens) {
    cudaMemcpyAsync(order_.As<void>(), tokens.data(), tokens.size() * sizeof(uint32_t), cudaMemcpyHostToDevice, s_);
    LaunchGather(InHead(shape, head, tokens), rows_.As<uint8_t>(), 0, s_);
  }
  void PutRows(const FrameShape& shape, uint32_t head, const std::vector<uint32_t>& tokens) {
    cudaMemcpyAsync(order_.As<void>(), tokens.data(), tokens.size() * sizeof(uint32_t), cudaMemcpyHostToDevice, s_);
    LaunchScatter(InHead(shape, head, tokens), rows_.As<uint8_t>(), 0, state_.As<JobState>(), s_);
  }
  /// What an engine knows of the rows at hand, of what it knows of the frame.
  FrameInputs InputsOfRows(const FrameInputs& inputs, const FrameShape& shape, uint32_t head, uint32_t count) {
    FrameInputs of_head = inputs;
    if (inputs.query_peak != nullptr) of_head.query_peak += uint64_t{head} * shape.dim;
    if (inputs.query_norm != nullptr) of_head.query_norm += head;
    if (inputs.attention_peak == nullptr) return of_head;
    const float* peaks = inputs.attention_peak + uint64_t{head} * shape.tokens;
    PageView view = Ordered(count, sizeof(float));
    view.base[0] = reinterpret_cast<uint8_t*>(const_cast<float*>(peaks));  // only read there
    LaunchGather(view, peaks_.As<uint8_t>(), 0, s_);
    of_head.attention_peak = peaks_.As<float>();
    return of_head;
  }

  /// Encodes the rows at hand, or `whole`, the dense frame, behind `to`; returns the bytes.
  Result<uint64_t> Encode(const FrameCoder& coder, const FrameShape& shape, bool whole, const FrameInputs& inputs,
                          uint8_t* to) {
    const DeviceCoder device = coder.device_coder();
    FrameBatch batch = Batch(whole);
    LaunchEncode(device, shape, &inputs, batch, state_.As<JobState>(), s_);
    const Result<JobState> state = State();
    if (!state.ok()) return state.error();
    const uint32_t length = state->frames[0].length;
    const uint8_t* from = device.kind == DeviceCoder::Kind::kRaw ? batch.dense : batch.frames;
    cudaMemcpyAsync(to, from, length, cudaMemcpyDeviceToHost, s_);
    if (Result<bool> copied = Called(cudaStreamSynchronize(s_), "copy of a frame"); !copied.ok()) return copied.error();
    return length;
  }
  /// Decodes `frame` into the rows at hand, or the dense frame. False where its length is none of such a frame.
  bool Decode(const FrameCoder& coder, const FrameShape& shape, bool whole, std::span<const uint8_t> frame) {
    const DeviceCoder device = coder.device_coder();
    const uint32_t length = static_cast<uint32_t>(frame.size());
    if (frame.empty() || length > coder.MaxFrameBytes(shape) || !MayBeLength(device, shape, length)) return false;
    FrameBatch batch = Batch(whole);
    batch.length[0] = length;
    const bool raw = device.kind == DeviceCoder::Kind::kRaw;
    cudaMemcpyAsync(raw ? batch.dense : batch.frames, frame.data(), length, cudaMemcpyDefault, s_);
    LaunchDecode(device, shape, batch, state_.As<JobState>(), s_);
    return true;
  }

 private:
  static constexpr uint64_t kFrameRoom = kCudaFrameBytesMax + kWindowFrames * 256;

  PageView InPages(uint32_t layer, KvTensor tensor, uint32_t first_head, uint32_t heads) const {
    const PageStrides& strides = tensor == KvTensor::kKey ? cache_.key_strides : cache_.value_strides;
    PageView view;
    view.count = 1;
    view.base[0] = reinterpret_cast<uint8_t*>(cache_.At(layer, tensor, 0, first_head, 0));
    view.pages = pages_.As<uint32_t>() + part_.first_token / cache_.page_tokens;
    view.page_stride = strides.page;
    view.head_stride = strides.head;
    view.token_stride = strides.token;
    view.page_tokens = cache_.page_tokens;
    view.heads = heads;
    view.tokens = part_.tokens;
    view.row_bytes = cache_.layout.dim(tensor) * ElementBytes(cache_.layout.element);
    return view;
  }
  /// Rows in an order: pages of one token.
  PageView Ordered(uint32_t count, uint32_t row_bytes) const {
    PageView view;
    view.count = 1;
    view.pages = order_.As<uint32_t>();
    view.page_stride = row_bytes;
    view.page_tokens = 1;
    view.heads = 1;
    view.tokens = count;
    view.row_bytes = row_bytes;
    return view;
  }
  PageView InHead(const FrameShape& shape, uint32_t head, const std::vector<uint32_t>& tokens) const {
    PageView view = Ordered(static_cast<uint32_t>(tokens.size()), shape.dim * ElementBytes(shape.element));
    view.base[0] = dense_.As<uint8_t>() + uint64_t{head} * shape.tokens * view.row_bytes;
    return view;
  }
  FrameBatch Batch(bool whole) const {
    FrameBatch batch;
    batch.count = 1;
    batch.dense = (whole ? dense_ : rows_).As<uint8_t>();
    batch.frames = frame_.As<uint8_t>();
    batch.codes = codes_.As<uint8_t>();
    batch.offsets = offsets_.As<uint32_t>();
    batch.rows = floats_.As<float>();
    batch.outcome = outcome_.As<ChainOutcome>();
    return batch;
  }

  const PagedCache& cache_;
  const PartGeometry& part_;
  const cudaStream_t s_;
  const StreamMemory pages_, order_, peaks_, dense_, rows_, frame_, codes_, offsets_, floats_, outcome_, state_;
  Result<bool> made_ = true;
};

/// Tokens of a head that go one way.
std::vector<uint32_t> TokensOf(const FrameShape& shape, std::span<const RowClass> classes, uint32_t head, RowClass of) {
  std::vector<uint32_t> tokens;
  for (uint32_t token = 0; token < shape.tokens; ++token) {
    if (classes[uint64_t{head} * shape.tokens + token] == of) tokens.push_back(token);
  }
  return tokens;
}

FrameShape ShapeOfRows(const FrameShape& shape, size_t rows) {
  return {1, static_cast<uint32_t>(rows), shape.dim, shape.element};
}

/// The gathered frame into `out`; returns its bytes.
Result<uint64_t> EncodeFrame(FrameOnDevice& device, const FrameCoder& coder, const FrameShape& shape,
                             const FrameInputs& inputs, std::vector<uint8_t>& out) {
  out.resize(coder.MaxFrameBytes(shape));
  const RowsCoder& rows = *coder.device_coder().classes;
  const std::vector<RowClass> classes = rows.ClassesOf(shape, inputs);
  uint64_t at = RowsCoder::WriteHead(shape, classes, inputs, out.data());
  if (!RowsCoder::Mixed(classes)) {
    const Result<uint64_t> length = device.Encode(*rows.CoderOf(RowClass::kKept), shape, true, inputs, out.data() + at);
    return length.ok() ? Result<uint64_t>(at + *length) : length;
  }
  uint64_t lengths_at = at;
  at += uint64_t{shape.heads} * std::size(kStoredClasses) * sizeof(uint32_t);
  for (uint32_t head = 0; head < shape.heads; ++head) {
    for (const RowClass of : kStoredClasses) {
      const std::vector<uint32_t> tokens = TokensOf(shape, classes, head, of);
      Result<uint64_t> length = uint64_t{0};
      if (!tokens.empty()) {
        device.TakeRows(shape, head, tokens);
        const FrameInputs brought = device.InputsOfRows(inputs, shape, head, static_cast<uint32_t>(tokens.size()));
        length = device.Encode(*rows.CoderOf(of), ShapeOfRows(shape, tokens.size()), false, brought, out.data() + at);
      }
      if (!length.ok()) return length;
      Store32(out.data() + lengths_at, static_cast<uint32_t>(*length));
      lengths_at += sizeof(uint32_t);
      at += *length;
    }
  }
  return at;
}

Error Damaged(const char* what) { return {ErrorCode::kDataLoss, what}; }

/// A frame of row classes into the dense frame on the device; a fault of its rows is left in the state.
Result<bool> DecodeFrame(FrameOnDevice& device, const RowsCoder& rows, const FrameShape& shape,
                         std::span<const uint8_t> frame) {
  const Result<RowsCoder::Parts> parts = rows.Read(shape, frame);
  if (!parts.ok()) return parts.error();
  const char* const wrong_length = "the length of a class cannot be right";
  if (parts->lengths.empty()) {
    if (device.Decode(*rows.CoderOf(RowClass::kKept), shape, true, parts->frames)) return true;
    return Damaged(wrong_length);
  }
  uint64_t at = 0;
  for (uint32_t cell = 0; cell < parts->lengths.size(); ++cell) {
    const uint32_t head = cell / 3, length = parts->lengths[cell];
    const RowClass of = kStoredClasses[cell % 3];
    const std::vector<uint32_t> tokens = TokensOf(shape, parts->classes, head, of);
    if (tokens.empty() != (length == 0)) return Damaged(wrong_length);
    if (tokens.empty()) continue;
    const FrameShape of_class = ShapeOfRows(shape, tokens.size());
    if (!device.Decode(*rows.CoderOf(of), of_class, false, parts->frames.subspan(at, length))) {
      return Damaged(wrong_length);
    }
    device.PutRows(shape, head, tokens);
    at += length;
  }
  for (const RowClass of : parts->classes) {
    if (of == RowClass::kDropped) return Damaged("tokens are missing from it");
  }
  return true;
}

JobStatus Failed(uint32_t layer, KvTensor tensor, const Error& error) {
  return {false, {error.code, FrameName(layer, tensor) + ": " + error.message}};
}

/// Calls frame(layer, tensor) in directory order until one fails.
template <class Frame>
JobStatus ForEachFrame(const KvLayout& layout, uint32_t first_layer, uint32_t layers, const Frame& frame) {
  for (uint32_t layer = first_layer; layer < first_layer + layers; ++layer) {
    for (uint32_t t = 0; t < layout.tensors(); ++t) {
      const KvTensor tensor = static_cast<KvTensor>(t);
      if (Result<bool> done = frame(layer, tensor); !done.ok()) return Failed(layer, tensor, done.error());
    }
  }
  return {};
}

/// One frame into the area; `offset` moves on behind it.
Result<bool> PackFrame(const PackJob& job, FrameOnDevice& device, uint32_t layer, KvTensor tensor, uint64_t& offset) {
  const KvLayout& layout = job.cache->layout;
  const FrameShape shape = ShapeOfFrame(layout, job.part, tensor);
  const uint32_t index = FrameIndex(layout, job.part, layer, tensor);
  FrameInputs inputs = job.inputs.empty() ? FrameInputs{} : job.inputs[index];
  inputs.first_token = job.part.first_token;
  device.Begin();
  device.GatherPages(layer, tensor);
  if (Result<bool> merged = device.Merge(shape, inputs); !merged.ok()) return merged;
  std::vector<uint8_t> frame;
  const Result<uint64_t> length = EncodeFrame(device, job.codec->coder(tensor), shape, inputs, frame);
  if (!length.ok()) return length.error();
  const uint64_t end = AlignFrame(offset + *length);
  std::memcpy(job.area.data() + offset, frame.data(), *length);
  std::memset(job.area.data() + offset + *length, 0, end - offset - *length);
  job.result->directory[index] = {static_cast<uint32_t>(offset), static_cast<uint32_t>(*length),
                                  Crc32c(job.area.subspan(offset, *length)), 0};
  offset = end;
  return true;
}

}  // namespace

bool NeedsRowsJob(const Codec& codec, const KvLayout& layout) {
  for (uint32_t t = 0; t < layout.tensors(); ++t) {
    if (IsOfStages(codec.coder(static_cast<KvTensor>(t)).device_coder())) return true;
  }
  return false;
}

JobStatus PackRowsOnDevice(const PackJob& job, cudaStream_t side) {
  FrameOnDevice device(*job.cache, job.pages, job.part, side);
  if (!device.made().ok()) return {false, device.made().error()};
  uint64_t offset = 0;
  const JobStatus status =
      ForEachFrame(job.cache->layout, job.part.first_layer, job.part.layers,
                   [&](uint32_t layer, KvTensor tensor) { return PackFrame(job, device, layer, tensor, offset); });
  job.result->area_bytes = offset;
  return status;
}

JobStatus UnpackRowsOnDevice(const UnpackJob& job, cudaStream_t side) {
  const KvLayout& layout = job.cache->layout;
  FrameOnDevice device(*job.cache, job.pages, job.part, side);
  if (!device.made().ok()) return {false, device.made().error()};
  return ForEachFrame(layout, job.first_layer, job.layers, [&](uint32_t layer, KvTensor tensor) -> Result<bool> {
    const FrameEntry& entry = job.directory[FrameIndex(layout, job.part, layer, tensor)];
    const std::span<const std::byte> frame = job.frames.subspan(entry.offset - job.frames_offset, entry.length);
    if (Crc32c(frame) != entry.crc32c) return Damaged("checksum of the frame is wrong");
    const FrameShape shape = ShapeOfFrame(layout, job.part, tensor);
    device.Begin();
    const RowsCoder& rows = *job.codec->coder(tensor).device_coder().classes;
    const Result<bool> decoded =
        DecodeFrame(device, rows, shape, {reinterpret_cast<const uint8_t*>(frame.data()), frame.size()});
    if (!decoded.ok()) return decoded;
    device.ScatterPages(layer, tensor, job.first_head, job.heads, shape.bytes() / shape.heads);
    const Result<JobState> state = device.State();
    if (!state.ok()) return state.error();
    if (state->fault != 0) return Damaged("bytes that no encoder writes");
    return true;
  });
}

}  // namespace kvasir::cuda
