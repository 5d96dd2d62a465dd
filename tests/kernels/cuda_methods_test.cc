// SPDX-License-Identifier: Apache-2.0
// Goal: every method and every stage with a CUDA body gives there the bits of the CPU, and answers bytes that no
// encoder writes as the CPU does. Method: pack and unpack jobs on both devices over element types, shapes and fills;
// then frames with changed bytes or lengths whose checksums are right. Where no device is, skipped by name.
#include "gtest/gtest.h"
#include "kernels/methods.h"
#include "tests/kernels/cuda_jobs.h"

namespace kvasir {
namespace {

using namespace testing;  // the engine and its jobs

/// Specs beside the methods, so that each stage has one and none is met only with one setting.
const char* const kMoreSpecs[] = {
    "raw",
    "splitexp(ans)",
    "int(8,tok)",
    "int(3,tok,50,sym)",
    "int(2,chan,0)",
    "k:int(4,chan,32)|v:int(4,tok,64)",
    "k:int(2,chan,32)|v:int(2,tok,32)",
    "k:bal|int(8,tok,64)",
    "delta|int(4,chan,32)",
    "norm|int(4,tok)",
    "sinkhorn(4,32)|int(4,chan,64)",
    "mean|had|lm(4)",
    "ctok(4)",
    "ctok(3,layer)",
    "fp8(e5m2,row)",
    "out(0.1,tok)|int(2,tok,16)|lr(4,2)",
    "hier(4+4,tok,64)|planes",
    "int(4,chan,32)|ac(8)",
    "R:sink(20)|int(4,tok,64)",
    "B:uni(0.5)|E:knorm(demote)|R:sink(4)|int(8,tok)|d:int(2,chan,16)",
    "B:uni(0.5)|E:knorm(demote)|raw|d:int(3,tok,10,sym)",
    "B:uni(0.5)|E:knorm(demote)|k:adapt(key)|v:adapt(value)|d:splitexp(ans)",
    "B:uni(0.5)|E:knorm|R:sink(2)|k:splitexp|v:int(4,tok)|v:ac",
};

/// All that runs on the device, and how many of them are methods.
std::vector<std::string> Specs(uint32_t& methods) {
  std::vector<std::string> specs;
  std::string names;
  for (const Method& method : Methods()) {
    if (!RunsOnCuda(*MustParse(std::string(method.spec)))) continue;
    specs.emplace_back(method.spec);
    names.append(" ").append(method.name);
  }
  methods = static_cast<uint32_t>(specs.size());
  std::printf("methods on CUDA (%u of %zu):%s\n", methods, Methods().size(), names.c_str());
  for (const char* spec : kMoreSpecs) {
    EXPECT_TRUE(RunsOnCuda(*MustParse(spec))) << spec;
    specs.emplace_back(spec);
  }
  return specs;
}

TEST(CudaMethods, AreAll) {
  for (const Method& method : Methods()) EXPECT_TRUE(RunsOnCuda(*MustParse(std::string(method.spec)))) << method.name;
}

/// What stages may ask for, of every frame of a part, in memory that the device reaches; what is of rows in any memory.
class Inputs {
 public:
  Inputs(Device& device, const Codec& codec, const KvLayout& layout, uint32_t tokens, std::mt19937_64& rng)
      : floats_(uint64_t{layout.kv_heads} * (layout.key_dim + layout.value_dim + 1 + tokens)),
        pinned_(device, std::as_writable_bytes(std::span(floats_))) {
    for (float& x : floats_) x = static_cast<float>(rng() % 1000 + 1) * 0.004f;
    FrameInputs one;
    one.query_peak = floats_.data();
    one.query_norm = one.query_peak + uint64_t{layout.kv_heads} * (layout.key_dim + layout.value_dim);
    one.attention_peak = one.query_norm + layout.kv_heads;
    one.context_tokens = 1024;
    frames_.assign(uint64_t{layout.layers} * layout.tensors(), one);
    if (codec.selection() != nullptr) ChooseRows(codec, layout, tokens, rng);
  }
  std::span<const FrameInputs> frames() const { return frames_; }

