// SPDX-License-Identifier: Apache-2.0
// The checks every device makes before it touches a job's memory, and the order of a job's frames.
#pragma once

#include "kernels/device.h"
#include "kernels/row_jobs.h"

namespace kvasir {

/// kInvalidArgument, naming the field, unless the job can be run without leaving the memory it names.
Result<bool> CheckJob(const PackJob& job);
/// The same; kDataLoss where the directory is at fault.
Result<bool> CheckJob(const UnpackJob& job);
Result<bool> CheckJob(const UnpackRowsJob& job);
/// `reached`: the memory of pages that the device reads, beside that of the host.
Result<bool> CheckJob(const SelectJob& job, MemoryKind reached = MemoryKind::kHost);

/// "layer 3 K" for messages.
std::string FrameName(uint32_t layer, KvTensor tensor);

}  // namespace kvasir
