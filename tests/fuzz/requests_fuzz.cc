// A stream of requests through two replicas: a leader that prepares and applies what it prepared, some requests ahead,
// and a follower that applies what travels, the encoded transactions. Both must answer the same and be the same; and
// from time to time the follower is thrown away and loaded again from what the folds have put into the store.
//
// A request is raw (an op and a body of any bytes), or put together from a small vocabulary of names, ids and versions,
// so that requests meet each other's nodes.
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "replica/tree/state_machine.h"
#include "tests/fuzz/request_builder.h"

namespace coord::tree {
namespace {

using fuzz::Input;
using wire::Op;

constexpr int kStepsMax = 400;

class NoSink : public Sink {
 public:
  void watch_event(ConnId, WatchType, std::string_view path, Zxid) override {
    COORD_CHECK_MSG(path.starts_with('/'), "a watch event without a path");
  }
  // Every event must be one that a mount can decode.
  void change_event(ConnId, const wire::ChangeEvent& event) override {
    std::string bytes;
    wire::Writer w(bytes);
    wire::write(w, event);
    wire::Reader r(bytes);
    wire::ChangeEvent again;
    wire::read(r, again);
    COORD_CHECK_MSG(!r.failed() && r.remaining() == 0, "a change event that does not decode");
  }
  void session_closed(SessionId, Zxid) override {}
};

// What the store holds.
struct Records {
  void add(Fold fold) {
    for (auto& [id, record] : fold.nodes) put(nodes, id, std::move(record));
    for (auto& [id, record] : fold.sessions) put(sessions, id, std::move(record));
    counters = std::move(fold.counters);
    tree_durable = fold.tree_durable;
  }
  template <class Map, class Key>
  static void put(Map& map, Key id, std::optional<std::string> record) {
    if (record) {
      map[id] = *std::move(record);
    } else {
      map.erase(id);
    }
  }
  std::unique_ptr<StateMachine> load(const Limits& limits) const {
    auto machine = std::make_unique<StateMachine>(limits);
    for (const auto& [id, record] : nodes) check(machine->load_node(id, record));
    for (const auto& [id, record] : sessions) check(machine->load_session(id, record));
    if (!counters.empty()) check(machine->load_counters(counters));
    check(machine->finish_load(tree_durable));
    return machine;
  }
  static void check(const Result<bool, Fault>& result) {
    COORD_CHECK_MSG(result.has_value(), result.has_value() ? "" : result.error().message.c_str());
  }

  std::map<NodeId, std::string> nodes;
  std::map<SessionId, std::string> sessions;
  std::string counters;
  Zxid tree_durable;
};

class Ensemble {
 public:
  explicit Ensemble(Input& in) : in_(in), limits_(limits_from(in)) {
    leader_ = std::make_unique<StateMachine>(limits_);
    follower_ = std::make_unique<StateMachine>(limits_);
    for (std::int64_t session : fuzz::kSessions) {
      peers_.push_back(fuzz::peer_of(session));
      leader_->connection_opened(peers_.back());
      follower_->connection_opened(peers_.back());
    }
    for (const std::int64_t session : fuzz::kSessions) prepare(fuzz::session_request(session));
    const std::uint8_t start = in.byte();
    if ((start & 3) != 0) populate((start & 2) != 0);
    apply_all();
  }

  void run() {
    for (int n = 0; n < kStepsMax && !in_.empty(); ++n) step();
    apply_all();
    compare();
    reload();
    compare();
  }

 private:
  // Something to begin with: a directory, files in it, one with null data; quotas.
  void populate(bool quotas) {
    for (const std::string_view path : {"/a", "/b"}) prepare(fuzz::create_request(path, std::nullopt));  // ids 16, 17
    for (const std::string_view path : {"/a/a", "/a/b", "/b/c", "/c"}) prepare(fuzz::create_request(path, "data"));
    if (!quotas) return;
    prepare(fuzz::create_request("/zookeeper/quota/a", ""));
    prepare(fuzz::create_request("/zookeeper/quota/a/zookeeper_limits", "count=4,bytes=20,countHardLimit=6"));
    prepare(fuzz::create_request("/zookeeper/quota/a/zookeeper_stats", "count=0,bytes=0"));
  }

  static Limits limits_from(Input& in) {
    const std::uint8_t bits = in.byte();
    Limits limits;
    limits.skip_acl = (bits & 1) != 0;
    limits.enforce_quota = (bits & 2) != 0;
    limits.extended_types = (bits & 4) == 0;
    limits.container_never_used_ms = (bits & 8) != 0 ? 5000 : 0;
    return limits;
  }

  void step() {
    const std::uint8_t kind = in_.byte();
    now_ += kind % 7;
    if (kind < 150) return request(fuzz::build_request(in_), (kind & 1) != 0);
    if (kind < 190) return request(fuzz::raw_request(in_), (kind & 1) != 0);
    if (kind < 210) return apply_all();
    if (kind < 220) return apply_one();
    if (kind < 228) return reap();
    if (kind < 232) return forget();
    if (kind < 236) return reconnect();
    if (kind < 240) now_ += in_.integer<std::uint32_t>();
    if (kind < 250) return compare();
    apply_all();
    reload();
  }

