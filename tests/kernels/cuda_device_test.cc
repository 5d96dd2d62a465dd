// SPDX-License-Identifier: Apache-2.0
// Goal: the CUDA device writes and reads the bits of the CPU device. Method: the same jobs on both, over codecs,
// layouts and fills; areas, directories and pages compared with ==; damage answered by kDataLoss. Where no device is,
// skipped by name.
#include "gtest/gtest.h"
#include "tests/kernels/engine.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using namespace testing;  // the engine and its jobs

TEST(CudaDevice, AbsentOrUnreachableSaysSo) {
  const auto device = MakeCudaDevice(0);
  if (device.ok()) GTEST_SKIP() << "a CUDA device answered: there is nothing absent to test";
  EXPECT_TRUE(device.error().code == ErrorCode::kUnimplemented || device.error().code == ErrorCode::kUnavailable);
  EXPECT_FALSE(device.error().message.empty());
}

/// Keeps host memory pinned for the life of a scope.
class Pinned {
 public:
  Pinned(Device& device, std::span<std::byte> memory) : device_(device), memory_(memory) {
    EXPECT_TRUE(device.Pin(memory).ok());
  }
  ~Pinned() { device_.Unpin(memory_); }

 private:
  Device& device_;
  const std::span<std::byte> memory_;
};

void FillBytes(Engine& engine, Fill fill, std::mt19937_64& rng) {
  const ElementType type = engine.cache.layout.element;
  const FrameShape all{1, 1, static_cast<uint32_t>(engine.memory.size() / ElementBytes(type)), type};
  const auto values = MakeFrame(all, fill, rng);
  std::copy(values.begin(), values.end(), engine.memory.begin());
}

TEST(CudaDevice, SameBitsAsTheCpu) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  const auto cpu = MakeCpuDevice({});
  auto rng = Rng(40);
  const char* specs[] = {
      "raw", "splitexp", "int(8,tok)", "k:int(4,chan,32)|v:int(4,tok,64)", "int(3,tok,50,sym)", "int(2,chan,0)"};
  for (const KvLayout& layout :
       {KvLayout{3, 2, 128, 128, ElementType::kBfloat16}, KvLayout{2, 1, 576, 0, ElementType::kFloat16},
        KvLayout{2, 3, 80, 48, ElementType::kBfloat16}}) {
    for (const char* spec : specs) {
      for (const Fill fill : kAllFills) {
        SCOPED_TRACE(std::string(spec) + " fill " + std::to_string(static_cast<int>(fill)));
        const auto codec = MustParse(spec);
        Engine from = MakeEngine(layout, Order::kNHD, 16, 96, rng);
        Engine to = MakeEngine(layout, Order::kHND, 8, 96, rng);
        FillBytes(from, fill, rng);
        Engine to_cpu = to;
        for (uint32_t l = 0; l < layout.layers; ++l) {  // the copy's pages lie in its own memory
          to_cpu.cache.layers[l].key = to_cpu.memory.data() + (to.cache.layers[l].key - to.memory.data());
          if (!layout.latent())
            to_cpu.cache.layers[l].value = to_cpu.memory.data() + (to.cache.layers[l].value - to.memory.data());
        }
        const PartGeometry part{0, layout.layers, 0, layout.kv_heads, 16, 64};
        Packed packed_cpu, packed;
        ASSERT_TRUE(RunJob(*cpu, MakePack(codec, from, part, packed_cpu)).ok);
        PackJob pack = MakePack(codec, from, part, packed);
        const Pinned pages(**cuda, from.memory), area(**cuda, packed.area), target(**cuda, to.memory);
        const JobStatus status = RunJob(**cuda, pack);
        ASSERT_TRUE(status.ok) << status.error.message;
        ASSERT_EQ(packed.result.area_bytes, packed_cpu.result.area_bytes);
        ASSERT_EQ(packed.result.directory, packed_cpu.result.directory);
        ASSERT_EQ(packed.area, packed_cpu.area);
        ASSERT_TRUE(RunJob(*cpu, MakeUnpack(codec, to_cpu, part, packed_cpu)).ok);
        const JobStatus unpacked = RunJob(**cuda, MakeUnpack(codec, to, part, packed));
        ASSERT_TRUE(unpacked.ok) << unpacked.error.message;
        ASSERT_EQ(to.memory, to_cpu.memory);
      }
    }
  }
}

TEST(CudaDevice, DamageIsDataLossAndScattersNothing) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  auto rng = Rng(41);
  const KvLayout layout{2, 1, 128, 128, ElementType::kBfloat16};
  Engine engine = MakeEngine(layout, Order::kNHD, 16, 32, rng);
  FillRandom(engine, rng);
  const PartGeometry part{0, 2, 0, 1, 0, 32};
  for (const char* spec : {"raw", "splitexp", "int(8,tok)"}) {
    const auto codec = MustParse(spec);
    Packed packed;
    PackJob pack = MakePack(codec, engine, part, packed);
    const Pinned pages(**cuda, engine.memory), area(**cuda, packed.area);
    ASSERT_TRUE(RunJob(**cuda, pack).ok);
    packed.area[packed.result.directory[1].offset + 7] ^= std::byte{4};
    const JobStatus status = RunJob(**cuda, MakeUnpack(codec, engine, part, packed));
    ASSERT_FALSE(status.ok);
    EXPECT_EQ(status.error.code, ErrorCode::kDataLoss);
    EXPECT_NE(status.error.message.find("layer 0 V"), std::string::npos) << status.error.message;
  }
}

}  // namespace
}  // namespace kvasir
