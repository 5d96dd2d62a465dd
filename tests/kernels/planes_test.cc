// SPDX-License-Identifier: Apache-2.0
// Goal: planes cut from packed frames hold the bytes between PlaneEnd and PlaneEnd, and make the same frames again, all
// or a range of them; the lowest alone decodes as the codec says; damage is found in the plane it is in. Method: parts
// packed by the CPU device, in specs of two planes, of one, and of both kinds.
#include "kernels/planes.h"

#include "gtest/gtest.h"
#include "tests/kernels/engine.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using namespace testing;  // the engine and its jobs

const KvLayout kLayout{5, 2, 64, 32, ElementType::kBfloat16};
const PartGeometry kPart{1, 4, 0, 2, 32, 48};
const char* const kSpecs[] = {"hier(4+4,tok,16)|planes", "k:hier(4+4,chan,16)|v:hier(2+2,tok)|planes",
                              "hier(6+2,tok)|planes", "k:hier(4+4,tok)|v:raw|k:planes",
                              "k:splitexp(ans)|v:hier(2+1,tok)|v:planes"};

/// A part packed, and cut.
struct Cut {
  explicit Cut(const std::string& spec) : codec(MustParse(spec)) {
    auto rng = Rng(7);
    Engine engine = MakeEngine(kLayout, Order::kNHD, 16, 96, rng);
    FillRandom(engine, rng);
    const auto device = MakeCpuDevice({.codec_threads = 1});
    const JobStatus status = RunJob(*device, MakePack(codec, engine, kPart, packed));
    EXPECT_TRUE(status.ok) << status.error.message;
    for (uint32_t p = 0; p < codec->planes(); ++p) {
      std::vector<std::byte>& area = areas.emplace_back(MaxPlaneAreaBytes(*codec, kLayout, kPart, p));  // not one more
      planes.push_back(CutOutPlane(*codec, kLayout, kPart, p, packed.result.directory, packed.area, area));
      EXPECT_TRUE(CheckDirectory(planes.back().directory, planes.back().area_bytes).ok());
    }
  }
  static KvTensor TensorOf(size_t frame) { return static_cast<KvTensor>(frame % 2); }
  static FrameShape ShapeOf(size_t frame) { return ShapeOfFrame(kLayout, kPart, TensorOf(frame)); }
  std::span<const std::byte> Whole(size_t frame) const {
    const FrameEntry& entry = packed.result.directory[frame];
    return std::span(packed.area).subspan(entry.offset, entry.length);
  }
  std::span<const std::byte> Plane(uint32_t plane, size_t frame) const {
    const FrameEntry& entry = planes[plane].directory[frame];
    return std::span(areas[plane]).subspan(entry.offset, entry.length);
  }
  /// Planes [0, count) as they land when frames [first, first + frames) are asked for.
  std::vector<LandedPlane> Landed(uint32_t count, uint32_t first, uint32_t frames) const {
    std::vector<LandedPlane> landed;
    for (uint32_t p = 0; p < count; ++p) {
      const FrameEntry& from = planes[p].directory[first];
      const FrameEntry& last = planes[p].directory[first + frames - 1];
      landed.push_back({planes[p].directory,
                        std::span(areas[p]).subspan(from.offset, AlignFrame(last.offset + last.length) - from.offset),
                        from.offset});
    }
    return landed;
  }
  std::shared_ptr<const Codec> codec;
  Packed packed;
  std::vector<std::vector<std::byte>> areas;
  std::vector<CutPlane> planes;
};

bool Same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

TEST(Planes, HoldTheBytesBetweenTheirEnds) {
  for (const char* spec : kSpecs) {
    const Cut cut(spec);
    ASSERT_EQ(cut.planes.size(), 2u) << spec;
    uint64_t upper = 0;
    for (size_t i = 0; i < cut.packed.result.directory.size(); ++i) {
      const std::span<const std::byte> whole = cut.Whole(i);
      const uint64_t end = std::min<uint64_t>(cut.codec->PlaneEnd(Cut::TensorOf(i), Cut::ShapeOf(i), 0), whole.size());
      EXPECT_TRUE(Same(cut.Plane(0, i), whole.first(end))) << spec << " frame " << i;
      EXPECT_TRUE(Same(cut.Plane(1, i), whole.subspan(end))) << spec << " frame " << i;
      EXPECT_EQ(cut.planes[0].directory[i].crc32c, Crc32c(whole.first(end)));
      EXPECT_EQ(cut.planes[1].directory[i].crc32c, Crc32c(whole.subspan(end)));
      upper += whole.size() - end;
    }
    EXPECT_GT(upper, 0u) << spec;
  }
}

