#include "replica/zab/peer.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "replica/zab/core.h"
#include "replica/zab/election.h"
#include "replica/zab/leader.h"
#include "replica/zab/learner.h"

namespace coord::zab {

namespace {

const char* const kLostDisk =
    "this server is enrolled with another data directory: it lost its disk, and with it promises and acknowledgements. "
    "It serves clients but does not count: remove it and add it again (coordctl reconfig), or give it another server "
    "id";

// Ticks come every 20 ms. What is longer than this, this process was stopped: nobody else was silent then.
constexpr std::int64_t kTickMost = 100;

}  // namespace

struct Peer::Impl {
  Impl(Config config, DurableState durable) : core(std::move(config), std::move(durable)), election(core) {}

  void on(const Start& event);
  void on(const Propose& event);
  void on(const Persisted& event);
  void on(const Tick& event);
  void on(const LinkUp& event);
  void on(const LinkDown& event);
  void on(const DialFailed& event);
  void on(const Received& event);
  void on(const Heard& event);
  void on(const LogRead& event);
  void on(const SnapshotSent& event);
  void on(const SnapshotStaged& event);
  void on(const Enrolled& event);
  void on(const ConfirmLeadership& event);
  void on(const Resign& event);
  void on(const RoomChanged& event);

  void learner_link_up(const LinkUp& event);
  void notification(LinkId link, Sid from, const Message& message);
  void early(LinkId link, const Message& message);
  void change_roles();
  void leave();
  void start_role(const Vote& vote);
  void check_enrolled();
  void members_changed();
  Zxid next_zxid() const;
  bool accepts_proposals() const { return leader && leader->accepts_proposals(); }

