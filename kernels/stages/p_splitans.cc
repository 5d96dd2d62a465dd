// SPDX-License-Identifier: Apache-2.0
// The coder of P:splitexp(ans): the model from a sample, the parts of a frame, damage. Chunks: p_splitans_chunk.cc.
#include "kernels/stages/p_splitans.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/simd/bodies.h"

namespace kvasir {
namespace {

Error Damaged(const std::string& what) { return {ErrorCode::kDataLoss, "splitexp(ans) frame: " + what}; }

/// Rooms for one chunk, and for what a frame needs beside it.
struct Rooms {
  Rooms(const SplitAnsFrame& f, std::vector<std::byte>& scratch) {
    const uint64_t of_origins = f.shape.heads * SplitAnsOrigins::RowBytes(f.shape.dim);
    const uint64_t of_sample = uint64_t{f.shape.heads} * f.sample_rows() * f.shape.dim;
    const uint64_t bytes = kSplitAnsTailRoom + kSplitAnsChunk + of_origins + of_sample + f.origin_bytes();
    if (scratch.size() < bytes) scratch.resize(bytes);
    uint8_t* const begin = reinterpret_cast<uint8_t*>(scratch.data());
    tail_end = rest = begin + kSplitAnsTailRoom;
    origin_rows = rest + kSplitAnsChunk;
    sample = origin_rows + of_origins;
    origin_bytes = sample + of_sample;
  }

  uint8_t* tail_end;  ///< of kSplitAnsTailRoom bytes
  uint8_t* rest;      ///< [kSplitAnsChunk]
  uint8_t* origin_rows;
  uint8_t* sample;        ///< [heads][sample rows][dim] exponents
  uint8_t* origin_bytes;  ///< as they lie in a frame
};

constexpr uint8_t kNoOrigins[2 * kSplitAnsLanes] = {};

SplitAnsOrigins WithoutOrigins(const SplitAnsFrame& f) { return {kNoOrigins, 0, kSplitAnsLanes, f.elements}; }

/// Spreads the origins of `bytes` into rows.
SplitAnsOrigins SpreadOrigins(const SplitAnsFrame& f, const uint8_t* bytes, uint8_t* rows) {
  const uint32_t dim = f.shape.dim;
  const uint64_t row_bytes = SplitAnsOrigins::RowBytes(dim);
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    uint8_t* row = rows + head * row_bytes;
    for (uint32_t c = 0; c < dim; ++c) {
      const uint64_t i = uint64_t{head} * dim + c;
      row[c] = static_cast<uint8_t>(bytes[0] - (bytes[1 + i / 2] >> (i % 2 * 4) & 15));
    }
    for (uint64_t c = dim; c < row_bytes; ++c) row[c] = row[c - dim];
  }
  return {rows, row_bytes, dim, uint64_t{f.shape.tokens} * dim};
}

template <bool kHalf>
void SampleRow(const uint8_t* in, uint32_t dim, uint8_t* out) {
  for (uint32_t c = 0; c < dim; ++c) {
    const uint32_t x = static_cast<uint32_t>(in[2 * c] | in[2 * c + 1] << 8);
    out[c] = static_cast<uint8_t>(kHalf ? (x >> 10) & 31 : x >> 7);
  }
}

void TakeSample(const SplitAnsFrame& f, const uint8_t* dense, uint8_t* sample) {
  const uint64_t row_bytes = 2 * uint64_t{f.shape.dim};
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    for (uint32_t token = 0; token < f.shape.tokens; token += f.sample_stride(), sample += f.shape.dim) {
      const uint8_t* row = dense + (uint64_t{head} * f.shape.tokens + token) * row_bytes;
      f.half ? SampleRow<true>(row, f.shape.dim, sample) : SampleRow<false>(row, f.shape.dim, sample);
    }
  }
}

