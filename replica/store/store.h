// The durable state of a replica: its log of proposals, the tree (folded in behind the log), epochs and identity, in
// one environment, changed together in atomic batches (design.md section 2; zab.md section 5). This face is what the
// runtime and the simulator see; lmdb_store.h is the real thing, memory_store.h the one for tests, which can lose what
// was not yet reported durable.
//
// Threading: open, load and read before the first submit, on one thread; submit from one thread (the core); completions
// come on the writer thread, in order. Errors: a Fault at open. After that a storage error ends the process (log line,
// exit status 1): a failed sync is never retried. A disk that fills up is met earlier, see space(); what does not fit
// even then waits for room, where that was asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/model/ids.h"

namespace coord::store {

using Payload = std::shared_ptr<const std::string>;

struct LogEntry {
  Zxid zxid;
  Zxid previous;  // the chain check (zab.md section 3.6); 0 for the first
  Payload payload;
};

// What must survive a crash besides log and tree. Written by the core's decisions only.
struct Epochs {
  std::uint32_t accepted = 0;  // highest epoch promised; kept twice
  std::uint32_t current = 0;   // last epoch whose history was adopted
  Sid accepted_from;           // who was promised `accepted`; 0: unknown
};

struct Meta {
  std::string directory_id;  // 16 random bytes, made when the directory is first used: tells a disk that was lost
  std::string
      cluster_id;  // 32 hex digits, adopted with the first history; empty before. Binds once something is logged
  std::string secret;        // 32 random bytes of the ensemble: key of the session passwords; comes with cluster_id
  bool damaged = false;      // log and tree were emptied because something in them was broken (LmdbOptions::salvage)
  Sid sid;
  Epochs epochs;
  std::vector<Zxid> epoch_ends;  // the last zxid of each epoch in the log above log_floor, ascending
  Zxid tree_durable;   // the fold in the store
  Zxid commit_hint;    // everything up to here was committed (may lag)
  Zxid log_floor;      // the log holds everything above this; purged below
  Zxid last_logged;    // = tree_durable when the log is empty
};

struct FoldRecord {
  Zxid tree_durable;
  std::vector<std::pair<NodeId, std::optional<std::string>>> nodes;        // nullopt: delete
  std::vector<std::pair<SessionId, std::optional<std::string>>> sessions;  // nullopt: delete
  std::string counters;
};

struct Identity {
  std::string cluster_id;
  std::string secret;
};

// One atomic, durable step; but what only follows from the log (commit hint, fold) may become durable later, after what
// it follows from. Applied in this order: install_snapshot, truncate, append, epochs, identity, commit hint, fold. A
// batch of nothing makes everything before it durable, folds as well. Purging happens in small slices inside batches,
// by the store's own limits, never above min(commit_hint, tree_durable), nor above what an open SnapshotSource needs.
struct Batch {
  std::uint64_t id = 0;  // ascending; reported when durable
  // The staged snapshot becomes the tree; the log is emptied; tree_durable, commit_hint, log_floor and last_logged are
  // its zxid. A fold of the same batch or a later one continues from there.
  bool install_snapshot = false;
  std::optional<Identity> identity;
  bool repaired = false;  // meta.damaged is over
  std::optional<Zxid> truncate_after;
  std::vector<LogEntry> append;
  std::optional<Epochs> epochs;
  std::optional<Zxid> commit_hint;
  std::optional<FoldRecord> fold;
};

struct Space {
  bool refuse_writes = false;       // the disk could not be extended ahead and the reserve is all that is left
  std::uint64_t used_bytes = 0;     // of the data file by the database
  std::uint64_t grown_bytes = 0;    // written ahead on disk
  // A batch does not fit any more: it waits for room, and all behind it (LmdbOptions::wait_for_room).
  bool waiting = false;
  bool map_full = false;                  // LmdbOptions::map_bytes is what ends here, not the disk
  std::uint64_t snapshots_too_large = 0;  // so many from other replicas did not fit
};

// What the writer did, for the metrics.
struct Counters {
  std::uint64_t commits = 0;
  std::uint64_t entries = 0;
  std::uint64_t folded_nodes = 0;
  std::uint64_t commit_ns_total = 0;
  std::uint64_t commit_ns_max = 0;
  std::uint64_t journaled = 0;  // of the commits, those that a journal made durable
  std::uint64_t applied = 0;    // transactions that took over what was journaled
  std::uint64_t apply_ns_total = 0;
};

// A consistent copy of the durable tree for another replica, made while writes go on. Any one thread at a time.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;  // until then the log above zxid() is not purged
  virtual Zxid zxid() const = 0;
  virtual std::uint64_t bytes() const = 0;  // about
  // The next piece, about `max_bytes`; empty: that was all, and the read transaction is over. Fault: a broken record.
  virtual Result<std::string, Fault> next(std::size_t max_bytes) = 0;
};

