// Event loops: one thread each, with posting and timers. Asio stays behind the implementation.
//
// Threading: post from any thread; everything posted to one loop runs on its thread, in order. Loop 0 of a replica is
// the core thread as well. Timers fire on the loop's thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace coord::net {

class Loop {
 public:
  Loop();
  ~Loop();  // the loop must have been stopped
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void run();   // on the calling thread, until stop()
  void stop();  // any thread; what is queued is dropped
  void post(std::function<void()> work);
  // Runs `work` at once when called on the loop's own thread, else posts it.
  void dispatch(std::function<void()> work);
  bool in_this_thread() const;

  // Calls `work` every `period`, first after one period, until the loop ends.
  void every(std::chrono::milliseconds period, std::function<void()> work);
  // Calls `work` once for SIGTERM or SIGINT, and `hangup` for each SIGHUP.
  void on_signals(std::function<void(int)> work, std::function<void()> hangup);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace coord::net
