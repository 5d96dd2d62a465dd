// SPDX-License-Identifier: Apache-2.0
// Goal: the C++ inference computes the model that was trained. Method: the logits that the training framework gave for
// the committed weights (vectors.json), with KV in fp32. The two add up in other orders, so this one compares by tolerance.
#include <gtest/gtest.h>

#include <cmath>
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
        ASSERT_LE(difference, kAbsolute + kRelative * std::abs(want)) << one["name"] << ", position " << one["positions"][i] << ", byte " << j;
        worst = std::max(worst, difference);
      }
      EXPECT_EQ(Greedy(got), one["argmax"][i].get<uint32_t>());
    }
  }
  RecordProperty("worst_difference", std::to_string(worst));
  std::printf("largest difference: %.2e\n", worst);
}

TEST(VectorsTest, WeightsOfAnotherShapeAreNamed) {
  if (!Committed()) GTEST_SKIP() << "no config.json, model.safetensors and vectors.json in " << Directory();
  const std::filesystem::path copy = std::filesystem::path(::testing::TempDir()) / "kvasir-model-of-another-shape";
  std::filesystem::create_directories(copy);
  std::filesystem::copy_file(Directory() / "model.safetensors", copy / "model.safetensors", std::filesystem::copy_options::overwrite_existing);
  std::ifstream from(Directory() / "config.json");
  nlohmann::json config = nlohmann::json::parse(from);
  config["intermediate_size"] = 736;
  std::ofstream(copy / "config.json") << config;
  const Result<std::shared_ptr<const Model>> model = Model::Load(copy);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().message, "model.layers.0.mlp.gate_proj.weight has shape [704, 256], config.json wants [736, 256]");
  config.erase("rope_theta");
  std::ofstream(copy / "config.json") << config;
  EXPECT_EQ(Model::Load(copy).error().message, "config.json: rope_theta must be a number");
  std::filesystem::remove_all(copy);
}

}  // namespace
}  // namespace kvasir::model
