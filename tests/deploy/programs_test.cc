// SPDX-License-Identifier: Apache-2.0
// Goal: kvasird and kvasir together do what their help says. Method: real daemons on loopback, the command line against
// them; tables compared by line, JSON by value.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "store/api/prefix_chain.h"
#include "tests/deploy/http_get.h"
#include "tests/deploy/process.h"

namespace kvasir::testing {
namespace {

using nlohmann::json;

Ended Kvasir(const std::string& node, std::vector<std::string> words) {
  words.insert(words.begin(), {KVASIR, "--node", node});
  return RunProgram(words);
}
json Json(const Ended& ended) {
  EXPECT_EQ(ended.status, 0) << ended.err;
  return json::parse(ended.out, nullptr, false);
}
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }
std::vector<std::string> SmallBench(std::vector<std::string> more) {
  more.insert(more.begin(),
              {"bench", "--blocks", "12", "--block-tokens", "64", "--layers", "2", "--heads", "2", "--dim", "64"});
  return more;
}

TEST(Programs, HelpIsInTheReadme) {
  const std::string readme = ReadAll(DEPLOY_README);
  for (const char* program : {KVASIRD, KVASIR}) {
    const Ended help = RunProgram({program, "--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_NE(readme.find(help.out), std::string::npos)
        << "deploy/README.md does not hold this, the output of --help:\n"
        << help.out;
  }
}

TEST(Programs, DaemonSaysWhenItServesAndDrainsOnSigterm) {
  const Directory directory;
  Daemon daemon({"--id", "a", "--port-file", directory / "port.json", "--json-logs"});
  ASSERT_TRUE(daemon.serving());
  const json file = json::parse(ReadAll(directory / "port.json"));
  EXPECT_EQ(file["id"], "a");
  EXPECT_EQ(file["control"], daemon.control());
  const Ended ended = daemon.Stop(SIGTERM);
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(FirstLine(ended.out).find("kvasird a serving on " + daemon.control() + ", data tcp 127.0.0.1"), 0u)
      << ended.out;
  // Warnings may stand between them: another daemon of this machine has the default port, a loop had to wait.
  int informing = 0;
  std::istringstream lines(ended.err);
  for (std::string line; std::getline(lines, line);) {
    const json log = json::parse(line);
    EXPECT_EQ(log["node"], "a") << line;
    EXPECT_NE(log["level"], "error") << line;
    informing += log["level"] == "info";
  }
  EXPECT_GT(informing, 0) << ended.err;
}

TEST(Programs, CheckSaysWhatWouldBeAndOpensNothing) {
  Daemon serving({"--id", "a"});
  ASSERT_TRUE(serving.serving());
  const Directory directory;
  const Ended ended = RunProgram({KVASIRD, "--check", "--id", "b", "--listen", serving.control(), "--ssd",
                                  directory / "made/later", "--ssd-size", "1GiB", "--dram", "64MiB"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  for (const std::string& line : {std::string("id = b\n"), "listen = " + serving.control() + "\n",
                                  std::string("dram = 67108864\n"), std::string("ssd-size = 1073741824\n"),
                                  "ssd = " + directory.path() + "/made/later\n"}) {
    EXPECT_NE(ended.out.find(line), std::string::npos) << "no line " << line << "in " << ended.out;
  }
  EXPECT_FALSE(std::filesystem::exists(directory / "made"));
}

TEST(Programs, AnEmptyValueIsEmptyAndTakesNothingElse) {
  const Ended ended = RunProgram({KVASIRD, "--data-host=", "--id=b", "--check"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(FirstLine(ended.out), "id = b");
  EXPECT_NE(ended.out.find("data-host = 127.0.0.1\n"), std::string::npos) << ended.out;
}

TEST(Programs, PagesForProbesAndScrapers) {
  const Directory directory;
  const auto http_of = [&](const std::string& name) { return json::parse(ReadAll(directory / name))["http"].get<std::string>(); };
  Daemon first({"--id", "a", "--port-file", directory / "first"});
  Daemon second({"--id", "b", "--port-file", directory / "second"});
  Daemon off({"--id", "c", "--http", "off", "--port-file", directory / "off"});
  ASSERT_TRUE(first.serving() && second.serving() && off.serving());
  EXPECT_NE(http_of("first"), http_of("second")) << "the default port is taken once, then any free one";
  EXPECT_EQ(http_of("off"), "");
  const std::string at = http_of("second");
  EXPECT_EQ(HttpGetUntil(at, "/readyz", 200).body, "ready\n");
  EXPECT_EQ(HttpGet(at, "/livez").body, "live\n");
  EXPECT_NE(HttpGet(at, "/metrics").body.find("\nkvasir_vital_ok{vital=\"grpc\"} 1\n"), std::string::npos);
  json page = json::parse(HttpGet(at, "/status.json").body);
  json told = Json(Kvasir(second.control(), {"status", "-o", "json"}))[0];
  EXPECT_EQ(told["features"]["io_uring"], "off: there is no SSD tier");
  EXPECT_EQ(told["features"]["http"], "on: " + at);
  page.erase("uptime_s");
  for (const auto& [field, value] : page.items()) EXPECT_EQ(told[field], value) << field;
}

TEST(Programs, DramAutoLeavesRoomAndTheFirstLinesSayWhatIsInForce) {
  Daemon daemon({"--id", "a", "--dram", "auto", "--json-logs", "--http", "127.0.0.1:0"});
  ASSERT_TRUE(daemon.serving());
  const json status = Json(Kvasir(daemon.control(), {"status", "-o", "json"}))[0];
  const uint64_t dram = status["tiers"][0]["capacity"];
  EXPECT_EQ(dram % (1 << 20), 0u);
  EXPECT_GT(dram, 16u << 20);
  const Ended ended = daemon.Stop(SIGTERM);
  std::istringstream lines(ended.err);
  std::map<std::string, json> log;
  for (std::string line; std::getline(lines, line);) {
    const json event = json::parse(line);
    log[event["message"]] = event;
  }
  EXPECT_EQ(log["configuration"]["id"], "a");
  EXPECT_EQ(log["configuration"]["transports"], "tcp,shm");
  EXPECT_NE(log["configuration"]["memory-limit"], "unknown");
  EXPECT_EQ(log["features"]["ssd"], "off: no --ssd");
  EXPECT_EQ(log["draining: takes no new work, waits for readers and takers; a second signal exits at once"]["signal"], "SIGTERM");
}

TEST(Programs, StatusListStatAndBench) {
  Daemon daemon({"--id", "a"});
  ASSERT_TRUE(daemon.serving());
  const Ended empty = Kvasir(daemon.control(), {"ls"});
  EXPECT_EQ(empty.out, "nothing is stored yet. Push some blocks with: kvasir bench\n");

  const json bench = Json(Kvasir(daemon.control(), SmallBench({"--codec", "splitexp", "-o", "json"})));
  for (const char* phase : {"push", "fetch"}) {
    EXPECT_EQ(bench[phase]["blocks"], 12);
    EXPECT_EQ(bench[phase]["failed"], 0);
    EXPECT_EQ(bench[phase]["differing"], 0);
  }
  const json list = Json(Kvasir(daemon.control(), {"ls", "-o", "json"}));
  ASSERT_EQ(list["blocks"].size(), 12u);
  const std::string key = list["blocks"][0]["key"];
  EXPECT_EQ(list["blocks"][0]["namespace"], "kvasir-bench-2x2x64x64");
  EXPECT_EQ(list["blocks"][0]["codec"], "P:splitexp");
  EXPECT_EQ(list["blocks"][0]["node"], "a");
  EXPECT_EQ(Json(Kvasir(daemon.control(), {"ls", key.substr(0, 10), "-o", "json"}))["blocks"].size(), 1u);
  EXPECT_EQ(Json(Kvasir(daemon.control(), {"stat", key, "-o", "json"}))[0]["key"], key);
  EXPECT_NE(
      Kvasir(daemon.control(), {"ls", "--limit", "5"}).out.find("There are more. Show them with: kvasir ls --limit 50"),
      std::string::npos);
  EXPECT_EQ(Kvasir(daemon.control(), {"stat", ""}).status, 2) << "twelve blocks begin with nothing";
  const Ended absent = Kvasir(daemon.control(), {"stat", std::string(64, '0')});
  EXPECT_EQ(absent.status, 1);
  EXPECT_NE(absent.err.find("See what there is: kvasir ls"), std::string::npos) << absent.err;

  const json status = Json(Kvasir(daemon.control(), {"status", "-o", "json"}));
  ASSERT_EQ(status.size(), 1u);
  EXPECT_EQ(status[0]["id"], "a");
  EXPECT_EQ(status[0]["state"], "serving");
  EXPECT_EQ(status[0]["blocks"], 12);
  const Ended table = Kvasir(daemon.control(), {"status"});
  EXPECT_EQ(FirstLine(table.out).substr(0, 4), "NODE");
  EXPECT_NE(table.out.find("dram"), std::string::npos);
}

TEST(Programs, ClusterFromAMemberListAndOneNodeKilled) {
  const Directory directory;
  const std::vector<int> ports = FreePorts(2);
  json list = {{"members", json::array()}};
  for (size_t i = 0; i < 2; ++i) {
    list["members"].push_back({{"id", i == 0 ? "a" : "b"}, {"control", "127.0.0.1:" + std::to_string(ports[i])}});
  }
  directory.Write("members.json", list.dump());
  Daemon a({"--id", "a", "--members", directory / "members.json"});
  Daemon b({"--id", "b", "--members", directory / "members.json"});
  ASSERT_TRUE(a.serving()) << a.Stop(0).err;
  ASSERT_TRUE(b.serving()) << b.Stop(0).err;
  const json bench = Json(Kvasir(a.control(), SmallBench({"--replicas", "2", "-o", "json"})));
  EXPECT_EQ(bench["fetch"]["blocks"], 12);
  EXPECT_EQ(Json(Kvasir(a.control(), {"status", "-o", "json"})).size(), 2u) << "one names the other";
  EXPECT_EQ(Json(Kvasir(b.control(), {"ls", "-o", "json"}))["blocks"].size(), 24u) << "both copies of each";

  EXPECT_EQ(b.Stop(SIGKILL).status, 128 + SIGKILL);
  const Ended half = Kvasir(a.control(), {"status"});
  EXPECT_EQ(half.status, 4) << "partial";
  EXPECT_NE(half.out.find("unreachable"), std::string::npos) << half.out;
  EXPECT_NE(half.err.find("1 of 2 nodes did not answer: b (127.0.0.1:"), std::string::npos) << half.err;
  EXPECT_EQ(a.Stop(SIGTERM).status, 0);
}

TEST(Programs, DurableBlocksAreVerifiedAndDamageIsFound) {
  const Directory directory;
  const std::string ssd = directory / "ssd";
  Daemon daemon({"--ssd", ssd, "--ssd-size", "256MiB"});
  ASSERT_TRUE(daemon.serving());
  const Ended bench = Kvasir(daemon.control(), SmallBench({"--durable"}));
  ASSERT_EQ(bench.status, 0) << bench.err;
  EXPECT_EQ(daemon.Stop(SIGTERM).status, 0);
  const json clean = Json(RunProgram({KVASIR, "verify", ssd, "-o", "json"}));
  EXPECT_EQ(clean["parts"], 24);
  EXPECT_TRUE(clean["damaged"].empty());

  const std::string segment = ssd + "/segments/00000001.seg";
  const Ended whole = RunProgram({KVASIR, "inspect", segment, "-o", "json"});
  EXPECT_EQ(whole.status, 0) << whole.err;
  const json parts = json::parse(whole.out);
  ASSERT_EQ(parts.size(), 24u);
  EXPECT_EQ(parts[0]["token_count"], 64);
  {  // the last byte of the first part's last frame
    std::fstream file(segment, std::ios::binary | std::ios::in | std::ios::out);
    const auto at = parts[0]["offset"].get<int64_t>() + parts[0]["bytes"].get<int64_t>() - 1;
    file.seekg(at);
    const char flipped = static_cast<char>(file.get() ^ 0x40);
    file.seekp(at);
    file.put(flipped);
  }
  const Ended verify = RunProgram({KVASIR, "verify", ssd});
  EXPECT_EQ(verify.status, 1);
  EXPECT_NE(verify.out.find("24 parts"), std::string::npos) << verify.out;
  EXPECT_NE(verify.err.find("1 of 24 parts are damaged. A node never serves them"), std::string::npos) << verify.err;
  const Ended inspect = RunProgram({KVASIR, "inspect", segment});
  EXPECT_EQ(inspect.status, 1);
  EXPECT_NE(inspect.out.find("CRC32C differs"), std::string::npos) << inspect.out;
}

TEST(Programs, HashGivesTheKeysOfTheLibrary) {
  const Directory directory;
  directory.Write("ns.json", R"({"name":"hash-model","block_tokens":4,
      "layout":{"layers":1,"kv_heads":1,"key_dim":8,"value_dim":8,"element":"bf16"}})");
  directory.Write("secret", "open sesame\n");
  directory.Write("text", "abcdefghij");
  directory.Write("tokens", "97, 98 99\n100 101 102 103 104 105 106");
  Namespace ns;
  ns.name = "hash-model";
  ns.block_tokens = 4;
  ns.layout = {1, 1, 8, 8, ElementType::kBfloat16};
  const std::vector<uint32_t> tokens = {97, 98, 99, 100, 101, 102, 103, 104, 105, 106};
  const PrefixChain chain = PrefixChain::FromTokens(DomainKey::FromPassphrase("open sesame"), ns, tokens);
  const auto hash = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {KVASIR, "hash", "--namespace", directory / "ns.json", "--passphrase-file",
                               directory / "secret", "-o", "json"});
    return Json(RunProgram(more));
  };
  for (const json& out : {hash({directory / "text"}), hash({"--tokens", directory / "tokens"})}) {
    ASSERT_EQ(out["keys"].size(), 2u);
    EXPECT_EQ(out["keys"][0], ToHex(chain[0]));
    EXPECT_EQ(out["keys"][1], ToHex(chain[1]));
    EXPECT_EQ(out["tail_tokens"], 2);
  }
}

TEST(Programs, CodecsAndVersion) {
  const json codecs = Json(RunProgram({KVASIR, "codecs", "-o", "json"}));
  const auto named = [](const std::string& name) { return [=](const json& item) { return item["name"] == name; }; };
  EXPECT_TRUE(std::any_of(codecs["stages"].begin(), codecs["stages"].end(), named("raw")));
  EXPECT_TRUE(std::any_of(codecs["methods"].begin(), codecs["methods"].end(), named("kivi2")));
  EXPECT_EQ(Json(RunProgram({KVASIR, "version", "-o", "json"}))["wire"], 2);
  EXPECT_EQ(RunProgram({KVASIRD, "--version"}).out.find("kvasird "), 0u);
  EXPECT_EQ(RunProgram({KVASIR, "help", "bench"}).out, RunProgram({KVASIR, "bench", "--help"}).out);
}

}  // namespace
}  // namespace kvasir::testing
