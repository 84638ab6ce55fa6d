// Transport's dialing: who is dialed, when, and what becomes of a dial. Who and when: transport.h.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "replica/peers/transport_impl.h"

namespace coord::peers {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Impl = Transport::Impl;

void Impl::learn_addresses() {
  for (const auto* list : {&candidates_, &options_.members}) {
    for (const auto& [sid, address] : *list) {
      if (sid == options_.self) {
        identity_.host = address.host;
        identity_.port = address.port;
        continue;
      }
      // What the present list says counts.
      if (list == &candidates_ && options_.members.contains(sid)) continue;
      listed_.insert(sid);
      const auto [at, fresh] = addresses_.try_emplace(sid, address);
      if (fresh || (at->second.host == address.host && at->second.port == address.port)) continue;
      at->second = address;
      known_.erase(sid);
      if (const auto election = elections_.find(sid); election != elections_.end()) stop_dialing(election->second);
    }
  }
}

// Of a server that no list had yet, as it says itself: the leader may be one.
void Impl::learn_address(const Hello& peer) {
  if (peer.host.empty() || peer.port == 0 || listed_.contains(peer.sid)) return;
  PeerAddress& address = addresses_[peer.sid];
  if (address.host == peer.host && address.port == peer.port) return;
  address = PeerAddress{peer.host, peer.port, false};
  known_.erase(peer.sid);
}

bool Impl::dials(Sid sid) const {
  const auto votes = [sid](const std::map<Sid, PeerAddress>& list) {
    const auto peer = list.find(sid);
    return peer != list.end() && !peer->second.observer;
  };
  return sid != options_.self && (votes(options_.members) || votes(candidates_));
}

bool Impl::dials_at_once(Sid sid) const {
  const auto self = options_.members.find(options_.self);
  return self == options_.members.end() || self->second.observer || sid < options_.self;
}

void Impl::dial_elections() {
  for (const auto* list : {&options_.members, &candidates_}) {
    for (const auto& [sid, address] : *list) {
      if (dials(sid)) dial_election(sid);
    }
  }
}

std::shared_ptr<Dial> Impl::make_dial(Sid sid, Dial::Done done) {
  auto& known = known_[sid];
  if (!known) known = std::make_shared<Endpoints>();
  const PeerAddress& address = addresses_.at(sid);
  auto dial = std::make_shared<Dial>(context_, address.host, address.port, options_.connect_limit, known,
                                     std::move(done));
  dial->start();
  return dial;
}

void Impl::dial_election(Sid sid) {
  if (stopped_ || user_ == nullptr || !dials(sid) || linked(sid)) return;
  Election& election = elections_.try_emplace(sid, context_).first->second;
  if (election.dial || election.connection) return;
  const auto due = election.alone_since + options_.dial_larger_after;
  if (!dials_at_once(sid) && std::chrono::steady_clock::now() < due) return dial_election_at(sid, due);
  election.timer.cancel();
  election.dial = make_dial(sid, [weak = weak_from_this(), sid](tcp::socket socket, const std::string& error) {
    const auto self = weak.lock();
    if (!self || self->stopped_) return;
    Election& ours = self->elections_.at(sid);
    ours.dial.reset();
    if (!error.empty()) {
      self->once_a_minute(sid, kUnreachable, "cannot reach " + self->named(sid) + ": " + error);
      return self->redial_later(sid);
    }
    ours.connection = self->make_connection(std::move(socket), zab::Channel::kElection, sid);
    ours.connection->start();
  });
}

void Impl::dial_election_at(Sid sid, std::chrono::steady_clock::time_point due) {
  Election& election = elections_.at(sid);
  election.timer.expires_at(due);
  election.timer.async_wait([weak = weak_from_this(), sid](error_code cancelled) {
    const auto self = weak.lock();
    if (!cancelled && self) self->dial_election(sid);
  });
}

void Impl::redial_later(Sid sid) {
  if (stopped_ || user_ == nullptr || !dials(sid) || linked(sid)) return;
  Election& election = elections_.try_emplace(sid, context_).first->second;
  if (election.dial || election.connection) return;
  election.wait = std::clamp(election.wait * 2, options_.redial_first, options_.redial_most);
  const auto most = election.wait.count();
  const auto wait = most - std::uniform_int_distribution<std::int64_t>(0, most / 2)(jitter_);
  dial_election_at(sid, std::chrono::steady_clock::now() + TransportOptions::Ms(wait));
}

void Impl::stop_dialing(Election& election) {
  election.timer.cancel();
  if (const auto dial = std::exchange(election.dial, nullptr)) dial->cancel();
  if (const auto connection = std::exchange(election.connection, nullptr)) connection->drop();
}

void Impl::cancel_learner_dial(const char* why) {
  if (!learner_dial_) return;
  const LearnerDial old = std::exchange(learner_dial_, std::nullopt).value();
  if (old.dial) old.dial->cancel();
  if (old.connection) old.connection->drop();
  later([number = old.number, leader = old.leader, text = std::string(why)](Impl& self) {
    self.user_->dial_failed(number, leader, text);
  });
}

void Impl::dial_learner(std::uint64_t number, Sid leader) {
  if (stopped_ || user_ == nullptr) return;
  cancel_learner_dial("another server is to be followed");
  if (leader == options_.self || !addresses_.contains(leader)) {
    const std::string why =
        leader == options_.self
            ? "a server does not follow itself"
            : "no address of server " + std::to_string(leader.value) +
                  " is known here: it is in no list of members that this server has had, and has not "
                  "said it";
    return later([number, leader, why](Impl& self) { self.user_->dial_failed(number, leader, why); });
  }
  learner_dial_ = LearnerDial{number, leader, nullptr, nullptr};
  learner_dial_->dial = make_dial(leader, [weak = weak_from_this(), number](tcp::socket socket,
                                                                           const std::string& error) {
    const auto self = weak.lock();
    if (!self || self->stopped_ || !self->learner_dial_ || self->learner_dial_->number != number) return;
    LearnerDial& ours = *self->learner_dial_;
    ours.dial.reset();
    if (!error.empty()) {
      const Sid sid = ours.leader;
      self->learner_dial_.reset();
      return self->user_->dial_failed(number, sid, error);
    }
    ours.connection = self->make_connection(std::move(socket), zab::Channel::kLearner, ours.leader);
    ours.connection->start();
  });
}

// A connection that this server dialed is over before it was a link.
void Impl::dial_ended(const ConnectionPtr& connection, const std::string& why) {
  if (!connection->dialed()) return;
  const Sid sid = connection->handshake().wanted();
  if (connection->handshake().channel() == zab::Channel::kElection) {
    const auto at = elections_.find(sid);
    if (at == elections_.end() || at->second.connection != connection) return;
    at->second.connection.reset();
    redial_later(sid);
  } else if (learner_dial_ && learner_dial_->connection == connection) {
    const std::uint64_t number = learner_dial_->number;
    learner_dial_.reset();
    if (user_ != nullptr) user_->dial_failed(number, sid, why);
  }
}

// The election link to a server is gone and there is no other: it is dialed again.
void Impl::gone(const ConnectionPtr& connection) {
  const Hello& peer = *connection->handshake().peer();
  if (peer.channel != zab::Channel::kElection) return;
  const auto now = std::chrono::steady_clock::now();
  if (const auto election = elections_.find(peer.sid); election != elections_.end()) {
    election->second.alone_since = now;
    // A link that goes as soon as it comes is not dialed as fast as one that held.
    if (now - connection->up_at > options_.ping) election->second.wait = TransportOptions::Ms(0);
  }
  redial_later(peer.sid);
}

}  // namespace coord::peers
