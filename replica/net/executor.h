// Where the pure part of a replica runs: posting, timers and time, so that the same code runs on an event loop and in
// the simulator.
//
// Threading: post and dispatch from any thread; what is posted runs on the executor's thread, in order.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace coord::net {

class Executor {
 public:
  virtual ~Executor() = default;
  virtual void post(std::function<void()> work) = 0;
  // Runs `work` at once when called on the executor's own thread, else posts it.
  virtual void dispatch(std::function<void()> work) = 0;
  virtual bool in_this_thread() const = 0;
  // Calls `work` every `period`, first after one period, until the executor ends.
  virtual void every(std::chrono::milliseconds period, std::function<void()> work) = 0;
  // Any thread:
  virtual std::int64_t now_us() const = 0;   // monotonic, from an arbitrary origin
  virtual std::int64_t wall_ms() const = 0;  // since 1970
};

}  // namespace coord::net
