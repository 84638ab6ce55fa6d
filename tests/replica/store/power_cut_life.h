// A store at work, under a recorder: everything that a replica asks of one, in random order, with its History.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "tests/replica/store/power_cut_disk.h"
#include "tests/replica/store/power_cut_history.h"

namespace coord::store::power_cut {

struct Plan {
  // Of a hundred:
  std::uint32_t large = 3;      // payloads of tens of KiB
  std::uint32_t other = 30;     // steps that are something else than entries of the log
  std::uint32_t snapshots = 5;  // of these, a snapshot
  std::uint32_t waits = 50;     // batches that are waited for
};

class Life {
 public:
  // The store is open and was read; nothing was submitted yet.
  Life(Store& store, History& history, Recorder& recorder, Random& random, const Plan& plan);
  void live(std::size_t steps);  // all is durable on return, or it is stuck
  bool stuck() const { return stuck_; }

 private:
  std::uint32_t dice(std::size_t sides) { return static_cast<std::uint32_t>(random_() % sides); }
  bool chance(std::uint32_t percent) { return dice(100) < percent; }
  void step();
  Batch batch() const;
  std::string text();
  void append(Batch& batch, Zxid last, std::uint32_t epoch);
  bool truncate(Batch& batch, Zxid& last);
  void fold(Batch& batch, Zxid at);
  void newleader();
  void entries();
  void snapshot();
  std::shared_ptr<const Tree> stage(Zxid at);
  void read();
  void submit(Batch batch);
  void wait(std::uint64_t id);

  Store& store_;
  History& history_;
  Recorder& recorder_;
  Random& random_;
  const Plan plan_;
  std::shared_ptr<const Tree> staged_;
  std::unique_ptr<SnapshotSource> source_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t durable_ = 0;
  bool stuck_ = false;  // something did not come back
};

}  // namespace coord::store::power_cut
