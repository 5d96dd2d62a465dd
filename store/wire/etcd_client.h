// SPDX-License-Identifier: Apache-2.0
// An etcd v3 as a KeyValue. No gRPC type is seen here.
#pragma once

#include <memory>
#include <string>

#include "store/membership/key_value.h"

namespace kvasir {

/// `endpoint` is HOST:PORT, plain text. Never blocks, never fails: an etcd that cannot be reached answers Unavailable
/// or DeadlineExceeded. Each object has a socket of its own: one to a stopped process is left by making another object.
std::shared_ptr<KeyValue> MakeEtcdKeyValue(const std::string& endpoint);

}  // namespace kvasir
