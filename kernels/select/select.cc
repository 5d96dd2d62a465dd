// SPDX-License-Identifier: Apache-2.0
// Runs the selecting stages of a spec: scores, budgets, the choice, merges.
#include "kernels/select/select.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

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

Result<std::vector<float>> Scores(const SelectionContext& context, SelectBodies* bodies) {
  std::vector<float> scores(context.heads() * context.tokens);
  Result<bool> done = true;
  for (uint32_t i = 0; i < context.spec.score_count && done.ok(); ++i) {
    if (bodies != nullptr && bodies->Score(context.spec.scores[i], context, scores, done)) continue;
    WithSelectStage(context.spec.scores[i], [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kScorer) done = S::Score(args, context, scores);
      if constexpr (S::kRole == StageRole::kReshape) done = S::Reshape(args, context, scores);
    });
  }
  if (!done.ok()) return done.error();
  for (const float score : scores) {
    if (std::isnan(score))
      return Error{ErrorCode::kInvalidArgument, "a score is not a number; look at what was brought"};
  }
  return scores;
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

Result<bool> MergeAll(const SelectionContext& context, std::span<const float> scores, Selection& selection) {
  const uint64_t tokens = context.tokens;
  std::vector<float> keys(tokens * context.layout.key_dim), values(tokens * context.layout.value_dim);
  Result<bool> done = true;
  selection.weights.assign(2 * selection.classes.size(), 1.0f);
  for (uint64_t i = 0; i < context.heads() && done.ok(); ++i) {
    const uint32_t layer = static_cast<uint32_t>(i / context.layout.kv_heads);
    const uint32_t head = static_cast<uint32_t>(i % context.layout.kv_heads);
    context.rows.Load(layer, head, KvTensor::kKey, keys);
    context.rows.Load(layer, head, KvTensor::kValue, values);
    MergeHead merge{layer,
                    head,
                    std::span(selection.classes).subspan(i * tokens, tokens),
                    scores.subspan(i * tokens, tokens),
                    keys,
                    values,
                    std::span(selection.weights).subspan(2 * i * tokens, 2 * tokens)};
    WithSelectStage(context.spec.merge, [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kMerge) done = S::Merge(args, context, merge);
    });
    context.rows.Store(layer, head, KvTensor::kKey, keys);
    context.rows.Store(layer, head, KvTensor::kValue, values);
  }
  const bool weighted = std::any_of(selection.weights.begin(), selection.weights.end(), [](float w) { return w != 1; });
  if (!weighted) selection.weights.clear();
  // A merge may keep a token more than the budget.
  for (uint64_t i = 0; i < context.heads(); ++i) {
    const auto first = selection.classes.begin() + static_cast<ptrdiff_t>(i * tokens);
    selection.counts[i] =
        static_cast<uint32_t>(std::count_if(first, first + static_cast<ptrdiff_t>(tokens),
                                            [](RowClass c) { return c == RowClass::kKept || c == RowClass::kExact; }));
  }
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

Result<Selection> Select(const SelectionSpec& spec, const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs,
                         ChainRows& rows, SelectBodies* bodies) {
  if (tokens == 0) return Error{ErrorCode::kInvalidArgument, "selection: the chain has no tokens"};
  const SelectionContext context{layout, tokens, spec, inputs, rows};
  const Result<std::vector<float>> scores = Scores(context, bodies);
  if (!scores.ok()) return scores.error();
  Result<std::vector<uint32_t>> counts = Budgets(context, *scores);
  if (!counts.ok()) return counts.error();
  Selection selection;
  selection.classes.resize(context.heads() * tokens);
  Result<bool> chosen = true;
  const bool on_device = bodies != nullptr && bodies->Choose(context, *scores, *counts, selection.classes, chosen);
  if (!chosen.ok()) return chosen.error();
  for (uint64_t i = 0; i < context.heads() && !on_device; ++i) {
    Choose(context, std::span(*scores).subspan(i * tokens, tokens), (*counts)[i],
           std::span(selection.classes).subspan(i * tokens, tokens));
  }
  selection.counts = std::move(*counts);
  if (spec.has_merge) {
    if (Result<bool> merged = MergeAll(context, *scores, selection); !merged.ok()) return merged.error();
  }
  return selection;
}

}  // namespace kvasir
