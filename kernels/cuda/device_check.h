// SPDX-License-Identifier: Apache-2.0
// What the CUDA device refuses beside CheckJob: memory that kernels cannot reach, stages without bodies, limits of the
// slots and scratches (job_slots.h).
#pragma once

#include "kernels/device.h"
#include "kernels/row_jobs.h"

namespace kvasir::cuda {

/// kUnimplemented names what has no body; kInvalidArgument names memory or limit and the cure; kDataLoss a length that
/// no frame of its shape has. REQUIRES: CheckJob passed.
Result<bool> CheckForDevice(const PackJob& job);
Result<bool> CheckForDevice(const UnpackJob& job);
Result<bool> CheckForDevice(const UnpackRowsJob& job);

}  // namespace kvasir::cuda
