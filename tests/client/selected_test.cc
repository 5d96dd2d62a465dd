// SPDX-License-Identifier: Apache-2.0
// Goal: a view that chooses tokens is pushed as one choice over its chain, refused before encoding when an input is missing,
// never taken for another choice, and fetched as the rows that were chosen or as a miss. Method: fake nodes; the choice made
// again here; rows compared with the truth that filled the pages; damage to every part.
#include "tests/client/cluster.h"
#include "tests/client/extents.h"
#include "tests/kernels/select_chain.h"

namespace kvasir::testing {
namespace {

constexpr char kSnap[] = "B:uni(0.25)|E:win(8,5)|R:win(8)|raw";
constexpr uint32_t kTokens = 128;

/// A Session, a chain of four blocks in pages, and everything an engine may bring.
struct Prefilled {
  explicit Prefilled(Cluster& cluster, uint32_t salt = 0)
      : session(cluster.Open()), chain(session->Chain(Tokens(4, salt))), pages(SmallNamespace(), {}), rng(Rng(5)),
        brought(kTokens, rng, SmallNamespace().layout) {
    pages.FillWithTruth();
    const KvLayout layout = SmallNamespace().layout;
    inputs = brought.inputs;
    inputs.query_heads = 2 * layout.kv_heads;
    const uint32_t heads = layout.layers * layout.kv_heads;
    query_peak.assign(heads * layout.key_dim, 2.0f);
    query_norm.assign(heads, 8.0f);
    attention_peak.assign(heads * kTokens, 0.01f);
    inputs.query_peak = query_peak;
    inputs.query_norm = query_norm;
    inputs.attention_peak = attention_peak;
  }
  PushSelectedRequest Request(const std::string& spec, const std::string& about = "") const {
    PushSelectedRequest request;
    request.chain = &chain;
    request.cache = &pages.cache();
    request.pages = pages.table();
    request.view = spec;
    request.about = about;
    request.inputs = &inputs;
    return request;
  }
  PushResult PushView(const std::string& spec, const std::string& about = "") {
    return PushSelectedAndWait(*session, Request(spec, about));
  }
  FetchResult FetchInto(Extents& extents, const std::string& spec, const std::string& about = "") {
    FetchRequest request;
    request.chain = &chain;
    request.extents = &extents.get();
    request.accept = {*session->SelectedView(chain, spec, about)};
    return FetchAndWait(*session, request);
  }
  ChainSelection Chosen(const std::string& spec) const {
    return ChooseHere(spec, pages.cache(), pages.table(), kTokens, inputs);
  }

