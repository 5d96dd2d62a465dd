// SPDX-License-Identifier: Apache-2.0
// Goal: the C++ inference computes the model that was trained. Method: the logits that the training framework gave for
// the committed weights (vectors.json), with KV in fp32. The two add in different orders: hence a tolerance.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/model/lm.h"

namespace kvasir::model {
namespace {

constexpr double kAbsolute = 2e-4, kRelative = 1e-4;

std::filesystem::path Directory() { return KVASIR_MODEL_DIR; }

bool Committed() {
  for (const char* name : {"config.json", "model.safetensors", "vectors.json"}) {
    if (!std::filesystem::exists(Directory() / name)) return false;
  }
  return true;
}

TEST(VectorsTest, LogitsEqualThoseOfTheTrainingFramework) {
  if (!Committed()) GTEST_SKIP() << "no config.json, model.safetensors and vectors.json in " << Directory();
  const Result<std::shared_ptr<const Model>> model = Model::Load(Directory());
  ASSERT_TRUE(model.ok()) << model.error().message;
  std::ifstream file(Directory() / "vectors.json");
  const nlohmann::json vectors = nlohmann::json::parse(file);
  ASSERT_FALSE(vectors["cases"].empty());
  Runner runner(*model, {.threads = 2});
  double worst = 0;
  for (const auto& one : vectors["cases"]) {
    const auto tokens = one["tokens"].get<std::vector<uint32_t>>();
    const PagedKv pages({.layout = (*model)->layout(ElementType::kFloat32),
                         .pages = static_cast<uint32_t>(tokens.size() + 15) / 16,
                         .shuffle_seed = 3});
    const RankKv rank = pages.rank();
    Chunk chunk;
    chunk.tokens = tokens;
    chunk.ranks = {&rank, 1};
    chunk.logits = LogitsOf::kAll;
    const Result<std::vector<float>> logits = runner.Prefill(chunk);
    ASSERT_TRUE(logits.ok()) << logits.error().message;
    const size_t vocab = (*model)->config().vocab;
    for (size_t i = 0; i < one["positions"].size(); ++i) {
      const std::span<const float> got = std::span(*logits).subspan(one["positions"][i].get<size_t>() * vocab, vocab);
      for (size_t j = 0; j < vocab; ++j) {
        const double want = one["logits"][i][j].get<double>(), difference = std::abs(got[j] - want);
        ASSERT_LE(difference, kAbsolute + kRelative * std::abs(want))
            << one["name"] << ", position " << one["positions"][i] << ", byte " << j;
        worst = std::max(worst, difference);
      }
      EXPECT_EQ(Greedy(got), one["argmax"][i].get<uint32_t>());
    }
  }
  RecordProperty("worst_difference", std::to_string(worst));
  std::printf("largest difference: %.2e\n", worst);
}

/// Logits after the last token: in two chunks by two ranks and two threads, or (cut = 0) in one chunk by one.
std::vector<float> LastLogits(const std::shared_ptr<const Model>& model, const std::vector<uint32_t>& tokens,
                              size_t cut) {
  const auto pages = static_cast<uint32_t>(tokens.size() + 15) / 16;
  const bool split = cut != 0;
  const PagedKv low({.layout = model->layout(), .heads = split ? 2u : 0u, .pages = pages, .shuffle_seed = 7});
  const PagedKv high({.layout = model->layout(), .first_head = 2, .pages = pages, .order = PageOrder::kHeadsFirst});
  const std::vector<RankKv> ranks = {low.rank(), high.rank()};
  Runner runner(model, {.threads = split ? 2u : 1u});
  Chunk chunk;
  chunk.ranks = std::span(ranks).first(split ? 2 : 1);
  chunk.tokens = std::span(tokens).first(cut);
  if (split) {
    EXPECT_TRUE(runner.Prefill(chunk).ok());
  }
  chunk.tokens = std::span(tokens).subspan(cut);
  chunk.first_position = static_cast<uint32_t>(cut);
  return *runner.Prefill(chunk);
}

TEST(VectorsTest, TrainedModelResumesExactly) {
  if (!Committed()) GTEST_SKIP() << "no config.json, model.safetensors and vectors.json in " << Directory();
  const std::shared_ptr<const Model> model = *Model::Load(Directory());
  std::vector<uint32_t> tokens(700);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = "the quick brown fox jumps over it. "[i * i % 35];
  const std::vector<float> whole = LastLogits(model, tokens, 0);
  for (const size_t cut : {1u, 256u, 699u}) {
    const std::vector<float> resumed = LastLogits(model, tokens, cut);
    EXPECT_EQ(std::memcmp(whole.data(), resumed.data(), whole.size() * sizeof(float)), 0) << "cut at " << cut;
  }
}

TEST(VectorsTest, WeightsOfAnotherShapeAreNamed) {
  if (!Committed()) GTEST_SKIP() << "no config.json, model.safetensors and vectors.json in " << Directory();
  const std::filesystem::path copy = std::filesystem::path(::testing::TempDir()) / "kvasir-model-of-another-shape";
  std::filesystem::create_directories(copy);
  std::filesystem::copy_file(Directory() / "model.safetensors", copy / "model.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  std::ifstream from(Directory() / "config.json");
  nlohmann::json config = nlohmann::json::parse(from);
  config["intermediate_size"] = 736;
  std::ofstream(copy / "config.json") << config;
  const Result<std::shared_ptr<const Model>> model = Model::Load(copy);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().message,
            "model.layers.0.mlp.gate_proj.weight has shape [704, 256], config.json wants [736, 256]");
  config.erase("rope_theta");
  std::ofstream(copy / "config.json") << config;
  EXPECT_EQ(Model::Load(copy).error().message, "config.json: rope_theta must be a number");
  std::filesystem::remove_all(copy);
}

}  // namespace
}  // namespace kvasir::model
