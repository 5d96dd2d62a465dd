// SPDX-License-Identifier: Apache-2.0
// Bodies of frames whose rows have classes (rows_coder.h), where rows go raw or through Q:int. How many rows each class
// of each head has is known on the device only: a block a frame finds out (PlanRows, OpenRows), then all threads of all
// blocks share out the groups, bytes and elements of each class of each head (a cell). The bytes are those of
// RowsCoder.
#pragma once

#include "kernels/cuda/team.h"
#include "kernels/rows_coder.h"

namespace kvasir::cuda {

inline constexpr uint32_t kCells = 3;                             ///< of a head: exact, kept, demoted rows
inline constexpr uint8_t kRowsHaveMap = 1, kRowsHaveWeights = 2;  ///< flags of a frame

KVASIR_HD inline RowClass ClassOfCell(uint32_t cell) {
  return cell == 0 ? RowClass::kExact : cell == 1 ? RowClass::kKept : RowClass::kDemoted;
}

/// The rows of one class and head: a frame of their own.
struct RowsCell {
  uint32_t count = 0;
  uint32_t at = 0;      ///< byte in the frame
  uint32_t length = 0;  ///< bytes
};

struct RowsHead {
  uint8_t flags = 0;
  uint32_t stored = 0;      ///< rows that are there
  uint32_t weights_at = 0;  ///< byte in the frame
  uint32_t length = 0;      ///< of the frame
};

/// What the bodies of one frame tell each other. Rows are [heads][tokens].
struct RowsRoom {
  RowsHead* head = nullptr;
  RowsCell* cells = nullptr;    ///< [heads][kCells]; of a frame without map only the first, and it has all rows
  uint32_t* order = nullptr;    ///< [rows]: tokens of a head, cell after cell, ascending in each
  uint32_t* stored = nullptr;   ///< [rows]: number of the row among those that are there
  RowClass* classes = nullptr;  ///< [rows]