class Store {
 public:
  virtual ~Store() = default;  // waits for what was submitted, but for what waits for room

  virtual const Meta& meta() const = 0;  // as of open
  // Calls back for each record of the tree as of meta().tree_durable. Stops at and returns the first Fault (a broken
  // checksum names the record and says what to do).
  using OnNode = std::function<Result<bool, Fault>(NodeId, std::string_view)>;
  using OnSession = std::function<Result<bool, Fault>(SessionId, std::string_view)>;
  using OnCounters = std::function<Result<bool, Fault>(std::string_view)>;
  virtual Result<bool, Fault> load_tree(const OnNode&, const OnSession&, const OnCounters&) = 0;
  // Also after an install_snapshot has become durable, on any thread, while no fold is being submitted.
  // The log above `after`, ascending, checksum and chain checked.
  virtual Result<bool, Fault> read_log(Zxid after, const std::function<void(LogEntry)>& on_entry) = 0;
  // Some of the durable log in (after, up_to], at least one entry and about `max_bytes`, for a learner; empty when it
  // begins above after + 1 (purged). `done` is called on a thread of the store's, never inside this call. A broken
  // record there ends the process (the next start salvages).
  virtual void read_log_later(Zxid after, Zxid up_to, std::size_t max_bytes,
                              std::function<void(std::vector<LogEntry>)> done) = 0;

  // --- snapshots
  // Any thread. Of everything reported durable: may wait for a transaction.
  virtual std::unique_ptr<SnapshotSource> open_snapshot() = 0;
  // The receiving side, on the submitting thread, in order with submit: pieces as SnapshotSource::next gave them are
  // written beside the present state; end verifies (record checksums, count, digest in the last piece) and makes them
  // durable; `staged` is called on the writer thread with the zxid, or 0 if it was damaged. Nothing is visible before
  // Batch::install_snapshot. begin drops what an earlier one left; so does a restart.
  virtual void snapshot_begin(Zxid zxid) = 0;
  virtual void snapshot_piece(std::string bytes) = 0;
  virtual void snapshot_end(std::function<void(Zxid)> staged) = 0;
  virtual void snapshot_drop() = 0;

  // Queues a batch. The writer may commit several queued batches as one transaction. `on_durable` (set once, before the
  // first submit) is called on the writer thread with the id of the last batch that is now durable.
  virtual void set_on_durable(std::function<void(std::uint64_t batch_id)> on_durable) = 0;
  virtual void submit(Batch batch) = 0;
  virtual Space space() const = 0;        // any thread, cheap
  virtual Counters counters() const = 0;  // any thread
  // Called on some thread when space().refuse_writes changes. Set before the first submit.
  virtual void set_on_space(std::function<void(bool refuse_writes)> on_space) = 0;
};

struct LmdbOptions {
  std::string directory;                  // created, 0700, if it does not exist; its parent must
  Sid sid{1};
  std::string cluster_id;                 // not empty: must be the directory's, if it has one (else a Fault)
  // A damaged log or tree is emptied, keeping epochs and identity, and Meta::damaged is set, instead of a Fault: for a
  // member of an ensemble, which gets everything from the others. Damaged epochs or identity are a Fault always.
  bool salvage = false;
  // A batch that does not fit waits for room, tried again every second, instead of ending the process: for a member of
  // an ensemble, which can leave it meanwhile. Space::waiting tells; the destructor drops what waits.
  bool wait_for_room = false;
  std::uint64_t map_bytes = 256ULL << 30;  // address space
  std::uint64_t grow_bytes = 32ULL << 20;  // step in which the file is written ahead, off the commit path
  // Of each of the two segments of the journal (journal.h), whole blocks; 0: none, each batch is a transaction.
  std::uint64_t journal_bytes = 8ULL << 20;
  // How long what is journaled may wait for the database, at most and when nothing more comes.
  std::uint64_t apply_age_ms = 500;
  std::uint64_t apply_quiet_ms = 50;
  std::uint64_t apply_bytes = 0;  // how much of it makes a transaction at once; 0: 4 MiB, or an eighth of grow_bytes
  std::uint64_t log_keep_bytes = 64ULL << 20;  // purge the log above this
  std::uint64_t log_keep_entries = 100'000;    // or above this, whichever comes first
  // But nothing younger than this, up to 8 times log_keep_bytes; 0: no such rule.
  std::uint64_t log_keep_ms = 0;
};

// Opens or creates. Faults, each naming the directory and the remedy, nothing changed: not a directory or not writable,
// in use by another process (a lock file held by flock), another format version, another sid or cluster id, epochs
// missing beside a log, the two copies of the epochs differ, damaged meta records, a journal that is needed and is
// missing, damaged, or of another time than the database.
Result<std::unique_ptr<Store>, Fault> open_lmdb(const LmdbOptions& options);

}  // namespace coord::store
