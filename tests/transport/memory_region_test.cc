// SPDX-License-Identifier: Apache-2.0
// SharedMemory: the seals hold against everything a reader could try. RemoteSpan: the encoded form.
#include "transport/memory_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "transport/backends/shm_mapping.h"

namespace kvasir {
namespace {

constexpr uint64_t kBytes = 1 << 20;

TEST(SharedMemoryTest, IsZeroedAndReadersSeeTheOwnersWrites) {
  auto memory = SharedMemory::Create(kBytes, "test");
  ASSERT_TRUE(memory.ok()) << memory.status();
  for (uint64_t i = 0; i < kBytes; i += 4093) EXPECT_EQ(memory->data()[i], std::byte{0});
  auto mapping = ReadMapping::Map(memory->fd(), kBytes);
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  memory->data()[kBytes - 1] = std::byte{42};
  EXPECT_EQ(mapping->bytes()[kBytes - 1], std::byte{42});
}

TEST(SharedMemoryTest, SealsRefuseASecondWritableMapping) {
  auto memory = SharedMemory::Create(kBytes, "test");
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd(), 0), MAP_FAILED);
  void* reading = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, memory->fd(), 0);
  ASSERT_NE(reading, MAP_FAILED);
  EXPECT_NE(mprotect(reading, kBytes, PROT_READ | PROT_WRITE), 0);
  munmap(reading, kBytes);
  const std::string path = "/proc/self/fd/" + std::to_string(memory->fd());
  const int reopened = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (reopened >= 0) {
    EXPECT_EQ(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, reopened, 0), MAP_FAILED);
    close(reopened);
  }
}

TEST(SharedMemoryTest, SealsRefuseWriteShrinkGrowAndHoles) {
  auto memory = SharedMemory::Create(kBytes, "test");
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(write(memory->fd(), "x", 1), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(memory->fd(), kBytes / 2), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(memory->fd(), kBytes * 2), -1);
  EXPECT_EQ(fallocate(memory->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
  EXPECT_EQ(fcntl(memory->fd(), F_ADD_SEALS, F_SEAL_WRITE), -1);
}

TEST(SharedMemoryTest, MoveLeavesOneOwner) {
  auto memory = SharedMemory::Create(kBytes, "test");
  ASSERT_TRUE(memory.ok());
  std::byte* const data = memory->data();
  SharedMemory other = *std::move(memory);
  EXPECT_EQ(other.data(), data);
  other = SharedMemory();
  EXPECT_EQ(other.data(), nullptr);
}

TEST(SharedMemoryTest, HugePagesAreThereAtBirthAndSealedAlike) {
  EXPECT_EQ(SharedMemory::Create(kBytes, "odd", PageKind::kHuge).status().code(), absl::StatusCode::kInvalidArgument);
  auto memory = SharedMemory::Create(2 * SharedMemory::kHugePageBytes, "huge", PageKind::kHuge);
  if (absl::IsResourceExhausted(memory.status())) GTEST_SKIP() << "no huge pages on this machine: " << memory.status().message();
  ASSERT_TRUE(memory.ok()) << memory.status();
  auto mapping = ReadMapping::Map(memory->fd(), memory->bytes());
  ASSERT_TRUE(mapping.ok()) << mapping.status();
  EXPECT_EQ(mapping->bytes()[memory->bytes() - 1], std::byte{0});
  memory->data()[memory->bytes() - 1] = std::byte{42};
  EXPECT_EQ(mapping->bytes()[memory->bytes() - 1], std::byte{42});
  EXPECT_EQ(mmap(nullptr, memory->bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd(), 0), MAP_FAILED);
  EXPECT_EQ(fallocate(memory->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SharedMemory::kHugePageBytes), -1);
}

TEST(SharedMemoryTest, MoreHugePagesThanThereAreIsAnErrorNotASignal) {
  const auto memory = SharedMemory::Create(uint64_t{1} << 44, "too much", PageKind::kHuge);
  EXPECT_TRUE(absl::IsResourceExhausted(memory.status())) << memory.status();
}

TEST(SharedMemoryTest, RefusesNoBytes) {
  EXPECT_EQ(SharedMemory::Create(0, "none").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ReadMappingTest, RefusesWhatCouldBeShrunkOrIsTooShort) {
  const int plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_GE(plain, 0);
  ASSERT_EQ(ftruncate(plain, kBytes), 0);
  EXPECT_EQ(ReadMapping::Map(plain, kBytes).status().code(), absl::StatusCode::kPermissionDenied);
  ASSERT_EQ(fcntl(plain, F_ADD_SEALS, F_SEAL_SHRINK), 0);
  EXPECT_TRUE(ReadMapping::Map(plain, kBytes).ok());
  EXPECT_FALSE(ReadMapping::Map(plain, kBytes + 1).ok());
  EXPECT_FALSE(ReadMapping::Map(plain, 0).ok());
  close(plain);
  const int not_memfd = open("/dev/zero", O_RDWR | O_CLOEXEC);
  EXPECT_FALSE(ReadMapping::Map(not_memfd, kBytes).ok());
  close(not_memfd);
}

TEST(RemoteSpanTest, EncodesEveryFieldAndNarrows) {
  const RemoteSpan span{1, 0xfedcba9876543210, 3, 1000, 5};
  const std::string bytes = span.Encode();
  ASSERT_EQ(bytes.size(), RemoteSpan::kEncodedBytes);
  auto back = RemoteSpan::Decode(bytes);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->Encode(), bytes);
  EXPECT_EQ(back->grant, span.grant);
  const RemoteSpan slice = span.Slice(10, 990);
  EXPECT_EQ(slice.offset, 13u);
  EXPECT_EQ(slice.length, 990u);
  EXPECT_EQ(slice.grant, span.grant);
  for (const size_t length : {size_t{0}, bytes.size() - 1}) {
    EXPECT_FALSE(RemoteSpan::Decode(std::string_view(bytes).substr(0, length)).ok());
  }
  EXPECT_FALSE(RemoteSpan::Decode(bytes + "x").ok());
  EXPECT_DEATH(span.Slice(10, 991), "CHECK failed");
}

}  // namespace
}  // namespace kvasir