/// Medians of all channels of one head: MedianExponent in an order that compilers make vectors of.
void Medians(const uint8_t* sample, uint32_t rows, uint32_t dim, uint8_t* medians) {
  constexpr uint32_t kWide = 64;
  for (uint32_t begin = 0; begin < dim; begin += kWide) {
    const uint32_t wide = std::min(kWide, dim - begin);
    uint8_t v[kWide] = {};
    for (uint32_t bit = 128; bit > 0; bit /= 2) {
      uint16_t reach[kWide] = {};
      for (uint32_t r = 0; r < rows; ++r) {
        const uint8_t* row = sample + uint64_t{r} * dim + begin;
        for (uint32_t c = 0; c < wide; ++c) reach[c] = static_cast<uint16_t>(reach[c] + (row[c] >= (v[c] | bit)));
      }
      for (uint32_t c = 0; c < wide; ++c) {
        if (2 * uint32_t{reach[c]} >= rows) v[c] = static_cast<uint8_t>(v[c] | bit);
      }
    }
    std::copy(v, v + wide, medians + begin);
  }
}

/// The origins that the sample asks for, as they lie in a frame.
void ChooseOrigins(const SplitAnsFrame& f, const uint8_t* sample, uint8_t* medians, uint8_t* bytes) {
  const uint32_t dim = f.shape.dim, rows = f.sample_rows();
  const uint64_t count = f.origins();
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    Medians(sample + uint64_t{head} * rows * dim, rows, dim, medians + uint64_t{head} * dim);
  }
  bytes[0] = *std::max_element(medians, medians + count);
  std::fill(bytes + 1, bytes + f.origin_bytes(), uint8_t{0});
  for (uint64_t i = 0; i < count; ++i) {
    bytes[1 + i / 2] = static_cast<uint8_t>(bytes[1 + i / 2] | OriginBelow(bytes[0], medians[i]) << (i % 2 * 4));
  }
}

/// Counts of the sample's symbols, in two tables so that equal neighbours do not wait for each other.
void Count(const uint8_t* sample, uint64_t values, uint32_t* counts) {
  uint32_t other[256] = {};
  std::fill(counts, counts + 256, 0u);
  uint64_t i = 0;
  for (; i + 2 <= values; i += 2) {
    ++counts[sample[i]];
    ++other[sample[i + 1]];
  }
  if (i < values) ++counts[sample[i]];
  for (uint32_t s = 0; s < 256; ++s) counts[s] += other[s];
}

uint64_t EntropyOf(const uint32_t* counts, uint32_t total) {
  uint64_t sum = 0;
  for (uint32_t s = 0; s < 256; ++s) sum += EntropyTerm(counts[s], total);
  return sum;
}

/// Model and origins of a frame.
SplitAnsMode ChooseCoding(const SplitAnsFrame& f, const uint8_t* dense, const Rooms& rooms, SplitAnsCoding& coding) {
  const uint32_t dim = f.shape.dim, rows = f.sample_rows();
  const uint64_t values = uint64_t{f.shape.heads} * rows * dim;
  uint32_t plain[256], from_origins[256];
  TakeSample(f, dense, rooms.sample);
  Count(rooms.sample, values, plain);
  ChooseOrigins(f, rooms.sample, rooms.origin_rows, rooms.origin_bytes);  // the rows are made later
  coding.origins = SpreadOrigins(f, rooms.origin_bytes, rooms.origin_rows);
  for (uint64_t row = 0; row < uint64_t{f.shape.heads} * rows; ++row) {
    const uint8_t* origins = coding.origins.rows + row / rows * coding.origins.row_bytes;
    uint8_t* at = rooms.sample + row * dim;
    for (uint32_t c = 0; c < dim; ++c) at[c] = static_cast<uint8_t>(at[c] - origins[c]);
  }
  Count(rooms.sample, values, from_origins);
  const uint32_t total = static_cast<uint32_t>(values);
  const bool pays = OriginsPay(f, EntropyOf(plain, total), EntropyOf(from_origins, total), total);
  if (!pays) coding.origins = WithoutOrigins(f);
  coding.model = ChooseModel(pays ? from_origins : plain, total);
  return pays ? SplitAnsMode::kCodedFromOrigins : SplitAnsMode::kCoded;
}

