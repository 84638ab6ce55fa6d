// The leader in broadcast: proposals and commits (zab.md section 3.4), its own legitimacy (2.3, 4.2), enrolment.
#include <algorithm>

#include "common/base/check.h"
#include "replica/zab/leader.h"
#include "replica/zab/mutation.h"

namespace coord::zab {

namespace {

// A follower whose disk does not keep up is cut off when its oldest proposal waits for sync_limit times this.
constexpr std::int64_t kSlowDiskFactor = 10;
// A stranded promise costs at most one change of leader in this time.
constexpr std::int64_t kResignEvery = 60'000;
// An enrolment that its transaction has not answered yet is asked for again after this.
constexpr std::int64_t kEnrolEvery = 5'000;
// The first enrolment waits that many connect limits for all voters to be there: from then on a voter that is not
// enrolled does not count, so one that is only a little late should be in.
constexpr std::int64_t kEnrolPatience = 2;

}  // namespace

// --- proposing

bool Leader::draining() const {
  const Zxid last = core_.log.last();
  return resigning_ || (last.epoch() == core_.epoch && last.counter() >= core_.config.counter_max);
}

bool Leader::accepts_proposals() const {
  if (progress_ != Progress::kBroadcast || draining() || reconfirm_ping_ != 0 || core_.leaving) return false;
  const Limits& limits = core_.config.limits;
  const std::size_t outstanding = tail_.size() - tail_index(std::max(core_.committed, tail_floor_));
  return outstanding < limits.outstanding_entries && outstanding_bytes_ < limits.outstanding_bytes;
}

void Leader::propose(const Propose& proposal) {
  COORD_CHECK(proposal.payload != nullptr);
  COORD_CHECK_MSG(!core_.pending() || !core_.config.membership_of || !core_.config.membership_of(*proposal.payload),
                  "one change of the members at a time");
  LogEntry entry{proposal.zxid, core_.log.last(), proposal.payload, proposal.origin};
  const std::size_t bytes = bytes_of(entry);
  tail_.push_back(entry);
  tail_bytes_ += bytes;
  outstanding_bytes_ += bytes;
  Persist append;
  append.append.push_back(std::move(entry));
  core_.persist(std::move(append));
  pump_all();
}

// The first entry of the tail above `after`, which is the tail's floor or in the tail. The tail is of one epoch and has
// no gaps.
std::size_t Leader::tail_index(Zxid after) const {
  if (after <= tail_floor_ || tail_.empty()) return 0;
  return static_cast<std::size_t>(after.value - tail_.front().zxid.value) + 1;
}

void Leader::trim_tail() {
  while (tail_bytes_ > core_.config.limits.tail_bytes && !tail_.empty() && tail_.front().zxid <= core_.durable &&
         tail_.front().zxid <= core_.committed) {
    tail_floor_ = tail_.front().zxid;
    tail_bytes_ -= bytes_of(tail_.front());
    tail_.pop_front();
  }
}

// --- committing

void Leader::rebuild_acks() {
  acks_.clear();
  for (const auto& [link, learner] : learners_) {
    if (learner.stage >= Stage::kSynced && counts(learner)) acks_.acknowledge(learner.sid, learner.acked);
  }
}

void Leader::advance_commit() {
  // Only acknowledgements of this epoch count: what came before was settled by the NEWLEADER quorum (section 3.4).
  const Zxid own = COORD_MUTANT(kLeaderAckUndurable) ? core_.log.last() : core_.durable;
  if (own.epoch() == core_.epoch && core_.self_counts()) acks_.acknowledge(core_.config.self, own);
  // Again: a change of the members that was committed may leave others to decide about what is behind it.
  for (;;) {
    const Zxid reached = acks_.committed(core_.voters);
    if (reached <= core_.committed) break;
    COORD_CHECK(reached.epoch() == core_.epoch);
    const std::size_t end = tail_index(reached);
    for (std::size_t i = tail_index(std::max(core_.committed, tail_floor_)); i < end; ++i) {
      outstanding_bytes_ -= bytes_of(tail_[i]);
    }
    core_.deliver(reached);
    for (auto& [link, learner] : learners_) {
      pump(learner);
      tell_committed(learner);
    }
  }
  trim_tail();
  hand_over_when_drained();
}

// This server's own disk may be behind: the next role waits for it, the others need not.
bool Leader::idle() const { return core_.committed == core_.log.last(); }

// The counter of the epoch ran out, or it was asked to: on to the next epoch when nothing is outstanding.
void Leader::hand_over_when_drained() {
  if (progress_ == Progress::kBroadcast && draining() && idle()) core_.leave("hands over the leadership");
}

void Leader::resign() {
  resigning_ = true;
  hand_over_when_drained();
}

// --- proofs of leadership (zab.md section 4.2, sync)

void Leader::send_ping(Learner& learner, std::uint64_t number) { core_.send(learner.link, Ping{number}); }

std::uint64_t Leader::ping_all() {
  const std::uint64_t number = core_.next_number++;
  pinged_at_ = core_.now;
  for (auto& [link, learner] : learners_) {
    if (learner.stage >= Stage::kInfo) send_ping(learner, number);
  }
  return number;
}

bool Leader::pong_quorum(std::uint64_t number) const {
  if (COORD_MUTANT(kConfirmedWithoutPongs)) return true;
  std::set<Sid> answered;
  if (core_.self_counts()) answered.insert(core_.config.self);
  for (const auto& [link, learner] : learners_) {
    if (learner.stage >= Stage::kSynced && counts(learner) && learner.pong >= number) answered.insert(learner.sid);
  }
  return is_quorum(answered);
}

void Leader::confirm(std::uint64_t number) {
  if (progress_ != Progress::kBroadcast) return;
  if (!asked_.empty()) {
    asked_next_.push_back({number, core_.committed});
    return;
  }
  asked_.push_back({number, core_.committed});
  question_ping_ = ping_all();
  pong_came();
}

void Leader::pong_came() {
  if (reconfirm_ping_ != 0 && pong_quorum(reconfirm_ping_)) reconfirm_ping_ = 0;
  while (!asked_.empty() && pong_quorum(question_ping_)) {
    for (const Question& question : asked_) core_.emit(LeadershipConfirmed{question.number, question.committed});
    asked_ = std::exchange(asked_next_, {});
    if (!asked_.empty()) question_ping_ = ping_all();
  }
}

void Leader::on(Learner& learner, const Pong& pong) {
  if (pong.number >= core_.next_number || pong.number < learner.pong) return refuse(learner, "a pong without a ping");
  learner.pong = pong.number;
  while (!learner.chunk_pings.empty() && learner.chunk_pings.front() <= pong.number) learner.chunk_pings.pop_front();
  // A snapshot on its way is progress as long as its receiver lives.
  if (learner.stage == Stage::kSnapshot || learner.stage == Stage::kDiff) progress_at_ = core_.now;
  // Those that do not acknowledge say here how far they are.
  if (learner.stage >= Stage::kSynced && !learner.promise.counts) acknowledged(learner, pong.last_durable);
  pump(learner);
  if (progress_ == Progress::kAdopting) return try_establish();
  pong_came();
}

// --- enrolment (see Enrolled in peer.h)

void Leader::electorate_changed() {
  for (auto it = heard_at_.begin(); it != heard_at_.end();) {
    const bool still = std::any_of(learners_.begin(), learners_.end(),
                                   [&](const auto& l) { return l.second.sid == it->first && counts(l.second); });
    it = still ? std::next(it) : heard_at_.erase(it);
  }
  for (const auto& [link, learner] : learners_) {
    if (counts(learner)) heard_at_.emplace(learner.sid, learner.heard_at);
    if (learner.stage >= Stage::kInfo) check_directory(learner);
  }
  rebuild_acks();
  // What waits for a quorum may have one now.
  switch (progress_) {
    case Progress::kGathering: return try_mint();
    case Progress::kMinting: return;
    case Progress::kPromising: return try_synchronize();
    case Progress::kAdopting: return try_establish();
    case Progress::kBroadcast: break;
  }
  advance_commit();
  pump_all();
  ask_enrolment();
}

void Leader::ask_enrolment() {
  if (progress_ != Progress::kBroadcast || !core_.self_counts() || core_.start_state.directory_id.empty()) return;
  // Alone, there is nobody to be told from; and enrolled alone, it could not be given other voters later.
  if (core_.voters.voters().size() < 2) return;
  std::map<Sid, std::string> missing;
  for (const auto& [link, learner] : learners_) {
    const bool here = is_voter(learner) && learner.stage >= Stage::kSynced && !learner.info.directory_id.empty();
    const bool joined = !core_.enrolled.empty() && core_.enrolled_as(learner.sid, learner.info.directory_id);
    if (here && !joined && !core_.enrolled.contains(learner.sid)) missing[learner.sid] = learner.info.directory_id;
  }
  if (core_.enrolled.empty()) {
    missing[core_.config.self] = core_.start_state.directory_id;
    const bool patient = core_.now - established_at_ < kEnrolPatience * core_.config.timing.connect_limit;
    if (missing.size() < core_.voters.voters().size() && patient) return;
    // From then on only the enrolled ones count: fewer than a quorum of them could never lead again.
    std::set<Sid> named;
    for (const auto& [sid, directory] : missing) named.insert(sid);
    if (!is_quorum(named)) return;
  }
  const bool fresh = std::any_of(missing.begin(), missing.end(),
                                 [&](const auto& one) { return !enrol_asked_.contains(one.first); });
  if (missing.empty() || (!fresh && core_.now - enrol_asked_at_ < kEnrolEvery)) return;
  enrol_asked_at_ = core_.now;
  for (const auto& [sid, directory] : missing) enrol_asked_.insert(sid);
  core_.emit(Enrol{std::move(missing)});
}

// --- the passing of time

void Leader::tick(std::int64_t stopped_ms) {
  const Timing& timing = core_.config.timing;
  if (stopped_ms > timing.sync_limit && progress_ == Progress::kBroadcast) {
    reconfirm_ping_ = ping_all();
    pong_came();
  }
  if (core_.now - pinged_at_ >= timing.ping) ping_all();
  watch_learners();
  if (progress_ == Progress::kBroadcast) {
    watch_quorum();
    watch_strays();
    ask_enrolment();
  } else {
    watch_nominee();
  }
}

void Leader::watch_learners() {
  const Timing& timing = core_.config.timing;
  const std::set<Sid> serving = counted_at(Stage::kSynced);
  std::vector<std::pair<LinkId, std::string>> gone;
  for (const auto& [link, learner] : learners_) {
    const std::int64_t silence = learner.stage >= Stage::kServing ? timing.sync_limit : timing.init_limit;
    if (core_.now - learner.heard_at > silence) {
      gone.emplace_back(link, "nothing was heard of it");
    } else if (learner.stage >= Stage::kSynced && !learner.window.empty() &&
               core_.now - learner.window.front().sent_at > kSlowDiskFactor * timing.sync_limit) {
      std::set<Sid> rest = serving;
      rest.erase(learner.sid);
      if (!counts(learner) || is_quorum(rest)) gone.emplace_back(link, "its log does not keep up");
    }
  }
  for (const auto& [link, why] : gone) {
    if (Learner* learner = at(link)) refuse(*learner, why);
  }
}

// What is received counts, not what could be sent: a leader that nobody can answer gives up (zab.md section 2.3).
void Leader::watch_quorum() {
  std::set<Sid> alive;
  if (core_.self_counts()) alive.insert(core_.config.self);
  for (const auto& [sid, heard_at] : heard_at_) {
    if (core_.now - heard_at <= core_.config.timing.sync_limit) alive.insert(sid);
  }
  if (!is_quorum(alive)) core_.leave("no quorum was heard of");
}

void Leader::watch_nominee() {
  if (is_quorum(counted_at(Stage::kInfo))) quorum_linked_at_ = core_.now;
  const Timing& timing = core_.config.timing;
  if (core_.now - quorum_linked_at_ > timing.lead_alone_limit) return core_.leave("its quorum does not come");
  if (core_.now - progress_at_ > timing.init_limit) core_.leave("its quorum makes no progress");
}

// A voter that promised a later epoch to a nominee that died cannot acknowledge in this one. Where that leaves only a
// bare quorum, a new epoch in a quiet moment makes it whole again (zab.md section 2.3).
void Leader::watch_strays() {
  if (!idle() || core_.leaving) return;
  const std::set<Sid> serving = counted_at(Stage::kServing);
  for (const auto& [link, learner] : learners_) {
    if (learner.stage != Stage::kServing || learner.promise.counts || !may_count(learner)) continue;
    std::set<Sid> one_less = serving;
    if (!one_less.empty()) one_less.erase(one_less.begin());
    if (is_quorum(one_less)) continue;
    const auto before = core_.resigned_for.find(learner.sid);
    if (before != core_.resigned_for.end() && core_.now - before->second < kResignEvery) continue;
    core_.resigned_for[learner.sid] = core_.now;
    return core_.leave("a later epoch lets server " + std::to_string(learner.sid.value) + " acknowledge again");
  }
}

// What was sent before NEWLEADER is only a part of the history: where it stands is told by what it has acknowledged.
bool Leader::is_synced(const Learner& learner) const {
  if (learner.stage != Stage::kServing || !learner.promise.counts || learner.damaged) return false;
  const std::int64_t limit = core_.config.timing.sync_limit;
  if (core_.now - learner.heard_at > limit) return false;
  if (!learner.window.empty() && core_.now - learner.window.front().sent_at > limit) return false;
  // Nothing acknowledged yet: then there must have been nothing to acknowledge.
  if (learner.acked == Zxid{}) return core_.log.last() <= learner.new_leader_last;
  return core_.log.has_point(learner.acked) &&
         entries_above(core_.log, learner.acked) <= core_.config.limits.outstanding_entries;
}

std::vector<Peer::LearnerView> Leader::learners() const {
  std::vector<Peer::LearnerView> views;
  for (const auto& [link, learner] : learners_) {
    views.push_back({learner.sid, is_voter(learner), counts(learner), learner.stage == Stage::kServing,
                     is_synced(learner), learner.info.directory_id, learner.acked, core_.now - learner.heard_at});
  }
  return views;
}

}  // namespace coord::zab
