// SPDX-License-Identifier: Apache-2.0
// The table of methods. Settings are those of each paper's main results where it states them; budgets are 0.25 of the
// tokens where a paper sweeps them.
#include "kernels/methods.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/near_words.h"

namespace kvasir {
namespace {

// clang-format off
constexpr Method kMethods[] = {
    {"a2sf", 51, "B:uni(0.25)|E:accf(0.95)|R:win(16)|raw",
     "A2SF: Accumulative Attention Scoring with Forgetting Factor for Token Pruning in Transformer Decoder",
     "2407.20485"},
    {"ada-kv", 0, "B:ada(0.25,0.2)|E:win(32,7,max)|R:win(32)|raw",
     "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference", "2407.11550"},
    {"attention-gate", 40, "B:flag|E:ext|raw",
     "In-context KV-Cache Eviction for LLMs via Attention-Gate", "2410.12876"},
    {"cachegen", 0, "delta(10)|int(4,tok,0,sym)|ac",
     "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving", "2310.07240"},
    {"cake", 62, "B:ent(0.25,100,100)|E:mv(200,32,5)|R:win(32)|raw",
     "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences", "2503.12491"},
    {"cam", 0, "B:uni(0.25)|E:acc|M:cam(32)|R:win(32)|raw",
     "CaM: Cache Merging for Memory-efficient LLMs Inference", ""},
    {"chunkkv", 47, "B:uni(0.25)|E:win(32,7)|E:chunk(10)|R:win(32)|raw",
     "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient Long-Context LLM Inference", "2502.00299"},
    {"d2o", 52, "B:var(0.25)|E:acc|M:near|R:sink(4)|R:win(32)|raw",
     "D2O: Dynamic Discriminative Operations for Efficient Long-Context Inference of Large Language Models",
     "2406.13035"},
    {"duo-attention", 0, "B:class(0.5)|E:late|R:sink(64)|R:win(256)|raw",
     "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads", "2410.10819"},
    {"dynamic-kv", 25, "B:gtopk(0.25)|E:win(32,7)|R:win(32)|raw",
     "DynamicKV: Task-Aware Adaptive KV Cache Compression for Long Context LLMs", "2412.14838"},
    {"ems", 20, "B:uni(256)|E:gl(32)|M:zero(0.6)|R:win(32)|raw",
     "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local Importance",
     "2412.08521"},
    {"expected-attention", 0, "B:uni(0.25)|E:expq|R:sink(4)|raw",
     "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution", "2510.00636"},
    {"fast-gen", 9, "B:flag|E:pol(0.95,0.3)|raw",
     "Model Tells You What to Discard: Adaptive KV Cache Compression for LLMs", "2310.01801"},
    {"fast-kv", 23, "B:tsp(0.1,15,0.2)|E:win(8,7)|E:tsp(15,0.2)|R:win(8)|raw",
     "FastKV: KV Cache Compression for Fast Long-Context Processing with Token-Selective Propagation", "2502.01068"},
    {"flexgen4", 0, "int(4,tok,64)",
     "FlexGen: High-Throughput Generative Inference of Large Language Models with a Single GPU", "2303.06865"},
    {"fp8", 0, "fp8",
     "FP8 Formats for Deep Learning", "2209.05433"},
    {"gear2", 1, "k:out(0.02,chan)|v:out(0.02,tok)|k:int(2,chan,64)|v:int(2,tok,64)|lr(2,3)",
     "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM", "2403.05527"},
    {"gear4", 1, "k:out(0.02,chan)|v:out(0.02,tok)|k:int(4,chan,64)|v:int(4,tok,64)|lr(4,3)",
     "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM", "2403.05527"},
    {"h2o", 24, "B:uni(0.2)|E:acc|R:win(32)|raw",
     "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models", "2306.14048"},
    {"head-kv", 0, "B:head(0.25,0.833333)|E:win(32,7)|R:win(32)|raw",
     "Not All Heads Matter: A Head-Level KV Cache Compression Method with Integrated Retrieval and Reasoning",
     "2410.19258"},
    {"headinfer", 37, "X:ext(head)|raw",
     "HeadInfer: Memory-Efficient LLM Inference by Head-wise Offloading", "2502.12574"},
    {"kivi2", 15, "R:win(128)|k:int(2,chan,32)|v:int(2,tok,32)",
     "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", "2402.02750"},
    {"kivi4", 15, "R:win(128)|k:int(4,chan,32)|v:int(4,tok,32)",
     "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", "2402.02750"},
    {"knorm", 61, "B:uni(0.5)|E:knorm|raw",
     "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", "2406.11430"},
    {"kv-merger", 16, "B:uni(0.35)|E:acc|M:gauss(0.75)|R:win(32)|raw",
     "Model Tells You Where to Merge: Adaptive KV Cache Merging for LLMs on Long-Context Tasks", "2407.08454"},
    {"kvarn", 0, "R:sink(4)|had|sinkhorn(16,128)|k:int(4,chan,128)|v:int(2,tok,128)",
     "KVarN k4v2, group 128: Hadamard transform and Sinkhorn normalisation (vLLM)", ""},
    {"kvasir3", 0, "k:mean|had|lm(3)|ac(64)",
     "TurboQuant's three bits behind the keys' mean (SageAttention2), arithmetic-coded (CacheGen): ours, no calibration",
     ""},
    {"kvzip", 0, "B:ada(0.3,0,all)|E:ext|raw",
     "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction", "2505.23416"},
    {"locret", 42, "B:uni(0.25)|E:ext|R:win(100)|raw",
     "Locret: Enhancing Eviction in Long-Context LLM Inference with Trained Retaining Heads on Consumer-Grade Devices",
     "2410.01805"},
    {"mikv", 2, "B:uni(0.2)|E:acc(demote)|k:bal|int(8,tok)|d:int(2,tok,64)",
     "No Token Left Behind: Reliable KV Cache Compression via Importance-Aware Mixed Precision Quantization",
     "2402.18096"},
    {"nvfp4", 0, "nvfp4",
     "NVFP4 KV cache (NVIDIA)", ""},
    {"pyramid-kv", 0, "B:pyr(0.25,20)|E:win(32,7)|R:win(32)|raw",
     "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling", "2406.02069"},
    {"qaq", 45, "out(0.01,tok)|k:adapt(key)|v:adapt(value)",
     "QAQ: Quality Adaptive Quantization for LLM KV Cache", "2403.04643"},
    {"quantized-pruning", 41, "B:uni(0.25)|E:win(32,7)|R:win(32)|k:int(4,chan,32)|v:int(4,tok,32)",
     "More Tokens, Lower Precision: Towards the Optimal Token-Precision Trade-off in KV Cache Compression",
     "2412.12706"},
    {"quantspec", 46, "k:hier(4+4,chan,64)|v:hier(4+4,tok,64)|planes",
     "QuantSpec: Self-Speculative Decoding with Hierarchical Quantized KV Cache", "2502.10424"},
    {"quarot4", 0, "had|int(4,tok,128)",
     "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", "2404.00456"},
    {"razor-attention", 3, "B:class(0.15)|E:late|M:comp|R:sink(4)|R:win(4000)|raw",
     "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads", "2407.15891"},
    {"sageattention2", 6, "k:mean|k:int(4,tok,64)|v:fp8(e4m3,row)",
     "SageAttention2: Efficient Attention with Thorough Outlier Smoothing and Per-thread INT4 Quantization",
     "2411.10958"},
    {"shot-kv", 30, "B:uni(0.25)|E:win(32,7)|E:span|R:win(32)|raw",
     "Can LLMs Maintain Fundamental Abilities under KV Cache Compression?", "2502.01941"},
    {"snapkv", 0, "B:uni(0.25)|E:win(32,7)|R:win(32)|raw",
     "SnapKV: LLM Knows What You are Looking for Before Generation", "2404.14469"},
    {"splitzip", 0, "splitexp",
     "SplitZip", "2605.01708"},
    {"squeeze-attention", 34, "B:cos3(0.25,0.3)|E:acc|R:win(32)|raw",
     "SqueezeAttention: 2D Management of KV-Cache in LLM Inference via Layer-wise Optimal Budget", "2404.04793"},
    {"streaming-llm", 0, "B:uni(1024)|E:late|R:sink(4)|raw",
     "Efficient Streaming Language Models with Attention Sinks", "2309.17453"},
    {"subgen", 32, "B:uni(0.1)|E:late|M:kcen(40,2,64)|R:sink(4)|R:win(32)|raw",
     "SubGen: Token Generation in Sublinear Time and Memory", "2402.06082"},
    {"turboquant2", 0, "had|lm(2)",
     "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", "2504.19874"},
    {"turboquant3", 0, "had|lm(3)",
     "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", "2504.19874"},
    {"turboquant4", 0, "had|lm(4)",
     "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", "2504.19874"},
    {"vatp", 0, "B:uni(0.5)|E:acc|E:vnorm|R:sink(4)|R:win(32)|raw",
     "Attention Score is not All You Need for Token Importance Indicator in KV Cache Reduction: Value Also Matters",
     "2406.12335"},
    {"zigzag-kv", 49, "B:unc(0.25,0.9)|E:win(32,7)|R:win(32)|raw",
     "ZigZagKV: Dynamic KV Cache Compression for Long-context Modeling based on Layer Uncertainty", "2412.09036"},
    {"zipcache", 13, "B:uni(0.6)|E:accn(demote)|k:int(4,chan,256)|v:ctok(4)|kd:int(2,chan,256)|vd:ctok(2)",
     "ZipCache: Accurate and Efficient KV Cache Quantization with Salient Token Identification", "2405.14256"},
};
// clang-format on

}  // namespace

std::span<const Method> Methods() { return kMethods; }

const Method* FindMethod(std::string_view name) {
  const auto found =
      std::find_if(std::begin(kMethods), std::end(kMethods), [&](const Method& m) { return m.name == name; });
  return found == std::end(kMethods) ? nullptr : found;
}

Result<std::shared_ptr<const Codec>> CodecNamed(std::string_view name_or_spec) {
  if (const Method* method = FindMethod(name_or_spec); method != nullptr) return Codec::Parse(method->spec);
  Result<std::shared_ptr<const Codec>> codec = Codec::Parse(name_or_spec);
  const bool is_word = std::all_of(name_or_spec.begin(), name_or_spec.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
  if (codec.ok() || !is_word) return codec;
  std::vector<std::string_view> names;
  for (const Method& method : Methods()) names.push_back(method.name);
  std::string word(name_or_spec);
  for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const std::vector<std::string_view> near = NearWords(word, names);
  if (near.empty()) {
    return Error{codec.error().code, codec.error().message + "; or a method: `kvasir codecs` lists all"};
  }
  std::string list;
  for (const std::string_view name : near) list.append(list.empty() ? "" : " or ").append(name);
  return Error{ErrorCode::kInvalidArgument,
               "no method '" + std::string(name_or_spec) + "'; did you mean " + list + "? `kvasir codecs` lists all"};
}

}  // namespace kvasir
