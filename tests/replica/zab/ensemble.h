// A few Peers in one thread: instant links in order, disks that write when they are told to, ticks by hand. The
// simulator (tests/sim) has the faults; this is for stories of a few steps.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "replica/zab/invariants.h"
#include "replica/zab/peer.h"
#include "tests/replica/zab/members.h"

namespace coord::zab::testing {

inline Payload text(const std::string& value) { return std::make_shared<const std::string>(value); }

struct Disk {
  std::uint32_t accepted = 0, current = 0;
  Sid accepted_from;
  std::vector<LogEntry> base, log;  // below the floor (what a snapshot would hold), and the log
  Zxid floor, hint;
  std::string cluster_id, secret;
  bool damaged = false;
  std::string directory;
};

class Ensemble;

struct Node {
  Sid sid;
  Config config;
  Disk disk;
  std::unique_ptr<Peer> peer;
  std::uint64_t life = 0;
  std::deque<Persist> unwritten;
  std::uint64_t written = 0, reported = 0;
  bool slow_disk = false;  // writes only by hand
  std::map<Sid, std::string> enrolled;
  // What the driver has.
  std::vector<LogEntry> pending, delivered;
  std::vector<LogEntry> staged;
  std::vector<Action> seen;  // all actions of this life but Send
  std::vector<std::pair<LinkId, Message>> sent;
  bool up() const { return peer != nullptr; }
  template <class A>
  std::vector<A> all() const {
    std::vector<A> result;
    for (const Action& action : seen) {
      if (const auto* one = std::get_if<A>(&action)) result.push_back(*one);
    }
    return result;
  }
  template <class M>
  std::vector<M> messages() const {
    std::vector<M> result;
    for (const auto& [link, message] : sent) {
      if (const auto* one = std::get_if<M>(&message)) result.push_back(*one);
    }
    return result;
  }
};

class Ensemble {
 public:
  explicit Ensemble(std::uint32_t voters, std::uint32_t observers = 0, const std::function<void(Config&)>& tune = {}) {
    std::set<Sid> voting, observing;
    for (std::uint32_t i = 1; i <= voters; ++i) voting.insert(Sid{i});
    for (std::uint32_t i = voters + 1; i <= voters + observers; ++i) observing.insert(Sid{i});
    tune_ = tune;
    for (std::uint32_t i = 1; i <= voters + observers; ++i) add(i, voting, observing);
  }
  // One more server, down, with an empty disk and these members in its file.
  void add(std::uint32_t sid, const std::set<Sid>& voting, const std::set<Sid>& observing = {}) {
    const bool again = nodes_.contains(Sid{sid});
    Node& node = nodes_[Sid{sid}];
    const std::uint64_t life = node.life;
    node = {};
    node.life = life;
    node.sid = node.config.self = Sid{sid};
    node.config.voters = Quorum{voting};
    node.config.observers = observing;
    node.config.observer = observing.contains(Sid{sid});
    node.config.membership_of = members_of;
    node.config.enrolment_of = enrolment_of;
    node.disk.directory = "directory" + std::to_string(sid) + (again ? "again" : "");
    if (tune_) tune_(node.config);
  }

  bool enrols = false;  // the drivers propose what Enrol asks for
  // Messages for which this says true are lost, and nobody notices.
  std::function<bool(std::uint32_t from, std::uint32_t to, const Message&)> lose;

  bool exists(std::uint32_t sid) const { return nodes_.contains(Sid{sid}); }
  Node& node(std::uint32_t sid) { return nodes_.at(Sid{sid}); }
  Peer& peer(std::uint32_t sid) { return *node(sid).peer; }

