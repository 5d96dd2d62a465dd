// SPDX-License-Identifier: Apache-2.0
// The messages of the socket backends (tcp, and shm on its unix socket). Every frame is a FrameHeader and its body;
// README.md says who sends what when. Little-endian, fixed widths, nothing is ever renumbered. Every limit is checked
// from the header alone, before a byte of the body is awaited.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/transport.h"

namespace kvasir {

static_assert(std::endian::native == std::endian::little, "messages travel as the little-endian machine holds them");

inline constexpr uint64_t kHelloMagic = 0x3154'5249'5341'564B;  ///< "KVASIRT1"
inline constexpr uint16_t kVersionMin = 1;
inline constexpr uint16_t kVersionMax = 1;
inline constexpr uint32_t kPiecesPerRequestMax = 64;
inline constexpr uint32_t kRequestBytesMax = 1 << 20;   ///< of payload, so that no answer holds the line for long
inline constexpr uint32_t kRequestsQueuedMax = 1024;    ///< a peer may have so many unanswered
inline constexpr uint32_t kGrantsPerMessageMax = 64;

enum class MessageType : uint8_t {
  kHello = 1,         ///< dialler's first
  kWelcome = 2,       ///< acceptor's answer, also a refusal
  kPullRequest = 3,   ///< wire pieces of one request
  kPullData = 4,      ///< the answer: all their bytes, in order
  kPullError = 5,     ///< or why not
  kClose = 6,         ///< nothing follows
  kResolve = 7,       ///< shm: where in which region are these grants?
  kResolved = 8,      ///< shm: the answers, in order
  kRegion = 9,        ///< shm: a region's memory; its descriptor travels with the first byte
  kRegionGone = 10,   ///< shm: the region was destroyed
  kRevoked = 11,      ///< shm: forget this grant
};
inline constexpr uint8_t kTypeMax = 11;

struct FrameHeader {
  uint32_t body_bytes;   ///< that follow this header
  uint8_t type;          ///< MessageType
  uint8_t zero[3];
  uint64_t id;           ///< of the request (3, 4, 5, 7, 8), the region (9, 10) or the grant (11); else 0
};
static_assert(sizeof(FrameHeader) == 16 && alignof(FrameHeader) == 8);

struct HelloBody {
  uint64_t magic;             ///< kHelloMagic
  uint16_t version_min;       ///< the versions the dialler speaks
  uint16_t version_max;
  uint32_t credential_bytes;  ///< that follow, at most kCredentialsBytesMax
  uint64_t incarnation;       ///< of the dialler
  uint64_t peer_incarnation;  ///< whom it expects; 0 = anybody
};
static_assert(sizeof(HelloBody) == 32);

struct WelcomeBody {
  uint64_t magic;        ///< kHelloMagic
  uint16_t version;      ///< chosen: the highest that both speak
  uint16_t status;       ///< absl::StatusCode: 0, or why the dialler is refused
  uint32_t zero;
  uint64_t incarnation;  ///< of the acceptor
};
static_assert(sizeof(WelcomeBody) == 24);

struct WirePiece {
  uint64_t grant;
  uint64_t offset;  ///< inside the grant
  uint64_t length;  ///< may be 0
};
static_assert(sizeof(WirePiece) == 24);

struct ErrorBody {
  uint32_t status;  ///< absl::StatusCode, one of law 4
  uint32_t zero;
};
static_assert(sizeof(ErrorBody) == 8);

struct ResolvedGrant {
  uint64_t grant;   ///< as asked
  uint64_t offset;  ///< of the grant in the region
  uint64_t length;
  uint32_t region;  ///< number, announced by kRegion before this; 0 unless mapped
  uint32_t kind;    ///< GrantKind
};
static_assert(sizeof(ResolvedGrant) == 32);
enum class GrantKind : uint32_t { kDenied = 0, kMapped = 1, kBySocket = 2 };

struct RegionBody {
  uint64_t bytes;  ///< length of the memory
};
static_assert(sizeof(RegionBody) == 8);

/// The longest body but for kPullData's, which is read in place.
inline constexpr size_t kControlBodyBytesMax = kGrantsPerMessageMax * sizeof(ResolvedGrant);
static_assert(kPiecesPerRequestMax * sizeof(WirePiece) <= kControlBodyBytesMax);
static_assert(sizeof(HelloBody) + kCredentialsBytesMax <= kControlBodyBytesMax);

/// A parsed message. The arrays hold the first `count` entries; kPullData carries its header only.
struct Message {
  FrameHeader header;
  MessageType type;
  size_t count = 0;  ///< of pieces, grants or resolved
  HelloBody hello;
  std::string_view credentials;  ///< into the parsed bytes
  WelcomeBody welcome;
  absl::StatusCode status;  ///< of kWelcome and kPullError
  RegionBody region;
  std::array<WirePiece, kPiecesPerRequestMax> pieces;
  uint64_t payload_bytes = 0;  ///< sum of the pieces, or body of kPullData
  std::array<uint64_t, kGrantsPerMessageMax> grants;
  std::array<ResolvedGrant, kGrantsPerMessageMax> resolved;
};

/// Parses the message at the front of `bytes` and answers how many bytes it took (for kPullData: its header), or 0 when
/// more are needed. InvalidArgument names the field that is wrong: no prefix of a right stream gives that.
/// Never reads beyond `bytes`, never allocates but for an error.
absl::StatusOr<size_t> ParseMessage(std::string_view bytes, Message& message);

/// Appends a frame.
void AppendFrame(std::string& out, MessageType type, uint64_t id, std::string_view body);
void AppendHello(std::string& out, const HelloBody& hello, std::string_view credentials);
template <typename Body>
std::string_view AsBytes(const Body& body) {
  return {reinterpret_cast<const char*>(&body), sizeof body};
}
template <typename Body>
std::string_view AsBytes(std::span<const Body> bodies) {
  return {reinterpret_cast<const char*>(bodies.data()), bodies.size_bytes()};
}

}  // namespace kvasir
