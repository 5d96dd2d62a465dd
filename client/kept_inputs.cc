// SPDX-License-Identifier: Apache-2.0
// The bytes of kept inputs. Record numbers are in stores: never renumber, never reuse.
#include "client/kept_inputs.h"

#include <cstring>
#include <limits>

#include "store/api/tlv.h"

namespace kvasir {
namespace {

enum Record : uint16_t {
  kDecayRecord = 1,
  kQueryHeadsRecord = 2,
  kWindowRecord = 3,
  kSpansRecord = 4,
  kFloatsRecord = 16,  // and on, one a field, in the order below
};

struct Field {
  const char* name;
  std::span<const float> SelectInputs::*span;
};
constexpr Field kFields[] = {
    {"attention_sums", &SelectInputs::attention_sums},     {"window_queries", &SelectInputs::window_queries},
    {"query_mean", &SelectInputs::query_mean},             {"query_covariance", &SelectInputs::query_covariance},
    {"external_scores", &SelectInputs::external_scores},   {"hidden_cosine", &SelectInputs::hidden_cosine},
    {"head_scores", &SelectInputs::head_scores},           {"query_peak", &SelectInputs::query_peak},
    {"query_norm", &SelectInputs::query_norm},             {"attention_peak", &SelectInputs::attention_peak},
};

/// A span as it is kept: begin, end, kind.
constexpr size_t kSpanBytes = 2 * sizeof(uint32_t) + 1;

}  // namespace

std::string KeptInputs::Encode(const SelectInputs& inputs) {
  TlvWriter out;
  out.Value(kDecayRecord, inputs.attention_decay);
  out.Value(kQueryHeadsRecord, inputs.query_heads);
  out.Value(kWindowRecord, inputs.window);
  std::string spans;
  for (const TokenSpan& span : inputs.spans) {
    spans.append(reinterpret_cast<const char*>(&span.begin), sizeof span.begin);
    spans.append(reinterpret_cast<const char*>(&span.end), sizeof span.end);
    spans.push_back(static_cast<char>(span.kind));
  }
  out.Bytes(kSpansRecord, spans);
  uint16_t record = kFloatsRecord;
  for (const Field& field : kFields) {
    const std::span<const float> floats = inputs.*field.span;
    out.Bytes(record++, {reinterpret_cast<const char*>(floats.data()), floats.size_bytes()});
  }
  return out.Take();
}

absl::StatusOr<std::shared_ptr<const KeptInputs>> KeptInputs::Decode(std::string_view bytes) {
  if (bytes.size() > kKeptInputsBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("kept inputs: length: ", bytes.size(), " bytes, max ", kKeptInputsBytesMax));
  }
  const std::shared_ptr<KeptInputs> kept(new KeptInputs);
  TlvReader in("kept inputs", bytes);
  kept->inputs_.attention_decay = in.Value<float>(kDecayRecord, "attention_decay");
  kept->inputs_.query_heads = in.Value<uint32_t>(kQueryHeadsRecord, "query_heads");
  kept->inputs_.window = in.Value<uint32_t>(kWindowRecord, "window");
  const std::string_view spans = in.Bytes(kSpansRecord, "spans");
  if (spans.size() % kSpanBytes != 0) in.Fail("spans", "not a whole number of spans");
  for (size_t at = 0; in.status().ok() && at < spans.size(); at += kSpanBytes) {
    TokenSpan& span = kept->spans_.emplace_back();
    std::memcpy(&span.begin, spans.data() + at, sizeof span.begin);
    std::memcpy(&span.end, spans.data() + at + sizeof span.begin, sizeof span.end);
    span.kind = static_cast<TokenSpan::Kind>(spans[at + kSpanBytes - 1]);
    if (span.kind > TokenSpan::Kind::kPunctuation) in.Fail("spans", "a kind that there is not");
  }
  kept->inputs_.spans = kept->spans_;
  uint16_t record = kFloatsRecord;
  kept->floats_.resize(std::size(kFields));
  for (size_t i = 0; i < std::size(kFields); ++i) {
    const std::string_view floats = in.Bytes(record++, kFields[i].name);
    if (floats.size() % sizeof(float) != 0) in.Fail(kFields[i].name, "not a whole number of floats");
    if (!in.status().ok()) break;
    kept->floats_[i].resize(floats.size() / sizeof(float));
    if (!floats.empty()) std::memcpy(kept->floats_[i].data(), floats.data(), floats.size());
    kept->inputs_.*kFields[i].span = kept->floats_[i];
  }
  in.End();
  if (!in.status().ok()) return in.status();
  return kept;
}

}  // namespace kvasir
