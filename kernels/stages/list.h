// SPDX-License-Identifier: Apache-2.0
// The one table of stages. A new stage: its header, and its line here.
#pragma once

#include "kernels/stages/p_ac.h"
#include "kernels/stages/p_bits.h"
#include "kernels/stages/p_raw.h"
#include "kernels/stages/p_splitexp.h"
#include "kernels/stages/q_adapt.h"
#include "kernels/stages/q_ctok.h"
#include "kernels/stages/q_fp8.h"
#include "kernels/stages/q_hier.h"
#include "kernels/stages/q_int.h"
#include "kernels/stages/q_lm.h"
#include "kernels/stages/q_nvfp4.h"
#include "kernels/stages/r_lr.h"
#include "kernels/stages/r_out.h"
#include "kernels/stages/stage_list.h"
#include "kernels/stages/t_bal.h"
#include "kernels/stages/t_delta.h"
#include "kernels/stages/t_had.h"
#include "kernels/stages/t_mean.h"
#include "kernels/stages/t_norm.h"
#include "kernels/stages/t_sinkhorn.h"
#include "kernels/stages/x_planes.h"

namespace kvasir {

/// In the order of `kvasir codecs`: transforms, what is kept exactly, quantisers, repair, packers, coders.
using AllStages = StageList<  //
    BalStage,                 //
    DeltaStage,               //
    HadStage,                 //
    MeanStage,                //
    NormStage,                //
    SinkhornStage,            //
    OutStage,                 //
    IntStage,                 //
    CtokStage,                //
    LmStage,                  //
    Fp8Stage,                 //
    Nvfp4Stage,               //
    HierStage,                //
    AdaptStage,               //
    LrStage,                  //
    BitsStage,                //
    AcStage,                  //
    PlanesStage,              //
    SplitExpStage,            //
    RawStage>;

}  // namespace kvasir
