// SPDX-License-Identifier: Apache-2.0
// The arguments of Q:hier.
#include "kernels/stages/q_hier.h"

namespace kvasir {
namespace {

struct Split {
  std::string_view text;
  uint32_t upper, lower;
};
constexpr Split kSplits[] = {{"4+4", 4, 4}, {"6+2", 6, 2}, {"2+2", 2, 2}, {"2+1", 2, 1}};
constexpr std::string_view kSplitNames[] = {kSplits[0].text, kSplits[1].text, kSplits[2].text, kSplits[3].text};

}  // namespace

Result<HierStage::Args> HierStage::Read(const StageArguments& in) {
  if (Result<bool> counted = in.Count(2, 3); !counted.ok()) return counted.error();
  const Result<uint32_t> split = in.Word(0, 0, kSplitNames, "upper+lower bits");
  if (!split.ok()) return split.error();
  const Result<IntSpec> rest = IntStage::ReadGroups(in, 1);
  if (!rest.ok()) return rest.error();
  Args args{*rest, kSplits[*split].lower};
  args.whole.bits = kSplits[*split].upper + kSplits[*split].lower;
  return args;
}

std::string HierStage::Print(const Args& a) {
  return std::to_string(a.whole.bits - a.lower) + "+" + std::to_string(a.lower) + IntStage::PrintGroups(a.whole);
}

}  // namespace kvasir
