// SPDX-License-Identifier: Apache-2.0
#include "tests/store/stall_stage.h"

namespace kvasir::testing {
namespace {

constexpr auto kHang = std::chrono::seconds(60);        ///< a guard, not a wait
constexpr auto kBetweenLooks = std::chrono::milliseconds(10);

}  // namespace

StallStage::StallStage() {
  using std::chrono::milliseconds;
  options = TestNode("tcp");
  options.health.every = milliseconds(10);
  options.health.thread = milliseconds(200);
  options.health.overdue = milliseconds(150);
  options.health.disk_slow = milliseconds(120);
  options.health.refused = milliseconds(100);
  options.health.silent = milliseconds(500);
  options.hold = [this](std::string_view site, Task& task) { return sites.At(site, task); };
}

StallStage::~StallStage() {
  Go();
  JoinAside();
  client_.reset();
  node_.reset();
}

void StallStage::JoinAside() {
  for (std::thread& thread : aside_) thread.join();
  aside_.clear();
}

void StallStage::Start() {
  if (ssd) {
    options.ssd = SmallOptions(directory_.path());
    options.ssd->disk_threads = 1;
    options.ssd->space_probe = std::chrono::milliseconds(20);
    options.ssd->wrap_disk = [this](std::unique_ptr<DiskIo>) {
      return std::make_unique<FaultyDisk>([this](uint64_t, const DiskOp& op) { return disk.Decide(op); }, &disk_operations_);
    };
  }
  auto started = Node::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  node_ = *std::move(started);
  client_ = std::make_unique<RawClient>(*node_, options.transports[0]);
  ASSERT_TRUE(client_->connected.ok()) << client_->connected;
  chain_ = client_->Chain(1, 250);
  if (!ssd) return;
  const auto offered = client_->Offer(chain_, 0, Ack::kDurable);  // names and views are on the disk from here on
  ASSERT_TRUE(offered.ok()) << offered.status();
  if (std::exchange(cold, false)) Restart();
}

void StallStage::Restart() {
  JoinAside();
  client_.reset();
  node_.reset();
  Start();
}

void StallStage::StopLoop(uint32_t shard) {
  stopped_ = true;
  AcquireRequest request;
  request.session = client_->hello->session;
  request.shard = shard;
  request.runs = {{0, {chain_.keys().begin(), chain_.keys().begin() + 1}, {}}};
  request.accept = {"any"};
  request.layers = request.heads = 1;
  request.match_only = true;
  node_->Acquire(std::move(request), std::chrono::seconds(5), [this](absl::StatusOr<AcquireReply>) {
    std::unique_lock lock(mutex_);  // on the shard's Loop
    changed_.wait(lock, [this] { return !stopped_; });
  });
}

void StallStage::Go() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = false;
    changed_.notify_all();
  }
  disk.Set(DiskGate::Does::kPass, {});
  clock.Go();
  sites.Open();
}

bool StallStage::Await(const std::function<bool(const HealthReport&)>& seen) {
  std::mutex mutex;
  std::condition_variable judged;
  node_->health().OnJudged([&](const HealthReport&) { judged.notify_all(); });
  const Instant end = std::chrono::steady_clock::now() + kHang;
  bool found = false;
  std::unique_lock lock(mutex);
  while (!found && std::chrono::steady_clock::now() < end) {
    found = seen(node_->health().Report(std::chrono::steady_clock::now()));
    if (!found) judged.wait_for(lock, kBetweenLooks);  // the judge itself may be what stalls
  }
  lock.unlock();
  node_->health().OnJudged(nullptr);
  return found;
}

}  // namespace kvasir::testing
