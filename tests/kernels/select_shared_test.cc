// SPDX-License-Identifier: Apache-2.0
// Goal: a choice is the same bits whoever makes it: one worker or many, one process or ranks that exchange their
// scores. Method: every selecting method over pages, by devices with other numbers of workers; by two ranks, each with
// pages and inputs of its own heads only, everything else not a number.
#include <gtest/gtest.h>

#include <future>

#include "kernels/methods.h"
#include "kernels/row_jobs.h"
#include "tests/kernels/engine.h"
#include "tests/kernels/frames.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using namespace testing;  // NOLINT: the fixtures of this folder

constexpr KvLayout kLayout = {3, 4, 8, 6, ElementType::kBfloat16};
constexpr uint32_t kTokens = 320;

/// A chain in pages, and everything an engine may bring.
struct Chain {
  explicit Chain(uint64_t salt) : rng(Rng(salt)), brought(kTokens, rng, kLayout, 32) {
    engine = MakeEngine(kLayout, Order::kHND, 16, kTokens, rng);
    FillRandom(engine, rng);
    brought.inputs.query_heads = 2 * kLayout.kv_heads;
  }
  std::mt19937_64 rng;
  SelectFixture brought;
  Engine engine;
};

SelectInputs InputsFor(const Method& method, SelectInputs inputs) {
  if (method.name == "a2sf") inputs.attention_decay = 0.95f;
  return inputs;
}

void ExpectSame(const ChainSelection& a, const ChainSelection& b) {
  EXPECT_EQ(a.selection.classes, b.selection.classes);
  EXPECT_EQ(a.selection.counts, b.selection.counts);
  EXPECT_EQ(a.selection.weights, b.selection.weights);
  ASSERT_EQ(a.merged.size(), b.merged.size());
  for (size_t i = 0; i < a.merged.size(); ++i) {
    EXPECT_EQ(a.merged[i].tokens, b.merged[i].tokens) << i;
    EXPECT_EQ(a.merged[i].rows, b.merged[i].rows) << i;
  }
}

TEST(SharedSelection, TheNumberOfWorkersChangesNothing) {
  Chain chain(81);
  uint32_t selecting = 0;
  for (const Method& method : Methods()) {
    SCOPED_TRACE(method.name);
    const auto codec = MustParse(std::string(method.spec));
    if (codec->selection() == nullptr) continue;
    ++selecting;
    const SelectInputs inputs = InputsFor(method, chain.brought.inputs);
    std::vector<ChainSelection> chosen;
    for (const uint32_t workers : {1u, 2u, 5u, 32u}) {  // 12 heads
      const auto device = MakeCpuDevice({.codec_threads = workers});
      const JobStatus status = RunJob(
          *device, SelectJob{codec, &chain.engine.cache, chain.engine.pages, kTokens, &inputs, &chosen.emplace_back()});
      ASSERT_TRUE(status.ok) << status.error.message;
      ExpectSame(chosen.back(), chosen.front());
    }
  }
  EXPECT_GE(selecting, 18u);
}

TEST(SharedSelection, ManyChoicesAtOnceAreEachTheirOwn) {
  Chain chain(82);
  const auto device = MakeCpuDevice({.codec_threads = 4});
  std::vector<ChainSelection> chosen(12);
  std::vector<std::promise<JobStatus>> ends(chosen.size());
  const std::string specs[] = {"B:uni(0.25)|E:win(32,7)|R:win(32)|raw", "B:ada(0.5)|E:acc|raw",
                               "B:uni(0.5)|E:knorm|raw"};
  for (size_t i = 0; i < chosen.size(); ++i) {
    device->Submit(SelectJob{MustParse(specs[i % 3]), &chain.engine.cache, chain.engine.pages, kTokens,
                             &chain.brought.inputs, &chosen[i]},
                   &chosen[i], [&ends, i](JobStatus status) { ends[i].set_value(std::move(status)); });
  }
  for (size_t i = 0; i < chosen.size(); ++i) {
    ASSERT_TRUE(ends[i].get_future().get().ok);
    ExpectSame(chosen[i], chosen[i % 3]);
  }
  EXPECT_NE(chosen[0].selection.classes, chosen[1].selection.classes);
}

TEST(SharedSelection, TheFirstFailureIsToldWhoeverWasFaster) {
  Chain chain(83);
  for (const uint32_t workers : {1u, 4u}) {
    const auto device = MakeCpuDevice({.codec_threads = workers});
    SelectInputs inputs = chain.brought.inputs;
    inputs.window = 0;
    ChainSelection chosen;
    const JobStatus status = RunJob(*device, SelectJob{MustParse("B:uni(0.25)|E:win(32,7)|raw"), &chain.engine.cache,
                                                       chain.engine.pages, kTokens, &inputs, &chosen});
    EXPECT_EQ(status.error.message, "E:win: the input window_queries has " +
                                        std::to_string(inputs.window_queries.size()) + " numbers, this chain needs 0");
  }
}

