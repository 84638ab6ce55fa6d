#include "tests/sim/network.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "replica/peers/codec.h"

namespace coord::sim {

namespace {

constexpr std::int64_t kDialPatience = 1000 * kMs;
constexpr std::int64_t kDialLargerAfter = 1500 * kMs;  // TransportOptions::dial_larger_after
// The transport closes an election link that is silent for this long (TransportOptions::silence_limit).
constexpr std::int64_t kSilence = 5'500 * kMs;

std::int64_t bounded(zab::Channel channel, std::int64_t wait) {
  return channel == zab::Channel::kElection ? std::min(wait, kSilence) : wait;
}
// What arrives is what the codec makes of the bytes.
zab::Message through_bytes(const zab::Message& message) {
  std::string bytes;
  peers::encode(message, bytes);
  std::optional<zab::Message> back = peers::decode(bytes);
  COORD_CHECK_MSG(back.has_value(), "a message that its own codec does not take");
  return std::move(*back);
}

}  // namespace

void Network::set_members(Sid at, const std::set<Sid>& voters, const std::set<Sid>& observers) {
  voters_[at] = voters;
  addresses_[at].insert(voters.begin(), voters.end());
  addresses_[at].insert(observers.begin(), observers.end());
  if (user_.incarnation(at) == 0) return;
  for (const Sid other : voters) redial_later(at, other);
}

bool Network::knows(Sid at, Sid other) const {
  const auto known = addresses_.find(at);
  return known != addresses_.end() && known->second.contains(other);
}

bool Network::dials(Sid from, Sid to) const {
  const auto voters = voters_.find(from);
  return from != to && voters != voters_.end() && voters->second.contains(to);
}

bool Network::dials_at_once(Sid from, Sid to) const {
  return dials(from, to) && (to < from || !voters_.at(from).contains(from));
}

void Network::started(Sid sid) {
  for (const Sid other : voters_[sid]) {
    if (dials_at_once(sid, other)) {
      dial(sid, other, zab::Channel::kElection, 0);
    } else {
      redial_later(sid, other);
    }
  }
}

void Network::dial_learner(Sid from, std::uint64_t number, Sid leader) {
  if (knows(from, leader)) return dial(from, leader, zab::Channel::kLearner, number);
  scheduler_.after(1, [this, from, number, incarnation = user_.incarnation(from)] {
    if (user_.incarnation(from) != incarnation) return;
    user_.enter(from, [this, from, number] { user_.dial_failed(from, number); });
  });
}

std::int64_t Network::delay() {
  return std::min(2'000 * kMs, (fixed_ ? latency_us_ : random_.heavy(latency_us_)) * slow_);
}

// --- opening

void Network::dial(Sid from, Sid to, zab::Channel channel, std::uint64_t number) {
  auto c = std::make_shared<Connection>();
  c->id = next_++;
  c->channel = channel;
  c->ends[0] = {from, user_.incarnation(from), zab::LinkId{next_++}, false, false, number};
  c->ends[1] = {to, 0, zab::LinkId{next_++}, false, false, 0};
  const std::int64_t gives_up = scheduler_.now_us() + kDialPatience;
  if (blocked(from, to) || blocked(to, from)) return refuse(c, kDialPatience);
  if (user_.incarnation(to) == 0) {
    return refuse(c, random_.chance(0.8) || fixed_ ? delay() * 2 : kDialPatience);
  }
  connections_[c->id] = c;
  scheduler_.after(delay(), [this, c, gives_up] { accept(c, gives_up); });
}

void Network::refuse(const Ref& c, std::int64_t after) {
  c->dead = true;
  if (c->ends[1].up) learn_of_death(c, 1, delay());
  const End& end = c->ends[0];
  scheduler_.after(after, [this, end, channel = c->channel, to = c->ends[1].sid] {
    if (user_.incarnation(end.sid) != end.incarnation) return;
    if (channel == zab::Channel::kElection) return redial_later(end.sid, to);
    user_.enter(end.sid, [this, end] { user_.dial_failed(end.sid, end.number); });
  });
  connections_.erase(c->id);
}

// The handshake needs both processes: a paused one answers when it goes on.
void Network::accept(const Ref& c, std::int64_t gives_up) {
  End& end = c->ends[1];
  end.incarnation = user_.incarnation(end.sid);
  if (end.incarnation == 0) return refuse(c, delay());
  user_.enter(end.sid, [this, c, gives_up] {
    if (c->dead) return;
    scheduler_.after(delay(), [this, c, gives_up] { connected(c, gives_up); });
  });
  scheduler_.at(gives_up, [this, c] {
    if (!c->dead && !c->ends[0].up && !c->ends[0].over) refuse(c, 0);
  });
}

void Network::connected(const Ref& c, std::int64_t gives_up) {
  if (c->dead) return;
  const bool stale = user_.incarnation(c->ends[0].sid) != c->ends[0].incarnation ||
                     user_.incarnation(c->ends[1].sid) != c->ends[1].incarnation;
  if (stale || scheduler_.now_us() > gives_up || blocked(c->ends[0].sid, c->ends[1].sid) ||
      blocked(c->ends[1].sid, c->ends[0].sid)) {
    return refuse(c, random_.between(0, 100 * kMs));
  }
  for (const int side : {0, 1}) {
    const auto up = [this, c, side] {
      End& end = c->ends[static_cast<std::size_t>(side)];
      if (end.over || c->dead) return;
      const Sid peer = c->ends[static_cast<std::size_t>(1 - side)].sid;
      replace_old(end.sid, peer, c->channel);
      if (user_.incarnation(end.sid) != end.incarnation) return;  // it ended over that
      end.up = true;
      links_[end.link] = {c, side};
      user_.note("up", end.sid.value, peer.value, end.link.value);
      user_.link_up(end.sid, end.link, c->channel, peer, side == 0);
      pump(c, 1 - side);
    };
    const Sid at = c->ends[static_cast<std::size_t>(side)].sid;
    const std::uint64_t incarnation = c->ends[static_cast<std::size_t>(side)].incarnation;
    scheduler_.after(fixed_ ? side : random_.between(0, 500), [this, at, incarnation, up] {
      if (user_.incarnation(at) == incarnation) user_.enter(at, up);
    });
  }
}

// At most one per peer and channel: the older one ends first.
void Network::replace_old(Sid at, Sid peer, zab::Channel channel) {
  std::vector<Handle> old;
  for (const auto& [link, handle] : links_) {
    const End& mine = handle.connection->ends[static_cast<std::size_t>(handle.side)];
    const End& other = handle.connection->ends[static_cast<std::size_t>(1 - handle.side)];
    if (mine.sid == at && other.sid == peer && handle.connection->channel == channel && mine.up) old.push_back(handle);
  }
  for (const Handle& handle : old) {
    down(handle.connection, handle.side);
    learn_of_death(handle.connection, 1 - handle.side, delay());
  }
}

void Network::redial_later(Sid from, Sid to) {
  if (!dials(from, to) || user_.incarnation(from) == 0) return;
  if (!redialing_.insert({from, to}).second) return;
  std::int64_t wait = fixed_ ? 20 * kMs : random_.between(5 * kMs, 200 * kMs);
  if (!dials_at_once(from, to)) wait += kDialLargerAfter;
  scheduler_.after(wait, [this, from, to] {
    redialing_.erase({from, to});
    const std::uint64_t incarnation = user_.incarnation(from);
    if (incarnation == 0 || !dials(from, to)) return;
    for (const auto& [id, c] : connections_) {
      if (c->dead || c->channel != zab::Channel::kElection) continue;
      const bool ours = c->ends[0].sid == from && c->ends[1].sid == to && !c->ends[0].over;
      const bool theirs = c->ends[0].sid == to && c->ends[1].sid == from && c->ends[1].up;
      if ((ours && c->ends[0].incarnation == incarnation) || (theirs && c->ends[1].incarnation == incarnation)) return;
    }
    dial(from, to, zab::Channel::kElection, 0);
  });
}

// --- sending

const Network::Handle* Network::find(zab::LinkId link) const {
  const auto at = links_.find(link);
  return at == links_.end() ? nullptr : &at->second;
}

bool Network::open(zab::LinkId link) const {
  const Handle* handle = find(link);
  return handle != nullptr && handle->connection->ends[static_cast<std::size_t>(handle->side)].up;
}

std::map<zab::LinkId, Sid> Network::learner_links(Sid at) const {
  std::map<zab::LinkId, Sid> open;
  for (const auto& [link, handle] : links_) {
    const End& mine = handle.connection->ends[static_cast<std::size_t>(handle.side)];
    const End& other = handle.connection->ends[static_cast<std::size_t>(1 - handle.side)];
    if (mine.sid == at && mine.up && handle.connection->channel == zab::Channel::kLearner) open[link] = other.sid;
  }
  return open;
}

void Network::send(Sid from, zab::LinkId link, zab::Message message) {
  const Handle* handle = find(link);
  if (handle == nullptr) return;
  const Ref c = handle->connection;
  const int side = handle->side;
  if (!c->ends[static_cast<std::size_t>(side)].up) return;
  if (c->dead) {  // the other end has gone, not noticed yet; its host, if it can be reached, answers with a reset
    const Sid peer = c->ends[1 - static_cast<std::size_t>(side)].sid;
    if (user_.incarnation(peer) != 0 && !blocked(from, peer) && !blocked(peer, from)) learn_of_death(c, side, delay());
    return;
  }
  message = through_bytes(message);
  if (mutant_ == Mutant::kEntriesDropped && random_.chance(0.02)) {
    auto* const proposal = std::get_if<zab::Proposal>(&message);
    if (proposal != nullptr && proposal->entries.size() > 1) proposal->entries.erase(proposal->entries.begin());
  }
  Stream& stream = c->streams[static_cast<std::size_t>(side)];
  stream.last_ready = std::max(stream.last_ready, scheduler_.now_us() + delay());
  stream.items.push_back({stream.last_ready, false, std::move(message)});
  scheduler_.at(stream.last_ready, [this, c, side] { pump(c, side); });
}

void Network::pump(const Ref& c, int from) {
  Stream& stream = c->streams[static_cast<std::size_t>(from)];
  End& to = c->ends[static_cast<std::size_t>(1 - from)];
  while (!c->dead && !stream.items.empty() && stream.items.front().ready <= scheduler_.now_us()) {
    const Sid sender = c->ends[static_cast<std::size_t>(from)].sid;
    if (blocked(sender, to.sid)) {
      if (stream.stuck_since >= 0) return;
      // Resent by TCP until somebody's patience ends.
      stream.stuck_since = scheduler_.now_us();
      scheduler_.after(bounded(c->channel, random_.between(700 * kMs, 15'000 * kMs)),
                       [this, c, from, since = stream.stuck_since] {
                         if (!c->dead && c->streams[static_cast<std::size_t>(from)].stuck_since == since) kill(c);
                       });
      return;
    }
    stream.stuck_since = -1;
    if (user_.incarnation(to.sid) != to.incarnation) {  // nobody there any more: a reset comes back
      c->dead = true;
      learn_of_death(c, from, delay());
      return;
    }
    if (!to.up && !to.over) return;  // its LinkUp comes first; then pump again
    if (hold_ && !stream.items.front().fin && hold_(sender, to.sid, stream.items.front().message)) return;
    Item item = std::move(stream.items.front());
    stream.items.pop_front();
    if (!hand_over(c, 1 - from, std::move(item))) return;
  }
}

bool Network::hand_over(const Ref& c, int side, Item item) {
  End& to = c->ends[static_cast<std::size_t>(side)];
  if (to.over) return true;
  if (item.fin) {
    learn_of_death(c, side, 0);
    return false;
  }
  ++delivered_;
  user_.enter(to.sid, [this, c, side, message = std::move(item.message)]() mutable {
    End& end = c->ends[static_cast<std::size_t>(side)];
    if (!end.up) return;
    user_.received(end.sid, end.link, std::move(message));
  });
  return true;
}

void Network::release() {
  hold_ = nullptr;
  const auto all = connections_;
  for (const auto& [id, c] : all) {
    for (const int side : {0, 1}) pump(c, side);
  }
}

// --- closing

void Network::down(const Ref& c, int side) {
  End& end = c->ends[static_cast<std::size_t>(side)];
  if (end.over) return;
  end.over = true;
  const bool was_up = end.up;
  end.up = false;
  links_.erase(end.link);
  if (c->ends[0].over && c->ends[1].over) connections_.erase(c->id);
  if (user_.incarnation(end.sid) != end.incarnation) return;
  const Sid peer = c->ends[static_cast<std::size_t>(1 - side)].sid;
  user_.note("down", end.sid.value, peer.value, end.link.value);
  if (was_up) {
    user_.link_down(end.sid, end.link);
  } else if (side == 0 && c->channel == zab::Channel::kLearner) {
    user_.dial_failed(end.sid, end.number);
  }
  redial_both(c);
}

// Each of the two, if it would dial the other one at all.
void Network::redial_both(const Ref& c) {
  if (c->channel != zab::Channel::kElection) return;
  redial_later(c->ends[0].sid, c->ends[1].sid);
  redial_later(c->ends[1].sid, c->ends[0].sid);
}

void Network::learn_of_death(const Ref& c, int side, std::int64_t after) {
  const End& end = c->ends[static_cast<std::size_t>(side)];
  if (end.over) return;
  scheduler_.after(after, [this, c, side] {
    const End& at = c->ends[static_cast<std::size_t>(side)];
    if (at.over) return;
    if (user_.incarnation(at.sid) != at.incarnation) {
      down(c, side);
      return;
    }
    user_.enter(at.sid, [this, c, side] { down(c, side); });
  });
}

// Broken in the middle: each end learns of it in its own time.
void Network::kill(const Ref& c) {
  c->dead = true;
  for (const int side : {0, 1}) {
    const bool late = half_open_ && random_.chance(0.15);
    learn_of_death(c, side, late ? bounded(c->channel, random_.between(500 * kMs, 20'000 * kMs)) : delay());
  }
}

void Network::close(Sid from, zab::LinkId link) {
  const Handle* handle = find(link);
  if (handle == nullptr) return;
  const Ref c = handle->connection;
  const int side = handle->side;
  End& end = c->ends[static_cast<std::size_t>(side)];
  static_cast<void>(from);
  end.over = true;
  end.up = false;
  links_.erase(link);
  redial_both(c);
  if (c->ends[1 - static_cast<std::size_t>(side)].over) {
    connections_.erase(c->id);
    return;
  }
  if (c->dead) return;
  // What was sent arrives, then the end; a reset swallows it.
  Stream& stream = c->streams[static_cast<std::size_t>(side)];
  if (!fixed_ && random_.chance(0.2)) stream.items.clear();
  stream.last_ready = std::max(stream.last_ready, scheduler_.now_us() + delay());
  stream.items.push_back({stream.last_ready, true, zab::Bye{}});
  scheduler_.at(stream.last_ready, [this, c, side] { pump(c, side); });
}

void Network::crashed(Sid sid, bool power_cut) {
  const auto all = connections_;
  for (const auto& [id, c] : all) {
    for (const int side : {0, 1}) {
      End& end = c->ends[static_cast<std::size_t>(side)];
      if (end.sid != sid || c->dead || end.over) continue;
      links_.erase(end.link);
      end.over = true;
      end.up = false;
      if (power_cut && half_open_ && random_.chance(0.7)) {  // nobody is left to say so
        c->dead = true;
        learn_of_death(c, 1 - side, bounded(c->channel, random_.between(100 * kMs, 20'000 * kMs)));
        continue;
      }
      Stream& stream = c->streams[static_cast<std::size_t>(side)];
      // What the network held up is never sent again.
      const bool held_up = blocked(sid, c->ends[1 - static_cast<std::size_t>(side)].sid);
      if (held_up || (!fixed_ && random_.chance(0.3))) stream.items.clear();
      stream.last_ready = std::max(stream.last_ready, scheduler_.now_us() + delay());
      stream.items.push_back({stream.last_ready, true, zab::Bye{}});
      scheduler_.at(stream.last_ready, [this, c, side] { pump(c, side); });
    }
  }
}

void Network::block(Sid from, Sid to, bool blocked) {
  if (blocked) {
    blocked_.insert({from, to});
    return;
  }
  if (blocked_.erase({from, to}) == 0) return;
  const auto all = connections_;
  for (const auto& [id, c] : all) {
    for (const int side : {0, 1}) {
      if (c->ends[static_cast<std::size_t>(side)].sid == from &&
          !c->streams[static_cast<std::size_t>(side)].items.empty()) {
        scheduler_.after(random_.between(0, 200 * kMs), [this, c, side] { pump(c, side); });
      }
    }
  }
}

void Network::heal() {
  const auto all = blocked_;
  for (const auto& [from, to] : all) block(from, to, false);
}

void Network::reset_some(Sid a, Sid b) {
  std::vector<Ref> between;
  for (const auto& [id, c] : connections_) {
    const bool theirs = (c->ends[0].sid == a && c->ends[1].sid == b) || (c->ends[0].sid == b && c->ends[1].sid == a);
    if (theirs && !c->dead && c->ends[0].up && c->ends[1].up) between.push_back(c);
  }
  if (between.empty()) return;
  const Ref c = between[random_.below(between.size())];
  for (Stream& stream : c->streams) {
    if (!stream.items.empty()) stream.items.resize(random_.below(stream.items.size() + 1));
  }
  kill(c);
}

void Network::duplicate_dial(Sid from, Sid to) {
  if (user_.incarnation(from) != 0 && dials(from, to)) dial(from, to, zab::Channel::kElection, 0);
}

}  // namespace coord::sim
