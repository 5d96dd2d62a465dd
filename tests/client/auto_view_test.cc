// SPDX-License-Identifier: Apache-2.0
// Goal: "auto" becomes one view for all Sessions of a namespace, by the stated rule, and a cluster that cannot say which costs
// nothing but the choice. Method: the rule on made-up times; Sessions on real nodes in this process.
#include "client/auto_view.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "tests/client/moving_cluster.h"
#include "tests/client/pages.h"

namespace kvasir::testing {
namespace {

using client::AutoCandidates;
using client::ChooseView;
using client::FormatChoice;
using client::ParseChoice;
using client::ViewTrial;

TEST(AutoView, TheRuleIsFastestFetchThenFewestBytes) {
  const ViewTrial raw{"raw", 1, 1.0, 100, 100}, split{"P:splitexp", 1, 1.04, 100, 75}, ans{"P:splitexp(ans)", 1, 1.2, 100, 66};
  EXPECT_EQ(ChooseView(std::vector{raw}).view, "raw");
  EXPECT_EQ(ChooseView(std::vector{raw, split, ans}).view, "P:splitexp") << "alike, and smaller";
  ViewTrial fast = ans;
  fast.fetch_s = 0.5;
  EXPECT_EQ(ChooseView(std::vector{raw, split, fast}).view, "P:splitexp(ans)") << "the fastest";
  ViewTrial slow = split;
  slow.fetch_s = 1.06;
  EXPECT_EQ(ChooseView(std::vector{raw, slow, ans}).view, "raw") << "slower than alike";
}

TEST(AutoView, WhatIsKeptIsReadBackAndNothingElse) {
  const Namespace ns = SmallNamespace();
  const std::vector<std::string> candidates = AutoCandidates(ns);
  EXPECT_EQ(candidates.size(), 3u);
  for (const std::string& view : candidates) {
    const std::vector<ViewTrial> trials{{view, 0.5, 0.25, 1'000'000'000, 750'000'000}};
    const std::string kept = FormatChoice(trials[0], trials);
    EXPECT_EQ(kept, view + "\n" + view + ": push 2.000 GB/s, fetch 4.000 GB/s, 0.750 of the bytes\n");
    EXPECT_EQ(*ParseChoice(kept, ns), view);
  }
  for (const char* bad : {"", "\n", "int(4,tok)\n", "splitexp ", "rawraw", "P:raw2\nP:raw"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseChoice(bad, ns).status())) << bad;
  }
  Namespace floats = ns;
  floats.layout.element = ElementType::kFloat32;
  EXPECT_EQ(AutoCandidates(floats).size(), 1u) << "only raw holds every bit";
  EXPECT_FALSE(ParseChoice(candidates[1], floats).ok());
}

SessionOptions AutoOptions(MovingCluster& cluster) {
  SessionOptions options = cluster.ClientOptions(1);
  options.push_view = "auto";
  options.push_deadline = options.fetch_deadline = options.call_deadline = std::chrono::seconds(30);  // a busy machine is slow, not wrong
  return options;
}

uint64_t PushesOf(const Session& session) {
  for (const auto& [name, value] : session.Counters()) {
    if (name == "pushes") return value;
  }
  return ~uint64_t{0};
}

TEST(AutoView, TheFirstTriesTheOthersFollow) {
  MovingCluster cluster({.nodes = 3});
  const auto first = Session::Open(AutoOptions(cluster)), second = Session::Open(AutoOptions(cluster));
  ASSERT_TRUE(first.ok() && second.ok());
  const std::vector<std::string> candidates = AutoCandidates(SmallNamespace());
  EXPECT_EQ(std::count(candidates.begin(), candidates.end(), (*first)->push_view()), 1) << (*first)->push_view();
  EXPECT_EQ((*second)->push_view(), (*first)->push_view());
  EXPECT_GT(PushesOf(**first), 0u);
  EXPECT_EQ(PushesOf(**second), 0u) << "it has read the choice";

  const PrefixChain chain = (*first)->Chain(Tokens(2));
  Pages written(SmallNamespace(), {.tokens = 64}), read(SmallNamespace(), {.tokens = 64});
  written.FillWithTruth();
  PushAll(**first, chain, written);
  const FetchResult got = FetchAll(**second, chain, read);
  EXPECT_EQ(got.blocks, 2u) << got.status;
  EXPECT_EQ(got.views, std::vector<std::string>(2, (*first)->push_view()));
  EXPECT_EQ(read.Difference(0, 2), "");
}

TEST(AutoView, ManyAtOnceAgree) {
  MovingCluster cluster({.nodes = 2});
  std::vector<std::string> views(6);
  std::vector<std::thread> ranks;
  for (std::string& view : views) {
    ranks.emplace_back([&] {
      const auto session = Session::Open(AutoOptions(cluster));
      if (session.ok()) view = (*session)->push_view();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(std::set<std::string>(views.begin(), views.end()).size(), 1u);
  EXPECT_NE(views[0], "");
}

/// Puts the object where Sessions look for it: on every node.
void Keep(MovingCluster& cluster, const std::string& value) {
  for (const Member& member : cluster.membership().members) {
    const auto node = cluster.Node(member.id);
    const auto session = Hello(*node);
    ASSERT_TRUE(session.ok()) << session.status();
    ObjectRequest request;
    request.session = session->session;
    request.name = "view/auto/" + ToHex(SmallNamespace().Digest()) + "/2x1";
    request.put = true;
    request.value = value;
    const auto put = Ask<ObjectReply>([&](Answer<ObjectReply> answer) { node->Object(request, std::chrono::seconds(5), std::move(answer)); });
    ASSERT_TRUE(put.ok()) << put.status();
  }
}

TEST(AutoView, AKeptChoiceCountsWhateverTheSpeed) {
  for (const std::string& view : AutoCandidates(SmallNamespace())) {
    MovingCluster cluster({.nodes = 2});
    Keep(cluster, view + "\nas the operator wants\n");
    const auto session = Session::Open(AutoOptions(cluster));
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_EQ((*session)->push_view(), view);
    EXPECT_EQ(PushesOf(**session), 0u);
  }
}

TEST(AutoView, AChoiceThatIsNoneIsSaidAndNotTaken) {
  MovingCluster cluster({.nodes = 2});
  Keep(cluster, "int(2,tok)\n");
  SessionOptions options = AutoOptions(cluster);
  std::string warning;
  options.warn = [&](const std::string&, const std::string& text) { warning = text; };
  const auto session = Session::Open(std::move(options));
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(View::Make((*session)->push_view())->spec, View::Make("splitexp")->spec);
  EXPECT_EQ(warning, "view auto: the view 'int(2,tok)' is none that auto may choose");
}

}  // namespace
}  // namespace kvasir::testing
