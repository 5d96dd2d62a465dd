// SPDX-License-Identifier: Apache-2.0
// Goal: stalls of the process beside its node make it unready within 5 s and pass by themselves (the rest of R35): gRPC's
// threads, memory near the limit, no file descriptor. A lost membership lease is told and changes nothing. grpc.health.v1 says
// the same under its names. Method: a NodeHealth that the test judges, a real gRPC server whose handlers block, a made-up
// control group, a real limit of descriptors.
#include "deploy/kvasird/vitals.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <condition_variable>
#include <mutex>

#include "tests/deploy/process.h"
#include "tests/store/wire_fakes.h"

namespace kvasir::testing {
namespace {

constexpr auto kHang = std::chrono::seconds(60);  ///< a guard, not a wait
constexpr int kMoreThanGrpcHasThreads = 64;

/// Handlers that wait until they may go on.
class Blocker {
 public:
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

class VitalsOf : public ::testing::Test {
 protected:
  VitalsOf() : health_(Short()), server_({&node_, &node_, nullptr}, {}) { address_ = *server_.Start(); }
  static HealthOptions Short() {
    HealthOptions options;
    options.every = std::chrono::milliseconds(10);
    options.thread = options.refused = std::chrono::milliseconds(200);
    return options;
  }
  /// Judges until `seen` holds; false after a minute.
  bool JudgeUntil(const std::function<bool(const HealthReport&)>& seen) {
    const Instant begun = std::chrono::steady_clock::now();
    std::mutex mutex;
    std::condition_variable never;
    for (Instant now = begun; now < begun + kHang; now = std::chrono::steady_clock::now()) {
      health_.Judge(now);
      if (seen(health_.Report(now))) {
        EXPECT_LE(now - begun, HealthOptions::kTruth);
        return true;
      }
      std::unique_lock lock(mutex);
      never.wait_for(lock, health_.options().every);
    }
    return false;
  }
  bool JudgeUntilReady() {
    return JudgeUntil([](const HealthReport& report) { return report.ready; });
  }
  bool JudgeUntilSays(const std::string& words) {
    return JudgeUntil([&](const HealthReport& report) { return !report.ready && report.Trouble().find(words) != std::string::npos; });
  }
  /// As Kubernetes asks: 1 serving, 2 not serving.
  int Check(const std::string& service) {
    grpc::GenericStub stub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice named(std::string("\x0a").append(1, static_cast<char>(service.size())).append(service));
    auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::ByteBuffer(&named, 1), &queue);
    grpc::ByteBuffer reply;
    grpc::Status status;
    call->StartCall();
    call->Finish(&reply, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    std::vector<grpc::Slice> slices;
    if (!status.ok() || !reply.Dump(&slices).ok() || slices.empty()) return -status.error_code();
    return slices[0].begin()[1];
  }
  FakeNode node_;
  NodeHealth health_;
  GrpcServer server_;
  std::string address_;
};

TEST_F(VitalsOf, GrpcThreadsThatAreAllStopped) {
  Blocker blocker;
  node_.status.on_call = [&](std::monostate, Duration, Answer<NodeStatus> answer) {
    blocker.Wait();
    answer(absl::UnavailableError("late"));
  };
  const ServedHealth served(health_, server_, {MakeGrpcPing(address_), {}, "/", nullptr});
  ASSERT_TRUE(JudgeUntilReady());
  const auto admin = MakeGrpcAdmin(address_);
  std::promise<void> all;
  std::atomic<int> open{kMoreThanGrpcHasThreads};
  for (int i = 0; i < kMoreThanGrpcHasThreads; ++i) {
    admin->Status([&](absl::StatusOr<NodeStatus>) {
      if (--open == 0) all.set_value();
    });
  }
  ASSERT_TRUE(JudgeUntilSays("grpc: gRPC does not answer on the node's own port"));
  blocker.Open();
  ASSERT_TRUE(JudgeUntilReady());
  all.get_future().wait();
}

TEST_F(VitalsOf, MemoryNearItsLimit) {
  const Directory root;
  root.Write("proc/self/cgroup", "0::/\n");
  root.Write("sys/fs/cgroup/memory.max", "1073741824\n");
  root.Write("sys/fs/cgroup/memory.current", "500000000\n");
  const MemoryLimit limit = ReadMemoryLimit(root.path());
  ASSERT_EQ(limit.bytes, 1ull << 30);
  const ServedHealth served(health_, server_, {MakeGrpcPing(address_), limit, root.path(), nullptr});
  ASSERT_TRUE(JudgeUntilReady());
  root.Write("sys/fs/cgroup/memory.current", "1070000000\n");
  ASSERT_TRUE(JudgeUntilSays("memory: 1020.4 MiB of the limit of this container or control group, 1.0 GiB, are in use"));
  root.Write("sys/fs/cgroup/memory.stat", "inactive_file 600000000\n");  // pages that can go do not count
  ASSERT_TRUE(JudgeUntilReady());
}

TEST_F(VitalsOf, NoFileDescriptorLeft) {
  // Its connection is there before: gRPC 1.51 listens no more once it could not accept for want of a descriptor.
  GrpcPing ping = MakeGrpcPing(address_);
  std::promise<bool> connected;
  ping([&](bool well) { connected.set_value(well); });
  ASSERT_TRUE(connected.get_future().get());
  const ServedHealth served(health_, server_, {std::move(ping), {}, "/", nullptr});
  ASSERT_TRUE(JudgeUntilReady());
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none{3, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  const bool said = JudgeUntilSays("descriptors: no descriptor is left: Too many open files. Raise the limit");
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_TRUE(said);
  ASSERT_TRUE(JudgeUntilReady());
}

TEST_F(VitalsOf, ALostMembershipLeaseIsToldAndChangesNothing) {
  std::string source = "etcd 10.0.0.1:2379: ok";
  const ServedHealth served(health_, server_, {MakeGrpcPing(address_), {}, "/", [&] { return source; }});
  ASSERT_TRUE(JudgeUntilReady());
  source = "etcd 10.0.0.1:2379: unreachable for 12s, cached view";
  ASSERT_TRUE(JudgeUntil([&](const HealthReport& report) {
    return report.ready && std::any_of(report.vitals.begin(), report.vitals.end(), [&](const VitalReport& vital) {
             return vital.name == "membership" && vital.trouble.starts_with(source);
           });
  }));
}

TEST_F(VitalsOf, GrpcHealthSaysTheSameUnderItsNames) {
  std::string dram, ssd;
  health_.AddCheck({"shard.0.room", "", {}, "dram"}, [&] { return dram; });
  health_.AddCheck({"ssd.device", "", {}, "ssd"}, [&] { return ssd; });
  EXPECT_EQ(Check("readiness"), 2) << "nobody has judged";
  const ServedHealth served(health_, server_, {MakeGrpcPing(address_), {}, "/", nullptr});
  ASSERT_TRUE(JudgeUntilReady());
  for (const char* name : {"", "readiness", "liveness", "dram", "ssd"}) EXPECT_EQ(Check(name), 1) << name;
  ssd = "it failed";
  ASSERT_TRUE(JudgeUntilSays("ssd.device: it failed"));
  for (const char* name : {"", "readiness", "ssd"}) EXPECT_EQ(Check(name), 2) << name;
  for (const char* name : {"liveness", "dram"}) EXPECT_EQ(Check(name), 1) << name;
  ssd = "";
  dram = "full";
  ASSERT_TRUE(JudgeUntilSays("shard.0.room: full"));
  EXPECT_EQ(Check("dram"), 2);
  EXPECT_EQ(Check("ssd"), 1);
}

}  // namespace
}  // namespace kvasir::testing
