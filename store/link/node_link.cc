// SPDX-License-Identifier: Apache-2.0
// The life of a NodeLink: greeting, connecting, going down.
#include "store/link/node_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir {

NodeLink::NodeLink(LinkDesk& desk, std::string id, std::string control, Hooks hooks)
    : desk_(desk), id_(std::move(id)), control_(std::move(control)), hooks_(std::move(hooks)) {}

void NodeLink::Greet(absl::AnyInvocable<void(absl::Status)> done, WhilePaused paused) {
  if (session_ != 0) return done(absl::OkStatus());
  if (this->paused() && paused == WhilePaused::kFail) {
    return done(absl::UnavailableError(absl::StrCat("node ", id_, " failed a moment ago: ", last_failure_.message())));
  }
  greeted_waiting_.push_back(std::move(done));
  if (std::exchange(greeting_, true)) return;
  if (desk_.loop.Now() >= failed_at_ + kProbeMin) return SayHello();
  desk_.loop.At(failed_at_ + kProbeMin, [this, life = life_] {
    if (life == life_) SayHello();
  });
}

void NodeLink::SayHello() {
  if (!api_) api_ = desk_.dial(control_);
  if (!api_) return Fail(absl::UnavailableError(absl::StrCat("nothing can be dialled at ", control_)));
  desk_.count(LinkNews::kHello);
  Call<HelloRequest, HelloReply>(desk_.mailbox, desk_.loop, *api_, &StoreApi::Hello, desk_.hello, CallDeadline(),
                                 [this, life = life_](absl::StatusOr<HelloReply> reply) {
                                   if (life == life_) Greeted(std::move(reply));
                                 });
}

void NodeLink::Greeted(absl::StatusOr<HelloReply> reply) {
  if (!reply.ok()) return Fail(reply.status());
  if (reply->wire < kWireVersionMin || reply->wire > kWireVersion) {
    return Fail(absl::FailedPreconditionError(absl::StrCat("node ", reply->node_id, " speaks wire version ", reply->wire,
                                                           ", we ", kWireVersionMin, " to ", kWireVersion)));
  }
  if (!id_.empty() && reply->node_id != id_) {
    return Fail(absl::UnavailableError(absl::StrCat("at ", control_, " is node ", reply->node_id, ", not ", id_)));
  }
  if (reply->session == 0) return Fail(absl::InternalError(absl::StrCat("node ", reply->node_id, " gave session 0")));
  greeting_ = false;
  id_ = reply->node_id;
  session_ = reply->session;
  hello_ = *std::move(reply);
  paused_until_ = {};
  StartWatch();
  ScheduleRenewal();
  if (!hello_.warning.empty() && desk_.warn) desk_.warn(id_, hello_.warning);
  hooks_.greeted(hello_);
  for (auto& done : std::exchange(greeted_waiting_, {})) done(absl::OkStatus());
}

void NodeLink::StartWatch() {
  auto event = [this, mailbox = desk_.mailbox, life = life_](WatchEvent e) {
    mailbox->Post([this, life, e = std::move(e)]() mutable {
      if (life == life_) OnEvent(std::move(e));
    });
  };
  auto end = [this, mailbox = desk_.mailbox, life = life_](absl::Status status) {
    mailbox->Post([this, life, status] {
      if (life != life_) return;
      if (absl::IsAborted(status)) return Drop(status);
      Fail(absl::UnavailableError(absl::StrCat("node ", id_, " ended the watch: ", status.message())));
    });
  };
  watcher_ = api_->Watch(session_, std::move(event), std::move(end));
}

void NodeLink::PathTo(uint32_t shard, GotPath done, WhilePaused paused) {
  ShardState& state = shards_[shard];
  if (state.path) return done(state.path);
  state.waiting.push_back(std::move(done));
  if (session_ != 0) return Connect(shard);
  Greet([this, shard](absl::Status status) {
    if (status.ok()) return Connect(shard);
    AnswerPaths(shard, status);
  }, paused);
}

