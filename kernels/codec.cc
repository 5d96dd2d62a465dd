// SPDX-License-Identifier: Apache-2.0
// Codec: the two coders of a compiled spec, and the guards around them.
#include "kernels/codec.h"

#include <algorithm>

#include "kernels/frame_coder.h"
#include "kernels/frame_directory.h"
#include "kernels/portable.h"
#include "kernels/spec_compiler.h"

namespace kvasir {
namespace {

class TwoCoderCodec final : public Codec {
 public:
  explicit TwoCoderCodec(CompiledSpec compiled) : compiled_(std::move(compiled)) {}

  const std::string& spec() const override { return compiled_.canonical; }
  const FrameCoder& coder(KvTensor tensor) const override {
    return tensor == KvTensor::kKey ? *compiled_.key : *compiled_.value;
  }
  std::span<const StageUse> stages() const override { return compiled_.stages; }
  std::vector<FrameSection> Sections(KvTensor tensor, const FrameShape& shape) const override {
    return coder(tensor).Sections(shape);
  }
  const SelectionSpec* selection() const override {
    return compiled_.selection.selects() ? &compiled_.selection : nullptr;
  }
  bool drops() const override { return compiled_.selection.selects() && !compiled_.selection.demote; }
  Result<bool> CheckInputs(KvTensor tensor, const FrameInputs& inputs) const override {
    return coder(tensor).CheckInputs(inputs);
  }
  bool lossless() const override { return compiled_.key->lossless() && compiled_.value->lossless(); }
  uint32_t planes() const override { return std::max(compiled_.key->planes(), compiled_.value->planes()); }

  uint64_t PlaneEnd(KvTensor tensor, const FrameShape& shape, uint32_t plane) const override {
    const FrameCoder& of = coder(tensor);
    return of.PlaneEnd(shape, std::min(plane, of.planes() - 1));
  }

  Result<bool> Check(KvTensor tensor, const FrameShape& shape) const override {
    if (ElementBytes(shape.element) == 0) {
      return Error{ErrorCode::kInvalidArgument,
                   "frame shape: element type " + std::to_string(static_cast<int>(shape.element)) + " is unknown"};
    }
    if (shape.heads == 0 || shape.tokens == 0 || shape.dim == 0) {
      return Error{ErrorCode::kInvalidArgument, "frame shape: heads, tokens and dim must each be at least 1"};
    }
    // Each factor is checked before the product can wrap.
    const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
    if (rows > kFrameBytesMax || rows * shape.dim > kFrameBytesMax / 4) {
      return Error{ErrorCode::kInvalidArgument,
                   "frame shape: more than " + std::to_string(kFrameBytesMax / 4) + " elements; use smaller parts"};
    }
    if (Result<bool> checked = coder(tensor).Check(shape); !checked.ok()) return checked;
    if (MaxFrameBytes(tensor, shape) > kFrameBytesMax) {
      return Error{ErrorCode::kInvalidArgument,
                   "frame shape: a frame could pass " + std::to_string(kFrameBytesMax) + " bytes; use smaller parts"};
    }
    return true;
  }

  uint64_t MaxFrameBytes(KvTensor tensor, const FrameShape& shape) const override {
    return coder(tensor).MaxFrameBytes(shape);
  }

  uint64_t Encode(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> dense, std::span<std::byte> out,
                  std::vector<std::byte>& scratch, Destination destination, const FrameInputs& inputs) const override {
    KERNELS_CHECK(dense.size() == shape.bytes());
    const uint64_t max = MaxFrameBytes(tensor, shape);
    KERNELS_CHECK(out.size() >= max);
    const uint64_t written = coder(tensor).Encode(shape, reinterpret_cast<const uint8_t*>(dense.data()),
                                                  reinterpret_cast<uint8_t*>(out.data()), scratch, destination, inputs);
    KERNELS_CHECK(written <= max);
    return written;
  }

  Result<bool> Decode(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> frame,
                      std::span<std::byte> dense, std::vector<std::byte>& scratch,
                      Destination destination) const override {
    KERNELS_CHECK(dense.size() == shape.bytes());
    if (drops()) {
      return Error{ErrorCode::kInvalidArgument,
                   "a view that drops tokens has no dense form: fetch it into head extents, or fetch the full view"};
    }
    return coder(tensor).Decode(shape, {reinterpret_cast<const uint8_t*>(frame.data()), frame.size()},
                                reinterpret_cast<uint8_t*>(dense.data()), scratch, destination);
  }

  Result<StoredRows> Rows(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> frame) const override {
    return coder(tensor).Rows(shape, {reinterpret_cast<const uint8_t*>(frame.data()), frame.size()});
  }

  Result<bool> DecodeRows(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> frame,
                          std::span<std::byte> rows, std::vector<std::byte>& scratch) const override {
    const Result<StoredRows> stored = Rows(tensor, shape, frame);
    if (!stored.ok()) return stored.error();
    KERNELS_CHECK(rows.size() == stored->slots.size() * shape.dim * ElementBytes(shape.element));
    return coder(tensor).DecodeRows(shape, {reinterpret_cast<const uint8_t*>(frame.data()), frame.size()},
                                    reinterpret_cast<uint8_t*>(rows.data()), scratch);
  }

 private:
  const CompiledSpec compiled_;
};

}  // namespace

Result<std::shared_ptr<const Codec>> Codec::Parse(std::string_view spec) {
  Result<CompiledSpec> compiled = CompileSpec(spec);
  if (!compiled.ok()) return compiled.error();
  return std::shared_ptr<const Codec>(std::make_shared<TwoCoderCodec>(std::move(*compiled)));
}

uint64_t MaxFrameAreaBytes(const Codec& codec, const KvLayout& layout, const PartGeometry& part) {
  uint64_t layer = AlignFrame(codec.MaxFrameBytes(KvTensor::kKey, ShapeOfFrame(layout, part, KvTensor::kKey)));
  if (!layout.latent()) {
    layer += AlignFrame(codec.MaxFrameBytes(KvTensor::kValue, ShapeOfFrame(layout, part, KvTensor::kValue)));
  }
  return layer * part.layers;
}

}  // namespace kvasir
