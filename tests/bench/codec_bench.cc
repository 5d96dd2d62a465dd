// SPDX-License-Identifier: Apache-2.0
// Goals C1 to C7 on one core: codecs against memcpy of the same bf16 bytes (and how near they come to what this
// machine's memory allows), against ggml's block layouts in cache, entropy-coded exponents against zstd, and a fetch
// with checksums against one without. One JSON line a result on stdout, progress on stderr, exit 1 when a must fails.
//   codec_bench [--quick] [goal ...]
// `methods` instead of a goal: the speed of every ready-made method that needs no scores, a line a tensor, without a
// must.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu_jobs.h"
#include "kernels/methods.h"
#include "kernels/number_formats.h"
#include "tests/bench/bench_pairs.h"
#include "tests/bench/exponent_plane.h"
#include "tests/bench/ggml_blocks.h"
#include "tests/bench/move_bytes.h"

namespace kvasir::bench {
namespace {

constexpr FrameShape kShape{1, 256, 128, ElementType::kBfloat16};  // one frame: 64 KiB
constexpr uint64_t kSeed = 20261121;

/// Bytes that begin on a page, as staging slots and engine pages do.
class PageBytes {
 public:
  explicit PageBytes(uint64_t size) : size_(AlignFrame(size)), data_(Allocate(size_)) {
    std::memset(data_.get(), 1, size_);
  }
  std::span<std::byte> all() const { return {data_.get(), size_}; }
  std::span<std::byte> at(uint64_t offset, uint64_t bytes) const { return all().subspan(offset, bytes); }
  uint64_t size() const { return size_; }

 private:
  static std::byte* Allocate(uint64_t size) {
    return static_cast<std::byte*>(std::aligned_alloc(4096, (size + 4095) / 4096 * 4096));
  }
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  uint64_t size_;
  std::unique_ptr<std::byte, Free> data_;
};

/// bf16 frames far beyond the caches, room for a copy and for encoded frames.
struct WorkingSet {
  explicit WorkingSet(uint64_t frame_count);
  std::span<const std::byte> Dense(uint64_t i) const { return dense.at(i * kShape.bytes(), kShape.bytes()); }
  std::span<std::byte> Copy(uint64_t i) { return copy.at(i * kShape.bytes(), kShape.bytes()); }

  uint64_t frames;
  PageBytes dense, copy;
};

/// Gaussian values, channels of different spread, a few strong ones: the character of cached keys. A few frames are
/// made, the others repeat them at other addresses.
WorkingSet::WorkingSet(uint64_t frame_count)
    : frames(frame_count), dense(frame_count * kShape.bytes()), copy(frame_count * kShape.bytes()) {
  const uint64_t made = std::min<uint64_t>(frames, 16);
  std::mt19937_64 rng(kSeed);
  std::normal_distribution<float> normal;
  std::vector<float> spread(kShape.dim);
  for (float& s : spread) s = rng() % 24 == 0 ? 12.0f : 0.5f + static_cast<float>(rng() % 100) / 50.0f;
  uint8_t* values = reinterpret_cast<uint8_t*>(dense.all().data());
  for (uint64_t i = 0; i < made * kShape.elements(); ++i) {
    StoreElement(kShape.element, normal(rng) * spread[i % kShape.dim], values + 2 * i);
  }
  for (uint64_t i = made; i < frames; ++i) {
    std::memcpy(values + i * kShape.bytes(), values + i % made * kShape.bytes(), kShape.bytes());
  }
}

// Of what this machine's memory allows, where that is less than the must. Decode as goal G1 asks of a GPU; encode reads
// twice, once for the ranges.
constexpr struct { double encode = 0.70, decode = 0.85; } kShares;

class Bench {
 public:
  /// C3 runs in the second cache, the others far beyond all caches.
  Bench(bool quick, bool cached)
      : options_{quick ? 3 : 11},
        passes_(cached ? (quick ? 64 : 512) : 1),
        destination_(cached ? Destination::kCache : Destination::kMemory),
        set_(cached  ? 2
             : quick ? 256
                     : 2048) {}

