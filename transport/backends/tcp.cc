// SPDX-License-Identifier: Apache-2.0
// tcp: StreamLinks over TCP. Addresses are numeric "host:port" ("127.0.0.1:0", "[::1]:0", ":0" = any): looking up names
// would block the Loop, and the control plane hands out numbers.
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/backends/stream_transport.h"

namespace kvasir {
namespace {

// A peer that vanished without a word: data unacknowledged for so long, or so long no answer to probes when idle.
constexpr int kUserTimeoutMs = 30'000;
constexpr int kKeepAliveIdleSeconds = 10;
constexpr int kKeepAliveProbeSeconds = 5;
constexpr int kKeepAliveProbes = 3;

absl::Status Failed(const char* step, std::string_view address) {
  return absl::UnavailableError(absl::StrCat(step, " ", std::string(address), ": ", std::strerror(errno)));
}

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

absl::StatusOr<Address> ParseAddress(std::string_view text, bool passive) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\" is not host:port"));
  }
  std::string host(text.substr(0, colon));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  if (host.empty()) host = "0.0.0.0";
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::string(text.substr(colon + 1)).c_str(), &hints, &found);
  if (error != 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\": ", gai_strerror(error)));
  }
  Address address;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.length = found->ai_addrlen;
  freeaddrinfo(found);
  return address;
}

std::string PortOf(int socket) {
  Address address;
  address.length = sizeof address.storage;
  getsockname(socket, reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  const in_port_t port = address.storage.ss_family == AF_INET6
                             ? reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port
                             : reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port;
  return absl::StrCat(ntohs(port));
}

void SetOption(int socket, int level, int option, int value) {
  setsockopt(socket, level, option, &value, sizeof value);
}

UniqueFd OpenSocket(const Address& address) {
  return UniqueFd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

class TcpTransport : public StreamTransport {
 public:
  using StreamTransport::StreamTransport;

 protected:
  absl::StatusOr<Listening> OpenListener(std::string_view where) override {
    const absl::StatusOr<Address> address = ParseAddress(where, true);
    if (!address.ok()) return address.status();
    Listening listening{OpenSocket(*address), ""};
    if (!listening.socket) return Failed("socket for", where);
    const int fd = listening.socket.get();
    SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, address->get(), address->length) != 0) return Failed("bind to", where);
    if (listen(fd, kBacklog) != 0) return Failed("listen at", where);
    listening.address = absl::StrCat(std::string(where.substr(0, where.rfind(':'))), ":", PortOf(fd));
    return listening;
  }

  absl::StatusOr<Dialled> OpenDial(std::string_view where) override {
    const absl::StatusOr<Address> address = ParseAddress(where, false);
    if (!address.ok()) return address.status();
    Dialled dialled{OpenSocket(*address), false};
    if (!dialled.socket) return Failed("socket for", where);
    if (connect(dialled.socket.get(), address->get(), address->length) != 0) {
      if (errno != EINPROGRESS) return Failed("connect to", where);
      dialled.connecting = true;
    }
    return dialled;
  }

  std::shared_ptr<StreamLink> MakeLink(UniqueFd socket) override {
    if (socket) {
      SetOption(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
      SetOption(socket.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
      SetOption(socket.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
      SetOption(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
      SetOption(socket.get(), IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveProbeSeconds);
      SetOption(socket.get(), IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
    }
    return std::make_shared<StreamLink>(home_, std::move(socket));
  }
};

}  // namespace

std::unique_ptr<Transport> MakeTcpTransport(Loop& loop, const TransportOptions& options) {
  Capabilities capabilities;
  capabilities.name = "tcp";
  capabilities.sees_reads = true;
  capabilities.enforces_read_only = true;  // nothing but answers to our own requests is ever written
  capabilities.piece_bytes_max = UINT64_MAX;
  capabilities.inflight_bytes = options.inflight_bytes;
  return std::make_unique<TcpTransport>(std::make_shared<LinkHome>(loop, options, std::move(capabilities)));
}

}  // namespace kvasir
