// SPDX-License-Identifier: Apache-2.0
// The server half: callback services that translate, and the stream that carries one watcher's events.
#include "store/wire/grpc_server.h"

#include <grpc/support/time.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <deque>
#include <set>

#include "absl/strings/str_cat.h"
#include "store/wire/convert.h"
#include "store/wire/field_check.h"
#include "store/wire/kvasir.grpc.pb.h"
#include "transport/check.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

constexpr int kClientPingMinMs = 5000;     ///< keepalive pings of clients may come this often
constexpr int kKeepaliveMs = 10000;        ///< a silent client is asked after this long
constexpr int kKeepaliveTimeoutMs = 5000;  ///< and given up after this long

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const absl::string_view message = status.message();
  const absl::optional<absl::Cord> epoch = status.GetPayload(kEpochPayload);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), Utf8({message.data(), message.size()}),
                      epoch ? std::string(*epoch) : std::string());
}

/// What is left of a call's deadline; by the monotonic clock.
Duration TimeLeft(const grpc::ServerContextBase& context, Duration otherwise) {
  const gpr_timespec deadline = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_MONOTONIC);
  if (gpr_time_cmp(deadline, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0) return otherwise;
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(GPR_CLOCK_MONOTONIC));
  const Duration duration = std::chrono::seconds(left.tv_sec) + Duration(left.tv_nsec);
  return std::clamp(duration, Duration{0}, kDurationMax);
}

/// One unary call: checks the request, asks the store, translates the answer. `call` is (Request, Answer<Reply>).
template <class Reply, class ProtoRequest, class ProtoReply, class Call>
grpc::ServerUnaryReactor* Serve(grpc::CallbackServerContext* context, const ProtoRequest& in, ProtoReply* out,
                                Call call) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  auto request = FromProto(in);
  if (!request.ok()) {
    reactor->Finish(ToGrpc(request.status()));
    return reactor;
  }
  // `out` lives until Finish, which comes after the store's one answer, cancelled or not.
  call(*std::move(request), [reactor, out](absl::StatusOr<Reply> reply) {
    if (reply.ok()) ToProto(*reply, out);
    reactor->Finish(ToGrpc(reply.status()));
  });
  return reactor;
}

grpc::Status ShuttingDown() { return {grpc::StatusCode::UNAVAILABLE, "the node is shutting down"}; }

class WatchStream;

/// The open Watch streams, so that Shutdown can end them.
class WatchStreams {
 public:
  /// False after EndAll: too late.
  bool Add(WatchStream* stream) {
    MutexLock lock(mutex_);
    if (!closed_) streams_.insert(stream);
    return !closed_;
  }
  void Remove(WatchStream* stream) {
    MutexLock lock(mutex_);
    streams_.erase(stream);
  }
  void EndAll();

 private:
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<WatchStream*> streams_ ABSL_GUARDED_BY(mutex_);
};

/// One watcher's events on their way: a bounded queue, one write at a time. Deletes itself in OnDone. Events and the
/// end come from the store on any thread. gRPC never calls a streaming reactor back from inside StartWrite or Finish,
/// so both are called under the mutex.
class WatchStream : public grpc::ServerWriteReactor<v1::WatchEvent> {
 public:
  WatchStream(StoreApi* store, uint64_t session, uint32_t events_max, WatchStreams* all)
      : events_max_(events_max), all_(all) {
    if (!all_->Add(this)) {
      End(ShuttingDown());
      return;
    }
    StartSendInitialMetadata();  // the client learns at once that it is watching
    watcher_ = store->Watch(
        session, [this](WatchEvent event) { Push(event); }, [this](absl::Status why) { End(ToGrpc(why)); });
  }

  /// What is queued is still sent before `why`.
  void End(const grpc::Status& why) {
    MutexLock lock(mutex_);
    if (ended_) return;
    ended_ = true;
    why_ = why;
    Advance();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) Abandon(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the watcher is gone"));
    if (ok) queue_.pop_front();
    Advance();
  }
  void OnCancel() override {
    MutexLock lock(mutex_);
    Abandon(grpc::Status(grpc::StatusCode::CANCELLED, "the watcher left"));
    Advance();
  }
  void OnDone() override {
    all_->Remove(this);
    watcher_.reset();  // returns when the store calls no more
    delete this;
  }