 private:
  /// Classes, and now and then weights, that keys and values share; some rows merged.
  void ChooseRows(const Codec& codec, const KvLayout& layout, uint32_t tokens, std::mt19937_64& rng) {
    const uint64_t rows = uint64_t{layout.kv_heads} * tokens;
    const RowClass other = codec.drops() ? RowClass::kDropped : RowClass::kDemoted;
    const uint64_t kinds = 1 + rng() % 3;
    classes_.resize(layout.layers * rows);
    for (RowClass& of : classes_) {
      const uint64_t draw = rng() % kinds;
      of = draw == 0 ? RowClass::kKept : draw == 1 ? other : RowClass::kExact;
    }
    weights_.resize(2 * classes_.size());
    for (float& w : weights_) w = static_cast<float>(rng() % 9) * 0.5f;
    merged_slots_ = {1, tokens - 1};
    for (uint32_t i = 0; i < 2 * std::max(layout.key_dim, layout.value_dim); ++i) {
      merged_rows_.push_back(static_cast<float>(rng() % 100) * 0.13f);
    }
    const bool weighted = rng() % 2 == 0, merged = rng() % 2 == 0;
    for (size_t i = 0; i < frames_.size(); ++i) {
      const uint64_t first = i / layout.tensors() * rows;
      frames_[i].row_classes = &classes_[first];
      if (weighted) frames_[i].row_weights = &weights_[2 * first];
      if (merged && i % 2 == 0) {
        frames_[i].merged_count = 2;
        frames_[i].merged_slots = merged_slots_.data();
        frames_[i].merged_rows = merged_rows_.data();
      }
    }
  }