  void boot(std::uint32_t sid) {
    Node& node = this->node(sid);
    ASSERT_FALSE(node.up());
    ++node.life;
    node.unwritten.clear();
    node.written = node.reported = 0;
    node.seen.clear();
    node.sent.clear();
    const Disk& disk = node.disk;
    DurableState state;
    state.accepted_epoch = disk.accepted;
    state.accepted_from = disk.accepted_from;
    state.current_epoch = disk.current;
    state.log.floor = disk.floor;
    for (const LogEntry& entry : disk.log) state.log.append(entry.zxid);
    state.commit_hint = disk.hint;
    state.directory_id = disk.directory;
    state.cluster_id = disk.cluster_id;
    state.secret = disk.secret;
    state.damaged = disk.damaged;
    state.fresh_cluster_id = "cluster of " + std::to_string(sid);
    state.fresh_secret = "secret of " + std::to_string(sid);
    node.delivered = disk.base;
    node.pending.clear();
    for (const LogEntry& entry : disk.log) {
      (entry.zxid <= std::max(disk.hint, disk.floor) ? node.delivered : node.pending).push_back(entry);
    }
    read_enrolment(node, false);
    state.enrolled = node.enrolled;
    state.memberships = memberships_on(disk);
    for (const LogEntry& entry : node.pending) {
      if (auto enrolment = enrolment_of(*entry.payload))
        state.enrolments.emplace_back(entry.zxid, *std::move(enrolment));
    }
    node.peer = std::make_unique<Peer>(node.config, std::move(state));
    step(node, Start{now_});
    for (auto& [other, its] : nodes_) connect(node.sid, other);
    run();
  }
  void boot_all() {
    for (auto& [sid, node] : nodes_) {
      if (!node.up()) boot(sid.value);
    }
  }
  void crash(std::uint32_t sid) {
    Node& node = this->node(sid);
    node.peer.reset();
    node.unwritten.clear();
    drop_links([&](Sid a, Sid b) { return a == node.sid || b == node.sid; });
    run();
  }
  void cut(std::uint32_t a, std::uint32_t b) {
    cuts_.insert({Sid{std::min(a, b)}, Sid{std::max(a, b)}});
    drop_links([&](Sid x, Sid y) { return is_cut(x, y); });
    run();
  }
  void isolate(std::uint32_t sid) {
    for (auto& [other, node] : nodes_) {
      if (other.value != sid) cut(sid, other.value);
    }
  }
  void heal() {
    cuts_.clear();
    connect_all();
    run();
  }

