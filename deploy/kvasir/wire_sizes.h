// SPDX-License-Identifier: Apache-2.0
// How long messages are on the wire.
#pragma once

#include "deploy/kvasir/sim_loads.h"

namespace kvasir {

/// Makes one of each and looks.
WireSizes MeasureWire(const Membership& members);

}  // namespace kvasir