  std::unique_ptr<Session> session;
  PrefixChain chain;
  Pages pages;
  std::mt19937_64 rng;
  SelectFixture brought;
  std::vector<float> query_peak, query_norm, attention_peak;
  SelectInputs inputs;
};

/// The first difference between what was fetched of `blocks` blocks of a raw view and what was chosen; "" when there is none.
std::string Difference(Extents& extents, const ChainSelection& chosen, uint32_t blocks) {
  const HeadExtents& e = extents.get();
  const KvLayout& layout = e.layout;
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    const Extents::Layer& got = extents.layer(layer);
    uint32_t at = 0;
    for (uint32_t head = e.first_head; head < e.first_head + e.heads; ++head) {
      const std::string where = "layer " + std::to_string(layer) + " head " + std::to_string(head);
      if (got.cu_lengths[head - e.first_head] != at) return where + " begins elsewhere";
      for (uint32_t token = 0; token < blocks * 32; ++token) {
        if (chosen.selection.classes[(layer * layout.kv_heads + head) * kTokens + token] == RowClass::kDropped) continue;
        if (got.positions[at] != token) return where + " lacks token " + std::to_string(token);
        for (uint32_t c = 0; c < layout.key_dim; ++c) {
          const uint16_t key = Truth(layer, KvTensor::kKey, head, token, c), value = Truth(layer, KvTensor::kValue, head, token, c);
          const bool same = std::memcmp(got.keys.data() + 2 * (at * layout.key_dim + c), &key, 2) == 0 &&
                            std::memcmp(got.values.data() + 2 * (at * layout.value_dim + c), &value, 2) == 0;
          if (!same) return where + " token " + std::to_string(token) + " has other bits";
        }
        ++at;
      }
    }
    if (got.cu_lengths.back() != at) return "layer " + std::to_string(layer) + " ends elsewhere";
  }
  return "";
}

/// A byte of the first frame's class map.
void DamageFrame(std::span<std::byte> part) { part[ParseAnyPart(part)->frames_offset + 3] ^= std::byte{1}; }

TEST(SelectedTest, WhatWasChosenComesBackAndTheFullBlocksStay) {
  for (const char* spec : {kSnap, "B:pyr(0.25,20)|E:win(8,5)|R:win(8)|raw", "B:ada(0.25)|E:win(8,5)|R:win(8)|raw",
                           "B:head(0.25,0.5)|E:win(8,5)|R:win(8)|raw", "B:class(0.5)|E:late|R:sink(4)|R:win(16)|raw",
                           "B:cos3(0.25,0.3)|E:acc|R:win(8)|splitexp", "B:uni(0.25)|E:expq|raw",
                           "B:ada(0.3,0,all)|E:ext|raw", "B:uni(0.5)|E:knorm|raw"}) {
    SCOPED_TRACE(spec);
    Cluster cluster(1);
    Prefilled prefilled(cluster);
    PushAll(*prefilled.session, prefilled.chain, prefilled.pages);
    const PushResult pushed = prefilled.PushView(spec);
    ASSERT_TRUE(pushed.status.ok()) << pushed.status;
    EXPECT_EQ(pushed.replicas, 1u);
    EXPECT_EQ(pushed.raw_bytes, uint64_t{4} * 4 * kTokens * 2 * 16 * 2);
    EXPECT_LT(pushed.stored_bytes, pushed.raw_bytes);
    Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
    const FetchResult fetched = prefilled.FetchInto(rows, spec);
    ASSERT_TRUE(fetched.status.ok()) << fetched.status;
    EXPECT_EQ(fetched.blocks, 4u);
    EXPECT_EQ(Difference(rows, prefilled.Chosen(spec), 4), "");
    Pages whole(SmallNamespace(), {});
    EXPECT_EQ(FetchAll(*prefilled.session, prefilled.chain, whole).blocks, 4u);
    EXPECT_EQ(whole.Difference(0, 4), "");
  }
}

TEST(SelectedTest, AMethodStandsForItsSpec) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  ASSERT_TRUE(prefilled.PushView("knorm", "by name").status.ok());
  EXPECT_EQ(*prefilled.session->SelectedView(prefilled.chain, "knorm", "by name"),
            *prefilled.session->SelectedView(prefilled.chain, "B:uni(0.5)|E:knorm|raw", "by name"));
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  EXPECT_EQ(prefilled.FetchInto(rows, "B:uni(0.5)|E:knorm|raw", "by name").blocks, 4u);
  EXPECT_EQ(Difference(rows, prefilled.Chosen("B:uni(0.5)|E:knorm|raw"), 4), "");
  EXPECT_EQ(prefilled.PushView("knrom").status.message(), "no method 'knrom'; did you mean knorm? `kvasir codecs` lists all");
}

TEST(SelectedTest, ARankFetchesItsHeadsOnly) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  ASSERT_TRUE(prefilled.PushView(kSnap).status.ok());
  Extents all(SmallNamespace().layout, 0, 4, 4 * kTokens), half(SmallNamespace().layout, 1, 2, 2 * kTokens);
  const uint64_t moved = prefilled.FetchInto(all, kSnap).moved_bytes;
  const FetchResult fetched = prefilled.FetchInto(half, kSnap);
  ASSERT_TRUE(fetched.status.ok()) << fetched.status;
  EXPECT_EQ(Difference(half, prefilled.Chosen(kSnap), 4), "");
  EXPECT_EQ(fetched.moved_bytes * 2, moved);
}

TEST(SelectedTest, TheWindowIsOfTheChainNotOfABlock) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  const std::string spec = "B:uni(8)|E:late|R:win(8)|raw";
  ASSERT_TRUE(prefilled.PushView(spec).status.ok());
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  ASSERT_EQ(prefilled.FetchInto(rows, spec).blocks, 4u);
  for (uint32_t head = 0; head < 4; ++head) {
    ASSERT_EQ(rows.layer(0).cu_lengths[head], head * 8);
    EXPECT_EQ(rows.layer(0).positions[head * 8], kTokens - 8);
  }
}

