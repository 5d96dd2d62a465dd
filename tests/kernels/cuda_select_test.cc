// SPDX-License-Identifier: Apache-2.0
// Goal: what the CUDA kernels of a selection compute is what the stages compute, where no GPU is. Method: their bodies
// run by SerialTeam; norms compared with ==, scores of E:win within what another order of the sums can do, choices with
// those of Select, over ties, infinities, both zeros and every count.
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/cuda/select_bodies.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using namespace testing;  // the chain
using Team = cuda::SerialTeam<32>;

constexpr ElementType kFloats = ElementType::kFloat32;  // the chain of the tests has no other

const uint8_t* Row(const SelectFixture& f, uint64_t head, KvTensor tensor, uint32_t token) {
  return reinterpret_cast<const uint8_t*>(f.rows.At(head / f.layout.kv_heads, head % f.layout.kv_heads, tensor, token));
}

TEST(CudaSelect, NormsAreThoseOfTheStages) {
  auto rng = Rng(160);
  SelectFixture f(150, rng);
  const auto scores = f.Scores<KeyNormScorer>({});
  const SelectionSpec spec;
  std::vector<float> weighed(scores.size(), 0.75f);
  weighed[7] = kKeepFirst;
  std::vector<float> expected = weighed;
  ASSERT_TRUE(ValueNormScores::Reshape({}, f.Context(spec), expected).ok());
  for (uint64_t i = 0; i < scores.size(); ++i) {
    const uint32_t token = static_cast<uint32_t>(i % f.tokens);
    EXPECT_EQ(cuda::KeyNormScore(kFloats, f.layout.key_dim, Row(f, i / f.tokens, KvTensor::kKey, token)), scores[i]);
    const float norm = cuda::ValueNorm(kFloats, f.layout.value_dim, Row(f, i / f.tokens, KvTensor::kValue, token));
    EXPECT_EQ(weighed[i] == kKeepFirst ? weighed[i] : weighed[i] * norm, expected[i]);
  }
}

TEST(CudaSelect, WindowScoresAreThoseOfTheStage) {
  auto rng = Rng(161);
  for (const auto& [window, kernel, max] : {std::array{12u, 7u, 0u}, {5u, 1u, 0u}, {8u, 5u, 1u}}) {
    SelectFixture f(150, rng);
    const auto expected = f.Scores<WindowScorer>({window, kernel, max, 0});
    const cuda::WindowShape shape{f.tokens, f.layout.key_dim, window, kernel, max != 0, 2, kFloats};
    for (uint64_t head = 0; head < f.heads(); ++head) {
      const uint8_t* keys = Row(f, head, KvTensor::kKey, 0);
      std::vector<float> dots(window * f.tokens);
      std::vector<double> partial(Team::kThreads), attention(f.tokens), pooled(f.tokens);
      std::vector<cuda::WindowSoftmax> softmax(window);
      Team team;
      for (uint64_t member = 0; member < 2; ++member) {
        const float* queries =
            f.queries.data() + ((head * 2 + member + 1) * f.inputs.window - window) * f.layout.key_dim;
        for (uint32_t w = 0; w < window; ++w) {
          for (uint32_t t = 0; t < f.tokens; ++t) {
            dots[w * f.tokens + t] = cuda::WindowDot(shape, queries, keys, w, t);
          }
          cuda::SumSoftmax(team, shape, dots.data(), w, partial.data(), softmax.data());
        }
        for (uint32_t t = 0; t < shape.before(); ++t) {
          attention[t] = cuda::WindowAttention(shape, dots.data(), softmax.data(), t);
        }
        for (uint32_t t = 0; t < shape.before(); ++t) pooled[t] += cuda::PooledAttention(shape, attention.data(), t);
      }
      for (uint32_t t = 0; t < shape.before(); ++t) {
        const float score = cuda::WindowScore(shape, pooled[t]);
        // The sums differ by some roundings of float64: at most one of float32 is left.
        EXPECT_NEAR(score, expected[head * f.tokens + t], 2e-7 * score) << t;
      }
    }
  }
}

/// Select with scores that were brought, one head.
std::vector<RowClass> ChosenByCpu(const SelectionSpec& spec, std::vector<float> scores, uint32_t tokens) {
  auto rng = Rng(162);
  const KvLayout layout{1, 1, 2, 2, kFloats};
  MemoryRows rows(layout, tokens, rng);
  SelectInputs inputs;
  inputs.external_scores = scores;
  const Result<Selection> selected = Select(spec, layout, tokens, inputs, rows);
  EXPECT_TRUE(selected.ok()) << (selected.ok() ? "" : selected.error().message);
  return selected->classes;
}

TEST(CudaSelect, ChoicesAreThoseOfSelect) {
  auto rng = Rng(163);
  Team team;
  for (int round = 0; round < 400; ++round) {
    const uint32_t tokens = 1 + static_cast<uint32_t>(rng() % 150);
    const uint32_t sinks = static_cast<uint32_t>(rng() % 5), window = static_cast<uint32_t>(rng() % 9);
    const bool demotes = round % 2 == 0;
    std::string spec = "B:uni(" + std::to_string(1 + rng() % tokens) + ")|E:ext" + (demotes ? "(demote)" : "");
    if (sinks > 0) spec += "|R:sink(" + std::to_string(sinks) + ")";
    if (window > 0) spec += "|R:win(" + std::to_string(window) + ")";
    const auto codec = Codec::Parse(spec + (demotes ? "|raw|d:int(8,tok)" : "|raw"));
    ASSERT_TRUE(codec.ok()) << spec;
    const SelectionSpec& selection = *(*codec)->selection();
    const float few[] = {0.0f, -0.0f, 1.5f, -1.5f, kKeepFirst, -kKeepFirst, 1e-42f};
    std::vector<float> scores(tokens);
    for (float& score : scores) {
      score = round % 3 == 0 ? few[rng() % std::size(few)]
                             : static_cast<float>(static_cast<int>(rng() % 2000) - 1000) * 0.01f;
    }
    const auto expected = ChosenByCpu(selection, scores, tokens);
    const uint32_t exempt = std::min(sinks + window, tokens);
    const uint32_t count = std::clamp(BudgetTokens(selection, tokens), exempt, tokens);
    const cuda::ChoiceRules rules{tokens, sinks, window, demotes ? RowClass::kDemoted : RowClass::kDropped};
    std::vector<RowClass> classes(tokens, RowClass::kExact);
    cuda::ChoiceShared shared;
    cuda::ChooseTokens(team, rules, scores.data(), count, shared, classes.data());
    ASSERT_EQ(classes, expected) << spec << " of " << tokens << " tokens, round " << round;
  }
}

}  // namespace
}  // namespace kvasir
