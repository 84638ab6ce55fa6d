// Known failures of ZooKeeper (zab.md section 6) where the state of sessions and nodes comes apart between replicas:
// over snapshots, changes of role, large transactions. The table of all rows is in regress_sessions_test.cc.
#include <optional>
#include <variant>

#include "replica/tree/txn.h"
#include "tests/sim/replica/scenario.h"

namespace coord::sim {
namespace {

using wire::CreateMode;

// --- 3125, 3127, 3144, 1046: snapshots while the tree changes

// Nodes come and go below /zk: alone, in multis, sequential ones that must never get a name twice.
class Churn {
 public:
  Churn(Random& random, ScriptedClient& client) : random_(random), client_(client) {
    client_.records = false;
    client_.work = [this] {
      look();
      if (resting) return;
      for (int n = 0; n < 3 && client_.all().size() < seen_ + 20; ++n) act();
    };
  }

  // All names that it was given so far are added to `names`; false: one was given twice.
  bool look(std::set<std::string>& names) {
    look();
    return std::all_of(names_.begin(), names_.end(), [&](const auto& name) { return names.insert(name).second; });
  }

  bool resting = false;

 private:
  // Answers that came since.
  void look() {
    for (; seen_ < client_.all().size() && client_.over(seen_); ++seen_) {
      const ScriptedClient::Asked& asked = client_.asked(seen_);
      if (!asked.ok()) continue;
      if (asked.op == wire::Op::kMulti) take_multi(asked.body);
      if (asked.op == wire::Op::kCreate2) take(client_.name(seen_));
    }
  }

  void act() {
    const std::string node = "/zk/c" + std::to_string(random_.below(6));
    switch (random_.below(8)) {
      case 0: return void(client_.create(node));
      case 1: return void(client_.remove(node));
      case 2: return void(client_.set(node));
      case 3: return void(client_.create("/zk/s/q-", CreateMode::kPersistentSequential));
      case 4: return void(client_.create("/zk/s/e-", CreateMode::kEphemeralSequential));
      case 5: {
        if (there_.empty()) return;
        const std::string oldest = there_.front();
        there_.pop_front();
        return void(client_.remove(oldest));
      }
      // Created and deleted within one transaction: only the parent's counters tell.
      case 6:
        return void(client_.multi(ScriptedClient::multi_create("/zk/s/m", CreateMode::kPersistent) +
                                  ScriptedClient::multi_remove("/zk/s/m") +
                                  ScriptedClient::multi_create("/zk/s/q-", CreateMode::kPersistentSequential)));
      // Refused by its last part, as a whole.
      default:
        return void(client_.multi(ScriptedClient::multi_create("/zk/s/q-", CreateMode::kPersistentSequential) +
                                  ScriptedClient::multi_remove("/zk/not-there")));
    }
  }
  void take(const std::string& path) {
    if (!path.starts_with("/zk/s/")) return;
    names_.push_back(path.substr(path.size() - 10));  // one count for all children of a node
    there_.push_back(path);
  }
  void take_multi(const std::string& body) {
    wire::Reader in(body);
    std::string last;
    for (;;) {
      const wire::MultiHeader header = wire::read_multi_header(in);
      if (in.failed() || header.done || header.type == -1) break;
      if (header.type == static_cast<std::int32_t>(wire::Op::kCreate)) last = in.string();
    }
    if (!last.empty()) take(last);
  }

