// SPDX-License-Identifier: Apache-2.0
// Makes the parser's table from the list of stages, and reads arguments.
#include "kernels/stages/table.h"

#include <vector>

#include "kernels/stages/list.h"
#include "kernels/stages/select_list.h"

namespace kvasir {
namespace {

template <class S>
typename S::Args ArgsOf(const StageCall& call) {
  typename S::Args args;
  std::memcpy(&args, call.args, sizeof args);
  return args;
}

template <class List, class S>
Result<StageCall> ReadStage(const StageArguments& in) {
  const Result<typename S::Args> args = S::Read(in);
  if (!args.ok()) return args.error();
  StageCall call;
  call.stage = List::template IndexOf<S>();
  std::memcpy(call.args, &*args, sizeof *args);
  return call;
}

template <class S>
std::shared_ptr<const FrameCoder> CoderOf([[maybe_unused]] const StageCall& call) {
  if constexpr (S::kRole == StageRole::kCoder) return S::Coder(ArgsOf<S>(call));
  return nullptr;
}

template <class S>
bool DemotesOf([[maybe_unused]] const StageCall& call) {
  if constexpr (S::kRole == StageRole::kScorer) return ArgsOf<S>(call).demote != 0;
  return false;
}

template <class List>
void Append(std::vector<StageEntry>& entries) {
  List::ForEach([&]<class S>() {
    entries.push_back({S::kInfo, S::kRole, ReadStage<List, S>,
                       [](const StageCall& call) { return S::Print(ArgsOf<S>(call)); }, CoderOf<S>, DemotesOf<S>});
  });
}

}  // namespace

std::span<const StageEntry> StageTable() {
  static const std::vector<StageEntry> table = [] {
    std::vector<StageEntry> entries;
    Append<SelectStages>(entries);
    Append<AllStages>(entries);
    return entries;
  }();
  return table;
}

std::span<const StageInfo> Stages() {
  static const std::vector<StageInfo> infos = [] {
    std::vector<StageInfo> all;
    for (const StageEntry& entry : StageTable()) all.push_back(entry.info);
    return all;
  }();
  return infos;
}

}  // namespace kvasir
