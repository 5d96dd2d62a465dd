// SPDX-License-Identifier: Apache-2.0
// A match is a lookup that pins nothing.
#include "client/matcher.h"

#include <algorithm>
#include <utility>

namespace kvasir::client {

void Matcher::Start(PrefixChain chain, std::vector<std::string> accept, std::function<void(MatchResult)> done) {
  desk_.Count(Counter::kMatches);
  const uint64_t id = next_++;
  Match& match = *(matches_[id] = std::make_unique<Match>());
  match.chain = std::move(chain);
  match.found = static_cast<uint32_t>(match.chain.size());
  match.done = std::move(done);
  if (match.found == 0) return Finish(id);
  const KvLayout& layout = desk_.options.ns.layout;
  Finder::Wish wish{.chain = &match.chain, .first_block = 0, .blocks = match.found,
                    .slice = {0, layout.layers, 0, layout.kv_heads}, .accept = std::move(accept), .match_only = true,
                    .deadline = desk_.loop.Now() + 2 * desk_.options.call_deadline};
  Finder::Handlers handlers{
      .held = [](const HeldBlock&) {},
      .missing = [&match](uint32_t block, Miss cause, const absl::Status& why) {
        if (block >= match.found) return;
        match.found = block;
        match.result.status = block == 0 && cause == Miss::kUnavailable ? why : absl::OkStatus();
      },
      .leased = [](const std::shared_ptr<Lease>& lease) { lease->End(); },
      .idle = [this, id] { Finish(id); }};
  match.finder = std::make_shared<Finder>(desk_, router_, std::move(wish), std::move(handlers));
  std::vector<uint32_t> all(match.found);
  for (uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  match.finder->Ask(all);
}

void Matcher::Finish(uint64_t id) {
  auto node = matches_.extract(id);
  Match& match = *node.mapped();
  if (match.finder) match.finder->Stop();
  match.result.blocks = match.found;
  match.result.tokens = match.found * desk_.options.ns.block_tokens;
  match.done(std::move(match.result));
}

void Matcher::Abort() {
  while (!matches_.empty()) {
    Match& match = *matches_.begin()->second;
    match.found = 0;
    match.result.status = absl::AbortedError("the session was closed");
    Finish(matches_.begin()->first);
  }
}

}  // namespace kvasir::client
