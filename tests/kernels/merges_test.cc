// SPDX-License-Identifier: Apache-2.0
// Goal: a merge leaves what its paper says, and attention over what is left is the paper's. Method: independent
// arithmetic in double.
#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using testing::SelectFixture;

double Logit(const float* q, const float* k) {
  double dot = 0;
  for (int c = 0; c < 8; ++c) dot += double{q[c]} * k[c];
  return dot / std::sqrt(8.0);
}

/// Attention of q over the stored rows of a head, each with its two weights.
std::vector<double> Attention(const SelectFixture& f, const Selection& s, uint64_t head, const float* q) {
  std::vector<double> out(6);
  double all = 0;
  for (uint64_t t = 0; t < f.tokens; ++t) {
    const uint64_t row = head * f.tokens + t;
    if (s.classes[row] == RowClass::kDropped) continue;
    const double e = std::exp(Logit(q, f.rows.At(head / 2, head % 2, KvTensor::kKey, t)));
    const double weights[2] = {s.weights.empty() ? 1 : s.weights[2 * row],
                               s.weights.empty() ? 1 : s.weights[2 * row + 1]};
    all += weights[0] * e;
    for (size_t c = 0; c < 6; ++c) {
      out[c] += weights[1] * e * f.rows.At(head / 2, head % 2, KvTensor::kValue, t)[c];
    }
  }
  for (double& x : out) x /= all;
  return out;
}

TEST(Merges, CompensationTokenIsTheMeanAndItsCountTravels) {
  auto rng = testing::Rng(100);
  SelectFixture f(60, rng);
  const testing::MemoryRows before = f.rows;
  const auto plain = f.Run("B:class(0.5)|E:late|R:sink(4)|R:win(16)|raw");
  const auto merged = f.Run("B:class(0.5)|E:late|M:comp|R:sink(4)|R:win(16)|raw");
  ASSERT_TRUE(plain.ok() && merged.ok());
  uint32_t heads = 0;
  for (uint64_t head = 0; head < f.heads(); ++head) {
    const bool retrieves = plain->counts[head] == 60;
    heads += retrieves ? 0 : 1;
    EXPECT_EQ(merged->counts[head], retrieves ? 60u : 21u);
    for (uint64_t t = 0; t < 60; ++t) {
      const uint64_t row = head * 60 + t;
      const bool stands = !retrieves && t == 4;
      EXPECT_EQ(merged->classes[row], stands ? RowClass::kKept : plain->classes[row]);
      for (int w = 0; w < 2; ++w) EXPECT_EQ(merged->weights[2 * row + static_cast<uint64_t>(w)], stands ? 40.0f : 1.0f);
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        for (uint32_t c = 0; c < f.layout.dim(tensor); ++c) {
          double expected = before.At(head / 2, head % 2, tensor, t)[c];
          if (stands) {
            expected = 0;
            for (uint64_t s = 43; s >= 4; --s) expected += before.At(head / 2, head % 2, tensor, s)[c] / 40.0;
          }
          ASSERT_NEAR(f.rows.At(head / 2, head % 2, tensor, t)[c], expected, stands ? 1e-6 : 0.0);
        }
      }
    }
  }
  EXPECT_EQ(heads, 3u);
}

TEST(Merges, WhereAllDroppedTokensAreAlikeAttentionIsThatOfAllTokens) {
  auto rng = testing::Rng(101);
  SelectFixture f(40, rng);
  // Tokens 2 to 29 of every head are the same one: what a compensation token cannot lose.
  std::vector<float> rows(40 * 8);
  for (uint32_t i = 0; i < f.heads(); ++i) {
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      const uint32_t dim = f.layout.dim(tensor);
      const std::span<float> of_head = std::span(rows).first(40 * dim);
      f.rows.Load(i / 2, i % 2, tensor, of_head);
      for (uint32_t t = 3; t < 30; ++t) std::copy_n(&rows[2 * dim], dim, &rows[t * dim]);
      f.rows.Store(i / 2, i % 2, tensor, of_head);
    }
  }
  const auto all = f.Run("B:uni(40)|E:late|raw");
  ASSERT_TRUE(all.ok());
  const float* q = f.queries.data();
  std::vector<std::vector<double>> full;
  for (uint64_t head = 0; head < f.heads(); ++head) full.push_back(Attention(f, *all, head, q));
  const auto merged = f.Run("B:uni(12)|E:late|M:comp|R:sink(2)|R:win(10)|raw");
  ASSERT_TRUE(merged.ok());
  for (uint64_t head = 0; head < f.heads(); ++head) {
    EXPECT_EQ(merged->counts[head], 13u);
    const auto got = Attention(f, *merged, head, q);
    for (size_t c = 0; c < 6; ++c) EXPECT_NEAR(got[c], full[head][c], 1e-6);
  }
}

