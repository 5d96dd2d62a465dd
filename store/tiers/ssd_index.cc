// SPDX-License-Identifier: Apache-2.0
// RocksDB behind SsdIndex; the only file that sees its headers.
//
//   'p' key(32) view(32) layer_group(2, big endian) head_group(2, big endian) [plane(2, big endian)] -> PartRecord
//   'v' name                                                                                         -> value
// Plane 0 is not written: what was stored before there were planes is plane 0.
#include "store/tiers/ssd_index.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "store/api/store_api.h"

namespace kvasir {
namespace {

constexpr char kPartPrefix = 'p';
constexpr char kValuePrefix = 'v';
constexpr size_t kPartKeyBytes = 1 + 32 + 32 + 2 + 2;
constexpr size_t kPlaneKeyBytes = kPartKeyBytes + 2;
constexpr uint32_t kPartRecordVersion = 2;
constexpr size_t kMemtableBytes = 8u << 20;
constexpr int kOpenFilesMax = 256;
constexpr uint64_t kReopenBytes = 4 * kMemtableBytes;  ///< free on a disk that was full, before the index is opened anew

/// As stored. Little endian; RocksDB's block checksums guard it.
struct PartRecord {
  uint32_t version = kPartRecordVersion;
  uint32_t durable = 0;  ///< 0 or 1
  uint8_t parent[32] = {};
  uint8_t domain[32] = {};
  uint8_t namespace_digest[32] = {};
  uint32_t shard = 0;
  uint32_t block_index = 0;
  uint32_t token_count = 0;
  uint32_t frames_offset = 0;
  uint64_t bytes = 0;
  uint64_t generation = 0;
  uint32_t segment = 0;
  uint32_t incarnation = 0;
  uint64_t offset = 0;
  // Since version 2.
  uint8_t run[32] = {};
  uint32_t replicas = 1;
  uint32_t unused = 0;
};
static_assert(sizeof(PartRecord) == 192 && alignof(PartRecord) == 8);
constexpr size_t kPartRecordBytesV1 = 152;  ///< its first fields

std::string PartKey(const PartId& id) {
  std::string key(1, kPartPrefix);
  key.reserve(kPlaneKeyBytes);
  key.append(id.key.view());
  key.append(id.view.view());
  const auto add = [&key](uint16_t number) {
    key.push_back(static_cast<char>(number >> 8));
    key.push_back(static_cast<char>(number & 0xff));
  };
  add(id.layer_group);
  add(id.head_group);
  if (id.plane != 0) add(id.plane);
  return key;
}

PartId ParsePartKey(const char* key, size_t bytes) {
  PartId id;
  std::memcpy(id.key.bytes.data(), key + 1, 32);
  std::memcpy(id.view.bytes.data(), key + 33, 32);
  const auto number = [key](size_t at) {
    return static_cast<uint16_t>(static_cast<uint8_t>(key[at]) << 8 | static_cast<uint8_t>(key[at + 1]));
  };
  id.layer_group = number(65);
  id.head_group = number(67);
  if (bytes == kPlaneKeyBytes) id.plane = number(kPartKeyBytes);
  return id;
}

PartRecord ToRecord(const IndexedPart& part) {
  PartRecord record;
  record.durable = part.durable ? 1 : 0;
  std::memcpy(record.parent, part.meta.parent.bytes.data(), 32);
  std::memcpy(record.domain, part.meta.domain.bytes.data(), 32);
  std::memcpy(record.namespace_digest, part.meta.ns.bytes.data(), 32);
  record.shard = part.meta.shard;
  record.block_index = part.meta.block_index;
  record.token_count = part.meta.token_count;
  record.frames_offset = part.meta.frames_offset;
  record.bytes = part.meta.bytes;
  record.generation = part.meta.generation;
  record.segment = part.location.segment;
  record.incarnation = part.location.incarnation;
  record.offset = part.location.offset;
  std::memcpy(record.run, part.meta.run.bytes.data(), 32);
  record.replicas = part.meta.replicas;
  return record;
}

/// False when the entry is not of a shape this build knows.
bool FromEntry(const rocksdb::Slice& key, const rocksdb::Slice& value, IndexedPart* part) {
  PartRecord record;
  if (key.size() != kPartKeyBytes && key.size() != kPlaneKeyBytes) return false;
  if (value.size() != sizeof record && value.size() != kPartRecordBytesV1) return false;
  std::memcpy(static_cast<void*>(&record), value.data(), value.size());
  if (record.version != (value.size() == sizeof record ? kPartRecordVersion : 1) || record.durable > 1) return false;
  if (record.replicas == 0 || record.replicas > kReplicasMax) return false;
  part->meta.id = ParsePartKey(key.data(), key.size());
  if (key.size() == kPlaneKeyBytes && part->meta.id.plane == 0) return false;  // plane 0 has one spelling
  std::memcpy(part->meta.parent.bytes.data(), record.parent, 32);
  std::memcpy(part->meta.domain.bytes.data(), record.domain, 32);
  std::memcpy(part->meta.ns.bytes.data(), record.namespace_digest, 32);
  part->meta.shard = record.shard;
  part->meta.block_index = record.block_index;
  part->meta.token_count = record.token_count;
  part->meta.frames_offset = record.frames_offset;
  part->meta.bytes = record.bytes;
  part->meta.generation = record.generation;
  std::memcpy(part->meta.run.bytes.data(), record.run, 32);
  part->meta.replicas = record.replicas;
  part->location = SsdLocation{record.segment, record.incarnation, record.offset};
  part->durable = record.durable == 1;
  return true;
}

absl::Status ToStatus(const std::string& path, const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat("SSD index ", path, ": ", status.ToString());
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(message);
  return status.IsCorruption() ? absl::DataLossError(message) : absl::UnavailableError(message);
}

/// What only damage explains. A missing file is damage too: nobody but the index removes its files.
bool IsDamage(const rocksdb::Status& status) {
  return status.IsCorruption() || status.IsPathNotFound() || status.IsNotFound() || status.IsInvalidArgument();
}

rocksdb::Options IndexOptions() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  // A torn tail is what a power loss leaves.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.write_buffer_size = kMemtableBytes;
  options.max_write_buffer_number = 3;
  options.max_background_jobs = 2;
  options.max_open_files = kOpenFilesMax;
  options.compression = rocksdb::kNoCompression;  // digests do not compress
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  options.max_log_file_size = 1u << 20;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

class RocksIndex final : public SsdIndex {
 public:
  RocksIndex(std::string path, std::unique_ptr<rocksdb::DB> db) : path_(std::move(path)), db_(std::move(db)) {}
  ~RocksIndex() override {
    // Best effort: what was promised was synced already.
    if (state_ == State::kWell) db_->SyncWAL().PermitUncheckedError();
    if (db_ != nullptr) db_->Close().PermitUncheckedError();
  }

