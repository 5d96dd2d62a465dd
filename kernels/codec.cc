// SPDX-License-Identifier: Apache-2.0
// Codec: reads a spec into a chain of stages for each tensor, prints the canonical form, and guards the two coders.
#include "kernels/codec.h"

#include <algorithm>

#include "kernels/chain.h"
#include "kernels/frame_directory.h"
#include "kernels/spec.h"
#include "kernels/stages/table.h"

namespace kvasir {
namespace {

/// The chain of one tensor while a spec is compiled.
struct Chain {
  ChainPlan plan;
  bool quantised = false;
  bool packed = false;
  std::shared_ptr<const FrameCoder> coder;  ///< of a stage that is the whole chain

  bool empty() const { return coder == nullptr && !quantised && plan.transform_count == 0; }
};

class TwoCoderCodec final : public Codec {
 public:
  TwoCoderCodec(std::string spec, std::shared_ptr<const FrameCoder> key, std::shared_ptr<const FrameCoder> value)
      : spec_(std::move(spec)), key_(std::move(key)), value_(std::move(value)) {}

  const std::string& spec() const override { return spec_; }
  const FrameCoder& coder(KvTensor tensor) const override { return tensor == KvTensor::kKey ? *key_ : *value_; }
  bool lossless() const override { return key_->lossless() && value_->lossless(); }
  uint32_t planes() const override { return std::max(key_->planes(), value_->planes()); }

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
    return coder(tensor).Decode(shape, {reinterpret_cast<const uint8_t*>(frame.data()), frame.size()},
                                reinterpret_cast<uint8_t*>(dense.data()), scratch, destination);
  }

 private:
  const std::string spec_;
  const std::shared_ptr<const FrameCoder> key_, value_;  // shared: one coder may serve both tensors
};

/// What may follow in a chain, where `role` may not; null where it may.
const char* Refusal(const Chain& chain, StageRole role) {
  if (chain.coder != nullptr) return "nothing more, the tensor has its coder already";
  if (chain.packed) return "nothing more, the tensor is packed";
  switch (role) {
    case StageRole::kCoder:
      return chain.empty() ? nullptr : "a quantiser such as int(8,tok); this stage takes elements as they are";
    case StageRole::kTransform:
      if (chain.quantised) return "R:lr or a packer; transforms stand before the quantiser";
      return chain.plan.transform_count < kTransformsMax ? nullptr : "a quantiser; there are transforms enough";
    case StageRole::kQuantiser:
      return chain.quantised ? "nothing more of this kind, the tensor has its quantiser already" : nullptr;
    case StageRole::kRepair:
      if (!chain.quantised) return "a quantiser such as int(8,tok) before a repair";
      return chain.plan.repaired ? "a packer; the tensor is repaired already" : nullptr;
    case StageRole::kPacker:
      return chain.quantised ? nullptr : "a quantiser such as int(8,tok) before a packer";
  }
  return nullptr;
}

void Add(const StageCall& call, const StageEntry& entry, Chain& chain) {
  switch (entry.role) {
    case StageRole::kCoder:
      chain.coder = entry.coder(call);
      break;
    case StageRole::kTransform:
      chain.plan.transforms[chain.plan.transform_count++] = call;
      break;
    case StageRole::kQuantiser:
      chain.plan.quantiser = call;
      chain.quantised = true;
      break;
    case StageRole::kRepair:
      chain.plan.repair = call;
      chain.plan.repaired = true;
      break;
    case StageRole::kPacker:
      chain.plan.packer = call;
      chain.packed = true;
      break;
  }
}

/// Adds one stage to the chain of each tensor it names; a packer for both tensors to those that may have one. `chains`
/// is {K, V}.
Result<bool> Append(const SpecStage& parsed, const StageEntry& entry, const StageCall& call, Chain (&chains)[2]) {
  const char* refusal = nullptr;
  bool used = false;
  for (int tensor = 0; tensor < 2; ++tensor) {
    if ((parsed.tensors & (1u << tensor)) == 0) continue;
    if (const char* no = Refusal(chains[tensor], entry.role); no != nullptr) {
      refusal = no;
      if (entry.role == StageRole::kPacker) continue;
      return SpecError(parsed.position, parsed.name, no);
    }
    Add(call, entry, chains[tensor]);
    used = true;
  }
  if (!used) return SpecError(parsed.position, parsed.name, refusal);
  return true;
}

std::string Print(const SpecStage& parsed, const StageEntry& entry, const StageCall& call) {
  std::string text = parsed.tensors == kSpecKey ? "k:" : parsed.tensors == kSpecValue ? "v:" : "";
  text.append(entry.info.letter).append(":").append(entry.info.name);
  if (const std::string arguments = entry.print(call); !arguments.empty()) {
    text.append("(").append(arguments).append(")");
  }
  return text;
}

/// The coder of a chain that is complete; `end` is where the spec ends.
Result<std::shared_ptr<const FrameCoder>> Finish(Chain& chain, const char* tensor, uint32_t end) {
  if (chain.coder != nullptr) return chain.coder;
  if (!chain.quantised) {
    return SpecError(end, "the end", std::string("|") + tensor + ": and a quantiser or coder, there is none");
  }
  if (!chain.packed) chain.plan.packer.stage = AllStages::IndexOf<BitsStage>();
  if (Result<bool> fit = CheckPlan(chain.plan); !fit.ok()) return fit.error();
  return MakeChainCoder(chain.plan);
}

}  // namespace

Result<std::shared_ptr<const Codec>> Codec::Parse(std::string_view spec) {
  const Result<std::vector<SpecStage>> parsed = ParseSpec(spec);
  if (!parsed.ok()) return parsed.error();
  Chain chains[2];
  std::string canonical;
  for (const SpecStage& item : *parsed) {
    const Result<const StageEntry*> entry = FindStage(item);
    if (!entry.ok()) return entry.error();
    const Result<StageCall> call = (*entry)->read({(*entry)->info.usage, item.arguments, item.position});
    if (!call.ok()) return call.error();
    if (Result<bool> added = Append(item, **entry, *call, chains); !added.ok()) return added.error();
    if (!canonical.empty()) canonical += '|';
    canonical += Print(item, **entry, *call);
  }
  const uint32_t end = static_cast<uint32_t>(spec.size());
  const bool bits_implied = (chains[0].quantised && !chains[0].packed) || (chains[1].quantised && !chains[1].packed);
  const Result<std::shared_ptr<const FrameCoder>> key = Finish(chains[0], "k", end);
  if (!key.ok()) return key.error();
  const Result<std::shared_ptr<const FrameCoder>> value = Finish(chains[1], "v", end);
  if (!value.ok()) return value.error();
  if (bits_implied) canonical += "|P:bits";
  if (canonical.size() > kSpecBytesMax) {
    return SpecError(end, "a canonical form of " + std::to_string(canonical.size()) + " bytes",
                     "at most " + std::to_string(kSpecBytesMax));
  }
  return std::shared_ptr<const Codec>(std::make_shared<TwoCoderCodec>(std::move(canonical), *key, *value));
}

uint64_t MaxFrameAreaBytes(const Codec& codec, const KvLayout& layout, const PartGeometry& part) {
  uint64_t layer = AlignFrame(codec.MaxFrameBytes(KvTensor::kKey, ShapeOfFrame(layout, part, KvTensor::kKey)));
  if (!layout.latent()) {
    layer += AlignFrame(codec.MaxFrameBytes(KvTensor::kValue, ShapeOfFrame(layout, part, KvTensor::kValue)));
  }
  return layer * part.layers;
}

}  // namespace kvasir