TEST(Merges, GaussianMergesIntoTheBestOfTheSet) {
  auto rng = testing::Rng(103);
  SelectFixture f(60, rng);
  for (uint32_t i = 0; i < f.heads(); ++i) {  // 0 to 29 one key and a little, then others
    std::vector<float> rows(60 * 8);
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (uint64_t j = 0; j < rows.size(); ++j)
      rows[j] = j < 240 ? (j % 8 == 3 ? 5.0f : 0.0f) + 0.2f * normal(rng) : normal(rng);
    f.rows.Store(i / 2, i % 2, KvTensor::kKey, rows);
  }
  const testing::MemoryRows before = f.rows;
  const auto merged = f.Run("B:uni(20)|E:ext|M:gauss(0.9)|raw");
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  EXPECT_TRUE(merged->weights.empty());
  for (uint64_t head = 0; head < f.heads(); ++head) {
    const RowClass* classes = &merged->classes[head * 60];
    uint64_t pivot = 60;
    double sigma = 0, dropped = 0;
    const auto key = [&](uint64_t t) { return before.At(head / 2, head % 2, KvTensor::kKey, t); };
    const auto distance = [&](uint64_t t) {
      double sum = 0;
      for (int c = 0; c < 8; ++c) sum += std::pow(double{key(t)[c]} - key(pivot)[c], 2);
      return std::sqrt(sum);
    };
    for (uint64_t t = 0; t < 30; ++t) {
      if (classes[t] == RowClass::kKept && (pivot == 60 || f.external[head * 60 + t] > f.external[head * 60 + pivot]))
        pivot = t;
    }
    ASSERT_LT(pivot, 60u) << "a set without a kept token; choose another salt";
    for (uint64_t t = 0; t < 30; ++t) {
      if (classes[t] != RowClass::kDropped) continue;
      sigma += distance(t);
      ++dropped;
    }
    sigma /= dropped;
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      for (uint32_t c = 0; c < f.layout.dim(tensor); ++c) {
        double sum = 0, all = 0;
        for (uint64_t t = 0; t < 30; ++t) {
          if (t != pivot && classes[t] != RowClass::kDropped) continue;
          const double g = t == pivot ? 1 : std::exp(-distance(t) * distance(t) / (2 * sigma * sigma));
          sum += g * before.At(head / 2, head % 2, tensor, t)[c];
          all += g;
        }
        EXPECT_NEAR(f.rows.At(head / 2, head % 2, tensor, pivot)[c], sum / all, 1e-5);
      }
    }
    for (uint64_t t = 0; t < 30; ++t) {  // other kept tokens of the set are as they were
      if (t == pivot || classes[t] == RowClass::kDropped) continue;
      EXPECT_EQ(f.rows.At(head / 2, head % 2, KvTensor::kKey, t)[0], key(t)[0]);
    }
  }
}

