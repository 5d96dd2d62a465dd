// SPDX-License-Identifier: Apache-2.0
// The pretended CUDA runtime: everything happens when it is asked for.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/kernels/pretended_cuda/cuda_runtime_api.h"

namespace {

std::mutex mutex;  // guards regions
std::map<const char*, size_t> regions;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// The region that holds `memory`, or the end.
std::map<const char*, size_t>::iterator Find(const void* memory) {
  const char* at = static_cast<const char*>(memory);
  auto found = regions.upper_bound(at);
  if (found == regions.begin()) return regions.end();
  --found;
  return at < found->first + found->second ? found : regions.end();
}

/// So much of fresh memory is filled: the rest would cost the tests their time.
constexpr size_t kFilledBytes = 1 << 20;

cudaError_t Allocate(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  std::memset(*memory, 0xEE, std::min(bytes, kFilledBytes));
  const std::lock_guard<std::mutex> lock(mutex);
  regions[static_cast<const char*>(*memory)] = bytes;
  return cudaSuccess;
}

cudaError_t Forget(void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  return Answer(regions.erase(static_cast<const char*>(memory)) == 1 ? cudaSuccess : cudaErrorInvalidValue);
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "pretended");
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "pretended error"; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaMalloc(void** memory, size_t bytes) { return Allocate(memory, bytes); }
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) { return Allocate(memory, bytes); }
cudaError_t cudaFree(void* memory) {
  const cudaError_t known = Forget(memory);
  std::free(memory);
  return known;
}
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) { return Allocate(memory, bytes); }
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (Find(memory) != regions.end()) return Answer(cudaErrorInvalidValue);
  regions[static_cast<const char*>(memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* memory) { return Forget(memory); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const std::lock_guard<std::mutex> lock(mutex);
  attributes->type = Find(memory) == regions.end() ? cudaMemoryTypeUnregistered : cudaMemoryTypeHost;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, void (*function)(void*), void* argument) {
  function(argument);
  return cudaSuccess;
}
