// SPDX-License-Identifier: Apache-2.0
// Paired measurement on a GPU: ours and the reference alternate on one stream, timed by its events.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace kvasir::bench {

/// Stops the benchmark with CUDA's words unless `code` is success.
void Must(cudaError_t code, const char* call);

/// Memory for the life of the benchmark.
uint8_t* DeviceBytes(size_t bytes);
uint8_t* PinnedBytes(size_t bytes);

/// What moved in the median of the rounds.
struct GpuRatios {
  double median = 0, low = 0, high = 0;     ///< our bytes a second over those of the reference
  double our_rate = 0, reference_rate = 0;  ///< bytes a second, medians
};

/// Bytes that a call of `enqueue` moves on `stream`.
struct GpuWork {
  double bytes = 0;
  std::function<void(cudaStream_t)> enqueue;
};

class GpuPairs {
 public:
  /// `rounds`: at least 7 for a result that counts.
  explicit GpuPairs(int rounds);
  ~GpuPairs();
  cudaStream_t stream() const { return stream_; }
  /// Runs both once to warm up, then alternates them; three times only where ours is very slow.
  GpuRatios Measure(const GpuWork& reference, const GpuWork& ours);

 private:
  double Seconds(const GpuWork& work);
  const int rounds_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// A goal of the GPU; must 0 = none, the line only tells.
struct GpuGoal {
  std::string goal;  ///< "G1"
  std::string what;
  double must = 0, moonshot = 0;
  double values_bytes = 0;  ///< elements as the engine has them that a call codes, in bytes
  std::string note;
};

/// One JSON line on stdout. `bytes`: what our rate counts. Answers whether the must holds.
bool Report(const GpuGoal& goal, double bytes, const GpuRatios& ratios);

}  // namespace kvasir::bench
