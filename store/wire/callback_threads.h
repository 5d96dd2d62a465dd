// SPDX-License-Identifier: Apache-2.0
// gRPC's callback threads live as long as a channel uses them, and whoever releases the last such channel joins them.
// A callback may well be that one (its call holds the channel), and a thread that joins itself frees its queue twice.
// So one channel to nowhere keeps the threads until the process ends. Private to store/wire.
#pragma once

namespace kvasir {

/// Before a channel is made. Any thread, any number of times.
void KeepCallbackThreads();

}  // namespace kvasir
