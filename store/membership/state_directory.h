// SPDX-License-Identifier: Apache-2.0
// StateDirectory: what a node remembers over restarts beside its blocks: who it is, which cluster it belongs to, and
// the members it last saw. Three small files: LOCK, identity (JSON), view (a checksum, then JSON). Each is replaced
// whole. Every refusal names the directory, the cause and what to do. Not thread safe.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/api/placement.h"

namespace kvasir {

/// 128 random bits as xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx.
std::string NewUuid();

class StateDirectory {
 public:
  /// A cluster that has no name: a directory of it may be taken into one that has.
  static constexpr const char* kUnnamedCluster = "static:";

  /// Makes the directory if it is not there and locks it while the object lives. InvalidArgument, FailedPrecondition:
  /// it cannot be that; Unavailable: another process has it.
  static absl::StatusOr<std::unique_ptr<StateDirectory>> Open(const std::string& path);
  ~StateDirectory();
  StateDirectory(const StateDirectory&) = delete;
  StateDirectory& operator=(const StateDirectory&) = delete;

  const std::string& path() const { return path_; }
  /// Of this node, made when the directory was; a uuid.
  const std::string& node_identity() const { return node_identity_; }
  /// "" = it belongs to none yet.
  const std::string& cluster_id() const { return cluster_id_; }
  /// From now on it belongs to this cluster, also after a restart. FailedPrecondition: it belongs to another one.
  absl::Status Claim(const std::string& cluster_id);

  absl::Status SaveView(const Membership& view);
  /// The last view that was saved. Nothing when there is none or it is damaged; then `note` says so.
  std::optional<Membership> LoadView(std::string* note) const;

 private:
  StateDirectory(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  absl::Status LoadIdentity();
  absl::Status SaveIdentity() const;

  const std::string path_;
  const int lock_;
  std::string node_identity_, cluster_id_;
};

}  // namespace kvasir
