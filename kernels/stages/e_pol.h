// SPDX-License-Identifier: Apache-2.0
// E:pol. Each head keeps by the cheapest policy that recovers its attention (FastGen: Model Tells You What to Discard:
// Adaptive KV Cache Compression for LLMs, arXiv 2310.01801). Policies, each with all before it:
//   special      tokens of spans marked special
//   punctuation  tokens of spans marked punctuation
//   frequent     the share r of the tokens that were paid most attention (attention_sums), of equal ones the earlier
//   local        the last share r of the tokens
//   full         all
// With A the attention of the last 32 queries, the mean over the query heads of a KV head: a policy recovers sum A[q,
// t] over its tokens / sum over all. The first that recovers tau is the head's; its tokens have score 1, others 0: with
// B:flag.
#pragma once

#include <numeric>

#include "kernels/stages/window_attention.h"

namespace kvasir {

struct PolicyScorer {
  struct Args {
    uint32_t tau = 950000;    ///< millionths
    uint32_t share = 300000;  ///< r, millionths
    uint32_t demote = 0;
  };
  static constexpr uint32_t kWindow = 32;
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {"E", "pol", "pol[(tau[,share[,drop|demote]])]",
                                      "Each head by the cheapest of five policies that recovers tau of its attention "
                                      "(FastGen, arXiv 2310.01801); with B:flag",
                                      "spans, attention_sums, window_queries"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 3); !counted.ok()) return counted.error();
    const Result<uint32_t> tau = in.Share(0, 950000, "tau, the share of the attention that a policy must recover");
    if (!tau.ok()) return tau.error();
    const Result<uint32_t> share = in.Share(1, 300000, "share of the tokens that are frequent, and that are local");
    if (!share.ok()) return share.error();
    const Result<uint32_t> demote = in.Action(2);
    if (!demote.ok()) return demote.error();
    return Args{*tau, *share, *demote};
  }
  static std::string Print(const Args& a) {
    return PrintShare(a.tau) + "," + PrintShare(a.share) + (a.demote != 0 ? ",demote" : ",drop");
  }

  static Result<bool> Score(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    const SelectInputs& in = context.inputs;
    if (in.spans.empty()) return MissingInput("E:pol", "spans");
    Result<bool> there = NeedInput("E:pol", "attention_sums", in.attention_sums.size(), scores.size());
    if (!there.ok()) return there;
    if (Result<bool> fit = CheckWindow("E:pol", kWindow, context); !fit.ok()) return fit;
    for (const TokenSpan& span : in.spans) {
      if (span.begin > span.end || span.end > context.tokens) {
        return Error{ErrorCode::kInvalidArgument, "E:pol: one of the input spans does not lie within the chain"};
      }
    }
    const uint32_t n = context.tokens;
    for (uint64_t head = 0; head < context.heads(); ++head) {
      const std::vector<double> attention = AttentionOf(context, head, kWindow);
      const double all = std::accumulate(attention.begin(), attention.end(), 0.0);
      const std::span<float> flags = std::span(scores).subspan(head * n, n);
      std::fill(flags.begin(), flags.end(), 0.0f);
      for (uint32_t policy = 0; policy <= kFull; ++policy) {
        Add(a, context, policy, in.attention_sums.subspan(head * n, n), flags);
        double held = 0;
        for (uint32_t t = 0; t < n; ++t) held += flags[t] > 0 ? attention[t] : 0;
        if (held >= a.tau / 1e6 * all) break;
      }
    }
    return true;
  }

 private:
  enum Policy : uint32_t { kSpecial, kPunctuation, kFrequent, kLocal, kFull };
  /// Flags what policy number `policy` has beside those before it.
  static void Add(const Args& a, const SelectionContext& context, uint32_t policy, std::span<const float> sums,
                  std::span<float> flags) {
    const uint32_t n = context.tokens, share = TokenAmount{0, a.share}.Of(n);
    if (policy == kSpecial || policy == kPunctuation) {
      const auto kind = policy == kSpecial ? TokenSpan::Kind::kSpecial : TokenSpan::Kind::kPunctuation;
      for (const TokenSpan& span : context.inputs.spans) {
        if (span.kind == kind) std::fill(flags.begin() + span.begin, flags.begin() + span.end, 1.0f);
      }
    } else if (policy == kFrequent) {
      std::vector<uint32_t> order(n);
      std::iota(order.begin(), order.end(), 0u);
      std::nth_element(order.begin(), order.begin() + share, order.end(),
                       [&](uint32_t i, uint32_t j) { return sums[i] != sums[j] ? sums[i] > sums[j] : i < j; });
      for (uint32_t i = 0; i < share; ++i) flags[order[i]] = 1;
    } else {
      std::fill(policy == kLocal ? flags.end() - share : flags.begin(), flags.end(), 1.0f);
    }
  }
};

}  // namespace kvasir
