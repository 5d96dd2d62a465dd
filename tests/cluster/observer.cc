// SPDX-License-Identifier: Apache-2.0
#include "tests/cluster/observer.h"

#include <future>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/wire/grpc_stub.h"

namespace kvasir::cluster {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kListPage = 10'000;
constexpr size_t kShortExamplesMax = 16;

/// An answer that may come after its asker has stopped waiting for it.
template <class T>
class Coming {
 public:
  Answer<T> Take() {
    return [shared = shared_](absl::StatusOr<T> answer) { shared->set_value(std::move(answer)); };
  }
  absl::StatusOr<T> Wait(Instant until) {
    std::future<absl::StatusOr<T>> future = shared_->get_future();
    if (future.wait_until(until) != std::future_status::ready) return absl::DeadlineExceededError("no answer in time");
    return future.get();
  }

 private:
  std::shared_ptr<std::promise<absl::StatusOr<T>>> shared_ = std::make_shared<std::promise<absl::StatusOr<T>>>();
};

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

Json ToJson(const MoveStatus& move) {
  return {{"runs_done", move.runs_done},     {"runs_total", move.runs_total}, {"bytes_done", move.bytes_done},
          {"bytes_total", move.bytes_total}, {"epoch", move.epoch},           {"settled", move.settled}};
}

Json ToJson(const NodeStatus& s) {
  Json out = {{"reachable", true},
              {"id", s.node_id},
              {"version", s.version},
              {"state", s.state},
              {"uptime_s", Seconds(s.uptime)},
              {"epoch", s.epoch},
              {"membership_epoch", s.membership.epoch},
              {"membership_source", s.membership_source},
              {"sessions", s.sessions},
              {"leases", s.leases},
              {"blocks", s.blocks},
              {"parts", s.parts},
              {"taking_over", ToJson(s.taking_over)},
              {"handing_over", ToJson(s.handing_over)},
              {"members", Json::object()},
              {"peers", Json::object()},
              {"tiers", Json::object()},
              {"counters", Json::object()}};
  for (const Member& member : s.membership.members) out["members"][member.id] = Name(member.state);
  for (const PeerStatus& peer : s.peers) out["peers"][peer.id] = peer.state;
  for (const TierStatus& tier : s.tiers) {
    out["tiers"][tier.name] = {{"state", tier.state}, {"capacity", tier.capacity}, {"used", tier.used}};
  }
  for (const auto& [name, value] : s.counters) out["counters"][name] = value;
  return out;
}

/// All pages of one node's list.
absl::StatusOr<std::vector<BlockInfo>> ListAll(const std::string& address, Instant until) {
  const std::shared_ptr<AdminApi> admin = MakeGrpcAdmin(address);
  std::vector<BlockInfo> blocks;
  std::string after;
  do {
    Coming<ListReply> coming;
    admin->List({.key_prefix = "", .after = after, .limit = kListPage}, coming.Take());
    absl::StatusOr<ListReply> page = coming.Wait(until);
    if (!page.ok()) return page.status();
    blocks.insert(blocks.end(), page->blocks.begin(), page->blocks.end());
    after = page->next;
  } while (!after.empty());
  return blocks;
}

/// Node ids that hold each (key, spec) wholly. The id is asked for, since an address is not a name.
using Holders = std::map<std::pair<BlockKey, std::string>, std::set<std::string>>;
absl::Status AddHolders(const std::string& address, Instant until, Holders& holders, std::string* id) {
  const std::shared_ptr<AdminApi> admin = MakeGrpcAdmin(address);
  Coming<NodeStatus> coming;
  admin->Status(coming.Take());
  const absl::StatusOr<NodeStatus> status = coming.Wait(until);
  if (!status.ok()) return status.status();
  *id = status->node_id;
  const absl::StatusOr<std::vector<BlockInfo>> blocks = ListAll(address, until);
  if (!blocks.ok()) return blocks.status();
  for (const BlockInfo& block : *blocks) {
    if (block.parts == block.parts_of) holders[{block.key, block.spec}].insert(*id);
  }
  return absl::OkStatus();
}

}  // namespace

