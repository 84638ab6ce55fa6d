// Connections, sessions, and what happens with time.
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/runtime/core.h"

namespace coord::runtime {
namespace {

constexpr std::int64_t kHandshakeLimitMs = 10'000;  // nio.sessionlessCnxnTimeout
constexpr std::int64_t kDiskPeriodMs = 1000;
constexpr std::int64_t kStatusPeriodMs = 200;
constexpr std::int64_t kTimelyMs = 100;  // a tick later than that may have been a stop of this process
constexpr int kAskedTicks = 2;           // what lay unread in the sockets has been read by then
constexpr std::int64_t kTickMs = 20;
constexpr std::uint64_t kFoldAtOnce = 1'000'000;    // above what makes a fold due

}  // namespace

// ---------------------------------------------------------------- connections

void Core::opened(std::shared_ptr<ClientConn> conn) {
  const std::lock_guard lock(connections_mutex_);
  if (!conn->remote().is_unix) ++per_address_[conn->remote().address];
  connections_.emplace(conn->id(), std::move(conn));
}

void Core::closed(std::shared_ptr<ClientConn> conn) {
  {
    const std::lock_guard lock(connections_mutex_);
    if (connections_.erase(conn->id()) == 0) return;
    if (!conn->remote().is_unix) {
      const auto it = per_address_.find(conn->remote().address);
      if (it != per_address_.end() && --it->second == 0) per_address_.erase(it);
    }
  }
  // Posted, never inline: the caller may be inside a request of this connection.
  executor_.post([this, conn = std::move(conn)] {
    {
      const std::lock_guard<TreeLock> lock(tree_lock_);
      tree_->connection_closed(conn->id());
    }
    const auto it = attached_.find(conn->session());
    if (it != attached_.end() && it->second.conn == conn) detach(it->first, false);
  });
}

std::shared_ptr<ClientConn> Core::find(ConnId id) const {
  const std::lock_guard lock(connections_mutex_);
  const auto it = connections_.find(id);
  return it == connections_.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<ClientConn>> Core::connections() const {
  const std::lock_guard lock(connections_mutex_);
  std::vector<std::shared_ptr<ClientConn>> all;
  all.reserve(connections_.size());
  for (const auto& [id, conn] : connections_) all.push_back(conn);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a->id() < b->id(); });
  return all;
}

std::size_t Core::connection_count() const {
  const std::lock_guard lock(connections_mutex_);
  return connections_.size();
}

bool Core::too_many(const net::Remote& remote) const {
  const std::lock_guard lock(connections_mutex_);
  if (config_.connections_max > 0 && connections_.size() >= static_cast<std::size_t>(config_.connections_max))
    return true;
  if (remote.is_unix || config_.connections_per_ip_max == 0) return false;
  const auto it = per_address_.find(remote.address);
  return it != per_address_.end() && it->second >= config_.connections_per_ip_max;
}

Core::Latency Core::latency() const {
  const std::lock_guard lock(latency_mutex_);
  return latency_;
}

// ---------------------------------------------------------------- sessions

// client-protocol.md section 2.2, from rule 3 on.
void Core::connect(std::shared_ptr<ClientConn> conn, wire::ConnectRequest request) {
  if (!executor_.in_this_thread()) {
    executor_.post([this, conn = std::move(conn), request = std::move(request)]() mutable {
      connect(std::move(conn), std::move(request));
    });
    return;
  }
  if (!serving_ || request.last_zxid_seen > tree_->last_applied().wire()) {
    if (serving_) {
      log::info("client", "refused from={}: it has seen zxid 0x{:x}, this replica only 0x{:x}", conn->remote().address,
                request.last_zxid_seen, tree_->last_applied().value);
    }
    conn->close(false);
    return;
  }
  const std::int32_t timeout = std::clamp(request.timeout_ms, config_.min_timeout(), config_.max_timeout());
  if (request.session == 0) {
    connect_new(std::move(conn), timeout);
  } else {
    reconnect(std::move(conn), request, timeout);
  }
  turn_done();
}

void Core::connect_new(std::shared_ptr<ClientConn> conn, std::int32_t timeout_ms) {
  conn->asked_timeout_ms = timeout_ms;
  tree::Request request;
  request.session = new_session_id();
  request.op = wire::Op::kCreateSession;
  wire::Writer writer(request.body);
  writer.i32(timeout_ms);
  writer.i64(request.session.value);
  if (leading()) {
    propose(std::move(request), Source{std::move(conn), {}, 0}, executor_.now_us());
  } else {
    forward_request(std::move(request), std::move(conn));
  }
}

