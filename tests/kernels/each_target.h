// SPDX-License-Identifier: Apache-2.0
// A test body on every instruction set that both this CPU and the build have bodies for.
#pragma once

// clang-format off
#include "kernels/simd/targets.h"  // before Highway's own headers
// clang-format on

#include <cstdio>
#include <string>

#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace kvasir::testing {

/// Runs `body` once for each target, best first.
template <class Body>
void ForEachTarget(Body body) {
  int64_t left = hwy::SupportedTargets() & HWY_TARGETS;
  std::string ran;
  while (left != 0) {
    const int64_t target = left & -left;
    left ^= target;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    ran.append(" ").append(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  std::printf("targets:%s\n", ran.c_str());
}

}  // namespace kvasir::testing
