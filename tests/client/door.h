// SPDX-License-Identifier: Apache-2.0
// Door: how clients and peers reach a node in this process, so that it can be killed: a shut door answers Unavailable, ends
// every watch, and nobody behind it keeps the node alive.
#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "store/node.h"
#include "transport/sync.h"

namespace kvasir::testing {

/// See above.
class Door : public StoreApi, public PeerApi, public std::enable_shared_from_this<Door> {
 public:
  explicit Door(std::shared_ptr<Node> node) : node_(std::move(node)) {}

  /// Destroys the node and returns when it is gone. REQUIRES: nobody else holds it.
  void Shut() {
    std::shared_ptr<Node> node;
    std::set<Watching*> watching;
    {
      MutexLock lock(mutex_);
      node = std::move(node_);
      watching.swap(watching_);
      for (Watching* w : watching) w->inner.reset();  // the store calls no more
    }
    for (Watching* w : watching) w->end(absl::UnavailableError("the node was killed"));
    std::weak_ptr<Node> gone = node;
    node.reset();
    while (!gone.expired()) std::this_thread::yield();
  }
  std::shared_ptr<Node> node() const {
    MutexLock lock(mutex_);
    return node_;
  }

  void Hello(HelloRequest r, Duration d, Answer<HelloReply> a) override { Pass(&StoreApi::Hello, std::move(r), d, std::move(a)); }
  void Offer(OfferRequest r, Duration d, Answer<OfferReply> a) override { Pass(&StoreApi::Offer, std::move(r), d, std::move(a)); }
  void Acquire(AcquireRequest r, Duration d, Answer<AcquireReply> a) override { Pass(&StoreApi::Acquire, std::move(r), d, std::move(a)); }
  void Touch(TouchRequest r, Duration d, Answer<TouchReply> a) override { Pass(&StoreApi::Touch, std::move(r), d, std::move(a)); }
  void Object(ObjectRequest r, Duration d, Answer<ObjectReply> a) override { Pass(&StoreApi::Object, std::move(r), d, std::move(a)); }
  void Probe(ProbeRequest r, Duration d, Answer<ProbeReply> a) override { Pass(&PeerApi::Probe, std::move(r), d, std::move(a)); }
  void Inventory(InventoryRequest r, Duration d, Answer<InventoryReply> a) override { Pass(&PeerApi::Inventory, std::move(r), d, std::move(a)); }
  void Suggest(SuggestRequest r, Duration d, Answer<SuggestReply> a) override { Pass(&PeerApi::Suggest, std::move(r), d, std::move(a)); }

  std::unique_ptr<Watcher> Watch(uint64_t session, OnEvent event, OnEnd end) override {
    auto watching = std::make_unique<Watching>(shared_from_this());
    watching->end = std::move(end);
    MutexLock lock(mutex_);
    if (node_ == nullptr) {
      watching->end(absl::UnavailableError("the node was killed"));
      return watching;
    }
    watching->inner = node_->Watch(session, std::move(event), [w = watching.get()](absl::Status why) { w->end(std::move(why)); });
    watching_.insert(watching.get());
    return watching;
  }

 private:
  struct Watching : Watcher {
    explicit Watching(std::shared_ptr<Door> of) : door(std::move(of)) {}
    ~Watching() override {
      std::unique_ptr<Watcher> last;
      MutexLock lock(door->mutex_);
      door->watching_.erase(this);
      last = std::move(inner);
      last.reset();
    }
    const std::shared_ptr<Door> door;
    std::unique_ptr<Watcher> inner;
    OnEnd end;
  };
  template <class Api, class Request, class Reply>
  void Pass(void (Api::*method)(Request, Duration, Answer<Reply>), Request request, Duration deadline, Answer<Reply> answer) {
    const std::shared_ptr<Node> node = this->node();
    if (node == nullptr) return answer(absl::UnavailableError("the node was killed"));
    (static_cast<Api*>(node.get())->*method)(std::move(request), deadline, std::move(answer));
  }

  mutable Mutex mutex_;
  std::shared_ptr<Node> node_ ABSL_GUARDED_BY(mutex_);
  std::set<Watching*> watching_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir::testing