  KVASIR_HD static uint64_t Bytes(const FrameShape& shape) {
    const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
    return (sizeof(RowsHead) + shape.heads * kCells * sizeof(RowsCell) + rows * 9 + 255) / 256 * 256;
  }
  KVASIR_HD static RowsRoom At(const FrameShape& shape, uint8_t* memory) {
    const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
    RowsRoom room;
    room.head = reinterpret_cast<RowsHead*>(memory);
    room.cells = reinterpret_cast<RowsCell*>(room.head + 1);
    room.order = reinterpret_cast<uint32_t*>(room.cells + shape.heads * kCells);
    room.stored = room.order + rows;
    room.classes = reinterpret_cast<RowClass*>(room.stored + rows);
    return room;
  }
};

KVASIR_HD inline uint32_t RowsMapBytes(const FrameShape& shape) {
  return static_cast<uint32_t>((uint64_t{shape.heads} * shape.tokens + 3) / 4);
}
KVASIR_HD inline uint32_t RowsLengthsBytes(const FrameShape& shape) { return shape.heads * kCells * 4; }

/// A cell as a frame.
struct RowsSub {
  bool raw = true;
  IntFrame f;                       ///< its shape, also where it is raw
  uint32_t at = 0;                  ///< byte in the frame
  uint32_t bytes = 0;               ///< that such a frame has
  uint64_t first_code = 0;          ///< of its codes among those of the frame
  uint64_t first_row = 0;           ///< of its head
  const uint32_t* order = nullptr;  ///< of its tokens; null: it is the whole frame
  KVASIR_HD uint64_t rows() const { return uint64_t{f.shape.heads} * f.shape.tokens; }
  /// The row of the frame that its row `i` is.
  KVASIR_HD uint64_t Row(uint64_t i) const { return order == nullptr ? i : first_row + order[i]; }
};

KVASIR_HD inline uint32_t RowsSubs(const FrameShape& shape, const RowsRoom& room) {
  return (room.head->flags & kRowsHaveMap) == 0 ? 1 : shape.heads * kCells;
}

KVASIR_HD inline RowsSub RowsSubAt(const RowsPlan& plan, const FrameShape& shape, const RowsRoom& room, uint32_t cell) {
  RowsSub sub;
  FrameShape of = shape;
  RowsWay way = plan.kept;
  if ((room.head->flags & kRowsHaveMap) != 0) {
    const uint32_t head = cell / kCells;
    uint32_t before = 0;
    for (uint32_t i = head * kCells; i < cell; ++i) before += room.cells[i].count;
    sub.first_row = uint64_t{head} * shape.tokens;
    sub.order = room.order + sub.first_row + before;
    sub.first_code = (sub.first_row + before) * shape.dim;
    of = {1, room.cells[cell].count, shape.dim, shape.element};
    const RowClass in_cell = ClassOfCell(cell % kCells);
    if (in_cell == RowClass::kExact) way = RowsWay();
    if (in_cell == RowClass::kDemoted) way = plan.demoted;
  }
  sub.raw = way.raw;
  sub.at = room.cells[cell].at;
  if (of.tokens > 0 && !way.raw) sub.f = LayOutIntFrame(way.integer, of);
  sub.f.shape = of;
  sub.bytes = static_cast<uint32_t>(way.raw ? of.bytes() : of.tokens > 0 ? sub.f.frame_bytes : 0);
  return sub;
}

/// From room.classes: the cells of every head, the order of its tokens, the number of each row among the stored ones.
template <class Team>
KVASIR_HD void CountRows(Team& team, const FrameShape& shape, const RowsRoom& room) {
  constexpr uint32_t kStep = Team::kThreads;
  const uint32_t tokens = shape.tokens;
  uint32_t stored = 0;
  for (uint32_t head = 0; head < shape.heads; ++head) {
    const RowClass* classes = room.classes + uint64_t{head} * tokens;
    uint32_t counts[kCells];
    for (uint32_t cell = 0; cell < kCells; ++cell) {
      counts[cell] = static_cast<uint32_t>(team.Sum([&](uint32_t t) {
        uint64_t sum = 0;
        for (uint32_t i = t; i < tokens; i += kStep) sum += classes[i] == ClassOfCell(cell) ? 1 : 0;
        return sum;
      }));
    }
    uint32_t next[kCells] = {0, counts[0], counts[0] + counts[1]};
    for (uint32_t begin = 0; begin < tokens; begin += kStep) {
      typename Team::template Own<uint32_t> before, all_before;
      team.Each([&](uint32_t t) { all_before[t] = stored; });
      for (uint32_t cell = 0; cell < kCells; ++cell) {
        const auto has = [&](uint32_t t) { return begin + t < tokens && classes[begin + t] == ClassOfCell(cell); };
        team.Each([&](uint32_t t) { before[t] = has(t) ? 1 : 0; });
        const uint32_t all = team.SumBefore(before);
        team.Each([&](uint32_t t) {
          all_before[t] += before[t];
          if (has(t)) room.order[uint64_t{head} * tokens + next[cell] + before[t]] = begin + t;
        });
        next[cell] += all;
        stored += all;
      }
      team.Each([&](uint32_t t) {
        if (begin + t < tokens) room.stored[uint64_t{head} * tokens + begin + t] = all_before[t];
      });
    }
    team.Each([&](uint32_t t) {
      if (t < kCells) room.cells[head * kCells + t] = {counts[t], 0, 0};
      if (t == 0) room.head->stored = stored;
    });
  }
}

/// What an encoder decides of a frame. `classes` null: all rows are kept rows. A class that the plan has no way for
/// counts as kept: RowsCoder holds that nobody brings one.
template <class Team>
KVASIR_HD void PlanRows(Team& team, const RowsPlan& plan, const FrameShape& shape, const RowClass* classes,
                        bool weighted, uint32_t first_token, const RowsRoom& room) {
  const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
  const bool mixed = team.Sum([&](uint32_t t) {
    uint64_t others = 0;
    for (uint64_t row = t; row < rows; row += Team::kThreads) {
      RowClass of = classes == nullptr ? RowClass::kKept : classes[row];
      if (uint64_t{first_token} + row % shape.tokens < plan.sink_tokens) of = RowClass::kExact;
      if (of == RowClass::kDemoted && !plan.demotes) of = RowClass::kKept;
      room.classes[row] = of;
      others += of != RowClass::kKept ? 1 : 0;
    }
    return others;
  }) != 0;
  CountRows(team, shape, room);
  team.Each([&](uint32_t t) {
    if (t != 0) return;
    RowsHead& head = *room.head;
    head.flags = static_cast<uint8_t>((mixed ? kRowsHaveMap : 0) | (weighted ? kRowsHaveWeights : 0));
    head.weights_at = 1 + (mixed ? RowsMapBytes(shape) : 0);
    uint32_t at = head.weights_at + (weighted ? head.stored * 8 : 0) + (mixed ? RowsLengthsBytes(shape) : 0);
    const uint32_t subs = RowsSubs(shape, room);
    for (uint32_t cell = 0; cell < subs; ++cell) {
      const uint32_t bytes = RowsSubAt(plan, shape, room, cell).bytes;
      room.cells[cell].at = at;
      room.cells[cell].length = bytes;
      at += bytes;
    }
    head.length = at;
  });
}

/// The threads of all blocks that share out a frame's items.
struct Share {
  uint64_t first = 0, step = 1;
};

/// What stands before the cells of a frame: flags, map, weights [rows][2], lengths.
KVASIR_HD inline void WriteRowsHead(const FrameShape& shape, const RowsRoom& room, const float* weights, Share share,
                                    uint8_t* frame) {
  const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
  const RowsHead& head = *room.head;
  if (share.first == 0) frame[0] = head.flags;
  if ((head.flags & kRowsHaveMap) != 0) {
    for (uint64_t i = share.first; i < RowsMapBytes(shape); i += share.step) {
      uint32_t byte = 0;
      for (uint64_t row = 4 * i; row < rows && row < 4 * i + 4; ++row) {
        byte |= static_cast<uint32_t>(room.classes[row]) << (row % 4 * 2);
      }
      frame[1 + i] = static_cast<uint8_t>(byte);
    }
    const uint32_t lengths_at = head.weights_at + ((head.flags & kRowsHaveWeights) != 0 ? head.stored * 8 : 0);
    for (uint64_t i = share.first; i < uint64_t{shape.heads} * kCells; i += share.step) {
      Store32(frame + lengths_at + 4 * i, room.cells[i].length);
    }
  }
  if ((head.flags & kRowsHaveWeights) == 0) return;
  for (uint64_t row = share.first; row < rows; row += share.step) {
    if (room.classes[row] == RowClass::kDropped) continue;
    uint8_t* to = frame + head.weights_at + 8 * uint64_t{room.stored[row]};
    for (uint32_t i = 0; i < 2; ++i) Store32(to + 4 * i, BitsOfFloat(weights[2 * row + i]));
  }
}

/// Rows of a cell as they are; of Q:int the parameters, into the frame, and the codes, one a byte.
KVASIR_HD inline void EncodeRowsCell(const RowsSub& sub, const uint8_t* dense, Share share, uint8_t* frame,
                                     uint8_t* codes) {
  const FrameShape& of = sub.f.shape;
  const uint32_t size = ElementBytes(of.element), row_bytes = of.dim * size;
  if (sub.raw) {
    for (uint64_t i = share.first; i < sub.bytes; i += share.step) {
      frame[sub.at + i] = dense[sub.Row(i / row_bytes) * row_bytes + i % row_bytes];
    }
    return;
  }
  for (uint64_t index = share.first; sub.bytes > 0 && index < sub.f.parameters; index += share.step) {
    const IntGroup g = IntGroupAt(sub.f, index);
    const uint64_t row = g.head * of.tokens + g.token;
    const bool by_channel = sub.f.spec.by_channel;
    const IntParameters p = EncodeIntValues(
        sub.f.spec, g.count,
        [&](uint32_t i) {
          const uint64_t at = sub.Row(row + (by_channel ? i : 0)) * of.dim + g.channel + (by_channel ? 0 : i);
          return LoadElement(of.element, dense + at * size);
        },
        codes + sub.first_code + row * of.dim + g.channel, g.stride);
    StoreIntParameters(sub.f, p, index, frame + sub.at);
  }
}

/// The codes of a cell into the frame.
KVASIR_HD inline void PackRowsCell(const RowsSub& sub, const uint8_t* codes, Share share, uint8_t* frame) {
  if (sub.raw || sub.bytes == 0) return;
  const uint64_t bytes = sub.f.frame_bytes - sub.f.codes_at;
  const uint32_t dim = sub.f.shape.dim;
  for (uint64_t i = share.first; i < bytes; i += share.step) {
    const uint64_t row = i / sub.f.row_bytes;
    frame[sub.at + sub.f.codes_at + i] = PackedByte(sub.f.spec.bits, codes + sub.first_code + row * dim, dim,
                                                    static_cast<uint32_t>(i % sub.f.row_bytes));
  }
}

/// Opens a frame: what PlanRows says of it, from its bytes. False for bytes that are no frame; `whole`: neither are
/// frames that lack rows. REQUIRES: length > 0.
template <class Team>
KVASIR_HD bool OpenRows(Team& team, const RowsPlan& plan, const FrameShape& shape, const uint8_t* frame,
                        uint32_t length, bool whole, const RowsRoom& room) {
  const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
  const uint8_t flags = frame[0];
  const bool mixed = (flags & kRowsHaveMap) != 0, weighted = (flags & kRowsHaveWeights) != 0;
  if ((flags & ~(kRowsHaveMap | kRowsHaveWeights)) != 0) return false;
  const uint64_t weights_at = 1 + uint64_t{mixed ? RowsMapBytes(shape) : 0};
  if (length < weights_at) return false;
  const uint64_t unknown = team.Sum([&](uint32_t t) {
    uint64_t wrong = 0;
    for (uint64_t row = t; row < rows; row += Team::kThreads) {
      RowClass of = RowClass::kKept;
      if (mixed) of = static_cast<RowClass>(frame[1 + row / 4] >> (row % 4 * 2) & 3);
      if (of == RowClass::kDemoted && !plan.demotes) ++wrong;
      room.classes[row] = of;
    }
    return wrong;
  });
  if (unknown != 0) return false;
  CountRows(team, shape, room);
  const uint64_t stored = room.head->stored;
  uint64_t at = weights_at + (weighted ? 8 * stored : 0);
  if (length < at || (whole && stored != rows)) return false;
  const uint64_t bad = team.Sum([&](uint32_t t) {
    uint64_t wrong = 0;
    for (uint64_t i = t; weighted && i < 2 * stored; i += Team::kThreads) {
      const float weight = FloatOfBits(Load32(frame + weights_at + 4 * i));
      if (!(weight >= 0 && weight - weight == 0)) ++wrong;
    }
    return wrong;
  });
  if (bad != 0) return false;
  const uint64_t lengths_at = at;
  if (mixed) at += RowsLengthsBytes(shape);
  if (length < at) return false;
  team.Each([&](uint32_t t) {
    if (t != 0) return;
    *room.head = {flags, static_cast<uint32_t>(stored), static_cast<uint32_t>(weights_at), 0};
    const uint32_t subs = RowsSubs(shape, room);
    uint64_t end = at;
    bool right = true;
    for (uint32_t cell = 0; cell < subs; ++cell) {
      const RowsSub sub = RowsSubAt(plan, shape, room, cell);
      if (mixed) right = right && Load32(frame + lengths_at + 4 * cell) == sub.bytes;
      room.cells[cell].at = static_cast<uint32_t>(end);
      room.cells[cell].length = sub.bytes;
      end += sub.bytes;
    }
    if (right && end == length) room.head->length = length;
  });
  return room.head->length == length;
}

/// The values of a cell: to their rows of a dense frame, or `compact`, to their numbers among the stored rows. False
/// where a parameter is none that an encoder writes.
KVASIR_HD inline bool DecodeRowsCell(const RowsSub& sub, const RowsRoom& room, const uint8_t* frame, bool compact,
                                     Share share, uint8_t* out) {
  const FrameShape& of = sub.f.shape;
  const uint32_t size = ElementBytes(of.element);
  const uint8_t* in = frame + sub.at;
  bool right = true;
  for (uint64_t i = share.first; !sub.raw && sub.bytes > 0 && i < sub.f.codes_at / 2; i += share.step) {
    right = right && !IsBadParameter(Load16(in + 2 * i));
  }
  for (uint64_t i = share.first; i < sub.rows() * of.dim; i += share.step) {
    const uint64_t row = i / of.dim, place = sub.Row(row);
    const uint32_t c = static_cast<uint32_t>(i - row * of.dim);
    uint8_t* to = out + ((compact ? room.stored[place] : place) * of.dim + c) * size;
    if (sub.raw) {
      for (uint32_t k = 0; k < size; ++k) to[k] = in[i * size + k];
    } else {
      const float value =
          IntElement(sub.f, in, static_cast<uint32_t>(row / of.tokens), static_cast<uint32_t>(row % of.tokens), c);
      StoreElement(of.element, value, to);
    }
  }
  return right;
}

/// Puts the rows that a merge has changed into a dense frame: value `i` of [count][dim].
KVASIR_HD inline void MergeRow(ElementType type, uint32_t dim, const uint32_t* slots, const float* rows, uint64_t i,
                               uint8_t* dense) {
  const uint64_t at = uint64_t{slots[i / dim]} * dim + i % dim;
  StoreElement(type, rows[i], dense + at * ElementBytes(type));
}

}  // namespace kvasir::cuda
