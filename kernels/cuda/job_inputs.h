// SPDX-License-Identifier: Apache-2.0
// What a pack brings about rows lies in the caller's memory, which kernels may not reach: classes, weights and merged
// rows are copied into pinned memory of the job, and go to the device in front of its kernels.
#pragma once

#include <vector>

#include "kernels/cuda/job_slots.h"
#include "kernels/device.h"

namespace kvasir::cuda {

/// Bytes of a slot that the job's inputs about rows take.
uint64_t RowInputBytes(const PackJob& job);

/// The inputs of every frame in directory order, as kernels read them. Enqueues their copy on `stream`. REQUIRES:
/// RowInputBytes(job) <= kCudaInputBytesMax.
std::vector<FrameInputs> StageInputs(const PackJob& job, JobSlot& slot, cudaStream_t stream);

}  // namespace kvasir::cuda
