// SPDX-License-Identifier: Apache-2.0
#include "deploy/kvasird/metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "deploy/kvasird/prometheus_text.h"

namespace kvasir {
namespace {

constexpr CounterMetric kCounters[] = {
    {"sessions_opened", "kvasir_sessions_opened_total", "", "", "", "", "Sessions of clients and nodes that said Hello."},
    {"sessions_expired", "kvasir_sessions_expired_total", "", "", "", "", "Sessions that ended because their client was silent."},
    {"hello_refused", "kvasir_hellos_refused_total", "", "", "", "", "Hellos refused: another wire version, another meaning of a name."},
    {"offers", "kvasir_offers_total", "", "", "", "", "Offers that reached a shard."},
    {"parts_offered", "kvasir_parts_offered_total", "", "", "", "", "Parts that writers offered."},
    {"parts_sealed", "kvasir_parts_sealed_total", "", "", "", "", "Parts that were pulled, checked and published."},
    {"parts_existed", "kvasir_parts_existed_total", "", "", "", "", "Parts offered that another had sealed already."},
    {"parts_refused_full", "kvasir_parts_refused_total", "reason", "full", "", "", "Parts refused."},
    {"pulls_failed", "kvasir_pulls_failed_total", "", "", "", "", "Pulls that did not end well."},
    {"pulled_bytes", "kvasir_pulled_bytes_total", "", "", "", "", "Bytes of parts that landed whole."},
    {"acquires", "kvasir_acquires_total", "", "", "", "", "Acquires that reached a shard."},
    {"blocks_hit", "kvasir_lookup_blocks_total", "result", "hit", "", "", "Blocks asked for: held (hit), held on the SSD alone (pending, also counted as hit), not held (miss)."},
    {"blocks_pending", "kvasir_lookup_blocks_total", "result", "pending"},
    {"blocks_missed", "kvasir_lookup_blocks_total", "result", "miss"},
    {"grants", "kvasir_grants_total", "", "", "", "", "Rights to read a part that were given."},
    {"leases_expired", "kvasir_lease_lost_total", "", "", "", "", "Leases that ended without a release."},
    {"parts_persisted", "kvasir_persists_total", "result", "ok", "", "", "Parts written to the SSD."},
    {"persist_failed", "kvasir_persists_total", "result", "failed"},
    {"parts_demoted", "kvasir_demotions_total", "", "", "", "", "Parts that left DRAM for the SSD."},
    {"parts_promoted", "kvasir_promotions_total", "result", "ok", "", "", "Parts read back from the SSD into DRAM."},
    {"promote_failed", "kvasir_promotions_total", "result", "failed"},
    {"parts_evicted", "kvasir_evictions_total", "tier", "dram", "reason", "saved", "Parts that left a tier: a copy is on the SSD (saved), none is (unsaved), the block was never whole (unfinished), its segment was needed (segment)."},
    {"parts_evicted_unsaved", "kvasir_evictions_total", "tier", "dram", "reason", "unsaved"},
    {"parts_unfinished_dropped", "kvasir_evictions_total", "tier", "dram", "reason", "unfinished"},
    {"parts_ssd_evicted", "kvasir_evictions_total", "tier", "ssd", "reason", "segment"},
    {"planes_evicted", "kvasir_planes_evicted_total", "", "", "", "", "Upper planes that left DRAM, counted as evictions or demotions too: precision given up before tokens."},
    {"parts_recovered", "kvasir_recovered_parts_total", "result", "ok", "", "", "Parts found on the SSD at start: taken in (ok), not what their entry says (dropped)."},
    {"parts_recovery_dropped", "kvasir_recovered_parts_total", "result", "dropped"},
    {"wrong_prevented_seal", "kvasir_checksum_failures_total", "at", "seal", "", "", "Parts whose bytes did not answer to their checks: as they landed (seal), as they were read (ssd), when a reader complained (dram)."},
    {"wrong_prevented_ssd", "kvasir_checksum_failures_total", "at", "ssd"},
    {"wrong_prevented_dram", "kvasir_checksum_failures_total", "at", "dram"},
    {"damage_reports", "kvasir_damage_reports_total", "", "", "", "", "Parts whose bytes failed at a reader: checked again here."},
    {"stale_epoch", "kvasir_stale_epochs_total", "", "", "", "", "Calls refused because they named another epoch of this node."},
    {"membership_changes", "kvasir_membership_changes_total", "", "", "", "", "Memberships taken over."},
    {"runs_hot", "kvasir_hot_runs_total", "", "", "", "", "Runs read so often that another node was to hold them too."},
    {"runs_suggested", "kvasir_suggested_runs_total", "", "", "", "", "Hot runs of others that this node took."},
    {"fills", "kvasir_fills_total", "result", "ok", "", "", "Runs that a reader missed here and that were asked of other owners, once for all readers: one had blocks (ok), or none (empty)."},
    {"fills_empty", "kvasir_fills_total", "result", "empty"},
    {"gathered_blocks", "kvasir_gathered_blocks_total", "result", "ok", "", "", "Blocks wanted from other nodes: taking over, repair, hot runs."},
    {"gather_failed_blocks", "kvasir_gathered_blocks_total", "result", "failed"},
    {"gathered_bytes", "kvasir_gathered_bytes_total", "", "", "", "", "Bytes of those that came."},
    {"inventories", "kvasir_inventories_total", "", "", "", "", "Pages of inventory asked of other nodes."},
    {"probes", "kvasir_peer_probes_total", "", "", "", "", "Probes of other nodes."},
    {"probes_silent", "kvasir_peer_probes_unanswered_total", "", "", "", "", "Probes that got no answer."},
};

using Counts = std::map<std::string, uint64_t, std::less<>>;

void WriteCounters(PrometheusText& out, Counts counts) {
  std::string_view family;
  for (const CounterMetric& row : kCounters) {
    if (row.metric != family) out.Family(row.metric, "counter", row.help);
    family = row.metric;
    PrometheusText::Labels labels;
    if (!row.label.empty()) labels.emplace_back(row.label, row.value);
    if (!row.second_label.empty()) labels.emplace_back(row.second_label, row.second_value);
    const auto found = counts.find(row.counter);
    out.Sample(labels, found == counts.end() ? uint64_t{0} : found->second);
    if (found != counts.end()) counts.erase(found);
  }
  for (const auto& [name, value] : counts) {
    out.Family(Cat("kvasir_", name, "_total"), "counter", "Not described yet.");
    out.Sample({}, value);
  }
}

void WriteCalls(PrometheusText& out, const Meters& meters) {
  const auto each_call = [](auto&& visit) {
    for (size_t i = 0; i < static_cast<size_t>(StoreCall::kCount); ++i) visit(static_cast<StoreCall>(i));
  };
  out.Family("kvasir_requests_total", "counter", "Calls answered: ok, refused (the caller's fault, or try later), failed.");
  each_call([&](StoreCall call) {
    for (size_t i = 0; i < static_cast<size_t>(CallOutcome::kCount); ++i) {
      const auto outcome = static_cast<CallOutcome>(i);
      out.Sample({{"op", Name(call)}, {"result", Name(outcome)}}, meters.call(call).outcomes[i].load(std::memory_order_relaxed));
    }
  });
  out.Family("kvasir_request_duration_seconds", "histogram", "From a call's arrival at the node to its answer.");
  each_call([&](StoreCall call) { out.Sample({{"op", Name(call)}}, meters.call(call).duration); });
  out.Family("kvasir_namespace_mismatch_total", "counter", "Hellos refused because this field differs under the same name.");
  for (size_t i = 0; i < Namespace::kComparedFields.size(); ++i) {
    out.Sample({{"field", std::string(Namespace::kComparedFields[i])}}, meters.mismatches(i));
  }
}

void WriteTransfers(PrometheusText& out, const Meters& meters, const NodeNumbers& numbers) {
  out.Family("kvasir_transfer_bytes_total", "counter", "Bytes moved; in: pulled by this node.");
  for (const Meters::PullMeter& pull : meters.pulls()) {
    out.Sample({{"transport", pull.transport}, {"dir", "in"}}, pull.bytes.load(std::memory_order_relaxed));
  }
  out.Family("kvasir_transfer_duration_seconds", "histogram", "Of one pull that ended well.");
  for (const Meters::PullMeter& pull : meters.pulls()) {
    out.Sample({{"transport", pull.transport}, {"dir", "in"}}, pull.duration);
  }
  out.Gauge("kvasir_transfer_inflight", "Pulls of this node under way.", numbers.pulls);
  out.Family("kvasir_io_errors_total", "counter", "Operations that a disk refused.");
  out.Sample({{"device", "ssd"}, {"op", "read"}}, numbers.ssd_read_errors);
  out.Sample({{"device", "ssd"}, {"op", "write"}}, numbers.ssd_write_errors);
}

/// Both tiers, always: a node without an SSD has one of no capacity.
void WriteTiers(PrometheusText& out, NodeNumbers numbers, const HealthReport& health) {
  if (numbers.tiers.size() < 2) numbers.tiers.push_back({"ssd", "off", 0, 0, 0, 0});
  const auto family = [&](const char* name, const char* help, auto&& value) {
    out.Family(name, "gauge", help);
    for (const TierStatus& tier : numbers.tiers) out.Sample({{"tier", tier.name}}, value(tier));
  };
  family("kvasir_tier_capacity_bytes", "Room of a tier.", [](const TierStatus& t) { return t.capacity; });
  family("kvasir_tier_used_bytes", "Allocated in a tier.", [](const TierStatus& t) { return t.used; });
  family("kvasir_tier_live_bytes", "Of sealed parts in a tier.", [](const TierStatus& t) { return t.live; });
  family("kvasir_tier_parts", "Parts in a tier.", [](const TierStatus& t) { return t.parts; });
  family("kvasir_tier_ok", "0 while something of the tier stalls.", [&](const TierStatus& t) { return health.Serves(t.name) ? 1 : 0; });
}

void WriteMoves(PrometheusText& out, const NodeNumbers& numbers) {
  const auto family = [&](const char* name, const char* help, uint64_t in, uint64_t handed) {
    out.Family(name, "gauge", help);
    out.Sample({{"dir", "in"}}, in);
    out.Sample({{"dir", "out"}}, handed);
  };
  family("kvasir_move_wanted_bytes", "Of the move under way: taken over from others (in), handed over to others (out).",
         numbers.taking_over.bytes_total, numbers.handing_over.bytes_total);
  family("kvasir_move_done_bytes", "Of those, moved.", numbers.taking_over.bytes_done, numbers.handing_over.bytes_done);
}

void WriteHealth(PrometheusText& out, const HealthReport& health) {
  out.Gauge("kvasir_ready", "As /readyz says.", health.ready ? 1 : 0);
  out.Gauge("kvasir_live", "As /livez says.", health.live ? 1 : 0);
  out.Family("kvasir_vital_ok", "gauge", "0 while this stalls.");
  for (const VitalReport& vital : health.vitals) out.Sample({{"vital", vital.name}}, vital.trouble.empty() ? 1 : 0);
  out.Family("kvasir_vital_stalls_total", "counter", "How often this stalled.");
  for (const VitalReport& vital : health.vitals) out.Sample({{"vital", vital.name}}, vital.stalls);
}

uint64_t OpenDescriptors() {
  uint64_t count = 0;
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  while (const dirent* entry = readdir(directory)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(directory);
  return count - 1;  // the directory's own
}

uint64_t ResidentBytes() {
  unsigned long long size = 0, resident = 0;
  std::FILE* const file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  const bool read = std::fscanf(file, "%llu %llu", &size, &resident) == 2;
  std::fclose(file);
  return read ? resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

void WriteProcess(PrometheusText& out, const ProcessFacts& process) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; };
  out.Family("process_cpu_seconds_total", "counter", "Time of the processors.");
  out.Sample({}, seconds(usage.ru_utime) + seconds(usage.ru_stime));
  out.Gauge("process_resident_memory_bytes", "Memory in use, slabs included.", ResidentBytes());
  out.Gauge("process_open_fds", "Open file descriptors.", OpenDescriptors());
  out.Gauge("process_max_fds", "The most that may be open.", static_cast<uint64_t>(files.rlim_cur));
  out.Gauge("process_start_time_seconds", "Since 1970.", std::chrono::duration<double>(process.started.time_since_epoch()).count());
  out.Gauge("kvasir_memory_limit_bytes", "The smallest limit that holds: of a control group, or the machine.", process.memory.bytes);
  out.Gauge("kvasir_memory_used_bytes", "In use of that limit, by all who share it.", ReadMemoryUsed(process.memory));
}

}  // namespace

std::span<const CounterMetric> CounterMetrics() { return kCounters; }

std::string MetricsPage(Node& node, const ProcessFacts& process) {
  const NodeNumbers numbers = node.Numbers();
  const HealthReport health = node.health().Report(std::chrono::steady_clock::now());
  const Membership membership = node.membership();
  PrometheusText out;
  out.Family("kvasir_build_info", "gauge", "Always 1.");
  out.Sample({{"version", KVASIR_VERSION}, {"wire", std::to_string(kWireVersion)}}, 1);
  WriteHealth(out, health);
  out.Gauge("kvasir_sessions", "Sessions open.", numbers.sessions);
  out.Gauge("kvasir_sessions_max", "The most that may be open.", node.options().sessions_max);
  out.Gauge("kvasir_leases", "Leases held by readers.", numbers.leases);
  out.Gauge("kvasir_blocks", "Blocks held.", numbers.blocks);
  out.Gauge("kvasir_parts", "Parts held, in DRAM or on the SSD.", numbers.parts);
  out.Gauge("kvasir_object_bytes", "Names and values of objects: kept inputs, scores of ranks, agreed views.", numbers.object_bytes);
  out.Gauge("kvasir_object_bytes_max", "The most that they may have: more is refused.", numbers.object_bytes_max);
  out.Gauge("kvasir_members", "Nodes of the cluster.", membership.members.size());
  out.Gauge("kvasir_membership_epoch", "Epoch of the membership in force here.", membership.epoch);
  WriteTiers(out, numbers, health);
  WriteMoves(out, numbers);
  WriteCalls(out, node.meters());
  WriteTransfers(out, node.meters(), numbers);
  Counts counts;
  for (const auto& [name, value] : node.Counters()) counts[name] = value;
  WriteCounters(out, std::move(counts));
  WriteProcess(out, process);
  return out.Take();
}

}  // namespace kvasir
