// SPDX-License-Identifier: Apache-2.0
// Goal: the operator's commands do what they say on a real cluster, with a dead node in it too. Method: three kvasirds
// on a static list, `kvasir` against one of them.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "store/api/placement.h"
#include "tests/deploy/process.h"

namespace kvasir::testing {
namespace {

using nlohmann::json;

constexpr uint32_t kRunBlocks = 4;

class ClusterPrograms : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<int> ports = FreePorts(3);
    json list = {{"epoch", 5}, {"run_blocks", kRunBlocks}, {"members", json::array()}};
    for (size_t i = 0; i < 3; ++i) {
      list["members"].push_back({{"id", Id(i)},
                                 {"control", "127.0.0.1:" + std::to_string(ports[i])},
                                 {"zone", i % 2 == 0 ? "r0" : "r1"},
                                 {"weight", 100 + 50 * i}});
    }
    directory_.Write("members.json", list.dump());
    for (size_t i = 0; i < 3; ++i) {
      nodes_.push_back(
          std::make_unique<Daemon>(std::vector<std::string>{"--id", Id(i), "--members", directory_ / "members.json"}));
      ASSERT_TRUE(nodes_[i]->serving()) << nodes_[i]->Stop(0).err;
    }
  }
  static std::string Id(size_t i) { return std::string(1, static_cast<char>('a' + i)); }
  Ended Kvasir(std::vector<std::string> words) const {
    words.insert(words.begin(), {KVASIR, "--node", nodes_[0]->control()});
    return RunProgram(words);
  }
  json Json(std::vector<std::string> words, int status = 0) const {
    words.insert(words.end(), {"-o", "json"});
    const Ended ended = Kvasir(std::move(words));
    EXPECT_EQ(ended.status, status) << ended.err;
    return json::parse(ended.out, nullptr, false);
  }
  void Push() const {
    const Ended bench = Kvasir({"bench", "--blocks", "12", "--block-tokens", "64", "--layers", "2", "--heads", "2",
                                "--dim", "64", "--replicas", "2"});
    ASSERT_EQ(bench.status, 0) << bench.err;
  }
  /// Nodes that began a moment ago still ask each other what they should hold.
  void AwaitHealthy() const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    Ended last;
    do {
      last = Kvasir({"status", "--cluster"});
    } while (last.status != 0 && std::chrono::steady_clock::now() < until);
    ASSERT_EQ(last.status, 0) << last.out << last.err;
  }
  const Directory directory_;
  std::vector<std::unique_ptr<Daemon>> nodes_;
};