TEST(SelectedTest, AMissingInputIsNamedBeforeAnythingIsEncoded) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  const SelectInputs all = prefilled.inputs;
  const struct {
    const char* name;
    std::span<const float> SelectInputs::*field;
    const char* spec;
  } fields[] = {
      {"attention_sums", &SelectInputs::attention_sums, "B:uni(0.25)|E:acc|raw"},
      {"window_queries", &SelectInputs::window_queries, kSnap},
      {"query_mean", &SelectInputs::query_mean, "B:uni(0.25)|E:expq|raw"},
      {"query_covariance", &SelectInputs::query_covariance, "B:uni(0.25)|E:expq|raw"},
      {"external_scores", &SelectInputs::external_scores, "B:uni(0.25)|E:ext|raw"},
      {"hidden_cosine", &SelectInputs::hidden_cosine, "B:cos3(0.25,0.3)|E:acc|raw"},
      {"head_scores", &SelectInputs::head_scores, "B:class(0.5)|E:late|R:win(8)|raw"},
      {"query_peak", &SelectInputs::query_peak, "B:uni(0.25)|E:knorm|k:bal|int(8,tok)"},
      {"query_norm", &SelectInputs::query_norm, "B:uni(0.25)|E:knorm|k:adapt(key)|v:int(8,tok)"},
      {"attention_peak", &SelectInputs::attention_peak, "B:uni(0.25)|E:knorm|k:int(8,tok)|v:adapt(value)"},
  };
  for (const auto& [name, field, spec] : fields) {
    SCOPED_TRACE(name);
    prefilled.inputs.*field = {};
    const PushResult refused = prefilled.PushView(spec);
    EXPECT_EQ(refused.status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(refused.status.message().find(std::string("needs the input ") + name + ", which was not brought; bring it"),
              std::string::npos)
        << refused.status;
    const std::vector<float> wrong(3, 1.0f);
    prefilled.inputs.*field = wrong;
    const PushResult misshapen = prefilled.PushView(spec);
    EXPECT_EQ(misshapen.status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(misshapen.status.message().find(name), std::string::npos) << misshapen.status;
    prefilled.inputs = all;
  }
  PushSelectedRequest nothing = prefilled.Request(kSnap);
  nothing.inputs = nullptr;
  EXPECT_EQ(PushSelectedAndWait(*prefilled.session, nothing).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cluster.node(0).seen().parts_offered, 0u);
}

TEST(SelectedTest, AViewOfOneBlockGetsItsShareOfTheInputs) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  PushRequest request;
  request.chain = &prefilled.chain;
  request.block = 2;
  request.cache = &prefilled.pages.cache();
  request.pages = prefilled.pages.table();
  request.view = "k:bal|k:int(8,tok)|v:adapt(value)";
  const PushResult refused = PushAndWait(*prefilled.session, request);
  EXPECT_NE(refused.status.message().find("needs the input query_peak"), std::string::npos) << refused.status;
  EXPECT_EQ(cluster.node(0).seen().parts_offered, 0u);
  request.inputs = &prefilled.inputs;
  const PushResult pushed = PushAndWait(*prefilled.session, request);
  EXPECT_TRUE(pushed.status.ok()) << pushed.status;
  request.view = kSnap;
  EXPECT_NE(PushAndWait(*prefilled.session, request).status.message().find("PushSelected"), std::string::npos);
  EXPECT_NE(prefilled.PushView("raw").status.message().find("call Push"), std::string::npos);
}

