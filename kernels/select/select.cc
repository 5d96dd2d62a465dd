// SPDX-License-Identifier: Apache-2.0
// Runs the selecting stages of a spec: scores, budgets, the choice, merges.
#include "kernels/select/select.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>

#include "kernels/select/one_head.h"
#include "kernels/stages/select_list.h"

namespace kvasir {
namespace {

/// Runs the selecting stage `call` through `use`, a template over the stage with its Args.
template <class Use>
void WithSelectStage(const StageCall& call, Use&& use) {
  SelectStages::With(call.stage, [&]<class S>() {
    typename S::Args args;
    std::memcpy(&args, call.args, sizeof args);
    use.template operator()<S>(args);
  });
}

SelectionContext ContextOf(const SelectionSpec& spec, const ChainAtHand& chain) {
  return {chain.layout, chain.tokens, spec, chain.inputs, chain.rows, chain.workers};
}

/// The scores and classes of one head begin here.
uint64_t PlaceOf(const ChainAtHand& chain, uint32_t layer, uint32_t head) {
  return (uint64_t{layer} * chain.layout.kv_heads + head) * chain.tokens;
}

/// Whether score stage `i` is given one head at a time.
bool IsByHead(const SelectionSpec& spec, uint32_t i) {
  bool by_head = false;
  WithSelectStage(spec.scores[i], [&]<class S>(const typename S::Args&) {
    by_head = S::kRole == StageRole::kScorer || ReshapesByHead<S>();
  });
  return by_head;
}

/// Body for every head at hand, layer after layer; of failures the one of the first head, whoever was faster.
Result<bool> ForEachHead(const ChainAtHand& chain,
                         const std::function<Result<bool>(uint32_t layer, uint32_t head)>& body) {
  const uint64_t count = uint64_t{chain.layout.layers} * chain.heads;
  std::vector<std::optional<Error>> failures(count);
  ForEachOn(chain.workers, count, [&](uint64_t at) {
    const auto layer = static_cast<uint32_t>(at / chain.heads), head = static_cast<uint32_t>(at % chain.heads);
    if (Result<bool> done = body(layer, chain.first_head + head); !done.ok()) failures[at] = done.error();
  });
  for (std::optional<Error>& failure : failures) {
    if (failure) return *std::move(failure);
  }
  return true;
}

/// Score stages [begin, end), all by head, over the heads at hand; `scores_of` is where those of one head lie.
Result<bool> ScoreByHead(const SelectionSpec& spec, const ChainAtHand& chain, uint32_t begin, uint32_t end,
                         const std::function<std::span<float>(uint32_t layer, uint32_t head)>& scores_of) {
  const SelectionContext context = ContextOf(spec, chain);
  Result<bool> fit = true;
  for (uint32_t i = begin; i < end && fit.ok(); ++i) {
    WithSelectStage(spec.scores[i],
                    [&]<class S>(const typename S::Args&) { fit = CheckHeadInputs(S::kInfo, context); });
  }
  if (!fit.ok()) return fit;
  return ForEachHead(chain, [&](uint32_t layer, uint32_t head) {
    const OneHead one(context, layer, head);
    const std::span<float> to = scores_of(layer, head);
    std::vector<float> scores(to.begin(), to.end());
    Result<bool> done = true;
    for (uint32_t i = begin; i < end && done.ok(); ++i) {
      WithSelectStage(spec.scores[i], [&]<class S>(const typename S::Args& args) {
        if constexpr (S::kRole == StageRole::kScorer) done = S::Score(args, one.context(), scores);
        if constexpr (S::kRole == StageRole::kReshape) done = S::Reshape(args, one.context(), scores);
      });
    }
    std::copy(scores.begin(), scores.end(), to.begin());
    return done;
  });
}

/// What the device computes itself; a rank's chain is no whole one, and goes the way of all devices.
SelectBodies* BodiesOf(const ChainAtHand& chain) {
  return chain.heads == chain.layout.kv_heads ? chain.bodies : nullptr;
}

/// How many score stages come before the first that looks at several heads.
uint32_t ByHeadFirst(const SelectionSpec& spec) {
  uint32_t count = 0;
  while (count < spec.score_count && IsByHead(spec, count)) ++count;
  return count;
}

/// The score stages behind those.
Result<bool> ScoreTogether(const SelectionSpec& spec, const ChainAtHand& chain, std::vector<float>& scores) {
  const SelectionContext context = ContextOf(spec, chain);
  const auto scores_of = [&](uint32_t layer, uint32_t head) {
    return std::span(scores).subspan(PlaceOf(chain, layer, head), chain.tokens);
  };
  Result<bool> done = true;
  for (uint32_t i = ByHeadFirst(spec); i < spec.score_count && done.ok(); ++i) {
    if (SelectBodies* bodies = BodiesOf(chain);
        bodies != nullptr && bodies->Score(spec.scores[i], context, scores, done))
      continue;
    if (IsByHead(spec, i)) {
      done = ScoreByHead(spec, chain, i, i + 1, scores_of);
      continue;
    }
    WithSelectStage(spec.scores[i], [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kReshape) done = S::Reshape(args, context, scores);
    });
  }
  return done;
}

Result<bool> CheckNumbers(std::span<const float> scores) {
  for (const float score : scores) {
    if (std::isnan(score))
      return Error{ErrorCode::kInvalidArgument, "a score is not a number; look at what was brought"};
  }
  return true;
}

Result<std::vector<uint32_t>> Budgets(const SelectionContext& context, std::span<const float> scores) {
  std::vector<uint32_t> counts;
  Result<bool> done = true;
  WithSelectStage(context.spec.budget, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kBudget) done = S::Allocate(args, context, scores, counts);
  });
  if (!done.ok()) return done.error();
  KERNELS_CHECK(counts.size() == context.heads());
  for (uint32_t& count : counts) count = std::clamp(count, context.ExemptTokens(), context.tokens);
  return counts;
}

