// SPDX-License-Identifier: Apache-2.0
// One call that drains, many that look how far it is.
#include "deploy/kvasir/drain.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "deploy/kvasir/cluster_view.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

constexpr std::string_view kDrained = "drained";

uint64_t LiveOf(const NodeStatus& status, std::string_view name) {
  for (const TierStatus& tier : status.tiers) {
    if (tier.name == name) return tier.live;
  }
  return 0;
}

bool OnStaticList(const NodeStatus& status) { return status.membership_source.starts_with("static"); }

/// Begins when the node has said how much there is to hand over.
class Bar {
 public:
  explicit Bar(const Progress::Options& options) : options_(options) {}
  void Show(const NodeStatus& status) {
    const MoveStatus& move = status.handing_over;
    if (move.bytes_total == 0) return;
    if (!progress_.has_value()) {
      options_.done = move.bytes_done;
      progress_.emplace("drain " + status.node_id, move.bytes_total, Progress::Unit::kBytes, options_);
    }
    progress_->SetTotal(move.bytes_total);
    progress_->Set(move.bytes_done);
  }
  void End(std::string_view note) {
    if (progress_.has_value()) progress_->Finish(note);
  }

 private:
  Progress::Options options_;
  std::optional<Progress> progress_;
};

}  // namespace

std::string DrainPlan::Text() const {
  const std::string what = Cat(Counted(blocks, "block"), " in ", Counted(parts, "part"), " (", HumanBytes(dram_bytes),
                               " in DRAM, ", HumanBytes(ssd_bytes), " on SSD)");
  const std::string begin = Cat("Drain ", node, " at ", address, ": it takes no new blocks from now on");
  const std::string end = Cat("readers hold ", Counted(leases, "lease"), ".\n");
  if (alone) return Cat(begin, ". The member list is static: nobody takes over its ", what, "; ", end);
  std::string text = Cat(begin, ", and ", Counted(takers, "other node"), takers == 1 ? " takes over " : " take over ",
                         what, "; ", end);
  if (takers == 0) text += "No other node takes new blocks: nothing can be handed over.\n";
  if (takers > 0 && room < dram_bytes + ssd_bytes) {
    text += Cat("They have ", HumanBytes(room), " free: the coldest blocks, there or here, will be lost.\n");
  }
  return text;
}

DrainPlan PlanDrain(const AskedCluster& cluster, const AskedNode& node) {
  const NodeStatus& s = *node.status;
  DrainPlan plan{.node = node.id,
                 .address = node.address,
                 .blocks = s.blocks,
                 .parts = s.parts,
                 .leases = s.leases,
                 .dram_bytes = LiveOf(s, "dram"),
                 .ssd_bytes = LiveOf(s, "ssd"),
                 .takers = 0,
                 .room = 0,
                 .alone = OnStaticList(s)};
  for (const AskedNode& other : cluster.nodes) {
    if (other.id == node.id || !TakesBlocks(other)) continue;
    ++plan.takers;
    for (const TierStatus& tier : other.status->tiers) {
      if (tier.state.starts_with("ok")) plan.room += tier.capacity - std::min(tier.used, tier.capacity);
    }
  }
  return plan;
}

absl::StatusOr<NodeStatus> FollowDrain(AdminApi& admin, const DrainPatience& patience,
                                       const Progress::Options& progress) {
  Bar bar(progress);
  std::optional<NodeStatus> last;
  auto drained = Start<NodeStatus>([&](Answer<NodeStatus> answer) { admin.Drain(patience.wait, std::move(answer)); });
  const auto until = std::chrono::steady_clock::now() + patience.wait + 2 * patience.timeout;
  while (drained.wait_for(patience.pause) != std::future_status::ready && std::chrono::steady_clock::now() < until) {
    auto look =
        Await<NodeStatus>(patience.timeout, [&](Answer<NodeStatus> answer) { admin.Status(std::move(answer)); });
    if (!look.ok()) continue;  // busy, or gone: the drain's own answer tells
    last = *std::move(look);
    bar.Show(*last);
    if (last->state == kDrained) break;
  }
  if (!last.has_value() || last->state != kDrained) {
    auto answer = AwaitUntil(until, drained);
    if (!answer.ok()) {
      bar.End("no answer any more");
      return answer.status();
    }
    last = *std::move(answer);
    bar.Show(*last);
  }
  bar.End(last->state == kDrained ? "drained" : "not drained");
  return *std::move(last);
}

absl::Status JudgeDrain(const NodeStatus& last, Duration waited) {
  // On a static list nobody learns that it drains: whatever its state says, others have taken over nothing.
  const bool alone = OnStaticList(last);
  const bool empty = last.blocks == 0 && last.leases == 0;
  if (empty || (last.state == kDrained && !alone)) return absl::OkStatus();
  const MoveStatus& move = last.handing_over;
  const std::string& id = last.node_id;
  const std::string longer = Cat("Wait longer: kvasir node drain ", id, " --yes --wait 30m. ");
  const std::string give_up = Cat("Give up: kvasir node uncordon ", id);
  const std::string after = Cat("node ", id, " is not drained after ", HumanDuration(waited), ": ");
  if (!move.settled && !alone) {
    const uint64_t bytes = move.bytes_total - std::min(move.bytes_done, move.bytes_total);
    const std::string left = move.bytes_total == 0 ? "the others have not said yet what they take over"
                                                   : Cat(HumanBytes(bytes), " of ", HumanBytes(move.bytes_total),
                                                         " are not with others yet");
    return absl::DeadlineExceededError(
        Cat(after, left, ", readers hold ", Counted(last.leases, "lease"), ". It goes on by itself. ", longer,
            "If it stands still, the others lack room or do not reach it: kvasir status --cluster. ", give_up));
  }
  if (last.leases > 0) {
    return absl::DeadlineExceededError(Cat(after, "readers hold ", Counted(last.leases, "lease"),
                                           "; a lease ends when its reader is done or dead. ", longer, give_up));
  }
  return absl::UnavailableError(
      Cat("node ", id,
          " takes no new blocks and no reader holds anything, but nobody takes over what it holds (membership: ",
          last.membership_source.empty() ? "unknown" : last.membership_source, "): ", Counted(last.blocks, "block"),
          ", ", HumanBytes(LiveOf(last, "dram")), " in DRAM, ", HumanBytes(LiveOf(last, "ssd")),
          " on SSD. Stop it if other copies or its SSD are enough; else: kvasir node uncordon ", id));
}

}  // namespace kvasir
