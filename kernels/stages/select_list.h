// SPDX-License-Identifier: Apache-2.0
// The table of selecting stages. A new stage: its header, and its line here.
#pragma once

#include "kernels/stages/b_ada.h"
#include "kernels/stages/b_class.h"
#include "kernels/stages/b_cos3.h"
#include "kernels/stages/b_ent.h"
#include "kernels/stages/b_flag.h"
#include "kernels/stages/b_gtopk.h"
#include "kernels/stages/b_head.h"
#include "kernels/stages/b_pyr.h"
#include "kernels/stages/b_tsp.h"
#include "kernels/stages/b_unc.h"
#include "kernels/stages/b_uni.h"
#include "kernels/stages/b_var.h"
#include "kernels/stages/e_acc.h"
#include "kernels/stages/e_accf.h"
#include "kernels/stages/e_accn.h"
#include "kernels/stages/e_chunk.h"
#include "kernels/stages/e_expq.h"
#include "kernels/stages/e_ext.h"
#include "kernels/stages/e_gl.h"
#include "kernels/stages/e_knorm.h"
#include "kernels/stages/e_late.h"
#include "kernels/stages/e_mv.h"
#include "kernels/stages/e_pol.h"
#include "kernels/stages/e_span.h"
#include "kernels/stages/e_tsp.h"
#include "kernels/stages/e_vnorm.h"
#include "kernels/stages/e_win.h"
#include "kernels/stages/m_cam.h"
#include "kernels/stages/m_comp.h"
#include "kernels/stages/m_gauss.h"
#include "kernels/stages/m_kcen.h"
#include "kernels/stages/m_near.h"
#include "kernels/stages/m_zero.h"
#include "kernels/stages/r_ends.h"
#include "kernels/stages/stage_list.h"
#include "kernels/stages/x_ext.h"

namespace kvasir {

/// In the order of `kvasir codecs`: budgets, scorers, what reshapes scores, mergers, what is exempt, extents.
using SelectStages = StageList<  //
    UniformBudget,               //
    AdaptiveBudget,              //
    ClassBudget,                 //
    CosineBudget,                //
    EntropyBudget,               //
    FlagBudget,                  //
    GlobalBudget,                //
    HeadBudget,                  //
    PyramidBudget,               //
    PropagationBudget,           //
    UncertaintyBudget,           //
    VarianceBudget,              //
    AttentionScorer,             //
    ForgettingScorer,            //
    NormalisedScorer,            //
    ExpectedScorer,              //
    ExternalScorer,              //
    GlobalLocalScorer,           //
    KeyNormScorer,               //
    LateScorer,                  //
    MeanVarianceScorer,          //
    PolicyScorer,                //
    WindowScorer,                //
    ChunkScores,                 //
    SpanScores,                  //
    PropagationScores,           //
    ValueNormScores,             //
    CacheMerge,                  //
    CompensationMerge,           //
    GaussianMerge,               //
    CentreMerge,                 //
    NearestMerge,                //
    ZeroMerge,                   //
    SinkTokens,                  //
    WindowTokens,                //
    ExtentStage>;

}  // namespace kvasir
