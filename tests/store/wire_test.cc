// SPDX-License-Identifier: Apache-2.0
// Goal: over gRPC a node is what it is when called directly. Method: a fake node behind a real server on loopback;
// random values of every message compared field by field on the other side; errors, dead servers, slow and leaving
// watchers.
#include <gtest/gtest.h>

#include "store/wire/grpc_server.h"
#include "store/wire/grpc_stub.h"
#include "tests/store/wire_fakes.h"
#include "tests/store/wire_samples.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

constexpr Duration kLong = std::chrono::seconds(60);
constexpr int kRounds = 25;

class Wire : public ::testing::Test {
 protected:
  explicit Wire(GrpcServerOptions options = {}) : server_({&node_, &node_, &node_}, options) {
    const auto address = server_.Start();
    EXPECT_TRUE(address.ok()) << address.status();
    address_ = *address;
    store_ = MakeGrpcStore(address_);
    admin_ = MakeGrpcAdmin(address_);
    peer_ = MakeGrpcPeer(address_);
  }
  ~Wire() override { server_.Shutdown(Duration{0}); }

  /// Sends kRounds random requests; request and reply must arrive as they left.
  template <class Request, class Reply, class Call>
  void RoundTrips(Script<Request, Reply>& script, Call call) {
    auto rng = Rng(1);
    for (int round = 0; round < kRounds; ++round) {
      const Request request = Sample<Request>(rng);
      const Reply reply = Sample<Reply>(rng);
      std::string met;
      script.on_call = [&](Request r, Duration, Answer<Reply> answer) {
        met = Describe(r);
        answer(reply);
      };
      const auto back = Await<Reply>([&](Answer<Reply> answer) { call(request, std::move(answer)); });
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ(met, Describe(request));
      EXPECT_EQ(Describe(*back), Describe(reply));
    }
  }

  absl::StatusOr<ObjectReply> Get(Duration deadline = kLong) {
    ObjectRequest request;
    request.name = "x";
    return Await<ObjectReply>(
        [&](Answer<ObjectReply> answer) { store_->Object(request, deadline, std::move(answer)); });
  }

  FakeNode node_;
  GrpcServer server_;
  std::string address_;
  std::shared_ptr<StoreApi> store_;
  std::shared_ptr<AdminApi> admin_;
  std::shared_ptr<PeerApi> peer_;
};

TEST_F(Wire, StoreCallsCarryEveryField) {
  RoundTrips(node_.hello, [&](auto r, auto a) { store_->Hello(r, kLong, std::move(a)); });
  RoundTrips(node_.offer, [&](auto r, auto a) { store_->Offer(r, kLong, std::move(a)); });
  RoundTrips(node_.acquire, [&](auto r, auto a) { store_->Acquire(r, kLong, std::move(a)); });
  RoundTrips(node_.touch, [&](auto r, auto a) { store_->Touch(r, kLong, std::move(a)); });
  RoundTrips(node_.object, [&](auto r, auto a) { store_->Object(r, kLong, std::move(a)); });
}

TEST_F(Wire, PeerCallsCarryEveryField) {
  RoundTrips(node_.probe, [&](auto r, auto a) { peer_->Probe(r, kLong, std::move(a)); });
  RoundTrips(node_.inventory, [&](auto r, auto a) { peer_->Inventory(r, kLong, std::move(a)); });
  RoundTrips(node_.suggest, [&](auto r, auto a) { peer_->Suggest(r, kLong, std::move(a)); });
}

TEST_F(Wire, AdminCallsCarryEveryField) {
  RoundTrips(node_.list, [&](auto r, auto a) { admin_->List(r, std::move(a)); });
  auto rng = Rng(2);
  for (int round = 0; round < kRounds; ++round) {
    const NodeStatus reply = Sample<NodeStatus>(rng);
    Duration waited{};
    node_.status.on_call = [&](std::monostate, Duration, Answer<NodeStatus> answer) { answer(reply); };
    node_.drain.on_call = [&](Duration wait, Duration, Answer<NodeStatus> answer) {
      waited = wait;
      answer(reply);
    };
    bool cordoned = round % 2 != 0;
    node_.cordon.on_call = [&](bool asked, Duration, Answer<NodeStatus> answer) {
      EXPECT_EQ(asked, cordoned);
      answer(reply);
    };
    const auto cordon = Await<NodeStatus>([&](Answer<NodeStatus> a) { admin_->Cordon(cordoned, std::move(a)); });
    ASSERT_TRUE(cordon.ok()) << cordon.status();
    EXPECT_EQ(Describe(*cordon), Describe(reply));
    const auto status = Await<NodeStatus>([&](Answer<NodeStatus> a) { admin_->Status(std::move(a)); });
    const auto drained = Await<NodeStatus>([&](Answer<NodeStatus> a) { admin_->Drain(Duration(77), std::move(a)); });
    ASSERT_TRUE(status.ok() && drained.ok()) << status.status() << drained.status();
    EXPECT_EQ(Describe(*status), Describe(reply));
    EXPECT_EQ(Describe(*drained), Describe(reply));
    EXPECT_EQ(waited, Duration(77));
  }
}

