// SPDX-License-Identifier: Apache-2.0
// kvasir inspect: the parts in a file (a single part, or a segment of an SSD tier) as their headers describe them, each
// frame's checksum compared. Looks at bytes only: which parts of a segment are still live, `kvasir verify` says.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "deploy/kvasir/command.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "kernels/frame_directory.h"
#include "store/api/part.h"

namespace kvasir {
namespace {

/// Parts begin at multiples of this in a segment, at 0 in a file of one part.
constexpr uint64_t kStep = 4096;
constexpr uint64_t kProgressBytesMin = 256ull << 20;

/// A file mapped for reading. Move-only; created ready or not at all.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat facts {};
    if (fd < 0 || fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
      const std::string cause = fd < 0 ? std::strerror(errno) : "it is not a file";
      if (fd >= 0) close(fd);
      return absl::InvalidArgumentError(
          Cat("cannot read ", path, ": ", cause, ". Name a part file or one of DIR/segments/*.seg"));
    }
    const auto bytes = static_cast<size_t>(facts.st_size);
    void* data = bytes == 0 ? nullptr : mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) return absl::UnavailableError(Cat("cannot map ", path, ": ", std::strerror(errno)));
    return MappedFile({static_cast<const std::byte*>(data), bytes});
  }
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile() {
    if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

struct FoundPart {
  uint64_t offset = 0;
  absl::Status status;             ///< of header, root and every frame
  std::optional<PartFrame> frame;  ///< where header and directory can be read
  std::vector<bool> frame_ok;
};

/// What lies at `offset`, or nothing where no part begins.
std::optional<FoundPart> Look(std::span<const std::byte> file, uint64_t offset) {
  uint32_t magic = 0;
  const auto bytes = file.subspan(offset);
  if (bytes.size() < sizeof magic) return std::nullopt;
  std::memcpy(&magic, bytes.data(), sizeof magic);
  if (magic != PartHeader::kMagic) return std::nullopt;
  FoundPart part{.offset = offset, .status = absl::OkStatus(), .frame = std::nullopt, .frame_ok = {}};
  auto frame = ParseAnyPart(bytes);
  if (!frame.ok()) {
    part.status = frame.status();
    return part;
  }
  if (frame->total_bytes > bytes.size()) {
    part.status = absl::DataLossError(Cat("the file ends after ", bytes.size(), " of ", frame->total_bytes, " bytes"));
    part.frame = *std::move(frame);
    return part;
  }
  for (size_t i = 0; i < frame->directory.size(); ++i) {
    const FrameEntry& entry = frame->directory[i];
    part.frame_ok.push_back(Crc32c(bytes.subspan(frame->frames_offset + entry.offset, entry.length)) == entry.crc32c);
    if (!part.frame_ok.back() && part.status.ok())
      part.status = absl::DataLossError(Cat("frame ", i, ": CRC32C differs"));
  }
  part.frame = *std::move(frame);
  return part;
}

std::string Range(uint32_t first, uint32_t count) {
  return count == 1 ? Cat(first) : Cat(first, "-", first + count - 1);
}

nlohmann::ordered_json ToJson(const FoundPart& part) {
  nlohmann::ordered_json out = {{"offset", part.offset}, {"ok", part.status.ok()}};
  if (!part.status.ok()) out["cause"] = TextOf(part.status.message());
  if (!part.frame.has_value()) return out;
  const PartHeader& h = part.frame->header;
  const auto hex = [](std::span<const uint8_t> bytes) {
    return ToHex(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  };
  out.update({{"version", h.version},
              {"key", hex(h.key)},
              {"namespace", hex(h.namespace_digest)},
              {"view", hex(h.view_digest)},
              {"spec", part.frame->spec},
              {"block_index", h.block_index},
              {"token_count", h.token_count},
              {"first_layer", h.first_layer},
              {"layers", h.layers},
              {"first_head", h.first_head},
              {"heads", h.heads},
              {"layer_group", h.layer_group},
              {"head_group", h.head_group},
              {"plane", h.plane},
              {"planes", std::max<uint32_t>(h.planes, 1)},
              {"generation", h.generation},
              {"writer", h.writer},
              {"root", hex(h.root)},
              {"bytes", part.frame->total_bytes},
              {"frames", nlohmann::json::array()}});
  for (size_t i = 0; i < part.frame->directory.size(); ++i) {
    const FrameEntry& entry = part.frame->directory[i];
    nlohmann::ordered_json frame = {{"offset", entry.offset}, {"length", entry.length}, {"crc32c", entry.crc32c}};
    if (i < part.frame_ok.size()) frame["ok"] = static_cast<bool>(part.frame_ok[i]);
    out["frames"].push_back(frame);
  }
  return out;
}

void PrintOne(const FoundPart& part) {
  const PartHeader& h = part.frame->header;
  const auto line = [](const char* name, const std::string& value) { std::printf("%-12s  %s\n", name, value.c_str()); };
  line("key", ToHex(IdOf(h).key));
  line("namespace", ToHex(std::string_view(reinterpret_cast<const char*>(h.namespace_digest), 32)));
  line("view", Cat(ToHex(IdOf(h).view).substr(0, 16), "  codec ", part.frame->spec));
  line("block", Cat(h.block_index, ", ", h.token_count, " tokens"));
  line("layers", Cat(Range(h.first_layer, h.layers), " (group ", h.layer_group, ")"));
  line("heads", Cat(Range(h.first_head, h.heads), " (group ", h.head_group, ")"));
  if (h.planes > 0) line("plane", Cat(h.plane, " of ", h.planes));
  line("generation", Cat(h.generation));
  line("size", Cat(HumanBytes(part.frame->total_bytes), " in ", part.frame->directory.size(), " frames"));
  line("checksums", part.status.ok() ? "all right" : std::string(TextOf(part.status.message())));
}

void PrintParts(const std::vector<FoundPart>& parts) {
  Table table({"OFFSET", "KEY", "BLOCK", "LAYERS", "HEADS", "PLANE", "CODEC", "FRAMES", "SIZE", "CHECKSUMS"});
  for (const FoundPart& part : parts) {
    const std::string verdict = part.status.ok() ? "ok" : std::string(TextOf(part.status.message()));
    if (!part.frame.has_value()) {
      table.Row({Cat(part.offset), "?", "-", "-", "-", "-", "?", "-", "-", verdict});
      continue;
    }
    const PartHeader& h = part.frame->header;
    table.Row({Cat(part.offset), ToHex(IdOf(h).key).substr(0, 16), Cat(h.block_index), Range(h.first_layer, h.layers),
               Range(h.first_head, h.heads), h.planes > 0 ? Cat(h.plane, "/", h.planes) : "-",
               std::string(part.frame->spec), Cat(h.frame_count), HumanBytes(part.frame->total_bytes), verdict});
  }
  std::printf("%s", table.Text().c_str());
}

void PrintFrames(const std::vector<FoundPart>& parts, bool all) {
  Table table({"PART AT", "FRAME", "OFFSET", "LENGTH", "CRC32C", "VERDICT"});
  for (const FoundPart& part : parts) {
    for (size_t i = 0; i < part.frame_ok.size(); ++i) {
      if (!all && part.frame_ok[i]) continue;
      const FrameEntry& entry = part.frame->directory[i];
      char crc[16];
      std::snprintf(crc, sizeof crc, "%08x", entry.crc32c);
      table.Row(
          {Cat(part.offset), Cat(i), Cat(entry.offset), Cat(entry.length), crc, part.frame_ok[i] ? "ok" : "differs"});
    }
  }
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

}  // namespace

absl::Status RunInspect(const GlobalFlags& global, const InspectFlags& flags) {
  const auto file = MappedFile::Open(flags.file);
  if (!file.ok()) return file.status();
  std::vector<FoundPart> parts;
  size_t damaged = 0;
  std::unique_ptr<Progress> progress;  // for what takes a while
  if (file->bytes().size() >= kProgressBytesMin) {
    progress = std::make_unique<Progress>("inspect", file->bytes().size(), Progress::Unit::kBytes);
  }
  for (uint64_t offset = 0; offset < file->bytes().size();) {
    if (progress != nullptr) progress->Set(offset);
    auto part = Look(file->bytes(), offset);
    const uint64_t bytes = part.has_value() && part->frame.has_value() ? part->frame->total_bytes : 1;
    offset += (bytes + kStep - 1) / kStep * kStep;
    if (!part.has_value()) continue;
    damaged += part->status.ok() ? 0 : 1;
    parts.push_back(*std::move(part));
  }
  if (progress != nullptr) progress->Set(file->bytes().size());
  progress.reset();
  if (parts.empty()) {
    return absl::InvalidArgumentError(
        Cat("no part begins in ", flags.file, ". Name a part file or one of DIR/segments/*.seg"));
  }
  if (global.json) {
    auto out = nlohmann::ordered_json::array();
    for (const FoundPart& part : parts) out.push_back(ToJson(part));
    std::printf("%s\n", out.dump(1).c_str());
  } else {
    if (parts.size() == 1 && parts[0].frame.has_value()) PrintOne(parts[0]);
    if (parts.size() > 1 || !parts[0].frame.has_value()) PrintParts(parts);
    PrintFrames(parts, flags.frames);
  }
  if (damaged == 0) return absl::OkStatus();
  return absl::DataLossError(
      Cat(damaged, " of ", parts.size(),
          " parts are damaged. A node counts each as a miss and drops it; `kvasir verify DIR` says "
          "which of them the index still names"));
}

}  // namespace kvasir
