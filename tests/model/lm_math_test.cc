// SPDX-License-Identifier: Apache-2.0
// Goal: the primitives are accurate, and all bodies of this CPU give the same bits.
// Method: compare with double, then memcmp.
#include "tests/model/lm_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/seed.h"

namespace kvasir::model {
namespace {

std::vector<float> Uniform(size_t count, float reach, uint64_t salt) {
  auto random = testing::Rng(salt);
  std::uniform_real_distribution<float> draw(-reach, reach);
  std::vector<float> values(count);
  for (float& value : values) value = draw(random);
  return values;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(LmMathTest, ExponentialIsAccurate) {
  std::vector<float> x;
  for (int i = 0; i < 16 * 20000; ++i) x.push_back(-87.0f + 175.0f * static_cast<float>(i) / (16 * 20000));
  for (const Math* math : MathBodies()) {
    std::vector<float> y = x;
    math->exponential(y.data(), y.size());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(static_cast<double>(x[i]));
      worst = std::max(worst, std::abs(y[i] - want) / want);
    }
    EXPECT_LT(worst, 2.0e-7) << math->name;
  }
}

TEST(LmMathTest, ExponentialAtTheEdges) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Math* math : MathBodies()) {
    std::vector<float> y(kLanes, 0.0f);
    y[1] = -infinity;
    y[2] = -87.5f;
    y[3] = infinity;
    y[4] = std::numeric_limits<float>::quiet_NaN();
    y[5] = -0.0f;
    math->exponential(y.data(), y.size());
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[1], 0.0f);
    EXPECT_EQ(y[2], 0.0f);
    EXPECT_TRUE(std::isfinite(y[3]) && y[3] > 1.6e38f);
    EXPECT_TRUE(std::isnan(y[4]));
    EXPECT_EQ(y[5], 1.0f);
  }
}

TEST(LmMathTest, SoftmaxIsAccurateAtAllLengths) {
  for (const size_t count : {1u, 2u, 15u, 16u, 17u, 31u, 33u, 100u, 1000u, 4096u}) {
    const std::vector<float> scores = Uniform(count, 12.0f, count);
    double max = -1e30, total = 0;
    for (const float s : scores) max = std::max<double>(max, s);
    for (const float s : scores) total += std::exp(s - max);
    for (const Math* math : MathBodies()) {
      std::vector<float> p = scores;
      p.resize(RoundUp(count, kLanes), 1e9f);  // what is past the end must not count
      const double sum = math->softmax(p.data(), count);
      for (size_t i = 0; i < count; ++i) {
        EXPECT_NEAR(p[i] / sum, std::exp(scores[i] - max) / total, 3e-7) << math->name << " " << i;
      }
      for (size_t i = count; i < p.size(); ++i) EXPECT_EQ(p[i], 0.0f);
    }
  }
}

TEST(LmMathTest, NormAndGateAreAccurate) {
  const size_t count = 704;
  const std::vector<float> x = Uniform(count, 3.0f, 1), w = Uniform(count, 2.0f, 2);
  double squares = 0;
  for (const float v : x) squares += double{v} * v;
  const double scale = 1 / std::sqrt(squares / count + 1e-5);
  for (const Math* math : MathBodies()) {
    std::vector<float> normed(count), gated = x;
    math->rms_norm(x.data(), w.data(), 1e-5f, normed.data(), count);
    math->gate(gated.data(), w.data(), count);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_NEAR(normed[i], x[i] * scale * w[i], 2e-6);
      EXPECT_NEAR(gated[i], x[i] / (1 + std::exp(-double{x[i]})) * w[i], 2e-6);
    }
  }
}

TEST(LmMathTest, ProductsAreTakenInIndexOrder) {
  for (const size_t rows : {1u, 2u, 3u, 7u, 8u, 9u, 21u}) {
    for (const size_t depth : {0u, 1u, 5u, 64u, 705u}) {
      const std::vector<float> x = Uniform(rows * (depth + 3), 1.0f, rows),
                               w = Uniform(depth * 40 + kPanel, 1.0f, depth);
      const std::vector<float> start = Uniform(rows * 50, 1.0f, 9);
      std::vector<float> want = start;
      for (size_t r = 0; r < rows; ++r) {
        for (size_t c = 0; c < kPanel; ++c) {
          for (size_t k = 0; k < depth; ++k) want[r * 50 + c] += x[r * (depth + 3) + k] * w[k * 40 + c];
        }
      }
      for (const Math* math : MathBodies()) {
        std::vector<float> got = start;
        math->add_products({x.data(), depth + 3, w.data(), 40, depth, got.data(), 50, rows});
        EXPECT_TRUE(SameBits(got, want)) << math->name << ": " << rows << " rows, depth " << depth;
      }
    }
  }
}

TEST(LmMathTest, AllBodiesGiveTheSameBits) {
  const std::vector<float> x = Uniform(4096, 20.0f, 3), w = Uniform(4096, 2.0f, 4);
  std::vector<std::vector<float>> outcomes;
  for (const Math* math : MathBodies()) {
    std::vector<float> all = x, soft = x, gated = x, normed(x.size());
    math->exponential(all.data(), all.size());
    for (size_t count = 1; count <= soft.size(); count += 97) {
      soft = x;
      all.push_back(math->softmax(soft.data(), count));
      all.insert(all.end(), soft.begin(), soft.end());
    }
    math->gate(gated.data(), w.data(), gated.size());
    math->rms_norm(x.data(), w.data(), 1e-5f, normed.data(), normed.size());
    all.insert(all.end(), gated.begin(), gated.end());
    all.insert(all.end(), normed.begin(), normed.end());
    outcomes.push_back(std::move(all));
  }
  for (size_t i = 1; i < outcomes.size(); ++i) EXPECT_TRUE(SameBits(outcomes[i], outcomes[0])) << MathBodies()[i]->name;
}

TEST(LmMathTest, RopeTableIsRoundedOnce) {
  const RopeTable rope(4096, 64, 10000.0);
  for (size_t position = 0; position < 4096; position += 7) {
    for (size_t i = 0; i < rope.half; ++i) {
      const double angle = static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(i) / 64.0);
      ASSERT_NEAR(rope.cosine[position * rope.half + i], std::cos(angle), 3.1e-8);
      ASSERT_NEAR(rope.sine[position * rope.half + i], std::sin(angle), 3.1e-8);
    }
  }
}

}  // namespace
}  // namespace kvasir::model
