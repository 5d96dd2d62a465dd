// SPDX-License-Identifier: Apache-2.0
// Goal: every scorer is what its paper says, against independent arithmetic in double; an input that is missing or of
// the wrong size is refused by name.
#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/frames.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using testing::SelectFixture;

double Dot(const float* a, const float* b, uint64_t dim) {
  double sum = 0;
  for (uint64_t c = dim; c-- > 0;) sum += double{a[c]} * b[c];
  return sum;
}

/// SnapKV by the whole attention matrix: padded with zeros, then pooled.
double SnapKv(const SelectFixture& f, uint64_t layer, uint64_t head, uint64_t token, const WindowScorer::Args& a) {
  const uint64_t n = f.tokens, dim = f.layout.key_dim, half = a.kernel / 2, prefix = n - a.window;
  double score = 0;
  for (uint64_t member = 0; member < 2; ++member) {
    std::vector<double> padded(prefix + 2 * half);
    for (uint64_t w = 0; w < a.window; ++w) {
      const uint64_t row = (layer * 4 + head * 2 + member) * 12 + (12 - a.window) + w;
      std::vector<double> e(n);
      double all = 0;
      for (uint64_t t = 0; t <= n - a.window + w; ++t) {
        e[t] = std::exp(Dot(&f.queries[row * dim], f.rows.At(layer, head, KvTensor::kKey, t), dim) / std::sqrt(8.0));
        all += e[t];
      }
      for (uint64_t t = 0; t < prefix; ++t) padded[half + t] += e[t] / all / a.window;
    }
    double sum = 0, greatest = 0;
    for (uint64_t i = token; i < token + a.kernel; ++i) {
      sum += padded[i];
      greatest = std::max(greatest, padded[i]);
    }
    score += (a.max != 0 ? greatest : sum / a.kernel) / 2;
  }
  return score;
}

TEST(Scorers, WindowIsSnapKvs) {
  auto rng = testing::Rng(80);
  SelectFixture f(40, rng);
  for (const WindowScorer::Args args : {WindowScorer::Args{12, 5, 0, 0}, {8, 7, 1, 0}, {1, 1, 0, 0}}) {
    const auto scores = f.Scores<WindowScorer>(args);
    for (uint64_t i = 0; i < scores.size(); ++i) {
      const uint64_t token = i % 40, head = i / 40;
      if (token >= 40 - args.window) {
        EXPECT_EQ(scores[i], kKeepFirst);
      } else {
        const double expected = SnapKv(f, head / 2, head % 2, token, args);
        ASSERT_NEAR(scores[i], expected, 1e-5 * expected) << "token " << token << " of head " << head;
      }
    }
  }
}

TEST(Scorers, ExpectedAttentionIsTheMeanOverGaussianQueries) {
  auto rng = testing::Rng(81);
  SelectFixture f(24, rng);
  SelectionSpec spec;
  spec.sink_tokens = 3;
  const auto scores = f.Scores<ExpectedScorer>({}, spec);
  const uint64_t dim = 8;
  for (uint64_t head = 0; head < f.heads(); ++head) {
    std::vector<double> expected(24);
    for (uint64_t q = head * 2; q < head * 2 + 2; ++q) {
      std::vector<double> e(24);
      double all = 0;
      for (uint64_t t = 3; t < 24; ++t) {
        const float* k = f.rows.At(head / 2, head % 2, KvTensor::kKey, t);
        double z = Dot(&f.mean[q * dim], k, dim) / std::sqrt(8.0);
        for (uint64_t i = 0; i < dim * dim; ++i) z += double{f.covariance[q * 64 + i]} * k[i / 8] * k[i % 8] / 16;
        all += e[t] = std::exp(z);
      }
      for (uint64_t t = 3; t < 24; ++t) expected[t] += e[t] / all / 2;
    }
    for (uint64_t t = 0; t < 24; ++t) {
      const float* v = f.rows.At(head / 2, head % 2, KvTensor::kValue, t);
      if (t < 3) {
        EXPECT_EQ(scores[head * 24 + t], kKeepFirst);
      } else {
        ASSERT_NEAR(scores[head * 24 + t], expected[t] * std::sqrt(Dot(v, v, 6)), 1e-5 * expected[t]);
      }
    }
  }
}

