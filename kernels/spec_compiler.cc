// SPDX-License-Identifier: Apache-2.0
// Compiles specs. Each tensor has a chain for the tokens that are kept, and one for those that are demoted.
#include "kernels/spec_compiler.h"

#include <algorithm>

#include "kernels/chain.h"
#include "kernels/rows_coder.h"
#include "kernels/spec.h"
#include "kernels/stages/select_list.h"

namespace kvasir {
namespace {

/// A chain while a spec is compiled.
struct Chain {
  ChainPlan plan;
  bool quantised = false;
  bool packed = false;
  std::shared_ptr<const FrameCoder> coder;  ///< of a stage that is the whole chain

  bool empty() const { return coder == nullptr && !quantised && plan.transform_count == 0; }
};

/// What may follow in a chain, where `role` may not; null where it may.
const char* Refusal(const Chain& chain, StageRole role) {
  if (chain.coder != nullptr) return "nothing more, the tensor has its coder already";
  if (chain.packed) return "nothing more, the tensor is packed";
  switch (role) {
    case StageRole::kCoder:
      return chain.empty() ? nullptr : "a quantiser such as int(8,tok); this stage takes elements as they are";
    case StageRole::kTransform:
      if (chain.quantised) return "R:lr or a packer; transforms stand before the quantiser";
      return chain.plan.transform_count < kTransformsMax ? nullptr : "a quantiser; there are transforms enough";
    case StageRole::kQuantiser:
      return chain.quantised ? "nothing more of this kind, the tensor has its quantiser already" : nullptr;
    case StageRole::kRepair:
      if (!chain.quantised) return "a quantiser such as int(8,tok) before a repair";
      return chain.plan.repaired ? "a packer; the tensor is repaired already" : nullptr;
    case StageRole::kPacker:
      return chain.quantised ? nullptr : "a quantiser such as int(8,tok) before a packer";
    default:
      return "a stage of a chain";  // selecting stages go elsewhere
  }
}

void Add(const StageCall& call, const StageEntry& entry, Chain& chain) {
  switch (entry.role) {
    case StageRole::kCoder:
      chain.coder = entry.coder(call);
      break;
    case StageRole::kTransform:
      chain.plan.transforms[chain.plan.transform_count++] = call;
      break;
    case StageRole::kQuantiser:
      chain.plan.quantiser = call;
      chain.quantised = true;
      break;
    case StageRole::kRepair:
      chain.plan.repair = call;
      chain.plan.repaired = true;
      break;
    case StageRole::kPacker:
      chain.plan.packer = call;
      chain.packed = true;
      break;
    default:
      KERNELS_CHECK(false);  // Refusal
  }
}

/// What is known of a spec while its stages are read.
struct Compilation {
  Chain kept[2], demoted[2];       ///< {K, V}
  uint32_t demoted_roles[2] = {};  ///< bits of roles that d: gives demoted tokens stages of their own for
  bool any_demoted = false;
  SelectionSpec selection;
};

/// Quantisers and coders stand for each other: both end what came before.
uint32_t RoleBit(StageRole role) {
  return 1u << static_cast<uint32_t>(role == StageRole::kCoder ? StageRole::kQuantiser : role);
}

/// A stage for both tensors goes to every chain that may have it; it must be one at least, and a packer need not be
/// all.
Result<bool> AppendToChains(const SpecStage& parsed, const StageEntry& entry, const StageCall& call, Compilation& c) {
  const char* refusal = nullptr;
  bool used = false;
  for (int tensor = 0; tensor < 2; ++tensor) {
    if ((parsed.tensors & (1u << tensor)) == 0) continue;
    const bool own = (c.demoted_roles[tensor] & RoleBit(entry.role)) != 0;
    Chain* chains[] = {parsed.demoted ? nullptr : &c.kept[tensor],
                       parsed.demoted || (c.any_demoted && !own) ? &c.demoted[tensor] : nullptr};
    for (Chain* chain : chains) {
      if (chain == nullptr) continue;
      if (const char* no = Refusal(*chain, entry.role); no != nullptr) {
        refusal = no;
        if (entry.role == StageRole::kPacker) continue;
        return SpecError(parsed.position, parsed.name, no);
      }
      Add(call, entry, *chain);
      used = true;
    }
  }
  if (!used) return SpecError(parsed.position, parsed.name, refusal);
  return true;
}

/// Stages that select stand before the chains and hold for both tensors.
Result<bool> AppendToSelection(const SpecStage& parsed, const StageEntry& entry, const StageCall& call,
                               Compilation& c) {
  SelectionSpec& s = c.selection;
  const auto refuse = [&](std::string_view allowed) { return SpecError(parsed.position, parsed.name, allowed); };
  if (parsed.tensors != (kSpecKey | kSpecValue) || parsed.demoted) {
    return refuse("this stage without a prefix: tokens are chosen for keys and values together");
  }
  switch (entry.role) {
    case StageRole::kBudget:
      if (s.has_budget) return refuse("another letter, there is a budget already");
      s.has_budget = true;
      s.budget = call;
      return true;
    case StageRole::kScorer:
      if (s.score_count > 0) return refuse("a stage that reshapes scores, there is a scorer already");
      s.scores[s.score_count++] = call;
      s.demote = entry.demotes(call);
      return true;
    case StageRole::kReshape:
      if (s.score_count == 0) return refuse("a scorer such as E:knorm before it");
      if (s.score_count == kScoreStagesMax) return refuse("another letter, there are score stages enough");
      s.scores[s.score_count++] = call;
      return true;
    case StageRole::kMerge:
      if (s.has_merge || s.score_count == 0) return refuse("one merge, after a scorer such as E:knorm");
      s.has_merge = true;
      s.merge = call;
      return true;
    case StageRole::kExempt: {
      uint32_t tokens = 0;
      std::memcpy(&tokens, call.args, sizeof tokens);
      uint32_t& slot = call.stage == SelectStages::IndexOf<SinkTokens>() ? s.sink_tokens : s.window_tokens;
      if (slot != 0) return refuse("another stage, these tokens are exempt already");
      slot = tokens;
      return true;
    }
    default:
      return true;  // kExtent says what dropping implies
  }
}

bool Selects(StageRole role) { return role >= StageRole::kBudget; }

std::string PrintStage(const SpecStage& parsed, const StageEntry& entry, const StageCall& call) {
  std::string text = parsed.tensors == kSpecKey ? "k" : parsed.tensors == kSpecValue ? "v" : "";
  if (parsed.demoted) text += "d";
  if (!text.empty()) text += ":";
  text.append(entry.info.letter).append(":").append(entry.info.name);
  if (const std::string arguments = entry.print(call); !arguments.empty()) {
    text.append("(").append(arguments).append(")");
  }
  return text;
}

/// The coder of a chain that is complete; `end` is where the spec ends.
Result<std::shared_ptr<const FrameCoder>> FinishChain(Chain& chain, const std::string& prefix, uint32_t end) {
  if (chain.coder != nullptr) return chain.coder;
  if (!chain.quantised) {
    return SpecError(end, "the end", "|" + prefix + ": and a quantiser or coder, there is none");
  }
  if (!chain.packed) chain.plan.packer.stage = AllStages::IndexOf<BitsStage>();
  if (Result<bool> fit = CheckPlan(chain.plan); !fit.ok()) return fit.error();
  return MakeChainCoder(chain.plan);
}

Result<std::shared_ptr<const FrameCoder>> FinishTensor(Compilation& c, int tensor, uint32_t end) {
  const std::string name = tensor == 0 ? "k" : "v";
  RowsCoderOptions rows;
  Result<std::shared_ptr<const FrameCoder>> kept = FinishChain(c.kept[tensor], name, end);
  if (!kept.ok()) return kept;
  if (c.any_demoted) {
    const Result<std::shared_ptr<const FrameCoder>> demoted = FinishChain(c.demoted[tensor], name + "d", end);
    if (!demoted.ok()) return demoted;
    rows.demoted = *demoted;
  }
  if (!c.selection.selects() && c.selection.sink_tokens == 0) return kept;
  if ((*kept)->planes() > 1 || (rows.demoted != nullptr && rows.demoted->planes() > 1)) {
    return SpecError(end, "X:planes", "planes only where all tokens go the same way");
  }
  rows.kept = *kept;
  rows.sink_tokens = c.selection.sink_tokens;
  rows.selects = c.selection.selects();
  return std::shared_ptr<const FrameCoder>(std::make_shared<RowsCoder>(std::move(rows)));
}

/// The stages about tokens fit each other.
Result<bool> CheckSelection(const Compilation& c, uint32_t end) {
  const SelectionSpec& s = c.selection;
  if (s.has_budget && s.score_count == 0)
    return SpecError(end, "the end", "a scorer such as |E:knorm, the budget asks for one");
  if (!s.has_budget && s.score_count > 0)
    return SpecError(end, "the end", "a budget such as |B:uni(0.25), the scorer asks for one");
  if (s.demote && s.has_merge)
    return SpecError(end, "the end",
                     "a scorer that drops, such as E:knorm(drop), before a merge: nothing is left to merge");
  if (s.demote && !c.any_demoted)
    return SpecError(end, "the end", "|d:int(2,tok) or the like, demoted tokens have no stage");
  if (!s.demote && c.any_demoted)
    return SpecError(end, "the end", "a scorer that demotes, such as E:knorm(demote), before d: stages");
  return true;
}

}  // namespace

Result<CompiledSpec> CompileSpec(std::string_view spec) {
  const Result<std::vector<SpecStage>> parsed = ParseSpec(spec);
  if (!parsed.ok()) return parsed.error();
  std::vector<const StageEntry*> entries;
  Compilation c;
  for (const SpecStage& item : *parsed) {
    const Result<const StageEntry*> entry = FindStage(item);
    if (!entry.ok()) return entry.error();
    entries.push_back(*entry);
    c.any_demoted = c.any_demoted || item.demoted;
    for (int tensor = 0; tensor < 2; ++tensor) {
      if (item.demoted && (item.tensors & (1u << tensor)) != 0) c.demoted_roles[tensor] |= RoleBit((*entry)->role);
    }
  }
  CompiledSpec compiled;
  for (size_t i = 0; i < entries.size(); ++i) {
    const SpecStage& item = (*parsed)[i];
    const StageEntry& entry = *entries[i];
    const Result<StageCall> call = entry.read({entry.info.usage, item.arguments, item.position});
    if (!call.ok()) return call.error();
    Result<bool> added =
        Selects(entry.role) ? AppendToSelection(item, entry, *call, c) : AppendToChains(item, entry, *call, c);
    if (!added.ok()) return added.error();
    compiled.stages.push_back({PrintStage(item, entry, *call), &entry.info});
    if (!compiled.canonical.empty()) compiled.canonical += '|';
    compiled.canonical += compiled.stages.back().text;
  }
  const uint32_t end = static_cast<uint32_t>(spec.size());
  bool bits_implied = false;
  for (const Chain* chain : {&c.kept[0], &c.kept[1], &c.demoted[0], &c.demoted[1]}) {
    bits_implied = bits_implied || (chain->quantised && !chain->packed);
  }
  Result<std::shared_ptr<const FrameCoder>> key = FinishTensor(c, 0, end);
  if (!key.ok()) return key.error();
  Result<std::shared_ptr<const FrameCoder>> value = FinishTensor(c, 1, end);
  if (!value.ok()) return value.error();
  if (Result<bool> checked = CheckSelection(c, end); !checked.ok()) return checked.error();
  compiled.key = *key;
  compiled.value = *value;
  compiled.selection = c.selection;
  if (bits_implied) {
    compiled.canonical += "|P:bits";
    compiled.stages.push_back({"P:bits", &BitsStage::kInfo});
  }
  if (compiled.canonical.size() > kSpecBytesMax) {
    return SpecError(end, "a canonical form of " + std::to_string(compiled.canonical.size()) + " bytes",
                     "at most " + std::to_string(kSpecBytesMax));
  }
  return compiled;
}

}  // namespace kvasir