  absl::Status Write(const Batch& batch, bool sync) override {
    rocksdb::WriteBatch writes;
    rocksdb::Status status;
    const auto keep = [&status](rocksdb::Status step) {
      if (status.ok()) status = std::move(step);
    };
    for (const PartId& id : batch.erased) keep(writes.Delete(PartKey(id)));
    for (const std::string& key : batch.erased_keys) keep(writes.Delete(key));
    for (const IndexedPart& part : batch.put) {
      const PartRecord record = ToRecord(part);
      const rocksdb::Slice value(reinterpret_cast<const char*>(&record), sizeof record);
      keep(writes.Put(PartKey(part.meta.id), value));
    }
    for (const NamedValue& value : batch.values) {
      const std::string key = kValuePrefix + value.name;
      keep(value.deleted ? writes.Delete(key) : writes.Put(key, value.value));
    }
    rocksdb::WriteOptions options;
    options.sync = sync;
    if (state_ == State::kFull) return absl::ResourceExhaustedError(absl::StrCat("SSD index ", path_, ": no space"));
    if (state_ == State::kFailed) return absl::UnavailableError(absl::StrCat("SSD index ", path_, ": an earlier write failed"));
    if (status.ok()) status = db_->Write(options, &writes);
    if (!status.ok()) state_ = status.IsNoSpace() ? State::kFull : State::kFailed;
    return ToStatus(path_, status);
  }

