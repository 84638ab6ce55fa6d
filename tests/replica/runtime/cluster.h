// Several Cores in one thread: virtual time, links and client streams in memory, MemoryStore. Everything is
// deterministic, so a timeout of half a minute takes no time and nothing has to be waited for.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/wire/protocol.h"
#include "replica/net/executor.h"
#include "replica/net/stream.h"
#include "replica/peers/links.h"
#include "replica/runtime/client_conn.h"
#include "replica/runtime/core.h"
#include "replica/store/memory_store.h"

namespace coord::runtime::testing {

class Clock {
 public:
  std::int64_t now_us() const { return now_us_; }
  std::int64_t now_ms() const { return now_us_ / 1000; }
  void at(std::int64_t when_us, std::function<void()> work) {
    events_.emplace(std::pair(std::max(when_us, now_us_), next_++), std::move(work));
  }
  void after(std::int64_t delay_us, std::function<void()> work) { at(now_us_ + delay_us, std::move(work)); }
  // Somebody looks: work takes time, when a test says so.
  std::int64_t look_us() { return now_us_ += look_costs_us; }
  std::int64_t look_costs_us = 0;
  void step() {
    auto event = events_.extract(events_.begin());
    now_us_ = std::max(now_us_, event.key().first);
    event.mapped()();
  }
  void run_for(std::int64_t ms) {
    const std::int64_t end = now_us_ + ms * 1000;
    while (!events_.empty() && events_.begin()->first.first <= end) step();
    now_us_ = std::max(now_us_, end);
  }
  bool run_until(const std::function<bool()>& done, std::int64_t limit_ms = 30'000) {
    const std::int64_t end = now_us_ + limit_ms * 1000;
    while (!done()) {
      if (events_.empty() || events_.begin()->first.first > end) return false;
      step();
    }
    return true;
  }

 private:
  std::int64_t now_us_ = 1'000'000'000;
  std::uint64_t next_ = 0;
  std::map<std::pair<std::int64_t, std::uint64_t>, std::function<void()>> events_;
};

class NodeExecutor final : public net::Executor {
 public:
  explicit NodeExecutor(Clock& clock) : clock_(clock) {}
  ~NodeExecutor() override { kill(); }
  void kill() { *alive_ = false; }
  void post(std::function<void()> work) override { later(1, std::move(work)); }
  void dispatch(std::function<void()> work) override { work(); }
  bool in_this_thread() const override { return true; }
  void every(std::chrono::milliseconds period, std::function<void()> work) override {
    auto shared = std::make_shared<std::function<void()>>(std::move(work));
    arm(period.count() * 1000, shared);
  }
  std::int64_t now_us() const override { return clock_.look_us(); }
  std::int64_t wall_ms() const override { return 1'700'000'000'000 + clock_.now_ms(); }
  void later(std::int64_t delay_us, std::function<void()> work) {
    clock_.after(delay_us, [alive = alive_, work = std::move(work)] {
      if (*alive) work();
    });
  }

 private:
  void arm(std::int64_t period_us, std::shared_ptr<std::function<void()>> work) {
    later(period_us, [this, period_us, work] {
      (*work)();
      arm(period_us, work);
    });
  }
  Clock& clock_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// Connections between the nodes: ordered, 500 us each way, cut or not.
class Hub {
 public:
  class NodeLinks final : public peers::Links {
   public:
    NodeLinks(Hub& hub, Sid self) : hub_(hub), self_(self) {}
    ~NodeLinks() override { hub_.gone(self_); }
    void start(peers::LinksUser& user) override {
      user_ = &user;
      hub_.nodes_[self_] = this;
    }
    void stop() override { hub_.gone(self_); }
    void dial_learner(std::uint64_t number, Sid leader) override { hub_.dial(self_, number, leader); }
    bool send(zab::LinkId link, const zab::Message& message) override { return hub_.send(self_, link, message); }
    void flush() override {}
    void close(zab::LinkId link, const std::string&) override { hub_.close(self_, link); }
    std::size_t queued_bytes(zab::LinkId) const override { return 0; }
    void set_cluster_id(const std::string&) override {}
    void set_members(Zxid, std::map<Sid, peers::PeerAddress>) override {}
    void set_candidates(std::map<Sid, peers::PeerAddress>) override {}
    void set_feature_level(int) override {}

