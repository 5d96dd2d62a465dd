// SPDX-License-Identifier: Apache-2.0
// Frames with row classes, written and read.
#include "kernels/rows_coder.h"

#include <algorithm>
#include <cstring>

#include "kernels/number_formats.h"
#include "kernels/stages/p_raw.h"

namespace kvasir {
namespace {

constexpr uint8_t kHasMap = 1;
constexpr uint8_t kHasWeights = 2;
constexpr RowClass kStoredClasses[] = {RowClass::kExact, RowClass::kKept, RowClass::kDemoted};

uint64_t MapBytes(const FrameShape& shape) { return (uint64_t{shape.heads} * shape.tokens + 3) / 4; }
uint64_t LengthsBytes(const FrameShape& shape) { return uint64_t{shape.heads} * 3 * sizeof(uint32_t); }
FrameShape RowsOf(const FrameShape& shape, uint32_t rows) { return {1, rows, shape.dim, shape.element}; }

RowClass ClassAt(const uint8_t* map, uint64_t row) { return static_cast<RowClass>(map[row / 4] >> (row % 4 * 2) & 3); }

/// False where rows go another way than a plan can say.
bool WayOf(const FrameCoder& coder, RowsWay& way) {
  const DeviceCoder of = coder.device_coder();
  way.raw = of.kind == DeviceCoder::Kind::kRaw;
  if (of.kind == DeviceCoder::Kind::kInt) way.integer = *of.integer;
  return way.raw || of.kind == DeviceCoder::Kind::kInt;
}

Error Damaged(const std::string& what) { return {ErrorCode::kDataLoss, "frame of row classes: " + what}; }

}  // namespace

/// Where everything lies.
struct RowsCoder::Opened {
  const uint8_t* map = nullptr;  ///< null: all rows are kept
  std::vector<float> weights;
  std::vector<uint32_t> lengths;  ///< [heads][3]
  std::span<const uint8_t> frames;
  RowClass At(uint64_t row) const { return map == nullptr ? RowClass::kKept : ClassAt(map, row); }
};

RowsCoder::RowsCoder(RowsCoderOptions options) : options_(std::move(options)), exact_(RawStage::Coder({})) {
  plan_.sink_tokens = options_.sink_tokens;
  plan_.demotes = options_.demoted != nullptr;
  planned_ = WayOf(*options_.kept, plan_.kept) && (!plan_.demotes || WayOf(*options_.demoted, plan_.demoted));
}

DeviceCoder RowsCoder::device_coder() const {
  DeviceCoder coder;
  const bool has_bodies = options_.kept->device_coder().kind != DeviceCoder::Kind::kNone &&
                          (!plan_.demotes || options_.demoted->device_coder().kind != DeviceCoder::Kind::kNone);
  if (has_bodies) coder.kind = planned_ ? DeviceCoder::Kind::kRows : DeviceCoder::Kind::kRowsOfStages;
  coder.rows = &plan_;
  coder.classes = this;
  return coder;
}

const FrameCoder* RowsCoder::CoderOf(RowClass of) const {
  return of == RowClass::kExact ? exact_.get() : of == RowClass::kKept ? options_.kept.get() : options_.demoted.get();
}

Result<bool> RowsCoder::Check(const FrameShape& shape) const {
  if (Result<bool> checked = options_.kept->Check(shape); !checked.ok()) return checked;
  return options_.demoted == nullptr ? Result<bool>(true) : options_.demoted->Check(shape);
}

Result<bool> RowsCoder::CheckInputs(const FrameInputs& inputs) const {
  if (options_.selects && inputs.row_classes == nullptr) {
    return Error{ErrorCode::kInvalidArgument,
                 "the spec selects tokens and no selection was made: push this view after prefill, with the inputs its "
                 "stages need"};
  }
  if (Result<bool> checked = options_.kept->CheckInputs(inputs); !checked.ok()) return checked;
  return options_.demoted == nullptr ? Result<bool>(true) : options_.demoted->CheckInputs(inputs);
}

uint64_t RowsCoder::MaxFrameBytes(const FrameShape& shape) const {
  uint64_t bytes = 0;
  for (const FrameSection& section : Sections(shape)) bytes += section.bytes;
  return bytes;
}

std::vector<FrameSection> RowsCoder::Sections(const FrameShape& shape) const {
  const FrameShape head = RowsOf(shape, shape.tokens);
  std::vector<FrameSection> sections = {{"class map and lengths", 1 + MapBytes(shape) + LengthsBytes(shape)}};
  if (options_.selects) sections.push_back({"weights", uint64_t{shape.heads} * shape.tokens * 2 * sizeof(float)});
  // Rows that are exact for another reason than being sinks are told by a selection, and may be all.
  const uint32_t exact = options_.selects || options_.sink_tokens > shape.tokens ? shape.tokens : options_.sink_tokens;
  sections.push_back({"exact rows", shape.heads * exact_->MaxFrameBytes(RowsOf(shape, exact))});
  sections.push_back(
      {"kept rows", std::max(options_.kept->MaxFrameBytes(shape), shape.heads * options_.kept->MaxFrameBytes(head))});
  if (options_.demoted != nullptr) {
    sections.push_back({"demoted rows", shape.heads * options_.demoted->MaxFrameBytes(head)});
  }
  return sections;
}

std::vector<RowClass> RowsCoder::ClassesOf(const FrameShape& shape, const FrameInputs& inputs) const {
  const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
  std::vector<RowClass> classes(rows, RowClass::kKept);
  if (inputs.row_classes != nullptr) classes.assign(inputs.row_classes, inputs.row_classes + rows);
  for (uint64_t row = 0; row < rows; ++row) {
    const uint64_t position = uint64_t{inputs.first_token} + row % shape.tokens;
    if (position < options_.sink_tokens) classes[row] = RowClass::kExact;
    // A class that this spec has no stages for cannot have been meant.
    KERNELS_CHECK(classes[row] != RowClass::kDemoted || options_.demoted != nullptr);
  }
  return classes;
}

bool RowsCoder::Mixed(std::span<const RowClass> classes) {
  return std::any_of(classes.begin(), classes.end(), [](RowClass of) { return of != RowClass::kKept; });
}

uint64_t RowsCoder::WriteHead(const FrameShape& shape, std::span<const RowClass> classes, const FrameInputs& inputs,
                              uint8_t* out) {
  const bool mixed = Mixed(classes);
  out[0] = static_cast<uint8_t>((mixed ? kHasMap : 0) | (inputs.row_weights != nullptr ? kHasWeights : 0));
  uint8_t* at = out + 1;
  if (mixed) {
    std::memset(at, 0, MapBytes(shape));
    for (uint64_t row = 0; row < classes.size(); ++row) {
      at[row / 4] = static_cast<uint8_t>(at[row / 4] | static_cast<uint32_t>(classes[row]) << (row % 4 * 2));
    }
    at += MapBytes(shape);
  }
  for (uint64_t row = 0; row < classes.size() && inputs.row_weights != nullptr; ++row) {
    if (classes[row] == RowClass::kDropped) continue;
    for (uint32_t i = 0; i < 2; ++i, at += 4) Store32(at, BitsOfFloat(inputs.row_weights[2 * row + i]));
  }
  return static_cast<uint64_t>(at - out);
}

uint64_t RowsCoder::Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>& scratch,
                           Destination destination, const FrameInputs& inputs) const {
  const uint32_t row_bytes = shape.dim * ElementBytes(shape.element);
  const std::vector<RowClass> classes = ClassesOf(shape, inputs);
  uint8_t* at = out + WriteHead(shape, classes, inputs, out);
  if (!Mixed(classes)) {
    return static_cast<uint64_t>(at - out) + options_.kept->Encode(shape, dense, at, scratch, destination, inputs);
  }
  uint8_t* lengths = at;
  at += LengthsBytes(shape);
  std::vector<uint8_t> chosen(uint64_t{shape.tokens} * row_bytes);
  std::vector<float> peaks;
  for (uint32_t head = 0; head < shape.heads; ++head) {
    for (const RowClass of : kStoredClasses) {
      uint32_t count = 0;
      peaks.clear();
      for (uint32_t token = 0; token < shape.tokens; ++token) {
        const uint64_t row = uint64_t{head} * shape.tokens + token;
        if (classes[row] != of) continue;
        std::memcpy(chosen.data() + uint64_t{count++} * row_bytes, dense + row * row_bytes, row_bytes);
        if (inputs.attention_peak != nullptr) peaks.push_back(inputs.attention_peak[row]);
      }
      FrameInputs of_head = inputs;
      if (inputs.query_peak != nullptr) of_head.query_peak += uint64_t{head} * shape.dim;
      if (inputs.query_norm != nullptr) of_head.query_norm += head;
      if (inputs.attention_peak != nullptr) of_head.attention_peak = peaks.data();
      uint64_t length = 0;
      if (count > 0) {
        length = CoderOf(of)->Encode(RowsOf(shape, count), chosen.data(), at, scratch, destination, of_head);
      }
      Store32(lengths, static_cast<uint32_t>(length));
      lengths += 4;
      at += length;
    }
  }
  return static_cast<uint64_t>(at - out);
}

