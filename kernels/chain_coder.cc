// SPDX-License-Identifier: Apache-2.0
// The CPU coder of chains: bodies in loops on the calling thread.
#include <algorithm>

#include "kernels/chain.h"
#include "kernels/simd/bodies.h"

namespace kvasir {
namespace {

/// Bodies in loops on the calling thread, and those of simd/.
struct CpuRun {
  template <class Body>
  void operator()(uint64_t items, const Body& body) {
    for (uint64_t i = 0; i < items; ++i) body(i);
  }
  bool Body(step::Load, ElementsOfChain, const ChainFrame& frame, const uint8_t* dense, float* x) {
    return simd::LoadRows(frame.shape.element, dense, frame.shape.elements(), x);
  }
  bool Body(step::Store, ElementsOfChain, const ChainFrame& frame, const float* x, uint8_t* dense) {
    return simd::StoreRows(frame.shape.element, x, frame.shape.elements(), dense);
  }
  bool Body(step::Forward, HadStage, const HadStage::Args& args, const ChainFrame& frame, float* x, uint8_t*) {
    return simd::RotateFloats(args, frame.shape.dim, false, static_cast<uint32_t>(frame.rows()), x);
  }
  bool Body(step::Inverse, HadStage, const HadStage::Args& args, const ChainFrame& frame, const uint8_t*, float* x) {
    return simd::RotateFloats(args, frame.shape.dim, true, static_cast<uint32_t>(frame.rows()), x);
  }
  bool Body(step::Quantise, IntStage, const IntSpec& args, const ChainFrame& frame, const float* x, uint8_t* section,
            uint8_t* codes) {
    return simd::QuantiseInt(LayOutIntFrame(args, frame.shape), x, section, codes);
  }
  bool Body(step::Dequantise, IntStage, const IntSpec& args, const ChainFrame& frame, const uint8_t* section,
            const uint8_t* codes, float* x) {
    return simd::DequantiseInt(LayOutIntFrame(args, frame.shape), 0, section, codes, x);
  }
  bool Body(step::Forward, MeanStage, MeanStage::Args, const ChainFrame& frame, float* x, uint8_t* section) {
    return simd::TakeMeans(frame.shape, x, section);
  }
  bool Body(step::Inverse, MeanStage, MeanStage::Args, const ChainFrame& frame, const uint8_t* section, float* x) {
    return simd::GiveMeans(frame.shape, section, x);
  }
  bool Body(step::Forward, NormStage, NormStage::Args, const ChainFrame& frame, float* x, uint8_t* section) {
    return simd::Normalise(frame.shape, x, section);
  }
  bool Body(step::Quantise, LmStage, const LmStage::Args& args, const ChainFrame& frame, const float* x,
            uint8_t* section, uint8_t* codes) {
    return simd::QuantiseLm(args.bits, frame.shape, x, section, codes);
  }
  bool Body(step::Dequantise, LmStage, const LmStage::Args& args, const ChainFrame& frame, const uint8_t* section,
            const uint8_t* codes, float* x) {
    return simd::DequantiseLm(args.bits, frame.shape, section, codes, x);
  }
  bool Body(step::Quantise, Fp8Stage, const Fp8Stage::Args& args, const ChainFrame& frame, const float* x,
            uint8_t* section, uint8_t* codes) {
    return simd::QuantiseFp8(args, frame.shape, x, section, codes);
  }
  bool Body(step::Dequantise, Fp8Stage, const Fp8Stage::Args& args, const ChainFrame& frame, const uint8_t* section,
            const uint8_t* codes, float* x) {
    return simd::DequantiseFp8(args, frame.shape, section, codes, x);
  }
  bool Body(step::Quantise, Nvfp4Stage, Nvfp4Stage::Args, const ChainFrame& frame, const float* x, uint8_t* section,
            uint8_t* codes) {
    return simd::QuantiseNvfp4(frame.shape, x, section, codes);
  }
  bool Body(step::Dequantise, Nvfp4Stage, Nvfp4Stage::Args, const ChainFrame& frame, const uint8_t* section,
            const uint8_t* codes, float* x) {
    return simd::DequantiseNvfp4(frame.shape, section, codes, x);
  }
  bool Body(step::Quantise, HierStage, const HierStage::Args& args, const ChainFrame& frame, const float* x,
            uint8_t* section, uint8_t* codes) {
    return simd::QuantiseInt(LayOutIntFrame(args.whole, frame.shape), x, section, codes);
  }
  bool Body(step::Dequantise, HierStage, const HierStage::Args& args, const ChainFrame& frame, const uint8_t* section,
            const uint8_t* codes, float* x) {
    return simd::DequantiseInt(LayOutIntFrame(args.whole, frame.shape), frame.missing_bits, section, codes, x);
  }
  bool Body(step::Pack, PlanesStage, PlanesStage::Args, const CodeWidth& width, const ChainFrame& frame,
            const uint8_t* codes, uint8_t* out) {
    return simd::PackPlanes(width.bits - width.lower, width.lower, codes, frame.shape.dim, frame.rows(), out,
                            frame.outcome->packed_bytes);
  }
  bool Body(step::Unpack, PlanesStage, PlanesStage::Args, const CodeWidth& width, const ChainFrame& frame,
            const uint8_t* in, uint32_t bytes, uint8_t* codes) {
    return simd::UnpackPlanes(width.bits - width.lower, width.lower, in, bytes, frame.shape.dim, frame.rows(), codes);
  }
  bool Body(step::Pack, AcStage, const AcStage::Args& args, const CodeWidth& width, const ChainFrame& frame,
            const uint8_t* codes, uint8_t* out) {
    AcStage::PackBy(*this, TabledLog(), args, width, frame, codes, out);
    return true;
  }
  bool Body(step::Unpack, AcStage, const AcStage::Args& args, const CodeWidth& width, const ChainFrame& frame,
            const uint8_t* in, uint32_t bytes, uint8_t* codes) {
    AcStage::UnpackBy<2>(*this, args, width, frame, in, bytes, codes);
    return true;
  }
  bool Body(step::Pack, BitsStage, BitsStage::Args, const CodeWidth& width, const ChainFrame& frame,
            const uint8_t* codes, uint8_t* out) {
    const uint32_t dim = frame.shape.dim;
    if (width.row_bits != nullptr || !simd::PackRows(width.bits, codes, dim, frame.rows(), out)) return false;
    frame.outcome->packed_bytes = static_cast<uint32_t>(frame.rows() * PackedRowBytes(width.bits, dim));
    return true;
  }
  bool Body(step::Unpack, BitsStage, BitsStage::Args, const CodeWidth& width, const ChainFrame& frame,
            const uint8_t* in, uint32_t bytes, uint8_t* codes) {
    const uint32_t dim = frame.shape.dim;
    return width.row_bits == nullptr && bytes == frame.rows() * PackedRowBytes(width.bits, dim) &&
           simd::UnpackRows(width.bits, in, dim, frame.rows(), codes);
  }
};

template <class S>
uint64_t SpareFloatsOf(const typename S::Args& args, const FrameShape& shape) {
  if constexpr (requires { S::SpareFloats(args, shape); }) return S::SpareFloats(args, shape);
  return 0;
}

/// `scratch` in pieces, all aligned for floats.
ChainRoom Room(const ChainPlan& plan, const ChainLayout& layout, uint64_t elements, std::vector<std::byte>& scratch) {
  const uint64_t floats = elements * (plan.repaired ? 2 : 1) + layout.spare_floats;
  const uint64_t bytes = floats * sizeof(float) + elements;
  if (scratch.size() < bytes) scratch.resize(bytes);
  ChainRoom room;
  room.rows = reinterpret_cast<float*>(scratch.data());
  room.lost = plan.repaired ? room.rows + elements : nullptr;
  room.spare = room.rows + elements * (plan.repaired ? 2 : 1);
  room.codes = reinterpret_cast<uint8_t*>(room.spare + layout.spare_floats);
  return room;
}

/// use.template operator()<S>(args) for every stage of the chain.
template <class Use>
void ForEachStage(const ChainPlan& plan, Use&& use) {
  for (uint32_t t = 0; t < plan.transform_count; ++t) WithStage(plan.transforms[t], use);
  WithStage(plan.quantiser, use);
  if (plan.repaired) WithStage(plan.repair, use);
  WithStage(plan.packer, use);
}

/// `plan` is Q:int | P:bits, behind the transforms it has.
bool IsIntAndBits(const ChainPlan& plan) {
  return !plan.repaired && plan.quantiser.stage == AllStages::IndexOf<IntStage>() &&
         plan.packer.stage == AllStages::IndexOf<BitsStage>();
}

/// The arguments of `call`. REQUIRES: it calls S.
template <class S>
typename S::Args ArgsOf(const StageCall& call) {
  typename S::Args args;
  std::memcpy(&args, call.args, sizeof args);
  return args;
}

class ChainCoder final : public FrameCoder {
 public:
  explicit ChainCoder(const ChainPlan& plan) : plan_(plan) {
    rotated_ =
        IsIntAndBits(plan) && plan.transform_count == 1 && plan.transforms[0].stage == AllStages::IndexOf<HadStage>();
  }
  bool lossless() const override { return false; }
  DeviceCoder device_coder() const override { return {DeviceCoder::Kind::kChain, nullptr, &plan_}; }
  Result<bool> Check(const FrameShape& shape) const override { return CheckChain(plan_, shape); }
  Result<bool> CheckInputs(const FrameInputs& inputs) const override {
    Result<bool> checked = true;
    ForEachStage(plan_, [&]<class S>(const typename S::Args& args) {
      if constexpr (requires { S::CheckInputs(args, inputs); }) {
        if (checked.ok()) checked = S::CheckInputs(args, inputs);
      }
    });
    return checked;
  }
  uint64_t MaxFrameBytes(const FrameShape& shape) const override { return LayOutChain(plan_, shape).max_bytes(); }

