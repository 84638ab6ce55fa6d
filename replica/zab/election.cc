#include "replica/zab/election.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "replica/zab/mutation.h"

namespace coord::zab {

namespace {

constexpr int kFailuresDoubled = 5;
// Every server answers who looks for a leader. A link on which nothing comes back for so many connect limits is dead
// without knowing it, and a new one takes its place.
constexpr std::int64_t kDeafAfter = 2;
// How many connect limits a server that is no member waits for the word of a quorum.
constexpr std::int64_t kPatience = 2;

bool better(const Vote& a, const Vote& b) {
  if (COORD_MUTANT(kVoteByZxidOnly)) return std::tuple(a.zxid, a.leader) > std::tuple(b.zxid, b.leader);
  return std::tuple(a.epoch, a.zxid, a.leader) > std::tuple(b.epoch, b.zxid, b.leader);
}

}  // namespace

void Election::start() {
  const Timing& timing = core_.config.timing;
  not_before_ = started_at_ = core_.now;
  if (failures_ > 0) {
    const std::int64_t wait = timing.finalize_wait << std::min(failures_, kFailuresDoubled);
    not_before_ += core_.jittered(std::min(wait, timing.resend_most));
  }
  new_round();
}

// From this server's own vote again.
void Election::new_round() {
  running_ = true;
  ++round_;
  unanswered_since_.clear();
  votes_.clear();
  others_.clear();
  decision_.reset();
  quorum_since_.reset();
  vote_ = initial_vote();
  // Observers are many and in no hurry.
  resend_after_ = core_.config.timing.resend_first * (core_.is_voter() ? 1 : 2);
  resend_at_ = core_.now + core_.jittered(resend_after_);
  broadcast();
  check();
}

void Election::cancel() {
  running_ = false;
  decision_.reset();
  vote_ = {};
  votes_.clear();
  others_.clear();
}

std::optional<Vote> Election::take_decision() { return std::exchange(decision_, std::nullopt); }

bool Election::knows_better(Sid sid) const {
  const auto known = members_known_.find(sid);
  return known != members_known_.end() && known->second > core_.base().version;
}

// A server whose links do not make a quorum could not lead, and one that does not count must not. Nor one that only a
// pending change made a voter: the old voters that lack the change could not vote for it, and their majority is needed.
bool Election::eligible() const {
  if (!core_.self_counts() || !core_.base().voters.contains(core_.config.self)) return false;
  std::set<Sid> reachable{core_.config.self};
  for (const auto& [peer, link] : core_.election_links) reachable.insert(peer);
  return core_.voters.is_quorum(reachable);
}

// Its disk is low, and somebody else may be about to be elected.
bool Election::yields() const {
  return core_.room == Room::kLow && !core_.voters.is_quorum({core_.config.self}) &&
         core_.now - started_at_ < core_.config.timing.connect_limit;
}

Vote Election::initial_vote() const {
  return eligible() && !yields() ? Vote{core_.config.self, core_.log.last(), core_.current_epoch} : Vote{};
}

// Servers that are no voters vote as well. Where they do not count it does no harm; and they may count where a change
// is pending, or in force, that they have not heard of. For the same reason who knows newer members is believed.
bool Election::adopt(Sid from, const Vote& vote) {
  const bool known = core_.voters.is_voter(vote.leader) || knows_better(from);
  if (vote.leader == core_.config.self || vote.leader == Sid{} || !known) return false;
  if (!linked(vote.leader) || !better(vote, vote_)) return false;
  const bool behind = std::tuple(vote.epoch, vote.zxid) < std::tuple(core_.current_epoch, core_.log.last());
  if (behind && eligible() && yields()) return false;
  vote_ = vote;
  quorum_since_.reset();
  return true;
}

Notification Election::present(Sid to) const {
  Notification notification;
  notification.state = core_.role;
  notification.round = round_;
  notification.accepted_epoch = core_.accepted_epoch;
  notification.members = core_.base().version;
  if (core_.role == Role::kLooking) {
    notification.vote = vote_;
    const bool asks = running_ && takes_part(to);
    notification.wants_answer = asks && !votes_.contains(to) && !others_.contains(to);
  } else {
    // Until the new epoch is adopted, what was voted for; then the leader's real epoch: the same at all of its members,
    // so that a joiner finds a quorum of them (ZOOKEEPER-1732, 1805).
    const bool adopted = core_.phase == Phase::kSynchronization || core_.phase == Phase::kBroadcast;
    notification.vote = {core_.leader, Zxid{}, adopted ? core_.epoch : elected_.epoch};
  }
  return notification;
}

void Election::tell(Sid to) {
  const auto link = core_.election_links.find(to);
  if (link != core_.election_links.end()) send(to, link->second);
}

void Election::send(Sid to, LinkId link) {
  const Notification notification = present(to);
  if (notification.wants_answer) unanswered_since_.emplace(to, core_.now);
  core_.send(link, notification);
}

void Election::drop_deaf_links() {
  std::vector<Sid> deaf;
  for (const auto& [sid, since] : unanswered_since_) {
    if (core_.now - since > kDeafAfter * core_.config.timing.connect_limit) deaf.push_back(sid);
  }
  for (const Sid sid : deaf) {
    unanswered_since_.erase(sid);
    const auto link = core_.election_links.find(sid);
    if (link == core_.election_links.end()) continue;
    core_.close(link->second, "it does not answer");
    link_down(sid);
  }
}

void Election::broadcast() {
  for (const auto& [peer, link] : core_.election_links) {
    if (takes_part(peer)) send(peer, link);
  }
}

void Election::announce() {
  for (const auto& [peer, link] : core_.election_links) core_.send(link, present(peer));
}

void Election::link_up(Sid peer) {
  unanswered_since_.erase(peer);
  if (core_.role != Role::kLooking) return tell(peer);
  if (!running_) return;
  tell(peer);
  reconsider();
}

void Election::reconsider() {
  if (!running_ || decision_) return;
  const Vote own = initial_vote();
  if (vote_.leader == core_.config.self && own != vote_) return new_round();
  bool changed = own.leader != Sid{} && better(own, vote_);
  if (changed) vote_ = own;
  for (const auto& [sid, vote] : votes_) changed = adopt(sid, vote) || changed;
  if (changed) {
    quorum_since_.reset();
    broadcast();
  }
  check();
}

void Election::link_down(Sid peer) {
  unanswered_since_.erase(peer);
  members_known_.erase(peer);
  answer_again_.erase(peer);
  votes_.erase(peer);
  others_.erase(peer);
  if (!running_ || decision_) return;
  if (vote_.leader == peer) return new_round();
  reconsider();
}

void Election::received(Sid from, const Notification& notification) {
  const bool is_looking = notification.state == Role::kLooking;
  unanswered_since_.erase(from);
  members_known_[from] = notification.members;
  if (core_.role != Role::kLooking) {
    if (is_looking) tell(from);
    return;
  }
  // An observer asks, is answered, and changes nothing; nor does anybody else who is no voter here.
  if (!takes_part(from)) {
    if (is_looking) answer_stranger(from);
    return;
  }
  if (!running_) {
    // The log is not settled yet: no vote. The start will ask everybody.
    if (!is_looking) return;
    round_ = std::max(round_, notification.round);
    if (notification.wants_answer) tell(from);
    return;
  }
  if (decision_) return;
  if (is_looking) return looking(from, notification);
  votes_.erase(from);
  others_[from] = notification;
  check();
}

// Two that see different members might answer each other for ever: neither takes the other's round.
void Election::answer_stranger(Sid sid) {
  std::int64_t& again = answer_again_[sid];
  if (core_.now < again) return;
  again = core_.now + core_.config.timing.resend_first;
  tell(sid);
}

void Election::looking(Sid from, const Notification& notification) {
  others_.erase(from);
  if (notification.round < round_) {
    votes_.erase(from);
    return tell(from);
  }
  const bool newer = notification.round > round_;
  if (newer) {
    round_ = notification.round;
    votes_.clear();
    quorum_since_.reset();
    vote_ = initial_vote();
  }
  votes_[from] = notification.vote;
  if (adopt(from, notification.vote) || newer) {
    broadcast();
  } else if (notification.wants_answer) {
    tell(from);
  }
  check();
}

// A leader whose list of members is newer than the one here cannot be judged by this one. To follow is always safe: it
// judges itself. And nobody dials a server that is no member, while it dials those that its own log says are: perhaps
// only some of a majority, perhaps not the leader. So after a while it is enough for such a server that the leader
// speaks, or that somebody names one that is not linked.
bool Election::believed(Sid sid, bool speaks) const {
  const Sid leader = others_.at(sid).vote.leader;
  if (speaks && knows_better(sid)) return true;
  const bool named = leader != Sid{} && leader != core_.config.self && !linked(leader);
  const bool waited = core_.now - started_at_ >= kPatience * core_.config.timing.connect_limit;
  return waited && (speaks || named) && (knows_better(sid) || !core_.is_voter());
}

// Those that follow a live leader together with whoever joins it now: enough to join (zab.md section 2.2). The leader
// itself must say that it leads, or a dead one would be elected again by those who have not noticed.
bool Election::check_live_leader() {
  for (const auto& [sid, notification] : others_) {
    const Sid leader = notification.vote.leader;
    const bool speaks = notification.state == Role::kLeading && leader == sid && linked(sid);
    const bool enough = believed(sid, speaks);
    if (!speaks && !enough && !(COORD_MUTANT(kLeaderCheckOff) && leader != core_.config.self)) continue;
    std::set<Sid> members;
    if (core_.is_voter()) members.insert(core_.config.self);
    for (const auto& [other, its] : others_) {
      if (its.vote.leader == leader && its.vote.epoch == notification.vote.epoch) members.insert(other);
    }
    if (!core_.voters.is_quorum(members) && !enough) continue;
    round_ = std::max(round_, notification.round);
    decide(notification.vote, std::move(members));
    return true;
  }
  return false;
}

std::set<Sid> Election::supporters_of(Sid leader) const {
  std::set<Sid> supporters{core_.config.self};
  for (const auto& [sid, vote] : votes_) {
    if (vote.leader == leader) supporters.insert(sid);
  }
  // Those who decided in this same round have voted so too.
  for (const auto& [sid, its] : others_) {
    if (its.round == round_ && its.vote.leader == leader) supporters.insert(sid);
  }
  return supporters;
}

bool Election::leader_speaks(Sid leader) const {
  if (leader == core_.config.self) return eligible();
  if (COORD_MUTANT(kLeaderCheckOff)) return true;
  if (!linked(leader)) return false;
  if (const auto it = votes_.find(leader); it != votes_.end()) return it->second.leader == leader;
  const auto it = others_.find(leader);
  return it != others_.end() && it->second.state == Role::kLeading && it->second.vote.leader == leader;
}

bool Election::all_agree(const std::set<Sid>& supporters) const {
  return std::all_of(core_.election_links.begin(), core_.election_links.end(), [&](const auto& link) {
    return !core_.voters.is_voter(link.first) || supporters.contains(link.first);
  });
}

void Election::check() {
  if (!running_ || decision_) return;
  if (core_.now >= not_before_ && check_live_leader()) return;
  if (!core_.is_voter() || vote_.leader == Sid{}) return;
  std::set<Sid> supporters = supporters_of(vote_.leader);
  if (!core_.voters.is_quorum(supporters) || !leader_speaks(vote_.leader)) {
    quorum_since_.reset();
    return;
  }
  if (!quorum_since_) quorum_since_ = core_.now;
  const std::int64_t wait = all_agree(supporters) ? 0 : core_.config.timing.finalize_wait;
  if (core_.now >= std::max(not_before_, *quorum_since_ + wait)) decide(vote_, std::move(supporters));
}

void Election::decide(const Vote& vote, std::set<Sid> supporters) {
  decision_ = vote;
  elected_ = vote;
  supporters_ = std::move(supporters);
  running_ = false;
}

void Election::tick() {
  if (!running_) return;
  if (core_.now >= resend_at_) {
    resend_after_ = std::min(2 * resend_after_, core_.config.timing.resend_most);
    resend_at_ = core_.now + core_.jittered(resend_after_);
    broadcast();
  }
  drop_deaf_links();
  if (core_.room == Room::kLow && !yields()) reconsider();
  check();
}

}  // namespace coord::zab
