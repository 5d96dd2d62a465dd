// SPDX-License-Identifier: Apache-2.0
// Compiling views once.
#include "client/view_book.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/methods.h"
#include "store/api/status.h"

namespace kvasir::client {

absl::StatusOr<std::shared_ptr<const CompiledView>> ViewBook::Compile(View view) {
  std::string name = view.Encode();
  auto found = compiled_.find(name);
  if (found != compiled_.end()) return found->second;
  Result<std::shared_ptr<const Codec>> codec = Codec::Parse(view.spec);
  if (!codec.ok()) return ToStatus(codec.error());
  auto made = std::make_shared<CompiledView>();
  made->digest = view.Digest();
  made->view = std::move(view);
  made->codec = *std::move(codec);
  if (compiled_.size() >= kViewsKept) compiled_.clear();
  compiled_.emplace(std::move(name), made);
  return made;
}

absl::StatusOr<std::shared_ptr<const CompiledView>> ViewBook::ToWrite(const std::string& name_or_spec,
                                                                      uint32_t layers_per_part, uint32_t heads_per_part,
                                                                      uint32_t tokens, const std::string& selection) {
  const absl::StatusOr<std::string> spec = CanonicalSpec(name_or_spec);
  if (!spec.ok()) return spec.status();
  absl::StatusOr<View> view = View::Make(*spec, layers_per_part, heads_per_part);
  if (!view.ok()) return view.status();
  view->selection = selection;
  auto compiled = Compile(*std::move(view));
  if (!compiled.ok()) return compiled.status();
  const PartGeometry part = (*compiled)->view.Geometry(layout_, 0, 0, 0, tokens);
  for (uint32_t t = 0; t < layout_.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    const Result<bool> taken = (*compiled)->codec->Check(tensor, ShapeOfFrame(layout_, part, tensor));
    if (!taken.ok()) return ToStatus(taken.error());
  }
  return compiled;
}

absl::StatusOr<std::shared_ptr<const CompiledView>> ViewBook::ToRead(const View& named) {
  absl::StatusOr<View> view = View::Make(named.spec, named.layers_per_part, named.heads_per_part);
  if (!view.ok()) return view.status();
  view->selection = named.selection;
  if (!(*view == named)) return absl::DataLossError(absl::StrCat("view '", named.spec, "' is named with fields it cannot have"));
  return Compile(*std::move(view));
}

absl::StatusOr<std::string> CanonicalSpec(std::string_view name_or_spec) {
  const Result<std::shared_ptr<const Codec>> codec = CodecNamed(name_or_spec);
  if (!codec.ok()) return ToStatus(codec.error());
  return (*codec)->spec();
}

absl::StatusOr<std::vector<std::string>> CanonicalAccept(const std::vector<std::string>& accept) {
  std::vector<std::string> out;
  for (const std::string& wish : accept) {
    if (wish == "lossless" || wish == "any") {
      out.push_back(wish);
      continue;
    }
    const size_t end_of_spec = std::min(wish.find('#'), wish.size());
    const absl::StatusOr<std::string> spec = CanonicalSpec(std::string_view(wish).substr(0, end_of_spec));
    if (!spec.ok()) return spec.status();
    if (wish.size() - end_of_spec > 1 + View::kSelectionBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat("a selection context of more than ", View::kSelectionBytesMax, " bytes"));
    }
    out.push_back(*spec + wish.substr(end_of_spec));
  }
  if (out.empty()) return absl::InvalidArgumentError("empty; name a view, 'lossless' or 'any'");
  return out;
}

bool Accepts(const std::vector<std::string>& accept, const View& view) {
  return std::any_of(accept.begin(), accept.end(), [&](const std::string& wish) {
    if (wish == "any" || wish == "lossless") return view.selection.empty() && (wish == "any" || view.lossless);
    return wish == view.Name();
  });
}

}  // namespace kvasir::client
