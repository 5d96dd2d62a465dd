// SPDX-License-Identifier: Apache-2.0
#include "tests/cluster/commands.h"

#include <fstream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/cluster/herd.h"
#include "tests/cluster/observer.h"

namespace kvasir::cluster {
namespace {

using Json = nlohmann::json;

Duration SecondsOf(const Json& command, double otherwise) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(command.value("s", otherwise)));
}

PromptShape ShapeOf(const Json& command) {
  PromptShape shape;
  shape.seed = command.value("seed", shape.seed);
  shape.blocks = command.value("blocks", shape.blocks);
  shape.layers = command.value("layers", shape.layers);
  shape.kv_heads = command.value("kv_heads", shape.kv_heads);
  shape.head_dim = command.value("head_dim", shape.head_dim);
  shape.block_tokens = command.value("block_tokens", shape.block_tokens);
  shape.only_raw = command.value("only_raw", shape.only_raw);
  return shape;
}

LoadOptions OptionsOf(const Json& command) {
  LoadOptions options;
  options.shape = ShapeOf(command);
  options.nodes = command.at("nodes").get<std::vector<std::string>>();
  options.transports = command.value("transports", options.transports);
  options.replicas = command.value("replicas", options.replicas);
  options.durable_every = command.value("durable_every", options.durable_every);
  options.first_prompt = command.value("first_prompt", options.first_prompt);
  options.prompts_max = command.value("prompts_max", options.prompts_max);
  options.readers = command.value("readers", options.readers);
  options.writers = command.value("writers", options.writers);
  options.reads_per_s = command.value("reads_per_s", options.reads_per_s);
  options.prompts_per_s = command.value("prompts_per_s", options.prompts_per_s);
  options.log = command.value("log", options.log);
  return options;
}

}  // namespace

Json ToJson(Figures figures) {
  const Percentiles read = PercentilesOf(figures.read_us);
  return {{"pushes", figures.pushes},
          {"acked", figures.acked},
          {"existed", figures.existed},
          {"reads", figures.reads},
          {"attempts", figures.attempts},
          {"hits", figures.hits},
          {"missed", figures.missed},
          {"fetched", figures.fetched},
          {"wrong", figures.wrong},
          {"errors", figures.errors},
          {"given_up", figures.given_up},
          {"statuses", figures.statuses},
          {"read_ms",
           {{"count", read.count},
            {"p50", read.p50_ms},
            {"p99", read.p99_ms},
            {"p999", read.p999_ms},
            {"max", read.max_ms}}},
          {"longest_outage_ms", figures.longest_outage_us / 1000.0},
          {"examples", figures.examples}};
}

Json Commands::Run(const Json& command) {
  try {
    auto answer = Dispatch(command.at("do"), command);
    if (!answer.ok()) return {{"ok", false}, {"error", answer.status().ToString()}};
    (*answer)["ok"] = true;
    return *std::move(answer);
  } catch (const Json::exception& error) {
    return {{"ok", false}, {"error", std::string("the command is malformed: ") + error.what()}};
  }
}

absl::StatusOr<Json> Commands::Dispatch(const std::string& what, const Json& command) {
  if (what == "version") return Json{{"wire", kWireVersion}};
  if (what == "status") return Json{{"nodes", StatusOf(command.at("nodes"), SecondsOf(command, 2))}};
  if (what == "hello") return HelloTo(ShapeOf(command), command.at("node"), SecondsOf(command, 5));
  if (what == "open") return Open(command);
  if (load_ == nullptr) return absl::FailedPreconditionError("say open first");
  if (what == "prefill") {
    load_->Prefill(command.at("prompts"), command.value("threads", 4u));
    return Json::object();
  }
  if (what == "start" || what == "stop") {
    what == "start" ? load_->Start() : load_->Stop();
    return Json::object();
  }
  if (what == "mark") return Json{{"figures", ToJson(load_->ledger().Mark(std::chrono::steady_clock::now()))}};
  if (what == "await") return Await(command);
  if (what == "stats") return Json{{"figures", ToJson(load_->ledger().Total())}, {"counters", load_->ClientCounters()}};
  if (what == "verify") return Verify(command);
  if (what == "adopt") return Adopt(command);
  if (what == "plant") return Plant(command);
  if (what == "owners") return Owners(command);
  if (what == "copies") {
    return CopiesOf(load_->options().shape, load_->ledger().AckedBlocks(), load_->run_blocks(),
                    command.value("wanted", 2u), command.at("nodes"), SecondsOf(command, 20));
  }
  if (what == "herd") {
    return RunHerd(load_->options(), {.prompt = command.at("prompt"),
                                      .clients = command.at("clients"),
                                      .sessions = command.at("sessions"),
                                      .push = command.at("push")});
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no command ", what));
}

absl::StatusOr<Json> Commands::Open(const Json& command) {
  load_.reset();
  auto load = Load::Open(OptionsOf(command));
  if (!load.ok()) return load.status();
  load_ = *std::move(load);
  return Json{{"block_bytes", load_->options().shape.block_bytes()},
              {"run_blocks", load_->run_blocks()},
              {"wire", kWireVersion}};
}

absl::StatusOr<Json> Commands::Await(const Json& command) {
  const Ledger::Progress progress{.reads = command.value("reads", uint64_t{0}),
                                  .acked = command.value("acked", uint64_t{0}),
                                  .sweep = command.value("sweep", false)};
  return Json{{"reached", load_->ledger().Await(progress, SecondsOf(command, 30))}};
}

absl::StatusOr<Json> Commands::Verify(const Json& command) {
  const Verdict verdict = load_->Verify(SecondsOf(command, 5));
  return Json{{"checked", verdict.checked},
              {"held", verdict.held},
              {"lost", verdict.lost},
              {"wrong", verdict.wrong},
              {"examples", verdict.examples}};
}

absl::StatusOr<Json> Commands::Adopt(const Json& command) {
  const std::string name = command.at("log");
  std::ifstream file(name);
  if (!file) return absl::NotFoundError(absl::StrCat(name, " cannot be read"));
  uint64_t adopted = 0;
  for (std::string line; std::getline(file, line); ++adopted) {
    const Json ack = Json::parse(line);
    const bool durable = ack.at("level") == Name(Level::kReplicatedDurable);
    load_->ledger().Adopt(ack.at("prompt"), ack.at("block"), durable ? Level::kReplicatedDurable : Level::kReplicated);
  }
  return Json{{"adopted", adopted}};
}

absl::StatusOr<Json> Commands::Plant(const Json& command) {
  const std::string what = command.at("what");
  if (what == "lost") {
    load_->PlantLost();
    return Json::object();
  }
  if (what != "wrong") return absl::InvalidArgumentError(absl::StrCat("plant: no ", what));
  if (absl::Status status = load_->PlantWrong(); !status.ok()) return status;
  return Json::object();
}

absl::StatusOr<Json> Commands::Owners(const Json& command) {
  const Prompt prompt = MakePrompt(load_->options().shape, command.at("prompt"));
  const Membership members = load_->membership();
  Json ids = Json::array();
  for (const Placed& placed : Place(prompt.chain.RunKey(0, load_->run_blocks()), members, Membership::kMembersMax)) {
    ids.push_back(members.members[placed.member].id);
  }
  return Json{{"owners", ids}};
}

}  // namespace kvasir::cluster
