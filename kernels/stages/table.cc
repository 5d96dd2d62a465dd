// SPDX-License-Identifier: Apache-2.0
// Makes the parser's table from the list of stages, and reads arguments.
#include "kernels/stages/table.h"

#include <vector>

#include "kernels/stages/list.h"

namespace kvasir {
namespace {

template <class S>
typename S::Args ArgsOf(const StageCall& call) {
  typename S::Args args;
  std::memcpy(&args, call.args, sizeof args);
  return args;
}

template <class S>
Result<StageCall> ReadStage(const StageArguments& in) {
  const Result<typename S::Args> args = S::Read(in);
  if (!args.ok()) return args.error();
  StageCall call;
  call.stage = AllStages::IndexOf<S>();
  std::memcpy(call.args, &*args, sizeof *args);
  return call;
}

template <class S>
std::shared_ptr<const FrameCoder> CoderOf([[maybe_unused]] const StageCall& call) {
  if constexpr (S::kRole == StageRole::kCoder) return S::Coder(ArgsOf<S>(call));
  return nullptr;
}

template <class S>
StageEntry EntryOf() {
  return {S::kInfo, S::kRole, ReadStage<S>, [](const StageCall& call) { return S::Print(ArgsOf<S>(call)); },
          CoderOf<S>};
}

}  // namespace

std::span<const StageEntry> StageTable() {
  static const std::vector<StageEntry> table = [] {
    std::vector<StageEntry> entries;
    AllStages::ForEach([&]<class S>() { entries.push_back(EntryOf<S>()); });
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