  std::vector<FrameSection> Sections(const FrameShape& shape) const override {
    std::vector<FrameSection> sections;
    const ChainLayout layout = LayOutChain(plan_, shape);
    ForEachStage(plan_, [&]<class S>(const typename S::Args& args) {
      uint64_t bytes = layout.packed_max;
      if constexpr (requires { S::SectionBytes(args, shape); }) bytes = S::SectionBytes(args, shape);
      if (bytes > 0) sections.push_back({std::string(S::kInfo.letter) + ":" + std::string(S::kInfo.name), bytes});
    });
    return sections;
  }
  uint32_t planes() const override {
    return LayOutChain(plan_, {1, 1, 1, ElementType::kBfloat16}).upper_max > 0 ? 2 : 1;
  }
  uint64_t PlaneEnd(const FrameShape& shape, uint32_t plane) const override {
    const ChainLayout layout = LayOutChain(plan_, shape);
    return layout.upper_max > 0 && plane == 0 ? layout.packed_at + layout.upper_max : layout.max_bytes();
  }

  uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>& scratch,
                  Destination destination, const FrameInputs& inputs) const override {
    if (rotated_) {
      const IntFrame f = LayOutIntFrame(ArgsOf<IntStage>(plan_.quantiser), shape);
      if (simd::EncodeRotatedFrame(ArgsOf<HadStage>(plan_.transforms[0]), f, dense, out, scratch, destination)) {
        return f.frame_bytes;
      }
    }
    const ChainLayout layout = LayOutChain(plan_, shape);
    const ChainRoom room = Room(plan_, layout, shape.elements(), scratch);
    ChainOutcome outcome;
    CpuRun run;
    EncodeChain(run, plan_, layout, {shape, room.spare, &outcome, inputs}, dense, out, room);
    KERNELS_CHECK(outcome.fault == 0);
    return layout.packed_at + outcome.packed_bytes;
  }

  Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                      std::vector<std::byte>& scratch, Destination destination) const override {
    if (rotated_ && DecodeRotated(shape, frame, dense, scratch, destination)) return true;
    const ChainLayout layout = LayOutChain(plan_, shape);
    if (frame.size() < layout.packed_at || frame.size() > layout.max_bytes()) {
      return Error{ErrorCode::kDataLoss, "frame has " + std::to_string(frame.size()) + " bytes, its shape needs " +
                                             std::to_string(layout.packed_at) + " to " +
                                             std::to_string(layout.max_bytes())};
    }
    const ChainRoom room = Room(plan_, layout, shape.elements(), scratch);
    ChainOutcome outcome;
    CpuRun run;
    DecodeChain(run, plan_, layout, {shape, room.spare, &outcome, {}}, frame.data(), frame.size(), dense, room);
    if (outcome.fault != 0) return Error{ErrorCode::kDataLoss, "frame: bytes that no encoder writes"};
    return true;
  }

