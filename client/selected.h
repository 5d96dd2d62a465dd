// SPDX-License-Identifier: Apache-2.0
// SelectedPushes: views that choose tokens, pushed chain by chain.
//
//   PushSelected --checked--> select job over the whole chain --> one Push a block, each with its share --> done once
//   a rank:      --checked--> score job over its heads --ScoreExchange--> select job, given the scores of all --> as above
//
// The selection context of such a view names the chain by its last key, and what else the choice depends on:
//   HMAC-SHA256(domain key, "kvasir selection" || last key || about)
// so that choices over a prompt and over a longer one, or for two questions, are different views of the same block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "client/desk.h"
#include "client/push.h"
#include "client/score_exchange.h"

namespace kvasir::client {

/// Hexadecimal, View::kSelectionBytesMax bytes. REQUIRES: the chain is not empty.
std::string SelectionContextOf(const DomainKey& domain, const PrefixChain& chain, std::string_view about);

/// The Loop only.
class SelectedPushes {
 public:
  SelectedPushes(Desk& desk, PushEngine& engine, ScoreExchange& exchange) : desk_(desk), engine_(engine), exchange_(exchange) {}
  void Start(PushSelectedRequest request, std::shared_ptr<DeviceEvent> after, std::function<void(PushResult)> done);
  /// Choices that are being made end with Aborted. Before PushEngine::Abort and ScoreExchange::Abort.
  void Abort() { closed_ = true; }

 private:
  struct Chain;
  absl::Status Check(Chain& chain) const;
  SelectJob JobOf(const std::shared_ptr<Chain>& chain) const;
  void Scored(const std::shared_ptr<Chain>& chain, absl::Status status);
  void Choose(const std::shared_ptr<Chain>& chain);
  void Chosen(const std::shared_ptr<Chain>& chain, absl::Status status);
  Desk& desk_;
  PushEngine& engine_;
  ScoreExchange& exchange_;
  bool closed_ = false;
};

}  // namespace kvasir::client
