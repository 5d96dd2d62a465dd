// SPDX-License-Identifier: Apache-2.0
// shm: ShmLinks over unix sockets. Addresses are "@name" (abstract, gone with its process) or a path.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/backends/shm_link.h"
#include "transport/backends/stream_transport.h"

namespace kvasir {
namespace {

absl::Status Failed(const char* step, std::string_view address) {
  return absl::UnavailableError(absl::StrCat(step, " ", std::string(address), ": ", std::strerror(errno)));
}

struct Address {
  sockaddr_un name{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

absl::StatusOr<Address> ParseAddress(std::string_view text) {
  Address address;
  address.name.sun_family = AF_UNIX;
  if (text.empty() || text.size() >= sizeof address.name.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\" is no name of a unix socket"));
  }
  std::memcpy(address.name.sun_path, text.data(), text.size());
  const bool abstract = text.front() == '@';
  if (abstract) address.name.sun_path[0] = '\0';
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + (abstract ? 0 : 1));
  return address;
}

UniqueFd OpenSocket() { return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

class ShmTransport : public StreamTransport {
 public:
  explicit ShmTransport(std::shared_ptr<LinkHome> home) : StreamTransport(std::move(home)) {
    home_->grants->on_revoked = [home = home_.get()](uint64_t scope, uint64_t grant) {
      for (const auto& link : LinksOf(*home)) {
        if (link->scope() == scope) link->TellRevoked(grant);
      }
    };
    home_->grants->on_region_gone = [home = home_.get()](GrantTable::RegionNumber region) {
      for (const auto& link : LinksOf(*home)) link->TellRegionGone(region);
    };
  }

  ~ShmTransport() override {  // the table may live on with a region
    home_->grants->on_revoked = nullptr;
    home_->grants->on_region_gone = nullptr;
  }

  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(MemorySpan memory) override {
    if (memory.fd >= 0) {
      // What a peer would refuse is refused here, where the mistake is.
      const absl::StatusOr<ReadMapping> readable = ReadMapping::Map(memory.fd, memory.bytes);
      if (!readable.ok()) return absl::InvalidArgumentError(std::string(readable.status().message()));
    }
    return StreamTransport::Register(memory);
  }

 protected:
  absl::StatusOr<Listening> OpenListener(std::string_view where) override {
    const std::string name = where.empty() ? absl::StrCat("@kvasir-", absl::Hex(NewIncarnation())) : std::string(where);
    const absl::StatusOr<Address> address = ParseAddress(name);
    if (!address.ok()) return address.status();
    Listening listening{OpenSocket(), name};
    if (!listening.socket) return Failed("socket for", name);
    RemoveStale(name, *address);
    if (bind(listening.socket.get(), address->get(), address->length) != 0) return Failed("bind to", name);
    if (listen(listening.socket.get(), kBacklog) != 0) return Failed("listen at", name);
    return listening;
  }

  absl::StatusOr<Dialled> OpenDial(std::string_view where) override {
    const absl::StatusOr<Address> address = ParseAddress(where);
    if (!address.ok()) return address.status();
    Dialled dialled{OpenSocket(), false};
    if (!dialled.socket) return Failed("socket for", where);
    if (connect(dialled.socket.get(), address->get(), address->length) != 0) return Failed("connect to", where);
    return dialled;
  }

  std::shared_ptr<StreamLink> MakeLink(UniqueFd socket) override {
    return std::make_shared<ShmLink>(home_, std::move(socket));
  }

 private:
  /// Those of now: telling may close one.
  static std::vector<std::shared_ptr<ShmLink>> LinksOf(const LinkHome& home) {
    std::vector<std::shared_ptr<ShmLink>> links;
    for (const auto& [key, link] : home.links) links.push_back(std::static_pointer_cast<ShmLink>(link));
    return links;
  }

  /// A path left by a process that is no more: nobody answers there.
  static void RemoveStale(const std::string& name, const Address& address) {
    if (name.front() == '@') return;
    const UniqueFd probe = OpenSocket();
    if (connect(probe.get(), address.get(), address.length) != 0 && errno == ECONNREFUSED) unlink(name.c_str());
  }
};

}  // namespace

std::unique_ptr<Transport> MakeShmTransport(Loop& loop, const TransportOptions& options) {
  Capabilities capabilities;
  capabilities.name = "shm";
  capabilities.same_host = true;
  capabilities.target_cpu_idle = true;
  capabilities.addressable = true;
  capabilities.enforces_read_only = true;
  capabilities.piece_bytes_max = UINT64_MAX;
  capabilities.inflight_bytes = options.inflight_bytes;
  return std::make_unique<ShmTransport>(std::make_shared<LinkHome>(loop, options, std::move(capabilities)));
}

}  // namespace kvasir
