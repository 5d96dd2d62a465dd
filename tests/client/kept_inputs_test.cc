// SPDX-License-Identifier: Apache-2.0
// Goal: what was brought once serves another budget later, without the model: the same bytes. Method: inputs kept in fake
// nodes and loaded by another Session; both pushed, stored parts compared byte for byte; damaged, cut and lost objects.
#include "client/kept_inputs.h"

#include "tests/client/cluster.h"
#include "tests/client/extents.h"
#include "tests/kernels/select_chain.h"

namespace kvasir::testing {
namespace {

constexpr uint32_t kTokens = 128;

absl::Status KeepAndWait(Session& session, const PrefixChain& chain, const std::string& about, const SelectInputs& inputs) {
  std::promise<absl::Status> done;
  session.KeepInputs(chain, about, inputs, [&](absl::Status status) { done.set_value(std::move(status)); });
  return done.get_future().get();
}
absl::Status DropAndWait(Session& session, const PrefixChain& chain, const std::string& about) {
  std::promise<absl::Status> done;
  session.DropInputs(chain, about, [&](absl::Status status) { done.set_value(std::move(status)); });
  return done.get_future().get();
}
absl::StatusOr<std::shared_ptr<const KeptInputs>> LoadAndWait(Session& session, const PrefixChain& chain, const std::string& about) {
  std::promise<absl::StatusOr<std::shared_ptr<const KeptInputs>>> done;
  session.LoadInputs(chain, about, [&](absl::StatusOr<std::shared_ptr<const KeptInputs>> kept) { done.set_value(std::move(kept)); });
  return done.get_future().get();
}

/// Every input there is, over four blocks.
struct Everything {
  Everything() : rng(Rng(3)), brought(kTokens, rng, SmallNamespace().layout), some(64, 0.5f) {
    inputs = brought.inputs;
    inputs.query_heads = 8;
    inputs.attention_decay = 0.875f;
    inputs.query_peak = some;
    inputs.query_norm = std::span(some).first(16);
    inputs.attention_peak = std::span(some).first(3);
    spans = {{0, 7, TokenSpan::Kind::kText}, {7, 90, TokenSpan::Kind::kImage}, {90, 128, TokenSpan::Kind::kPunctuation}};
    inputs.spans = spans;
  }
  std::mt19937_64 rng;
  SelectFixture brought;
  std::vector<float> some;
  std::vector<TokenSpan> spans;
  SelectInputs inputs;
};

TEST(KeptInputsTest, EveryFieldComesBackAndDamageIsNamedOrAnotherValue) {
  Everything all;
  const std::string bytes = KeptInputs::Encode(all.inputs);
  const auto kept = KeptInputs::Decode(bytes);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(KeptInputs::Encode((*kept)->inputs()), bytes);
  EXPECT_EQ((*kept)->inputs().attention_decay, 0.875f);
  EXPECT_TRUE(std::equal(all.brought.sums.begin(), all.brought.sums.end(), (*kept)->inputs().attention_sums.begin()));
  EXPECT_EQ((*kept)->inputs().spans[1].end, 90u);
  for (size_t length = 0; length < bytes.size(); length += 1 + length / 8) {
    EXPECT_EQ(KeptInputs::Decode(bytes.substr(0, length)).status().code(), absl::StatusCode::kInvalidArgument) << length;
  }
  EXPECT_FALSE(KeptInputs::Decode(bytes + "x").ok());
  std::string bad = bytes;
  bad[3 * 6 + 3 * 4 + 6 + 8] = 9;  // behind three numbers and the head of the spans: the first span's kind
  EXPECT_EQ(KeptInputs::Decode(bad).status().message(), "kept inputs: spans: a kind that there is not");
  EXPECT_TRUE(KeptInputs::Decode(KeptInputs::Encode({})).ok());
}

TEST(KeptInputsTest, AnotherBudgetLaterGivesTheSameBytes) {
  Cluster with(1), without(1);
  Everything all;
  all.inputs.attention_decay = 1.0f;
  all.inputs.query_peak = all.inputs.query_norm = all.inputs.attention_peak = {};
  auto session = with.Open();
  const PrefixChain chain = session->Chain(Tokens(4));
  Pages pages(SmallNamespace(), {});
  pages.FillWithTruth();
  PushAll(*session, chain, pages);
  ASSERT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok());

