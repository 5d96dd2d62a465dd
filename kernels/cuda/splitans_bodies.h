// SPDX-License-Identifier: Apache-2.0
// Bodies of P:splitexp(ans) for teams: a block a frame chooses the model and ends the frame, or opens it; a warp a
// chunk codes. Thread t of a warp has lanes 2t and 2t + 1 of the 64: what it loads and stores lies side by side. The
// format is in p_splitans.h; every byte is the one that the scalar bodies write.
#pragma once

#include "kernels/cuda/divider.h"
#include "kernels/cuda/team.h"
#include "kernels/stages/p_splitans_steps.h"

namespace kvasir::cuda {

/// Room for one coded tail, written from its end: longer ones are stored.
inline constexpr uint32_t kSplitAnsChunkRoom = kSplitAnsLanes + kSplitAnsChunk;

/// What the bodies of one frame tell each other.
struct SplitAnsWork {
  SplitAnsModel model;
  SplitAnsMode mode = SplitAnsMode::kStored;
  uint8_t greatest = 0;     ///< b of the origins
  uint32_t head_bytes = 0;  ///< of mode and model, as they lie in a frame; decoding: 0 = they cannot be right
  uint8_t head[1 + kSplitAnsModelMax] = {};
};

/// Room of one frame: SplitAnsWork, origins and sample.
inline constexpr uint64_t kSplitAnsWorkRoom = (sizeof(SplitAnsWork) + 255) / 256 * 256;
KVASIR_HD constexpr uint64_t SplitAnsFrameRoom(uint64_t elements) {
  return kSplitAnsWorkRoom + (2 * elements + 255) / 256 * 256;
}

/// Where the bodies of a window's frame i keep what they tell each other, in rooms of the window.
struct SplitAnsRooms {
  SplitAnsWork* work = nullptr;
  uint8_t* origins = nullptr;   ///< [heads][dim]
  uint8_t* sample = nullptr;    ///< [elements] at most
  uint32_t* lengths = nullptr;  ///< [chunks], of the tails; 0 = stored
  uint32_t* offsets = nullptr;  ///< [chunks], of the tails
  uint8_t* tails = nullptr;     ///< [chunks][kSplitAnsChunkRoom]
  KVASIR_HD static SplitAnsRooms At(const SplitAnsFrame& f, uint32_t i, uint8_t* frames, uint32_t* numbers,
                                    uint8_t* tails) {
    uint8_t* work = frames + i * SplitAnsFrameRoom(f.elements);
    uint8_t* origins = work + kSplitAnsWorkRoom;
    uint32_t* lengths = numbers + uint64_t{i} * 2 * f.chunks;
    return {reinterpret_cast<SplitAnsWork*>(work),
            origins,
            origins + f.elements,
            lengths,
            lengths + f.chunks,
            tails + uint64_t{i} * f.chunks * kSplitAnsChunkRoom};
  }
  /// The tail of a chunk is written before this.
  KVASIR_HD uint8_t* TailEnd(uint32_t chunk) const { return tails + (uint64_t{chunk} + 1) * kSplitAnsChunkRoom; }
  KVASIR_HD const uint8_t* OriginsInUse() const {
    return work->mode == SplitAnsMode::kCodedFromOrigins ? origins : nullptr;
  }
};

/// Counts of a sample; shared memory of a block.
struct SplitAnsCounts {
  uint32_t plain[256];
  uint32_t from_origins[256];
};

/// The origin of every element, from one byte a head and channel.
struct SplitAnsTable {
  const uint8_t* origins = nullptr;  ///< null: all are 0
  Divider head_values, dim;
  KVASIR_HD uint8_t Of(uint32_t element) const {
    if (origins == nullptr) return 0;
    uint32_t channel;
    dim.Of(element, channel);
    return origins[head_values.Of(element) * dim.divisor + channel];
  }
};

/// Exponents, and what fp16 has beside exponent and byte, of values in memory: as PackedByte asks for them.
struct ExponentsOf {
  bool half;
  const uint8_t* in;
  KVASIR_HD uint8_t operator[](uint32_t i) const { return TakeApart(half, Load16(in + 2 * i)).exponent; }
};
struct RestsOf {
  const uint8_t* in;
  KVASIR_HD uint8_t operator[](uint32_t i) const { return TakeApart(true, Load16(in + 2 * i)).rest; }
};

/// Model and origins of a frame from its sample. `origins` [heads][dim] and `sample` [sample values] are rooms.
template <class Team>
KVASIR_HD void ChooseSplitAns(Team& team, const SplitAnsFrame& f, const uint8_t* dense, uint8_t* origins,
                              uint8_t* sample, SplitAnsCounts& counts, SplitAnsWork& work) {
  constexpr uint32_t kStep = Team::kThreads;
  const uint32_t dim = f.shape.dim, rows = f.sample_rows(), stride = f.sample_stride();
  const uint32_t channels = f.shape.heads * dim, values = rows * channels;
  team.Each([&](uint32_t t) {
    for (uint32_t s = t; s < 256; s += kStep) counts.plain[s] = counts.from_origins[s] = 0;
  });
  team.Each([&](uint32_t t) {
    for (uint32_t i = t; i < values; i += kStep) {
      const uint32_t row = i / dim, head = row / rows;
      const uint64_t in_frame = uint64_t{head} * f.shape.tokens + uint64_t{row - head * rows} * stride;
      sample[i] = TakeApart(f.half, Load16(dense + 2 * (in_frame * dim + i % dim))).exponent;
      AddTo(&counts.plain[sample[i]], 1);
    }
  });
  const uint32_t greatest = team.Max([&](uint32_t t) {
    uint32_t most = 0;
    for (uint32_t c = t; c < channels; c += kStep) {
      origins[c] = MedianExponent(sample + uint64_t{c / dim} * rows * dim + c % dim, rows, dim);
      most = origins[c] > most ? origins[c] : most;
    }
    return most;
  });
  team.Each([&](uint32_t t) {
    for (uint32_t c = t; c < channels; c += kStep) {
      origins[c] = static_cast<uint8_t>(greatest - OriginBelow(static_cast<uint8_t>(greatest), origins[c]));
    }
  });
  team.Each([&](uint32_t t) {
    for (uint32_t i = t; i < values; i += kStep) {
      AddTo(&counts.from_origins[static_cast<uint8_t>(sample[i] - origins[i / dim / rows * dim + i % dim])], 1);
    }
  });
  const auto entropy = [&](const uint32_t* of) {
    return team.Sum([&](uint32_t t) {
      uint64_t sum = 0;
      for (uint32_t s = t; s < 256; s += kStep) sum += EntropyTerm(of[s], values);
      return sum;
    });
  };
  const uint64_t plain = entropy(counts.plain), from_origins = entropy(counts.from_origins);
  team.Each([&](uint32_t t) {
    if (t != 0) return;
    const bool pays = OriginsPay(f, plain, from_origins, values);
    work.model = ChooseModel(pays ? counts.from_origins : counts.plain, values);
    work.mode = pays ? SplitAnsMode::kCodedFromOrigins : SplitAnsMode::kCoded;
    work.greatest = static_cast<uint8_t>(greatest);
    work.head[0] = static_cast<uint8_t>(work.mode);
    work.head_bytes = 1 + WriteModel(work.model, work.head + 1);
  });
}

/// The fixed part of a chunk: the same coded and stored.
template <class Warp>
KVASIR_HD void WriteSplitAnsFixed(Warp& warp, const SplitAnsFrame& f, const uint8_t* in, uint32_t count,
                                  uint8_t* fixed) {
  const uint32_t bytes = count - f.carried(count);
  const uint32_t rest_bytes = f.half ? static_cast<uint32_t>(PackedRowBytes(3, count)) : 0;
  warp.Each([&](uint32_t t) {
    for (uint32_t i = t; i < bytes; i += Warp::kThreads) fixed[i] = TakeApart(f.half, Load16(in + 2 * i)).byte;
    for (uint32_t i = t; i < rest_bytes; i += Warp::kThreads) fixed[bytes + i] = PackedByte(3, RestsOf{in}, count, i);
  });
}

/// Two lanes of a warp's 64.
struct SplitAnsLanePair {
  uint32_t state[2] = {};
  uint8_t symbol[2] = {};
  bool ended_wrong = false;
};

/// Ballots of the even and of the odd lanes.
struct SplitAnsBallots {
  uint32_t even = 0, odd = 0;
  KVASIR_HD uint32_t all() const { return Ones(even) + Ones(odd); }
  /// How many lanes before lane 2t + k.
  KVASIR_HD uint32_t Before(uint32_t t, uint32_t k) const {
    const uint32_t below = (1u << t) - 1;
    return Ones(even & below) + Ones(odd & below) + (k == 1 ? even >> t & 1 : 0);
  }
  KVASIR_HD bool Has(uint32_t t, uint32_t k) const { return ((k == 0 ? even : odd) >> t & 1) != 0; }
};

/// Lanes below `lanes` for which f(t, k) holds.
template <class Warp, class F>
KVASIR_HD SplitAnsBallots BallotLanes(Warp& warp, uint32_t lanes, const F& f) {
  const uint32_t even = warp.Ballot([&](uint32_t t) { return 2 * t < lanes && f(t, 0u); });
  return {even, warp.Ballot([&](uint32_t t) { return 2 * t + 1 < lanes && f(t, 1u); })};
}

/// Codes a chunk that begins with element `first`: its tail ends at `room_end`. Returns the bytes of the tail, 0 where
/// it would not be shorter than a stored one. REQUIRES: kSplitAnsChunkRoom bytes before room_end.
template <class Warp>
KVASIR_HD uint32_t EncodeSplitAnsTail(Warp& warp, const SplitAnsFrame& f, const SplitAnsPush* pushes,
                                      const SplitAnsTable& table, uint32_t first, const uint8_t* in, uint32_t count,
                                      uint8_t* room_end) {
  if (count < kSplitAnsLanes) return 0;
  const uint32_t room = f.stored_bytes(count) - kSplitAnsStateBytes;  // what steps may write: less than that
  if (f.stored_bytes(count) <= kSplitAnsStateBytes) return 0;
  typename Warp::template Own<SplitAnsLanePair> own;
  warp.Each([&](uint32_t t) {
    for (uint32_t k = 0; k < 2; ++k) {
      own[t].state[k] = kRansLeast + TakeApart(f.half, Load16(in + 2 * (count - kSplitAnsLanes + 2 * t + k))).byte;
    }
  });
  uint32_t used = 0;
  for (uint32_t step = (count - 1) / kSplitAnsLanes + 1; step-- > 0;) {
    const uint32_t begin = step * kSplitAnsLanes;
    const uint32_t lanes = count - begin < kSplitAnsLanes ? count - begin : kSplitAnsLanes;
    warp.Each([&](uint32_t t) {
      for (uint32_t k = 0; k < 2; ++k) {
        const uint32_t i = begin + 2 * t + k;
        if (2 * t + k >= lanes) continue;
        own[t].symbol[k] = static_cast<uint8_t>(TakeApart(f.half, Load16(in + 2 * i)).exponent - table.Of(first + i));
      }
    });
    const SplitAnsBallots emits = BallotLanes(warp, lanes, [&](uint32_t t, uint32_t k) {
      return RansEmits(own[t].state[k], pushes[own[t].symbol[k]].frequency);
    });
    const SplitAnsBallots escapes =
        BallotLanes(warp, lanes, [&](uint32_t t, uint32_t k) { return pushes[own[t].symbol[k]].escapes != 0; });
    used += emits.all() + escapes.all();
    if (used >= room) return 0;
    uint8_t* at = room_end - used;
    warp.Each([&](uint32_t t) {
      for (uint32_t k = 0; k < 2; ++k) {
        if (2 * t + k >= lanes) continue;
        uint32_t& x = own[t].state[k];
        if (escapes.Has(t, k)) at[escapes.Before(t, k)] = own[t].symbol[k];
        if (emits.Has(t, k)) {
          at[escapes.all() + emits.Before(t, k)] = static_cast<uint8_t>(x);
          x >>= 8;
        }
        x = pushes[own[t].symbol[k]].Pushed(x);
      }
    });
  }
  used += kSplitAnsStateBytes;
  warp.Each([&](uint32_t t) {
    for (uint32_t k = 0; k < 2; ++k) {
      uint8_t* at = room_end - used + 2 * t + k;
      at[0] = static_cast<uint8_t>(own[t].state[k]);
      at[kSplitAnsLanes] = static_cast<uint8_t>(own[t].state[k] >> 8);
    }
  });
  return used;
}

/// Ends a frame whose tails have the given lengths (0 = stored): decides whether it is stored as a whole, says where
/// each tail begins, writes what stands between fixed parts and tails. Returns the frame's bytes.
template <class Team>
KVASIR_HD uint32_t EndSplitAns(Team& team, const SplitAnsFrame& f, SplitAnsWork& work, const uint8_t* origins,
                               const uint32_t* lengths, uint32_t* offsets, uint8_t* frame) {
  constexpr uint32_t kStep = Team::kThreads;
  const uint32_t mode_at = static_cast<uint32_t>(f.mode_at());
  const uint32_t origins_at = mode_at + work.head_bytes;
  const bool from_origins = work.mode == SplitAnsMode::kCodedFromOrigins;
  const uint32_t origin_bytes = from_origins ? static_cast<uint32_t>(f.origin_bytes()) : 0;
  const uint32_t lengths_at = origins_at + origin_bytes;
  const uint64_t sum = team.Sum([&](uint32_t t) {
    uint64_t bytes = 0;
    for (uint32_t i = t; i < f.chunks; i += kStep) bytes += lengths[i] != 0 ? lengths[i] : f.stored_bytes(f.count(i));
    return bytes;
  });
  const bool stored = lengths_at + 2 * uint64_t{f.chunks} + sum >= f.max_bytes();
  uint32_t end = stored ? mode_at + 1 : lengths_at + 2 * f.chunks;
  for (uint32_t begin = 0; begin < f.chunks; begin += kStep) {
    typename Team::template Own<uint32_t> before;
    team.Each([&](uint32_t t) {
      const uint32_t i = begin + t;
      before[t] = i >= f.chunks ? 0 : !stored && lengths[i] != 0 ? lengths[i] : f.stored_bytes(f.count(i));
    });
    const uint32_t all = team.SumBefore(before);
    team.Each([&](uint32_t t) {
      if (begin + t < f.chunks) offsets[begin + t] = end + before[t];
    });
    end += all;
  }
  team.Each([&](uint32_t t) {
    if (stored) {
      if (t == 0) frame[mode_at] = static_cast<uint8_t>(SplitAnsMode::kStored);
      if (t == 0) work.mode = SplitAnsMode::kStored;
      return;
    }
    for (uint32_t i = t; i < work.head_bytes; i += kStep) frame[mode_at + i] = work.head[i];
    for (uint32_t i = t; i < origin_bytes; i += kStep) {
      const uint32_t c = 2 * (i - 1);
      const auto below = [&](uint32_t at) { return at < f.origins() ? work.greatest - origins[at] : 0; };
      frame[origins_at + i] = i == 0 ? work.greatest : static_cast<uint8_t>(below(c) | below(c + 1) << 4);
    }
    for (uint32_t i = t; i < f.chunks; i += kStep) Store16(frame + lengths_at + 2 * i, lengths[i]);
  });
  return end;
}

/// The tail of a chunk to its place: the coded one of `length` bytes before room_end, or a stored one.
template <class Warp>
KVASIR_HD void PlaceSplitAnsTail(Warp& warp, const SplitAnsFrame& f, const uint8_t* in, uint32_t count, uint32_t length,
                                 const uint8_t* room_end, uint8_t* to) {
  const uint32_t carried = f.carried(count), packed = f.stored_bytes(count) - carried;
  warp.Each([&](uint32_t t) {
    for (uint32_t i = t; i < length; i += Warp::kThreads) to[i] = *(room_end - length + i);
    if (length != 0) return;
    for (uint32_t i = t; i < carried; i += Warp::kThreads) {
      to[i] = TakeApart(f.half, Load16(in + 2 * (count - carried + i))).byte;
    }
    for (uint32_t i = t; i < packed; i += Warp::kThreads) {
      to[carried + i] = PackedByte(f.exponent_bits(), ExponentsOf{f.half, in}, count, i);
    }
  });
}

/// Opens a frame of `length` bytes: model, origins [heads][dim], the length (0 = stored) and the place of every tail.
/// False for bytes that are no frame. REQUIRES: length > f.mode_at().
template <class Team>
KVASIR_HD bool OpenSplitAns(Team& team, const SplitAnsFrame& f, const uint8_t* frame, uint32_t length,
                            SplitAnsWork& work, uint8_t* origins, uint32_t* lengths, uint32_t* offsets) {
  constexpr uint32_t kStep = Team::kThreads;
  const uint32_t head_at = static_cast<uint32_t>(f.mode_at()) + 1;
  const uint8_t mode = frame[head_at - 1];
  team.Each([&](uint32_t t) {
    if (t != 0) return;
    work.mode = static_cast<SplitAnsMode>(mode);
    work.model = SplitAnsModel();
    work.head_bytes = mode == 0 ? 1 : ReadModel(frame + head_at, length - head_at, work.model);
  });
  if (mode > static_cast<uint8_t>(SplitAnsMode::kCodedFromOrigins) || work.head_bytes == 0) return false;
  uint64_t at = mode == 0 ? head_at : uint64_t{head_at} + work.head_bytes;
  if (work.mode == SplitAnsMode::kCodedFromOrigins) {
    if (length - at < f.origin_bytes()) return false;
    team.Each([&](uint32_t t) {
      for (uint32_t c = t; c < f.origins(); c += kStep) {
        origins[c] = static_cast<uint8_t>(frame[at] - (frame[at + 1 + c / 2] >> (c % 2 * 4) & 15));
      }
    });
    at += f.origin_bytes();
  }
  const uint64_t lengths_at = at;
  if (mode != 0) {
    if (length - at < 2 * uint64_t{f.chunks}) return false;
    at += 2 * uint64_t{f.chunks};
  }
  uint32_t wrong = 0;
  for (uint32_t begin = 0; begin < f.chunks; begin += kStep) {
    typename Team::template Own<uint32_t> before;
    wrong |= team.Max([&](uint32_t t) {
      const uint32_t i = begin + t;
      if (i >= f.chunks) return before[t] = 0u;
      const uint32_t count = f.count(i), stored = f.stored_bytes(count);
      const uint32_t coded = mode == 0 ? 0 : Load16(frame + lengths_at + 2 * i);
      lengths[i] = coded;
      before[t] = coded != 0 ? coded : stored;
      return coded != 0 && (count < kSplitAnsLanes || coded < kSplitAnsStateBytes || coded >= stored) ? 1u : 0u;
    });
    const uint32_t all = team.SumBefore(before);
    team.Each([&](uint32_t t) {
      if (begin + t < f.chunks) offsets[begin + t] = static_cast<uint32_t>(at) + before[t];
    });
    at += all;
  }
  return wrong == 0 && at == length;
}

/// A chunk that is stored.
template <class Warp>
KVASIR_HD void LoadSplitAns(Warp& warp, const SplitAnsFrame& f, const uint8_t* fixed, const uint8_t* tail,
                            uint32_t count, uint8_t* out) {
  warp.Each([&](uint32_t t) {
    for (uint32_t i = t; i < count; i += Warp::kThreads) {
      Store16(out + 2 * i, StoredSplitAnsValue(f, fixed, tail, count, i));
    }
  });
}

/// The bytes of a coded chunk. REQUIRES: count >= kSplitAnsLanes, tail_bytes >= kSplitAnsStateBytes.
struct SplitAnsCoded {
  uint32_t first = 0;  ///< element
  uint32_t count = 0;
  const uint8_t* fixed = nullptr;
  const uint8_t* tail = nullptr;
  uint32_t tail_bytes = 0;
};

/// False where these bytes are no tail: the chunk's values are then unspecified.
template <bool kHalf, class Warp>
KVASIR_HD bool DecodeSplitAnsTail(Warp& warp, const SplitAnsPop* pops, const SplitAnsTable& table,
                                  const SplitAnsCoded& chunk, uint8_t* out) {
  const uint32_t count = chunk.count, carried_from = count - kSplitAnsLanes;
  const uint8_t *fixed = chunk.fixed, *tail = chunk.tail;
  typename Warp::template Own<SplitAnsLanePair> own;
  warp.Each([&](uint32_t t) {
    for (uint32_t k = 0; k < 2; ++k) own[t].state[k] = tail[2 * t + k] | tail[kSplitAnsLanes + 2 * t + k] << 8;
  });
  uint32_t at = kSplitAnsStateBytes;
  for (uint32_t begin = 0; begin < count; begin += kSplitAnsLanes) {
    const uint32_t lanes = count - begin < kSplitAnsLanes ? count - begin : kSplitAnsLanes;
    const SplitAnsBallots escapes =
        BallotLanes(warp, lanes, [&](uint32_t t, uint32_t k) { return pops[own[t].state[k] & 255].escapes != 0; });
    if (chunk.tail_bytes - at < escapes.all()) return false;
    warp.Each([&](uint32_t t) {
      for (uint32_t k = 0; k < 2; ++k) {
        if (2 * t + k >= lanes) continue;
        const SplitAnsPop pop = pops[own[t].state[k] & 255];
        own[t].symbol[k] = escapes.Has(t, k) ? tail[at + escapes.Before(t, k)] : pop.symbol;
        own[t].state[k] = pop.Popped(own[t].state[k]);
      }
    });
    at += escapes.all();
    const SplitAnsBallots takes =
        BallotLanes(warp, lanes, [&](uint32_t t, uint32_t k) { return own[t].state[k] < kRansLeast; });
    if (chunk.tail_bytes - at < takes.all()) return false;
    warp.Each([&](uint32_t t) {
      for (uint32_t k = 0; k < 2; ++k) {
        if (2 * t + k >= lanes) continue;
        if (takes.Has(t, k)) own[t].state[k] = own[t].state[k] << 8 | tail[at + takes.Before(t, k)];
        const uint32_t i = begin + 2 * t + k;
        SplitAnsPieces p;
        p.byte = i < carried_from ? fixed[i] : uint8_t{0};
        p.exponent = static_cast<uint8_t>(own[t].symbol[k] + table.Of(chunk.first + i));
        if (kHalf) {
          own[t].ended_wrong = own[t].ended_wrong || p.exponent > 31;
          p.rest = UnpackedCode(3, fixed + carried_from, count, i);
        }
        Store16(out + 2 * i, PutTogether(kHalf, p));
      }
    });
    at += takes.all();
  }
  const uint32_t wrong = warp.Ballot([&](uint32_t t) {
    for (uint32_t k = 0; k < 2; ++k) {  // the bytes that the states carried, and whether they end as they began
      uint8_t* value = out + 2 * (carried_from + 2 * t + k);
      SplitAnsPieces p = TakeApart(kHalf, Load16(value));
      p.byte = static_cast<uint8_t>(own[t].state[k]);
      Store16(value, PutTogether(kHalf, p));
      own[t].ended_wrong = own[t].ended_wrong || own[t].state[k] >> 8 != 1;
    }
    return own[t].ended_wrong;
  });
  return at == chunk.tail_bytes && wrong == 0;
}

}  // namespace kvasir::cuda