   private:
    friend class Hub;
    Hub& hub_;
    const Sid self_;
    peers::LinksUser* user_ = nullptr;
  };

  // Links to this one have enough after each piece of a snapshot, until they are freed.
  void choke(Sid peer) { choked_.insert(peer); }
  void free(Sid peer) {
    choked_.erase(peer);
    for (const auto& [self, link] : std::exchange(full_links_, {})) {
      tell(link, [link = link](peers::LinksUser& user) { user.writable(link); });
    }
  }
  std::size_t pieces_to_full_links() const { return full_links_.size(); }
  explicit Hub(Clock& clock) : clock_(clock) { redial(); }
  // Nothing passes between these two; what was on its way is lost, and so are their connections once they notice.
  void cut(Sid a, Sid b, bool cut) {
    if (cut) {
      cut_.insert(std::minmax(a, b));
      return;
    }
    cut_.erase(std::minmax(a, b));
    std::vector<std::pair<Sid, zab::LinkId>> broken;
    for (const auto& [id, link] : links_) {
      if (link.lost && std::minmax(link.self, link.peer) == std::minmax(a, b)) broken.emplace_back(link.self, id);
    }
    for (const auto& [self, id] : broken) {
      if (links_.contains(id)) drop(id);
    }
  }

 private:
  struct Link {
    Sid self, peer;
    zab::LinkId other;
    zab::Channel channel = zab::Channel::kElection;
    bool lost = false;
  };
  bool reachable(Sid a, Sid b) const {
    return nodes_.contains(a) && nodes_.contains(b) && !cut_.contains(std::minmax(a, b));
  }
  void redial() {
    clock_.after(20'000, [this] { redial(); });
    std::vector<Sid> up;
    for (const auto& [sid, node] : nodes_) up.push_back(sid);
    for (const Sid a : up) {
      for (const Sid b : up) {
        if (!(a < b) || !reachable(a, b)) continue;
        const bool linked = std::any_of(links_.begin(), links_.end(), [&](const auto& entry) {
          return entry.second.channel == zab::Channel::kElection &&
                 std::minmax(entry.second.self, entry.second.peer) == std::minmax(a, b);
        });
        if (!linked) join(a, b, zab::Channel::kElection);
      }
    }
  }
  void join(Sid a, Sid b, zab::Channel channel) {
    const zab::LinkId here(next_link_++), there(next_link_++);
    links_[here] = {a, b, there, channel, false};
    links_[there] = {b, a, here, channel, false};
    tell(here, [=](peers::LinksUser& user) { user.link_up(here, channel, b, true); });
    tell(there, [=](peers::LinksUser& user) { user.link_up(there, channel, a, false); });
  }
  void tell(zab::LinkId link, std::function<void(peers::LinksUser&)> what) {
    clock_.after(500, [this, link, what = std::move(what)] {
      const auto at = links_.find(link);
      if (at == links_.end()) return;
      const auto node = nodes_.find(at->second.self);
      if (node != nodes_.end()) what(*node->second->user_);
    });
  }
  void dial(Sid self, std::uint64_t number, Sid leader) {
    clock_.after(500, [this, self, number, leader] {
      const auto node = nodes_.find(self);
      if (node == nodes_.end()) return;
      if (reachable(self, leader)) {
        join(self, leader, zab::Channel::kLearner);
      } else {
        node->second->user_->dial_failed(number, leader, "unreachable");
      }
    });
  }
  bool send(Sid self, zab::LinkId id, const zab::Message& message) {
    const auto at = links_.find(id);
    if (at == links_.end()) return true;
    EXPECT_EQ(at->second.self, self);
    if (at->second.lost || !reachable(self, at->second.peer)) {
      at->second.lost = true;
      return true;
    }
    ++messages;
    const bool enough = choked_.contains(at->second.peer) && std::holds_alternative<zab::SnapshotChunk>(message);
    if (enough) full_links_.push_back({self, id});
    const zab::LinkId there = at->second.other;
    tell(there, [there, message](peers::LinksUser& user) { user.received(there, {message}); });
    return !enough;
  }
  void close(Sid, zab::LinkId id) {
    const auto at = links_.find(id);
    if (at == links_.end()) return;
    const Link link = at->second;
    links_.erase(at);
    if (reachable(link.self, link.peer)) notice(link.other);
    if (const auto other = links_.find(link.other); other != links_.end()) other->second.lost = true;
  }
  void notice(zab::LinkId id) {
    clock_.after(500, [this, id] { drop_end(id); });
  }
  void drop_end(zab::LinkId id) {
    const auto at = links_.find(id);
    if (at == links_.end()) return;
    const Sid self = at->second.self;
    links_.erase(at);
    if (const auto node = nodes_.find(self); node != nodes_.end()) node->second->user_->link_down(id, "closed");
  }
  void drop(zab::LinkId id) {
    const zab::LinkId other = links_.at(id).other;
    notice(id);
    notice(other);
  }
  void gone(Sid self) {
    if (nodes_.erase(self) == 0) return;
    std::vector<zab::LinkId> ids;
    for (const auto& [id, link] : links_) {
      if (link.self == self) ids.push_back(id);
    }
    for (const zab::LinkId id : ids) {
      const Link link = links_.at(id);
      links_.erase(id);
      if (cut_.contains(std::minmax(link.self, link.peer))) {
        if (const auto other = links_.find(link.other); other != links_.end()) other->second.lost = true;
      } else {
        notice(link.other);
      }
    }
  }

 public:
  std::uint64_t messages = 0;

 private:
  Clock& clock_;
  std::map<Sid, NodeLinks*> nodes_;
  std::map<zab::LinkId, Link> links_;
  std::set<std::pair<Sid, Sid>> cut_;
  std::uint64_t next_link_ = 1;
  std::set<Sid> choked_;
  std::vector<std::pair<Sid, zab::LinkId>> full_links_;
};

// The server's end of a client's connection, and the client's end in one.
class MemoryStream final : public net::Stream, public std::enable_shared_from_this<MemoryStream> {
 public:
  explicit MemoryStream(NodeExecutor& executor) : executor_(executor) { remote_.address = "127.0.0.1"; }
  // --- the server
  const net::Remote& remote() const override { return remote_; }
  net::Executor& loop() override { return executor_; }
  void start(std::shared_ptr<net::StreamUser> user) override { user_ = std::move(user); }
  void request_flush() override {
    executor_.post([self = shared_from_this()] { self->flush(); });
  }
  void resume_reading() override {
    executor_.post([self = shared_from_this()] {
      self->paused_ = false;
      self->deliver();
    });
  }
  void request_close(bool rest) override {
    executor_.post([self = shared_from_this(), rest] {
      if (rest) self->flush();
      self->end();
    });
  }
  // --- the client
  void write(std::string bytes) {
    executor_.later(100, [self = shared_from_this(), bytes = std::move(bytes)] {
      self->in_ += bytes;
      self->deliver();
    });
  }
  // What it can take from now on, after which it takes no more; the sockets between are nothing.
  void take_only(std::size_t bytes) {
    room_ = bytes;
    request_flush();
  }
  void hang_up() {
    executor_.later(100, [self = shared_from_this()] { self->end(); });
  }
  bool ended() const { return ended_; }
  void cut() {  // the server's process is gone
    ended_ = true;
    user_.reset();
  }
  std::string received;