  std::vector<float> floats_;
  Pinned pinned_;
  std::vector<FrameInputs> frames_;
  std::vector<RowClass> classes_;
  std::vector<float> weights_, merged_rows_;
  std::vector<uint32_t> merged_slots_;
};

const KvLayout kLayouts[] = {{2, 2, 128, 128, ElementType::kBfloat16},
                             {1, 3, 64, 96, ElementType::kFloat16},
                             {1, 1, 576, 0, ElementType::kBfloat16},
                             {1, 2, 80, 48, ElementType::kFloat32},
                             {1, 2, 128, 128, ElementType::kFloat8E4M3}};
constexpr uint32_t kTokens = 112, kPartTokens = 80;

bool Takes(const Codec& codec, const KvLayout& layout, const PartGeometry& part) {
  for (uint32_t t = 0; t < layout.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    if (!codec.Check(tensor, ShapeOfFrame(layout, part, tensor)).ok()) return false;
  }
  return true;
}

TEST(CudaMethods, SameBitsAsTheCpu) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  const auto cpu = MakeCpuDevice({});
  auto rng = Rng(50);
  uint32_t methods = 0, compared = 0;
  for (const std::string& spec : Specs(methods)) {
    const auto codec = MustParse(spec);
    for (const KvLayout& layout : kLayouts) {
      const PartGeometry part{0, layout.layers, 0, layout.kv_heads, 16, kPartTokens};
      if (!Takes(*codec, layout, part)) continue;
      Engine from = MakeEngine(layout, Order::kNHD, 16, kTokens, rng);
      const Inputs inputs(**cuda, *codec, layout, kPartTokens, rng);
      const Pinned pages(**cuda, from.memory);
      for (const Fill fill : kAllFills) {
        SCOPED_TRACE(spec + " element " + std::to_string(static_cast<int>(layout.element)) + " dim " +
                     std::to_string(layout.key_dim) + " fill " + std::to_string(static_cast<int>(fill)));
        FillBytes(from, fill, rng);
        Engine to = MakeEngine(layout, Order::kHND, 8, kTokens, rng);
        Engine to_cpu = CopyOf(to);
        Packed packed_cpu, packed;
        PackJob on_cpu = MakePack(codec, from, part, packed_cpu), pack = MakePack(codec, from, part, packed);
        on_cpu.inputs = pack.inputs = inputs.frames();
        const Pinned area(**cuda, packed.area), target(**cuda, to.memory);
        ASSERT_TRUE(RunJob(*cpu, on_cpu).ok);
        const JobStatus status = RunJob(**cuda, pack);
        ASSERT_TRUE(status.ok) << status.error.message;
        EXPECT_EQ(packed.result.directory, packed_cpu.result.directory);
        // Behind the last frame P:ac leaves what it has moved.
        const auto end = static_cast<ptrdiff_t>(packed_cpu.result.area_bytes);
        EXPECT_EQ(packed.result.area_bytes, packed_cpu.result.area_bytes);
        EXPECT_TRUE(std::equal(packed_cpu.area.begin(), packed_cpu.area.begin() + end, packed.area.begin()));
        ++compared;
        if (codec->drops()) {
          EXPECT_EQ(RunJob(**cuda, MakeUnpack(codec, to, part, packed)).error.code, ErrorCode::kInvalidArgument);
          continue;  // such rows have no dense form
        }
        ASSERT_TRUE(RunJob(*cpu, MakeUnpack(codec, to_cpu, part, packed_cpu)).ok);
        // The bytes of the CPU on the device: a fault of its encoder must not hide one of its decoder.
        std::copy(packed_cpu.area.begin(), packed_cpu.area.end(), packed.area.begin());
        packed.result = packed_cpu.result;
        const JobStatus unpacked = RunJob(**cuda, MakeUnpack(codec, to, part, packed));
        ASSERT_TRUE(unpacked.ok) << unpacked.error.message;
        EXPECT_TRUE(to.memory == to_cpu.memory);
        if (HasFailure()) break;  // one report a spec and layout
      }
    }
  }
  std::printf("compared: %u\n", compared);
  EXPECT_GE(compared, 600u);
}

/// Changes some bytes of a frame, or cuts its end off, and sums it anew.
void Damage(Packed& packed, std::mt19937_64& rng) {
  FrameEntry& entry = packed.result.directory[rng() % packed.result.directory.size()];
  const auto frame = std::span(packed.area).subspan(entry.offset, entry.length);
  if (rng() % 4 == 0 && entry.length > 1) {
    entry.length -=
        static_cast<uint32_t>(rng() % 3 == 0 ? rng() % (entry.length - 1) : rng() % std::min(entry.length - 1, 40u));
  } else {
    for (uint64_t i = 0, n = 1 + rng() % 6; i < n; ++i) {
      // The sections before the codes lie at the front: they are the ones that can be wrong.
      const uint64_t at = rng() % 2 == 0 ? rng() % frame.size() : rng() % std::min<uint64_t>(frame.size(), 64);
      frame[at] = rng() % 3 == 0 ? std::byte{0xFF} : static_cast<std::byte>(rng());
    }
  }
  entry.crc32c = Crc32c(frame.first(entry.length));
}

TEST(CudaMethods, DamagedFramesAreAnsweredAsTheCpuAnswers) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  const auto cpu = MakeCpuDevice({});
  auto rng = Rng(51);
  uint32_t methods = 0, refused = 0, taken = 0;
  for (const std::string& spec : Specs(methods)) {
    const auto codec = MustParse(spec);
    SCOPED_TRACE(spec);
    if (codec->drops()) continue;
    const KvLayout layout{2, 2, 64, 64, ElementType::kBfloat16};
    const PartGeometry part{0, 2, 0, 2, 0, kPartTokens};
    Engine engine = MakeEngine(layout, Order::kNHD, 16, kTokens, rng);
    FillBytes(engine, Fill::kOutlierChannels, rng);
    const Inputs inputs(**cuda, *codec, layout, kPartTokens, rng);
    Engine to = CopyOf(engine), to_cpu = CopyOf(engine);
    Packed good, packed;
    PackJob pack = MakePack(codec, engine, part, good);
    pack.inputs = inputs.frames();
    ASSERT_TRUE(RunJob(*cpu, pack).ok);
    packed = good;
    const Pinned area(**cuda, packed.area), target(**cuda, to.memory);
    for (int round = 0; round < 60; ++round) {
      std::copy(good.area.begin(), good.area.end(), packed.area.begin());
      packed.result = good.result;
      if (round > 0) Damage(packed, rng);  // round 0: nothing is wrong
      const JobStatus on_cpu = RunJob(*cpu, MakeUnpack(codec, to_cpu, part, packed));
      const JobStatus status = RunJob(**cuda, MakeUnpack(codec, to, part, packed));
      ASSERT_EQ(status.ok, on_cpu.ok) << round << ": cpu '" << on_cpu.error.message << "', cuda '"
                                      << status.error.message << "'";
      if (!status.ok) {
        EXPECT_EQ(status.error.code, ErrorCode::kDataLoss) << status.error.message;
        std::copy(to_cpu.memory.begin(), to_cpu.memory.end(), to.memory.begin());  // what was scattered before differs
      }
      EXPECT_TRUE(to.memory == to_cpu.memory) << round;
      ++(status.ok ? taken : refused);
    }
  }
  std::printf("refused: %u, taken: %u\n", refused, taken);
  EXPECT_GE(refused, 100u);
  EXPECT_GE(taken, 100u);
}

}  // namespace
}  // namespace kvasir
