// SPDX-License-Identifier: Apache-2.0
// Memory of the device for the life of a job on the thread of HostJobs.
#pragma once

#include "kernels/cuda/cuda_call.h"

namespace kvasir::cuda {

/// Taken and given back in the order of a stream: what is enqueued there may still use it after the object is gone.
class StreamMemory {
 public:
  StreamMemory(uint64_t bytes, cudaStream_t stream) : stream_(stream) {
    code_ = cudaMallocAsync(&memory_, bytes, stream);
  }
  ~StreamMemory() {
    if (memory_ != nullptr) cudaFreeAsync(memory_, stream_);
  }
  StreamMemory(const StreamMemory&) = delete;
  Result<bool> made() const { return Called(code_, "cudaMallocAsync"); }
  template <class T>
  T* As() const {
    return static_cast<T*>(memory_);
  }

 private:
  const cudaStream_t stream_;
  void* memory_ = nullptr;
  cudaError_t code_;
};

}  // namespace kvasir::cuda
