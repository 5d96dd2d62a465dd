// SPDX-License-Identifier: Apache-2.0
// Opening an SSD tier: directory, disk, index, recovery, threads, in this order; each names its trouble.
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/tiers/ssd_recovery.h"
#include "store/tiers/ssd_tier_impl.h"

namespace kvasir {

absl::StatusOr<std::unique_ptr<SsdTier>> SsdTier::Open(const SsdOptions& options, Recovered* recovered) {
  std::string why;
  std::unique_ptr<DiskIo> disk = MakeUringDisk(ReaderCount(options) + 1, &why);  // and the writer
  if (disk == nullptr) disk = MakePwriteDisk(why);
  if (options.wrap_disk) disk = options.wrap_disk(std::move(disk));
  return OpenWithDisk(options, std::move(disk), recovered);
}

absl::StatusOr<std::unique_ptr<SsdTier>> OpenWithDisk(const SsdOptions& options, std::unique_ptr<DiskIo> disk,
                                                      SsdTier::Recovered* recovered) {
  absl::StatusOr<SegmentLimits> limits = SegmentLimits::From(options);
  if (!limits.ok()) return limits.status();
  absl::StatusOr<SsdDirectory> directory = SsdDirectory::Open(options.directory, SsdDirectory::Access::kWrite);
  if (!directory.ok()) return directory.status();

  SsdTierImpl::House house;
  house.limits = *limits;
  house.directory = std::make_unique<SsdDirectory>(*std::move(directory));
  house.disk = std::make_unique<CountingDisk>(std::move(disk));
  house.health = std::make_unique<SsdHealth>();
  house.direct = DirectWorks(house.directory->segments());
  const SegmentAccess access = house.direct ? SegmentAccess::kDirect : SegmentAccess::kBuffered;
  house.segments = std::make_unique<SegmentTable>(SegmentTable::Context{
      house.directory->segments(), *limits, access, options.sync, house.disk.get(), house.health.get()});

  SsdIndex::Contents contents;
  absl::StatusOr<std::unique_ptr<SsdIndex>> index =
      SsdIndex::Open(house.directory->index(), SsdIndex::Access::kWrite, &contents);
  if (!index.ok()) return index.status();
  house.index = *std::move(index);
  absl::StatusOr<RecoveredIndex> found = RecoverSegments(
      {house.directory->segments(), *limits, access, house.disk.get(), house.health.get(), house.index.get()}, contents,
      *house.segments);
  if (!found.ok()) return found.status();

  house.writer = std::make_unique<SsdWriter>(SsdWriter::Context{
      *limits, options.sync, house.disk.get(), house.health.get(), house.index.get(), house.segments.get()});
  for (const IndexedPart& part : found->kept) house.writer->Adopt(part);
  house.writer->Resume();
  if (recovered != nullptr) {
    *recovered = {};
    for (const IndexedPart& part : found->kept) recovered->parts.push_back({part.meta, part.location});
    recovered->values = std::move(contents.values);
    recovered->dropped = found->dropped;
    recovered->generation_max = found->generation_max;
    recovered->note = std::move(contents.note);
  }
  return std::make_unique<SsdTierImpl>(options, std::move(house));
}

}  // namespace kvasir
