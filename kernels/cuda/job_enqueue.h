// SPDX-License-Identifier: Apache-2.0
// A job as launches: its frames in windows, those of a window by one launch a step.
#pragma once

#include "kernels/cuda/job_slots.h"
#include "kernels/device.h"

namespace kvasir::cuda {

/// Enqueues the whole job on `stream`, and on the side stream of `scratch`. REQUIRES: the checks of Submit passed.
Result<bool> EnqueuePack(const PackJob& job, JobSlot& slot, Scratch& scratch, cudaStream_t stream);
Result<bool> EnqueueUnpack(const UnpackJob& job, JobSlot& slot, Scratch& scratch, cudaStream_t stream);

}  // namespace kvasir::cuda
