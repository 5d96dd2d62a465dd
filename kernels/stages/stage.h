// SPDX-License-Identifier: Apache-2.0
// Stage: one line of the table of stages, and FrameCoder: what a chain of stages for one tensor becomes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/stages/q_int.h"

namespace kvasir {

/// What a chain does, for a device that has its own launchers of the same bodies.
struct DeviceCoder {
  enum class Kind : uint8_t { kNone, kRaw, kInt, kSplitExp };
  Kind kind = Kind::kNone;  ///< kNone: only the CPU has it
  IntSpec integer;          ///< of kInt
};

/// Turns the dense elements of one frame into bytes and back. Immutable; any number of threads at once.
/// REQUIRES of Encode and Decode: Check passed for that shape, the dense span has shape.bytes() bytes, and the calling
/// thread is in the default floating-point environment (round to nearest even, no flush to zero).
class FrameCoder {
 public:
  virtual ~FrameCoder() = default;
  virtual bool lossless() const = 0;
  virtual DeviceCoder device_coder() const = 0;
  virtual Result<bool> Check(const FrameShape& shape) const = 0;
  virtual uint64_t MaxFrameBytes(const FrameShape& shape) const = 0;
  /// Returns the bytes written, at most MaxFrameBytes.
  virtual uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>& scratch,
                          Destination destination) const = 0;
  /// kDataLoss for bytes Encode cannot have written; `dense` is then unspecified, nothing outside it was touched.
  virtual Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                              std::vector<std::byte>& scratch, Destination destination) const = 0;
};

/// What a stage does to its input decides what may stand before it.
enum class StageRole : uint8_t {
  kCoder,      ///< elements to bytes: the whole chain
  kQuantiser,  ///< elements to codes: needs a packer after it
  kPacker,     ///< codes to bytes: needs a quantiser before it
};

/// One argument of a stage in a spec, and where it began.
struct SpecArgument {
  std::string_view text;
  uint32_t position = 0;
};

/// A stage with its arguments read.
struct StageInstance {
  std::string canonical_arguments;          ///< as printed between the parentheses; empty = none are printed
  std::shared_ptr<const FrameCoder> coder;  ///< of the chain that this stage begins; null for a packer
};

struct Stage {
  StageInfo info;
  StageRole role;
  /// Reads the arguments; `position` is where the stage stands in the spec. kInvalidArgument names position and cure.
  Result<StageInstance> (*make)(std::span<const SpecArgument> arguments, uint32_t position);
};

/// The one table of stages (stages/table.cc).
std::span<const Stage> StageTable();

Result<StageInstance> MakeRaw(std::span<const SpecArgument> arguments, uint32_t position);
Result<StageInstance> MakeSplitExp(std::span<const SpecArgument> arguments, uint32_t position);
Result<StageInstance> MakeInt(std::span<const SpecArgument> arguments, uint32_t position);
Result<StageInstance> MakeBits(std::span<const SpecArgument> arguments, uint32_t position);

/// "codec spec, position 4: met 'x'; allowed here: y"
Error SpecError(uint32_t position, std::string_view met, std::string_view allowed);
/// The number in `argument`, at most `max`.
Result<uint32_t> SpecNumber(const SpecArgument& argument, uint32_t max, std::string_view meaning);
/// Fails unless there are none.
Result<bool> NoArguments(std::string_view stage, std::span<const SpecArgument> arguments);

}  // namespace kvasir
