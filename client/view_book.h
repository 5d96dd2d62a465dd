// SPDX-License-Identifier: Apache-2.0
// ViewBook: views with their codecs compiled, and which of them a reader takes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "kernels/codec.h"
#include "store/api/digest.h"
#include "store/api/view.h"

namespace kvasir::client {

/// Immutable; shared by the pushes and fetches that use it and by the book.
struct CompiledView {
  View view;
  ViewDigest digest;
  std::shared_ptr<const Codec> codec;
};

/// The Loop only. Keeps at most kViewsKept; more and it starts anew.
class ViewBook {
 public:
  static constexpr size_t kViewsKept = 256;
  explicit ViewBook(const KvLayout& layout) : layout_(layout) {}

  /// Compiles a view to write. InvalidArgument: the spec, or a shape of this layout that the codec cannot take.
  absl::StatusOr<std::shared_ptr<const CompiledView>> ToWrite(const std::string& name_or_spec, uint32_t layers_per_part,
                                                              uint32_t heads_per_part, uint32_t tokens,
                                                              const std::string& selection = "");
  /// Compiles a view that a node named. DataLoss when its fields contradict each other.
  absl::StatusOr<std::shared_ptr<const CompiledView>> ToRead(const View& named);

 private:
  absl::StatusOr<std::shared_ptr<const CompiledView>> Compile(View view);
  const KvLayout layout_;
  absl::flat_hash_map<std::string, std::shared_ptr<const CompiledView>> compiled_;  // by View::Encode()
};

/// The canonical spec of a method's name ("kivi2") or of a spec: whatever a caller of the Session names goes through here, so
/// that only specs are stored and sent. InvalidArgument as CodecNamed.
absl::StatusOr<std::string> CanonicalSpec(std::string_view name_or_spec);
/// `accept` as View::Name() writes it, methods and specs in canonical form; "lossless" and "any" stay. InvalidArgument as
/// CodecNamed, or a selection context that is too long.
absl::StatusOr<std::vector<std::string>> CanonicalAccept(const std::vector<std::string>& accept);
/// Whether a reader that said `accept` (canonical) takes this view. A selection context is never implied.
bool Accepts(const std::vector<std::string>& accept, const View& view);

}  // namespace kvasir::client
