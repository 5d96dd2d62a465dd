// SPDX-License-Identifier: Apache-2.0
// Session: one worker's working relation with the store, for one model. Match, Push, Fetch.
//
//   auto session = Session::Open({.nodes = {"10.0.0.1:7070"}, .domain = key, .ns = ns, .push_view = "splitexp"});
//   PrefixChain chain = (*session)->Chain(tokens);
//   (*session)->Fetch({.chain = &chain, .cache = &cache, .pages = pages}, [](FetchResult r) { ... r.blocks ... });
//   (*session)->Push({.chain = &chain, .block = 3, .cache = &cache, .pages = pages}, [](PushResult r) { ... });
//
// Every method may be called from any thread and returns at once; callbacks run on the Session's own Loop, exactly once,
// and must not block. Whatever goes wrong with a fetch is a miss from that block on: reported and counted, never thrown.
// A tensor-parallel job opens one Session per rank; each pushes and fetches the heads its cache holds.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/kept_inputs.h"
#include "kernels/device.h"
#include "kernels/head_extents.h"
#include "kernels/paged_cache.h"
#include "kernels/select_inputs.h"
#include "store/api/namespace.h"
#include "store/api/placement.h"
#include "store/api/prefix_chain.h"
#include "store/api/store_api.h"
#include "store/api/view.h"
#include "transport/loop.h"
#include "transport/transport.h"

namespace kvasir {

/// One stretch of work, for timelines. `what`: "encode", "offer", "acquire", "pull", "decode".
struct TraceSpan {
  const char* what = "";
  uint32_t block = 0;
  uint32_t layer = 0;
  Instant begin, end;
  uint64_t bytes = 0;
};

struct SessionOptions {
  /// Control addresses; the first that answers tells the membership, later changes come by Watch.
  std::vector<std::string> nodes;
  std::string tenant = "default";
  DomainKey domain;
  Namespace ns;

  /// Codec spec of what is pushed, or a method's name: "kivi2", "turboquant4" (`kvasir codecs` lists them). "auto": the lossless
  /// view that was seen to come back fastest, tried once for a cluster and namespace, by the first Session, within Open
  /// (client/auto_view.h); "splitexp" where pages are not in host memory.
  std::string push_view = "auto";
  uint32_t layers_per_part = 8;               ///< grid of the pushed view
  uint32_t heads_per_part = 1;
  std::vector<std::string> accept = {"lossless"};  ///< views a fetch takes, best first: specs, methods, lossless, any

  uint32_t replicas = 1;                      ///< REPLICATED(n): n nodes pull in parallel
  Ack ack = Ack::kVolatile;                   ///< at each of them

  Duration push_deadline = std::chrono::seconds(10);
  Duration fetch_deadline = std::chrono::seconds(2);  ///< set it to the time prefill would take: later is useless
  Duration call_deadline = std::chrono::seconds(2);   ///< of small calls; a silent node is routed around after it
  Duration retry_pause = std::chrono::milliseconds(500);  ///< a node that failed is the last to be asked for this long

  uint64_t staging_bytes = 64ull << 20;       ///< registered once; pushes wait for room in it
  uint32_t pushes_queued_max = 65536;         ///< more are refused with ResourceExhausted
  uint32_t codec_threads = 1;
  std::vector<std::string> transports = {"shm", "tcp"};  ///< best first; the node says which it serves

