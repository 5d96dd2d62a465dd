// SPDX-License-Identifier: Apache-2.0
// View::Decode: what it accepts is canonical, and its grid stays inside any layout.
#include "store/api/view.h"
#include "tests/fuzz/fuzz.h"

namespace kvasir::fuzzing {

void Run(std::span<const uint8_t> input) {
  const std::string_view bytes(reinterpret_cast<const char*>(input.data()), input.size());
  const auto view = View::Decode(bytes);
  if (!view.ok()) return Require(!view.status().message().empty(), "a refusal says why");
  Require(view->Encode() == bytes, "one form only");
  Require(view->planes >= 1 && view->planes <= kPlanesMax, "a cell is cut into few planes");
  const KvLayout layout{61, 7, 64, 64, ElementType::kBfloat16};
  const PartGeometry last =
      view->Geometry(layout, view->LayerGroups(layout) - 1, view->HeadGroups(layout) - 1, 1, 16);
  Require(last.layers > 0 && last.first_layer + last.layers == layout.layers, "the last layer group ends the model");
  Require(last.heads > 0 && last.first_head + last.heads == layout.kv_heads, "the last head group ends the model");
}

std::vector<std::string> Seeds() {
  View selected = *View::Make("k:int(2,chan,32)|v:int(2,tok,32)", 4, 2);
  selected.selection = "query:7";
  return {View::Make("raw")->Encode(), View::Make("splitexp", 61, 1)->Encode(), selected.Encode(),
          View::Make("hier(4+4,tok)|planes")->Encode()};
}

}  // namespace kvasir::fuzzing
