// SPDX-License-Identifier: Apache-2.0
// Asking nodes: the calls of AdminApi made to look like plain functions, for programs that have nothing else to do.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/kvasir/command.h"
#include "store/api/admin_api.h"

namespace kvasir {

/// Starts an asynchronous call. What it answers after the future is gone is thrown away.
template <class Reply>
std::future<absl::StatusOr<Reply>> Start(const std::function<void(Answer<Reply>)>& start) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<Reply>>>();  // shared: the answer may outlive this call
  auto future = promise->get_future();
  start([promise](absl::StatusOr<Reply> reply) { promise->set_value(std::move(reply)); });
  return future;
}
template <class Reply>
absl::StatusOr<Reply> AwaitUntil(std::chrono::steady_clock::time_point until,
                                 std::future<absl::StatusOr<Reply>>& answer) {
  if (answer.wait_until(until) == std::future_status::ready) return answer.get();
  return absl::DeadlineExceededError("no answer in time");
}
/// Starts it and waits for its answer, at most `wait`.
template <class Reply>
absl::StatusOr<Reply> Await(Duration wait, const std::function<void(Answer<Reply>)>& start) {
  auto answer = Start<Reply>(start);
  return AwaitUntil(std::chrono::steady_clock::now() + wait, answer);
}

/// One node as far as it answers.
struct AskedNode {
  std::string id;  ///< "" while unknown: named by address only and silent
  std::string address;
  std::shared_ptr<AdminApi> admin;
  absl::StatusOr<NodeStatus> status;
};

/// The cluster as far as it answers.
struct AskedCluster {
  Membership membership;         ///< the newest that anybody knows
  std::vector<AskedNode> nodes;  ///< sorted by id: all that were asked
  const AskedNode* Find(std::string_view id) const;
};

/// Asks the nodes named by the flags and, unless `only_named`, the other members they know, all at once. An error when
/// none of those named answers; it names the first and says what to do.
absl::StatusOr<AskedCluster> AskCluster(const GlobalFlags& global, bool only_named);
/// The node `id` of the cluster, asked or silent. InvalidArgument names those that there are.
absl::StatusOr<const AskedNode*> FindNode(const AskedCluster& cluster, const std::string& id);
/// Blocks of a run in that cluster. Asks a node that answers.
absl::StatusOr<uint32_t> AskRunBlocks(const AskedCluster& cluster, Duration timeout);

inline constexpr std::string_view kNameUnknown = "the name is unknown";
/// "connection refused", "no answer in time", kNameUnknown, or what else it was.
std::string CauseOf(const absl::Status& status);
/// "no node answers at 127.0.0.1:7070: connection refused. Start one with: kvasird --dev"
absl::Status Unreachable(const std::string& address, const absl::Status& status);
/// Ok when all answered; else the error that ends a command whose answer lacks theirs: the exit status is kExitPartial.
/// `without` says what is missing: "their blocks are not in the list".
absl::Status WithoutSilent(const AskedCluster& cluster, std::string_view without);

}  // namespace kvasir