  /// How to reach a node's calls; empty = gRPC. deploy/embedded and tests put their own.
  std::function<std::shared_ptr<StoreApi>(const std::string& control_address)> dial;
  std::shared_ptr<Device> device;             ///< empty = a CPU device with codec_threads workers
  std::function<void(const TraceSpan&)> trace;  ///< called on the Loop; empty = no tracing
  /// Called on the Loop with what a node warns of when greeted: "namespace 'x' differs from 'y' only in rope_theta".
  std::function<void(const std::string& node, const std::string& warning)> warn;
};

struct MatchResult {
  absl::Status status;        ///< not ok: no owner of the first run answered; blocks is 0
  uint32_t blocks = 0;        ///< leading blocks that a Fetch now would find
  uint32_t tokens = 0;
};

/// Pushes layers [first_layer, first_layer + layers) of one block, all heads the cache holds. Layers and heads must cover
/// whole parts of the view's grid. chain, cache and pages stay valid and the pages unchanged until the callback.
struct PushRequest {
  const PrefixChain* chain = nullptr;
  uint32_t block = 0;
  uint32_t first_layer = 0;
  uint32_t layers = 0;        ///< 0 = to the last layer of the cache
  const PagedCache* cache = nullptr;
  PageTable pages;            ///< of the whole sequence
  Stream stream = nullptr;    ///< packing waits for what is in it
  std::string view;           ///< spec or method; "" = options.push_view
  /// What the view's stages ask for (`kvasir codecs explain`): shapes are of the whole chain; valid until the callback.
  const SelectInputs* inputs = nullptr;
};
struct PushResult {
  absl::Status status;        ///< ok only when every part is sealed at the level asked, on all replicas asked
  uint32_t replicas = 0;      ///< nodes that hold all of it now
  uint32_t existed = 0;       ///< parts (over all replicas) another writer had sealed already
  uint64_t raw_bytes = 0, stored_bytes = 0;  ///< of one copy
};

/// Pushes every block of a chain in a view that chooses tokens (snapkv, ada-kv, ...), after prefill: the choice is made once,
/// over all of them, and each block stores its share; R:win counts from the end of the chain. What was pushed of the blocks
/// before stays: another view of the same keys. First come, first kept: parts that another choice under the same chain, spec and
/// `about` has sealed stay (PushResult::existed). All named here stays valid and the pages unchanged until the callback.
/// Every rank of a tensor-parallel job calls it, with the same chain, view and `about`: ranks keep the scores of their heads in
/// the store, wait for those of the others, push_deadline at most, and come to the same budgets, so that together they push
/// what one process with all heads would. DropScores when all are done.
struct PushSelectedRequest {
  const PrefixChain* chain = nullptr;
  const PagedCache* cache = nullptr;  ///< in host memory: all layers of the model; all heads, or those of a rank
  PageTable pages;                    ///< of the whole chain
  Stream stream = nullptr;            ///< the choice waits for what is in it
  std::string view;                   ///< spec or method
  std::string about;                  ///< on what the choice depends beside the chain (a question, a probe's name); "" = nothing
  /// null = nothing was brought. A rank brings the shapes of the whole model too, and head_scores of all heads; what else is
  /// of heads that it has not is not read.
  const SelectInputs* inputs = nullptr;
};

/// Fetches the leading blocks [first_block, first_block + blocks) of a chain into the pages, as far as they are held.
struct FetchRequest {
  const PrefixChain* chain = nullptr;
  uint32_t first_block = 0;
  uint32_t blocks = 0;        ///< 0 = to the end of the chain
  uint32_t first_layer = 0;
  uint32_t layers = 0;        ///< 0 = all the cache holds
  const PagedCache* cache = nullptr;
  PageTable pages;
  /// Instead of cache and pages: heads that differ in length, all layers of it, in place when the fetch ends. The only way to
  /// fetch a view that drops tokens. ResourceExhausted says how many rows there are when rows_max is fewer.
  const HeadExtents* extents = nullptr;
  Stream stream = nullptr;    ///< unpacking is ordered after what is in it
  std::vector<std::string> accept;  ///< empty = options.accept; views of PushSelected only by their SelectedView
  /// Of views whose codec has planes (Q:hier|X:planes) the lowest so many are brought: fewer bytes, fewer bits a value.
  /// 0 = all that are there. A plane above the lowest that is missing or damaged is no miss: FetchResult::planes says
  /// what was had.
  uint32_t planes = 0;
};
struct FetchResult {
  absl::Status status;        ///< ok, or why it stopped at `blocks` (NotFound: the store has no more)
  uint32_t blocks = 0;        ///< leading blocks now in the pages, all layers asked; the rest of the pages is untouched or garbage
  uint32_t tokens = 0;
  uint64_t moved_bytes = 0, raw_bytes = 0;
  std::vector<std::string> views;  ///< spec each block came in, one per block
  /// Of each block: the fewest planes that any part of it was decoded from; 1 where there are none.
  std::vector<uint32_t> planes;
};

/// Names a fetch under way. 0 is none.
using FetchId = uint64_t;

class Session {
 public:
  /// Connects to one node and says Hello; the others are dialled at need. Blocks at most call_deadline per address.
  /// FailedPrecondition names the field in which the namespace differs; Unavailable names every address tried.
  static absl::StatusOr<std::unique_ptr<Session>> Open(SessionOptions options);
  virtual ~Session() = default;  ///< ends what is under way with Aborted; no callback runs after it returns

