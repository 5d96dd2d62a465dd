// SPDX-License-Identifier: Apache-2.0
// The table of selecting stages. A new stage: its header, and its line here.
#pragma once

#include "kernels/stages/b_uni.h"
#include "kernels/stages/e_knorm.h"
#include "kernels/stages/e_late.h"
#include "kernels/stages/r_ends.h"
#include "kernels/stages/stage_list.h"
#include "kernels/stages/x_ext.h"

namespace kvasir {

/// In the order of `kvasir codecs`: budgets, scorers, mergers, what is exempt, extents.
using SelectStages = StageList<  //
    UniformBudget,               //
    KeyNormScorer,               //
    LateScorer,                  //
    SinkTokens,                  //
    WindowTokens,                //
    HeadExtents>;

}  // namespace kvasir
