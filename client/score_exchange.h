// SPDX-License-Identifier: Apache-2.0
// ScoreExchange: the scores that ranks of a tensor-parallel job need of each other's heads, so that each comes to the budgets
// that one process with all heads would choose.
//
//   own scores --Keep, a head an object--> owners of the chain's first run --Load, every head--> scores of all heads
//
// A head's scores are kept inputs (kept_inputs.h, external_scores) under a context of their own:
//   HMAC-SHA256(domain key, "kvasir head scores" || last key || head, 4 bytes || spec, canonical || 0 || about)
// Objects go by heads, so ranks need not know how the others are cut; two ranks that hold the same head keep the same. What is
// kept counts: who finds other scores of its heads there (another job of the same chain) takes them, so that all ranks choose
// by one table. Ranks come when they come: what is not there yet is asked for again until the deadline.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/desk.h"
#include "client/inputs_keeper.h"
#include "store/api/prefix_chain.h"

namespace kvasir::client {

/// The Loop only.
class ScoreExchange {
 public:
  using Done = std::function<void(absl::StatusOr<std::vector<float>>)>;
  struct Order {
    const PrefixChain* chain = nullptr;  ///< not empty; valid until `done`
    std::string spec;                    ///< canonical
    std::string about;
    uint32_t first_head = 0, heads = 0;  ///< own
    std::vector<float> own;              ///< [layers][heads][tokens of the chain]
    Done done;                           ///< [layers][heads of the model][tokens]. DeadlineExceeded names heads that did not come
  };
  ScoreExchange(Desk& desk, InputsKeeper& keeper) : desk_(desk), keeper_(keeper) {}
  void Start(Order order);
  /// Forgets the scores of all heads. NotFound when there are none.
  void Drop(const PrefixChain& chain, const std::string& spec, const std::string& about,
            std::function<void(absl::Status)> done);
  /// Ends all with Aborted.
  void Abort();

 private:
  class Exchange;
  Desk& desk_;
  InputsKeeper& keeper_;
  uint64_t next_ = 1;
  std::map<uint64_t, std::shared_ptr<Exchange>> exchanges_;  // under way
};

}  // namespace kvasir::client
