// SPDX-License-Identifier: Apache-2.0
// Loop: order of tasks, timers by an injected clock, descriptors, and Post from other threads.
#include "transport/loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

#include "tests/support/seed.h"

namespace kvasir {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A loop whose clock stands still until the test moves it.
struct Stepped {
  Instant now = Instant(seconds(1000));
  Loop loop{[this] { return now; }};
};

TEST(LoopTest, TasksRunInOrderOfPosting) {
  Loop loop;
  std::vector<int> ran;
  for (int i = 0; i < 5; ++i) loop.Post([&ran, i] { ran.push_back(i); });
  EXPECT_EQ(loop.RunOnce(Duration::zero()), 5);
  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_EQ(loop.RunOnce(Duration::zero()), 0);
}

TEST(LoopTest, TaskPostedByATaskRunsInALaterTurn) {
  Loop loop;
  int turn = 0;
  int ran_in = -1;
  loop.Post([&] { loop.Post([&] { ran_in = turn; }); });
  for (; turn < 3; ++turn) loop.RunOnce(Duration::zero());
  EXPECT_EQ(ran_in, 1);
}

TEST(LoopTest, TimersFollowTheClockAndTheirOrder) {
  Stepped s;
  std::vector<int> ran;
  s.loop.At(s.now + seconds(3), [&] { ran.push_back(3); });
  s.loop.At(s.now + seconds(1), [&] { ran.push_back(1); });
  s.loop.At(s.now + seconds(1), [&] { ran.push_back(2); });
  EXPECT_EQ(s.loop.RunOnce(milliseconds(1)), 0);
  s.now += seconds(1);
  EXPECT_EQ(s.loop.RunOnce(Duration::zero()), 2);
  EXPECT_EQ(ran, (std::vector<int>{1, 2}));
  s.now += seconds(2);
  EXPECT_EQ(s.loop.RunOnce(Duration::zero()), 1);
  EXPECT_EQ(ran.back(), 3);
}

TEST(LoopTest, TimerSetByATimerWaitsForTheNextTurn) {
  Stepped s;
  int ran = 0;
  std::function<void()> set = [&] {
    ++ran;
    s.loop.At(s.now, [&] { set(); });
  };
  s.loop.At(s.now, [&] { set(); });
  s.loop.RunOnce(Duration::zero());
  EXPECT_EQ(ran, 1);
  s.loop.RunOnce(Duration::zero());
  EXPECT_EQ(ran, 2);
}

TEST(LoopTest, CancelledTimersDoNotRunAndManyOfThemKeepTheRest) {
  Stepped s;
  auto random = testing::Rng(1);
  std::vector<Loop::TimerId> ids;
  std::vector<int> expected(2000, 0);
  std::vector<int> ran(2000, 0);
  for (int i = 0; i < 2000; ++i) {
    ids.push_back(s.loop.At(s.now + milliseconds(random() % 1000), [&ran, i] { ++ran[i]; }));
  }
  for (int i = 0; i < 2000; ++i) {
    if (random() % 10 != 0) {
      s.loop.Cancel(ids[i]);
    } else {
      expected[i] = 1;
    }
  }
  s.now += seconds(1);
  s.loop.RunOnce(Duration::zero());
  EXPECT_EQ(ran, expected);
  for (const Loop::TimerId id : ids) s.loop.Cancel(id);  // harmless
}

TEST(LoopTest, HandlerMayUnwatchItselfAndItsNeighbour) {
  Loop loop;
  std::array<int, 2> a;
  std::array<int, 2> b;
  ASSERT_EQ(pipe(a.data()), 0);
  ASSERT_EQ(pipe(b.data()), 0);
  int ran = 0;
  auto handler = [&](uint32_t events) {
    EXPECT_TRUE(events & EPOLLIN);
    ++ran;
    loop.Unwatch(a[0]);
    loop.Unwatch(b[0]);
  };
  loop.Watch(a[0], EPOLLIN, handler);
  loop.Watch(b[0], EPOLLIN, handler);
  ASSERT_EQ(write(a[1], "x", 1), 1);
  ASSERT_EQ(write(b[1], "x", 1), 1);
  EXPECT_EQ(loop.RunOnce(seconds(1)), 1);
  EXPECT_EQ(loop.RunOnce(Duration::zero()), 0);
  EXPECT_EQ(ran, 1);
  for (const int fd : {a[0], a[1], b[0], b[1]}) close(fd);
}

TEST(LoopTest, ModifyChangesWhatIsWaitedFor) {
  Loop loop;
  std::array<int, 2> fds;
  ASSERT_EQ(pipe(fds.data()), 0);
  int ran = 0;
  loop.Watch(fds[1], 0, [&](uint32_t) { ++ran; });
  EXPECT_EQ(loop.RunOnce(Duration::zero()), 0);
  loop.Modify(fds[1], EPOLLOUT);
  EXPECT_EQ(loop.RunOnce(seconds(1)), 1);
  EXPECT_EQ(ran, 1);
  loop.Unwatch(fds[1]);
  close(fds[0]);
  close(fds[1]);
}

TEST(LoopTest, PostFromManyThreadsLosesNothing) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 2000;
  LoopThread thread("posts");
  int ran = 0;
  std::vector<std::thread> posters;
  for (int t = 0; t < kThreads; ++t) {
    posters.emplace_back([&] {
      for (int i = 0; i < kPosts; ++i) thread.loop().Post([&ran] { ++ran; });
    });
  }
  for (std::thread& poster : posters) poster.join();
  int seen = 0;
  thread.Call([&] { seen = ran; });
  EXPECT_EQ(seen, kThreads * kPosts);
}

TEST(LoopTest, PostWakesASleepingLoop) {
  LoopThread thread("sleeper");
  for (int i = 0; i < 200; ++i) {
    bool inside = false;
    thread.Call([&] { inside = thread.loop().InLoop(); });
    EXPECT_TRUE(inside);
  }
}

/// Also between two turns of the Loop, where nothing runs.
TEST(LoopTest, NoOtherThreadIsInTheLoop) {
  LoopThread thread("busy");
  int outside = 0;
  for (int i = 0; i < 20000; ++i) {
    if (i % 8 == 0) thread.loop().Post([] {});
    outside += thread.loop().InLoop() ? 0 : 1;
  }
  EXPECT_EQ(outside, 20000);
  Loop idle;
  EXPECT_FALSE(idle.InLoop());
}

TEST(LoopTest, StopDestroysWhatWasPostedUnrun) {
  auto token = std::make_shared<int>(0);
  bool ran = false;
  {
    Loop loop;
    loop.Stop();
    loop.Post([token, &ran] { ran = true; });
    loop.Run();
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(token.use_count(), 1);
}

}  // namespace
}  // namespace kvasir
