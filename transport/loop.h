// SPDX-License-Identifier: Apache-2.0
// Loop: one thread's clock, timers, file descriptors, and the only door between threads (Post). What a Loop runs never
// blocks. An object belongs to the Loop that made it and is touched from there only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/functional/any_invocable.h"

namespace kvasir {

/// Monotonic time. The wall clock is never used to decide anything.
using Instant = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

using Task = absl::AnyInvocable<void()>;

class Loop {
 public:
  using Clock = std::function<Instant()>;
  using TimerId = uint64_t;  ///< 0 is never a timer
  /// Called with the epoll events that are ready.
  using FdHandler = absl::AnyInvocable<void(uint32_t epoll_events)>;

  static constexpr Duration kSpin = std::chrono::microseconds(20);  ///< short spin before sleeping

  /// A clock other than steady_clock makes timers stepable in tests. Must outlive everything that belongs to it.
  explicit Loop(Clock clock = nullptr);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Any thread: runs `task` on the Loop, in order of posting. After Stop it is destroyed unrun.
  void Post(Task task);
  /// Any thread: Run returns after the task in hand.
  void Stop();
  /// Any thread: true inside what this Loop runs, and nowhere else.
  bool InLoop() const;

  // From here on: the Loop's own thread only.
  Instant Now() const;
  /// Runs until Stop.
  void Run();
  /// Runs what is ready; if nothing is, waits up to `wait` for the next thing. Returns how many things ran.
  int RunOnce(Duration wait);
  /// Runs `task` at or after `when`. Cancel is harmless for a timer that ran.
  TimerId At(Instant when, Task task);
  TimerId After(Duration wait, Task task) { return At(Now() + wait, std::move(task)); }
  void Cancel(TimerId timer);
  /// One handler per descriptor; Modify changes the events; Unwatch may be called from inside the handler.
  void Watch(int fd, uint32_t epoll_events, FdHandler handler);
  void Modify(int fd, uint32_t epoll_events);
  void Unwatch(int fd);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A Loop with a thread of its own; the destructor stops and joins it.
class LoopThread {
 public:
  /// `clock` as for Loop.
  explicit LoopThread(const char* name, Loop::Clock clock = nullptr);
  ~LoopThread();
  Loop& loop() { return *loop_; }
  /// Any other thread: runs `task` on the Loop and waits until it has run.
  void Call(Task task);

 private:
  std::unique_ptr<Loop> loop_;
  struct Thread;
  std::unique_ptr<Thread> thread_;
};

}  // namespace kvasir