TEST_F(ClusterPrograms, ListAndDescribe) {
  AwaitHealthy();
  const json nodes = Json({"node", "ls"});
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[1]["id"], "b");
  EXPECT_EQ(nodes[1]["control"], nodes_[1]->control());
  EXPECT_EQ(nodes[1]["state"], "serving");
  EXPECT_EQ(nodes[1]["member"]["weight"], 150);
  EXPECT_EQ(nodes[1]["epoch"], 5);
  const std::string table = Kvasir({"node", "ls"}).out;
  EXPECT_EQ(table.substr(0, table.find(' ')), "ID");
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4) << table;

  EXPECT_EQ(Json({"node", "describe", "c"})["member"]["zone"], "r0");
  const Ended described = Kvasir({"node", "describe", "c"});
  for (const char* line : {"node        c at 127.0.0.1:", "state       serving\n",
                           "membership  epoch 5, 3 members, from: static\n", "hands over  settled\n"}) {
    EXPECT_NE(described.out.find(line), std::string::npos) << described.out;
  }
  const Ended unknown = Kvasir({"node", "describe", "d"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_NE(unknown.err.find("there is no node d in this cluster"), std::string::npos) << unknown.err;
}

TEST_F(ClusterPrograms, CordonAndUncordon) {
  AwaitHealthy();
  const Ended cordoned = Kvasir({"node", "cordon", "c"});
  EXPECT_EQ(cordoned.status, 0) << cordoned.err;
  EXPECT_EQ(cordoned.out,
            "node c is cordoned: it takes no new blocks, and serves the 0 that it has. Undo: kvasir node uncordon c\n");
  EXPECT_EQ(Json({"node", "ls"})[2]["state"], "cordoned");
  EXPECT_NE(Json({"status", "--cluster"})["words"].get<std::string>().find("no new blocks go to c (cordoned)"),
            std::string::npos);
  EXPECT_EQ(Json({"node", "uncordon", "c"})["state"], "serving");
  EXPECT_EQ(Json({"node", "ls"})[2]["state"], "serving");
}

TEST_F(ClusterPrograms, LocateIsThePlacementAndTheTruth) {
  Push();
  const json blocks = Json({"ls"})["blocks"];
  ASSERT_EQ(blocks.size(), 24u);
  const json status = Json({"status"});
  Membership membership;
  for (const json& node : status) {
    membership.members.push_back({.id = node["id"],
                                  .control = node["control"],
                                  .shards = 1,
                                  .weight = node["member"]["weight"],
                                  .zone = node["member"]["zone"]});
  }
  for (const json& block : blocks) {
    const json located = Json({"locate", block["key"].get<std::string>().substr(0, 20)});
    EXPECT_EQ(located["key"], block["key"]);
    EXPECT_EQ(located["run_blocks"], kRunBlocks);
    // The run's key: that of the first block of the run, as the list has it.
    const uint32_t first = block["block_index"].get<uint32_t>() / kRunBlocks * kRunBlocks;
    const auto run =
        std::find_if(blocks.begin(), blocks.end(), [first](const json& b) { return b["block_index"] == first; });
    ASSERT_NE(run, blocks.end());
    ASSERT_EQ(located["run"], (*run)["key"]);
    BlockKey key;
    key.bytes = *FromHex(located["run"].get<std::string>());
    const std::vector<Placed> places = Place(key, membership, 2);
    ASSERT_EQ(located["nodes"].size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(located["nodes"][i]["id"], membership.members[places[i].member].id);
      EXPECT_EQ(located["nodes"][i]["copies"].size(), 1u) << "and it is there";
    }
    EXPECT_EQ(located["verdict"], "2 of 2 nodes that should hold it do.");
  }
  const Ended absent = Kvasir({"locate", std::string(64, '0')});
  EXPECT_EQ(absent.status, 1);
  EXPECT_NE(absent.out.find("No node that answered holds it."), std::string::npos) << absent.out;
  EXPECT_EQ(Kvasir({"locate", "not-a-key"}).status, 2);
  EXPECT_EQ(Kvasir({"locate", ""}).status, 2) << "twelve blocks begin with nothing";
}

TEST_F(ClusterPrograms, StatusOfTheWholeAndADeadNode) {
  Push();
  AwaitHealthy();
  const json healthy = Json({"status", "--cluster"});
  EXPECT_EQ(healthy["healthy"], true);
  EXPECT_EQ(healthy["epoch"], 5);
  EXPECT_EQ(healthy["totals"]["answered"], 3);
  EXPECT_EQ(healthy["totals"]["blocks"], 24);
  const Ended table = Kvasir({"status", "--cluster"});
  EXPECT_NE(table.out.find(
                "\nhealthy: all 3 nodes answer, epoch 5 everywhere, nothing moves, 2 copies find distinct zones (2)\n"),
            std::string::npos)
      << table.out;
  const Ended three = Kvasir({"status", "--cluster", "--replicas", "3"});
  EXPECT_EQ(three.status, 1) << "three copies, two zones";
  EXPECT_NE(three.out.find("3 copies cannot lie in distinct zones"), std::string::npos) << three.out;

  EXPECT_EQ(nodes_[1]->Stop(SIGKILL).status, 128 + SIGKILL);
  const json sick = Json({"status", "--cluster"}, 4);
  EXPECT_EQ(sick["healthy"], false);
  EXPECT_EQ(sick["totals"]["answered"], 2);
  EXPECT_EQ(sick["nodes"][1]["cause"], "connection refused");
  const json nodes = Json({"node", "ls"}, 4);
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[1]["state"], "unreachable");
  EXPECT_EQ(nodes[2]["state"], "serving");
  EXPECT_EQ(Json({"node", "describe", "b"}, 4)["member"]["weight"], 150);
  const Ended list = Kvasir({"node", "ls"});
  EXPECT_NE(list.out.find("b at " + nodes[1]["control"].get<std::string>() + " is unreachable: connection refused"),
            std::string::npos)
      << list.out;
  EXPECT_NE(list.err.find("1 of 3 nodes did not answer: b (127.0.0.1:"), std::string::npos) << list.err;
  const Ended cordon = Kvasir({"node", "cordon", "b"});
  EXPECT_EQ(cordon.status, 1);
  EXPECT_NE(cordon.err.find("Start it again on its directory, then repeat this"), std::string::npos) << cordon.err;
  EXPECT_EQ(Kvasir({"ls"}).status, 4);
}

