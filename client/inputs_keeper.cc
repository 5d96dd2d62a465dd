// SPDX-License-Identifier: Apache-2.0
// Objects of one chain's inputs: put piece by piece, manifest last; got and deleted manifest first.
#include "client/inputs_keeper.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/api/tlv.h"

namespace kvasir::client {
namespace {

struct Manifest {
  std::string sha256;  // 32 bytes
  uint64_t bytes = 0;

  static Manifest Of(std::string_view bytes) {
    BlockKey digest;
    Sha256(bytes, digest.bytes);
    return {std::string(digest.view()), bytes.size()};
  }
  std::string Encode() const {
    TlvWriter out;
    out.Bytes(1, sha256);
    out.Value(2, bytes);
    return out.Take();
  }
  static absl::StatusOr<Manifest> Decode(std::string_view encoded) {
    TlvReader in("manifest of kept inputs", encoded);
    Manifest manifest{std::string(in.Bytes(1, "sha256")), in.Value<uint64_t>(2, "bytes")};
    in.End();
    if (manifest.sha256.size() != 32) in.Fail("sha256", "must have 32 bytes");
    if (manifest.bytes > kKeptInputsBytesMax) in.Fail("bytes", "above kKeptInputsBytesMax");
    if (!in.status().ok()) return absl::DataLossError(in.status().message());
    return manifest;
  }
  uint64_t pieces() const { return (bytes + kObjectBytesMax - 1) / kObjectBytesMax; }
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

}  // namespace

/// One Keep or Load. Shared by its calls; `finished_` once it has answered.
class InputsKeeper::Transfer : public std::enable_shared_from_this<Transfer> {
 public:
  Transfer(Desk& desk, std::string context, std::vector<Owner> owners, Instant deadline)
      : desk_(desk), context_(std::move(context)), owners_(std::move(owners)), deadline_(deadline) {}
  virtual ~Transfer() = default;
  std::function<void()> gone;

  /// Goes on with the next owner; none left ends it.
  void NextOwner() {
    if (finished_) return;
    if (next_ == owners_.size() || desk_.loop.Now() >= deadline_) return Exhausted();
    link_ = owners_[next_++].link;
    again_ = false;
    Greet();
  }
  void End(const absl::Status& why) {
    if (std::exchange(finished_, true)) return;
    if (gone) gone();
    Answer(why);
  }

 protected:
  virtual void Manifested(const absl::StatusOr<Manifest>& manifest) = 0;  // of this owner
  virtual void Exhausted() = 0;
  virtual void Answer(const absl::Status& status) = 0;

  void AskManifest() {
    Object({.name = ManifestName(), .value = ""}, [this](absl::StatusOr<ObjectReply> reply) {
      if (!reply.ok()) return Manifested(reply.status());
      // Empty: deleted, at a node that does not know yet how.
      if (reply->value.empty()) return Manifested(absl::NotFoundError("kept inputs: deleted"));
      Manifested(Manifest::Decode(reply->value));
    });
  }
  /// Calls `done` with the answer, unless this has ended meanwhile.
  void Object(ObjectRequest request, std::function<void(absl::StatusOr<ObjectReply>)> done) {
    const Instant until = std::min(deadline_, desk_.loop.Now() + desk_.options.call_deadline);
    link_->Object(std::move(request), until, [self = shared_from_this(), done = std::move(done)](absl::StatusOr<ObjectReply> reply) {
      if (!self->finished_) done(std::move(reply));
    });
  }
  /// This owner is no use. A stale session was renewed by the link: the same owner is asked once more.
  void Failed(const absl::Status& why) {
    if (absl::IsAborted(why) && !std::exchange(again_, true)) return Greet();
    if (worst_.ok() || absl::IsNotFound(worst_)) worst_ = why;
    NextOwner();
  }
  std::string ManifestName() const { return absl::StrCat("inputs/", context_); }
  std::string PieceName(const Manifest& manifest, uint64_t i) const {
    return absl::StrCat("inputs/", context_, "/", ToHex(std::string_view(manifest.sha256)), "/", i);
  }
  Desk& desk() { return desk_; }
  bool asked_all() const { return next_ == owners_.size(); }
  const absl::Status& worst() const { return worst_; }

