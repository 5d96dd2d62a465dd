// SPDX-License-Identifier: Apache-2.0
// The table of methods. Settings are those of each paper's main results where it states them; budgets are 0.25 of the
// tokens where a paper sweeps them.
#include "kernels/methods.h"

#include <algorithm>

namespace kvasir {
namespace {

// clang-format off
constexpr Method kMethods[] = {
    {"flexgen4", 0, "int(4,tok,64)",
     "FlexGen: High-Throughput Generative Inference of Large Language Models with a Single GPU", "2303.06865"},
    {"fp8", 0, "fp8",
     "FP8 Formats for Deep Learning", "2209.05433"},
    {"gear2", 1, "k:out(0.02,chan)|v:out(0.02,tok)|k:int(2,chan,64)|v:int(2,tok,64)|lr(2,3)",
     "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM", "2403.05527"},
    {"gear4", 1, "k:out(0.02,chan)|v:out(0.02,tok)|k:int(4,chan,64)|v:int(4,tok,64)|lr(4,3)",
     "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM", "2403.05527"},
    {"headinfer", 37, "X:ext(head)|raw",
     "HeadInfer: Memory-Efficient LLM Inference by Head-wise Offloading", "2502.12574"},
    {"kivi2", 15, "R:win(128)|k:int(2,chan,32)|v:int(2,tok,32)",
     "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", "2402.02750"},
    {"kivi4", 15, "R:win(128)|k:int(4,chan,32)|v:int(4,tok,32)",
     "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", "2402.02750"},
    {"knorm", 61, "B:uni(0.5)|E:knorm|raw",
     "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", "2406.11430"},
    {"kvarn", 0, "R:sink(4)|had|sinkhorn(16,128)|k:int(4,chan,128)|v:int(2,tok,128)",
     "KVarN k4v2, group 128: Hadamard transform and Sinkhorn normalisation (vLLM)", ""},
    {"nvfp4", 0, "nvfp4",
     "NVFP4 KV cache (NVIDIA)", ""},
    {"qaq", 45, "out(0.01,tok)|k:adapt(key)|v:adapt(value)",
     "QAQ: Quality Adaptive Quantization for LLM KV Cache", "2403.04643"},
    {"quantspec", 46, "k:hier(4+4,chan,64)|v:hier(4+4,tok,64)|planes",
     "QuantSpec: Self-Speculative Decoding with Hierarchical Quantized KV Cache", "2502.10424"},
    {"quarot4", 0, "had|int(4,tok,128)",
     "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", "2404.00456"},
    {"sageattention2", 6, "k:mean|k:int(4,tok,64)|v:fp8(e4m3,row)",
     "SageAttention2: Efficient Attention with Thorough Outlier Smoothing and Per-thread INT4 Quantization",
     "2411.10958"},
    {"splitzip", 0, "splitexp",
     "SplitZip", "2605.01708"},
    {"streaming-llm", 0, "B:uni(1024)|E:late|R:sink(4)|raw",
     "Efficient Streaming Language Models with Attention Sinks", "2309.17453"},
    {"turboquant2", 0, "had|lm(2)",
     "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", "2504.19874"},
    {"turboquant3", 0, "had|lm(3)",
     "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", "2504.19874"},
    {"turboquant4", 0, "had|lm(4)",
     "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", "2504.19874"},
};
// clang-format on

}  // namespace

std::span<const Method> Methods() { return kMethods; }

const Method* FindMethod(std::string_view name) {
  const auto found =
      std::find_if(std::begin(kMethods), std::end(kMethods), [&](const Method& m) { return m.name == name; });
  return found == std::end(kMethods) ? nullptr : found;
}

std::string SpecOf(std::string_view name_or_spec) {
  const Method* method = FindMethod(name_or_spec);
  return std::string(method == nullptr ? name_or_spec : method->spec);
}

}  // namespace kvasir
