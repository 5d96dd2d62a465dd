// SPDX-License-Identifier: Apache-2.0
// Goal: the judge tells the truth about each kind of vital within 5 s by its own clock, and takes it back by itself. Method: a
// NodeHealth without threads, looked at with times of the test's choosing; every default limit, at every phase of a look.
#include <gtest/gtest.h>

#include "store/health.h"

namespace kvasir {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A NodeHealth and a clock.
struct Judged {
  Judged() : health({}) {}
  void Look() {
    changed = health.Judge(now);
    now += health.options().every;
  }
  void Look(Duration time) {
    for (const Instant end = now + time; now < end;) Look();
  }
  HealthReport Report() const { return health.Report(now); }
  NodeHealth health;
  Instant now{seconds(1000)};
  std::vector<VitalReport> changed;
};

VitalSpec Named(const std::string& name, Duration limit = seconds(3)) { return {name, "it stalls", limit}; }

TEST(Judge, NothingIsReadyBeforeTheFirstLook) {
  Judged judged;
  EXPECT_FALSE(judged.Report().ready);
  EXPECT_TRUE(judged.Report().live);
  EXPECT_EQ(judged.Report().Trouble(), "judge: the node is starting: nothing was judged yet");
  judged.Look();
  EXPECT_TRUE(judged.Report().ready);
  EXPECT_TRUE(judged.health.ready());
}

TEST(Judge, WorkThatMovesIsWellHoweverMuchIsPending) {
  Judged judged;
  Pulse pulse;
  judged.health.AddPulse(Named("work"), pulse);
  pulse.Begin(1000);
  for (int i = 0; i < 100; ++i) {
    pulse.End();
    judged.Look();
    ASSERT_TRUE(judged.Report().ready) << i;
  }
  judged.Look(seconds(3));
  judged.Look();
  EXPECT_FALSE(judged.Report().ready);
  EXPECT_NE(judged.Report().Trouble().find("work: it stalls, for 3."), std::string::npos) << judged.Report().Trouble();
  pulse.End();
  judged.Look();
  EXPECT_TRUE(judged.Report().ready) << "one step is progress";
  pulse.End(899);
  judged.Look(seconds(60));
  EXPECT_TRUE(judged.Report().ready) << "nothing is pending";
  EXPECT_EQ(judged.Report().vitals[0].stalls, 1u);
}

TEST(Judge, ADueThingCountsFromItsOwnTime) {
  Judged judged;
  Deadlines deadlines;
  judged.health.AddDue(Named("pulls", seconds(2)), [&] { return deadlines.earliest(); });
  judged.Look();
  deadlines.Add(judged.now + seconds(60), 1);
  deadlines.Add(judged.now - seconds(10), 2);
  judged.Look();
  EXPECT_FALSE(judged.Report().ready) << "long due when it was first seen";
  deadlines.Remove(judged.now - judged.health.options().every - seconds(10), 2);
  judged.Look();
  EXPECT_TRUE(judged.Report().ready);
  judged.Look(seconds(61));
  EXPECT_TRUE(judged.Report().ready) << "due, but not for longer than the limit";
  judged.Look(seconds(2));
  EXPECT_FALSE(judged.Report().ready);
}

TEST(Judge, AnEchoIsAskedOnceAndOldAnswersAreHarmless) {
  Judged judged;
  std::vector<NodeHealth::Answered> asked;
  judged.health.AddEcho(Named("loop"), [&](NodeHealth::Answered answered) { asked.push_back(std::move(answered)); });
  judged.Look(seconds(2));
  EXPECT_EQ(asked.size(), 1u) << "one question at a time";
  asked[0](true);
  judged.Look();
  EXPECT_EQ(asked.size(), 2u);
  judged.Look(seconds(3));
  EXPECT_TRUE(judged.Report().ready);
  judged.Look();
  judged.Look();
  EXPECT_FALSE(judged.Report().ready);
  judged.health.Remove("loop");
  judged.Look();
  EXPECT_TRUE(judged.Report().ready) << "gone with its vital";
  asked[1](true);
}

TEST(Judge, AnEchoThatAnswersBadlyIsAskedAgainAndStalls) {
  Judged judged;
  int asked = 0;
  bool well = false;
  judged.health.AddEcho(Named("grpc"), [&](NodeHealth::Answered answered) {
    ++asked;
    answered(well);
  });
  judged.Look(seconds(5));
  EXPECT_EQ(asked, 10);
  EXPECT_FALSE(judged.Report().ready);
  well = true;
  judged.Look();
  judged.Look();
  EXPECT_TRUE(judged.Report().ready);
}

TEST(Judge, ACheckWithoutPatienceCountsAtOnceAndOneWithPatienceLater) {
  Judged judged;
  std::string trouble;
  judged.health.AddCheck(Named("serving", {}), [&] { return trouble; });
  judged.health.AddCheck(Named("space", seconds(2)), [&] { return trouble; });
  judged.Look();
  trouble = "the disk is full";
  judged.Look();
  EXPECT_EQ(judged.Report().Trouble(), "serving: the disk is full, for 0.5s");
  ASSERT_EQ(judged.changed.size(), 1u);
  EXPECT_EQ(judged.changed[0].name, "serving");
  judged.Look(seconds(3));
  EXPECT_NE(judged.Report().Trouble().find("; space: the disk is full, for "), std::string::npos);
  trouble.clear();
  judged.Look();
  EXPECT_TRUE(judged.Report().ready);
  EXPECT_EQ(judged.changed.size(), 2u);
}

TEST(Judge, ANoteIsToldAndChangesNothing) {
  Judged judged;
  judged.health.AddCheck({"membership", "", {}, "", /*counts=*/false}, [] { return "its lease at etcd is lost"; });
  judged.Look();
  EXPECT_TRUE(judged.Report().ready);
  EXPECT_EQ(judged.Report().Trouble(), "");
  EXPECT_EQ(judged.Report().vitals[0].trouble, "its lease at etcd is lost");
}

TEST(Judge, ATierStandsAndFallsWithItsOwnVitals) {
  Judged judged;
  judged.health.AddCheck({"room", "", {}, "dram"}, [] { return "full"; });
  judged.health.AddCheck({"space", "", {}, "ssd"}, [] { return ""; });
  judged.Look();
  EXPECT_FALSE(judged.Report().Serves("dram"));
  EXPECT_TRUE(judged.Report().Serves("ssd"));
}

TEST(Judge, OnlyAThreadThatIsStuckForAMinuteIsDead) {
  Judged judged;
  Pulse thread;
  judged.health.AddPulse({"thread", "stuck", seconds(3), "", true, /*fatal=*/true}, thread);
  judged.health.AddCheck(Named("space"), [] { return "full"; });
  thread.Begin();
  judged.Look(seconds(59));
  EXPECT_TRUE(judged.Report().live);
  EXPECT_FALSE(judged.Report().ready);
  judged.Look(seconds(3));
  EXPECT_FALSE(judged.Report().live);
  thread.End();
  judged.Look(seconds(120));
  EXPECT_TRUE(judged.Report().live) << "a full disk is no reason to restart";
}

TEST(Judge, ASilentJudgeIsNotBelieved) {
  Judged judged;
  judged.Look();
  const Instant looked = judged.now - judged.health.options().every;
  EXPECT_TRUE(judged.health.Report(looked + judged.health.options().silent).ready);
  const HealthReport late = judged.health.Report(looked + judged.health.options().silent + milliseconds(1));
  EXPECT_FALSE(late.ready);
  EXPECT_TRUE(late.live);
  EXPECT_NE(late.Trouble().find("judge: the judge of this node's health has not looked for 3.0s"), std::string::npos) << late.Trouble();
  EXPECT_FALSE(judged.health.Report(looked + seconds(61)).live);
}

TEST(Judge, WhoListensHearsEveryLookAndNoneAfterwards) {
  Judged judged;
  int heard = 0;
  judged.health.OnJudged([&](const HealthReport& report) { heard += report.ready ? 1 : 0; });
  judged.Look();
  judged.Look();
  judged.health.OnJudged(nullptr);
  judged.Look();
  EXPECT_EQ(heard, 2);
}

/// The promise: with every default limit, whenever between two looks a stall begins, it is known within 5 s; and within 5 s of
/// its end it is forgotten.
TEST(Judge, DefaultLimitsTellTheTruthWithinFiveSecondsAtEveryPhase) {
  const HealthOptions defaults;
  const std::pair<const char*, Duration> limits[] = {{"thread", defaults.thread},
                                                     {"overdue", defaults.overdue},
                                                     {"disk_slow", defaults.disk_slow},
                                                     {"refused", defaults.refused},
                                                     {"at once", {}}};
  EXPECT_LE(defaults.silent, HealthOptions::kTruth);
  for (const auto& [name, limit] : limits) {
    for (Duration phase{}; phase <= defaults.every; phase += milliseconds(50)) {
      Judged judged;
      Pulse pulse;
      Instant due = Instant::max();
      std::string trouble;
      NodeHealth::Answered unanswered;
      judged.health.AddPulse(Named("pulse", limit), pulse);
      judged.health.AddDue(Named("due", limit), [&] { return due; });
      judged.health.AddCheck(Named("check", limit), [&] { return trouble; });
      judged.health.AddEcho(Named("echo", limit), [&](NodeHealth::Answered answered) {
        trouble.empty() ? answered(true) : (void)(unanswered = std::move(answered));
      });
      judged.Look(seconds(2));
      const Instant begun = judged.now - judged.health.options().every + phase;  // after the last look
      pulse.Begin();
      due = begun;
      trouble = "stalled";
      const auto stalled = [&] {
        size_t count = 0;
        for (const VitalReport& vital : judged.Report().vitals) count += vital.trouble.empty() ? 0 : 1;
        return count;
      };
      while (stalled() < 4) judged.Look();
      EXPECT_LE(judged.now - judged.health.options().every - begun, HealthOptions::kTruth) << name;
      pulse.End();
      due = Instant::max();
      trouble.clear();
      unanswered(true);
      judged.Look();
      EXPECT_TRUE(judged.Report().ready) << name;
    }
  }
}

}  // namespace
}  // namespace kvasir
