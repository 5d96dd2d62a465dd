// SPDX-License-Identifier: Apache-2.0
// kvasir sim cluster: tables, JSON and plots of what sim_cluster.h and sim_loads.h compute.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "deploy/kvasir/command.h"
#include "deploy/kvasir/sim_cluster.h"
#include "deploy/kvasir/sim_loads.h"
#include "deploy/kvasir/svg.h"
#include "deploy/kvasir/wire_sizes.h"
#include "deploy/members.h"
#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint32_t kThreadsMax = 16;
constexpr size_t kWeightsMax = 64;
constexpr uint64_t kMoveRunsMin = 10'000;    ///< fewer say little about a share
constexpr uint64_t kHashesPerStep = 10'000;  ///< of the progress
constexpr size_t kTextColumns = 140;
constexpr std::array<uint32_t, 10> kSizes = {3,   5,   10,  20,   50,
                                             100, 200, 500, 1000, 2000};  ///< of the clusters compared

std::string Decimal(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}
/// Two digits that say something: "0.10%", "16.7%".
std::string Percent(double share) {
  const double percent = share * 100;
  const int digits = percent <= 0 ? 1 : std::clamp(1 - static_cast<int>(std::floor(std::log10(percent))), 0, 6);
  return Decimal(percent, digits) + "%";
}
std::string Over(double value, double base) { return base == 0 ? "-" : Decimal(value / base, 2); }

struct Report {
  SimOptions options;
  std::vector<SimPoint> points;  ///< of smaller clusters with as much on each node; the last is the one asked for
  std::vector<Figure> figures;
  const SimPoint& asked() const { return points.back(); }
};

absl::StatusOr<SimOptions> Checked(const SimFlags& flags) {
  SimOptions options = flags.options;
  options.threads = std::clamp(std::thread::hardware_concurrency(), 1u, kThreadsMax);
  options.weights.clear();
  for (const std::string& word : Split(flags.weights, ',')) {
    if (uint32_t weight = 0; ParseNumber(word, &weight) && weight >= 1 && weight <= kWeightMax) {
      options.weights.push_back(weight);
      continue;
    }
    return absl::InvalidArgumentError(Cat("--weights: '", word, "' is not a weight: a whole number from 1 to ",
                                          kWeightMax, ", as in --weights 100,200"));
  }
  if (options.weights.empty() || options.weights.size() > kWeightsMax) {
    return absl::InvalidArgumentError(Cat("--weights: give 1 to ", kWeightsMax, " weights, as in --weights 100,200"));
  }
  return options;
}

Report Simulate(const SimOptions& options) {
  Report report{.options = options, .points = {}, .figures = {}};
  std::vector<uint32_t> sizes;
  for (const uint32_t size : kSizes) {
    if (size < options.nodes) sizes.push_back(size);
  }
  sizes.push_back(options.nodes);
  const auto runs_of = [&options](uint32_t size) { return std::max<uint64_t>(1, options.runs * size / options.nodes); };
  uint64_t total = 0;  // what placing a run costs grows with the nodes
  for (const uint32_t size : sizes) total += runs_of(size) * size;
  Progress progress("simulate", std::max<uint64_t>(1, total / kHashesPerStep), Progress::Unit::kCount);
  uint64_t done = 0;
  for (const uint32_t size : sizes) {
    // As much on each node as in the cluster asked for, so that only the number of nodes differs.
    const uint64_t runs = runs_of(size);
    report.points.push_back(SimulateNodes(options, size, runs));
    if (runs < kMoveRunsMin && size < options.nodes) {
      report.points.back().changes = SimulateNodes(options, size, kMoveRunsMin).changes;
    }
    progress.Set((done += runs * size) / kHashesPerStep);
  }
  report.figures = LoadFigures({.options = options,
                                .fan_out = SimulateFanOut(options),
                                .met = SimulateClient(options),
                                .wire = MeasureWire(SimMembers(options, options.nodes)),
                                .place = MeasurePlace(options),
                                .joining_owners = report.asked().changes.join.readers_ask});
  return report;
}

// ---- for people
// ------------------------------------------------------------------------------------------------------
std::string Shown(const Figure& figure) {
  switch (figure.unit) {
    case FigureUnit::kCount: {
      const bool whole = figure.value >= 1000 || figure.value == std::floor(figure.value);
      return whole ? HumanCount(figure.value) : Decimal(figure.value, figure.value < 10 ? 2 : 1);
    }
    case FigureUnit::kPerSecond:
      return HumanCount(figure.value) + "/s";
    case FigureUnit::kBytes:
      return HumanBytes(static_cast<uint64_t>(figure.value));
    case FigureUnit::kBytesPerSecond:
      return HumanRate(figure.value);
    case FigureUnit::kNanoseconds:
      return HumanDuration(std::chrono::nanoseconds(std::llround(figure.value)));
  }
  return "?";
}