void Core::reconnect(std::shared_ptr<ClientConn> conn, const wire::ConnectRequest& request, std::int32_t timeout_ms) {
  const SessionId session(request.session);
  detach(session, true);  // the older connection goes first, even before the password is looked at
  const std::string expected = password_of(session);
  const bool right = request.password.size() == expected.size() &&
                     CRYPTO_memcmp(request.password.data(), expected.data(), expected.size()) == 0;
  if (!right) {
    session_invalid(conn, session);
    return;
  }
  if (leading()) {
    if (const auto generation = attach_owner(session, timeout_ms, self_)) {
      attach(conn, session, timeout_ms, *generation);
    } else {
      session_invalid(conn, session);
    }
    return;
  }
  const zab::LinkId link = peer_->leader_link();
  if (link.value == 0) {
    conn->close(false);
    return;
  }
  const std::uint64_t id = next_origin_++;
  attaching_.emplace(id, Attaching{std::move(conn), session, timeout_ms});
  pass(link, forward::Attach{id, session, timeout_ms});
}

void Core::session_invalid(const std::shared_ptr<ClientConn>& conn, SessionId session) {
  log::info("client", "session 0x{:x} is not valid any more from={}", static_cast<std::uint64_t>(session.value),
            conn->remote().address);
  conn->refuse_session();
}

// The session's new generation, and its old owner told; nullopt: it does not exist or is being closed.
std::optional<std::uint64_t> Core::attach_owner(SessionId session, std::int32_t timeout_ms, Sid owner) {
  if (closing_.contains(session) || !tree_->session(session)) return std::nullopt;
  const auto move = owners_.attach(session, timeout_ms, owner, now_ms());
  if (!move) return std::nullopt;
  if (owner != self_) detach(session, true);
  if (move->old_owner != owner) {
    if (const auto old = learners_.find(move->old_owner); old != learners_.end()) {
      pass(old->second.link, forward::Moved{session, move->generation});
    }
  }
  return move->generation;
}

void Core::attach(const std::shared_ptr<ClientConn>& conn, SessionId session, std::int32_t timeout_ms,
                  std::uint64_t generation) {
  detach(session, true);
  if (conn->cut_off) return;
  attached_[session] = Attached{conn, timeout_ms, generation, now_ms()};
  if (!conn->accept_session(session, timeout_ms)) {
    detach(session, true);
    return;
  }
  touch_output(conn);
}

// The session goes on without the connection that it has here. `close` it as well, and take nothing from it any more.
void Core::detach(SessionId session, bool close) {
  const auto it = attached_.find(session);
  if (it == attached_.end()) return;
  const Attached old = std::move(it->second);
  attached_.erase(it);
  const std::int64_t heard = old.conn->last_active_ms();
  if (leading()) {
    owners_.released(session, self_, old.generation, heard);
  } else if (serving_) {
    gone_.push_back(forward::Touch{session, old.generation, heard, false});  // made an age when it is sent
  }
  if (close) old.conn->close(false);
}

// Any replica of the ensemble can verify it without asking another: a MAC of the id under the ensemble's secret.
std::string Core::password_of(SessionId session) const {
  char id[8];
  wire::store_be(id, session.value);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  COORD_CHECK(HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
                   reinterpret_cast<unsigned char*>(id), sizeof id, mac, &size) != nullptr);
  return std::string(reinterpret_cast<char*>(mac), wire::kPasswordSize);
}

SessionId Core::new_session_id() {
  for (;;) {
    const SessionId id(static_cast<std::int64_t>(next_session_++));
    if (id.value != 0 && !tree_->session_known_or_prepared(id)) return id;
  }
}

// ---------------------------------------------------------------- time

void Core::tick() {
  const std::int64_t now = now_ms();
  const std::int64_t passed = now - last_tick_ms_;
  const bool timely = passed < kTimelyMs;
  look_at_stall(now);
  pay_snapshots(passed);
  if (serving_ && leading()) {
    look_at_low();
    if (timely) expire_sessions(now);
    look_at_members();
    if (now - last_reap_ms_ >= config_.container_check_ms) {
      last_reap_ms_ = now;
      reap();
    }
  }
  if (serving_ && !leading()) send_table(now, timely);
  if (now - last_disk_ms_ >= kDiskPeriodMs) {
    last_disk_ms_ = now;
    close_idle_handshakes(now);
    look_at_disk();
  }
  // Nothing happened since the last tick: a good moment to fold what little there is. So is each one while the disk is
  // nearly full, whatever happens: deletes make room only then.
  const bool quiet = applied_total_ == applied_at_last_tick_ && in_flight_.empty();
  if ((quiet || refuse_writes_) && tree_->last_applied() > hinted_ && !replacing_tree()) {
    batch_filled_ = true;
    if (tree_->dirty_nodes() > 0) applied_since_fold_ = kFoldAtOnce;
  }
  applied_at_last_tick_ = applied_total_;
  look_at_room();
  step(zab::Tick{now});
  turn_done();
  if (now - last_status_ms_ >= kStatusPeriodMs) {
    last_status_ms_ = now;
    refresh_status();
  }
}

