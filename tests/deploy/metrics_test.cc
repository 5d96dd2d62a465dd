// SPDX-License-Identifier: Apache-2.0
// Goal: /metrics keeps to Prometheus' text format and to its naming rules, every number of the node has a place there from the
// start, and the README lists exactly these. Method: the page of a real node, read line by line as promtool does; calls made
// and their numbers found.
#include "deploy/kvasird/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <regex>
#include <set>

#include "deploy/kvasird/prometheus_text.h"
#include "tests/deploy/process.h"
#include "tests/store/raw_client.h"

namespace kvasir::testing {
namespace {

struct Family {
  std::string type, help;
  std::map<std::string, double> samples;  ///< by name and labels as written
};
using FamilyMap = std::map<std::string, Family>;

/// The family a sample belongs to: histograms have suffixes.
std::string FamilyOf(const std::string& sample, const FamilyMap& families) {
  for (const char* suffix : {"_bucket", "_sum", "_count"}) {
    if (!sample.ends_with(suffix)) continue;
    const auto found = families.find(sample.substr(0, sample.size() - std::strlen(suffix)));
    if (found != families.end() && found->second.type == "histogram") return found->first;
  }
  return sample;
}

/// Every line is read and must be right; complaints name it.
FamilyMap Parse(const std::string& page) {
  static const std::regex kComment(R"(# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*))");
  static const std::regex kSample(
      R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\["\\n])*",?)+\})? ([0-9.eE+-]+|\+Inf|NaN))re");
  FamilyMap families;
  std::string current;
  std::set<std::string> ended;
  EXPECT_TRUE(page.ends_with("\n"));
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, kComment)) {
      const std::string name = match[2];
      if (match[1] == "HELP") {
        EXPECT_EQ(families.count(name), 0u) << "HELP twice: " << line;
        EXPECT_GT(match[3].length(), 0) << line;
        ended.insert(current);
        current = name;
        families[name].help = match[3];
      } else {
        EXPECT_EQ(name, current) << "TYPE of another family: " << line;
        EXPECT_EQ(families[name].type, "") << "TYPE twice: " << line;
        EXPECT_TRUE(match[3] == "counter" || match[3] == "gauge" || match[3] == "histogram") << line;
        families[name].type = match[3];
      }
      continue;
    }
    if (!std::regex_match(line, match, kSample)) {
      ADD_FAILURE() << "no line of the format: " << line;
      continue;
    }
    const std::string family = FamilyOf(match[1], families);
    EXPECT_EQ(family, current) << "a sample outside its family: " << line;
    EXPECT_EQ(ended.count(family), 0u) << "a family in two places: " << line;
    const std::string value = match[5];
    const bool added = families[family].samples.emplace(match[1].str() + match[2].str(), std::stod(value)).second;
    EXPECT_TRUE(added) << "the same sample twice: " << line;
  }
  return families;
}

