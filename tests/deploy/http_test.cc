// SPDX-License-Identifier: Apache-2.0
// Goal: the pages answer as probes and scrapers expect, from before the node is there and while it stalls, and nobody keeps
// others from them. Method: a real server and a real node; requests by hand.
#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>

#include "deploy/kvasird/http_pages.h"
#include "deploy/status_json.h"
#include "tests/deploy/http_get.h"
#include "tests/store/raw_client.h"

namespace kvasir::testing {
namespace {

class Http : public ::testing::Test {
 protected:
  Http() : pages_({{}, std::chrono::system_clock::now()}) {
    auto started = HttpServer::Start({"127.0.0.1", 0}, pages_.All());
    EXPECT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    at_ = server_->address().Text();
  }
  void StartNode() {
    NodeOptions options = TestNode("loopback");
    options.health.every = std::chrono::milliseconds(10);
    options.health.thread = std::chrono::milliseconds(100);
    auto started = Node::Start(options);
    ASSERT_TRUE(started.ok()) << started.status();
    node_ = *std::move(started);
    pages_.Attach(node_.get());
  }
  std::unique_ptr<Node> node_;  // outlives the server
  HttpPages pages_;
  std::unique_ptr<HttpServer> server_;
  std::string at_;
};

TEST_F(Http, BeforeTheNodeIsThereItIsAliveAndNotReady) {
  EXPECT_EQ(HttpGet(at_, "/livez").status, 200);
  const HttpReply ready = HttpGet(at_, "/readyz");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.body, "[-]start the node is starting: its disk is opened and what lies there is checked\nnot ready\n");
  EXPECT_EQ(HttpGet(at_, "/metrics").status, 503);
  EXPECT_EQ(HttpGet(at_, "/status.json").status, 503);
}

TEST_F(Http, TheNodeStandsBehindThePages) {
  StartNode();
  EXPECT_EQ(HttpGetUntil(at_, "/readyz", 200).body, "ready\n");
  const std::string verbose = HttpGet(at_, "/readyz?verbose").body;
  EXPECT_NE(verbose.find("[+]shard.0.loop ok\n"), std::string::npos) << verbose;
  EXPECT_NE(verbose.find("[+]judge ok\nready\n"), std::string::npos) << verbose;
  const HttpReply metrics = HttpGet(at_, "/metrics");
  EXPECT_EQ(metrics.status, 200);
  EXPECT_NE(metrics.head.find("Content-Type: text/plain; version=0.0.4; charset=utf-8"), std::string::npos) << metrics.head;
  EXPECT_NE(metrics.body.find("\nkvasir_ready 1\n"), std::string::npos);
  const HttpReply status = HttpGet(at_, "/status.json");
  EXPECT_EQ(status.status, 200);
  auto given = nlohmann::ordered_json::parse(status.body);
  auto expected = StatusJson(*RawClient::Call<NodeStatus>([&](Answer<NodeStatus> done) { node_->Status(std::move(done)); }));
  given.erase("uptime_s");
  expected.erase("uptime_s");
  EXPECT_EQ(given, expected);
}

TEST_F(Http, AStoppedLoopIsToldAndMetricsStillCome) {
  StartNode();
  ASSERT_EQ(HttpGetUntil(at_, "/readyz", 200).status, 200);
  std::promise<void> go_on;
  node_->Status([go = go_on.get_future().share()](absl::StatusOr<NodeStatus>) { go.wait(); });  // on the shard's Loop
  const HttpReply stalled = HttpGetUntil(at_, "/readyz", 503);
  EXPECT_TRUE(stalled.body.starts_with("[-]shard.0.loop the Loop of shard 0 does not answer")) << stalled.body;
  EXPECT_TRUE(stalled.body.ends_with("not ready\n")) << stalled.body;
  EXPECT_EQ(HttpGet(at_, "/livez").status, 200) << "a restart is for what does not pass";
  EXPECT_NE(HttpGet(at_, "/metrics").body.find("\nkvasir_vital_ok{vital=\"shard.0.loop\"} 0\n"), std::string::npos);
  const HttpReply status = HttpGet(at_, "/status.json");
  EXPECT_EQ(status.status, 503);
  EXPECT_EQ(status.body, "{\"error\":\"a Loop of the node does not answer; see /readyz\"}\n");
  go_on.set_value();
  EXPECT_EQ(HttpGetUntil(at_, "/readyz", 200).body, "ready\n");
}

TEST_F(Http, WhatIsNoPageSaysWhichThereAre) {
  const HttpReply none = HttpGet(at_, "/nope");
  EXPECT_EQ(none.status, 404);
  EXPECT_EQ(none.body, "404: no page for GET /nope; there are /livez /readyz /metrics /status.json\n");
  EXPECT_EQ(HttpSend(at_, "POST /readyz HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").status, 404);
  const HttpReply head = HttpSend(at_, "HEAD /livez HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body, "");
  EXPECT_EQ(HttpSend(at_, "nonsense\r\n\r\n").status, 400);
  EXPECT_EQ(HttpSend(at_, "GET /" + std::string(10000, 'x') + " HTTP/1.1\r\n\r\n").status, 414);
}

/// One connection a request, and one that says nothing is dropped: a few idle clients do not keep a probe out.
TEST_F(Http, IdleClientsKeepNobodyOut) {
  std::vector<int> idle;
  for (size_t i = 0; i < 3 * HttpServer::kThreads; ++i) idle.push_back(HttpConnect(at_));
  EXPECT_EQ(HttpGet(at_, "/livez").status, 200);
  for (const int fd : idle) close(fd);
  const HttpReply live = HttpGet(at_, "/livez");
  EXPECT_NE(live.head.find("Connection: close"), std::string::npos) << live.head;
}

TEST_F(Http, ThePortIsNotShared) {
  const auto second = HttpServer::Start(server_->address(), pages_.All());
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_NE(second.status().message().find("Choose another with --http"), absl::string_view::npos) << second.status();
}

}  // namespace
}  // namespace kvasir::testing
