// SPDX-License-Identifier: Apache-2.0
// The one table of stages: a new stage is its own header, its own .cc and one line here.
#include <vector>

#include "kernels/stages/stage.h"

namespace kvasir {
namespace {

constexpr Stage kTable[] = {
    {{"Q", "int", "int(bits,axis[,group[,sym|asym]])",
      "Uniform integers of 8, 4, 3 or 2 bits with fp16 scale (and zero) for each group of tokens (chan) or channels "
      "(tok) "
      "(KIVI, arXiv 2402.02750)"},
     StageRole::kQuantiser,
     MakeInt},
    {{"P", "bits", "bits", "Codes packed without gaps, rows on bytes; implied after a quantiser"},
     StageRole::kPacker,
     MakeBits},
    {{"P", "splitexp", "splitexp",
      "Lossless for bf16 and fp16: sign and mantissa as they are, the exponent as a short code in a window chosen from "
      "the data "
      "(SplitZip, arXiv 2605.01708)"},
     StageRole::kCoder,
     MakeSplitExp},
    {{"P", "raw", "raw", "The elements as they are"}, StageRole::kCoder, MakeRaw},
};

}  // namespace

std::span<const Stage> StageTable() { return kTable; }

std::span<const StageInfo> Stages() {
  static const std::vector<StageInfo> infos = [] {
    std::vector<StageInfo> all;
    for (const Stage& stage : kTable) all.push_back(stage.info);
    return all;
  }();
  return infos;
}

}  // namespace kvasir
