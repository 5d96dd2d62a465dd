// SPDX-License-Identifier: Apache-2.0
// The lists of fields, the random filler and the describer.
#include "tests/store/wire_samples.h"

#include <type_traits>

#include "absl/strings/str_cat.h"
#include "transport/memory_region.h"

namespace kvasir::testing {
namespace {

/// Takes any fields: asks whether a type has a list.
struct Nothing {
  template <class... T>
  void operator()(T&...) const {}
};

// One list a type: f gets every field, in order.
template <class F> void Fields(Member& v, F f) { auto& [a, b, c, d, e, g, h] = v; f(a, b, c, d, e, g, h); }
template <class F> void Fields(Membership& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(KvLayout& v, F f) { auto& [a, b, c, d, e] = v; f(a, b, c, d, e); }
template <class F> void Fields(Namespace& v, F f) {
  auto& [a, b, c, d, e, g, h, i, j, k] = v;
  f(a, b, c, d, e, g, h, i, j, k);
}
template <class F>
void Fields(View& v, F f) {
  auto& [a, b, c, d, e, g] = v;
  f(a, b, c, d, e, g);
}
template <class F> void Fields(HelloRequest& v, F f) { auto& [a, b, c, d, e, g, h] = v; f(a, b, c, d, e, g, h); }
template <class F> void Fields(DataAddress& v, F f) { auto& [a, b, c] = v; f(a, b, c); }
template <class F> void Fields(HelloReply& v, F f) {
  auto& [a, b, c, d, e, g, h, i, j, k, l, m] = v;
  f(a, b, c, d, e, g, h, i, j, k, l, m);
}
template <class F> void Fields(OfferedBlock& v, F f) { auto& [a, b, c, d, e, g] = v; f(a, b, c, d, e, g); }
template <class F>
void Fields(OfferedPart& v, F f) {
  auto& [a, b, c, d, e, g, h, i, j] = v;
  f(a, b, c, d, e, g, h, i, j);
}
template <class F> void Fields(OfferRequest& v, F f) { auto& [a, b, c, d, e, g, h, i] = v; f(a, b, c, d, e, g, h, i); }
template <class F> void Fields(OfferReply& v, F f) { auto& [a] = v; f(a); }
template <class F> void Fields(AcquiredRun& v, F f) { auto& [a, b, c] = v; f(a, b, c); }
template <class F> void Fields(AcquireRequest& v, F f) {
  auto& [a, b, c, d, e, g, h, i, j, k, l, m] = v;
  f(a, b, c, d, e, g, h, i, j, k, l, m);
}
template <class F>
void Fields(PartGrant& v, F f) {
  auto& [a, b, c, d, e, g, h, i] = v;
  f(a, b, c, d, e, g, h, i);
}
template <class F> void Fields(AcquiredBlock& v, F f) { auto& [a, b, c, d, e, g] = v; f(a, b, c, d, e, g); }
template <class F> void Fields(AcquireReply& v, F f) { auto& [a, b, c, d, e, g] = v; f(a, b, c, d, e, g); }
template <class F>
void Fields(DamagedPart& v, F f) {
  auto& [a, b, c, d, e] = v;
  f(a, b, c, d, e);
}
template <class F> void Fields(TouchRequest& v, F f) { auto& [a, b, c, d, e, g, h, i] = v; f(a, b, c, d, e, g, h, i); }
template <class F> void Fields(TouchReply& v, F f) { auto& [a] = v; f(a); }
template <class F> void Fields(ObjectRequest& v, F f) { auto& [a, b, c, d, e] = v; f(a, b, c, d, e); }
template <class F> void Fields(ObjectReply& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(MembershipChanged& v, F f) { auto& [a] = v; f(a); }
template <class F> void Fields(PartsReady::Ready& v, F f) { auto& [a, b, c, d] = v; f(a, b, c, d); }
template <class F> void Fields(PartsReady& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(LeaseRevoked& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(TierStatus& v, F f) { auto& [a, b, c, d, e, g] = v; f(a, b, c, d, e, g); }
template <class F> void Fields(std::pair<std::string, uint64_t>& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(std::pair<std::string, std::string>& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(MoveStatus& v, F f) { auto& [a, b, c, d, e, g] = v; f(a, b, c, d, e, g); }
template <class F> void Fields(PeerStatus& v, F f) { auto& [a, b, c] = v; f(a, b, c); }
template <class F> void Fields(NodeStatus& v, F f) {
  auto& [a, b, c, d, e, g, h, i, j, k, l, m, n, o, p, q, r, s] = v;
  f(a, b, c, d, e, g, h, i, j, k, l, m, n, o, p, q, r, s);
}
template <class F> void Fields(BlockInfo& v, F f) {
  auto& [a, b, c, d, e, g, h, i, j, k, l, m, n, o, p] = v;
  f(a, b, c, d, e, g, h, i, j, k, l, m, n, o, p);
}
template <class F> void Fields(ListRequest& v, F f) { auto& [a, b, c] = v; f(a, b, c); }
template <class F> void Fields(ListReply& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(ProbeRequest& v, F f) { auto& [a, b] = v; f(a, b); }
template <class F> void Fields(ProbeReply& v, F f) { auto& [a, b, c, d, e] = v; f(a, b, c, d, e); }
template <class F> void Fields(InventoryRequest& v, F f) { auto& [a, b, c, d, e, g, h, i, j] = v; f(a, b, c, d, e, g, h, i, j); }
template <class F> void Fields(InventoryBlock& v, F f) {
  auto& [a, b, c, d, e, g, h, i, j, k, l, m] = v;
  f(a, b, c, d, e, g, h, i, j, k, l, m);
}
template <class F> void Fields(InventoryReply& v, F f) { auto& [a, b, c, d, e, g] = v; f(a, b, c, d, e, g); }
template <class F> void Fields(SuggestRequest& v, F f) { auto& [a, b, c, d] = v; f(a, b, c, d); }
template <class F> void Fields(SuggestReply& v, F f) { auto& [a] = v; f(a); }

// ---- the filler -----------------------------------------------------------------------------------------------------

std::string RandomBytes(std::mt19937_64& rng, size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(rng());
  return bytes;
}

struct Filler {
  std::mt19937_64& rng;

  template <class... T>
  void operator()(T&... fields) {
    (Fill(fields), ...);
  }
  template <class T>
    requires std::is_integral_v<T>
  void Fill(T& v) {
    v = static_cast<T>(rng());
  }
  void Fill(bool& v) { v = rng() % 2 != 0; }
  void Fill(double& v) { v = static_cast<double>(rng() >> 40); }
  void Fill(std::string& v) {
    static const std::string_view kPieces[] = {"a", "Z", "7", " ", "%", "ß", "€", "🐉", "\n", {"\0", 1}};
    v.clear();
    for (size_t n = rng() % 20; n > 0; --n) v.append(kPieces[rng() % std::size(kPieces)]);
  }
  void Fill(Duration& v) { v = Duration(static_cast<int64_t>(rng() % 1'000'000'000'000'000)); }
  void Fill(Ack& v) { v = static_cast<Ack>(rng() % 2); }
  void Fill(MemberState& v) { v = static_cast<MemberState>(rng() % 4); }
  void Fill(PayloadKind& v) { v = PayloadKind::kKv; }
  void Fill(ElementType& v) { v = static_cast<ElementType>(1 + rng() % 5); }
  template <class Tag>
  void Fill(Digest32<Tag>& v) {
    for (uint8_t& b : v.bytes) b = static_cast<uint8_t>(rng());
  }
  void Fill(absl::Status& v) {
    const auto code = static_cast<absl::StatusCode>(rng() % 17);
    std::string message;
    Fill(message);
    v = absl::Status(code, message);
  }
  template <class T>
  void Fill(std::vector<T>& v) {
    v.resize(rng() % 6);
    for (T& element : v) Fill(element);
  }
  template <class T>
    requires requires(T& v) { Fields(v, Nothing{}); }
  void Fill(T& v) {
    Fields(v, *this);
    Fit(v);
  }
  void Fill(WatchEvent& v) {
    const uint64_t kind = rng() % 3;
    if (kind == 0) Fill(v.emplace<MembershipChanged>());
    if (kind == 1) Fill(v.emplace<PartsReady>());
    if (kind == 2) Fill(v.emplace<LeaseRevoked>());
  }

  // What the wire demands of single values.
  template <class T>
  void Fit(T&) {}
  void Fit(Membership& v) {
    for (size_t i = 0; i < v.members.size(); ++i) v.members[i].id.insert(0, 1, static_cast<char>('a' + i));
  }
  void Fit(KvLayout& v) { v.layers %= 1000, v.kv_heads %= 100, v.key_dim %= 500, v.value_dim %= 500, FitOne(v); }
  void FitOne(KvLayout& v) { ++v.layers, ++v.kv_heads, ++v.key_dim, ++v.value_dim; }
  void Fit(Namespace& v) {
    v.name = "some model";
    v.block_tokens = 1 + v.block_tokens % 512;
    for (std::string& adapter : v.adapters) adapter.push_back('#');
  }
  void Fit(View& v) {
    static const char* const kSpecs[] = {"raw", "splitexp", "int(4,tok)", "k:int(2,chan,32)|v:int(2,tok,32)",
                                         "hier(4+4,tok)|planes"};
    const std::string selection = v.selection;
    v = *View::Make(kSpecs[rng() % std::size(kSpecs)], 1 + v.layers_per_part % 64, 1 + v.heads_per_part % 64);
    v.selection = selection;
  }
  void Fit(HelloRequest& v) {
    v.wire_min %= 100, v.wire_max |= 128;
    v.tenant = RandomBytes(rng, 100);
  }
  void Fit(HelloReply& v) { v.run_blocks |= 1, v.credentials = RandomBytes(rng, 256); }
  void Fit(OfferedBlock& v) { v.replicas = 1 + v.replicas % kReplicasMax; }
  void Fit(InventoryBlock& v) { v.replicas = 1 + v.replicas % kReplicasMax; }
  void Fit(InventoryRequest& v) { v.limit %= kRunsPerInventoryMax, v.after = RandomBytes(rng, 36); }
  void Fit(InventoryReply& v) {
    if (v.domains.empty() || v.namespaces.empty() || v.views.empty()) v.blocks.clear();
    for (InventoryBlock& b : v.blocks) {
      b.domain %= static_cast<uint32_t>(v.domains.size());
      b.ns %= static_cast<uint32_t>(v.namespaces.size());
      b.view %= static_cast<uint32_t>(v.views.size());
    }
    v.next = RandomBytes(rng, 36);
  }
  void Fit(OfferedPart& v) {
    v.bytes %= kPartBytesMax;
    v.root = RandomBytes(rng, 16);
    v.grant = RandomBytes(rng, RemoteSpan::kEncodedBytes);
  }
  void Fit(OfferRequest& v) {
    if (v.blocks.empty() || v.views.empty()) v.parts.clear();
    for (OfferedPart& p : v.parts) {
      p.block %= static_cast<uint32_t>(v.blocks.size());
      p.view %= static_cast<uint32_t>(v.views.size());
    }
  }
  void Fit(PartGrant& v) {
    v.bytes %= kPartBytesMax;
    v.grant = RandomBytes(rng, v.pending ? 0 : RemoteSpan::kEncodedBytes);
  }
  void Fit(AcquireReply& v) {
    if (v.views.empty()) v.blocks.clear();
    for (AcquiredBlock& b : v.blocks) {
      b.view %= static_cast<uint32_t>(v.views.size());
      b.replicas %= kReplicasMax + 1;
      if (b.replicas == 0) b.parent = {};
    }
  }
  void Fit(ObjectRequest& v) { v.name = RandomBytes(rng, 256), v.value = RandomBytes(rng, rng() % 5000); }
  void Fit(ObjectReply& v) { v.value = RandomBytes(rng, rng() % 5000); }
  void Fit(ListRequest& v) { v.key_prefix = "0123456789abcdefABCDEF", v.limit %= 10000, v.after = RandomBytes(rng, 9); }
  void Fit(ListReply& v) { v.next = RandomBytes(rng, 9); }
};

// ---- the describer --------------------------------------------------------------------------------------------------

struct Describer {
  std::string& out;

  template <class... T>
  void operator()(T&... fields) {
    (Show(fields), ...);
  }
  template <class T>
    requires std::is_integral_v<T>
  void Show(const T& v) {
    absl::StrAppend(&out, static_cast<uint64_t>(v), " ");
  }
  void Show(const double& v) { absl::StrAppend(&out, static_cast<uint64_t>(v), " "); }
  void Show(const std::string& v) { absl::StrAppend(&out, v.size(), ":", ToHex(v), " "); }
  void Show(const Duration& v) { absl::StrAppend(&out, v.count(), "ns "); }
  template <class T>
    requires std::is_enum_v<T>
  void Show(const T& v) {
    absl::StrAppend(&out, static_cast<int>(v), " ");
  }
  template <class Tag>
  void Show(const Digest32<Tag>& v) {
    absl::StrAppend(&out, ToHex(v), " ");
  }
  void Show(const absl::Status& v) { absl::StrAppend(&out, v.raw_code(), "=", v.message(), " "); }
  template <class T>
  void Show(const std::vector<T>& v) {
    absl::StrAppend(&out, "[", v.size(), " ");
    for (const T& element : v) Show(element);
    absl::StrAppend(&out, "] ");
  }
  template <class T>
    requires requires(T& v) { Fields(v, Nothing{}); }
  void Show(const T& v) {
    absl::StrAppend(&out, "{ ");
    Fields(const_cast<T&>(v), *this);
    absl::StrAppend(&out, "} ");
  }
  void Show(const WatchEvent& v) {
    absl::StrAppend(&out, "event ", v.index(), " ");
    std::visit([this](const auto& event) { Show(event); }, v);
  }
};

}  // namespace

template <class T>
T Sample(std::mt19937_64& rng) {
  T value{};
  Filler{rng}.Fill(value);
  return value;
}

template <class T>
std::string Describe(const T& value) {
  std::string text;
  Describer{text}.Show(value);
  return text;
}

#define KVASIR_CARRIED(T)                \
  template T Sample<T>(std::mt19937_64&); \
  template std::string Describe<T>(const T&);
KVASIR_CARRIED(HelloRequest)
KVASIR_CARRIED(HelloReply)
KVASIR_CARRIED(OfferRequest)
KVASIR_CARRIED(OfferReply)
KVASIR_CARRIED(AcquireRequest)
KVASIR_CARRIED(AcquireReply)
KVASIR_CARRIED(TouchRequest)
KVASIR_CARRIED(TouchReply)
KVASIR_CARRIED(ObjectRequest)
KVASIR_CARRIED(ObjectReply)
KVASIR_CARRIED(WatchEvent)
KVASIR_CARRIED(NodeStatus)
KVASIR_CARRIED(ListRequest)
KVASIR_CARRIED(ListReply)
KVASIR_CARRIED(Membership)
KVASIR_CARRIED(ProbeRequest)
KVASIR_CARRIED(ProbeReply)
KVASIR_CARRIED(InventoryRequest)
KVASIR_CARRIED(InventoryReply)
KVASIR_CARRIED(SuggestRequest)
KVASIR_CARRIED(SuggestReply)

}  // namespace kvasir::testing