/// The exempt tokens, and of the others those with the greatest scores; of equal ones the earlier.
void Choose(const SelectionContext& context, std::span<const float> scores, uint32_t count,
            std::span<RowClass> classes) {
  std::vector<uint32_t> order(context.tokens);
  std::iota(order.begin(), order.end(), 0u);
  const auto better = [&](uint32_t a, uint32_t b) {
    const bool a_exempt = context.Exempt(a), b_exempt = context.Exempt(b);
    if (a_exempt != b_exempt) return a_exempt;
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  };
  std::nth_element(order.begin(), order.begin() + count, order.end(), better);
  const RowClass others = context.spec.demote ? RowClass::kDemoted : RowClass::kDropped;
  std::fill(classes.begin(), classes.end(), others);
  for (uint32_t i = 0; i < count; ++i) {
    classes[order[i]] = context.Exempt(order[i]) ? RowClass::kExact : RowClass::kKept;
  }
}

Result<bool> MergeAll(const SelectionContext& context, const ChainAtHand& chain, std::span<const float> scores,
                      Selection& selection) {
  const uint64_t tokens = context.tokens;
  selection.weights.assign(2 * selection.classes.size(), 1.0f);
  Result<bool> done = ForEachHead(chain, [&](uint32_t layer, uint32_t head) {
    const uint64_t at = PlaceOf(chain, layer, head);
    std::vector<float> keys(tokens * context.layout.key_dim), values(tokens * context.layout.value_dim);
    context.rows.Load(layer, head, KvTensor::kKey, keys);
    context.rows.Load(layer, head, KvTensor::kValue, values);
    MergeHead merge{layer, head,   std::span(selection.classes).subspan(at, tokens),        scores.subspan(at, tokens),
                    keys,  values, std::span(selection.weights).subspan(2 * at, 2 * tokens)};
    Result<bool> merged = true;
    WithSelectStage(context.spec.merge, [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kMerge) merged = S::Merge(args, context, merge);
    });
    context.rows.Store(layer, head, KvTensor::kKey, keys);
    context.rows.Store(layer, head, KvTensor::kValue, values);
    // A merge may keep a token more than the budget.
    selection.counts[at / tokens] =
        static_cast<uint32_t>(std::count_if(merge.classes.begin(), merge.classes.end(),
                                            [](RowClass c) { return c == RowClass::kKept || c == RowClass::kExact; }));
    return merged;
  });
  const bool weighted = std::any_of(selection.weights.begin(), selection.weights.end(), [](float w) { return w != 1; });
  if (!weighted) selection.weights.clear();
  return done;
}

}  // namespace

Result<bool> NeedInput(std::string_view stage, std::string_view input, uint64_t floats, uint64_t expected) {
  if (floats == 0) return MissingInput(stage, input);
  if (floats == expected) return true;
  return Error{ErrorCode::kInvalidArgument, std::string(stage) + ": the input " + std::string(input) + " has " +
                                                std::to_string(floats) + " numbers, this chain needs " +
                                                std::to_string(expected)};
}

Error WrongHeads(std::string_view stage, uint32_t query_heads, uint32_t kv_heads) {
  return {ErrorCode::kInvalidArgument, std::string(stage) + ": the input query_heads is " +
                                           std::to_string(query_heads) + ", a multiple of the " +
                                           std::to_string(kv_heads) + " KV heads is needed"};
}

std::vector<uint32_t> ShareOut(std::span<const double> wanted, uint64_t total, uint32_t most) {
  std::vector<uint32_t> counts;
  std::vector<double> remainders;
  uint64_t given = 0;
  for (const double want : wanted) {
    const double fit = std::clamp(want, 0.0, static_cast<double>(most));
    counts.push_back(static_cast<uint32_t>(fit));
    remainders.push_back(fit - counts.back());
    given += counts.back();
  }
  std::vector<size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return remainders[i] > remainders[j]; });
  for (bool room = true; room && given < total;) {
    room = false;
    for (const size_t i : order) {
      if (given == total || counts[i] == most) continue;
      ++counts[i];
      ++given;
      room = true;
    }
  }
  return counts;
}

