// SPDX-License-Identifier: Apache-2.0
// What every device shares of a SelectJob: the rows of a merge are kept apart, the pages are the engine's.
#pragma once

#include "kernels/device.h"
#include "kernels/row_jobs.h"

namespace kvasir {

/// The chain of a SelectJob. A device loads its rows.
class SelectRows : public ChainRows {
 public:
  explicit SelectRows(const SelectJob& job) : job_(job) {}
  /// Rows that differ from those in the pages go to job.result->merged.
  void Store(uint32_t layer, uint32_t head, KvTensor tensor, std::span<const float> rows) override;

 protected:
  const SelectJob& job_;
};

/// Runs the job's selection over `rows`, or scores its heads. REQUIRES: CheckJob passed. Null workers = the calling
/// thread.
JobStatus RunSelect(const SelectJob& job, ChainRows& rows, SelectBodies* bodies, Workers* workers);

}  // namespace kvasir