/// The formula itself: E[exp(q . k / sqrt(d))] of queries that are drawn.
TEST(Scorers, ExpectedAttentionHoldsForQueriesThatAreDrawn) {
  auto rng = testing::Rng(82);
  SelectFixture f(6, rng);
  // Sigma = diag(0.5): its root is known.
  std::fill(f.covariance.begin(), f.covariance.end(), 0.0f);
  for (uint64_t i = 0; i < f.covariance.size(); i += 64) {
    for (uint64_t c = 0; c < 8; ++c) f.covariance[i + 9 * c] = 0.5f;
  }
  // Both query heads of the first KV head alike.
  std::copy(f.mean.begin(), f.mean.begin() + 8, f.mean.begin() + 8);
  const auto scores = f.Scores<ExpectedScorer>({});
  std::normal_distribution<double> normal(0.0, std::sqrt(0.5));
  std::vector<double> mean(6);
  for (int i = 0; i < 200000; ++i) {
    float q[8];
    for (int c = 0; c < 8; ++c) q[c] = static_cast<float>(f.mean[static_cast<size_t>(c)] + normal(rng));
    for (uint64_t t = 0; t < 6; ++t)
      mean[t] += std::exp(Dot(q, f.rows.At(0, 0, KvTensor::kKey, t), 8) / std::sqrt(8.0));
  }
  const auto of_value = [&](uint64_t t) {
    const float* v = f.rows.At(0, 0, KvTensor::kValue, t);
    return std::sqrt(Dot(v, v, 6));
  };
  for (uint64_t t = 1; t < 6; ++t) {
    const double drawn = mean[t] * of_value(t) / (mean[0] * of_value(0));
    EXPECT_NEAR(scores[t] / scores[0], drawn, 0.05 * drawn) << t;
  }
}

TEST(Scorers, SumsOfAttention) {
  auto rng = testing::Rng(83);
  SelectFixture f(30, rng);
  EXPECT_EQ(f.Scores<AttentionScorer>({}), f.sums);
  EXPECT_EQ(f.Scores<ExternalScorer>({}), f.external);
  const auto normalised = f.Scores<NormalisedScorer>({});
  for (uint64_t i = 0; i < f.sums.size(); ++i) {
    const double seen = 30.0 - static_cast<double>(i % 30);
    ASSERT_NEAR(normalised[i], f.sums[i] / seen, 1e-6 * f.sums[i]);
  }
  EXPECT_FALSE(f.Run("B:uni(0.5)|E:accf(0.95)|raw").ok()) << "the sums do not forget";
  f.inputs.attention_decay = 0.95f;
  EXPECT_TRUE(f.Run("B:uni(0.5)|E:accf(0.95)|raw").ok());
  const auto refused = f.Run("B:uni(0.5)|E:acc|raw");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("attention_decay"), std::string::npos) << refused.error().message;
}

/// A2SF's state of one float a token, S := gamma S + A, is its closed form.
TEST(Scorers, ForgettingInStepsIsTheClosedForm) {
  auto rng = testing::Rng(84);
  const uint64_t n = 64;
  const double gamma = 0.95;
  std::vector<std::vector<double>> attention(n);
  std::vector<float> state(n);
  for (uint64_t q = 0; q < n; ++q) {
    double all = 0;
    for (uint64_t t = 0; t <= q; ++t) all += attention[q].emplace_back(1e-3 * static_cast<double>(1 + rng() % 1000));
    for (double& a : attention[q]) a /= all;
    for (uint64_t t = 0; t <= q; ++t) {
      state[t] = static_cast<float>(gamma) * state[t] + static_cast<float>(attention[q][t]);
    }
  }
  SelectFixture f(n, rng);
  for (uint64_t i = 0; i < f.sums.size(); ++i) f.sums[i] = state[i % n];
  f.inputs.attention_decay = 0.95f;
  const auto scores = f.Scores<ForgettingScorer>({950000, 0});
  for (uint64_t t = 0; t < n; ++t) {
    double closed = 0;
    for (uint64_t q = t; q < n; ++q) closed += std::pow(gamma, static_cast<double>(n - 1 - q)) * attention[q][t];
    EXPECT_NEAR(scores[t], closed, 1e-5);
  }
}

TEST(Scorers, GlobalAndLocalHaveTheSameMean) {
  auto rng = testing::Rng(90);
  SelectFixture f(40, rng);
  const auto scores = f.Scores<GlobalLocalScorer>({8, 0});
  for (uint64_t head = 0; head < f.heads(); ++head) {
    std::vector<double> local(40);
    double of_global = 0, of_local = 0;
    for (uint64_t q = 2 * head; q < 2 * head + 2; ++q) {
      for (uint64_t w = 4; w < 12; ++w) {  // the last 8 of 12 queries
        std::vector<double> a;
        double all = 0;
        for (uint64_t t = 0; t <= 40 - 12 + w; ++t) {
          double dot = 0;
          for (uint64_t c = 0; c < 8; ++c)
            dot += double{f.queries[(q * 12 + w) * 8 + c]} * f.rows.At(head / 2, head % 2, KvTensor::kKey, t)[c];
          all += a.emplace_back(std::exp(dot / std::sqrt(8.0)));
        }
        for (size_t t = 0; t < a.size(); ++t) local[t] += a[t] / all;
      }
    }
    for (uint64_t t = 0; t < 40; ++t) {
      of_global += f.sums[head * 40 + t];
      of_local += local[t];
    }
    for (uint64_t t = 0; t < 40; ++t) {
      const double expected = f.sums[head * 40 + t] + local[t] * of_global / of_local;
      EXPECT_NEAR(scores[head * 40 + t], expected, 1e-5 * expected);
    }
  }
}

