// Judges a history (record.h): was the service that answered these clients a correct coordination service? A pure
// function, no threads, no files; the only clock read is the one for the deadline.
//
// First by zxid order, over the whole history (zab.md section 7.1, rules 11 and 14 to 21): real-time order, order per
// session, contents of every read against the node's sequence of versions, unique effects, CAS, sequential names,
// watches, ephemerals, expiry. Then, per path and without trusting a zxid, a search for a linearization of writes,
// refused writes, and reads behind a sync (Wing and Gong 1993; Lowe 2017: a memory of (linearized set, state)).
//
// A violation is never reported for a history that a correct service can produce, provided that the history keeps the
// promises at the top of record.h. What the history does not tell is assumed to be right.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/history/record.h"

namespace coord::history {

struct Options {
  std::chrono::nanoseconds deadline{0};      // wall time for the whole check; 0 = none, and the verdict is repeatable
  std::uint64_t steps_max = 5'000'000;       // search steps for the whole check, a repeatable deadline
  bool refused_writes_take_zxid = true;      // as coordd and ZooKeeper do: a refusal is ordered at its reply's zxid
  bool replies_in_order = true;              // per session; off for clients that do not record the order of sending
  std::int64_t touch_lag_ns = 0;             // early expiry: how long a read or ping may be answered by a replica
                                             // before the leader knows of it (writes and syncs: it knows at once)
  std::int64_t expiry_slack_ns = 0;          // early expiry: forgiven in any case (clock rates)
};

enum class Outcome : std::uint8_t {
  kOk,
  kViolation,
  kUnknown,  // deadline, or not a history (an answer without a request, ...): a failure for the caller as well
};

struct Verdict {
  Outcome outcome = Outcome::kOk;
  std::string rule;                  // short and stable, for example "stale-read": README.md lists them
  std::string text;                  // in words, one paragraph, zxids as epoch:counter
  std::vector<std::size_t> records;  // indices into history.records(): the offending ones, as few as possible
};

Verdict check(const History& history, const Options& options = {});

// The verdict in words, and the offending records, one line each: for a test's failure message.
std::string explain(const History& history, const Verdict& verdict);

}  // namespace coord::history
