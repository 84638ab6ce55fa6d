// Requests on their way in, committed transactions on their way out: prepared here when this server leads, forwarded
// when it follows; applied, answered, and the reads behind them let go.
#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/runtime/core.h"

namespace coord::runtime {
namespace {

using wire::Op;

constexpr std::size_t kApplyChunk = 64;  // transactions applied in one hold of the tree lock

// Requests that wait for room among the outstanding ones; each connection is bounded by itself besides.
constexpr std::size_t kWaitingMax = 200'000;
constexpr std::size_t kWaitingBytesMax = 128u << 20;
// What may wait on the link to the leader before more requests cost their clients the connection.
constexpr std::size_t kForwardBytesMax = 64u << 20;

constexpr std::int64_t kSnapshotAgainMs = 30'000;  // when one did not fit
// An office is left for want of room at most once in this time: should the others not manage, writes are refused.
constexpr std::int64_t kHandOverEveryMs = 60'000;
// Equal disks fill up together: the others' tables say so a moment later. Until then requests wait.
constexpr std::int64_t kHandOverAfterMs = 300;

constexpr std::uint32_t kDigestPeriod = 1024;  // transactions of an epoch
constexpr std::size_t kDigestsKept = 256;

}  // namespace

// ---------------------------------------------------------------- on their way in

void Core::submit(std::shared_ptr<ClientConn> conn, std::vector<tree::Request> requests) {
  if (!executor_.in_this_thread()) {
    executor_.post([this, conn = std::move(conn), requests = std::move(requests)]() mutable {
      submit(std::move(conn), std::move(requests));
    });
    return;
  }
  if (!serving_) {
    conn->close(false);
    return;
  }
  for (tree::Request& request : requests) take(std::move(request), conn);
  turn_done();
}

// What comes behind a sync waits for its answer: applied earlier, it would show in reads that stand before it.
void Core::take(tree::Request request, const std::shared_ptr<ClientConn>& conn) {
  if (conn->cut_off) return;
  if (conn->sync_open) {
    conn->behind_sync.push_back(std::move(request));
  } else if (request.op == Op::kSync) {
    conn->sync_open = true;
    sync(conn);
  } else if (leading()) {
    propose(std::move(request), Source{conn, {}, 0}, executor_.now_us());
  } else {
    forward_request(std::move(request), conn);
  }
}

std::size_t Core::bytes_kept(const tree::Request& request) {
  std::size_t bytes = request.body.size() + 128;
  for (const AuthId& id : request.ids) bytes += id.scheme.size() + id.id.size();
  return bytes;
}

void Core::propose(tree::Request request, Source source, std::int64_t since_us) {
  if (waiting_.empty() && may_propose()) {
    propose_now(std::move(request), std::move(source), since_us);
    return;
  }
  const bool full = waiting_.size() >= kWaitingMax || waiting_bytes_ >= kWaitingBytesMax;
  const bool our_own = !source.conn && source.origin.sid.value == 0;  // the end of a session must not be forgotten
  if (stopping_ || !serving_ || (full && !our_own)) {
    refuse(request, source);
    return;
  }
  waiting_bytes_ += bytes_kept(request);
  waiting_.push_back(Waiting{std::move(request), std::move(source), since_us});
}

void Core::propose_waiting() {
  while (!waiting_.empty() && may_propose()) {
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    waiting_bytes_ -= bytes_kept(next.request);
    propose_now(std::move(next.request), std::move(next.source), next.since_us);
    carry_out();
  }
}

void Core::propose_now(tree::Request request, Source source, std::int64_t since_us) {
  if (source.conn && source.conn->cut_off) return;
  // The session may have moved while this waited.
  if (source.origin.sid.value != 0 && request.op != Op::kCreateSession &&
      !owners_.current(request.session, source.origin.sid, source.generation)) {
    refuse(request, source);
    return;
  }
  // What is carried out for it is a sign of life: the table that proves its silence may be older than this request.
  if (source.origin.sid.value != 0) owners_.heard(request.session, now_ms());
  if (request.op == Op::kCloseSession) closing_.insert(request.session);
  if (request.op == Op::kReconfig || request.op == Op::kFeatureLevel) prepare_electorate();
  const Zxid zxid = peer_->next_zxid();
  auto payload =
      std::make_shared<const std::string>(tree_->prepare(request, zxid, executor_.wall_ms(), refuses_writes()));
  outstanding_.push_back(Outstanding{zxid, payload, std::move(source.conn), source.origin, since_us});
  outstanding_count_ = outstanding_.size();
  step(zab::Propose{zxid, std::move(payload), source.origin});
  carry_out();
}

// A later request of the same client must not be carried out when this one is not: its connection goes, and with a
// learner's what is on its way from there.
void Core::refuse(const tree::Request& request, const Source& source) {
  if (source.conn) source.conn->close(false);
  if (source.origin.sid.value == 0) return;
  const auto learner = learners_.find(source.origin.sid);
  if (learner == learners_.end()) return;
  pass(learner->second.link, forward::Refused{source.origin.id});
  if (request.op == Op::kCreateSession) return;
  if (owners_.current(request.session, source.origin.sid, source.generation)) owners_.revoke(request.session);
  if (const std::uint64_t generation = owners_.generation(request.session); generation != 0) {
    pass(learner->second.link, forward::Moved{request.session, generation});
  }
}

void Core::forward_request(tree::Request request, std::shared_ptr<ClientConn> conn) {
  const zab::LinkId link = peer_->leader_link();
  if (link.value == 0 || links_.queued_bytes(link) > kForwardBytesMax) {
    conn->close(false);
    return;
  }
  forward::Request message;
  message.id = next_origin_++;
  if (request.op != Op::kCreateSession) {
    const auto at = attached_.find(request.session);
    if (at == attached_.end() || at->second.conn != conn) {
      conn->close(false);
      return;
    }
    message.generation = at->second.generation;
  }
  forwarded_.push_back(Forwarded{message.id, std::move(conn), executor_.now_us()});
  message.request = std::move(request);
  pass(link, message);
}

// Whose request it was that comes back with this number. Those before it were refused, or their clients have gone.
Core::Forwarded Core::take_forwarded(std::uint64_t id) {
  if (forwarded_.empty() || id < forwarded_.front().id || id > forwarded_.back().id) return {};
  while (forwarded_.front().id < id) {
    forwarded_.front().conn->close(false);
    forwarded_.pop_front();
  }
  if (forwarded_.front().id != id) return {};
  Forwarded found = std::move(forwarded_.front());
  forwarded_.pop_front();
  return found;
}

// ---------------------------------------------------------------- on their way out

void Core::deliver(Zxid up_to) {
  if (replacing_tree()) return;  // goes on when the new one has been loaded
  while (!outstanding_.empty() && outstanding_.front().zxid <= up_to) {
    const std::lock_guard<TreeLock> lock(tree_lock_);
    for (std::size_t n = 0; n < kApplyChunk && !outstanding_.empty() && outstanding_.front().zxid <= up_to; ++n) {
      apply_next();
    }
  }
  COORD_CHECK_MSG(tree_->last_applied() >= up_to, "something is committed that this replica's log does not hold");
  outstanding_count_ = outstanding_.size();
  answer_syncs();
}

void Core::apply_next() {
  Outstanding entry = std::move(outstanding_.front());
  outstanding_.pop_front();
  if (entry.origin.sid == self_ && !entry.conn) {
    Forwarded forwarded = take_forwarded(entry.origin.id);
    entry.conn = std::move(forwarded.conn);
    entry.since_us = forwarded.since_us;
  }
  if (entry.conn) entry.conn->before_write();
  const tree::Applied applied = tree_->apply(entry.zxid, *entry.payload, entry.conn != nullptr, *this);
  ++applied_since_fold_;
  ++applied_total_;
  if (!alone_) note_digest(entry.zxid);
  finish(applied, entry);
}

void Core::finish(const tree::Applied& applied, const Outstanding& entry) {
  if (entry.conn && entry.since_us != 0) {
    const auto took = static_cast<std::uint64_t>(std::max<std::int64_t>(0, executor_.now_us() - entry.since_us));
    const std::lock_guard lock(latency_mutex_);
    latency_.min_us = latency_.count == 0 ? took : std::min(latency_.min_us, took);
    latency_.max_us = std::max(latency_.max_us, took);
    latency_.total_us += took;
    ++latency_.count;
  }
  if (applied.op == Op::kCreateSession) {
    finish_create(applied, entry);
  } else if (applied.op == Op::kEnrol) {
    step(zab::Enrolled{tree_->enrolled()});
  } else if (entry.conn) {
    entry.conn->complete(applied, entry.zxid);
    touch_output(entry.conn);
  }
  const bool members = applied.op == Op::kReconfig || applied.op == Op::kFeatureLevel;
  if (members && applied.err == Err::kOk) members_applied();
  if (applied.op == Op::kCloseSession) closing_.erase(applied.session);
  if (!ended_.empty()) end_sessions(entry.conn);
}

void Core::finish_create(const tree::Applied& applied, const Outstanding& entry) {
  if (applied.err == Err::kOk) {
    const auto session = tree_->session(applied.session);
    COORD_CHECK(session.has_value());
    if (serving_ && leading()) {
      const Sid owner = entry.conn ? self_ : entry.origin.sid;
      owners_.created(session->id, session->timeout_ms, owner, now_ms());
    }
    if (entry.conn) attach(entry.conn, session->id, session->timeout_ms, SessionOwners::kFirstGeneration);
    return;
  }
  if (!entry.conn) return;
  if (applied.err != Err::kSessionExpired) {
    entry.conn->close(false);
    return;
  }
  // The id is taken: a clock that was set back. Another one; not from inside this delivery.
  executor_.post([this, conn = entry.conn] {
    if (serving_ && !conn->cut_off) {
      connect_new(conn, conn->asked_timeout_ms);
    } else {
      conn->close(false);
    }
    turn_done();
  });
}

// The connections of sessions that ended are closed without a message, but for the one that asked for it.
void Core::end_sessions(const std::shared_ptr<ClientConn>& origin) {
  for (const SessionId session : std::exchange(ended_, {})) {
    owners_.removed(session);
    const auto it = attached_.find(session);
    if (it == attached_.end()) continue;
    if (it->second.conn != origin) it->second.conn->close(false);
    attached_.erase(it);
  }
}

// The same transactions on every replica, so that their notes can be compared.
void Core::note_digest(Zxid zxid) {
  if (zxid.counter() % kDigestPeriod != 0) return;
  const std::uint64_t digest = tree_->digest();
  digests_[zxid] = digest;
  if (digests_.size() > kDigestsKept) digests_.erase(digests_.begin());
  if (!leading() && notes_to_send_.size() < kDigestsKept) notes_to_send_.push_back({zxid, digest});
}

void Core::session_closed(SessionId session, Zxid) { ended_.push_back(session); }

void Core::watch_event(ConnId id, WatchType type, std::string_view path, Zxid zxid) {
  if (const auto conn = find(id)) {
    conn->send_watch_event(type, path, zxid);
    touch_output(conn);
  }
}

void Core::change_event(ConnId id, const wire::ChangeEvent& event) {
  if (const auto conn = find(id)) {
    conn->send_change_event(event);
    touch_output(conn);
  }
}

void Core::touch_output(const std::shared_ptr<ClientConn>& conn) {
  if (conn->in_flush_list) return;
  conn->in_flush_list = true;
  touched_.push_back(conn);
}

void Core::flush_touched() {
  for (const auto& conn : touched_) {
    conn->in_flush_list = false;
    conn->flush();
  }
  touched_.clear();
}

// ---------------------------------------------------------------- sync

void Core::sync(std::shared_ptr<ClientConn> conn) {
  if (leading()) {
    syncs_.push_back(Syncing{std::move(conn), {}, 0});
    return;
  }
  const zab::LinkId link = peer_->leader_link();
  if (link.value == 0) {
    conn->close(false);
    return;
  }
  const std::uint64_t id = next_origin_++;
  syncs_forwarded_.emplace(id, std::move(conn));
  pass(link, forward::Sync{id});
}

// One question at a time, for all that came meanwhile.
void Core::ask_confirmation() {
  if (question_open_ || (syncs_.empty() && !confirm_wanted_) || !serving_ || !leading()) return;
  question_open_ = true;
  confirm_wanted_ = false;
  question_ms_ = now_ms();
  syncs_asked_ = std::exchange(syncs_, {});
  step(zab::ConfirmLeadership{++question_});
  carry_out();
}

void Core::leadership_confirmed(const zab::LeadershipConfirmed& confirmed) {
  if (!question_open_ || confirmed.number != question_) return;
  question_open_ = false;
  owners_.confirmed(question_ms_);
  for (Syncing& waiting : std::exchange(syncs_asked_, {})) {
    if (waiting.conn) {
      sync_ready(waiting.conn, confirmed.committed);
    } else if (known_links_.contains(waiting.link)) {
      pass(waiting.link, forward::Synced{waiting.id, confirmed.committed});
    }
  }
}

void Core::sync_ready(const std::shared_ptr<ClientConn>& conn, Zxid zxid) {
  syncs_confirmed_.emplace_back(zxid, conn);
  answer_syncs();
}

void Core::answer_syncs() {
  while (!syncs_confirmed_.empty() && syncs_confirmed_.front().first <= tree_->last_applied()) {
    const auto conn = std::move(syncs_confirmed_.front().second);
    syncs_confirmed_.pop_front();
    {
      const std::shared_lock<TreeLock> lock(tree_lock_);
      conn->complete_sync();
    }
    touch_output(conn);
    conn->sync_open = false;
    for (tree::Request& request : std::exchange(conn->behind_sync, {})) take(std::move(request), conn);
  }
}

// ---------------------------------------------------------------- disks that fill up

// A quorum of replicas with room must be there, or nothing that takes room may be proposed.
void Core::look_at_low() {
  std::set<Sid> with_room;
  for (const auto& [sid, learner] : learners_) {
    if (!learner.low) with_room.insert(sid);
  }
  if (!refuse_writes_) with_room.insert(self_);
  const bool any_low =
      std::any_of(learners_.begin(), learners_.end(), [](const auto& entry) { return entry.second.low; });
  const bool low = any_low && !zab::Quorum(peer_->membership().voters).is_quorum(with_room);
  const bool recently = handed_over_ms_ != 0 && now_ms() - handed_over_ms_ < kHandOverEveryMs;
  may_hand_over_ = !recently && others_have_room();
  if (low == quorum_low_) return;
  quorum_low_ = low;
  if (low) {
    log::error("store", "the disks of other replicas are nearly full: writes are refused until a quorum has space");
  } else {
    log::info("store", "a quorum of replicas has space again: writes are accepted");
  }
}

// Is a majority without this server up to date and has room? Of these one is elected: it has all that is committed.
bool Core::others_have_room() const {
  if (peer_->pending_membership() != nullptr) return false;
  std::set<Sid> with_room;
  for (const zab::Peer::LearnerView& view : peer_->learners()) {
    const auto learner = learners_.find(view.sid);
    if (!view.voter || !view.counted || !view.synced || learner == learners_.end()) continue;
    const bool told = learner->second.feature_level != 0;  // its first table has come
    if (told && !learner->second.low) with_room.insert(view.sid);
  }
  return zab::Quorum(peer_->membership().voters).is_quorum(with_room);
}

// This leader's disk is nearly full, and it is not known yet whether another one will lead.
bool Core::hesitating() const {
  return refuse_writes_ && may_hand_over_ &&
         (room_ == zab::Room::kPlenty || now_ms() - low_since_ms_ < kHandOverAfterMs);
}

// A disk that does not even take what the others decide, or the tree that they have: no place for a member.
void Core::look_at_room() {
  if (alone_ || stopping_) return;
  const store::Space space = store_->space();
  const std::int64_t now = now_ms();
  if (std::exchange(snapshots_too_large_, space.snapshots_too_large) != space.snapshots_too_large) {
    no_room_until_ms_ = now + kSnapshotAgainMs;
  }
  const bool was_none = room_ == zab::Room::kNone;
  // With just enough for what waited, it would be back for a moment only.
  const bool none = space.waiting || now < no_room_until_ms_ || (was_none && space.refuse_writes);
  const zab::Room room = none ? zab::Room::kNone : space.refuse_writes ? zab::Room::kLow : zab::Room::kPlenty;
  if (std::exchange(room_, room) != room) {
    low_since_ms_ = now;
    step(zab::RoomChanged{room});
  }
  const bool low_for_long = room == zab::Room::kLow && now - low_since_ms_ >= kHandOverAfterMs;
  if (low_for_long && serving_ && leading() && may_hand_over_) {
    log::warn("store", "the disk of this leader is nearly full: it leaves the office to one that has space");
    handed_over_ms_ = now;
    may_hand_over_ = false;
    step(zab::Resign{});
  }
  if (none == was_none) return;
  if (none) {
    room_alarm_ = fmt::format(
        "no room for what the ensemble has decided in {}: this server has left it, and comes back by itself when there "
        "is room: {}",
        config_.data_dir,
        space.map_full ? fmt::format("coord.mapSize ({} bytes) is used up, make it larger and restart coordd",
                                     config_.map_bytes)
                       : "free some space on the disk");
    alarm(room_alarm_);
  } else {
    alarm_over(room_alarm_);
  }
}

}  // namespace coord::runtime