// Where the tokens of a set are one and the same, votes make attention that of all tokens.
TEST(Merges, VotesGiveASetTheAttentionOfItsTokens) {
  auto rng = testing::Rng(104);
  SelectFixture f(60, rng);
  constexpr uint64_t kBegins[] = {0, 5, 20, 30, 50, 53, 60};
  for (uint32_t i = 0; i < f.heads(); ++i) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      const uint64_t dim = f.layout.dim(tensor);
      std::vector<float> rows;
      for (uint64_t t = 0, set = 0; t < 60; ++t) {
        const bool first = t == kBegins[set];
        for (uint64_t c = 0; c < dim; ++c) rows.push_back(first ? normal(rng) : rows[rows.size() - dim]);
        set += first ? 1 : 0;
      }
      f.rows.Store(i / 2, i % 2, tensor, rows);
    }
    std::fill_n(f.external.begin() + i * 60, 60, 0.0f);
    for (uint64_t set = 0; set < 6; ++set) f.external[i * 60 + kBegins[set] + 1] = 1.0f;
  }
  Selection all;
  all.classes.assign(f.heads() * 60, RowClass::kKept);
  const auto voted = f.Run("B:uni(6)|E:ext|M:gauss(0.999,votes)|raw");
  ASSERT_TRUE(voted.ok()) << voted.error().message;
  double far = 0;
  for (uint64_t head = 0; head < f.heads(); ++head) {
    const float* q = f.rows.At(head / 2, head % 2, KvTensor::kKey, 11);
    Selection one = *voted;
    one.weights.clear();
    const auto expected = Attention(f, all, head, q), got = Attention(f, *voted, head, q),
               without = Attention(f, one, head, q);
    for (size_t c = 0; c < 6; ++c) {
      EXPECT_NEAR(got[c], expected[c], 1e-5);
      far = std::max(far, std::fabs(without[c] - expected[c]));
    }
    for (uint64_t set = 0; set < 6; ++set) {
      EXPECT_EQ(voted->weights[2 * (head * 60 + kBegins[set] + 1)],
                static_cast<float>(kBegins[set + 1] - kBegins[set]));
    }
  }
  EXPECT_GT(far, 0.01);
}

TEST(Merges, NearestMergesWhatIsLikeAndLosesTheRest) {
  auto rng = testing::Rng(104);
  SelectFixture f(60, rng);
  const testing::MemoryRows before = f.rows;
  const auto merged = f.Run("B:uni(16)|E:ext|M:near|R:sink(3)|raw");
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  for (uint64_t head = 0; head < f.heads(); ++head) {
    const RowClass* classes = &merged->classes[head * 60];
    const auto key = [&](uint64_t t) { return before.At(head / 2, head % 2, KvTensor::kKey, t); };
    const auto dot = [&](uint64_t a, uint64_t b) {
      double sum = 0;
      for (int c = 0; c < 8; ++c) sum += double{key(a)[c]} * key(b)[c];
      return sum;
    };
    std::vector<uint64_t> into(60, 60);
    std::vector<double> u(60, -2);
    double mean = 0;
    for (uint64_t e = 0; e < 60; ++e) {
      if (classes[e] != RowClass::kDropped) continue;
      for (uint64_t j = 3; j < 60; ++j) {
        const double cosine = dot(e, j) / std::sqrt(dot(e, e) * dot(j, j));
        if (classes[j] != RowClass::kKept || cosine <= u[e]) continue;
        u[e] = cosine;
        into[e] = j;
      }
      mean += u[e] / 44;
    }
    for (uint64_t j = 0; j < 60; ++j) {
      if (classes[j] == RowClass::kDropped) continue;
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        double sum = std::exp(1.0) * before.At(head / 2, head % 2, tensor, j)[1], all = std::exp(1.0);
        for (uint64_t e = 0; e < 60; ++e) {
          if (into[e] != j || u[e] < mean) continue;
          sum += std::exp(u[e]) * before.At(head / 2, head % 2, tensor, e)[1];
          all += std::exp(u[e]);
        }
        EXPECT_NEAR(f.rows.At(head / 2, head % 2, tensor, j)[1], sum / all, 1e-5) << head << " " << j;
      }
    }
  }
}