Result<RowsCoder::Opened> RowsCoder::Open(const FrameShape& shape, std::span<const uint8_t> frame) const {
  const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
  if (frame.empty() || (frame[0] & ~(kHasMap | kHasWeights)) != 0) return Damaged("flags are unknown");
  Opened opened;
  uint64_t at = 1;
  const uint8_t flags = frame[0];
  uint64_t stored = rows;
  if ((flags & kHasMap) != 0) {
    if (frame.size() < at + MapBytes(shape)) return Damaged("the class map is cut off");
    opened.map = frame.data() + at;
    at += MapBytes(shape);
    for (uint64_t row = 0; row < rows; ++row) {
      const RowClass of = ClassAt(opened.map, row);
      if (of == RowClass::kDemoted && options_.demoted == nullptr) return Damaged("a demoted row, the spec has none");
      if (of == RowClass::kDropped) --stored;
    }
  }
  if ((flags & kHasWeights) != 0) {
    if (frame.size() - at < stored * 2 * sizeof(float)) return Damaged("the weights are cut off");
    for (uint64_t i = 0; i < 2 * stored; ++i, at += 4) {
      const float weight = FloatOfBits(Load32(frame.data() + at));
      if (!(weight >= 0 && weight - weight == 0)) return Damaged("a weight is negative or not finite");
      opened.weights.push_back(weight);
    }
  }
  if (opened.map != nullptr) {
    if (frame.size() - at < LengthsBytes(shape)) return Damaged("the lengths are cut off");
    for (uint32_t i = 0; i < shape.heads * 3; ++i, at += 4) opened.lengths.push_back(Load32(frame.data() + at));
    uint64_t sum = 0;
    for (const uint32_t length : opened.lengths) sum += length;
    if (sum != frame.size() - at) return Damaged("the lengths do not sum to the frame");
  }
  opened.frames = frame.subspan(at);
  return opened;
}