  // Everything that needs no time.
  void run() {
    for (int guard = 0;; ++guard) {
      ASSERT_LT(guard, 100'000) << "no end of messages";
      if (::testing::Test::HasFatalFailure()) return;
      if (!queue_.empty()) {
        auto [to, life, event] = std::move(queue_.front());
        queue_.pop_front();
        Node& node = nodes_.at(to);
        if (!node.up() || node.life != life) continue;
        if (paused_.contains(to)) {
          stopped_.emplace_back(to, life, std::move(event));
        } else {
          step(node, event);
        }
        continue;
      }
      if (!to_enrol_.empty()) {
        auto [sid, payload] = std::move(to_enrol_.front());
        to_enrol_.pop_front();
        if (nodes_.at(sid).up() && nodes_.at(sid).peer->accepts_proposals()) put(nodes_.at(sid), payload);
        continue;
      }
      bool wrote = false;
      for (auto& [sid, node] : nodes_) {
        if (node.up() && !node.slow_disk && !paused_.contains(sid) && !node.unwritten.empty()) {
          write(node);
          wrote = true;
        }
      }
      if (!wrote) return;
    }
  }
  void write(Node& node) {
    while (!node.unwritten.empty()) {
      write_one(node, node.unwritten.front());
      node.written = node.unwritten.front().id;
      node.unwritten.pop_front();
    }
    if (node.written == node.reported) return;
    node.reported = node.written;
    queue_.emplace_back(node.sid, node.life, Persisted{node.written});
  }
  void pass(std::int64_t ms) {
    for (const std::int64_t end = now_ + ms; now_ < end && !::testing::Test::HasFatalFailure();) {
      now_ += 20;
      for (auto& [sid, node] : nodes_) {
        if (node.up() && !paused_.contains(sid)) step(node, Tick{now_});
      }
      connect_all();
      run();
    }
  }
  bool wait(std::int64_t ms, const std::function<bool()>& what) {
    for (std::int64_t i = 0; i < ms && !what() && !::testing::Test::HasFatalFailure(); i += 20) pass(20);
    return what();
  }
  // The log of a server loses what it has delivered up to here; its process need not know.
  void purge(std::uint32_t sid, Zxid up_to) {
    Disk& disk = node(sid).disk;
    while (!disk.log.empty() && disk.log.front().zxid <= up_to) {
      disk.floor = disk.log.front().zxid;
      disk.base.push_back(disk.log.front());
      disk.log.erase(disk.log.begin());
    }
    disk.hint = std::max(disk.hint, disk.floor);
  }
  void pause(std::uint32_t sid) { paused_.insert(Sid{sid}); }
  void go_on(std::uint32_t sid) {
    paused_.erase(Sid{sid});
    for (auto& one : std::exchange(stopped_, {})) queue_.push_back(std::move(one));
    run();
  }
  std::int64_t now() const { return now_; }

  Zxid propose(std::uint32_t sid, const std::string& value) {
    Node& node = this->node(sid);
    EXPECT_TRUE(node.peer->accepts_proposals());
    if (!node.peer->accepts_proposals()) return {};
    const Zxid zxid = put(node, value);
    run();
    return zxid;
  }
  // The leader's driver proposes these members. Voters that are not enrolled, or new with another directory, join.
  Zxid reconfig(std::uint32_t sid, const std::set<std::uint32_t>& voters,
                const std::set<std::uint32_t>& observers = {}) {
    Membership membership;
    membership.voters = sids(voters);
    membership.observers = sids(observers);
    std::map<Sid, std::string> here;  // a real leader takes those that have synchronized
    for (const auto& [other, its] : nodes_) here[other] = its.disk.directory;
    for (const Sid voter : membership.voters) {
      const auto enrolled = node(sid).enrolled.find(voter);
      const bool known = enrolled != node(sid).enrolled.end();
      const bool member = peer(sid).membership().voters.contains(voter);
      if (!known || (!member && enrolled->second != here[voter])) {
        membership.joins[voter] = here[voter];
      }
    }
    return propose(sid, members_text(membership));
  }
  void inject(std::uint32_t sid, const Event& event) {
    step(node(sid), event);
    run();
  }
  // The learner link from `from` to `to`, or any.
  LinkId link(std::uint32_t from, std::uint32_t to, Channel channel = Channel::kLearner) const {
    for (const auto& [id, link] : links_) {
      if (link.channel == channel && link.a.value == from && link.b.value == to) return id;
    }
    return LinkId{};
  }
  std::uint32_t leader() const {  // in broadcast; 0: none
    std::uint32_t found = 0;
    for (const auto& [sid, node] : nodes_) {
      if (node.up() && node.peer->role() == Role::kLeading && node.peer->phase() == Phase::kBroadcast) {
        if (found == 0 || node.peer->epoch() > nodes_.at(Sid{found}).peer->epoch()) found = sid.value;
      }
    }
    return found;
  }
  // Whom it takes for members now: from the log, else from its file.
  Membership view(std::uint32_t sid) {
    const Node& node = this->node(sid);
    if (node.up() && node.peer->membership().version != Zxid{}) return node.peer->membership();
    Membership from_file;
    from_file.voters = node.config.voters.voters();
    from_file.observers = node.config.observers;
    if (node.config.observer) from_file.voters.erase(node.sid);
    return from_file;
  }
  bool all_serve() const {
    return std::all_of(nodes_.begin(), nodes_.end(),
                       [](const auto& n) { return !n.second.up() || n.second.peer->serving(); });
  }
  std::string describe() const {  // for a test that fails
    std::string result;
    for (const auto& [sid, node] : nodes_) {
      result += "\nserver " + std::to_string(sid.value) + ": ";
      if (!node.up()) {
        result += "down";
        continue;
      }
      const Peer& p = *node.peer;
      result += "role " + std::to_string(static_cast<int>(p.role())) + " phase " +
                std::to_string(static_cast<int>(p.phase())) + " leader " + std::to_string(p.leader().value) +
                " accepted " + std::to_string(p.accepted_epoch()) + " current " + std::to_string(p.current_epoch()) +
                " log " + to_string(p.log().floor) + ".." + to_string(p.last_logged()) + " durable " +
                to_string(p.last_durable()) + " committed " + to_string(p.last_committed()) + " members " +
                to_string(p.membership().version) +
                (p.pending_membership() ? " pending " + to_string(p.pending_membership()->version) : "") + " round " +
                std::to_string(p.round().value_or(0));
      for (auto it = node.seen.rbegin(); it != node.seen.rend() && it - node.seen.rbegin() < 12; ++it) {
        if (const auto* close = std::get_if<CloseLink>(&*it)) result += "\n    closed: " + close->reason;
        if (const auto* alarm = std::get_if<Alarm>(&*it)) result += "\n    alarm: " + alarm->text;
      }
    }
    return result;
  }
  std::vector<std::string> values(std::uint32_t sid) {
    std::vector<std::string> result;
    for (const LogEntry& entry : node(sid).delivered) result.push_back(*entry.payload);
    return result;
  }
  std::vector<std::string> logged(std::uint32_t sid) {
    std::vector<std::string> result;
    for (const LogEntry& entry : node(sid).disk.base) result.push_back(*entry.payload);
    for (const LogEntry& entry : node(sid).disk.log) result.push_back(*entry.payload);
    return result;
  }

 private:
  struct Wire {
    Channel channel;
    Sid a, b;  // a dialed
  };
  bool is_cut(Sid a, Sid b) const { return cuts_.contains({std::min(a, b), std::max(a, b)}); }

  void connect(Sid a, Sid b) {
    if (a >= b || is_cut(a, b) || !nodes_.at(a).up() || !nodes_.at(b).up()) {
      if (a > b) connect(b, a);
      return;
    }
    // Whoever takes the other one for a voter dials it; who is dialed need not know the caller.
    if (!view(a.value).voters.contains(b) && !view(b.value).voters.contains(a)) return;
    if (link(a.value, b.value, Channel::kElection) != LinkId{}) return;
    open(Channel::kElection, a, b);
  }
  void connect_all() {
    for (auto& [a, x] : nodes_) {
      for (auto& [b, y] : nodes_) connect(a, b);
    }
  }
  void open(Channel channel, Sid a, Sid b) {
    const LinkId id{++next_link_};
    links_[id] = {channel, a, b};
    queue_.emplace_back(a, nodes_.at(a).life, LinkUp{id, channel, b, true});
    queue_.emplace_back(b, nodes_.at(b).life, LinkUp{id, channel, a, false});
  }
  void drop_links(const std::function<bool(Sid, Sid)>& which) {
    for (auto it = links_.begin(); it != links_.end();) {
      if (!which(it->second.a, it->second.b)) {
        ++it;
        continue;
      }
      for (const Sid end : {it->second.a, it->second.b}) {
        queue_.emplace_back(end, nodes_.at(end).life, LinkDown{it->first});
      }
      it = links_.erase(it);
    }
  }

  Zxid put(Node& node, const std::string& value) {
    const Zxid zxid = node.peer->next_zxid();
    node.pending.push_back({zxid, node.peer->last_logged(), text(value), {}});
    step(node, Propose{zxid, text(value), {}});
    return zxid;
  }

  void step(Node& node, const Event& event) {
    const Observation before = observe(*node.peer);
    Actions out;
    node.peer->step(event, out);
    const auto broken = broken_step(before, event, out, observe(*node.peer));
    ASSERT_EQ(broken, std::nullopt) << "server " << node.sid.value;
    for (Action& action : out) {
      if (!std::holds_alternative<Send>(action)) node.seen.push_back(action);
      std::visit([&](auto& one) { act(node, one); }, action);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }

  void act(Node& node, Persist& persist) { node.unwritten.push_back(persist); }
  void act(Node& node, Deliver& deliver) {
    ASSERT_TRUE(node.delivered.empty() || !node.pending.empty() || node.delivered.back().zxid == deliver.up_to);
    while (!node.pending.empty() && node.pending.front().zxid <= deliver.up_to) {
      node.delivered.push_back(node.pending.front());
      node.pending.erase(node.pending.begin());
      const std::string& applied = *node.delivered.back().payload;
      if (members_of(applied) || applied.starts_with("enrol")) read_enrolment(node, true);
    }
    ASSERT_EQ(node.delivered.empty() ? Zxid{} : node.delivered.back().zxid, deliver.up_to)
        << "server " << node.sid.value;
    check_agreement(node);
    // The hint is lazy, but not too lazy.
    if (!node.disk.log.empty() && deliver.up_to <= node.disk.log.back().zxid) node.disk.hint = deliver.up_to;
  }
  void act(Node& node, Discard& discard) {
    while (!node.pending.empty() && node.pending.back().zxid > discard.after) node.pending.pop_back();
  }
  void act(Node& node, Appended& appended) {
    for (const LogEntry& entry : appended.entries) node.pending.push_back(entry);
  }
  void act(Node& node, Reload& reload) {
    node.delivered = node.disk.base;
    ASSERT_EQ(node.disk.floor, reload.zxid);
    read_enrolment(node, true);
  }
  void act(Node&, PhaseChanged&) {}
  void act(Node& node, Send& send) {
    node.sent.emplace_back(send.link, send.message);
    deliver_message(node, send.link, send.message);
  }
  void deliver_message(Node& node, LinkId id, const Message& message) {
    const auto it = links_.find(id);
    if (it == links_.end()) return;
    const Sid to = it->second.a == node.sid ? it->second.b : it->second.a;
    if (lose && lose(node.sid.value, to.value, message)) return;
    queue_.emplace_back(to, nodes_.at(to).life, Received{id, message});
  }
  void act(Node& node, DialLearner& dial) {
    if (!nodes_.at(dial.leader).up() || is_cut(node.sid, dial.leader)) {
      queue_.emplace_back(node.sid, node.life, DialFailed{dial.number});
    } else {
      open(Channel::kLearner, node.sid, dial.leader);
    }
  }
  void act(Node& node, CloseLink& close) {
    const auto it = links_.find(close.link);
    if (it == links_.end()) return;
    const Sid other = it->second.a == node.sid ? it->second.b : it->second.a;
    queue_.emplace_back(other, nodes_.at(other).life, LinkDown{close.link});
    links_.erase(it);
  }
  void act(Node& node, ReadLog& read) {
    LogRead answer{read.number, {}};
    if (read.after >= node.disk.floor) {
      std::size_t bytes = 0;
      for (const LogEntry& entry : node.disk.log) {
        if (entry.zxid <= read.after || entry.zxid > read.up_to || bytes >= read.max_bytes) continue;
        answer.entries.push_back(entry);
        bytes += entry.payload->size() + 64;
      }
    }
    queue_.emplace_back(node.sid, node.life, std::move(answer));
  }
  void act(Node& node, SendSnapshot& send) {
    // What is durable and delivered.
    std::vector<LogEntry> tree = node.delivered;
    const Zxid zxid = tree.empty() ? Zxid{} : tree.back().zxid;
    snapshots_.push_back(std::move(tree));
    deliver_message(node, send.link, SnapshotBegin{zxid, 0, send.membership});
    deliver_message(node, send.link, SnapshotChunk{std::to_string(snapshots_.size() - 1)});
    deliver_message(node, send.link, SnapshotEnd{1});
    queue_.emplace_back(node.sid, node.life, SnapshotSent{send.link, zxid});
  }
  void act(Node& node, ReceiveSnapshot& receive) {
    if (const auto* chunk = std::get_if<SnapshotChunk>(&receive.part)) {
      node.staged = snapshots_.at(std::stoul(chunk->bytes));
    } else if (std::holds_alternative<SnapshotEnd>(receive.part)) {
      queue_.emplace_back(node.sid, node.life,
                          SnapshotStaged{receive.link, node.staged.empty() ? Zxid{} : node.staged.back().zxid});
    }
  }
  void act(Node&, DropSnapshot&) {}
  void act(Node&, PassedUp&) {}
  void act(Node&, LearnerChanged&) {}
  void act(Node&, LeadershipConfirmed&) {}
  void act(Node& node, Enrol& enrol) {
    if (!enrols) return;
    std::string payload = "enrol";
    for (const auto& [sid, directory] : enrol.directories) payload += " " + std::to_string(sid.value) + "=" + directory;
    to_enrol_.emplace_back(node.sid, std::move(payload));
  }
  // What the tree says of enrolment.
  void read_enrolment(Node& node, bool tell) {
    if (!enrols) return;
    std::map<Sid, std::string> enrolled;
    for (const LogEntry& entry : node.delivered) {
      if (const auto members = members_of(*entry.payload)) {
        for (const auto& [sid, directory] : members->joins) enrolled[sid] = directory;
        std::erase_if(enrolled, [&](const auto& one) { return !members->is_member(one.first); });
        continue;
      }
      std::istringstream words(*entry.payload);
      std::string word;
      words >> word;
      if (word != "enrol") continue;
      while (words >> word) {
        const auto equals = word.find('=');
        enrolled.emplace(Sid{static_cast<std::uint32_t>(std::stoul(word.substr(0, equals)))}, word.substr(equals + 1));
      }
    }
    if (enrolled == node.enrolled) return;
    node.enrolled = enrolled;
    if (tell) queue_.emplace_back(node.sid, node.life, Enrolled{enrolled});
  }
  void act(Node&, Alarm&) {}

  // The one that the tree holds, and what is in the log above it.
  static std::vector<Membership> memberships_on(const Disk& disk) {
    std::vector<Membership> found;
    const auto look = [&](const LogEntry& entry) {
      auto members = members_of(*entry.payload);
      if (!members) return;
      members->version = entry.zxid;
      found.push_back(*std::move(members));
    };
    for (const LogEntry& entry : disk.base) look(entry);
    if (found.size() > 1) found.erase(found.begin(), std::prev(found.end()));
    for (const LogEntry& entry : disk.log) look(entry);
    return found;
  }

  void write_one(Node& node, const Persist& persist) {
    Disk& disk = node.disk;
    if (persist.install_snapshot) {
      disk.base = node.staged;
      disk.log.clear();
      disk.floor = disk.hint = node.staged.back().zxid;
    }
    if (persist.truncate_after) {
      while (!disk.log.empty() && disk.log.back().zxid > *persist.truncate_after) disk.log.pop_back();
    }
    for (const LogEntry& entry : persist.append) {
      ASSERT_EQ(entry.previous, disk.log.empty() ? disk.floor : disk.log.back().zxid);
      disk.log.push_back(entry);
    }
    if (persist.accepted_epoch) {
      disk.accepted = *persist.accepted_epoch;
      disk.accepted_from = persist.accepted_from;
    }
    if (persist.current_epoch) disk.current = *persist.current_epoch;
    if (!persist.cluster_id.empty()) disk.cluster_id = persist.cluster_id;
    if (!persist.secret.empty()) disk.secret = persist.secret;
    if (persist.repaired) disk.damaged = false;
    ASSERT_GE(disk.accepted, disk.current);
  }
  // What was ever delivered anywhere is one sequence.
  void check_agreement(const Node& node) {
    for (std::size_t i = 0; i < node.delivered.size(); ++i) {
      if (i == history_.size()) history_.push_back(node.delivered[i]);
      ASSERT_EQ(history_[i].zxid, node.delivered[i].zxid) << "server " << node.sid.value;
      ASSERT_EQ(*history_[i].payload, *node.delivered[i].payload) << "server " << node.sid.value;
    }
  }

  std::function<void(Config&)> tune_;
  std::map<Sid, Node> nodes_;
  std::map<LinkId, Wire> links_;
  std::set<std::pair<Sid, Sid>> cuts_;
  std::set<Sid> paused_;
  struct Pending {
    Sid to;
    std::uint64_t life;
    Event event;
    Pending(Sid t, std::uint64_t l, Event e) : to(t), life(l), event(std::move(e)) {}
  };
  std::deque<Pending> queue_, stopped_;
  std::vector<std::vector<LogEntry>> snapshots_;
  std::deque<std::pair<Sid, std::string>> to_enrol_;
  std::vector<LogEntry> history_;
  std::uint64_t next_link_ = 0;
  std::int64_t now_ = 1000;
};

}  // namespace coord::zab::testing