 private:
  /// False where the stages must do it: they also say what is wrong.
  bool DecodeRotated(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense,
                     std::vector<std::byte>& scratch, Destination destination) const {
    const IntFrame f = LayOutIntFrame(ArgsOf<IntStage>(plan_.quantiser), shape);
    return frame.size() == f.frame_bytes && !HasBadParameter(frame.first(f.codes_at)) &&
           simd::DecodeRotatedFrame(ArgsOf<HadStage>(plan_.transforms[0]), f, frame.data(), dense, scratch,
                                    destination);
  }

  const ChainPlan plan_;
  bool rotated_ = false;  ///< T:had | Q:int | P:bits
};

}  // namespace

ChainLayout LayOutChain(const ChainPlan& plan, const FrameShape& shape) {
  ChainLayout layout;
  uint64_t at = 0;
  const auto spare = [&]<class S>(const typename S::Args& args) {
    layout.spare_floats = std::max(layout.spare_floats, SpareFloatsOf<S>(args, shape));
  };
  for (uint32_t t = 0; t < plan.transform_count; ++t) {
    WithStage(plan.transforms[t], [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole != StageRole::kTransform) return;
      layout.transform_at[t] = at;
      if constexpr (S::kRole == StageRole::kTransform) at += S::SectionBytes(args, shape);
      spare.template operator()<S>(args);
    });
  }
  layout.quantiser_at = at;
  WithStage(plan.quantiser, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kQuantiser) {
      at += S::SectionBytes(args, shape);
      layout.width.bits = S::CodeBits(args);
      if constexpr (requires { S::LowerBits(args); }) layout.width.lower = S::LowerBits(args);
      spare.template operator()<S>(args);
    }
  });
  layout.repair_at = at;
  if (plan.repaired) {
    WithStage(plan.repair, [&]<class S>(const typename S::Args& args) {
      if constexpr (S::kRole == StageRole::kRepair) {
        at += S::SectionBytes(args, shape);
        spare.template operator()<S>(args);
      }
    });
  }
  layout.packed_at = at;
  WithStage(plan.packer, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole == StageRole::kPacker) {
      layout.packed_max = S::MaxBytes(args, layout.width, shape);
      if constexpr (requires { S::UpperBytes(args, layout.width, shape); }) {
        layout.upper_max = S::UpperBytes(args, layout.width, shape);
      }
      spare.template operator()<S>(args);
    }
  });
  return layout;
}