void PrintBalance(const Balance& balance) {
  Table table({"BALANCE", "MEAN", "MAX/MEAN", "MIN/MEAN", "MAX/MEAN BY CHANCE"});
  const auto row = [&table](const char* what, const Evenness& e, bool bytes) {
    table.Row({what, bytes ? HumanBytes(static_cast<uint64_t>(e.mean)) : Decimal(e.mean, 1),
               Decimal(e.max_over_mean, 2), Decimal(e.min_over_mean, 2),
               e.by_chance == 0 ? "-" : Decimal(e.by_chance, 2)});
  };
  row("run copies of a node", balance.node_copies, false);
  row("bytes of a node", balance.node_bytes, true);
  row("run copies of a shard", balance.shard_copies, false);
  row("bytes of a shard", balance.shard_bytes, true);
  std::printf("%s\n", table.Text().c_str());
}

void PrintChanges(const Changes& changes) {
  Table table(
      {"CHANGE", "COPIES MOVED", "SHARE", "IDEAL", "SHARE/IDEAL", "BETWEEN OTHERS", "BYTES", "OWNERS A READER ASKS"});
  const auto row = [&table](const char* what, const Moves& m) {
    table.Row({what, Cat(m.moved), Percent(m.share()), Percent(m.ideal), Over(m.share(), m.ideal), Cat(m.others),
               HumanBytes(m.bytes), Cat(Decimal(m.readers_ask, 2), ", at most ", m.readers_ask_max)});
  };
  row("a node joins", changes.join);
  row("a node dies", changes.leave);
  row("a node drains", changes.drain);
  std::printf("%s\n", table.Text().c_str());
}

void PrintSizes(const std::vector<SimPoint>& points) {
  Table table(
      {"NODES", "MAX/MEAN COPIES", "BY CHANCE", "MAX/MEAN BYTES", "JOIN MOVES", "IDEAL", "DRAIN MOVES", "IDEAL"});
  for (const SimPoint& p : points) {
    const Moves &join = p.changes.join, &drain = p.changes.drain;
    table.Row({Cat(p.nodes), Decimal(p.balance.node_copies.max_over_mean, 2),
               Decimal(p.balance.node_copies.by_chance, 2), Decimal(p.balance.node_bytes.max_over_mean, 2),
               Percent(join.share()), Percent(join.ideal), Percent(drain.share()), Percent(drain.ideal)});
  }
  std::printf("%s\n", table.Text().c_str());
}

void PrintFigures(const std::vector<Figure>& figures) {
  Table table({"LOAD", "VALUE", "HOW"});
  std::string group;
  for (const Figure& figure : figures) {
    if (figure.group != group) table.Row({figure.group, "", ""});
    group = figure.group;
    table.Row({"  " + figure.what, Shown(figure), figure.how});
  }
  std::printf("%s", table.Text(kTextColumns).c_str());
}

void Print(const Report& report) {
  const SimOptions& o = report.options;
  std::vector<std::string> weights;
  for (const uint32_t weight : o.weights) weights.push_back(Cat(weight));
  std::printf(
      "%u nodes of %u shards in %s, weights %s; %llu runs of %u blocks of %u tokens, prompts of up to %u tokens, %u "
      "copies; seed %llu\n\n",
      o.nodes, o.shards, o.zones == 0 ? "no zones" : Cat(o.zones, " zones").c_str(), Join(weights, ",").c_str(),
      static_cast<unsigned long long>(o.runs), o.run_blocks, o.block_tokens, o.prompt_tokens, o.replicas,
      static_cast<unsigned long long>(o.seed));
  PrintBalance(report.asked().balance);
  PrintChanges(report.asked().changes);
  if (report.points.size() > 1) PrintSizes(report.points);
  PrintFigures(report.figures);
}

