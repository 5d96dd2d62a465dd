// SPDX-License-Identifier: Apache-2.0
// The verdict: every acked block is read once more, each lost one is found. And plants, for proving that it is so.
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/cluster/load.h"

namespace kvasir::cluster {
namespace {

constexpr uint32_t kVerifiers = 3;
constexpr Duration kPassPause = std::chrono::milliseconds(100);
constexpr size_t kLostExamplesMax = 16;

/// Blocks [first, first + count) of a prompt.
struct Range {
  uint32_t first = 0, count = 0;
};

std::vector<Range> RangesOf(const std::map<uint32_t, Level>& blocks) {
  std::vector<Range> ranges;
  for (const auto& [block, level] : blocks) {
    if (ranges.empty() || ranges.back().first + ranges.back().count != block) ranges.push_back({block, 0});
    ++ranges.back().count;
  }
  return ranges;
}

}  // namespace

/// One reading of what is still open. Verifiers write under the mutex; between passes there are none.
struct Load::Pass {
  Mutex mutex;
  std::map<uint32_t, std::map<uint32_t, Level>> open;     // to be read in this pass
  std::map<uint32_t, std::map<uint32_t, Level>> missing;  // were not there
  std::map<std::pair<uint32_t, uint32_t>, absl::Status> why;
  uint64_t held = 0, wrong = 0;
};

/// Goes on behind each block that is missing: a lost one does not hide the others.
void Load::VerifyPrompt(uint32_t number, Pass& pass, Session& session, PromptPages& pages) {
  std::map<uint32_t, Level> blocks;
  {
    MutexLock lock(pass.mutex);
    blocks = pass.open.at(number);
  }
  const Prompt prompt = MakePrompt(options_.shape, number);
  std::vector<Range> ranges = RangesOf(blocks);
  while (!ranges.empty()) {
    const Range range = ranges.back();
    ranges.pop_back();
    const FetchResult result = FetchBlocks(prompt, range.first, range.count, session, pages);
    const std::vector<std::string> wrong = WrongBlocks(prompt, range.first, result.blocks, pages);
    // Counts wrong bytes; what is missing is this pass's business.
    ledger_.Attempted({number, 0, result.blocks, result.status, wrong, false});
    MutexLock lock(pass.mutex);
    pass.held += result.blocks;
    pass.wrong += wrong.size();
    if (result.blocks >= range.count) continue;
    const uint32_t gap = range.first + result.blocks;
    pass.missing[number][gap] = blocks.at(gap);
    pass.why[{number, gap}] = result.status;
    if (gap + 1 < range.first + range.count) ranges.push_back({gap + 1, range.first + range.count - gap - 1});
  }
}

Verdict Load::Verify(Duration patience) {
  const Instant until = std::chrono::steady_clock::now() + patience;
  Verdict verdict;
  Pass pass;
  pass.open = ledger_.AckedBlocks();
  for (const auto& [prompt, blocks] : pass.open) verdict.checked += blocks.size();
  stop_.Reset();
  for (;;) {
    std::vector<uint32_t> numbers;
    for (const auto& [number, blocks] : pass.open) numbers.push_back(number);
    std::atomic<size_t> next = 0;
    std::vector<std::thread> verifiers;
    for (uint32_t i = 0; i < kVerifiers; ++i) {
      verifiers.emplace_back([&, i] {
        PromptPages pages(options_.shape);
        for (size_t at = next++; at < numbers.size(); at = next++) {
          VerifyPrompt(numbers[at], pass, *readers_[i % readers_.size()], pages);
        }
      });
    }
    for (std::thread& verifier : verifiers) verifier.join();
    pass.open = std::exchange(pass.missing, {});
    const Instant again = std::chrono::steady_clock::now() + kPassPause;
    if (pass.open.empty() || again >= until || !stop_.WaitUntil(again)) break;
    pass.why.clear();
  }
  verdict.held = pass.held;
  verdict.wrong = pass.wrong;
  for (const auto& [prompt, blocks] : pass.open) {
    verdict.lost += blocks.size();
    for (const auto& [block, level] : blocks) {
      if (verdict.examples.size() == kLostExamplesMax) break;
      verdict.examples.push_back(absl::StrCat("LOST: prompt ", prompt, " block ", block, " acked ", Name(level),
                                              ", key ", ToHex(MakePrompt(options_.shape, prompt).chain[block]), ": ",
                                              pass.why[{prompt, block}].ToString()));
    }
  }
  return verdict;
}

absl::Status Load::PlantWrong() {
  uint32_t number = next_prompt_++;
  while (MakePrompt(options_.shape, number).view.spec != MakePrompt(options_.shape, 0).view.spec)
    number = next_prompt_++;
  PromptPages pages(options_.shape);
  const Prompt prompt = MakePrompt(options_.shape, number);
  // Its own half: the shared one may be in the store already, and right.
  const uint32_t block = options_.shape.blocks - 1;
  pages.Fill(prompt.chain, block);
  pages.FlipBit(block, options_.shape.seed);
  std::promise<PushResult> done;
  PushRequest request;
  request.chain = &prompt.chain;
  request.block = block;
  request.cache = &pages.cache();
  request.pages = pages.table();
  request.view = prompt.view.spec;
  writer_->Push(std::move(request), [&done](PushResult result) { done.set_value(std::move(result)); });
  const PushResult result = done.get_future().get();
  if (result.status.ok()) ledger_.Adopt(number, block, Level::kReplicated);
  return result.status;
}

void Load::PlantLost() { ledger_.Adopt(next_prompt_++, options_.shape.blocks - 1, Level::kReplicated); }

}  // namespace kvasir::cluster
