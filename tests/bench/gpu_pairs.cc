// SPDX-License-Identifier: Apache-2.0
// Timing, median and report of paired measurements on a GPU.
#include "tests/bench/gpu_pairs.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace kvasir::bench {
namespace {

constexpr double kSlow = 0.1;  ///< seconds: what takes longer needs no more than three rounds

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

void Must(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(code));
  std::exit(2);
}

uint8_t* DeviceBytes(size_t bytes) {
  void* p = nullptr;
  Must(cudaMalloc(&p, bytes), "cudaMalloc");
  return static_cast<uint8_t*>(p);
}

uint8_t* PinnedBytes(size_t bytes) {
  void* p = nullptr;
  Must(cudaHostAlloc(&p, bytes, cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
  return static_cast<uint8_t*>(p);
}

GpuPairs::GpuPairs(int rounds) : rounds_(rounds) {
  Must(cudaStreamCreate(&stream_), "cudaStreamCreate");
  Must(cudaEventCreate(&begin_), "cudaEventCreate");
  Must(cudaEventCreate(&end_), "cudaEventCreate");
}

GpuPairs::~GpuPairs() {
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
  cudaStreamDestroy(stream_);
}

double GpuPairs::Seconds(const GpuWork& work) {
  Must(cudaEventRecord(begin_, stream_), "cudaEventRecord");
  work.enqueue(stream_);
  Must(cudaEventRecord(end_, stream_), "cudaEventRecord");
  Must(cudaEventSynchronize(end_), "cudaEventSynchronize");
  Must(cudaGetLastError(), "the work measured");
  float milliseconds = 0;
  Must(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
  return 1e-3 * milliseconds;
}

GpuRatios GpuPairs::Measure(const GpuWork& reference, const GpuWork& ours) {
  Seconds(reference);
  const int rounds = Seconds(ours) > kSlow ? std::min(rounds_, 3) : rounds_;
  std::vector<double> ratios, our_rates, reference_rates;
  for (int i = 0; i < rounds; ++i) {
    reference_rates.push_back(reference.bytes / Seconds(reference));
    our_rates.push_back(ours.bytes / Seconds(ours));
    ratios.push_back(our_rates.back() / reference_rates.back());
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {Median(ratios), *low, *high, Median(our_rates), Median(reference_rates)};
}

bool Report(const GpuGoal& goal, double bytes, const GpuRatios& r) {
  const bool ok = r.median >= goal.must;
  std::printf("{\"goal\":\"%s\",\"what\":\"%s\",\"ratio\":%.4g,\"must\":%g,\"moonshot\":%g,\"spread\":[%.4g,%.4g],",
              goal.goal.c_str(), goal.what.c_str(), r.median, goal.must, goal.moonshot, r.low, r.high);
  std::printf("\"values_gbps\":%.4g,\"rate_gbps\":%.4g,\"reference_gbps\":%.4g,",
              goal.values_bytes / bytes * r.our_rate * 1e-9, r.our_rate * 1e-9, r.reference_rate * 1e-9);
  if (!goal.note.empty()) std::printf("\"note\":\"%s\",", goal.note.c_str());
  std::printf("\"ok\":%s}\n", ok ? "true" : "false");
  std::fflush(stdout);
  return ok;
}

}  // namespace kvasir::bench
