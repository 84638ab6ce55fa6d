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
constexpr std::uint64_t kGroupsPerSlice = 8;
constexpr std::uint64_t kKeepBytesFactor = 8;          // log_keep_ms keeps no more than this times log_keep_bytes
constexpr std::uint64_t kInstallBytes = 8U << 20;
constexpr auto kRoomRetry = std::chrono::seconds(1);

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

std::uint64_t folds(const std::vector<Batch>& group) {
  const auto fold = [](const Batch& batch) { return batch.fold.has_value(); };
  return static_cast<std::uint64_t>(std::count_if(group.begin(), group.end(), fold));
}

bool installs(const std::vector<Batch>& group) {
  return std::any_of(group.begin(), group.end(), [](const Batch& batch) { return batch.install_snapshot; });
}

}  // namespace

LmdbStore::~LmdbStore() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (writer_.joinable()) writer_.join();
  reader_.reset();
  applier_.reset();
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
  applier_->settle();
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
  applier_->settle();
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
  applier_->settle();
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
    applier_->start();
    writer_ = std::thread([this] { run(); });
  }
}

Space LmdbStore::space() const {
  Space space = grow_->space();
  space.waiting = waiting_;
  space.snapshots_too_large = snapshots_too_large_;
  return space;
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
    } else {
      const std::uint64_t id = group_.back().id;
      const bool journaled = !direct_ && journal_group();
      const bool done = journaled || commit_group();
      group_.clear();
      if (done && on_durable_) on_durable_(id);
      if (done && !journaled) clear_some();
      if (!done) {  // nobody is waited for any more
        lock.lock();
        break;
      }
    }
    lock.lock();
  }
  lock.unlock();
  applier_->drain();
  close_journal();
}

// The rest is entries of the log, which the journal takes, and what follows from these, which can wait. What holds
// nothing at all asks for a transaction.
bool LmdbStore::needs_database(const Batch& batch, Zxid last_logged) const {
  if (batch.install_snapshot || batch.identity || batch.repaired || batch.truncate_after || batch.epochs) return true;
  if (batch.append.empty() && !batch.commit_hint && !batch.fold) return true;
  const Zxid last = batch.append.empty() ? last_logged : batch.append.back().zxid;
  return batch.fold && batch.fold->tree_durable > last;
}

// Waits for work and moves one record's or transaction's worth into group_. False: stopped, and all is done.
bool LmdbStore::take(std::unique_lock<std::mutex>& lock) {
  while (queue_.empty() && !stop_) {
    idle_ = true;
    wake_.wait(lock);
  }
  idle_ = false;
  const Space space = grow_->space();
  const bool tight = space.grown_bytes < space.used_bytes + options_.grow_bytes / 2;
  const bool journaling = journal_ != nullptr && !grow_->full();
  std::size_t bytes_max = tight ? kGroupBytesTight : kGroupBytesMax;
  if (journaling) bytes_max = std::min<std::size_t>(bytes_max, journal_->segment_bytes() / 2);
  Weight sum;
  Zxid last = front_.positions.last_logged;
  while (!queue_.empty()) {
    auto* batch = std::get_if<Batch>(&queue_.front());
    if (batch == nullptr) {
      if (!group_.empty()) break;
      item_ = std::move(queue_.front());
      queue_.pop_front();
      return true;
    }
    const bool direct = !journaling || needs_database(*batch, last);
    const Weight weight = weigh(*batch);
    const bool fits = sum.entries + weight.entries <= kGroupEntriesMax && sum.bytes + weight.bytes <= bytes_max;
    if (!group_.empty() && (!fits || direct != direct_)) break;
    direct_ = direct;
    sum.entries += weight.entries;
    sum.bytes += weight.bytes;
    if (!batch->append.empty()) last = batch->append.back().zxid;
    group_.push_back(std::move(*batch));
    queue_.pop_front();
  }
  return !group_.empty();
}

void LmdbStore::handle(Item item) {
  applier_->drain();
  std::unique_lock database(database_);
  if (const auto* first = std::get_if<BeginSnapshot>(&item)) {
    state_.staged = Zxid{};
    stager_->begin(dbs_, first->zxid);
    snapshots_too_large_ = stager_->too_large();
  } else if (const auto* piece = std::get_if<PieceOfSnapshot>(&item)) {
    stager_->piece(dbs_, piece->bytes);
    snapshots_too_large_ = stager_->too_large();
  } else if (const auto* end = std::get_if<EndSnapshot>(&item)) {
    const Zxid staged = state_.staged = stager_->end(dbs_);
    snapshots_too_large_ = stager_->too_large();
    database.unlock();
    end->staged(staged);
  } else {
    state_.staged = Zxid{};
    stager_->drop();
  }
  applier_->look_aside();
}

