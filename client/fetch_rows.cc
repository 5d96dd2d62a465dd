// SPDX-License-Identifier: Apache-2.0
// A fetch into head extents: rows of parts, then all to their places.
#include <utility>

#include "client/fetch.h"

namespace kvasir::client {

void Fetch::UnpackRows(const Turn& turn) {
  auto rows = std::make_shared<PartRows>();
  UnpackRowsJob job;
  job.layout = desk_.options.ns.layout;
  job.rows = rows.get();
  Unpack(std::move(job), turn, std::move(rows));
}

/// Every block found is unpacked: nothing of them can fail any more.
void Fetch::PlaceRows() {
  placing_ = true;
  PlaceRowsJob job;
  job.extents = order_.request.extents;
  for (uint32_t i = 0; i < found_; ++i) {
    job.parts.insert(job.parts.end(), blocks_[i].rows.begin(), blocks_[i].rows.end());
    blocks_[i].rows.clear();
  }
  ++jobs_;
  desk_.bench.Submit(std::move(job), order_.request.stream, order_.after,
                     [self = shared_from_this()](absl::Status status) {
                       --self->jobs_;
                       self->RowsPlaced(std::move(status));
                     });
}

void Fetch::RowsPlaced(absl::Status status) {
  if (!status.ok()) {
    gap_why_ = std::move(status);
    found_ = 0;
  }
  for (uint32_t block = 0; block < found_; ++block) {
    for (uint32_t i = 0; i < order_.slice.layers; ++i) order_.gate->Raise(order_.slice.first_layer + i, block);
  }
  Finish();
}

}  // namespace kvasir::client
