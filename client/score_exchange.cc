// SPDX-License-Identifier: Apache-2.0
// Keeping own heads, then gathering those of all.
#include "client/score_exchange.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kvasir::client {
namespace {

std::string ContextOf(const DomainKey& domain, const PrefixChain& chain, uint32_t head, std::string_view spec,
                      std::string_view about) {
  std::string bytes = "kvasir head scores";
  bytes.append(chain.keys().back().view());
  for (uint32_t shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(head >> shift));
  bytes.append(spec).append(1, '\0').append(about);
  BlockKey context;
  HmacSha256(domain.bytes, bytes, context.bytes);
  return ToHex(context);
}

}  // namespace

/// One exchange. Shared by its calls and its timer.
class ScoreExchange::Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(ScoreExchange& owner, uint64_t id, Order order)
      : owner_(owner), id_(id), order_(std::move(order)), deadline_(Now() + owner.desk_.options.push_deadline) {
    table_.resize(layout().layers * uint64_t{layout().kv_heads} * tokens());
    here_.resize(layout().kv_heads);
  }

  void KeepOwn(uint32_t at) {
    if (at == order_.heads) return Gather(0);
    const uint32_t head = order_.first_head + at;
    std::vector<float> scores;
    for (uint64_t layer = 0; layer < layout().layers; ++layer) {
      const auto from = order_.own.begin() + static_cast<ptrdiff_t>((layer * order_.heads + at) * tokens());
      scores.insert(scores.end(), from, from + static_cast<ptrdiff_t>(tokens()));
    }
    SelectInputs inputs;
    inputs.external_scores = scores;
    std::string bytes = KeptInputs::Encode(inputs);
    if (bytes.size() > kKeptInputsBytesMax) {
      return End(absl::InvalidArgumentError(absl::StrCat("scores of a head: ", bytes.size(), " bytes, kKeptInputsBytesMax is ",
                                                         kKeptInputsBytesMax, ": choose over a shorter chain")));
    }
    owner_.keeper_.Keep((*order_.chain)[0], Context(head), std::move(bytes),
                        [self = shared_from_this(), at, head, scores = std::move(scores)](const absl::Status& status) {
                          if (self->finished_) return;
                          if (status.ok()) self->Put(head, scores);
                          // Others of this head are kept: those count, and are gathered.
                          if (!status.ok() && !absl::IsAlreadyExists(status)) return self->End(status);
                          self->KeepOwn(at + 1);
                        });
  }

  void End(absl::StatusOr<std::vector<float>> result) {
    if (std::exchange(finished_, true)) return;
    const auto self = shared_from_this();
    owner_.exchanges_.erase(id_);
    order_.done(std::move(result));
  }

 private:
  const KvLayout& layout() const { return owner_.desk_.options.ns.layout; }
  uint64_t tokens() const { return order_.chain->size() * owner_.desk_.options.ns.block_tokens; }
  Instant Now() const { return owner_.desk_.loop.Now(); }
  std::string Context(uint32_t head) const {
    return ContextOf(owner_.desk_.options.domain, *order_.chain, head, order_.spec, order_.about);
  }

  void Put(uint32_t head, std::span<const float> scores) {
    for (uint64_t layer = 0; layer < layout().layers; ++layer) {
      const auto from = scores.begin() + static_cast<ptrdiff_t>(layer * tokens());
      const uint64_t to = (layer * layout().kv_heads + head) * tokens();
      std::copy(from, from + static_cast<ptrdiff_t>(tokens()), table_.begin() + static_cast<ptrdiff_t>(to));
    }
    here_[head] = true;
  }

  /// Asks for the heads from `head` on that are not here; at the end of a round, for those that did not come once more, later.
  void Gather(uint32_t head) {
    while (head < layout().kv_heads && here_[head]) ++head;
    if (head == layout().kv_heads) return RoundEnded();
    owner_.keeper_.Load((*order_.chain)[0], Context(head),
                        [self = shared_from_this(), head](const absl::StatusOr<std::shared_ptr<const KeptInputs>>& kept) {
                          if (self->finished_) return;
                          self->Loaded(head, kept);
                          self->Gather(head + 1);
                        });
  }
  void Loaded(uint32_t head, const absl::StatusOr<std::shared_ptr<const KeptInputs>>& kept) {
    if (!kept.ok()) {
      why_ = kept.status();
    } else if (const std::span<const float> scores = (*kept)->inputs().external_scores;
               scores.size() != layout().layers * tokens()) {
      why_ = absl::DataLossError("scores of another length");
    } else {
      Put(head, scores);
    }
  }
  void RoundEnded() {
    std::vector<uint32_t> missing;
    for (uint32_t head = 0; head < layout().kv_heads; ++head) {
      if (!here_[head]) missing.push_back(head);
    }
    if (missing.empty()) return End(std::move(table_));
    const Instant again = Now() + owner_.desk_.options.retry_pause;
    if (again < deadline_) {
      owner_.desk_.loop.At(again, [self = shared_from_this()] {
        if (!self->finished_) self->Gather(0);
      });
      return;
    }
    End(absl::DeadlineExceededError(absl::StrCat("scores of heads ", absl::StrJoin(missing, ", "),
                                                 " did not come within push_deadline; the rank that holds them must call "
                                                 "PushSelected too (",
                                                 why_.message(), ")")));
  }

  ScoreExchange& owner_;
  const uint64_t id_;
  Order order_;
  const Instant deadline_;
  std::vector<float> table_;
  std::vector<bool> here_;  // heads whose scores are in the table
  absl::Status why_;        // the last head that did not come
  bool finished_ = false;
};

void ScoreExchange::Start(Order order) {
  const uint64_t id = next_++;
  auto exchange = std::make_shared<Exchange>(*this, id, std::move(order));
  exchanges_.emplace(id, exchange);
  exchange->KeepOwn(0);
}

void ScoreExchange::Drop(const PrefixChain& chain, const std::string& spec, const std::string& about,
                         std::function<void(absl::Status)> done) {
  struct Dropping {
    std::function<void(absl::Status)> done;
    uint32_t left;
    absl::Status worst = absl::NotFoundError("no scores of this chain are kept");
    void Dropped(const absl::Status& status) {
      if (absl::IsNotFound(worst) || (worst.ok() && !absl::IsNotFound(status))) worst = status;
      if (--left == 0) done(worst);
    }
  };
  const uint32_t heads = desk_.options.ns.layout.kv_heads;
  auto dropping = std::make_shared<Dropping>(Dropping{std::move(done), heads});
  for (uint32_t head = 0; head < heads; ++head) {
    keeper_.Drop(chain[0], ContextOf(desk_.options.domain, chain, head, spec, about),
                 [dropping](const absl::Status& status) { dropping->Dropped(status); });
  }
}

void ScoreExchange::Abort() {
  const auto exchanges = exchanges_;
  for (const auto& [id, exchange] : exchanges) exchange->End(absl::AbortedError("the session was closed"));
}

}  // namespace kvasir::client
