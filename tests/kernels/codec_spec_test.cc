// SPDX-License-Identifier: Apache-2.0
// Goal: specs mean one thing each; the canonical form is a fixed point; a refusal names the position and the cure.
#include "gtest/gtest.h"
#include "kernels/codec.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

TEST(CodecSpec, CanonicalForms) {
  const std::pair<const char*, const char*> cases[] = {
      {"raw", "P:raw"},
      {"P:splitexp", "P:splitexp"},
      {"splitexp(ans)", "P:splitexp(ans)"},
      {"int(8,tok)", "Q:int(8,tok,0,asym)|P:bits"},
      {"int(4,chan)", "Q:int(4,chan,32,asym)|P:bits"},
      {"Q:int(3,tok,064,sym)|bits", "Q:int(3,tok,64,sym)|P:bits"},
      {"k:int(2,chan,32)|v:int(2,tok,32)|P:bits", "k:Q:int(2,chan,32,asym)|v:Q:int(2,tok,32,asym)|P:bits"},
      {"k:int(2,chan,32)|v:int(2,tok,32)", "k:Q:int(2,chan,32,asym)|v:Q:int(2,tok,32,asym)|P:bits"},
      {"k:int(4,chan,32)|v:raw", "k:Q:int(4,chan,32,asym)|v:P:raw|P:bits"},
      {"B:uni(256)|E:knorm|raw", "B:uni(256)|E:knorm(drop)|P:raw"},
      {"B:uni(0.250)|E:late(demote)|R:sink|int(8,tok)|kd:int(2,chan)|vd:int(2,tok)",
       "B:uni(0.25)|E:late(demote)|R:sink(4)|Q:int(8,tok,0,asym)|kd:Q:int(2,chan,32,asym)|vd:Q:int(2,tok,0,asym)|P:"
       "bits"},
      {"X:ext(head)|raw", "X:ext(head)|P:raw"},
      {"R:win(128)|int(2,chan)", "R:win(128)|Q:int(2,chan,32,asym)|P:bits"},
      {"had|lm(4)", "T:had(0,1)|Q:lm(4)|P:bits"},
      {"k:had(64,7)|int(8,tok)", "k:T:had(64,7)|Q:int(8,tok,0,asym)|P:bits"},
      {"k:int(4,chan)|k:bits|v:int(8,tok)", "k:Q:int(4,chan,32,asym)|k:P:bits|v:Q:int(8,tok,0,asym)|P:bits"},
  };
  for (const auto& [spec, canonical] : cases) {
    const auto codec = Codec::Parse(spec);
    ASSERT_TRUE(codec.ok()) << spec << ": " << codec.error().message;
    EXPECT_EQ((*codec)->spec(), canonical);
    const auto again = Codec::Parse(canonical);
    ASSERT_TRUE(again.ok()) << canonical << ": " << again.error().message;
    EXPECT_EQ((*again)->spec(), canonical);
  }
}

