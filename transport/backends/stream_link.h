// SPDX-License-Identifier: Apache-2.0
// StreamLink: pulls over a stream socket. Two halves that know nothing of each other share the socket:
//
//   asking     pulls take turns to cut requests (at most kRequestBytes, at most 64 pieces) while the window has room;
//              answers are received straight into the pieces                                    (stream_asking.cc)
//   answering  requests of the peer are judged, pinned, queued; sendmsg straight from the regions (stream_answering.cc)
//
// Control messages go between answers, never behind the queue of them. Non-blocking throughout; one turn moves at most
// kTurnBytes each way. Hot path: no allocation once the recycled requests and answers have grown, two system calls a
// request and side.
#pragma once

#include <sys/uio.h>

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "transport/backends/link.h"
#include "transport/backends/tcp_messages.h"

namespace kvasir {

/// A descriptor, closed with its owner.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() { Reset(); }
  void Reset();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class StreamLink : public Link {
 public:
  static constexpr uint64_t kRequestBytes = 512 << 10;    ///< cut of a large piece
  static constexpr uint32_t kRequestsOutstandingMax = 256;  ///< ours; below the peer's kRequestsQueuedMax
  static constexpr uint64_t kTurnBytes = 2 << 20;         ///< moved each way before the Loop's other work
  static constexpr uint64_t kWakeBytes = 128 << 10;         ///< of a payload that wake its receiver
  static constexpr size_t kControlBytesMax = 1 << 20;     ///< waiting for a peer that does not read; then it is closed
  static_assert(kRequestBytes <= kRequestBytesMax && kRequestsOutstandingMax < kRequestsQueuedMax);

  StreamLink(std::shared_ptr<LinkHome> home, UniqueFd socket) : Link(std::move(home)), socket_(std::move(socket)) {}

  /// After Open: says Hello once the socket is connected.
  void Dial(const ConnectOptions& options, bool connecting);
  /// After Open: waits for a Hello. The acceptor is shared with the listener, which may go before the Hello comes.
  void Await(std::shared_ptr<const Acceptor> acceptor);

 protected:
  void Start(PullState& pull) override { Ask(pull); }
  bool Withdraw(PullState& pull) override;
  void Shut(const absl::Status& why) override;

  // What shm adds.
  /// One recvmsg. Answers as that does.
  virtual ssize_t Receive(iovec* parts, size_t count);
  /// A message that tcp does not know. Not OK closes the connection.
  virtual absl::Status HandleOther(const Message& message);

  /// Queues a pull to be served by requests on the socket.
  void Ask(PullState& pull);
  /// Queues a control message; `descriptor` travels with its first byte. Sent at the end of this turn.
  void Send(MessageType type, uint64_t id, std::string_view body, UniqueFd descriptor = UniqueFd());
  int socket() const { return socket_.get(); }

 private:
  // The socket (stream_link.cc).
  void Watch();
  void OnEvents(uint32_t events);
  bool FinishConnecting();
  void ReceiveTurn();
  void WakeAt(uint64_t bytes);
  void ParseInbox();
  absl::Status Handle(const Message& message);
  absl::Status HandleHello(const Message& message);
  absl::Status HandleWelcome(const Message& message);
  void FlushLater();
  void Flush();

  // Asking (stream_asking.cc).
  /// Some pieces asked for with one message, answered with one.
  struct Request {
    uint64_t id = 0;            // generation << 16 | slot; 0: not in use
    PullState* pull = nullptr;  // null: withdrawn
    uint64_t bytes = 0;
    std::vector<std::span<std::byte>> locals;
  };
  void Issue();
  Request& Cut(PullState& pull, std::vector<WirePiece>& wire);
  Request* Find(uint64_t id);
  void Answered(Request& request, absl::Status status);
  absl::Status BeginLanding(const Message& message);
  size_t LandingParts(iovec* parts, size_t max) const;
  void Landed(size_t bytes);

  // Answering (stream_answering.cc).
  struct Answer {
    uint64_t bytes = 0;  // header and payload
    FrameHeader header{};
    std::vector<iovec> payload;
    std::vector<uint64_t> pins;
  };
  struct OutgoingFd {
    size_t at;  // position in control_ of the byte that it goes with
    UniqueFd fd;
  };
  absl::Status Serve(const Message& message);
  void Refuse(uint64_t id, const absl::Status& status);
  size_t Gather(iovec* parts, const OutgoingFd*& descriptor);
  size_t GatherControl(iovec* parts, const OutgoingFd*& descriptor);
  size_t GatherAnswer(iovec* parts) const;
  void Sent(size_t bytes);
  void ControlSent(size_t& bytes);
  void AnswerSent(size_t& bytes);
  void DropAnswers();
  void Unpin(Answer& answer);
  bool NothingToSend() const { return control_.empty() && answers_.empty(); }
  ssize_t SendParts(iovec* parts, size_t count, const OutgoingFd* descriptor);

  UniqueFd socket_;
  bool connecting_ = false;
  bool in_handler_ = false;    // it flushes when it is done
  bool flush_posted_ = false;
  uint64_t expected_incarnation_ = 0;               // dialler: of the peer
  std::shared_ptr<const Acceptor> acceptor_;        // acceptor, until the Hello
  Message message_;                                 // the one being handled

  // Received and not parsed yet: inbox_[inbox_begin_, inbox_end_).
  std::array<char, 4096> inbox_;
  static_assert(sizeof(FrameHeader) + kControlBodyBytesMax <= sizeof(decltype(inbox_)));
  size_t inbox_begin_ = 0;
  size_t inbox_end_ = 0;

  std::deque<PullState*> turns_;    // pulls with something left to ask for
  std::vector<Request> requests_;   // slots
  std::vector<uint16_t> free_slots_;
  uint64_t generation_ = 1;
  uint64_t inflight_bytes_ = 0;
  std::vector<WirePiece> wire_;     // scratch of Issue
  Request* landing_ = nullptr;      // its payload is arriving
  size_t landing_piece_ = 0;
  uint64_t landing_offset_ = 0;
  uint64_t landing_left_ = 0;
  uint64_t wake_bytes_ = 1;         // SO_RCVLOWAT of the socket

  std::string control_;
  size_t control_sent_ = 0;
  std::deque<OutgoingFd> outgoing_fds_;
  std::deque<Answer> answers_;
  uint64_t answer_sent_ = 0;        // of the first one
  std::vector<Answer> spare_answers_;
};

}  // namespace kvasir