uint32_t BudgetTokens(const SelectionSpec& spec, uint32_t tokens) {
  const uint64_t ends = uint64_t{spec.sink_tokens} + spec.window_tokens;
  const uint32_t exempt = static_cast<uint32_t>(std::min<uint64_t>(ends, tokens));
  uint32_t mean = 0;
  WithSelectStage(spec.budget, [&]<class S>(const typename S::Args& args) {
    if constexpr (requires { S::MeanTokens(args, tokens, exempt); }) {
      mean = static_cast<uint32_t>(std::lround(S::MeanTokens(args, tokens, exempt)));
    } else if constexpr (S::kRole == StageRole::kBudget) {
      mean = args.amount.Of(tokens);
    }
  });
  return std::clamp(mean, exempt, tokens);
}

Result<bool> CheckRanks(const SelectionSpec& spec) {
  const auto refused = [](const StageInfo& stage, std::string_view what) {
    return Error{ErrorCode::kInvalidArgument, std::string(stage.letter) + ":" + std::string(stage.name) + " looks at " +
                                                  std::string(what) +
                                                  " of all heads, a rank has those of its own: choose in one process "
                                                  "that has all heads in its cache"};
  };
  Result<bool> fit = true;
  for (uint32_t i = ByHeadFirst(spec); i < spec.score_count && fit.ok(); ++i) {
    if (!IsByHead(spec, i)) continue;
    WithSelectStage(spec.scores[i],
                    [&]<class S>(const typename S::Args&) { fit = refused(S::kInfo, "keys or values"); });
  }
  if (!fit.ok()) return fit;
  WithSelectStage(spec.budget, [&]<class S>(const typename S::Args&) {
    // Scores of heads and of layers are of the model: every rank has them.
    const std::string_view needs = S::kInfo.needs;
    if (!needs.empty() && needs != "head_scores" && needs != "hidden_cosine") fit = refused(S::kInfo, needs);
  });
  return fit;
}

Result<std::vector<float>> ScoreHeads(const SelectionSpec& spec, const ChainAtHand& chain) {
  if (chain.tokens == 0) return Error{ErrorCode::kInvalidArgument, "selection: the chain has no tokens"};
  std::vector<float> scores(uint64_t{chain.layout.layers} * chain.heads * chain.tokens);
  const auto scores_of = [&](uint32_t layer, uint32_t head) {
    const uint64_t row = uint64_t{layer} * chain.heads + head - chain.first_head;
    return std::span(scores).subspan(row * chain.tokens, chain.tokens);
  };
  const SelectionContext context = ContextOf(spec, chain);
  SelectBodies* const bodies = BodiesOf(chain);
  const uint32_t end = ByHeadFirst(spec);
  Result<bool> done = true;
  for (uint32_t i = 0; bodies != nullptr && i < end && done.ok(); ++i) {  // stage by stage: any may be the device's
    if (!bodies->Score(spec.scores[i], context, scores, done)) done = ScoreByHead(spec, chain, i, i + 1, scores_of);
  }
  if (bodies == nullptr) done = ScoreByHead(spec, chain, 0, end, scores_of);
  if (!done.ok()) return done.error();
  if (Result<bool> numbers = CheckNumbers(scores); !numbers.ok()) return numbers.error();
  return scores;
}

Result<Selection> SelectScored(const SelectionSpec& spec, const ChainAtHand& chain, std::vector<float> scores) {
  const SelectionContext context = ContextOf(spec, chain);
  const uint64_t tokens = chain.tokens;
  KERNELS_CHECK(scores.size() == context.heads() * tokens);
  if (Result<bool> done = ScoreTogether(spec, chain, scores); !done.ok()) return done.error();
  if (Result<bool> numbers = CheckNumbers(scores); !numbers.ok()) return numbers.error();
  Result<std::vector<uint32_t>> counts = Budgets(context, scores);
  if (!counts.ok()) return counts.error();
  Selection selection;
  selection.counts = *std::move(counts);
  selection.classes.resize(context.heads() * tokens);
  Result<bool> chosen = true;
  SelectBodies* const bodies = BodiesOf(chain);
  if (bodies == nullptr || !bodies->Choose(context, scores, selection.counts, selection.classes, chosen)) {
    chosen = ForEachHead(chain, [&](uint32_t layer, uint32_t head) {
      const uint64_t at = PlaceOf(chain, layer, head);
      Choose(context, std::span(scores).subspan(at, tokens), selection.counts[at / tokens],
             std::span(selection.classes).subspan(at, tokens));
      return Result<bool>(true);
    });
  }
  if (!chosen.ok()) return chosen.error();
  if (spec.has_merge) {
    if (Result<bool> merged = MergeAll(context, chain, scores, selection); !merged.ok()) return merged.error();
  }
  return selection;
}

Result<Selection> Select(const SelectionSpec& spec, const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs,
                         ChainRows& rows, SelectBodies* bodies) {
  const ChainAtHand chain{layout, tokens, inputs, rows, 0, layout.kv_heads, nullptr, bodies};
  Result<std::vector<float>> scores = ScoreHeads(spec, chain);
  if (!scores.ok()) return scores.error();
  return SelectScored(spec, chain, *std::move(scores));
}

}  // namespace kvasir
