// SPDX-License-Identifier: Apache-2.0
// The launchers of kernels/cuda/launch.h on the CPU: bodies that are written for teams by SerialTeam, in the rooms that
// the kernels use; for the others the CPU's own.
#include <cstring>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows_bodies.h"
#include "kernels/cuda/splitans_bodies.h"

namespace kvasir::cuda {
namespace {

using Block = SerialTeam<64>;
using Warp = SerialTeam<32>;

struct SerialRun {
  template <class Body>
  void operator()(uint64_t items, const Body& body) {
    for (uint64_t i = 0; i < items; ++i) body(i);
  }
};

void SetJobFault(JobState* state, uint32_t fault) {
  if (state->fault == 0) state->fault = fault;
}

/// Calls copy(row in its page, row in the dense frame).
template <class Copy>
void ForEachRow(const PageView& v, uint8_t* dense, uint64_t dense_stride, const Copy& copy) {
  for (uint32_t i = 0; i < v.count; ++i) {
    uint8_t* row = dense + i * dense_stride;
    for (uint32_t head = 0; head < v.heads; ++head) {
      for (uint32_t token = 0; token < v.tokens; ++token, row += v.row_bytes) {
        copy(v.base[i] + int64_t{v.pages[token / v.page_tokens]} * v.page_stride + int64_t{head} * v.head_stride +
                 int64_t{token % v.page_tokens} * v.token_stride,
             row);
      }
    }
  }
}

ChainRoom RoomOf(const FrameBatch& batch) {
  return {batch.rows, batch.rows + kChainElementsMax, batch.rows + 2 * kChainElementsMax, batch.codes};
}

uint32_t SumOf(const uint8_t* frame, uint32_t length) {
  return Crc32c({reinterpret_cast<const std::byte*>(frame), length});
}

/// What all frames of a launch share.
struct SplitAnsPlan {
  explicit SplitAnsPlan(const FrameShape& shape)
      : f(LayOutSplitAns(shape)),
        by_head(Divider::By(shape.tokens * shape.dim)),
        by_dim(Divider::By(shape.dim)) {}
  SplitAnsRooms Rooms(const FrameBatch& batch, uint32_t i) const {
    return SplitAnsRooms::At(f, i, reinterpret_cast<uint8_t*>(batch.rows), batch.offsets, batch.codes);
  }
  SplitAnsTable Table(const SplitAnsRooms& rooms) const { return {rooms.OriginsInUse(), by_head, by_dim}; }
  const SplitAnsFrame f;
  const Divider by_head, by_dim;
};

}  // namespace

void LaunchGather(const PageView& view, uint8_t* dense, uint64_t dense_stride, CudaStream) {
  ForEachRow(view, dense, dense_stride,
             [&](uint8_t* in_page, uint8_t* row) { std::memcpy(row, in_page, view.row_bytes); });
}

void LaunchScatter(const PageView& view, const uint8_t* dense, uint64_t dense_stride, const JobState* state,
                   CudaStream) {
  if (state->fault != 0) return;
  ForEachRow(view, const_cast<uint8_t*>(dense), dense_stride,
             [&](uint8_t* in_page, uint8_t* row) { std::memcpy(in_page, row, view.row_bytes); });
}

void LaunchMerge(const FrameShape& shape, const FrameInputs& inputs, uint8_t* dense, CudaStream) {
  for (uint64_t i = 0; i < uint64_t{inputs.merged_count} * shape.dim; ++i) {
    MergeRow(shape.element, shape.dim, inputs.merged_slots, inputs.merged_rows, i, dense);
  }
}

void LaunchRawLengths(const FrameBatch& batch, uint32_t bytes, JobState* state, CudaStream) {
  for (uint32_t i = 0; i < batch.count; ++i) state->frames[batch.slot(i)].length = bytes;
}

void LaunchIntEncode(const IntFrame& f, const FrameBatch& batch, JobState* state, CudaStream) {
  for (uint32_t i = 0; i < batch.count; ++i) {
    EncodeIntFrameReference(f, batch.dense_at(i), batch.frame_at(i), batch.codes);
    state->frames[batch.slot(i)].length = static_cast<uint32_t>(f.frame_bytes);
  }
}

void LaunchIntDecode(const IntFrame& f, const FrameBatch& batch, JobState* state, CudaStream) {
  for (uint32_t i = 0; i < batch.count; ++i) {
    for (uint64_t p = 0; p < f.codes_at / 2; ++p) {
      if (IsBadParameter(Load16(batch.frame_at(i) + 2 * p)))
        SetJobFault(state, batch.fault(DeviceFault::kParameter, i));
    }
    DecodeIntFrameReference(f, batch.frame_at(i), batch.dense_at(i));
  }
}

void LaunchSplitEncode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream) {
  std::vector<std::byte> scratch;
  for (uint32_t i = 0; i < batch.count; ++i) {
    state->frames[batch.slot(i)].length = static_cast<uint32_t>(SplitExpStage::Coder({})->Encode(
        shape, batch.dense_at(i), batch.frame_at(i), scratch, Destination::kCache, {}));
  }
}