void ExpectHistogram(const std::string& name, const Family& family) {
  // By its labels without `le`: buckets in order of writing are checked by their bounds.
  static const std::regex kBucket(R"re(.*_bucket\{(.*),?le="([^"]*)"\})re");
  std::map<std::string, std::map<double, double>> buckets;
  for (const auto& [sample, value] : family.samples) {
    std::smatch match;
    if (!std::regex_match(sample, match, kBucket)) continue;
    std::string labels = match[1];
    if (labels.ends_with(",")) labels.pop_back();
    const double bound = match[2] == "+Inf" ? std::numeric_limits<double>::infinity() : std::stod(match[2]);
    buckets[labels][bound] = value;
  }
  EXPECT_FALSE(buckets.empty()) << name;
  for (const auto& [labels, counts] : buckets) {
    double before = 0;
    for (const auto& [bound, count] : counts) {
      EXPECT_GE(count, before) << name << " is not cumulative at " << bound;
      before = count;
    }
    EXPECT_TRUE(std::isinf(counts.rbegin()->first)) << name << " has no +Inf";
    const std::string braced = labels.empty() ? "" : "{" + labels + "}";
    ASSERT_EQ(family.samples.count(name + "_count" + braced), 1u) << name << braced;
    EXPECT_EQ(family.samples.at(name + "_count" + braced), before);
    EXPECT_EQ(family.samples.count(name + "_sum" + braced), 1u) << name << braced;
  }
}

class MetricsOf : public ::testing::Test {
 protected:
  void Start(const std::string& ssd = "") {
    NodeOptions options = TestNode("tcp", ssd);
    options.transports = {"tcp", "shm"};
    auto started = Node::Start(options);
    ASSERT_TRUE(started.ok()) << started.status();
    node_ = *std::move(started);
  }
  FamilyMap Read() { return Parse(MetricsPage(*node_, {{1ull << 30, "the machine's memory", ""}, std::chrono::system_clock::now()})); }
  std::unique_ptr<Node> node_;
};

TEST_F(MetricsOf, ThePageKeepsToTheFormatAndTheNamesToTheRules) {
  Start();
  const FamilyMap families = Read();
  EXPECT_GT(families.size(), 40u);
  for (const auto& [name, family] : families) {
    EXPECT_TRUE(name.starts_with("kvasir_") || name.starts_with("process_")) << name;
    EXPECT_EQ(name.ends_with("_total"), family.type == "counter") << name << ": _total is for counters, all of them";
    EXPECT_FALSE(family.samples.empty()) << name << " has no series before the first event";
    EXPECT_FALSE(std::regex_search(name, std::regex("_(ms|us|ns|kb|mb|mib|kib|percent|milliseconds)(_|$)"))) << name << ": base units";
    if (family.type == "histogram") ExpectHistogram(name, family);
    for (const auto& [sample, value] : family.samples) {
      EXPECT_EQ(sample.find("key="), std::string::npos) << sample << ": no keys in labels";
      const bool ours = family.type == "counter" && !name.starts_with("process_");
      EXPECT_TRUE(!ours || value == 0) << sample << " before anything happened";
    }
  }
}

TEST_F(MetricsOf, EveryCounterHasItsRow) {
  Start();
  std::set<std::string> rows;
  std::set<std::string_view> begun;
  std::string_view last;
  for (const CounterMetric& row : CounterMetrics()) {
    EXPECT_TRUE(rows.insert(std::string(row.counter)).second) << row.counter << " has two rows";
    if (row.metric != last) {
      EXPECT_TRUE(begun.insert(row.metric).second) << row.metric << ": rows of one metric stand together";
      EXPECT_FALSE(row.help.empty()) << row.metric;
    }
    last = row.metric;
  }
  for (const auto& [name, value] : node_->Counters()) {
    EXPECT_EQ(rows.erase(name), 1u) << "give " << name << " a row in deploy/kvasird/metrics.cc and deploy/README.md";
  }
  EXPECT_TRUE(rows.empty()) << *rows.begin() << " is no counter";
}

TEST_F(MetricsOf, TheReadmeListsThemAllAndNoOther) {
  Start();
  const std::string readme = ReadAll(DEPLOY_README);
  const std::regex name(R"(`((kvasir|process)_[a-z_]+)`)");
  std::set<std::string> listed;
  for (std::sregex_iterator at(readme.begin(), readme.end(), name), end; at != end; ++at) listed.insert((*at)[1]);
  for (const auto& [family, samples] : Read()) EXPECT_EQ(listed.erase(family), 1u) << "deploy/README.md does not list " << family;
  EXPECT_TRUE(listed.empty()) << "deploy/README.md lists " << *listed.begin() << ", which there is not";
}

TEST_F(MetricsOf, CallsAndBytesAreCountedWhereTheyEnter) {
  const Directory directory;
  Start(directory / "ssd");
  {
    RawClient client(*node_, "tcp");
    ASSERT_TRUE(client.connected.ok()) << client.connected;
    Namespace other = TestNamespace();
    other.layout.kv_heads = 4;
    RawClient refused(*node_, "tcp", other);
    EXPECT_FALSE(refused.hello.ok());
    const PrefixChain chain = client.Chain(1, 2);
    ASSERT_TRUE(client.Offer(chain, 0, Ack::kDurable).ok());
    const auto damaged = client.Offer(chain, 1, Ack::kVolatile, [](std::vector<std::byte>& part) { part[700] ^= std::byte{1}; });
    ASSERT_TRUE(damaged.ok());
    const auto acquired = client.Acquire(chain);
    ASSERT_TRUE(acquired.ok());
    ASSERT_TRUE(client.Release(acquired->lease).ok());
  }
  const FamilyMap m = Read();
  const auto value = [&m](const std::string& family, const std::string& labels = "") {
    const auto found = m.find(family);
    if (found == m.end()) return -1.0;
    const auto sample = found->second.samples.find(family + labels);
    return sample == found->second.samples.end() ? -1.0 : sample->second;
  };
  EXPECT_EQ(value("kvasir_requests_total", R"({op="hello",result="ok"})"), 1);
  EXPECT_EQ(value("kvasir_requests_total", R"({op="hello",result="refused"})"), 1);
  EXPECT_EQ(value("kvasir_requests_total", R"({op="offer",result="ok"})"), 2);
  EXPECT_EQ(value("kvasir_requests_total", R"({op="acquire",result="ok"})"), 1);
  EXPECT_EQ(m.at("kvasir_request_duration_seconds").samples.at(R"(kvasir_request_duration_seconds_count{op="offer"})"), 2);
  EXPECT_GT(m.at("kvasir_request_duration_seconds").samples.at(R"(kvasir_request_duration_seconds_sum{op="offer"})"), 0);
  EXPECT_EQ(value("kvasir_namespace_mismatch_total", R"({field="layout.kv_heads"})"), 1);
  EXPECT_EQ(value("kvasir_namespace_mismatch_total", R"({field="weights"})"), 0);
  EXPECT_EQ(value("kvasir_lookup_blocks_total", R"({result="hit"})"), 1);
  EXPECT_EQ(value("kvasir_lookup_blocks_total", R"({result="miss"})"), 1);
  EXPECT_EQ(value("kvasir_checksum_failures_total", R"({at="seal"})"), 1);
  EXPECT_EQ(value("kvasir_persists_total", R"({result="ok"})"), 4);
  EXPECT_GT(value("kvasir_transfer_bytes_total", R"({transport="tcp",dir="in"})"), 0);
  EXPECT_EQ(value("kvasir_transfer_bytes_total", R"({transport="shm",dir="in"})"), 0);
  EXPECT_EQ(m.at("kvasir_transfer_duration_seconds").samples.at(R"(kvasir_transfer_duration_seconds_count{transport="tcp",dir="in"})"), 8);
  EXPECT_EQ(value("kvasir_tier_parts", R"({tier="ssd"})"), 4);
  EXPECT_EQ(value("kvasir_blocks"), 2) << "three of the damaged block's parts are good";
  EXPECT_EQ(value("kvasir_memory_limit_bytes"), 1ull << 30);
  EXPECT_GT(value("process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(value("process_open_fds"), 3);
}

TEST(PrometheusLines, LabelsAndHelpAreEscaped) {
  PrometheusText out;
  out.Family("a_total", "counter", "back\\slash\nline");
  out.Sample({{"l", "quote\" back\\slash\nline"}}, 3);
  out.Gauge("b", "x", 0.0001);
  EXPECT_EQ(out.Take(),
            "# HELP a_total back\\\\slash\\nline\n# TYPE a_total counter\na_total{l=\"quote\\\" back\\\\slash\\nline\"} 3\n"
            "# HELP b x\n# TYPE b gauge\nb 0.0001\n");
}

TEST(Histograms, AValueOnABoundBelongsBelowIt) {
  Histogram histogram;
  histogram.Observe(std::chrono::milliseconds(1));
  histogram.Observe(std::chrono::nanoseconds(1'000'001));
  histogram.Observe(std::chrono::hours(1));
  const Histogram::Snapshot read = histogram.Read();
  EXPECT_EQ(read.cumulative[2], 0u);
  EXPECT_EQ(read.cumulative[3], 1u) << "le 0.001";
  EXPECT_EQ(read.cumulative[4], 2u);
  EXPECT_EQ(read.cumulative[15], 2u) << "le 10";
  EXPECT_EQ(read.cumulative[16], 3u) << "le +Inf";
  EXPECT_NEAR(read.sum_seconds, 3600.002, 0.001);
}

}  // namespace
}  // namespace kvasir::testing
