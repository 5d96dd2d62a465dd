// SPDX-License-Identifier: Apache-2.0
// FakeNode: all services of a node, scripted by the test, behind a real GrpcServer on a port of its own.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "store/api/admin_api.h"
#include "store/api/peer_api.h"
#include "store/api/store_api.h"
#include "transport/sync.h"

namespace kvasir::testing {

/// What one kind of call met, and what it answers.
template <class Request, class Reply>
struct Script {
  std::function<void(Request, Duration, Answer<Reply>)> on_call;
};

class FakeNode : public StoreApi, public AdminApi, public PeerApi {
 public:
  Script<HelloRequest, HelloReply> hello;
  Script<OfferRequest, OfferReply> offer;
  Script<AcquireRequest, AcquireReply> acquire;
  Script<TouchRequest, TouchReply> touch;
  Script<ObjectRequest, ObjectReply> object;
  Script<std::monostate, NodeStatus> status;
  Script<ListRequest, ListReply> list;
  Script<Duration, NodeStatus> drain;
  Script<bool, NodeStatus> cordon;
  Script<ProbeRequest, ProbeReply> probe;
  Script<InventoryRequest, InventoryReply> inventory;
  Script<SuggestRequest, SuggestReply> suggest;
  std::promise<uint64_t> watched;          ///< the session of the first Watch
  std::promise<void> unwatched;            ///< its Watcher was destroyed

  void Hello(HelloRequest r, Duration d, Answer<HelloReply> a) override {
    hello.on_call(std::move(r), d, std::move(a));
  }
  void Offer(OfferRequest r, Duration d, Answer<OfferReply> a) override {
    offer.on_call(std::move(r), d, std::move(a));
  }
  void Acquire(AcquireRequest r, Duration d, Answer<AcquireReply> a) override {
    acquire.on_call(std::move(r), d, std::move(a));
  }
  void Touch(TouchRequest r, Duration d, Answer<TouchReply> a) override {
    touch.on_call(std::move(r), d, std::move(a));
  }
  void Object(ObjectRequest r, Duration d, Answer<ObjectReply> a) override {
    object.on_call(std::move(r), d, std::move(a));
  }
  void Status(Answer<NodeStatus> a) override { status.on_call({}, {}, std::move(a)); }
  void List(ListRequest r, Answer<ListReply> a) override { list.on_call(std::move(r), {}, std::move(a)); }
  void Drain(Duration wait, Answer<NodeStatus> a) override { drain.on_call(wait, {}, std::move(a)); }
  void Probe(ProbeRequest r, Duration d, Answer<ProbeReply> a) override {
    probe.on_call(std::move(r), d, std::move(a));
  }
  void Inventory(InventoryRequest r, Duration d, Answer<InventoryReply> a) override {
    inventory.on_call(std::move(r), d, std::move(a));
  }
  void Suggest(SuggestRequest r, Duration d, Answer<SuggestReply> a) override {
    suggest.on_call(std::move(r), d, std::move(a));
  }
  void Cordon(bool cordoned, Answer<NodeStatus> a) override { cordon.on_call(cordoned, {}, std::move(a)); }

  std::unique_ptr<Watcher> Watch(uint64_t session, OnEvent event, OnEnd end) override {
    {
      MutexLock lock(mutex_);
      event_ = std::move(event);
      end_ = std::move(end);
    }
    watched.set_value(session);
    return std::make_unique<FakeWatcher>(this);
  }
  /// Says something to the watcher, if there is one.
  void Say(WatchEvent event) {
    MutexLock lock(mutex_);
    if (event_) event_(std::move(event));
  }
  void EndWatch(absl::Status why) {
    MutexLock lock(mutex_);
    if (end_) end_(std::move(why));
  }

 private:
  class FakeWatcher : public Watcher {
   public:
    explicit FakeWatcher(FakeNode* node) : node_(node) {}
    ~FakeWatcher() override {
      MutexLock lock(node_->mutex_);  // waits for the callback that is running
      node_->event_ = nullptr;
      node_->end_ = nullptr;
      node_->unwatched.set_value();
    }

   private:
    FakeNode* const node_;
  };

  Mutex mutex_;
  OnEvent event_ ABSL_GUARDED_BY(mutex_);
  OnEnd end_ ABSL_GUARDED_BY(mutex_);
};

/// Waits for the one answer of a call. A second one throws inside the promise.
template <class T, class Start>
absl::StatusOr<T> Await(Start start) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<T>>>();
  auto future = promise->get_future();
  start([promise](absl::StatusOr<T> value) { promise->set_value(std::move(value)); });
  return future.get();
}

}  // namespace kvasir::testing