 private:
  void Greet() {
    link_->Greet([self = shared_from_this()](const absl::Status& status) {
      if (self->finished_) return;
      status.ok() ? self->AskManifest() : self->Failed(status);
    });
  }

  Desk& desk_;
  const std::string context_;
  const std::vector<Owner> owners_;
  const Instant deadline_;
  size_t next_ = 0;
  NodeLink* link_ = nullptr;
  bool again_ = false;
  bool finished_ = false;
  absl::Status worst_;  // what went wrong, if anything did beside absence
};

namespace {

/// What `bytes` say about themselves, and where a piece of them lies.
std::string_view PieceOf(std::string_view bytes, uint64_t i) { return bytes.substr(i * kObjectBytesMax, kObjectBytesMax); }

}  // namespace

void InputsKeeper::Keep(const BlockKey& run, std::string context, std::string bytes, Kept done) {
  class KeepTransfer final : public Transfer {
   public:
    KeepTransfer(Desk& desk, std::string context, std::vector<Owner> owners, Instant deadline, std::string bytes, Kept done)
        : Transfer(desk, std::move(context), std::move(owners), deadline),
          bytes_(std::move(bytes)),
          manifest_(Manifest::Of(bytes_)),
          done_(std::move(done)) {}

   private:
    void Manifested(const absl::StatusOr<Manifest>& there) override {
      if (absl::IsNotFound(there.status())) return lost_race_ ? Failed(there.status()) : Put(0);
      if (!there.ok()) return Failed(there.status());
      if (*there != manifest_) return End(absl::AlreadyExistsError("other inputs are kept of this chain under this name"));
      OwnerHasIt();
    }
    /// Pieces, then the manifest. Aborted: the piece is there, or the session is stale; the manifest will show.
    void Put(uint64_t i) {
      const bool last = i == manifest_.pieces();
      ObjectRequest request{.name = last ? ManifestName() : PieceName(manifest_, i), .put = true,
                            .value = last ? manifest_.Encode() : std::string(PieceOf(bytes_, i))};
      Object(std::move(request), [this, i, last](const absl::StatusOr<ObjectReply>& reply) {
        if (!reply.ok() && !absl::IsAborted(reply.status())) return Failed(reply.status());
        if (!last) return Put(i + 1);
        if (reply.ok()) return OwnerHasIt();
        lost_race_ = true;
        AskManifest();
      });
    }
    void OwnerHasIt() {
      lost_race_ = false;
      if (++kept_ >= desk().options.replicas) return End(absl::OkStatus());
      NextOwner();
    }
    void Exhausted() override {
      if (!worst().ok()) return End(worst());
      End(absl::UnavailableError(absl::StrCat("inputs: kept by ", kept_, " of ", desk().options.replicas, " nodes")));
    }
    void Answer(const absl::Status& status) override { done_(status); }

    const std::string bytes_;
    const Manifest manifest_;
    const Kept done_;
    uint32_t kept_ = 0;
    bool lost_race_ = false;
  };
  Start(std::make_shared<KeepTransfer>(desk_, std::move(context), router_.Writers(run),
                                       desk_.loop.Now() + desk_.options.push_deadline, std::move(bytes), std::move(done)));
}

void InputsKeeper::Load(const BlockKey& run, std::string context, Loaded done) {
  class LoadTransfer final : public Transfer {
   public:
    LoadTransfer(Desk& desk, std::string context, std::vector<Owner> owners, Instant deadline, Loaded done)
        : Transfer(desk, std::move(context), std::move(owners), deadline), done_(std::move(done)) {}

   private:
    void Manifested(const absl::StatusOr<Manifest>& there) override {
      if (!there.ok()) return Failed(there.status());
      manifest_ = *there;
      bytes_.clear();
      Get(0);
    }
    void Get(uint64_t i) {
      if (i == manifest_.pieces()) return Whole();
      Object({.name = PieceName(manifest_, i), .value = ""}, [this, i](const absl::StatusOr<ObjectReply>& reply) {
        if (!reply.ok()) return Failed(reply.status());
        if (reply->value.size() != std::min<uint64_t>(kObjectBytesMax, manifest_.bytes - bytes_.size())) {
          return Failed(absl::DataLossError("kept inputs: a piece of another length"));
        }
        bytes_ += reply->value;
        Get(i + 1);
      });
    }
    void Whole() {
      if (Manifest::Of(bytes_) != manifest_) return Failed(absl::DataLossError("kept inputs: the digest is another"));
      auto kept = KeptInputs::Decode(bytes_);
      if (!kept.ok()) return Failed(absl::DataLossError(kept.status().message()));
      kept_ = *std::move(kept);
      End(absl::OkStatus());
    }
    void Exhausted() override { End(worst().ok() ? absl::DeadlineExceededError("kept inputs: no owner answered") : worst()); }
    void Answer(const absl::Status& status) override {
      if (!status.ok()) return done_(status);
      done_(std::move(kept_));
    }

    const Loaded done_;
    Manifest manifest_;
    std::string bytes_;
    std::shared_ptr<const KeptInputs> kept_;
  };
  Start(std::make_shared<LoadTransfer>(desk_, std::move(context), router_.Readers(run),
                                       desk_.loop.Now() + desk_.options.fetch_deadline, std::move(done)));
}

void InputsKeeper::Drop(const BlockKey& run, std::string context, Kept done) {
  class DropTransfer final : public Transfer {
   public:
    DropTransfer(Desk& desk, std::string context, std::vector<Owner> owners, Instant deadline, Kept done)
        : Transfer(desk, std::move(context), std::move(owners), deadline), done_(std::move(done)) {}

   private:
    void Manifested(const absl::StatusOr<Manifest>& there) override {
      // One that cannot be read goes too; which pieces it had nobody knows.
      if (!there.ok() && !absl::IsDataLoss(there.status())) return Failed(there.status());
      manifest_ = there.ok() ? *there : Manifest();
      Delete(ManifestName(), 0);
    }
    void Delete(std::string name, uint64_t next_piece) {
      ObjectRequest request{.name = std::move(name), .put = true, .version = kObjectAnyVersion, .value = ""};
      Object(std::move(request), [this, next_piece](const absl::StatusOr<ObjectReply>& reply) {
        if (!reply.ok()) return Failed(reply.status());
        if (next_piece < manifest_.pieces()) return Delete(PieceName(manifest_, next_piece), next_piece + 1);
        ++dropped_;
        NextOwner();
      });
    }
    void Exhausted() override {
      if (!worst().ok() && !absl::IsNotFound(worst())) return End(worst());
      if (!asked_all()) return End(absl::DeadlineExceededError("inputs: not every owner was asked to delete them"));
      End(dropped_ > 0 ? absl::OkStatus() : absl::NotFoundError("inputs: none are kept of this chain under this name"));
    }
    void Answer(const absl::Status& status) override { done_(status); }

    const Kept done_;
    Manifest manifest_;
    uint32_t dropped_ = 0;
  };
  Start(std::make_shared<DropTransfer>(desk_, std::move(context), router_.Readers(run),
                                       desk_.loop.Now() + desk_.options.push_deadline, std::move(done)));
}

void InputsKeeper::Start(std::shared_ptr<Transfer> transfer) {
  const uint64_t id = next_++;
  transfer->gone = [this, id] { transfers_.erase(id); };
  transfers_.emplace(id, transfer);
  transfer->NextOwner();
}

void InputsKeeper::Abort() {
  const auto transfers = transfers_;
  for (const auto& [id, transfer] : transfers) transfer->End(absl::AbortedError("the session was closed"));
}

}  // namespace kvasir::client
