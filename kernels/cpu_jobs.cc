// SPDX-License-Identifier: Apache-2.0
// Pack and unpack on the calling thread, frame by frame so that each stays in the cache from gather to checksum.
#include "kernels/cpu_jobs.h"

#include <cstring>

#include "kernels/job_check.h"
#include "kernels/number_formats.h"
#include "kernels/page_copy.h"

namespace kvasir {
namespace {

std::span<std::byte> Sized(std::vector<std::byte>& buffer, uint64_t bytes) {
  if (buffer.size() < bytes) buffer.resize(bytes);
  return std::span(buffer).first(bytes);
}

JobStatus Failed(Error error) { return {false, std::move(error)}; }

/// Calls frame(layer, tensor) in directory order until one fails.
template <class Frame>
JobStatus ForEachFrame(const KvLayout& layout, uint32_t first_layer, uint32_t layers, Frame frame) {
  for (uint32_t layer = first_layer; layer < first_layer + layers; ++layer) {
    for (uint32_t t = 0; t < layout.tensors(); ++t) {
      const KvTensor tensor = static_cast<KvTensor>(t);
      if (Result<bool> done = frame(layer, tensor); !done.ok()) {
        return Failed({done.error().code, FrameName(layer, tensor) + ": " + done.error().message});
      }
    }
  }
  return {};
}

}  // namespace

JobStatus RunOnCpu(const PackJob& job, CpuScratch& scratch) {
  if (Result<bool> checked = CheckJob(job); !checked.ok()) return Failed(checked.error());
  const KvLayout& layout = job.cache->layout;
  const PartGeometry& part = job.part;
  uint64_t offset = 0;
  const JobStatus status = ForEachFrame(layout, part.first_layer, part.layers, [&](uint32_t layer, KvTensor tensor) {
    const FrameShape shape = ShapeOfFrame(layout, part, tensor);
    const std::span<std::byte> dense = Sized(scratch.dense, shape.bytes());
    GatherPages({job.cache, job.pages, layer, tensor, part.first_head, part.heads, part.first_token, part.tokens},
                dense.data());
    const uint32_t index = FrameIndex(layout, part, layer, tensor);
    FrameInputs inputs = job.inputs.empty() ? FrameInputs{} : job.inputs[index];
    inputs.first_token = part.first_token;
    for (uint64_t i = 0; i < uint64_t{inputs.merged_count} * shape.dim; ++i) {
      const uint64_t at = uint64_t{inputs.merged_slots[i / shape.dim]} * shape.dim + i % shape.dim;
      StoreElement(shape.element, inputs.merged_rows[i],
                   reinterpret_cast<uint8_t*>(dense.data()) + at * ElementBytes(shape.element));
    }
    const uint64_t length =
        job.codec->Encode(tensor, shape, dense, job.area.subspan(offset), scratch.codec, Destination::kCache, inputs);
    const uint64_t end = AlignFrame(offset + length);
    std::memset(job.area.data() + offset + length, 0, end - offset - length);
    job.result->directory[index] = {static_cast<uint32_t>(offset), static_cast<uint32_t>(length),
                                    Crc32c(job.area.subspan(offset, length)), 0};
    offset = end;
    return Result<bool>(true);
  });
  job.result->area_bytes = offset;
  return status;
}

JobStatus RunOnCpu(const UnpackJob& job, CpuScratch& scratch) { return UnpackOnCpu(job, scratch, true); }

JobStatus UnpackOnCpu(const UnpackJob& job, CpuScratch& scratch, bool check) {
  if (Result<bool> checked = CheckJob(job); !checked.ok()) return Failed(checked.error());
  const KvLayout& layout = job.cache->layout;
  return ForEachFrame(layout, job.first_layer, job.layers, [&](uint32_t layer, KvTensor tensor) -> Result<bool> {
    const FrameEntry& entry = job.directory[FrameIndex(layout, job.part, layer, tensor)];
    const std::span<const std::byte> frame = job.frames.subspan(entry.offset - job.frames_offset, entry.length);
    if (check && Crc32c(frame) != entry.crc32c) return Error{ErrorCode::kDataLoss, "checksum of the frame is wrong"};
    const FrameShape shape = ShapeOfFrame(layout, job.part, tensor);
    const std::span<std::byte> dense = Sized(scratch.dense, shape.bytes());
    if (Result<bool> decoded = job.codec->Decode(tensor, shape, frame, dense, scratch.codec); !decoded.ok())
      return decoded;
    const uint64_t head_bytes = shape.bytes() / shape.heads;
    ScatterPages(
        {job.cache, job.pages, layer, tensor, job.first_head, job.heads, job.part.first_token, job.part.tokens},
        dense.data() + (job.first_head - job.part.first_head) * head_bytes);
    return true;
  });
}

}  // namespace kvasir
