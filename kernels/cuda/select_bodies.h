// SPDX-License-Identifier: Apache-2.0
// Bodies of a selection: the scorers that read keys and values (E:knorm, E:vnorm, E:win), and the choice.
//
// E:knorm and E:vnorm give the bits of their stages: float32, channels ascending, a correctly rounded square root.
// E:win does so up to the products q . k; its exponentials are those of the device, and the sum of a softmax is taken
// by kThreads threads, thread t the tokens t, t + kThreads, ... ascending, then the threads ascending: a numeric stage,
// whose scores may differ from the CPU's in the last bits. The choice is the same for the same scores: whole numbers
// only.
#pragma once

#include <cmath>

#include "kernels/codec.h"
#include "kernels/cuda/team.h"
#include "kernels/number_formats.h"

namespace kvasir::cuda {

/// E:knorm of a row.
KVASIR_HD inline float KeyNormScore(ElementType type, uint32_t dim, const uint8_t* row) {
  const uint32_t size = ElementBytes(type);
  float squares = 0;
  for (uint32_t c = 0; c < dim; ++c) {
    const float k = LoadElement(type, row + c * size);
    squares += k * k;
  }
  return -sqrtf(squares);
}

/// E:vnorm: what the score of the row's token is multiplied with, unless it is kept first.
KVASIR_HD inline float ValueNorm(ElementType type, uint32_t dim, const uint8_t* row) {
  const uint32_t size = ElementBytes(type);
  float norm = 0;
  for (uint32_t c = 0; c < dim; ++c) norm += fabsf(LoadElement(type, row + c * size));
  return norm;
}

/// E:win of one query head.
struct WindowShape {
  uint32_t tokens = 0, dim = 0;
  uint32_t window = 0;  ///< queries
  uint32_t kernel = 1;  ///< tokens that are pooled
  bool pools_max = false;
  uint32_t query_heads = 1;  ///< of the KV head
  ElementType element = ElementType::kBfloat16;
  KVASIR_HD uint32_t before() const { return tokens - window; }
  /// Tokens that query `w` sees.
  KVASIR_HD uint32_t seen(uint32_t w) const { return before() + w + 1; }
  KVASIR_HD double Logit(float dot) const { return dot / sqrt(1.0 * dim); }
};

/// q_w . k_t
KVASIR_HD inline float WindowDot(const WindowShape& s, const float* queries, const uint8_t* keys, uint32_t w,
                                 uint32_t t) {
  const uint32_t size = ElementBytes(s.element);
  const uint8_t* key = keys + uint64_t{t} * s.dim * size;
  float dot = 0;
  for (uint32_t c = 0; c < s.dim; ++c) dot += queries[uint64_t{w} * s.dim + c] * LoadElement(s.element, key + c * size);
  return dot;
}

/// Of the softmax of one query: its greatest logit, and the sum of the exponentials.
struct WindowSoftmax {
  double greatest = 0, sum = 0;
};

/// Bits of a float in the order of the floats; -0 is +0.
KVASIR_HD inline uint32_t OrderedBits(float x) {
  const uint32_t bits = BitsOfFloat(x + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
KVASIR_HD inline float FloatOfOrderedBits(uint32_t ordered) {
  return FloatOfBits((ordered >> 31) != 0 ? ordered & 0x7FFFFFFFu : ~ordered);
}

/// `dots` [window][tokens], `partial` [Team::kThreads].
template <class Team>
KVASIR_HD void SumSoftmax(Team& team, const WindowShape& s, const float* dots, uint32_t w, double* partial,
                          WindowSoftmax* softmax) {
  const float* of_query = dots + uint64_t{w} * s.tokens;
  const uint32_t seen = s.seen(w);
  const uint32_t greatest_bits = team.Max([&](uint32_t t) {
    uint32_t most = 0;
    for (uint32_t i = t; i < seen; i += Team::kThreads) {
      const uint32_t bits = OrderedBits(of_query[i]);
      most = bits > most ? bits : most;
    }
    return most;
  });
  const double greatest = s.Logit(FloatOfOrderedBits(greatest_bits));
  team.Each([&](uint32_t t) {
    double sum = 0;
    for (uint32_t i = t; i < seen; i += Team::kThreads) sum += exp(s.Logit(of_query[i]) - greatest);
    partial[t] = sum;
  });
  team.Each([&](uint32_t t) {
    if (t != 0) return;
    double sum = 0;
    for (uint32_t i = 0; i < Team::kThreads; ++i) sum += partial[i];
    softmax[w] = {greatest, sum};
  });
}

/// The attention that the window pays to token t < before(), queries ascending.
KVASIR_HD inline double WindowAttention(const WindowShape& s, const float* dots, const WindowSoftmax* softmax,
                                        uint32_t t) {
  double sum = 0;
  for (uint32_t w = 0; w < s.window; ++w) {
    sum += exp(s.Logit(dots[uint64_t{w} * s.tokens + t]) - softmax[w].greatest) / softmax[w].sum;
  }
  return sum;
}

/// `attention` [before()], pooled around token t.
KVASIR_HD inline double PooledAttention(const WindowShape& s, const double* attention, uint32_t t) {
  const uint32_t side = s.kernel / 2, end = t + side + 1 < s.before() ? t + side + 1 : s.before();
  double sum = 0, greatest = 0;
  for (uint32_t i = t < side ? 0 : t - side; i < end; ++i) {
    sum += attention[i];
    greatest = attention[i] > greatest ? attention[i] : greatest;
  }
  return s.pools_max ? greatest : sum / s.kernel;
}

/// The score of a token from its pooled attention, summed over the query heads.
KVASIR_HD inline float WindowScore(const WindowShape& s, double pooled) {
  return static_cast<float>(pooled / (1.0 * s.query_heads * s.window));
}

/// Which tokens are exempt of a choice, and what becomes of those that are not kept.
struct ChoiceRules {
  uint32_t tokens = 0, sink_tokens = 0, window_tokens = 0;
  RowClass others = RowClass::kDropped;
  KVASIR_HD bool Exempt(uint32_t t) const { return t < sink_tokens || uint64_t{t} + window_tokens >= tokens; }
};

/// Shared memory of a team that chooses.
struct ChoiceShared {
  uint32_t counts[256];
  uint32_t prefix;  ///< upper bits of the least score that is kept, as OrderedBits
  uint32_t wanted;  ///< of the tokens with such bits, how many are kept
};

/// The exempt tokens of a head, and of the others those with the greatest scores, of equal ones the earlier: `count`
/// tokens together. The least score that is kept is found a byte at a time, from counts of the tokens that have the
/// bytes found so far. REQUIRES: no score is NaN, count is no less than the exempt tokens and no more than all.
template <class Team>
KVASIR_HD void ChooseTokens(Team& team, const ChoiceRules& rules, const float* scores, uint32_t count,
                            ChoiceShared& shared, RowClass* classes) {
  constexpr uint32_t kStep = Team::kThreads;
  const uint64_t exempt = team.Sum([&](uint32_t t) {
    uint64_t sum = 0;
    for (uint32_t i = t; i < rules.tokens; i += kStep) sum += rules.Exempt(i) ? 1 : 0;
    return sum;
  });
  team.Each([&](uint32_t t) {
    if (t == 0) shared.prefix = 0;
    if (t == 0) shared.wanted = count - static_cast<uint32_t>(exempt);
  });
  const bool none = shared.wanted == 0;
  for (uint32_t shift = 24; !none; shift -= 8) {
    team.Each([&](uint32_t t) {
      for (uint32_t b = t; b < 256; b += kStep) shared.counts[b] = 0;
    });
    const uint32_t above = shift == 24 ? 0 : ~0u << (shift + 8);
    team.Each([&](uint32_t t) {
      for (uint32_t i = t; i < rules.tokens; i += kStep) {
        const uint32_t bits = OrderedBits(scores[i]);
        if (!rules.Exempt(i) && (bits & above) == shared.prefix) AddTo(&shared.counts[bits >> shift & 255], 1);
      }
    });
    team.Each([&](uint32_t t) {
      if (t != 0) return;
      uint32_t byte = 255;
      while (byte > 0 && shared.counts[byte] < shared.wanted) shared.wanted -= shared.counts[byte--];
      shared.prefix |= byte << shift;
    });
    if (shift == 0) break;
  }
  const uint32_t least = shared.prefix, ties = shared.wanted;
  uint32_t met = 0;  // tokens with the least score, so far
  for (uint32_t begin = 0; begin < rules.tokens; begin += kStep) {
    typename Team::template Own<uint32_t> before;
    const auto has_least = [&](uint32_t i) {
      return !none && i < rules.tokens && !rules.Exempt(i) && OrderedBits(scores[i]) == least;
    };
    team.Each([&](uint32_t t) { before[t] = has_least(begin + t) ? 1 : 0; });
    const uint32_t all = team.SumBefore(before);
    team.Each([&](uint32_t t) {
      const uint32_t i = begin + t;
      if (i >= rules.tokens) return;
      const bool kept = !none && (OrderedBits(scores[i]) > least || (has_least(i) && met + before[t] < ties));
      classes[i] = rules.Exempt(i) ? RowClass::kExact : kept ? RowClass::kKept : rules.others;
    });
    met += all;
  }
}

}  // namespace kvasir::cuda
