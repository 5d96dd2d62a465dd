// SPDX-License-Identifier: Apache-2.0
// Puts a Node behind a gRPC port and lives with it. The order matters: what is cheap to refuse comes first, readiness
// is said last and taken back first.
#include "deploy/kvasird/serve.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "deploy/kvasird/banner.h"
#include "deploy/kvasird/cluster_seat.h"
#include "deploy/kvasird/free_port.h"
#include "deploy/kvasird/http_pages.h"
#include "deploy/kvasird/http_server.h"
#include "deploy/kvasird/vitals.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "store/node.h"
#include "store/wire/grpc_server.h"
#include "store/wire/grpc_stub.h"

namespace kvasir {
namespace {

constexpr Duration kLastCalls = std::chrono::seconds(1);  ///< after the drain, for answers under way

/// SIGTERM and SIGINT as a file descriptor. Threads that are made after it do not take them.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of one write, not the end
    fd_ = signalfd(-1, &set, SFD_CLOEXEC);
  }
  ~Signals() { close(fd_); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  int fd() const { return fd_; }
  /// Blocks until one comes; its name.
  const char* Take() const {
    signalfd_siginfo info{};
    while (read(fd_, &info, sizeof info) < 0 && errno == EINTR) {
    }
    return info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM";
  }

 private:
  int fd_ = -1;
};

/// The directory of --dev without --ssd; removed with everything in it.
class TemporaryDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<TemporaryDirectory>> Make() {
    const char* base = std::getenv("TMPDIR");
    std::string path = Cat(base == nullptr ? "/tmp" : base, "/kvasir-dev-XXXXXX");
    if (mkdtemp(path.data()) == nullptr) {
      return absl::InvalidArgumentError(
          Cat("cannot make a directory like ", path, ": ", std::strerror(errno), ". Name one with --ssd DIR"));
    }
    return std::unique_ptr<TemporaryDirectory>(new TemporaryDirectory(path));
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

std::string DataText(const Node& node) {
  std::vector<std::string> ways;
  for (const DataAddress& at : node.DataAddresses()) ways.push_back(Cat(at.transport, " ", at.address));
  return Join(ways, ", ");
}

/// The pages, or null for --http off. Fills in the port that was bound.
absl::StatusOr<std::unique_ptr<HttpServer>> StartHttp(DaemonOptions& options, HttpPages& pages) {
  if (!options.http.has_value()) return nullptr;
  auto port = FindPort(*options.http, "--http");
  if (!port.ok() && absl::IsUnavailable(port.status()) && !options.http_given) {
    options.node.log(Severity::kWarning, "the default --http port is taken; another is used", {{"port", options.http->port}});
    options.http->port = 0;
    port = FindPort(*options.http, "--http");
  }
  if (!port.ok()) return port.status();
  auto server = HttpServer::Start(*options.http, pages.All());
  if (server.ok()) options.http = (*server)->address();
  return server;
}

/// Tells whoever waits: the line on stdout, the port file, the descriptor.
absl::Status Announce(const DaemonOptions& options, const Node& serving, const std::string& control) {
  const NodeOptions& node = options.node;
  if (!options.port_file.empty()) {
    const nlohmann::ordered_json facts = {{"id", node.id},
                                          {"pid", getpid()},
                                          {"control", control},
                                          {"http", options.http.has_value() ? options.http->Text() : ""},
                                          {"transports", node.transports},
                                          {"data_host", node.data_host},
                                          {"ssd", node.ssd.has_value() ? node.ssd->directory : ""}};
    if (auto status = WriteFileAtOnce(options.port_file, facts.dump(1) + "\n"); !status.ok()) {
      return absl::InvalidArgumentError(Cat("--port-file: ", status.message()));
    }
  }
  const std::string ssd =
      node.ssd.has_value() ? Cat(", ssd ", HumanBytes(node.ssd->bytes_max), " in ", node.ssd->directory) : "";
  const std::string http = options.http.has_value() ? Cat(", http ", options.http->Text()) : "";
  std::printf("kvasird %s serving on %s, data %s, dram %s%s%s\n", node.id.c_str(), control.c_str(),
              DataText(serving).c_str(), HumanBytes(node.dram_bytes).c_str(), ssd.c_str(), http.c_str());
  if (options.dev) {
    const std::string at = control == kDefaultControl ? "" : Cat(" --node ", control);
    std::printf(
        "%sType in another terminal:\n  kvasir%s status      what it holds\n  kvasir%s bench       move some blocks\n"
        "  kvasir%s ls          see them\nCtrl-C stops it.\n",
        options.dev_temporary ? "The SSD directory is temporary and goes with this process; --ssd DIR keeps one.\n"
                              : "",
        at.c_str(), at.c_str(), at.c_str());
  }
  std::fflush(stdout);
  if (options.ready_fd >= 0) {
    const std::string line = Cat("ready ", control, "\n");
    const bool written = write(options.ready_fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
    close(options.ready_fd);
    if (!written) return absl::InvalidArgumentError(Cat("--ready-fd ", options.ready_fd, " cannot be written to"));
  }
  return absl::OkStatus();
}

/// Waits for the drain's end or a second signal, which ends the process on the spot.
void Drain(Node& node, const DaemonOptions& options, const Signals& signals) {
  const int done = eventfd(0, EFD_CLOEXEC);
  node.Drain(options.drain_wait, [done](absl::StatusOr<NodeStatus>) { eventfd_write(done, 1); });
  pollfd both[] = {{done, POLLIN, 0}, {signals.fd(), POLLIN, 0}};
  while (poll(both, 2, -1) < 0 && errno == EINTR) {
  }
  if ((both[0].revents & POLLIN) == 0) {
    options.node.log(Severity::kWarning, "a second signal: exits at once");
    _exit(kExitFailure);  // destructors would wait for what the signal is impatient about
  }
  close(done);
}

/// A signal came while it waited for etcd: nobody relies on it yet.
absl::Status StoppedEarly(const DaemonOptions& options, const Signals& signals) {
  options.node.log(Severity::kInfo, "stopped before this node was a member", {{"signal", signals.Take()}});
  return absl::OkStatus();
}

/// Fills the port in wherever a free one was asked for.
void SetPort(DaemonOptions* options, uint16_t port) {
  if (options->advertise.port == 0) {
    const std::string before = options->advertise.Text();
    options->advertise.port = port;
    for (Member& member : options->node.membership.members) {
      if (member.id == options->node.id && member.control == before) member.control = options->advertise.Text();
    }
  }
  options->listen.port = port;
}

/// From the first signal on: nothing new, then nothing left to hand over, then nobody.
void End(Node& node, GrpcServer& server, ClusterSeat& seat, const DaemonOptions& options, const Signals& signals) {
  const char* name = signals.Take();
  options.node.log(Severity::kInfo, "draining: takes no new work, waits for readers and takers; a second signal exits at once",
                   {{"signal", name}, {"at_most", HumanDuration(options.drain_wait)}});
  Drain(node, options, signals);
  seat.Leave();
  server.Shutdown(kLastCalls);
  options.node.log(Severity::kInfo, "stopped");
}

}  // namespace

absl::Status Serve(DaemonOptions options) {
  const Signals signals;
  options.node.log = MakeLog(options.log);
  const auto port = FindPort(options.listen);
  if (!port.ok()) return port.status();
  SetPort(&options, *port);

  std::unique_ptr<TemporaryDirectory> temporary;  // before the node: removed after it
  if (options.dev_temporary) {
    auto made = TemporaryDirectory::Make();
    if (!made.ok()) return made.status();
    temporary = *std::move(made);
    options.node.ssd->directory = temporary->path();
  }
  absl::StatusOr<std::unique_ptr<Node>> node = absl::UnavailableError("not started");  // outlives all that is below
  HttpPages pages({options.memory, std::chrono::system_clock::now()});
  const auto http = StartHttp(options, pages);
  if (!http.ok()) return http.status();
  auto seat = ClusterSeat::Take(&options, signals.fd());
  if (absl::IsCancelled(seat.status())) return StoppedEarly(options, signals);
  if (!seat.ok()) return seat.status();
  options.node.dial = [](const std::string& control) { return PeerClient{MakeGrpcStore(control), MakeGrpcPeer(control)}; };
  options.node.features = ProcessFeatures(options);
  node = Node::Start(options.node);
  if (!node.ok()) return node.status();
  pages.Attach(node->get());
  GrpcServer server({.store = node->get(), .admin = node->get(), .peer = node->get()}, {.address = options.listen.Text()});
  const auto control = server.Start();
  if (!control.ok()) return control.status();
  const absl::Status joined = (*seat)->Join(node->get(), signals.fd());
  if (absl::IsCancelled(joined)) {
    (*seat)->Leave();  // it may just have been written
    return StoppedEarly(options, signals);
  }
  if (!joined.ok()) return joined;
  const ServedHealth health((*node)->health(), server,
                            {MakeGrpcPing(*control), options.memory, "/", options.node.membership_source});
  LogBanner(options, (*node)->Features());
  if (absl::Status status = Announce(options, **node, *control); !status.ok()) return status;
  if (!IsLoopback(options.listen.host)) {
    options.node.log(Severity::kWarning, "calls and data are neither encrypted nor authenticated: keep them inside a trusted network",
                     {{"listen", *control}});
  }
  End(**node, server, **seat, options, signals);
  return absl::OkStatus();
}

}  // namespace kvasir