// ---- for programs
// ----------------------------------------------------------------------------------------------------
Json ToJson(const Evenness& e) {
  return {{"mean", e.mean},
          {"max_over_mean", e.max_over_mean},
          {"min_over_mean", e.min_over_mean},
          {"by_chance", e.by_chance}};
}
Json ToJson(const Moves& m) {
  return {{"copies", m.copies},
          {"moved", m.moved},
          {"share", m.share()},
          {"ideal", m.ideal},
          {"bytes", m.bytes},
          {"between_others", m.others},
          {"owners_a_reader_asks", m.readers_ask},
          {"owners_a_reader_asks_max", m.readers_ask_max}};
}
Json ToJson(const SimPoint& p) {
  return {{"nodes", p.nodes},
          {"balance",
           {{"node_copies", ToJson(p.balance.node_copies)},
            {"node_bytes", ToJson(p.balance.node_bytes)},
            {"shard_copies", ToJson(p.balance.shard_copies)},
            {"shard_bytes", ToJson(p.balance.shard_bytes)}}},
          {"changes",
           {{"join", ToJson(p.changes.join)}, {"leave", ToJson(p.changes.leave)}, {"drain", ToJson(p.changes.drain)}}}};
}
Json ToJson(const Report& report) {
  const SimOptions& o = report.options;
  Json out = {{"options",
               {{"nodes", o.nodes},
                {"clients", o.clients},
                {"runs", o.runs},
                {"replicas", o.replicas},
                {"zones", o.zones},
                {"weights", o.weights},
                {"shards", o.shards},
                {"run_blocks", o.run_blocks},
                {"block_tokens", o.block_tokens},
                {"prompt_tokens", o.prompt_tokens},
                {"block_bytes", o.block_bytes},
                {"seed", o.seed}}},
              {"points", Json::array()},
              {"load", Json::object()}};
  for (const SimPoint& point : report.points) out["points"].push_back(ToJson(point));
  for (const Figure& figure : report.figures) out["load"][figure.key] = figure.value;
  return out;
}

// ---- plots
// -----------------------------------------------------------------------------------------------------------
Series Line(const char* name, const std::vector<SimPoint>& points, double (*value)(const SimPoint&),
            bool reference = false) {
  Series series{.name = name, .points = {}, .reference = reference};
  for (const SimPoint& point : points) series.points.emplace_back(point.nodes, value(point));
  return series;
}

absl::Status WritePlots(const Report& report, const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error)
    return absl::InvalidArgumentError(
        Cat("--svg: cannot make ", directory, ": ", error.message(), ". Name another directory"));
  const std::vector<SimPoint>& points = report.points;
  const SimOptions& o = report.options;
  const std::string about = Cat(o.replicas, " copies, ", o.zones == 0 ? "no zones" : Cat(o.zones, " zones"), ", ",
                                o.shards, " shards a node, as much on each node in every cluster, seed ", o.seed);
  const Chart balance = {
      .title = "The fullest node and shard over the mean",
      .subtitle = about,
      .x_label = "nodes",
      .y_label = "load of the fullest / mean load",
      .log_x = true,
      .log_y = false,
      .y_from = 1,
      .series = {
          Line("run copies, node", points, [](const SimPoint& p) { return p.balance.node_copies.max_over_mean; }),
          Line("bytes, node", points, [](const SimPoint& p) { return p.balance.node_bytes.max_over_mean; }),
          Line("run copies, shard", points, [](const SimPoint& p) { return p.balance.shard_copies.max_over_mean; }),
          Line(
              "node, by chance", points, [](const SimPoint& p) { return p.balance.node_copies.by_chance; }, true),
          Line(
              "shard, by chance", points, [](const SimPoint& p) { return p.balance.shard_copies.by_chance; }, true)}};
  const Chart moves = {
      .title = "Run copies that move when one node changes",
      .subtitle = about,
      .x_label = "nodes before",
      .y_label = "% of all run copies",
      .log_x = true,
      .log_y = true,
      .y_from = 0,
      .series = {
          Line("a node joins", points, [](const SimPoint& p) { return 100 * std::max(p.changes.join.share(), 1e-6); }),
          Line("a node drains", points,
               [](const SimPoint& p) { return 100 * std::max(p.changes.drain.share(), 1e-6); }),
          Line(
              "its share by weight", points, [](const SimPoint& p) { return 100 * p.changes.join.ideal; }, true)}};
  for (const auto& [name, chart] : {std::pair{"balance.svg", &balance}, std::pair{"moves.svg", &moves}}) {
    const std::string path = Cat(directory, "/", name);
    if (absl::Status status = WriteFileAtOnce(path, DrawSvg(*chart)); !status.ok()) return status;
    std::fprintf(stderr, "kvasir: wrote %s\n", path.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunSimCluster(const GlobalFlags& global, const SimFlags& flags) {
  const auto options = Checked(flags);
  if (!options.ok()) return options.status();
  const Report report = Simulate(*options);
  if (global.json) {
    std::printf("%s\n", ToJson(report).dump(1).c_str());
  } else {
    Print(report);
  }
  return flags.svg.empty() ? absl::OkStatus() : WritePlots(report, flags.svg);
}

}  // namespace kvasir
