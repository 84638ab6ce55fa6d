// The two ends of a snapshot in LMDB: a source that reads the durable tree from one read transaction, and a stager that
// writes what comes from another replica into the slot that is not the tree.
#pragma once

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

// Writer thread only. Each call is a durable transaction of its own. LMDB's errors end the process, by `failed`.
class SnapshotStager {
 public:
  using Failed = std::function<void(const char* what, int rc)>;  // does not return
  SnapshotStager(const Env& env, GrowAhead& grow, Failed failed)
      : env_(env), grow_(grow), failed_(std::move(failed)) {}

  void begin(const Databases& dbs, Zxid zxid);
  void piece(const Databases& dbs, const std::string& bytes);
  Zxid end(const Databases& dbs);  // 0: damaged, or it did not fit
  void drop(const Databases& dbs);
  // The slot that is not the tree is emptied; also after an install, of what was the tree before.
  void clear(const Databases& dbs);

 private:
  template <class Write>
  void transaction(std::uint64_t bytes, Write&& write);

  const Env& env_;
  GrowAhead& grow_;
  const Failed failed_;
  Zxid zxid_;
  bool receiving_ = false, good_ = false, dirty_ = true;  // dirty: the other slot may hold something
  SnapshotReader reader_;
};

}  // namespace coord::store