/// Heads [first, first + heads) of the chain's cache, and inputs of these only.
struct Rank {
  Rank(const Chain& chain, const SelectInputs& all, uint32_t first, uint32_t heads)
      : cache(chain.engine.cache), brought(all, kLayout, first, heads) {
    cache.first_head = first;
    cache.heads = heads;
    for (PagedLayer& layer : cache.layers) {
      layer.key += first * cache.key_strides.head;
      layer.value += first * cache.value_strides.head;
    }
  }
  PagedCache cache;
  RankInputs brought;
  const SelectInputs& inputs = brought.inputs;
  std::vector<float> scored;
  ChainSelection chosen;
};

TEST(SharedSelection, RanksThatExchangeScoresChooseWhatOneProcessWould) {
  Chain chain(84);
  const auto device = MakeCpuDevice({.codec_threads = 2});
  std::string refused;
  for (const Method& method : Methods()) {
    SCOPED_TRACE(method.name);
    const auto codec = MustParse(std::string(method.spec));
    if (codec->selection() == nullptr) continue;
    const SelectInputs inputs = InputsFor(method, chain.brought.inputs);
    ChainSelection whole;
    ASSERT_TRUE(
        RunJob(*device, SelectJob{codec, &chain.engine.cache, chain.engine.pages, kTokens, &inputs, &whole}).ok);
    Rank ranks[] = {{chain, inputs, 0, 1}, {chain, inputs, 1, 3}};
    std::vector<float> scores(kLayout.layers * kLayout.kv_heads * kTokens);
    JobStatus status;
    for (Rank& rank : ranks) {
      status = RunJob(*device,
                      SelectJob{codec, &rank.cache, chain.engine.pages, kTokens, &rank.inputs, nullptr, &rank.scored});
      if (!status.ok) break;
      const uint64_t row = rank.cache.heads * kTokens;
      for (uint64_t layer = 0; layer < kLayout.layers; ++layer) {
        std::copy_n(&rank.scored[layer * row], row,
                    &scores[(layer * kLayout.kv_heads + rank.cache.first_head) * kTokens]);
      }
    }
    if (!status.ok) {
      refused +=
          std::string(method.name) + ": " + status.error.message.substr(0, status.error.message.find(',')) + "\n";
      continue;
    }
    for (Rank& rank : ranks) {
      status = RunJob(*device, SelectJob{codec, &rank.cache, chain.engine.pages, kTokens, &rank.inputs, &rank.chosen,
                                         nullptr, scores});
      ASSERT_TRUE(status.ok) << status.error.message;
      for (uint64_t i = 0; i < kLayout.layers * kLayout.kv_heads; ++i) {
        const uint64_t head = i % kLayout.kv_heads;
        if (head < rank.cache.first_head || head >= rank.cache.first_head + rank.cache.heads) continue;
        EXPECT_EQ(rank.chosen.selection.counts[i], whole.selection.counts[i]);
        EXPECT_TRUE(std::equal(&whole.selection.classes[i * kTokens], &whole.selection.classes[i * kTokens] + kTokens,
                               &rank.chosen.selection.classes[i * kTokens]));
        for (uint64_t t = 2 * i; !whole.merged.empty() && t < 2 * i + 2; ++t) {
          EXPECT_EQ(rank.chosen.merged[t].tokens, whole.merged[t].tokens);
          EXPECT_EQ(rank.chosen.merged[t].rows, whole.merged[t].rows);
        }
      }
    }
  }
  EXPECT_EQ(refused,
            "cake: B:ent looks at window_queries of all heads\n"
            "d2o: B:var looks at attention_sums of all heads\n"
            "zigzag-kv: B:unc looks at window_queries of all heads\n");
}

TEST(SharedSelection, ARankWithoutTheScoresOfTheOthersIsRefused) {
  Chain chain(85);
  const auto device = MakeCpuDevice({.codec_threads = 1});
  Rank rank(chain, chain.brought.inputs, 1, 2);
  const auto codec = MustParse("B:uni(0.25)|E:knorm|raw");
  SelectJob job{codec, &rank.cache, chain.engine.pages, kTokens, &rank.inputs, &rank.chosen};
  EXPECT_NE(RunJob(*device, job).error.message.find("heads [0, +4) are not in this cache"), std::string::npos);
  const std::vector<float> few(3);
  job.scores = few;
  EXPECT_EQ(RunJob(*device, job).error.message, "device job: scores are not those of all heads");
  job.scored = &rank.scored;
  EXPECT_EQ(RunJob(*device, job).error.message, "device job: one of result and scored must be given");
}

}  // namespace
}  // namespace kvasir