  Core core;
  Election election;
  std::unique_ptr<Leader> leader;
  std::unique_ptr<Learner> learner;
  // Learner links that came while the role is not known; with what was said on them.
  std::map<LinkId, std::optional<FollowerInfo>> pending;
  bool started = false;
  std::int64_t clock = 0;
  std::int64_t led_at = 0;  // when a quorum of others was last there
};

// --- roles

// Ends and begins roles until none is due.
void Peer::Impl::change_roles() {
  while (started) {
    if (core.leaving) {
      leave();
    } else if (core.role == Role::kLooking && !election.running() && !election.decided() && core.may_look()) {
      election.start();
    }
    const std::optional<Vote> vote = election.take_decision();
    if (vote) start_role(*vote);
    if (!vote && !core.leaving) return;
  }
}

void Peer::Impl::leave() {
  const std::string reason = *std::exchange(core.leaving, std::nullopt);
  if (core.phase != Phase::kBroadcast) election.failed();
  if (leader) leader->end(reason);
  if (learner) learner->end(reason);
  leader.reset();
  learner.reset();
  election.cancel();
  core.epoch = core.current_epoch;
  core.set_phase(Role::kLooking, Phase::kElection, Sid{});
  if (core.may_look()) election.start();
}

void Peer::Impl::start_role(const Vote& vote) {
  auto waiting = std::exchange(pending, {});
  if (vote.leader == core.config.self) {
    leader = std::make_unique<Leader>(core, election.supporters());
    leader->begin(election.round());
  } else {
    learner = std::make_unique<Learner>(core, vote.leader);
    learner->begin();
  }
  election.announce();
  for (const auto& [link, info] : waiting) {
    const auto known = core.links.find(link);
    if (known == core.links.end()) continue;
    if (!leader) {
      core.close(link, "this server follows another one");
      continue;
    }
    leader->link_up(link, known->second.peer);
    if (info) leader->received(link, *info);
  }
}

// --- events

void Peer::Impl::on(const Start& event) {
  COORD_CHECK_MSG(!started, "Start comes once");
  started = true;
  clock = core.now = led_at = event.now_ms;
  core.set_phase(Role::kLooking, Phase::kElection, Sid{});
}

Zxid Peer::Impl::next_zxid() const {
  COORD_CHECK(accepts_proposals());
  const Zxid last = core.log.last();
  return last.epoch() == core.epoch ? Zxid{core.epoch, last.counter() + 1} : Zxid{core.epoch, 1};
}

void Peer::Impl::on(const Propose& event) {
  COORD_CHECK_MSG(accepts_proposals(), "proposals are taken in broadcast only, and not by a full epoch");
  COORD_CHECK_MSG(event.zxid == next_zxid(), "proposals come in order, without gaps");
  leader->propose(event);
}

void Peer::Impl::on(const Persisted& event) {
  core.persisted(event.id);
  if (leader) leader->persisted(event.id);
  if (learner) learner->persisted(event.id);
}

void Peer::Impl::on(const Tick& event) {
  const std::int64_t passed = event.now_ms - clock;
  if (passed <= 0) return;
  clock = event.now_ms;
  core.now += std::min(passed, kTickMost);
  if (core.phase >= Phase::kSynchronization) {
    led_at = core.now;
  } else if (core.now - led_at > core.config.timing.init_limit) {
    check_enrolled();
  }
  election.tick();
  if (leader) leader->tick(passed);
  if (learner) learner->tick();
}

void Peer::Impl::on(const LinkUp& event) {
  if (core.links.contains(event.link)) return;
  core.links[event.link] = {event.channel, event.peer, event.dialed};
  if (event.peer == core.config.self) return core.close(event.link, "this server itself");
  if (event.channel == Channel::kLearner) return learner_link_up(event);
  if (const auto old = core.election_links.find(event.peer); old != core.election_links.end()) {
    core.close(old->second, "another connection of the same server");
  }
  core.election_links[event.peer] = event.link;
  election.link_up(event.peer);
}

void Peer::Impl::learner_link_up(const LinkUp& event) {
  if (event.dialed) {
    if (learner && learner->wants(event.peer)) return learner->link_up(event.link);
    return core.close(event.link, "not wanted any more");
  }
  if (leader) return leader->link_up(event.link, event.peer);
  if (learner) return core.close(event.link, "this server follows another one");
  for (const auto& [link, info] : pending) {
    if (core.links.at(link).peer != event.peer) continue;
    core.close(link, "another connection of the same server");
    pending.erase(link);
    break;
  }
  pending[event.link] = std::nullopt;
}

void Peer::Impl::on(const LinkDown& event) {
  const auto it = core.links.find(event.link);
  if (it == core.links.end()) return;
  const Link link = it->second;
  core.links.erase(it);
  if (link.channel == Channel::kElection) {
    core.election_links.erase(link.peer);
    return election.link_down(link.peer);
  }
  pending.erase(event.link);
  if (leader) leader->link_down(event.link);
  if (learner) learner->link_down(event.link);
}

void Peer::Impl::on(const DialFailed& event) {
  if (learner) learner->dial_failed(event.number);
}

void Peer::Impl::on(const Received& event) {
  const auto it = core.links.find(event.link);
  if (it == core.links.end()) return;
  const Link link = it->second;
  if (link.channel == Channel::kElection) return notification(event.link, link.peer, event.message);
  if (std::holds_alternative<Notification>(event.message)) {
    // No place for it; whoever owns the link treats it as broken.
    core.close(event.link, "a notification on a learner link");
    pending.erase(event.link);
    if (leader) leader->link_down(event.link);
    if (learner) learner->link_down(event.link);
    return;
  }
  if (pending.contains(event.link)) return early(event.link, event.message);
  if (leader) leader->received(event.link, event.message);
  if (learner) learner->received(event.link, event.message);
}

void Peer::Impl::notification(LinkId link, Sid from, const Message& message) {
  const auto* n = std::get_if<Notification>(&message);
  if (n == nullptr) {
    core.close(link, "no notification on an election link");
    return election.link_down(from);
  }
  // Damage is dropped, never fatal (ZOOKEEPER-3769), and never spreads.
  if (n->accepted_epoch >= kEpochMax || n->vote.epoch >= kEpochMax || n->round >= kRoundMax) return;
  std::uint32_t& promised = core.promises[from];
  promised = std::max(promised, n->accepted_epoch);
  core.membership_committed(n->members);
  election.received(from, *n);
  if (leader) leader->notified(from, *n);
}

// A learner that decided earlier than this server. It may wait.
void Peer::Impl::early(LinkId link, const Message& message) {
  const auto* info = std::get_if<FollowerInfo>(&message);
  auto& kept = pending.at(link);
  if (info != nullptr && !kept) {
    kept = *info;
    return;
  }
  pending.erase(link);
  core.close(link, "nobody leads here");
}

void Peer::Impl::on(const Heard& event) {
  if (leader) leader->heard(event.link);
  if (learner) learner->heard(event.link);
}

void Peer::Impl::on(const LogRead& event) {
  if (leader) leader->log_read(event);
}

void Peer::Impl::on(const SnapshotSent& event) {
  if (leader) leader->snapshot_sent(event);
}

void Peer::Impl::on(const SnapshotStaged& event) {
  if (learner) learner->snapshot_staged(event);
}

// Only asked when all that is committed is in the log, or nobody has led for long: on its way there, a server that was
// added again passes the time in which its former directory was enrolled.
void Peer::Impl::check_enrolled() {
  const bool lost = core.is_voter() && core.enrolled_otherwise(core.config.self, core.start_state.directory_id);
  lost ? core.alarm(kLostDisk) : core.alarm_over(kLostDisk);
}

void Peer::Impl::on(const Enrolled& event) {
  if (core.enrolled == event.directories) return;
  core.enrolled = event.directories;
  core.forget_enrolments();
  if (core.phase == Phase::kBroadcast) check_enrolled();
  if (leader) leader->electorate_changed();
  election.reconsider();
}

// A change of the members was logged, committed or cut off in this step.
void Peer::Impl::members_changed() {
  if (leader) {
    leader->electorate_changed();
    if (!core.is_voter()) core.leave("it is no voter any more");
  }
  if (core.phase == Phase::kBroadcast) check_enrolled();
  const Role as = core.is_voter() ? Role::kFollowing : Role::kObserving;
  if (learner && core.role != as) learner->set_phase(core.phase);
  election.reconsider();
}

void Peer::Impl::on(const ConfirmLeadership& event) {
  if (leader) leader->confirm(event.number);
}

void Peer::Impl::on(const Resign&) {
  if (leader) leader->resign();
}

void Peer::Impl::on(const RoomChanged& event) {
  core.room = event.room;
  if (core.room != Room::kNone) return election.reconsider();
  if (leader || learner) core.leave("its disk has no room");
  election.cancel();  // what it voted for it could not support
}

// --- the public face

Peer::Peer(Config config, DurableState durable)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(durable))) {}
Peer::~Peer() = default;
Peer::Peer(Peer&&) noexcept = default;
Peer& Peer::operator=(Peer&&) noexcept = default;