TEST(Scorers, ChunksAndValueNorms) {
  auto rng = testing::Rng(85);
  SelectFixture f(25, rng);
  const SelectionSpec none;
  const SelectionContext context = f.Context(none);
  std::vector<float> chunked = f.external, weighed = f.sums;
  chunked[7] = kKeepFirst;
  weighed[7] = kKeepFirst;
  ASSERT_TRUE(ChunkScores::Reshape({10}, context, chunked).ok());
  ASSERT_TRUE(ValueNormScores::Reshape({}, context, weighed).ok());
  for (uint64_t i = 0; i < chunked.size(); ++i) {
    const uint64_t head = i / 25, t = i % 25, begin = t / 10 * 10, end = std::min<uint64_t>(begin + 10, 25);
    double sum = 0, norm = 0;
    for (uint64_t s = begin; s < end; ++s) sum += double{f.external[head * 25 + s]} + f.external[(head ^ 1) * 25 + s];
    for (int c = 0; c < 6; ++c) norm += std::fabs(double{f.rows.At(head / 2, head % 2, KvTensor::kValue, t)[c]});
    if (head < 2 && t < 10) {
      EXPECT_EQ(chunked[i], kKeepFirst) << "a chunk is kept with its first token";
    } else {
      ASSERT_NEAR(chunked[i], sum / static_cast<double>(2 * (end - begin)), 1e-6);
    }
    if (i == 7) {
      EXPECT_EQ(weighed[i], kKeepFirst);
    } else {
      ASSERT_NEAR(weighed[i], f.sums[i] * norm, 1e-5 * f.sums[i] * norm);
    }
  }
  const auto selection = f.Run("B:uni(12)|E:ext|E:chunk(5)|raw");
  ASSERT_TRUE(selection.ok());
  for (uint64_t layer = 0; layer < 3; ++layer) {
    const auto first = selection->classes.begin() + static_cast<long>(layer * 50);
    EXPECT_TRUE(std::equal(first, first + 25, first + 25)) << "the heads of a layer keep the same tokens";
  }
}

TEST(Scorers, ChunksOfTwoLayersAreThoseOfTheFirst) {
  auto rng = testing::Rng(89);
  SelectFixture f(25, rng);
  const SelectionSpec none;
  std::vector<float> own = f.external, pairs = f.external;
  ASSERT_TRUE(ChunkScores::Reshape({5, 1}, f.Context(none), own).ok());
  ASSERT_TRUE(ChunkScores::Reshape({5, 2}, f.Context(none), pairs).ok());
  for (uint64_t i = 0; i < pairs.size(); ++i) {
    const uint64_t layer = i / 50, first = layer - layer % 2;  // the last of three layers is a pair of its own
    ASSERT_EQ(pairs[i], own[first * 50 + i % 50]) << i;
  }
  EXPECT_NE(pairs, own);
  EXPECT_EQ(testing::MustParse("B:uni(12)|E:ext|E:chunk(5,2)|raw")->spec(), "B:uni(12)|E:ext(drop)|E:chunk(5,2)|P:raw");
  EXPECT_EQ(testing::MustParse("B:uni(12)|E:ext|E:chunk(5,1)|raw")->spec(), "B:uni(12)|E:ext(drop)|E:chunk(5)|P:raw");
  EXPECT_FALSE(Codec::Parse("B:uni(12)|E:ext|E:chunk(5,0)|raw").ok());
}

TEST(Scorers, InputsThatAreMissingOrOfTheWrongSizeAreNamed) {
  auto rng = testing::Rng(86);
  SelectFixture f(20, rng);
  f.ExpectNamed("B:uni(0.5)|E:acc|raw", "attention_sums", &SelectInputs::attention_sums);
  f.ExpectNamed("B:uni(0.5)|E:accn|raw", "attention_sums", &SelectInputs::attention_sums);
  f.ExpectNamed("B:uni(0.5)|E:gl(8)|raw", "attention_sums", &SelectInputs::attention_sums);
  f.ExpectNamed("B:uni(0.5)|E:gl(8)|raw", "window_queries", &SelectInputs::window_queries);
  f.ExpectNamed("B:uni(0.5)|E:win(8)|raw", "window_queries", &SelectInputs::window_queries);
  f.ExpectNamed("B:uni(0.5)|E:expq|raw", "query_mean", &SelectInputs::query_mean);
  f.ExpectNamed("B:uni(0.5)|E:expq|raw", "query_covariance", &SelectInputs::query_covariance);
  f.ExpectNamed("B:uni(0.5)|E:ext|raw", "external_scores", &SelectInputs::external_scores);
  f.inputs.query_heads = 3;
  for (const char* spec : {"B:uni(0.5)|E:win(8)|raw", "B:uni(0.5)|E:expq|raw"}) {
    EXPECT_NE(f.Run(spec).error().message.find("query_heads"), std::string::npos);
  }
  f.inputs.query_heads = 4;
  EXPECT_NE(f.Run("B:uni(0.5)|E:win(13)|raw").error().message.find("window_queries"), std::string::npos);
  f.external[5] = std::nanf("");
  EXPECT_FALSE(f.Run("B:uni(0.5)|E:ext|raw").ok());
}