void LaunchSplitDecode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream) {
  std::vector<std::byte> scratch;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const std::span<const uint8_t> frame(batch.frame_at(i), batch.length[i]);
    const Result<bool> decoded =
        SplitExpStage::Coder({})->Decode(shape, frame, batch.dense_at(i), scratch, Destination::kCache);
    if (!decoded.ok()) SetJobFault(state, batch.fault(DeviceFault::kEntries, i));
  }
}

void LaunchSplitAnsEncode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream) {
  const SplitAnsPlan plan(shape);
  const SplitAnsFrame& f = plan.f;
  Block block;
  Warp warp;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const SplitAnsRooms rooms = plan.Rooms(batch, i);
    const uint8_t* dense = batch.dense_at(i);
    uint8_t* frame = batch.frame_at(i);
    SplitAnsCounts counts;
    ChooseSplitAns(block, f, dense, rooms.origins, rooms.sample, counts, *rooms.work);
    SplitAnsPush pushes[256];
    for (uint32_t s = 0; s < 256; ++s) pushes[s] = PushOf(rooms.work->model, s);
    for (uint32_t c = 0; c < f.chunks; ++c) {
      const uint32_t first = c * kSplitAnsChunk, count = f.count(c);
      WriteSplitAnsFixed(warp, f, dense + 2 * first, count, frame + f.fixed_at(c));
      rooms.lengths[c] = EncodeSplitAnsTail(warp, f, pushes, plan.Table(rooms), first,
                                            dense + 2 * first, count, rooms.TailEnd(c));
    }
    state->frames[batch.slot(i)].length =
        EndSplitAns(block, f, *rooms.work, rooms.origins, rooms.lengths, rooms.offsets, frame);
    for (uint32_t c = 0; c < f.chunks; ++c) {
      PlaceSplitAnsTail(warp, f, dense + 2 * c * kSplitAnsChunk, f.count(c),
                        rooms.work->mode == SplitAnsMode::kStored ? 0 : rooms.lengths[c], rooms.TailEnd(c),
                        frame + rooms.offsets[c]);
    }
  }
}

void LaunchSplitAnsDecode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream) {
  const SplitAnsPlan plan(shape);
  const SplitAnsFrame& f = plan.f;
  Block block;
  Warp warp;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const SplitAnsRooms rooms = plan.Rooms(batch, i);
    const uint8_t* frame = batch.frame_at(i);
    bool right =
        OpenSplitAns(block, f, frame, batch.length[i], *rooms.work, rooms.origins, rooms.lengths, rooms.offsets);
    SplitAnsPop pops[kRansTotal];
    for (uint32_t slot = 0; right && slot < kRansTotal; ++slot) pops[slot] = PopOf(rooms.work->model, slot);
    for (uint32_t c = 0; right && c < f.chunks; ++c) {
      const uint32_t first = c * kSplitAnsChunk, count = f.count(c);
      const uint8_t *fixed = frame + f.fixed_at(c), *tail = frame + rooms.offsets[c];
      const SplitAnsTable table = plan.Table(rooms);
      const SplitAnsCoded coded{first, count, fixed, tail, rooms.lengths[c]};
      uint8_t* out = batch.dense_at(i) + 2 * first;
      if (rooms.lengths[c] == 0) {
        LoadSplitAns(warp, f, fixed, tail, count, out);
      } else {
        right = f.half ? DecodeSplitAnsTail<true>(warp, pops, table, coded, out)
                       : DecodeSplitAnsTail<false>(warp, pops, table, coded, out);
      }
    }
    if (!right) SetJobFault(state, batch.fault(DeviceFault::kEntries, i));
  }
}

