// The thread that brings the database up to what the journal has made durable: many batches in one transaction, when
// there are enough of them, the oldest has waited long enough, nothing more comes, or somebody waits for the result.
//
// Threading: as each function says. The functions that the applier is made with are called on its thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "replica/store/page_bound.h"
#include "replica/store/store.h"

namespace coord::store {

class Applier {
 public:
  struct Limits {
    std::chrono::milliseconds age{};    // of the oldest batch
    std::chrono::milliseconds quiet{};  // since the newest batch
    // So much is applied at once; while that lasts, the writer waits when there is as much again.
    std::size_t bytes = 0;
    std::size_t entries = 0;
  };
  // What is applied as one transaction: all that was there.
  struct Group {
    std::vector<Batch> batches;
    Work work;
    std::size_t bytes = 0;
    std::size_t entries = 0;
    std::uint64_t sequence = 0;  // of the journal's last record in it
    bool empty() const { return batches.empty(); }
  };
  using Apply = std::function<void(Group& group)>;  // durable on return
  // Something to do when there is nothing to apply, in a small slice. Returns whether there is more of it, at once or
  // after a while.
  enum class Aside { kNothing, kMore, kLater };
  using Idle = std::function<Aside()>;

  Applier(Limits limits, Apply apply, Idle idle);
  ~Applier();  // everything was applied: drain() first
  Applier(const Applier&) = delete;
  Applier& operator=(const Applier&) = delete;

  void start();  // before the first add

  // --- the writer's thread
  void add(Group group);  // durable, and to be applied
  void wait_for_room();   // until there is not too much to apply
  void wait_for(std::uint64_t sequence);
  // Until all is applied. The applier does nothing but its Idle after that, until the next add.
  void drain();
  // What has not been applied yet: what is being applied, and what comes after that.
  std::pair<Work, Work> ahead() const;
  void look_aside();  // there may be something for Idle

  // --- any thread but the applier's
  void settle();  // what was added before this call is applied when it returns

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  bool due(Clock::time_point now) const;
  bool full() const;
  void apply(std::unique_lock<std::mutex>& lock);
  void aside(std::unique_lock<std::mutex>& lock);
  void wait_until_applied(std::unique_lock<std::mutex>& lock, std::uint64_t count);

  const Limits limits_;
  const Apply apply_;
  const Idle idle_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;     // the applier
  std::condition_variable applied_;  // who waits for it
  Group queued_;
  Work taken_;  // is being applied
  bool applying_ = false;
  std::uint64_t added_ = 0;    // groups
  std::uint64_t done_ = 0;     // of these, applied
  std::uint64_t wanted_ = 0;   // of these, somebody waits for so many
  std::uint64_t sequence_ = 0;  // of the journal, applied
  Clock::time_point oldest_;
  Clock::time_point newest_;
  Aside aside_ = Aside::kMore;
  Clock::time_point aside_at_;
  std::uint64_t since_aside_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace coord::store
