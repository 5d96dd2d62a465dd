// SPDX-License-Identifier: Apache-2.0
// Placing many runs before and after a change, and counting.
#include "deploy/kvasir/sim_cluster.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <set>
#include <thread>
#include <utility>

#include "transport/check.h"

namespace kvasir {
namespace {

constexpr uint64_t kReadersSampled = 10'000;  ///< runs whose readers are looked at: a mean needs no more
constexpr uint32_t kPromptsSampled = 200;
constexpr uint32_t kClientsSampled = 8;
constexpr std::array<uint32_t, 3> kPromptsMet = {1, 10, 100};
constexpr int kPlacesMeasured = 200;
constexpr int kMeasurements = 5;  ///< the quickest counts: the others met somebody else's work

uint64_t Mix(uint64_t x) {  // SplitMix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// Calls work(thread, begin, end) on slices of [0, count).
void Slices(uint32_t threads, uint64_t count, const std::function<void(uint32_t, uint64_t, uint64_t)>& work) {
  std::vector<std::thread> running;
  for (uint32_t t = 1; t < threads; ++t) {
    running.emplace_back([&work, t, threads, count] { work(t, count * t / threads, count * (t + 1) / threads); });
  }
  work(0, 0, count / threads);
  for (std::thread& thread : running) thread.join();
}

/// Loads by (node, shard).
struct Loads {
  explicit Loads(size_t bins) : copies(bins), blocks(bins) {}
  std::vector<uint64_t> copies, blocks;
};

Evenness EvennessOf(const std::vector<double>& loads, const std::vector<double>& shares, bool chance) {
  double total = 0;
  for (const double load : loads) total += load;
  Evenness out{
      .mean = total / static_cast<double>(loads.size()), .max_over_mean = 0, .min_over_mean = 1e300, .by_chance = 0};
  std::vector<double> means;
  for (size_t i = 0; i < loads.size(); ++i) {
    means.push_back(total * shares[i]);
    const double over = means[i] == 0 ? 0 : loads[i] / means[i];
    out.max_over_mean = std::max(out.max_over_mean, over);
    out.min_over_mean = std::min(out.min_over_mean, over);
  }
  if (chance) out.by_chance = ExpectedMaxOverMean(means);
  return out;
}

Balance BalanceOf(const SimOptions& options, const Membership& members, const Loads& loads) {
  double weights = 0;
  for (const Member& member : members.members) weights += member.weight;
  const size_t nodes = members.members.size();
  std::vector<double> node_share(nodes), shard_share(nodes * options.shards);
  std::vector<double> node_copies(nodes), node_bytes(nodes), shard_copies(shard_share.size()),
      shard_bytes(shard_share.size());
  for (size_t bin = 0; bin < shard_share.size(); ++bin) {
    const size_t node = bin / options.shards;
    const auto bytes = static_cast<double>(loads.blocks[bin]) * static_cast<double>(options.block_bytes);
    node_share[node] = members.members[node].weight / weights;
    shard_share[bin] = node_share[node] / options.shards;
    shard_copies[bin] = static_cast<double>(loads.copies[bin]);
    shard_bytes[bin] = bytes;
    node_copies[node] += shard_copies[bin];
    node_bytes[node] += bytes;
  }
  return {.node_copies = EvennessOf(node_copies, node_share, true),
          .node_bytes = EvennessOf(node_bytes, node_share, false),
          .shard_copies = EvennessOf(shard_copies, shard_share, true),
          .shard_bytes = EvennessOf(shard_bytes, shard_share, false)};
}

/// A change of the membership: what it is after, and which node (by id) it is about.
struct Change {
  Membership after;
  std::string about;
  bool arrives = false;  ///< it joins; else it goes
  Moves moves;
};

/// Whether the copies of `run` hold by id; lists are as short as there are replicas.
bool Holds(const std::vector<const std::string*>& ids, const std::string& id) {
  return std::any_of(ids.begin(), ids.end(), [&id](const std::string* held) { return *held == id; });
}

std::vector<const std::string*> IdsOf(const std::vector<Placed>& places, const Membership& members) {
  std::vector<const std::string*> ids;
  for (const Placed& placed : places) ids.push_back(&members.members[placed.member].id);
  return ids;
}

/// Adds what `change` moves of one run.
void Count(const BlockKey& run, const std::vector<const std::string*>& before, const Change& change, uint32_t replicas,
           uint64_t bytes, Moves* moves) {
  const auto after = IdsOf(Place(run, change.after, replicas), change.after);
  const bool held = Holds(before, change.about);
  for (const std::string* id : after) {
    if (Holds(before, *id)) continue;
    ++moves->moved;
    moves->bytes += bytes;
    if (change.arrives ? *id != change.about : !held) ++moves->others;
  }
}

void Add(const Moves& more, Moves* sum) {
  sum->copies += more.copies;
  sum->moved += more.moved;
  sum->bytes += more.bytes;
  sum->others += more.others;
  sum->readers_ask += more.readers_ask;
  sum->readers_ask_max = std::max(sum->readers_ask_max, more.readers_ask_max);
}

std::array<Change, 3> ChangesOf(const SimOptions& options, const Membership& members) {
  const auto nodes = static_cast<uint32_t>(members.members.size());
  double weights = 0;
  for (const Member& member : members.members) weights += member.weight;
  Change join{.after = SimMembers(options, nodes + 1), .about = "", .arrives = true, .moves = {}};
  Member& joiner = join.after.members.back();
  joiner.state = MemberState::kJoining;
  join.about = joiner.id;
  join.moves.ideal = joiner.weight / (weights + joiner.weight);

  const size_t goes = Mix(options.seed ^ 0x676F6573) % nodes;
  Change leave{.after = members, .about = members.members[goes].id, .arrives = false, .moves = {}};
  leave.moves.ideal = members.members[goes].weight / weights;
  Change drain = leave;
  leave.after.members.erase(leave.after.members.begin() + static_cast<std::ptrdiff_t>(goes));
  drain.after.members[goes].state = MemberState::kDraining;
  return {std::move(join), std::move(leave), std::move(drain)};
}

}  // namespace

BlockKey SimRunKey(uint64_t seed, uint64_t run) {
  BlockKey key;
  std::array<uint64_t, 4> words{};
  uint64_t state = Mix(seed) ^ Mix(~run);
  for (uint64_t& word : words) word = state = Mix(state);
  std::memcpy(key.bytes.data(), words.data(), sizeof words);
  return key;
}

Membership SimMembers(const SimOptions& options, uint32_t count) {
  KVASIR_CHECK(count <= Membership::kMembersMax, "no membership is larger");
  Membership members{.epoch = 1, .members = {}};
  for (uint32_t i = 0; i < count; ++i) {
    std::array<char, 16> id{};
    std::snprintf(id.data(), id.size(), "kvasir-%04u", i);
    const std::string zone = options.zones == 0 ? "" : "zone-" + std::to_string(i % options.zones);
    members.members.push_back({.id = id.data(),
                               .control = std::string(id.data()) + ".kvasir-nodes.kvasir.svc:7070",
                               .shards = options.shards,
                               .weight = options.weights[i % options.weights.size()],
                               .zone = zone,
                               .state = MemberState::kServing,
                               .epoch = 1});
  }
  return members;
}

std::vector<uint32_t> SimRunBlocks(const SimOptions& options, uint64_t runs) {
  std::vector<uint32_t> blocks;
  blocks.reserve(runs);
  const double octaves = std::log2(options.PromptBlocks() + 1.0);
  for (uint64_t prompt = 0; blocks.size() < runs; ++prompt) {
    const double draw = static_cast<double>(Mix(options.seed * 31 + prompt) >> 11) * 0x1p-53;
    auto left = static_cast<uint32_t>(std::exp2(draw * octaves));  // 1 to PromptBlocks()
    for (; left > 0 && blocks.size() < runs; left -= std::min(left, options.run_blocks)) {
      blocks.push_back(std::min(left, options.run_blocks));
    }
  }
  return blocks;
}

SimPoint SimulateNodes(const SimOptions& options, uint32_t nodes, uint64_t runs) {
  KVASIR_CHECK(nodes > 1 && options.shards > 0 && options.threads > 0, "somebody must stay when one leaves");
  const Membership members = SimMembers(options, nodes);
  const std::vector<uint32_t> run_blocks = SimRunBlocks(options, runs);
  std::array<Change, 3> changes = ChangesOf(options, members);
  std::vector<Loads> loads(options.threads, Loads(size_t{nodes} * options.shards));
  std::vector<std::array<Moves, 3>> moves(options.threads);
  const uint64_t sampled = std::min(runs, kReadersSampled);
  Slices(options.threads, runs, [&](uint32_t thread, uint64_t begin, uint64_t end) {
    for (uint64_t run = begin; run < end; ++run) {
      const BlockKey key = SimRunKey(options.seed, run);
      const std::vector<Placed> places = Place(key, members, options.replicas);
      const auto before = IdsOf(places, members);
      for (const Placed& placed : places) {
        const size_t bin = size_t{placed.member} * options.shards + placed.shard;
        ++loads[thread].copies[bin];
        loads[thread].blocks[bin] += run_blocks[run];
      }
      for (size_t c = 0; c < changes.size(); ++c) {
        Moves& sum = moves[thread][c];
        sum.copies += places.size();
        Count(key, before, changes[c], options.replicas, run_blocks[run] * options.block_bytes, &sum);
        if (run >= sampled) continue;
        const auto asked = static_cast<uint32_t>(PlaceForReading(key, changes[c].after, options.replicas).size());
        sum.readers_ask += asked;
        sum.readers_ask_max = std::max(sum.readers_ask_max, asked);
      }
    }
  });
  for (uint32_t thread = 0; thread < options.threads; ++thread) {
    for (size_t c = 0; c < changes.size(); ++c) Add(moves[thread][c], &changes[c].moves);
    for (size_t bin = 0; thread > 0 && bin < loads[0].copies.size(); ++bin) {
      loads[0].copies[bin] += loads[thread].copies[bin];
      loads[0].blocks[bin] += loads[thread].blocks[bin];
    }
  }
  for (Change& change : changes) change.moves.readers_ask /= static_cast<double>(std::max<uint64_t>(sampled, 1));
  return {nodes, BalanceOf(options, members, loads[0]), {changes[0].moves, changes[1].moves, changes[2].moves}};
}

FanOut SimulateFanOut(const SimOptions& options) {
  const Membership members = SimMembers(options, options.nodes);
  FanOut out;
  for (uint32_t prompt = 0; prompt < kPromptsSampled; ++prompt) {
    std::set<uint32_t> nodes;
    std::vector<std::set<std::pair<uint32_t, uint32_t>>> rounds;
    for (uint32_t run = 0; run < options.PromptRuns(); ++run) {
      const BlockKey key = SimRunKey(options.seed + 1, uint64_t{prompt} * options.PromptRuns() + run);
      const std::vector<Placed> asked = PlaceForReading(key, members, options.replicas);
      rounds.resize(std::max(rounds.size(), asked.size()));
      for (size_t i = 0; i < asked.size(); ++i) rounds[i].insert({asked[i].member, asked[i].shard});
      nodes.insert(asked[0].member);
    }
    out.nodes += static_cast<double>(nodes.size()) / kPromptsSampled;
    out.nodes_max = std::max(out.nodes_max, static_cast<uint32_t>(nodes.size()));
    out.calls += static_cast<double>(rounds[0].size()) / kPromptsSampled;
    out.calls_max = std::max(out.calls_max, static_cast<uint32_t>(rounds[0].size()));
    for (const auto& round : rounds) out.cold_calls += static_cast<double>(round.size()) / kPromptsSampled;
    out.rounds = std::max(out.rounds, static_cast<uint32_t>(rounds.size()));
  }
  return out;
}

std::vector<Met> SimulateClient(const SimOptions& options) {
  const Membership members = SimMembers(options, options.nodes);
  std::vector<Met> out;
  for (const uint32_t prompts : kPromptsMet) out.push_back({prompts, 0, 0});
  for (uint32_t client = 0; client < kClientsSampled; ++client) {
    std::set<uint32_t> nodes;
    std::set<std::pair<uint32_t, uint32_t>> shards;
    uint64_t run = 0;
    for (Met& met : out) {
      for (; run < uint64_t{met.prompts} * options.PromptRuns(); ++run) {
        const Placed first = Place(SimRunKey(options.seed + 2 + client, run), members, 1)[0];
        nodes.insert(first.member);
        shards.insert({first.member, first.shard});
      }
      met.nodes += static_cast<double>(nodes.size()) / kClientsSampled;
      met.shards += static_cast<double>(shards.size()) / kClientsSampled;
    }
  }
  return out;
}

double ExpectedMaxOverMean(const std::vector<double>& means) {
  constexpr int kSteps = 2000;
  std::vector<std::pair<double, double>> counted;  // mean, how many loads have it
  double smallest = 1e300;
  for (const double mean : means) {
    if (mean <= 0) continue;
    smallest = std::min(smallest, mean);
    const auto same = std::find_if(counted.begin(), counted.end(), [mean](const auto& c) { return c.first == mean; });
    if (same != counted.end()) {
      ++same->second;
    } else {
      counted.emplace_back(mean, 1);
    }
  }
  if (counted.empty()) return 0;
  // E[max] = integral of P(max > t): 1 minus the product of the distribution functions at t times each mean.
  const double end = 1 + (8 * std::sqrt(smallest) + 16) / smallest;
  std::vector<double> term, sum;  // of each mean: the Poisson term and distribution function reached so far
  std::vector<double> reached(counted.size(), 0);
  for (const auto& [mean, count] : counted) term.push_back(-mean), sum.push_back(std::exp(-mean));
  double expected = 0;
  for (int step = 0; step < kSteps; ++step) {
    const double t = end * (step + 0.5) / kSteps;
    double log_below = 0;
    for (size_t i = 0; i < counted.size(); ++i) {
      for (; reached[i] + 1 <= t * counted[i].first; sum[i] += std::exp(term[i])) {
        reached[i] += 1;
        term[i] += std::log(counted[i].first / reached[i]);
      }
      log_below += counted[i].second * std::log(std::clamp(sum[i], 1e-300, 1.0));
    }
    expected += (1 - std::exp(log_below)) * end / kSteps;
  }
  return expected;
}

PlaceCost MeasurePlace(const SimOptions& options) {
  const Membership members = SimMembers(options, options.nodes);
  const auto measure = [&](const std::function<size_t(const BlockKey&)>& place) {
    double best = 1e300;
    size_t placed = 0;
    for (int round = 0; round < kMeasurements; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < kPlacesMeasured; ++i) placed += place(SimRunKey(options.seed, static_cast<uint64_t>(i)));
      const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
      best = std::min(best, took.count() / kPlacesMeasured);
    }
    KVASIR_CHECK(placed > 0, "every run has an owner");
    return best;
  };
  return {.replicas_ns = measure([&](const BlockKey& run) { return Place(run, members, options.replicas).size(); }),
          .readers_ns =
              measure([&](const BlockKey& run) { return PlaceForReading(run, members, options.replicas).size(); }),
          .all_ns = measure([&](const BlockKey& run) { return Place(run, members, options.nodes).size(); })};
}

}  // namespace kvasir