class SplitAnsCoder final : public FrameCoder {
 public:
  bool lossless() const override { return true; }
  DeviceCoder device_coder() const override { return {DeviceCoder::Kind::kSplitAns}; }
  Result<bool> Check(const FrameShape& shape) const override {
    if (shape.element == ElementType::kBfloat16 || shape.element == ElementType::kFloat16) return true;
    return Error{ErrorCode::kInvalidArgument, "splitexp(ans) takes bf16 and fp16 elements; for others use raw"};
  }
  uint64_t MaxFrameBytes(const FrameShape& shape) const override { return LayOutSplitAns(shape).max_bytes(); }

  uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>& scratch,
                  Destination, const FrameInputs&) const override {
    SplitAnsCoding coding{LayOutSplitAns(shape), {}, {}};
    const SplitAnsFrame& f = coding.frame;
    const Rooms rooms(f, scratch);
    uint8_t head[1 + kSplitAnsModelMax];
    head[0] = static_cast<uint8_t>(ChooseCoding(f, dense, rooms, coding));
    const uint64_t head_bytes = 1 + WriteModel(coding.model, head + 1);
    const bool with_origins = coding.origins.rows != kNoOrigins;
    const uint64_t lengths_at = f.mode_at() + head_bytes + (with_origins ? f.origin_bytes() : 0);
    const uint64_t tails_at = lengths_at + 2 * uint64_t{f.chunks};
    // Nothing is written where a stored frame would not also have bytes; when that is reached, it is one.
    if (tails_at >= f.max_bytes()) return EncodeStored(f, dense, out, rooms);
    std::copy(head, head + head_bytes, out + f.mode_at());
    if (with_origins) {
      std::copy(rooms.origin_bytes, rooms.origin_bytes + f.origin_bytes(), out + f.mode_at() + head_bytes);
    }
    uint64_t at = tails_at;
    for (uint32_t chunk = 0; chunk < f.chunks; ++chunk) {
      const uint32_t bytes = EncodeChunk(coding, chunk, dense, rooms, out, lengths_at + 2 * uint64_t{chunk}, at);
      if (bytes == 0) return EncodeStored(f, dense, out, rooms);
      at += bytes;
    }
    return at;
  }

  Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                      std::vector<std::byte>& scratch, Destination) const override {
    SplitAnsCoding coding{LayOutSplitAns(shape), {}, {}};
    const SplitAnsFrame& f = coding.frame;
    if (frame.size() <= f.mode_at()) return Damaged("it ends before its fixed parts do");
    if (frame.size() > f.max_bytes()) return Damaged("it has more bytes than a stored one");
    const Rooms rooms(f, scratch);
    uint64_t at = f.mode_at() + 1;
    const uint8_t mode = frame[f.mode_at()];
    if (mode > static_cast<uint8_t>(SplitAnsMode::kCodedFromOrigins)) {
      return Damaged("mode is " + std::to_string(mode) + ", must be 0, 1 or 2");
    }
    uint64_t lengths_at = 0;
    if (mode != static_cast<uint8_t>(SplitAnsMode::kStored)) {
      const uint32_t model_bytes = ReadModel(frame.data() + at, frame.size() - at, coding.model);
      if (model_bytes == 0) return Damaged("its model cannot be right");
      at += model_bytes;
      coding.origins = WithoutOrigins(f);
      if (mode == static_cast<uint8_t>(SplitAnsMode::kCodedFromOrigins)) {
        if (frame.size() - at < f.origin_bytes()) return Damaged("it ends in its origins");
        coding.origins = SpreadOrigins(f, frame.data() + at, rooms.origin_rows);
        at += f.origin_bytes();
      }
      if (frame.size() - at < 2 * uint64_t{f.chunks}) return Damaged("it ends in its lengths");
      lengths_at = at;
      at += 2 * uint64_t{f.chunks};
    }
    return DecodeChunks(coding, frame, lengths_at, at, dense);
  }

 private:
  static bool DecodeCoded(const SplitAnsCoding& coding, const SplitAnsDecode& chunk) {
    bool right = false;
    return simd::DecodeSplitAns(coding, chunk, right) ? right : DecodeSplitAnsChunk(coding, chunk);
  }
  /// One chunk: its fixed part, its length at `length_at`, its tail at `at`. Returns the bytes of the tail; 0 where the
  /// frame would not be shorter than a stored one.
  static uint32_t EncodeChunk(const SplitAnsCoding& coding, uint32_t chunk, const uint8_t* dense, const Rooms& rooms,
                              uint8_t* out, uint64_t length_at, uint64_t at) {
    const SplitAnsFrame& f = coding.frame;
    const uint64_t first = uint64_t{chunk} * kSplitAnsChunk;
    const SplitAnsEncode job{first,          f.count(chunk), dense + 2 * first, out + f.fixed_at(chunk),
                             rooms.tail_end, rooms.rest};
    const uint32_t stored = f.stored_bytes(job.count);
    uint32_t coded = stored;
    if (job.count >= kSplitAnsLanes) coded = simd::EncodeSplitAns(coding, job);
    if (coded == 0) coded = EncodeSplitAnsChunk(coding, job);
    const uint32_t bytes = std::min(coded, stored);
    if (at + bytes >= f.max_bytes()) return 0;
    Store16(out + length_at, coded < stored ? coded : 0);
    if (coded < stored) {
      std::copy(rooms.tail_end - coded, rooms.tail_end, out + at);
    } else {
      StoreSplitAnsChunk(f, job.in, job.count, job.fixed, out + at, rooms.rest);
    }
    return bytes;
  }

  static uint64_t EncodeStored(const SplitAnsFrame& f, const uint8_t* dense, uint8_t* out, const Rooms& rooms) {
    out[f.mode_at()] = static_cast<uint8_t>(SplitAnsMode::kStored);
    uint64_t at = f.mode_at() + 1;
    for (uint32_t chunk = 0; chunk < f.chunks; ++chunk) {
      StoreSplitAnsChunk(f, dense + 2 * uint64_t{chunk} * kSplitAnsChunk, f.count(chunk), out + f.fixed_at(chunk),
                         out + at, rooms.rest);
      at += f.stored_bytes(f.count(chunk));
    }
    return at;
  }

  /// `lengths_at` is 0 where all chunks are stored. Tails begin at `at` and must end with the frame.
  static Result<bool> DecodeChunks(const SplitAnsCoding& coding, std::span<const uint8_t> frame, uint64_t lengths_at,
                                   uint64_t at, uint8_t* dense) {
    const SplitAnsFrame& f = coding.frame;
    for (uint32_t chunk = 0; chunk < f.chunks; ++chunk) {
      const uint32_t count = f.count(chunk), stored = f.stored_bytes(count);
      const uint32_t length = lengths_at == 0 ? 0 : Load16(frame.data() + lengths_at + 2 * uint64_t{chunk});
      const bool coded = length != 0;
      if (coded && (count < kSplitAnsLanes || length < kSplitAnsStateBytes || length >= stored)) {
        return Damaged("the length of chunk " + std::to_string(chunk) + " is " + std::to_string(length));
      }
      const uint32_t bytes = coded ? length : stored;
      if (bytes > frame.size() - at) return Damaged("it ends in the tail of chunk " + std::to_string(chunk));
      const uint64_t first = uint64_t{chunk} * kSplitAnsChunk;
      const uint8_t* fixed = frame.data() + f.fixed_at(chunk);
      uint8_t* out = dense + 2 * first;
      if (!coded) {
        LoadSplitAnsChunk(f, fixed, frame.data() + at, count, out);
      } else if (!DecodeCoded(coding, {first, count, fixed, frame.subspan(at, length), out})) {
        return Damaged("the tail of chunk " + std::to_string(chunk) + " cannot be right");
      }
      at += bytes;
    }
    if (at != frame.size()) return Damaged("it goes on behind its last tail");
    return true;
  }
};

}  // namespace

std::shared_ptr<const FrameCoder> MakeSplitAnsCoder() { return std::make_shared<SplitAnsCoder>(); }

}  // namespace kvasir