TEST(Planes, MakeTheSameFramesAgainInAnyRange) {
  for (const char* spec : kSpecs) {
    const Cut cut(spec);
    const auto frames = static_cast<uint32_t>(cut.packed.result.directory.size());
    for (uint32_t first = 0; first < frames; ++first) {
      for (uint32_t count = 1; first + count <= frames; ++count) {
        const std::vector<LandedPlane> landed = cut.Landed(2, first, count);
        ASSERT_EQ(SoundPlanes(landed, first, count), 2u);
        std::vector<std::byte> out(JoinedBytes(landed, first, count), std::byte{0xEE});
        std::vector<FrameEntry> directory;
        const uint64_t begin = JoinPlanes(landed, first, count, directory, out);
        ASSERT_EQ(directory.size(), frames);
        EXPECT_EQ(begin, cut.packed.result.directory[first].offset);
        for (uint32_t i = 0; i < frames; ++i) {
          const FrameEntry& whole = cut.packed.result.directory[i];
          EXPECT_EQ(directory[i].offset, whole.offset);
          EXPECT_EQ(directory[i].length, whole.length);
          EXPECT_EQ(directory[i].crc32c, i >= first && i < first + count ? whole.crc32c : 0u);
        }
        EXPECT_TRUE(Same(out, std::span(cut.packed.area).subspan(begin, out.size())))
            << spec << " " << first << " +" << count;
      }
    }
  }
}

TEST(Planes, TheLowestDecodesAloneAsTheCodecSays) {
  for (const char* spec : kSpecs) {
    const Cut cut(spec);
    for (size_t i = 0; i < cut.packed.result.directory.size(); ++i) {
      const std::span<const std::byte> whole = cut.Whole(i);
      const uint64_t end = std::min<uint64_t>(cut.codec->PlaneEnd(Cut::TensorOf(i), Cut::ShapeOf(i), 0), whole.size());
      const auto alone = Decoded(*cut.codec, Cut::TensorOf(i), Cut::ShapeOf(i), cut.Plane(0, i));
      const auto prefix = Decoded(*cut.codec, Cut::TensorOf(i), Cut::ShapeOf(i), whole.first(end));
      const auto both = Decoded(*cut.codec, Cut::TensorOf(i), Cut::ShapeOf(i), whole);
      ASSERT_TRUE(alone.ok() && prefix.ok() && both.ok()) << spec << " frame " << i;
      EXPECT_EQ(*alone, *prefix);
      EXPECT_EQ(*alone == *both, cut.Plane(1, i).empty()) << spec << " frame " << i;
    }
  }
}

TEST(Planes, DamageIsFoundInItsPlane) {
  Cut cut(kSpecs[0]);
  const auto frames = static_cast<uint32_t>(cut.packed.result.directory.size());
  for (uint32_t plane = 0; plane < 2; ++plane) {
    for (const uint32_t frame : {0u, 3u, frames - 1}) {
      std::byte& hurt = cut.areas[plane][cut.planes[plane].directory[frame].offset + 5];
      hurt ^= std::byte{8};
      EXPECT_EQ(SoundPlanes(cut.Landed(2, 0, frames), 0, frames), plane);
      EXPECT_EQ(SoundPlanes(cut.Landed(2, frame, 1), frame, 1), plane);
      const uint32_t other = frame == 0 ? 1 : 0;
      EXPECT_EQ(SoundPlanes(cut.Landed(2, other, 1), other, 1), 2u) << "what is not asked for is not looked at";
      hurt ^= std::byte{8};
    }
  }
}

}  // namespace
}  // namespace kvasir
