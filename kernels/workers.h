// SPDX-License-Identifier: Apache-2.0
// Workers: threads that share the items of one task.
#pragma once

#include <cstdint>
#include <functional>

namespace kvasir {

class Workers {
 public:
  virtual ~Workers() = default;
  /// Runs body(0) to body(count - 1), each once, some at the same time and in no order, and returns when all have
  /// ended. The calling thread works too, so that it ends whatever the others do. `body` does not throw.
  virtual void ForEach(uint64_t count, const std::function<void(uint64_t)>& body) = 0;
};

/// The same on the calling thread, in order, where there are no workers.
inline void ForEachOn(Workers* workers, uint64_t count, const std::function<void(uint64_t)>& body) {
  if (workers != nullptr) return workers->ForEach(count, body);
  for (uint64_t i = 0; i < count; ++i) body(i);
}

}  // namespace kvasir
