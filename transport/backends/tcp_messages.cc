// SPDX-License-Identifier: Apache-2.0
// Parsing of messages from strangers: judge the header, wait for the body, judge the body.
#include "transport/backends/tcp_messages.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir {
namespace {

absl::Status Malformed(const char* field, uint64_t value) {
  return absl::InvalidArgumentError(absl::StrCat("malformed message: ", field, " = ", value));
}

/// What a header may say of its body: between min and max bytes, in whole steps after min.
struct BodyRule {
  uint32_t min;
  uint32_t max;
  uint32_t step;
  bool has_id;
};

constexpr BodyRule kRules[kTypeMax + 1] = {
    {},
    {sizeof(HelloBody), sizeof(HelloBody) + kCredentialsBytesMax, 1, false},
    {sizeof(WelcomeBody), sizeof(WelcomeBody), 1, false},
    {sizeof(WirePiece), kPiecesPerRequestMax * sizeof(WirePiece), sizeof(WirePiece), true},
    {0, kRequestBytesMax, 1, true},
    {sizeof(ErrorBody), sizeof(ErrorBody), 1, true},
    {0, 0, 1, false},
    {sizeof(uint64_t), kGrantsPerMessageMax * sizeof(uint64_t), sizeof(uint64_t), true},
    {sizeof(ResolvedGrant), kGrantsPerMessageMax * sizeof(ResolvedGrant), sizeof(ResolvedGrant), true},
    {sizeof(RegionBody), sizeof(RegionBody), 1, true},
    {0, 0, 1, true},
    {0, 0, 1, true},
};

absl::Status JudgeHeader(const FrameHeader& header) {
  if (header.type == 0 || header.type > kTypeMax) return Malformed("type", header.type);
  for (const uint8_t zero : header.zero) {
    if (zero != 0) return Malformed("zero", zero);
  }
  const BodyRule& rule = kRules[header.type];
  if (header.body_bytes < rule.min || header.body_bytes > rule.max || (header.body_bytes - rule.min) % rule.step != 0) {
    return Malformed("body_bytes", header.body_bytes);
  }
  if ((header.id != 0) != rule.has_id) return Malformed("id", header.id);
  return absl::OkStatus();
}

absl::Status ParseStatus(uint32_t code, bool may_be_ok, absl::StatusCode& status) {
  status = static_cast<absl::StatusCode>(code);
  switch (status) {
    case absl::StatusCode::kOk:
      return may_be_ok ? absl::OkStatus() : Malformed("status", code);
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kInternal:
      return absl::OkStatus();
    default:
      return Malformed("status", code);
  }
}

absl::Status ParseHello(std::string_view body, Message& message) {
  HelloBody& hello = message.hello;
  std::memcpy(&hello, body.data(), sizeof hello);
  if (hello.magic != kHelloMagic) return Malformed("magic", hello.magic);
  if (hello.version_min > hello.version_max) return Malformed("version_min", hello.version_min);
  if (hello.credential_bytes != body.size() - sizeof hello) {
    return Malformed("credential_bytes", hello.credential_bytes);
  }
  if (hello.incarnation == 0) return Malformed("incarnation", 0);
  message.credentials = body.substr(sizeof hello);
  return absl::OkStatus();
}

absl::Status ParseWelcome(std::string_view body, Message& message) {
  WelcomeBody& welcome = message.welcome;
  std::memcpy(&welcome, body.data(), sizeof welcome);
  if (welcome.magic != kHelloMagic) return Malformed("magic", welcome.magic);
  if (welcome.zero != 0) return Malformed("zero", welcome.zero);
  if (welcome.incarnation == 0) return Malformed("incarnation", 0);
  const absl::Status status = ParseStatus(welcome.status, true, message.status);
  if (!status.ok()) return status;
  const bool spoken = welcome.version >= kVersionMin && welcome.version <= kVersionMax;
  if (welcome.status == 0 && !spoken) return Malformed("version", welcome.version);
  return absl::OkStatus();
}

absl::Status ParsePieces(std::string_view body, Message& message) {
  message.count = body.size() / sizeof(WirePiece);
  std::memcpy(message.pieces.data(), body.data(), body.size());
  message.payload_bytes = 0;
  for (size_t i = 0; i < message.count; ++i) {
    const uint64_t length = message.pieces[i].length;
    if (length > kRequestBytesMax - message.payload_bytes) return Malformed("length", length);
    message.payload_bytes += length;
  }
  return absl::OkStatus();
}

absl::Status ParseResolved(std::string_view body, Message& message) {
  message.count = body.size() / sizeof(ResolvedGrant);
  std::memcpy(message.resolved.data(), body.data(), body.size());
  for (size_t i = 0; i < message.count; ++i) {
    const ResolvedGrant& grant = message.resolved[i];
    if (grant.kind > static_cast<uint32_t>(GrantKind::kBySocket)) return Malformed("kind", grant.kind);
    if ((grant.region != 0) != (grant.kind == static_cast<uint32_t>(GrantKind::kMapped))) {
      return Malformed("region", grant.region);
    }
  }
  return absl::OkStatus();
}

absl::Status ParseBody(std::string_view body, Message& message) {
  switch (message.type) {
    case MessageType::kHello:
      return ParseHello(body, message);
    case MessageType::kWelcome:
      return ParseWelcome(body, message);
    case MessageType::kPullRequest:
      return ParsePieces(body, message);
    case MessageType::kPullError: {
      ErrorBody error;
      std::memcpy(&error, body.data(), sizeof error);
      if (error.zero != 0) return Malformed("zero", error.zero);
      return ParseStatus(error.status, false, message.status);
    }
    case MessageType::kResolve:
      message.count = body.size() / sizeof(uint64_t);
      std::memcpy(message.grants.data(), body.data(), body.size());
      return absl::OkStatus();
    case MessageType::kResolved:
      return ParseResolved(body, message);
    case MessageType::kRegion:
      std::memcpy(&message.region, body.data(), sizeof message.region);
      if (message.region.bytes == 0) return Malformed("bytes", 0);
      return message.header.id <= UINT32_MAX ? absl::OkStatus() : Malformed("id", message.header.id);
    case MessageType::kPullData:
    case MessageType::kClose:
    case MessageType::kRegionGone:
    case MessageType::kRevoked:
      return absl::OkStatus();
  }
  return Malformed("type", message.header.type);
}

}  // namespace

