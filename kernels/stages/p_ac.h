// SPDX-License-Identifier: Apache-2.0
// P:ac. Arithmetic coding of codes, each channel of each head with a distribution of its own, in the frame: what
// CacheGen does to its quantised anchors' differences (arXiv 2310.07240), with a curve of two bytes in place of its
// tables of 16 bits a code, which would outweigh what a block's tokens save.
//
// Packed: mean, shape of each channel (RangeModel), [heads][dim][2] | length u32 of each stream | the streams, each
// `channels` neighbouring channels of a head, channel after channel, tokens in order. A channel that no curve fits has
// all codes equally often, so that nothing grows by more than a few bytes a stream.
#pragma once

#include "kernels/stages/p_bits.h"
#include "kernels/stages/range_coder.h"
#include "kernels/stages/rans.h"
#include "kernels/stages/stage.h"

namespace kvasir {

/// log2 in 4096ths, computed each time.
struct ComputedLog {
  KVASIR_HD uint32_t operator()(uint32_t v) const { return Log2In4096ths(v); }
};
/// The same from a table, on the host: models are tried by it.
class TabledLog {
 public:
  static constexpr uint32_t kMost = RangeModel::kShare + 1;

  TabledLog();
  uint32_t operator()(uint32_t v) const { return table_[v]; }

 private:
  const uint16_t* table_;
};

struct AcStage {
  struct Args {
    uint32_t channels = 16;  ///< of a stream
  };
  static constexpr StageRole kRole = StageRole::kPacker;
  static constexpr StageInfo kInfo = {
      "P", "ac", "ac[(channels)]",
      "Codes arithmetic-coded, a distribution a channel; `channels` share a stream (CacheGen, arXiv 2310.07240)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> channels = in.Number(0, 16, 1, kGroupMax, "channels of a stream");
    if (!channels.ok()) return channels.error();
    return Args{*channels};
  }
  static std::string Print(const Args& a) { return std::to_string(a.channels); }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint32_t StreamsOfHead(const Args& a, const FrameShape& s) {
    return (s.dim + a.channels - 1) / a.channels;
  }
  KVASIR_HD static uint64_t HeaderBytes(const Args& a, const FrameShape& s) {
    return uint64_t{s.heads} * (2 * uint64_t{s.dim} + 4 * uint64_t{StreamsOfHead(a, s)});
  }
  /// Equally likely codes take `bits` each; a curve is chosen only where it takes less. 1/32 bit a code covers the
  /// rounding of logarithms and of the coder's range (below 1/500), 16 bytes its end.
  KVASIR_HD static uint64_t StreamMax(const Args& a, const CodeWidth& width, const FrameShape& s) {
    const uint64_t codes = uint64_t{s.tokens} * (a.channels < s.dim ? a.channels : s.dim);
    return codes * width.bits / 8 + codes / 256 + 16;
  }
  KVASIR_HD static uint64_t MaxBytes(const Args& a, const CodeWidth& width, const FrameShape& s) {
    return HeaderBytes(a, s) + uint64_t{s.heads} * StreamsOfHead(a, s) * StreamMax(a, width, s);
  }
  KVASIR_HD static uint64_t SpareFloats(const Args& a, const FrameShape& s) {
    return uint64_t{s.heads} * StreamsOfHead(a, s) + 1;
  }