/// 48 tokens a head: every third repeats the one before it, longer and a little off, and that one is paid most
/// attention.
void FillRepeats(SelectFixture& f, std::mt19937_64& rng) {
  for (uint32_t i = 0; i < f.heads(); ++i) {
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      const uint64_t dim = f.layout.dim(tensor);
      std::vector<float> rows(48 * dim);
      std::normal_distribution<float> normal(0.0f, 1.0f);
      for (uint64_t j = 0; j < rows.size(); ++j)
        rows[j] = j / dim % 3 != 2 ? normal(rng) : 1.5f * rows[j - dim] + 0.1f * normal(rng);
      f.rows.Store(i / 2, i % 2, tensor, rows);
    }
    for (uint64_t t = 0; t < 48; ++t) f.sums[i * 48 + t] = (t % 3 == 1 ? 4.0f : 1.0f) + 0.01f * static_cast<float>(t);
  }
}

/// Of values the mean by scores, of keys direction and norm each.
TEST(Merges, ZeroClassTakesWhatRepeatsNothing) {
  auto rng = testing::Rng(105);
  SelectFixture f(48, rng);
  FillRepeats(f, rng);
  const testing::MemoryRows before = f.rows;
  const auto merged = f.Run("B:uni(16)|E:acc|M:zero(0.8)|raw");
  ASSERT_TRUE(merged.ok()) << merged.error().message;
  EXPECT_TRUE(merged->weights.empty());
  for (uint64_t head = 0; head < f.heads(); ++head) {
    for (uint64_t j = 1; j < 48; j += 3) {  // the centres: into each at least the one behind it, of the others few
      ASSERT_EQ(merged->classes[head * 48 + j], RowClass::kKept);
      const auto row = [&](KvTensor tensor, uint64_t t) { return before.At(head / 2, head % 2, tensor, t); };
      const auto cosine = [&](KvTensor tensor, uint64_t a, uint64_t b) {
        double dot = 0, x = 0, y = 0;
        for (uint32_t c = 0; c < f.layout.dim(tensor); ++c) {
          dot += double{row(tensor, a)[c]} * row(tensor, b)[c];
          x += std::pow(row(tensor, a)[c], 2);
          y += std::pow(row(tensor, b)[c], 2);
        }
        return dot / std::sqrt(x * y);
      };
      std::vector<uint64_t> members = {j};
      for (uint64_t e = 0; e < 48; ++e) {
        if (e % 3 == 1) continue;
        uint64_t best = 48;
        double greatest = 0.8;
        for (uint64_t other = 1; other < 48; other += 3) {
          const double r = cosine(KvTensor::kKey, e, other) * cosine(KvTensor::kValue, e, other);
          if (r > greatest) {
            greatest = r;
            best = other;
          }
        }
        if (best == j) members.push_back(e);
      }
      ASSERT_GE(members.size(), 2u);
      std::vector<double> value(6), direction(8);
      double all = 0, length = 0, size = 0;
      for (const uint64_t i : members) {
        const double s = f.sums[head * 48 + i];
        double norm = 0;
        for (int c = 0; c < 8; ++c) norm += std::pow(row(KvTensor::kKey, i)[c], 2);
        norm = std::sqrt(norm);
        for (size_t c = 0; c < 6; ++c) value[c] += s * row(KvTensor::kValue, i)[c];
        for (size_t c = 0; c < 8; ++c) direction[c] += s * row(KvTensor::kKey, i)[c] / norm;
        all += s;
        length += s * norm;
      }
      for (const double x : direction) size += x * x;
      for (size_t c = 0; c < 6; ++c)
        EXPECT_NEAR(f.rows.At(head / 2, head % 2, KvTensor::kValue, j)[c], value[c] / all, 1e-5);
      for (size_t c = 0; c < 8; ++c) {
        EXPECT_NEAR(f.rows.At(head / 2, head % 2, KvTensor::kKey, j)[c], direction[c] / std::sqrt(size) * length / all,
                    1e-5);
      }
    }
  }
  const auto refused = f.Run("B:uni(16)|E:knorm|M:zero|raw");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("E:gl"), std::string::npos);
}