Result<bool> CheckPlan(const ChainPlan& plan) {
  bool has_lower = false, cuts = false;
  WithStage(plan.quantiser, [&]<class S>(const typename S::Args& args) {
    if constexpr (requires { S::LowerBits(args); }) has_lower = true;
  });
  WithStage(plan.packer, [&]<class S>(const typename S::Args& args) {
    if constexpr (requires { S::UpperBytes(args, CodeWidth{}, FrameShape{}); }) cuts = true;
  });
  if (cuts && !has_lower) {
    return Error{ErrorCode::kInvalidArgument,
                 "codec spec: X:planes cuts the codes of Q:hier; write hier(4+4,tok)|planes"};
  }
  return true;
}

Result<bool> CheckChain(const ChainPlan& plan, const FrameShape& shape) {
  Result<bool> checked = true;
  ForEachStage(plan, [&]<class S>(const typename S::Args& args) {
    if constexpr (S::kRole != StageRole::kCoder) {
      if (checked.ok()) checked = S::Check(args, shape);
    }
  });
  return checked;
}

Result<StoredRows> FrameCoder::Rows(const FrameShape& shape, std::span<const uint8_t>) const {
  StoredRows stored;
  stored.counts.assign(shape.heads, shape.tokens);
  for (uint64_t row = 0; row < uint64_t{shape.heads} * shape.tokens; ++row) {
    stored.slots.push_back(static_cast<uint32_t>(row % shape.tokens));
  }
  return stored;
}

std::shared_ptr<const FrameCoder> MakeChainCoder(const ChainPlan& plan) {
  if (plan.transform_count == 0 && IsIntAndBits(plan)) return MakeIntCoder(ArgsOf<IntStage>(plan.quantiser));
  return std::make_shared<ChainCoder>(plan);
}

}  // namespace kvasir
