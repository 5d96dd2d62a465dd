// SPDX-License-Identifier: Apache-2.0
// Goal: `kvasir codecs explain` says what a spec is made of, what it needs and what it costs. Method: three reports
// word for word, whose numbers can be checked by hand; JSON by value.
#include "deploy/kvasir/codec_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kvasir {
namespace {

// 2 bits, and two fp16 for each group of 32: 2 + 32 / 32.
constexpr const char* kKivi2 = R"(spec    R:win(128)|k:Q:int(2,chan,32,asym)|v:Q:int(2,tok,32,asym)|P:bits
method  kivi2: KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache (arXiv 2402.02750)
written R:win(128)|k:int(2,chan,32)|v:int(2,tok,32)

STAGE                    NEEDS  WHAT IT DOES
R:win(128)                   -  The last tokens of the chain are kept exactly; without E they are the engine's
                                tail (KIVI, arXiv 2402.02750)
k:Q:int(2,chan,32,asym)      -  Uniform integers of 8, 4, 3 or 2 bits with fp16 scale (and zero) for each
                                group of tokens (chan) or channels (tok) (KIVI, arXiv 2402.02750)
v:Q:int(2,tok,32,asym)       -  Uniform integers of 8, 4, 3 or 2 bits with fp16 scale (and zero) for each
                                group of tokens (chan) or channels (tok) (KIVI, arXiv 2402.02750)
P:bits                       -  Codes packed without gaps, rows on bytes; implied after a quantiser

One frame of 8 heads x 256 tokens x 128 channels of bf16, at most:
TENSOR  SECTION  BYTES  BITS A VALUE
keys    Q:int    32768        1.0000
keys    P:bits   65536        2.0000
values  Q:int    32768        1.0000
values  P:bits   65536        2.0000

A chain of 2048 tokens of made-up Gaussian numbers, all metadata counted, takes 3.000 bits a value
(3.000 for keys, 3.000 for values): 5.33 times smaller than bf16.
)";

// 4 bits, and one fp16 for each row of 128: 4 + 16 / 128.
constexpr const char* kTurboQuant4 = R"(spec    T:had(0,1)|Q:lm(4)|P:bits
method  turboquant4: TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate (arXiv 2504.19874)
written had|lm(4)

STAGE       NEEDS  WHAT IT DOES
T:had(0,1)      -  Walsh-Hadamard transform of neighbouring channels after random signs: spreads outliers
                   (QuaRot, arXiv 2404.00456)
Q:lm(4)         -  Lloyd-Max levels of the Gaussian, 2 to 4 bits, one fp16 scale a row; after T:had
                   (TurboQuant, arXiv 2504.19874)
P:bits          -  Codes packed without gaps, rows on bytes; implied after a quantiser

One frame of 8 heads x 256 tokens x 128 channels of bf16, at most:
TENSOR  SECTION   BYTES  BITS A VALUE
keys    Q:lm       4096        0.1250
keys    P:bits   131072        4.0000
values  Q:lm       4096        0.1250
values  P:bits   131072        4.0000

A chain of 2048 tokens of made-up Gaussian numbers, all metadata counted, takes 4.125 bits a value
(4.125 for keys, 4.125 for values): 3.88 times smaller than bf16.
)";

// Half of 2048 tokens in 16 bits; 2 bits of class for each row of 128, and 97 bytes a block for lengths.
constexpr const char* kStreamingLlm = R"(spec    B:uni(1024)|E:late(drop)|R:sink(4)|P:raw
method  streaming-llm: Efficient Streaming Language Models with Attention Sinks (arXiv 2309.17453)
written B:uni(1024)|E:late|R:sink(4)|raw

STAGE         NEEDS  WHAT IT DOES
B:uni(1024)       -  Every head keeps so many tokens (256) or such a share of them (0.25)
E:late(drop)      -  The latest tokens are kept; with R:sink(4) this is StreamingLLM (arXiv 2309.17453)
R:sink(4)         -  The first tokens of the chain are kept exactly (StreamingLLM, arXiv 2309.17453)
P:raw             -  The elements as they are

One frame of 8 heads x 256 tokens x 128 channels of bf16, at most:
TENSOR  SECTION                 BYTES  BITS A VALUE
keys    class map and lengths     609        0.0186
keys    weights                 16384        0.5000
keys    exact rows             524288       16.0000
keys    kept rows              524288       16.0000
values  class map and lengths     609        0.0186
values  weights                 16384        0.5000
values  exact rows             524288       16.0000
values  kept rows              524288       16.0000

A chain of 2048 tokens of made-up Gaussian numbers, all metadata counted, takes 8.012 bits a value
(8.012 for keys, 8.012 for values): 2.00 times smaller than bf16.
Chooses tokens over a whole chain: Session::PushSelected, after prefill; the full view stays.
Sections that hold rows are bounds, each as if all tokens went that way.
Drops tokens: heads differ in length, each is an extent of its own with the positions it has.
)";

TEST(CodecReport, Golden) {
  const std::pair<const char*, const char*> cases[] = {
      {"kivi2", kKivi2}, {"turboquant4", kTurboQuant4}, {"streaming-llm", kStreamingLlm}};
  for (const auto& [name, text] : cases) {
    const auto report = ReportOn(name);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(ReportText(*report), text) << name;
  }
}

TEST(CodecReport, EveryMethodHasOne) {
  for (const Method& method : Methods()) {
    const auto report = ReportOn(std::string(method.name));
    ASSERT_TRUE(report.ok()) << method.name << ": " << report.status();
    for (const double bits : report->bits) {
      EXPECT_GT(bits, 1.0) << method.name;
      EXPECT_LE(bits, 16.1) << method.name;
    }
  }
}

TEST(CodecReport, JsonSaysTheSame) {
  const auto report = ReportOn("qaq");
  ASSERT_TRUE(report.ok());
  const auto json = ReportJson(*report);
  EXPECT_EQ(json["method"]["arxiv"], "2403.04643");
  EXPECT_EQ(json["method"]["row"], 45);
  EXPECT_EQ(json["spec"], report->codec->spec());
  EXPECT_EQ(json["stages"][1]["stage"], "k:Q:adapt(key,0.01)");
  EXPECT_NE(json["stages"][1]["needs"].get<std::string>().find("query_norm"), std::string::npos);
  uint64_t sum = 0;
  for (const auto& section : json["keys"]["sections"]) sum += section["bytes_at_most"].get<uint64_t>();
  EXPECT_EQ(sum, report->codec->MaxFrameBytes(KvTensor::kKey, kReportFrame));
  EXPECT_FALSE(ReportJson(*ReportOn("raw")).contains("method"));
}

TEST(CodecReport, RefusesAndNamesWhatIsNear) {
  EXPECT_NE(ReportOn("kivi3").status().message().find("did you mean kivi2"), std::string::npos);
  EXPECT_NE(ReportOn("int(5,tok)").status().message().find("8, 4, 3 or 2"), std::string::npos);
}

}  // namespace
}  // namespace kvasir
