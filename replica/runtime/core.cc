#include "replica/runtime/core.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"

namespace coord::runtime {
namespace {

constexpr auto kTick = std::chrono::milliseconds(50);
constexpr std::int64_t kHandshakeLimitMs = 10'000;  // nio.sessionlessCnxnTimeout
constexpr std::int64_t kDiskPeriodMs = 1000;
constexpr std::size_t kApplyChunk = 64;             // transactions applied in one hold of the tree lock

// A fold goes into a batch when so much has changed; smaller amounts wait for an idle moment.
constexpr std::size_t kFoldNodes = 256;
constexpr std::size_t kFoldBytes = 1u << 20;
constexpr std::uint64_t kFoldTxns = 10'000;

std::int64_t wall_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

std::int64_t now_us() {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

tree::Limits limits_of(const Config& config) {
  tree::Limits limits;
  limits.min_session_timeout_ms = config.min_timeout();
  limits.max_session_timeout_ms = config.max_timeout();
  limits.skip_acl = config.skip_acl;
  limits.enforce_quota = config.enforce_quota;
  limits.extended_types = config.extended_types;
  limits.super_digest = config.super_digest;
  limits.container_never_used_ms = config.container_never_used_ms;
  return limits;
}

zab::Config zab_config(const Config& config) {
  zab::Config zab;
  zab.self = Sid(config.server_id);
  zab.voters = zab::Quorum({Sid(config.server_id)});
  zab.counter_max = config.counter_max;
  return zab;
}

zab::DurableState durable_state(const store::Meta& meta) {
  return {meta.epochs.accepted, meta.epochs.current, meta.last_logged, meta.commit_hint};
}

// Replaying the log at start: nobody is connected yet.
class NobodyListens final : public tree::Sink {
  void watch_event(ConnId, WatchType, std::string_view, Zxid) override {}
  void change_event(ConnId, const wire::ChangeEvent&) override {}
  void session_closed(SessionId, Zxid) override {}
};

}  // namespace

TreeLock::TreeLock() {
  pthread_rwlockattr_t attributes;
  pthread_rwlockattr_init(&attributes);
  pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  COORD_CHECK(pthread_rwlock_init(&lock_, &attributes) == 0);
  pthread_rwlockattr_destroy(&attributes);
}
TreeLock::~TreeLock() { pthread_rwlock_destroy(&lock_); }
void TreeLock::lock() { COORD_CHECK(pthread_rwlock_wrlock(&lock_) == 0); }
void TreeLock::unlock() { COORD_CHECK(pthread_rwlock_unlock(&lock_) == 0); }
void TreeLock::lock_shared() { COORD_CHECK(pthread_rwlock_rdlock(&lock_) == 0); }
void TreeLock::unlock_shared() { COORD_CHECK(pthread_rwlock_unlock(&lock_) == 0); }

Core::Core(const Config& config, net::Loop& loop, std::unique_ptr<store::Store> store)
    : config_(config),
      loop_(loop),
      store_(std::move(store)),
      tree_(limits_of(config)),
      peer_(zab_config(config), durable_state(store_->meta())),
      started_ms_(now_ms()),
      epochs_(store_->meta().epochs),
      hinted_(store_->meta().commit_hint),
      folded_(store_->meta().tree_durable),
      expiry_(config.tick_time_ms) {}

Core::~Core() = default;

std::int64_t Core::now_ms() { return now_us() / 1000; }
std::int64_t Core::uptime_ms() const { return now_ms() - started_ms_; }

Result<bool, Fault> Core::load() {
  const store::Meta& meta = store_->meta();
  auto loaded =
      store_->load_tree([this](NodeId id, std::string_view record) { return tree_.load_node(id, record); },
                        [this](SessionId id, std::string_view record) { return tree_.load_session(id, record); },
                        [this](std::string_view record) { return tree_.load_counters(record); });
  if (!loaded) return loaded;
  if (auto linked = tree_.finish_load(meta.tree_durable); !linked) return linked;
  NobodyListens nobody;
  // What is known to be committed is applied now; the rest of the log when the new epoch's quorum has settled it.
  auto read = store_->read_log(meta.tree_durable, [&](store::LogEntry entry) {
    if (entry.zxid <= meta.commit_hint) {
      tree_.apply(entry.zxid, *entry.payload, false, nobody);
    } else {
      outstanding_.push_back(Outstanding{entry.zxid, std::move(entry.payload), nullptr, 0});
    }
  });
  if (!read) return read;
  outstanding_count_ = outstanding_.size();
  log::info("core", "loaded nodes={} sessions={} zxid={} log_behind={} epoch={}", tree_.node_count(),
            tree_.sessions().size(), to_string(tree_.last_applied()), outstanding_.size(), epochs_.current);
  return true;
}

void Core::start(std::function<void()> on_serving) {
  on_serving_ = std::move(on_serving);
  store_->set_on_durable([this](std::uint64_t batch_id) {
    durable_batch_.store(batch_id);
    if (durable_posted_.exchange(true)) return;
    loop_.post([this] {
      durable_posted_ = false;
      durable(durable_batch_.load());
    });
  });
  store_->set_on_space([this](bool refuse) {
    refuse_writes_ = refuse;
    if (refuse) {
      log::error("store", "the disk is nearly full: writes are refused until there is space again dir={}",
                 config_.data_dir);
    } else {
      log::info("store", "there is space again: writes are accepted dir={}", config_.data_dir);
    }
  });
  refuse_writes_ = store_->space().refuse_writes;
  look_at_disk();
  next_session_ = (static_cast<std::uint64_t>(config_.server_id) << 56) |
                  ((static_cast<std::uint64_t>(wall_ms()) << 24) >> 8);
  last_tick_ms_ = last_reap_ms_ = now_ms();
  loop_.every(kTick, [this] { tick(); });
  peer_.step(zab::Start{}, actions_);
  carry_out();
  turn_done();
}

void Core::stop() {
  stopping_ = true;
  serving_ = false;
  for (const auto& conn : connections()) conn->close(true);
}

// ---------------------------------------------------------------- proposals

void Core::submit(std::shared_ptr<ClientConn> conn, std::vector<tree::Request> requests) {
  if (!loop_.in_this_thread()) {
    loop_.post([this, conn = std::move(conn), requests = std::move(requests)]() mutable {
      submit(std::move(conn), std::move(requests));
    });
    return;
  }
  for (tree::Request& request : requests) propose(std::move(request), conn);
  turn_done();
}

void Core::propose(tree::Request request, std::shared_ptr<ClientConn> origin) {
  if (origin && origin->cut_off) return;
  if (!peer_.accepts_proposals() || stopping_) {
    // Between two epochs: clients try again, as with ZooKeeper.
    if (origin) origin->close(false);
    return;
  }
  if (request.op == wire::Op::kCloseSession) closing_.insert(request.session);
  const Zxid zxid = peer_.next_zxid();
  auto payload = std::make_shared<const std::string>(tree_.prepare(request, zxid, wall_ms(), refuse_writes_.load()));
  outstanding_.push_back(Outstanding{zxid, payload, std::move(origin), now_us()});
  outstanding_count_ = outstanding_.size();
  peer_.step(zab::Propose{zxid, std::move(payload)}, actions_);
  carry_out();
}

void Core::carry_out() {
  while (!actions_.empty()) {
    const zab::Actions now = std::exchange(actions_, {});
    for (const zab::Action& action : now) {
      if (const auto* persist = std::get_if<zab::Persist>(&action)) {
        if (persist->accepted_epoch) epochs_.accepted = *persist->accepted_epoch;
        if (persist->current_epoch) epochs_.current = *persist->current_epoch;
        if (persist->accepted_epoch || persist->current_epoch) batch_.epochs = epochs_;
        for (const zab::LogEntry& entry : persist->append) {
          batch_.append.push_back(store::LogEntry{entry.zxid, entry.previous, entry.payload});
        }
        batch_persist_ = persist->id;
        batch_filled_ = true;
      } else if (const auto* committed = std::get_if<zab::Commit>(&action)) {
        commit(committed->up_to);
      } else {
        const auto& change = std::get<zab::PhaseChanged>(action);
        log::info("zab", "role={} phase={} epoch={} last_logged={}",
                  change.role == zab::Role::kLeading ? "leading" : "looking", static_cast<int>(change.phase),
                  change.epoch, to_string(peer_.last_logged()));
      }
    }
  }
  if (!serving_ && !stopping_ && peer_.accepts_proposals() && outstanding_.empty()) {
    serving_ = true;
    const std::int64_t now = now_ms();
    for (const tree::SessionInfo& session : tree_.sessions()) expiry_.touch(session.id, session.timeout_ms, now);
    if (on_serving_) std::exchange(on_serving_, nullptr)();
  }
}

void Core::commit(Zxid up_to) {
  while (!outstanding_.empty() && outstanding_.front().zxid <= up_to) {
    const std::lock_guard<TreeLock> lock(tree_lock_);
    for (std::size_t n = 0; n < kApplyChunk && !outstanding_.empty() && outstanding_.front().zxid <= up_to; ++n) {
      apply_next();
    }
  }
  outstanding_count_ = outstanding_.size();
}

void Core::apply_next() {
  const Outstanding entry = std::move(outstanding_.front());
  outstanding_.pop_front();
  const tree::Applied applied = tree_.apply(entry.zxid, *entry.payload, entry.origin != nullptr, *this);
  ++applied_since_fold_;
  ++applied_total_;
  finish(applied, entry);
}

void Core::finish(const tree::Applied& applied, const Outstanding& entry) {
  if (entry.origin) {
    const auto took = static_cast<std::uint64_t>(std::max<std::int64_t>(0, now_us() - entry.since_us));
    const std::lock_guard lock(latency_mutex_);
    latency_.min_us = latency_.count == 0 ? took : std::min(latency_.min_us, took);
    latency_.max_us = std::max(latency_.max_us, took);
    latency_.total_us += took;
    ++latency_.count;
  }
  if (applied.op == wire::Op::kCreateSession) {
    if (entry.origin && applied.err == Err::kOk) {
      const auto session = tree_.session(applied.session);
      COORD_CHECK(session.has_value());
      attach(entry.origin, applied.session, session->timeout_ms);
    } else if (entry.origin) {
      entry.origin->close(false);
    } else if (const auto session = tree_.session(applied.session); session && serving_) {
      expiry_.touch(session->id, session->timeout_ms, now_ms());
    }
  } else if (entry.origin) {
    entry.origin->complete(applied, entry.zxid);
    touch_output(entry.origin);
  }
  if (applied.op == wire::Op::kCloseSession) closing_.erase(applied.session);
  if (!ended_.empty()) end_sessions(entry.origin);
}

// The connections of sessions that ended are closed without a message, but for the one that asked for it.
void Core::end_sessions(const std::shared_ptr<ClientConn>& origin) {
  for (const SessionId session : std::exchange(ended_, {})) {
    expiry_.remove(session);
    const auto it = attached_.find(session);
    if (it == attached_.end()) continue;
    if (it->second.conn != origin) it->second.conn->close(false);
    attached_.erase(it);
  }
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

// ---------------------------------------------------------------- storage

bool Core::fold_due() const {
  return tree_.dirty_nodes() >= kFoldNodes || tree_.dirty_bytes() >= kFoldBytes || applied_since_fold_ >= kFoldTxns;
}

void Core::turn_done() {
  if (fold_due()) batch_filled_ = true;
  if (batch_filled_) send_batch();
  flush_touched();
}

void Core::send_batch() {
  batch_.id = next_batch_id_++;
  const Zxid applied = tree_.last_applied();
  if (applied > hinted_) {
    batch_.commit_hint = applied;
    hinted_ = applied;
  }
  if (fold_due() && applied > folded_) {
    const std::lock_guard<TreeLock> lock(tree_lock_);
    tree::Fold fold = tree_.take_fold();
    folded_ = fold.tree_durable;
    batch_.fold = store::FoldRecord{fold.tree_durable, std::move(fold.nodes), std::move(fold.sessions),
                                    std::move(fold.counters)};
    applied_since_fold_ = 0;
  }
  in_flight_.push_back(InFlight{batch_.id, std::exchange(batch_persist_, 0)});
  batch_filled_ = false;
  store_->submit(std::exchange(batch_, {}));
}

void Core::durable(std::uint64_t batch_id) {
  while (!in_flight_.empty() && in_flight_.front().batch_id <= batch_id) {
    const InFlight done = in_flight_.front();
    in_flight_.pop_front();
    if (done.persist_id != 0) peer_.step(zab::Persisted{done.persist_id}, actions_);
  }
  carry_out();
  turn_done();
}

// ---------------------------------------------------------------- connections and sessions

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
  loop_.post([this, conn = std::move(conn)] {
    {
      const std::lock_guard<TreeLock> lock(tree_lock_);
      tree_.connection_closed(conn->id());
    }
    const auto it = attached_.find(conn->session());
    if (it == attached_.end() || it->second.conn != conn) return;
    if (!closing_.contains(it->first) && tree_.session(it->first)) {
      expiry_.touch(it->first, it->second.timeout_ms, conn->last_active_ms());
    }
    attached_.erase(it);
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

// client-protocol.md section 2.2, from rule 3 on.
void Core::connect(std::shared_ptr<ClientConn> conn, wire::ConnectRequest request) {
  if (!loop_.in_this_thread()) {
    loop_.post([this, conn = std::move(conn), request = std::move(request)]() mutable {
      connect(std::move(conn), std::move(request));
    });
    return;
  }
  if (!serving_ || request.last_zxid_seen > tree_.last_applied().wire()) {
    if (serving_) {
      log::info("client", "refused from={}: it has seen zxid 0x{:x}, this replica only 0x{:x}", conn->remote().address,
                request.last_zxid_seen, tree_.last_applied().value);
    }
    conn->close(false);
    return;
  }
  const std::int32_t timeout = std::clamp(request.timeout_ms, config_.min_timeout(), config_.max_timeout());
  if (request.session == 0) {
    connect_new(std::move(conn), request, timeout);
  } else {
    reconnect(std::move(conn), request, timeout);
  }
  turn_done();
}

void Core::connect_new(std::shared_ptr<ClientConn> conn, const wire::ConnectRequest&, std::int32_t timeout_ms) {
  tree::Request request;
  request.session = new_session_id();
  request.op = wire::Op::kCreateSession;
  wire::Writer writer(request.body);
  writer.i32(timeout_ms);
  writer.i64(request.session.value);
  propose(std::move(request), std::move(conn));
}

void Core::reconnect(std::shared_ptr<ClientConn> conn, const wire::ConnectRequest& request, std::int32_t timeout_ms) {
  const SessionId session(request.session);
  // The older connection goes first, even before the password is looked at.
  const auto old = attached_.find(session);
  if (old != attached_.end()) {
    expiry_.touch(session, old->second.timeout_ms, old->second.conn->last_active_ms());
    old->second.conn->close(false);
    attached_.erase(old);
  }
  const std::string expected = password_of(session);
  const bool right = request.password.size() == expected.size() &&
                     CRYPTO_memcmp(request.password.data(), expected.data(), expected.size()) == 0;
  if (!right || closing_.contains(session) || !tree_.session(session)) {
    log::info("client", "session 0x{:x} is not valid any more from={}", static_cast<std::uint64_t>(session.value),
              conn->remote().address);
    conn->refuse_session();
    return;
  }
  attach(conn, session, timeout_ms);
}

void Core::attach(const std::shared_ptr<ClientConn>& conn, SessionId session, std::int32_t timeout_ms) {
  attached_[session] = Attached{conn, timeout_ms};
  expiry_.touch(session, timeout_ms, now_ms());
  conn->accept_session(session, timeout_ms);
  touch_output(conn);
}

// Any replica of the ensemble can verify it without asking another: a MAC of the id under the ensemble's secret.
std::string Core::password_of(SessionId session) const {
  char id[8];
  wire::store_be(id, session.value);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  const std::string& key = store_->meta().secret;
  COORD_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<unsigned char*>(id),
                   sizeof id, mac, &size) != nullptr);
  return std::string(reinterpret_cast<char*>(mac), wire::kPasswordSize);
}

SessionId Core::new_session_id() {
  for (;;) {
    const SessionId id(static_cast<std::int64_t>(next_session_++));
    if (id.value != 0 && !tree_.session_known_or_prepared(id)) return id;
  }
}

// ---------------------------------------------------------------- time

void Core::tick() {
  const std::int64_t now = now_ms();
  // After a pause of this process (SIGSTOP, a frozen VM) nobody may be blamed for silence: their frames may be waiting
  // in the sockets, unread.
  const std::int64_t late = now - last_tick_ms_ - kTick.count();
  last_tick_ms_ = now;
  if (late > config_.tick_time_ms / 2) {
    log::warn("core", "this process was stopped for {} ms; sessions get that much longer", late);
    expiry_.extend_all(late);
  } else {
    expire_sessions(now);
  }
  if (now - last_disk_ms_ >= kDiskPeriodMs) {
    last_disk_ms_ = now;
    close_idle_handshakes(now);
    look_at_disk();
  }
  if (now - last_reap_ms_ >= config_.container_check_ms) {
    last_reap_ms_ = now;
    reap();
  }
  // Nothing happened since the last tick: a good moment to fold what little there is.
  if (applied_total_ == applied_at_last_tick_ && in_flight_.empty() && tree_.last_applied() > hinted_) {
    batch_filled_ = true;
    if (tree_.dirty_nodes() > 0) applied_since_fold_ = kFoldTxns;
  }
  applied_at_last_tick_ = applied_total_;
  peer_.step(zab::Tick{now}, actions_);
  carry_out();
  turn_done();
}

void Core::expire_sessions(std::int64_t now) {
  // Between two epochs nothing can be proposed, and each session is reported once only.
  if (!serving_ || !peer_.accepts_proposals()) return;
  for (const SessionId session : expiry_.expired(now)) {
    // Requests do not touch the tracker, they only note the time; so look before believing.
    const auto it = attached_.find(session);
    if (it != attached_.end()) {
      const std::int64_t seen = it->second.conn->last_active_ms();
      if (seen + it->second.timeout_ms > now) {
        expiry_.touch(session, it->second.timeout_ms, seen);
        continue;
      }
    }
    close_session(session);
  }
}

void Core::close_session(SessionId session) {
  if (closing_.contains(session)) return;
  if (!peer_.accepts_proposals()) {  // the epoch has just become full: a moment later
    expiry_.touch(session, 1, now_ms());
    return;
  }
  log::info("session", "expired session=0x{:x}", static_cast<std::uint64_t>(session.value));
  tree::Request request;
  request.session = session;
  request.op = wire::Op::kCloseSession;
  propose(std::move(request), nullptr);
}

void Core::close_idle_handshakes(std::int64_t now) {
  for (const auto& conn : connections()) {
    if (!conn->connected() && now - conn->accepted_ms() > kHandshakeLimitMs) conn->close(false);
  }
}

void Core::look_at_disk() {
  struct statvfs disk {};
  if (::statvfs(config_.data_dir.c_str(), &disk) != 0) return;
  const auto unit = static_cast<std::int64_t>(disk.f_frsize);
  const std::lock_guard<TreeLock> lock(tree_lock_);
  tree_.set_disk(static_cast<std::int64_t>(disk.f_blocks) * unit, static_cast<std::int64_t>(disk.f_bavail) * unit);
}

void Core::reap() {
  if (!serving_) return;
  for (tree::Request& request : tree_.reap(wall_ms(), static_cast<std::size_t>(config_.reaped_per_check_max))) {
    propose(std::move(request), nullptr);
  }
}

}  // namespace coord::runtime
