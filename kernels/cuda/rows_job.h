// SPDX-License-Identifier: Apache-2.0
// Packs and unpacks whose rows have classes and go through chains of stages: a chain is launched for a number of rows
// that the host must know, so these jobs run on the thread of HostJobs, a frame after a frame, the rows of each class
// of each head as a frame of their own. What goes raw or through Q:int alone needs none of this (rows_bodies.h).
#pragma once

#include "kernels/cuda/cuda_call.h"
#include "kernels/device.h"

namespace kvasir::cuda {

/// True for codecs that these jobs are for.
bool NeedsRowsJob(const Codec& codec, const KvLayout& layout);

/// REQUIRES: CheckJob and CheckForDevice passed.
JobStatus PackRowsOnDevice(const PackJob& job, cudaStream_t side);
JobStatus UnpackRowsOnDevice(const UnpackJob& job, cudaStream_t side);

}  // namespace kvasir::cuda
