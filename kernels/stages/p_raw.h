// SPDX-License-Identifier: Apache-2.0
// P:raw. The frame is the elements, little endian, as they lie in [heads][tokens][dim].
#pragma once

#include "kernels/kv_layout.h"

namespace kvasir {

inline uint64_t RawFrameBytes(const FrameShape& shape) { return shape.bytes(); }

}  // namespace kvasir
