// The two ends of a snapshot in LMDB: a source that reads the durable tree from one read transaction, and a stager that
// writes what comes from another replica into the slot that is not the tree.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "common/base/result.h"
#include "replica/store/grow_ahead.h"
#include "replica/store/lmdb_env.h"
#include "replica/store/meta_records.h"
#include "replica/store/page_bound.h"
#include "replica/store/snapshot_pieces.h"
#include "replica/store/store.h"

namespace coord::store {

// Positions above which the log must stay. Shared by the store and its sources, which may outlive it.
class Pins {
 public:
  void add(Zxid zxid);
  void remove(Zxid zxid);
  Zxid lowest() const;  // the highest zxid there can be, if there is none

 private:
  mutable std::mutex mutex_;
  std::multiset<Zxid> pins_;
};

class LmdbSnapshotSource final : public SnapshotSource {
 public:
  // `directory` for messages. The environment must outlive the source. Fault: it cannot be read.
  static Result<std::unique_ptr<LmdbSnapshotSource>, Fault> open(const Env& env, const Databases& dbs,
                                                                 std::shared_ptr<Pins> pins, std::string directory);
  ~LmdbSnapshotSource() override;
  Zxid zxid() const override { return zxid_; }
  std::uint64_t bytes() const override { return bytes_; }
  Result<std::string, Fault> next(std::size_t max_bytes) override;

 private:
  LmdbSnapshotSource(std::shared_ptr<Pins> pins, std::string directory)
      : pins_(std::move(pins)), directory_(std::move(directory)) {}
  int begin(const Env& env, const Databases& dbs);
  Result<bool, Fault> fill(RecordKind kind, MDB_dbi dbi, std::size_t max_bytes, std::string& out);
  Fault fault(const std::string& what) const;

  const std::shared_ptr<Pins> pins_;
  const std::string directory_;
  Txn txn_;  // the cursor goes first
  std::unique_ptr<Cursor> cursor_;
  Databases dbs_;
  Zxid zxid_;
  std::uint64_t bytes_ = 0;
  bool pinned_ = false;
  RecordKind at_ = RecordKind::kNode;
  SnapshotTotals totals_;
};

// Writer thread only. Each call is one or more durable transactions of its own. LMDB's errors end the process, by
// `failed`; a disk without room is met before anything is written, and makes a snapshot fail, or clearing wait.
//
// Pieces are gathered until there is enough for a transaction: each one is two flushes, which everybody waits for who
// shares the disk.
//
// What lies in the other slot and is not wanted (the tree before an install, a snapshot that was given up) is emptied
// in slices: dropped at once, all its pages would be one record of LMDB's free list, which every commit writes anew.
class SnapshotStager {
 public:
  using Failed = std::function<void(const char* what, int rc)>;  // does not return
  SnapshotStager(const Env& env, GrowAhead& grow, Failed failed)
      : env_(env), grow_(grow), failed_(std::move(failed)), bound_(env.page_size()) {}

  // At start: something may lie in the other slot.
  int look(const Databases& dbs);
  void begin(const Databases& dbs, Zxid zxid);
  void piece(const Databases& dbs, const std::string& bytes);
  Zxid end(const Databases& dbs);  // 0: damaged, or it did not fit
  std::uint64_t too_large() const { return too_large_; }  // so many did not fit
  void drop();
  // The snapshot has become the tree; what was the tree lies in the other slot.
  void installed() { other_ = Other::kGarbage; }
  // There is something to empty, and it was not found a moment ago that there is no room to do so.
  bool may_clear() const;
  bool garbage() const { return other_ == Other::kGarbage; }
  bool clear_slice(const Databases& dbs);  // false: no room

 private:
  enum class Other { kClean, kReceiving, kStaged, kGarbage };

  template <class Write>
  bool transaction(const Databases& bound_dbs, const Work& work, std::uint64_t leave, Write&& write);
  int clear_some(MDB_txn* txn, MDB_dbi dbi, std::uint64_t records);
  void write_gathered(const Databases& dbs);

  const Env& env_;
  GrowAhead& grow_;
  const Failed failed_;
  const PageBound bound_;
  Zxid zxid_;
  Other other_ = Other::kClean;
  std::uint64_t too_large_ = 0;
  std::chrono::steady_clock::time_point retry_;
  SnapshotReader reader_;
  std::string gathered_;  // pieces that are not written yet
};

}  // namespace coord::store
