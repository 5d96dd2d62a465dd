// SPDX-License-Identifier: Apache-2.0
// FrameCoder: what a chain of stages becomes for one tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/codec.h"

namespace kvasir {

struct ChainPlan;  // kernels/chain.h
struct IntSpec;    // kernels/stages/q_int.h
struct RowsPlan;   // kernels/rows_coder.h
class RowsCoder;

/// What a coder does, for a device that has its own launchers of the same bodies. The pointers live as long as the
/// coder.
struct DeviceCoder {
  enum class Kind : uint8_t { kNone, kRaw, kInt, kSplitExp, kSplitAns, kChain, kRows, kRowsOfStages };
  Kind kind = Kind::kNone;             ///< kNone: only the CPU has it
  const IntSpec* integer = nullptr;    ///< of kInt
  const ChainPlan* chain = nullptr;    ///< of kChain
  const RowsPlan* rows = nullptr;      ///< of kRows
  const RowsCoder* classes = nullptr;  ///< of kRowsOfStages: rows go through coders that have bodies themselves
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
  virtual Result<bool> CheckInputs(const FrameInputs&) const { return true; }
  virtual uint64_t MaxFrameBytes(const FrameShape& shape) const = 0;
  /// See Codec.
  virtual std::vector<FrameSection> Sections(const FrameShape& shape) const {
    return {{"elements", MaxFrameBytes(shape)}};
  }
  virtual uint32_t planes() const { return 1; }
  virtual uint64_t PlaneEnd(const FrameShape& shape, uint32_t) const { return MaxFrameBytes(shape); }
  /// Returns the bytes written, at most MaxFrameBytes.
  virtual uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>& scratch,
                          Destination destination, const FrameInputs& inputs) const = 0;
  /// kDataLoss for bytes Encode cannot have written; `dense` is then unspecified, nothing outside it was touched.
  virtual Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                              std::vector<std::byte>& scratch, Destination destination) const = 0;
  /// See Codec: by default every row is there.
  virtual Result<StoredRows> Rows(const FrameShape& shape, std::span<const uint8_t> frame) const;
  virtual Result<bool> DecodeRows(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* rows,
                                  std::vector<std::byte>& scratch) const {
    return Decode(shape, frame, rows, scratch, Destination::kCache);
  }
};

}  // namespace kvasir
