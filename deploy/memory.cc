// SPDX-License-Identifier: Apache-2.0
// Reads /proc and /sys/fs/cgroup.
#include "deploy/memory.h"

#include <algorithm>
#include <fstream>
#include <string_view>
#include <vector>

#include "deploy/flags.h"
#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The number behind the word `name` at the beginning of a line, or 0: "MemTotal:  24098504 kB", "inactive_file 4096".
uint64_t NumberBehind(const std::string& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = Split(line, ' ');
    uint64_t number = 0;
    if (words.size() >= 2 && words[0] == name && ParseNumber(words[1], &number)) return number;
  }
  return 0;
}

/// A directory that states the memory limit of a control group of this process.
struct MemoryGroup {
  std::string directory;
  bool v1 = false;
};

/// The process's own group first, then its parents up to the root. Inside a container the root is its own group, and the path
/// that /proc names may not be there.
std::vector<MemoryGroup> MemoryGroups(const std::string& root) {
  std::vector<MemoryGroup> groups;
  const auto add = [&groups](const std::string& base, std::string path, bool v1) {
    for (; path.size() > 1; path.resize(path.rfind('/'))) groups.push_back({base + path, v1});
    groups.push_back({base, v1});
  };
  std::string v1_path, v2_path;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "0::/path", "4:memory:/path", "3:cpu,memory:/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::vector<std::string> controllers = Split(line.substr(first + 1, second - first - 1), ',');
    if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) v1_path = line.substr(second + 1);
    if (line.starts_with("0::")) v2_path = line.substr(second + 1);
  }
  add(root + "/sys/fs/cgroup", v2_path, false);
  add(root + "/sys/fs/cgroup/memory", v1_path, true);
  return groups;
}

}  // namespace

MemoryLimit ReadMemoryLimit(const std::string& root) {
  MemoryLimit limit;
  const uint64_t machine_kib = NumberBehind(root + "/proc/meminfo", "MemTotal:");
  if (machine_kib != 0) limit = {machine_kib * 1024, "the machine's memory", ""};
  for (const MemoryGroup& group : MemoryGroups(root)) {
    uint64_t bytes = 0;
    const std::string file = group.directory + (group.v1 ? "/memory.limit_in_bytes" : "/memory.max");
    // "max" (v2) and numbers near 2^63 (v1) mean none.
    if (!ParseNumber(FirstLine(file), &bytes) || bytes >= kSizeMax) continue;
    if (limit.bytes == 0 || bytes < limit.bytes) {
      limit = {bytes, "the limit of this container or control group", group.directory};
    }
  }
  return limit;
}

uint64_t ReadMemoryUsed(const MemoryLimit& limit, const std::string& root) {
  if (limit.directory.empty()) {
    const uint64_t available_kib = NumberBehind(root + "/proc/meminfo", "MemAvailable:");
    return available_kib == 0 ? 0 : limit.bytes - std::min(limit.bytes, available_kib * 1024);
  }
  uint64_t used = 0;
  const bool v2 = ParseNumber(FirstLine(limit.directory + "/memory.current"), &used);
  if (!v2 && !ParseNumber(FirstLine(limit.directory + "/memory.usage_in_bytes"), &used)) return 0;
  return used - std::min(used, NumberBehind(limit.directory + "/memory.stat", v2 ? "inactive_file" : "total_inactive_file"));
}

absl::Status CheckMemory(uint64_t dram, const MemoryLimit& limit) {
  if (limit.bytes == 0 || dram <= limit.bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("--dram ", HumanBytes(dram), " (", dram, " bytes) is more than ", limit.source,
                                        ", ", HumanBytes(limit.bytes), " (", limit.bytes,
                                        " bytes). Give less, and leave room for the rest of the process, or --dram auto"));
}

absl::StatusOr<uint64_t> AutoDram(const MemoryLimit& limit) {
  constexpr uint64_t kMiB = 1 << 20;
  if (limit.bytes == 0) {
    return absl::InvalidArgumentError("--dram auto: neither the machine's memory nor a limit could be read. Give a size");
  }
  const uint64_t left = limit.bytes - std::min(limit.bytes, kMemoryReserve);
  const auto dram = static_cast<uint64_t>(kDramShare * static_cast<double>(left)) / kMiB * kMiB;
  if (dram != 0) return dram;
  return absl::InvalidArgumentError(Cat("--dram auto: ", limit.source, ", ", HumanBytes(limit.bytes), ", leaves nothing beside the ",
                                        HumanBytes(kMemoryReserve), " that the process itself needs. Raise it"));
}

}  // namespace kvasir
