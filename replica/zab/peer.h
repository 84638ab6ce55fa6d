// The ZAB core of one replica: a deterministic state machine. Events in; actions out. No sockets, threads, clocks,
// files, randomness or logging of its own: time and seed are arguments, and the same events give the same actions. One
// thread.
//
// THE PROMISE OF ORDER. Actions of one step are carried out in order. A Persist action is given to the store; nothing
// that depends on it happens before the event Persisted with its id (or a later one) has been stepped: the core itself
// withholds such actions (acks, commits, LEADERINFO) until then, so the driver may carry out everything it is handed at
// once. Persist actions may be merged by the driver as long as their order is kept; Persisted{id} answers all up to id.
//
// This version knows an ensemble of any number of voters in its configuration type, and runs with a quorum of one, its
// smallest case: election, discovery and synchronization with itself are the same steps with no messages to wait for.
// A configuration with other voters is refused by the caller (replica/runtime/config).
//
// Source: zab.md sections 1 (durable state), 2 (election), 3 (discovery, synchronization, broadcast).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <variant>
#include <vector>

#include "common/model/ids.h"
#include "replica/zab/history.h"
#include "replica/zab/quorum.h"

namespace coord::zab {

enum class Role : std::uint8_t { kLooking, kLeading };
// Leading: discovery (the epoch is being minted) -> synchronization (NEWLEADER is being acknowledged) -> broadcast.
enum class Phase : std::uint8_t { kElection, kDiscovery, kSynchronization, kBroadcast };

struct Config {
  Sid self;
  Quorum voters;
  std::uint32_t counter_max = 0xf0000000;  // hand over before a counter above this (zab.md section 1.3)
};

// What the store held at start.
struct DurableState {
  std::uint32_t accepted_epoch = 0;
  std::uint32_t current_epoch = 0;
  Zxid last_logged;   // position of the last log entry, or of the fold when the log is empty
  Zxid commit_hint;
};

// --- events
struct Start {};
struct Propose {  // only while `accepts_proposals()`; must be next_zxid()
  Zxid zxid;
  Payload payload;
};
struct Persisted {
  std::uint64_t id = 0;
};
struct Tick {
  std::int64_t now_ms = 0;  // monotonic
};
using Event = std::variant<Start, Propose, Persisted, Tick>;

// --- actions
struct Persist {
  std::uint64_t id = 0;  // ascending from 1
  std::optional<std::uint32_t> accepted_epoch;
  std::optional<std::uint32_t> current_epoch;
  std::vector<LogEntry> append;
};
// Deliver everything up to and including this, in order. At establishment it covers the whole initial history, of which
// a part may be delivered already; there is none if that history is empty.
struct Commit {
  Zxid up_to;
};
struct PhaseChanged {
  Role role;
  Phase phase;
  std::uint32_t epoch;
};
using Action = std::variant<Persist, Commit, PhaseChanged>;
using Actions = std::vector<Action>;

class Peer {
 public:
  Peer(Config config, DurableState durable);

  void step(const Event& event, Actions& out);

  Role role() const { return role_; }
  Phase phase() const { return phase_; }
  std::uint32_t epoch() const;  // the one being minted, or the last one adopted
  std::uint32_t accepted_epoch() const { return accepted_epoch_; }  // promised, not necessarily durable
  std::uint32_t current_epoch() const { return current_epoch_; }    // adopted, not necessarily durable
  // False in broadcast too when the counter of the epoch ran out: once everything outstanding is committed, the core
  // goes through an election by itself, and PhaseChanged to kBroadcast says that proposals are taken again.
  bool accepts_proposals() const { return phase_ == Phase::kBroadcast && !epoch_is_full(); }
  Zxid next_zxid() const;       // of the next proposal; only while accepts_proposals()
  Zxid last_logged() const { return last_logged_; }        // appended, not necessarily durable
  Zxid last_durable() const { return last_durable_; }      // of this server's own log
  Zxid last_committed() const { return last_committed_; }  // known to be; the hint until the first commit

 private:
  void start_election(Actions& out);
  void start_discovery(Actions& out);
  void start_synchronization(Actions& out);
  void establish(Actions& out);
  void propose(const Propose& proposal, Actions& out);
  void persisted(std::uint64_t id, Actions& out);
  void advance_commit(Actions& out);
  void set_phase(Role role, Phase phase, Actions& out);
  bool epoch_is_full() const;

  Config config_;
  bool started_ = false;
  Role role_ = Role::kLooking;
  Phase phase_ = Phase::kElection;
  std::uint32_t accepted_epoch_ = 0;
  std::uint32_t current_epoch_ = 0;
  Zxid last_logged_;
  Zxid last_durable_;
  Zxid last_committed_;
  std::uint64_t next_persist_id_ = 1;
  // What each Persist in flight makes true once it is durable, in order of id.
  struct InFlight {
    std::uint64_t id;
    Zxid log_end;            // 0: no entries
    bool promises_epoch;     // acceptedEpoch
    bool adopts_epoch;       // currentEpoch, NEWLEADER of this server acknowledged by itself
  };
  std::deque<InFlight> in_flight_;
  Acks acks_;  // durable log position of each voter in this epoch
};

}  // namespace coord::zab
