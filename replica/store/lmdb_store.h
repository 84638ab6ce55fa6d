// The store on LMDB: one writer thread that merges what is queued into one transaction and commits it durably (default
// sync flags), and the thread that writes the file ahead. On disk: schema.h. Shell.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "replica/store/batch_apply.h"
#include "replica/store/data_directory.h"
#include "replica/store/grow_ahead.h"
#include "replica/store/lmdb_env.h"
#include "replica/store/lmdb_snapshot.h"
#include "replica/store/log_reader.h"
#include "replica/store/page_bound.h"
#include "replica/store/store.h"

namespace coord::store {

class LmdbStore final : public Store {
 public:
  static Result<std::unique_ptr<Store>, Fault> open(const LmdbOptions& options);
  ~LmdbStore() override;

  const Meta& meta() const override { return meta_; }
  Result<bool, Fault> load_tree(const OnNode&, const OnSession&, const OnCounters&) override;
  Result<bool, Fault> read_log(Zxid after, const std::function<void(LogEntry)>& on_entry) override;
  void read_log_later(Zxid after, Zxid up_to, std::size_t max_bytes,
                      std::function<void(std::vector<LogEntry>)> done) override;
  std::unique_ptr<SnapshotSource> open_snapshot() override;
  void snapshot_begin(Zxid zxid) override;
  void snapshot_piece(std::string bytes) override;
  void snapshot_end(std::function<void(Zxid)> staged) override;
  void snapshot_drop() override;
  void set_on_durable(std::function<void(std::uint64_t batch_id)> on_durable) override;
  void submit(Batch batch) override;
  Space space() const override { return grow_->space(); }
  Counters counters() const override;
  void set_on_space(std::function<void(bool refuse_writes)> on_space) override;

 private:
  LmdbStore(const LmdbOptions& options, DataDirectory directory);

  Result<bool, Fault> inspect();
  Result<bool, Fault> check_identity(const Meta& meta) const;
  Result<bool, Fault> open_env();
  Result<bool, Fault> open_grower();
  Result<bool, Fault> salvage();
  Result<bool, Fault> verify();
  int empty_all(MDB_txn* txn);
  Fault fault(const std::string& what) const;
  template <class Id>
  Result<bool, Fault> load_records(MDB_txn* txn, MDB_dbi dbi, const char* name,
                                   const std::function<Result<bool, Fault>(Id, std::string_view)>& on_record);

  // What the writer does besides batches, in order with them.
  struct BeginSnapshot {
    Zxid zxid;
  };
  struct PieceOfSnapshot {
    std::string bytes;
  };
  struct EndSnapshot {
    std::function<void(Zxid)> staged;
  };
  struct DropSnapshot {};
  using Item = std::variant<Batch, BeginSnapshot, PieceOfSnapshot, EndSnapshot, DropSnapshot>;

  void enqueue(Item item);
  void run();
  bool take(std::unique_lock<std::mutex>& lock);
  void handle(Item item);
  void clear_some();
  PurgeLimits purge_limits(std::uint64_t entries) const;
  void note_age(Zxid last_logged);
  void commit_group();
  void apply_group(Txn& txn, State& state, Counters& done);
  std::uint64_t free_bytes() const;
  [[noreturn]] void failed(const char* what, int rc) const;

  const LmdbOptions options_;
  DataDirectory directory_;
  Env env_;
  Databases dbs_;     // the writer changes the slots
  Databases opened_;  // as at open, for other threads: the slot is read with the transaction
  Meta meta_;
  std::optional<std::string> broken_log_;  // with salvage only
  std::unique_ptr<GrowAhead> grow_;
  std::function<void(std::uint64_t)> on_durable_;
  std::function<void(bool)> on_space_;

  // Writer thread only, once it runs.
  State state_;
  std::vector<Batch> group_;  // becomes one transaction
  std::optional<Item> item_;  // or this is done
  std::uint64_t since_slice_ = 0;
  std::unique_ptr<SnapshotStager> stager_;
  // When the log ended where; for log_keep_ms. Oldest first, at most one a second.
  std::deque<std::pair<std::chrono::steady_clock::time_point, Zxid>> ages_;
  const std::shared_ptr<Pins> pins_ = std::make_shared<Pins>();

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> queue_;
  std::uint64_t last_id_ = 0;
  bool idle_ = false;
  bool stop_ = false;
  Counters counters_;
  std::thread writer_;  // starts with the first item
  std::unique_ptr<LogReader> reader_;
};

}  // namespace coord::store
