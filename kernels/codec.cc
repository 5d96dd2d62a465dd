// SPDX-License-Identifier: Apache-2.0
// Codec: reads a spec into a chain of stages for each tensor, prints the canonical form, and guards the two coders.
#include "kernels/codec.h"

#include "kernels/frame_directory.h"
#include "kernels/portable.h"
#include "kernels/spec.h"
#include "kernels/stages/stage.h"

namespace kvasir {
namespace {

/// The chain of one tensor while a spec is compiled.
struct Chain {
  std::shared_ptr<const FrameCoder> coder;
  bool packed = false;
};

class TwoCoderCodec final : public Codec {
 public:
  TwoCoderCodec(std::string spec, std::shared_ptr<const FrameCoder> key, std::shared_ptr<const FrameCoder> value)
      : spec_(std::move(spec)), key_(std::move(key)), value_(std::move(value)) {}

  const std::string& spec() const override { return spec_; }
  const FrameCoder& coder(KvTensor tensor) const override { return tensor == KvTensor::kKey ? *key_ : *value_; }
  bool lossless() const override { return key_->lossless() && value_->lossless(); }

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
                  std::vector<std::byte>& scratch, Destination destination) const override {
    KERNELS_CHECK(dense.size() == shape.bytes());
    const uint64_t max = MaxFrameBytes(tensor, shape);
    KERNELS_CHECK(out.size() >= max);
    const uint64_t written = coder(tensor).Encode(shape, reinterpret_cast<const uint8_t*>(dense.data()),
                                                  reinterpret_cast<uint8_t*>(out.data()), scratch, destination);
    KERNELS_CHECK(written <= max);
    return written;
  }

  Result<bool> Decode(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> frame,
                      std::span<std::byte> dense, std::vector<std::byte>& scratch,
                      Destination destination) const override {
    KERNELS_CHECK(dense.size() == shape.bytes());
    return coder(tensor).Decode(shape, {reinterpret_cast<const uint8_t*>(frame.data()), frame.size()},
                                reinterpret_cast<uint8_t*>(dense.data()), scratch, destination);
  }

 private:
  const std::string spec_;
  const std::shared_ptr<const FrameCoder> key_, value_;  // shared: one coder may serve both tensors
};

/// Adds one stage to the chain of each tensor it names. `chains` is {K, V}.
Result<bool> Append(const SpecStage& parsed, const Stage& stage, const StageInstance& instance, Chain (&chains)[2]) {
  bool used = false;
  for (int tensor = 0; tensor < 2; ++tensor) {
    if ((parsed.tensors & (1u << tensor)) == 0) continue;
    Chain& chain = chains[tensor];
    if (stage.role == StageRole::kPacker) {
      if (chain.coder == nullptr || chain.packed) continue;
      chain.packed = used = true;
      continue;
    }
    if (chain.coder != nullptr) {
      return SpecError(parsed.position, parsed.name,
                       std::string("nothing more for ") + (tensor == 0 ? "k" : "v") + ", it has its coder already");
    }
    chain.coder = instance.coder;
    chain.packed = stage.role == StageRole::kCoder;
    used = true;
  }
  if (!used) return SpecError(parsed.position, parsed.name, "a quantiser such as int(8,tok) before a packer");
  return true;
}

std::string Print(const SpecStage& parsed, const Stage& stage, const StageInstance& instance) {
  std::string text = parsed.tensors == kSpecKey ? "k:" : parsed.tensors == kSpecValue ? "v:" : "";
  text.append(stage.info.letter).append(":").append(stage.info.name);
  if (!instance.canonical_arguments.empty()) text.append("(").append(instance.canonical_arguments).append(")");
  return text;
}

}  // namespace

Result<std::shared_ptr<const Codec>> Codec::Parse(std::string_view spec) {
  const Result<std::vector<SpecStage>> parsed = ParseSpec(spec);
  if (!parsed.ok()) return parsed.error();
  Chain chains[2];
  std::string canonical;
  for (const SpecStage& item : *parsed) {
    const Result<const Stage*> stage = FindStage(item);
    if (!stage.ok()) return stage.error();
    const Result<StageInstance> instance = (*stage)->make(item.arguments, item.position);
    if (!instance.ok()) return instance.error();
    if (Result<bool> added = Append(item, **stage, *instance, chains); !added.ok()) return added.error();
    if (!canonical.empty()) canonical += '|';
    canonical += Print(item, **stage, *instance);
  }
  const uint32_t end = static_cast<uint32_t>(spec.size());
  for (int tensor = 0; tensor < 2; ++tensor) {
    if (chains[tensor].coder == nullptr) {
      return SpecError(end, "the end",
                       tensor == 0 ? "|k: and a stage, keys have none" : "|v: and a stage, values have none");
    }
  }
  if (!chains[0].packed || !chains[1].packed) canonical += "|P:bits";
  if (canonical.size() > kSpecBytesMax) {
    return SpecError(end, "a canonical form of " + std::to_string(canonical.size()) + " bytes",
                     "at most " + std::to_string(kSpecBytesMax));
  }
  return std::shared_ptr<const Codec>(
      std::make_shared<TwoCoderCodec>(std::move(canonical), chains[0].coder, chains[1].coder));
}

uint64_t MaxFrameAreaBytes(const Codec& codec, const KvLayout& layout, const PartGeometry& part) {
  uint64_t layer = AlignFrame(codec.MaxFrameBytes(KvTensor::kKey, ShapeOfFrame(layout, part, KvTensor::kKey)));
  if (!layout.latent()) {
    layer += AlignFrame(codec.MaxFrameBytes(KvTensor::kValue, ShapeOfFrame(layout, part, KvTensor::kValue)));
  }
  return layer * part.layers;
}

}  // namespace kvasir
