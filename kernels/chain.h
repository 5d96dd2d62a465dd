// SPDX-License-Identifier: Apache-2.0
// Chain: the frames of transform | quantise | repair | pack, encoded and decoded by one text for every device.
//
// Frame: the sections of the transforms, in order | section of the quantiser | section of the repair | packed codes.
// All sections have exact lengths; only the packed codes may differ in length from frame to frame.
#pragma once

#include "kernels/frame_coder.h"
#include "kernels/number_formats.h"
#include "kernels/stages/list.h"

namespace kvasir {

inline constexpr uint32_t kTransformsMax = 6;
inline constexpr float kChainInputMax = 65504.0f;  ///< the largest fp16; inputs beyond saturate, NaN counts as 0

/// A chain, as plain data.
struct ChainPlan {
  StageCall transforms[kTransformsMax];
  uint32_t transform_count = 0;
  StageCall quantiser;
  StageCall repair;
  bool repaired = false;
  StageCall packer;
};

/// Where the parts of a frame lie.
struct ChainLayout {
  uint64_t transform_at[kTransformsMax] = {};
  uint64_t quantiser_at = 0;
  uint64_t repair_at = 0;
  uint64_t packed_at = 0;
  uint64_t packed_max = 0;
  CodeWidth width;         ///< without row_bits
  uint64_t upper_max = 0;  ///< packed bytes of the upper bits, where the lower may be missing; else 0
  uint64_t spare_floats = 0;
  uint64_t max_bytes() const { return packed_at + packed_max; }
};

/// Room the coder needs for one frame.
struct ChainRoom {
  float* rows = nullptr;     ///< elements
  float* lost = nullptr;     ///< elements; only when repaired
  float* spare = nullptr;    ///< spare_floats
  uint8_t* codes = nullptr;  ///< elements
};

/// Runs stage `call` of the list through `use`, a template over the stage with its Args.
template <class Use>
void WithStage(const StageCall& call, Use&& use) {
  AllStages::With(call.stage, [&]<class S>() {
    typename S::Args args;
    memcpy(&args, call.args, sizeof args);
    use.template operator()<S>(args);
  });
}

/// The bits of each row, of quantisers whose rows differ.
template <class S>
const uint8_t* RowBitsOf([[maybe_unused]] const typename S::Args& args, [[maybe_unused]] const uint8_t* section) {
  if constexpr (requires { S::RowBits(args, section); }) {
    return S::RowBits(args, section);
  } else {
    return nullptr;
  }
}

/// True when `run` has a body of its own for a step of stage S and has run it: run.Body(step, S(), args...), which may
/// answer false. The plain bodies then write all of it.
template <class S, class Step, class Run, class... Rest>
bool RanItself([[maybe_unused]] Run& run, [[maybe_unused]] Step step, [[maybe_unused]] const Rest&... rest) {
  if constexpr (requires { run.Body(step, S(), rest...); }) {
    return run.Body(step, S(), rest...);
  } else {
    return false;
  }
}
namespace step {
struct Forward {};
struct Inverse {};
struct Quantise {};
struct Dequantise {};
struct Pack {};
struct Unpack {};
struct Load {};   ///< of ElementsOfChain: elements to rows, bounded
struct Store {};  ///< and back
}  // namespace step
struct ElementsOfChain {};

ChainLayout LayOutChain(const ChainPlan& plan, const FrameShape& shape);
/// The stages of the chain fit each other. kInvalidArgument says which does not, and the cure.
Result<bool> CheckPlan(const ChainPlan& plan);
/// Every stage of the chain takes such a frame.
Result<bool> CheckChain(const ChainPlan& plan, const FrameShape& shape);
/// The coder of this chain, with SIMD bodies where it has any.
std::shared_ptr<const FrameCoder> MakeChainCoder(const ChainPlan& plan);

/// The element a chain sees.
KVASIR_HD inline float ChainInput(float x) {
  if (!(x == x)) return 0.0f;
  return x > kChainInputMax ? kChainInputMax : x < -kChainInputMax ? -kChainInputMax : x;
}

/// Dense elements to a frame. The frame's length is layout.packed_at + frame.outcome->packed_bytes.
template <class Run>
void EncodeChain(Run& run, const ChainPlan& plan, const ChainLayout& layout, ChainFrame frame, const uint8_t* dense,
                 uint8_t* out, const ChainRoom& room) {
  const ElementType type = frame.shape.element;
  const uint32_t size = ElementBytes(type);
  const uint64_t elements = frame.shape.elements();
  float* rows = room.rows;
  if (!RanItself<ElementsOfChain>(run, step::Load(), frame, dense, rows)) {
    run(elements, [=] KVASIR_HD(uint64_t i) { rows[i] = ChainInput(LoadElement(type, dense + i * size)); });
  }
  for (uint32_t t = 0; t < plan.transform_count; ++t) {
    WithStage(plan.transforms[t], [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kTransform) {
        uint8_t* section = out + layout.transform_at[t];
        if (!RanItself<S>(run, step::Forward(), args, frame, rows, section))
          S::Forward(run, args, frame, rows, section);
      }
    });
  }
  CodeWidth width = layout.width;
  WithStage(plan.quantiser, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kQuantiser) {
      uint8_t* section = out + layout.quantiser_at;
      if (!RanItself<S>(run, step::Quantise(), args, frame, rows, section, room.codes)) {
        S::Quantise(run, args, frame, rows, section, room.codes);
      }
      if (plan.repaired && !RanItself<S>(run, step::Dequantise(), args, frame, section, room.codes, room.lost)) {
        S::Dequantise(run, args, frame, section, room.codes, room.lost);
      }
      width.row_bits = RowBitsOf<S>(args, section);
    }
  });
  if (plan.repaired) {
    float* lost = room.lost;
    run(elements, [=] KVASIR_HD(uint64_t i) { lost[i] = rows[i] - lost[i]; });
    WithStage(plan.repair, [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kRepair) S::Fit(run, args, frame, lost, out + layout.repair_at);
    });
  }
  WithStage(plan.packer, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kPacker) {
      uint8_t* packed = out + layout.packed_at;
      if (!RanItself<S>(run, step::Pack(), args, width, frame, room.codes, packed)) {
        S::Pack(run, args, width, frame, room.codes, packed);
      }
    }
  });
}