  Random& random_;
  ScriptedClient& client_;
  std::size_t seen_ = 0;
  std::vector<std::string> names_;
  std::deque<std::string> there_;
};

// What the leader would call the next sequential child of `parent`, if this one led. Only at a moment when nothing is
// on its way.
std::string next_name(runtime::Core& core, const std::string& parent, std::int64_t session) {
  tree::Request request;
  request.session = SessionId(session);
  request.op = wire::Op::kCreate2;
  wire::Writer out(request.body);
  out.buffer(std::string_view(parent + "/q-"));
  out.buffer(std::string_view());
  wire::write(out, open_acl());
  out.i32(static_cast<std::int32_t>(CreateMode::kPersistentSequential));
  tree::StateMachine& tree = core.tree();
  const auto txn = tree::decode(tree.prepare(request, Zxid(tree.last_applied().value + 1), 0));
  tree.forget_prepared();
  const auto* create = txn && txn->changes.size() == 1 ? std::get_if<tree::CreateTxn>(&txn->changes.front()) : nullptr;
  if (create == nullptr) return "refused";
  return create->name + " of " + std::to_string(create->id.value) + ", " + std::to_string(create->parent_creates);
}

void expect_one_next_name(ReplicaWorld& world, const Tables& truth) {
  ASSERT_FALSE(truth.sessions.empty());
  std::set<std::string> names;
  for (const Sid sid : world.all()) {
    names.insert(next_name(world.core(sid), "/zk/s", truth.sessions.begin()->first));
  }
  EXPECT_EQ(names.size(), 1U) << *names.begin();
  EXPECT_FALSE(names.contains("refused"));
}

enum class Ending { kGood, kLearnerDies, kLeaderDies, kAllDie };

// One that was away too long is sent a snapshot, and while that is on its way the tree goes on changing; then `ending`.
void snapshot_under_churn(ReplicaWorld& world, AtEqualZxid& same, std::deque<Churn>& churns, Ending ending,
                          int& snapshots) {
  const Sid learner = others(world, {world.leader()})[world.random().below(2)];
  world.crash(learner, ending == Ending::kGood);
  same.run_for(300);
  for (Churn& churn : churns) churn.resting = true;  // the log is cut when there is time for it
  const Zxid last = world.copy_disk(learner).meta.last_logged;
  const auto is_cut = [&] {
    const std::vector<Sid> rest = others(world, {learner});
    return std::all_of(rest.begin(), rest.end(), [&](Sid sid) { return world.copy_disk(sid).meta.log_floor > last; });
  };
  ASSERT_TRUE(world.run_until(is_cut, 10'000));
  for (Churn& churn : churns) churn.resting = false;
  world.core(world.leader()).resign();  // what an old leader has in memory would do instead
  same.run_for(50);
  ASSERT_TRUE(same.run_until([&] { return world.leader() != Sid{}; }, 10'000));
  const Sid leader = world.leader();
  bool held = false;
  world.network().hold([&](Sid from, Sid to, const zab::Message& message) {
    if (from != leader || to != learner) return false;
    const bool is_it = std::holds_alternative<zab::SnapshotEnd>(message);
    held = held || is_it;
    return is_it;
  });
  world.boot(learner);
  ASSERT_TRUE(same.run_until([&] { return held || world.serves(learner); }, 10'000));
  same.run_for(150);
  if (held) ++snapshots;
  if (ending == Ending::kLearnerDies) world.crash(learner, true);
  if (ending == Ending::kLeaderDies) world.crash(leader, true);
  if (ending == Ending::kAllDie) {
    for (const Sid sid : world.all()) world.crash(sid, true);
  }
  world.network().release();
  if (ending != Ending::kGood) same.run_for(100);
  for (const Sid sid : world.all()) world.boot(sid);
  ASSERT_TRUE(same.run_until([&] { return all_serve(world); }, 10'000));
  expect_one_next_name(world, agreed(world, same));
}

TEST(Regression, Zk3125_Zk3127_Zk3144_Zk1046_snapshots_while_nodes_come_and_go) {
  int snapshots = 0;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    ReplicaOptions options = scripted_replicas(seed);
    options.clients = 1;
    options.scripted = 2;
    options.log_keep = 10;
    ReplicaWorld world(options);
    begin(world);
    AtEqualZxid same(world);
    ASSERT_TRUE(same.run_until([&] { return all_serve(world); }, 10'000));
    ScriptedClient& first = *world.scripted()[0];
    first.create("/zk");
    const auto parent = first.create("/zk/s");
    ASSERT_TRUE(same.run_until([&] { return first.ok(parent); }, 2000));
    std::deque<Churn> churns;
    for (ScriptedClient* client : world.scripted()) churns.emplace_back(world.random(), *client);
    for (const Ending ending : {Ending::kGood, Ending::kLearnerDies, Ending::kLeaderDies, Ending::kAllDie}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", ending " << static_cast<int>(ending));
      snapshot_under_churn(world, same, churns, ending, snapshots);
      if (HasFatalFailure()) return;
    }
    for (const Sid sid : world.all()) world.crash(sid, true);
    for (const Sid sid : world.all()) world.boot(sid);
    ASSERT_TRUE(same.run_until([&] { return all_serve(world); }, 10'000));
    expect_one_next_name(world, agreed(world, same));
    std::set<std::string> names;
    for (Churn& churn : churns) EXPECT_TRUE(churn.look(names)) << "a sequential name was given twice";
    EXPECT_GT(names.size(), 100U);
    EXPECT_GT(same.compared(), 300U);
    for (ScriptedClient* client : world.scripted()) client->work = nullptr;
    expect_calm(world);
    expect_one_next_name(world, one_truth(world));
  }
  EXPECT_GE(snapshots, 9);
}

// --- 4306: the end of a session with very many ephemerals

constexpr int kMany = 10'000;
constexpr int kInOneMulti = 100;

std::optional<std::string> logged_close(const store::MemoryDisk& disk, std::int64_t session) {
  for (const auto& [zxid, entry] : disk.log) {
    const auto txn = tree::decode(*entry.payload);
    if (txn && txn->op == wire::Op::kCloseSession && txn->session.value == session) return *entry.payload;
  }
  return std::nullopt;
}

// When the first replica has carried it out, all lose their power: what they start with are their logs.
void end_of_many(std::uint64_t seed, bool closes) {
  ReplicaOptions options = scripted_replicas(seed);
  options.clients = 0;
  options.mounts = 0;
  options.scripted = 1;
  ReplicaWorld world(options);
  begin(world);
  ASSERT_TRUE(world.run_until([&] { return all_serve(world); }, 10'000));
  ScriptedClient& client = *world.scripted().front();
  client.records = false;
  client.create("/zk");
  for (int n = 0; n < kMany; n += kInOneMulti) {
    std::string operations;
    for (int i = n; i < n + kInOneMulti; ++i) {
      const std::string path = "/zk/an-ephemeral-of-many-" + std::to_string(i);
      operations += ScriptedClient::multi_create(path, CreateMode::kEphemeral);
    }
    client.multi(operations);
  }
  ASSERT_TRUE(world.run_until([&] { return client.idle(); }, 20'000));
  const std::int64_t session = client.session();
  const auto count = [&](Sid sid) { return world.core(sid).tree().ephemeral_count(); };
  const std::vector<Sid> all = world.all();
  const auto all_have = [&](std::size_t number) {
    return std::all_of(all.begin(), all.end(), [&](Sid sid) { return count(sid) == number; });
  };
  ASSERT_TRUE(world.run_until([&] { return all_have(kMany); }, 5000));
  std::int64_t patience = 2000;
  if (closes) {
    client.close();
  } else {
    client.stay_with(SimSession::kNowhere);
    client.leave_connection();
    patience = 10'000;
  }
  const std::int64_t until = world.scheduler().now_us() + patience * 1000;
  const auto ended = [&] { return std::any_of(all.begin(), all.end(), [&](Sid sid) { return count(sid) == 0; }); };
  while (!ended() && world.scheduler().run_one(until)) {
  }
  ASSERT_TRUE(ended());
  for (const Sid sid : all) world.crash(sid, true);
  std::size_t in_log = 0;
  for (const Sid sid : all) {
    const auto close = logged_close(world.copy_disk(sid), session);
    if (!close) continue;
    ++in_log;
    EXPECT_LT(close->size(), 200U) << "what belongs to the session is looked up when it is carried out";
  }
  EXPECT_GE(in_log, 2U);
  for (const Sid sid : all) world.boot(sid);
  ASSERT_TRUE(world.run_until([&] { return all_serve(world); }, 10'000));
  client.stay_with(0);
  ASSERT_TRUE(world.run_until([&] { return all_have(0); }, 5000));
  expect_calm(world);
  EXPECT_EQ(one_truth(world).owned_by(session).size(), 0U);
  // And each alone on what it has.
  for (const Sid sid : all) {
    world.crash(sid, true);
    world.boot(sid);
    EXPECT_EQ(count(sid), 0U) << "server " << sid.value;
    EXPECT_FALSE(world.core(sid).tree().session(SessionId(session)).has_value()) << "server " << sid.value;
    EXPECT_EQ(contradiction(read_tables(world.core(sid))), "");
  }
}

TEST(Regression, Zk4306_a_session_with_very_many_ephemerals_is_closed) { end_of_many(1, true); }
TEST(Regression, Zk4306_a_session_with_very_many_ephemerals_expires) { end_of_many(2, false); }

// --- 4416, 4541, 4502, 4712: sessions begin and end while roles change

// Makes ephemerals, closes its session, begins another one.
class Lives {
 public:
  Lives(Random& random, ScriptedClient& client) : random_(random), client_(client) {
    client_.records = false;
    client_.work = [this] { act(); };
  }
  void stop() { client_.work = nullptr; }
  // Of those that were closed by an answered request.
  std::set<std::int64_t> closed() const {
    std::set<std::int64_t> sessions;
    for (const auto& [session, close] : closes_) {
      if (client_.ok(close)) sessions.insert(session);
    }
    return sessions;
  }

 private:
  void act() {
    if (!closes_.empty() && !client_.over(closes_.back().second)) return;
    for (std::uint64_t n = random_.below(4); n > 0; --n) {
      const std::string path = "/zk/e" + std::to_string(client_.number()) + "." + std::to_string(random_.below(5));
      switch (random_.below(4)) {
        case 0: client_.remove(path); break;
        case 1: client_.create("/zk/e-", CreateMode::kEphemeralSequential); break;
        default: client_.create(path, CreateMode::kEphemeral);
      }
    }
    if (random_.chance(0.05)) closes_.emplace_back(client_.session(), client_.close());
    if (random_.chance(0.01)) client_.leave_connection();
  }

  Random& random_;
  ScriptedClient& client_;
  std::vector<std::pair<std::int64_t, ScriptedClient::Number>> closes_;
};

struct Flips {
  std::uint64_t changes_of_role = 0;
  std::size_t closed = 0;
};

void flip(ReplicaWorld& world, AtEqualZxid& same, int round, bool crashes) {
  const Sid leader = world.leader();
  const Sid follower = others(world, {leader}).front();
  switch (round % 4) {
    case 0:
      if (crashes) {
        world.crash(leader, round % 8 == 0);
        same.run_for(300);
        return world.boot(leader);
      }
      world.core(leader).resign();
      return same.run_for(100);
    case 1:
      isolate(world, {leader});
      same.run_for(world.random().between(700, 1300));
      return world.network().heal();
    case 2:
      world.pause(leader, 800);
      return same.run_for(900);
    default:
      isolate(world, {follower});
      same.run_for(world.random().between(700, 1300));
      return world.network().heal();
  }
}

void sessions_while_roles_change(std::uint64_t seed, int rounds, std::int64_t disk_us, bool crashes, Flips& flips) {
  ReplicaOptions options = scripted_replicas(seed);
  options.clients = 1;
  options.mounts = 0;
  options.scripted = 3;
  options.disk_us = disk_us;
  ReplicaWorld world(options);
  begin(world);
  AtEqualZxid same(world);
  ScriptedClient& first = *world.scripted().front();
  const auto parent = first.create("/zk");
  ASSERT_TRUE(same.run_until([&] { return first.ok(parent); }, 2000));
  std::deque<Lives> lives;
  for (ScriptedClient* client : world.scripted()) lives.emplace_back(world.random(), *client);
  for (int round = 0; round < rounds; ++round) {
    ASSERT_TRUE(same.run_until([&] { return all_serve(world) && world.leader() != Sid{}; }, 20'000)) << round;
    flip(world, same, round, crashes);
  }
  ASSERT_TRUE(same.run_until([&] { return all_serve(world); }, 20'000));
  for (Lives& one : lives) one.stop();
  const Tables truth = agreed(world, same);
  for (const Lives& one : lives) {
    for (const std::int64_t session : one.closed()) {
      EXPECT_FALSE(truth.sessions.contains(session));
      EXPECT_TRUE(truth.owned_by(session).empty());
      ++flips.closed;
    }
  }
  flips.changes_of_role += same.changes_of_role();
  EXPECT_GT(same.compared(), 500U);
  expect_calm(world);
  one_truth(world);
}

TEST(Regression, Zk4541_Zk4502_Zk4712_roles_change_with_writes_in_flight) {
  Flips flips;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) sessions_while_roles_change(seed, 40, 4000, false, flips);
  EXPECT_GT(flips.changes_of_role, 500U);
  EXPECT_GT(flips.closed, 200U);
}

TEST(Regression, Zk4416_tables_of_sessions_are_equal_while_sessions_begin_and_leaders_die) {
  Flips flips;
  for (std::uint64_t seed = 11; seed <= 16; ++seed) sessions_while_roles_change(seed, 16, 300, true, flips);
  EXPECT_GT(flips.closed, 100U);
}

}  // namespace
}  // namespace coord::sim
