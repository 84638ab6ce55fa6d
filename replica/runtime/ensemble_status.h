// What an administrator sees of the ensemble from one replica: a copy, refreshed on ticks and changes of phase.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/model/ids.h"
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
    bool observer = false;
    bool connected = false;        // there is an election link
    // As the leader knows it; elsewhere false and 0.
    bool learner = false, serving = false, counted = false, refuses_writes = false;
    Zxid acked;
    std::int64_t silent_ms = 0;
    std::string trouble;           // somebody was refused, and why; empty: none
  };
  std::vector<Peer> peers;         // all configured members but this one, ascending
  std::vector<std::string> alarms; // most recent last

  std::size_t learners() const {
    std::size_t count = 0;
    for (const Peer& peer : peers) count += peer.serving ? 1 : 0;
    return count;
  }
};

}  // namespace coord::runtime
