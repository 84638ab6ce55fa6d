#include "replica/zab/invariants.h"

namespace coord::zab {

namespace {

using Broken = std::optional<std::string>;

Broken broken_append(const Observation& before, const Persist& persist, Zxid& end) {
  for (const LogEntry& entry : persist.append) {
    if (entry.previous != end) return "entry " + to_string(entry.zxid) + " does not follow " + to_string(end);
    if (entry.zxid <= entry.previous) return "zxids do not ascend at " + to_string(entry.zxid);
    if (entry.zxid.epoch() != before.current_epoch) return "entry " + to_string(entry.zxid) + " of a foreign epoch";
    const bool first = entry.previous.epoch() != entry.zxid.epoch();
    if (entry.zxid.counter() != (first ? 1 : entry.previous.counter() + 1)) {
      return "gap before " + to_string(entry.zxid);
    }
    end = entry.zxid;
  }
  return std::nullopt;
}

// An epoch is promised before it is adopted, in separate steps, each one higher than what was there.
Broken broken_epochs(const Observation& before, const Persist& persist) {
  if (persist.accepted_epoch && *persist.accepted_epoch <= before.accepted_epoch) return "epoch promised twice";
  if (persist.current_epoch && *persist.current_epoch <= before.current_epoch) return "epoch adopted twice";
  if (persist.current_epoch && *persist.current_epoch > before.accepted_epoch) return "epoch adopted, not promised";
  if ((persist.accepted_epoch || persist.current_epoch) && !persist.append.empty()) {
    return "epoch changed together with entries of a leader alone";
  }
  return std::nullopt;
}

}  // namespace

Observation observe(const Peer& peer) {
  return {peer.role(),        peer.phase(),        peer.accepted_epoch(), peer.current_epoch(),
          peer.last_logged(), peer.last_durable(), peer.last_committed()};
}

Broken broken_state(const Observation& now) {
  if (now.accepted_epoch < now.current_epoch) return "accepted epoch below current epoch";
  if (now.current_epoch < now.last_logged.epoch()) return "current epoch below that of the log";
  if (now.last_durable > now.last_logged) return "durable beyond the log";
  if (now.last_committed > now.last_logged) return "committed beyond the log";
  if ((now.role == Role::kLooking) != (now.phase == Phase::kElection)) return "role and phase contradict each other";
  return std::nullopt;
}

Broken broken_step(const Observation& before, const Event& event, const Actions& actions, const Observation& after) {
  if (auto broken = broken_state(after)) return broken;
  if (after.accepted_epoch < before.accepted_epoch) return "promise taken back";
  if (after.current_epoch < before.current_epoch) return "adoption taken back";
  if (after.last_logged < before.last_logged) return "log went back";
  if (after.last_durable < before.last_durable) return "durability went back";
  if (after.last_committed < before.last_committed) return "commit went back";
  const bool completion = std::holds_alternative<Persisted>(event);
  if (!completion && after.last_durable != before.last_durable) return "durable without a completion";
  if (!completion && after.last_committed != before.last_committed) return "committed without a completion";

  Zxid end = before.last_logged;
  for (const Action& action : actions) {
    if (const auto* persist = std::get_if<Persist>(&action)) {
      if (auto broken = broken_append(before, *persist, end)) return broken;
      if (auto broken = broken_epochs(before, *persist)) return broken;
    } else if (const auto* commit = std::get_if<Commit>(&action)) {
      // This server's own log is part of every quorum of one.
      if (commit->up_to > after.last_durable) return "committed before it was durable: " + to_string(commit->up_to);
      if (commit->up_to > after.last_committed) return "commit beyond what the core admits";
    }
  }
  if (end != after.last_logged) return "log grew without a Persist";
  return std::nullopt;
}

}  // namespace coord::zab