 private:
  void deliver() {
    if (paused_ || ended_ || in_.empty()) return;
    if (!user_->on_bytes(in_)) paused_ = true;
  }
  void flush() {
    while (!ended_) {
      if (lent_.empty()) user_->take_output(lent_);
      const std::size_t taken = std::min(lent_.size(), room_);
      received.append(lent_, 0, taken);
      lent_.erase(0, taken);
      room_ -= taken;
      if (taken > 0 && paused_) user_->on_taken();
      if (taken == 0 || room_ == 0) return;
    }
  }
  void end() {
    if (std::exchange(ended_, true)) return;
    user_->on_closed();
    user_.reset();
  }
  NodeExecutor& executor_;
  net::Remote remote_;
  std::shared_ptr<net::StreamUser> user_;
  std::string in_;
  std::string lent_;
  std::size_t room_ = std::numeric_limits<std::size_t>::max();
  bool paused_ = false;
  bool ended_ = false;
};

struct Node {
  std::shared_ptr<NodeExecutor> executor;
  std::unique_ptr<Hub::NodeLinks> links;
  store::MemoryStore* store = nullptr;
  std::unique_ptr<Core> core;
};

class Cluster {
 public:
  explicit Cluster(std::uint32_t voters, std::uint32_t observers = 0) : hub_(clock) {
    log::set_level(std::getenv("CLUSTER_LOG") != nullptr ? log::Level::kDebug : log::Level::kOff);
    for (std::uint32_t n = 1; n <= voters + observers; ++n) {
      config.members.push_back(Member{Sid(n), "", 0, 0, n > voters});
    }
    config.data_dir = "/nowhere";
  }
  ~Cluster() {
    while (!nodes_.empty()) kill(nodes_.begin()->first);
  }

