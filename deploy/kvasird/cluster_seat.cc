// SPDX-License-Identifier: Apache-2.0
// A seat is taken in the order of what is cheap to refuse: directories, cluster, id.
#include "deploy/kvasird/cluster_seat.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <utility>

#include "deploy/text.h"
#include "store/tiers/ssd_directory.h"
#include "store/wire/etcd_client.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

constexpr const char* kBesideSsd = "/cluster";

/// An answer that another thread brings, waited for beside a signal.
template <class T>
class Awaited {
 public:
  Awaited() : fd_(eventfd(0, EFD_CLOEXEC)) {}
  ~Awaited() { close(fd_); }
  Awaited(const Awaited&) = delete;
  Awaited& operator=(const Awaited&) = delete;
  void Set(T value) {
    MutexLock lock(mutex_);
    value_ = std::move(value);
    eventfd_write(fd_, 1);
  }
  /// The answer, or nothing as soon as `stop_fd` is readable (-1 = never). The answer may still come later: this must
  /// live on.
  std::optional<T> Wait(int stop_fd) {
    pollfd both[] = {{fd_, POLLIN, 0}, {stop_fd, POLLIN, 0}};
    while (poll(both, stop_fd < 0 ? 1 : 2, -1) < 0 && errno == EINTR) {
    }
    MutexLock lock(mutex_);
    return std::exchange(value_, std::nullopt);
  }

 private:
  const int fd_;
  Mutex mutex_;
  std::optional<T> value_ ABSL_GUARDED_BY(mutex_);
};

absl::Status Stopped() { return absl::CancelledError("stopped before this node was a member"); }

uint64_t RandomNumber() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterSeat>> ClusterSeat::Take(DaemonOptions* options, int stop_fd) {
  std::unique_ptr<ClusterSeat> seat(new ClusterSeat(options->node.log));
  if (absl::Status status = seat->OpenDirectories(*options); !status.ok()) return status;
  absl::Status status = options->etcd.endpoints.empty()
                            ? seat->ClaimDirectories(StateDirectory::kUnnamedCluster + options->static_cluster)
                            : seat->Follow(options, stop_fd);
  if (!status.ok()) return status;
  return seat;
}

ClusterSeat::~ClusterSeat() {
  if (etcd_ != nullptr) etcd_->Stop();
}

absl::Status ClusterSeat::OpenDirectories(const DaemonOptions& options) {
  std::vector<std::string> paths;
  if (!options.state_directory.empty()) paths.push_back(options.state_directory);
  if (options.node.ssd.has_value()) {
    // Before anything is made in it: it may be somebody's home, or another process's.
    const auto ssd = SsdDirectory::Open(options.node.ssd->directory, SsdDirectory::Access::kWrite);
    if (!ssd.ok()) return ssd.status();
    paths.push_back(options.node.ssd->directory + kBesideSsd);
  }
  for (const std::string& path : paths) {
    auto directory = StateDirectory::Open(path);
    if (!directory.ok()) return directory.status();
    directories_.push_back(*std::move(directory));
  }
  return absl::OkStatus();
}

absl::Status ClusterSeat::ClaimDirectories(const std::string& cluster_id) {
  for (const auto& directory : directories_) {
    if (absl::Status status = directory->Claim(cluster_id); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ClusterSeat::Follow(DaemonOptions* options, int stop_fd) {
  MembershipOptions membership;
  membership.cluster = options->etcd.cluster;
  membership.endpoints = options->etcd.endpoints;
  membership.ttl = options->etcd.ttl;
  membership.self = options->node.membership.members.at(0);
  membership.run_blocks = options->node.run_blocks;
  membership.identity = directories_.empty() ? NewUuid() : directories_[0]->node_identity();
  membership.incarnation = RandomNumber();
  membership.new_cluster_id = NewUuid();
  membership.seed = RandomNumber();
  for (const auto& directory : directories_) {
    const std::string& id = directory->cluster_id();
    if (id.empty() || id == StateDirectory::kUnnamedCluster) continue;
    if (membership.cluster_id.empty()) membership.cluster_id = id;
    if (membership.cluster_id == id) continue;
    return absl::FailedPreconditionError(Cat("state directory ", directories_[0]->path(), " belongs to cluster ", membership.cluster_id, ", but ",
                                             directory->path(), " to ", id, ". Give two directories of one cluster, or empty ones"));
  }
  if (!directories_.empty()) {
    std::string note;
    membership.cached = directories_[0]->LoadView(&note);
    if (!note.empty()) log_(Severity::kWarning, note);
  }
  auto began = std::make_shared<Awaited<absl::StatusOr<EtcdMembership::Began>>>();
  const auto connect = [etcd = options->etcd, log = log_](const std::string& endpoint) {
    if (!etcd.tls) return MakeEtcdKeyValue(endpoint);
    const auto tls = ReadEtcdTls(etcd);
    if (!tls.ok()) log(Severity::kError, Cat("etcd: ", tls.status().message()), {});
    return MakeEtcdKeyValue(endpoint, tls.ok() ? *tls : EtcdTls());
  };
  etcd_ = EtcdMembership::Start(std::move(membership), connect, directories_.empty() ? nullptr : directories_[0].get(), log_,
                                [began](absl::StatusOr<EtcdMembership::Began> first) { began->Set(std::move(first)); });
  auto first = began->Wait(stop_fd);
  if (!first.has_value()) return Stopped();
  if (!first->ok()) return first->status();
  if (!directories_.empty() && !directories_[0]->cluster_id().empty()) {
    if (absl::Status status = ClaimDirectories(directories_[0]->cluster_id()); !status.ok()) return status;
  }
  options->node.membership = std::move((*first)->membership);
  options->node.announce = [etcd = etcd_](MemberState state, absl::AnyInvocable<void(absl::Status)> done) { etcd->Announce(state, std::move(done)); };
  options->node.membership_source = [etcd = etcd_] { return etcd->Source(); };
  return absl::OkStatus();
}

absl::Status ClusterSeat::Join(Node* node, int stop_fd) {
  if (etcd_ == nullptr) return absl::OkStatus();
  auto registered = std::make_shared<Awaited<absl::Status>>();
  etcd_->Register([node](const Membership& membership) { node->Adopt(membership); }, [registered](absl::Status status) { registered->Set(std::move(status)); });
  return registered->Wait(stop_fd).value_or(Stopped());
}

void ClusterSeat::Leave() {
  if (etcd_ == nullptr) return;
  auto left = std::make_shared<Awaited<absl::Status>>();
  etcd_->Leave([left](absl::Status status) { left->Set(std::move(status)); });
  const absl::Status status = left->Wait(-1).value_or(absl::OkStatus());
  if (status.ok()) return log_(Severity::kInfo, "left the cluster");
  log_(Severity::kWarning, Cat("etcd was not told that this node leaves: ", status.message()));
}

}  // namespace kvasir
