// SPDX-License-Identifier: Apache-2.0
// InputsKeeper: inputs of chains, kept as objects of the nodes that own the chain's first run.
//
//   inputs/<context>               manifest: SHA-256 and length of the bytes. Written last: what it names is whole
//   inputs/<context>/<SHA-256>/<i> bytes [i MiB, (i + 1) MiB)
//
// Pieces are named by what they hold, so that two writers cannot mix theirs; the first manifest wins.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "client/desk.h"
#include "client/router.h"
#include "store/api/prefix_chain.h"

namespace kvasir::client {

/// The Loop only.
class InputsKeeper {
 public:
  using Kept = std::function<void(absl::Status)>;
  using Loaded = std::function<void(absl::StatusOr<std::shared_ptr<const KeptInputs>>)>;
  InputsKeeper(Desk& desk, Router& router) : desk_(desk), router_(router) {}
  /// `run`: key of the chain's first block. `bytes` as KeptInputs::Encode.
  void Keep(const BlockKey& run, std::string context, std::string bytes, Kept done);
  void Load(const BlockKey& run, std::string context, Loaded done);
  /// Deletes them at every owner: the manifest, then its pieces. NotFound when no owner had any; else the first owner that
  /// could not be asked. Who keeps the same at the same time may find them gone.
  void Drop(const BlockKey& run, std::string context, Kept done);
  /// Ends all with Aborted.
  void Abort();

 private:
  class Transfer;
  void Start(std::shared_ptr<Transfer> transfer);
  Desk& desk_;
  Router& router_;
  uint64_t next_ = 1;
  std::map<uint64_t, std::shared_ptr<Transfer>> transfers_;  // under way
};

}  // namespace kvasir::client
