// SPDX-License-Identifier: Apache-2.0
// Load: writers and readers over real Sessions, all checking every byte (prompt_pages.h) and every promise (ledger.h).
//
//   Prefill  writers push prompts 0..n-1, all blocks of one at once
//   Start    writers go on with new prompts, readers read what is acked, each at its own pace, until Stop
//   Verify   everything acked is read once more; what patience does not bring back is lost
#pragma once

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "tests/cluster/ledger.h"
#include "tests/cluster/prompt_pages.h"

namespace kvasir::cluster {

struct LoadOptions {
  PromptShape shape;
  std::vector<std::string> nodes;  ///< control addresses
  std::vector<std::string> transports = {"tcp"};
  uint32_t replicas = 2;
  uint32_t durable_every = 4;                   ///< one prompt in so many is pushed DURABLE, too; 0 = none
  uint32_t first_prompt = 0;                    ///< two processes write different ones
  uint32_t prompts_max = 4000;                  ///< writers stop there
  uint32_t readers = 3, writers = 1;            ///< threads
  double reads_per_s = 40;                      ///< of one reader, when the store keeps up
  double prompts_per_s = 2;                     ///< of one writer
  Duration give_up = std::chrono::seconds(15);  ///< of one read
  std::string log;                              ///< file: one JSON line an acked block; "" = none
};

/// Waits that Stop ends.
class StopSignal {
 public:
  void Set();
  void Reset();
  /// False when it was set before `until`.
  bool WaitUntil(Instant until);
  bool stopped() const { return stopped_; }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::atomic<bool> stopped_ = false;
};

struct Verdict {
  uint64_t checked = 0, held = 0, lost = 0;  ///< blocks
  uint64_t wrong = 0;
  std::vector<std::string> examples;  ///< of lost blocks
};

class Load {
 public:
  static absl::StatusOr<std::unique_ptr<Load>> Open(LoadOptions options);
  ~Load();

  /// Pushes `prompts` more prompts with `threads` threads. Every block is in the ledger afterwards, as acked or as
  /// failed.
  void Prefill(uint32_t prompts, uint32_t threads);
  void Start();
  void Stop();
  /// Not while started.
  Verdict Verify(Duration patience);
  /// What the detector must find: a block whose stored bytes are not the right ones (pushed with honest checksums), and
  /// a block in the ledger that nobody ever pushed.
  absl::Status PlantWrong();
  void PlantLost();

  Ledger& ledger() { return ledger_; }
  const LoadOptions& options() const { return options_; }
  /// Of all Sessions together.
  std::map<std::string, uint64_t> ClientCounters() const;
  Membership membership() const { return readers_[0]->membership(); }
  uint32_t run_blocks() const { return readers_[0]->run_blocks(); }

 private:
  explicit Load(LoadOptions options);
  absl::StatusOr<std::unique_ptr<Session>> OpenSession(Ack ack) const;
  Session& WriterOf(uint32_t prompt) { return LevelOf(prompt) == Level::kReplicated ? *writer_ : *durable_writer_; }
  Level LevelOf(uint32_t prompt) const;
  void PushPrompt(uint32_t number, PromptPages& pages);
  void LogAck(uint32_t prompt, uint32_t block, Level level);
  void Write(uint64_t salt);
  void Read(uint64_t salt);
  void ReadPrompt(uint32_t number, Session& session, PromptPages& pages, uint64_t random);
  FetchResult FetchBlocks(const Prompt& prompt, uint32_t first, uint32_t blocks, Session& session,
                          PromptPages& pages) const;
  std::vector<std::string> WrongBlocks(const Prompt& prompt, uint32_t first, uint32_t blocks,
                                       const PromptPages& pages) const;
  struct Pass;
  void VerifyPrompt(uint32_t number, Pass& pass, Session& session, PromptPages& pages);

  const LoadOptions options_;
  Ledger ledger_;
  std::unique_ptr<Session> writer_, durable_writer_;
  std::vector<std::unique_ptr<Session>> readers_;  // clients apart: each has its own memory of failed nodes
  std::atomic<uint32_t> next_prompt_;
  StopSignal stop_;
  std::vector<std::thread> threads_;
  const Instant began_;
  Mutex log_mutex_;
  std::FILE* log_ = nullptr;
};

}  // namespace kvasir::cluster