// A slice whenever there is nothing to do; under load one in a while, so that a transaction rarely waits for it. The
// writer does its share: who writes all the time might leave the applier no moment in between.
void LmdbStore::clear_some() {
  {
    const std::lock_guard lock(mutex_);
    const bool busy = !queue_.empty() || stop_;
    if (busy && ++since_slice_ < kGroupsPerSlice) return;
  }
  since_slice_ = 0;
  const std::unique_lock database(database_, std::try_to_lock);
  if (database && stager_->may_clear()) stager_->clear_slice(dbs_);  // else the applier is at it
}

Applier::Aside LmdbStore::clear_aside() {
  const std::lock_guard database(database_);
  if (!stager_->garbage()) return Applier::Aside::kNothing;
  if (stager_->may_clear() && stager_->clear_slice(dbs_)) return Applier::Aside::kMore;
  return Applier::Aside::kLater;
}

void LmdbStore::note_age(Zxid last_logged) {
  if (options_.log_keep_ms == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (ages_.empty() || now - ages_.back().first >= std::chrono::seconds(1)) ages_.emplace_back(now, last_logged);
  const auto keep = std::chrono::milliseconds(options_.log_keep_ms);
  while (ages_.size() > 1 && now - ages_[1].first >= keep) ages_.pop_front();
}

PurgeLimits LmdbStore::purge_limits(std::uint64_t slice) const {
  PurgeLimits limits;
  limits.keep_bytes = options_.log_keep_bytes;
  limits.keep_entries = options_.log_keep_entries;
  limits.slice = slice;
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

// --- the journal's way

// False: it is to be a transaction after all.
bool LmdbStore::journal_group() {
  const auto begin = std::chrono::steady_clock::now();
  applier_->wait_for_room();
  Applier::Group group;
  const PageBound bound(env_.page_size());
  Done done;
  for (const Batch& batch : group_) {
    const Weight weight = weigh(batch);
    group.bytes += weight.bytes;
    group.entries += weight.entries;
    done.entries += batch.append.size();
    if (batch.fold) done.folded_nodes += batch.fold->nodes.size();
    bound.add(batch, group.work);
  }
  const std::uint64_t bytes = Journal::bytes_of(group_);
  if (!journal_->fits(bytes) || !room_for(group.work)) return false;
  // Before it is written: what contradicts the log would be found again by each start.
  for (const Batch& batch : group_) {
    const char* contradiction = follow(front_, batch);
    COORD_CHECK_MSG(contradiction == nullptr, contradiction);
  }
  group.sequence = journal_->sequence();
  if (done.entries > 0) {
    if (!journal_->begun()) begin_journal();
    applier_->wait_for(journal_->overwrites(bytes));
    group.sequence = journal_->append(group_);
  }
  group.batches = std::move(group_);
  group_ = {};
  applier_->add(std::move(group));
  count(begin, done, true);
  return true;
}

// The database is to take it one day: with all that waits already, it must fit what is written ahead.
bool LmdbStore::room_for(const Work& work) const {
  auto [taken, queued] = applier_->ahead();
  queued += work;
  queued.log.deletes = 2 * queued.log.puts + kPurgeBase;
  taken.log.deletes = 2 * taken.log.puts + kPurgeBase;
  Txn txn;
  if (const int rc = txn.begin(env_, MDB_RDONLY); rc != 0) failed("begin", rc);
  const PageBound bound(env_.page_size());
  const std::uint64_t pages = bound.pages(txn.get(), dbs_, queued) + bound.pages(txn.get(), dbs_, taken);
  txn.abort();
  return grow_->reserve(pages * env_.page_size()).covered();
}

// The header first: a journal that the database does not know holds nothing.
void LmdbStore::begin_journal() {
  const auto id = fresh_journal_id();
  COORD_CHECK_MSG(id, "no random numbers to be had from the system");
  applier_->drain();
  journal_->begin(*id);
  const std::lock_guard database(database_);
  std::vector<Batch> nothing;
  Failure no_room;
  if (!commit(nothing, {}, {true, *id, 0}, 0, no_room)) failed(no_room.what, no_room.rc);
}

// All is applied. Who opens next finds nothing in the journal, or does not even know of it.
void LmdbStore::close_journal() {
  if (journal_ == nullptr || !journal_->begun()) return;
  const std::lock_guard database(database_);
  std::vector<Batch> nothing;
  Failure no_room;
  // Left open, it is looked at by the next start, and holds nothing new.
  if (!commit(nothing, {}, {false, journal_->id(), journal_->sequence()}, purge_owed_, no_room)) {
    log::warn("store", "no room to close the journal: {}", lmdb_text(no_room.rc));
  }
}

void LmdbStore::apply(Applier::Group& group) {
  const auto begin = std::chrono::steady_clock::now();
  {
    const std::lock_guard database(database_);
    JournalMark mark = mark_;
    mark.sequence = std::max(mark.sequence, group.sequence);
    Failure no_room;  // it was covered when it was journaled
    if (!commit(group.batches, group.work, mark, kPurgeBase, no_room)) failed(no_room.what, no_room.rc);
  }
  const auto spent = std::chrono::steady_clock::now() - begin;
  const auto ns = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  const std::lock_guard lock(mutex_);
  ++counters_.applied;
  counters_.apply_ns_total += ns;
}

// --- the database's

// False: there was no room until the store is to close.
bool LmdbStore::commit_group() {
  const auto begin = std::chrono::steady_clock::now();
  applier_->drain();
  Work work;
  const PageBound bound(env_.page_size());
  for (const Batch& batch : group_) bound.add(batch, work);
  std::optional<Done> done;
  while (!done) {
    Failure no_room;
    {
      const std::lock_guard database(database_);
      done = commit(group_, work, mark_, kPurgeBase, no_room);
      front_ = state_;
      if (!done && !options_.wait_for_room) failed(no_room.what, no_room.rc);
    }
    if (!done && !wait_for_room(no_room)) return false;
  }
  waiting_ = false;
  applier_->look_aside();
  count(begin, *done, false);
  return true;
}

// A while, in which what was left over may be cleared away; false: the store is to close.
bool LmdbStore::wait_for_room(const Failure& why) {
  if (!waiting_.exchange(true)) {
    log::warn("store", "what comes next does not fit and waits for room, tried again every second: {} in {}: {}",
              why.what, directory_.data_file(), lmdb_text(why.rc));
  }
  applier_->look_aside();
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, kRoomRetry, [this] { return stop_; });
}

void LmdbStore::count(std::chrono::steady_clock::time_point begin, const Done& done, bool journaled) {
  const auto spent = std::chrono::steady_clock::now() - begin;
  const auto ns = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  const std::lock_guard lock(mutex_);
  ++counters_.commits;
  if (journaled) ++counters_.journaled;
  counters_.entries += done.entries;
  counters_.folded_nodes += done.folded_nodes;
  counters_.commit_ns_total += ns;
  counters_.commit_ns_max = std::max(counters_.commit_ns_max, ns);
}

// One durable transaction. `purge_for`: entries to purge besides those that make room for the new ones. nullopt: there
// was no room for it (which LMDB may find out when it has written some of it), and nothing has changed.
std::optional<LmdbStore::Done> LmdbStore::commit(std::vector<Batch>& batches, Work work, const JournalMark& mark,
                                                 std::uint64_t purge_for, Failure& no_room) {
  State state = state_;
  Done done;
  Txn txn;
  if (const int rc = txn.begin(env_, 0); rc != 0) failed("begin", rc);

  const PageBound bound(env_.page_size());
  work.log.deletes = 2 * work.log.puts + purge_for;
  const std::uint64_t used = env_.used_bytes();
  std::uint64_t bytes = bound.pages(txn.get(), dbs_, work) * env_.page_size();
  // An install empties the log: the list of its pages is written. What is folded then goes to the other slot.
  const bool installing = installs(batches);
  if (installing) {
    Databases other = dbs_;
    other.swap_slots();
    bytes += bound.pages(txn.get(), other, work) * env_.page_size() + kInstallBytes + used / 256;
  }
  const GrowAhead::Lease lease = grow_->reserve(bytes);

  if (!batches.empty()) purge_owed_ = folds(batches) > 1 ? 2 * work.log.puts + kPurgeBase : 0;
  Failure failure = apply_all(txn, batches, purge_for, state, done);
  if (failure.rc == 0 && (mark.open != mark_.open || mark.sequence != mark_.sequence)) {
    failure = {"write", write_mark(txn.get(), dbs_.meta, mark)};
  }
  if (failure.rc == 0) failure = {"commit", txn.commit()};
  if (failure.rc != 0) {
    txn.abort();
    if (failure.rc != MDB_MAP_FULL && !grow_->only_full(lease, failure.rc)) failed(failure.what, failure.rc);
    if (failure.rc == EIO) failure.rc = ENOSPC;  // of a write that the disk took a part of; a broken one would say so
    no_room = failure;
    return std::nullopt;
  }
  state_ = state;
  mark_ = mark;
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
  return done;
}

LmdbStore::Failure LmdbStore::apply_all(Txn& txn, std::vector<Batch>& batches, std::uint64_t purge_for, State& state,
                                        Done& done) {
  BatchApply apply(txn.get(), dbs_, env_.page_size(), state);
  for (Batch& batch : batches) {
    if (const int rc = apply.apply(batch); rc != 0) return {"write", rc};
  }
  PurgeLimits limits = purge_limits(2 * apply.entries() + purge_for);
  if (const int rc = limits.slice == 0 ? 0 : apply.purge(limits); rc != 0) return {"purge", rc};
  if (const int rc = apply.finish(); rc != 0) return {"write", rc};
  state = apply.state();
  done = {apply.entries(), apply.folded_nodes()};
  return {};
}

void LmdbStore::failed(const char* what, int rc) const {
  std::string text = lmdb_text(rc);
  if (rc == MDB_MAP_FULL) text += " (make coord.mapSize larger)";
  if (is_full(rc)) text += " (free some space on the disk)";
  storage_failed(std::string(what) + " in " + directory_.data_file(), text);
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
