// SPDX-License-Identifier: Apache-2.0
// A socket bound for a moment, to learn whether a port is free, and which.
#include "deploy/kvasird/free_port.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "deploy/text.h"

namespace kvasir {
namespace {

absl::Status Refused(const HostPort& address, const char* flag, int error) {
  if (error == EADDRINUSE) {
    return absl::UnavailableError(
        Cat("port ", address.port, " at ", address.host,
            " is in use. Stop the process that has it (ss -ltnp shows it) or choose another with ", flag));
  }
  if (error == EADDRNOTAVAIL) {
    return absl::InvalidArgumentError(
        Cat(address.host, " is no address of this machine (ip addr shows them). Correct ", flag));
  }
  if (error == EACCES) {
    return absl::InvalidArgumentError(
        Cat("this user may not listen at port ", address.port, ". Choose one above 1023 with ", flag));
  }
  return absl::UnavailableError(Cat("cannot listen at ", address.Text(), ": ", std::strerror(error)));
}

uint16_t BoundPort(int fd) {
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length);
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

}  // namespace

absl::StatusOr<uint16_t> FindPort(const HostPort& address, const char* flag) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* first = nullptr;
  const int error = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &first);
  if (error != 0) {
    return absl::InvalidArgumentError(
        Cat("the host ", address.host, " is unknown: ", gai_strerror(error), ". Correct ", flag));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> found(first, &freeaddrinfo);
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Refused(address, flag, errno);
  const int one = 1;  // a port whose last connections linger is free
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const bool free = bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 1) == 0;
  const int cause = errno;
  const uint16_t port = free ? BoundPort(fd) : 0;
  close(fd);
  if (!free) return Refused(address, flag, cause);
  return port;
}

}  // namespace kvasir
