// SPDX-License-Identifier: Apache-2.0
// RowsCoder: frames whose rows have classes: some exact, some kept, some demoted, some not there.
//
// Frame: flags u8 | class map, 2 bits a row, [heads][tokens], four rows a byte (flag 1) | weights fp32 [stored rows][2]
// (flag 2) | lengths u32 [heads][3] (flag 1): exact, kept, demoted rows of the head | their frames, each [1][n][dim].
// Without flag 1 all rows are kept rows, and one frame [heads][tokens][dim] follows. Rows of one class and head are
// coded as a frame of their own, in the order of the tokens.
#pragma once

#include <memory>

#include "kernels/frame_coder.h"
#include "kernels/stages/q_int.h"

namespace kvasir {

struct RowsCoderOptions {
  std::shared_ptr<const FrameCoder> kept;
  std::shared_ptr<const FrameCoder> demoted;  ///< null: what is not kept is dropped
  uint32_t sink_tokens = 0;                   ///< exact without being told so by a selection
  bool selects = false;                       ///< classes must be brought
};

/// How rows of one class are coded.
struct RowsWay {
  bool raw = true;
  IntSpec integer;  ///< unless raw
};

/// A RowsCoder whose rows go raw or through Q:int, as plain data: for devices that find the classes of a frame
/// themselves. Exact rows go raw.
struct RowsPlan {
  RowsWay kept, demoted;
  bool demotes = false;
  uint32_t sink_tokens = 0;
};

class RowsCoder final : public FrameCoder {
 public:
  explicit RowsCoder(RowsCoderOptions options);

  bool lossless() const override { return false; }
  DeviceCoder device_coder() const override;
  Result<bool> Check(const FrameShape& shape) const override;
  Result<bool> CheckInputs(const FrameInputs& inputs) const override;
  uint64_t MaxFrameBytes(const FrameShape& shape) const override;
  std::vector<FrameSection> Sections(const FrameShape& shape) const override;
  uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>& scratch,
                  Destination destination, const FrameInputs& inputs) const override;
  /// kDataLoss for a frame that lacks rows.
  Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                      std::vector<std::byte>& scratch, Destination destination) const override;
  Result<StoredRows> Rows(const FrameShape& shape, std::span<const uint8_t> frame) const override;
  Result<bool> DecodeRows(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* rows,
                          std::vector<std::byte>& scratch) const override;

  // For devices that code the rows of each class by themselves.

  /// The coder of the rows of a stored class.
  const FrameCoder* CoderOf(RowClass of) const;
  /// What becomes of each row [heads][tokens].
  std::vector<RowClass> ClassesOf(const FrameShape& shape, const FrameInputs& inputs) const;
  /// Writes flags, map and weights; returns their bytes. Lengths [heads][3], unless no row is mixed, and the frames of
  /// the classes follow.
  static uint64_t WriteHead(const FrameShape& shape, std::span<const RowClass> classes, const FrameInputs& inputs,
                            uint8_t* out);
  static bool Mixed(std::span<const RowClass> classes);
  /// A frame's parts, checked but for the frames of the classes.
  struct Parts {
    std::vector<RowClass> classes;  ///< [heads][tokens]
    std::vector<uint32_t> lengths;  ///< [heads][3]: exact, kept, demoted; empty: all rows are one kept frame
    std::span<const uint8_t> frames;
  };
  Result<Parts> Read(const FrameShape& shape, std::span<const uint8_t> frame) const;

 private:
  struct Opened;  // a frame's parts, checked
  Result<Opened> Open(const FrameShape& shape, std::span<const uint8_t> frame) const;
  Result<bool> DecodeClasses(const FrameShape& shape, const Opened& opened, const StoredRows& stored, bool compact,
                             uint8_t* out, std::vector<std::byte>& scratch) const;

  const RowsCoderOptions options_;
  const std::shared_ptr<const FrameCoder> exact_;
  RowsPlan plan_;
  bool planned_ = false;  ///< the plan tells all
};

}  // namespace kvasir