  template <class Run>
  static void Pack(Run& run, const Args& a, const CodeWidth& width, const ChainFrame& frame, const uint8_t* codes,
                   uint8_t* out) {
    PackBy(run, ComputedLog(), a, width, frame, codes, out);
  }
  template <class Run, class Log>
  static void PackBy(Run& run, const Log& log, const Args& a, const CodeWidth& width, const ChainFrame& frame,
                     const uint8_t* codes, uint8_t* out) {
    const FrameShape s = frame.shape;
    const uint32_t bits = width.bits, in_head = StreamsOfHead(a, s);
    const uint64_t streams = uint64_t{s.heads} * in_head, stream_max = StreamMax(a, width, s);
    uint8_t* lengths = out + uint64_t{s.heads} * s.dim * 2;
    uint8_t* area = out + HeaderBytes(a, s);
    run(uint64_t{s.heads} * s.dim, [=] KVASIR_HD(uint64_t i) {
      ChooseModel(log, bits, codes + i / s.dim * s.tokens * s.dim + i % s.dim, s.tokens, s.dim, out + 2 * i);
    });
    ChainOutcome* outcome = frame.outcome;
    run(streams, [=] KVASIR_HD(uint64_t i) {
      RangeEncoder encoder;
      encoder.out = area + i * stream_max;
      const Span span = SpanOf(a, s, i);
      for (uint32_t channel = span.first; channel < span.end; ++channel) {
        const uint8_t* model_bytes = out + 2 * (uint64_t{span.head} * s.dim + channel);
        RangeModel model;
        if (!model.Make(bits, model_bytes[0], model_bytes[1])) SetFault(outcome);
        const uint8_t* column = codes + uint64_t{span.head} * s.tokens * s.dim + channel;
        for (uint32_t t = 0; t < s.tokens; ++t) {
          const uint32_t code = column[uint64_t{t} * s.dim];
          encoder.Put(model.sums[code], model.sums[code + 1] - model.sums[code], model.total());
        }
      }
      encoder.Finish();
      if (encoder.bytes > stream_max) SetFault(outcome);
      Store32(lengths + 4 * i, static_cast<uint32_t>(encoder.bytes));
    });
    run(1, [=] KVASIR_HD(uint64_t) {
      uint64_t at = 0;
      for (uint64_t i = 0; i < streams; ++i) {
        const uint32_t length = Load32(lengths + 4 * i);
        const uint8_t* from = area + i * stream_max;
        for (uint32_t b = 0; b < length; ++b) area[at + b] = from[b];  // never ahead of where it reads
        at += length;
      }
      outcome->packed_bytes = static_cast<uint32_t>(static_cast<uint64_t>(area - out) + at);
    });
  }

  /// What is to be unpacked.
  struct Packed {
    FrameShape shape;
    uint32_t bits;
    const uint8_t* in;
    const uint32_t* starts;  ///< of the streams, and behind the last one
    bool has_models;
  };
  template <class Run>
  static void Unpack(Run& run, const Args& a, const CodeWidth& width, const ChainFrame& frame, const uint8_t* in,
                     uint32_t bytes, uint8_t* codes) {
    UnpackBy<1>(run, a, width, frame, in, bytes, codes);
  }
  /// kTogether streams by turns, where they are as long as each other: a symbol waits for the one before it, and a CPU
  /// goes on with another stream meanwhile.
  template <uint32_t kTogether, class Run>
  static void UnpackBy(Run& run, const Args& a, const CodeWidth& width, const ChainFrame& frame, const uint8_t* in,
                       uint32_t bytes, uint8_t* codes) {
    const FrameShape s = frame.shape;
    const uint64_t streams = uint64_t{s.heads} * StreamsOfHead(a, s), stream_max = StreamMax(a, width, s);
    const uint64_t header = HeaderBytes(a, s);
    const uint8_t* lengths = in + uint64_t{s.heads} * s.dim * 2;
    uint32_t* starts = reinterpret_cast<uint32_t*>(frame.spare);
    ChainOutcome* outcome = frame.outcome;
    run(1, [=] KVASIR_HD(uint64_t) {
      uint64_t at = header;
      for (uint64_t i = 0; i < streams; ++i) {
        starts[i] = static_cast<uint32_t>(at < bytes ? at : bytes);
        const uint64_t length = bytes < header ? 0 : Load32(lengths + 4 * i);
        if (length > stream_max) SetFault(outcome);
        at += length < stream_max ? length : stream_max;
      }
      if (at != bytes) SetFault(outcome);
      starts[streams] = bytes;
    });
    const Packed packed{s, width.bits, in, starts, bytes >= header};
    const bool alike = s.dim <= a.channels || s.dim % a.channels == 0;
    run((streams + kTogether - 1) / kTogether, [=] KVASIR_HD(uint64_t i) {
      const uint64_t first = i * kTogether, end = first + kTogether < streams ? first + kTogether : streams;
      if (kTogether > 1 && alike && end - first == kTogether) {
        return UnpackStreams<kTogether>(a, packed, first, outcome, codes);
      }
      for (uint64_t stream = first; stream < end; ++stream) UnpackStreams<1>(a, packed, stream, outcome, codes);
    });
  }

 private:
  struct Span {
    uint32_t head, first, end;
  };
  KVASIR_HD static Span SpanOf(const Args& a, const FrameShape& s, uint64_t stream) {
    const uint32_t in_head = StreamsOfHead(a, s);
    const uint32_t first = static_cast<uint32_t>(stream % in_head) * a.channels;
    const uint32_t end = s.dim - first < a.channels ? s.dim : first + a.channels;
    return {static_cast<uint32_t>(stream / in_head), first, end};
  }

