// SPDX-License-Identifier: Apache-2.0
// Goal: every transform is what its paper says, and its inverse undoes it. Method: independent arithmetic in double.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/stage_run.h"

namespace kvasir {
namespace {

using testing::Fill;
using testing::Half;
using testing::MakeRows;
using testing::StageUnderTest;

const FrameShape kShapes[] = {{1, 1, 1}, {2, 7, 80}, {1, 256, 128}, {3, 5, 33}};

/// Decode(Forward(x)) is x but for the rounding of a few operations.
template <class S>
void ExpectUndone(StageUnderTest<S>& stage, const std::vector<float>& x, double tolerance = 1e-5) {
  const auto back = stage.Inverse(stage.Forward(x));
  const double scale = std::sqrt(testing::SumOfSquares(x) / static_cast<double>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(back[i], x[i], tolerance * (scale + std::fabs(x[i]))) << i;
  EXPECT_EQ(stage.outcome.fault, 0u);
}

TEST(Mean, IsTakenOutOfEveryChannel) {
  auto rng = testing::Rng(50);
  for (const FrameShape& shape : kShapes) {
    StageUnderTest<MeanStage> stage{{}, shape};
    const auto x = MakeRows(shape, Fill::kOutlierChannels, rng);
    const auto y = stage.Forward(x);
    for (uint32_t head = 0; head < shape.heads; ++head) {
      for (uint32_t c = 0; c < shape.dim; ++c) {
        double sum = 0;
        for (uint32_t t = 0; t < shape.tokens; ++t) sum += x[(uint64_t{head} * shape.tokens + t) * shape.dim + c];
        const double mean = Half(sum / shape.tokens);
        const uint64_t first = uint64_t{head} * shape.tokens * shape.dim + c;
        EXPECT_NEAR(y[first], x[first] - mean, 1e-3 * (std::fabs(mean) + 1));
      }
    }
    ExpectUndone(stage, x);
  }
}

TEST(Mean, MakesATokenwiseScaleFitKeysWithAConstant) {
  auto rng = testing::Rng(51);
  const FrameShape shape{1, 64, 64};
  auto x = MakeRows(shape, Fill::kGaussian, rng);
  for (uint32_t t = 0; t < shape.tokens; ++t) x[t * 64 + 5] += 40;  // a key bias, as real models have
  StageUnderTest<IntStage> plain{{4, false, 0, true}, shape}, smoothed{{4, false, 0, true}, shape};
  StageUnderTest<MeanStage> mean{{}, shape};
  plain.Quantise(x);
  smoothed.Quantise(mean.Forward(x));
  EXPECT_LT(testing::Loss(mean.Inverse(smoothed.Dequantise()), x), 0.1 * testing::Loss(plain.Dequantise(), x));
}

TEST(Balance, BringsKeyAndQueryToOneRange) {
  auto rng = testing::Rng(52);
  for (const FrameShape& shape : kShapes) {
    const auto x = MakeRows(shape, Fill::kOutlierChannels, rng);
    std::vector<float> query(uint64_t{shape.heads} * shape.dim);
    for (float& q : query) q = std::exp2(static_cast<float>(rng() % 12) - 6);
    if (query.size() > 3) query[3] = 0;
    StageUnderTest<BalStage> stage{{}, shape, {query.data()}};
    const auto y = stage.Forward(x);
    for (uint64_t i = 0; i < query.size(); ++i) {
      float key = 0, balanced = 0;
      for (uint32_t t = 0; t < shape.tokens; ++t) {
        const uint64_t at = (i / shape.dim * shape.tokens + t) * shape.dim + i % shape.dim;
        key = std::max(key, std::fabs(x[at]));
        balanced = std::max(balanced, std::fabs(y[at]));
      }
      const double b = query[i] > 0 && key > 0 ? std::sqrt(double{query[i]} / key) : 1;
      EXPECT_NEAR(balanced, key * b, 1e-3 * key * b);
      if (query[i] > 0 && key > 0) {
        EXPECT_NEAR(balanced, query[i] / b, 2e-3 * query[i] / b) << "the query's new range";
      }
    }
    ExpectUndone(stage, x);
  }
}

TEST(Norm, RowsHaveUnitRootMeanSquare) {
  auto rng = testing::Rng(53);
  for (const FrameShape& shape : kShapes) {
    StageUnderTest<NormStage> stage{{}, shape};
    auto x = MakeRows(shape, Fill::kOutlierChannels, rng);
    std::fill(x.begin(), x.begin() + shape.dim, 0.0f);  // a row of zeros stays one
    const auto y = stage.Forward(x);
    for (uint64_t row = 1; row < uint64_t{shape.heads} * shape.tokens; ++row) {
      EXPECT_NEAR(testing::SumOfSquares(std::span(y).subspan(row * shape.dim, shape.dim)), shape.dim, 2e-3 * shape.dim);
    }
    ExpectUndone(stage, x);
  }
}

TEST(Sinkhorn, RowsAndColumnsHaveUnitVariance) {
  auto rng = testing::Rng(54);
  const FrameShape shape{2, 200, 64};  // the second tile is short
  auto x = MakeRows(shape, Fill::kOutlierChannels, rng);
  for (uint32_t c = 0; c < shape.dim; ++c) x[17 * shape.dim + c] *= 100;  // an outlier token
  StageUnderTest<SinkhornStage> stage{{16, 128}, shape};
  EXPECT_EQ(stage.section.size(), 2u * (2 * 200 + 2 * 2 * 64));
  const auto y = stage.Forward(x);
  for (uint64_t row = 0; row < 400; ++row) {
    EXPECT_NEAR(testing::SumOfSquares(std::span(y).subspan(row * 64, 64)) / 64, 1, 0.02) << row;
  }
  for (uint32_t c = 0; c < shape.dim; ++c) {
    double squares = 0;
    for (uint32_t t = 0; t < 128; ++t) squares += double{y[t * 64 + c]} * y[t * 64 + c];
    EXPECT_NEAR(squares / 128, 1, 0.02) << c;
  }
  ExpectUndone(stage, x);
  StageUnderTest<SinkhornStage> zeros{{16, 128}, {1, 3, 5}};
  ExpectUndone(zeros, std::vector<float>(15, 0.0f));
}

TEST(Delta, IsTheDifferenceToAnAnchorOfEightBits) {
  auto rng = testing::Rng(55);
  for (const FrameShape& shape : kShapes) {
    StageUnderTest<DeltaStage> stage{{10}, shape};
    const auto x = MakeRows(shape, Fill::kGaussian, rng);
    const auto y = stage.Forward(x);
    for (uint64_t i = 0; i < x.size(); ++i) {
      const uint64_t row = i / shape.dim, token = row % shape.tokens;
      const uint64_t anchor_row = row - token % 10;
      double greatest = 0;
      for (uint32_t c = 0; c < shape.dim; ++c) {
        greatest = std::max(greatest, std::fabs(double{x[anchor_row * shape.dim + c]}));
      }
      // Half a step of the anchor, its scale rounded up.
      EXPECT_NEAR(y[i], x[i] - x[anchor_row * shape.dim + i % shape.dim], 0.51 * greatest / 127 * 1.001);
    }
    ExpectUndone(stage, x);
  }
}

TEST(Delta, NeighboursThatAreAlikeLeaveLittle) {
  auto rng = testing::Rng(56);
  const FrameShape shape{1, 100, 64};
  auto x = MakeRows(shape, Fill::kGaussian, rng);
  for (uint64_t i = 64; i < x.size(); ++i) x[i] = 0.98f * x[i - 64] + 0.1f * x[i];  // slowly moving channels
  StageUnderTest<DeltaStage> stage{{10}, shape};
  EXPECT_LT(testing::SumOfSquares(stage.Forward(x)), 0.35 * testing::SumOfSquares(x));
}

TEST(Outliers, TheGreatestAndLeastAreKeptAndTheRestIsNarrow) {
  auto rng = testing::Rng(57);
  for (const uint32_t by_channel : {0u, 1u}) {
    for (const FrameShape& shape : {FrameShape{2, 40, 80}, FrameShape{1, 256, 128}, FrameShape{1, 300, 16}}) {
      const OutStage::Args args{60000, by_channel};
      ASSERT_TRUE(OutStage::Check(args, shape).ok());
      StageUnderTest<OutStage> stage{args, shape};
      const auto x = MakeRows(shape, Fill::kGaussian, rng);
      const auto y = stage.Forward(x);
      const uint32_t length = by_channel != 0 ? shape.tokens : shape.dim;
      const auto side = static_cast<uint32_t>(std::max(1.0, std::floor(0.03 * length + 0.5)));
      for (uint64_t v = 0; v < OutStage::Vectors(args, shape); ++v) {
        std::vector<std::pair<float, uint64_t>> sorted;
        for (uint32_t i = 0; i < length; ++i) {
          const uint64_t at = OutStage::First(args, shape, v) + uint64_t{i} * OutStage::Stride(args, shape);
          sorted.push_back({x[at], at});
        }
        std::sort(sorted.begin(), sorted.end());
        double mean = 0;
        for (uint32_t i = side; i < length - side; ++i) mean += sorted[i].first;
        mean /= length - 2 * side;
        for (uint32_t i = 0; i < length; ++i) {
          const bool kept = i < side || i >= length - side;
          EXPECT_NEAR(y[sorted[i].second], kept ? mean : sorted[i].first, 1e-5) << v << " " << i;
        }
      }
      const auto back = stage.Inverse(y);
      for (uint64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(back[i], x[i], 5e-4 * std::fabs(x[i]));  // outliers are fp16
      EXPECT_EQ(stage.outcome.fault, 0u);
    }
  }
}

TEST(Outliers, EqualValuesAndDamage) {
  const FrameShape shape{1, 4, 16};
  StageUnderTest<OutStage> stage{{100000, 0}, shape};
  const std::vector<float> same(64, 2.0f);
  EXPECT_EQ(stage.Inverse(stage.Forward(same)), same);
  stage.section[0] = 16;  // an index behind the row
  stage.Inverse(same);
  EXPECT_NE(stage.outcome.fault, 0u);
  StageUnderTest<OutStage> single{{500000, 0}, {1, 4, 1}};  // a row of one value has none to spare
  EXPECT_EQ(single.section.size(), 0u);
  EXPECT_FALSE(OutStage::Check({500000, 1}, {1, 1000, 64}).ok());
}

TEST(LowRank, BringsBackAnErrorOfItsRank) {
  auto rng = testing::Rng(58);
  const FrameShape shape{2, 60, 48};
  std::normal_distribution<float> normal;
  std::vector<float> error(shape.elements());
  for (uint32_t head = 0; head < 2; ++head) {
    for (int k = 0; k < 3; ++k) {  // rank 3 in all
      std::vector<float> u(60), v(48);
      for (float& f : u) f = normal(rng);
      for (float& f : v) f = normal(rng);
      for (uint32_t i = 0; i < 60 * 48; ++i) error[head * 60 * 48 + i] += u[i / 48] * v[i % 48];
    }
  }
  double before = testing::SumOfSquares(error), last = before;
  for (const uint32_t rank : {1u, 2u, 3u, 8u}) {
    StageUnderTest<LrStage> stage{{rank, 8}, shape};
    testing::TestRun run;
    auto used = error;
    LrStage::Fit(run, stage.args, stage.Frame(), used.data(), stage.section.data());
    std::vector<float> product(error.size());
    LrStage::Add(run, stage.args, stage.Frame(), stage.section.data(), product.data());
    const double left = testing::Loss(product, error);
    EXPECT_LT(left, last);
    last = rank < 3 ? left : last;
    if (rank >= 3) {
      EXPECT_LT(left, 1e-5 * before) << rank;
    }
  }
  StageUnderTest<LrStage> zeros{{4, 2}, shape};
  testing::TestRun run;
  std::vector<float> none(error.size()), product(error.size());
  LrStage::Fit(run, zeros.args, zeros.Frame(), none.data(), zeros.section.data());
  LrStage::Add(run, zeros.args, zeros.Frame(), zeros.section.data(), product.data());
  EXPECT_EQ(testing::SumOfSquares(product), 0);
}

}  // namespace
}  // namespace kvasir
