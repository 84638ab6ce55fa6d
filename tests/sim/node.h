// One simulated server: the disk that outlives it, and, while it is up, a process: the ZAB core with the smallest
// driver that keeps the contract of replica/zab/peer.h (runtime::Core is the real one). Its tree is a count and a hash.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replica/zab/peer.h"
#include "tests/sim/disk.h"
#include "tests/sim/invariants.h"
#include "tests/sim/mutants.h"
#include "tests/sim/network.h"
#include "tests/sim/random.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

struct NodeOptions {
  zab::Config config;
  bool writes_list = false;       // a leader writes the list of its file down as the first one
  std::size_t log_keep = 1000;    // entries retained behind the durable tree
  std::uint64_t fold_every = 16;  // transactions
  std::int64_t tick_us = 20'000;
  std::size_t snapshot_chunks = 4;
};

// What the node needs of the world.
class NodeUser {
 public:
  virtual ~NodeUser() = default;
  virtual void note(const char* what, std::uint64_t a, std::uint64_t b, std::uint64_t c) = 0;
  virtual void note_text(Sid at, const std::string& text) = 0;
  virtual bool tracing() const = 0;
  virtual bool crash_here(Sid at, Stage stage) = 0;   // a fault at a durable step; the node has crashed when true
  virtual bool crash_in_actions(Sid at) = 0;
  virtual void storage_error(Sid at) = 0;
  virtual void history_grew() = 0;
  virtual void alarm(Sid at, const std::string& text) = 0;
};

class Node final : private Disk::User {
 public:
  Node(Sid sid, NodeOptions options, Scheduler& scheduler, Random& random, Network& network, Ghost& ghost,
       NodeUser& user, Mutant mutant);
  ~Node() override;

  Sid sid() const { return sid_; }
  bool up() const { return process_ != nullptr && !process_->dead; }
  std::uint64_t incarnation() const { return up() ? incarnation_ : 0; }
  bool paused() const { return paused_; }
  Disk& disk() { return disk_; }
  const Disk& disk() const { return disk_; }

  void boot();
  void crash(bool power_cut);
  void pause();
  void resume();
  // The members in its file, from the next start on.
  void set_file(const zab::Membership& members);
  // Whom it takes for the members at its next start, or now.
  zab::Membership view() const;
  void keep_log(std::size_t entries) { options_.log_keep = entries; }
  void starve_ticks(std::int64_t period_us) { tick_us_ = period_us; }
  void set_clock(std::int64_t offset_us, double rate) { clock_offset_us_ = offset_us; clock_rate_ = rate; }

  // From outside the process: runs when it is up and not paused.
  void enter(std::function<void()> work);
  void step(zab::Event event);  // inside the process only
  void received(zab::LinkId link, zab::Message message);
  bool propose(std::size_t payload_bytes);  // a client's write; false: cannot now
  void confirm();
  void resign();
  // An administrator's request, decided as tree::StateMachine decides: `sid` is to be a voter, an observer, or
  // (nullopt) no member. False: this server does not lead, or it is refused.
  enum class Part { kVoter, kObserver };
  bool reconfig(Sid sid, std::optional<Part> part);

  // --- state of the process
  const zab::Peer& peer() const { return process_->peer; }
  const Tree& applied() const { return process_->tree; }
  bool leads() const {
    return up() && process_->peer.role() == zab::Role::kLeading && process_->peer.phase() == zab::Phase::kBroadcast;
  }
  bool serving() const { return up() && process_->peer.serving(); }
  std::uint64_t answered() const { return answered_; }
  std::uint64_t confirmed() const { return confirmed_; }
  std::uint64_t snapshots_installed() const { return installed_; }
  std::uint64_t phase_changes() const { return phase_changes_; }

