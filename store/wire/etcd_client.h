// SPDX-License-Identifier: Apache-2.0
// An etcd v3 as a KeyValue. No gRPC type is seen here.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "store/membership/key_value.h"

namespace kvasir {

/// PEM texts. What cannot be read as such shows as an etcd that cannot be reached.
struct EtcdTls {
  std::string ca;           ///< whom to believe; "" = whom the system does
  std::string certificate;  ///< who we are, with `key`; "" = nobody asks
  std::string key;
};

/// `endpoint` is HOST:PORT; without `tls` in plain text. Never blocks, never fails: an etcd that cannot be reached answers
/// Unavailable or DeadlineExceeded. Each object has a socket of its own: one to a stopped process is left by making
/// another object.
std::shared_ptr<KeyValue> MakeEtcdKeyValue(const std::string& endpoint, const std::optional<EtcdTls>& tls = std::nullopt);

}  // namespace kvasir
