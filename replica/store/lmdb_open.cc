// How a store is opened: looked at before anything is changed, made or upgraded, and brought up to its journal.
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/log.h"
#include "replica/store/lmdb_store.h"

namespace coord::store {

namespace {
constexpr std::size_t kReplayBytes = 1U << 20;  // in one transaction, about
constexpr std::uint64_t kApplyBytes = 4U << 20;
constexpr std::uint64_t kBytesOfEntry = 512;  // of smaller ones there may be as many as of these
}  // namespace

Result<std::unique_ptr<Store>, Fault> open_lmdb(const LmdbOptions& options) { return LmdbStore::open(options); }

LmdbStore::LmdbStore(const LmdbOptions& options, DataDirectory directory)
    : options_(options), directory_(std::move(directory)) {}

Result<std::unique_ptr<Store>, Fault> LmdbStore::open(const LmdbOptions& options) {
  if (options.grow_bytes < GrowAhead::kMinimum || options.map_bytes < options.grow_bytes) {
    return fail(Fault{"the step in which the data file grows must be at least 4 MiB and at most the map size"});
  }
  const std::uint64_t segment = options.journal_bytes;
  if (segment != 0 && (segment < journal::kSegmentMin || segment > journal::kSegmentMax)) {
    return fail(Fault{"a segment of the journal has 64 KiB to 1 GiB"});
  }
  auto directory = DataDirectory::open(options.directory);
  if (!directory) return fail(std::move(directory.error()));
  std::unique_ptr<LmdbStore> store(new LmdbStore(options, std::move(*directory)));
  if (auto checked = store->inspect(); !checked) return fail(std::move(checked.error()));
  if (auto opened = store->open_env(); !opened) return fail(std::move(opened.error()));
  if (auto opened = store->open_grower(); !opened) return fail(std::move(opened.error()));
  if (auto replayed = store->replay(); !replayed) return fail(std::move(replayed.error()));
  if (options.salvage) {
    if (auto salvaged = store->salvage(); !salvaged) return fail(std::move(salvaged.error()));
  }
  if (auto opened = store->open_journal(); !opened) return fail(std::move(opened.error()));
  return std::unique_ptr<Store>(std::move(store));
}

Fault LmdbStore::fault(const std::string& what) const { return {"data directory " + options_.directory + ": " + what}; }

Result<bool, Fault> LmdbStore::check_identity(const Meta& meta) const {
  if (meta.sid != options_.sid) {
    return fail(fault("belongs to server id " + std::to_string(meta.sid.value) + ", this server is " +
                      std::to_string(options_.sid.value) + "; correct myid or the directory"));
  }
  if (!options_.cluster_id.empty() && !meta.cluster_id.empty() && meta.cluster_id != options_.cluster_id) {
    return fail(fault("belongs to cluster " + meta.cluster_id + ", not " + options_.cluster_id +
                      "; correct the configuration or the directory"));
  }
  return true;
}

// Looks before anything is opened for writing, without LMDB's lock file: ours keeps everybody else out.
Result<bool, Fault> LmdbStore::inspect() {
  // A journal with something in it and no database to go with it is not for a new directory to overwrite.
  const auto no_journal = [this]() -> Result<bool, Fault> {
    const auto read = read_journal(options_.directory, {});
    return read ? Result<bool, Fault>(true) : fail(fault(read.error().message));
  };
  if (!directory_.has_data()) return no_journal();
  Env env;
  if (const int rc = env.open(options_.directory, options_.map_bytes, MDB_RDONLY | MDB_NOLOCK); rc != 0) {
    return fail(fault(std::string(schema::kDataFile) + " cannot be opened: " + lmdb_text(rc)));
  }
  struct stat st {};
  if (::stat(directory_.data_file().c_str(), &st) != 0 || static_cast<std::uint64_t>(st.st_size) < env.used_bytes()) {
    return fail(fault(std::string(schema::kDataFile) + " is cut off: " + std::to_string(st.st_size) + " bytes of " +
                      std::to_string(env.used_bytes()) + "; restore it from a backup"));
  }
  Txn txn;
  if (const int rc = txn.begin(env, MDB_RDONLY); rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  MDB_stat stat{};
  mdb_env_stat(env.get(), &stat);
  if (stat.ms_entries == 0) return no_journal();  // a process died while it made the directory
  Databases dbs;
  if (const int rc = open_databases(txn.get(), 0, dbs); rc != 0) {
    return fail(fault("is not one of this program, or damaged: " + lmdb_text(rc)));
  }
  const auto meta = read_meta(txn.get(), dbs, options_.salvage ? &broken_log_ : nullptr);
  if (meta) {
    const auto checked = check_identity(*meta);
    return checked ? inspect_journal(txn.get(), dbs, *meta) : checked;
  }
  // Version 1 is looked at when it has been upgraded, in a transaction that is given up if something is wrong with it.
  if (is_version_1(txn.get(), dbs)) return true;
  return fail(fault(meta.error().message));
}

// The data file gets its name when LMDB's first pages are on disk: a power cut could leave a file with one of them or
// none, which nobody could tell from a damaged one.
Result<bool, Fault> LmdbStore::make_data_file() {
  if (auto removed = directory_.remove(schema::kNewDataFile); !removed) return removed;
  Env env;
  const std::string file = directory_.path() + "/" + schema::kNewDataFile;
  if (const int rc = env.open(file, options_.map_bytes, MDB_NOSUBDIR | MDB_NOLOCK); rc != 0) {
    return fail(fault(std::string(schema::kNewDataFile) + " cannot be made: " + lmdb_text(rc)));
  }
  env.close();
  return directory_.put_in_place(schema::kNewDataFile, schema::kDataFile);
}

Result<bool, Fault> LmdbStore::open_env() {
  // Made here and not with the records below, so that a bad cluster id leaves no file.
  if (!options_.cluster_id.empty() && !valid_cluster_id(options_.cluster_id)) {
    return fail(fault("a cluster id is 32 hexadecimal digits in lower case, not \"" + options_.cluster_id + "\""));
  }
  auto fresh = make_meta(options_.sid);
  if (!fresh) return fail(fault(fresh.error().message));
  if (!directory_.has_data()) {
    if (auto made = make_data_file(); !made) return made;
  }
  if (const int rc = env_.open(options_.directory, options_.map_bytes, 0); rc != 0) {
    return fail(fault("cannot be opened: " + lmdb_text(rc)));
  }
  int dead = 0;
  if (const int rc = mdb_reader_check(env_.get(), &dead); rc != 0) {
    return fail(fault("stale readers cannot be cleared: " + lmdb_text(rc)));
  }
  if (dead > 0) log::info("store", "cleared stale readers: count={}", dead);

  Txn txn;
  int rc = txn.begin(env_, 0);
  if (rc != 0) return fail(fault("cannot be written: " + lmdb_text(rc)));
  MDB_stat stat{};
  mdb_env_stat(env_.get(), &stat);
  const bool is_new = stat.ms_entries == 0;
  rc = open_databases(txn.get(), MDB_CREATE, dbs_);
  if (rc == 0 && is_new) rc = write_all_meta(txn.get(), dbs_, *fresh);
  if (rc == 0 && !is_new) rc = upgrade_meta(txn.get(), dbs_);
  if (rc != 0) return fail(fault("cannot be written: " + lmdb_text(rc)));
  auto meta = read_meta(txn.get(), dbs_, options_.salvage ? &broken_log_ : nullptr);
  if (!meta) return fail(fault(meta.error().message));
  if (auto checked = check_identity(*meta); !checked) return checked;
  if (rc = txn.commit(); rc != 0) return fail(fault("cannot be written: " + lmdb_text(rc)));
  if (auto synced = directory_.sync(); !synced) return fail(std::move(synced.error()));

  opened_ = dbs_;
  take_meta(std::move(*meta));
  return true;
}

void LmdbStore::take_meta(Meta meta) {
  meta_ = std::move(meta);
  state_.epochs = meta_.epochs;
  state_.identity.sid = meta_.sid;
  state_.identity.directory_id = meta_.directory_id;
  state_.identity.cluster_id = meta_.cluster_id;
  state_.identity.secret = meta_.secret;
  state_.positions = {meta_.tree_durable, meta_.commit_hint, meta_.log_floor, meta_.last_logged};
  front_ = state_;
}

Result<bool, Fault> LmdbStore::open_grower() {
  GrowAhead::Options grow;
  grow.path = directory_.data_file();
  grow.page_size = env_.page_size();
  grow.step = options_.grow_bytes;
  grow.limit = options_.map_bytes / grow.page_size * grow.page_size;
  grow.free_bytes = [this] { return free_bytes(); };
  auto opened = GrowAhead::open(std::move(grow), env_.used_bytes());
  if (!opened) return fail(std::move(opened.error()));
  grow_ = std::move(*opened);
  stager_ = std::make_unique<SnapshotStager>(env_, *grow_, [this](const char* what, int rc) { failed(what, rc); });
  if (const int rc = stager_->look(dbs_); rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  // Two times this, as pages, is to fit what is written ahead.
  const std::uint64_t few = std::min(kApplyBytes, options_.grow_bytes / 8);
  const std::uint64_t bytes = options_.apply_bytes != 0 ? options_.apply_bytes : few;
  const Applier::Limits limits{std::chrono::milliseconds(options_.apply_age_ms),
                               std::chrono::milliseconds(options_.apply_quiet_ms), bytes, bytes / kBytesOfEntry};
  applier_ = std::make_unique<Applier>(
      limits, [this](Applier::Group& group) { apply(group); }, [this] { return clear_aside(); });
  const auto failed_read = [this](const std::string& what, const std::string& error) {
    storage_failed(what + " in " + directory_.data_file(), error);
  };
  reader_ = std::make_unique<LogReader>(env_, [this] { applier_->settle(); }, failed_read);
  return true;
}

// What a former life left in the journal, checked against the log that it continues. Reads only.
Result<bool, Fault> LmdbStore::inspect_journal(MDB_txn* txn, const Databases& dbs, const Meta& meta) {
  const auto mark = read_mark(txn, dbs.meta);
  if (!mark) return fail(fault(mark.error().message));
  if (auto opens = check_journal_opens(options_.directory); !opens) return fail(fault(opens.error().message));
  bool apart = false;
  auto records = read_journal(options_.directory, *mark, &apart);
  // Not for salvage: an operator's mistake, that may be made on all members at once.
  if (apart) return fail(fault(records.error().message));
  Result<bool, Fault> good = records ? Result<bool, Fault>(true) : fail(records.error());
  State state;
  state.epochs = meta.epochs;
  state.positions = {meta.tree_durable, meta.commit_hint, meta.log_floor, meta.last_logged};
  if (records && !broken_log_) {
    for (const JournalRecord& record : *records) {
      Batch batch = batch_of(record);
      const char* why = follow(state, batch);
      if (why == nullptr) continue;
      good = fail(Fault{std::string(journal::kFile) + " does not continue the log: " + why + " at record " +
                        std::to_string(record.sequence) + "; restore the directory from a backup"});
      break;
    }
  }
  if (!good && !options_.salvage) return fail(fault(good.error().message));
  mark_ = *mark;
  if (good) {
    left_ = std::move(*records);
  } else if (!broken_log_) {
    broken_log_ = good.error().message;
  }
  return true;
}

Batch LmdbStore::batch_of(const JournalRecord& record) {
  Batch batch;
  batch.append = record.entries;
  if (record.commit_hint != Zxid{}) batch.commit_hint = record.commit_hint;
  return batch;
}

// What only the journal has goes into the database; after that nobody needs the journal. Killed half way, the next
// start goes on from where the database says.
Result<bool, Fault> LmdbStore::replay() {
  if (!mark_.open || broken_log_) return true;
  if (!left_.empty()) log::info("store", "taking over what is only in the journal: records={}", left_.size());
  const PageBound bound(env_.page_size());
  for (std::size_t next = 0;;) {
    Applier::Group group;
    JournalMark mark = mark_;
    while (next < left_.size() && group.bytes < kReplayBytes) {
      Batch batch = batch_of(left_[next]);
      bound.add(batch, group.work);
      for (const LogEntry& entry : batch.append) group.bytes += entry.payload->size();
      mark.sequence = left_[next++].sequence;
      group.batches.push_back(std::move(batch));
    }
    const bool last = next == left_.size();
    mark.open = !last;
    if (const int rc = replay(group, mark); rc != 0) {
      return fail(fault(std::string("what is in the ") + journal::kFile +
                        " cannot be taken over, and nothing of it is lost: " + lmdb_text(rc)));
    }
    if (last) break;
  }
  left_.clear();
  Txn txn;
  if (const int rc = txn.begin(env_, MDB_RDONLY); rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  auto meta = read_meta(txn.get(), dbs_);
  if (!meta) return fail(fault(meta.error().message));
  take_meta(std::move(*meta));
  return true;
}

int LmdbStore::replay(Applier::Group& group, const JournalMark& mark) {
  const PageBound bound(env_.page_size());
  Txn txn;
  if (const int rc = txn.begin(env_, 0); rc != 0) return rc;
  const GrowAhead::Lease lease = grow_->reserve(bound.pages(txn.get(), dbs_, group.work) * env_.page_size());
  BatchApply apply(txn.get(), dbs_, env_.page_size(), state_);
  int rc = 0;
  for (std::size_t n = 0; rc == 0 && n < group.batches.size(); ++n) rc = apply.apply(group.batches[n]);
  if (rc == 0) rc = apply.finish();
  if (rc == 0) rc = write_mark(txn.get(), dbs_.meta, mark);
  if (rc == 0) rc = txn.commit();
  if (rc != 0) return rc;
  state_ = apply.state();
  mark_ = mark;
  grow_->committed(env_.used_bytes());
  return 0;
}

Result<bool, Fault> LmdbStore::open_journal() {
  if (options_.journal_bytes == 0) return true;
  Journal::Options options;
  options.directory = options_.directory;
  options.segment_bytes = journal::whole_blocks(options_.journal_bytes);
  options.leave_bytes = 2 * options.segment_bytes + options_.grow_bytes;
  auto opened = Journal::open(options);
  if (!opened) return fail(std::move(opened.error()));
  journal_ = std::move(*opened);
  return true;
}

// Every record of tree and log, as loading would find it.
Result<bool, Fault> LmdbStore::verify() {
  if (broken_log_) return fail(fault(*broken_log_));
  const auto good = [](auto...) -> Result<bool, Fault> { return true; };
  if (auto loaded = load_tree(good, good, good); !loaded) return loaded;
  return read_log(meta_.log_floor, [](const LogEntry&) {});
}

// What is broken cannot be told from what is missing: the whole comes from the other members again. Promises stay.
Result<bool, Fault> LmdbStore::salvage() {
  const auto verified = verify();
  if (verified) return true;
  log::error("store", "{}; log and tree are emptied, and come from the other members again", verified.error().message);
  // The journal goes last: one that the database has closed is looked at by nobody, but one that it misses is a Fault.
  left_.clear();
  mark_.open = false;
  Txn txn;
  int rc = txn.begin(env_, 0);
  if (rc == 0) rc = empty_all(txn.get());
  if (rc == 0) rc = write_positions(txn.get(), dbs_.meta, {});
  if (rc == 0) rc = write_damaged(txn.get(), dbs_.meta, true);
  if (rc == 0) rc = write_mark(txn.get(), dbs_.meta, mark_);
  if (rc == 0) rc = txn.commit();
  if (rc != 0) return fail(fault("cannot be written: " + lmdb_text(rc)));
  if (auto removed = directory_.remove(journal::kFile); !removed) return removed;
  grow_->committed(env_.used_bytes());
  meta_.damaged = true;
  meta_.tree_durable = meta_.commit_hint = meta_.log_floor = meta_.last_logged = Zxid{};
  meta_.epoch_ends.clear();
  state_.positions = {};
  front_ = state_;
  return true;
}

int LmdbStore::empty_all(MDB_txn* txn) {
  int rc = mdb_drop(txn, dbs_.log, 0);
  if (rc == 0) rc = mdb_drop(txn, dbs_.node, 0);
  if (rc == 0) rc = mdb_drop(txn, dbs_.session, 0);
  MDB_val key = to_val(counters_key(dbs_.slot));
  if (rc == 0) rc = mdb_del(txn, dbs_.meta, &key, nullptr);
  return rc == MDB_NOTFOUND ? 0 : rc;
}

}  // namespace coord::store