 private:
  struct Staging {
    std::string bytes;
    std::optional<Tree> tree;
  };
  struct Process {
    explicit Process(zab::Config config, zab::DurableState durable) : peer(std::move(config), std::move(durable)) {}
    zab::Peer peer;
    Tree tree;                           // applied
    std::deque<zab::LogEntry> pending;   // logged, not applied
    std::deque<Zxid> changes;            // of the members, among them
    std::deque<Zxid> told_changes;       // that the network was told of
    Zxid base;                           // what the core took for committed, of those, last time
    bool first_list_wanted = false;
    std::deque<zab::Event> events;
    struct Wanted {
      std::string bytes;
      zab::Origin origin;
    };
    std::deque<Wanted> wanted;           // to be proposed when the step is over
    std::map<zab::LinkId, Staging> staging;
    std::optional<Tree> staged;
    bool stepping = false;
    bool dead = false;
    bool reloading = false;              // an installed snapshot is on its way to the disk
    Zxid folded;
    Zxid hinted;
    std::uint64_t last_persist = 0;
    std::uint64_t told = 0;
    std::multiset<Zxid> pins;            // of open snapshots
    zab::Phase phase = zab::Phase::kElection;
    zab::Room room = zab::Room::kPlenty;
  };

  // Disk::User
  void durable(std::uint64_t batch_id) override;
  bool stage(Stage stage) override { return user_.crash_here(sid_, stage); }
  void storage_error() override { user_.storage_error(sid_); }
  void wrong(const std::string& what) override {
    ghost_.violate(13, sid_, "the store was asked for nonsense: " + what);
  }
  void truncated(const std::vector<zab::LogEntry>& entries) override { ghost_.truncated(sid_, entries); }

  void tick();
  std::int64_t now_ms() const;
  void carry_out(const zab::Actions& actions);
  void act(const zab::Persist& persist);
  void act(const zab::Deliver& deliver);
  void act(const zab::Discard& discard);
  void act(const zab::Appended& appended);
  void act(const zab::Reload& reload);
  void act(const zab::PhaseChanged& change);
  void act(const zab::Send& send);
  void act(const zab::DialLearner& dial);
  void act(const zab::CloseLink& close);
  void act(const zab::ReadLog& read);
  void act(const zab::SendSnapshot& send);
  void act(const zab::ReceiveSnapshot& part);
  void act(const zab::DropSnapshot& drop);
  void act(const zab::PassedUp& passed);
  void act(const zab::LearnerChanged& change);
  void act(const zab::LeadershipConfirmed& confirmed);
  void act(const zab::Enrol& enrol);
  void act(const zab::Alarm& alarm);

  void submit(std::uint64_t id, std::vector<Op> ops);
  void housekeeping(std::vector<Op>& ops);
  void apply(const zab::LogEntry& entry);
  void run();
  void step_one(const zab::Event& event);
  void propose_now(Process::Wanted wanted);
  void write_first_list();
  void tell_network();
  bool would_be_led(const zab::Membership& next, const std::map<Sid, std::string>& synced) const;
  void send_chunk(zab::LinkId link, const Tree& tree, std::vector<std::string> chunks, std::size_t next);
  void later(std::int64_t delay_us, std::function<void()> work);  // in this process
  void check();

  const Sid sid_;
  NodeOptions options_;
  Scheduler& scheduler_;
  Random& random_;
  Network& network_;
  Ghost& ghost_;
  NodeUser& user_;
  const Mutant mutant_;
  Disk disk_;
  std::uint64_t incarnation_ = 0;
  std::unique_ptr<Process> process_;
  std::vector<std::unique_ptr<Process>> graveyard_;
  bool paused_ = false;
  std::deque<std::function<void()>> inbox_;
  std::int64_t tick_us_;
  std::int64_t clock_offset_us_ = 0;
  double clock_rate_ = 1;
  std::uint64_t next_payload_ = 1;
  std::uint64_t next_question_ = 1;
  std::uint64_t answered_ = 0;
  std::uint64_t confirmed_ = 0;
  std::uint64_t installed_ = 0;
  std::uint64_t phase_changes_ = 0;
};

}  // namespace coord::sim
