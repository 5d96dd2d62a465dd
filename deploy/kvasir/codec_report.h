// SPDX-License-Identifier: Apache-2.0
// CodecReport: what `kvasir codecs explain` tells of a spec: its stages, what they need, what they cost.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/codec.h"
#include "kernels/methods.h"

namespace kvasir {

/// The shape that costs are told for: one block of a chain, in bf16.
inline constexpr FrameShape kReportFrame = {8, 256, 128, ElementType::kBfloat16};
inline constexpr uint32_t kReportBlocks = 8;  ///< blocks of the chain

struct CodecReport {
  const Method* method = nullptr;  ///< where a name was given
  std::shared_ptr<const Codec> codec;
  std::vector<FrameSection> sections[2];  ///< {K, V} of one frame; bounds
  double bits[2] = {};                    ///< a value, {K, V}: of all bytes of the chain, metadata counted
};

/// `name_or_spec` as typed. The chain holds Gaussian numbers, the same ones every time; what a stage needs from an
/// engine is made up: as much attention to each token, queries of unit variance, the budget's number of tokens in every
/// head.
absl::StatusOr<CodecReport> ReportOn(const std::string& name_or_spec);

std::string ReportText(const CodecReport& report);
nlohmann::ordered_json ReportJson(const CodecReport& report);

}  // namespace kvasir
