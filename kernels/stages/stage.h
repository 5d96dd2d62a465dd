// SPDX-License-Identifier: Apache-2.0
// Stage: one step of a codec spec. A stage is one header, stages/<letter>_<name>.h, with one struct of static members,
// and one line in stages/list.h; from these the parser, the CPU coder and the CUDA coder are made.
//
//   struct HadStage {
//     struct Args { ... };                          // plain data, at most kStageArgsBytes: goes to the device as it is
//     static constexpr StageRole kRole = StageRole::kTransform;
//     static constexpr StageInfo kInfo = {"T", "had", "had[(width)]", "what it does (title, arXiv number)"};
//     static Result<Args> Read(const StageArguments& in);        // a refusal names position and cure
//     static std::string Print(const Args& args);                // canonical; Read of it gives the same Args
//     static Result<bool> Check(const Args&, const FrameShape&); // may this frame be coded so
//     static Result<bool> CheckInputs(const Args&, const FrameInputs&);  // what the engine must bring; may be left out
//     static uint64_t SpareFloats(const Args&, const FrameShape&);  // room in frame.spare it asks for; may be left out
//     ...and what its role asks for, below
//   };
//
// What a stage computes it computes as bodies: `run(items, body)` calls body(i) for every i < items, in any order or at
// once; on the CPU in a loop, on a GPU as a kernel. A body is a lambda [=] KVASIR_HD (uint64_t i) over plain pointers
// that writes nothing another item reads. All arithmetic is float32, each operation rounded once, in a stated order:
// that makes every device give the same bits.
//
//   kTransform  rows to rows. T (and what R keeps exactly): before the quantiser
//       SectionBytes(args, shape)                                  bytes its inverse needs, exactly
//       Forward(run, args, frame, float* x, uint8_t* section)      changes x, fills the section
//       Inverse(run, args, frame, const uint8_t* section, float* x)
//   kQuantiser  rows to codes of at most 8 bits, one byte each, [heads][tokens][dim]
//       CodeBits(args), SectionBytes(args, shape)
//       Quantise(run, args, frame, const float* x, uint8_t* section, uint8_t* codes)
//       Dequantise(run, args, frame, const uint8_t* section, const uint8_t* codes, float* x)
//       LowerBits(args)                   only where the upper bits of a code stand alone; see ChainFrame::missing_bits
//       RowBits(args, const uint8_t* section)    only where rows differ: a byte a row, its bits, at most CodeBits
//   kRepair     what the quantiser lost, brought back in part
//       SectionBytes(args, shape)
//       Fit(run, args, frame, float* lost, uint8_t* section)       may use up `lost`
//       Add(run, args, frame, const uint8_t* section, float* x)
//   kPacker     codes to bytes, the last of the frame
//       MaxBytes(args, width, shape)
//       Pack(run, args, width, frame, const uint8_t* codes, uint8_t* out)        sets frame.outcome->packed_bytes
//       Unpack(run, args, width, frame, const uint8_t* in, uint32_t bytes, uint8_t* codes)
//       UpperBytes(args, width, shape)    only where a frame may end before the lower bits: the bytes up to there
//   kCoder      elements to bytes in one step, with a FrameCoder of its own: Coder(args)
//
// Bodies that meet bytes no encoder writes call SetFault and go on within bounds.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kernels/codec.h"
#include "kernels/portable.h"

