// The store's face without a disk, for tests and the simulator. What is durable lives in a MemoryDisk that outlives the
// store, as a disk outlives a process; what was submitted and not completed dies with the store, as in a crash.
//
// Completion: kInline completes in submit (on_durable is called before submit returns); kManual when complete() is
// called. One thread, or the caller serializes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replica/store/snapshot_pieces.h"
#include "replica/store/store.h"

namespace coord::store {

struct MemoryDisk {
  Meta meta;  // an empty directory_id: nothing has been made of this disk yet
  std::map<Zxid, LogEntry> log;
  std::map<NodeId, std::string> nodes;
  std::map<SessionId, std::string> sessions;
  std::optional<std::string> counters;
};

class MemoryStore final : public Store {
 public:
  enum class Completion { kInline, kManual };
  struct Options {
    Sid sid{1};
    Completion completion = Completion::kInline;
    std::uint64_t log_keep_entries = 100'000;
    std::string directory_id = std::string(16, 'd');  // of a disk that is new
  };

  // A disk that is null or empty becomes a virgin directory (nothing here is random).
  MemoryStore(std::shared_ptr<MemoryDisk> disk, Options options);
  explicit MemoryStore(Options options);
  ~MemoryStore() override = default;  // drops what is pending

  // --- for the test
  const std::shared_ptr<MemoryDisk>& disk() const { return disk_; }
  std::size_t pending() const { return queue_.size(); }
  // Makes the next `count` batches durable as one transaction, and reports the last of them; `report` false: durable,
  // but the process is to die before it hears of it.
  void complete(std::size_t count = SIZE_MAX, bool report = true);
  void set_space(const Space& space);
  // Answers what was asked for with read_log_later, and reports what was staged, one by one; by itself with kInline,
  // before the next call of a method of the store returns, never inside the call that asked.
  std::size_t later() const { return later_.size(); }
  void run_later(std::size_t count = SIZE_MAX);

  // --- Store
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
  Space space() const override { return space_; }
  Counters counters() const override { return counters_; }
  void set_on_space(std::function<void(bool refuse_writes)> on_space) override;

 private:
  struct Staged {
    explicit Staged(Zxid z) : zxid(z) {}
    Zxid zxid;
    bool good = true;
    SnapshotReader reader;
    std::map<NodeId, std::string> nodes;
    std::map<SessionId, std::string> sessions;
    std::optional<std::string> counters;
  };

  void apply(Batch& batch);
  void install();
  void refresh_ends();
  void truncate(Zxid after);
  void append(LogEntry& entry);
  void fold(FoldRecord& record);
  void purge(std::size_t appended, Zxid tree_before);

  Options options_;
  std::shared_ptr<MemoryDisk> disk_;
  Meta meta_;
  std::deque<Batch> queue_;
  std::uint64_t last_id_ = 0;
  Space space_;
  Counters counters_;
  std::function<void(std::uint64_t)> on_durable_;
  std::function<void(bool)> on_space_;
  std::deque<std::function<void()>> later_;
  std::optional<Staged> staged_;
  std::deque<Staged> installing_;  // one for each queued batch that installs
  std::shared_ptr<std::multiset<Zxid>> pins_ = std::make_shared<std::multiset<Zxid>>();
};

}  // namespace coord::store
