// SPDX-License-Identifier: Apache-2.0
// Bench: what a codec costs the reference model. A case is a text of kPrefixTokens + kTailTokens. K and V of the prefix
// are computed exactly, encoded and decoded, as a store would hand them back; then the model computes the tail over
// them, and of each layer the tail's own K and V are encoded and decoded before its attention reads them. So nothing
// that a query of the tail sees is exact. Losses are those of the tail.
#pragma once

#include <filesystem>
#include <memory>

#include "kernels/codec.h"
#include "kernels/result.h"
#include "tests/quality/methods.h"

namespace kvasir::quality {

inline constexpr uint32_t kFrameTokens = 256;
inline constexpr uint32_t kPrefixTokens = 3 * kFrameTokens;
inline constexpr uint32_t kTailTokens = kFrameTokens;
inline constexpr uint32_t kCaseTokens = kPrefixTokens + kTailTokens;
inline constexpr uint32_t kCasesMax = 63;  ///< cases that heldout.txt has room for

struct BenchOptions {
  uint32_t texts = 24;          ///< cases of held-out text
  uint32_t passkeys = 16;       ///< cases that hide a passkey in the prefix and ask for it at the end
  uint32_t threads = 1;         ///< that compute the model; codecs run on one
  double speed_seconds = 0.05;  ///< one measurement of a speed takes at least so long; 0 = none is taken
};

/// Of one method.
struct Figures {
  double bits = 0;             ///< encoded bytes of all frames of all texts, times 8, over their values
  double loss = 0;             ///< nats a byte of the tails of the texts
  double perplexity = 0;       ///< e^loss
  double change = 0;           ///< of the perplexity, against exact K and V: 0.01 = one percent more
  double attention_error = 0;  ///< |a' - a| / |a| over the outputs a of all heads, layers and positions of the tails
  double passkey = 0;          ///< share of passkeys of which all five digits are the model's first choice
  double encode_gbs = 0;       ///< 1e9 bytes of bf16 a second, one thread, frames in its caches; 0 = not measured
  double decode_gbs = 0;
};

class Bench {
 public:
  /// Computes the exact run of every case. `model` has config.json, model.safetensors, heldout.txt.
  static Result<std::unique_ptr<Bench>> Make(const std::filesystem::path& model, const BenchOptions& options);
  virtual ~Bench() = default;
  virtual const Figures& exact() const = 0;
  /// kUnimplemented: the spec chooses tokens. kInvalidArgument: it cannot take such frames or needs what is not
  /// brought (the bench brings query_peak and query_norm, of the prefix).
  virtual Result<Figures> Measure(const Method& method) = 0;
};

}  // namespace kvasir::quality