  bool Run(const std::string& goal) {
    std::fprintf(stderr, "%s ...\n", goal.c_str());
    if (goal == "C1") return AgainstCopy("C1", "int(8,tok)", {1.3, 1.8}, {1.5, 2.2});
    if (goal == "C2") return AgainstCopy("C2", "k:int(4,chan,32)|v:int(4,tok,64)", {0.7, 1.1}, {0.9, 1.4});
    if (goal == "C3") return AgainstBlocks();
    if (goal == "C4") return AgainstCopy("C4", "T:had|int(4,tok)", {0.45, 0.8}, {0.45, 0.8});
    if (goal == "C6") return AgainstZstd();
    if (goal == "C5") {
      const bool fast = AgainstCopy("C5", "splitexp", {1.5, 2.2}, {1.7, 2.5});
      return Size() && fast;
    }
    if (goal == "C7") {
      bool ok = true;
      for (const char* spec : {"raw", "int(8,tok)", "k:int(4,chan,32)|v:int(4,tok,64)"}) ok = Checksums(spec) && ok;
      return ok;
    }
    if (goal == "methods") return AllMethods();
    std::fprintf(stderr, "unknown goal '%s': C1 to C7, methods\n", goal.c_str());
    return false;
  }

 private:
  struct Targets {
    double must, moonshot;
  };

  static KvTensor TensorOf(uint64_t frame) { return frame % 2 == 0 ? KvTensor::kKey : KvTensor::kValue; }

  void CopyAll() {
    for (uint64_t i = 0; i < set_.frames; ++i) {
      std::memcpy(set_.Copy(i).data(), set_.Dense(i).data(), kShape.bytes());
      Keep(set_.copy.all().data());
    }
  }

  /// Encoded frames one after another, each at the place a staging slot would give it.
  void Prepare(const char* spec) {
    codec_ = *Codec::Parse(spec);
    slot_bytes_ = 0;
    for (const KvTensor t : {KvTensor::kKey, KvTensor::kValue}) {
      slot_bytes_ = std::max(slot_bytes_, AlignFrame(codec_->MaxFrameBytes(t, kShape)));
    }
    slot_bytes_ = (slot_bytes_ + 63) / 64 * 64;
    encoded_ = PageBytes(slot_bytes_ * set_.frames);
    lengths_.assign(set_.frames, 0);
    EncodeAll();
  }

  std::span<std::byte> Encoded(uint64_t i) { return encoded_.at(i * slot_bytes_, lengths_[i]); }

  void Encode(uint64_t i) {
    lengths_[i] = codec_->Encode(TensorOf(i), kShape, set_.Dense(i), encoded_.at(i * slot_bytes_, slot_bytes_),
                                 scratch_, destination_);
  }

  void Decode(uint64_t i) {
    if (!codec_->Decode(TensorOf(i), kShape, Encoded(i), set_.Copy(i), scratch_, destination_).ok()) std::abort();
  }

  void EncodeAll() {
    for (uint64_t i = 0; i < set_.frames; ++i) Encode(i);
  }

  void DecodeAll() {
    for (uint64_t i = 0; i < set_.frames; ++i) Decode(i);
  }

  bool AgainstCopy(const char* goal, const char* spec, Targets encode, Targets decode) {
    Prepare(spec);
    const auto against_copy = [this](const std::function<void(uint64_t)>& frame) {
      return MeasurePairs(
          options_, [this] { CopyAll(); },
          [&] {
            for (uint64_t i = 0; i < set_.frames; ++i) frame(i);
          });
    };
    const Ratios e = against_copy([this](uint64_t i) { Encode(i); });
    const Ratios in = against_copy([this](uint64_t i) { MoveBytes(set_.Dense(i), Encoded(i)); });
    EncodeAll();  // moving has overwritten the frames
    const Ratios d = against_copy([this](uint64_t i) { Decode(i); });
    const Ratios out = against_copy([this](uint64_t i) { MoveBytes(Encoded(i), set_.Copy(i)); });
    Speed("encode", e);
    Speed("decode", d);
    const bool ok = Report({goal, "encode", encode.must, encode.moonshot, false, in.median, kShares.encode}, e);
    return Report({goal, "decode", decode.must, decode.moonshot, false, out.median, kShares.decode}, d) && ok;
  }

  /// Frames of one tensor, copied, encoded and decoded.
  void MethodSpeed(const Method& method, KvTensor tensor) {
    std::vector<uint64_t> frames;
    for (uint64_t i = 0; i < set_.frames; ++i) {
      if (TensorOf(i) == tensor) frames.push_back(i);
    }
    const auto each = [&](const std::function<void(uint64_t)>& use) {
      return [&frames, use] {
        for (const uint64_t i : frames) use(i);
      };
    };
    const auto copy = each([this](uint64_t i) {
      std::memcpy(set_.Copy(i).data(), set_.Dense(i).data(), kShape.bytes());
      Keep(set_.copy.all().data());
    });
    const Ratios e = MeasurePairs({3}, copy, each([this](uint64_t i) { Encode(i); }));
    const Ratios d = MeasurePairs({3}, copy, each([this](uint64_t i) { Decode(i); }));
    const double gigabytes = 1e-9 * static_cast<double>(frames.size() * kShape.bytes());
    std::printf(
        "{\"method\":\"%s\",\"tensor\":\"%s\",\"encode_gbs\":%.3g,\"encode_ratio\":%.3g,\"decode_gbs\":%.3g,"
        "\"decode_ratio\":%.3g}\n",
        std::string(method.name).c_str(), tensor == KvTensor::kKey ? "k" : "v", gigabytes / e.our_seconds, e.median,
        gigabytes / d.our_seconds, d.median);
    std::fflush(stdout);
  }