/// A frame to dense elements. REQUIRES: bytes >= layout.packed_at. Sets a fault in frame.outcome where the bytes are no
/// frame; `dense` is then unspecified.
template <class Run>
void DecodeChain(Run& run, const ChainPlan& plan, const ChainLayout& layout, ChainFrame frame, const uint8_t* in,
                 uint64_t bytes, uint8_t* dense, const ChainRoom& room) {
  float* rows = room.rows;
  const uint64_t packed = bytes - layout.packed_at;
  CodeWidth width = layout.width;
  WithStage(plan.quantiser, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kQuantiser) width.row_bits = RowBitsOf<S>(args, in + layout.quantiser_at);
  });
  if (layout.upper_max > 0 && packed == layout.upper_max) frame.missing_bits = width.lower;
  WithStage(plan.packer, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kPacker) {
      const uint8_t* from = in + layout.packed_at;
      const uint32_t length = static_cast<uint32_t>(packed);
      if (!RanItself<S>(run, step::Unpack(), args, width, frame, from, length, room.codes)) {
        S::Unpack(run, args, width, frame, from, length, room.codes);
      }
    }
  });
  WithStage(plan.quantiser, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kQuantiser) {
      const uint8_t* section = in + layout.quantiser_at;
      if (!RanItself<S>(run, step::Dequantise(), args, frame, section, room.codes, rows)) {
        S::Dequantise(run, args, frame, section, room.codes, rows);
      }
    }
  });
  if (plan.repaired) {
    WithStage(plan.repair, [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kRepair) S::Add(run, args, frame, in + layout.repair_at, rows);
    });
  }
  for (uint32_t t = plan.transform_count; t-- > 0;) {
    WithStage(plan.transforms[t], [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kTransform) {
        const uint8_t* section = in + layout.transform_at[t];
        if (!RanItself<S>(run, step::Inverse(), args, frame, section, rows))
          S::Inverse(run, args, frame, section, rows);
      }
    });
  }
  const ElementType type = frame.shape.element;
  const uint32_t size = ElementBytes(type);
  if (RanItself<ElementsOfChain>(run, step::Store(), frame, rows, dense)) return;
  ChainOutcome* outcome = frame.outcome;
  run(frame.shape.elements(), [=] KVASIR_HD(uint64_t i) {
    const float x = rows[i];
    const bool finite = x - x == 0.0f;
    if (!finite) SetFault(outcome);  // no encoder writes parameters that lead here
    StoreElement(type, finite ? x : 0.0f, dense + i * size);
  });
}

}  // namespace kvasir