 private:
  void Push(const WatchEvent& event) {
    MutexLock lock(mutex_);
    if (ended_) return;
    if (queue_.size() >= events_max_) {
      const std::string why = absl::StrCat("watch_events_max: ", events_max_, " events wait for this watcher");
      Abandon(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, why));
    } else {
      ToProto(event, &queue_.emplace_back());
    }
    Advance();
  }
  /// Ends without sending the rest. The front stays while it is being written.
  void Abandon(const grpc::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!ended_) why_ = why;
    ended_ = true;
    while (queue_.size() > (writing_ ? 1u : 0u)) queue_.pop_back();
  }
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      writing_ = true;
      StartWrite(&queue_.front());
    } else if (ended_) {
      finished_ = true;
      Finish(why_);
    }
  }

  const uint32_t events_max_;
  WatchStreams* const all_;
  std::unique_ptr<StoreApi::Watcher> watcher_;
  Mutex mutex_;
  std::deque<v1::WatchEvent> queue_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status why_ ABSL_GUARDED_BY(mutex_);
};

/// Under the lock of the set, which a stream's OnDone needs: no stream ends its life meanwhile.
void WatchStreams::EndAll() {
  MutexLock lock(mutex_);
  closed_ = true;
  for (WatchStream* stream : streams_) stream->End(ShuttingDown());
}

class StoreService final : public v1::Store::CallbackService {
 public:
  StoreService(StoreApi* store, const GrpcServerOptions& options) : store_(store), options_(options) {}
  WatchStreams& watches() { return watches_; }

