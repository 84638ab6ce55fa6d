// Links to the other replicas, what their drivers and this one say to each other, and what an administrator sees of it.
#include <algorithm>
#include <mutex>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/runtime/core.h"

namespace coord::runtime {
namespace {

using wire::Op;

constexpr std::size_t kAlarmsKept = 16;
constexpr std::size_t kEarlyMax = 100'000;
constexpr std::int64_t kIsolatedMs = 5000;

}  // namespace

// ---------------------------------------------------------------- links

void Core::link_up(zab::LinkId link, zab::Channel channel, Sid peer, bool dialed) {
  known_links_[link] = KnownLink{channel, peer};
  if (channel == zab::Channel::kLearner) dial_failures_.erase(peer);
  step(zab::LinkUp{link, channel, peer, dialed});
  turn_done();
}

void Core::link_down(zab::LinkId link, const std::string& why) {
  const auto known = known_links_.find(link);
  if (known == known_links_.end()) return;
  log::debug("peers", "link {} with {} is down: {}", link.value, known->second.peer.value, why);
  known_links_.erase(known);
  sending_.erase(link);
  step(zab::LinkDown{link});
  turn_done();
}

void Core::dial_failed(std::uint64_t number, Sid peer, const std::string& why) {
  if (std::exchange(dial_failures_[peer], why) != why) {
    log::info("peers", "no learner link to {}: {}", peer.value, why);
  }
  step(zab::DialFailed{number});
  turn_done();
}

void Core::received(zab::LinkId link, std::vector<zab::Message> messages) {
  for (zab::Message& message : messages) {
    if (!known_links_.contains(link)) break;  // closed by what came before
    step(zab::Received{link, std::move(message)});
    carry_out();
  }
  turn_done();
}

void Core::heard(zab::LinkId link) {
  step(zab::Heard{link});
  turn_done();
}

void Core::writable(zab::LinkId link) {
  const auto sending = sending_.find(link);
  if (sending == sending_.end()) return;
  sending->second.full = false;
  pump_snapshot(link);
  turn_done();
}

void Core::trouble(Sid peer, const std::string& text) {
  if (text.empty()) {
    troubles_.erase(peer);
  } else {
    troubles_[peer] = text;
  }
  last_status_ms_ = 0;
}

// ---------------------------------------------------------------- between drivers

void Core::pass(zab::LinkId link, const forward::Passed& message) {
  links_.send(link, zab::Passed{forward::encode(message)});
}

void Core::passed_up(const zab::PassedUp& passed) {
  if (!known_links_.contains(passed.link)) return;
  if (!serving_) {
    // Leading, and the tree is still being read back: in a moment.
    if (leading() && early_.size() < kEarlyMax) early_.push_back(passed);
    return;
  }
  auto message = forward::decode(passed.bytes);
  if (!message) {
    close_link(passed.link, "a message of its driver cannot be decoded");
    return;
  }
  if (leading()) {
    from_learner(passed.link, passed.from, std::move(*message));
  } else if (passed.link == peer_->leader_link()) {
    from_leader(std::move(*message));
  }
}

void Core::from_learner(zab::LinkId link, Sid from, forward::Passed message) {
  const auto learner = learners_.find(from);
  if (learner == learners_.end() || learner->second.link != link) return;
  if (auto* request = std::get_if<forward::Request>(&message)) {
    take_request(link, from, std::move(*request));
  } else if (const auto* attach = std::get_if<forward::Attach>(&message)) {
    take_attach(link, from, *attach);
  } else if (const auto* table = std::get_if<forward::Touched>(&message)) {
    take_table(link, from, *table);
  } else if (const auto* sync = std::get_if<forward::Sync>(&message)) {
    syncs_.push_back(Syncing{nullptr, link, sync->id});
  } else {
    close_link(link, "a learner spoke as a leader does");
  }
}

void Core::take_request(zab::LinkId link, Sid from, forward::Request message) {
  const Op op = message.request.op;
  // What replicas make themselves is not taken from another one either.
  const bool known = tree::StateMachine::is_write(op, message.request.body) && op != Op::kDeleteContainer &&
                     op != Op::kEnrol && (message.request.session.value != 0 || op == Op::kCreateSession);
  if (!known) {
    close_link(link, "a request that is no client's");
    return;
  }
  const zab::Origin origin{from, message.id};
  propose(std::move(message.request), Source{nullptr, origin, message.generation}, executor_.now_us());
}

void Core::take_attach(zab::LinkId link, Sid from, const forward::Attach& message) {
  const auto generation = attach_owner(message.session, message.timeout_ms, from);
  pass(link, forward::Attached{message.id, generation.has_value(), generation.value_or(0)});
}

void Core::take_table(zab::LinkId link, Sid from, const forward::Touched& message) {
  owners_.table(from, message, now_ms());
  Learner& learner = learners_[from];
  learner.feature_level = message.feature_level;
  if (learner.low != message.refuse_writes) {
    learner.low = message.refuse_writes;
    look_at_low();
  }
  for (const forward::DigestNote& note : message.digests) {
    const auto ours = digests_.find(note.zxid);
    if (ours == digests_.end() || ours->second == note.digest || !differing_.insert(from).second) continue;
    alarm(fmt::format("replica {} has another state than this leader at zxid {}: stop it, move its data directory away "
                      "and start it anew under another server id",
                      from.value, to_string(note.zxid)));
    pass(link, forward::Differs{note.zxid});
  }
}

void Core::from_leader(forward::Passed message) {
  if (const auto* attached = std::get_if<forward::Attached>(&message)) {
    const auto at = attaching_.find(attached->id);
    if (at == attaching_.end()) return;
    const Attaching waiting = std::move(at->second);
    attaching_.erase(at);
    if (attached->accepted) {
      attach(waiting.conn, waiting.session, waiting.timeout_ms, attached->generation);
    } else {
      session_invalid(waiting.conn, waiting.session);
    }
  } else if (const auto* gone = std::get_if<forward::Moved>(&message)) {
    moved(gone->session, gone->generation);
  } else if (const auto* refused = std::get_if<forward::Refused>(&message)) {
    const auto at = std::lower_bound(forwarded_.begin(), forwarded_.end(), refused->id,
                                     [](const Forwarded& entry, std::uint64_t id) { return entry.id < id; });
    if (at == forwarded_.end() || at->id != refused->id) return;
    at->conn->close(false);
    forwarded_.erase(at);
  } else if (const auto* ask = std::get_if<forward::Ask>(&message)) {
    asked_ = ask->number;
    asked_ticks_ = 0;
  } else if (const auto* synced = std::get_if<forward::Synced>(&message)) {
    const auto at = syncs_forwarded_.find(synced->id);
    if (at == syncs_forwarded_.end()) return;
    const auto conn = std::move(at->second);
    syncs_forwarded_.erase(at);
    sync_ready(conn, synced->zxid);
  } else if (const auto* differs = std::get_if<forward::Differs>(&message)) {
    alarm(fmt::format("this replica has another state than leader {} at zxid {}: stop it, move its data directory away "
                      "and start it anew under another server id",
                      peer_->leader().value, to_string(differs->zxid)));
  } else {
    close_link(peer_->leader_link(), "a leader spoke as a learner does");
  }
}

void Core::moved(SessionId session, std::uint64_t generation) {
  const auto at = attached_.find(session);
  if (at == attached_.end() || at->second.generation >= generation) return;
  log::info("session", "moved to another replica session=0x{:x}", static_cast<std::uint64_t>(session.value));
  at->second.conn->close(false);
  attached_.erase(at);
}

void Core::learner_changed(const zab::LearnerChanged& change) {
  if (change.serving) {
    learners_[change.sid] = Learner{change.link, false};
    sending_.erase(change.link);
    if (serving_) owners_.learner_up(change.sid);
  } else {
    const auto at = learners_.find(change.sid);
    if (at == learners_.end() || at->second.link != change.link) return;
    learners_.erase(at);
    owners_.learner_down(change.sid, now_ms());
    // What it forwarded and what was not proposed is nobody's: its clients are closed there.
    std::erase_if(waiting_, [&](const Waiting& waiting) {
      if (waiting.source.origin.sid != change.sid) return false;
      waiting_bytes_ -= bytes_kept(waiting.request);
      return true;
    });
    std::erase_if(syncs_, [&](const Syncing& sync) { return !sync.conn && sync.link == change.link; });
  }
  look_at_low();
  last_status_ms_ = 0;
}

void Core::enrol(const zab::Enrol& enrol) {
  if (!serving_ || begin_level(now_ms())) {
    enrol_early_ = enrol;
    return;
  }
  tree::Request request;
  request.op = Op::kEnrol;
  wire::Writer writer(request.body);
  writer.i32(static_cast<std::int32_t>(enrol.directories.size()));
  for (const auto& [sid, directory] : enrol.directories) {
    writer.i32(static_cast<std::int32_t>(sid.value));
    writer.buffer(std::string_view(directory));
  }
  propose(std::move(request), {}, 0);
}

// ---------------------------------------------------------------- for the administrator

void Core::alarm(const std::string& text) {
  if (std::find(alarms_.begin(), alarms_.end(), text) != alarms_.end()) return;
  log::error("zab", "{}", text);
  alarms_.push_back(text);
  if (alarms_.size() > kAlarmsKept) alarms_.pop_front();
  last_status_ms_ = 0;
}

void Core::alarm_over(const std::string& text) {
  if (std::erase(alarms_, text) != 0) log::info("zab", "over: {}", text);
  last_status_ms_ = 0;
}

void Core::refresh_status() {
  EnsembleStatus now;
  now.alone = alone_;
  now.self = self_;
  now.role = peer_->role();
  now.phase = peer_->phase();
  now.leader = peer_->leader();
  now.epoch = peer_->epoch();
  now.serving = serving_;
  now.acknowledges = peer_->acknowledges();
  now.cluster_id = cluster_id_;
  now.last_logged = peer_->last_logged();
  now.last_durable = peer_->last_durable();
  now.last_committed = peer_->last_committed();
  now.last_applied = tree_->last_applied();
  std::map<Sid, EnsembleStatus::Peer> peers;
  const zab::Membership& membership = peer_->membership();
  now.observer = !membership.voters.contains(self_);
  for (const auto* some : {&membership.voters, &membership.observers}) {
    for (const Sid sid : *some) {
      if (sid == self_) continue;
      EnsembleStatus::Peer& peer = peers[sid];
      peer.sid = sid;
      peer.observer = some == &membership.observers;
    }
  }
  now.members = tree_->members();
  now.members_version = tree_->members_version();
  now.reconfiguring = peer_->pending_membership() != nullptr;
  now.snapshots_sent = snapshots_sent_;
  now.enrolled = tree_->enrolled().size();
  now.feature_level = tree_->feature_level();
  now.feature_level_known = config_.feature_level_max;
  if (leading()) {
    for (const zab::Peer::LearnerView& view : peer_->learners()) {
      EnsembleStatus::Peer& peer = peers[view.sid];
      peer.sid = view.sid;
      peer.member = membership.is_member(view.sid);
      peer.learner = true;
      peer.serving = view.serving;
      peer.counted = view.counted;
      peer.acked = view.acked;
      peer.silent_ms = view.silent_ms;
    }
    for (const auto& [sid, learner] : learners_) {
      const auto at = peers.find(sid);
      if (at == peers.end()) continue;
      at->second.refuses_writes = learner.low;
      at->second.feature_level = learner.feature_level;
    }
  }
  for (const auto& [link, known] : known_links_) {
    const auto at = peers.find(known.peer);
    if (at != peers.end() && known.channel == zab::Channel::kElection) at->second.connected = true;
  }
  for (const auto& [sid, text] : troubles_) {
    if (const auto at = peers.find(sid); at != peers.end()) {
      at->second.trouble = text;
    } else {
      now.alarms.push_back(text);  // from somebody who is no member
    }
  }
  for (const auto& [sid, peer] : peers) now.peers.push_back(peer);
  now.alarms.insert(now.alarms.end(), alarms_.begin(), alarms_.end());
  if (const std::string text = isolation(); !text.empty()) now.alarms.push_back(text);
  const std::lock_guard lock(status_mutex_);
  status_ = std::move(now);
}

// Nobody refused anybody: a server whose id another process has taken sees just this.
std::string Core::isolation() {
  const std::int64_t now = now_ms();
  if (alone_ || !known_links_.empty()) {
    linked_ms_ = now;
    isolation_told_ = false;
    return "";
  }
  if (now - linked_ms_ < kIsolatedMs) return "";
  const std::string text = fmt::format(
      "no other member is connected to this server: are they up, do their server lines have the address of this one, "
      "does another process run as server {}?",
      self_.value);
  if (!isolation_told_) log::error("peers", "{}", text);
  isolation_told_ = true;
  return text;
}

EnsembleStatus Core::ensemble_status() const {
  const std::lock_guard lock(status_mutex_);
  return status_;
}

}  // namespace coord::runtime