Result<RowsCoder::Parts> RowsCoder::Read(const FrameShape& shape, std::span<const uint8_t> frame) const {
  Result<Opened> opened = Open(shape, frame);
  if (!opened.ok()) return opened.error();
  Parts parts;
  for (uint64_t row = 0; row < uint64_t{shape.heads} * shape.tokens; ++row) parts.classes.push_back(opened->At(row));
  parts.lengths = std::move(opened->lengths);
  parts.frames = opened->frames;
  return parts;
}

Result<StoredRows> RowsCoder::Rows(const FrameShape& shape, std::span<const uint8_t> frame) const {
  Result<Opened> opened = Open(shape, frame);
  if (!opened.ok()) return opened.error();
  StoredRows stored;
  stored.counts.assign(shape.heads, 0);
  for (uint64_t row = 0; row < uint64_t{shape.heads} * shape.tokens; ++row) {
    if (opened->At(row) == RowClass::kDropped) continue;
    ++stored.counts[row / shape.tokens];
    stored.slots.push_back(static_cast<uint32_t>(row % shape.tokens));
  }
  stored.weights = std::move(opened->weights);
  return stored;
}

/// Rows of each class of each head to their places: their slot in [heads][tokens], or their rank among the stored rows.
Result<bool> RowsCoder::DecodeClasses(const FrameShape& shape, const Opened& opened, const StoredRows& stored,
                                      bool compact, uint8_t* out, std::vector<std::byte>& scratch) const {
  const uint32_t row_bytes = shape.dim * ElementBytes(shape.element);
  std::vector<uint8_t> rows(uint64_t{shape.tokens} * row_bytes);
  uint64_t at = 0, first = 0;  // in the frames; rank of the head's first stored row
  for (uint32_t head = 0; head < shape.heads; ++head) {
    for (uint32_t i = 0; i < 3; ++i) {
      const RowClass of = kStoredClasses[i];
      const uint32_t length = opened.lengths[head * 3 + i];
      std::vector<uint64_t> places;
      for (uint32_t k = 0; k < stored.counts[head]; ++k) {
        const uint64_t row = uint64_t{head} * shape.tokens + stored.slots[first + k];
        if (opened.At(row) == of) places.push_back(compact ? first + k : row);
      }
      if (places.empty() != (length == 0)) return Damaged("a class with rows and without bytes, or the reverse");
      if (places.empty()) continue;
      const FrameShape of_class = RowsOf(shape, static_cast<uint32_t>(places.size()));
      Result<bool> decoded =
          CoderOf(of)->Decode(of_class, opened.frames.subspan(at, length), rows.data(), scratch, Destination::kCache);
      if (!decoded.ok()) return decoded;
      for (size_t k = 0; k < places.size(); ++k) {
        std::memcpy(out + places[k] * row_bytes, rows.data() + k * row_bytes, row_bytes);
      }
      at += length;
    }
    first += stored.counts[head];
  }
  return true;
}

Result<bool> RowsCoder::Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                               std::vector<std::byte>& scratch, Destination destination) const {
  const Result<Opened> opened = Open(shape, frame);
  if (!opened.ok()) return opened.error();
  if (opened->map == nullptr) return options_.kept->Decode(shape, opened->frames, dense, scratch, destination);
  const Result<StoredRows> stored = Rows(shape, frame);
  if (!stored.ok()) return stored.error();
  if (stored->slots.size() != uint64_t{shape.heads} * shape.tokens) return Damaged("tokens are missing from it");
  return DecodeClasses(shape, *opened, *stored, false, dense, scratch);
}

Result<bool> RowsCoder::DecodeRows(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* rows,
                                   std::vector<std::byte>& scratch) const {
  const Result<Opened> opened = Open(shape, frame);
  if (!opened.ok()) return opened.error();
  if (opened->map == nullptr) return options_.kept->Decode(shape, opened->frames, rows, scratch, Destination::kCache);
  const Result<StoredRows> stored = Rows(shape, frame);
  if (!stored.ok()) return stored.error();
  return DecodeClasses(shape, *opened, *stored, true, rows, scratch);
}

}  // namespace kvasir
