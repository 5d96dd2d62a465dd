// SPDX-License-Identifier: Apache-2.0
// How long a choice of tokens takes: one layer of 8 KV heads (32 query heads, d = 128) over a long chain, on one worker
// of the CPU device and on more. Prints milliseconds, the best of a few, those of all cores together, and the ratio to
// one worker; exits 1 where more workers choose otherwise. No goal of the project is a time of it.
//   selection_bench [--quick] [tokens [workers ...]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "kernels/methods.h"
#include "kernels/row_jobs.h"
#include "tests/kernels/engine.h"

namespace kvasir::bench {
namespace {

constexpr KvLayout kLayout{1, 8, 128, 128, ElementType::kBfloat16};
constexpr uint32_t kQueryHeads = 32, kWindow = 32, kPageTokens = 64;
constexpr int kTries = 3;

/// Milliseconds: by the clock, and of all cores together.
struct Cost {
  double wall = 0, cores = 0;
};

Cost CostOf(uint32_t workers, const std::shared_ptr<const Codec>& codec, const testing::Engine& engine, uint32_t tokens,
            const SelectInputs& inputs, ChainSelection& selection) {
  const auto device = MakeCpuDevice({.codec_threads = workers});
  Cost best;
  for (int i = 0; i < kTries; ++i) {
    const std::clock_t cores = std::clock();
    const auto begin = std::chrono::steady_clock::now();
    const JobStatus status =
        testing::RunJob(*device, SelectJob{codec, &engine.cache, engine.pages, tokens, &inputs, &selection});
    const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - begin;
    const double cores_ms = 1e3 * static_cast<double>(std::clock() - cores) / CLOCKS_PER_SEC;
    if (!status.ok) {
      std::fprintf(stderr, "%s\n", status.error.message.c_str());
      std::exit(1);
    }
    if (i == 0 || wall.count() < best.wall) best.wall = wall.count();
    if (i == 0 || cores_ms < best.cores) best.cores = cores_ms;
  }
  return best;
}

int Main(uint32_t tokens, const std::vector<uint32_t>& workers) {
  std::mt19937_64 rng(20261121);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  testing::Engine engine = testing::MakeEngine(kLayout, testing::Order::kNHD, kPageTokens, tokens, rng);
  testing::FillRandom(engine, rng);
  std::vector<float> queries(uint64_t{kQueryHeads} * kWindow * kLayout.key_dim),
      sums(uint64_t{kLayout.kv_heads} * tokens);
  for (float& x : queries) x = normal(rng);
  for (float& x : sums) x = std::abs(normal(rng));
  SelectInputs inputs;
  inputs.window_queries = queries;
  inputs.query_heads = kQueryHeads;
  inputs.window = kWindow;
  inputs.attention_sums = sums;
  for (const char* method : {"snapkv", "ada-kv", "h2o", "knorm", "zigzag-kv"}) {
    const auto codec = *CodecNamed(method);
    ChainSelection alone, more;
    const Cost one = CostOf(1, codec, engine, tokens, inputs, alone);
    std::printf("%-10s %u tokens, 8 heads: 1 worker %.0f ms (%.0f of a core)", method, tokens, one.wall, one.cores);
    for (const uint32_t count : workers) {
      const Cost cost = CostOf(count, codec, engine, tokens, inputs, more);
      std::printf("; %u workers %.0f ms (%.0f), %.2f times as fast", count, cost.wall, cost.cores,
                  one.wall / cost.wall);
      if (more.selection.classes == alone.selection.classes) continue;
      std::printf(": ANOTHER CHOICE\n");
      return 1;
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace kvasir::bench

int main(int argc, char** argv) {
  uint32_t tokens = 32768;
  std::vector<uint32_t> workers;
  bool given = false;
  for (int i = 1; i < argc; ++i) {
    const bool quick = std::string(argv[i]) == "--quick";
    const uint32_t number = quick ? 2048 : static_cast<uint32_t>(std::strtoul(argv[i], nullptr, 10));
    (given ? workers.emplace_back() : tokens) = number;
    given = true;
  }
  if (workers.empty()) workers = {2, 4};
  return kvasir::bench::Main(tokens, workers);
}