TEST(CodecSpec, RefusalsNamePositionAndCure) {
  struct Case {
    const char* spec;
    int position;
    const char* says;
  };
  const Case cases[] = {
      {"", 0, "a stage name"},
      {"foo", 0, "P:splitexp"},
      {"Q:raw", 0, "P:raw"},
      {"raw|", 4, "a stage name"},
      {"raw raw", 3, "the end"},
      {" raw", 0, "a stage name"},
      {"raw(1)", 4, "without arguments"},
      {"splitexp(huf)", 9, "ans"},
      {"splitexp(ans,1)", 0, "splitexp[(ans)]"},
      {"int", 0, "int(bits,axis"},
      {"int()", 4, "an argument"},
      {"int(8)", 0, "int(bits,axis"},
      {"int(8,tok", 9, "')'"},
      {"int(5,tok)", 4, "8, 4, 3 or 2"},
      {"int(9999999999999999999999,tok)", 4, "8, 4, 3 or 2"},
      {"int(8,row)", 6, "tok or chan"},
      {"int(8,tok,x)", 10, "group size"},
      {"int(8,tok,70000)", 10, "65536"},
      {"int(8,tok,32,even)", 13, "asym or sym"},
      {"raw|raw", 4, "has its coder already"},
      {"k:raw", 5, "|v: and a quantiser"},
      {"v:raw", 5, "|k: and a quantiser"},
      {"bits", 0, "a quantiser"},
      {"raw|bits", 4, "its coder already"},
      {"int(8,tok)|bits|bits", 16, "the tensor is packed"},
      {"int(8,tok)|had", 11, "transforms stand before"},
      {"had|raw", 4, "takes elements as they are"},
      {"had(3)|int(8,tok)", 4, "a power of two"},
      {"had", 3, "|k: and a quantiser"},
      {"int(8,tok)|int(8,tok)", 11, "quantiser already"},
      {"RAW", 0, "a stage name"},
      {"B:uni(0.5)|raw", 14, "a scorer"},
      {"E:knorm|raw", 11, "a budget"},
      {"k:B:uni(0.5)|E:knorm|raw", 0, "without a prefix"},
      {"B:uni(0.5)|E:knorm(demote)|raw", 30, "demoted tokens have no stage"},
      {"B:uni(0.5)|E:knorm|raw|d:int(2,tok)", 35, "a scorer that demotes"},
      {"B:uni(0.5)|B:uni(0.5)|E:knorm|raw", 11, "a budget already"},
      {"B:uni(x)|E:knorm|raw", 6, "a number of tokens"},
      {"B:uni(0.5)|E:knorm|E:late|raw", 19, "a scorer already"},
      {"R:sink(4)|R:sink(4)|raw", 10, "exempt already"},
  };
  for (const Case& c : cases) {
    const auto codec = Codec::Parse(c.spec);
    ASSERT_FALSE(codec.ok()) << c.spec;
    EXPECT_EQ(codec.error().code, ErrorCode::kInvalidArgument);
    const std::string& message = codec.error().message;
    EXPECT_NE(message.find("position " + std::to_string(c.position) + ":"), std::string::npos)
        << c.spec << ": " << message;
    EXPECT_NE(message.find(c.says), std::string::npos) << c.spec << ": " << message;
  }
}

TEST(CodecSpec, TooLongIsRefused) {
  std::string spec = "int(8,tok,";
  spec.append(kSpecBytesMax, '0').append("1)");
  EXPECT_FALSE(Codec::Parse(spec).ok());
  std::string many = "raw";
  while (many.size() < 300) many += "|raw";
  EXPECT_FALSE(Codec::Parse(many).ok());
}

TEST(CodecSpec, RandomSpecsNeverCrashAndAcceptedOnesAreFixedPoints) {
  const char* pieces[] = {"k:",      "v:", "Q:",     "P:",   "int", "had",      "lm", "ans",  "T:", "B:uni(0.5)",
                          "E:knorm", "d:", "R:sink", "bits", "raw", "splitexp", "(",  ")",    ",",  "|",
                          "8",       "4",  "chan",   "tok",  "sym", "asym",     "32", "\x80", " "};
  auto rng = testing::Rng(4);
  for (int i = 0; i < 20000; ++i) {
    std::string spec;
    for (uint64_t n = rng() % 12; n > 0; --n) spec += pieces[rng() % std::size(pieces)];
    const auto codec = Codec::Parse(spec);
    if (!codec.ok()) continue;
    const auto again = Codec::Parse((*codec)->spec());
    ASSERT_TRUE(again.ok()) << spec;
    ASSERT_EQ((*again)->spec(), (*codec)->spec()) << spec;
  }
}

TEST(CodecSpec, StagesAreListed) {
  ASSERT_GE(Stages().size(), 4u);
  for (const StageInfo& stage : Stages()) {
    EXPECT_EQ(stage.letter.size(), 1u);
    EXPECT_FALSE(stage.name.empty() || stage.usage.empty() || stage.meaning.empty());
  }
}

}  // namespace
}  // namespace kvasir
