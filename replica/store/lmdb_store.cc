#include "replica/store/lmdb_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"

namespace coord::store {

namespace {

// What one transaction takes of the queue: enough to amortize the flush, small enough to bound its time.
constexpr std::size_t kGroupEntriesMax = 1000;
constexpr std::size_t kGroupBytesMax = 4U << 20;
constexpr std::size_t kGroupBytesTight = 256U << 10;  // when the reserve is being used up
constexpr std::uint64_t kPurgeBase = 64;
constexpr std::uint64_t kKeepBytesFactor = 8;          // log_keep_ms keeps no more than this times log_keep_bytes
constexpr std::uint64_t kInstallBytes = 8U << 20;

struct Weight {
  std::size_t entries = 0;
  std::size_t bytes = 0;
};

Weight weigh(const Batch& batch) {
  Weight weight{batch.append.size(), 0};
  for (const LogEntry& entry : batch.append) weight.bytes += entry.payload->size() + 64;
  if (!batch.fold) return weight;
  weight.entries += batch.fold->nodes.size() + batch.fold->sessions.size();
  for (const auto& change : batch.fold->nodes) weight.bytes += 64 + (change.second ? change.second->size() : 0);
  for (const auto& change : batch.fold->sessions) weight.bytes += 64 + (change.second ? change.second->size() : 0);
  return weight;
}

bool installs(const std::vector<Batch>& group) {
  return std::any_of(group.begin(), group.end(), [](const Batch& batch) { return batch.install_snapshot; });
}

}  // namespace

Result<std::unique_ptr<Store>, Fault> open_lmdb(const LmdbOptions& options) { return LmdbStore::open(options); }

// --- open

LmdbStore::LmdbStore(const LmdbOptions& options, DataDirectory directory)
    : options_(options), directory_(std::move(directory)) {}

Result<std::unique_ptr<Store>, Fault> LmdbStore::open(const LmdbOptions& options) {
  if (options.grow_bytes < GrowAhead::kMinimum || options.map_bytes < options.grow_bytes) {
    return fail(Fault{"the step in which the data file grows must be at least 4 MiB and at most the map size"});
  }
  auto directory = DataDirectory::open(options.directory);
  if (!directory) return fail(std::move(directory.error()));
  std::unique_ptr<LmdbStore> store(new LmdbStore(options, std::move(*directory)));
  if (auto checked = store->inspect(); !checked) return fail(std::move(checked.error()));
  if (auto opened = store->open_env(); !opened) return fail(std::move(opened.error()));
  if (auto opened = store->open_grower(); !opened) return fail(std::move(opened.error()));
  if (options.salvage) {
    if (auto salvaged = store->salvage(); !salvaged) return fail(std::move(salvaged.error()));
  }
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
  if (!directory_.has_data()) return true;
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
  if (stat.ms_entries == 0) return true;  // a process died while it made the directory
  Databases dbs;
  if (const int rc = open_databases(txn.get(), 0, dbs); rc != 0) {
    return fail(fault("is not one of this program, or damaged: " + lmdb_text(rc)));
  }
  const auto meta = read_meta(txn.get(), dbs, options_.salvage ? &broken_log_ : nullptr);
  if (meta) return check_identity(*meta);
  // Version 1 is looked at when it has been upgraded, in a transaction that is given up if something is wrong with it.
  if (is_version_1(txn.get(), dbs)) return true;
  return fail(fault(meta.error().message));
}

Result<bool, Fault> LmdbStore::open_env() {
  // Made here and not with the records below, so that a bad cluster id leaves no file.
  if (!options_.cluster_id.empty() && !valid_cluster_id(options_.cluster_id)) {
    return fail(fault("a cluster id is 32 hexadecimal digits in lower case, not \"" + options_.cluster_id + "\""));
  }
  auto fresh = make_meta(options_.sid);
  if (!fresh) return fail(fault(fresh.error().message));
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

  meta_ = std::move(*meta);
  opened_ = dbs_;
  state_.epochs = meta_.epochs;
  state_.identity.sid = meta_.sid;
  state_.identity.directory_id = meta_.directory_id;
  state_.identity.cluster_id = meta_.cluster_id;
  state_.identity.secret = meta_.secret;
  state_.positions = {meta_.tree_durable, meta_.commit_hint, meta_.log_floor, meta_.last_logged};
  return true;
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
  reader_ = std::make_unique<LogReader>(env_, [this](const std::string& what, const std::string& error) {
    storage_failed(what + " in " + directory_.data_file(), error);
  });
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
  Txn txn;
  int rc = txn.begin(env_, 0);
  if (rc == 0) rc = empty_all(txn.get());
  if (rc == 0) rc = write_positions(txn.get(), dbs_.meta, {});
  if (rc == 0) rc = write_damaged(txn.get(), dbs_.meta, true);
  if (rc == 0) rc = txn.commit();
  if (rc != 0) return fail(fault("cannot be written: " + lmdb_text(rc)));
  grow_->committed(env_.used_bytes());
  meta_.damaged = true;
  meta_.tree_durable = meta_.commit_hint = meta_.log_floor = meta_.last_logged = Zxid{};
  meta_.epoch_ends.clear();
  state_.positions = {};
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

LmdbStore::~LmdbStore() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (writer_.joinable()) writer_.join();
  reader_.reset();
  stager_.reset();
  grow_.reset();  // before the environment that free_bytes() reads
}

// --- reading at start

template <class Id>
Result<bool, Fault> LmdbStore::load_records(MDB_txn* txn, MDB_dbi dbi, const char* name,
                                            const std::function<Result<bool, Fault>(Id, std::string_view)>& on_record) {
  Cursor cursor;
  if (const int rc = cursor.open(txn, dbi); rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  MDB_val key{};
  MDB_val value{};
  int rc = 0;
  while ((rc = cursor.get(key, value, MDB_NEXT)) == 0) {
    std::string_view body;
    const bool sized = key.mv_size == schema::kKeySize;
    const std::uint64_t number = sized ? schema::get_u64(static_cast<const char*>(key.mv_data)) : 0;
    if (!sized || !schema::unseal(to_view(key), to_view(value), body)) {
      return fail(fault(std::string("record ") + name + "/" + std::to_string(number) +
                        " is damaged: its checksum is wrong; restore the directory from a backup"));
    }
    Id id;
    id.value = static_cast<decltype(id.value)>(number);
    auto taken = on_record(id, body);
    if (!taken) return fail(fault(taken.error().message));
  }
  if (rc != MDB_NOTFOUND) return fail(fault("cannot be read: " + lmdb_text(rc)));
  return true;
}

Result<bool, Fault> LmdbStore::load_tree(const OnNode& on_node, const OnSession& on_session,
                                         const OnCounters& on_counters) {
  Txn txn;
  if (const int rc = txn.begin(env_, MDB_RDONLY); rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  // Also while the writer works, which may have changed the slots: the transaction tells.
  std::uint8_t slot = 0;
  if (read_slot(txn.get(), dbs_.meta, slot) != 0) {
    return fail(fault("record meta/slot is damaged: its checksum is wrong; restore the directory from a backup"));
  }
  const MDB_dbi node = slot == opened_.slot ? opened_.node : opened_.other_node;
  const MDB_dbi session = slot == opened_.slot ? opened_.session : opened_.other_session;
  const std::string_view counters = counters_key(slot);
  if (auto ok = load_records<NodeId>(txn.get(), node, schema::kNodeDb, on_node); !ok) return ok;
  if (auto ok = load_records<SessionId>(txn.get(), session, schema::kSessionDb, on_session); !ok) return ok;
  MDB_val key = to_val(counters);
  MDB_val value{};
  const int rc = mdb_get(txn.get(), dbs_.meta, &key, &value);
  if (rc == MDB_NOTFOUND) {
    MDB_stat nodes{};
    mdb_stat(txn.get(), node, &nodes);
    if (nodes.ms_entries == 0) return true;
    return fail(fault("record meta/counters is missing; restore the directory from a backup"));
  }
  if (rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  std::string_view body;
  if (!schema::unseal(counters, to_view(value), body)) {
    return fail(fault("record meta/counters is damaged: its checksum is wrong; restore the directory from a backup"));
  }
  return on_counters(body);
}

Result<bool, Fault> LmdbStore::read_log(Zxid after, const std::function<void(LogEntry)>& on_entry) {
  Txn txn;
  Cursor cursor;
  int rc = txn.begin(env_, MDB_RDONLY);
  if (rc == 0) rc = cursor.open(txn.get(), dbs_.log);
  if (rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  schema::Positions now;
  if (rc = read_positions(txn.get(), dbs_.meta, now); rc != 0) return fail(fault("cannot be read: " + lmdb_text(rc)));
  if (after < now.log_floor) {
    return fail(fault("the log begins above " + to_string(now.log_floor) + ", not at " + to_string(after)));
  }
  const schema::Key from(after.value + 1);
  MDB_val key = to_val(from.view());
  MDB_val value{};
  Zxid previous = after;
  for (rc = cursor.get(key, value, MDB_SET_RANGE); rc == 0; rc = cursor.get(key, value, MDB_NEXT)) {
    const Zxid zxid{key.mv_size == schema::kKeySize ? schema::get_u64(static_cast<const char*>(key.mv_data)) : 0};
    LogEntry entry;
    if (!decode_log_record(to_view(key), to_view(value), entry)) {
      return fail(fault("record log/" + to_string(zxid) +
                        " is damaged: its checksum is wrong; restore the directory from a backup"));
    }
    if (entry.previous != previous) {
      return fail(fault("record log/" + to_string(zxid) + " follows " + to_string(entry.previous) +
                        ", which is not there (" + to_string(previous) +
                        " is); restore the directory from a backup"));
    }
    on_entry(std::move(entry));
    previous = zxid;
  }
  if (rc != MDB_NOTFOUND) return fail(fault("cannot be read: " + lmdb_text(rc)));
  return true;
}

// --- writing

void LmdbStore::set_on_durable(std::function<void(std::uint64_t)> on_durable) {
  COORD_CHECK_MSG(!writer_.joinable(), "set before the first submit");
  on_durable_ = std::move(on_durable);
}

void LmdbStore::set_on_space(std::function<void(bool)> on_space) {
  COORD_CHECK_MSG(!writer_.joinable(), "set before the first submit");
  on_space_ = std::move(on_space);
}

void LmdbStore::submit(Batch batch) {
  COORD_CHECK_MSG(batch.id > last_id_, "ids of batches ascend");
  last_id_ = batch.id;
  enqueue(std::move(batch));
}

void LmdbStore::snapshot_begin(Zxid zxid) { enqueue(BeginSnapshot{zxid}); }
void LmdbStore::snapshot_piece(std::string bytes) { enqueue(PieceOfSnapshot{std::move(bytes)}); }
void LmdbStore::snapshot_end(std::function<void(Zxid)> staged) { enqueue(EndSnapshot{std::move(staged)}); }
void LmdbStore::snapshot_drop() { enqueue(DropSnapshot{}); }

void LmdbStore::read_log_later(Zxid after, Zxid up_to, std::size_t max_bytes,
                               std::function<void(std::vector<LogEntry>)> done) {
  reader_->submit(dbs_.log, {after, up_to, max_bytes, std::move(done)});
}

std::unique_ptr<SnapshotSource> LmdbStore::open_snapshot() {
  auto source = LmdbSnapshotSource::open(env_, opened_, pins_, options_.directory);
  if (!source) storage_failed("reading a snapshot", source.error().message);
  return std::move(*source);
}

void LmdbStore::enqueue(Item item) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(item));
    wake = std::exchange(idle_, false);
  }
  if (wake) {
    wake_.notify_one();
  } else if (!writer_.joinable()) {
    grow_->start(on_space_);
    writer_ = std::thread([this] { run(); });
  }
}

Counters LmdbStore::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

void LmdbStore::run() {
  std::unique_lock lock(mutex_);
  while (take(lock)) {
    lock.unlock();
    if (item_) {
      handle(*std::exchange(item_, std::nullopt));
    } else if (!group_.empty()) {
      commit_group();
      if (on_durable_) on_durable_(group_.back().id);
      group_.clear();
    }
    clear_some();
    lock.lock();
  }
}

// Waits for work and moves one transaction's worth into group_. False: stopped, and all is done.
bool LmdbStore::take(std::unique_lock<std::mutex>& lock) {
  while (queue_.empty() && !stop_) {
    if (stager_->may_clear()) return true;  // with nothing, which is time for it
    idle_ = true;
    if (stager_->garbage()) {
      wake_.wait_for(lock, std::chrono::seconds(1));
    } else {
      wake_.wait(lock);
    }
  }
  idle_ = false;
  const Space space = grow_->space();
  const bool tight = space.grown_bytes < space.used_bytes + options_.grow_bytes / 2;
  const std::size_t bytes_max = tight ? kGroupBytesTight : kGroupBytesMax;
  Weight sum;
  while (!queue_.empty()) {
    auto* batch = std::get_if<Batch>(&queue_.front());
    if (batch == nullptr) {
      if (!group_.empty()) break;
      item_ = std::move(queue_.front());
      queue_.pop_front();
      return true;
    }
    const Weight weight = weigh(*batch);
    const bool fits = sum.entries + weight.entries <= kGroupEntriesMax && sum.bytes + weight.bytes <= bytes_max;
    if (!group_.empty() && !fits) break;
    sum.entries += weight.entries;
    sum.bytes += weight.bytes;
    group_.push_back(std::move(*batch));
    queue_.pop_front();
  }
  return !group_.empty();
}

// A slice whenever there is nothing to do; under load one in a while, so that a commit rarely waits for it.
void LmdbStore::clear_some() {
  if (!stager_->may_clear()) return;
  constexpr std::uint64_t kGroupsPerSlice = 8;
  bool busy = false;
  {
    const std::lock_guard lock(mutex_);
    busy = !queue_.empty() || stop_;
  }
  if (busy && ++since_slice_ < kGroupsPerSlice) return;
  since_slice_ = 0;
  stager_->clear_slice(dbs_);
}

void LmdbStore::handle(Item item) {
  if (const auto* first = std::get_if<BeginSnapshot>(&item)) {
    state_.staged = Zxid{};
    stager_->begin(dbs_, first->zxid);
  } else if (const auto* piece = std::get_if<PieceOfSnapshot>(&item)) {
    stager_->piece(dbs_, piece->bytes);
  } else if (const auto* end = std::get_if<EndSnapshot>(&item)) {
    state_.staged = stager_->end();
    end->staged(state_.staged);
  } else {
    state_.staged = Zxid{};
    stager_->drop();
  }
}

void LmdbStore::note_age(Zxid last_logged) {
  if (options_.log_keep_ms == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (ages_.empty() || now - ages_.back().first >= std::chrono::seconds(1)) ages_.emplace_back(now, last_logged);
  const auto keep = std::chrono::milliseconds(options_.log_keep_ms);
  while (ages_.size() > 1 && now - ages_[1].first >= keep) ages_.pop_front();
}

PurgeLimits LmdbStore::purge_limits(std::uint64_t entries) const {
  PurgeLimits limits;
  limits.keep_bytes = options_.log_keep_bytes;
  limits.keep_entries = options_.log_keep_entries;
  limits.slice = 2 * entries + kPurgeBase;
  limits.ceiling = pins_->lowest();
  if (options_.log_keep_ms != 0) {
    // The log ended here when the time to keep began; everything above is younger.
    const auto keep = std::chrono::milliseconds(options_.log_keep_ms);
    const bool old = !ages_.empty() && std::chrono::steady_clock::now() - ages_.front().first >= keep;
    limits.old = old ? ages_.front().second : Zxid{};
    limits.bytes_most = kKeepBytesFactor * options_.log_keep_bytes;
  }
  return limits;
}

void LmdbStore::commit_group() {
  const auto begin = std::chrono::steady_clock::now();
  State state = state_;
  Counters done;
  Txn txn;
  if (const int rc = txn.begin(env_, 0); rc != 0) failed("begin", rc);

  const PageBound bound(env_.page_size());
  Work work;
  for (const Batch& batch : group_) bound.add(batch, work);
  work.log.deletes = 2 * work.log.puts + kPurgeBase;
  const std::uint64_t used = env_.used_bytes();
  std::uint64_t bytes = bound.pages(txn.get(), dbs_, work) * env_.page_size();
  // An install empties the log: the list of its pages is written. What is folded then goes to the other slot.
  const bool installing = installs(group_);
  if (installing) {
    Databases other = dbs_;
    other.swap_slots();
    bytes += bound.pages(txn.get(), other, work) * env_.page_size() + kInstallBytes + used / 256;
  }
  const GrowAhead::Lease lease = grow_->reserve(bytes);

  apply_group(txn, state, done);
  if (const int rc = txn.commit(); rc != 0) failed("commit", rc);
  state_ = state;
  if (installing) {
    dbs_.swap_slots();
    stager_->installed();
  }
  note_age(state_.positions.last_logged);

  const std::uint64_t used_now = env_.used_bytes();
  assert(used_now <= used + bytes);
  static_cast<void>(used);
  // Beyond this the grower may have been writing too.
  COORD_CHECK_MSG(!lease.covered() || used_now <= lease.limit(), "a commit outran what was written ahead for it");
  grow_->committed(used_now);

  const auto spent = std::chrono::steady_clock::now() - begin;
  const auto ns = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  const std::lock_guard lock(mutex_);
  ++counters_.commits;
  counters_.entries += done.entries;
  counters_.folded_nodes += done.folded_nodes;
  counters_.commit_ns_total += ns;
  counters_.commit_ns_max = std::max(counters_.commit_ns_max, ns);
}

void LmdbStore::apply_group(Txn& txn, State& state, Counters& done) {
  BatchApply apply(txn.get(), dbs_, env_.page_size(), state);
  for (Batch& batch : group_) {
    if (const int rc = apply.apply(batch); rc != 0) failed("write", rc);
  }
  if (const int rc = apply.purge(purge_limits(apply.entries())); rc != 0) failed("purge", rc);
  if (const int rc = apply.finish(); rc != 0) failed("write", rc);
  state = apply.state();
  done.entries = apply.entries();
  done.folded_nodes = apply.folded_nodes();
}

void LmdbStore::failed(const char* what, int rc) const {
  storage_failed(std::string(what) + " in " + directory_.data_file(), lmdb_text(rc));
}

// Grower's thread: pages on LMDB's list of free ones. Each record begins with the number of pages it lists.
std::uint64_t LmdbStore::free_bytes() const {
  Txn txn;
  Cursor cursor;
  constexpr MDB_dbi kFreeDb = 0;
  if (txn.begin(env_, MDB_RDONLY) != 0 || cursor.open(txn.get(), kFreeDb) != 0) return 0;
  MDB_val key{};
  MDB_val value{};
  std::uint64_t pages = 0;
  while (cursor.get(key, value, MDB_NEXT) == 0) {
    std::size_t count = 0;
    std::memcpy(&count, value.mv_data, sizeof count);
    pages += count;
  }
  return pages * env_.page_size();
}

}  // namespace coord::store
