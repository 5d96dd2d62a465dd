// SPDX-License-Identifier: Apache-2.0
// Stubs over gRPC's callback API. A call owns itself until its answer, a watch until gRPC is done with it.
#include "store/wire/grpc_stub.h"

#include <grpc/support/time.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/wire/callback_threads.h"
#include "store/wire/convert.h"
#include "store/wire/delivery_gate.h"
#include "store/wire/kvasir.grpc.pb.h"

namespace kvasir {
namespace {

constexpr int kMessageBytesMax = 64 << 20;    ///< as GrpcServerOptions has it
constexpr int kReconnectMinMs = 100;          ///< first pause after a failed connect
constexpr int kReconnectMaxMs = 1000;         ///< longest pause
constexpr int kConnectTimeoutMs = 1000;       ///< of one attempt
constexpr int kKeepaliveMs = 10000;           ///< a silent node is asked after this long
constexpr int kKeepaliveTimeoutMs = 3000;     ///< and given up after this long

absl::Status ToAbsl(const grpc::Status& status) {
  absl::Status made(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (!made.ok() && !status.error_details().empty()) made.SetPayload(kEpochPayload, absl::Cord(status.error_details()));
  return made;
}

/// An answer that breaks the contract is not the caller's InvalidArgument.
absl::Status BadAnswer(const absl::Status& why) {
  return absl::InternalError(absl::StrCat("the node's answer is refused: ", why.message()));
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  KeepCallbackThreads();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMinMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMaxMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);  // its name is history
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no limit: an idle session stays watched
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);             // nodes are reached directly, whatever the environment
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

/// Messages and context of one unary call, and whom to answer.
template <class Reply, class ProtoRequest, class ProtoReply>
struct Call {
  grpc::ClientContext context;
  ProtoRequest request;
  ProtoReply reply;
  Answer<Reply> answer;
  std::shared_ptr<grpc::Channel> channel;  // lives as long as its last call

  void Finish(const grpc::Status& status) {
    if (!status.ok()) return answer(ToAbsl(status));
    absl::StatusOr<Reply> value = FromProto(reply);
    if (!value.ok()) return answer(BadAnswer(value.status()));
    answer(std::move(value));
  }
};

void SetDeadline(grpc::ClientContext& context, Duration deadline) {
  const Duration bounded = std::clamp(deadline, Duration{0}, kDurationMax);
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(bounded.count(), GPR_TIMESPAN)));
}

/// Starts a unary call; `start` is (Call*, callback).
template <class Reply, class ProtoReply, class ProtoRequest, class Start>
void Ask(std::shared_ptr<grpc::Channel> channel, ProtoRequest request, Duration deadline, Answer<Reply> answer,
         Start start) {
  auto call = std::make_shared<Call<Reply, ProtoRequest, ProtoReply>>();  // std::function must be copyable
  call->request = std::move(request);
  call->answer = std::move(answer);
  call->channel = std::move(channel);
  SetDeadline(call->context, deadline);
  auto* c = call.get();
  start(c, [call = std::move(call)](grpc::Status status) { call->Finish(status); });
}

template <class ProtoRequest, class Request>
ProtoRequest Made(const Request& request) {
  ProtoRequest proto;
  ToProto(request, &proto);
  return proto;
}

/// One open stream. Deletes itself when gRPC is done; the Watcher's Close only ends its calls to the owner.
class WatchCall : public grpc::ClientReadReactor<v1::WatchEvent> {
 public:
  WatchCall(StoreApi::OnEvent event, StoreApi::OnEnd end) : event_(std::move(event)), end_(std::move(end)) {}

  static std::shared_ptr<WatchCall> Open(std::shared_ptr<grpc::Channel> channel, v1::Store::Stub* stub,
                                         uint64_t session, StoreApi::OnEvent event, StoreApi::OnEnd end) {
    auto call = std::make_shared<WatchCall>(std::move(event), std::move(end));
    call->self_ = call;
    call->channel_ = std::move(channel);
    call->request_.set_session(session);
    stub->async()->Watch(&call->context_, &call->request_, call.get());
    call->StartRead(&call->message_);
    call->StartCall();
    return call;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone says why
    // An event that a newer node invented is none of ours.
    if (message_.event_case() != v1::WatchEvent::EVENT_NOT_SET) {
      absl::StatusOr<WatchEvent> event = FromProto(message_);
      if (!event.ok()) {
        refused_ = BadAnswer(event.status());
        return context_.TryCancel();
      }
      gate_.Deliver([&] { event_(*std::move(event)); });
    }
    message_.Clear();
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& status) override {
    gate_.Deliver([&] { end_(!refused_.ok() ? refused_ : ToAbsl(status)); });
    const std::shared_ptr<WatchCall> last = std::move(self_);
  }

  /// No callback begins after this; waits for the one that is running, unless this is it.
  void Close() {
    gate_.Shut();  // first: the end that TryCancel brings is not the owner's any more
    context_.TryCancel();
    gate_.AwaitQuiet();
  }

 private:
  std::shared_ptr<WatchCall> self_;  // until OnDone
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  v1::WatchRequest request_;
  v1::WatchEvent message_;
  absl::Status refused_;
  StoreApi::OnEvent event_;
  StoreApi::OnEnd end_;
  DeliveryGate gate_;
};

class GrpcWatcher final : public StoreApi::Watcher {
 public:
  explicit GrpcWatcher(std::shared_ptr<WatchCall> call) : call_(std::move(call)) {}
  ~GrpcWatcher() override { call_->Close(); }

 private:
  std::shared_ptr<WatchCall> call_;  // shared with gRPC, which may be done later
};

class GrpcStore final : public StoreApi {
 public:
  explicit GrpcStore(const std::string& address) : channel_(Connect(address)), stub_(v1::Store::NewStub(channel_)) {}

