// SPDX-License-Identifier: Apache-2.0
// What a row of the table must hold: the common gate, and a check of its own. Checks are functions in a table; each
// says what it measured.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/codec.h"
#include "tests/quality/select_bench.h"
#include "tests/quality/stored_chain.h"
#include "tests/seeds/rows.h"

namespace kvasir::seeds {

using quality::Capture;
using quality::StoredChain;

struct Verdict {
  bool held = false;
  std::string said;  ///< figures, in a few words
};

/// What checks run on; made once.
struct Fixtures {
  std::vector<uint32_t> tokens;                  ///< of the text
  Capture text;                                  ///< of the reference model, 768 tokens of held-out text
  Capture synthetic;                             ///< heads of 128, outlier channels, RoPE, a falling spectrum
  std::function<quality::SelectBench*()> bench;  ///< made when first asked for; null: could not be made
};

struct FixtureOptions {
  std::string model;  ///< directory
  uint32_t threads = 1;
  uint32_t texts = 2, turns = 16;  ///< of the bench
};
Result<Fixtures> MakeFixtures(const FixtureOptions& options);

/// Seeded numbers in the shape of keys and values (F1 of the acceptance harness).
Capture SyntheticCapture();
/// Keys and values in runs of neighbours that are alike, as KVMerger found them in large models.
Capture RunsCapture();
/// Keys and values of 200 words that come by Zipf's law, and a little noise, no positions: what two bits lose of them
/// is shared by the tokens of a word, GEAR's coherent residual.
Capture WordsCapture();

/// The common gate: the canonical spec parses to itself; encoding repeats itself to the byte; what the device path
/// packs and unpacks through pages is what the codec encodes and decodes alone; the index sets are those of scores in
/// float64 but for ties; bits are no more than 2 % above the stated ones.
Verdict CommonGate(const Row& row, const Codec& codec, const Capture& capture, const StoredChain& stored);

using OwnCheck = Verdict (*)(Fixtures& fixtures, const Row& row, const Codec& codec, const StoredChain& stored);
struct NamedCheck {
  uint32_t row;
  OwnCheck run;
  bool slow = false;  ///< needs the bench: left out of the sampled form
};
/// Null when the row has none.
const NamedCheck* FindCheck(uint32_t row);

std::span<const NamedCheck> CodecChecks();
std::span<const NamedCheck> SelectionChecks();
std::span<const NamedCheck> FlagChecks();
std::span<const NamedCheck> LayerChecks();
std::span<const NamedCheck> LinkChecks();
std::span<const NamedCheck> MergeChecks();
std::span<const NamedCheck> ModelChecks();

/// A capture with those flags as its external scores.
Capture WithFlags(const Capture& capture,
                  const std::function<bool(uint32_t layer, uint32_t head, uint32_t token)>& keeps);

/// Where a text has punctuation, and its line ends as what is special: from its tokens alone, which are bytes.
std::vector<TokenSpan> MarkedSpans(std::span<const uint32_t> tokens);

/// "a 1.50, b 2.00" by printf.
std::string Said(const char* format, ...) __attribute__((format(printf, 1, 2)));

struct Outcome {
  Fate fate = Fate::kLater;
  double bits = 0, error = 0;
  std::string said;
  bool slow_left_out = false;
};
/// Runs a row. `sampled`: without the checks that need the bench.
Outcome RunRow(Fixtures& fixtures, const Row& row, bool sampled);

}  // namespace kvasir::seeds
