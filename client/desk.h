// SPDX-License-Identifier: Apache-2.0
// Desk: what the parts of one Session share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "client/counters.h"
#include "client/session.h"
#include "client/staging.h"
#include "client/view_book.h"
#include "client/workbench.h"
#include "store/link/link_desk.h"

namespace kvasir::client {

/// Borrowed by every part, owned by the Session, which outlives them. The Loop only, but for mailbox and counters.
struct Desk {
  Loop& loop;
  const SessionOptions& options;
  const NamespaceDigest ns_digest;
  const std::shared_ptr<Mailbox> mailbox;
  CounterSet& counters;
  Staging& staging;
  Workbench& bench;
  ViewBook& views;
  uint64_t writer = 0;      ///< random; in the header of every part this Session makes
  LinkDesk links;           ///< of every NodeLink
  std::string push_view;    ///< of pushes that name none: options.push_view, or what "auto" became

  void Count(Counter counter, uint64_t by = 1) const { counters.Add(counter, by); }
  void Trace(const TraceSpan& span) const {
    if (options.trace) options.trace(span);
  }
};

}  // namespace kvasir::client