namespace kvasir {

enum class StageRole : uint8_t {
  kTransform,
  kQuantiser,
  kRepair,
  kPacker,
  kCoder,
  // Of the whole chain, on the CPU: see select_stage.h.
  kBudget,
  kScorer,
  kReshape,
  kMerge,
  kExempt,
  kExtent,
};

inline constexpr uint32_t kStageArgsBytes = 32;  ///< the Args of a stage fit into this
inline constexpr uint32_t kGroupMax = 65536;     ///< tokens or channels that share parameters

/// A stage with its arguments, as plain data.
struct StageCall {
  uint32_t stage = 0;  ///< index in AllStages
  alignas(8) std::byte args[kStageArgsBytes] = {};
};

/// What bodies report.
struct ChainOutcome {
  uint32_t packed_bytes = 0;
  uint32_t fault = 0;  ///< not 0: these bytes are no frame
};

KVASIR_HD inline void SetFault(ChainOutcome* outcome) {
#if defined(__CUDA_ARCH__)
  atomicExch(&outcome->fault, 1u);
#else
  outcome->fault = 1;
#endif
}

/// What a body does with the values of its row.
enum class RowUse : uint8_t { kRead, kWrite, kChange };

/// A body of RunRows and one of RunCells, as `run` takes them.
template <class Float, class Body>
struct RowItem {
  Float* x;
  uint32_t count;
  Body body;
  KVASIR_HD void operator()(uint64_t row) const { body(row, x + row * count); }
};
template <class Body>
struct CellsItem {
  uint32_t count;
  Body body;
  KVASIR_HD void operator()(uint64_t row) const {
    for (uint32_t i = 0; i < count; ++i) body(row, i);
  }
};

/// body(row, at) for every row of `count` values: value i of the row is at[i], and nothing else of `x` may be touched.
template <RowUse kUse, class Run, class Float, class Body>
void RunRows(Run& run, uint64_t rows, uint32_t count, Float* x, const Body& body) {
  if constexpr (requires { run.template Rows<kUse>(rows, count, x, body); }) {
    run.template Rows<kUse>(rows, count, x, body);
  } else {
    run(rows, RowItem<Float, Body>{x, count, body});
  }
}

/// body(row, i) for every row and every i < count.
template <class Run, class Body>
void RunCells(Run& run, uint64_t rows, uint32_t count, const Body& body) {
  if constexpr (requires { run.Cells(rows, count, body); }) {
    run.Cells(rows, count, body);
  } else {
    run(rows, CellsItem<Body>{count, body});
  }
}

/// How wide the codes of a chain are.
struct CodeWidth {
  uint32_t bits = 8;                  ///< of a code, at most
  uint32_t lower = 0;                 ///< of these the lower ones, which may be left out; 0 = none may
  const uint8_t* row_bits = nullptr;  ///< [heads][tokens] bits of each row; null = all rows have `bits`
};

/// The frame at hand, as all stages see it. Pointers are memory of the device that runs the bodies.
struct ChainFrame {
  FrameShape shape;
  float* spare = nullptr;           ///< room for SpareFloats() of every stage, one stage at a time
  ChainOutcome* outcome = nullptr;  ///< of this frame
  FrameInputs inputs;               ///< what the engine brought; all null when decoding
  uint32_t missing_bits = 0;        ///< decoding: lower bits that are not there, zero in the codes
  KVASIR_HD uint64_t rows() const { return uint64_t{shape.heads} * shape.tokens; }
};

/// One argument of a stage in a spec, and where it began.
struct SpecArgument {
  std::string_view text;
  uint32_t position = 0;
};

/// A number of tokens, or a share of them, as an argument gives it.
struct TokenAmount {
  uint32_t tokens = 0;
  uint32_t millionths = 0;  ///< of the tokens; used where `tokens` is 0
  /// Rounded to the nearest token, at most `of`.
  uint32_t Of(uint32_t of) const {
    const uint64_t amount = tokens > 0 ? tokens : (uint64_t{millionths} * of + 500000) / 1000000;
    return amount < of ? static_cast<uint32_t>(amount) : of;
  }
};

/// The arguments of a stage as written. Every reader refuses with the position, what was met and what may stand there.
class StageArguments {
 public:
  StageArguments(std::string_view usage, std::span<const SpecArgument> arguments, uint32_t position)
      : usage_(usage), arguments_(arguments), position_(position) {}

  /// Fails unless there are between `least` and `most` of them.
  Result<bool> Count(size_t least, size_t most) const;
  bool Has(size_t index) const { return index < arguments_.size(); }
  /// A whole number in [least, most]; `absent` where the argument was left out.
  Result<uint32_t> Number(size_t index, uint32_t absent, uint32_t least, uint32_t most, std::string_view meaning) const;
  /// A decimal fraction in [0, 1], in millionths.
  Result<uint32_t> Share(size_t index, uint32_t absent, std::string_view meaning) const;
  /// A whole number of tokens ("256"), or a fraction of them with a decimal point ("0.25").
  Result<TokenAmount> Amount(size_t index, std::string_view meaning) const;
  /// The index of the word among `words`.
  Result<uint32_t> Word(size_t index, uint32_t absent, std::span<const std::string_view> words,
                        std::string_view meaning) const;
  /// "drop" (0, also where it was left out) or "demote" (1): what becomes of tokens that are not kept.
  Result<uint32_t> Action(size_t index) const { return Word(index, 0, {{"drop", "demote"}}, "action"); }
  Error Refuse(size_t index, std::string_view allowed) const;

 private:
  const std::string_view usage_;
  const std::span<const SpecArgument> arguments_;
  const uint32_t position_;
};

/// 20000 millionths as "0.02": what Share reads back.
std::string PrintShare(uint32_t millionths);
std::string PrintAmount(const TokenAmount& amount);

/// The engine did not bring what a stage needs.
Error MissingInput(std::string_view stage, std::string_view input);

/// "codec spec, position 4: met 'x'; allowed here: y"
Error SpecError(uint32_t position, std::string_view met, std::string_view allowed);

}  // namespace kvasir
