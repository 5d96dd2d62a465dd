// SPDX-License-Identifier: Apache-2.0
// KVASIR_CHECK: a broken invariant ends the process with place and reason, in every build. Expected trouble is a
// Status.
#pragma once

#include <cstdio>
#include <cstdlib>

#define KVASIR_CHECK(condition, why)                                                                        \
  do {                                                                                                      \
    if (!(condition)) [[unlikely]] {                                                                        \
      std::fprintf(stderr, "kvasir: CHECK failed at %s:%d: %s: %s\n", __FILE__, __LINE__, #condition, why); \
      std::abort();                                                                                         \
    }                                                                                                       \
  } while (false)