TEST_F(Wire, ErrorsKeepCodeAndMessage) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status error(static_cast<absl::StatusCode>(code), "cause: 100 % of größe\n, next step");
    node_.object.on_call = [&](ObjectRequest, Duration, Answer<ObjectReply> answer) { answer(error); };
    EXPECT_EQ(Get().status(), error);
  }
}

TEST_F(Wire, AStaleEpochCarriesTheCurrentOne) {
  node_.object.on_call = [&](ObjectRequest, Duration, Answer<ObjectReply> answer) { answer(StaleEpoch("n", 5, 1234567890123)); };
  const absl::Status status = Get().status();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_EQ(CurrentEpochOf(status), 1234567890123u);
  node_.object.on_call = [&](ObjectRequest, Duration, Answer<ObjectReply> answer) { answer(absl::AbortedError("no session")); };
  EXPECT_EQ(CurrentEpochOf(Get().status()), std::nullopt);
}

TEST_F(Wire, RefusalsNameTheField) {
  OfferRequest request;
  request.parts.resize(kPartsPerOfferMax + 1);
  const auto reply = Await<OfferReply>([&](auto answer) { store_->Offer(request, kLong, std::move(answer)); });
  EXPECT_EQ(reply.status(), absl::InvalidArgumentError("OfferRequest: parts: 4097, at most 4096"));
}

TEST_F(Wire, AnAnswerThatBreaksTheContractIsInternal) {
  node_.hello.on_call = [](HelloRequest, Duration, Answer<HelloReply> answer) {
    HelloReply reply;
    reply.membership.members = {{"b", "", 1, 1, ""}, {"a", "", 1, 1, ""}};
    answer(reply);
  };
  auto rng = Rng(3);
  const auto reply = Await<HelloReply>(
      [&](auto answer) { store_->Hello(Sample<HelloRequest>(rng), kLong, std::move(answer)); });
  EXPECT_EQ(reply.status(), absl::InternalError("the node's answer is refused: HelloReply: membership: Membership: "
                                                "members[1].id: is not above the one before"));
}

TEST_F(Wire, DeadlineIsTheCallersAndTheNodeKnowsIt) {
  std::promise<std::pair<Duration, Answer<ObjectReply>>> held;
  node_.object.on_call = [&](ObjectRequest, Duration left, Answer<ObjectReply> answer) {
    held.set_value({left, std::move(answer)});
  };
  EXPECT_EQ(Get(std::chrono::milliseconds(100)).status().code(), absl::StatusCode::kDeadlineExceeded);
  auto [left, answer] = held.get_future().get();
  EXPECT_LT(left, std::chrono::seconds(1));  // gRPC rounds it on the way
  answer(ObjectReply{});  // late: harmless
}

TEST_F(Wire, TheAnswerComesThoughTheStubIsGone) {
  std::promise<Answer<ObjectReply>> held;
  node_.object.on_call = [&](ObjectRequest, Duration, Answer<ObjectReply> answer) {
    held.set_value(std::move(answer));
  };
  std::promise<absl::Status> answered;
  ObjectRequest request;
  request.name = "x";
  store_->Object(request, kLong, [&](absl::StatusOr<ObjectReply> reply) { answered.set_value(reply.status()); });
  Answer<ObjectReply> answer = held.get_future().get();
  store_.reset();
  admin_.reset();
  answer(ObjectReply{});
  EXPECT_TRUE(answered.get_future().get().ok());
}

TEST(WireLife, TheLastChannelMayGoOnGrpcsOwnThread) {
  struct Told {
    std::promise<void> gone;
    ~Told() { gone.set_value(); }
  };
  FakeNode node;
  node.object.on_call = [](ObjectRequest, Duration, Answer<ObjectReply> answer) { answer(ObjectReply{}); };
  auto server = std::make_unique<GrpcServer>(GrpcServices{.store = &node}, GrpcServerOptions{});
  auto store = MakeGrpcStore(*server->Start());
  std::promise<void> inside, release;
  auto told = std::make_unique<Told>();
  std::future<void> gone = told->gone.get_future();
  ObjectRequest request;
  request.name = "x";
  store->Object(request, kLong, [&inside, &release, told = std::move(told)](absl::StatusOr<ObjectReply>) {
    inside.set_value();
    release.get_future().wait();
  });
  inside.get_future().wait();
  store.reset();
  server.reset();
  release.set_value();  // what is left of the call, its channel with it, dies with this callback
  gone.wait();
}