  virtual const Namespace& ns() const = 0;
  /// The spec of pushes that name no view: options.push_view in canonical form, or what "auto" became.
  virtual std::string push_view() const = 0;
  virtual PrefixChain Chain(std::span<const uint32_t> tokens) const = 0;
  virtual Membership membership() const = 0;
  virtual uint32_t run_blocks() const = 0;

  virtual void Match(const PrefixChain& chain, std::function<void(MatchResult)> done) = 0;
  /// InvalidArgument, before anything is encoded: the view needs an input that was not brought, named in the message.
  virtual void Push(PushRequest request, std::function<void(PushResult)> done) = 0;
  /// The same, before anything is encoded; of a rank also a stage that looks at more of all heads than their scores (B:ent,
  /// B:unc, B:var). DeadlineExceeded names the heads whose scores did not come. Sums up all blocks: the first failure, the
  /// fewest replicas. push_deadline begins when the choice is made.
  virtual void PushSelected(PushSelectedRequest request, std::function<void(PushResult)> done) = 0;
  /// Keeps what was brought for a chain beside its blocks, so that another budget needs no model later; a rank keeps its own,
  /// under an `about` that no other rank uses. Copied before it returns; kept on options.replicas nodes, until they are
  /// dropped: they do not expire. First come, first kept: AlreadyExists when others are there under this chain and `about`;
  /// InvalidArgument above kKeptInputsBytesMax; ResourceExhausted when a node has its share of memory full of such.
  virtual void KeepInputs(const PrefixChain& chain, std::string_view about, const SelectInputs& inputs,
                          std::function<void(absl::Status)> done) = 0;
  /// Brings them back, bit for bit. NotFound when none are kept; DataLoss when what came is not what was kept.
  virtual void LoadInputs(const PrefixChain& chain, std::string_view about,
                          std::function<void(absl::StatusOr<std::shared_ptr<const KeptInputs>>)> done) = 0;
  /// Deletes them at every node that has them. NotFound when none are kept; else what went wrong at a node that may still.
  virtual void DropInputs(const PrefixChain& chain, std::string_view about, std::function<void(absl::Status)> done) = 0;
  /// The same with the scores that ranks exchanged for PushSelected of this chain, spec or method, and `about`.
  virtual void DropScores(const PrefixChain& chain, std::string_view spec, std::string_view about,
                          std::function<void(absl::Status)> done) = 0;
  /// What a Fetch accepts to get what PushSelected pushed of this very chain. InvalidArgument: no such spec or method, or an
  /// empty chain.
  virtual absl::StatusOr<std::string> SelectedView(const PrefixChain& chain, std::string_view spec,
                                                   std::string_view about) const = 0;
  virtual FetchId Fetch(FetchRequest request, std::function<void(FetchResult)> done) = 0;

  /// Layer by layer: work put on `stream` after this call sees `layer` of every block the fetch found. On the CPU device
  /// it blocks the calling thread (never the Loop) until then. Answers the leading blocks for which the layer is in place;
  /// a layer that can no longer come ends the wait at once. NotFound for an id that is none; a finished fetch's id is
  /// remembered until the next 1,024 fetches.
  virtual absl::StatusOr<uint32_t> WaitLayer(FetchId fetch, uint32_t layer, Stream stream) = 0;
  /// Blocks that the fetch will bring unless something fails: known once every owner answered Acquire; blocks until then.
  virtual absl::StatusOr<uint32_t> WaitFound(FetchId fetch) = 0;

  /// Hints: these blocks will not be used again / will be, for so long.
  virtual void Release(const PrefixChain& chain) = 0;
  virtual void Keep(const PrefixChain& chain, Duration how_long) = 0;

  /// Counters, sorted by name: pushes, fetched_blocks, miss_absent, miss_crc, miss_header, miss_late, failovers, ...
  virtual std::vector<std::pair<std::string, uint64_t>> Counters() const = 0;
};

}  // namespace kvasir
