// SPDX-License-Identifier: Apache-2.0
// Loop over epoll: posted tasks, then due timers, then ready descriptors; a short spin, then sleep.
#include "transport/loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "transport/check.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

constexpr int kEventsPerTurn = 64;
constexpr Duration kForever = std::chrono::hours(1);
/// With a clock of its own a Loop cannot know how long a timer is in real time: it looks again this often.
constexpr Duration kForeignClockPoll = std::chrono::milliseconds(1);
constexpr uint64_t kWakeKey = std::numeric_limits<uint64_t>::max();

struct Timer {
  Instant when;
  Loop::TimerId id;
  /// For a heap whose front is the earliest; equal times run in order of setting.
  bool operator<(const Timer& other) const { return when != other.when ? when > other.when : id > other.id; }
};

struct Watcher {
  uint32_t generation;
  uint32_t events;
  Loop::FdHandler handler;
};

/// The key of an event carries the generation, so that an event of a descriptor closed and reused in the same turn is
/// not given to its successor.
uint64_t EventKey(int fd, uint32_t generation) { return uint64_t{generation} << 32 | static_cast<uint32_t>(fd); }

}  // namespace

struct Loop::Impl {
  explicit Impl(Clock given) : clock(std::move(given)), own_clock(clock == nullptr) {
    epoll = epoll_create1(EPOLL_CLOEXEC);
    KVASIR_CHECK(epoll >= 0, "epoll_create1");
    wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    KVASIR_CHECK(wake >= 0, "eventfd");
    epoll_event event{EPOLLIN, {.u64 = kWakeKey}};
    KVASIR_CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event) == 0, "epoll_ctl of the wake-up descriptor");
  }
  ~Impl() {
    close(wake);
    close(epoll);
  }

  Instant Now() const { return own_clock ? std::chrono::steady_clock::now() : clock(); }
  int RunPosted();
  int RunTimers();
  int Dispatch(int timeout_ms);
  int Wait(Duration wait);
  void Wake();
  void DropTimer(TimerId id);

  const Clock clock;
  const bool own_clock;
  int epoll = -1;
  int wake = -1;
  std::atomic<bool> stopped{false};
  std::atomic<bool> asleep{false};      // in epoll_wait with a timeout: Post has to wake it
  std::atomic<bool> has_posted{false};  // mirror of !posted.empty(), readable without the lock
  std::atomic<std::thread::id> runner{};

  Mutex mutex;
  std::vector<Task> posted ABSL_GUARDED_BY(mutex);

  // The Loop's own thread only.
  std::vector<Task> running;  // keeps its capacity from turn to turn
  std::vector<Timer> heap;    // may name cancelled timers: they are not in `timers`
  absl::flat_hash_map<TimerId, Task> timers;
  TimerId next_timer = 1;
  absl::flat_hash_map<int, std::unique_ptr<Watcher>> watchers;
  Watcher* current = nullptr;               // its handler is running
  std::unique_ptr<Watcher> current_buried;  // unwatched by its own handler
  uint32_t next_generation = 1;
};

Loop::Loop(Clock clock) : impl_(std::make_unique<Impl>(std::move(clock))) {}
Loop::~Loop() = default;

void Loop::Post(Task task) {
  {
    MutexLock lock(impl_->mutex);
    impl_->posted.push_back(std::move(task));
    impl_->has_posted = true;
  }
  if (impl_->asleep.exchange(false)) impl_->Wake();
}

void Loop::Stop() {
  impl_->stopped = true;
  impl_->Wake();
}

Instant Loop::Now() const { return impl_->Now(); }

void Loop::Run() {
  while (!impl_->stopped) RunOnce(kForever);
}

int Loop::RunOnce(Duration wait) {
  KVASIR_CHECK(impl_->runner.load() == std::thread::id(), "one thread runs a Loop, and not from inside itself");
  impl_->runner = std::this_thread::get_id();
  int ran = impl_->RunPosted() + impl_->RunTimers();
  if (ran > 0 || wait <= Duration::zero()) {
    ran += impl_->Dispatch(0);
  } else {
    ran += impl_->Wait(wait);
  }
  impl_->runner = std::thread::id();
  return ran;
}

int Loop::Impl::RunPosted() {
  if (!has_posted) return 0;
  {
    MutexLock lock(mutex);
    running.swap(posted);
    has_posted = false;
  }
  int ran = 0;
  for (Task& task : running) {
    if (stopped) break;
    std::move(task)();
    task = nullptr;
    ++ran;
  }
  running.clear();
  return ran;
}

int Loop::Impl::RunTimers() {
  if (heap.empty()) return 0;
  const Instant now = Now();
  const TimerId limit = next_timer;  // what these tasks set waits for the next turn
  int ran = 0;
  while (!heap.empty() && heap.front().when <= now && heap.front().id < limit && !stopped) {
    const TimerId id = heap.front().id;
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    auto found = timers.find(id);
    if (found == timers.end()) continue;
    Task task = std::move(found->second);
    timers.erase(found);
    std::move(task)();
    ++ran;
  }
  return ran;
}

