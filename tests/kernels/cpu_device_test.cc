// SPDX-License-Identifier: Apache-2.0
// Goal: what is packed from one paged cache and unpacked into another is the same, whatever the strides, page order,
// heads and layers; jobs of a stream keep their order; wrong jobs and damaged bytes answer through JobDone and touch
// nothing. Method: caches whose every element says where it is; NHD, HND, fused and latent layouts; random page tables.
#include <algorithm>
#include <atomic>
#include <future>

#include "gtest/gtest.h"
#include "kernels/device.h"
#include "tests/kernels/engine.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using namespace testing;  // the engine and its jobs

const KvLayout kGrouped{4, 3, 64, 64, ElementType::kBfloat16};
const KvLayout kUneven{2, 2, 96, 32, ElementType::kBfloat16};
const KvLayout kLatent{3, 1, 576, 0, ElementType::kBfloat16};

TEST(CpuDevice, PacksAndUnpacksEveryLayout) {
  auto rng = testing::Rng(20);
  const auto device = MakeCpuDevice({.codec_threads = 2});
  for (const KvLayout& layout : {kGrouped, kUneven, kLatent}) {
    for (const Order from : {Order::kNHD, Order::kHND, Order::kFused}) {
      for (const Order to : {Order::kNHD, Order::kHND, Order::kFused}) {
        Engine a = MakeEngine(layout, from, 16, 96, rng);
        Engine b = MakeEngine(layout, to, 8, 96, rng);
        FillRandom(a, rng);
        FillRandom(b, rng);
        Engine before = b;
        PartGeometry part{
            1, layout.layers - 1, layout.kv_heads > 1 ? 1u : 0u, layout.kv_heads > 1 ? layout.kv_heads - 1 : 1, 32, 48};
        for (const char* spec : {"raw", "splitexp", "splitexp(ans)"}) {
          const auto codec = testing::MustParse(spec);
          Packed packed;
          const JobStatus pack = RunJob(*device, MakePack(codec, a, part, packed));
          ASSERT_TRUE(pack.ok) << pack.error.message;
          ASSERT_TRUE(CheckDirectory(packed.result.directory, packed.result.area_bytes).ok());
          const JobStatus unpack = RunJob(*device, MakeUnpack(codec, b, part, packed));
          ASSERT_TRUE(unpack.ok) << unpack.error.message;
        }
        std::vector<std::byte> rows;  // of a, in order; b must have them inside the part and be untouched outside
        ForEachRow(a, [&](std::byte* p, uint32_t bytes, auto...) { rows.insert(rows.end(), p, p + bytes); });
        size_t at = 0;
        ForEachRow(b, [&](std::byte* p, uint32_t bytes, uint32_t token, uint32_t head, uint32_t layer, KvTensor) {
          const bool inside = token >= 32 && token < 80 && head >= part.first_head && layer >= 1;
          const std::byte* expected = inside ? rows.data() + at : before.memory.data() + (p - b.memory.data());
          ASSERT_EQ(std::memcmp(p, expected, bytes), 0) << token << " " << head << " " << layer;
          at += bytes;
        });
      }
    }
  }
}

