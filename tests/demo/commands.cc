// SPDX-License-Identifier: Apache-2.0
// Reading of commands, and answers as JSON.
#include "tests/demo/commands.h"

#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "store/api/status.h"

namespace kvasir::demo {
namespace {

using Json = nlohmann::json;

/// The tokens of a command's text: all of the file, or `bytes` of it from `offset` on.
absl::StatusOr<std::vector<uint32_t>> TokensOfFile(const Json& command, uint32_t context) {
  const std::string name = command.at("file");
  std::ifstream file(name, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(name, " cannot be read"));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t offset = command.value("offset", size_t{0});
  const size_t bytes = command.value("context", size_t{0}) + command.value("bytes", size_t{0});
  if (offset > text.size()) return absl::InvalidArgumentError(absl::StrCat(name, " ends before byte ", offset));
  text = bytes == 0 ? text.substr(offset) : text.substr(offset, bytes);
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(name, " is empty"));
  if (text.size() > context) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has ", text.size(), " bytes; the model's context is ", context));
  }
  return model::TokensOf(text);
}

std::string HexOf(std::span<const uint32_t> text) {
  std::string bytes;
  for (const uint32_t token : text) bytes.push_back(static_cast<char>(token));
  return ToHex(bytes);
}

/// Who owns each block, primary first, by the same pure function as client and node.
Json OwnersOf(const Session& session, const PrefixChain& chain) {
  const Membership members = session.membership();
  Json owners = Json::array();
  for (size_t block = 0; block < chain.size(); ++block) {
    Json ids = Json::array();
    for (const Placed& placed : Place(chain.RunKey(block, session.run_blocks()), members, 2)) {
      ids.push_back(members.members[placed.member].id);
    }
    owners.push_back(std::move(ids));
  }
  return owners;
}

Json KeysOf(const PrefixChain& chain) {
  Json keys = Json::array();
  for (const BlockKey& key : chain.keys()) keys.push_back(ToHex(key));
  return keys;
}

Json CountersOf(const DecodeSide& side) {
  Json counters = Json::object();
  for (const auto& [name, value] : side.Counters()) counters[name] = value;
  return counters;
}

}  // namespace

Json Commands::Run(const Json& command) {
  try {
    auto answer = Dispatch(command);
    if (answer.ok()) {
      (*answer)["ok"] = true;
      if (engine_ != nullptr) (*answer)["spans"] = engine_->trace().Take();
      return *std::move(answer);
    }
    return {{"ok", false}, {"error", std::string(answer.status().message())}};
  } catch (const Json::exception& error) {
    return {{"ok", false}, {"error", std::string("the command is malformed: ") + error.what()}};
  }
}

absl::StatusOr<Json> Commands::Dispatch(const Json& command) {
  const std::string what = command.at("do");
  if (what == "open") return Open(command);
  if (engine_ == nullptr) return absl::FailedPreconditionError("say open first");
  engine_->trace().Take();  // what the last command left behind
  if (what == "score") return Score(command);
  if (what == "score_short") return ScoreShort(command);
  if (what == "generate") return Generate(command);
  if (what == "prefill" || what == "push") return Push(command, what == "prefill");
  if (what == "fetch") return Fetch(command);
  return absl::InvalidArgumentError(absl::StrCat("there is no command ", what));
}

absl::StatusOr<Json> Commands::Open(const Json& command) {
  const std::string role = command.at("role");
  decode_.reset();
  prefill_.reset();
  if (engine_ == nullptr) {
    auto model = ToStatusOr(model::Model::Load(command.at("model").get<std::string>()));
    if (!model.ok()) return model.status();
    // Three engines, three ways to keep the same KV.
    PageLayout layout{.ranks = 1, .order = model::PageOrder::kTokensFirst, .page_tokens = 64, .shuffle_seed = 0};
    if (role == "prefill") layout = {1, model::PageOrder::kTokensFirst, 16, 7};
    if (role == "decode") layout = {2, model::PageOrder::kHeadsFirst, 32, 11};
    engine_ = std::make_unique<TextEngine>(*model, layout, command.value("threads", 1u));
  }
  StoreAddress store{command.value("nodes", std::vector<std::string>{}),
                     command.value("transports", std::vector<std::string>{"tcp"})};
  if (role == "prefill") prefill_ = std::make_unique<PrefillSide>(*engine_, std::move(store));
  if (role == "decode") {
    auto side = DecodeSide::Open(*engine_, store);
    if (!side.ok()) return side.status();
    decode_ = *std::move(side);
  }
  const model::ModelConfig& config = engine_->model().config();
  return Json{{"role", role},
              {"context", config.context_max},
              {"layers", config.layers},
              {"kv_heads", config.kv_heads},
              {"head_dim", config.head_dim},
              {"weights", engine_->model().WeightsDigest()},
              {"block_tokens", kBlockTokens}};
}

