// Whole replicas in one thread: runtime::Core, the real driver, over a simulated executor, store, links and client
// connections, with clients that write a history. The links are those of the core's simulator (tests/sim/network.h).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "replica/net/executor.h"
#include "replica/net/stream.h"
#include "replica/peers/links.h"
#include "replica/runtime/client_conn.h"
#include "replica/runtime/core.h"
#include "replica/store/memory_store.h"
#include "tests/history/record.h"
#include "tests/sim/invariants.h"
#include "tests/sim/network.h"
#include "tests/sim/plan.h"
#include "tests/sim/replica/client.h"
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

// Both ends of a client's connection.
class SimStream final : public net::Stream, public std::enable_shared_from_this<SimStream> {
 public:
  SimStream(ReplicaWorld& world, std::uint64_t number, std::uint32_t client, std::shared_ptr<SimExecutor> executor);
  const net::Remote& remote() const override { return remote_; }
  net::Executor& loop() override { return *executor_; }
  void start(std::shared_ptr<net::StreamUser> user) override { user_ = std::move(user); }
  void request_flush() override;
  void resume_reading() override;
  void request_close(bool rest) override;

  void from_client(std::string bytes);
  void hang_up();   // by the client
  void cut();       // the server's process is gone

 private:
  void deliver();
  void flush();
  void end();
  void tell_client_of_the_end();
  ReplicaWorld& world_;
  const std::uint64_t number_;
  const std::uint32_t client_;
  std::shared_ptr<SimExecutor> executor_;
  net::Remote remote_;
  std::shared_ptr<net::StreamUser> user_;
  std::string in_;
  std::int64_t in_ready_ = 0, out_ready_ = 0;
  bool paused_ = false;
  bool ended_ = false;
  bool client_left_ = false;
};

struct ReplicaOptions {
  std::uint64_t seed = 1;
  int voters = 3;
  int observers = 0;
  int clients = 3;
  std::int32_t timeout_ms = 4000;
  std::uint64_t log_keep = 100'000;
  std::int64_t disk_us = 300;
  bool trace = false;
};

class ReplicaWorld final : public NetworkUser, public ClientNet {
 public:
  explicit ReplicaWorld(ReplicaOptions options);
  ~ReplicaWorld() override;

  void boot(Sid sid);
  void crash(Sid sid, bool power_cut);
  void pause(Sid sid, std::int64_t ms);
  bool up(Sid sid) const { return processes_.contains(sid); }
  bool serves(Sid sid);
  Sid leader();
  void run_for(std::int64_t ms);
  bool run_until(const std::function<bool()>& true_now, std::int64_t ms);
  std::vector<Sid> all() const;
  // Everything is whole again: all serve, clients get answers, then stop, and all trees are the same.
  void calm();
  // 11, 14 to 21: what clients were told is what one copy of the tree would have told them.
  void judge();
  void write_history(const std::string& path) const;  // JSON lines, for coord-check

  Network& network() { return network_; }
  Scheduler& scheduler() { return scheduler_; }
  Random& random() { return random_; }
  std::vector<std::unique_ptr<SimClient>>& clients() { return clients_; }
  history::History& history() { return history_; }
  std::uint64_t hash() const { return hash_; }
  [[noreturn]] void violate(int number, Sid at, const std::string& text);

  // --- NetworkUser
  std::uint64_t incarnation(Sid sid) const override;
  void enter(Sid sid, std::function<void()> work) override;
  void link_up(Sid at, zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) override;
  void link_down(Sid at, zab::LinkId link) override;
  void dial_failed(Sid at, std::uint64_t number) override;
  void received(Sid at, zab::LinkId link, zab::Message message) override;
  void note(const char* what, std::uint64_t a, std::uint64_t b, std::uint64_t c) override;
  // --- ClientNet
  std::uint64_t open(std::uint32_t client, std::uint32_t replica) override;
  void send(std::uint64_t connection, std::string bytes) override;
  void close(std::uint64_t connection) override;

 private:
  friend class SimStream;
  class SimLinks;
  struct Process {
    std::uint64_t incarnation = 0;
    std::shared_ptr<SimExecutor> executor;
    std::unique_ptr<SimLinks> links;
    store::MemoryStore* store = nullptr;
    bool writing = false;
    std::unique_ptr<runtime::Core> core;
    std::vector<std::weak_ptr<SimStream>> streams;
  };
  void poll_store(Sid sid, std::uint64_t incarnation);
  SimClient& client(std::uint32_t number) { return *clients_[number - 1]; }

  const ReplicaOptions options_;
  Random random_;
  Scheduler scheduler_;
  Network network_;
  history::History history_;
  std::map<Sid, std::shared_ptr<store::MemoryDisk>> disks_;
  std::map<Sid, std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<Process>> graveyard_;
  std::vector<std::shared_ptr<SimExecutor>> executors_;
  std::map<std::uint64_t, std::shared_ptr<SimStream>> streams_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::uint64_t next_incarnation_ = 0;
  std::uint64_t next_connection_ = 1;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

// One seed: faults, calm, judgement.
Outcome run_replica_seed(std::uint64_t seed, bool trace);

}  // namespace coord::sim
