#include "replica/store/lmdb_snapshot.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/store/schema.h"

namespace coord::store {

namespace {
// A slice of what is emptied: about what one page of the free list names.
constexpr std::uint64_t kSliceRecords = 1000;
constexpr std::uint64_t kSliceRecordsTight = 64;
constexpr std::uint64_t kSliceBytes = 8U << 20;
// A snapshot leaves alone what a start needs (the file does not get shorter) and what emptying it takes.
constexpr std::uint64_t kLeave = GrowAhead::kMinimum + (2U << 20);
constexpr std::size_t kGather = 1U << 20;  // bytes of pieces in one transaction
constexpr auto kClearRetry = std::chrono::seconds(1);
}  // namespace

void Pins::add(Zxid zxid) {
  const std::lock_guard lock(mutex_);
  pins_.insert(zxid);
}

void Pins::remove(Zxid zxid) {
  const std::lock_guard lock(mutex_);
  const auto it = pins_.find(zxid);
  if (it != pins_.end()) pins_.erase(it);
}

Zxid Pins::lowest() const {
  const std::lock_guard lock(mutex_);
  return pins_.empty() ? Zxid{~std::uint64_t{0}} : *pins_.begin();
}

// --- the source

Result<std::unique_ptr<LmdbSnapshotSource>, Fault> LmdbSnapshotSource::open(const Env& env, const Databases& dbs,
                                                                            std::shared_ptr<Pins> pins,
                                                                            std::string directory) {
  std::unique_ptr<LmdbSnapshotSource> source(new LmdbSnapshotSource(std::move(pins), std::move(directory)));
  // Pinned from the first moment on: between reading the position and pinning it, the log above must not go.
  source->pins_->add(Zxid{});
  const int rc = source->begin(env, dbs);
  if (rc == 0) {
    source->pins_->add(source->zxid_);
    source->pinned_ = true;
  }
  source->pins_->remove(Zxid{});
  if (rc != 0) return fail(source->fault("cannot be read: " + lmdb_text(rc)));
  return source;
}

LmdbSnapshotSource::~LmdbSnapshotSource() {
  cursor_.reset();
  if (pinned_) pins_->remove(zxid_);
}

Fault LmdbSnapshotSource::fault(const std::string& what) const {
  return {"data directory " + directory_ + ": " + what};
}

int LmdbSnapshotSource::begin(const Env& env, const Databases& dbs) {
  if (const int rc = txn_.begin(env, MDB_RDONLY); rc != 0) return rc;
  dbs_ = dbs;
  std::uint8_t slot = 0;
  if (const int rc = read_slot(txn_.get(), dbs_.meta, slot); rc != 0) return rc;
  if (slot != dbs_.slot) dbs_.swap_slots();
  schema::Positions at;
  if (const int rc = read_positions(txn_.get(), dbs_.meta, at); rc != 0) return rc;
  zxid_ = at.tree_durable;
  for (const MDB_dbi dbi : {dbs_.node, dbs_.session}) {
    MDB_stat stat{};
    mdb_stat(txn_.get(), dbi, &stat);
    bytes_ += (stat.ms_leaf_pages + stat.ms_overflow_pages) * stat.ms_psize;
  }
  return 0;
}

// Records of one database, until that ends or there is enough. True: it has ended.
Result<bool, Fault> LmdbSnapshotSource::fill(RecordKind kind, MDB_dbi dbi, std::size_t max_bytes, std::string& out) {
  int rc = 0;
  if (!cursor_) {
    cursor_ = std::make_unique<Cursor>();
    rc = cursor_->open(txn_.get(), dbi);
  }
  MDB_val key{};
  MDB_val value{};
  while (rc == 0 && out.size() < max_bytes && (rc = cursor_->get(key, value, MDB_NEXT)) == 0) {
    std::string_view body;
    if (key.mv_size != schema::kKeySize || !schema::unseal(to_view(key), to_view(value), body)) {
      return fail(fault("a record of the tree is damaged: its checksum is wrong"));
    }
    put_record(kind, schema::get_u64(static_cast<const char*>(key.mv_data)), body, out, totals_);
  }
  if (rc != 0 && rc != MDB_NOTFOUND) return fail(fault("cannot be read: " + lmdb_text(rc)));
  if (rc == MDB_NOTFOUND) cursor_.reset();
  return rc == MDB_NOTFOUND;
}

Result<std::string, Fault> LmdbSnapshotSource::next(std::size_t max_bytes) {
  std::string out;
  if (at_ == RecordKind::kEnd) return out;
  if (at_ == RecordKind::kNode) {
    const auto ended = fill(RecordKind::kNode, dbs_.node, max_bytes, out);
    if (!ended) return fail(ended.error());
    if (!*ended) return out;
    at_ = RecordKind::kSession;
  }
  if (at_ == RecordKind::kSession) {
    const auto ended = fill(RecordKind::kSession, dbs_.session, max_bytes, out);
    if (!ended) return fail(ended.error());
    if (!*ended) return out;
  }
  MDB_val key = to_val(counters_key(dbs_.slot));
  MDB_val value{};
  if (const int rc = mdb_get(txn_.get(), dbs_.meta, &key, &value); rc == 0) {
    std::string_view body;
    if (!schema::unseal(counters_key(dbs_.slot), to_view(value), body)) {
      return fail(fault("record meta/counters is damaged: its checksum is wrong"));
    }
    put_record(RecordKind::kCounters, 0, body, out, totals_);
  } else if (rc != MDB_NOTFOUND) {
    return fail(fault("cannot be read: " + lmdb_text(rc)));
  }
  put_end(totals_, out);
  at_ = RecordKind::kEnd;
  txn_.abort();  // nothing keeps freed pages from being used again any more
  return out;
}

// --- the stager

// False: no room for this with `leave` bytes behind it, and nothing was done. Records are appended to a database, or
// its first ones deleted, so it is to the bound what the log is.
template <class Write>
bool SnapshotStager::transaction(const Databases& bound_dbs, const Work& work, std::uint64_t leave, Write&& write) {
  Txn txn;
  if (const int rc = txn.begin(env_, 0); rc != 0) failed_("begin", rc);
  const std::uint64_t used = env_.used_bytes();
  const std::uint64_t bytes = bound_.pages(txn.get(), bound_dbs, work) * env_.page_size();
  const GrowAhead::Lease lease = grow_.reserve(bytes + leave);
  if (!lease.covered()) return false;
  if (const int rc = write(txn.get()); rc != 0) failed_("write", rc);
  if (const int rc = txn.commit(); rc != 0) failed_("commit", rc);
  const std::uint64_t used_now = env_.used_bytes();
  assert(used_now <= used + bytes);
  static_cast<void>(used);
  COORD_CHECK_MSG(used_now <= lease.limit(), "a snapshot outran what was written ahead for it");
  grow_.committed(used_now);
  return true;
}

int SnapshotStager::look(const Databases& dbs) {
  Txn txn;
  if (const int rc = txn.begin(env_, MDB_RDONLY); rc != 0) return rc;
  for (const MDB_dbi dbi : {dbs.other_node, dbs.other_session}) {
    MDB_stat stat{};
    if (const int rc = mdb_stat(txn.get(), dbi, &stat); rc != 0) return rc;
    if (stat.ms_entries != 0) other_ = Other::kGarbage;
  }
  return 0;
}

bool SnapshotStager::may_clear() const { return garbage() && std::chrono::steady_clock::now() >= retry_; }

int SnapshotStager::clear_some(MDB_txn* txn, MDB_dbi dbi, std::uint64_t records) {
  Cursor cursor;
  int rc = cursor.open(txn, dbi);
  MDB_val key{};
  MDB_val value{};
  std::uint64_t bytes = 0;
  // After a deletion the cursor stands on the next record, which MDB_NEXT then returns.
  for (MDB_cursor_op op = MDB_FIRST; rc == 0 && records > 0 && bytes < kSliceBytes; --records, op = MDB_NEXT) {
    rc = cursor.get(key, value, op);
    if (rc == 0) bytes += value.mv_size;
    if (rc == 0) rc = cursor.del();
  }
  return rc == MDB_NOTFOUND ? 0 : rc;
}

bool SnapshotStager::clear_slice(const Databases& dbs) {
  const std::uint64_t records = grow_.space().refuse_writes ? kSliceRecordsTight : kSliceRecords;
  Work work;
  work.log.deletes = records;
  bool clean = true;
  for (const MDB_dbi dbi : {dbs.other_node, dbs.other_session}) {
    Databases bound_dbs = dbs;
    bound_dbs.log = dbi;
    const bool done = transaction(bound_dbs, work, 0, [&](MDB_txn* txn) {
      int rc = clear_some(txn, dbi, records);
      MDB_stat stat{};
      if (rc == 0) rc = mdb_stat(txn, dbi, &stat);
      clean = stat.ms_entries == 0;
      MDB_val key = to_val(counters_key(dbs.slot ^ 1));
      if (rc == 0) rc = mdb_del(txn, dbs.meta, &key, nullptr);
      return rc == MDB_NOTFOUND ? 0 : rc;
    });
    if (!done) retry_ = std::chrono::steady_clock::now() + kClearRetry;
    if (!done) return false;
    if (!clean) return true;
  }
  other_ = Other::kClean;
  return true;
}

void SnapshotStager::begin(const Databases& dbs, Zxid zxid) {
  if (other_ != Other::kClean) other_ = Other::kGarbage;
  while (garbage() && clear_slice(dbs)) {
  }
  zxid_ = zxid;
  reader_ = SnapshotReader();
  gathered_.clear();
  if (other_ == Other::kClean) {
    other_ = Other::kReceiving;
  } else {
    ++too_large_;
    log::error("store", "there is no room on this disk to take a snapshot from another replica; make room");
  }
}

void SnapshotStager::piece(const Databases& dbs, const std::string& bytes) {
  if (other_ != Other::kReceiving) return;
  gathered_ += bytes;
  if (gathered_.size() >= kGather) write_gathered(dbs);
}

void SnapshotStager::write_gathered(const Databases& dbs) {
  if (gathered_.empty()) return;
  const std::string bytes = std::exchange(gathered_, {});
  // Whatever the records are: the smallest ones fill leaves, those that just do not fit one take a page each.
  Work work;
  work.log.puts = bytes.size() / kRecordHeader + 1;
  work.log.leaf_bytes = bytes.size() + bytes.size() / 2;
  work.log.overflow_pages = 2 * bytes.size() / env_.page_size() + bytes.size() / (8 * env_.page_size()) + 1;
  work.meta.overflow_pages = work.log.overflow_pages;
  Databases bound_dbs = dbs;
  bound_dbs.log = dbs.other_node;
  bool good = true;
  const bool room = !grow_.space().refuse_writes && transaction(bound_dbs, work, kLeave, [&](MDB_txn* txn) {
    int rc = 0;
    good = reader_.take(bytes, [&](RecordKind kind, std::uint64_t number, std::string_view body) {
      if (kind == RecordKind::kCounters) {
        rc = store::put_record(txn, dbs.meta, counters_key(dbs.slot ^ 1), body);
      } else {
        const schema::Key key(number);
        const MDB_dbi dbi = kind == RecordKind::kNode ? dbs.other_node : dbs.other_session;
        rc = store::put_record(txn, dbi, key.view(), body, MDB_APPEND);
      }
      return rc == 0;
    });
    return rc;
  });
  if (room && good) return;
  log::error("store", "a snapshot from another replica {}",
             room ? "is damaged" : "does not fit on this disk; make room");
  if (!room) ++too_large_;
  other_ = Other::kGarbage;
}

Zxid SnapshotStager::end(const Databases& dbs) {
  if (other_ == Other::kReceiving) write_gathered(dbs);
  const bool whole = other_ == Other::kReceiving && reader_.complete();
  if (whole) {
    other_ = Other::kStaged;
    return zxid_;
  }
  drop();
  return Zxid{};
}

void SnapshotStager::drop() {
  gathered_.clear();
  if (other_ != Other::kClean) other_ = Other::kGarbage;
}

}  // namespace coord::store
