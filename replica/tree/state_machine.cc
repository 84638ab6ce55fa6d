// The glue: owns the parts and passes calls on. What is decided here is only who is at which connection, what is due
// for reaping, and that the leader need not decode what it encoded itself.
#include "replica/tree/state_machine.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "common/base/check.h"
#include "replica/tree/apply.h"
#include "replica/tree/auth.h"
#include "replica/tree/data_tree.h"
#include "replica/tree/interest.h"
#include "replica/tree/prepare.h"
#include "replica/tree/read_ops.h"
#include "replica/tree/watches.h"

namespace coord::tree {

using wire::Op;

struct StateMachine::Impl {
  explicit Impl(Limits l)
      : limits(std::move(l)),
        interest(wire::kInterestMax),
        preparer(tree, limits),
        reads(tree, watches, interest, limits) {}

  Txn take(Zxid zxid, std::string_view payload);
  Origin origin_of(SessionId session) const;

  const Limits limits;
  DataTree tree;
  Watches watches;
  Interest interest;
  Preparer preparer;
  ReadOps reads;

  std::deque<std::pair<Zxid, Txn>> prepared;  // in order, not yet applied

  mutable std::mutex peers_mutex;
  std::unordered_map<SessionId, Origin> origins;  // by session, its newest connection
  std::unordered_map<ConnId, SessionId> sessions_of;
};

StateMachine::StateMachine(Limits limits) : impl_(std::make_unique<Impl>(std::move(limits))) {}
StateMachine::~StateMachine() = default;

void StateMachine::set_disk(std::int64_t bytes, std::int64_t free_bytes) { impl_->reads.set_disk(bytes, free_bytes); }

bool StateMachine::is_read(Op op) { return ReadOps::is_read(op); }

bool StateMachine::is_write(Op op, std::string_view body) {
  if (op == Op::kCapabilities) {
    wire::Reader r(body);
    return r.i32() > 0;
  }
  // deleteContainer is made by reap() only, and goes to prepare() without being asked for here.
  static constexpr Op kWrites[] = {Op::kCreate,      Op::kDelete,        Op::kSetData,       Op::kSetAcl,
                                   Op::kMulti,       Op::kCreate2,       Op::kReconfig,      Op::kCreateContainer,
                                   Op::kCreateTtl,   Op::kCreateSession, Op::kCloseSession,  Op::kCreateNode,
                                   Op::kSetNodeData, Op::kDeleteNode,    Op::kSetAttributes, Op::kRename,
                                   Op::kFeatureLevel};
  return std::find(std::begin(kWrites), std::end(kWrites), op) != std::end(kWrites);
}

// --- leader

std::string StateMachine::prepare(const Request& request, Zxid zxid, TimeMs now, bool writes_refused) {
  COORD_CHECK_MSG(zxid > last_applied() && (impl_->prepared.empty() || zxid > impl_->prepared.back().first),
                  "transactions are prepared out of order");
  Txn txn = impl_->preparer.prepare(request, zxid, now, writes_refused);
  std::string payload;
  encode(txn, payload);
  impl_->prepared.emplace_back(zxid, std::move(txn));
  return payload;
}

void StateMachine::forget_prepared() {
  impl_->prepared.clear();
  impl_->preparer.clear();
}

// --- every replica

// The decoded transaction: the leader's own, or else from the log.
Txn StateMachine::Impl::take(Zxid zxid, std::string_view payload) {
  if (!prepared.empty() && prepared.front().first == zxid) {
    Txn txn = std::move(prepared.front().second);
    prepared.pop_front();
    return txn;
  }
  COORD_CHECK_MSG(prepared.empty() || prepared.front().first > zxid, "a prepared transaction was passed over");
  std::optional<Txn> txn = decode(payload);
  COORD_CHECK_MSG(txn.has_value(), "a transaction in the log cannot be decoded");
  return *std::move(txn);
}

Origin StateMachine::Impl::origin_of(SessionId session) const {
  const std::lock_guard lock(peers_mutex);
  const auto at = origins.find(session);
  return at == origins.end() ? Origin() : at->second;
}

Applied StateMachine::apply(Zxid zxid, std::string_view payload, bool want_reply, Sink& sink) {
  Txn txn = impl_->take(zxid, payload);
  // Only these two operations ask who is there.
  const bool asks = txn.op == Op::kCreateNode || txn.op == Op::kCapabilities;
  const Origin origin = asks ? impl_->origin_of(txn.session) : Origin();
  Application application(impl_->tree, impl_->watches, impl_->interest, impl_->limits, sink, zxid);
  Applied out = application.run(std::move(txn), want_reply, origin);
  impl_->preparer.applied(zxid);
  return out;
}

Zxid StateMachine::last_applied() const { return impl_->tree.last_applied(); }

// --- reads and connections

Err StateMachine::read(const Peer& peer, Op op, std::string_view body, std::string& out,
                       const std::function<void(WatchType, std::string_view path)>& early) {
  return impl_->reads.read(peer, op, body, out, early);
}

Err StateMachine::authenticate(std::string_view scheme, std::string_view credential, std::vector<AuthId>& ids) const {
  return tree::authenticate(scheme, credential, impl_->limits.super_digest, ids);
}

void StateMachine::connection_opened(const Peer& peer) {
  {
    const std::lock_guard lock(impl_->peers_mutex);
    impl_->origins[peer.session] = Origin{peer.conn, peer.trusted, peer.credentials.uid, peer.credentials.gid};
    impl_->sessions_of[peer.conn] = peer.session;
  }
  impl_->watches.connection_opened(peer.conn, peer.ids);
  impl_->interest.connection_opened(peer.conn);
}

void StateMachine::connection_closed(ConnId conn) {
  {
    const std::lock_guard lock(impl_->peers_mutex);
    const auto at = impl_->sessions_of.find(conn);
    if (at != impl_->sessions_of.end()) {
      const auto origin = impl_->origins.find(at->second);
      if (origin != impl_->origins.end() && origin->second.conn == conn) impl_->origins.erase(origin);
      impl_->sessions_of.erase(at);
    }
  }
  impl_->watches.connection_closed(conn);
  impl_->interest.connection_closed(conn);
}

// --- sessions

std::optional<SessionInfo> StateMachine::session(SessionId id) const {
  const Session* session = impl_->tree.session(id);
  if (session == nullptr) return std::nullopt;
  return SessionInfo{id, session->timeout_ms};
}

std::vector<SessionInfo> StateMachine::sessions() const {
  std::vector<SessionInfo> out;
  out.reserve(impl_->tree.sessions().size());
  for (const auto& [id, session] : impl_->tree.sessions()) out.push_back({id, session.timeout_ms});
  std::sort(out.begin(), out.end(), [](const SessionInfo& a, const SessionInfo& b) { return a.id < b.id; });
  return out;
}

bool StateMachine::session_known_or_prepared(SessionId id) const { return impl_->preparer.session_known(id); }

// --- reaping

std::vector<Request> StateMachine::reap(TimeMs now, std::size_t max) const {
  std::vector<Request> out;
  const DataTree& tree = impl_->tree;
  const std::int64_t never_used_ms = impl_->limits.container_never_used_ms;
  const auto add = [&](const Node& node) {
    Request request;
    request.op = Op::kDeleteContainer;
    wire::Writer w(request.body);
    w.buffer(std::string_view(tree.nodes().path_of(node)));
    out.push_back(std::move(request));
  };
  for (const NodeId id : tree.containers()) {
    if (out.size() >= max) return out;
    const Node& node = *tree.nodes().find(id);
    const bool unused = node.creates == 0 && never_used_ms > 0 && age_ms(now, node.mtime) > never_used_ms;
    if (node.num_children == 0 && (node.creates > 0 || unused)) add(node);
  }
  for (const NodeId id : tree.ttl_nodes()) {
    if (out.size() >= max) return out;
    const Node& node = *tree.nodes().find(id);
    if (node.num_children == 0 && age_ms(now, node.mtime) > node.owner_or_ttl) add(node);
  }
  return out;
}

// --- store

const std::map<Sid, std::string>& StateMachine::enrolled() const { return impl_->tree.enrolled(); }
const std::vector<Member>& StateMachine::members() const { return impl_->tree.members(); }
Zxid StateMachine::members_version() const { return impl_->tree.members_version(); }
std::int32_t StateMachine::feature_level() const { return impl_->tree.feature_level(); }
void StateMachine::set_electorate(Electorate electorate) { impl_->preparer.set_electorate(std::move(electorate)); }

std::size_t StateMachine::dirty_nodes() const { return impl_->tree.dirty_nodes(); }
std::size_t StateMachine::dirty_bytes() const { return impl_->tree.dirty_bytes(); }

Fold StateMachine::take_fold() {
  Fold fold;
  impl_->tree.take_fold(fold);
  return fold;
}

Result<bool, Fault> StateMachine::load_node(NodeId id, std::string_view record) {
  return impl_->tree.load_node(id, record);
}
Result<bool, Fault> StateMachine::load_session(SessionId id, std::string_view record) {
  return impl_->tree.load_session(id, record);
}
Result<bool, Fault> StateMachine::load_counters(std::string_view record) {
  return impl_->tree.load_counters(record, impl_->limits.feature_level_known);
}
Result<bool, Fault> StateMachine::finish_load(Zxid tree_durable) { return impl_->tree.finish_load(tree_durable); }

// --- facts

std::size_t StateMachine::node_count() const { return impl_->tree.nodes().size() + 1; }
std::size_t StateMachine::ephemeral_count() const { return impl_->tree.ephemeral_count(); }
std::size_t StateMachine::watch_count() const { return impl_->watches.count(); }
std::size_t StateMachine::data_bytes() const { return impl_->tree.data_bytes(); }
std::uint64_t StateMachine::digest() const { return impl_->tree.digest(); }

}  // namespace coord::tree
