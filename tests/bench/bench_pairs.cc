// SPDX-License-Identifier: Apache-2.0
// Timing, median and report of paired measurements.
#include "tests/bench/bench_pairs.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdio>

namespace kvasir::bench {
namespace {

/// CPU time of this thread: what other processes take from the core does not count.
double Seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double Timed(const std::function<void()>& work) {
  const double start = Seconds();
  work();
  return Seconds() - start;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

Ratios MeasurePairs(const PairOptions& options, const std::function<void()>& reference,
                    const std::function<void()>& ours) {
  reference();
  ours();
  std::vector<double> ratios, our_times, reference_times;
  for (int i = 0; i < options.rounds; ++i) {
    reference_times.push_back(Timed(reference));
    our_times.push_back(Timed(ours));
    ratios.push_back(reference_times.back() / our_times.back());
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {Median(ratios), *low, *high, Median(our_times), Median(reference_times)};
}

bool Report(const Goal& goal, const Ratios& r) {
  const double must = goal.limit > 0 ? std::min(goal.must, goal.share * goal.limit) : goal.must;
  const bool ok = goal.smaller_is_better ? r.median <= must : r.median >= must;
  std::printf("{\"goal\":\"%s\",\"what\":\"%s\",\"ratio\":%.4g,\"must\":%g,\"moonshot\":%g,\"spread\":[%.4g,%.4g],",
              goal.goal.c_str(), goal.what.c_str(), r.median, goal.must, goal.moonshot, r.low, r.high);
  if (goal.limit > 0)
    std::printf("\"limit\":%.4g,\"share\":%.4g,\"must_share\":%g,", goal.limit, r.median / goal.limit, goal.share);
  std::printf("\"ok\":%s}\n", ok ? "true" : "false");
  std::fflush(stdout);
  return ok;
}

void PinToOneCpu() {
  cpu_set_t allowed;
  int last = -1;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) last = cpu;
    }
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  if (last >= 0) CPU_SET(last, &one);
  if (last < 0 || sched_setaffinity(0, sizeof one, &one) != 0) std::fprintf(stderr, "not pinned: the system refused\n");
}

}  // namespace kvasir::bench