Json StatusOf(const std::vector<std::string>& addresses, Duration patience) {
  const Instant until = std::chrono::steady_clock::now() + patience;
  std::vector<std::pair<std::shared_ptr<AdminApi>, Coming<NodeStatus>>> asked;
  for (const std::string& address : addresses) {
    asked.emplace_back(MakeGrpcAdmin(address), Coming<NodeStatus>());
    asked.back().first->Status(asked.back().second.Take());
  }
  Json nodes = Json::object();
  for (size_t i = 0; i < addresses.size(); ++i) {
    const absl::StatusOr<NodeStatus> status = asked[i].second.Wait(until);
    if (status.ok()) {
      nodes[addresses[i]] = ToJson(*status);
    } else {
      nodes[addresses[i]] = {{"reachable", false}, {"cause", status.status().ToString()}};
    }
  }
  return nodes;
}

Json CopiesOf(const PromptShape& shape, const std::map<uint32_t, std::map<uint32_t, Level>>& acked, uint32_t run_blocks,
              uint32_t wanted, const std::vector<std::string>& addresses, Duration patience) {
  const Instant until = std::chrono::steady_clock::now() + patience;
  Holders holders;
  Json out = {{"copies", Json::object()},
              {"nodes", Json::object()},
              {"run_copies", Json::object()},
              {"short", Json::array()},
              {"unreachable", Json::array()}};
  for (const std::string& address : addresses) {
    std::string id;
    const absl::Status status = AddHolders(address, until, holders, &id);
    if (!status.ok()) out["unreachable"].push_back(absl::StrCat(address, ": ", status.ToString()));
    if (status.ok()) out["nodes"][id] = out["run_copies"][id] = 0;
  }
  std::map<uint64_t, uint64_t> copies;
  std::map<std::string, uint64_t> by_node;
  std::map<std::string, std::set<BlockKey>> runs;
  std::set<BlockKey> all_runs;
  std::set<std::pair<BlockKey, std::string>> seen;  // prompts of a group share blocks
  for (const auto& [number, blocks] : acked) {
    const Prompt prompt = MakePrompt(shape, number);
    for (const auto& [block, level] : blocks) {
      if (!seen.insert({prompt.chain[block], prompt.view.spec}).second) continue;
      const std::set<std::string>& at = holders[{prompt.chain[block], prompt.view.spec}];
      const BlockKey run = prompt.chain.RunKey(block, run_blocks);
      ++copies[at.size()];
      all_runs.insert(run);
      for (const std::string& id : at) {
        ++by_node[id];
        runs[id].insert(run);
      }
      if (at.size() >= wanted || out["short"].size() == kShortExamplesMax) continue;
      std::string where = absl::StrCat("prompt ", number, " block ", block, ":");
      for (const std::string& id : at) absl::StrAppend(&where, " ", id);
      out["short"].push_back(at.empty() ? where + " nowhere" : where);
    }
  }
  for (const auto& [count, blocks] : copies) out["copies"][absl::StrCat(count)] = blocks;
  for (const auto& [id, blocks] : by_node) out["nodes"][id] = blocks;
  for (const auto& [id, keys] : runs) out["run_copies"][id] = keys.size();
  out["blocks"] = seen.size();
  out["runs"] = all_runs.size();
  return out;
}

Json HelloTo(const PromptShape& shape, const std::string& address, Duration patience) {
  const std::shared_ptr<StoreApi> store = MakeGrpcStore(address);
  Coming<HelloReply> coming;
  HelloRequest hello;
  hello.client = "cluster observer";
  hello.tenant = "cluster load";
  hello.domain = DomainOf(shape).Id();
  hello.ns = NamespaceOf(shape);
  store->Hello(std::move(hello), patience, coming.Take());
  const absl::StatusOr<HelloReply> reply = coming.Wait(std::chrono::steady_clock::now() + patience);
  if (!reply.ok()) return {{"cause", reply.status().ToString()}, {"wire_here", kWireVersion}};
  return {{"wire", reply->wire},
          {"version", reply->server_version},
          {"node_id", reply->node_id},
          {"wire_here", kWireVersion}};
}

}  // namespace kvasir::cluster
