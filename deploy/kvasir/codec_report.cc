// SPDX-License-Identifier: Apache-2.0
// Makes the report on a spec: one chain is encoded with it and the bytes are counted.
#include "deploy/kvasir/codec_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "deploy/flags.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "kernels/number_formats.h"
#include "kernels/select/select.h"

namespace kvasir {
namespace {

constexpr size_t kTextColumns = 110;
constexpr const char* kTensorNames[] = {"keys", "values"};

/// Numbers that are nearly Gaussian, of unit variance: sums of twelve uniform ones. Integers until the end, so that
/// every machine has the same.
class Numbers {
 public:
  float Next() {
    int64_t sum = 0;
    for (int i = 0; i < 12; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<int64_t>(state_ >> 44);
    }
    return static_cast<float>(sum - 6 * (int64_t{1} << 20)) / static_cast<float>(1 << 20);
  }

 private:
  uint64_t state_ = 1;
};

/// The classes of [heads][tokens] of a chain in which every head keeps what the budget says, the earliest ones first.
std::vector<RowClass> ClassesOf(const SelectionSpec& spec, uint32_t tokens) {
  const uint32_t count = BudgetTokens(spec, tokens);
  const RowClass others = spec.demote ? RowClass::kDemoted : RowClass::kDropped;
  std::vector<RowClass> head(tokens, others);
  uint32_t kept = 0;
  for (uint32_t t = 0; t < tokens; ++t) {
    if (t < spec.sink_tokens || uint64_t{t} + spec.window_tokens >= tokens) {
      head[t] = RowClass::kExact;
      ++kept;
    }
  }
  for (uint32_t t = 0; t < tokens && kept < count; ++t) {
    if (head[t] != others) continue;
    head[t] = RowClass::kKept;
    ++kept;
  }
  return head;
}

/// Bits a value of a chain encoded block by block.
double ChainBits(const Codec& codec, KvTensor tensor) {
  const FrameShape& shape = kReportFrame;
  const uint32_t tokens = shape.tokens * kReportBlocks;
  const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
  std::vector<std::byte> dense(shape.bytes()), out(codec.MaxFrameBytes(tensor, shape)), scratch;
  const std::vector<float> query_peak(uint64_t{shape.heads} * shape.dim, 3.0f);
  const std::vector<float> query_norm(shape.heads, std::sqrt(static_cast<float>(shape.dim)));
  const std::vector<float> weights(2 * rows, 1.0f);
  const std::vector<float> attention_peak(rows, 1.0f / static_cast<float>(shape.tokens));
  std::vector<RowClass> chain, block(rows);
  if (codec.selection() != nullptr) chain = ClassesOf(*codec.selection(), tokens);
  // A merge gives its rows weights, where there is something to merge.
  const bool merges =
      std::find(chain.begin(), chain.end(), RowClass::kDropped) != chain.end() && codec.selection()->has_merge;
  Numbers numbers;
  uint64_t bytes = 0;
  for (uint32_t first = 0; first < tokens; first += shape.tokens) {
    for (uint64_t i = 0; i < shape.elements(); ++i) {
      StoreElement(shape.element, numbers.Next(), reinterpret_cast<uint8_t*>(dense.data()) + 2 * i);
    }
    FrameInputs inputs{query_peak.data(), query_norm.data(), attention_peak.data(), tokens, first, nullptr, nullptr};
    if (!chain.empty()) {
      for (uint64_t row = 0; row < rows; ++row) block[row] = chain[first + row % shape.tokens];
      inputs.row_classes = block.data();
      if (merges) inputs.row_weights = weights.data();
    }
    bytes += codec.Encode(tensor, shape, dense, out, scratch, Destination::kCache, inputs);
  }
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(shape.elements() * kReportBlocks);
}

std::string Fixed(double x, int decimals) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", decimals, x);
  return text;
}

double BitsOf(uint64_t bytes) {
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(kReportFrame.elements());
}

std::string PaperOf(const Method& method) {
  return method.arxiv.empty() ? std::string(method.title) : Cat(method.title, " (arXiv ", method.arxiv, ")");
}

/// What readers and engines must know of a spec as a whole.
std::vector<std::string> Notes(const Codec& codec) {
  std::vector<std::string> notes;
  if (codec.lossless()) notes.push_back("Lossless: every bit comes back.");
  if (codec.selection() != nullptr) {
    notes.push_back("Chooses tokens over a whole chain: Session::PushSelected, after prefill; the full view stays.");
    notes.push_back("Sections that hold rows are bounds, each as if all tokens went that way.");
  }
  if (codec.drops())
    notes.push_back("Drops tokens: heads differ in length, each is an extent of its own with the positions it has.");
  if (codec.planes() > 1)
    notes.push_back(
        Cat(codec.planes(),
            " planes: the first ones alone decode to fewer bits. Each is stored, fetched and evicted by itself."));
  return notes;
}

}  // namespace

