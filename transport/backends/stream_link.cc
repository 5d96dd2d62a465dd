// SPDX-License-Identifier: Apache-2.0
// The socket of a StreamLink: readiness, the handshake, the inbox.
#include "transport/backends/stream_link.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir {
namespace {

/// Fewer than the kernel's 1024; an answer has at most 64 parts.
constexpr size_t kPartsMax = kPiecesPerRequestMax + 4;

absl::Status Lost(const char* what, int error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(error)));
}

}  // namespace

void UniqueFd::Reset() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void StreamLink::Dial(const ConnectOptions& options, bool connecting) {
  if (options.credentials.size() > kCredentialsBytesMax) {
    Close(absl::InvalidArgumentError("credentials over kCredentialsBytesMax"));
    return;
  }
  scope_ = options.scope;
  expected_incarnation_ = options.peer_incarnation;
  HelloBody hello{};
  hello.magic = kHelloMagic;
  hello.version_min = kVersionMin;
  hello.version_max = kVersionMax;
  hello.credential_bytes = static_cast<uint32_t>(options.credentials.size());
  hello.incarnation = home().incarnation;
  hello.peer_incarnation = options.peer_incarnation;
  AppendHello(control_, hello, options.credentials);
  connecting_ = connecting;
  Watch();
  if (!connecting_) FlushLater();
}

void StreamLink::Await(std::shared_ptr<const Acceptor> acceptor) {
  acceptor_ = std::move(acceptor);
  Watch();
}

void StreamLink::Watch() {
  loop().Watch(socket(), connecting_ ? EPOLLOUT : EPOLLIN, [this](uint32_t events) { OnEvents(events); });
}

void StreamLink::OnEvents(uint32_t events) {
  const std::shared_ptr<Link> self = shared_from_this();
  in_handler_ = true;
  if (!connecting_ || FinishConnecting()) {
    if (events & ~static_cast<uint32_t>(EPOLLOUT)) ReceiveTurn();
  }
  Deliver();  // the callbacks' next pulls leave with the same flush
  in_handler_ = false;
  if (!closed()) Flush();
}

