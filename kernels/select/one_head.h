// SPDX-License-Identifier: Apache-2.0
// OneHead: one KV head of a chain, as if it were the only one of a model of one layer. A stage that looks at one head
// at a time is given this: what it makes of a head cannot depend on others, nor on how many threads there are.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/stages/select_stage.h"

namespace kvasir {

/// An input that comes head by head.
struct HeadInput {
  std::string_view name;
  std::span<const float> SelectInputs::*field;
  uint64_t numbers;  ///< of one KV head
  bool of_queries;   ///< by query heads
};
/// Those of a chain of `tokens` tokens.
std::array<HeadInput, 6> HeadInputs(const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs);

/// Whether the inputs of `needs` (StageInfo::needs) that come head by head are there for all heads: kInvalidArgument
/// names the first that is missing or of another size.
Result<bool> CheckHeadInputs(const StageInfo& stage, const SelectionContext& context);

/// REQUIRES: CheckHeadInputs passed for the stage that is given it. Inputs of another size are left out.
class OneHead final : public ChainRows {
 public:
  OneHead(const SelectionContext& chain, uint32_t layer, uint32_t head);
  OneHead(const OneHead&) = delete;
  OneHead& operator=(const OneHead&) = delete;
  const SelectionContext& context() const { return context_; }

  void Load(uint32_t, uint32_t, KvTensor tensor, std::span<float> out) override {
    chain_.rows.Load(layer_, head_, tensor, out);
  }
  void Store(uint32_t, uint32_t, KvTensor tensor, std::span<const float> rows) override {
    chain_.rows.Store(layer_, head_, tensor, rows);
  }

 private:
  const SelectionContext& chain_;
  const uint32_t layer_, head_;
  const KvLayout layout_;
  const SelectInputs inputs_;
  const SelectionContext context_;
};

}  // namespace kvasir
