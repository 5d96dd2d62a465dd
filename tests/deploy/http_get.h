// SPDX-License-Identifier: Apache-2.0
// A GET by hand: what a probe or a scraper sends, and all that comes back.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>

namespace kvasir::testing {

struct HttpReply {
  int status = 0;  ///< 0 = none came
  std::string head, body;
};

/// A connection to "127.0.0.1:PORT"; -1 when it is refused. Reads end after half a minute, a guard against hanging.
inline int HttpConnect(const std::string& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(address.substr(address.rfind(':') + 1).c_str())));
  const timeval guard{30, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof guard);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return fd;
  close(fd);
  return -1;
}

/// Sends `request` and reads until the other side closes.
inline HttpReply HttpSend(const std::string& address, const std::string& request) {
  HttpReply reply;
  const int fd = HttpConnect(address);
  if (fd < 0) return reply;
  EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  std::string all;
  char buffer[4096];
  for (ssize_t got = 0; (got = recv(fd, buffer, sizeof buffer, 0)) > 0;) all.append(buffer, static_cast<size_t>(got));
  close(fd);
  const size_t end = all.find("\r\n\r\n");
  if (!all.starts_with("HTTP/1.1 ") || end == std::string::npos) return reply;
  return {std::atoi(all.c_str() + 9), all.substr(0, end), all.substr(end + 4)};
}
inline HttpReply HttpGet(const std::string& address, const std::string& path) {
  return HttpSend(address, "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n");
}
/// Asks again until the answer has this status, a minute at most: the last answer.
inline HttpReply HttpGetUntil(const std::string& address, const std::string& path, int status) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  HttpReply reply = HttpGet(address, path);
  while (reply.status != status && std::chrono::steady_clock::now() < end) reply = HttpGet(address, path);
  return reply;
}

}  // namespace kvasir::testing
