// SPDX-License-Identifier: Apache-2.0
// Inputs about rows on their way to the device.
#include "kernels/cuda/job_inputs.h"

#include <cstring>

namespace kvasir::cuda {
namespace {

constexpr uint64_t kInputAlignment = 16;

/// Calls piece(pointer, bytes) for every pointer of `inputs` about rows that is not null; `pointer` may be changed.
template <class Piece>
void ForEachPiece(FrameInputs& inputs, const FrameShape& shape, const Piece& piece) {
  const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
  if (inputs.row_classes != nullptr) piece(inputs.row_classes, rows * sizeof(RowClass));
  if (inputs.row_weights != nullptr) piece(inputs.row_weights, 2 * rows * sizeof(float));
  if (inputs.merged_count == 0) return;
  piece(inputs.merged_slots, inputs.merged_count * sizeof(uint32_t));
  piece(inputs.merged_rows, uint64_t{inputs.merged_count} * shape.dim * sizeof(float));
}

/// Calls piece(pointer, bytes, place) for the pieces of all frames. Keys and values of a layer share classes and
/// weights: what the frame before brought too is met once, and has the place it had.
template <class Piece>
uint64_t Walk(const PackJob& job, std::vector<FrameInputs>& frames, const Piece& piece) {
  const KvLayout& layout = job.cache->layout;
  struct Placed {
    const void* from = nullptr;
    uint64_t bytes = 0, at = 0;
  };
  std::vector<Placed> before, here;
  uint64_t end = 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    const FrameShape shape = ShapeOfFrame(layout, job.part, static_cast<KvTensor>(i % layout.tensors()));
    here.clear();
    ForEachPiece(frames[i], shape, [&](auto& pointer, uint64_t bytes) {
      uint64_t at = end;
      bool placed = false;
      for (const Placed& p : before) {
        if (p.from != pointer || p.bytes != bytes) continue;
        at = p.at;
        placed = true;
      }
      here.push_back({pointer, bytes, at});
      piece(pointer, placed ? 0 : bytes, at);
      if (!placed) end += (bytes + kInputAlignment - 1) / kInputAlignment * kInputAlignment;
    });
    std::swap(before, here);
  }
  return end;
}

std::vector<FrameInputs> FramesOf(const PackJob& job) {
  if (job.inputs.empty()) return std::vector<FrameInputs>(FrameCount(job.cache->layout, job.part));
  return {job.inputs.begin(), job.inputs.end()};
}

}  // namespace

uint64_t RowInputBytes(const PackJob& job) {
  std::vector<FrameInputs> frames = FramesOf(job);
  return Walk(job, frames, [](auto&, uint64_t, uint64_t) {});
}

std::vector<FrameInputs> StageInputs(const PackJob& job, JobSlot& slot, cudaStream_t stream) {
  std::vector<FrameInputs> frames = FramesOf(job);
  const uint64_t bytes = Walk(job, frames, [&](auto& pointer, uint64_t piece_bytes, uint64_t at) {
    std::memcpy(slot.inputs + at, pointer, piece_bytes);
    pointer = reinterpret_cast<std::decay_t<decltype(pointer)>>(slot.device_inputs + at);
  });
  if (bytes > 0) cudaMemcpyAsync(slot.device_inputs, slot.inputs, bytes, cudaMemcpyHostToDevice, stream);
  for (FrameInputs& inputs : frames) inputs.first_token = job.part.first_token;
  return frames;
}

}  // namespace kvasir::cuda