// After a pause of this process (SIGSTOP, a frozen VM) nobody may be blamed for silence: their frames may be waiting in
// the sockets, unread.
void Core::look_at_stall(std::int64_t now) {
  const std::int64_t late = now - last_tick_ms_ - kTickMs;
  last_tick_ms_ = now;
  if (late <= config_.tick_time_ms / 2) return;
  log::warn("core", "this process was stopped for {} ms; sessions get that much longer", late);
  owners_.stalled(late, now);
}

void Core::expire_sessions(std::int64_t now) {
  const auto heard = [this](SessionId session) -> std::optional<std::int64_t> {
    const auto it = attached_.find(session);
    if (it == attached_.end()) return std::nullopt;
    return it->second.conn->last_active_ms();
  };
  const SessionOwners::Due due = owners_.due(now, heard);
  for (const auto& [sid, number] : due.ask) {
    if (const auto learner = learners_.find(sid); learner != learners_.end()) {
      pass(learner->second.link, forward::Ask{number});
    }
  }
  if (due.confirm) confirm_wanted_ = true;
  for (const SessionId session : due.expired) close_session(session);
}

void Core::close_session(SessionId session) {
  if (!closing_.insert(session).second) return;
  log::info("session", "expired session=0x{:x}", static_cast<std::uint64_t>(session.value));
  tree::Request request;
  request.session = session;
  request.op = wire::Op::kCloseSession;
  propose(std::move(request), {}, 0);
}

void Core::close_idle_handshakes(std::int64_t now) {
  for (const auto& conn : connections()) {
    if (!conn->connected() && now - conn->accepted_ms() > kHandshakeLimitMs) conn->close(false);
  }
}

void Core::look_at_disk() {
  if (!environment_.disk_size) return;
  const auto size = environment_.disk_size(config_.data_dir);
  if (!size) return;
  const std::lock_guard<TreeLock> lock(tree_lock_);
  tree_->set_disk(size->bytes, size->free_bytes);
}

void Core::reap() {
  for (tree::Request& request :
       tree_->reap(executor_.wall_ms(), static_cast<std::size_t>(config_.reaped_per_check_max))) {
    propose(std::move(request), {}, 0);
  }
}

// What this replica heard of its clients, for the leader: on its own at every ping interval, and when asked.
void Core::send_table(std::int64_t now, bool timely) {
  if (asked_ != 0 && timely) ++asked_ticks_;
  const bool answers = asked_ != 0 && asked_ticks_ >= kAskedTicks;
  if (!answers && now - last_table_ms_ < std::max<std::int64_t>(config_.peer_tick_ms / 2, 1)) return;
  const zab::LinkId link = peer_->leader_link();
  if (link.value == 0) return;
  last_table_ms_ = now;
  forward::Touched table;
  if (answers) table.answers = std::exchange(asked_, 0);
  table.refuse_writes = refuse_writes_.load();
  table.digests = std::exchange(notes_to_send_, {});
  table.touches = std::exchange(gone_, {});
  for (forward::Touch& gone : table.touches) gone.age_ms = std::max<std::int64_t>(0, now - gone.age_ms);
  for (auto& [session, attached] : attached_) {
    const std::int64_t heard = attached.conn->last_active_ms();
    if (heard <= attached.reported_ms) continue;
    attached.reported_ms = heard;
    table.touches.push_back(
        forward::Touch{session, attached.generation, std::max<std::int64_t>(0, now - heard), true});
  }
  table.feature_level = config_.feature_level_max;
  const bool news = answers || !level_told_ || !table.touches.empty() || !table.digests.empty() ||
                    table.refuse_writes != table_refused_;
  if (!news) return;
  table_refused_ = table.refuse_writes;
  level_told_ = true;
  pass(link, table);
}

}  // namespace coord::runtime
