// SPDX-License-Identifier: Apache-2.0
// The stages of list.h and select_list.h as the parser of specs sees them.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "kernels/stages/stage.h"

namespace kvasir {

struct StageEntry {
  StageInfo info;
  StageRole role;
  Result<StageCall> (*read)(const StageArguments& in);
  std::string (*print)(const StageCall& call);
  std::shared_ptr<const FrameCoder> (*coder)(const StageCall& call);  ///< of kCoder; else null
  bool (*demotes)(const StageCall& call);                             ///< of kScorer: it has the action demote
};

/// The stages of list.h and of select_list.h. StageCall::stage is the index in the list that has the stage.
std::span<const StageEntry> StageTable();

}  // namespace kvasir
