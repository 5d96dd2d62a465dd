// SPDX-License-Identifier: Apache-2.0
// The answering half of a StreamLink: requests are judged against grants, pinned, queued, and sent from the regions.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "transport/backends/stream_link.h"
#include "transport/check.h"

namespace kvasir {

void StreamLink::Send(MessageType type, uint64_t id, std::string_view body, UniqueFd descriptor) {
  if (closed()) return;
  if (control_.size() - control_sent_ > kControlBytesMax) {
    Close(absl::UnavailableError("the peer does not read: kControlBytesMax"));
    return;
  }
  if (descriptor) outgoing_fds_.push_back({control_.size(), std::move(descriptor)});
  AppendFrame(control_, type, id, body);
  FlushLater();
}

absl::Status StreamLink::Serve(const Message& message) {
  if (answers_.size() >= kRequestsQueuedMax) {
    return absl::InvalidArgumentError("malformed message: one request over kRequestsQueuedMax");
  }
  Answer answer;
  if (!spare_answers_.empty()) {
    answer = std::move(spare_answers_.back());
    spare_answers_.pop_back();
  }
  for (size_t i = 0; i < message.count; ++i) {
    const WirePiece& piece = message.pieces[i];
    absl::StatusOr<const std::byte*> source = home().grants->Pin(piece.grant, scope_, piece.offset, piece.length);
    if (!source.ok()) {
      Unpin(answer);
      Refuse(message.header.id, source.status());
      return absl::OkStatus();
    }
    answer.pins.push_back(piece.grant);
    if (piece.length > 0) answer.payload.push_back({const_cast<std::byte*>(*source), piece.length});
  }
  answer.bytes = sizeof(FrameHeader) + message.payload_bytes;
  answer.header = FrameHeader{static_cast<uint32_t>(message.payload_bytes),
                              static_cast<uint8_t>(MessageType::kPullData), {}, message.header.id};
  answers_.push_back(std::move(answer));
  FlushLater();
  return absl::OkStatus();
}

void StreamLink::Refuse(uint64_t id, const absl::Status& status) {
  const ErrorBody error{static_cast<uint32_t>(status.code()), 0};
  Send(MessageType::kPullError, id, AsBytes(error));
}

/// What is sent next: the rest of an answer begun and then control messages, or control messages and then an answer.
size_t StreamLink::Gather(iovec* parts, const OutgoingFd*& descriptor) {
  if (answer_sent_ == 0) {
    const size_t count = GatherControl(parts, descriptor);
    // Up to a message with a descriptor, or that message: nothing else may come between.
    if (!outgoing_fds_.empty() || answers_.empty()) return count;
    return count + GatherAnswer(parts + count);
  }
  const size_t count = GatherAnswer(parts);
  if (!outgoing_fds_.empty() || control_.empty()) return count;
  return count + GatherControl(parts + count, descriptor);
}

size_t StreamLink::GatherControl(iovec* parts, const OutgoingFd*& descriptor) {
  if (control_.empty()) return 0;
  size_t end = control_.size();
  for (const OutgoingFd& outgoing : outgoing_fds_) {
    if (outgoing.at == control_sent_) {
      descriptor = &outgoing;
    } else {
      end = outgoing.at;
      break;
    }
  }
  parts[0] = {control_.data() + control_sent_, end - control_sent_};
  return 1;
}

size_t StreamLink::GatherAnswer(iovec* parts) const {
  const Answer& answer = answers_.front();
  size_t count = 0;
  uint64_t skip = answer_sent_;
  const auto add = [&](const void* data, uint64_t bytes) {
    const uint64_t skipped = std::min(skip, bytes);
    skip -= skipped;
    if (bytes > skipped) parts[count++] = {static_cast<char*>(const_cast<void*>(data)) + skipped, bytes - skipped};
  };
  add(&answer.header, sizeof answer.header);
  for (const iovec& part : answer.payload) add(part.iov_base, part.iov_len);
  return count;
}

ssize_t StreamLink::SendParts(iovec* parts, size_t count, const OutgoingFd* descriptor) {
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor != nullptr) {
    message.msg_control = ancillary;
    message.msg_controllen = sizeof ancillary;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = descriptor->fd.get();
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  const ssize_t sent = sendmsg(socket(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0 && descriptor != nullptr) outgoing_fds_.pop_front();
  return sent;
}

void StreamLink::Sent(size_t bytes) {
  if (answer_sent_ > 0) AnswerSent(bytes);
  ControlSent(bytes);
  if (bytes > 0) AnswerSent(bytes);
}

void StreamLink::ControlSent(size_t& bytes) {
  const size_t sent = std::min(bytes, control_.size() - control_sent_);
  bytes -= sent;
  control_sent_ += sent;
  if (control_sent_ == control_.size()) {
    control_.clear();
    control_sent_ = 0;
  }
}

void StreamLink::AnswerSent(size_t& bytes) {
  const uint64_t sent = std::min<uint64_t>(bytes, answers_.front().bytes - answer_sent_);
  bytes -= sent;
  answer_sent_ += sent;
  if (answer_sent_ < answers_.front().bytes) return;
  answer_sent_ = 0;
  Unpin(answers_.front());
  constexpr size_t kSpareAnswersMax = 64;
  if (spare_answers_.size() < kSpareAnswersMax) spare_answers_.push_back(std::move(answers_.front()));
  answers_.pop_front();
}

void StreamLink::Unpin(Answer& answer) {
  for (const uint64_t grant : answer.pins) home().grants->Unpin(grant);
  answer.pins.clear();
  answer.payload.clear();
}

void StreamLink::DropAnswers() {
  for (Answer& answer : answers_) Unpin(answer);
  answers_.clear();
  answer_sent_ = 0;
  outgoing_fds_.clear();
  control_.clear();
  control_sent_ = 0;
}

}  // namespace kvasir