TEST(CpuDevice, UnpacksSubsetsOfLayersAndHeadsFromAPartOfTheBytes) {
  auto rng = testing::Rng(21);
  const auto device = MakeCpuDevice({});
  Engine a = MakeEngine(kGrouped, Order::kNHD, 16, 32, rng);
  Engine b = MakeEngine(kGrouped, Order::kHND, 16, 32, rng);
  FillRandom(a, rng);
  const PartGeometry part{0, 4, 0, 3, 0, 32};
  const auto codec = testing::MustParse("splitexp");
  Packed packed;
  ASSERT_TRUE(RunJob(*device, MakePack(codec, a, part, packed)).ok);
  UnpackJob job = MakeUnpack(codec, b, part, packed);
  job.first_layer = 1;
  job.layers = 2;
  job.first_head = 2;
  job.heads = 1;
  const uint32_t begin = packed.result.directory[FrameIndex(kGrouped, part, 1, KvTensor::kKey)].offset;
  const uint32_t end = packed.result.directory[FrameIndex(kGrouped, part, 3, KvTensor::kKey)].offset;
  const std::vector<std::byte> middle(packed.area.begin() + begin, packed.area.begin() + end);
  job.frames = middle;
  job.frames_offset = begin;
  ASSERT_TRUE(RunJob(*device, job).ok);
  std::vector<std::byte> rows;
  ForEachRow(a, [&](std::byte* p, uint32_t bytes, auto...) { rows.insert(rows.end(), p, p + bytes); });
  size_t at = 0;
  const std::vector<std::byte> zeros(1024);
  ForEachRow(b, [&](std::byte* p, uint32_t bytes, uint32_t, uint32_t head, uint32_t layer, KvTensor) {
    const bool inside = head == 2 && (layer == 1 || layer == 2);
    ASSERT_EQ(std::memcmp(p, inside ? rows.data() + at : zeros.data(), bytes), 0) << head << " " << layer;
    at += bytes;
  });
  job.first_layer = 0;  // its frames are not in these bytes
  EXPECT_EQ(RunJob(*device, job).error.code, ErrorCode::kDataLoss);
}

TEST(CpuDevice, ARankOfTheModelPacksWhatTheWholeModelWouldHave) {
  auto rng = testing::Rng(22);
  const auto device = MakeCpuDevice({});
  Engine whole = MakeEngine(kGrouped, Order::kNHD, 16, 32, rng);
  FillRandom(whole, rng);
  Engine rank = whole;  // layers 2..3, head 1 only, in the same memory
  rank.cache.layers = {whole.cache.layers[2], whole.cache.layers[3]};
  rank.cache.first_layer = 2;
  rank.cache.first_head = 1;
  rank.cache.heads = 1;
  const int64_t head_bytes = 64 * 2;
  for (PagedLayer& layer : rank.cache.layers) {
    layer.key += head_bytes;
    layer.value += head_bytes;
  }
  const auto codec = testing::MustParse("k:int(4,chan,32)|v:int(4,tok)");
  const PartGeometry part{2, 2, 1, 1, 0, 32};
  Packed one, other;
  ASSERT_TRUE(RunJob(*device, MakePack(codec, whole, part, one)).ok);
  ASSERT_TRUE(RunJob(*device, MakePack(codec, rank, part, other)).ok);
  EXPECT_EQ(one.area, other.area);
  EXPECT_EQ(one.result.directory, other.result.directory);
}

TEST(CpuDevice, DamageIsDataLossAndNamesTheFrame) {
  auto rng = testing::Rng(23);
  const auto device = MakeCpuDevice({});
  Engine a = MakeEngine(kGrouped, Order::kNHD, 16, 32, rng);
  FillRandom(a, rng);
  const PartGeometry part{0, 4, 0, 3, 0, 32};
  const auto codec = testing::MustParse("int(8,tok)");
  Packed packed;
  ASSERT_TRUE(RunJob(*device, MakePack(codec, a, part, packed)).ok);
  packed.area[packed.result.directory[3].offset + 5] ^= std::byte{1};
  const JobStatus status = RunJob(*device, MakeUnpack(codec, a, part, packed));
  ASSERT_FALSE(status.ok);
  EXPECT_EQ(status.error.code, ErrorCode::kDataLoss);
  EXPECT_NE(status.error.message.find("layer 1 V"), std::string::npos) << status.error.message;
}

