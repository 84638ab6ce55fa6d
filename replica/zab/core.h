// What the phases of the ZAB core share: what this server is and holds, its links, its time, and where actions go. One
// object per Peer; the phases (election.h, leader.h, learner.h) have a reference to it and own nothing durable.
//
// A phase never ends itself: it calls leave(), finishes its step, and the Peer then closes what the role had and goes
// back to the election. So no handler runs on a role that is half gone.
//
// Source: zab.md section 1 (durable state).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/base/overloaded.h"
#include "replica/zab/peer.h"

namespace coord::zab {

// Nothing mints two thousand million epochs: a number this high is damage (zab.md section 1.3).
inline constexpr std::uint32_t kEpochMax = 1U << 31;
// So is such a round of an election.
inline constexpr std::uint64_t kRoundMax = 1ULL << 62;

std::size_t bytes_of(const LogEntry& entry);

struct Link {
  Channel channel = Channel::kElection;
  Sid peer;
  bool dialed = false;
};

class Core {
 public:
  Core(Config configuration, DurableState durable_state);

  // --- actions of the present step
  void begin(Actions& out) { out_ = &out; }
  void emit(Action action);
  void send(LinkId link, Message message);
  // Also forgets the link: nothing that still comes from it is looked at.
  void close(LinkId link, const std::string& reason);
  void alarm(const std::string& text);  // once per text, until it is over
  void alarm_over(const std::string& text);
  void set_phase(Role new_role, Phase new_phase, Sid new_leader);

  // May an election begin? Votes name the durable position, so they wait for what the old role still had in flight.
  bool may_look() const { return settled() && room != Room::kNone; }

  // --- what is durable
  // Hands out the Persist under a new id, and changes the log's shape as it says; `installs` is what the snapshot in it
  // is of. Epochs are the caller's to set.
  std::uint64_t persist(Persist persist, Zxid installs = {});
  void persisted(std::uint64_t id);
  bool settled() const { return in_flight_.empty(); }
  // Commits and delivers up to here; `again`: even if nothing is new, as when a role begins to deliver.
  void deliver(Zxid up_to, bool again = false);
  std::size_t average_entry_bytes() const;

  // --- who counts (see Enrolled in peer.h)
  bool is_voter() const { return voters.is_voter(config.self); }
  bool enrolled_as(Sid sid, const std::string& directory_id) const;
  // With another directory than this one, by what the log says: as good as the log is.
  bool enrolled_otherwise(Sid sid, const std::string& directory_id) const;
  bool self_counts() const;
  void forget_enrolments();  // those that the tree has
  // Identity is like data until the first entry is logged: it comes with the history that is adopted. So a nominee that
  // named a cluster and died before anybody used the name locks nobody out. A damaged store had entries.
  bool virgin() const { return cluster_id.empty() || (log.last() == Zxid{} && !damaged); }

  // --- who is a member (replica/README.md, membership)
  const Membership& base() const { return base_; }                        // the last one known to be committed
  const std::optional<Membership>& pending() const { return pending_; }   // in the log, not known to be committed
  // A snapshot brings it; that of this log is void.
  void install_membership(const Membership& membership);
  // Somebody knows that this version is committed.
  void membership_committed(Zxid version);

  // --- time
  std::int64_t now = 0;  // advances by at most kTickMost per tick: a stop of this process is nobody else's silence
  std::int64_t jittered(std::int64_t span);  // span +- a quarter, from the seed

  // --- roles
  void leave(const std::string& reason) {
    if (!leaving) leaving = reason;
  }

  const Config config;
  const DurableState start_state;
  std::uint32_t accepted_epoch;
  Sid accepted_from;
  std::uint32_t current_epoch;
  LogShape log;         // appended
  Zxid durable;         // of it
  Zxid committed;
  Zxid delivered;
  std::string cluster_id, secret;
  bool damaged;
  std::map<Sid, std::string> enrolled;
  Quorum voters;                 // of base and pending
  bool members_changed = false;  // in this step: roles and majorities are to be looked at again

  Role role = Role::kLooking;
  Phase phase = Phase::kElection;
  Sid leader;
  std::uint32_t epoch = 0;
  Room room = Room::kPlenty;
  std::optional<std::string> leaving;

  std::map<LinkId, Link> links;
  std::map<Sid, LinkId> election_links;
  // The highest promise that each server ever told of: a new epoch goes above all of them (zab.md section 2.3).
  std::map<Sid, std::uint32_t> promises;
  // When this server last gave up an office for the sake of this learner's stranded promise.
  std::map<Sid, std::int64_t> resigned_for;
  std::uint64_t next_number = 1;  // of dials, reads and pings; never reused

 private:
  struct InFlight {
    std::uint64_t id = 0;
    std::optional<Zxid> log_end;
    std::optional<Zxid> installs;  // a snapshot of this
    bool repairs = false;
  };
  void note_membership(Membership membership);
  void promote();
  void settle_membership();
  void rebuild_voters();
  const std::string* enrolled_directory(Sid sid) const;  // null: none

  // Enrolments that are logged; those that the tree has by now do no harm. Who is enrolled by a transaction that is
  // not applied counts: a majority of the log's own view may need it to get that transaction committed.
  std::deque<std::pair<Zxid, std::map<Sid, std::string>>> logged_enrolments_;
  Membership base_;
  std::optional<Membership> pending_;
  std::deque<InFlight> in_flight_;
  std::uint64_t next_persist_id_ = 1;
  std::uint64_t seen_entries_ = 0, seen_bytes_ = 0;
  std::uint64_t random_;
  std::set<std::string> alarms_;
  Actions* out_ = nullptr;
};

}  // namespace coord::zab
