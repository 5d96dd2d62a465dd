// SPDX-License-Identifier: Apache-2.0
// Asking nodes: the calls of AdminApi made to look like plain functions, for programs that have nothing else to do.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/kvasir/command.h"
#include "store/api/admin_api.h"

namespace kvasir {

/// Starts an asynchronous call and waits for its answer, at most `wait`; a later answer is thrown away.
template <class Reply>
absl::StatusOr<Reply> Await(Duration wait, const std::function<void(Answer<Reply>)>& start) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<Reply>>>();  // shared: the answer may outlive this call
  auto future = promise->get_future();
  start([promise](absl::StatusOr<Reply> reply) { promise->set_value(std::move(reply)); });
  if (future.wait_for(wait) == std::future_status::ready) return future.get();
  return absl::DeadlineExceededError("no answer in time");
}

/// One node as far as it answers.
struct AskedNode {
  std::string id;  ///< "" while unknown: named by address only and silent
  std::string address;
  std::shared_ptr<AdminApi> admin;
  absl::StatusOr<NodeStatus> status;
};

/// Asks the nodes named by the flags and, unless `only_named`, the other members they know. Sorted by id. An error when
/// none of those named answers; it names the first and says what to do.
absl::StatusOr<std::vector<AskedNode>> AskNodes(const GlobalFlags& global, bool only_named);

/// "no node answers at 127.0.0.1:7070: connection refused. Start one with: kvasird --dev"
absl::Status Unreachable(const std::string& address, const absl::Status& status);

}  // namespace kvasir