  /// Streams [first, first + kStreams), of as many channels each.
  template <uint32_t kStreams>
  KVASIR_HD static void UnpackStreams(const Args& a, const Packed& p, uint64_t first, ChainOutcome* outcome,
                                      uint8_t* codes) {
    const uint32_t dim = p.shape.dim, tokens = p.shape.tokens;
    RangeDecoder decoders[kStreams];
    RangeModel models[kStreams];
    Span spans[kStreams];
    for (uint32_t j = 0; j < kStreams; ++j) {
      spans[j] = SpanOf(a, p.shape, first + j);
      decoders[j].in = p.in + p.starts[first + j];
      decoders[j].bytes = p.starts[first + j + 1] - p.starts[first + j];
      decoders[j].Begin();
    }
    for (uint32_t channel = 0; channel < spans[0].end - spans[0].first; ++channel) {
      uint8_t* columns[kStreams];
      for (uint32_t j = 0; j < kStreams; ++j) {
        const uint64_t head = spans[j].head, at = spans[j].first + channel;
        const uint8_t* model = p.in + 2 * (head * dim + at);
        if (!models[j].Make(p.bits, p.has_models ? model[0] : 0, p.has_models ? model[1] : 0)) SetFault(outcome);
        columns[j] = codes + head * tokens * dim + at;
      }
      for (uint64_t row = 0; row < uint64_t{tokens} * dim; row += dim) {
        for (uint32_t j = 0; j < kStreams; ++j) {
          const RangeModel& model = models[j];
          const uint32_t code = model.Find(decoders[j].Look(model.total()));
          decoders[j].Take(model.sums[code], model.sums[code + 1] - model.sums[code]);
          columns[j][row] = static_cast<uint8_t>(code);
        }
      }
    }
  }

  /// The two bytes of the cheapest model of one channel. Curves are tried around the scale that has the codes'
  /// variance: that of k is s^2 / (2k - 3).
  template <class Log>
  KVASIR_HD static void ChooseModel(const Log& log, uint32_t bits, const uint8_t* column, uint32_t tokens,
                                    uint32_t stride, uint8_t* chosen) {
    uint32_t counts[256] = {};
    uint64_t sum = 0;
    for (uint32_t t = 0; t < tokens; ++t) {
      const uint32_t code = column[uint64_t{t} * stride];
      ++counts[code];
      sum += code << (8 - bits);
    }
    const uint32_t mean = static_cast<uint32_t>((sum + tokens / 2) / tokens);
    uint64_t squares = 0;
    for (uint32_t c = 0; c < 1u << bits; ++c) {
      const int64_t d = static_cast<int64_t>(c << (8 - bits)) - static_cast<int64_t>(mean);
      squares += counts[c] * static_cast<uint64_t>(d * d);
    }
    const float variance = static_cast<float>(squares) / static_cast<float>(tokens);
    int32_t near = 1;
    while (near < 63 &&
           RangeModel::Scale(static_cast<uint32_t>(near)) * RangeModel::Scale(static_cast<uint32_t>(near)) < variance)
      ++near;
    uint64_t least = uint64_t{tokens} * bits * 4096;
    chosen[0] = 0;
    chosen[1] = 0;
    RangeModel model;
    for (int32_t tail = 0; tail < 4; ++tail) {
      const int32_t middle = near + (tail == 0 ? -4 : tail == 1 ? 0 : tail == 2 ? 5 : 7);
      for (int32_t index = middle - 1; index <= middle + 1; ++index) {
        const int32_t scale = index < 1 ? 1 : index > 63 ? 63 : index;
        const uint8_t shape = static_cast<uint8_t>(tail * 64 + scale);
        model.Make(bits, static_cast<uint8_t>(mean), shape);
        const uint64_t whole = log(model.total());
        uint64_t cost = 0;
        for (uint32_t c = 0; c < model.codes; ++c) {
          if (counts[c] != 0) cost += counts[c] * (whole - log(model.sums[c + 1] - model.sums[c]));
        }
        if (cost >= least) continue;
        least = cost;
        chosen[0] = static_cast<uint8_t>(mean);
        chosen[1] = shape;
      }
    }
  }
};

}  // namespace kvasir
