// SPDX-License-Identifier: Apache-2.0
// The commands about a cluster as a whole: its nodes, where blocks lie, and what one would be like.
#include "deploy/kvasir/arguments.h"

namespace kvasir {
namespace {

constexpr uint64_t kPromptTokensMax = 1ull << 28;
constexpr uint64_t kShardsPerNodeMax = 256;
constexpr uint64_t kRunBlocksOfSimMax = 65536;

CLI::App* AddGroup(CLI::App& app, const char* name, const char* what, const char* footer) {
  CLI::App* group = app.add_subcommand(name, what);
  group->set_help_flag("-h,--help", "Print this and exit");
  group->footer(footer);
  group->fallthrough();
  group->require_subcommand(0, 1);
  return group;
}

void AddNode(CLI::App& command, std::string* id) {
  command.add_option("ID", *id, "The node, as `kvasir node ls` names it")->type_name(" ")->required();
}

void AddDrain(CLI::App& node, NodeDrainFlags* flags, Invocation* invocation) {
  CLI::App* drain = AddCommand(
      node, "drain", "Let others take over what a node holds, so that it can be stopped",
      "Examples:\n  kvasir node drain b\n      says what it means and asks; then shows how far it is\n"
      "  kvasir node drain b --yes --wait 30m\n      for scripts: 0 = drained, 1 = not in this time, with what is "
      "left\n"
      "  kvasir node drain b --yes --no-wait\n      begins only; kvasir node describe b tells the progress\n\n"
      "A drain that was begun goes on when this command ends. kvasir node uncordon b gives it up.",
      flags, invocation);
  AddNode(*drain, &flags->id);
  CLI::Option* wait = AddDuration(*drain, "--wait", &flags->wait, "The longest this command waits for the end")->default_str("10m");
  drain->add_flag("--no-wait", flags->no_wait, "Begin, and do not wait")->excludes(wait);
  drain->add_flag("-y,--yes", flags->yes, "Do not ask");
}

}  // namespace

void AddClusterCommands(CLI::App& app, ClusterFlags* flags, Invocation* invocation) {
  CLI::App* node = AddGroup(
      app, "node", "List, describe, drain, cordon and uncordon nodes",
      "Examples:\n  kvasir node ls\n  kvasir node describe b\n  kvasir node drain b\n  kvasir help node drain");
  AddCommand(*node, "ls", "Members of the cluster, one line a node",
             "Example:\n  kvasir --node 10.0.0.1:7070 node ls\n      one node knows the others; a silent one is shown "
             "with its cause, exit status 4",
             &flags->node_list, invocation);
  CLI::App* describe =
      AddCommand(*node, "describe", "Everything about one node: tiers, moves, features, peers, counters worth a look",
                 "Example:\n  kvasir node describe b\n      of a dead node: what the membership and its peers say",
                 &flags->node_describe, invocation);
  AddNode(*describe, &flags->node_describe.id);
  AddDrain(*node, &flags->node_drain, invocation);
  CLI::App* cordon = AddCommand(*node, "cordon", "Keep new blocks away from a node; it serves those it has",
                                "Example:\n  kvasir node cordon b", &flags->node_cordon, invocation);
  AddNode(*cordon, &flags->node_cordon.id);
  flags->node_uncordon.cordon = false;
  CLI::App* uncordon = AddCommand(*node, "uncordon", "Let a node take new blocks again; ends a drain too",
                                  "Example:\n  kvasir node uncordon b", &flags->node_uncordon, invocation);
  AddNode(*uncordon, &flags->node_uncordon.id);

  CLI::App* locate = AddCommand(
      app, "locate", "Where a block should lie by the placement, and where it does",
      "Example:\n  kvasir locate 3f0912ab\n      as `kvasir ls` shows the key; a unique beginning is enough\n\n"
      "RANK is a node's place among all that may take new blocks: copies go to the first ones. BEFORE is the same\n"
      "without nodes that are still joining: while blocks move, readers ask both.",
      &flags->locate, invocation);
  locate->add_option("KEY", flags->locate.key, "The key, or a beginning of it, in hexadecimal")
      ->type_name(" ")
      ->required();
  AddCount(*locate, "--replicas", &flags->locate.replicas, 1, kReplicasMax, "Copies that its writers asked for");
}

void AddSimCommand(CLI::App& app, ClusterFlags* flags, Invocation* invocation) {
  CLI::App* sim = AddGroup(app, "sim", "Compute what a cluster would be like, from the code that places blocks",
                           "Example:\n  kvasir sim cluster --nodes 1000");
  SimFlags& f = flags->sim;
  SimOptions& o = f.options;
  CLI::App* cluster =
      AddCommand(*sim, "cluster", "Balance, moves, fan-out, connections, etcd and probes of a cluster on paper",
                 "Examples:\n  kvasir sim cluster --nodes 1000\n  kvasir sim cluster --nodes 100 --zones 3 --weights "
                 "100,200 --svg plots\n"
                 "  kvasir sim cluster --nodes 5 --runs 10000 --zones 0 -o json\n\n"
                 "Needs no running node. Everything but the time of placement depends on the flags alone. "
                 "deploy/SCALE.md reads the\n"
                 "numbers.",
                 &f, invocation);
  AddCount(*cluster, "--nodes", &o.nodes, 2, kSimNodesMax, "Nodes of the cluster");
  AddCount(*cluster, "--clients", &o.clients, 1, kSimClientsMax, "Sessions: one for each rank of an engine");
  AddCount(*cluster, "--runs", &o.runs, 1, kSimRunsMax, "Runs that are stored: more show the balance of fuller nodes");
  AddCount(*cluster, "--replicas", &o.replicas, 1, kReplicasMax, "Copies of each");
  AddCount(*cluster, "--zones", &o.zones, 0, kSimNodesMax,
           "Failure domains, nodes in them in turn. 0: each node is one of its own");
  AddText(*cluster, "--weights", "LIST", &f.weights,
          "Capacities, nodes have them in turn: 100,200 makes every second one twice as large");
  AddCount(*cluster, "--shards", &o.shards, 1, kShardsPerNodeMax, "Shards of each node");
  AddCount(*cluster, "--run-blocks", &o.run_blocks, 1, kRunBlocksOfSimMax, "Blocks of a run");
  AddCount(*cluster, "--block-tokens", &o.block_tokens, 1, kPromptTokensMax, "Tokens of a block");
  AddCount(*cluster, "--prompt-tokens", &o.prompt_tokens, 1, kPromptTokensMax,
           "The longest prompt; its fan-out is counted");
  AddSize(*cluster, "--block-bytes", &o.block_bytes,
          "Stored bytes of a block, all layers and heads. Default: 256 tokens of a model of 8 billion, bf16");
  AddCount(*cluster, "--seed", &o.seed, 0, UINT64_MAX, "The same seed, the same runs");
  AddText(*cluster, "--svg", "DIR", &f.svg, "Write plots there: balance.svg, moves.svg");
}

}  // namespace kvasir
