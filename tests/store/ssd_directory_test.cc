// SPDX-License-Identifier: Apache-2.0
// Goal: a directory that cannot serve is refused with its name, the cause and the next step, untouched; and an offline
// check finds every damaged byte. Method: one directory for each kind of trouble.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "store/tiers/ssd_tier.h"
#include "tests/store/ssd_testing.h"

namespace kvasir {
namespace {

using testing::Append;
using testing::FlipByte;
using testing::MakePart;
using testing::SegmentFiles;
using testing::SmallOptions;
using testing::TempDirectory;

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

std::set<std::string> Names(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.insert(entry.path().filename());
  return names;
}

absl::Status OpenStatus(const std::string& directory) {
  return SsdTier::Open(SmallOptions(directory), nullptr).status();
}

void ExpectNames(const absl::Status& status, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    EXPECT_NE(std::string(status.message()).find(word), std::string::npos) << "'" << word << "' is not in: " << status;
  }
}

TEST(SsdDirectory, MakesWhatIsMissing) {
  TempDirectory parent;
  const std::string path = parent.path() + "/not/yet/there";
  EXPECT_TRUE(OpenStatus(path).ok()) << OpenStatus(path);
  EXPECT_EQ(Names(path), (std::set<std::string>{"FORMAT", "LOCK", "index", "segments"}));
  EXPECT_TRUE(OpenStatus(path).ok());
}

TEST(SsdDirectory, OneProcessADirectory) {
  TempDirectory directory;
  auto tier = SsdTier::Open(SmallOptions(directory.path()), nullptr);
  ASSERT_TRUE(tier.ok()) << tier.status();
  const absl::Status second = OpenStatus(directory.path());
  EXPECT_TRUE(absl::IsUnavailable(second)) << second;
  ExpectNames(second, {directory.path(), "process " + std::to_string(getpid()), "stop it"});
  EXPECT_TRUE(absl::IsUnavailable(VerifySsdDirectory(directory.path(), [](const auto&, uint64_t, uint64_t) {})));
  tier->reset();
  EXPECT_TRUE(OpenStatus(directory.path()).ok());
}

TEST(SsdDirectory, AnotherFormatIsNotTouched) {
  const std::vector<std::string> texts = {"kvasir ssd 2\n",  "kvasir ssd 1", "",
                                          "kvasir ssd -1\n", "ext4\n",       "kvasir ssd 1\nx"};
  for (const std::string& text : texts) {
    TempDirectory directory;
    WriteText(directory.path() + "/FORMAT", text);
    const absl::Status status = OpenStatus(directory.path());
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << text << ": " << status;
    ExpectNames(status, {directory.path(), "give an empty directory"});
    EXPECT_EQ(Names(directory.path()), std::set<std::string>{"FORMAT"});
  }
  TempDirectory newer;
  WriteText(newer.path() + "/FORMAT", "kvasir ssd 2\n");
  ExpectNames(OpenStatus(newer.path()), {"format 2", "format 1", "newer build"});
}

TEST(SsdDirectory, SomebodyElsesDirectoryIsNotTouched) {
  TempDirectory directory;
  WriteText(directory.path() + "/thesis.tex", "...");
  const absl::Status status = OpenStatus(directory.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  ExpectNames(status, {directory.path(), "thesis.tex", "empty directory"});
  EXPECT_EQ(Names(directory.path()), std::set<std::string>{"thesis.tex"});
}

TEST(SsdDirectory, AnInterruptedFirstStartGoesOn) {
  TempDirectory directory;
  WriteText(directory.path() + "/LOCK", "");
  WriteText(directory.path() + "/FORMAT.new", "kvas");
  std::filesystem::create_directory(directory.path() + "/lost+found");
  EXPECT_TRUE(OpenStatus(directory.path()).ok()) << OpenStatus(directory.path());
}

TEST(SsdDirectory, AFileIsNoDirectory) {
  TempDirectory parent;
  const std::string path = parent.path() + "/file";
  WriteText(path, "x");
  for (const std::string& bad : {path, path + "/below"}) {
    const absl::Status status = OpenStatus(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    ExpectNames(status, {bad, "give the path of a directory"});
  }
  EXPECT_TRUE(absl::IsInvalidArgument(OpenStatus("")));
}

TEST(SsdDirectory, OneThatMayNotBeWrittenIsRefused) {
  if (geteuid() == 0) GTEST_SKIP() << "root writes where it may not";
  TempDirectory directory;
  chmod(directory.path().c_str(), 0555);
  const absl::Status status = OpenStatus(directory.path());
  chmod(directory.path().c_str(), 0755);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  ExpectNames(status, {directory.path(), "may write"});
}

/// What an offline check says: number of parts, and which failed with what.
struct Verdict {
  absl::Status status;
  uint64_t parts = 0;
  std::vector<std::string> failed;
};
Verdict Verify(const std::string& directory) {
  Verdict verdict;
  uint64_t last = 0;
  verdict.status = VerifySsdDirectory(directory, [&](const VerifiedPart& part, uint64_t done, uint64_t total) {
    ++verdict.parts;
    EXPECT_GT(done, last);
    EXPECT_LE(done, total);
    last = done;
    if (!part.status.ok()) verdict.failed.push_back(std::string(part.status.message()));
  });
  return verdict;
}

TEST(SsdVerify, FindsEveryFlippedByte) {
  TempDirectory directory;
  constexpr uint64_t kParts = 3;
  std::vector<SsdLocation> locations;
  uint64_t frames_offset = 0, bytes = 0;
  {
    auto tier = SsdTier::Open(SmallOptions(directory.path()), nullptr);
    ASSERT_TRUE(tier.ok());
    for (uint64_t i = 0; i < kParts; ++i) {
      const auto part = MakePart(i, i + 1, 300);
      const auto location = Append(**tier, part, true);
      ASSERT_TRUE(location.ok());
      locations.push_back(*location);
      frames_offset = part.meta.frames_offset;
      bytes = part.meta.bytes;
    }
  }
  const Verdict clean = Verify(directory.path());
  EXPECT_TRUE(clean.status.ok()) << clean.status;
  EXPECT_EQ(clean.parts, kParts);
  EXPECT_TRUE(clean.failed.empty());
  const std::string file = SegmentFiles(directory.path()).at(0);
  const uint64_t begin = locations[1].offset;
  // Header, spec, directory, first and last byte of a frame.
  for (uint64_t at :
       {uint64_t{0}, uint64_t{9}, uint64_t{200}, uint64_t{257}, frames_offset - 1, frames_offset, bytes - 16}) {
    FlipByte(file, begin + at);
    const Verdict damaged = Verify(directory.path());
    EXPECT_TRUE(damaged.status.ok());
    EXPECT_EQ(damaged.parts, kParts);
    EXPECT_EQ(damaged.failed.size(), 1u) << "byte " << at;
    FlipByte(file, begin + at);
  }
  EXPECT_TRUE(Verify(directory.path()).failed.empty());
  std::filesystem::remove(file);
  EXPECT_EQ(Verify(directory.path()).failed.size(), kParts);
}

TEST(SsdVerify, RefusesWhatIsNoTier) {
  TempDirectory directory;
  const absl::Status status = Verify(directory.path()).status;
  EXPECT_FALSE(status.ok());
  ExpectNames(status, {directory.path()});
  EXPECT_TRUE(Names(directory.path()).empty());
}

}  // namespace
}  // namespace kvasir