bool StreamLink::FinishConnecting() {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(socket(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    Close(Lost("connect", error));
    return false;
  }
  connecting_ = false;
  return true;
}

/// Receives what is there, the payload in hand straight into place and whatever follows it into the inbox.
void StreamLink::ReceiveTurn() {
  for (uint64_t turn = 0; turn < kTurnBytes && !closed();) {
    std::array<iovec, kPartsMax> parts;
    size_t count = landing_ != nullptr ? LandingParts(parts.data(), kPartsMax - 1) : 0;
    parts[count++] = {inbox_.data() + inbox_end_, inbox_.size() - inbox_end_};
    size_t asked = 0;
    for (size_t i = 0; i < count; ++i) asked += parts[i].iov_len;
    const ssize_t received = Receive(parts.data(), count);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (received < 0) return Close(Lost("receive", errno));
    if (received == 0) return Close(absl::UnavailableError("the peer has gone"));
    turn += static_cast<uint64_t>(received);
    const size_t landed = std::min<uint64_t>(static_cast<size_t>(received), landing_left_);
    inbox_end_ += static_cast<size_t>(received) - landed;
    if (landed > 0) Landed(landed);
    ParseInbox();
    if (static_cast<size_t>(received) < asked) break;  // drained
  }
  if (!closed()) WakeAt(std::clamp<uint64_t>(landing_left_, 1, kWakeBytes));
}

/// In the middle of a payload it is not worth waking up for a few packets.
void StreamLink::WakeAt(uint64_t bytes) {
  if (bytes == wake_bytes_) return;
  wake_bytes_ = bytes;
  const int low_water = static_cast<int>(bytes);
  setsockopt(socket(), SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof low_water);
}

ssize_t StreamLink::Receive(iovec* parts, size_t count) {
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  return recvmsg(socket(), &message, MSG_DONTWAIT);
}

void StreamLink::ParseInbox() {
  while (!closed() && landing_ == nullptr) {
    const std::string_view unread(inbox_.data() + inbox_begin_, inbox_end_ - inbox_begin_);
    const absl::StatusOr<size_t> taken = ParseMessage(unread, message_);
    if (!taken.ok()) return Close(taken.status());
    if (*taken == 0) break;
    inbox_begin_ += *taken;
    absl::Status status = Handle(message_);
    if (!status.ok()) return Close(std::move(status));
    if (landing_ == nullptr || closed()) continue;
    // The first bytes of a payload came with its header.
    const size_t here = std::min<uint64_t>(inbox_end_ - inbox_begin_, landing_left_);
    for (size_t left = here; left > 0;) {
      iovec part;
      LandingParts(&part, 1);
      const size_t length = std::min(left, part.iov_len);
      std::memcpy(part.iov_base, inbox_.data() + inbox_begin_, length);
      inbox_begin_ += length;
      left -= length;
      Landed(length);
    }
  }
  if (inbox_begin_ > 0) {
    std::memmove(inbox_.data(), inbox_.data() + inbox_begin_, inbox_end_ - inbox_begin_);
    inbox_end_ -= inbox_begin_;
    inbox_begin_ = 0;
  }
}

absl::Status StreamLink::Handle(const Message& message) {
  if (!open()) {
    if (acceptor_ != nullptr && message.type == MessageType::kHello) return HandleHello(message);
    if (acceptor_ == nullptr && message.type == MessageType::kWelcome) return HandleWelcome(message);
    return absl::InvalidArgumentError("malformed message: out of turn in the handshake");
  }
  switch (message.type) {
    case MessageType::kPullRequest:
      return Serve(message);
    case MessageType::kPullData:
      return BeginLanding(message);
    case MessageType::kPullError: {
      Request* request = Find(message.header.id);
      if (request == nullptr) return absl::InvalidArgumentError("malformed message: error for no request");
      Answered(*request, absl::Status(message.status, "refused by the peer"));
      return absl::OkStatus();
    }
    case MessageType::kClose:
      return absl::UnavailableError("the peer closed the connection");
    case MessageType::kHello:
    case MessageType::kWelcome:
      return absl::InvalidArgumentError("malformed message: a second handshake");
    default:
      return HandleOther(message);
  }
}

absl::Status StreamLink::HandleOther(const Message& message) {
  return absl::InvalidArgumentError(absl::StrCat("malformed message: type ", message.header.type, " on this backend"));
}

absl::Status StreamLink::HandleHello(const Message& message) {
  const std::shared_ptr<const Acceptor> acceptor = std::exchange(acceptor_, nullptr);
  absl::StatusOr<uint64_t> scope = absl::InvalidArgumentError("no version in common");
  const HelloBody& hello = message.hello;
  if (hello.peer_incarnation != 0 && hello.peer_incarnation != home().incarnation) {
    scope = absl::PermissionDeniedError("this address belongs to another incarnation");
  } else if (home().links.size() > home().options.connections_max) {
    scope = absl::ResourceExhaustedError("connections_max");
  } else if (hello.version_min <= kVersionMax && hello.version_max >= kVersionMin) {
    scope = acceptor->judge(message.credentials);
  }
  WelcomeBody welcome{};
  welcome.magic = kHelloMagic;
  welcome.version = std::min(hello.version_max, kVersionMax);
  welcome.status = static_cast<uint16_t>(scope.status().code());
  welcome.incarnation = home().incarnation;
  Send(MessageType::kWelcome, 0, AsBytes(welcome));
  if (!scope.ok()) {
    Flush();
    return scope.status();
  }
  scope_ = *scope;
  peer_incarnation_ = hello.incarnation;
  Opened();
  return absl::OkStatus();
}

absl::Status StreamLink::HandleWelcome(const Message& message) {
  if (message.status != absl::StatusCode::kOk) return absl::Status(message.status, "refused by the peer");
  if (expected_incarnation_ != 0 && message.welcome.incarnation != expected_incarnation_) {
    return absl::PermissionDeniedError("this address belongs to another incarnation");
  }
  peer_incarnation_ = message.welcome.incarnation;
  Opened();
  return absl::OkStatus();
}

void StreamLink::FlushLater() {
  if (in_handler_ || std::exchange(flush_posted_, true)) return;
  loop().Post([self = std::static_pointer_cast<StreamLink>(shared_from_this())] {
    self->flush_posted_ = false;
    if (!self->closed() && !self->connecting_) self->Flush();
  });
}

/// Sends what the socket takes, and waits for room only when there is more.
void StreamLink::Flush() {
  if (connecting_) return;
  Issue();
  if (closed()) return;
  bool full = false;
  for (uint64_t turn = 0; turn < kTurnBytes && !NothingToSend() && !full;) {
    std::array<iovec, kPartsMax> parts;
    const OutgoingFd* descriptor = nullptr;
    const size_t count = Gather(parts.data(), descriptor);
    const ssize_t sent = SendParts(parts.data(), count, descriptor);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return Close(Lost("send", errno));
    size_t asked = 0;
    for (size_t i = 0; i < count; ++i) asked += parts[i].iov_len;
    full = sent < static_cast<ssize_t>(asked);
    if (sent < 0) break;
    turn += static_cast<uint64_t>(sent);
    Sent(static_cast<size_t>(sent));
  }
  loop().Modify(socket(), NothingToSend() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void StreamLink::Shut(const absl::Status&) {
  if (!socket_) return;
  const bool shaken = peer_incarnation_ != 0;
  if (shaken && control_.empty() && answer_sent_ == 0) {
    // A word of farewell where it can go out whole; else the end of the stream says the same.
    std::string farewell;
    AppendFrame(farewell, MessageType::kClose, 0, {});
    (void)!send(socket(), farewell.data(), farewell.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  loop().Unwatch(socket());
  socket_.Reset();  // what had been received and not read is gone: nothing lands any more
  landing_ = nullptr;
  landing_left_ = 0;
  DropAnswers();
}

}  // namespace kvasir
