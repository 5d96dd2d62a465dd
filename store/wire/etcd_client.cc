// SPDX-License-Identifier: Apache-2.0
// KeyValue over etcd's v3 gRPC API, with gRPC's callback API. A call owns itself until its answer, a watch until gRPC
// is done with it.
#include "store/wire/etcd_client.h"

#include <grpc/support/time.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "store/wire/callback_threads.h"
#include "store/wire/delivery_gate.h"
#include "store/wire/etcd.grpc.pb.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

namespace pb = etcdserverpb;

constexpr int kMessageBytesMax = 32 << 20;  ///< a full membership, or a burst of changes to one
constexpr int kReconnectMinMs = 100;        ///< first pause after a failed connect
constexpr int kReconnectMaxMs = 1000;       ///< longest pause
constexpr int kConnectTimeoutMs = 1000;     ///< of one attempt
constexpr Duration kDeadlineMax = std::chrono::hours(1);

absl::Status ToAbsl(const grpc::Status& status) {
  std::string why = status.error_message();
  constexpr std::string_view kBefore = "last error: ";  // of connecting: the cause comes after it
  if (const size_t at = why.find(kBefore); at != why.npos) why.erase(0, at + kBefore.size());
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), why);
}

/// The first key after all that begin with `prefix`.
std::string EndOf(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  if (prefix.empty()) return std::string(1, '\0');  // etcd's word for: to the end
  ++prefix.back();
  return prefix;
}

uint64_t Revision(int64_t revision) { return static_cast<uint64_t>(std::max<int64_t>(revision, 0)); }

KeyValue::Entry ToEntry(mvccpb::KeyValue* kv) {
  return {std::move(*kv->mutable_key()), std::move(*kv->mutable_value()), Revision(kv->create_revision()),
          Revision(kv->mod_revision()), kv->lease()};
}

void Prepare(grpc::ClientContext& context) {
  context.AddMetadata("hasleader", "true");  // a member that has lost its leader says so instead of keeping silent
}

void Prepare(grpc::ClientContext& context, Duration deadline) {
  const int64_t bounded = std::clamp(deadline, Duration{0}, kDeadlineMax).count();
  context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(bounded, GPR_TIMESPAN)));
  Prepare(context);
}

/// Messages and context of one unary call.
template <class Request, class Reply>
struct Call {
  grpc::ClientContext context;
  Request request;
  Reply reply;
  std::shared_ptr<grpc::Channel> channel;  // lives as long as its last call
};

/// Starts a unary call; `start` is (Call*, callback), `answer` takes (status, Reply&).
template <class Reply, class Request, class Start, class Finish>
void Ask(std::shared_ptr<grpc::Channel> channel, Request request, Duration deadline, Start start, Finish finish) {
  auto call = std::make_shared<Call<Request, Reply>>();
  call->request = std::move(request);
  call->channel = std::move(channel);
  Prepare(call->context, deadline);
  auto shared = std::make_shared<Finish>(std::move(finish));  // std::function must be copyable
  start(call.get(), [call, shared](const grpc::Status& status) { (*shared)(ToAbsl(status), call->reply); });
}

/// One renewal: a stream of one question and one answer. Deletes itself.
class RenewCall final : public grpc::ClientBidiReactor<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse> {
 public:
  RenewCall(std::shared_ptr<grpc::Channel> channel, pb::Lease::Stub* stub, int64_t lease, Duration deadline,
            Answer<KeyValue::Nothing> answer)
      : channel_(std::move(channel)), answer_(std::move(answer)) {
    request_.set_id(lease);
    Prepare(context_, deadline);
    stub->async()->LeaseKeepAlive(&context_, this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&response_);
    StartCall();
  }
  void OnReadDone(bool ok) override { answered_ = ok; }
  void OnDone(const grpc::Status& status) override {
    if (answered_ && response_.ttl() > 0) {
      answer_(KeyValue::Nothing{});
    } else if (answered_) {
      answer_(absl::NotFoundError("the lease has ended"));
    } else {
      answer_(status.ok() ? absl::UnavailableError("etcd ended the stream") : ToAbsl(status));
    }
    delete this;
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  pb::LeaseKeepAliveRequest request_;
  pb::LeaseKeepAliveResponse response_;
  Answer<KeyValue::Nothing> answer_;
  bool answered_ = false;
};

/// One watch. gRPC holds it until OnDone, the Watcher until it is destroyed.
class WatchCall final : public grpc::ClientBidiReactor<pb::WatchRequest, pb::WatchResponse> {
 public:
  WatchCall(KeyValue::OnChanges changes, KeyValue::OnEnd end) : changes_(std::move(changes)), end_(std::move(end)) {}