TEST(CpuDevice, WrongJobsAreRefusedByName) {
  auto rng = testing::Rng(24);
  const auto device = MakeCpuDevice({});
  Engine a = MakeEngine(kGrouped, Order::kNHD, 16, 32, rng);
  const auto codec = testing::MustParse("raw");
  const PartGeometry part{0, 4, 0, 3, 0, 32};
  Packed packed;
  const auto refuses = [&](auto change, const char* says) {
    PackJob job = MakePack(codec, a, part, packed);
    change(job);
    const JobStatus status = RunJob(*device, job);
    EXPECT_FALSE(status.ok) << says;
    EXPECT_EQ(status.error.code, ErrorCode::kInvalidArgument);
    EXPECT_NE(status.error.message.find(says), std::string::npos) << status.error.message;
  };
  refuses([](PackJob& j) { j.codec = nullptr; }, "codec");
  refuses([](PackJob& j) { j.part.layers = 5; }, "layers");
  refuses([](PackJob& j) { j.part.layers = 0xFFFFFFFF; }, "layers");
  refuses([](PackJob& j) { j.part.first_head = 1; }, "heads");
  refuses([](PackJob& j) { j.part.tokens = 17; }, "page_tokens");
  refuses([](PackJob& j) { j.part.tokens = 48; }, "pages");
  refuses([](PackJob& j) { j.area = j.area.first(16); }, "area");
  refuses([](PackJob& j) { j.result->directory.pop_back(); }, "directory");
  refuses([](PackJob& j) { j.result = nullptr; }, "result");
}

TEST(CpuDevice, JobsOfAStreamKeepTheirOrderAndEventsJoinStreams) {
  auto rng = testing::Rng(25);
  auto device = MakeCpuDevice({.codec_threads = 3});
  Engine a = MakeEngine(kUneven, Order::kNHD, 16, 32, rng);
  const auto codec = testing::MustParse("raw");
  const PartGeometry part{0, 2, 0, 2, 0, 32};
  constexpr int kStreams = 5, kJobs = 40;
  std::vector<Packed> packed(kStreams * kJobs);
  std::atomic<int> next[kStreams] = {};
  std::atomic<int> wrong{0}, done{0};
  std::shared_ptr<DeviceEvent> last;
  for (int i = 0; i < kJobs; ++i) {
    for (int s = 0; s < kStreams; ++s) {
      const Stream stream = reinterpret_cast<Stream>(static_cast<uintptr_t>(s));
      if (last != nullptr) device->Wait(stream, last);
      device->Submit(MakePack(codec, a, part, packed[i * kStreams + s]), stream, [&, s, i](JobStatus status) {
        if (!status.ok || next[s]++ != i) ++wrong;
        // The stream before this one had finished its i-th job: we waited for its event.
        if (s > 0 && next[s - 1] <= i) ++wrong;
        ++done;
      });
      last = device->Record(stream);
    }
  }
  last->Block();
  EXPECT_TRUE(last->Done());
  device.reset();  // waits for the rest
  EXPECT_EQ(done, kStreams * kJobs);
  EXPECT_EQ(wrong, 0);
}

TEST(CpuDevice, TooManyJobsAreRefusedNotQueued) {
  auto rng = testing::Rng(26);
  auto device = MakeCpuDevice({.codec_threads = 1, .queued_jobs_max = 4});
  auto other = MakeCpuDevice({});
  Engine a = MakeEngine(kUneven, Order::kNHD, 16, 32, rng);
  const auto codec = testing::MustParse("raw");
  const PartGeometry part{0, 2, 0, 2, 0, 32};
  // The stream stands still until the gate's stream, held by a callback, goes on.
  std::promise<void> gate;
  std::vector<Packed> packed(8);
  other->Submit(MakePack(codec, a, part, packed[7]), nullptr, [&](JobStatus) { gate.get_future().wait(); });
  device->Wait(nullptr, other->Record(nullptr));
  std::atomic<int> ok{0}, refused{0};
  for (int i = 0; i < 7; ++i) {
    device->Submit(MakePack(codec, a, part, packed[i]), nullptr, [&](JobStatus status) {
      ++(status.ok ? ok : refused);
      EXPECT_TRUE(status.ok || status.error.code == ErrorCode::kResourceExhausted);
    });
  }
  gate.set_value();
  device.reset();
  EXPECT_EQ(ok, 4);
  EXPECT_EQ(refused, 3);
}

}  // namespace
}  // namespace kvasir
