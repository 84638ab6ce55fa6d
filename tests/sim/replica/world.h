// Whole replicas in one thread: runtime::Core, the real driver, over a simulated executor, store, links and client
// connections, with clients that write a history. The links are those of the core's simulator (tests/sim/network.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "replica/peers/links.h"
#include "replica/runtime/client_conn.h"
#include "replica/runtime/core.h"
#include "replica/store/memory_store.h"
#include "tests/history/record.h"
#include "tests/sim/invariants.h"
#include "tests/sim/network.h"
#include "tests/sim/plan.h"
#include "tests/sim/replica/book.h"
#include "tests/sim/replica/client.h"
#include "tests/sim/replica/exactly_once.h"
#include "tests/sim/replica/mount.h"
#include "tests/sim/replica/scripted.h"
#include "tests/sim/replica/shell.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

struct ReplicaOptions {
  std::uint64_t seed = 1;
  int voters = 3;
  int observers = 0;
  int clients = 3;
  int mounts = 1;
  int scripted = 0;  // clients that a test leads by the hand
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
  runtime::Core& core(Sid sid) { return *processes_.at(sid)->core; }  // while it is up
  Sid leader();
  void run_for(std::int64_t ms);
  bool run_until(const std::function<bool()>& true_now, std::int64_t ms);
  std::vector<Sid> all() const;
  // A client and a replica do not reach each other any more, in one direction or both; connections stay (SimStream).
  enum class Direction : std::uint8_t { kToReplica, kToClient };
  void cut_client(std::uint32_t client, Sid replica, Direction direction, bool cut);
  bool client_cut(std::uint32_t client, Sid replica, Direction direction) const {
    return cuts_.contains({client, replica, direction});
  }
  // The content of a replica's disk, and its return to what it was then: only while the replica is down.
  store::MemoryDisk copy_disk(Sid sid) const { return *disks_.at(sid); }
  void put_disk(Sid sid, const store::MemoryDisk& disk) { *disks_.at(sid) = disk; }
  // Everything is whole again: all serve, clients get answers, then stop, and all trees are the same.
  void calm();
  // 11, 14 to 21: what clients were told is what one copy of the tree would have told them, and the mounts' mutations
  // happened exactly once.
  void judge();
  void write_history(const std::string& path) const;  // JSON lines, for coord-check

  Network& network() { return network_; }
  Scheduler& scheduler() { return scheduler_; }
  Random& random() { return random_; }
  std::vector<std::unique_ptr<SimSession>>& clients() { return clients_; }
  const std::vector<SimMount*>& mounts() const { return mounts_; }
  const std::vector<ScriptedClient*>& scripted() const { return scripted_; }
  const ExactlyOnce& once() const { return once_; }  // as judged
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
  SimSession& client(std::uint32_t number) { return *clients_[number - 1]; }
  // From SimStream: what a client is about to get; the connection is over for it.
  void gave(std::uint32_t client, std::uint64_t connection, const std::string& bytes);
  void forget_stream(std::uint64_t connection) { streams_.erase(connection); }
  void settle_mounts();

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
  std::vector<std::unique_ptr<SimSession>> clients_;
  std::vector<SimMount*> mounts_;  // of clients_
  std::vector<ScriptedClient*> scripted_;
  std::set<std::tuple<std::uint32_t, Sid, Direction>> cuts_;
  std::vector<std::weak_ptr<SimStream>> all_streams_;
  Book book_;
  ExactlyOnce once_;
  std::uint64_t next_incarnation_ = 0;
  std::uint64_t next_connection_ = 1;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

// One seed: faults, calm, judgement.
Outcome run_replica_seed(std::uint64_t seed, bool trace);

}  // namespace coord::sim