  // Later, elsewhere: the full blocks and the kept inputs are all there is.
  auto later = with.Open();
  Pages fetched(SmallNamespace(), {.page_tokens = 8, .heads_first = true});
  ASSERT_EQ(FetchAll(*later, chain, fetched).blocks, 4u);
  const auto kept = LoadAndWait(*later, chain, "");
  ASSERT_TRUE(kept.ok()) << kept.status();
  auto directly = without.Open();
  for (const std::string spec : {"B:uni(0.125)|E:win(8,5)|R:win(8)|raw", "B:ada(0.5)|E:acc|R:sink(4)|k:int(4,chan,32)|v:int(4,tok,16)",
                                 "B:head(0.25,0.5)|E:expq|raw"}) {
    SCOPED_TRACE(spec);
    PushSelectedRequest request{&chain, &fetched.cache(), fetched.table(), nullptr, spec, "", &(*kept)->inputs()};
    const PushResult pushed = PushSelectedAndWait(*later, request);
    ASSERT_TRUE(pushed.status.ok()) << pushed.status;
    request = {&chain, &pages.cache(), pages.table(), nullptr, spec, "", &all.inputs};
    ASSERT_TRUE(PushSelectedAndWait(*directly, request).status.ok());
    View view = *View::Make(spec, 2, 1);
    const std::string name = *later->SelectedView(chain, spec, "");
    view.selection = name.substr(name.find('#') + 1);
    const auto parts = with.PartsOf(view.Digest());
    EXPECT_EQ(parts.size(), 4u * 2 * 4);
    EXPECT_EQ(parts, without.PartsOf(view.Digest()));
  }
}

TEST(KeptInputsTest, AreOfOneChainAndOneSubjectAndTheFirstStay) {
  Cluster cluster(2);
  Everything all;
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(4)), longer = session->Chain(Tokens(5));
  EXPECT_TRUE(absl::IsNotFound(LoadAndWait(*session, chain, "").status()));
  ASSERT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok());
  EXPECT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok()) << "the same again";
  EXPECT_TRUE(absl::IsNotFound(LoadAndWait(*session, longer, "").status()));
  EXPECT_TRUE(absl::IsNotFound(LoadAndWait(*session, chain, "another question").status()));
  SelectInputs less = all.inputs;
  less.attention_sums = {};
  EXPECT_TRUE(absl::IsAlreadyExists(KeepAndWait(*session, chain, "", less)));
  EXPECT_TRUE(KeepAndWait(*session, chain, "another question", less).ok());
  const auto kept = LoadAndWait(*session, chain, "");
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(KeptInputs::Encode((*kept)->inputs()), KeptInputs::Encode(all.inputs));
}

TEST(KeptInputsTest, ManyPiecesAndTheirLimit) {
  Cluster cluster(1);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(1));
  std::vector<float> scores((5u << 20) / 2);  // 10 MiB
  auto rng = Rng(4);
  for (float& x : scores) x = static_cast<float>(rng() % 1000);
  SelectInputs inputs;
  inputs.attention_sums = scores;
  ASSERT_TRUE(KeepAndWait(*session, chain, "", inputs).ok());
  size_t objects = 0;
  cluster.node(0).ForEachObject([&](const std::string&, std::string& value) {
    ++objects;
    EXPECT_LE(value.size(), kObjectBytesMax);
  });
  EXPECT_EQ(objects, 12u);  // eleven pieces and the manifest
  const auto kept = LoadAndWait(*session, chain, "");
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_TRUE(std::equal(scores.begin(), scores.end(), (*kept)->inputs().attention_sums.begin()));
  scores.resize(kKeptInputsBytesMax / 4);
  inputs.attention_sums = scores;
  EXPECT_TRUE(absl::IsInvalidArgument(KeepAndWait(*session, chain, "more", inputs)));
}

TEST(KeptInputsTest, DamageIsAMissOrComesFromAReplica) {
  Cluster cluster(2);
  SessionOptions options = cluster.Options();
  options.replicas = 2;
  auto session = cluster.Open(options);
  Everything all;
  const PrefixChain chain = session->Chain(Tokens(4));
  ASSERT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok());
  const auto damage = [&](size_t node, size_t at) {
    cluster.node(node).ForEachObject([&](const std::string&, std::string& value) {
      value[at % value.size()] = static_cast<char>(value[at % value.size()] ^ 4);
    });
  };
  const std::vector<size_t> owners = cluster.Owners(chain, 0);
  for (const size_t at : {0u, 1u, 7u, 20u, 40u}) {  // manifests and pieces alike
    damage(owners[0], at);
    const auto from_replica = LoadAndWait(*session, chain, "");
    EXPECT_TRUE(from_replica.ok()) << at << ": " << from_replica.status();
    damage(owners[1], at);
    EXPECT_TRUE(absl::IsDataLoss(LoadAndWait(*session, chain, "").status()) || absl::IsNotFound(LoadAndWait(*session, chain, "").status()));
    damage(owners[0], at);
    damage(owners[1], at);
  }
  cluster.node(owners[0]).Kill();
  EXPECT_TRUE(LoadAndWait(*session, chain, "").ok());
  cluster.node(owners[1]).ForgetSessions();
  EXPECT_TRUE(LoadAndWait(*session, chain, "").ok()) << "a stale session is renewed";
  EXPECT_FALSE(KeepAndWait(*session, chain, "more", all.inputs).ok()) << "one of two nodes";
}

