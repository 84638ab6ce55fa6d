#include "replica/peers/transport.h"

#include <algorithm>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/net/asio_impl.h"
#include "replica/peers/tls.h"
#include "replica/peers/transport_impl.h"

namespace coord::peers {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Impl = Transport::Impl;

namespace {

constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // after EMFILE and its like
constexpr int kWordlessMax = 3;
constexpr std::size_t kUnflushedMax = 64;

std::map<Sid, bool> roles(const std::map<Sid, PeerAddress>& members) {
  std::map<Sid, bool> out;
  for (const auto& [sid, address] : members) out[sid] = address.observer;
  return out;
}

std::string host_of(const std::string& address) { return address.substr(0, address.rfind(':')); }

const char* name(zab::Channel channel) { return channel == zab::Channel::kElection ? "election" : "learner"; }

}  // namespace

Impl::Impl(net::Loop& loop, TransportOptions options, std::unique_ptr<asio::ssl::context> tls)
    : loop_(loop),
      context_(loop.impl().context),
      options_(std::move(options)),
      tls_(std::move(tls)),
      identity_{options_.self,           options_.cluster_id, options_.directory_id, options_.incarnation,
                roles(options_.members), options_.secret,     tls_ != nullptr},
      troubles_(options_.trouble_lasts.count(), options_.log_again.count()),
      only_logged_(options_.log_again.count(), options_.log_again.count()),
      acceptor_(context_),
      accept_timer_(context_),
      tick_timer_(context_),
      jitter_(std::random_device()()) {
  identity_.members_version = options_.members_version;
  identity_.feature_level = options_.feature_level;
  identity_.feature_level_known = options_.feature_level_known;
  learn_addresses();
}

Result<bool, Fault> Impl::listen() {
  const std::string& address = options_.listen_address;
  error_code error;
  tcp::endpoint end(tcp::v6(), options_.listen_port);
  if (!address.empty()) {
    const auto parsed = asio::ip::make_address(address, error);
    if (!error) {
      end = tcp::endpoint(parsed, options_.listen_port);
    } else {
      tcp::resolver resolver(context_);
      const auto found = resolver.resolve(address, std::to_string(options_.listen_port), error);
      if (!error) end = found.begin()->endpoint();
    }
  }
  if (!error) acceptor_.open(end.protocol(), error);
  if (error && address.empty()) {  // no IPv6 on this host
    end = tcp::endpoint(tcp::v4(), options_.listen_port);
    acceptor_.open(end.protocol(), error);
  }
  if (!error && address.empty() && end.protocol() == tcp::v6()) {
    acceptor_.set_option(asio::ip::v6_only(false), error);
  }
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(end, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return fail(Fault{"cannot listen for other replicas on " + (address.empty() ? "all addresses" : address) +
                      " port " + std::to_string(options_.listen_port) + ": " + error.message() + " (server." +
                      std::to_string(options_.self.value) + ")"});
  }
  return true;
}

std::uint16_t Impl::port() const {
  error_code ignored;
  return acceptor_.local_endpoint(ignored).port();
}

void Impl::start(LinksUser& user) {
  COORD_CHECK(user_ == nullptr && !stopped_);
  user_ = &user;
  warn_of_trust();
  log::info("peers", "listening address={} port={} tls={}",
            options_.listen_address.empty() ? "*" : options_.listen_address, port(), tls_ != nullptr);
  accept();
  last_tick_ = std::chrono::steady_clock::now();
  tick();
  dial_elections();
}

void Impl::warn_of_trust() {
  if (warned_of_trust_ || options_.members.size() <= 1 || tls_ != nullptr) return;
  warned_of_trust_ = true;
  if (options_.secret.empty()) {
    log::warn("peers", "anybody who can connect to port {} can pass for a replica: set coord.peerSecretFile, or "
                       "coord.peerTls.*, on all members", port());
  } else {
    log::warn("peers", "replicas prove who they are with a shared secret, and what they send is not encrypted "
                       "(coord.peerTls.* does both)");
  }
}

void Impl::stop() {
  user_ = nullptr;
  stopped_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  accept_timer_.cancel();
  tick_timer_.cancel();
  for (auto& [sid, election] : elections_) {
    if (election.dial) election.dial->cancel();
  }
  elections_.clear();
  if (learner_dial_ && learner_dial_->dial) learner_dial_->dial->cancel();
  learner_dial_.reset();
  strangers_.clear();
  links_.clear();
  by_peer_.clear();
  unflushed_.clear();
  const auto all = connections_;
  for (const auto& [key, connection] : all) connection->up() ? connection->finish() : connection->drop();
}

void Impl::abandon() {
  if (!stopped_) stop();
  for (const auto& [key, connection] : connections_) connection->disown();
  connections_.clear();
}

void Impl::later(std::function<void(Impl&)> work) {
  asio::post(context_, [weak = weak_from_this(), work = std::move(work)] {
    const auto self = weak.lock();
    if (self && !self->stopped_) work(*self);
  });
}

std::string Impl::named(Sid sid) const {
  std::string out = "server " + std::to_string(sid.value);
  const auto at = addresses_.find(sid);
  if (at != addresses_.end()) out += " (" + at->second.host + ":" + std::to_string(at->second.port) + ")";
  return out;
}

// ---------------------------------------------------------------- accepting

void Impl::accept() {
  acceptor_.async_accept([weak = weak_from_this()](error_code error, tcp::socket socket) {
    const auto self = weak.lock();
    if (!self || self->stopped_) return;
    if (!error) {
      self->accepted(std::move(socket));
      return self->accept();
    }
    log::warn("peers", "cannot accept a connection: {}", error.message());
    self->accept_timer_.expires_after(kAcceptPause);
    self->accept_timer_.async_wait([weak](error_code cancelled) {
      const auto again = weak.lock();
      if (!cancelled && again && !again->stopped_) again->accept();
    });
  });
}

void Impl::accepted(tcp::socket socket) {
  if (strangers_.size() >= kStrangersMax) {
    const ConnectionPtr oldest = strangers_.front();
    strangers_.pop_front();
    once_a_minute(Sid(0), kStranger, "more than " + std::to_string(kStrangersMax) +
                                         " connections that do not say who they are, one from " + oldest->address());
    oldest->drop();
  }
  const ConnectionPtr connection = make_connection(std::move(socket), zab::Channel::kElection, Sid(0));
  strangers_.push_back(connection);
  connection->start();
}

ConnectionPtr Impl::make_connection(tcp::socket socket, zab::Channel channel, Sid wanted) {
  const Connection::Limits limits{options_.handshake_limit,  options_.stop_limit,     options_.queue_high_bytes,
                                  options_.queue_low_bytes, options_.queue_bytes_max};
  auto handshake = std::make_unique<Handshake>(identity_, table_, channel, wanted, random_bytes(kNonceBytes),
                                               loop_.wall_ms());
  auto connection =
      std::make_shared<Connection>(std::move(socket), tls_.get(), limits, *this, std::move(handshake));
  connections_[connection.get()] = connection;
  return connection;
}

// ---------------------------------------------------------------- what becomes of connections

void Impl::came_up(const ConnectionPtr& connection) {
  if (user_ == nullptr) return connection->drop();
  strangers_.remove(connection);
  const Hello& peer = *connection->handshake().peer();
  const bool dialed = connection->dialed();
  const bool learner = peer.channel == zab::Channel::kLearner;
  if (dialed && learner && !(learner_dial_ && learner_dial_->connection == connection)) return connection->drop();
  // Another one may have come up, and the members may have changed, since the verdict.
  const Sid wanted = dialed ? connection->handshake().wanted() : peer.wanted;
  const Judgement again = judge(identity_, peer, wanted, dialed, table_);
  if (again.refusal != Refusal::kNone) {
    trouble(peer.sid, static_cast<int>(again.refusal), "refused " + named(peer.sid) + ": " + again.text);
    connection->finish();
    return dial_ended(connection, again.text);
  }
  const auto key = std::make_pair(peer.sid, peer.channel);
  zab::LinkId replaced;
  if (const auto old = by_peer_.find(key); old != by_peer_.end()) {
    const ConnectionPtr before = links_.at(old->second);
    if (keeps_older(*before, *connection)) {
      log::debug("peers", "{} and this server have dialed each other: the link goes on", named(peer.sid));
      return connection->finish();
    }
    replaced = before->link;
    unlink(before);
    before->drop();
  }
  if (const auto at = elections_.find(peer.sid); !learner && at != elections_.end()) {
    if (at->second.connection == connection) at->second.connection.reset();
    stop_dialing(at->second);
  }
  connection->link = zab::LinkId(next_link_++);
  connection->up_at = std::chrono::steady_clock::now();
  links_[connection->link] = connection;
  by_peer_[key] = connection->link;
  table_.up(peer);
  learn_address(peer);
  if (dialed && learner) learner_dial_.reset();
  if (replaced != zab::LinkId()) {
    user_->link_down(replaced, "replaced by a newer connection");
    if (user_ == nullptr) return;
  }
  wordless_.erase(peer.sid);
  log::info("peers", "link up peer={} channel={} address={} dialed={}", peer.sid.value, name(peer.channel),
            connection->address(), dialed);
  all_well(peer.sid);
  const std::string clock = clock_warning(options_.self, loop_.wall_ms(), peer);
  clock.empty() ? static_cast<void>(clocks_.erase(peer.sid)) : static_cast<void>(clocks_[peer.sid] = clock);
  if (!clock.empty()) trouble(peer.sid, kClock, clock);
  if (user_ != nullptr) user_->link_up(connection->link, peer.channel, peer.sid, dialed);
}

// Whether the link goes on and the connection that has come up beside it is dropped. A dial that is under way is given
// up when a link comes up, and a dialer's side is up before the other one. So a link of our own dialing meets one that
// the same process has dialed only if that had none then: either its end of our link is gone, or both dialed at once,
// and it has to choose as well. In the second case both choose what the larger id has dialed: the larger one keeps its
// link, and the smaller one takes that instead of its own.
bool Impl::keeps_older(const Connection& older, const Connection& newer) const {
  const Hello &before = *older.handshake().peer(), &now = *newer.handshake().peer();
  if (now.channel != zab::Channel::kElection || !older.dialed() || newer.dialed()) return false;
  if (before.directory_id != now.directory_id || before.incarnation != now.incarnation) return false;
  return now.sid < options_.self && std::chrono::steady_clock::now() - older.up_at < options_.crossed_within;
}

void Impl::refused(const ConnectionPtr& connection) {
  strangers_.remove(connection);
  const Handshake& handshake = connection->handshake();
  const Judgement& judgement = handshake.judgement();
  const std::optional<Hello>& peer = handshake.peer();
  int cause = static_cast<int>(judgement.refusal);
  if (handshake.dialed()) {
    const Sid sid = handshake.wanted();
    std::string text = named(sid) + " ";
    if (handshake.refused_by_peer()) {
      cause += kRefusedByPeer;
      text += "refuses this server" + std::string(handshake.proven() ? "" : " (it says)") + ": " + judgement.text;
    } else if (judgement.refusal == Refusal::kMalformed) {
      text += "does not answer as a replica (" + judgement.text +
              "): is coord.peerTls.* set on one side only, or is that port another service's?";
    } else {
      text = "refused " + text.substr(0, text.size() - 1) + ": " + judgement.text;
    }
    trouble(sid, cause, text);
    dial_ended(connection, text);
  } else if (handshake.refused_by_peer() || judgement.refusal == Refusal::kMalformed) {
    if (handshake.refused_by_peer() && handshake.proven()) {
      trouble(peer->sid, cause + kRefusedByPeer, named(peer->sid) + " refuses this server: " + judgement.text);
    } else {  // anybody may say anything
      once_a_minute(Sid(0), kStranger, "no replica at " + connection->address() + ": " + judgement.text);
    }
  } else {
    const bool ours = peer && (identity_.members.contains(peer->sid));
    const std::string who = peer ? "server " + std::to_string(peer->sid.value) + " at " : "a replica at ";
    trouble(ours ? peer->sid : Sid(0), cause,
            "refused " + who + host_of(connection->address()) + ": " + judgement.text);
  }
}

void Impl::broken(const ConnectionPtr& connection, const std::string& why) {
  strangers_.remove(connection);
  if (connection->tls_failed()) {
    const std::string remedy = ": all members need coord.peerTls.*, with certificates of one authority";
    if (connection->dialed()) {
      const Sid sid = connection->handshake().wanted();
      trouble(sid, kTls, "no TLS with " + named(sid) + ", " + why + remedy);
    } else if (why.find("certificate") != std::string::npos || why.find("alert") != std::string::npos) {
      trouble(Sid(0), kTls, "no TLS with " + host_of(connection->address()) +
                                ", " + why + remedy);
    } else {
      once_a_minute(Sid(0), kStranger, "no replica at " + connection->address() + ": " + why);
    }
  } else if (connection->dialed()) {
    no_words(connection, why);
  } else if (connection->handshake().proven()) {  // it has given up, or has a link by now
    log::debug("peers", "{} has ended a handshake: {}", named(connection->handshake().peer()->sid), why);
  } else {
    once_a_minute(Sid(0), kStranger, "no replica at " + connection->address() + ": " + why);
  }
  dial_ended(connection, why);
}

// Somebody accepts connections there and never says hello.
void Impl::no_words(const ConnectionPtr& connection, const std::string& why) {
  const Sid sid = connection->handshake().wanted();
  log::debug("peers", "no handshake with {}: {}", named(sid), why);
  if (connection->handshake().peer() || ++wordless_[sid] < kWordlessMax) return;
  trouble(sid, kWordless, named(sid) + " takes connections and does not answer as a replica (" + why +
                              "): is coord.peerTls.* set on one side only, or is that port another service's?");
}

void Impl::lost(const ConnectionPtr& connection, const std::string& why) {
  const zab::LinkId link = connection->link;
  if (!links_.contains(link)) return;
  const Hello& peer = *connection->handshake().peer();
  log::info("peers", "link down peer={} channel={}: {}", peer.sid.value, name(peer.channel), why);
  unlink(connection);
  gone(connection);
  if (user_ != nullptr) user_->link_down(link, why);
}

void Impl::unlink(const ConnectionPtr& connection) {
  const Hello& peer = *connection->handshake().peer();
  links_.erase(connection->link);
  by_peer_.erase({peer.sid, peer.channel});
  table_.down(peer.sid, peer.channel);
}

void Impl::received(const ConnectionPtr& connection, std::vector<zab::Message> messages) {
  if (user_ != nullptr && links_.contains(connection->link)) user_->received(connection->link, std::move(messages));
}

void Impl::heard(const ConnectionPtr& connection) {
  if (user_ != nullptr && links_.contains(connection->link)) user_->heard(connection->link);
}

void Impl::writable(const ConnectionPtr& connection) {
  if (user_ != nullptr && links_.contains(connection->link)) user_->writable(connection->link);
}

void Impl::ended(const ConnectionPtr& connection) {
  strangers_.remove(connection);
  connections_.erase(connection.get());
}

// ---------------------------------------------------------------- calls of the user

bool Impl::send(zab::LinkId link, const zab::Message& message) {
  const auto at = links_.find(link);
  if (at == links_.end()) return true;
  if (unflushed_.empty() || unflushed_.back() != at->second) {
    if (unflushed_.size() >= kUnflushedMax) flush();
    unflushed_.push_back(at->second);
  }
  return at->second->send(message);
}

void Impl::flush() {
  for (const ConnectionPtr& connection : unflushed_) connection->flush();
  unflushed_.clear();
}

void Impl::close(zab::LinkId link, const std::string& reason) {
  const auto at = links_.find(link);
  if (at == links_.end()) return;
  const ConnectionPtr connection = at->second;
  const Hello& peer = *connection->handshake().peer();
  log::info("peers", "link closed peer={} channel={}: {}", peer.sid.value, name(peer.channel), reason);
  unlink(connection);
  connection->finish();
  gone(connection);  // nothing is called back
}

std::size_t Impl::queued_bytes(zab::LinkId link) const {
  const auto at = links_.find(link);
  return at == links_.end() ? 0 : at->second->queued_bytes();
}

void Impl::set_members(Zxid version, std::map<Sid, PeerAddress> members) {
  options_.members = std::move(members);
  identity_.members = roles(options_.members);
  identity_.members_version = version;
  dials_changed();
  if (user_ != nullptr) warn_of_trust();
}

void Impl::set_candidates(std::map<Sid, PeerAddress> candidates) {
  candidates_ = std::move(candidates);
  dials_changed();
}

void Impl::dials_changed() {
  learn_addresses();
  for (auto at = elections_.begin(); at != elections_.end();) {
    if (dials(at->first)) {
      ++at;
      continue;
    }
    stop_dialing(at->second);
    at = elections_.erase(at);
  }
  if (user_ != nullptr) dial_elections();
}

void Impl::set_feature_level(int level) { identity_.feature_level = level; }

// ---------------------------------------------------------------- time

void Impl::tick() {
  tick_timer_.expires_after(options_.ping);
  tick_timer_.async_wait([weak = weak_from_this()](error_code cancelled) {
    const auto self = weak.lock();
    if (cancelled || !self || self->stopped_) return;
    self->tick();
    self->ping_all();
    if (self->user_ == nullptr) return;
    for (const auto& [sid, text] : self->clocks_) {
      const bool connected = self->by_peer_.contains({sid, zab::Channel::kElection}) ||
                             self->by_peer_.contains({sid, zab::Channel::kLearner});
      if (connected) self->trouble(sid, kClock, text);
    }
    for (const Sid sid : self->troubles_.expire(self->now_ms())) self->tell(sid);
    self->only_logged_.expire(self->now_ms());
  });
}

void Impl::ping_all() {
  const auto now = std::chrono::steady_clock::now();
  // What this process did not read while it was stopped is no silence of the others.
  const bool stalled = now - last_tick_ > 2 * options_.ping;
  last_tick_ = now;
  const auto all = links_;
  for (const auto& [link, connection] : all) {
    if (connection->handshake().channel() != zab::Channel::kElection || !connection->up()) continue;
    if (stalled) connection->forgive_silence();
    if (now - connection->heard_at() > options_.silence_limit) {
      connection->give_up("silent for " + std::to_string(options_.silence_limit.count()) + " ms");
    } else {
      connection->ping();
      connection->flush();
    }
  }
}

// ---------------------------------------------------------------- troubles

void Impl::trouble(Sid sid, int cause, const std::string& text) {
  // Two that dial each other refuse each other for the same reason: one line.
  if (cause < 2 * kRefusedByPeer && troubles_.present(sid, cause ^ kRefusedByPeer)) return;
  const Troubles::Noted noted = troubles_.note(sid, cause, text, now_ms());
  if (noted.log) log::warn("peers", "{}", text);
  if (noted.changed) tell(sid);
}

void Impl::tell(Sid sid) {
  if (user_ != nullptr) user_->trouble(sid, troubles_.text(sid));
}

// A link is up: what kept it from that is over. (Somebody else with its id goes on to be noted.)
void Impl::all_well(Sid sid) {
  bool changed = false;
  for (int refusal = 0; refusal <= static_cast<int>(Refusal::kOther); ++refusal) {
    if (refusal == static_cast<int>(Refusal::kTwin)) continue;
    changed |= troubles_.clear(sid, refusal);
    changed |= troubles_.clear(sid, refusal + kRefusedByPeer);
  }
  for (const int cause : {kTls, kWordless, kClock}) changed |= troubles_.clear(sid, cause);
  if (changed) tell(sid);
}

void Impl::once_a_minute(Sid sid, int cause, const std::string& text) {
  // Addresses of strangers differ with each attempt: one line for all of them.
  if (only_logged_.note(sid, cause, "", now_ms()).log) log::info("peers", "{}", text);
}

// ---------------------------------------------------------------- the face

Result<std::unique_ptr<Transport>, Fault> Transport::open(net::Loop& loop, TransportOptions options) {
  auto tls = make_tls(options.tls);
  if (!tls) return coord::fail(tls.error());
  auto impl = std::make_shared<Impl>(loop, std::move(options), std::move(*tls));
  if (auto listening = impl->listen(); !listening) return coord::fail(listening.error());
  return std::unique_ptr<Transport>(new Transport(std::move(impl)));
}

Transport::Transport(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transport::~Transport() { impl_->abandon(); }
std::uint16_t Transport::port() const { return impl_->port(); }
void Transport::set_directory_id(const std::string& directory_id) { impl_->set_directory_id(directory_id); }
void Transport::set_members(Zxid version, std::map<Sid, PeerAddress> members) {
  impl_->set_members(version, std::move(members));
}
void Transport::set_candidates(std::map<Sid, PeerAddress> candidates) {
  impl_->set_candidates(std::move(candidates));
}
void Transport::set_feature_level(int level) { impl_->set_feature_level(level); }
void Transport::start(LinksUser& user) { impl_->start(user); }
void Transport::stop() { impl_->stop(); }
void Transport::dial_learner(std::uint64_t number, Sid leader) { impl_->dial_learner(number, leader); }
bool Transport::send(zab::LinkId link, const zab::Message& message) { return impl_->send(link, message); }
void Transport::flush() { impl_->flush(); }
void Transport::close(zab::LinkId link, const std::string& reason) { impl_->close(link, reason); }
std::size_t Transport::queued_bytes(zab::LinkId link) const { return impl_->queued_bytes(link); }
void Transport::set_cluster_id(const std::string& cluster_id) { impl_->set_cluster_id(cluster_id); }
std::size_t Transport::open_connections() const { return impl_->open_connections(); }

}  // namespace coord::peers
