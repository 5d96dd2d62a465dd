// SPDX-License-Identifier: Apache-2.0
// CUDA runtime codes become Errors here; RAII for its memory.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "kernels/result.h"

namespace kvasir::cuda {

/// ok, or kInternal naming the call and CUDA's words for `code`; the thread's last error is then told, and cleared: it
/// must not be taken for one of the next job.
inline Result<bool> Called(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return true;
  (void)cudaGetLastError();
  return Error{ErrorCode::kInternal, std::string(call) + ": " + cudaGetErrorString(code)};
}

struct FreeDevice {
  void operator()(void* p) const { cudaFree(p); }
};
struct FreePinned {
  void operator()(void* p) const { cudaFreeHost(p); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;
using PinnedMemory = std::unique_ptr<void, FreePinned>;  ///< mapped: kernels reach it by the same address

inline Result<DeviceMemory> AllocateDevice(size_t bytes) {
  void* p = nullptr;
  if (Result<bool> called = Called(cudaMalloc(&p, bytes), "cudaMalloc"); !called.ok()) return called.error();
  return DeviceMemory(p);
}
inline Result<PinnedMemory> AllocatePinned(size_t bytes) {
  void* p = nullptr;
  if (Result<bool> called =
          Called(cudaHostAlloc(&p, bytes, cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
      !called.ok()) {
    return called.error();
  }
  return PinnedMemory(p);
}

}  // namespace kvasir::cuda
