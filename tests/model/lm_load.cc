// SPDX-License-Identifier: Apache-2.0
// Model: config.json, model.safetensors, random weights, and their digests.
#include <openssl/evp.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "tests/model/lm.h"
#include "tests/model/lm_weights.h"
#include "tests/model/safetensors.h"

namespace kvasir::model {
namespace {

using nlohmann::json;

constexpr std::streamsize kConfigBytesMax = 1 << 20;
constexpr uint32_t kWidthMax = 1 << 14;  ///< of d_model, mlp_dim, vocab, context and all heads together
constexpr uint32_t kLayersMax = 256;

std::string Sha256Hex(std::span<const std::byte> bytes) {
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1) std::abort();
  std::string hex;
  for (const unsigned char byte : digest) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", byte);
    hex += two;
  }
  return hex;
}

Error Wrong(const std::string& what) { return {ErrorCode::kInvalidArgument, what}; }

/// Reads fields of config.json; remembers the first that is missing or no such number.
class ConfigReader {
 public:
  explicit ConfigReader(const json& from) : from_(from) {}
  uint32_t Count(const char* name) {
    const auto found = from_.find(name);
    if (found != from_.end() && found->is_number_unsigned() && found->get<uint64_t>() <= kWidthMax) {
      return found->get<uint32_t>();
    }
    return Fail(name, "a number up to " + std::to_string(kWidthMax));
  }
  double Number(const char* name) {
    const auto found = from_.find(name);
    if (found != from_.end() && found->is_number()) return found->get<double>();
    return Fail(name, "a number");
  }
  const std::string& trouble() const { return trouble_; }

 private:
  uint32_t Fail(const char* name, const std::string& wanted) {
    if (trouble_.empty()) trouble_ = std::string("config.json: ") + name + " must be " + wanted;
    return 0;
  }
  const json& from_;
  std::string trouble_;
};

/// What of a LLaMA config this code would silently compute wrongly.
std::string Unsupported(const json& from) {
  if (from.value("hidden_act", json("silu")) != "silu") return "config.json: hidden_act must be silu";
  if (from.contains("rope_scaling") && !from["rope_scaling"].is_null()) return "config.json: rope_scaling must be null";
  return {};
}

struct ConfigFile {
  ModelConfig config;
  bool tied_head = false;
};

Result<ConfigFile> ReadConfig(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Wrong(path.string() + ": cannot be opened");
  std::string text(kConfigBytesMax, '\0');
  file.read(text.data(), kConfigBytesMax);
  text.resize(static_cast<size_t>(file.gcount()));
  const json from = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!from.is_object()) {
    return Wrong(path.string() + ": no JSON object within " + std::to_string(kConfigBytesMax) + " bytes");
  }
  if (const std::string trouble = Unsupported(from); !trouble.empty()) return Error{ErrorCode::kUnimplemented, trouble};

  ConfigReader read(from);
  ConfigFile result;
  ModelConfig& config = result.config;
  config.layers = read.Count("num_hidden_layers");
  config.d_model = read.Count("hidden_size");
  config.query_heads = read.Count("num_attention_heads");
  config.kv_heads = read.Count("num_key_value_heads");
  config.head_dim = from.contains("head_dim") || config.query_heads == 0 ? read.Count("head_dim")
                                                                         : config.d_model / config.query_heads;
  config.mlp_dim = read.Count("intermediate_size");
  config.vocab = read.Count("vocab_size");
  config.context_max = read.Count("max_position_embeddings");
  config.rope_theta = read.Number("rope_theta");
  config.norm_eps = static_cast<float>(read.Number("rms_norm_eps"));
  result.tied_head = from.value("tie_word_embeddings", json(false)) == true;
  if (!read.trouble().empty()) return Wrong(read.trouble());
  const Result<bool> checked = CheckConfig(config);
  if (!checked.ok()) return checked.error();
  return result;
}

}  // namespace