TEST(SelectedTest, ChoicesAreNeverTakenForEachOther) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  ASSERT_TRUE(prefilled.PushView(kSnap, "what is it about?").status.ok());
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  EXPECT_EQ(prefilled.FetchInto(rows, kSnap).blocks, 0u) << "another question";
  EXPECT_EQ(rows.rows(0), 0u) << "no rows were found";
  EXPECT_EQ(prefilled.FetchInto(rows, "B:uni(0.5)|E:win(8,5)|R:win(8)|raw", "what is it about?").blocks, 0u) << "another budget";
  // The same blocks as the beginning of a longer chain: another window, another choice.
  const PrefixChain longer = prefilled.session->Chain(Tokens(5));
  FetchRequest request;
  request.chain = &longer;
  request.extents = &rows.get();
  for (const std::string& wish : {*prefilled.session->SelectedView(longer, kSnap, "what is it about?"), std::string(kSnap),
                                  std::string("any"), std::string("lossless")}) {
    request.accept = {wish};
    EXPECT_EQ(FetchAndWait(*prefilled.session, request).blocks, 0u) << wish;
  }
  // Both at once, then each by its name.
  const ChainSelection first = prefilled.Chosen(kSnap);
  std::vector<float> other_queries(prefilled.brought.queries.rbegin(), prefilled.brought.queries.rend());
  prefilled.inputs.window_queries = other_queries;
  const ChainSelection second = prefilled.Chosen(kSnap);
  ASSERT_NE(first.selection.classes, second.selection.classes);
  const PushResult pushed = prefilled.PushView(kSnap, "and who wrote it?");
  ASSERT_TRUE(pushed.status.ok()) << pushed.status;
  EXPECT_EQ(pushed.existed, 0u);
  EXPECT_EQ(prefilled.FetchInto(rows, kSnap, "what is it about?").blocks, 4u);
  EXPECT_EQ(Difference(rows, first, 4), "");
  EXPECT_EQ(prefilled.FetchInto(rows, kSnap, "and who wrote it?").blocks, 4u);
  EXPECT_EQ(Difference(rows, second, 4), "");
}

TEST(SelectedTest, ADemotingViewGoesIntoPagesToo) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  const std::string spec = "B:uni(0.25)|E:acc(demote)|raw|d:int(8,tok)";
  ASSERT_TRUE(prefilled.PushView(spec).status.ok());
  Pages read(SmallNamespace(), {});
  FetchRequest request = RequestOf(prefilled.chain, read);
  request.accept = {*prefilled.session->SelectedView(prefilled.chain, spec, "")};
  EXPECT_EQ(FetchAndWait(*prefilled.session, request).blocks, 4u);
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  ASSERT_EQ(prefilled.FetchInto(rows, spec).blocks, 4u);
  EXPECT_EQ(rows.rows(0), 4u * kTokens) << "no token is missing";
  const ChainSelection chosen = prefilled.Chosen(spec);
  for (uint32_t token = 0; token < kTokens; ++token) {
    if (chosen.selection.classes[token] != RowClass::kKept) continue;
    const uint16_t truth = Truth(0, KvTensor::kKey, 0, token, 3);
    EXPECT_EQ(std::memcmp(rows.layer(0).keys.data() + 2 * (token * 16 + 3), &truth, 2), 0) << token;
  }
}

TEST(SelectedTest, AViewThatDropsHasNoDenseForm) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  ASSERT_TRUE(prefilled.PushView(kSnap).status.ok());
  Pages read(SmallNamespace(), {});
  FetchRequest request = RequestOf(prefilled.chain, read);
  request.accept = {*prefilled.session->SelectedView(prefilled.chain, kSnap, "")};
  const FetchResult fetched = FetchAndWait(*prefilled.session, request);
  EXPECT_EQ(fetched.blocks, 0u);
  EXPECT_NE(fetched.status.message().find("head extents"), std::string::npos) << fetched.status;
  EXPECT_TRUE(read.Untouched(0, 4));
}

TEST(SelectedTest, DamageIsAMissFromThatBlockOn) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  ASSERT_TRUE(prefilled.PushView(kSnap).status.ok());
  cluster.node(0).ForEachPart([&](const PartId& id, std::span<std::byte> bytes) {
    if (id.key == prefilled.chain[2] && id.layer_group == 1 && id.head_group == 3) DamageFrame(bytes);
  });
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  const FetchResult fetched = prefilled.FetchInto(rows, kSnap);
  EXPECT_EQ(fetched.blocks, 2u);
  EXPECT_EQ(fetched.status.code(), absl::StatusCode::kDataLoss) << fetched.status;
  EXPECT_EQ(Difference(rows, prefilled.Chosen(kSnap), 2), "");
  EXPECT_EQ(CounterOf(*prefilled.session, "miss_crc"), 1u);
}

