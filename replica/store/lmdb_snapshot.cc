#include "replica/store/lmdb_snapshot.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/store/schema.h"

namespace coord::store {

namespace {
// What a transaction takes besides the records: pages on the way to them, roots, the list of free pages.
constexpr std::uint64_t kTransactionBytes = 1U << 20;
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
  if (read_slot(txn_.get(), dbs_.meta) != dbs_.slot) dbs_.swap_slots();
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

template <class Write>
void SnapshotStager::transaction(std::uint64_t bytes, Write&& write) {
  const GrowAhead::Lease lease = grow_.reserve(bytes + kTransactionBytes);
  Txn txn;
  if (const int rc = txn.begin(env_, 0); rc != 0) failed_("begin", rc);
  if (const int rc = write(txn.get()); rc != 0) failed_("write", rc);
  if (const int rc = txn.commit(); rc != 0) failed_("commit", rc);
  grow_.committed(env_.used_bytes());
}

void SnapshotStager::clear(const Databases& dbs) {
  // Its pages become free ones; writing their list down is what this takes.
  transaction(env_.used_bytes() / 256, [&](MDB_txn* txn) {
    int rc = mdb_drop(txn, dbs.other_node, 0);
    if (rc == 0) rc = mdb_drop(txn, dbs.other_session, 0);
    MDB_val key = to_val(counters_key(dbs.slot ^ 1));
    if (rc == 0) rc = mdb_del(txn, dbs.meta, &key, nullptr);
    return rc == MDB_NOTFOUND ? 0 : rc;
  });
  dirty_ = false;
}

void SnapshotStager::begin(const Databases& dbs, Zxid zxid) {
  if (dirty_) clear(dbs);
  dirty_ = true;
  zxid_ = zxid;
  receiving_ = good_ = true;
  reader_ = SnapshotReader();
}

void SnapshotStager::piece(const Databases& dbs, const std::string& bytes) {
  if (!receiving_ || !good_) return;
  if (grow_.space().refuse_writes) {
    log::error("store", "a snapshot from another replica does not fit on this disk; make room");
    good_ = false;
    return;
  }
  // Small records in random leaves: each may take a page, and the leaves may be split.
  transaction(6 * bytes.size(), [&](MDB_txn* txn) {
    int rc = 0;
    good_ = reader_.take(bytes, [&](RecordKind kind, std::uint64_t number, std::string_view body) {
      if (kind == RecordKind::kCounters) {
        rc = store::put_record(txn, dbs.meta, counters_key(dbs.slot ^ 1), body);
      } else {
        const schema::Key key(number);
        rc = store::put_record(txn, kind == RecordKind::kNode ? dbs.other_node : dbs.other_session, key.view(), body);
      }
      return rc == 0;
    });
    return rc;
  });
  if (!good_) log::error("store", "a snapshot from another replica is damaged");
}

Zxid SnapshotStager::end(const Databases& dbs) {
  const bool whole = receiving_ && good_ && reader_.complete();
  receiving_ = false;
  if (whole) return zxid_;
  drop(dbs);
  return Zxid{};
}

void SnapshotStager::drop(const Databases& dbs) {
  receiving_ = false;
  if (dirty_) clear(dbs);
}

}  // namespace coord::store
