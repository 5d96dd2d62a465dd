// SPDX-License-Identifier: Apache-2.0
// StreamTransport: listening, accepting and dialling for the backends whose connections are StreamLinks. tcp and shm
// add their kind of address, socket and link.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/backends/stream_link.h"

namespace kvasir {

class StreamTransport : public Transport {
 public:
  static constexpr int kBacklog = 256;
  /// Out of descriptors: so long nobody is accepted, instead of trying in a circle.
  static constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

  explicit StreamTransport(std::shared_ptr<LinkHome> home) : home_(std::move(home)) {}
  ~StreamTransport() override;

  const Capabilities& capabilities() const override { return home_->capabilities; }
  uint64_t incarnation() const override { return home_->incarnation; }
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(MemorySpan memory) override;
  absl::StatusOr<std::string> Listen(std::string_view where, Acceptor acceptor) override;
  void Connect(std::string_view address, ConnectOptions options, ConnectDone done) override;

 protected:
  struct Listening {
    UniqueFd socket;
    std::string address;
  };
  struct Dialled {
    UniqueFd socket;
    bool connecting = false;  ///< not connected yet: writable will tell
  };
  virtual absl::StatusOr<Listening> OpenListener(std::string_view where) = 0;
  virtual absl::StatusOr<Dialled> OpenDial(std::string_view address) = 0;
  /// A link over a socket of either side. `socket` may be none: then the link is closed at once.
  virtual std::shared_ptr<StreamLink> MakeLink(UniqueFd socket) = 0;

  const std::shared_ptr<LinkHome> home_;

 private:
  struct Listener {
    UniqueFd socket;
    std::shared_ptr<const Acceptor> acceptor;  // shared with links that have not heard their Hello
    Loop::TimerId pause = 0;
  };
  void WatchListener(Listener& listener);
  void AcceptTurn(Listener& listener);

  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace kvasir
