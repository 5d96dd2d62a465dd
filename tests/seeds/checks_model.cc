// SPDX-License-Identifier: Apache-2.0
// Own checks of the rows that are about what the model still finds: both methods of a pair in the bench of two turns.
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

constexpr double kPoints = 0.20;     ///< MiKV above H2O
constexpr double kSameBytes = 1.06;  ///< bits that still count as the same

/// Passkeys found, both turns together.
double Found(const quality::SelectFigures& f) { return (f.first_turn + f.second_turn) / 2; }

struct Pair {
  quality::SelectFigures own, other;
};
Result<Pair> Measure(Fixtures& f, const Codec& codec, const char* other) {
  quality::SelectBench* bench = f.bench();
  if (bench == nullptr) return Error{ErrorCode::kInvalidArgument, "the bench could not be made"};
  const auto own = bench->Measure(codec), against = bench->Measure(**Codec::Parse(other));
  if (!own.ok()) return own.error();
  if (!against.ok()) return against.error();
  return Pair{*own, *against};
}

/// Row 2. H2O drops what MiKV keeps in 3 bits; H2O's budget is what MiKV's bits buy.
Verdict MiKv(Fixtures& f, const Row&, const Codec& codec, const StoredChain&) {
  const auto pair = Measure(f, codec, "B:uni(0.29)|E:acc|R:win(32)|raw");
  if (!pair.ok()) return {false, pair.error().message};
  const bool held = Found(pair->own) >= Found(pair->other) + kPoints && pair->own.bits <= kSameBytes * pair->other.bits;
  return {held, Said("passkeys %.0f%% at %.2f bits, H2O %.0f%% at %.2f", 100 * Found(pair->own), pair->own.bits,
                     100 * Found(pair->other), pair->other.bits)};
}

/// Row 41.
Verdict QuantizedPruning(Fixtures& f, const Row&, const Codec& codec, const StoredChain&) {
  const auto pair = Measure(f, codec, "B:uni(0.235)|E:win(32,7)|R:win(32)|raw");
  if (!pair.ok()) return {false, pair.error().message};
  const bool held = Found(pair->own) >= Found(pair->other) && pair->own.change <= pair->other.change &&
                    pair->own.bits <= kSameBytes * pair->other.bits;
  return {held,
          Said("64%% of the tokens at 4 bits: passkeys %.0f%%, perplexity %+.2f%%, %.2f bits; 23.5%% at 16: %.0f%%, "
               "%+.2f%%, %.2f",
               100 * Found(pair->own), 100 * pair->own.change, pair->own.bits, 100 * Found(pair->other),
               100 * pair->other.change, pair->other.bits)};
}

constexpr NamedCheck kChecks[] = {{2, MiKv, true}, {41, QuantizedPruning, true}};

}  // namespace

std::span<const NamedCheck> ModelChecks() { return kChecks; }

}  // namespace kvasir::seeds