/// Runs the handlers of what is ready now, or becomes so within the timeout.
int Loop::Impl::Dispatch(int timeout_ms) {
  std::array<epoll_event, kEventsPerTurn> events;
  const int count = epoll_wait(epoll, events.data(), kEventsPerTurn, timeout_ms);
  KVASIR_CHECK(count >= 0 || errno == EINTR, "epoll_wait");
  int ran = 0;
  for (int i = 0; i < count && !stopped; ++i) {
    const uint64_t key = events[i].data.u64;
    if (key == kWakeKey) {
      uint64_t ignored;
      (void)!read(wake, &ignored, sizeof ignored);
      continue;
    }
    auto found = watchers.find(static_cast<int>(key & 0xffffffff));
    if (found == watchers.end() || found->second->generation != key >> 32) continue;
    current = found->second.get();
    current->handler(events[i].events);
    current = nullptr;
    current_buried.reset();
    ++ran;
  }
  return ran;
}

/// Nothing was ready: waits for the next descriptor, task or timer and runs it.
int Loop::Impl::Wait(Duration wait) {
  if (own_clock) {
    const Instant spin_end = Now() + std::min(wait, Loop::kSpin);
    do {
      const int ran = Dispatch(0);
      if (ran > 0 || has_posted || stopped) return ran + RunPosted();
    } while (Now() < spin_end);
    if (!heap.empty()) wait = std::min(wait, std::max(Duration::zero(), heap.front().when - Now()));
  } else if (!timers.empty()) {
    wait = std::min(wait, kForeignClockPoll);
  }
  asleep = true;
  const bool sleep = !has_posted && !stopped;
  const auto wait_ms = std::chrono::ceil<std::chrono::milliseconds>(std::min(wait, kForever)).count();
  int ran = Dispatch(sleep ? static_cast<int>(wait_ms) : 0);
  asleep = false;
  ran += RunPosted();
  return ran + RunTimers();
}

void Loop::Impl::Wake() {
  const uint64_t one = 1;
  (void)!write(wake, &one, sizeof one);
}

Loop::TimerId Loop::At(Instant when, Task task) {
  const TimerId id = impl_->next_timer++;
  impl_->heap.push_back({when, id});
  std::push_heap(impl_->heap.begin(), impl_->heap.end());
  impl_->timers.emplace(id, std::move(task));
  return id;
}

void Loop::Cancel(TimerId timer) {
  if (impl_->timers.erase(timer) > 0) impl_->DropTimer(timer);
}

/// Deadlines are nearly always cancelled: the heap is swept whenever most of it is cancelled timers.
void Loop::Impl::DropTimer(TimerId id) {
  if (!heap.empty() && heap.back().id == id) {
    heap.pop_back();  // a leaf: removing it keeps the heap
    return;
  }
  constexpr size_t kSweepFrom = 64;
  if (heap.size() < kSweepFrom || heap.size() < 2 * timers.size()) return;
  std::erase_if(heap, [this](const Timer& timer) { return !timers.contains(timer.id); });
  std::make_heap(heap.begin(), heap.end());
}

void Loop::Watch(int fd, uint32_t epoll_events, FdHandler handler) {
  auto watcher = std::make_unique<Watcher>(Watcher{impl_->next_generation++, epoll_events, std::move(handler)});
  epoll_event event{epoll_events, {.u64 = EventKey(fd, watcher->generation)}};
  KVASIR_CHECK(epoll_ctl(impl_->epoll, EPOLL_CTL_ADD, fd, &event) == 0, "a descriptor is watched once, while open");
  impl_->watchers[fd] = std::move(watcher);
}

void Loop::Modify(int fd, uint32_t epoll_events) {
  auto found = impl_->watchers.find(fd);
  KVASIR_CHECK(found != impl_->watchers.end(), "Modify of a descriptor that is not watched");
  if (found->second->events == epoll_events) return;
  found->second->events = epoll_events;
  epoll_event event{epoll_events, {.u64 = EventKey(fd, found->second->generation)}};
  KVASIR_CHECK(epoll_ctl(impl_->epoll, EPOLL_CTL_MOD, fd, &event) == 0, "epoll_ctl of a watched descriptor");
}

void Loop::Unwatch(int fd) {
  auto found = impl_->watchers.find(fd);
  if (found == impl_->watchers.end()) return;
  epoll_ctl(impl_->epoll, EPOLL_CTL_DEL, fd, nullptr);
  std::unique_ptr<Watcher> watcher = std::move(found->second);
  impl_->watchers.erase(found);
  if (watcher.get() == impl_->current) impl_->current_buried = std::move(watcher);
}

bool Loop::InLoop() const { return impl_->runner.load() == std::this_thread::get_id(); }

struct LoopThread::Thread {
  std::thread thread;
};

LoopThread::LoopThread(const char* name, Loop::Clock clock)
    : loop_(std::make_unique<Loop>(std::move(clock))), thread_(std::make_unique<Thread>()) {
  thread_->thread = std::thread([loop = loop_.get()] { loop->Run(); });
  pthread_setname_np(thread_->thread.native_handle(), name);
}

LoopThread::~LoopThread() {
  loop_->Stop();
  thread_->thread.join();
}

void LoopThread::Call(Task task) {
  KVASIR_CHECK(std::this_thread::get_id() != thread_->thread.get_id(), "Call from the Loop's own thread never ends");
  Mutex mutex;
  CondVar finished;
  bool ran = false;
  loop_->Post([&] {
    std::move(task)();
    MutexLock lock(mutex);
    ran = true;
    finished.NotifyOne();
  });
  MutexLock lock(mutex);
  while (!ran) finished.Wait(mutex);
}

}  // namespace kvasir