  bool AllMethods() {
    for (const Method& method : Methods()) {
      const auto codec = *Codec::Parse(method.spec);
      if (codec->selection() != nullptr || !codec->CheckInputs(KvTensor::kKey, {}).ok()) continue;
      Prepare(std::string(method.spec).c_str());
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) MethodSpeed(method, tensor);
    }
    return true;
  }

  double StoredBytes() const {
    double bytes = 0;
    for (const uint64_t length : lengths_) bytes += static_cast<double>(length);
    return bytes;
  }

  void Speed(const char* what, const Ratios& r) const {
    const double gigabytes = 1e-9 * static_cast<double>(set_.dense.size()) * passes_;
    std::fprintf(stderr, "  %s %.2f GB/s of bf16, reference %.2f GB/s\n", what, gigabytes / r.our_seconds,
                 gigabytes / r.reference_seconds);
  }

  bool Size() {
    const double ratio = StoredBytes() / static_cast<double>(set_.dense.size());
    return Report({"C5", "size", 0.76, 0.75, true}, {ratio, ratio, ratio});
  }

  /// splitexp(ans) of whole values against zstd at level 1 of their exponents alone, taken out beforehand. Its size,
  /// against order-0 entropy of the exponents of each frame and the 8 bits that nobody can shorten; and against the
  /// elements.
  bool AgainstZstd() {
    Prepare("splitexp(ans)");
    const double ours = StoredBytes();
    ZstdPlane zstd;
    double entropy = 0;
    std::vector<std::vector<uint8_t>> planes, packed;
    for (uint64_t i = 0; i < set_.frames; ++i) {
      planes.push_back(ExponentPlane(set_.Dense(i)));
      entropy += (8 + EntropyBits(planes[i])) / 8 * static_cast<double>(planes[i].size());
      packed.emplace_back(ZstdPlane::Bound(planes[i].size()));
    }
    std::vector<size_t> lengths(set_.frames);
    const Ratios e = MeasurePairs(
        options_,
        [&] {
          for (uint64_t i = 0; i < set_.frames; ++i) lengths[i] = zstd.Encode(planes[i], packed[i]);
        },
        [&] { EncodeAll(); });
    const Ratios d = MeasurePairs(
        options_,
        [&] {
          for (uint64_t i = 0; i < set_.frames; ++i) zstd.Decode(std::span(packed[i]).first(lengths[i]), planes[i]);
        },
        [&] { DecodeAll(); });
    Speed("encode", e);
    Speed("decode", d);
    const double over = ours / entropy, of = ours / static_cast<double>(set_.dense.size());
    bool ok = Report({"C6", "encode / zstd-1 of exponents", 2, 5}, e);
    ok = Report({"C6", "decode / zstd-1 of exponents", 2, 4}, d) && ok;
    ok = Report({"C6", "size / order-0 entropy", 1.03, 1.01, true}, {over, over, over}) && ok;
    return Report({"C6", "size", 1 / 1.40, 1 / 1.45, true}, {of, of, of}) && ok;
  }