absl::StatusOr<CodecReport> ReportOn(const std::string& name_or_spec) {
  CodecReport report;
  report.method = FindMethod(name_or_spec);
  const auto codec = CodecNamed(name_or_spec);
  if (!codec.ok()) return absl::InvalidArgumentError(codec.error().message);
  report.codec = *codec;
  for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
    const auto checked = report.codec->Check(tensor, kReportFrame);
    if (!checked.ok()) return absl::InvalidArgumentError(checked.error().message);
    report.sections[static_cast<int>(tensor)] = report.codec->Sections(tensor, kReportFrame);
    report.bits[static_cast<int>(tensor)] = ChainBits(*report.codec, tensor);
  }
  return report;
}

std::string ReportText(const CodecReport& report) {
  std::string text = Cat("spec    ", report.codec->spec(), "\n");
  if (report.method != nullptr) {
    text += Cat("method  ", report.method->name, ": ", PaperOf(*report.method), "\n");
    text += Cat("written ", report.method->spec, "\n");
  }
  Table stages({"STAGE", "NEEDS", "WHAT IT DOES"});
  for (const StageUse& use : report.codec->stages()) {
    stages.Row(
        {use.text, use.info->needs.empty() ? "-" : std::string(use.info->needs), std::string(use.info->meaning)});
  }
  text += Cat("\n", stages.Text(kTextColumns), "\nOne frame of ", kReportFrame.heads, " heads x ", kReportFrame.tokens,
              " tokens x ", kReportFrame.dim, " channels of bf16, at most:\n");
  Table sections({"TENSOR", "SECTION", "BYTES", "BITS A VALUE"});
  for (int tensor = 0; tensor < 2; ++tensor) {
    for (const FrameSection& section : report.sections[tensor]) {
      sections.Row(
          {kTensorNames[tensor], section.name, std::to_string(section.bytes), Fixed(BitsOf(section.bytes), 4)});
    }
  }
  const double bits = (report.bits[0] + report.bits[1]) / 2;
  text += Cat(sections.Text(), "\nA chain of ", kReportFrame.tokens * kReportBlocks,
              " tokens of made-up Gaussian numbers, all metadata counted, takes ", Fixed(bits, 3), " bits a value\n(",
              Fixed(report.bits[0], 3), " for keys, ", Fixed(report.bits[1], 3), " for values): ", Fixed(16 / bits, 2),
              " times smaller than bf16.\n");
  for (const std::string& note : Notes(*report.codec)) text += note + "\n";
  return text;
}

nlohmann::ordered_json ReportJson(const CodecReport& report) {
  nlohmann::ordered_json out = {{"spec", report.codec->spec()}};
  if (report.method != nullptr) {
    out["method"] = {{"name", report.method->name},
                     {"row", report.method->row},
                     {"spec", report.method->spec},
                     {"title", report.method->title},
                     {"arxiv", report.method->arxiv}};
  }
  out["stages"] = nlohmann::ordered_json::array();
  for (const StageUse& use : report.codec->stages()) {
    out["stages"].push_back({{"stage", use.text}, {"needs", use.info->needs}, {"meaning", use.info->meaning}});
  }
  for (int tensor = 0; tensor < 2; ++tensor) {
    auto sections = nlohmann::ordered_json::array();
    for (const FrameSection& section : report.sections[tensor]) {
      sections.push_back(
          {{"name", section.name}, {"bytes_at_most", section.bytes}, {"bits_at_most", BitsOf(section.bytes)}});
    }
    out[kTensorNames[tensor]] = {{"sections", sections}, {"bits", report.bits[tensor]}};
  }
  out["bits"] = (report.bits[0] + report.bits[1]) / 2;
  out["lossless"] = report.codec->lossless();
  out["drops"] = report.codec->drops();
  out["planes"] = report.codec->planes();
  out["notes"] = Notes(*report.codec);
  return out;
}

}  // namespace kvasir
