// What the leader sends to a learner: the synchronization and, on the same cursor, everything after it (zab.md sections
// 3.2, 3.3, 3.5).
#include <algorithm>

#include "common/base/check.h"
#include "replica/zab/leader.h"
#include "replica/zab/mutation.h"
#include "replica/zab/sync_plan.h"

namespace coord::zab {

namespace {

// Chunks of durable log on their way to one learner; the ping behind each tells when it has arrived.
constexpr std::size_t kChunksOnTheWay = 4;

}  // namespace

// How far this learner may be sent. Those that acknowledge get everything as it is proposed; others what is committed,
// so that nothing uncommitted reaches a log that nobody counts.
Zxid Leader::limit(const Learner& learner) const {
  return forwarded(learner) ? core_.log.last() : core_.committed;
}

// The point of synchronization is chosen and everything above it is on the cursor, in one step.
void Leader::begin_sync(Learner& learner) {
  if (!forwarded(learner) && progress_ != Progress::kBroadcast) return;  // establish() comes back to it
  const AckEpoch& ack = learner.promise;
  const SyncPlan plan = plan_sync(core_.log, ack.log, ack.last_applied, core_.committed,
                                  core_.average_entry_bytes(), core_.config.limits.diff_bytes);
  learner.common = plan.point;
  switch (plan.kind) {
    case SyncKind::kDiverged:
      core_.alarm("server " + std::to_string(learner.sid.value) + " has applied " + to_string(plan.point) +
                  ", which is not in the history of this ensemble: its data diverged; empty its data directory");
      return refuse(learner, "its data diverged");
    case SyncKind::kSnapshot: return start_snapshot(learner);
    case SyncKind::kDiff:
      // What this process takes to be in the log may have been purged since.
      if (purged_behind_ && plan.point <= *purged_behind_ && plan.point < tail_floor_) {
        learner.common = Zxid{};
        return start_snapshot(learner);
      }
      return sync_from(learner, plan.point);
  }
}

void Leader::start_snapshot(Learner& learner) {
  learner.stage = Stage::kSnapshot;
  learner.snapshotted = true;
  learner.read = 0;
  core_.emit(SendSnapshot{learner.link, core_.base(), learner.damaged});
}

void Leader::snapshot_sent(const SnapshotSent& sent) {
  Learner* learner = at(sent.link);
  if (learner == nullptr || learner->stage != Stage::kSnapshot) return;
  COORD_CHECK_MSG(sent.zxid <= core_.log.last(), "a snapshot of what was never logged");
  progress_at_ = core_.now;
  // The tree on disk may lag so far behind that the learner's own log reaches further: then it keeps that.
  sync_from(*learner, std::max(sent.zxid, learner->common));
}

void Leader::sync_from(Learner& learner, Zxid point) {
  core_.send(learner.link, SyncFrom{point});
  learner.stage = Stage::kDiff;
  learner.sent = point;
  // What is staged before NEWLEADER is kept in memory there. Of an established leader it is the history from before its
  // epoch; what the epoch added goes out like all proposals, with a window, however long the snapshot took.
  // But what it may have acknowledged before, and a damaged one with it, it must have when it says that it is whole.
  const bool bounded = progress_ == Progress::kBroadcast && !learner.damaged;
  const Zxid own = learner.promise.log.last();
  const Zxid had = core_.log.has_point(own) ? std::max(history_end_, own) : history_end_;
  const Zxid end = bounded ? std::min(limit(learner), had) : limit(learner);
  learner.sync_end = std::max(point, end);
  pump(learner);
}

void Leader::pump_all() {
  for (auto& [link, learner] : learners_) pump(learner);
}

void Leader::pump(Learner& learner) {
  if (learner.stage == Stage::kDiff) {
    while (learner.sent < learner.sync_end) {
      if (!feed(learner, learner.sync_end)) return;
    }
    learner.stage = Stage::kNewLeader;
    learner.new_leader_last = learner.sent;
    core_.send(learner.link, NewLeader{core_.epoch, learner.sent, core_.cluster_id, core_.secret});
  }
  if (learner.stage < Stage::kNewLeader || progress_ != Progress::kBroadcast) return;
  const Zxid end = limit(learner);
  while (learner.sent < end && learner.window_bytes < core_.config.limits.learner_window_bytes) {
    if (!feed(learner, end)) break;
  }
  welcome(learner);
}

// The next entries up to `up_to` > sent; false: they must be read first.
bool Leader::feed(Learner& learner, Zxid up_to) {
  if (learner.sent < tail_floor_) {
    if (learner.read != 0 || learner.chunk_pings.size() >= kChunksOnTheWay) return false;
    learner.read = core_.next_number++;
    const Zxid end = std::min(up_to, core_.durable);
    COORD_CHECK_MSG(end > learner.sent, "what is not durable is in memory");
    core_.emit(ReadLog{learner.read, learner.sent, end, core_.config.limits.read_chunk_bytes});
    return false;
  }
  std::vector<LogEntry> entries;
  std::size_t bytes = 0;
  for (std::size_t i = tail_index(learner.sent); i < tail_.size() && tail_[i].zxid <= up_to; ++i) {
    entries.push_back(tail_[i]);
    bytes += bytes_of(tail_[i]);
    if (bytes >= core_.config.limits.read_chunk_bytes) break;
  }
  send_entries(learner, std::move(entries), bytes);
  return true;
}

void Leader::send_entries(Learner& learner, std::vector<LogEntry> entries, std::size_t bytes) {
  COORD_CHECK(!entries.empty() && entries.front().previous == learner.sent);
  learner.sent = entries.back().zxid;
  if (learner.stage >= Stage::kNewLeader) {
    learner.window.push_back({learner.sent, bytes, core_.now});
    learner.window_bytes += bytes;
  } else {
    learner.diff_bytes += bytes;
  }
  const Zxid committed = std::min(core_.committed, learner.sent);
  learner.told = std::max(learner.told, committed);
  core_.send(learner.link, Proposal{std::move(entries), committed});
}

void Leader::log_read(const LogRead& read) {
  const auto it = std::find_if(learners_.begin(), learners_.end(),
                               [&](const auto& l) { return l.second.read == read.number && read.number != 0; });
  if (it == learners_.end()) return;  // of a learner or role that is gone
  Learner& learner = it->second;
  learner.read = 0;
  progress_at_ = core_.now;
  if (read.entries.empty()) {
    purged_behind_ = std::max(purged_behind_.value_or(Zxid{}), learner.sent);
    if (learner.stage != Stage::kDiff || learner.snapshotted) {
      return refuse(learner, "what it needs was purged meanwhile; it comes anew");
    }
    learner.common = Zxid{};
    return start_snapshot(learner);
  }
  std::size_t bytes = 0;
  Zxid end = learner.sent;
  for (const LogEntry& entry : read.entries) {
    COORD_CHECK_MSG(entry.previous == end && core_.log.has_point(entry.zxid), "the durable log has a gap");
    end = entry.zxid;
    bytes += bytes_of(entry);
  }
  // The estimate was too low.
  if (learner.stage == Stage::kDiff && !learner.snapshotted && core_.committed > end &&
      learner.diff_bytes + bytes > core_.config.limits.diff_bytes) {
    return start_snapshot(learner);
  }
  send_entries(learner, read.entries, bytes);
  const std::uint64_t number = core_.next_number++;
  learner.chunk_pings.push_back(number);
  send_ping(learner, number);
  pump(learner);
}

// --- what comes back

void Leader::on(Learner& learner, const Ack& ack) {
  if (learner.stage < Stage::kSynced || ack.up_to.epoch() != core_.epoch || ack.up_to > learner.sent) {
    return refuse(learner, "an acknowledgement of what it was not sent");
  }
  acknowledged(learner, ack.up_to);
  if (progress_ != Progress::kBroadcast) return;
  if (counts(learner)) advance_commit();
  pump(learner);
}

void Leader::acknowledged(Learner& learner, Zxid up_to) {
  while (!learner.window.empty() && learner.window.front().last <= up_to) {
    learner.window_bytes -= learner.window.front().bytes;
    learner.window.pop_front();
  }
  // Acknowledgements of earlier epochs were settled by the NEWLEADER quorum.
  if (up_to.epoch() != core_.epoch && !COORD_MUTANT(kOldEpochAcksCounted)) return;
  learner.acked = std::max(learner.acked, std::min(up_to, learner.sent));
  if (counts(learner)) acks_.acknowledge(learner.sid, learner.acked);
}

void Leader::tell_committed(Learner& learner) {
  const Zxid committed = std::min(core_.committed, learner.sent);
  if (learner.stage != Stage::kServing || committed <= learner.told) return;
  learner.told = committed;
  core_.send(learner.link, Commit{committed});
}

// It has everything that is committed: it may serve (zab.md section 3.2: the latest commit, not that of NEWLEADER).
void Leader::welcome(Learner& learner) {
  if (learner.stage != Stage::kSynced || learner.sent < core_.committed) return;
  learner.stage = Stage::kServing;
  learner.told = core_.committed;
  core_.send(learner.link, UpToDate{core_.committed});
  core_.emit(LearnerChanged{learner.link, learner.sid, true});
}

}  // namespace coord::zab
