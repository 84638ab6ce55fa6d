// The simulated shells around one replica's driver: its event loop, and its end of a client's connection.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "common/model/ids.h"
#include "replica/net/executor.h"
#include "replica/net/stream.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

class ReplicaWorld;

// The event loop of one process. It outlives the process a little, for what still refers to it.
class SimExecutor final : public net::Executor {
 public:
  SimExecutor(Scheduler& scheduler, std::int64_t skew_ms) : scheduler_(scheduler), skew_ms_(skew_ms) {}
  void post(std::function<void()> work) override { later(1, std::move(work)); }
  void dispatch(std::function<void()> work) override { work(); }
  bool in_this_thread() const override { return true; }
  void every(std::chrono::milliseconds period, std::function<void()> work) override;
  std::int64_t now_us() const override { return 1'000'000'000 + scheduler_.now_us(); }
  std::int64_t wall_ms() const override { return 1'700'000'000'000 + skew_ms_ + scheduler_.now_us() / 1000; }

  void later(std::int64_t delay_us, std::function<void()> work);
  void enter(std::function<void()> work);  // now, or when the process goes on
  void kill();
  void pause() { paused_ = true; }
  void resume();
  bool alive() const { return alive_; }
  bool paused() const { return paused_; }

 private:
  Scheduler& scheduler_;
  const std::int64_t skew_ms_;
  bool alive_ = true;
  bool paused_ = false;
  std::deque<std::function<void()>> inbox_;
};

// Both ends of a client's connection. While client and replica are cut off from each other, in one direction or both,
// what was sent waits, as TCP does it, and arrives afterwards in its order: also what a client sent on a connection
// that it has given up since.
class SimStream final : public net::Stream, public std::enable_shared_from_this<SimStream> {
 public:
  SimStream(ReplicaWorld& world, std::uint64_t number, std::uint32_t client, Sid replica, bool mount,
            std::shared_ptr<SimExecutor> executor);
  const net::Remote& remote() const override { return remote_; }
  net::Executor& loop() override { return *executor_; }
  void start(std::shared_ptr<net::StreamUser> user) override { user_ = std::move(user); }
  void request_flush() override;
  void resume_reading() override;
  void request_close(bool rest) override;

  void from_client(std::string bytes) { put(to_replica_, {0, false, std::move(bytes)}, &SimStream::pump_in); }
  void hang_up();   // by the client
  void cut();       // the server's process is gone
  void reachable(); // client and replica may see each other again

 private:
  struct Item {
    std::int64_t ready = 0;
    bool end = false;
    std::string bytes;
  };
  struct Pipe {
    std::deque<Item> items;
    std::int64_t last_ready = 0;
  };
  void put(Pipe& pipe, Item item, void (SimStream::*pump)());
  void pump_in();
  void pump_out();
  void deliver();
  void flush();
  void end();

  ReplicaWorld& world_;
  const std::uint64_t number_;
  const std::uint32_t client_;
  const Sid replica_;
  std::shared_ptr<SimExecutor> executor_;
  net::Remote remote_;
  std::shared_ptr<net::StreamUser> user_;
  std::string in_;
  Pipe to_replica_, to_client_;
  bool paused_ = false;
  bool ended_ = false;
  bool client_left_ = false;
};

}  // namespace coord::sim
