#include "replica/zab/leader.h"

#include <algorithm>
#include <tuple>

#include "common/base/check.h"
#include "replica/zab/mutation.h"

namespace coord::zab {

namespace {

std::string lost_disk(Sid sid) {
  return "server " + std::to_string(sid.value) +
         " has another data directory than the one enrolled: it lost its disk and does not count; remove it and add it "
         "again (coordctl reconfig), or give it another server id";
}

}  // namespace

void Leader::begin(std::uint64_t election_round) {
  COORD_CHECK_MSG(core_.settled(), "discovery starts from a settled log");
  COORD_CHECK_MSG(core_.accepted_epoch < kEpochMax,
                  "refusing to lead: the epoch is absurdly high, the data is damaged");
  election_round_ = election_round;
  core_.epoch = core_.current_epoch;
  tail_floor_ = core_.log.last();
  progress_at_ = quorum_linked_at_ = core_.now;
  // A voter alone knows its epoch at once.
  if (is_quorum({core_.config.self}) && core_.self_counts()) return try_mint();
  core_.set_phase(Role::kLeading, Phase::kDiscovery, core_.config.self);
}

void Leader::end(const std::string& reason) {
  while (!learners_.empty()) {
    const LinkId link = learners_.begin()->first;
    core_.send(link, Bye{reason});
    forget(link);
    core_.close(link, reason);
  }
}

// --- who counts

// As the log says, whatever the learner takes itself for: it may not know yet that it was made one.
bool Leader::is_voter(const Learner& learner) const {
  return core_.voters.is_voter(learner.sid) || COORD_MUTANT(kObserverCounted) ||
         (COORD_MUTANT(kGuestCounted) && !core_.base().is_member(learner.sid));
}

bool Leader::may_count(const Learner& learner) const {
  return is_voter(learner) && (!learner.damaged || COORD_MUTANT(kDamagedCounted)) &&
          core_.enrolled_as(learner.sid, learner.info.directory_id);
}

bool Leader::counts(const Learner& learner) const {
  return learner.stage >= Stage::kPromised && learner.promise.counts && may_count(learner);
}

std::set<Sid> Leader::counted_at(Stage stage) const {
  std::set<Sid> counted;
  if (core_.self_counts()) counted.insert(core_.config.self);
  for (const auto& [link, learner] : learners_) {
    if (learner.stage < stage) continue;
    if (stage >= Stage::kPromised ? counts(learner) : may_count(learner)) counted.insert(learner.sid);
  }
  return counted;
}

// --- links

Leader::Learner* Leader::at(LinkId link) {
  const auto it = learners_.find(link);
  return it == learners_.end() ? nullptr : &it->second;
}

void Leader::link_up(LinkId link, Sid peer) {
  for (auto& [other, learner] : learners_) {
    if (learner.sid != peer) continue;
    refuse(learner, "another connection of the same server");
    break;
  }
  Learner& learner = learners_[link];
  learner.link = link;
  learner.sid = peer;
  learner.heard_at = core_.now;
}

void Leader::link_down(LinkId link) {
  const Learner* learner = at(link);
  if (learner == nullptr) return;
  const Sid sid = learner->sid;
  forget(link);
  if (progress_ == Progress::kBroadcast) return;
  supporters_.erase(sid);
  if (!check_supporters()) core_.leave("its voters have gone");
}

void Leader::forget(LinkId link) {
  const auto it = learners_.find(link);
  if (it == learners_.end()) return;
  if (it->second.stage == Stage::kServing) core_.emit(LearnerChanged{link, it->second.sid, false});
  // It may come back put right, or to another leader. (A nominee tries often: once is enough.)
  if (progress_ == Progress::kBroadcast) core_.alarm_over(lost_disk(it->second.sid));
  learners_.erase(it);
  rebuild_acks();
}

void Leader::refuse(Learner& learner, const std::string& why) {
  const LinkId link = learner.link;
  forget(link);
  core_.close(link, why);
}

void Leader::heard(LinkId link) {
  Learner* learner = at(link);
  if (learner == nullptr) return;
  learner->heard_at = core_.now;
  if (counts(*learner)) heard_at_[learner->sid] = core_.now;
}

void Leader::received(LinkId link, const Message& message) {
  Learner* learner = at(link);
  if (learner == nullptr) return;
  heard(link);
  const auto unexpected = [&](const auto&) { refuse(*learner, "a message that only a leader sends"); };
  std::visit(Overloaded{[&](const FollowerInfo& m) { on(*learner, m); }, [&](const AckEpoch& m) { on(*learner, m); },
                        [&](const AckNewLeader& m) { on(*learner, m); }, [&](const Ack& m) { on(*learner, m); },
                        [&](const Pong& m) { on(*learner, m); },
                        [&](const Passed& m) {
                          if (learner->stage == Stage::kServing) {
                            core_.emit(PassedUp{link, learner->sid, m.bytes});
                          }
                        },
                        [&](const Bye&) { refuse(*learner, "the learner left"); }, unexpected},
             message);
}

// --- discovery (zab.md section 3.1)

void Leader::on(Learner& learner, const FollowerInfo& info) {
  if (learner.stage != Stage::kLinked) return refuse(learner, "FollowerInfo twice");
  if (info.accepted_epoch >= kEpochMax) return refuse(learner, "an absurd epoch");
  learner.info = info;
  learner.damaged = info.damaged;
  learner.stage = Stage::kInfo;
  std::uint32_t& promised = core_.promises[learner.sid];
  promised = std::max(promised, info.accepted_epoch);
  supporters_.insert(learner.sid);
  check_directory(learner);
  if (progress_ == Progress::kGathering) return try_mint();
  // Somebody promised a later epoch meanwhile: before this one is adopted, a new one costs nothing.
  const bool stranded = info.accepted_epoch > core_.epoch ||
                        (info.accepted_epoch == core_.epoch && info.accepted_from != core_.config.self);
  if (progress_ <= Progress::kPromising && stranded && may_count(learner)) {
    return core_.leave("server " + std::to_string(learner.sid.value) + " has promised a later epoch");
  }
  if (promise_durable_) offer_epoch(learner);
}

void Leader::check_directory(const Learner& learner) {
  const bool lost = is_voter(learner) && core_.enrolled_otherwise(learner.sid, learner.info.directory_id);
  lost ? core_.alarm(lost_disk(learner.sid)) : core_.alarm_over(lost_disk(learner.sid));
}

void Leader::try_mint() {
  if (!is_quorum(counted_at(Stage::kInfo))) return;
  std::uint32_t highest = core_.accepted_epoch;
  for (const auto& [sid, promise] : core_.promises) {
    if (!COORD_MUTANT(kEpochNotRaised)) highest = std::max(highest, promise);
  }
  if (highest >= kEpochMax) {
    core_.alarm("a server has promised an absurdly high epoch: its data is damaged");
    return core_.leave("an absurd epoch");
  }
  progress_ = Progress::kMinting;
  progress_at_ = core_.now;
  core_.accepted_epoch = core_.epoch = highest + 1;
  core_.accepted_from = core_.config.self;
  if (core_.role != Role::kLeading) core_.set_phase(Role::kLeading, Phase::kDiscovery, core_.config.self);
  Persist promise;
  promise.accepted_epoch = core_.accepted_epoch;
  promise.accepted_from = core_.accepted_from;
  promise_id_ = core_.persist(std::move(promise));
  if (COORD_MUTANT(kLeaderInfoBeforePersist)) persisted(promise_id_);
}

void Leader::offer_epoch(Learner& learner) {
  learner.stage = Stage::kOffered;
  core_.send(learner.link, LeaderInfo{core_.epoch});
}

void Leader::on(Learner& learner, const AckEpoch& ack) {
  if (learner.stage != Stage::kOffered || ack.epoch != core_.epoch) return refuse(learner, "an unexpected AckEpoch");
  if (!well_formed(ack.log) || ack.log.last().epoch() > ack.current_epoch) {
    return refuse(learner, "a log that contradicts itself");
  }
  if (ack.current_epoch > core_.epoch) return refuse(learner, "it has adopted a later epoch");
  learner.promise = ack;
  learner.stage = Stage::kPromised;
  if (counts(learner)) heard_at_[learner.sid] = core_.now;
  progress_at_ = core_.now;
  if (progress_ == Progress::kPromising && surpasses(learner)) return leave_to(learner);
  if (progress_ == Progress::kPromising) return try_synchronize();
  begin_sync(learner);
}

// Has it a better history, that it could lead with? One that only a pending change made a voter could not. What it has
// beyond the logs of a majority of the old voters is committed nowhere: neither under the old list nor under the new
// one, of which they are nearly a majority.
bool Leader::surpasses(const Learner& learner) const {
  if (!counts(learner) || !core_.base().voters.contains(learner.sid) || COORD_MUTANT(kBetterHistoryIgnored)) {
    return false;
  }
  return std::tuple(learner.promise.current_epoch, learner.promise.log.last()) >
         std::tuple(core_.current_epoch, core_.log.last());
}

void Leader::leave_to(const Learner& learner) {
  core_.leave("server " + std::to_string(learner.sid.value) + " has a better history");
}

void Leader::try_synchronize() {
  if (!is_quorum(counted_at(Stage::kPromised))) return;
  COORD_CHECK(promise_durable_);
  // Again: one whose promise came before it counted may count by now.
  for (const auto& [link, learner] : learners_) {
    if (learner.stage >= Stage::kPromised && surpasses(learner)) return leave_to(learner);
  }
  progress_ = Progress::kAdopting;
  progress_at_ = core_.now;
  core_.current_epoch = core_.epoch;
  core_.set_phase(Role::kLeading, Phase::kSynchronization, core_.config.self);
  Persist adopt;
  adopt.current_epoch = core_.current_epoch;
  if (core_.cluster_id.empty()) {
    adopt.cluster_id = core_.cluster_id = core_.start_state.fresh_cluster_id;
    adopt.secret = core_.secret = core_.start_state.fresh_secret;
  }
  adopt_id_ = core_.persist(std::move(adopt));
  std::vector<LinkId> waiting;
  for (const auto& [link, learner] : learners_) {
    if (learner.stage == Stage::kPromised) waiting.push_back(link);
  }
  for (const LinkId link : waiting) begin_sync(learners_.at(link));
}

// --- establishment (zab.md section 3.2)

void Leader::on(Learner& learner, const AckNewLeader& ack) {
  if (learner.stage != Stage::kNewLeader || ack.epoch != core_.epoch) {
    return refuse(learner, "an unexpected AckNewLeader");
  }
  learner.stage = Stage::kSynced;
  // It has got everything from a leader that was elected without it.
  learner.damaged = false;
  progress_at_ = core_.now;
  if (counts(learner)) heard_at_[learner.sid] = core_.now;
  acknowledged(learner, learner.new_leader_last);
  // What it was sent meanwhile begins to be late only now.
  for (Unacknowledged& one : learner.window) one.sent_at = core_.now;
  if (progress_ == Progress::kAdopting) return try_establish();
  if (progress_ != Progress::kBroadcast) return;
  rebuild_acks();
  advance_commit();
  pump(learner);
  ask_enrolment();
}

void Leader::try_establish() {
  // Those that have not been heard of lately may be with another leader already.
  std::set<Sid> alive = counted_at(Stage::kSynced);
  for (const auto& [link, learner] : learners_) {
    if (core_.now - learner.heard_at > core_.config.timing.sync_limit) alive.erase(learner.sid);
  }
  const bool enough = is_quorum(alive) || COORD_MUTANT(kUpToDateBeforeQuorum);
  if (progress_ == Progress::kAdopting && adopted_ && enough) establish();
}

void Leader::establish() {
  COORD_CHECK(core_.current_epoch == core_.epoch && core_.durable == core_.log.last());
  progress_ = Progress::kBroadcast;
  established_at_ = core_.now;
  // The whole initial history is committed by this quorum.
  history_end_ = core_.committed = core_.log.last();
  core_.set_phase(Role::kLeading, Phase::kBroadcast, core_.config.self);
  core_.deliver(core_.log.last(), true);
  rebuild_acks();
  std::vector<LinkId> links;
  for (const auto& [link, learner] : learners_) links.push_back(link);
  for (const LinkId link : links) {
    Learner* learner = at(link);
    if (learner == nullptr) continue;
    if (learner->stage == Stage::kPromised) {
      begin_sync(*learner);
    } else {
      pump(*learner);
    }
  }
  ask_enrolment();
}

void Leader::persisted(std::uint64_t id) {
  progress_at_ = core_.now;
  if (promise_id_ != 0 && id >= promise_id_) {
    promise_id_ = 0;
    promise_durable_ = true;
    progress_ = Progress::kPromising;
    for (auto& [link, learner] : learners_) {
      if (learner.stage == Stage::kInfo) offer_epoch(learner);
    }
    return try_synchronize();
  }
  if (adopt_id_ != 0 && id >= adopt_id_) {
    adopt_id_ = 0;
    adopted_ = true;
    return try_establish();
  }
  if (progress_ == Progress::kBroadcast) advance_commit();
}

// --- notifications of the election, while leading

// A voter that looks again in a later round has withdrawn its vote (ZOOKEEPER-3109); and a quorum that follows somebody
// else needs no further proof.
void Leader::notified(Sid from, const Notification& notification) {
  if (!core_.voters.is_voter(from)) return;
  elsewhere_.erase(from);
  if (notification.state == Role::kLooking) {
    const bool withdrawn = notification.round > election_round_ ||
                           (notification.round == election_round_ && notification.vote.leader != core_.config.self);
    if (progress_ == Progress::kBroadcast || !withdrawn) return;
    supporters_.erase(from);
    if (!check_supporters()) core_.leave("its voters have withdrawn");
    return;
  }
  const Vote& vote = notification.vote;
  if (vote.leader == core_.config.self || vote.leader == Sid{}) return;
  if (progress_ == Progress::kBroadcast && vote.epoch <= core_.epoch) return;
  elsewhere_[from] = vote;
  std::set<Sid> members;
  for (const auto& [sid, its] : elsewhere_) {
    if (its.leader == vote.leader && its.epoch == vote.epoch) members.insert(sid);
  }
  if (is_quorum(members)) core_.leave("a quorum follows another leader");
}

bool Leader::check_supporters() const {
  std::set<Sid> left = supporters_;
  left.insert(core_.config.self);
  for (const auto& [link, learner] : learners_) left.insert(learner.sid);
  return is_quorum(left);
}

}  // namespace coord::zab