/// The dropped tokens of a head with the kept ones that each goes into, and how likely that is.
struct CamTarget {
  uint64_t dropped;
  std::vector<uint64_t> into;
  double likely;
};
std::vector<CamTarget> CamTargets(const SelectFixture& f, std::span<const RowClass> classes, uint64_t head, size_t m) {
  std::vector<CamTarget> targets;
  for (uint64_t e = 0; e < f.tokens; ++e) {
    CamTarget target{e, {}, 0};
    double sum = 0;
    for (uint64_t j = e + 1; j < f.tokens && target.into.size() < m; ++j) {
      if (classes[j] != RowClass::kKept) continue;
      target.into.push_back(j);
      sum += f.sums[head * f.tokens + j];
    }
    target.likely = f.sums[head * f.tokens + e] * static_cast<double>(target.into.size()) / sum;
    if (classes[e] == RowClass::kDropped && !target.into.empty()) targets.push_back(target);
  }
  return targets;
}

/// Each draw again, and the sums by hand; keys and what is exact stay.
TEST(Merges, CamAddsValuesToTheKeptOnesBehind) {
  auto rng = testing::Rng(106);
  for (const uint32_t m : {1u, 3u, 32u}) {
    SelectFixture f(60, rng);
    const testing::MemoryRows before = f.rows;
    const auto merged = f.Run("B:uni(24)|E:acc|M:cam(" + std::to_string(m) + ",7)|R:sink(4)|R:win(8)|raw");
    ASSERT_TRUE(merged.ok()) << merged.error().message;
    EXPECT_TRUE(merged->weights.empty());
    uint32_t drawn = 0, lost = 0;
    for (uint64_t head = 0; head < f.heads(); ++head) {
      const auto classes = std::span(merged->classes).subspan(head * 60, 60);
      std::mt19937_64 random((7ull << 32) + head);
      std::vector<double> values(60 * 6);
      for (uint64_t t = 0; t < 60; ++t) {
        for (uint64_t c = 0; c < 6; ++c) values[t * 6 + c] = before.At(head / 2, head % 2, KvTensor::kValue, t)[c];
      }
      const std::vector<double> alone = values;
      for (const CamTarget& target : CamTargets(f, classes, head, m)) {
        const bool goes = static_cast<double>(random() >> 11) / 9007199254740992.0 < target.likely;
        ++(goes ? drawn : lost);
        for (const uint64_t j : target.into) {
          for (uint64_t c = 0; goes && c < 6; ++c) {
            values[j * 6 + c] += alone[target.dropped * 6 + c] / static_cast<double>(target.into.size());
          }
        }
      }
      for (uint64_t t = 0; t < 60; ++t) {
        for (uint64_t c = 0; c < 6; ++c) {
          EXPECT_NEAR(f.rows.At(head / 2, head % 2, KvTensor::kValue, t)[c], values[t * 6 + c], 1e-5) << head << " " << t;
        }
        for (uint64_t c = 0; c < 8; ++c) {
          EXPECT_EQ(f.rows.At(head / 2, head % 2, KvTensor::kKey, t)[c], before.At(head / 2, head % 2, KvTensor::kKey, t)[c]);
        }
      }
    }
    EXPECT_GT(drawn, 10u);
    EXPECT_GT(lost, 10u);
  }
  SelectFixture f(60, rng);
  const auto refused = f.Run("B:uni(16)|E:knorm|M:cam|raw");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("E:acc"), std::string::npos);
  for (const char* spec : {"B:uni(16)|E:acc|M:cam(0)|raw", "B:uni(16)|E:acc|M:cam(4097)|raw", "B:uni(16)|E:acc|M:cam(1,2,3)|raw"}) {
    EXPECT_FALSE(Codec::Parse(spec).ok()) << spec;
  }
}

