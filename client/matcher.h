// SPDX-License-Identifier: Apache-2.0
// Matcher: counts the leading blocks that are held, pinning and moving nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/desk.h"
#include "client/finder.h"
#include "client/router.h"
#include "store/api/prefix_chain.h"

namespace kvasir::client {

/// The Loop only.
class Matcher {
 public:
  Matcher(Desk& desk, Router& router) : desk_(desk), router_(router) {}
  /// `accept` is canonical. All layers and heads of the model are asked for.
  void Start(PrefixChain chain, std::vector<std::string> accept, std::function<void(MatchResult)> done);
  void Abort();

 private:
  struct Match {
    PrefixChain chain;
    uint32_t found = 0;
    MatchResult result;
    std::shared_ptr<Finder> finder;  // shared with its calls under way
    std::function<void(MatchResult)> done;
  };
  void Finish(uint64_t id);
  Desk& desk_;
  Router& router_;
  uint64_t next_ = 1;
  std::map<uint64_t, std::unique_ptr<Match>> matches_;
};

}  // namespace kvasir::client
