// SPDX-License-Identifier: Apache-2.0
// One choice, many pushes.
#include "client/selected.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/api/status.h"

namespace kvasir::client {

std::string SelectionContextOf(const DomainKey& domain, const PrefixChain& chain, std::string_view about) {
  std::string signed_bytes = "kvasir selection";
  signed_bytes.append(chain.keys().back().view()).append(about);
  BlockKey context;
  HmacSha256(domain.bytes, signed_bytes, context.bytes);
  return ToHex(context);
}

/// One PushSelected. Shared by its select job and its pushes.
struct SelectedPushes::Chain {
  PushSelectedRequest request;
  SelectInputs none;  // where nothing was brought
  PushOrder order;    // of each block, but for its number
  std::shared_ptr<ChainSelection> selection = std::make_shared<ChainSelection>();
  std::vector<float> scores;  // of a rank: those of its heads, then those of all
  std::function<void(PushResult)> done;
  uint32_t left = 0;  // blocks not pushed yet
  PushResult result;

  /// Whether the cache holds some heads only.
  bool OfRank(const KvLayout& layout) const { return request.cache->heads < layout.kv_heads; }
  void Refuse(absl::Status why) {
    result.status = std::move(why);
    done(std::move(result));
  }
  void Pushed(uint32_t block, const PushResult& pushed) {
    if (!pushed.status.ok() && result.status.ok()) {
      result.status = absl::Status(pushed.status.code(), absl::StrCat("block ", block, ": ", pushed.status.message()));
    }
    result.replicas = std::min(result.replicas, pushed.replicas);
    result.existed += pushed.existed;
    result.raw_bytes += pushed.raw_bytes;
    result.stored_bytes += pushed.stored_bytes;
    if (--left == 0) done(std::move(result));
  }
};

/// Fills the order as far as it is the same for all blocks, and checks it with the last of them.
absl::Status SelectedPushes::Check(Chain& chain) const {
  const PushSelectedRequest& request = chain.request;
  const SessionOptions& options = desk_.options;
  if (request.chain == nullptr || request.chain->size() == 0) return absl::InvalidArgumentError("push: chain is null or empty");
  if (request.cache == nullptr) return absl::InvalidArgumentError("push: cache is null");
  const PagedCache& cache = *request.cache;
  const KvLayout& layout = options.ns.layout;
  if (cache.first_layer != 0 || cache.layers.size() != layout.layers) {
    return absl::InvalidArgumentError(absl::StrCat("push: the cache holds ", cache.layers.size(),
                                                   " layers; a choice of tokens needs all ", layout.layers,
                                                   " layers of the model in one cache"));
  }
  PushOrder& order = chain.order;
  order.request.chain = request.chain;
  order.request.block = static_cast<uint32_t>(request.chain->size()) - 1;
  order.request.cache = request.cache;
  order.request.pages = request.pages;
  order.request.stream = request.stream;
  order.request.view = request.view;
  order.request.inputs = request.inputs == nullptr ? &chain.none : request.inputs;
  order.selection_context = SelectionContextOf(options.domain, *request.chain, request.about);
  if (absl::Status status = CheckPush(order, desk_); !status.ok()) return status;
  if (!chain.OfRank(layout)) return absl::OkStatus();
  const Result<bool> fit = CheckRanks(*order.view->codec->selection());
  return fit.ok() ? absl::OkStatus() : ToStatus(fit.error());
}

SelectJob SelectedPushes::JobOf(const std::shared_ptr<Chain>& chain) const {
  SelectJob job;
  job.codec = chain->order.view->codec;
  job.cache = chain->request.cache;
  job.pages = chain->request.pages;
  job.tokens = static_cast<uint32_t>(chain->request.chain->size()) * desk_.options.ns.block_tokens;
  job.inputs = chain->order.request.inputs;
  return job;
}

void SelectedPushes::Start(PushSelectedRequest request, std::shared_ptr<DeviceEvent> after,
                           std::function<void(PushResult)> done) {
  auto chain = std::make_shared<Chain>();
  chain->request = std::move(request);
  chain->order.after = std::move(after);
  chain->done = std::move(done);
  if (absl::Status status = Check(*chain); !status.ok()) {
    desk_.Count(Counter::kPushFailures);
    return chain->Refuse(std::move(status));
  }
  if (!chain->OfRank(desk_.options.ns.layout)) return Choose(chain);
  SelectJob job = JobOf(chain);
  job.scored = &chain->scores;
  desk_.bench.Submit(std::move(job), chain->request.stream, chain->order.after,
                     [this, chain](absl::Status status) { Scored(chain, std::move(status)); });
}

void SelectedPushes::Scored(const std::shared_ptr<Chain>& chain, absl::Status status) {
  if (closed_ || !status.ok()) return Chosen(chain, std::move(status));
  ScoreExchange::Order order;
  order.chain = chain->request.chain;
  order.spec = chain->order.view->view.spec;
  order.about = chain->request.about;
  order.first_head = chain->request.cache->first_head;
  order.heads = chain->request.cache->heads;
  order.own = std::move(chain->scores);
  order.done = [this, chain](absl::StatusOr<std::vector<float>> scores) {
    if (!scores.ok()) return Chosen(chain, scores.status());
    chain->scores = *std::move(scores);
    Choose(chain);
  };
  exchange_.Start(std::move(order));
}

void SelectedPushes::Choose(const std::shared_ptr<Chain>& chain) {
  SelectJob job = JobOf(chain);
  job.scores = chain->scores;
  job.result = chain->selection.get();
  desk_.bench.Submit(std::move(job), chain->request.stream, chain->order.after,
                     [this, chain](absl::Status status) { Chosen(chain, std::move(status)); });
}

void SelectedPushes::Chosen(const std::shared_ptr<Chain>& chain, absl::Status status) {
  if (closed_) return chain->Refuse(absl::AbortedError("the session was closed"));
  if (!status.ok()) {
    desk_.Count(Counter::kPushFailures);
    return chain->Refuse(std::move(status));
  }
  chain->left = static_cast<uint32_t>(chain->request.chain->size());
  chain->result.replicas = kReplicasMax;
  chain->order.selection = chain->selection;
  chain->order.deadline = desk_.loop.Now() + desk_.options.push_deadline;
  const uint32_t blocks = chain->left;
  for (uint32_t block = 0; block < blocks; ++block) {
    PushOrder order = chain->order;
    order.request.block = block;
    order.done = [chain, block](const PushResult& pushed) { chain->Pushed(block, pushed); };
    engine_.Start(std::move(order));
  }
}

}  // namespace kvasir::client