  Clock clock;
  Config config;  // of each node, but for its id; change before start
  std::uint64_t log_keep_entries = 100'000;

  void start_all() {
    for (const Member& member : config.members) start(member.sid);
  }
  void start(Sid sid) {
    Node& node = nodes_[sid];
    node.executor = std::make_shared<NodeExecutor>(clock);
    node.links = std::make_unique<Hub::NodeLinks>(hub_, sid);
    Config own = config;
    own.server_id = sid.value;
    auto& disk = disks_[sid];
    if (!disk) disk = std::make_shared<store::MemoryDisk>();
    auto store = std::make_unique<store::MemoryStore>(
        disk, store::MemoryStore::Options{sid, store::MemoryStore::Completion::kInline, log_keep_entries,
                                          std::string(15, 'd') + static_cast<char>('0' + sid.value)});
    node.store = store.get();
    Environment environment;
    environment.fresh_cluster_id = std::string(32, static_cast<char>('0' + sid.value));
    environment.fresh_secret = std::string(32, static_cast<char>('0' + sid.value));
    environment.seed = sid.value;
    environment.incarnation = ++incarnation_;
    node.core = std::make_unique<Core>(own, *node.executor, std::move(store), *node.links, std::move(environment));
    const auto loaded = node.core->load();
    ASSERT_TRUE(loaded) << loaded.error().message;
    node.executor->every(std::chrono::milliseconds(1), [store = node.store] { store->run_later(); });
    node.core->start([] {});
  }
  // What the store does when it finds that its log or tree is broken (store::LmdbOptions::salvage). While it is down.
  void damage(Sid sid) {
    store::MemoryDisk& disk = *disks_.at(sid);
    disk.log.clear();
    disk.nodes.clear();
    disk.sessions.clear();
    disk.counters.reset();
    disk.meta.epoch_ends.clear();
    disk.meta.tree_durable = disk.meta.commit_hint = disk.meta.log_floor = disk.meta.last_logged = Zxid();
    disk.meta.damaged = true;
  }
  void kill(Sid sid) {
    const auto at = nodes_.find(sid);
    if (at == nodes_.end()) return;
    for (const auto& weak : streams_[sid]) {
      if (const auto stream = weak.lock()) stream->cut();
    }
    streams_.erase(sid);
    executors_.push_back(at->second.executor);  // streams refer to it
    at->second.executor->kill();
    at->second.core.reset();
    at->second.links.reset();
    nodes_.erase(at);
  }
  void cut(Sid a, Sid b, bool cut = true) { hub_.cut(a, b, cut); }
  void isolate(Sid sid, bool cut = true) {
    for (const Member& member : config.members) {
      if (member.sid != sid) hub_.cut(sid, member.sid, cut);
    }
  }
  Core& core(Sid sid) { return *nodes_.at(sid).core; }
  store::MemoryStore& store(Sid sid) { return *nodes_.at(sid).store; }
  bool runs(Sid sid) const { return nodes_.contains(sid); }
  std::uint64_t messages() const { return hub_.messages; }
  Hub& hub() { return hub_; }

