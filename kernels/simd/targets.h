// SPDX-License-Identifier: Apache-2.0
// The instruction sets that get bodies: the compiler's baseline, SSE4, AVX2 and AVX-512. Each costs compile time in two
// files; the others Highway knows bring the codecs nothing. Included before any Highway header.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