TEST(Scorers, SpansScoreAsAWhole) {
  auto rng = testing::Rng(88);
  SelectFixture f(30, rng);
  const std::vector<TokenSpan> spans = {{3, 9}, {9, 10}, {14, 30}};
  f.inputs.spans = spans;
  std::vector<float> scores = f.external;
  const SelectionSpec spec;
  const SelectionContext context = f.Context(spec);
  ASSERT_TRUE(SpanScores::Reshape({}, context, scores).ok());
  for (uint64_t i = 0; i < scores.size(); ++i) {
    const uint64_t layer = i / 60, token = i % 30;
    uint64_t begin = token, end = token + 1;
    for (const TokenSpan& span : spans) {
      if (token >= span.begin && token < span.end) {
        begin = span.begin;
        end = span.end;
      }
    }
    double sum = 0;
    for (uint64_t t = begin; t < end; ++t) sum += double{f.external[layer * 60 + t]} + f.external[layer * 60 + 30 + t];
    ASSERT_NEAR(scores[i], sum / static_cast<double>(2 * (end - begin)), 1e-6) << i;
  }
  // Spans that do not ascend, are empty or end behind the chain, and none at all, are refused by name.
  for (const std::vector<TokenSpan>& wrong :
       std::vector<std::vector<TokenSpan>>{{}, {{3, 3}}, {{3, 31}}, {{3, 9}, {8, 12}}, {{9, 12}, {3, 5}}}) {
    f.inputs.spans = wrong;
    const auto refused = f.Run("B:uni(0.5)|E:ext|E:span|raw");
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("spans"), std::string::npos) << refused.error().message;
  }
}

/// By contract a scorer looks at one head at a time: alone it gets what it got among others.
TEST(Scorers, LookAtOneHeadAtATime) {
  auto rng = testing::Rng(24);
  SelectFixture f(64, rng, {2, 2, 8, 6, ElementType::kBfloat16}, 32);
  f.inputs.attention_decay = 1.0f;
  uint32_t tried = 0;
  for (const std::string spec : {"E:acc", "E:accf(1.0)", "E:accn", "E:expq", "E:ext", "E:gl(12)", "E:knorm", "E:late",
                                 "E:mv(200,16,5)", "E:pol(0.95,0.3)", "E:win(12,7)", "E:acc|E:vnorm"}) {
    SCOPED_TRACE(spec);
    const auto codec = Codec::Parse("B:uni(0.5)|" + spec + "|raw");
    ASSERT_TRUE(codec.ok()) << codec.error().message;
    const SelectionSpec& stages = *(*codec)->selection();
    const SelectionContext context = f.Context(stages);
    std::vector<float> whole(f.heads() * f.tokens);
    for (uint32_t i = 0; i < stages.score_count; ++i) {
      SelectStages::With(stages.scores[i].stage, [&]<class S>() {
        typename S::Args args;
        std::memcpy(&args, stages.scores[i].args, sizeof args);
        Result<bool> done = false;
        if constexpr (S::kRole == StageRole::kScorer) done = S::Score(args, context, whole);
        if constexpr (S::kRole == StageRole::kReshape) done = S::Reshape(args, context, whole);
        EXPECT_TRUE(done.ok()) << (done.ok() ? "" : done.error().message);
      });
    }
    const auto by_head = ScoreHeads(stages, {f.layout, f.tokens, f.inputs, f.rows, 0, f.layout.kv_heads});
    ASSERT_TRUE(by_head.ok()) << by_head.error().message;
    EXPECT_EQ(*by_head, whole);
    ++tried;
  }
  uint32_t scorers = 0;
  SelectStages::ForEach([&]<class S>() { scorers += S::kRole == StageRole::kScorer ? 1 : 0; });
  EXPECT_EQ(tried, scorers + 1) << "a new scorer belongs into this list";
}

}  // namespace
}  // namespace kvasir
