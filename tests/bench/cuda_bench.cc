// SPDX-License-Identifier: Apache-2.0
// The GPU's goals G1 to G8: the CUDA kernels against copies of CUDA itself in the same run. One JSON line a result.
//   cuda_bench [--quick] [G1 ... G8 methods rows jobs]
// `ratio` is bytes moved a second over those of the reference: kernels count what they must read and write once, as a
// copy inside the GPU does (G1 to G4, G8); jobs and gathers from host memory count values as the engine has them, as a
// copy of them over the bus does (G6, G7, jobs). Encoded frames are compared with the CPU's before anything is timed.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <future>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows_bodies.h"
#include "kernels/cuda/splitans_bodies.h"
#include "kernels/device.h"
#include "kernels/methods.h"
#include "kernels/number_formats.h"
#include "tests/bench/gpu_pairs.h"

namespace kvasir::bench {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::shared_ptr<const Codec> Parsed(const std::string& spec) {
  auto codec = Codec::Parse(spec);
  if (!codec.ok()) std::fprintf(stderr, "%s: %s\n", spec.c_str(), codec.error().message.c_str());
  return codec.ok() ? *codec : nullptr;
}

/// Gaussian bfloat16 with a few large channels, as keys have.
void FillValues(uint8_t* to, uint64_t bytes) {
  std::mt19937_64 rng(1);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<uint16_t> some(kMiB + 77);
  for (size_t i = 0; i < some.size(); ++i) some[i] = FloatToBFloat16(normal(rng) * (i % 128 % 37 == 5 ? 8.0f : 1.0f));
  for (uint64_t at = 0; at < bytes;) {
    const uint64_t n = std::min<uint64_t>(bytes - at, 2 * some.size());
    std::memcpy(to + at, some.data(), n);
    at += n;
  }
}

/// Many frames of one shape in device memory, coded by the launchers.
class Frames {
 public:
  Frames(const FrameShape& shape, uint32_t count) : shape_(shape), count_(count) {
    values_ = PinnedBytes(bytes());
    FillValues(values_, bytes());
    dense_ = DeviceBytes(bytes());
    out_ = DeviceBytes(bytes());
    frames_ = DeviceBytes(2 * bytes());
    // Windows here are larger than those of jobs (kCudaWindowBytesMax), and so are their rooms.
    room_.codes = DeviceBytes(shape.bytes() * cuda::kWindowFrames);
    room_.offsets = reinterpret_cast<uint32_t*>(DeviceBytes(kMiB));
    const uint64_t of_frame = std::max(cuda::SplitAnsFrameRoom(shape.elements()), cuda::RowsRoom::Bytes(shape));
    room_.rows = reinterpret_cast<float*>(
        DeviceBytes(std::max(3 * cuda::kChainElementsMax * sizeof(float), of_frame * cuda::kWindowFrames)));
    room_.outcome = reinterpret_cast<ChainOutcome*>(DeviceBytes(sizeof(ChainOutcome)));
    state_ = reinterpret_cast<cuda::JobState*>(DeviceBytes(sizeof(cuda::JobState)));
    inputs_.query_peak = reinterpret_cast<float*>(DeviceBytes(kMiB));  // any floats: 0 is a peak too
    inputs_.query_norm = inputs_.attention_peak = inputs_.query_peak;
    inputs_.context_tokens = 4096;
    // Half of the rows, in no order: read by specs with row classes only.
    auto* classes = reinterpret_cast<RowClass*>(PinnedBytes(uint64_t{shape_.heads} * shape_.tokens));
    std::mt19937_64 rng(4);
    for (uint64_t row = 0; row < uint64_t{shape_.heads} * shape_.tokens; ++row) {
      classes[row] = rng() % 2 == 0 ? RowClass::kKept : RowClass::kDemoted;
    }
    inputs_.row_classes = classes;
    Must(cudaMemset(const_cast<float*>(inputs_.query_peak), 0, kMiB), "cudaMemset");
    Must(cudaMemset(state_, 0, sizeof(cuda::JobState)), "cudaMemset");
    Must(cudaMemcpy(dense_, values_, bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }

  double bytes() const { return static_cast<double>(shape_.bytes()) * count_; }

  /// A codec's frames take the place of the last one's. False where it has no body here.
  bool Use(std::shared_ptr<const Codec> codec, KvTensor tensor) {
    codec_ = std::move(codec);
    coder_ = codec_->coder(tensor).device_coder();
    if (coder_.kind == DeviceCoder::Kind::kNone || !codec_->Check(tensor, shape_).ok()) return false;
    stride_ = (codec_->MaxFrameBytes(tensor, shape_) + 255) / 256 * 256;
    lengths_.clear();
    for (uint32_t first = 0; first < count_; first += cuda::kWindowFrames) {
      const cuda::FrameBatch batch = BatchOf(first, dense_);
      EncodeBatch(batch, nullptr);
      cuda::JobState state;
      Must(cudaMemcpy(&state, state_, sizeof state, cudaMemcpyDeviceToHost), "encode");
      for (uint32_t i = 0; i < batch.count; ++i) lengths_.push_back(state.frames[i].length);
    }
    return SameAsCpu(tensor);
  }

  double encoded() const { return static_cast<double>(std::accumulate(lengths_.begin(), lengths_.end(), uint64_t{0})); }
  GpuWork Encode() {
    return {bytes() + encoded(), [this](cudaStream_t s) {
              for (uint32_t i = 0; i < count_; i += cuda::kWindowFrames) EncodeBatch(BatchOf(i, dense_), s);
            }};
  }
  GpuWork Decode() {
    return {bytes() + encoded(), [this](cudaStream_t s) {
              for (uint32_t i = 0; i < count_; i += cuda::kWindowFrames) {
                cuda::LaunchDecode(coder_, shape_, BatchOf(i, out_), state_, s);
              }
            }};
  }
  GpuWork Copy() {
    return {2 * bytes(), [this](cudaStream_t s) {
              cudaMemcpyAsync(out_, dense_, static_cast<size_t>(bytes()), cudaMemcpyDeviceToDevice, s);
            }};
  }
  /// No decode found a fault.
  bool Clean() const {
    cuda::JobState state;
    Must(cudaMemcpy(&state, state_, sizeof state, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return state.fault == 0;
  }

 private:
  /// A window of the frames from `first` on.
  cuda::FrameBatch BatchOf(uint32_t first, uint8_t* dense) const {
    cuda::FrameBatch batch = room_;
    batch.count = std::min(count_ - first, cuda::kWindowFrames);
    batch.dense = dense + uint64_t{first} * shape_.bytes();
    batch.dense_stride = shape_.bytes();
    batch.frames = frames_ + first * stride_;
    for (uint32_t i = 0; i < batch.count; ++i) {
      batch.offset[i] = static_cast<uint32_t>(i * stride_);
      if (first + i < lengths_.size()) batch.length[i] = lengths_[first + i];
    }
    return batch;
  }
  void EncodeBatch(const cuda::FrameBatch& batch, cudaStream_t s) {
    const std::vector<FrameInputs> inputs(batch.count, inputs_);
    cuda::LaunchEncode(coder_, shape_, inputs.data(), batch, state_, s);
  }
  /// The first frame, and its decoded values, against the CPU.
  bool SameAsCpu(KvTensor tensor) {
    const std::vector<float> zeros(kMiB / sizeof(float));
    FrameInputs inputs = inputs_;
    inputs.query_peak = inputs.query_norm = inputs.attention_peak = zeros.data();
    std::vector<std::byte> expected(codec_->MaxFrameBytes(tensor, shape_)), got(lengths_[0]), scratch;
    std::vector<std::byte> dense_expected(shape_.bytes()), dense(shape_.bytes());
    const std::span values(reinterpret_cast<const std::byte*>(values_), shape_.bytes());
    expected.resize(codec_->Encode(tensor, shape_, values, expected, scratch, Destination::kCache, inputs));
    Must(cudaMemcpy(got.data(), frames_, got.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    bool same = got == expected && codec_->Decode(tensor, shape_, expected, dense_expected, scratch).ok();
    Must(cudaMemset(out_, 0xEE, shape_.bytes()), "cudaMemset");
    cuda::LaunchDecode(coder_, shape_, BatchOf(0, out_), state_, nullptr);
    Must(cudaMemcpy(dense.data(), out_, dense.size(), cudaMemcpyDeviceToHost), "decode");
    same = same && dense == dense_expected;
    if (!same) std::fprintf(stderr, "%s: not the bits of the CPU\n", codec_->spec().c_str());
    return same;
  }

  const FrameShape shape_;
  const uint32_t count_;
  uint8_t *values_ = nullptr, *dense_ = nullptr, *out_ = nullptr, *frames_ = nullptr;
  cuda::FrameBatch room_;
  cuda::JobState* state_ = nullptr;
  FrameInputs inputs_;
  std::shared_ptr<const Codec> codec_;
  DeviceCoder coder_;
  uint64_t stride_ = 0;
  std::vector<uint32_t> lengths_;
};

/// A paged cache in device memory, and parts of it in pinned memory.
struct Jobs {
  static constexpr uint32_t kPageTokens = 16;
  KvLayout layout{32, 8, 128, 128, ElementType::kBfloat16};
  PagedCache cache;
  std::vector<uint32_t> pages;
  std::vector<PartGeometry> parts;
  std::unique_ptr<Device> device;
  std::vector<std::span<std::byte>> areas;
  std::vector<PackResult> results;
  double bytes = 0;

  Jobs(uint32_t part_tokens, uint32_t tokens) {
    const int64_t row = 256, page = row * kPageTokens * 8;
    cache.layout = layout;
    cache.heads = 8;
    cache.page_tokens = kPageTokens;
    cache.key_strides = cache.value_strides = {page, row, row * 8};
    pages.resize(tokens / kPageTokens);
    std::iota(pages.begin(), pages.end(), 0u);
    std::shuffle(pages.begin(), pages.end(), std::mt19937_64(2));
    const uint64_t tensor = static_cast<uint64_t>(page) * pages.size();
    bytes = static_cast<double>(tensor) * 64;
    uint8_t* memory = DeviceBytes(tensor * 64);
    uint8_t* values = PinnedBytes(tensor);
    FillValues(values, tensor);
    for (uint32_t i = 0; i < 64; ++i) Must(cudaMemcpy(memory + i * tensor, values, tensor, cudaMemcpyDefault), "fill");
    for (uint32_t l = 0; l < 32; ++l) {
      std::byte* key = reinterpret_cast<std::byte*>(memory) + 2 * l * tensor;
      cache.layers.push_back({key, key + tensor});
    }
    for (uint32_t first = 0; first < tokens; first += part_tokens) parts.push_back({0, 32, 0, 8, first, part_tokens});
    auto made = MakeCudaDevice(0);
    if (!made.ok()) std::exit(2);
    device = std::move(*made);
    for (const PartGeometry& part : parts) {
      const uint64_t most = MaxFrameAreaBytes(*Parsed("splitexp"), layout, part);  // of all that run here
      areas.emplace_back(reinterpret_cast<std::byte*>(PinnedBytes(most)), most);
      results.push_back({std::vector<FrameEntry>(FrameCount(layout, part)), 0});
    }
  }

  template <class Job>
  void SubmitAll(cudaStream_t stream, const std::vector<Job>& jobs) {
    std::vector<std::promise<JobStatus>> done(jobs.size());
    for (size_t i = 0; i < jobs.size(); ++i) {
      device->Submit(jobs[i], stream, [&done, i](JobStatus status) { done[i].set_value(std::move(status)); });
    }
    for (auto& promise : done) {
      const JobStatus status = promise.get_future().get();
      if (!status.ok) std::fprintf(stderr, "job: %s\n", status.error.message.c_str());
    }
  }
  GpuWork Pack(const std::shared_ptr<const Codec>& codec) {
    return {bytes, [this, codec](cudaStream_t s) {
              std::vector<PackJob> jobs;
              for (size_t i = 0; i < parts.size(); ++i) {
                jobs.push_back({codec, &cache, pages, parts[i], areas[i], {}, &results[i]});
              }
              SubmitAll(s, jobs);
            }};
  }
  GpuWork Unpack(const std::shared_ptr<const Codec>& codec) {
    return {bytes, [this, codec](cudaStream_t s) {
              std::vector<UnpackJob> jobs;
              for (size_t i = 0; i < parts.size(); ++i) {
                jobs.push_back({codec, &cache, pages, parts[i], 0, 32, 0, 8, results[i].directory,
                                areas[i].first(results[i].area_bytes), 0});
              }
              SubmitAll(s, jobs);
            }};
  }
};

class Bench {
 public:
  explicit Bench(bool quick) : quick_(quick), pairs_(quick ? 3 : 9) {}

  bool Run(const std::string& goal) {
    if (goal == "G1") return Integers(goal, false, 0.85, 0.93);
    if (goal == "G2") return Integers(goal, true, 0.75, 0.88);
    if (goal == "G3") return Code(goal, Large(), "had|int(4,tok,128)", 0.65, 0.85, 0.75, 0.9);
    if (goal == "G4") return Code(goal, Large(), "splitexp", 0.55, 0.75, 0.8, 0.9);
    if (goal == "G5") return Entropy();
    if (goal == "G6") return GatherFromHost();
    if (goal == "G7") return Job(goal, 1024, "int(4,tok,64)", 3.0, 3.4);
    if (goal == "G8") return GatherInside();
    if (goal == "methods") return EveryMethod();
    if (goal == "rows") {
      return Code(goal, Large(), "B:uni(0.5)|E:knorm(demote)|int(8,tok)|d:int(2,tok,64)", 0, 1, 0, 1);
    }
    if (goal == "jobs") return EveryJob();
    std::fprintf(stderr, "no goal %s\n", goal.c_str());
    return false;
  }

 private:
  /// 256 MiB in frames of 4 MiB: the largest that chains take.
  Frames& Large() {
    if (large_ == nullptr) large_ = std::make_unique<Frames>(FrameShape{8, 2048, 128}, quick_ ? 4 : 64);
    return *large_;
  }

  bool Code(const std::string& goal, Frames& frames, const std::string& spec, double encode_must, double encode_moon,
            double decode_must, double decode_moon) {
    if (!frames.Use(Parsed(spec), KvTensor::kKey)) return false;
    bool ok = true;
    const GpuWork encode = frames.Encode(), decode = frames.Decode();
    if (encode_moon > 0) {
      ok &= Report({goal, spec + " encode", encode_must, encode_moon, frames.bytes(), ""}, encode.bytes,
                   pairs_.Measure(frames.Copy(), encode));
    }
    if (decode_moon > 0) {
      ok &= Report({goal, spec + " decode", decode_must, decode_moon, frames.bytes(), ""}, decode.bytes,
                   pairs_.Measure(frames.Copy(), decode));
    }
    return ok && frames.Clean();
  }

  /// The goal is in values a second: 0.8 TB/s of bf16.
  bool Entropy() {
    constexpr double kMust = 0.8e12;
    Frames& frames = Large();
    if (!frames.Use(Parsed("splitexp(ans)"), KvTensor::kKey)) return false;
    const GpuWork encode = frames.Encode(), decode = frames.Decode();
    Report({"G5", "splitexp(ans) encode", 0, 0, frames.bytes(), ""}, encode.bytes,
           pairs_.Measure(frames.Copy(), encode));
    const GpuRatios ratios = pairs_.Measure(frames.Copy(), decode);
    Report({"G5", "splitexp(ans) decode", 0, 0, frames.bytes(), "must: 800 GB/s of values"}, decode.bytes, ratios);
    return ratios.our_rate * frames.bytes() / decode.bytes >= kMust && frames.Clean();
  }

  bool Integers(const std::string& goal, bool encode, double must, double moon) {
    bool ok = true;
    for (const char* spec : {"int(8,tok)", "int(4,tok,64)", "int(4,chan,32)", "int(2,tok,32)", "int(2,chan,32)"}) {
      ok &= encode ? Code(goal, Large(), spec, must, moon, 0, 0) : Code(goal, Large(), spec, 0, 0, must, moon);
    }
    return ok;
  }

  bool EveryMethod() {
    Frames frames(FrameShape{8, 2048, 128}, cuda::kWindowFrames);
    bool ok = true;
    for (const Method& method : Methods()) {
      const auto codec = Parsed(std::string(method.spec));
      if (codec->selection() != nullptr) continue;  // goal rows
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        const DeviceCoder::Kind kind = codec->coder(tensor).device_coder().kind;
        if (kind == DeviceCoder::Kind::kNone || kind == DeviceCoder::Kind::kRaw) continue;
        ok &= frames.Use(codec, tensor);
        const std::string name = std::string(method.name) + (tensor == KvTensor::kKey ? " K" : " V");
        const GpuWork encode = frames.Encode(), decode = frames.Decode();
        Report({"method", name + " encode", 0, 0, frames.bytes(), ""}, encode.bytes,
               pairs_.Measure(frames.Copy(), encode));
        Report({"method", name + " decode", 0, 0, frames.bytes(), ""}, decode.bytes,
               pairs_.Measure(frames.Copy(), decode));
      }
    }
    return ok && frames.Clean();
  }

  /// Pages of 64 KiB, scattered in pinned memory, by one launch.
  bool GatherFromHost() {
    constexpr uint32_t kPages = 2048, kPageBytes = 65536;
    constexpr uint64_t kBytes = uint64_t{kPages} * kPageBytes;
    uint8_t* host = PinnedBytes(kBytes);
    FillValues(host, kBytes);
    std::vector<uint32_t> order(kPages);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(3));
    auto* pages = reinterpret_cast<uint32_t*>(DeviceBytes(kPages * sizeof(uint32_t)));
    Must(cudaMemcpy(pages, order.data(), kPages * sizeof(uint32_t), cudaMemcpyDefault), "cudaMemcpy");
    uint8_t* to = DeviceBytes(kBytes);
    const cuda::PageView view{{host}, pages, kPageBytes, 0, 0, 1, 1, kPages, kPageBytes, 1};
    const GpuWork copy{double{kBytes},
                       [=](cudaStream_t s) { cudaMemcpyAsync(to, host, kBytes, cudaMemcpyDefault, s); }};
    const GpuWork gather{double{kBytes}, [=](cudaStream_t s) { cuda::LaunchGather(view, to, 0, s); }};
    return Report({"G6", "gather of 2048 pages of 64 KiB from pinned memory", 0.88, 0.95, double{kBytes}, "1 launch"},
                  double{kBytes}, pairs_.Measure(copy, gather));
  }

  /// All frames of a sequence to dense memory and back, pages of 16 tokens.
  bool GatherInside() {
    Jobs& jobs = JobsOf(1024);
    uint8_t* dense = DeviceBytes(static_cast<size_t>(jobs.bytes));
    auto* pages = reinterpret_cast<uint32_t*>(DeviceBytes(jobs.pages.size() * sizeof(uint32_t)));
    auto* state = reinterpret_cast<cuda::JobState*>(DeviceBytes(sizeof(cuda::JobState)));
    Must(cudaMemset(state, 0, sizeof(cuda::JobState)), "cudaMemset");
    Must(cudaMemcpy(pages, jobs.pages.data(), jobs.pages.size() * sizeof(uint32_t), cudaMemcpyDefault), "cudaMemcpy");
    const uint64_t tensor_bytes = static_cast<uint64_t>(jobs.bytes) / 64;
    const auto each = [&jobs, pages](const auto& f) {
      for (uint32_t first = 0; first < 64; first += cuda::kWindowFrames) {
        cuda::PageView view;
        for (uint32_t i = 0; i < cuda::kWindowFrames; ++i) {
          const PagedLayer& layer = jobs.cache.layers[(first + i) / 2];
          view.base[i] = reinterpret_cast<uint8_t*>(i % 2 == 0 ? layer.key : layer.value);
        }
        const PageStrides& s = jobs.cache.key_strides;
        view.pages = pages;
        view.page_stride = s.page;
        view.head_stride = s.head;
        view.token_stride = s.token;
        view.page_tokens = Jobs::kPageTokens;
        view.heads = 8;
        view.tokens = static_cast<uint32_t>(jobs.pages.size()) * Jobs::kPageTokens;
        view.row_bytes = 256;
        view.count = cuda::kWindowFrames;
        f(first, view);
      }
    };
    const double moved = 2 * jobs.bytes;
    uint8_t* other = DeviceBytes(static_cast<size_t>(jobs.bytes));
    const GpuWork copy{moved, [=, &jobs](cudaStream_t s) {
                         cudaMemcpyAsync(other, dense, static_cast<size_t>(jobs.bytes), cudaMemcpyDefault, s);
                       }};
    const GpuWork gather{moved, [=](cudaStream_t s) {
                           each([=](uint32_t i, const cuda::PageView& v) {
                             cuda::LaunchGather(v, dense + i * tensor_bytes, tensor_bytes, s);
                           });
                         }};
    const GpuWork scatter{moved, [=](cudaStream_t s) {
                            each([=](uint32_t i, const cuda::PageView& v) {
                              cuda::LaunchScatter(v, dense + i * tensor_bytes, tensor_bytes, state, s);
                            });
                          }};
    const std::string note = "2 launches";
    const bool gathered = Report({"G8", "gather", 0.8, 0.92, jobs.bytes, note}, moved, pairs_.Measure(copy, gather));
    return Report({"G8", "scatter", 0.8, 0.92, jobs.bytes, note}, moved, pairs_.Measure(copy, scatter)) && gathered;
  }

  Jobs& JobsOf(uint32_t part_tokens) {
    auto& jobs = jobs_[part_tokens];
    if (jobs == nullptr) jobs = std::make_unique<Jobs>(part_tokens, quick_ ? part_tokens : 2048);
    return *jobs;
  }

  /// Pack into pinned memory and unpack out of it, against a copy of the values over the bus.
  bool Job(const std::string& goal, uint32_t part_tokens, const std::string& spec, double must, double moon) {
    Jobs& jobs = JobsOf(part_tokens);
    const size_t bytes = static_cast<size_t>(jobs.bytes);
    if (bus_host_ == nullptr) {
      bus_host_ = PinnedBytes(bytes);
      bus_device_ = DeviceBytes(bytes);
      bus_bytes_ = bytes;
    }
    const size_t moved = std::min(bytes, bus_bytes_);
    uint8_t *host = bus_host_, *device = bus_device_;
    const GpuWork out{static_cast<double>(moved),
                      [=](cudaStream_t s) { cudaMemcpyAsync(host, device, moved, cudaMemcpyDefault, s); }};
    const GpuWork in{static_cast<double>(moved),
                     [=](cudaStream_t s) { cudaMemcpyAsync(device, host, moved, cudaMemcpyDefault, s); }};
    const auto codec = Parsed(spec);
    const std::string name = spec + ", frames of " + std::to_string(part_tokens * 2) + " KiB, ";
    const GpuWork pack = jobs.Pack(codec), unpack = jobs.Unpack(codec);
    Report({goal, name + "pack", 0, 0, jobs.bytes, ""}, pack.bytes, pairs_.Measure(out, pack));
    return Report({goal, name + "unpack", must, moon, jobs.bytes, ""}, unpack.bytes, pairs_.Measure(in, unpack));
  }

  bool EveryJob() {
    for (const uint32_t tokens : {256u, 1024u}) {
      for (const char* spec : {"raw", "splitexp", "int(8,tok)", "int(4,tok,64)", "k:int(2,chan,32)|v:int(2,tok,32)",
                               "had|int(4,tok,128)", "fp8"}) {
        Job("jobs", tokens, spec, 0, 0);
      }
    }
    return true;
  }

  const bool quick_;
  GpuPairs pairs_;
  std::unique_ptr<Frames> large_;
  std::map<uint32_t, std::unique_ptr<Jobs>> jobs_;
  uint8_t *bus_host_ = nullptr, *bus_device_ = nullptr;
  size_t bus_bytes_ = 0;
};

}  // namespace
}  // namespace kvasir::bench

int main(int argc, char** argv) {
  using namespace kvasir::bench;
  bool quick = false;
  std::vector<std::string> goals;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--quick") {
      quick = true;
    } else {
      goals.push_back(argv[i]);
    }
  }
  if (goals.empty()) goals = {"G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "methods", "rows", "jobs"};
  cudaDeviceProp properties{};
  Must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  int driver = 0, runtime = 0;
  Must(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  Must(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  std::printf("{\"device\":\"%s\",\"cuda_driver\":%d,\"cuda_runtime\":%d,\"multiprocessors\":%d}\n", properties.name,
              driver, runtime, properties.multiProcessorCount);
  Bench bench(quick);
  bool ok = true;
  for (const std::string& goal : goals) ok &= bench.Run(goal);
  return ok ? 0 : 1;
}