  grpc::ServerUnaryReactor* Hello(grpc::CallbackServerContext* context, const v1::HelloRequest* in,
                                  v1::HelloReply* out) override {
    return Serve<HelloReply>(context, *in, out, [&](HelloRequest request, Answer<HelloReply> answer) {
      store_->Hello(std::move(request), Left(context), std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Offer(grpc::CallbackServerContext* context, const v1::OfferRequest* in,
                                  v1::OfferReply* out) override {
    return Serve<OfferReply>(context, *in, out, [&](OfferRequest request, Answer<OfferReply> answer) {
      store_->Offer(std::move(request), Left(context), std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Acquire(grpc::CallbackServerContext* context, const v1::AcquireRequest* in,
                                    v1::AcquireReply* out) override {
    return Serve<AcquireReply>(context, *in, out, [&](AcquireRequest request, Answer<AcquireReply> answer) {
      store_->Acquire(std::move(request), Left(context), std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Touch(grpc::CallbackServerContext* context, const v1::TouchRequest* in,
                                  v1::TouchReply* out) override {
    return Serve<TouchReply>(context, *in, out, [&](TouchRequest request, Answer<TouchReply> answer) {
      store_->Touch(std::move(request), Left(context), std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Object(grpc::CallbackServerContext* context, const v1::ObjectRequest* in,
                                   v1::ObjectReply* out) override {
    return Serve<ObjectReply>(context, *in, out, [&](ObjectRequest request, Answer<ObjectReply> answer) {
      store_->Object(std::move(request), Left(context), std::move(answer));
    });
  }
  grpc::ServerWriteReactor<v1::WatchEvent>* Watch(grpc::CallbackServerContext*, const v1::WatchRequest* in) override {
    return new WatchStream(store_, in->session(), options_.watch_events_max, &watches_);
  }

 private:
  Duration Left(grpc::CallbackServerContext* context) const { return TimeLeft(*context, options_.deadline_default); }
  StoreApi* const store_;
  const GrpcServerOptions& options_;
  WatchStreams watches_;
};

class AdminService final : public v1::Admin::CallbackService {
 public:
  explicit AdminService(AdminApi* admin) : admin_(admin) {}

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context, const v1::StatusRequest*,
                                   v1::NodeStatus* out) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    admin_->Status([reactor, out](absl::StatusOr<NodeStatus> reply) {
      if (reply.ok()) ToProto(*reply, out);
      reactor->Finish(ToGrpc(reply.status()));
    });
    return reactor;
  }
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const v1::ListRequest* in,
                                 v1::ListReply* out) override {
    return Serve<ListReply>(context, *in, out, [&](ListRequest request, Answer<ListReply> answer) {
      admin_->List(std::move(request), std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::DrainRequest* in,
                                  v1::NodeStatus* out) override {
    return Serve<NodeStatus>(context, *in, out, [&](Duration wait, Answer<NodeStatus> answer) {
      admin_->Drain(wait, std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Cordon(grpc::CallbackServerContext* context, const v1::CordonRequest* in,
                                   v1::NodeStatus* out) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    admin_->Cordon(in->cordoned(), [reactor, out](absl::StatusOr<NodeStatus> reply) {
      if (reply.ok()) ToProto(*reply, out);
      reactor->Finish(ToGrpc(reply.status()));
    });
    return reactor;
  }

 private:
  AdminApi* const admin_;
};

class PeerService final : public v1::Peer::CallbackService {
 public:
  PeerService(PeerApi* peer, const GrpcServerOptions& options) : peer_(peer), options_(options) {}

  grpc::ServerUnaryReactor* Probe(grpc::CallbackServerContext* context, const v1::ProbeRequest* in,
                                  v1::ProbeReply* out) override {
    return Serve<ProbeReply>(context, *in, out, [&](ProbeRequest request, Answer<ProbeReply> answer) {
      peer_->Probe(std::move(request), TimeLeft(*context, options_.deadline_default), std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Inventory(grpc::CallbackServerContext* context, const v1::InventoryRequest* in,
                                      v1::InventoryReply* out) override {
    return Serve<InventoryReply>(context, *in, out, [&](InventoryRequest request, Answer<InventoryReply> answer) {
      peer_->Inventory(std::move(request), TimeLeft(*context, options_.deadline_default), std::move(answer));
    });
  }
  grpc::ServerUnaryReactor* Suggest(grpc::CallbackServerContext* context, const v1::SuggestRequest* in,
                                    v1::SuggestReply* out) override {
    return Serve<SuggestReply>(context, *in, out, [&](SuggestRequest request, Answer<SuggestReply> answer) {
      peer_->Suggest(std::move(request), TimeLeft(*context, options_.deadline_default), std::move(answer));
    });
  }

 private:
  PeerApi* const peer_;
  const GrpcServerOptions& options_;
};

/// `address` with the port that was bound in place of the one asked for.
std::string BoundAddress(const std::string& address, int port) {
  const size_t colon = address.rfind(':');
  if (address.rfind("unix:", 0) == 0 || colon == std::string::npos) return address;
  return absl::StrCat(address.substr(0, colon + 1), port);
}

}  // namespace

struct GrpcServer::Impl {
  Impl(GrpcServices s, GrpcServerOptions o)
      : options(std::move(o)), services(s), store(s.store, options), admin(s.admin), peer(s.peer, options) {}
  const GrpcServerOptions options;
  const GrpcServices services;
  StoreService store;
  AdminService admin;
  PeerService peer;
  std::unique_ptr<grpc::Server> server;
};

GrpcServer::GrpcServer(GrpcServices services, GrpcServerOptions options)
    : impl_(std::make_unique<Impl>(services, std::move(options))) {}

GrpcServer::~GrpcServer() { Shutdown(Duration{0}); }

absl::StatusOr<std::string> GrpcServer::Start() {
  KVASIR_CHECK(impl_->server == nullptr, "GrpcServer::Start is called once");
  const GrpcServerOptions& options = impl_->options;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.message_bytes_max));
  builder.SetMaxSendMessageSize(static_cast<int>(options.message_bytes_max));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(options.streams_max));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kClientPingMinMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.RegisterService(&impl_->store);
  if (impl_->services.admin != nullptr) builder.RegisterService(&impl_->admin);
  if (impl_->services.peer != nullptr) builder.RegisterService(&impl_->peer);
  impl_->server = builder.BuildAndStart();
  if (impl_->server == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.address, ": it is in use or no address of this machine; stop the ",
                     "process that holds it (ss -ltnp shows it) or choose another"));
  }
  SetHealth(kLiveness, true);
  SetHealth(kReadiness, false);
  return BoundAddress(options.address, port);
}

void GrpcServer::SetHealth(const std::string& service, bool serving) {
  KVASIR_CHECK(impl_->server != nullptr, "SetHealth comes after Start");
  grpc::HealthCheckServiceInterface* health = impl_->server->GetHealthCheckService();
  health->SetServingStatus(service, serving);
  if (service == kReadiness) health->SetServingStatus("", serving);
}

void GrpcServer::Shutdown(Duration patience) {
  if (impl_->server == nullptr) return;
  impl_->store.watches().EndAll();
  const auto wait = std::chrono::duration_cast<std::chrono::nanoseconds>(patience).count();
  impl_->server->Shutdown(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(wait, GPR_TIMESPAN)));
  impl_->server->Wait();
}

}  // namespace kvasir
