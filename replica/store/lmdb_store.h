// The store on LMDB, with a journal in front of it (journal.h). The writer thread merges what is queued into one record
// of the journal, reports it durable, and hands it to the applier's thread, which brings the database up to it in
// larger transactions (default sync flags: each is durable). What a journal record cannot say (epochs, identity,
// truncation, an installed snapshot), and everything where there is no journal or the disk is full, the writer commits
// itself, once all before it is applied. A third thread writes the file ahead. On disk: schema.h. Shell.
#pragma once

#include <atomic>
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

#include "replica/store/applier.h"
#include "replica/store/batch_apply.h"
#include "replica/store/data_directory.h"
#include "replica/store/grow_ahead.h"
#include "replica/store/journal.h"
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
  Space space() const override;
  Counters counters() const override;
  void set_on_space(std::function<void(bool refuse_writes)> on_space) override;

 private:
  LmdbStore(const LmdbOptions& options, DataDirectory directory);

  // lmdb_open.cc
  Result<bool, Fault> inspect();
  Result<bool, Fault> inspect_journal(MDB_txn* txn, const Databases& dbs, const Meta& meta);
  Result<bool, Fault> check_identity(const Meta& meta) const;
  Result<bool, Fault> make_data_file();
  Result<bool, Fault> open_env();
  Result<bool, Fault> open_grower();
  Result<bool, Fault> open_journal();
  Result<bool, Fault> replay();
  int replay(Applier::Group& group, const JournalMark& mark);
  static Batch batch_of(const JournalRecord& record);
  void take_meta(Meta meta);
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
  PurgeLimits purge_limits(std::uint64_t slice) const;
  void note_age(Zxid last_logged);
  struct Failure {
    const char* what = "";
    int rc = 0;
  };
  // Writer thread.
  bool needs_database(const Batch& batch, Zxid last_logged) const;
  bool commit_group();
  bool wait_for_room(const Failure& why);
  void clear_some();
  bool journal_group();
  bool room_for(const Work& work) const;
  void begin_journal();
  void close_journal();
  // Applier's thread.
  void apply(Applier::Group& group);
  Applier::Aside clear_aside();
  // The holder of database_.
  struct Done {
    std::uint64_t entries = 0;
    std::uint64_t folded_nodes = 0;
  };
  std::optional<Done> commit(std::vector<Batch>& batches, Work work, const JournalMark& mark, std::uint64_t purge_for,
                             Failure& no_room);
  Failure apply_all(Txn& txn, std::vector<Batch>& batches, std::uint64_t purge_for, State& state, Done& done);
  void count(std::chrono::steady_clock::time_point begin, const Done& done, bool journaled);
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

  std::vector<JournalRecord> left_;        // by a former life; while opening only

  // Writer thread only, once it runs. The databases' names for the slots change only there, with database_ held.
  std::unique_ptr<Journal> journal_;  // nullptr: each batch is a transaction
  State front_;                       // as of all that is durable
  std::vector<Batch> group_;          // becomes one record, or one transaction
  bool direct_ = false;               // a transaction
  std::optional<Item> item_;          // or this is done
  std::uint64_t since_slice_ = 0;

  std::mutex database_;  // held by the thread that writes to the database; taken before mutex_
  State state_;          // of the database
  JournalMark mark_;
  std::uint64_t purge_owed_ = 0;  // entries to purge for: several folds were merged, which holds back a purge
  std::unique_ptr<SnapshotStager> stager_;
  // When the log ended where; for log_keep_ms. Oldest first, at most one a second.
  std::deque<std::pair<std::chrono::steady_clock::time_point, Zxid>> ages_;
  const std::shared_ptr<Pins> pins_ = std::make_shared<Pins>();

  std::atomic<bool> waiting_{false};             // for room
  std::atomic<std::uint64_t> snapshots_too_large_{0};

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> queue_;
  std::uint64_t last_id_ = 0;
  bool idle_ = false;
  bool stop_ = false;
  Counters counters_;
  std::thread writer_;  // starts with the first item, and with it the applier and the grower
  std::unique_ptr<Applier> applier_;
  std::unique_ptr<LogReader> reader_;
};

}  // namespace coord::store
