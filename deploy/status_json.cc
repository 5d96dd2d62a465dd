// SPDX-License-Identifier: Apache-2.0
#include "deploy/status_json.h"

#include "deploy/text.h"

namespace kvasir {

using Json = nlohmann::ordered_json;

namespace {

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

Json MoveJson(const MoveStatus& move) {
  return {{"settled", move.settled},       {"epoch", move.epoch},           {"runs_done", move.runs_done},
          {"runs_total", move.runs_total}, {"bytes_done", move.bytes_done}, {"bytes_total", move.bytes_total}};
}

}  // namespace

Json StatusJson(const NodeStatus& s) {
  Json out = {{"id", s.node_id},
              {"version", s.version},
              {"state", s.state},
              {"device", s.device},
              {"uptime_s", Seconds(s.uptime)},
              {"epoch", s.epoch},
              {"membership_source", s.membership_source},
              {"sessions", s.sessions},
              {"leases", s.leases},
              {"blocks", s.blocks},
              {"parts", s.parts},
              {"taking_over", MoveJson(s.taking_over)},
              {"handing_over", MoveJson(s.handing_over)},
              {"tiers", Json::array()},
              {"peers", Json::array()},
              {"features", Json::object()},
              {"counters", Json::object()}};
  for (const TierStatus& tier : s.tiers) {
    out["tiers"].push_back({{"name", tier.name},
                            {"state", tier.state},
                            {"capacity", tier.capacity},
                            {"used", tier.used},
                            {"live", tier.live},
                            {"parts", tier.parts}});
  }
  for (const PeerStatus& peer : s.peers) {
    out["peers"].push_back({{"id", peer.id}, {"state", peer.state}, {"since_s", Seconds(peer.since)}});
  }
  for (const auto& [name, state] : s.features) out["features"][name] = state;
  for (const auto& [name, value] : s.counters) out["counters"][name] = value;
  return out;
}

Json ErrorJson(const absl::Status& status) { return {{"error", std::string(TextOf(status.message()))}}; }

}  // namespace kvasir
