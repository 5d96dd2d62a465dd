// SPDX-License-Identifier: Apache-2.0
// The asking half of a StreamLink: pulls take turns, the window bounds the bytes on their way, answers land in place.
#include <algorithm>

#include "transport/backends/stream_link.h"
#include "transport/check.h"

namespace kvasir {

void StreamLink::Ask(PullState& pull) {
  turns_.push_back(&pull);
  FlushLater();  // issues, too: pulls of one turn share a system call
}

/// Cuts requests from the pulls in turn while there is room: no second one for a large pull before the others had one.
void StreamLink::Issue() {
  if (!open()) return;
  const uint64_t window = home().options.inflight_bytes;
  const uint64_t request_bytes = std::clamp<uint64_t>(window / 2, 1, kRequestBytes);
  while (!turns_.empty() && inflight_bytes_ + request_bytes <= std::max(window, request_bytes)) {
    if (free_slots_.empty() && requests_.size() == kRequestsOutstandingMax) return;
    PullState& pull = *turns_.front();
    turns_.pop_front();
    Request& request = Cut(pull, wire_);
    inflight_bytes_ += request.bytes;
    ++pull.outstanding;
    Send(MessageType::kPullRequest, request.id, AsBytes(std::span<const WirePiece>(wire_)));
    if (pull.piece < pull.pieces.size()) turns_.push_back(&pull);
  }
}

/// The next request of a pull, from its cursor on.
StreamLink::Request& StreamLink::Cut(PullState& pull, std::vector<WirePiece>& wire) {
  if (free_slots_.empty()) {
    if (requests_.empty()) requests_.reserve(kRequestsOutstandingMax);  // addresses are kept
    free_slots_.push_back(static_cast<uint16_t>(requests_.size()));
    requests_.emplace_back();
  }
  const uint16_t slot = free_slots_.back();
  free_slots_.pop_back();
  Request& request = requests_[slot];
  request.id = generation_++ << 16 | slot;
  request.pull = &pull;
  request.bytes = 0;
  request.locals.clear();
  wire.clear();
  const uint64_t limit = std::clamp<uint64_t>(home().options.inflight_bytes / 2, 1, kRequestBytes);
  while (pull.piece < pull.pieces.size() && wire.size() < kPiecesPerRequestMax) {
    const Piece& piece = pull.pieces[pull.piece];
    const uint64_t length = std::min<uint64_t>(piece.remote.length - pull.offset, limit - request.bytes);
    if (length == 0 && piece.remote.length > 0) break;  // full
    wire.push_back({piece.remote.grant, piece.remote.offset + pull.offset, length});
    request.locals.push_back(piece.local.subspan(pull.offset, length));
    request.bytes += length;
    pull.offset += length;
    if (pull.offset < piece.remote.length) break;
    ++pull.piece;
    pull.offset = 0;
  }
  return request;
}

StreamLink::Request* StreamLink::Find(uint64_t id) {
  const size_t slot = id & 0xffff;
  if (slot >= requests_.size() || requests_[slot].id != id) return nullptr;
  return &requests_[slot];
}

/// A request is over. The pull ends with its last one; after a failure it asks for nothing more but waits for what is
/// on its way, so that nothing lands after its end.
void StreamLink::Answered(Request& request, absl::Status status) {
  PullState* const pull = request.pull;
  inflight_bytes_ -= request.bytes;
  free_slots_.push_back(static_cast<uint16_t>(request.id & 0xffff));
  request.id = 0;
  if (pull == nullptr) return;
  --pull->outstanding;
  if (!status.ok() && pull->failure.ok()) {
    pull->failure = std::move(status);
    std::erase(turns_, pull);
  }
  if (pull->outstanding > 0) return;
  if (!pull->failure.ok() || pull->piece == pull->pieces.size()) End(*pull, pull->failure);
}

absl::Status StreamLink::BeginLanding(const Message& message) {
  Request* request = Find(message.header.id);
  if (request == nullptr) return absl::InvalidArgumentError("malformed message: data for no request");
  if (message.payload_bytes != request->bytes) {
    return absl::InvalidArgumentError("malformed message: data of another length");
  }
  landing_ = request;
  landing_piece_ = 0;
  landing_offset_ = 0;
  landing_left_ = request->bytes;
  Landed(0);
  return absl::OkStatus();
}

/// Where the rest of the payload goes.
size_t StreamLink::LandingParts(iovec* parts, size_t max) const {
  size_t count = 0;
  uint64_t offset = landing_offset_;
  for (size_t i = landing_piece_; i < landing_->locals.size() && count < max; ++i) {
    const std::span<std::byte> local = landing_->locals[i].subspan(offset);
    offset = 0;
    if (!local.empty()) parts[count++] = {local.data(), local.size()};
  }
  return count;
}

void StreamLink::Landed(size_t bytes) {
  landing_left_ -= bytes;
  landing_offset_ += bytes;
  if (landing_left_ == 0) {
    Answered(*std::exchange(landing_, nullptr), absl::OkStatus());
    return;
  }
  while (landing_offset_ >= landing_->locals[landing_piece_].size()) {
    landing_offset_ -= landing_->locals[landing_piece_++].size();
  }
}

bool StreamLink::Withdraw(PullState& pull) {
  std::erase(turns_, &pull);
  if (pull.outstanding == 0) return true;
  for (Request& request : requests_) {
    if (request.id != 0 && request.pull == &pull) request.pull = nullptr;
  }
  return false;  // only the end of the socket stops what is on its way
}

}  // namespace kvasir
