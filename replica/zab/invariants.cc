#include "replica/zab/invariants.h"

#include <algorithm>

#include "replica/zab/history.h"

namespace coord::zab {

namespace {

using Broken = std::optional<std::string>;

// `end` is where the log ends before this Persist and, on return, after it.
Broken broken_append(const Observation& before, const Observation& after, const Persist& persist, Zxid& end) {
  if (persist.install_snapshot) {
    if (persist.truncate_after) return "a snapshot and a cut at once";
    end = persist.append.empty() ? after.last_logged : persist.append.front().previous;
  }
  if (persist.truncate_after) {
    if (*persist.truncate_after > end) return "cut behind the end of the log";
    if (*persist.truncate_after < before.last_committed) return "cut below what is committed";
    end = *persist.truncate_after;
  }
  for (const LogEntry& entry : persist.append) {
    if (entry.payload == nullptr) return "entry " + to_string(entry.zxid) + " without a payload";
    if (entry.previous != end) return "entry " + to_string(entry.zxid) + " does not follow " + to_string(end);
    if (!follows(end, entry.zxid)) return "gap before " + to_string(entry.zxid);
    if (entry.zxid.epoch() > after.current_epoch) return "entry " + to_string(entry.zxid) + " of a foreign epoch";
    if (before.role == Role::kLeading && entry.zxid.epoch() != before.current_epoch) {
      return "the leader logs entry " + to_string(entry.zxid) + " of a foreign epoch";
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
  if (persist.accepted_epoch && (persist.current_epoch || !persist.append.empty())) {
    return "epoch promised together with something else";
  }
  if (persist.current_epoch && !persist.append.empty() && before.role == Role::kLeading) {
    return "epoch changed together with entries of a leader alone";
  }
  return std::nullopt;
}

// What is said to others is durable here already (zab.md section 7.1, 12).
Broken broken_send(const Observation& after, const Event& event, const Message& message) {
  const bool completion = std::holds_alternative<Persisted>(event);
  if (const auto* ack = std::get_if<Ack>(&message)) {
    if (!completion) return "acknowledged without a completion";
    if (ack->up_to > after.last_durable) return "acknowledged before it was durable: " + to_string(ack->up_to);
    if (ack->up_to.epoch() != after.current_epoch) return "acknowledged in an epoch that was not adopted";
  } else if (const auto* adopted = std::get_if<AckNewLeader>(&message)) {
    if (adopted->epoch != after.current_epoch) return "NEWLEADER acknowledged, epoch not adopted";
  } else if (const auto* promise = std::get_if<AckEpoch>(&message)) {
    if (promise->counts && promise->epoch != after.accepted_epoch) return "a promise that was not made";
    if (promise->log.last() > after.last_durable) return "reported what is not durable";
  } else if (const auto* offer = std::get_if<LeaderInfo>(&message)) {
    if (offer->epoch > after.accepted_epoch) return "offered an epoch that the leader has not promised";
  } else if (const auto* commit = std::get_if<Commit>(&message)) {
    if (commit->up_to > after.last_committed) return "told a commit that is not known";
  }
  return std::nullopt;
}

Broken broken_backwards(const Observation& before, const Event& event, const Observation& after, bool cut) {
  if (after.accepted_epoch < before.accepted_epoch) return "promise taken back";
  if (after.current_epoch < before.current_epoch) return "adoption taken back";
  if (!cut && after.last_logged < before.last_logged) return "log went back";
  if (!cut && after.last_durable < before.last_durable) return "durability went back";
  if (after.last_committed < before.last_committed) return "commit went back";
  const bool completion = std::holds_alternative<Persisted>(event);
  if (!completion && after.last_durable > before.last_durable) return "durable without a completion";
  const bool heard = std::holds_alternative<Received>(event) || std::holds_alternative<Enrolled>(event) ||
                     std::holds_alternative<SnapshotStaged>(event);
  if (!completion && !heard && after.last_committed != before.last_committed) return "committed without a reason";
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
  const bool cut = std::any_of(actions.begin(), actions.end(), [](const Action& action) {
    const auto* persist = std::get_if<Persist>(&action);
    return persist != nullptr && (persist->install_snapshot || persist->truncate_after);
  });
  if (auto broken = broken_backwards(before, event, after, cut)) return broken;

  Zxid end = before.last_logged;
  for (const Action& action : actions) {
    if (const auto* persist = std::get_if<Persist>(&action)) {
      if (auto broken = broken_append(before, after, *persist, end)) return broken;
      if (auto broken = broken_epochs(before, *persist)) return broken;
    } else if (const auto* deliver = std::get_if<Deliver>(&action)) {
      if (deliver->up_to > after.last_committed) return "commit beyond what the core admits";
    } else if (const auto* send = std::get_if<Send>(&action)) {
      if (auto broken = broken_send(after, event, send->message)) return broken;
    }
  }
  if (end != after.last_logged) return "log grew without a Persist";
  return std::nullopt;
}

}  // namespace coord::zab
