// The durable state of a replica: its log of proposals, the tree (folded in behind the log), epochs and identity, in
// one environment, changed together in atomic batches (design.md section 2; zab.md section 5). This face is what the
// runtime and the simulator see; lmdb_store.h is the real thing, memory_store.h the one for tests, which can lose what
// was not yet reported durable.
//
// Threading: open, load and read before the first submit, on one thread; submit from one thread (the core); completions
// come on the writer thread, in order. Errors: a Fault at open. After that a storage error ends the process (log line,
// then abort): a failed sync is never retried. A disk that fills up is met earlier, see space().
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
};

struct Meta {
  std::string cluster_id;  // 32 hex digits, made when the directory is first used
  std::string secret;      // 32 random bytes of the ensemble: key of the session passwords
  Sid sid;
  Epochs epochs;
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

// One atomic, durable step. Applied in this order: truncate, append, epochs, commit hint, fold. Purging happens in
// small slices inside batches, by the store's own limits, never above min(commit_hint, tree_durable).
struct Batch {
  std::uint64_t id = 0;  // ascending; reported when durable
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
};

// What the writer did, for the metrics.
struct Counters {
  std::uint64_t commits = 0;
  std::uint64_t entries = 0;
  std::uint64_t folded_nodes = 0;
  std::uint64_t commit_ns_total = 0;
  std::uint64_t commit_ns_max = 0;
};

class Store {
 public:
  virtual ~Store() = default;  // waits for what was submitted

  virtual const Meta& meta() const = 0;  // as of open
  // Calls back for each record of the tree as of meta().tree_durable. Stops at and returns the first Fault (a broken
  // checksum names the record and says what to do).
  using OnNode = std::function<Result<bool, Fault>(NodeId, std::string_view)>;
  using OnSession = std::function<Result<bool, Fault>(SessionId, std::string_view)>;
  using OnCounters = std::function<Result<bool, Fault>(std::string_view)>;
  virtual Result<bool, Fault> load_tree(const OnNode&, const OnSession&, const OnCounters&) = 0;
  // The log above `after`, ascending, checksum and chain checked.
  virtual Result<bool, Fault> read_log(Zxid after, const std::function<void(LogEntry)>& on_entry) = 0;

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
  std::string cluster_id;                 // empty: take the directory's, or make one
  std::uint64_t map_bytes = 256ULL << 30;  // address space
  std::uint64_t grow_bytes = 32ULL << 20;  // step in which the file is written ahead, off the commit path
  std::uint64_t log_keep_bytes = 64ULL << 20;  // purge the log above this
  std::uint64_t log_keep_entries = 100'000;    // or above this, whichever comes first
};

// Opens or creates. Faults, each naming the directory and the remedy, nothing changed: not a directory or not writable,
// in use by another process (a lock file held by flock), another format version, another sid or cluster id, epochs
// missing beside a log, the two copies of the epochs differ, damaged meta records.
Result<std::unique_ptr<Store>, Fault> open_lmdb(const LmdbOptions& options);

}  // namespace coord::store
