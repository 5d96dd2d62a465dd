// SPDX-License-Identifier: Apache-2.0
// Team: threads that work on one thing together, a warp or a block, in one text for the GPU and for the CPU.
//
// A body is a template over its team. It is written in phases: Each(f) runs f(t) for every thread t, and what a phase
// wrote all threads see in the next. What a thread keeps from phase to phase is an Own<T>. Ballots, sums and maxima are
// phases too, and answer every thread the same. On the GPU each thread runs its own t; SerialTeam runs all of them, one
// after the other: so the tests run every body without a GPU, and none may depend on the order inside a phase.
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace kvasir::cuda {

/// Adds to a counter that other threads of the team add to.
KVASIR_HD inline void AddTo(uint32_t* counter, uint32_t value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(counter, value);
#else
  *counter += value;
#endif
}

KVASIR_HD inline uint32_t Ones(uint32_t mask) {
#if defined(__CUDA_ARCH__)
  return static_cast<uint32_t>(__popc(mask));
#else
  return static_cast<uint32_t>(__builtin_popcount(mask));
#endif
}

/// All threads of a team on one thread of the CPU, the last first.
template <uint32_t kCount>
struct SerialTeam {
  static constexpr uint32_t kThreads = kCount;
  template <class T>
  struct Own {
    T of[kCount] = {};
    T& operator[](uint32_t t) { return of[t]; }
  };
  template <class F>
  void Each(const F& f) {
    for (uint32_t t = kCount; t-- > 0;) f(t);
  }
  /// Bit t: f(t). Of warps only.
  template <class F>
  uint32_t Ballot(const F& f) {
    static_assert(kCount == 32);
    uint32_t mask = 0;
    for (uint32_t t = kCount; t-- > 0;) mask |= f(t) ? 1u << t : 0;
    return mask;
  }
  /// The sum of f(t): whole numbers, the order is not stated.
  template <class F>
  uint64_t Sum(const F& f) {
    uint64_t sum = 0;
    for (uint32_t t = kCount; t-- > 0;) sum += f(t);
    return sum;
  }
  template <class F>
  uint32_t Max(const F& f) {
    uint32_t greatest = 0;
    for (uint32_t t = kCount; t-- > 0;) {
      const uint32_t value = f(t);
      greatest = value > greatest ? value : greatest;
    }
    return greatest;
  }
  /// Each value becomes the sum of those of the threads before; answers the sum of all.
  uint32_t SumBefore(Own<uint32_t>& values) {
    uint32_t sum = 0;
    for (uint32_t t = 0; t < kCount; ++t) {
      const uint32_t value = values[t];
      values[t] = sum;
      sum += value;
    }
    return sum;
  }
};

#if defined(__CUDACC__)

/// What a thread of a GPU keeps.
template <class T>
struct OwnOfThread {
  T value = {};
  KVASIR_HD T& operator[](uint32_t) { return value; }
};

/// A warp of a GPU.
struct DeviceWarp {
  static constexpr uint32_t kThreads = 32;
  template <class T>
  using Own = OwnOfThread<T>;
  template <class F>
  KVASIR_HD void Each(const F& f) {
#if defined(__CUDA_ARCH__)
    f(threadIdx.x % 32);
    __syncwarp();
#endif
  }
  template <class F>
  KVASIR_HD uint32_t Ballot(const F& f) {
#if defined(__CUDA_ARCH__)
    return __ballot_sync(0xFFFFFFFFu, f(threadIdx.x % 32));
#else
    return 0;
#endif
  }
};

/// A block of kCount threads, of at least one warp.
template <uint32_t kCount>
struct DeviceBlock {
  static constexpr uint32_t kThreads = kCount;
  template <class T>
  using Own = OwnOfThread<T>;
  template <class F>
  KVASIR_HD void Each(const F& f) {
#if defined(__CUDA_ARCH__)
    f(threadIdx.x);
    __syncthreads();
#endif
  }
  template <class F>
  KVASIR_HD uint64_t Sum(const F& f) {
#if defined(__CUDA_ARCH__)
    __shared__ unsigned long long sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, static_cast<unsigned long long>(f(threadIdx.x)));
    __syncthreads();
    const uint64_t all = sum;
    __syncthreads();
    return all;
#else
    return 0;
#endif
  }
  template <class F>
  KVASIR_HD uint32_t Max(const F& f) {
#if defined(__CUDA_ARCH__)
    __shared__ uint32_t greatest;
    if (threadIdx.x == 0) greatest = 0;
    __syncthreads();
    const uint32_t of_warp = __reduce_max_sync(0xFFFFFFFFu, f(threadIdx.x));
    if (threadIdx.x % 32 == 0) atomicMax(&greatest, of_warp);
    __syncthreads();
    const uint32_t all = greatest;
    __syncthreads();
    return all;
#else
    return 0;
#endif
  }
  KVASIR_HD uint32_t SumBefore(Own<uint32_t>& values) {
#if defined(__CUDA_ARCH__)
    __shared__ uint32_t of_warp[kCount / 32];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t value = values[threadIdx.x];
    uint32_t sum = value, all = 0;
    for (uint32_t d = 1; d < 32; d *= 2) {
      const uint32_t below = __shfl_up_sync(0xFFFFFFFFu, sum, d);
      if (lane >= d) sum += below;
    }
    if (lane == 31) of_warp[warp] = sum;
    __syncthreads();
    uint32_t before = sum - value;
    for (uint32_t w = 0; w < kCount / 32; ++w) {
      if (w < warp) before += of_warp[w];
      all += of_warp[w];
    }
    __syncthreads();
    values[threadIdx.x] = before;
    return all;
#else
    return values[0];
#endif
  }
};

#endif

}  // namespace kvasir::cuda
