// SPDX-License-Identifier: Apache-2.0
#include "store/index.h"

#include <algorithm>
#include <cmath>

#include "transport/check.h"

namespace kvasir {

uint32_t BlockView::Sealed() const {
  return static_cast<uint32_t>(std::count_if(parts.begin(), parts.end(), [](const Part& p) { return p.readable(); }));
}

uint32_t BlockView::WholePlanes() const {
  uint32_t whole = planes;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].readable()) whole = std::min(whole, static_cast<uint32_t>(i % planes));
  }
  return whole;
}

BlockView* Block::Find(uint32_t view) {
  const auto at = std::find_if(views.begin(), views.end(), [&](const BlockView& v) { return v.view == view; });
  return at == views.end() ? nullptr : &*at;
}

Block* Index::Find(const BlockId& id) {
  const auto at = blocks_.find(id);
  return at == blocks_.end() ? nullptr : at->second.get();
}

Block& Index::Make(const BlockId& id, const BlockKey& parent, const BlockKey& run, Instant now, bool* made) {
  auto& slot = blocks_[id];
  *made = slot == nullptr;
  if (*made) {
    slot = std::make_unique<Block>();
    slot->id = id;
    slot->parent = parent;
    slot->created = slot->touched = now;
    slot->lru = lru_.end();
    slot->upper_lru = upper_lru_.end();
  }
  if (slot->run == BlockKey{} && run != BlockKey{}) {
    slot->run = run;
    runs_[{id.domain, run}].blocks.push_back(slot.get());
  }
  return *slot;
}

void Index::Erase(Block& block) {
  KVASIR_CHECK(block.dram_parts == 0, "erasing a block that is in DRAM");
  const auto run = runs_.find({block.id.domain, block.run});
  if (run != runs_.end()) {
    std::erase(run->second.blocks, &block);
    if (run->second.blocks.empty()) runs_.erase(run);
  }
  const BlockId id = block.id;  // `block` goes with the entry
  blocks_.erase(id);
}

bool Index::Tidy(Block& block) {
  std::erase_if(block.views, [](const BlockView& v) {
    return std::all_of(v.parts.begin(), v.parts.end(), [](const Part& p) { return p.absent(); });
  });
  if (!block.views.empty()) return false;
  Erase(block);
  return true;
}

Run* Index::FindRun(const RunId& id) {
  const auto at = runs_.find(id);
  return at == runs_.end() ? nullptr : &at->second;
}

double Index::Heat(Run& run, Instant now) {
  constexpr double kLn2 = 0.6931471805599453;
  const double half_life = std::chrono::duration<double>(kHeatHalfLife).count();
  const double age = std::chrono::duration<double>(now - run.heated).count();
  run.heat = (run.heat == 0 ? 0 : run.heat * std::exp2(-age / half_life)) + 1;
  run.heated = now;
  return run.heat * kLn2 / half_life;  // a steady rate r settles at a heat of r * half_life / ln 2
}

void Index::GainExtent(Block& block, uint32_t plane) {
  if (plane > 0 && block.upper_parts++ == 0) block.upper_lru = upper_lru_.insert(upper_lru_.end(), &block);
  if (block.dram_parts++ > 0) return;
  block.lru = lru_.insert(lru_.end(), &block);
  children_in_dram_[BlockId{block.id.domain, block.parent}]++;
}

void Index::LoseExtent(Block& block, uint32_t plane) {
  KVASIR_CHECK(block.dram_parts > 0 && (plane == 0 || block.upper_parts > 0), "losing an extent it never had");
  if (plane > 0 && --block.upper_parts == 0) {
    upper_lru_.erase(block.upper_lru);
    block.upper_lru = upper_lru_.end();
  }
  if (--block.dram_parts > 0) return;
  lru_.erase(block.lru);
  block.lru = lru_.end();
  const auto count = children_in_dram_.find(BlockId{block.id.domain, block.parent});
  KVASIR_CHECK(count != children_in_dram_.end(), "every block in DRAM is counted at its parent");
  if (--count->second == 0) children_in_dram_.erase(count);
}

void Index::Touch(Block& block, Instant now, uint32_t ancestors) {
  Block* at = &block;
  for (uint32_t i = 0; at != nullptr; ++i) {
    at->touched = now;
    if (at->lru != lru_.end()) lru_.splice(lru_.end(), lru_, at->lru);
    if (at->upper_lru != upper_lru_.end()) upper_lru_.splice(upper_lru_.end(), upper_lru_, at->upper_lru);
    at = i < ancestors ? Find(BlockId{at->id.domain, at->parent}) : nullptr;
  }
}

void Index::Cool(Block& block) {
  if (block.lru != lru_.end()) lru_.splice(lru_.begin(), lru_, block.lru);
  if (block.upper_lru != upper_lru_.end()) upper_lru_.splice(upper_lru_.begin(), upper_lru_, block.upper_lru);
}

PartSums Index::SumByWalk() const {
  PartSums sums;
  ForEach([&](const Block& block) {
    for (const BlockView& view : block.views) {
      for (const Part& part : view.parts) sums.Count(part, 1);
    }
  });
  return sums;
}

bool Index::HasChildInDram(const Block& block) const { return children_in_dram_.contains(block.id); }

}  // namespace kvasir
