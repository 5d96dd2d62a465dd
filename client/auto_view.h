// SPDX-License-Identifier: Apache-2.0
// The view "auto": which lossless view blocks of a namespace are pushed in, chosen by trying.
//
// All writers of a namespace must push alike, or a block's parts would lie in several views and none be whole (the
// ranks of a tensor-parallel job push a share each). So the choice is made once for a cluster and kept as an object of
// the namespace: the first Session measures, those that follow read. To choose anew, remove the object (its name is in
// the log) or push with a view that is named.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/desk.h"
#include "client/router.h"
#include "client/session.h"

namespace kvasir::client {

inline constexpr char kAutoView[] = "auto";
inline constexpr uint64_t kTrialBytes = 8ull << 20;  ///< about, of elements that are pushed and fetched in each view
inline constexpr uint32_t kTrialRounds = 3;          ///< the best counts
inline constexpr double kAlike = 1.05;               ///< times that differ by less are alike

/// What one view was seen to take, of the whole way: encoding, the link, the tier of the ack asked, and back into
/// pages.
struct ViewTrial {
  std::string view;
  double push_s = 0, fetch_s = 0;
  uint64_t raw_bytes = 0, stored_bytes = 0;
};

/// The views that hold every bit of such elements.
std::vector<std::string> AutoCandidates(const Namespace& ns);

/// The fastest to fetch; of those alike the one with the fewest bytes, so that more fits everywhere. REQUIRES: not
/// empty.
const ViewTrial& ChooseView(std::span<const ViewTrial> trials);

/// Pushes and fetches made-up blocks of random keys, and releases them. Blocks; any thread but the Session's.
/// Fails when a push or fetch does, with its status: then nothing was learnt.
absl::StatusOr<std::vector<ViewTrial>> TryViews(Session& session, const SessionOptions& options);

/// What is kept: text for people and programs, first line the view. InvalidArgument where it is not one of ours.
std::string FormatChoice(const ViewTrial& chosen, std::span<const ViewTrial> trials);
absl::StatusOr<std::string> ParseChoice(std::string_view kept, const Namespace& ns);

/// The choice kept for this namespace and grid, at the first of its owners that answers. NotFound: there is none.
/// The Loop only; `done` once.
void LoadChoice(Desk& desk, Router& router, std::function<void(absl::StatusOr<std::string>)> done);
/// Keeps it there. Aborted: another was first.
void KeepChoice(Desk& desk, Router& router, std::string choice, std::function<void(absl::Status)> done);

}  // namespace kvasir::client