  /// Elements per second: our int4 against Q4_0 and int8 against Q8_0, whose row functions work on float32. In the
  /// second cache, as ggml's own benchmark runs: what is compared is the arithmetic.
  bool AgainstBlocks() {
    const size_t count = set_.frames * kShape.elements();
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i)
      values[i] = LoadElement(kShape.element, reinterpret_cast<const uint8_t*>(set_.dense.all().data()) + 2 * i);
    std::vector<BlockQ4> q4(count / 32);
    std::vector<BlockQ8> q8(count / 32);
    bool ok = true;
    const auto pair = [&](const char* what, Targets t, const std::function<void()>& reference, bool encode) {
      const auto passes = [this](const std::function<void()>& once) {
        for (int i = 0; i < passes_; ++i) once();
      };
      const Ratios r = MeasurePairs(
          options_, [&] { passes(reference); }, [&] { passes([&] { encode ? EncodeAll() : DecodeAll(); }); });
      Speed(what, r);
      ok &= Report({"C3", what, t.must, t.moonshot}, r);
    };
    Prepare("k:int(4,chan,32)|v:int(4,tok,64)");
    pair(
        "int4 encode / Q4_0 plain", {5, 8}, [&] { EncodeQ4Plain(values.data(), count, q4.data()); }, true);
    pair(
        "int4 decode / Q4_0 plain", {2.5, 4}, [&] { DecodeQ4Plain(q4.data(), count, values.data()); }, false);
    if (HasAvx2()) {
      pair(
          "int4 encode / Q4_0 AVX2", {1, 1.5}, [&] { EncodeQ4Avx2(values.data(), count, q4.data()); }, true);
      pair(
          "int4 decode / Q4_0 AVX2", {1, 2}, [&] { DecodeQ4Avx2(q4.data(), count, values.data()); }, false);
    }
    Prepare("int(8,tok)");
    pair(
        "int8 encode / Q8_0 plain", {5, 8}, [&] { EncodeQ8Plain(values.data(), count, q8.data()); }, true);
    pair(
        "int8 decode / Q8_0 plain", {2.5, 4}, [&] { DecodeQ8Plain(q8.data(), count, values.data()); }, false);
    if (HasAvx2()) {
      pair(
          "int8 encode / Q8_0 AVX2", {1, 2}, [&] { EncodeQ8Avx2(values.data(), count, q8.data()); }, true);
      pair(
          "int8 decode / Q8_0 AVX2", {1, 2}, [&] { DecodeQ8Avx2(q8.data(), count, values.data()); }, false);
    }
    return ok;
  }

  /// Unpack jobs into pages (16 tokens, NHD) with and without checksums; one job is one layer, K and V.
  bool Checksums(const char* spec) {
    Prepare(spec);
    PagedCache cache;
    cache.layout = {static_cast<uint32_t>(set_.frames / 2), 1, kShape.dim, kShape.dim, kShape.element};
    cache.heads = 1;
    cache.page_tokens = 16;
    const int64_t row = int64_t{kShape.dim} * 2;
    cache.key_strides = cache.value_strides = {row * cache.page_tokens, row, row};
    for (uint64_t i = 0; i < set_.frames; i += 2)
      cache.layers.push_back({set_.Copy(i).data(), set_.Copy(i + 1).data()});
    std::vector<uint32_t> pages(kShape.tokens / cache.page_tokens);
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<uint32_t>(pages.size() - 1 - i);
    std::vector<FrameEntry> directory(set_.frames);
    for (uint64_t i = 0; i < set_.frames; ++i) {
      directory[i] = {0, static_cast<uint32_t>(lengths_[i]), Crc32c(Encoded(i)), 0};
    }
    CpuScratch scratch;
    const auto unpack = [&](bool check) {
      for (uint32_t layer = 0; layer < cache.layers.size(); ++layer) {
        FrameEntry entries[2] = {directory[2 * layer], directory[2 * layer + 1]};
        entries[1].offset = static_cast<uint32_t>(slot_bytes_);
        UnpackJob job;
        job.codec = codec_;
        job.cache = &cache;
        job.pages = pages;
        job.part = {layer, 1, 0, 1, 0, kShape.tokens};
        job.first_layer = layer;
        job.layers = job.heads = 1;
        job.directory = entries;
        job.frames = encoded_.at(2 * layer * slot_bytes_, 2 * slot_bytes_);
        if (!UnpackOnCpu(job, scratch, check).ok) std::abort();
      }
    };
    const Ratios r = MeasurePairs(
        options_, [&] { unpack(false); }, [&] { unpack(true); });
    Speed("unpack", r);
    return Report({"C7", std::string("unpack ") + spec, 0.75, 0.9}, r);
  }

  const PairOptions options_;
  const int passes_;
  const Destination destination_;
  WorkingSet set_;
  std::shared_ptr<const Codec> codec_;
  uint64_t slot_bytes_ = 0;
  PageBytes encoded_{0};
  std::vector<std::byte> scratch_;
  std::vector<uint64_t> lengths_;
};

}  // namespace
}  // namespace kvasir::bench

int main(int argc, char** argv) {
  bool quick = false;
  std::vector<std::string> goals;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--quick") {
      quick = true;
    } else {
      goals.push_back(argv[i]);
    }
  }
  if (goals.empty()) goals = {"C1", "C2", "C3", "C4", "C5", "C6", "C7"};
  kvasir::bench::PinToOneCpu();
  bool ok = true;
  for (const std::string& goal : goals) ok &= kvasir::bench::Bench(quick, goal == "C3").Run(goal);
  return ok ? 0 : 1;
}
