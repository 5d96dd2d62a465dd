// SPDX-License-Identifier: Apache-2.0
// What a cluster of this size asks of its parts: connections, calls, bytes, memory. Arithmetic over what was simulated
// (sim_cluster.h), the sizes of real messages and the intervals and limits that the code has; each figure says how it
// came about.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deploy/kvasir/sim_cluster.h"

namespace kvasir {

/// Bytes of messages as they are on the wire. The program measures them of messages it makes.
struct WireSizes {
  uint64_t membership = 0;       ///< all members
  uint64_t probe = 0;            ///< question and answer
  uint64_t inventory_block = 0;  ///< one block of an InventoryReply
  uint64_t touch = 0;            ///< an empty Touch: what renews a session; question and answer
};

enum class FigureUnit : uint8_t { kCount, kPerSecond, kBytes, kBytesPerSecond, kNanoseconds };
struct Figure {
  std::string group;  ///< heading for people
  std::string key;    ///< name for programs
  std::string what;
  double value = 0;
  FigureUnit unit = FigureUnit::kCount;
  std::string how;  ///< what it follows from
};

struct LoadInputs {
  SimOptions options;
  FanOut fan_out;
  std::vector<Met> met;
  WireSizes wire;
  PlaceCost place;
  double joining_owners = 0;  ///< owners that a reader lists while a node joins: Moves::readers_ask
};
std::vector<Figure> LoadFigures(const LoadInputs& inputs);

/// Bytes that a Membership takes in memory, texts included.
uint64_t MemoryOf(const Membership& members);

}  // namespace kvasir