absl::StatusOr<size_t> ParseMessage(std::string_view bytes, Message& message) {
  if (bytes.size() < sizeof(FrameHeader)) return 0;
  std::memcpy(&message.header, bytes.data(), sizeof message.header);
  absl::Status status = JudgeHeader(message.header);
  if (!status.ok()) return status;
  message.type = static_cast<MessageType>(message.header.type);
  message.count = 0;
  if (message.type == MessageType::kPullData) {
    message.payload_bytes = message.header.body_bytes;
    return sizeof(FrameHeader);
  }
  if (bytes.size() - sizeof(FrameHeader) < message.header.body_bytes) return 0;
  status = ParseBody(bytes.substr(sizeof(FrameHeader), message.header.body_bytes), message);
  if (!status.ok()) return status;
  return sizeof(FrameHeader) + message.header.body_bytes;
}

void AppendFrame(std::string& out, MessageType type, uint64_t id, std::string_view body) {
  KVASIR_CHECK(body.size() <= kControlBodyBytesMax, "a control message within its limit");
  const FrameHeader header{static_cast<uint32_t>(body.size()), static_cast<uint8_t>(type), {}, id};
  out.append(AsBytes(header)).append(body);
}

void AppendHello(std::string& out, const HelloBody& hello, std::string_view credentials) {
  const std::string body = std::string(AsBytes(hello)).append(credentials);
  AppendFrame(out, MessageType::kHello, 0, body);
}

}  // namespace kvasir
