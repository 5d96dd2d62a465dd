// SPDX-License-Identifier: Apache-2.0
// Goal: the CUDA device writes and reads the bits of the CPU device, refuses memory it cannot reach, and takes many
// jobs at once. Method: the same jobs on both, over codecs, layouts, lengths and fills; areas, directories and pages
// compared with ==; damage answered by kDataLoss. Where no device is, skipped by name.
#include "gtest/gtest.h"
#include "kernels/cuda/divider.h"
#include "tests/kernels/cuda_jobs.h"

namespace kvasir {
namespace {

using namespace testing;  // the engine and its jobs

TEST(CudaDevice, AbsentOrUnreachableSaysSo) {
  const auto device = MakeCudaDevice(0);
  if (device.ok()) GTEST_SKIP() << "a CUDA device answered: there is nothing absent to test";
  EXPECT_TRUE(device.error().code == ErrorCode::kUnimplemented || device.error().code == ErrorCode::kUnavailable);
  EXPECT_FALSE(device.error().message.empty());
}

/// On the CPU: the arithmetic is the same.
TEST(CudaDevice, DividersDivide) {
  auto rng = Rng(46);
  for (int i = 0; i < 200000; ++i) {
    const uint32_t divisor = 1 + static_cast<uint32_t>(rng() >> (33 + rng() % 31));
    const uint32_t any = static_cast<uint32_t>(rng() >> (33 + rng() % 31));
    const uint32_t multiple = static_cast<uint32_t>(uint64_t{any} * divisor & 0x7FFFFFFFu) / divisor * divisor;
    const cuda::Divider by = cuda::Divider::By(divisor);
    for (const uint32_t n : {any, multiple, multiple == 0 ? 0 : multiple - 1, 0x7FFFFFFFu}) {
      uint32_t rest = 0;
      ASSERT_EQ(by.Of(n, rest), n / divisor) << n << " / " << divisor;
      ASSERT_EQ(rest, n % divisor) << n << " % " << divisor;
    }
  }
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
        Engine to_cpu = CopyOf(to);
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

/// Lengths around those at which the checksum is cut into pieces, and odd ones.
TEST(CudaDevice, ChecksumsOfFramesOfManyLengths) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  const auto cpu = MakeCpuDevice({});
  auto rng = Rng(42);
  const auto codec = MustParse("raw");
  for (const uint32_t dim :
       {1u, 2u, 3u, 5u, 31u, 33u, 4095u, 4096u, 4097u, 8191u, 8192u, 8193u, 12289u, 65537u, 300001u}) {
    const KvLayout layout{1, 1, dim, dim + 7, ElementType::kFloat8E4M3};
    Engine engine = MakeEngine(layout, Order::kNHD, 1, 3, rng);
    FillBytes(engine, Fill::kAnyBits, rng);
    for (uint32_t tokens = 1; tokens <= 3; ++tokens) {
      const PartGeometry part{0, 1, 0, 1, 0, tokens};
      Packed packed_cpu, packed;
      ASSERT_TRUE(RunJob(*cpu, MakePack(codec, engine, part, packed_cpu)).ok);
      PackJob pack = MakePack(codec, engine, part, packed);
      const Pinned pages(**cuda, engine.memory), area(**cuda, packed.area);
      ASSERT_TRUE(RunJob(**cuda, pack).ok);
      ASSERT_EQ(packed.result.directory, packed_cpu.result.directory) << dim << " bytes a row, tokens " << tokens;
      ASSERT_EQ(packed.area, packed_cpu.area);
      ASSERT_TRUE(RunJob(**cuda, MakeUnpack(codec, engine, part, packed)).ok);
    }
  }
}

TEST(CudaDevice, MemoryOutOfReachIsRefusedAndTheNextJobRuns) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  auto rng = Rng(43);
  const KvLayout layout{2, 2, 64, 64, ElementType::kBfloat16};
  Engine engine = MakeEngine(layout, Order::kNHD, 16, 32, rng);
  FillRandom(engine, rng);
  const PartGeometry part{0, 2, 0, 2, 0, 32};
  const auto refuses = [&](const PackJob& job, std::string_view what) {
    const JobStatus status = RunJob(**cuda, job);
    EXPECT_FALSE(status.ok) << what;
    EXPECT_EQ(status.error.code, ErrorCode::kInvalidArgument) << status.error.message;
    EXPECT_NE(status.error.message.find(what), std::string::npos) << status.error.message;
  };
  Packed packed;
  const PackJob pack = MakePack(MustParse("int(8,tok)"), engine, part, packed);
  refuses(pack, "frame area");
  const Pinned area(**cuda, packed.area);
  refuses(pack, "pages");
  const Pinned pages(**cuda, engine.memory);
  EXPECT_FALSE((*cuda)->Pin(engine.memory).ok()) << "pinned twice";
  const JobStatus status = RunJob(**cuda, pack);
  EXPECT_TRUE(status.ok) << status.error.message;