void LaunchChainEncode(const ChainPlan& plan, const FrameShape& shape, const FrameInputs* inputs,
                       const FrameBatch& batch, JobState* state, CudaStream) {
  SerialRun run;
  const ChainLayout layout = LayOutChain(plan, shape);
  const ChainRoom room = RoomOf(batch);
  for (uint32_t i = 0; i < batch.count; ++i) {
    *batch.outcome = {};
    EncodeChain(run, plan, layout, {shape, room.spare, batch.outcome, inputs[i * batch.slot_step]}, batch.dense_at(i),
                batch.frame_at(i), room);
    state->frames[batch.slot(i)].length = static_cast<uint32_t>(layout.packed_at) + batch.outcome->packed_bytes;
  }
}

void LaunchChainDecode(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                       CudaStream) {
  SerialRun run;
  const ChainLayout layout = LayOutChain(plan, shape);
  const ChainRoom room = RoomOf(batch);
  for (uint32_t i = 0; i < batch.count; ++i) {
    *batch.outcome = {};
    DecodeChain(run, plan, layout, {shape, room.spare, batch.outcome, {}}, batch.frame_at(i), batch.length[i],
                batch.dense_at(i), room);
    if (batch.outcome->fault != 0) SetJobFault(state, batch.fault(DeviceFault::kParameter, i));
  }
}

void LaunchRowsEncode(const RowsPlan& plan, const FrameShape& shape, const FrameInputs* inputs, const FrameBatch& batch,
                      JobState* state, CudaStream) {
  Block block;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const FrameInputs& of = inputs[i * batch.slot_step];
    const RowsRoom room = RowsRoom::At(shape, reinterpret_cast<uint8_t*>(batch.rows) + i * RowsRoom::Bytes(shape));
    uint8_t* codes = batch.codes + i * shape.elements();
    PlanRows(block, plan, shape, of.row_classes, of.row_weights != nullptr, of.first_token, room);
    WriteRowsHead(shape, room, of.row_weights, {}, batch.frame_at(i));
    for (uint32_t cell = 0; cell < RowsSubs(shape, room); ++cell) {
      const RowsSub sub = RowsSubAt(plan, shape, room, cell);
      EncodeRowsCell(sub, batch.dense_at(i), {}, batch.frame_at(i), codes);
      PackRowsCell(sub, codes, {}, batch.frame_at(i));
    }
    state->frames[batch.slot(i)].length = room.head->length;
  }
}

void LaunchRowsDecode(const RowsPlan& plan, const FrameShape& shape, bool compact, const FrameBatch& batch,
                      JobState* state, CudaStream) {
  Block block;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const RowsRoom room = RowsRoom::At(shape, reinterpret_cast<uint8_t*>(batch.rows) + i * RowsRoom::Bytes(shape));
    bool right = OpenRows(block, plan, shape, batch.frame_at(i), batch.length[i], !compact, room);
    for (uint32_t cell = 0; right && cell < RowsSubs(shape, room); ++cell) {
      right =
          DecodeRowsCell(RowsSubAt(plan, shape, room, cell), room, batch.frame_at(i), compact, {}, batch.dense_at(i));
    }
    if (!right) SetJobFault(state, batch.fault(DeviceFault::kRows, i));
  }
}

void LaunchPlace(const FrameWindow& window, uint64_t, uint8_t* area, FrameEntry* entries, JobState* state, CudaStream) {
  for (uint32_t i = 0; i < window.count; ++i) {
    const uint32_t length = state->frames[window.first_slot + i].length;
    uint8_t* to = area + state->offset;
    std::memcpy(to, window.frame[i], length);
    std::memset(to + length, 0, AlignFrame(length) - length);
    entries[window.first_index + i] = {state->offset, length, SumOf(to, length), 0};
    state->offset += static_cast<uint32_t>(AlignFrame(length));
  }
}

void LaunchCheck(const FrameWindow& window, JobState* state, CudaStream) {
  for (uint32_t i = 0; i < window.count; ++i) {
    if (SumOf(window.frame[i], window.length[i]) == window.crc32c[i]) continue;
    SetJobFault(state, static_cast<uint32_t>(DeviceFault::kChecksum) + 256 * (1 + window.first_index + i));
  }
}

}  // namespace kvasir::cuda
