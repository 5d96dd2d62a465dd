// SPDX-License-Identifier: Apache-2.0
// Random values of everything that store/wire carries, and their full description as text. Both walk the same lists of
// fields (structured bindings): a field that is added to a value and not to its list does not compile.
#pragma once

#include <random>
#include <string>

#include "store/api/admin_api.h"
#include "store/api/peer_api.h"
#include "store/api/store_api.h"

namespace kvasir::testing {

/// A value that the wire accepts, every field random.
template <class T>
T Sample(std::mt19937_64& rng);

/// Every field by its value: equal texts mean equal values.
template <class T>
std::string Describe(const T& value);

}  // namespace kvasir::testing