  void Hello(HelloRequest request, Duration deadline, Answer<HelloReply> answer) override {
    Ask<HelloReply, v1::HelloReply>(
        channel_, Made<v1::HelloRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Hello(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Offer(OfferRequest request, Duration deadline, Answer<OfferReply> answer) override {
    Ask<OfferReply, v1::OfferReply>(
        channel_, Made<v1::OfferRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Offer(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Acquire(AcquireRequest request, Duration deadline, Answer<AcquireReply> answer) override {
    Ask<AcquireReply, v1::AcquireReply>(
        channel_, Made<v1::AcquireRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Acquire(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Touch(TouchRequest request, Duration deadline, Answer<TouchReply> answer) override {
    Ask<TouchReply, v1::TouchReply>(
        channel_, Made<v1::TouchRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Touch(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Object(ObjectRequest request, Duration deadline, Answer<ObjectReply> answer) override {
    Ask<ObjectReply, v1::ObjectReply>(
        channel_, Made<v1::ObjectRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Object(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  std::unique_ptr<Watcher> Watch(uint64_t session, OnEvent event, OnEnd end) override {
    return std::make_unique<GrpcWatcher>(
        WatchCall::Open(channel_, stub_.get(), session, std::move(event), std::move(end)));
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Store::Stub> stub_;
};

class GrpcAdmin final : public AdminApi {
 public:
  explicit GrpcAdmin(const std::string& address) : channel_(Connect(address)), stub_(v1::Admin::NewStub(channel_)) {}

  void Status(Answer<NodeStatus> answer) override {
    Ask<NodeStatus, v1::NodeStatus>(
        channel_, v1::StatusRequest(), kAdminDeadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Status(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void List(ListRequest request, Answer<ListReply> answer) override {
    Ask<ListReply, v1::ListReply>(
        channel_, Made<v1::ListRequest>(request), kAdminDeadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->List(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Drain(Duration wait, Answer<NodeStatus> answer) override {
    const Duration bounded = std::clamp(wait, Duration{0}, kDurationMax - kAdminDeadline);
    v1::DrainRequest request;
    request.set_wait_ns(bounded.count());
    Ask<NodeStatus, v1::NodeStatus>(
        channel_, std::move(request), bounded + kAdminDeadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Drain(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Cordon(bool cordoned, Answer<NodeStatus> answer) override {
    v1::CordonRequest request;
    request.set_cordoned(cordoned);
    Ask<NodeStatus, v1::NodeStatus>(
        channel_, std::move(request), kAdminDeadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Cordon(&c->context, &c->request, &c->reply, std::move(done)); });
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Admin::Stub> stub_;
};

class GrpcPeer final : public PeerApi {
 public:
  explicit GrpcPeer(const std::string& address) : channel_(Connect(address)), stub_(v1::Peer::NewStub(channel_)) {}

  void Probe(ProbeRequest request, Duration deadline, Answer<ProbeReply> answer) override {
    Ask<ProbeReply, v1::ProbeReply>(
        channel_, Made<v1::ProbeRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Probe(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Inventory(InventoryRequest request, Duration deadline, Answer<InventoryReply> answer) override {
    Ask<InventoryReply, v1::InventoryReply>(
        channel_, Made<v1::InventoryRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Inventory(&c->context, &c->request, &c->reply, std::move(done)); });
  }
  void Suggest(SuggestRequest request, Duration deadline, Answer<SuggestReply> answer) override {
    Ask<SuggestReply, v1::SuggestReply>(
        channel_, Made<v1::SuggestRequest>(request), deadline, std::move(answer),
        [this](auto* c, auto done) { stub_->async()->Suggest(&c->context, &c->request, &c->reply, std::move(done)); });
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Peer::Stub> stub_;
};

}  // namespace

void KeepCallbackThreads() {
  struct Keeper {  // a failed call is what starts them
    std::shared_ptr<grpc::Channel> channel = grpc::CreateChannel("", nullptr);  // lame: every call fails in place
    std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(channel);
    grpc::ClientContext context;
    v1::StatusRequest request;
    v1::NodeStatus reply;
    Keeper() {
      stub->async()->Status(&context, &request, &reply, [](const grpc::Status&) {});
    }
  };
  static Keeper* volatile keeper = new Keeper;  // never released; volatile keeps its address where leak checkers look
  static_cast<void>(keeper);
}

std::shared_ptr<StoreApi> MakeGrpcStore(const std::string& address) { return std::make_shared<GrpcStore>(address); }
std::shared_ptr<AdminApi> MakeGrpcAdmin(const std::string& address) { return std::make_shared<GrpcAdmin>(address); }
std::shared_ptr<PeerApi> MakeGrpcPeer(const std::string& address) { return std::make_shared<GrpcPeer>(address); }

GrpcPing MakeGrpcPing(const std::string& address) {
  struct Ping {
    explicit Ping(const std::shared_ptr<grpc::Channel>& channel) : stub(channel) {}
    grpc::GenericStub stub;
    grpc::ClientContext context;
    grpc::ByteBuffer request, reply;
  };
  return [channel = Connect(address)](std::function<void(bool)> answered) {
    auto ping = std::make_shared<Ping>(channel);
    const grpc::Slice nothing;  // HealthCheckRequest{service: ""} in protobuf: no bytes
    ping->request = grpc::ByteBuffer(&nothing, 1);
    SetDeadline(ping->context, kPingDeadline);
    Ping* const p = ping.get();
    p->stub.UnaryCall(&p->context, "/grpc.health.v1.Health/Check", grpc::StubOptions(), &p->request, &p->reply,
                      [ping, answered = std::move(answered)](const grpc::Status& status) { answered(status.ok()); });
  };
}

}  // namespace kvasir
