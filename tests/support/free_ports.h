// SPDX-License-Identifier: Apache-2.0
// Ports of loopback for servers that must be told one.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvasir::testing {

/// Ports that were free a moment ago, and that nobody gets who asks for any: below those that the system gives away.
inline std::vector<int> FreePorts(size_t count) {
  constexpr int kPortsBegin = 12'000, kPorts = 18'000;
  std::vector<int> ports;
  for (int port = kPortsBegin + getpid() * 7 % kPorts; ports.size() < count; ++port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) ports.push_back(port);
    close(fd);
  }
  return ports;
}

}  // namespace kvasir::testing
