// SPDX-License-Identifier: Apache-2.0
// The one table of stages. A new stage: its header, and its line here.
#pragma once

#include "kernels/stages/p_bits.h"
#include "kernels/stages/p_raw.h"
#include "kernels/stages/p_splitexp.h"
#include "kernels/stages/q_int.h"
#include "kernels/stages/q_lm.h"
#include "kernels/stages/stage_list.h"
#include "kernels/stages/t_had.h"

namespace kvasir {

/// In the order of `kvasir codecs`: transforms, quantisers, repair, packers, coders.
using AllStages = StageList<  //
    HadStage,                 //
    IntStage,                 //
    LmStage,                  //
    BitsStage,                //
    SplitExpStage,            //
    RawStage>;

}  // namespace kvasir