TEST(SelectedTest, ADamagedBlockIsBroughtFromAReplica) {
  Cluster cluster(2);
  SessionOptions options = cluster.Options();
  options.replicas = 2;
  Prefilled prefilled(cluster);
  prefilled.session = cluster.Open(options);
  ASSERT_EQ(prefilled.PushView(kSnap).replicas, 2u);
  cluster.node(cluster.Owners(prefilled.chain, 0)[0]).ForEachPart([&](const PartId& id, std::span<std::byte> bytes) {
    if (id.key == prefilled.chain[1] && id.head_group == 2) DamageFrame(bytes);
  });
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  const FetchResult fetched = prefilled.FetchInto(rows, kSnap);
  EXPECT_EQ(fetched.blocks, 4u) << fetched.status;
  EXPECT_EQ(Difference(rows, prefilled.Chosen(kSnap), 4), "");
  EXPECT_EQ(CounterOf(*prefilled.session, "miss_crc"), 1u);
}

TEST(SelectedTest, TooLittleRoomSaysHowMuchIsNeeded) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  ASSERT_TRUE(prefilled.PushView(kSnap).status.ok());
  Extents enough(SmallNamespace().layout, 0, 4, 128), little(SmallNamespace().layout, 0, 4, 127);
  EXPECT_EQ(prefilled.FetchInto(enough, kSnap).blocks, 4u);
  const FetchResult fetched = prefilled.FetchInto(little, kSnap);
  EXPECT_EQ(fetched.blocks, 0u);
  EXPECT_EQ(fetched.status.message(), "head extents: layer 0 has 128 rows, rows_max is 127");
}

TEST(SelectedTest, ABlockThatIsNotTakenIsNamedAndTheFirstChoiceStays) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  cluster.node(0).RefuseOffers(absl::ResourceExhaustedError("full"));
  const PushResult refused = prefilled.PushView(kSnap);
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.status.message(), "block 0: full");
  EXPECT_EQ(refused.replicas, 0u);
  cluster.node(0).RefuseOffers(absl::OkStatus());
  ASSERT_TRUE(prefilled.PushView(kSnap).status.ok());
  const ChainSelection first = prefilled.Chosen(kSnap);
  std::vector<float> other_queries(prefilled.brought.queries.rbegin(), prefilled.brought.queries.rend());
  prefilled.inputs.window_queries = other_queries;
  const PushResult again = prefilled.PushView(kSnap);
  EXPECT_TRUE(again.status.ok()) << again.status;
  EXPECT_EQ(again.existed, 4u * 2 * 4);
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  ASSERT_EQ(prefilled.FetchInto(rows, kSnap).blocks, 4u);
  EXPECT_EQ(Difference(rows, first, 4), "");
}

TEST(SelectedTest, RequestsThatCannotBeAreNamed) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  Pages half(SmallNamespace(), {.first_layer = 2});
  PushSelectedRequest request = prefilled.Request(kSnap);
  request.cache = &half.cache();
  EXPECT_NE(PushSelectedAndWait(*prefilled.session, request).status.message().find("all 4 layers"), std::string::npos);
  request = prefilled.Request("B:uni(0.25)|E:nothing|raw");
  EXPECT_EQ(PushSelectedAndWait(*prefilled.session, request).status.code(), absl::StatusCode::kInvalidArgument);
  request = prefilled.Request(kSnap);
  request.chain = nullptr;
  EXPECT_EQ(PushSelectedAndWait(*prefilled.session, request).status.code(), absl::StatusCode::kInvalidArgument);
  Extents rows(SmallNamespace().layout, 0, 4, 8);
  FetchRequest fetch = RequestOf(prefilled.chain, prefilled.pages);
  fetch.extents = &rows.get();
  EXPECT_NE(FetchAndWait(*prefilled.session, fetch).status.message().find("one of the two"), std::string::npos);
  fetch.cache = nullptr;
  rows.get().layers[1].positions = nullptr;
  EXPECT_NE(FetchAndWait(*prefilled.session, fetch).status.message().find("null pointer"), std::string::npos);
  EXPECT_FALSE(prefilled.session->SelectedView(prefilled.chain, "int(", "").ok());
}

TEST(SelectedTest, ClosingWhileAChoiceIsMadeAbortsIt) {
  Cluster cluster(1);
  Prefilled prefilled(cluster);
  std::promise<PushResult> done;
  prefilled.session->PushSelected(prefilled.Request(kSnap), [&](PushResult result) { done.set_value(std::move(result)); });
  prefilled.session.reset();
  const PushResult result = done.get_future().get();  // once, whichever came first
  EXPECT_TRUE(result.status.ok() || absl::IsAborted(result.status)) << result.status;
}

}  // namespace
}  // namespace kvasir::testing