void Peer::step(const Event& event, Actions& out) {
  Impl& impl = *impl_;
  impl.core.begin(out);
  const Phase before = impl.core.phase;
  std::visit([&](const auto& e) { impl.on(e); }, event);
  while (std::exchange(impl.core.members_changed, false)) impl.members_changed();
  impl.change_roles();
  if (impl.core.phase == Phase::kBroadcast && before != Phase::kBroadcast) {
    impl.check_enrolled();
    impl.election.succeeded();
    impl.election.announce();
  }
}

Role Peer::role() const { return impl_->core.role; }
Phase Peer::phase() const { return impl_->core.phase; }
Sid Peer::leader() const { return impl_->core.leader; }
LinkId Peer::leader_link() const {
  return impl_->learner && impl_->learner->broadcasting() ? impl_->learner->link() : LinkId{};
}
std::uint32_t Peer::epoch() const { return impl_->core.epoch; }
std::uint32_t Peer::accepted_epoch() const { return impl_->core.accepted_epoch; }
std::uint32_t Peer::current_epoch() const { return impl_->core.current_epoch; }
bool Peer::accepts_proposals() const { return impl_->accepts_proposals(); }
bool Peer::serving() const { return impl_->core.phase == Phase::kBroadcast; }
Zxid Peer::next_zxid() const { return impl_->next_zxid(); }
Zxid Peer::last_logged() const { return impl_->core.log.last(); }
Zxid Peer::last_durable() const { return impl_->core.durable; }
Zxid Peer::last_committed() const { return impl_->core.committed; }
const LogShape& Peer::log() const { return impl_->core.log; }
bool Peer::acknowledges() const {
  if (impl_->leader) return impl_->leader->acknowledges();
  return impl_->learner && impl_->learner->acknowledges();
}
const Membership& Peer::membership() const { return impl_->core.base(); }
const Membership* Peer::pending_membership() const {
  const auto& pending = impl_->core.pending();
  return pending ? &*pending : nullptr;
}
std::vector<Peer::LearnerView> Peer::learners() const {
  return impl_->leader ? impl_->leader->learners() : std::vector<LearnerView>{};
}
std::optional<std::uint64_t> Peer::round() const {
  return impl_->started ? std::optional(impl_->election.round()) : std::nullopt;
}

}  // namespace coord::zab