/// Over many seeds a dropped value comes as often as it was paid attention.
TEST(Merges, CamIsRightOnAverage) {
  auto rng = testing::Rng(107);
  SelectFixture f(40, rng);
  const testing::MemoryRows before = f.rows;
  constexpr uint32_t kSeeds = 2000;
  std::vector<double> mean(40), expected(40);
  for (uint32_t seed = 0; seed < kSeeds; ++seed) {
    f.rows = before;
    const auto merged = f.Run("B:uni(16)|E:acc|M:cam(4," + std::to_string(seed) + ")|raw");
    ASSERT_TRUE(merged.ok()) << merged.error().message;
    for (uint64_t t = 0; t < 40; ++t) mean[t] += f.rows.At(0, 0, KvTensor::kValue, t)[0] / double{kSeeds};
    if (seed > 0) continue;
    for (uint64_t t = 0; t < 40; ++t) expected[t] = before.At(0, 0, KvTensor::kValue, t)[0];
    for (const CamTarget& target : CamTargets(f, std::span(merged->classes).first(40), 0, 4)) {
      for (const uint64_t j : target.into) {
        expected[j] += target.likely * before.At(0, 0, KvTensor::kValue, target.dropped)[0] /
                       static_cast<double>(target.into.size());
      }
    }
  }
  for (uint64_t t = 0; t < 40; ++t) EXPECT_NEAR(mean[t], expected[t], 0.05) << t;
}

TEST(Merges, ASketchOfWhatIsDroppedHasTheRightSumsOnAverage) {
  auto rng = testing::Rng(105);
  SelectFixture f(48, rng);
  double denominator = 0, exact = 0;
  uint32_t stored = 0;
  constexpr uint32_t kSeeds = 400;
  for (uint32_t seed = 0; seed < kSeeds; ++seed) {
    const auto sketch = f.Run("B:uni(8)|E:late|M:kcen(30,1,12," + std::to_string(seed) + ")|R:sink(2)|raw");
    ASSERT_TRUE(sketch.ok()) << sketch.error().message;
    for (uint64_t head = 0; head < f.heads(); ++head) {
      double tokens = 0, squares = 0, all = 0;
      for (uint64_t t = 0; t < 48; ++t) {
        const float* v = f.rows.At(head / 2, head % 2, KvTensor::kValue, t);
        double norm = 0;
        for (int c = 0; c < 6; ++c) norm += double{v[c]} * v[c];
        const bool beside = t >= 2 && t < 42;  // two sinks, six late
        if (beside) all += norm;
        if (sketch->classes[head * 48 + t] == RowClass::kDropped) continue;
        const float* w = &sketch->weights[2 * (head * 48 + t)];
        if (!beside) {
          EXPECT_EQ(w[0], 1.0f);
          EXPECT_EQ(w[1], 1.0f);
          continue;
        }
        tokens += w[0];
        squares += w[1] * norm;
        const double e = std::exp(Logit(f.queries.data(), f.rows.At(head / 2, head % 2, KvTensor::kKey, t)));
        denominator += w[0] * e / kSeeds;
      }
      ASSERT_NEAR(tokens, 40, 1e-4) << "every dropped token is counted once";
      ASSERT_NEAR(squares, all, 1e-4 * all) << "and the norms of values sum up";
      stored += sketch->counts[head];
    }
  }
  for (uint64_t head = 0; head < f.heads(); ++head) {
    for (uint64_t t = 2; t < 42; ++t)
      exact += std::exp(Logit(f.queries.data(), f.rows.At(head / 2, head % 2, KvTensor::kKey, t)));
  }
  EXPECT_NEAR(denominator, exact, 0.03 * exact);
  EXPECT_LT(stored, kSeeds * f.heads() * 48);
}

TEST(Merges, NothingDroppedIsNothingMerged) {
  auto rng = testing::Rng(102);
  SelectFixture f(20, rng);
  const auto kept = f.Run("B:uni(20)|E:late|M:comp|raw");
  ASSERT_TRUE(kept.ok());
  EXPECT_TRUE(kept->weights.empty());
  const auto demoting = Codec::Parse("B:uni(5)|E:late(demote)|M:comp|int(8,tok)|d:int(2,tok)");
  ASSERT_FALSE(demoting.ok());
  EXPECT_NE(demoting.error().message.find("a scorer that drops"), std::string::npos) << demoting.error().message;
}

}  // namespace
}  // namespace kvasir
