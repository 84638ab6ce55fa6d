#include "replica/zab/learner.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "common/base/check.h"
#include "replica/zab/mutation.h"

namespace coord::zab {

namespace {

// What may be staged in memory before NEWLEADER, as a multiple of the longest DIFF that a leader sends.
constexpr std::size_t kStagedPerDiff = 2;

}  // namespace

void Learner::begin() {
  COORD_CHECK_MSG(core_.settled(), "a role starts from a settled log");
  heard_at_ = core_.now;
  core_.epoch = core_.current_epoch;
  set_phase(Phase::kDiscovery);
  dial_ = core_.next_number++;
  core_.emit(DialLearner{dial_, leader_});
}

void Learner::end(const std::string& reason) {
  if (stage_ >= Stage::kPromised && stage_ < Stage::kAdopting && snapshot_) core_.emit(DropSnapshot{});
  if (!link_) return;
  core_.send(*link_, Bye{reason});
  core_.close(*link_, reason);
  link_.reset();
}

void Learner::set_phase(Phase phase) {
  core_.set_phase(core_.is_voter() ? Role::kFollowing : Role::kObserving, phase, leader_);
}

void Learner::violation(const std::string& what) {
  core_.leave("server " + std::to_string(leader_.value) + ": " + what);
}

// --- the link

void Learner::link_up(LinkId link) {
  link_ = link;
  heard_at_ = core_.now;
  stage_ = Stage::kInfo;
  FollowerInfo info;
  info.voter = core_.is_voter();
  info.accepted_epoch = core_.accepted_epoch;
  info.accepted_from = core_.accepted_from;
  info.directory_id = core_.start_state.directory_id;
  info.virgin = core_.virgin();
  info.damaged = core_.damaged;
  core_.send(link, std::move(info));
}

void Learner::link_down(LinkId link) {
  if (link_ != link) return;
  link_.reset();
  core_.leave("the connection to the leader is gone");
}

void Learner::dial_failed(std::uint64_t number) {
  if (number == dial_ && stage_ == Stage::kDialing) core_.leave("the leader could not be reached");
}

void Learner::received(LinkId link, const Message& message) {
  if (link_ != link) return;
  heard_at_ = core_.now;
  const auto unexpected = [&](const auto&) { violation("a message that only a learner sends"); };
  std::visit(Overloaded{[&](const LeaderInfo& m) { on(m); }, [&](const SnapshotBegin& m) { on(m); },
                        [&](const SnapshotChunk& m) { on(m); }, [&](const SnapshotEnd& m) { on(m); },
                        [&](const SyncFrom& m) { on(m); }, [&](const Proposal& m) { on(m); },
                        [&](const NewLeader& m) { on(m); }, [&](const UpToDate& m) { on(m); },
                        [&](const Commit& m) { on(m); },
                        [&](const Ping& m) { core_.send(link, Pong{m.number, core_.durable}); },
                        [&](const Passed& m) {
                          if (stage_ == Stage::kBroadcast) core_.emit(PassedUp{link, leader_, m.bytes});
                        },
                        [&](const Bye&) { core_.leave("the leader has left its office"); }, unexpected},
             message);
}

void Learner::heard(LinkId link) {
  if (link_ == link) heard_at_ = core_.now;
}

void Learner::tick() {
  const Timing& timing = core_.config.timing;
  // A nominee says something every ping interval; one that keeps silent has not become one.
  const std::int64_t limit = stage_ <= Stage::kInfo             ? timing.connect_limit
                             : stage_ == Stage::kBroadcast      ? timing.sync_limit
                                                                : timing.init_limit;
  if (core_.now - heard_at_ > limit) core_.leave("nothing was heard of the leader");
}

// --- discovery (zab.md section 3.1)

void Learner::on(const LeaderInfo& m) {
  if (stage_ != Stage::kInfo) return violation("LeaderInfo out of turn");
  if (m.epoch == 0 || m.epoch > kEpochMax) return violation("an absurd epoch");
  // The history of a later epoch is here already: it is not to be cut for an earlier one.
  if (m.epoch < core_.current_epoch) return violation("it leads an earlier epoch than the one adopted");
  epoch_ = m.epoch;
  if (epoch_ > core_.accepted_epoch) {
    // Whether an acknowledgement of this server makes a quorum is the leader's to say.
    counts_ = true;
    core_.accepted_epoch = epoch_;
    core_.accepted_from = leader_;
    core_.epoch = epoch_;
    stage_ = Stage::kPromising;
    Persist promise;
    promise.accepted_epoch = epoch_;
    promise.accepted_from = leader_;
    promise_id_ = core_.persist(std::move(promise));
    return;
  }
  core_.epoch = epoch_;
  // The same promise to the same leader counts again; given to another, or for a later epoch, it forbids to
  // acknowledge, but not to learn (zab.md section 2.3).
  const bool same_leader = core_.accepted_from == leader_ || COORD_MUTANT(kPromiseTwice);
  counts_ = epoch_ == core_.accepted_epoch && same_leader;
  if (COORD_MUTANT(kStrandedCounts)) counts_ = true;
  send_promise();
}

void Learner::send_promise() {
  stage_ = Stage::kPromised;
  set_phase(Phase::kSynchronization);
  AckEpoch ack;
  ack.epoch = epoch_;
  ack.counts = counts_;
  ack.current_epoch = core_.current_epoch;
  ack.log = core_.log;
  ack.last_applied = core_.committed;
  COORD_CHECK_MSG(core_.durable == core_.log.last(), "only what is durable is reported");
  core_.send(*link_, std::move(ack));
}

// --- synchronization: staged (zab.md sections 3.2, 3.3)

void Learner::reset_staging() {
  staged_.clear();
  staged_bytes_ = 0;
  snapshot_.reset();
  snapshot_staged_.reset();
  chunks_ = 0;
}

// May come after a DIFF that turned out to be purged, or too long: what was staged is void.
void Learner::on(const SnapshotBegin& m) {
  if (stage_ != Stage::kPromised && stage_ != Stage::kEntries) return violation("SnapshotBegin out of turn");
  reset_staging();
  stage_ = Stage::kSnapshot;
  snapshot_ = m.zxid;
  snapshot_membership_ = m.membership;
  core_.emit(ReceiveSnapshot{*link_, m});
}

void Learner::on(const SnapshotChunk& m) {
  if (stage_ != Stage::kSnapshot) return violation("SnapshotChunk out of turn");
  ++chunks_;
  core_.emit(ReceiveSnapshot{*link_, m});
}

void Learner::on(const SnapshotEnd& m) {
  if (stage_ != Stage::kSnapshot) return violation("SnapshotEnd out of turn");
  if (m.chunks != chunks_) return violation("a snapshot that lost chunks");
  stage_ = Stage::kPromised;
  core_.emit(ReceiveSnapshot{*link_, m});
}

void Learner::snapshot_staged(const SnapshotStaged& staged) {
  if (link_ != staged.link || !snapshot_ || stage_ >= Stage::kAdopting) return;
  if (*snapshot_ == Zxid{}) return;  // of an empty tree: good for nothing, and SyncFrom will say so
  if (staged.zxid != *snapshot_) return violation("the snapshot was damaged on its way");
  snapshot_staged_ = staged.zxid;
  if (stage_ == Stage::kStaged) adopt();
}

void Learner::on(const SyncFrom& m) {
  if (stage_ != Stage::kPromised) return violation("SyncFrom out of turn");
  if (snapshot_ && m.point != *snapshot_) {
    // The leader's tree reaches less far than this log.
    if (m.point < *snapshot_) return violation("SyncFrom another point than the snapshot's");
    core_.emit(DropSnapshot{});
    reset_staging();
  }
  if (snapshot_ && m.point == Zxid{}) return violation("a snapshot of nothing");
  if (!snapshot_) {
    if (!core_.log.has_point(m.point)) return violation("SyncFrom a point that is not in this log");
    if (m.point < core_.committed && !COORD_MUTANT(kTruncateBelowDelivered)) {
      core_.alarm("server " + std::to_string(leader_.value) + " would undo what was committed here above " +
                  to_string(m.point) + ": histories have diverged; this replica does not follow it");
      return violation("SyncFrom below what is committed");
    }
  }
  stage_ = Stage::kEntries;
  point_ = staged_end_ = m.point;
}

bool Learner::acceptable(const LogEntry& entry, Zxid end) {
  const bool chained = (entry.previous == end && follows(end, entry.zxid)) || COORD_MUTANT(kGapAccepted);
  if (entry.payload == nullptr || !chained || entry.zxid.epoch() > epoch_) {
    violation("entry " + to_string(entry.zxid) + " does not follow " + to_string(end));
    return false;
  }
  return true;
}

// Is it there already? Only an identical one is (the TLA+ model's second issue): a point of the log behind the same
// one.
bool Learner::known(const LogEntry& entry) const {
  const LogShape& log = core_.log;
  return log.has_point(entry.zxid) && (entry.zxid == log.floor || point_before(log, entry.zxid) == entry.previous);
}

bool Learner::stage_entry(const LogEntry& entry) {
  if (entry.zxid <= staged_end_) {
    const auto same = std::find_if(staged_.begin(), staged_.end(), [&](const auto& s) { return s.zxid == entry.zxid; });
    const bool identical = same == staged_.end()
                               ? !snapshot_ && entry.zxid <= point_ && known(entry)
                               : same->previous == entry.previous && entry.payload && *same->payload == *entry.payload;
    if (!identical) violation("entry " + to_string(entry.zxid) + " twice, and different");
    return identical;
  }
  if (!acceptable(entry, staged_end_)) return false;
  staged_bytes_ += bytes_of(entry);
  if (staged_bytes_ > kStagedPerDiff * core_.config.limits.diff_bytes) {
    violation("a longer synchronization than is kept in memory");
    return false;
  }
  staged_.push_back(entry);
  staged_end_ = entry.zxid;
  return true;
}

bool Learner::take_identity(const NewLeader& m, Persist& persist) {
  if (m.cluster_id == core_.cluster_id) return true;
  if (!core_.virgin()) {
    core_.alarm("server " + std::to_string(leader_.value) + " belongs to another cluster (" + m.cluster_id +
                "): this replica does not follow it");
    violation("another cluster");
    return false;
  }
  if (m.cluster_id.empty()) {
    violation("a leader without an identity");
    return false;
  }
  // An identity without a single entry was never in use: it comes from a nominee that did not get through.
  persist.cluster_id = core_.cluster_id = m.cluster_id;
  persist.secret = core_.secret = m.secret;
  return true;
}

void Learner::on(const NewLeader& m) {
  if (stage_ != Stage::kEntries) return violation("NewLeader out of turn");
  if (m.epoch != epoch_ || m.last != staged_end_) return violation("NewLeader with another end than what was sent");
  if (staged_end_ < core_.committed) {
    core_.alarm("server " + std::to_string(leader_.value) + " lacks what was committed here above " +
                to_string(staged_end_) + ": histories have diverged; this replica does not follow it");
    return violation("a history that ends below what is committed");
  }
  new_leader_ = m;
  stage_ = Stage::kStaged;
  if (!snapshot_ || snapshot_staged_) adopt();
}

// One atomic step: the log, the state and the epoch.
void Learner::adopt() {
  Persist persist;
  if (!take_identity(*new_leader_, persist)) return;
  stage_ = Stage::kAdopting;
  std::optional<Discard> discard;
  if (snapshot_) {
    core_.install_membership(snapshot_membership_);
    persist.install_snapshot = true;
    discard = Discard{Zxid{}};
  } else if (point_ != core_.log.last() && !COORD_MUTANT(kTruncationSkipped)) {
    persist.truncate_after = point_;
    discard = Discard{point_};
  }
  persist.append = std::move(staged_);
  staged_.clear();
  if (epoch_ > core_.current_epoch) persist.current_epoch = core_.current_epoch = epoch_;
  persist.repaired = core_.damaged;
  const bool nothing = !persist.install_snapshot && !persist.truncate_after && persist.append.empty() &&
                       !persist.current_epoch && persist.cluster_id.empty() && !persist.repaired;
  if (nothing) {
    adopted();
  } else {
    Appended appended{persist.append};
    adopt_id_ = core_.persist(std::move(persist), snapshot_.value_or(Zxid{}));
    if (discard) core_.emit(*discard);
    if (!appended.entries.empty()) core_.emit(std::move(appended));
    if (COORD_MUTANT(kNewLeaderAckBeforePersist)) persisted(adopt_id_);
  }
  for (const Proposal& proposal : std::exchange(held_, {})) {
    if (!core_.leaving) on(proposal);
  }
}

void Learner::adopted() {
  stage_ = Stage::kAdopted;
  core_.send(*link_, AckNewLeader{epoch_});
}

void Learner::persisted(std::uint64_t id) {
  if (promise_id_ != 0 && id >= promise_id_) {
    promise_id_ = 0;
    if (!link_ || core_.leaving) return;
    send_promise();
  }
  if (adopt_id_ != 0 && id >= adopt_id_) {
    adopt_id_ = 0;
    if (!link_ || core_.leaving) return;
    adopted();
  }
  acknowledge();
}

// Only what is durable, only of this epoch, and never before AckNewLeader (ZOOKEEPER-4685).
void Learner::acknowledge() {
  if (stage_ < Stage::kAdopted || !counts_ || !link_ || core_.leaving) return;
  if (core_.durable.epoch() != epoch_ || core_.durable <= acked_) return;
  acked_ = core_.durable;
  core_.send(*link_, Ack{acked_});
}

// --- broadcast (zab.md section 3.4)

void Learner::on(const Proposal& m) {
  if (stage_ == Stage::kEntries) {
    for (const LogEntry& entry : m.entries) {
      if (!stage_entry(entry)) return;
    }
    if (m.committed > staged_end_) return violation("a commit of what was not sent");
    known_committed_ = std::max(known_committed_, m.committed);
    return;
  }
  if (stage_ < Stage::kStaged) return violation("Proposal out of turn");
  // While the snapshot is being completed on disk there is no log yet to append to.
  if (stage_ == Stage::kStaged) return hold(m);
  std::vector<LogEntry> fresh;
  Zxid end = core_.log.last();
  for (const LogEntry& entry : m.entries) {
    if (entry.zxid <= core_.log.last()) {
      if (!known(entry)) return violation("entry " + to_string(entry.zxid) + " twice, and different");
      continue;
    }
    if (!acceptable(entry, end)) return;
    if (entry.zxid.epoch() != epoch_) return violation("a proposal of another epoch");
    end = entry.zxid;
    fresh.push_back(entry);
  }
  if (m.committed > end) return violation("a commit of what was not sent");
  if (!fresh.empty()) append(std::move(fresh));
  take_committed(m.committed);
}

void Learner::hold(const Proposal& m) {
  for (const LogEntry& entry : m.entries) {
    if (entry.payload == nullptr) return violation("an entry without a payload");
    staged_bytes_ += bytes_of(entry);
  }
  if (staged_bytes_ > kStagedPerDiff * core_.config.limits.diff_bytes) {
    return violation("a longer synchronization than is kept in memory");
  }
  held_.push_back(m);
}

void Learner::append(std::vector<LogEntry> entries) {
  Appended appended{entries};
  Persist persist;
  persist.append = std::move(entries);
  core_.persist(std::move(persist));
  core_.emit(std::move(appended));
}

void Learner::take_committed(Zxid up_to) {
  known_committed_ = std::max(known_committed_, up_to);
  if (stage_ == Stage::kBroadcast) core_.deliver(known_committed_);
}

void Learner::on(const Commit& m) {
  if (stage_ < Stage::kAdopting || m.up_to > core_.log.last()) return violation("a commit of what was not sent");
  take_committed(m.up_to);
}

void Learner::on(const UpToDate& m) {
  if (stage_ != Stage::kAdopted || m.committed > core_.log.last()) return violation("UpToDate out of turn");
  stage_ = Stage::kBroadcast;
  known_committed_ = std::max(known_committed_, m.committed);
  core_.deliver(known_committed_, true);
  set_phase(Phase::kBroadcast);
}

}  // namespace coord::zab
