// SPDX-License-Identifier: Apache-2.0
// Accepting and dialling.
#include "transport/backends/stream_transport.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace kvasir {

StreamTransport::~StreamTransport() {
  for (const auto& listener : listeners_) {
    home_->loop.Unwatch(listener->socket.get());
    home_->loop.Cancel(listener->pause);
  }
  home_->CloseAll();
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> StreamTransport::Register(MemorySpan memory) {
  if (memory.place != MemoryPlace::kHost) {
    return absl::InvalidArgumentError(absl::StrCat(capabilities().name, " moves host memory only"));
  }
  return GrantTable::Register(home_->grants, memory);
}

absl::StatusOr<std::string> StreamTransport::Listen(std::string_view where, Acceptor acceptor) {
  absl::StatusOr<Listening> listening = OpenListener(where);
  if (!listening.ok()) return listening.status();
  auto listener = std::make_unique<Listener>();
  listener->socket = std::move(listening->socket);
  listener->acceptor = std::make_shared<const Acceptor>(std::move(acceptor));
  WatchListener(*listener);
  listeners_.push_back(std::move(listener));
  return listening->address;
}

void StreamTransport::WatchListener(Listener& listener) {
  home_->loop.Watch(listener.socket.get(), EPOLLIN, [this, &listener](uint32_t) { AcceptTurn(listener); });
}

void StreamTransport::AcceptTurn(Listener& listener) {
  for (int i = 0; i < kBacklog; ++i) {
    UniqueFd socket(accept4(listener.socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno == ECONNABORTED || errno == EINTR) continue;
      if (errno == EAGAIN) return;
      home_->loop.Unwatch(listener.socket.get());
      listener.pause = home_->loop.After(kAcceptPause, [this, &listener] { WatchListener(listener); });
      return;
    }
    // Beyond the limit of links a peer still hears why; beyond twice that it is hung up on.
    if (home_->links.size() > 2ull * home_->options.connections_max) continue;
    const std::shared_ptr<StreamLink> link = MakeLink(std::move(socket));
    link->Open(Instant(), [acceptor = listener.acceptor](absl::StatusOr<std::unique_ptr<Connection>> connection) {
      if (connection.ok()) acceptor->accepted(*std::move(connection));
    });
    link->Await(listener.acceptor);
  }
}

void StreamTransport::Connect(std::string_view address, ConnectOptions options, ConnectDone done) {
  absl::StatusOr<Dialled> dialled = OpenDial(address);
  const std::shared_ptr<StreamLink> link = MakeLink(dialled.ok() ? std::move(dialled->socket) : UniqueFd());
  link->Open(options.deadline, std::move(done));
  if (dialled.ok()) {
    link->Dial(options, dialled->connecting);
  } else {
    link->Close(dialled.status());
  }
}

}  // namespace kvasir