absl::StatusOr<Json> Commands::Push(const Json& command, bool compute) {
  if (prefill_ == nullptr) return absl::FailedPreconditionError("only a prefill engine pushes");
  const auto tokens = TokensOfFile(command, engine_->context());
  if (!tokens.ok()) return tokens.status();
  const PushOptions options{command.at("view"), command.value("replicas", 1u), command.value("durable", false)};
  const auto session = prefill_->SessionFor(options);
  if (!session.ok()) return session.status();
  const Instant begin = std::chrono::steady_clock::now();
  const auto sum = compute ? prefill_->Prefill(*tokens, options) : prefill_->PushAgain(*tokens, options);
  if (!sum.ok()) return sum.status();
  if (!sum->status.ok()) return sum->status;
  const PrefixChain chain = (*session)->Chain(*tokens);
  return Json{{"tokens", tokens->size()},
              {"blocks", sum->blocks},
              {"replicas", sum->replicas},
              {"existed", sum->parts_existed},
              {"raw_bytes", sum->raw_bytes},
              {"stored_bytes", sum->stored_bytes},
              {"begin_ns", Nanoseconds(begin)},
              {"computed_ns", Nanoseconds(sum->computed)},
              {"acknowledged_ns", Nanoseconds(sum->acknowledged)},
              {"owners", OwnersOf(**session, chain)},
              {"keys", KeysOf(chain)}};
}

absl::StatusOr<Json> Commands::Generate(const Json& command) {
  const auto prompt = TokensOfFile(command, engine_->context());
  if (!prompt.ok()) return prompt.status();
  const uint32_t count = command.at("tokens");
  const auto size = static_cast<uint32_t>(prompt->size());
  if (count == 0 || size + count > engine_->context()) {
    return absl::InvalidArgumentError(absl::StrCat(size, " bytes and ", count, " new ones do not fit into a context of ",
                                                   engine_->context(), " bytes. Give a shorter prompt"));
  }
  engine_->Forget();
  Continuation got;
  if (decode_ != nullptr) {
    auto generated = decode_->Generate(*prompt, command.at("accept"), count);
    if (!generated.ok()) return generated.status();
    got = *std::move(generated);
  } else {
    got.begin = std::chrono::steady_clock::now();
    const auto logits = engine_->Compute(*prompt, 0, model::LogitsOf::kLast, {});
    if (!logits.ok()) return logits.status();
    got.first_token = std::chrono::steady_clock::now();
    got.computed_tokens = size;
    auto text = engine_->Continue(*logits, size - 1, count);
    if (!text.ok()) return text.status();
    got.text = *std::move(text);
    got.end = std::chrono::steady_clock::now();
  }
  return Json{{"text", HexOf(got.text)},
              {"prompt_tokens", size},
              {"matched_blocks", got.matched_blocks},
              {"blocks", got.fetched.blocks},
              {"computed_tokens", got.computed_tokens},
              {"restarts", got.restarts},
              {"moved_bytes", got.fetched.moved_bytes},
              {"raw_bytes", got.fetched.raw_bytes},
              {"views", got.fetched.views},
              {"stopped", std::string(got.fetched.status.message())},
              {"begin_ns", Nanoseconds(got.begin)},
              {"first_token_ns", Nanoseconds(got.first_token)},
              {"end_ns", Nanoseconds(got.end)},
              {"counters", decode_ != nullptr ? CountersOf(*decode_) : Json::object()}};
}

absl::StatusOr<Json> Commands::Fetch(const Json& command) {
  if (decode_ == nullptr) return absl::FailedPreconditionError("only a decode engine fetches");
  const auto tokens = TokensOfFile(command, engine_->context());
  if (!tokens.ok()) return tokens.status();
  const FetchSummary got =
      decode_->Fetch(*tokens, command.at("first_block"), command.at("blocks"), command.at("accept"));
  return Json{{"blocks", got.blocks},
              {"moved_bytes", got.moved_bytes},
              {"raw_bytes", got.raw_bytes},
              {"views", got.views},
              {"stopped", std::string(got.status.message())},
              {"counters", CountersOf(*decode_)}};
}

absl::StatusOr<Json> Commands::Score(const Json& command) {
  const auto tokens = TokensOfFile(command, engine_->context());
  if (!tokens.ok()) return tokens.status();
  const uint32_t context = command.at("context");
  if (context % kBlockTokens != 0 || context + 2 > tokens->size()) {
    return absl::InvalidArgumentError("score: context must be whole blocks, with at least two bytes behind it");
  }
  FetchSummary got;
  if (decode_ != nullptr) {
    engine_->Forget();
    got = decode_->Fetch(*tokens, 0, context / kBlockTokens, command.at("accept"));
    if (got.blocks * kBlockTokens < context) {
      return absl::NotFoundError(absl::StrCat("score: only ", got.blocks, " blocks came: ", got.status.message()));
    }
  } else if (prefill_ == nullptr) {
    const auto computed = engine_->Compute(std::span(*tokens).first(context), 0, model::LogitsOf::kNone, {});
    if (!computed.ok()) return computed.status();
  }  // a prefill engine has the context in its pages: it was told to prefill it a moment ago
  const auto loss = engine_->Score(*tokens, context, {});
  if (!loss.ok()) return loss.status();
  return Json{{"loss", *loss},
              {"scored", tokens->size() - context - 1},
              {"moved_bytes", got.moved_bytes},
              {"raw_bytes", got.raw_bytes}};
}

absl::StatusOr<Json> Commands::ScoreShort(const Json& command) {
  const auto tokens = TokensOfFile(command, engine_->context());
  if (!tokens.ok()) return tokens.status();
  const uint32_t context = command.at("context"), keep = command.at("keep");
  if (keep == 0 || keep > context || context + 2 > tokens->size()) {
    return absl::InvalidArgumentError("score_short: keep must be 1 to context, with at least two bytes behind it");
  }
  const auto loss = engine_->ScoreShortSighted(*tokens, context, keep, command.at("stride"));
  if (!loss.ok()) return loss.status();
  return Json{{"loss", *loss}, {"scored", tokens->size() - context - 1}};
}

}  // namespace kvasir::demo
