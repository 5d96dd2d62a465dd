// SPDX-License-Identifier: Apache-2.0
// StageList: a list of stages that can be asked by index, at compile time each and at run time any.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/stages/stage.h"

namespace kvasir {

template <class... Stages>
struct StageList {
  static constexpr uint32_t kCount = sizeof...(Stages);
  static_assert(((sizeof(typename Stages::Args) <= kStageArgsBytes) && ...), "the Args of a stage are too large");
  static_assert((std::is_trivially_copyable_v<typename Stages::Args> && ...), "the Args of a stage are plain data");

  /// use.template operator()<S>() for the stage at `index`; nothing when there is none.
  template <class Use>
  static void With(uint32_t index, Use&& use) {
    uint32_t i = 0;
    static_cast<void>(((i++ == index ? (use.template operator()<Stages>(), true) : false) || ...));
  }
  template <class Use>
  static void ForEach(Use&& use) {
    (use.template operator()<Stages>(), ...);
  }
  /// The index of S.
  template <class S>
  static constexpr uint32_t IndexOf() {
    uint32_t i = 0;
    static_cast<void>(((std::is_same_v<S, Stages> ? true : (++i, false)) || ...));
    return i;
  }
};

}  // namespace kvasir
