// A whole simulated ensemble: servers, network, disks, clocks, clients, one thread, one seed. What goes wrong is
// decided by a plan (plan.h) or by a test, step by step.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/invariants.h"
#include "tests/sim/network.h"
#include "tests/sim/node.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

struct WorldOptions {
  std::uint64_t seed = 1;
  int voters = 3;
  int observers = 0;
  int spares = 0;                 // that are no members at first, and off
  bool writes_list = false;       // the first list of members goes into the log
  Mutant mutant = Mutant::kNone;
  bool trace = false;             // print every event
  bool fixed = false;             // no randomness in delays, for scripted and exhaustive runs
  std::size_t log_keep = 1000;
  std::uint64_t fold_every = 16;
  std::uint32_t counter_max = 0xf0000000;
  std::int64_t disk_us = 300;
  std::int64_t network_us = 200;
  zab::Timing timing;
  zab::Limits limits;
};

class World final : public NetworkUser, public NodeUser {
 public:
  explicit World(WorldOptions options);
  ~World() override;

  // --- running
  void run_for(std::int64_t ms);
  // False: it did not come true within `ms`.
  bool run_until(const std::function<bool()>& true_now, std::int64_t ms);
  std::int64_t now_ms() const { return scheduler_.now_us() / 1000; }

  // --- the ensemble
  std::vector<Sid> all() const;                 // that are to run: all but the retired
  std::vector<Sid> servers() const;             // the retired as well
  std::vector<Sid> voters() const;              // as of what was delivered last
  const zab::Membership& members() const { return ghost_.in_force(); }
  Node& node(Sid sid) { return *nodes_.at(sid); }
  Node& node(std::uint32_t sid) { return node(Sid{sid}); }
  Node* leader();                               // the one of the highest epoch that is in broadcast, or nullptr
  Sid elect(std::int64_t ms = 10'000);          // waits; throws Violation (24) when nobody leads
  void write(int count);                        // at the leader, each waited for
  void must(const std::function<bool()>& true_now, std::int64_t ms, const std::string& what);  // else Violation (24)
  bool caught_up(Sid sid);                      // serves, and applied all that anybody has

  // --- faults
  void boot(std::uint32_t sid);
  void crash(std::uint32_t sid, bool power_cut = true);
  void power_cut();                             // all at once
  void partition(const std::set<std::uint32_t>& side);  // from everybody else, both ways
  void block(std::uint32_t from, std::uint32_t to, bool blocked = true) { network_.block(Sid{from}, Sid{to}, blocked); }
  void heal() { network_.heal(); }
  void wipe(std::uint32_t sid);                 // while it is down
  // --- administrators
  // Starts a server that is off, with the present members and itself in its file.
  void enlist(std::uint32_t sid, bool as_observer, bool empty_disk);
  // Turns one off that is no member, for good or until it is enlisted again.
  void retire(std::uint32_t sid);
  bool retired(Sid sid) const { return retired_.contains(sid); }
  // No list that is in force, or might be, has it; and all voters know that: its disk is of no use to anybody.
  bool is_dispensable(Sid sid) const;
  // No change of the members is under way anywhere.
  bool members_settled() const;
  // Dies when its disk comes to `stage` for the nth time from now.
  void crash_at(std::uint32_t sid, Stage stage, int nth = 1, bool power_cut = true);
  // All servers up, all links whole: a leader within T1, everybody caught up within T2, a write commits.
  void calm();

  Network& network() { return network_; }
  Scheduler& scheduler() { return scheduler_; }
  Random& random() { return random_; }
  Ghost& ghost() { return ghost_; }
  const WorldOptions& options() const { return options_; }
  std::uint64_t hash() const { return hash_; }
  const std::vector<std::string>& alarms() const { return alarms_; }
  // Asked at every durable step of every server: true kills it there.
  std::function<bool(Sid, Stage)> on_stage;
  std::function<bool(Sid)> on_action;
  std::function<void(Sid)> on_storage_error;
  std::set<Sid> lost;                           // wiped or salvaged
  bool divergence_expected = false;

  // --- NetworkUser
  std::uint64_t incarnation(Sid sid) const override { return nodes_.at(sid)->incarnation(); }
  void enter(Sid sid, std::function<void()> work) override { nodes_.at(sid)->enter(std::move(work)); }
  void link_up(Sid at, zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) override;
  void link_down(Sid at, zab::LinkId link) override;
  void dial_failed(Sid at, std::uint64_t number) override;
  void received(Sid at, zab::LinkId link, zab::Message message) override;
  // --- NodeUser
  void note(const char* what, std::uint64_t a, std::uint64_t b, std::uint64_t c) override;
  void note_text(Sid at, const std::string& text) override;
  bool tracing() const override { return options_.trace; }
  bool crash_here(Sid at, Stage stage) override;
  bool crash_in_actions(Sid at) override;
  void storage_error(Sid at) override;
  void history_grew() override;
  void alarm(Sid at, const std::string& text) override;

 private:
  void correct_file(Sid sid);
  void correct_files_of_the_lost();
  struct Trap {
    Sid sid;
    Stage stage;
    int left;
    bool power_cut;
  };
  const WorldOptions options_;
  Random random_;
  Scheduler scheduler_;
  Network network_;
  Ghost ghost_;
  std::map<Sid, std::unique_ptr<Node>> nodes_;
  std::map<Sid, const Image*> disks_;
  std::set<Sid> retired_;
  std::set<Sid> guest_observers_;  // of those that are no members: observers in their own files
  std::vector<Trap> traps_;
  std::vector<std::string> alarms_;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
  std::uint64_t wipes_ = 0;
};

// T1 and T2 of invariant 24, in milliseconds.
inline constexpr std::int64_t kLeaderWithin = 20'000;
inline constexpr std::int64_t kCaughtUpWithin = 25'000;

}  // namespace coord::sim
