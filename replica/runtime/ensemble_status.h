// What an administrator sees of the ensemble from one replica: a copy, refreshed on ticks and changes of phase.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "common/model/ids.h"
#include "replica/tree/ensemble.h"
#include "replica/zab/peer.h"

namespace coord::runtime {

struct EnsembleStatus {
  bool alone = true;   // no other member is configured: an ensemble of one
  Sid self;
  bool observer = false;
  zab::Role role = zab::Role::kLooking;
  zab::Phase phase = zab::Phase::kElection;
  Sid leader;          // 0: nobody
  std::uint32_t epoch = 0;
  bool serving = false;
  bool acknowledges = false;  // this server's acknowledgements count
  std::string cluster_id;     // empty: virgin
  Zxid last_logged, last_durable, last_committed, last_applied;
  struct Peer {
    Sid sid;
    bool member = true;            // false: a guest, who follows and counts for nothing; only the leader lists those
    bool observer = false;
    bool connected = false;        // there is an election link
    // As the leader knows it; elsewhere false and 0.
    bool learner = false, serving = false, counted = false, refuses_writes = false;
    int feature_level = 0;         // what it knows; 0: not told yet
    Zxid acked;
    std::int64_t silent_ms = 0;
    std::string trouble;           // somebody was refused, and why; empty: none
  };
  std::vector<Peer> peers;         // members (the replicated ones if there are any) and guests, without this server
  std::vector<Member> members;  // as replicated, ascending; empty: the files say who is a member
  Zxid members_version;            // of that list; 0: there is none
  bool reconfiguring = false;      // a change of the members is logged and not known to be committed
  std::uint64_t snapshots_sent = 0;  // to others, since the start
  std::size_t enrolled = 0;        // members whose data directory is on record: should it be lost, that is noticed
  int feature_level = 1;           // the ensemble's
  int feature_level_known = 1;     // what this server knows
  std::vector<std::string> alarms; // most recent last

  // False: removed, or not added yet. Such a server serves as a guest and counts for nothing.
  bool is_member() const {
    return members.empty() || std::any_of(members.begin(), members.end(),
                                          [this](const Member& member) { return member.sid == self; });
  }

  std::size_t learners() const {
    std::size_t count = 0;
    for (const Peer& peer : peers) count += peer.serving ? 1 : 0;
    return count;
  }
};

}  // namespace coord::runtime
