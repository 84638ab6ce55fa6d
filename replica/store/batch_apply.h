// Carries out batches in a write transaction, in the order that store.h promises. One object is one transaction; the
// caller commits. Returns LMDB's codes; a batch that contradicts the state (a gap in the log, a truncation of what was
// committed) is a broken invariant. Writer thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "replica/store/lmdb_env.h"
#include "replica/store/meta_records.h"
#include "replica/store/schema.h"
#include "replica/store/store.h"

namespace coord::store {

// Where the store stands; changed when a transaction has been committed.
struct State {
  schema::Positions positions;
  Epochs epochs;
  Meta identity;  // sid, directory id, cluster id, secret
  Zxid staged;    // of the complete snapshot in the other slot; 0: none
};

// What a batch does to this that goes through the journal: entries, commit hint, and a fold of what is in the log.
// Returns what it contradicts, or nullptr.
const char* follow(State& state, const Batch& batch);

struct PurgeLimits {
  std::uint64_t keep_bytes = 0;  // of pages that the log takes
  std::uint64_t keep_entries = 0;
  std::uint64_t slice = 0;  // entries deleted at most
  Zxid ceiling{~std::uint64_t{0}};  // nothing above this: somebody still needs it
  Zxid old{~std::uint64_t{0}};      // nothing above this either, but for `bytes_most`: it is too young
  std::uint64_t bytes_most = ~std::uint64_t{0};
};

class BatchApply {
 public:
  BatchApply(MDB_txn* txn, const Databases& dbs, std::uint64_t page_size, const State& state)
      : txn_(txn), dbs_(dbs), page_size_(page_size), before_(state), state_(state) {}

  int apply(Batch& batch);
  int purge(const PurgeLimits& limits);
  // Writes the positions, and closes the cursors.
  int finish();

  const State& state() const { return state_; }
  const Databases& databases() const { return dbs_; }  // changed by an install
  bool installed() const { return installed_; }
  std::uint64_t entries() const { return entries_; }
  std::uint64_t folded_nodes() const { return folded_nodes_; }

 private:
  int install();
  int truncate(Zxid after);
  int append(const LogEntry& entry);
  int fold(FoldRecord& record);
  template <class Id>
  int fold_into(MDB_dbi dbi, std::vector<std::pair<Id, std::optional<std::string>>>& changes);
  Cursor* log_cursor(int& rc);

  MDB_txn* txn_;
  Databases dbs_;
  std::uint64_t page_size_;
  State before_;
  State state_;
  std::unique_ptr<Cursor> log_cursor_;
  bool installed_ = false;
  std::uint64_t entries_ = 0;
  std::uint64_t folded_nodes_ = 0;
};

}  // namespace coord::store
