// Event loops: one thread each, with posting and timers. Asio stays behind the implementation.
//
// Threading: post from any thread; everything posted to one loop runs on its thread, in order. Loop 0 of a replica is
// the core thread as well. Timers fire on the loop's thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "replica/net/executor.h"

namespace coord::net {

class Loop final : public Executor {
 public:
  Loop();
  ~Loop() override;  // the loop must have been stopped
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void run();   // on the calling thread, until stop()
  void stop();  // any thread; what is queued is dropped
  void post(std::function<void()> work) override;
  void dispatch(std::function<void()> work) override;
  bool in_this_thread() const override;
  void every(std::chrono::milliseconds period, std::function<void()> work) override;
  std::int64_t now_us() const override;
  std::int64_t wall_ms() const override;
  // Calls `work` once for SIGTERM or SIGINT, and `hangup` for each SIGHUP.
  void on_signals(std::function<void(int)> work, std::function<void()> hangup);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace coord::net
