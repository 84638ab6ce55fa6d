// The worker threads of a FUSE session: each reads a request and answers it. A request may wait for the replica for as
// long as its deadline, so the pool grows while all are busy, up to kMountWorkersMax; requests beyond that wait in the
// kernel. Threads are kept until the session ends.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace coord::fs {

inline constexpr int kMountWorkersStart = 4;
inline constexpr int kMountWorkersMax = 64;

class Workers {
 public:
  Workers() = default;
  ~Workers();

  void start(fuse_session* session);
  // Waits until every worker has ended: the session has been unmounted, aborted or told to exit. False after `limit`.
  bool wait(std::chrono::milliseconds limit);
  // The session is over: somebody unmounted it, or its connection was aborted.
  bool ended() const { return running_.load() == 0 && started_; }
  // True if no worker is free and every one has been at the same request for longer than `limit`.
  bool stuck(std::chrono::milliseconds limit) const;
  std::uint64_t requests() const { return requests_.load(std::memory_order_relaxed); }

 private:
  struct Slot {
    std::atomic<std::int64_t> since_ms{0};  // steady clock; 0 = waiting for a request
  };
  void add();
  void run(Slot& slot);

  fuse_session* session_ = nullptr;
  bool started_ = false;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<std::thread> threads_;
  std::array<Slot, kMountWorkersMax> slots_;
  std::atomic<int> count_{0};
  std::atomic<int> running_{0};
  std::atomic<int> idle_{0};
  std::atomic<std::uint64_t> requests_{0};
};

}  // namespace coord::fs