  void request(const Request& request, bool at_once) {
    if (StateMachine::is_write(request.op, request.body)) {
      prepare(request);
      if (at_once) apply_all();
    } else if (StateMachine::is_read(request.op)) {
      read(request);
    } else {
      prepare(request);  // nothing a client can send comes here; it must be refused all the same
    }
  }

  void prepare(const Request& request) {
    ++zxid_;
    const bool refuse_writes = (in_.byte() & 31) == 31;
    std::string payload = leader_->prepare(request, Zxid(zxid_), now_, refuse_writes);
    prepared_.emplace_back(Zxid(zxid_), std::move(payload));
  }

  void apply_one() {
    if (prepared_.empty()) return;
    const auto [zxid, payload] = std::move(prepared_.front());
    prepared_.pop_front();
    const Applied mine = leader_->apply(zxid, payload, true, sink_);
    const Applied theirs = follower_->apply(zxid, payload, true, sink_);
    check_code(mine.op, mine.err);
    COORD_CHECK_MSG(mine.err == theirs.err && mine.body == theirs.body, "leader and follower answer differently");
    COORD_CHECK_MSG(mine.session == theirs.session && mine.xid == theirs.xid && mine.op == theirs.op,
                    "another request");
    COORD_CHECK_MSG(mine.err == Err::kOk || mine.body.empty(), "an error with a body");
    COORD_CHECK_MSG(leader_->digest() == follower_->digest(), "leader and follower differ");
  }

  void apply_all() {
    while (!prepared_.empty()) apply_one();
  }

  void read(const Request& request) {
    const Peer& peer = *std::find_if(peers_.begin(), peers_.end(), [&](const Peer& p) {
      return p.session == request.session || &p == &peers_.back();
    });
    std::string mine;
    std::string theirs;
    const auto early = [](WatchType, std::string_view) {};
    const Err err = leader_->read(peer, request.op, request.body, mine, early);
    check_code(request.op, err);
    COORD_CHECK_MSG(err == Err::kOk || mine.empty(), "an error with a body");
    const Err other = follower_->read(peer, request.op, request.body, theirs, early);
    // Watches differ once a follower was loaded again, so what asks about them may.
    if (request.op == Op::kRemoveWatches || request.op == Op::kCheckWatches) return;
    // Children come in no order, and after a restart in another one.
    if (request.op == Op::kGetChildren || request.op == Op::kGetChildren2 || request.op == Op::kMultiRead) {
      std::sort(mine.begin(), mine.end());
      std::sort(theirs.begin(), theirs.end());
    }
    COORD_CHECK_MSG(err == other && mine == theirs, "two replicas read differently");
  }

  static void check_code(Op op, Err err) {
    COORD_CHECK_MSG(is_known_code(static_cast<std::int32_t>(err)), "a code that nobody knows");
    const bool extension = static_cast<std::int32_t>(op) >= static_cast<std::int32_t>(Op::kCapabilities);
    COORD_CHECK_MSG(extension || stock_code(err) == err, "a code of ours for a stock operation");
  }

  void reap() {
    apply_all();
    for (const Request& request : leader_->reap(now_, 10)) prepare(request);
  }

  // The leader lost its office, with what it had prepared.
  void forget() {
    leader_->forget_prepared();
    prepared_.clear();
  }

  void reconnect() {
    const Peer& peer = peers_[in_.below(peers_.size())];
    for (StateMachine* machine : {leader_.get(), follower_.get()}) {
      machine->connection_closed(peer.conn);
      machine->connection_opened(peer);
    }
  }

  void compare() const {
    COORD_CHECK(leader_->digest() == follower_->digest());
    COORD_CHECK(leader_->node_count() == follower_->node_count());
    COORD_CHECK(leader_->ephemeral_count() == follower_->ephemeral_count());
    COORD_CHECK(leader_->data_bytes() == follower_->data_bytes());
    COORD_CHECK(leader_->last_applied() == follower_->last_applied());
  }

  // The follower restarts from its store.
  void reload() {
    records_.add(follower_->take_fold());
    follower_ = records_.load(limits_);
    COORD_CHECK_MSG(follower_->digest() == leader_->digest(), "what was folded and loaded differs");
    COORD_CHECK_MSG(follower_->dirty_nodes() == 0, "a tree that was just loaded has changed");
    for (const Peer& peer : peers_) follower_->connection_opened(peer);
  }

  Input& in_;
  const Limits limits_;
  NoSink sink_;
  std::unique_ptr<StateMachine> leader_;
  std::unique_ptr<StateMachine> follower_;
  std::vector<Peer> peers_;
  std::deque<std::pair<Zxid, std::string>> prepared_;
  Records records_;
  std::uint64_t zxid_ = 0x100000000;
  TimeMs now_ = 1'700'000'000'000;
};

}  // namespace
}  // namespace coord::tree

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  coord::fuzz::Input input(data, size);
  coord::tree::Ensemble(input).run();
  return 0;
}
