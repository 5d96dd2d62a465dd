// SPDX-License-Identifier: Apache-2.0
#include "store/names.h"

#include <atomic>
#include <memory>
#include <utility>

namespace kvasir {

namespace {
constexpr char kViewPrefix[] = "view/";
constexpr char kBoundPrefix[] = "name/";  // name/<domain, hexadecimal>/<name> -> encoded namespace
}  // namespace

void Names::Recover(const std::vector<NamedValue>& values) {
  MutexLock lock(mutex_);
  for (const NamedValue& value : values) {
    kept_.insert(value.name);
    if (value.name.starts_with(kViewPrefix)) {
      if (auto view = View::Decode(value.value); view.ok()) views_[view->Digest()] = *std::move(view);
    } else if (value.name.starts_with(kBoundPrefix)) {
      auto ns = Namespace::Decode(value.value);
      if (!ns.ok()) continue;
      namespaces_[ns->Digest()] = *ns;
      bound_[value.name.substr(sizeof kBoundPrefix - 1)] = *std::move(ns);
    }
  }
}

const View* Names::FindView(const ViewDigest& digest) const {
  MutexLock lock(mutex_);
  const auto at = views_.find(digest);
  return at == views_.end() ? nullptr : &at->second;
}

const Namespace* Names::FindNamespace(const NamespaceDigest& digest) const {
  MutexLock lock(mutex_);
  const auto at = namespaces_.find(digest);
  return at == namespaces_.end() ? nullptr : &at->second;
}

void Names::Bind(const DomainId& domain, const Namespace& ns, absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) {
  const std::string name = ToHex(domain) + "/" + ns.name;
  std::string warning, difference;
  bool full = false;
  {
    MutexLock lock(mutex_);
    if (const auto at = bound_.find(name); at != bound_.end()) {
      difference = Namespace::FirstDifference(at->second, ns);
    } else if (bound_.size() >= namespaces_max_) {
      full = true;
    } else {
      for (const auto& [other, known] : bound_) {
        if (!other.starts_with(ToHex(domain)) || !(known.weights == ns.weights) || known.Digest() == ns.Digest()) continue;
        warning = "a namespace of the same weights, '" + known.name + "', differs: " + Namespace::FirstDifference(known, ns) +
                  "; nothing stored under it will be found";
      }
      namespaces_[ns.Digest()] = ns;
      bound_[name] = ns;
    }
  }
  if (full) return done(absl::ResourceExhaustedError("too many namespaces on this node"));
  if (!difference.empty()) {
    absl::Status refused = absl::FailedPreconditionError("namespace '" + ns.name + "' is stored with another meaning: " + difference +
                                                         ". Use the same model and settings, or another namespace name");
    refused.SetPayload(kFieldPayload, absl::Cord(difference.substr(0, difference.find(':'))));
    return done(std::move(refused));
  }
  Save({{kBoundPrefix + name, ns.Encode()}}, [done = std::move(done), warning]() mutable { done(warning); });
}

void Names::Keep(const std::vector<View>& views, absl::AnyInvocable<void(absl::Status)> done) {
  Values values;
  bool full = false;
  {
    MutexLock lock(mutex_);
    for (const View& view : views) {
      const ViewDigest digest = view.Digest();
      full |= !views_.contains(digest) && views_.size() >= kViewsMax;
      if (full) break;
      views_[digest] = view;
      values.push_back({kViewPrefix + ToHex(digest), view.Encode()});
    }
  }
  if (full) return done(absl::ResourceExhaustedError("too many views on this node"));
  Save(std::move(values), [done = std::move(done)]() mutable { done(absl::OkStatus()); });
}

void Names::Save(Values values, absl::AnyInvocable<void()> done) {
  {
    MutexLock lock(mutex_);
    std::erase_if(values, [this](const NamedValue& v) ABSL_NO_THREAD_SAFETY_ANALYSIS { return kept_.contains(v.name); });
    if (ssd_ == nullptr) {
      for (const NamedValue& v : values) kept_.insert(v.name);
      values.clear();
    }
  }
  if (values.empty()) return done();
  struct Pending {
    std::atomic<size_t> open;
    absl::AnyInvocable<void()> done;
  };
  auto pending = std::make_shared<Pending>();
  pending->open = values.size();
  pending->done = std::move(done);
  for (NamedValue& value : values) {
    const std::string name = value.name;
    ssd_->PutValue(std::move(value), [this, pending, name](absl::Status status) {
      if (status.ok()) {
        MutexLock lock(mutex_);
        kept_.insert(name);
      }
      if (pending->open.fetch_sub(1) == 1) pending->done();
    });
  }
}

}  // namespace kvasir