  static std::shared_ptr<WatchCall> Open(std::shared_ptr<grpc::Channel> channel, pb::Watch::Stub* stub,
                                         std::string prefix, uint64_t from, KeyValue::OnChanges changes,
                                         KeyValue::OnEnd end) {
    auto call = std::make_shared<WatchCall>(std::move(changes), std::move(end));
    call->self_ = call;
    call->channel_ = std::move(channel);
    pb::WatchCreateRequest* create = call->request_.mutable_create_request();
    create->set_range_end(EndOf(prefix));
    create->set_key(std::move(prefix));
    create->set_start_revision(static_cast<int64_t>(from));
    Prepare(call->context_);
    stub->async()->Watch(&call->context_, call.get());
    call->AddHold();  // AskForSign writes from outside gRPC's callbacks
    call->StartWrite(&call->request_);
    call->StartRead(&call->response_);
    call->StartCall();
    return call;
  }

  void AskForSign() {
    {
      MutexLock lock(mutex_);
      if (writing_ || !held_) return;  // what is being written is answered, too
      writing_ = true;
      AddHold();  // until it is started, whatever Close does meanwhile
    }
    request_.Clear();
    request_.mutable_progress_request();
    StartWrite(&request_);
    RemoveHold();
  }
  /// No callback begins after this; waits for the one that is running, unless this is it.
  void Close() {
    gate_.Shut();
    context_.TryCancel();
    LetGo();
    gate_.AwaitQuiet();
  }

  void OnWriteDone(bool) override {
    MutexLock lock(mutex_);
    writing_ = false;
  }
  void OnReadDone(bool ok) override {
    if (!ok) return LetGo();  // OnDone says why
    if (response_.canceled()) {
      const std::string why = "etcd ended the watch: " + response_.cancel_reason();
      ended_ = response_.compact_revision() != 0 ? absl::OutOfRangeError("revisions were compacted away")
                                                 : absl::UnavailableError(why);
      context_.TryCancel();
      return LetGo();
    }
    std::vector<KeyValue::Change> changes;
    changes.reserve(static_cast<size_t>(response_.events_size()));
    for (mvccpb::Event& event : *response_.mutable_events()) {
      changes.push_back({event.type() == mvccpb::Event::DELETE, ToEntry(event.mutable_kv())});
    }
    gate_.Deliver([&] { changes_(std::move(changes)); });
    response_.Clear();
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    if (ended_.ok()) ended_ = status.ok() ? absl::UnavailableError("etcd ended the watch") : ToAbsl(status);
    gate_.Deliver([&] { end_(ended_); });
    const std::shared_ptr<WatchCall> last = std::move(self_);
  }

 private:
  void LetGo() {
    {
      MutexLock lock(mutex_);
      if (!std::exchange(held_, false)) return;
    }
    RemoveHold();
  }

  std::shared_ptr<WatchCall> self_;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  pb::WatchRequest request_;
  pb::WatchResponse response_;
  KeyValue::OnChanges changes_;
  KeyValue::OnEnd end_;
  absl::Status ended_;
  DeliveryGate gate_;
  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;
  bool held_ ABSL_GUARDED_BY(mutex_) = true;
};

class EtcdWatcher final : public KeyValue::Watcher {
 public:
  explicit EtcdWatcher(std::shared_ptr<WatchCall> call) : call_(std::move(call)) {}
  ~EtcdWatcher() override { call_->Close(); }
  void AskForSign() override { call_->AskForSign(); }

 private:
  std::shared_ptr<WatchCall> call_;  // shared with gRPC, which may be done later
};

std::shared_ptr<grpc::Channel> Connect(const std::string& endpoint, const std::optional<EtcdTls>& tls) {
  KeepCallbackThreads();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMinMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMaxMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);  // its name is history
  // Else a new channel would share the old one's socket, which may be one to a stopped process.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // No pings: etcd closes connections that ping more often than it likes. Renewals show whether somebody is there.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  if (!tls.has_value()) return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = tls->ca;
  ssl.pem_cert_chain = tls->certificate;
  ssl.pem_private_key = tls->key;
  return grpc::CreateCustomChannel(endpoint, grpc::SslCredentials(ssl), arguments);
}

pb::TxnRequest ToProto(KeyValue::TxnRequest&& request) {
  pb::TxnRequest proto;
  for (KeyValue::Condition& condition : request.when) {
    pb::Compare* compare = proto.add_compare();
    compare->set_result(pb::Compare::EQUAL);
    compare->set_key(std::move(condition.key));
    const bool creation = condition.of == KeyValue::Condition::Of::kCreation;
    compare->set_target(creation ? pb::Compare::CREATE : pb::Compare::MOD);
    const auto revision = static_cast<int64_t>(condition.revision);
    creation ? compare->set_create_revision(revision) : compare->set_mod_revision(revision);
  }
  for (KeyValue::Put& put : request.puts) {
    pb::PutRequest* op = proto.add_success()->mutable_request_put();
    op->set_key(std::move(put.key));
    op->set_value(std::move(put.value));
    op->set_lease(put.lease);
  }
  return proto;
}