TEST_F(ClusterPrograms, DrainAsksFirst) {
  const Ended asks = Kvasir({"node", "drain", "b"});  // standard input is no terminal
  EXPECT_EQ(asks.status, 2);
  EXPECT_NE(
      asks.err.find(
          "Drain b at " + nodes_[1]->control() +
          ": it takes no new blocks from now on. The member list is static: nobody takes over its 0 blocks in 0 parts"),
      std::string::npos)
      << asks.err;
  EXPECT_NE(asks.err.find("Add --yes: kvasir node drain b --yes\n"), std::string::npos) << asks.err;
  EXPECT_EQ(Json({"node", "ls"})[1]["state"], "serving") << "nothing was done";
  const Ended begun = Kvasir({"node", "drain", "b", "--yes", "--no-wait"});
  EXPECT_EQ(begun.status, 0) << begun.err;
  EXPECT_EQ(Json({"node", "ls"})[1]["state"].get<std::string>().substr(0, 5), "drain")
      << "draining, or drained already";
  EXPECT_EQ(Json({"node", "uncordon", "b"})["state"], "serving");
}

TEST(SimPrograms, ClusterOnPaperNeedsNoNode) {
  const Directory directory;
  const Ended ended = RunProgram(
      {KVASIR, "sim", "cluster", "--nodes", "6", "--runs", "2000", "--svg", directory / "plots", "-o", "json"});
  ASSERT_EQ(ended.status, 0) << ended.err;
  const json out = json::parse(ended.out);
  EXPECT_EQ(out["options"]["nodes"], 6);
  EXPECT_EQ(out["points"].back()["nodes"], 6);
  EXPECT_EQ(out["points"].back()["changes"]["join"]["copies"], 4000);
  EXPECT_EQ(out["points"].back()["changes"]["join"]["between_others"], 0);
  EXPECT_GT(out["load"]["membership_bytes"], 6 * 20) << "measured of a real message";
  EXPECT_GT(out["load"]["place_ns"], 0);
  for (const char* plot : {"balance.svg", "moves.svg"}) {
    EXPECT_EQ(ReadAll(directory / "plots/" + plot).find("<svg "), 0u) << plot;
  }
  const Ended table = RunProgram({KVASIR, "sim", "cluster", "--nodes", "6", "--runs", "2000"});
  EXPECT_EQ(table.out.find("6 nodes of 4 shards in 3 zones, weights 100; 2000 runs"), 0u) << table.out;
  const Ended weights = RunProgram({KVASIR, "sim", "cluster", "--weights", "100,heavy"});
  EXPECT_EQ(weights.status, 2);
  EXPECT_NE(weights.err.find("--weights: 'heavy' is not a weight"), std::string::npos) << weights.err;
}

TEST(NestedCommands, HelpAndMistakesTeach) {
  EXPECT_EQ(RunProgram({KVASIR, "help", "node", "drain"}).out, RunProgram({KVASIR, "node", "drain", "--help"}).out);
  EXPECT_EQ(RunProgram({KVASIR, "node"}).out, RunProgram({KVASIR, "help", "node"}).out);
  EXPECT_NE(RunProgram({KVASIR, "help", "sim", "cluster"}).out.find("Usage: kvasir sim cluster [FLAGS]\n"),
            std::string::npos);
  const auto error = [](std::vector<std::string> words) {
    words.insert(words.begin(), KVASIR);
    const Ended ended = RunProgram(words);
    EXPECT_EQ(ended.status, 2);
    return ended.err;
  };
  EXPECT_EQ(error({"node", "lss"}), "kvasir: there is no command node lss; did you mean ls?\nSee: kvasir help node\n");
  EXPECT_EQ(error({"node", "drain"}), "kvasir: ID is required\nSee: kvasir help node drain\n");
  EXPECT_EQ(error({"help", "node", "dran"}), "kvasir: there is no command node dran; did you mean drain?\n");
  EXPECT_NE(error({"node", "drain", "b", "--wait", "5m", "--no-wait"}).find("excludes"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::testing