TEST(KeptInputsTest, DroppedAreGoneAndWhatNeedsThemIsRefusedByName) {
  Cluster cluster(3);
  SessionOptions options = cluster.Options();
  options.replicas = 2;
  auto session = cluster.Open(options);
  Everything all;
  all.inputs.query_peak = all.inputs.query_norm = all.inputs.attention_peak = {};
  const PrefixChain chain = session->Chain(Tokens(4));
  Pages pages(SmallNamespace(), {});
  pages.FillWithTruth();
  ASSERT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok());
  ASSERT_TRUE(KeepAndWait(*session, chain, "another question", all.inputs).ok());
  const auto objects = [&] {
    size_t count = 0;
    for (size_t i = 0; i < cluster.size(); ++i) cluster.node(i).ForEachObject([&](const std::string&, std::string&) { ++count; });
    return count;
  };
  EXPECT_EQ(objects(), 8u);  // of both, on two nodes, a piece and a manifest
  ASSERT_TRUE(DropAndWait(*session, chain, "").ok());
  EXPECT_EQ(objects(), 4u);
  EXPECT_TRUE(absl::IsNotFound(LoadAndWait(*session, chain, "").status()));
  EXPECT_TRUE(LoadAndWait(*session, chain, "another question").ok());
  EXPECT_TRUE(absl::IsNotFound(DropAndWait(*session, chain, "")));

  const PushResult refused = PushSelectedAndWait(
      *session, {&chain, &pages.cache(), pages.table(), nullptr, "B:uni(0.125)|E:win(8,5)|R:win(8)|raw", "", nullptr});
  EXPECT_NE(refused.status.message().find("needs the input window_queries, which was not brought; bring it"), std::string::npos)
      << refused.status;
  // What was dropped holds no name: others may be kept now.
  all.inputs.attention_sums = {};
  EXPECT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok());
  EXPECT_TRUE((*LoadAndWait(*session, chain, ""))->inputs().attention_sums.empty());

  // A node that cannot be asked is told, and the others are asked all the same.
  cluster.node(cluster.Owners(chain, 0)[0]).Kill();
  EXPECT_FALSE(DropAndWait(*session, chain, "").ok());
  EXPECT_TRUE(LoadAndWait(*session, chain, "another question").ok());
  EXPECT_FALSE(LoadAndWait(*session, chain, "").ok());
}

TEST(KeptInputsTest, DamagedOnesAreDroppedToo) {
  Cluster cluster(1);
  auto session = cluster.Open();
  Everything all;
  const PrefixChain chain = session->Chain(Tokens(4));
  ASSERT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok());
  cluster.node(0).ForEachObject([](const std::string&, std::string& value) { value[0] = static_cast<char>(value[0] ^ 4); });
  ASSERT_TRUE(absl::IsDataLoss(LoadAndWait(*session, chain, "").status()));
  EXPECT_TRUE(DropAndWait(*session, chain, "").ok());
  EXPECT_TRUE(absl::IsNotFound(LoadAndWait(*session, chain, "").status()));
  EXPECT_TRUE(KeepAndWait(*session, chain, "", all.inputs).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(DropAndWait(*session, session->Chain({}), "")));
}

TEST(KeptInputsTest, ClosingEndsThemOnce) {
  Cluster cluster(1);
  Everything all;
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(4));
  cluster.node(0).Silence(true);
  std::promise<absl::Status> kept, loaded;
  session->KeepInputs(chain, "", all.inputs, [&](absl::Status status) { kept.set_value(std::move(status)); });
  session->LoadInputs(chain, "", [&](const absl::StatusOr<std::shared_ptr<const KeptInputs>>& got) { loaded.set_value(got.status()); });
  session.reset();
  EXPECT_FALSE(kept.get_future().get().ok());
  EXPECT_FALSE(loaded.get_future().get().ok());
  cluster.node(0).Silence(false);
}

}  // namespace
}  // namespace kvasir::testing