class EtcdKeyValue final : public KeyValue {
 public:
  EtcdKeyValue(const std::string& endpoint, const std::optional<EtcdTls>& tls)
      : channel_(Connect(endpoint, tls)),
        kv_(pb::KV::NewStub(channel_)),
        lease_(pb::Lease::NewStub(channel_)),
        watch_(pb::Watch::NewStub(channel_)) {}

  void Range(RangeRequest request, Duration deadline, Answer<RangeReply> answer) override {
    pb::RangeRequest proto;
    proto.set_range_end(EndOf(request.prefix));
    proto.set_key(std::move(request.prefix));
    proto.set_limit(request.limit);
    Ask<pb::RangeResponse>(
        channel_, std::move(proto), deadline,
        [this](auto* c, auto done) { kv_->async()->Range(&c->context, &c->request, &c->reply, std::move(done)); },
        [answer = std::move(answer)](absl::Status status, pb::RangeResponse& response) mutable {
          if (!status.ok()) return answer(std::move(status));
          RangeReply reply{Revision(response.header().revision()), {}, response.more()};
          for (mvccpb::KeyValue& kv : *response.mutable_kvs()) reply.entries.push_back(ToEntry(&kv));
          answer(std::move(reply));
        });
  }
  void Txn(TxnRequest request, Duration deadline, Answer<TxnReply> answer) override {
    Ask<pb::TxnResponse>(
        channel_, ToProto(std::move(request)), deadline,
        [this](auto* c, auto done) { kv_->async()->Txn(&c->context, &c->request, &c->reply, std::move(done)); },
        [answer = std::move(answer)](absl::Status status, pb::TxnResponse& response) mutable {
          if (!status.ok()) return answer(std::move(status));
          answer(TxnReply{response.succeeded(), Revision(response.header().revision())});
        });
  }
  void Grant(Duration ttl, Duration deadline, Answer<GrantReply> answer) override {
    pb::LeaseGrantRequest proto;
    proto.set_ttl(std::chrono::duration_cast<std::chrono::seconds>(ttl).count());
    Ask<pb::LeaseGrantResponse>(
        channel_, std::move(proto), deadline,
        [this](auto* c, auto done) {
          lease_->async()->LeaseGrant(&c->context, &c->request, &c->reply, std::move(done));
        },
        [answer = std::move(answer)](absl::Status status, pb::LeaseGrantResponse& response) mutable {
          if (status.ok() && !response.error().empty()) status = absl::ResourceExhaustedError(response.error());
          if (status.ok() && response.id() == 0) status = absl::InternalError("etcd granted no lease");
          if (!status.ok()) return answer(std::move(status));
          answer(GrantReply{response.id(), std::chrono::seconds(response.ttl())});
        });
  }
  void Renew(int64_t lease, Duration deadline, Answer<Nothing> answer) override {
    new RenewCall(channel_, lease_.get(), lease, deadline, std::move(answer));  // deletes itself
  }
  void Revoke(int64_t lease, Duration deadline, Answer<Nothing> answer) override {
    pb::LeaseRevokeRequest proto;
    proto.set_id(lease);
    Ask<pb::LeaseRevokeResponse>(
        channel_, std::move(proto), deadline,
        [this](auto* c, auto done) {
          lease_->async()->LeaseRevoke(&c->context, &c->request, &c->reply, std::move(done));
        },
        [answer = std::move(answer)](absl::Status status, pb::LeaseRevokeResponse&) mutable {
          if (!status.ok()) return answer(std::move(status));
          answer(Nothing{});
        });
  }
  std::unique_ptr<Watcher> Watch(std::string prefix, uint64_t from, OnChanges changes, OnEnd end) override {
    return std::make_unique<EtcdWatcher>(
        WatchCall::Open(channel_, watch_.get(), std::move(prefix), from, std::move(changes), std::move(end)));
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::KV::Stub> kv_;
  std::unique_ptr<pb::Lease::Stub> lease_;
  std::unique_ptr<pb::Watch::Stub> watch_;
};

}  // namespace

std::shared_ptr<KeyValue> MakeEtcdKeyValue(const std::string& endpoint, const std::optional<EtcdTls>& tls) {
  return std::make_shared<EtcdKeyValue>(endpoint, tls);
}

}  // namespace kvasir