  Sid leader() {
    for (auto& [sid, node] : nodes_) {
      if (node.core->serving() && node.core->peer().role() == zab::Role::kLeading) return sid;
    }
    return Sid();
  }
  bool all_serve() {
    return std::all_of(nodes_.begin(), nodes_.end(), [](auto& entry) { return entry.second.core->serving(); });
  }
  bool settle(std::int64_t limit_ms = 30'000) {
    return clock.run_until([this] { return leader() != Sid() && all_serve(); }, limit_ms);
  }
  Sid follower(int which = 0) {
    const Sid lead = leader();
    for (auto& [sid, node] : nodes_) {
      if (sid != lead && which-- == 0) return sid;
    }
    return Sid();
  }
  std::shared_ptr<MemoryStream> open(Sid sid) {
    Node& node = nodes_.at(sid);
    auto stream = std::make_shared<MemoryStream>(*node.executor);
    auto conn = std::make_shared<ClientConn>(*node.core, stream, ConnId(next_conn_++));
    node.core->opened(conn);
    stream->start(conn);
    streams_[sid].push_back(stream);
    return stream;
  }

 private:
  Hub hub_;
  std::map<Sid, std::shared_ptr<store::MemoryDisk>> disks_;
  std::map<Sid, Node> nodes_;
  std::map<Sid, std::vector<std::weak_ptr<MemoryStream>>> streams_;
  std::vector<std::shared_ptr<NodeExecutor>> executors_;
  std::uint64_t incarnation_ = 0;
  std::uint64_t next_conn_ = 1;
};

struct Reply {
  std::int32_t xid = 0;
  std::int64_t zxid = 0;
  Err err = Err::kOk;
  std::string body;
};

// A client of one session, which may go from replica to replica.
class Client {
 public:
  explicit Client(Cluster& cluster, std::int32_t timeout_ms = 10'000) : cluster_(cluster), timeout_ms_(timeout_ms) {}

  // True: the session is established (a new one, or the one it has). False: refused, or closed (see `refused`).
  bool connect(Sid sid) {
    stream_ = cluster_.open(sid);
    at_ = 0;
    wire::ConnectRequest request;
    request.session = session;
    request.password = password;
    request.timeout_ms = timeout_ms_;
    request.last_zxid_seen = seen;
    request.has_read_only = true;
    std::string out;
    const std::size_t frame = wire::begin_frame(out);
    wire::Writer writer(out);
    write(writer, request);
    wire::end_frame(out, frame);
    stream_->write(std::move(out));
    refused = false;
    const auto payload = next_payload();
    if (!payload) return false;
    wire::Reader reader(*payload);
    const wire::ConnectResponse response = wire::read_connect_response(reader);
    refused = response.timeout_ms == 0;
    if (refused) return false;
    session = response.session;
    password = response.password;
    return true;
  }
  template <class Body>
  std::int32_t put(wire::Op op, Body&& body) {
    std::string out;
    const std::size_t frame = wire::begin_frame(out);
    wire::Writer writer(out);
    writer.i32(++xid_);
    writer.i32(static_cast<std::int32_t>(op));
    body(writer);
    wire::end_frame(out, frame);
    if (gathering_) {
      gathered_ += out;
    } else {
      stream_->write(std::move(out));
    }
    return xid_;
  }
  // What is put from here on goes in one piece with send().
  void gather() { gathering_ = true; }
  void send() {
    gathering_ = false;
    stream_->write(std::exchange(gathered_, {}));
  }
  std::int32_t auth(const std::string& credential) {
    return put(wire::Op::kAuth, [&](wire::Writer& w) {
      w.i32(0), w.buffer(std::string("digest")), w.buffer(credential);
    });
  }
  std::int32_t create(const std::string& path, const std::string& data, std::int32_t flags = 0) {
    return put(wire::Op::kCreate, [&](wire::Writer& w) {
      w.buffer(path), w.buffer(data), write(w, open_acl()), w.i32(flags);
    });
  }
  std::int32_t set(const std::string& path, const std::string& data) {
    return put(wire::Op::kSetData, [&](wire::Writer& w) { w.buffer(path), w.buffer(data), w.i32(-1); });
  }
  std::int32_t get(const std::string& path, bool watch = false) {
    return put(wire::Op::kGetData, [&](wire::Writer& w) { w.buffer(path), w.boolean(watch); });
  }
  // setData for each, all or none.
  std::int32_t multi(const std::vector<std::string>& paths, const std::string& data) {
    return put(wire::Op::kMulti, [&](wire::Writer& w) {
      for (const std::string& path : paths) {
        write(w, wire::MultiHeader{static_cast<std::int32_t>(wire::Op::kSetData), false, -1});
        w.buffer(path), w.buffer(data), w.i32(-1);
      }
      write(w, wire::MultiHeader{-1, true, -1});
    });
  }
  std::int32_t sync() {
    return put(wire::Op::kSync, [&](wire::Writer& w) { w.buffer(std::string("/")); });
  }
  void ping() {
    std::string out;
    const std::size_t frame = wire::begin_frame(out);
    wire::Writer writer(out);
    writer.i32(-2);
    writer.i32(static_cast<std::int32_t>(wire::Op::kPing));
    wire::end_frame(out, frame);
    if (gathering_) {
      gathered_ += out;
    } else {
      stream_->write(std::move(out));
    }
  }
  // The next answer; nullopt: the connection ended, or nothing came.
  std::optional<Reply> next(std::int64_t limit_ms = 30'000) {
    const auto payload = next_payload(limit_ms);
    if (!payload) return std::nullopt;
    wire::Reader reader(*payload);
    const wire::ReplyHeader header = wire::read_reply_header(reader);
    if (header.zxid > 0) seen = std::max(seen, header.zxid);
    return Reply{header.xid, header.zxid, header.err, std::string(reader.rest())};
  }
  // For when only the code matters; kConnectionLoss: the connection ended.
  Err err() {
    const auto reply = next();
    return reply ? reply->err : Err::kConnectionLoss;
  }
  // What a read says; nullopt when it failed.
  std::optional<std::string> read(const std::string& path) {
    get(path);
    const auto reply = next();
    if (!reply || reply->err != Err::kOk) return std::nullopt;
    wire::Reader reader(reply->body);
    return std::string(reader.string());
  }
  bool ended() const { return stream_->ended(); }
  bool ends(std::int64_t limit_ms = 30'000) {
    return cluster_.clock.run_until([this] { return stream_->ended(); }, limit_ms);
  }
  void hang_up() { stream_->hang_up(); }
  void take_only(std::size_t bytes) { stream_->take_only(bytes); }
  std::size_t received() const { return stream_->received.size(); }

  std::int64_t session = 0;
  std::string password = std::string(16, '\0');
  std::int64_t seen = 0;
  bool refused = false;

 private:
  std::optional<std::string> next_payload(std::int64_t limit_ms = 30'000) {
    const auto complete = [this] {
      const std::string& got = stream_->received;
      if (got.size() - at_ < 4) return false;
      return got.size() - at_ - 4 >= static_cast<std::size_t>(wire::load_be<std::int32_t>(got.data() + at_));
    };
    cluster_.clock.run_until([&] { return complete() || stream_->ended(); }, limit_ms);
    if (!complete()) return std::nullopt;
    const auto length = static_cast<std::size_t>(wire::load_be<std::int32_t>(stream_->received.data() + at_));
    std::string payload = stream_->received.substr(at_ + 4, length);
    at_ += 4 + length;
    return payload;
  }

  Cluster& cluster_;
  const std::int32_t timeout_ms_;
  std::shared_ptr<MemoryStream> stream_;
  std::size_t at_ = 0;
  std::int32_t xid_ = 0;
  bool gathering_ = false;
  std::string gathered_;
};

}  // namespace coord::runtime::testing