TEST_F(Wire, ADeadServerIsUnavailableAtOnce) {
  node_.object.on_call = [](ObjectRequest, Duration, Answer<ObjectReply> answer) { answer(ObjectReply{}); };
  ASSERT_TRUE(Get().ok());
  server_.Shutdown(Duration{0});
  EXPECT_EQ(Get().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Get().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(Wire, APortInUseIsNotShared) {
  GrpcServerOptions options;
  options.address = address_;
  GrpcServer second({.store = &node_}, options);
  const auto started = second.Start();
  EXPECT_EQ(started.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(started.status().message()).find(address_), std::string::npos) << started.status();
}

class SmallWire : public Wire {
 protected:
  static GrpcServerOptions Small() {
    GrpcServerOptions options;
    options.message_bytes_max = 65536;
    options.watch_events_max = 4;
    return options;
  }
  SmallWire() : Wire(Small()) {}
};

TEST_F(SmallWire, AnOversizeMessageIsRefusedBeforeItIsRead) {
  ObjectRequest request;
  request.name = "x";
  request.put = true;
  request.value.resize(100000);
  const auto reply = Await<ObjectReply>([&](auto answer) { store_->Object(request, kLong, std::move(answer)); });
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kResourceExhausted) << reply.status();
}

TEST_F(SmallWire, AWatcherThatDoesNotReadIsEnded) {
  std::promise<void> release;
  std::promise<absl::Status> ended;
  std::shared_future<void> released = release.get_future().share();
  auto watcher = store_->Watch(1, [released](WatchEvent) { released.wait(); },
                               [&](absl::Status why) { ended.set_value(why); });
  node_.watched.get_future().wait();
  LeaseRevoked event;
  event.reason.assign(1000, 'x');
  for (int i = 0; i < 5000; ++i) node_.Say(event);  // far beyond flow control windows and the queue
  release.set_value();
  EXPECT_EQ(ended.get_future().get(),
            absl::ResourceExhaustedError("watch_events_max: 4 events wait for this watcher"));
}

TEST_F(Wire, EventsComeInOrderThenTheEnd) {
  auto rng = Rng(4);
  std::vector<std::string> sent, met;
  std::promise<absl::Status> ended;
  auto watcher = store_->Watch(99, [&](WatchEvent event) { met.push_back(Describe(event)); },
                               [&](absl::Status why) { ended.set_value(why); });
  EXPECT_EQ(node_.watched.get_future().get(), 99u);
  for (int i = 0; i < 300; ++i) {
    const WatchEvent event = Sample<WatchEvent>(rng);
    sent.push_back(Describe(event));
    node_.Say(event);
  }
  node_.EndWatch(absl::AbortedError("the session ended"));
  EXPECT_EQ(ended.get_future().get(), absl::AbortedError("the session ended"));
  EXPECT_EQ(met, sent);
  node_.unwatched.get_future().wait();
}

TEST_F(Wire, NoCallbackAfterTheWatcherIsGone) {
  std::promise<void> first;
  int events = 0;
  auto watcher = store_->Watch(
      1,
      [&](WatchEvent) {
        if (events++ == 0) first.set_value();
      },
      [](absl::Status) { ADD_FAILURE() << "the watcher went first"; });
  node_.watched.get_future().wait();
  node_.Say(LeaseRevoked{1, ""});
  first.get_future().wait();
  watcher.reset();
  const int met = events;
  node_.Say(LeaseRevoked{2, ""});
  node_.unwatched.get_future().wait();  // the node learns of it
  EXPECT_EQ(events, met);
}

TEST_F(Wire, AWatcherMayGoFromInsideItsCallback) {
  std::unique_ptr<StoreApi::Watcher> watcher;
  std::promise<void> ready, gone;
  std::shared_future<void> set = ready.get_future().share();
  watcher = store_->Watch(
      1,
      [&, set](WatchEvent) {
        set.wait();
        watcher.reset();
        gone.set_value();
      },
      [](absl::Status) { ADD_FAILURE() << "the watcher went first"; });
  ready.set_value();
  node_.watched.get_future().wait();
  node_.Say(LeaseRevoked{1, ""});
  node_.Say(LeaseRevoked{2, ""});
  gone.get_future().wait();
  node_.unwatched.get_future().wait();
}

TEST_F(Wire, ShutdownEndsTheWatch) {
  std::promise<absl::Status> ended;
  auto watcher = store_->Watch(1, [](WatchEvent) {}, [&](absl::Status why) { ended.set_value(why); });
  node_.watched.get_future().wait();
  server_.Shutdown(kLong);
  EXPECT_EQ(ended.get_future().get(), absl::UnavailableError("the node is shutting down"));
}

}  // namespace
}  // namespace kvasir::testing
