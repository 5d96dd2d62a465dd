// SPDX-License-Identifier: Apache-2.0
// Goal: one way of making a copy has one View; the grid covers the model once. Method: equality, damage, counting.
#include "store/api/view.h"

#include <gtest/gtest.h>

#include <set>

namespace kvasir {
namespace {

TEST(View, SpellingsOfOneSpecAreOneView) {
  const auto a = View::Make("raw"), b = View::Make("P:raw");
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ(*a, *b);
  EXPECT_EQ(a->Digest(), b->Digest());
  EXPECT_TRUE(a->lossless);
  const auto lossy = View::Make("int(4,tok)");
  ASSERT_TRUE(lossy.ok()) << lossy.status();
  EXPECT_FALSE(lossy->lossless);
  EXPECT_EQ(View::Make(lossy->spec)->spec, lossy->spec);
}

TEST(View, RefusesWhatIsNoView) {
  const auto message = [](const absl::Status& s) { return std::string(s.message()); };
  EXPECT_EQ(View::Make("nonsense").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(message(View::Make("nonsense").status()).find("view: spec"), std::string::npos);
  EXPECT_EQ(message(View::Make("raw", 0, 1).status()), "view: layers_per_part: 0, must be 1 to 65535");
  EXPECT_EQ(message(View::Make("raw", 1, 65536).status()), "view: heads_per_part: 65536, must be 1 to 65535");
}

TEST(View, EveryFieldChangesTheDigest) {
  const View base = *View::Make("raw", 8, 1);
  std::vector<View> views(6, base);
  views[1].spec = View::Make("splitexp")->spec;
  views[2].lossless = false;
  views[3].selection = "query:1";
  views[4].layers_per_part = 4;
  views[5].heads_per_part = 2;
  std::set<ViewDigest> digests;
  for (const View& view : views) digests.insert(view.Digest());
  EXPECT_EQ(digests.size(), views.size());
}

TEST(View, ItsNameHasItsSelection) {
  View view = *View::Make("raw", 4, 2);
  EXPECT_EQ(view.Name(), view.spec);
  view.selection = std::string(View::kSelectionBytesMax, 'x');
  EXPECT_EQ(view.Name(), view.spec + "#" + view.selection);
  EXPECT_TRUE(View::Decode(view.Encode()).ok());
  view.selection += 'x';
  EXPECT_EQ(View::Decode(view.Encode()).status().message(), "view: selection: 65 bytes, max 64");
}

TEST(View, DecodeGivesBackAndRefusesDamage) {
  View view = *View::Make("k:int(4,chan,32)|v:int(4,tok,32)", 4, 2);
  view.selection = "query:7";
  const std::string bytes = view.Encode();
  const auto back = View::Decode(bytes);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, view);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(View::Decode(bytes.substr(0, length)).status().code(), absl::StatusCode::kInvalidArgument) << length;
  }
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    const auto other = View::Decode(damaged);
    if (other.ok()) {  // then it is another view, canonically written
      EXPECT_NE(*other, view);
      EXPECT_EQ(other->Encode(), damaged);
    }
  }
  EXPECT_FALSE(View::Decode(bytes + "x").ok());
  EXPECT_FALSE(View::Decode(std::string(View::kEncodedBytesMax + 1, 'x')).ok());
}

TEST(View, ARelabelledCopyIsRefused) {
  View liar = *View::Make("int(2,tok)");
  liar.lossless = true;
  EXPECT_EQ(View::Decode(liar.Encode()).status().message(), "view: lossless: is not what the codec says");
  View sloppy = *View::Make("raw");
  sloppy.spec = "raw";
  EXPECT_NE(std::string(View::Decode(sloppy.Encode()).status().message()).find("not canonical"), std::string::npos);
}

TEST(View, TheGridCoversTheModelOnce) {
  const KvLayout layout{13, 5, 64, 64, ElementType::kBfloat16};
  for (const uint32_t layers_per_part : {1u, 4u, 8u, 13u, 100u}) {
    for (const uint32_t heads_per_part : {1u, 2u, 5u, 9u}) {
      const View view = *View::Make("raw", layers_per_part, heads_per_part);
      std::vector<int> covered(13 * 5, 0);
      for (uint32_t l = 0; l < view.LayerGroups(layout); ++l) {
        for (uint32_t h = 0; h < view.HeadGroups(layout); ++h) {
          const PartGeometry g = view.Geometry(layout, l, h, 3, 16);
          EXPECT_EQ(g.first_token, 48u);
          EXPECT_EQ(g.tokens, 16u);
          for (uint32_t y = 0; y < g.layers; ++y) {
            for (uint32_t x = 0; x < g.heads; ++x) ++covered[(g.first_layer + y) * 5 + g.first_head + x];
          }
        }
      }
      EXPECT_EQ(covered, std::vector<int>(13 * 5, 1));
      EXPECT_EQ(view.Geometry(layout, view.LayerGroups(layout), 0, 0, 16).layers, 0u);  // beyond the model: nothing
    }
  }
}

}  // namespace
}  // namespace kvasir
