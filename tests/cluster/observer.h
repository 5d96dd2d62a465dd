// SPDX-License-Identifier: Apache-2.0
// Observer: what nodes say of themselves, as an operator asks them, and how many copies of what was acked they really
// hold.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "store/api/admin_api.h"
#include "tests/cluster/ledger.h"
#include "tests/cluster/prompts.h"

namespace kvasir::cluster {

/// By address: {"reachable": false, "cause": ...} or the node's status. Asks all at once; waits at most `patience`.
nlohmann::json StatusOf(const std::vector<std::string>& addresses, Duration patience);

/// Counts copies: {"blocks", "copies": {"0": n, "1": n, "2": n, ...}, "nodes": {id: acked blocks held},
/// "runs": distinct acked runs, "run_copies": {id: n}, "short": ["prompt 3 block 1: n1", ...], "unreachable": [...]}.
/// A copy is a block all of whose parts a node says are sealed, in the prompt's view.
nlohmann::json CopiesOf(const PromptShape& shape, const std::map<uint32_t, std::map<uint32_t, Level>>& acked,
                        uint32_t run_blocks, uint32_t wanted, const std::vector<std::string>& addresses,
                        Duration patience);

/// What the node and this build agree to speak: {"wire", "version", "node_id", "wire_here"}.
nlohmann::json HelloTo(const PromptShape& shape, const std::string& address, Duration patience);

}  // namespace kvasir::cluster