Result<bool> CheckConfig(const ModelConfig& config) {
  struct Field {
    const char* name;
    uint32_t value;
    uint32_t max;
    uint32_t multiple;
  };
  for (const Field& field :
       {Field{"layers", config.layers, kLayersMax, 1}, Field{"d_model", config.d_model, kWidthMax, kPanel},
        Field{"query_heads", config.query_heads, 1024, 1}, Field{"kv_heads", config.kv_heads, 1024, 1},
        Field{"head_dim", config.head_dim, 1024, kPanel}, Field{"mlp_dim", config.mlp_dim, kWidthMax, kPanel},
        Field{"vocab", config.vocab, kWidthMax, kPanel}, Field{"context_max", config.context_max, kWidthMax, 1}}) {
    if (field.value == 0 || field.value > field.max) {
      return Wrong(std::string(field.name) + " is " + std::to_string(field.value) + ", not within 1 .. " +
                   std::to_string(field.max));
    }
    if (field.value % field.multiple != 0) {
      return Error{ErrorCode::kUnimplemented,
                   std::string(field.name) + " must be a multiple of " + std::to_string(field.multiple)};
    }
  }
  if (config.query_heads % config.kv_heads != 0) return Wrong("query_heads must be a multiple of kv_heads");
  if (uint64_t{config.query_heads} * config.head_dim > kWidthMax) {
    return Wrong("query_heads * head_dim is above the limit");
  }
  if (!(config.rope_theta >= 1.0 && config.rope_theta <= 1e9)) return Wrong("rope_theta is not within 1 .. 1e9");
  if (!(config.norm_eps > 0.0f && config.norm_eps < 1.0f)) return Wrong("norm_eps is not within 0 .. 1");
  return true;
}

Model::Model(const ModelConfig& config, std::shared_ptr<const Weights> weights, std::string digest)
    : config_(config), weights_(std::move(weights)), digest_(std::move(digest)) {}

Result<std::shared_ptr<const Model>> Model::Load(const std::filesystem::path& directory) {
  const Result<ConfigFile> file = ReadConfig(directory / "config.json");
  if (!file.ok()) return file.error();
  const Result<Safetensors> tensors = Safetensors::Read(directory / "model.safetensors");
  if (!tensors.ok()) return tensors.error();
  const auto source = [&](const TensorRequest& request) -> Result<std::vector<float>> {
    if (request.optional && !tensors->Has(request.name)) return std::vector<float>();
    return tensors->Floats(request.name, request.shape);
  };
  Result<std::shared_ptr<const Weights>> weights = BuildWeights(file->config, file->tied_head, source);
  if (!weights.ok()) return weights.error();
  return std::shared_ptr<const Model>(new Model(file->config, *std::move(weights), Sha256Hex(tensors->bytes())));
}

Result<std::shared_ptr<const Model>> Model::Random(const ModelConfig& config, uint64_t seed) {
  const Result<bool> checked = CheckConfig(config);
  if (!checked.ok()) return checked.error();
  Result<std::shared_ptr<const Weights>> weights = BuildWeights(config, /*tied_head=*/false, RandomTensors(seed));
  if (!weights.ok()) return weights.error();
  std::string text = "random weights, seed " + std::to_string(seed);
  for (const uint32_t n : {config.layers, config.d_model, config.query_heads, config.kv_heads, config.head_dim,
                           config.mlp_dim, config.vocab, config.context_max}) {
    text += ", " + std::to_string(n);
  }
  text += ", " + std::to_string(config.rope_theta) + ", " + std::to_string(config.norm_eps);
  return std::shared_ptr<const Model>(
      new Model(config, *std::move(weights), Sha256Hex(std::as_bytes(std::span(text)))));
}

KvLayout Model::layout(ElementType element) const {
  return {config_.layers, config_.kv_heads, config_.head_dim, config_.head_dim, element};
}

}  // namespace kvasir::model