void NodeLink::Connect(uint32_t shard) {
  ShardState& state = shards_[shard];
  if (state.path || std::exchange(state.connecting, true)) return;
  TryAddress(shard, 0, "");
}

/// Candidates are the pairs (our transports, best first) x (the node's addresses), in that order.
void NodeLink::TryAddress(uint32_t shard, size_t candidate, std::string reasons) {
  size_t met = 0;
  for (const std::string& name : desk_.transports) {
    Transport* transport = desk_.transport(name);
    for (const DataAddress& data : hello_.data) {
      if (transport == nullptr || data.shard != shard || data.transport != name || met++ != candidate) continue;
      const uint64_t scope = desk_.next_scope++;
      const ConnectOptions options{.peer_incarnation = hello_.incarnation, .credentials = hello_.credentials,
                                   .scope = scope, .deadline = CallDeadline()};
      auto done = [this, shard, scope, transport, candidate, life = life_,
                   reasons = absl::StrCat(reasons, "; ", name, " ", data.address, ": ")](
                      absl::StatusOr<std::unique_ptr<Connection>> connection) mutable {
        if (life != life_) return;  // and the connection, if one came, closes
        if (connection.ok()) return Connected(shard, scope, transport, *std::move(connection));
        TryAddress(shard, candidate + 1, absl::StrCat(reasons, connection.status().message()));
      };
      return transport->Connect(data.address, options, std::move(done));
    }
  }
  if (reasons.empty()) reasons = "; it serves none of the asker's transports there";
  Fail(absl::UnavailableError(absl::StrCat("no data connection to shard ", shard, " of node ", id_, reasons)));
}

void NodeLink::Connected(uint32_t shard, uint64_t scope, Transport* transport, std::unique_ptr<Connection> connection) {
  ShardState& state = shards_[shard];
  state.connecting = false;
  state.path = std::make_shared<Path>();
  *state.path = Path{.link = this, .shard = shard, .session = session_, .scope = scope, .transport = transport,
                     .connection = std::move(connection)};
  state.path->connection->OnClosed([this, life = life_](absl::Status status) {
    if (life == life_) Fail(absl::UnavailableError(absl::StrCat("node ", id_, " is gone: ", status.message())));
  });
  AnswerPaths(shard, state.path);
}

void NodeLink::AnswerPaths(uint32_t shard, const absl::StatusOr<std::shared_ptr<Path>>& answer) {
  for (GotPath& done : std::exchange(shards_[shard].waiting, {})) done(answer);
}

void NodeLink::Fail(const absl::Status& why) {
  desk_.count(LinkNews::kNodeFailure);
  failed_at_ = desk_.loop.Now();
  paused_until_ = failed_at_ + desk_.retry_pause;
  last_failure_ = why;
  Drop(why);
}

void NodeLink::Drop(const absl::Status& why) {
  ++life_;
  greeting_ = false;
  session_ = 0;
  acquires_under_way_ = 0;
  early_.clear();
  watcher_.reset();
  desk_.loop.Cancel(std::exchange(renewal_, 0));
  renewing_ = false;
  for (auto& [shard, state] : shards_) {
    state.connecting = false;
    state.releases.clear();
    if (!state.path) continue;
    state.path->connection->Close();
    // Not from inside one of its own callbacks.
    desk_.loop.Post([closed = std::move(state.path->connection)] {});
    state.path = nullptr;
  }
  // A client whose node went away may be of no use any more: the next Greet dials again. Calls under way are answered by
  // whoever ends it.
  if (api_) desk_.loop.Post([old = std::exchange(api_, nullptr)] {});
  for (auto& [lease, listener] : std::exchange(leases_, {})) {
    listener(LeaseRevoked{.lease = lease, .reason = std::string(why.message())});
  }
  for (auto& done : std::exchange(greeted_waiting_, {})) done(why);
  std::vector<uint32_t> waited;
  for (auto& [shard, state] : shards_) {
    if (!state.waiting.empty()) waited.push_back(shard);
  }
  for (const uint32_t shard : waited) AnswerPaths(shard, why);
}

}  // namespace kvasir
