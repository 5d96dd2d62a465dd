// SPDX-License-Identifier: Apache-2.0
// Selections and head extents on the CUDA device: both run on the thread of HostJobs, and wait for their kernels there.
#pragma once

#include "kernels/cpu_jobs.h"
#include "kernels/cuda/cuda_call.h"

namespace kvasir::cuda {

/// Pages in memory of the device: E:knorm, E:win, E:vnorm and the choice by its kernels (select_launch.h), what else a
/// spec asks for by the stages, with rows that are copied to the host. Pages in memory of the host: as the CPU does.
/// REQUIRES: CheckJob(job, MemoryKind::kCuda) passed.
JobStatus SelectOnDevice(const SelectJob& job, cudaStream_t side);

/// Puts the rows of each layer together on the host, then copies them to extents in memory of the device.
JobStatus PlaceOnDevice(const PlaceRowsJob& job, cudaStream_t side);

}  // namespace kvasir::cuda
