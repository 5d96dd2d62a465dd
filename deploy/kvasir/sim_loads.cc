// SPDX-License-Identifier: Apache-2.0
// One function a group of figures.
#include "deploy/kvasir/sim_loads.h"

#include <algorithm>
#include <cmath>

#include "deploy/text.h"
#include "store/api/peer_api.h"
#include "store/link/node_link.h"
#include "store/node.h"

namespace kvasir {
namespace {

// Not in the code of the store's contract: how members and their health are kept up.
constexpr double kLeaseRenewalSeconds = 2;  ///< a node renews its etcd lease so often
constexpr double kProbeSeconds = 0.2;       ///< a node probes each of its peers so often
constexpr uint32_t kProbedPeersMax = 16;
constexpr double kEtcdEntryBytes = 400;     ///< estimate: key, JSON of the member, revisions, lease
constexpr double kCallOverheadBytes = 400;  ///< estimate: HTTP/2 frames and headers, TCP and IP, both ways
constexpr double kChangesPerRestart = 4;    ///< draining, gone, joining, serving
const uint32_t kRunsPerPage = InventoryRequest{}.limit;
constexpr size_t kInlineBytes = 15;  ///< a shorter std::string needs no memory of its own

/// Adds figures of one group.
struct Group {
  std::vector<Figure>& figures;
  std::string name;
  void Add(std::string key, std::string what, double value, FigureUnit unit, std::string how) const {
    figures.push_back({name, std::move(key), std::move(what), value, unit, std::move(how)});
  }
};

void AddFanOut(const LoadInputs& in, const Group& group) {
  const SimOptions& o = in.options;
  const std::string prompt = Cat("mean of prompts of ", o.PromptRuns(), " runs");
  group.Add("nodes_asked", "nodes asked for a prompt that is held", in.fan_out.nodes, FigureUnit::kCount, prompt);
  group.Add("nodes_asked_max", "the most for one prompt", in.fan_out.nodes_max, FigureUnit::kCount, "of those prompts");
  group.Add("acquire_calls", "Acquire calls for it", in.fan_out.calls, FigureUnit::kCount,
            "one a (node, shard), all at once");
  group.Add("acquire_calls_cold", "Acquire calls for a prompt nobody holds", in.fan_out.cold_calls, FigureUnit::kCount,
            Cat("every owner says so, in ", in.fan_out.rounds, " rounds"));
  group.Add("owners_per_run", "owners asked in turn for a run nobody holds", std::min(o.replicas + 1, o.nodes),
            FigureUnit::kCount, "copies and one more");
  group.Add("owners_per_run_joining", "the same while a node joins", in.joining_owners, FigureUnit::kCount,
            "those of now, then those of before; mean over runs");
}

void AddConnections(const LoadInputs& in, const Group& group) {
  const SimOptions& o = in.options;
  const double clients = static_cast<double>(o.clients), nodes = o.nodes, shards = nodes * o.shards;
  for (const Met& met : in.met) {
    group.Add(Cat("nodes_met_", met.prompts), Cat("nodes a client has met after ", Counted(met.prompts, "prompt")),
              met.nodes, FigureUnit::kCount, "distinct first owners; prompts that share nothing");
  }
  group.Add("client_connections", "connections of a client that met all", nodes + shards, FigureUnit::kCount,
            "a control connection a node, a data connection a shard");
  group.Add("node_connections", "connections of a node that all clients met", clients * (1 + o.shards),
            FigureUnit::kCount, "the same, from the other end");
  group.Add("node_sessions", "sessions on such a node", clients, FigureUnit::kCount, "one a client");
  group.Add("node_sessions_max", "sessions a node allows", NodeOptions{}.sessions_max, FigureUnit::kCount,
            "NodeOptions::sessions_max");
  const double renewal = std::chrono::duration<double>(NodeOptions{}.session_ttl).count() / 3;
  group.Add("node_renewals", "renewals such a node answers", clients / renewal, FigureUnit::kPerSecond,
            "an idle session is renewed at a third of its ttl");
  group.Add("client_renewals", "renewals a client that met all sends", nodes / renewal, FigureUnit::kPerSecond,
            "the same, from the other end");
  group.Add("node_renewal_bytes", "bytes of a node's renewals",
            clients / renewal * (static_cast<double>(in.wire.touch) + kCallOverheadBytes), FigureUnit::kBytesPerSecond,
            Cat(in.wire.touch, " B a call and about ", static_cast<int>(kCallOverheadBytes), " B around it"));
}

void AddMembership(const LoadInputs& in, const Group& group) {
  const SimOptions& o = in.options;
  const double clients = static_cast<double>(o.clients), nodes = o.nodes,
               bytes = static_cast<double>(in.wire.membership);
  group.Add("membership_bytes", "the membership in a message", bytes, FigureUnit::kBytes, "a real one, measured");
  group.Add("news_messages", "messages to clients a change", clients * nodes, FigureUnit::kCount,
            "each node tells each session; all met");
  group.Add("news_node_bytes", "bytes a node sends a change", clients * bytes, FigureUnit::kBytes,
            "the whole membership to each session");
  group.Add("news_client_bytes", "bytes a client receives a change", nodes * bytes, FigureUnit::kBytes,
            "the same from every node");
  group.Add("news_bytes", "bytes in all a change", clients * nodes * bytes, FigureUnit::kBytes, "messages x bytes");
  const uint64_t memory = MemoryOf(SimMembers(o, o.nodes));
  group.Add("membership_memory", "a membership in memory", static_cast<double>(memory), FigureUnit::kBytes,
            "structs and texts; a Session keeps two");
  group.Add("client_memory", "memory of a client that met all",
            static_cast<double>(2 * memory) + nodes * sizeof(NodeLink), FigureUnit::kBytes,
            Cat("and a link of ", sizeof(NodeLink), " B a node; gRPC's and the kernel's buffers not counted"));
}

void AddEtcd(const LoadInputs& in, const Group& group) {
  const double nodes = in.options.nodes;
  const double entry = kEtcdEntryBytes;
  group.Add("etcd_watchers", "watchers", nodes, FigureUnit::kCount, "nodes only; clients hear it from nodes");
  group.Add("etcd_events", "events a change", nodes, FigureUnit::kCount, "one a watcher");
  group.Add("etcd_event_bytes", "bytes of them", nodes * entry, FigureUnit::kBytes,
            Cat("about ", static_cast<int>(entry), " B each (estimate)"));
  group.Add("etcd_restart_events", "events of a rolling restart of all", nodes * nodes * kChangesPerRestart,
            FigureUnit::kCount, "a node's draining, gone, joining, serving");
  group.Add("etcd_lease_renewals", "lease renewals", nodes / kLeaseRenewalSeconds, FigureUnit::kPerSecond,
            "every 2 s a node");
  group.Add("etcd_read_bytes", "bytes when all read the list again", nodes * nodes * entry, FigureUnit::kBytes,
            "after etcd was away");
}

void AddProbes(const LoadInputs& in, const Group& group) {
  const double nodes = in.options.nodes, peers = std::min(kProbedPeersMax, in.options.nodes - 1);
  const double rate = peers / kProbeSeconds;
  group.Add("probe_peers", "peers a node probes", peers, FigureUnit::kCount, "every 200 ms");
  group.Add("probes_node", "probes a node sends, and answers", rate, FigureUnit::kPerSecond, "peers / interval");
  group.Add("probe_bytes_node", "bytes of a node's probes",
            2 * rate * (static_cast<double>(in.wire.probe) + kCallOverheadBytes), FigureUnit::kBytesPerSecond,
            "sent and answered");
  group.Add("probes", "probes in the cluster", nodes * rate, FigureUnit::kPerSecond,
            "grows with nodes, not with their square");
}

void AddInventory(const LoadInputs& in, const Group& group) {
  const SimOptions& o = in.options;
  const double nodes = o.nodes, replicas = std::min(o.replicas, o.nodes);
  const double askers = (nodes - 1) * o.shards;  // of one shard
  const double runs = static_cast<double>(o.runs) * replicas / (nodes * o.shards);
  const double pages = std::max(1.0, std::ceil(runs / kRunsPerPage));
  const double blocks = static_cast<double>(o.runs) * replicas / (nodes + 1) * o.run_blocks;
  const std::string calls =
      Cat("every shard asks every shard of the others, ", kRunsPerPage, " runs a page, and says when it is done");
  group.Add("inventory_calls", "Inventory calls a change, in all", nodes * o.shards * askers * (pages + 1),
            FigureUnit::kCount, calls);
  group.Add("inventory_calls_node", "of them answered by one node", o.shards * askers * (pages + 1), FigureUnit::kCount,
            "each node its part");
  group.Add("inventory_loop_ns", "time of a shard's Loop to answer its part", runs * askers * in.place.replicas_ns,
            FigureUnit::kNanoseconds, "its runs x those that ask x one Place; measured on this machine");
  group.Add("inventory_bytes_join", "bytes told to a node that joins, at most",
            blocks * replicas * static_cast<double>(in.wire.inventory_block), FigureUnit::kBytes,
            Cat("its share of the blocks, ", in.wire.inventory_block, " B each, told by all that hold one"));
}

void AddPlacement(const LoadInputs& in, const Group& group) {
  group.Add("place_ns", "owners of a run", in.place.replicas_ns, FigureUnit::kNanoseconds,
            "Place, measured on this machine, one thread");
  group.Add("place_readers_ns", "whom a reader asks for a run", in.place.readers_ns, FigureUnit::kNanoseconds,
            "PlaceForReading, nothing under way");
  group.Add("place_all_ns", "all members in order", in.place.all_ns, FigureUnit::kNanoseconds,
            "Place of as many copies as nodes");
  group.Add("place_prompt_ns", "placing a prompt to read it", in.place.readers_ns * in.options.PromptRuns(),
            FigureUnit::kNanoseconds, Counted(in.options.PromptRuns(), "run"));
  group.Add("place_push_ns", "placing a prompt to push it", in.place.all_ns * in.options.PromptBlocks(),
            FigureUnit::kNanoseconds,
            Cat("a client orders all members for each push; ", Counted(in.options.PromptBlocks(), "block"),
                ", each pushed whole"));
}

}  // namespace

uint64_t MemoryOf(const Membership& members) {
  uint64_t bytes = sizeof(Membership) + members.members.size() * sizeof(Member);
  for (const Member& member : members.members) {
    for (const std::string* text : {&member.id, &member.control, &member.zone}) {
      if (text->size() > kInlineBytes) bytes += text->size() + 1;
    }
  }
  return bytes;
}

std::vector<Figure> LoadFigures(const LoadInputs& inputs) {
  std::vector<Figure> figures;
  AddFanOut(inputs, {figures, Cat("A prompt of ", inputs.options.prompt_tokens, " tokens")});
  AddConnections(inputs, {figures, Cat(inputs.options.clients, " clients, their connections and sessions")});
  AddMembership(inputs, {figures, "The membership at clients"});
  AddEtcd(inputs, {figures, "etcd"});
  AddProbes(inputs, {figures, "Probes"});
  AddInventory(inputs, {figures, "What a node should hold"});
  AddPlacement(inputs, {figures, "Time of placement"});
  return figures;
}

}  // namespace kvasir