  absl::Status TryAgain() override {
    if (state_ == State::kWell) return absl::OkStatus();
    if (state_ == State::kFailed) return absl::UnavailableError(absl::StrCat("SSD index ", path_, ": an earlier write failed"));
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(path_, error);
    if (error || space.available < kReopenBytes) return absl::ResourceExhaustedError(absl::StrCat("SSD index ", path_, ": no space"));
    // Opened anew, not resumed: a log that failed once must not be touched again. This RocksDB asserts that nobody does,
    // and Debian builds it with assertions.
    if (db_ != nullptr) db_->Close().PermitUncheckedError();
    db_.reset();
    rocksdb::DB* raw = nullptr;
    const rocksdb::Status opened = rocksdb::DB::Open(IndexOptions(), path_, &raw);
    if (opened.ok()) db_.reset(raw);
    state_ = opened.ok() ? State::kWell : opened.IsNoSpace() ? State::kFull : State::kFailed;
    return ToStatus(path_, opened);
  }

  rocksdb::Status ReadAll(Contents* contents) {
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    std::unique_ptr<rocksdb::Iterator> entry(db_->NewIterator(options));
    for (entry->SeekToFirst(); entry->Valid(); entry->Next()) {
      const rocksdb::Slice key = entry->key();
      IndexedPart part;
      if (!key.empty() && key[0] == kValuePrefix) {
        contents->values.push_back({std::string(key.data() + 1, key.size() - 1), entry->value().ToString(), false});
      } else if (FromEntry(key, entry->value(), &part)) {
        contents->parts.push_back(part);
      } else {
        contents->malformed.push_back(key.ToString());
      }
    }
    return entry->status();
  }

 private:
  std::string path_;
  std::unique_ptr<rocksdb::DB> db_;  ///< null between two tries on a full disk
  enum class State { kWell, kFull, kFailed };  ///< full: until TryAgain; failed: no write will follow
  State state_ = State::kWell;
};

rocksdb::Status OpenAndRead(const std::string& path, SsdIndex::Access access, SsdIndex::Contents* contents,
                            std::unique_ptr<SsdIndex>* index) {
  *contents = {};
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status opened = access == SsdIndex::Access::kWrite
                                     ? rocksdb::DB::Open(IndexOptions(), path, &raw)
                                     : rocksdb::DB::OpenForReadOnly(IndexOptions(), path, &raw);
  if (!opened.ok()) return opened;
  auto made = std::make_unique<RocksIndex>(path, std::unique_ptr<rocksdb::DB>(raw));
  rocksdb::Status read = made->ReadAll(contents);
  if (read.ok()) *index = std::move(made);
  return read;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SsdIndex>> SsdIndex::Open(const std::string& path, Access access, Contents* contents) {
  std::unique_ptr<SsdIndex> index;
  const rocksdb::Status first = OpenAndRead(path, access, contents, &index);
  if (first.ok()) return index;
  if (access == Access::kRead || !IsDamage(first)) return ToStatus(path, first);

  // Repair may bring back entries that were dropped; recovery holds each against the bytes it points to.
  rocksdb::Status status = rocksdb::RepairDB(path, IndexOptions());
  if (status.ok()) status = OpenAndRead(path, access, contents, &index);
  if (status.ok()) {
    contents->note = absl::StrCat("the index was damaged and has been repaired (", first.ToString(), ")");
    return index;
  }
  const std::string aside = path + ".damaged";
  std::error_code error;
  std::filesystem::remove_all(aside, error);
  std::filesystem::rename(path, aside, error);
  if (error) return ToStatus(path, first);
  status = OpenAndRead(path, access, contents, &index);
  if (!status.ok()) return ToStatus(path, status);
  contents->note = absl::StrCat("the index was damaged beyond repair and is now ", aside, "; the tier starts empty (",
                                first.ToString(), ")");
  return index;
}

}  // namespace kvasir
