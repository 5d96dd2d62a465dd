// SPDX-License-Identifier: Apache-2.0
// Select: from a spec's selecting stages and what the engine brought to the fate of every token of every head.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/kv_layout.h"
#include "kernels/result.h"
#include "kernels/select_inputs.h"
#include "kernels/selection.h"
#include "kernels/workers.h"

namespace kvasir {

/// The chain's keys and values, head by head. Workers ask for different heads at the same time.
class ChainRows {
 public:
  virtual ~ChainRows() = default;
  /// All tokens of one head as floats: `out` has tokens * dim.
  virtual void Load(uint32_t layer, uint32_t head, KvTensor tensor, std::span<float> out) = 0;
  /// After a merge.
  virtual void Store(uint32_t layer, uint32_t head, KvTensor tensor, std::span<const float> rows) = 0;
};

struct SelectionContext;

/// What a device computes of a selection itself. Each answers false where it has no body: Select then runs the stage.
/// Scores of numeric bodies may differ in their last bits; a choice is the same for the same scores.
class SelectBodies {
 public:
  virtual ~SelectBodies() = default;
  /// Runs `stage`, of SelectStages, on the scores: `done` says how it went.
  virtual bool Score(const StageCall& stage, const SelectionContext& context, std::vector<float>& scores,
                     Result<bool>& done) = 0;
  /// The classes of every head from `counts`, the tokens it keeps, exempt ones included.
  virtual bool Choose(const SelectionContext& context, std::span<const float> scores, std::span<const uint32_t> counts,
                      std::span<RowClass> classes, Result<bool>& done) = 0;
};

struct Selection {
  std::vector<RowClass> classes;  ///< [layers][heads][tokens]
  std::vector<float> weights;     ///< [layers][heads][tokens][2]; empty = all 1
  std::vector<uint32_t> counts;   ///< [layers][heads]: tokens kept or exempt
};

/// Tokens of a chain that a head keeps, exempt ones included, on the average of the heads. REQUIRES: spec.has_budget.
uint32_t BudgetTokens(const SelectionSpec& spec, uint32_t tokens);

/// A chain as one process has it: with all heads, or with those of one rank of a tensor-parallel job.
struct ChainAtHand {
  const KvLayout& layout;  ///< of the model
  uint32_t tokens = 0;
  const SelectInputs& inputs;  ///< shapes of the whole model; what is of heads that are not at hand is not read
  ChainRows& rows;
  uint32_t first_head = 0, heads = 0;  ///< of every layer
  Workers* workers = nullptr;          ///< null = the calling thread. The result is the same
  SelectBodies* bodies = nullptr;      ///< asked only where all heads are at hand
};

/// The choice in two steps, between which ranks exchange their scores. First what the scorer makes of the heads at
/// hand, each by itself: [layers][chain.heads][tokens]. Fails as Select does.
Result<std::vector<float>> ScoreHeads(const SelectionSpec& spec, const ChainAtHand& chain);
/// Then everything else, from the scores of all heads, [layers][heads of the model][tokens]: every rank comes to the
/// same budgets. Selection has room for all heads; classes and weights of those that are not at hand say nothing.
Result<Selection> SelectScored(const SelectionSpec& spec, const ChainAtHand& chain, std::vector<float> scores);
/// Whether that gives ranks what one process would choose: kInvalidArgument names a stage that looks at keys, values or
/// inputs of all heads after scoring.
Result<bool> CheckRanks(const SelectionSpec& spec);

/// Both steps at once, with all heads, on the calling thread. Deterministic. kInvalidArgument names an input that a
/// stage needs and `inputs` lacks, or one of the wrong size.
Result<Selection> Select(const SelectionSpec& spec, const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs,
                         ChainRows& rows, SelectBodies* bodies = nullptr);

}  // namespace kvasir
