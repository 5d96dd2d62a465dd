// SPDX-License-Identifier: Apache-2.0
// Segment files: names, headers, making and opening.
#include "store/tiers/ssd_segment_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/frame_directory.h"
#include "store/tiers/ssd_directory.h"

namespace kvasir {
namespace {

constexpr char kNameSuffix[] = ".seg";

int OpenFlags(SegmentAccess access) {
  switch (access) {
    case SegmentAccess::kRead:
      return O_RDONLY | O_CLOEXEC;
    case SegmentAccess::kBuffered:
      return O_RDWR | O_CLOEXEC;
    case SegmentAccess::kDirect:
      return O_RDWR | O_CLOEXEC | O_DIRECT;
  }
  return O_RDONLY;
}

uint32_t HeaderCrc(const SegmentHeader& header) {
  return Crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, crc32c)));
}

/// DataLoss names the first field that is not as it must be.
absl::Status CheckHeader(const SegmentHeader& header, uint32_t id) {
  const auto wrong = [id](const char* field) {
    return absl::DataLossError(absl::StrCat("segment ", id, ": header: ", field));
  };
  if (header.magic != SegmentHeader::kMagic) return wrong("magic");
  if (header.version != SegmentHeader::kVersion) return wrong("version");
  if (header.header_bytes != sizeof header) return wrong("header_bytes");
  if (header.crc32c != HeaderCrc(header)) return wrong("crc32c");
  if (header.id != id) return wrong("id: another segment's file");
  if (header.incarnation == 0) return wrong("incarnation");
  return absl::OkStatus();
}

absl::Status RunOne(DiskOp op, DiskIo& disk, SsdHealth& health) {
  disk.Run({&op, 1});
  return WriteOutcome(op, health);
}

}  // namespace

std::string SegmentPath(const std::string& directory, uint32_t id) {
  return absl::StrFormat("%s/%08u%s", directory, id, kNameSuffix);
}

absl::StatusOr<std::vector<uint32_t>> ListSegments(const std::string& directory) {
  std::vector<uint32_t> ids;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    uint32_t id = 0;
    // Back and forth: the number says the name, or the file is not ours.
    const bool number = absl::SimpleAtoi(entry->path().stem().string(), &id) && id > 0;
    if (number && SegmentPath(directory, id) == entry->path().string()) ids.push_back(id);
  }
  if (error) return SsdErrnoError(directory, "cannot be listed", error.value());
  std::sort(ids.begin(), ids.end());
  return ids;
}

bool DirectWorks(const std::string& directory) {
  const std::string path = directory + "/probe";
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0644));
  bool works = file.ok();
  if (works) {
    AlignedBuffer block(kBlockBytes);
    std::memset(block.data(), 0, block.size());
    const DiskOp write{DiskOp::Kind::kWrite, file.get(), 0, block.data(), block.size(), 0};
    works = RunPlainly(write) != -EINVAL;  // other trouble says nothing about O_DIRECT
  }
  unlink(path.c_str());
  return works;
}

absl::StatusOr<FoundSegment> OpenSegment(const std::string& directory, uint32_t id, SegmentAccess access,
                                         DiskIo& disk) {
  const std::string path = SegmentPath(directory, id);
  FoundSegment found;
  found.file.id = id;
  found.file.fd = FileDescriptor(open(path.c_str(), OpenFlags(access)));
  struct stat about {};
  if (!found.file.fd.ok() || fstat(found.file.fd.get(), &about) != 0) {
    return SsdErrnoError(directory, absl::StrCat("cannot open ", path), errno);
  }
  found.file.bytes = static_cast<uint64_t>(about.st_size);
  if (found.file.bytes < kBlockBytes) {
    found.header = absl::DataLossError(absl::StrCat("segment ", id, ": header: the file is shorter"));
    return found;
  }
  AlignedBuffer block(kBlockBytes);
  DiskOp read{DiskOp::Kind::kRead, found.file.fd.get(), 0, block.data(), kBlockBytes, 0};
  disk.Run({&read, 1});
  if (absl::Status status = ReadOutcome(read); !status.ok()) {
    found.header = absl::UnavailableError(absl::StrCat("segment ", id, ": header: ", status.ToString()));
    return found;
  }
  SegmentHeader header;
  std::memcpy(&header, block.data(), sizeof header);
  found.header = CheckHeader(header, id);
  if (found.header.ok()) found.file.incarnation = header.incarnation;
  return found;
}

absl::StatusOr<SegmentFile> MakeSegment(const std::string& directory, uint32_t id, uint64_t bytes, SegmentAccess access,
                                        DiskIo& disk, SsdHealth& health) {
  const std::string path = SegmentPath(directory, id);
  SegmentFile file;
  file.id = id;
  file.bytes = bytes;
  file.fd = FileDescriptor(open(path.c_str(), OpenFlags(access) | O_CREAT | O_EXCL, 0644));
  if (!file.fd.ok()) return SsdErrnoError(directory, absl::StrCat("cannot make ", path), errno);

  DiskOp allocate{DiskOp::Kind::kAllocate, file.fd.get(), 0, nullptr, bytes, 0};
  absl::Status status = RunOne(allocate, disk, health);
  // The file's name must be on disk before anything in the file is promised.
  FileDescriptor names(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (status.ok()) status = RunOne({DiskOp::Kind::kSyncDirectory, names.get(), 0, nullptr, 0, 0}, disk, health);
  if (status.ok()) return file;
  unlink(path.c_str());
  return status;
}

absl::Status WriteSegmentHeader(const SegmentFile& file, bool sync, DiskIo& disk, SsdHealth& health) {
  SegmentHeader header;
  header.id = file.id;
  header.incarnation = file.incarnation;
  header.bytes = file.bytes;
  header.crc32c = HeaderCrc(header);
  AlignedBuffer block(kBlockBytes);
  std::memset(block.data(), 0, block.size());
  std::memcpy(block.data(), &header, sizeof header);
  absl::Status status = RunOne({DiskOp::Kind::kWrite, file.fd.get(), 0, block.data(), kBlockBytes, 0}, disk, health);
  if (status.ok() && sync) status = RunOne({DiskOp::Kind::kSync, file.fd.get(), 0, nullptr, 0, 0}, disk, health);
  return status;
}

}  // namespace kvasir
