// SPDX-License-Identifier: Apache-2.0
// Pack and unpack on the calling thread: what the CPU device's workers run.
#pragma once

#include <vector>

#include "kernels/device.h"
#include "kernels/row_jobs.h"
#include "kernels/workers.h"

namespace kvasir {

/// Memory a worker keeps from job to job, so that a job does not allocate.
struct CpuScratch {
  std::vector<std::byte> dense;  ///< one frame
  std::vector<std::byte> codec;  ///< the codec's own
};

JobStatus RunOnCpu(const PackJob& job, CpuScratch& scratch);
JobStatus RunOnCpu(const UnpackJob& job, CpuScratch& scratch);
JobStatus RunOnCpu(const SelectJob& job, Workers* workers);
JobStatus RunOnCpu(const UnpackRowsJob& job, CpuScratch& scratch);
JobStatus RunOnCpu(const PlaceRowsJob& job, CpuScratch& scratch);

/// `check` false leaves the checksums out: for the benchmark that prices them.
JobStatus UnpackOnCpu(const UnpackJob& job, CpuScratch& scratch, bool check);

}  // namespace kvasir
