// SPDX-License-Identifier: Apache-2.0
#include "deploy/kvasird/vitals.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

constexpr const char* kNames[] = {"grpc", "memory", "descriptors", "membership"};

std::string MemoryTrouble(const MemoryLimit& limit, const std::string& root) {
  const uint64_t used = ReadMemoryUsed(limit, root);
  if (limit.bytes == 0 || static_cast<double>(used) < kMemoryNear * static_cast<double>(limit.bytes)) return "";
  return Cat(HumanBytes(used), " of ", limit.source, ", ", HumanBytes(limit.bytes),
             ", are in use: the kernel may end the node. Give it more, or less --dram");
}

/// Without a descriptor nobody can be accepted.
std::string DescriptorTrouble() {
  const int fd = eventfd(0, EFD_CLOEXEC);  // needs no file: a container may be without /dev
  if (fd < 0) return Cat("no descriptor is left: ", std::strerror(errno), ". Raise the limit (ulimit -n)");
  close(fd);
  return "";
}

/// "etcd 10.0.0.1:2379: unreachable for 12s, cached view"; well are "static" and what ends in ": ok".
std::string MembershipTrouble(const std::function<std::string()>& source) {
  if (!source) return "";
  const std::string text = source();
  return text == "static" || text.ends_with(": ok") ? "" : text;
}

/// Tells a server what changed: whoever watches is not woken for nothing.
class Teller {
 public:
  explicit Teller(GrpcServer& server) : server_(server) {}
  void operator()(const HealthReport& report) {
    Tell(GrpcServer::kReadiness, report.ready);
    Tell(GrpcServer::kLiveness, report.live);
    for (const char* tier : {"dram", "ssd"}) Tell(tier, report.Serves(tier));
  }

 private:
  void Tell(const std::string& service, bool serving) {
    const auto [told, first] = told_.try_emplace(service, serving);
    if (first || std::exchange(told->second, serving) != serving) server_.SetHealth(service, serving);
  }
  GrpcServer& server_;
  std::map<std::string, bool> told_;
};

}  // namespace

ServedHealth::ServedHealth(NodeHealth& health, GrpcServer& server, ProcessVitals vitals) : health_(health) {
  const HealthOptions& limits = health.options();
  health.AddEcho({kNames[0], "gRPC does not answer on the node's own port", limits.thread, "", true, true}, std::move(vitals.ping));
  health.AddCheck({kNames[1], "", limits.refused}, [memory = vitals.memory, root = vitals.memory_root] { return MemoryTrouble(memory, root); });
  health.AddCheck({kNames[2], "", limits.refused}, DescriptorTrouble);
  // Told only: a node without its lease goes on with the members it knows, and so do its clients.
  VitalSpec membership{kNames[3], "", {}};
  membership.counts = false;
  health.AddCheck(std::move(membership), [source = std::move(vitals.membership_source)] { return MembershipTrouble(source); });
  Teller teller(server);
  teller(health.Report(std::chrono::steady_clock::now()));
  health.OnJudged(std::move(teller));
}

ServedHealth::~ServedHealth() {
  health_.OnJudged(nullptr);
  for (const char* name : kNames) health_.Remove(name);
}

}  // namespace kvasir
