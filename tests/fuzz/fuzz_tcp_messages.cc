// SPDX-License-Identifier: Apache-2.0
// ParseMessage of the socket backends: it takes no more than there is, and no prefix of a right message is wrong.
#include <memory>

#include "tests/fuzz/fuzz.h"
#include "transport/backends/tcp_messages.h"

namespace kvasir::fuzzing {

void Run(std::span<const uint8_t> input) {
  const std::string_view bytes(reinterpret_cast<const char*>(input.data()), input.size());
  const auto message = std::make_unique<Message>();
  const auto taken = ParseMessage(bytes, *message);
  if (!taken.ok()) return Require(!taken.status().message().empty(), "a refusal says why");
  Require(*taken <= bytes.size(), "no more is taken than there is");
  for (size_t length = 0; length < *taken; ++length) {
    const auto part = ParseMessage(bytes.substr(0, length), *message);
    Require(part.ok() && *part == 0, "a prefix needs more, and is not wrong");
  }
}

std::vector<std::string> Seeds() {
  std::string hello, welcome, request, data, error, resolve, resolved, region;
  AppendHello(hello, {kHelloMagic, kVersionMin, kVersionMax, 6, 7, 8}, "secret");
  AppendFrame(welcome, MessageType::kWelcome, 0, AsBytes(WelcomeBody{kHelloMagic, 1, 0, 0, 9}));
  const WirePiece pieces[] = {{1, 0, 100}, {2, 50, 0}, {3, 4096, 65536}};
  AppendFrame(request, MessageType::kPullRequest, 5, AsBytes(std::span<const WirePiece>(pieces)));
  AppendFrame(data, MessageType::kPullData, 5, "payload");
  AppendFrame(error, MessageType::kPullError, 5, AsBytes(ErrorBody{7, 0}));
  const uint64_t grants[] = {1, 2, 3};
  AppendFrame(resolve, MessageType::kResolve, 6, AsBytes(std::span<const uint64_t>(grants)));
  const ResolvedGrant answers[] = {{1, 0, 100, 1, 1}, {2, 0, 0, 0, 0}};
  AppendFrame(resolved, MessageType::kResolved, 6, AsBytes(std::span<const ResolvedGrant>(answers)));
  AppendFrame(region, MessageType::kRegion, 1, AsBytes(RegionBody{1 << 20}));
  return {hello, welcome, request, data, error, resolve, resolved, region};
}

}  // namespace kvasir::fuzzing