  Packed balanced;
  PackJob with_inputs = MakePack(MustParse("k:bal|int(8,tok)"), engine, part, balanced);
  const Pinned balanced_area(**cuda, balanced.area);
  const std::vector<float> peaks(2 * 64, 2.0f);
  FrameInputs one;
  one.query_peak = peaks.data();
  const std::vector<FrameInputs> inputs(4, one);
  with_inputs.inputs = inputs;
  refuses(with_inputs, "inputs of frame 0");
}

/// More launches than a stream holds, and every job ends: the waiter and Submit do not wait for each other.
TEST(CudaDevice, ManyJobsAtOnceOnThreeStreams) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  const auto cpu = MakeCpuDevice({});
  auto rng = Rng(44);
  const KvLayout layout{40, 2, 64, 64, ElementType::kBfloat16};
  Engine engine = MakeEngine(layout, Order::kNHD, 16, 64, rng);
  FillRandom(engine, rng);
  const auto codec = MustParse("k:int(4,chan,32)|v:int(4,tok,64)");
  const PartGeometry part{0, 40, 0, 2, 0, 64};
  Packed expected;
  ASSERT_TRUE(RunJob(*cpu, MakePack(codec, engine, part, expected)).ok);
  constexpr uint32_t kJobs = 30;  // below kCudaJobsMax
  std::vector<Packed> packed(kJobs);
  std::vector<PackJob> jobs;
  const Pinned pages(**cuda, engine.memory);
  std::vector<std::unique_ptr<Pinned>> areas;
  for (Packed& p : packed) {
    jobs.push_back(MakePack(codec, engine, part, p));
    areas.push_back(std::make_unique<Pinned>(**cuda, p.area));
  }
  std::vector<std::promise<JobStatus>> done(kJobs);
  for (uint32_t i = 0; i < kJobs; ++i) {
    const Stream stream = reinterpret_cast<Stream>(uintptr_t{i % 3});  // default, legacy, of this thread
    (*cuda)->Submit(jobs[i], stream, [&done, i](JobStatus status) { done[i].set_value(std::move(status)); });
  }
  for (uint32_t i = 0; i < kJobs; ++i) {
    const JobStatus status = done[i].get_future().get();
    ASSERT_TRUE(status.ok) << status.error.message;
    EXPECT_EQ(packed[i].result.directory, expected.result.directory) << i;
    EXPECT_EQ(packed[i].area, expected.area) << i;
  }
}

TEST(CudaDevice, EventsOrderStreamsAndDevices) {
  auto cuda = MakeCudaDevice(0);
  if (!cuda.ok()) GTEST_SKIP() << "no CUDA device: " << cuda.error().message;
  const auto cpu = MakeCpuDevice({});
  auto rng = Rng(45);
  const KvLayout layout{8, 2, 128, 128, ElementType::kBfloat16};
  Engine from = MakeEngine(layout, Order::kNHD, 16, 256, rng), to = MakeEngine(layout, Order::kNHD, 16, 256, rng);
  FillRandom(from, rng);
  to.pages = from.pages;
  const auto codec = MustParse("splitexp");
  const PartGeometry part{0, 8, 0, 2, 0, 256};
  Packed packed;
  const PackJob pack = MakePack(codec, from, part, packed);
  const Pinned pages(**cuda, from.memory), target(**cuda, to.memory), area(**cuda, packed.area);
  // The pack on the CPU, then the unpack on a stream of the GPU that waits for it: nobody here waits between.
  std::promise<JobStatus> packed_status, unpacked_status;
  UnpackJob unpack = MakeUnpack(codec, to, part, packed);
  ASSERT_TRUE(RunJob(*cpu, pack).ok);
  unpack.frames = std::span(packed.area).first(packed.result.area_bytes);
  std::fill(packed.area.begin(), packed.area.end(), std::byte{0});
  cpu->Submit(pack, nullptr, [&](JobStatus status) { packed_status.set_value(std::move(status)); });
  (*cuda)->Wait(nullptr, cpu->Record(nullptr));
  (*cuda)->Submit(unpack, nullptr, [&](JobStatus status) { unpacked_status.set_value(std::move(status)); });
  const auto event = (*cuda)->Record(nullptr);
  event->Block();
  EXPECT_TRUE(event->Done());
  EXPECT_TRUE(packed_status.get_future().get().ok);
  const JobStatus status = unpacked_status.get_future().get();
  ASSERT_TRUE(status.ok) << status.error.message;
  ForEachRow(from, [&](const void* row, size_t bytes, uint32_t token, uint32_t head, uint32_t layer, KvTensor tensor) {
    const void* there = to.cache.At(layer, tensor, to.pages[token / 16], head, token % 16);
    EXPECT_EQ(std::memcmp(row, there, bytes), 0) << "layer " << layer << " token " << token;
  });
}

}  // namespace
}  // namespace kvasir
