// SPDX-License-Identifier: Apache-2.0
// Runs a row: its spec over the captured text, the common gate, its own check.
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

/// What a gate of row `number` flags, of the rows whose spec is of flags.
bool Flagged(uint32_t number, uint32_t layer, uint32_t head, uint32_t token) {
  if (number == 18) return token / 128 % 2 == head % 2;         // chunks, shifted for every second head
  if (number == 5) return token < 200 || token % 4 == 0;        // an image behind the text, a quarter of it left
  return (token * 2654435761u >> 7) % (3 + head + layer) == 0;  // gates: every head of its own
}

constexpr uint32_t kFastGen = 9;  ///< whose spans are those of the text's own tokens

bool IsOfFlags(uint32_t number) { return number == 5 || number == 18 || number == 40 || number == 55; }

}  // namespace

Capture WithFlags(const Capture& capture,
                  const std::function<bool(uint32_t layer, uint32_t head, uint32_t token)>& keeps) {
  Capture flagged = capture;
  flagged.reconstruction.clear();
  for (uint32_t layer = 0; layer < capture.layout.layers; ++layer) {
    for (uint32_t head = 0; head < capture.layout.kv_heads; ++head) {
      for (uint32_t t = 0; t < capture.tokens; ++t)
        flagged.reconstruction.push_back(keeps(layer, head, t) ? 1.0f : 0.0f);
    }
  }
  return flagged;
}

const NamedCheck* FindCheck(uint32_t row) {
  for (const auto checks :
       {CodecChecks(), SelectionChecks(), FlagChecks(), LayerChecks(), LinkChecks(), MergeChecks(), ModelChecks()}) {
    for (const NamedCheck& check : checks) {
      if (check.row == row) return &check;
    }
  }
  return nullptr;
}

Outcome RunRow(Fixtures& fixtures, const Row& row, bool sampled) {
  Outcome outcome;
  outcome.said = row.check;
  if (row.expected == Fate::kLater) return outcome;
  outcome.fate = Fate::kFails;
  const auto codec = Codec::Parse(row.spec);
  if (!codec.ok()) {
    outcome.said = codec.error().message;
    return outcome;
  }
  Capture changed;
  if (IsOfFlags(row.number)) {
    changed =
        WithFlags(fixtures.text, [&](uint32_t l, uint32_t h, uint32_t t) { return Flagged(row.number, l, h, t); });
  } else if (row.number == kFastGen) {
    changed = fixtures.text;
    changed.spans = MarkedSpans(fixtures.tokens);
  }
  const Capture& capture = changed.tokens > 0 ? changed : fixtures.text;
  const Result<StoredChain> stored = quality::StoreChain(**codec, capture);
  if (!stored.ok()) {
    outcome.said = stored.error().message;
    return outcome;
  }
  outcome.bits = stored->bits();
  outcome.error = quality::AttentionError(capture, *stored);
  const Verdict gate = CommonGate(row, **codec, capture, *stored);
  if (!gate.held) {
    outcome.said = "common gate: " + gate.said;
    return outcome;
  }
  const NamedCheck* check = FindCheck(row.number);
  if (check == nullptr) {
    outcome.said = "no check of its own is built";
    return outcome;
  }
  if (check->slow && sampled) {
    outcome.slow_left_out = true;
    outcome.fate = row.expected;
    return outcome;
  }
  const Verdict own = check->run(fixtures, row, **codec, *stored);
  outcome.fate = own.held ? Fate::kPass : Fate::kFails;
  outcome.said = own.said;
  return outcome;
}

}  // namespace kvasir::seeds
