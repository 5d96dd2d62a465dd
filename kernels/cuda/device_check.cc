// SPDX-License-Identifier: Apache-2.0
// The checks of jobs for the CUDA device.
#include "kernels/cuda/device_check.h"

#include "kernels/cuda/job_inputs.h"
#include "kernels/cuda/rows_job.h"
#include "kernels/job_check.h"

namespace kvasir::cuda {
namespace {

/// Kernels reach `memory`: it is of a device, or pinned.
bool Reachable(const void* memory) {
  cudaPointerAttributes attributes{};
  return Called(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes").ok() &&
         attributes.type != cudaMemoryTypeUnregistered;
}

/// Refuses inputs that kernels could not read, or that have no room.
Result<bool> CheckInputs(const PackJob& job) {
  const Codec& codec = *job.codec;
  const KvLayout& layout = job.cache->layout;
  const std::span<const FrameInputs> inputs = job.inputs;
  if (RowInputBytes(job) > kCudaInputBytesMax) {
    return Error{ErrorCode::kInvalidArgument, "device job: classes, weights and merged rows of a part pass " +
                                                  std::to_string(kCudaInputBytesMax) + " bytes; use smaller parts"};
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const KvTensor tensor = static_cast<KvTensor>(i % layout.tensors());
    const DeviceCoder::Kind kind = codec.coder(tensor).device_coder().kind;
    if (kind != DeviceCoder::Kind::kChain && kind != DeviceCoder::Kind::kRowsOfStages) continue;
    for (const float* input : {inputs[i].query_peak, inputs[i].query_norm, inputs[i].attention_peak}) {
      if (input == nullptr || Reachable(input)) continue;
      return Error{ErrorCode::kInvalidArgument, "device job: inputs of frame " + std::to_string(i) +
                                                    " are not pinned; call Device::Pin on them first"};
    }
  }
  return true;
}

/// The rows of one class are at most the frame.
bool RowsOfStagesFit(const RowsCoder& coder, const FrameShape& shape) {
  for (const RowClass of : {RowClass::kKept, RowClass::kDemoted}) {
    const FrameCoder* way = coder.CoderOf(of);
    if (way == nullptr || way->device_coder().kind != DeviceCoder::Kind::kChain) continue;
    if (!ChainFits(*way->device_coder().chain, shape)) return false;
  }
  return true;
}

/// Kernels are not all that reads these bytes.
Result<bool> CheckOnHost(const void* bytes) {
  cudaPointerAttributes attributes{};
  const cudaError_t code = cudaPointerGetAttributes(&attributes, bytes);
  if (Result<bool> called = Called(code, "cudaPointerGetAttributes"); !called.ok()) return called;
  if (attributes.type != cudaMemoryTypeDevice) return true;
  return Error{ErrorCode::kInvalidArgument, "device job: such a codec takes frames in host memory only"};
}

/// Refuses what kernels could not reach or what passes a limit of the slots.
Result<bool> CheckCoders(const Codec& codec, const PagedCache& cache, const PartGeometry& part, uint32_t first_layer,
                         const void* bytes) {
  if (part.tokens / cache.page_tokens > kCudaPagesMax) {
    return Error{ErrorCode::kInvalidArgument,
                 "device job: more than " + std::to_string(kCudaPagesMax) + " pages in a part"};
  }
  for (uint32_t t = 0; t < cache.layout.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    const FrameShape shape = ShapeOfFrame(cache.layout, part, tensor);
    const DeviceCoder coder = codec.coder(tensor).device_coder();
    if (coder.kind == DeviceCoder::Kind::kNone) {
      return Error{ErrorCode::kUnimplemented, "codec " + codec.spec() + " has no CUDA body; use the CPU device"};
    }
    if (shape.bytes() > kCudaFrameBytesMax || codec.MaxFrameBytes(tensor, shape) > kCudaFrameBytesMax) {
      return Error{ErrorCode::kInvalidArgument,
                   "device job: a frame passes " + std::to_string(kCudaFrameBytesMax) + " bytes; use smaller parts"};
    }
    if (coder.kind == DeviceCoder::Kind::kChain && !ChainFits(*coder.chain, shape)) {
      return Error{ErrorCode::kInvalidArgument,
                   "device job: a frame passes " + std::to_string(kChainElementsMax) + " elements; use smaller parts"};
    }
    if (coder.kind == DeviceCoder::Kind::kRowsOfStages && !RowsOfStagesFit(*coder.classes, shape)) {
      return Error{ErrorCode::kInvalidArgument,
                   "device job: a frame passes " + std::to_string(kChainElementsMax) + " elements; use smaller parts"};
    }
    if (coder.kind == DeviceCoder::Kind::kRows && !RowsFit(shape)) {
      return Error{ErrorCode::kInvalidArgument, "device job: rows of " +
                                                    std::to_string(shape.bytes() / shape.heads / shape.tokens) +
                                                    " bytes are too short for row classes; use the CPU device"};
    }
  }
  if (!Reachable(bytes)) {
    return Error{ErrorCode::kInvalidArgument,
                 "device job: the frame area is not pinned; call Device::Pin on its slab first"};
  }
  if (!Reachable(cache.layers[first_layer - cache.first_layer].key)) {  // one stands for all: they are one allocation
    return Error{ErrorCode::kInvalidArgument, "device job: the engine's pages are neither device nor pinned memory"};
  }
  return true;
}

Result<bool> CheckDense(const Codec& codec) {
  if (!codec.drops()) return true;
  return Error{ErrorCode::kInvalidArgument,
               "a view that drops tokens has no dense form: fetch it into head extents, or fetch the full view"};
}

/// No frame has a length that alone shows it to be none: decoders rely on it.
Result<bool> CheckLengths(const UnpackJob& job) {
  const KvLayout& layout = job.cache->layout;
  for (uint32_t layer = job.first_layer; layer < job.first_layer + job.layers; ++layer) {
    for (uint32_t t = 0; t < layout.tensors(); ++t) {
      const KvTensor tensor = static_cast<KvTensor>(t);
      const FrameShape shape = ShapeOfFrame(layout, job.part, tensor);
      const uint32_t length = job.directory[FrameIndex(layout, job.part, layer, tensor)].length;
      if (length <= job.codec->MaxFrameBytes(tensor, shape) &&
          MayBeLength(job.codec->coder(tensor).device_coder(), shape, length)) {
        continue;
      }
      return Error{ErrorCode::kDataLoss, FrameName(layer, tensor) + ": its length cannot be right"};
    }
  }
  return true;
}

}  // namespace

Result<bool> CheckForDevice(const PackJob& job) {
  Result<bool> good = CheckCoders(*job.codec, *job.cache, job.part, job.part.first_layer, job.area.data());
  if (good.ok() && NeedsRowsJob(*job.codec, job.cache->layout)) good = CheckOnHost(job.area.data());
  return good.ok() ? CheckInputs(job) : good;
}

Result<bool> CheckForDevice(const UnpackJob& job) {
  Result<bool> good = CheckDense(*job.codec);
  if (good.ok()) good = CheckCoders(*job.codec, *job.cache, job.part, job.first_layer, job.frames.data());
  if (good.ok() && NeedsRowsJob(*job.codec, job.cache->layout)) good = CheckOnHost(job.frames.data());
  return good.ok() ? CheckLengths(job) : good;
}

Result<bool> CheckForDevice(const UnpackRowsJob& job) { return CheckOnHost(job.frames.data()); }

}  // namespace kvasir::cuda
