// Known failures of elections and discovery (zab.md section 6), by their ZooKeeper numbers.
#include <algorithm>
#include <map>
#include <tuple>

#include "replica/peers/codec.h"
#include "tests/sim/scenario.h"

namespace coord::sim {
namespace {

Node* nominee(World& world) {
  for (const Sid sid : world.all()) {
    Node& one = world.node(sid);
    if (one.up() && one.peer().role() == zab::Role::kLeading && one.peer().phase() != zab::Phase::kBroadcast)
      return &one;
  }
  return nullptr;
}

// And 1081, 1082: no epoch is counted up, again and again, by nominees that never had a quorum.
TEST(Regression, Zk335_nominee_killed_before_newleader_three_times) {
  World world(scripted(3));
  start_with(world, 2);
  world.power_cut();
  for (int i = 0; i < 3; ++i) {
    boot_all(world);
    world.must([&] { return nominee(world) != nullptr; }, 5000, "a nomination");
    world.crash(nominee(world)->sid().value);
    world.run_for(50);
  }
  expect_calm(world);
}

TEST(Regression, Zk790_nothing_of_an_epoch_shows_before_it_is_established) {
  World world(scripted(3));
  start_with(world, 2);
  const Zxid last = world.ghost().last_delivered();
  world.power_cut();
  boot_all(world);
  world.must([&] { return nominee(world) != nullptr; }, 5000, "a nomination");
  world.crash(nominee(world)->sid().value);
  for (const Sid sid : world.all()) {
    EXPECT_EQ(world.node(sid).disk().durable().last(), last);
    if (world.node(sid).up()) {
      EXPECT_EQ(world.node(sid).peer().last_logged(), last);
    }
  }
  expect_calm(world);
}

TEST(Regression, Zk1514_members_of_different_rounds_convince_a_joiner) {
  World world(scripted(5));
  start_with(world, 1);
  const Sid leader = world.elect();
  // One of them goes through many elections of its own while the others stay.
  const std::uint32_t other = leader == Sid{1} ? 2 : 1;
  for (int i = 0; i < 6; ++i) {
    world.partition({other});
    world.run_for(1500);
    world.heal();
    world.run_for(1500);
  }
  world.must([&] { return world.caught_up(Sid{other}); }, 10'000, "joining");
  EXPECT_EQ(world.ghost().established_count(), 1u) << "a minority of one changes nothing";
  const std::uint32_t joiner = leader == Sid{3} ? 4 : 3;
  world.crash(joiner);
  world.run_for(300);
  world.boot(joiner);
  world.must([&] { return world.caught_up(Sid{joiner}); }, 5000, "joining members of different rounds");
}

// And 1805, 1818: all of them name the same leader and the same epoch.
TEST(Regression, Zk1732_each_member_restarted_rejoins) {
  World world(scripted(5, 1));
  start_with(world, 3);
  for (int round = 0; round < 2; ++round) {
    for (const Sid sid : world.all()) {
      world.crash(sid.value, round == 0);
      world.elect();
      world.write(1);
      world.boot(sid.value);
      world.must([&] { return world.caught_up(sid); }, 10'000, "rejoining");
      for (const Sid other : world.all()) {
        EXPECT_EQ(world.node(other).peer().leader(), world.elect());
        EXPECT_EQ(world.node(other).peer().epoch(), world.leader()->peer().epoch());
      }
    }
  }
}

TEST(Regression, Zk2959_observers_do_not_count) {
  World world(scripted(2, 3));
  start_with(world, 2);
  const Sid leader = world.elect();
  const std::uint32_t other = leader == Sid{1} ? 2 : 1;
  world.crash(other);
  const std::size_t before = world.ghost().history_size();
  world.node(leader).propose(10);
  world.run_for(5000);
  EXPECT_EQ(world.ghost().history_size(), before) << "one voter of two commits nothing";
  EXPECT_EQ(world.leader(), nullptr);
  expect_calm(world);
}

TEST(Regression, Zk3109_a_nominee_whose_voters_leave_withdraws) {
  World world(scripted(3));
  start_with(world, 2);
  world.power_cut();
  // Whoever is nominated hears nothing of its followers.
  std::set<Sid> nominees;
  world.network().hold([&](Sid, Sid to, const zab::Message& message) {
    if (!std::holds_alternative<zab::FollowerInfo>(message)) return false;
    nominees.insert(to);
    return true;
  });
  boot_all(world);
  world.must([&] { return !nominees.empty(); }, 5000, "a nomination");
  world.run_for(1500);
  world.network().release();
  world.must([&] { return world.leader() != nullptr; }, 4000, "the withdrawal (init limit is 10 s)");
  expect_calm(world);
}

// 4883 is what else can be done about it than to stop: the next epoch begins at once, whatever is being written.
TEST(Regression, Zk1277_Zk4883_the_counter_runs_out_under_load) {
  WorldOptions options = scripted(3);
  options.counter_max = 12;
  World world(options);
  start_with(world, 1);
  std::int64_t written_at = world.now_ms(), longest_wait = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::size_t before = world.ghost().history_size();
    if (Node* const leader = world.leader()) leader->propose(20);
    world.run_for(1);
    if (world.ghost().history_size() > before) written_at = world.now_ms();
    longest_wait = std::max(longest_wait, world.now_ms() - written_at);
    ASSERT_LE(world.ghost().last_delivered().counter(), options.counter_max);
  }
  EXPECT_GT(world.ghost().history_size(), 200u);
  EXPECT_GE(world.ghost().established_count(), world.ghost().history_size() / options.counter_max);
  EXPECT_LE(longest_wait, 250);
  expect_calm(world);
}

// What happened in all of them since it began to look.
struct Work {
  std::size_t messages = 0, bytes = 0, entries = 0, snapshots = 0, commits = 0, applied = 0;
};

std::size_t applied_everywhere(World& world) {
  std::size_t sum = 0;
  for (const Sid sid : world.all()) {
    if (world.node(sid).up()) sum += world.node(sid).applied().count;
  }
  return sum;
}

// From the death of a leader, or the start of everybody, to the service of the next one by all that live.
Work work_of_an_election(int transactions, bool restart) {
  World world(scripted(3));
  const Sid leader = start_with(world, transactions);
  world.run_for(2000);  // all of them know on disk what is committed
  Work work;
  world.network().hold([&work](Sid, Sid, const zab::Message& message) {
    ++work.messages;
    work.bytes += peers::encoded_size(message);
    if (const auto* proposal = std::get_if<zab::Proposal>(&message)) work.entries += proposal->entries.size();
    if (std::holds_alternative<zab::SnapshotBegin>(message)) ++work.snapshots;
    return false;
  });
  world.on_stage = [&work](Sid, Stage stage) {
    work.commits += stage == Stage::kDurable ? 1U : 0U;
    return false;
  };
  if (restart) {
    world.power_cut();
    boot_all(world);
  } else {
    world.crash(leader.value, false);
  }
  const std::size_t before = applied_everywhere(world);
  const auto serve = [&] {
    const std::vector<Sid> all = world.all();
    return world.leader() != nullptr && world.leader()->peer().accepts_proposals() &&
           std::all_of(all.begin(), all.end(),
                       [&](Sid sid) { return !world.node(sid).up() || world.caught_up(sid); });
  };
  world.must(serve, 3000, "an election");
  work.applied = applied_everywhere(world) - before;
  return work;
}

// Between nomination and service nothing is done that grows with the state: no snapshot is sent or loaded, no log is
// read or applied, and what is written and sent is bounded. How long it takes with a real store: tests/bench/ensemble
// --only sized.
TEST(Regression, Zk1697_Zk2678_an_election_costs_the_same_with_any_state) {
  for (const bool restart : {false, true}) {
    for (const int transactions : {20, 1000}) {
      const Work work = work_of_an_election(transactions, restart);
      const std::string when = std::to_string(transactions) + (restart ? " restart" : " crash");
      EXPECT_EQ(work.snapshots, 0u) << when;
      EXPECT_EQ(work.entries, 0u) << when;
      EXPECT_LE(work.applied, 3u) << when;
      EXPECT_LE(work.messages, 80u) << when;
      EXPECT_LE(work.bytes, 6000u) << when;
      EXPECT_LE(work.commits, 12u) << when;
    }
  }
}

// --- 3240: connections of a role end with it

// The learner links that each server has had since it began its present service.
class Offices {
 public:
  explicit Offices(World& world) : world_(world) {}
  // Whenever the service has changed, the links of the one before must be closed.
  void look() {
    for (const Sid sid : world_.all()) {
      Node& one = world_.node(sid);
      Office now;
      if (one.serving()) now = {one.incarnation(), one.peer().role(), one.peer().leader(), one.peer().epoch(), {}};
      const auto open = one.up() ? world_.network().learner_links(sid) : std::map<zab::LinkId, Sid>{};
      Office& then = offices_[sid];
      if (!then.same_as(now)) {
        ++changes_;
        for (const zab::LinkId link : then.links) {
          EXPECT_FALSE(open.contains(link)) << "server " << sid.value << " keeps a connection of its old role";
        }
        then = now;
      }
      for (const auto& [link, peer] : open) {
        if (one.serving()) then.links.insert(link);
      }
      if (one.leads()) counted_are_connected(one, open);
    }
  }
  int changes() const { return changes_; }

 private:
  struct Office {
    std::uint64_t incarnation = 0;
    zab::Role role = zab::Role::kLooking;
    Sid leader;
    std::uint32_t epoch = 0;
    std::set<zab::LinkId> links;
    bool same_as(const Office& other) const {
      return std::tuple(incarnation, role, leader, epoch) ==
             std::tuple(other.incarnation, other.role, other.leader, other.epoch);
    }
  };
  static void counted_are_connected(const Node& leader, const std::map<zab::LinkId, Sid>& open) {
    std::multiset<Sid> connected;
    for (const auto& [link, peer] : open) connected.insert(peer);
    for (const zab::Peer::LearnerView& learner : leader.peer().learners()) {
      EXPECT_EQ(connected.count(learner.sid), 1u) << "learner " << learner.sid.value;
    }
  }
  World& world_;
  std::map<Sid, Office> offices_;
  int changes_ = 0;
};

TEST(Regression, Zk3240_a_change_of_role_closes_the_connections_of_the_old_one) {
  World world(scripted(5, 1));
  start_with(world, 2);
  Offices offices(world);
  for (int flip = 0; flip < 18; ++flip) {
    const int ms = flip % 3 == 2 ? 900 : 100;
    for (int i = 0; i < ms; ++i) {
      for (const Sid sid : world.all()) {
        if (i % 10 == 0) world.node(sid).propose(20);
      }
      world.run_for(1);
      offices.look();
    }
    if (flip % 3 == 1) {
      world.partition({world.elect().value});
      continue;
    }
    world.heal();
    if (Node* const leader = world.leader()) leader->resign();
  }
  EXPECT_GE(world.ghost().established_count(), 9u);
  EXPECT_GE(offices.changes(), 6 * 9);
  expect_calm(world);
}

// It is alive and says by a closed connection that it has left: the leader does not wait for its silence.
TEST(Regression, Zk3240_a_learner_whose_connection_is_closed_does_not_count) {
  World world(scripted(3));
  const Sid leader = start_with(world, 2);
  const Sid other = leader == Sid{1} ? Sid{2} : Sid{1};
  for (const Sid sid : world.all()) {
    if (sid != leader && sid != other) world.crash(sid.value, false);
  }
  world.run_for(1000);
  ASSERT_EQ(world.leader()->sid(), leader);
  world.block(leader.value, other.value);  // it hears nothing, and is heard
  world.must([&] { return world.node(other).peer().role() == zab::Role::kLooking; }, 2000, "leaving");
  world.must([&] { return world.node(leader).peer().learners().empty(); }, 10, "the leader's noticing it");
  const std::size_t before = world.ghost().history_size();
  world.node(leader).propose(20);
  world.must([&] { return !world.node(leader).leads(); }, world.options().timing.sync_limit + 100, "giving up");
  EXPECT_EQ(world.ghost().history_size(), before);
  expect_calm(world);
}

TEST(Regression, Stranded_promise_joins_without_counting) {
  World world(scripted(5));
  start_with(world, 2);
  world.power_cut();
  // The nominee's announcement reaches one server only, which is then cut off; the nominee dies.
  Sid stranded, died;
  world.network().hold([&](Sid from, Sid to, const zab::Message& message) {
    if (!std::holds_alternative<zab::LeaderInfo>(message)) return false;
    if (died == Sid{}) {
      died = from;
      stranded = to;
    }
    return from == died && to != stranded;
  });
  boot_all(world);
  world.must([&] { return stranded != Sid{} && world.node(stranded).disk().durable().accepted_epoch >= 2; }, 5000,
             "a promise");
  world.crash(died.value);
  world.partition({stranded.value});
  world.network().release();
  const Sid leader = world.elect();
  world.write(3);
  const std::size_t leaders = world.ghost().established_count();
  world.heal();
  world.must([&] { return world.caught_up(stranded); }, 10'000, "joining with a stranded promise");
  world.run_for(2000);
  EXPECT_TRUE(world.caught_up(stranded));
  // Three acknowledge besides it, which is a bare quorum: the leader may hand over once, in order, not more.
  EXPECT_LE(world.ghost().established_count(), leaders + 1);
  static_cast<void>(leader);
  expect_calm(world);
}

TEST(Regression, Asymmetric_a_leader_that_hears_nobody_steps_down) {
  World world(scripted(3));
  const Sid leader = start_with(world, 2);
  for (const Sid sid : world.all()) {
    if (sid != leader) world.block(sid.value, leader.value);
  }
  world.must([&] { return world.leader() != nullptr && world.leader()->sid() != leader; }, 15'000, "another leader");
  world.must([&] { return !world.node(leader).leads(); }, 3000, "stepping down");
  world.write(2);
  expect_calm(world);
}

TEST(Regression, Asymmetric_a_follower_that_cannot_speak_changes_nothing) {
  World world(scripted(3));
  const Sid leader = start_with(world, 2);
  const std::uint32_t mute = leader == Sid{1} ? 2 : 1;
  for (const Sid sid : world.all()) {
    if (sid.value != mute) world.block(mute, sid.value);
  }
  for (int i = 0; i < 20; ++i) {
    world.run_for(1000);
    world.write(1);
  }
  EXPECT_EQ(world.ghost().established_count(), 1u);
  expect_calm(world);
}

TEST(Regression, A_flapping_minority_changes_no_leader) {
  World world(scripted(3));
  const Sid leader = start_with(world, 2);
  const std::uint32_t other = leader == Sid{1} ? 2 : 1;
  for (int i = 0; i < 60; ++i) {
    world.partition({other});
    world.run_for(i % 2 == 0 ? 900 : 300);
    world.heal();
    world.run_for(i % 3 == 0 ? 150 : 700);
    world.write(1);
  }
  EXPECT_EQ(world.ghost().established_count(), 1u);
  expect_calm(world);
}

TEST(Regression, Joiner_that_hears_the_followers_but_not_the_leader_changes_nothing) {
  World world(scripted(5));
  const Sid leader = start_with(world, 2);
  const std::uint32_t other = leader == Sid{1} ? 2 : 1;
  world.block(other, leader.value);
  world.block(leader.value, other);
  for (int i = 0; i < 20; ++i) {
    world.run_for(1000);
    world.write(1);
  }
  EXPECT_EQ(world.ghost().established_count(), 1u);
  expect_calm(world);
}

TEST(Regression, A_leader_is_replaced_in_time) {
  for (const bool power_cut : {false, true}) {
    World world(scripted(3));
    const Sid leader = start_with(world, 2);
    const std::int64_t before = world.now_ms();
    world.crash(leader.value, power_cut);
    world.must([&] { return world.leader() != nullptr; }, 3000, "fail-over");
    if (!power_cut) {
      EXPECT_LE(world.now_ms() - before, 250) << "killed: its connections end at once";
    }
  }
}

TEST(Regression, A_hung_leader_is_replaced_within_a_second) {
  World world(scripted(3));
  const Sid leader = start_with(world, 2);
  const std::int64_t before = world.now_ms();
  world.node(leader).pause();
  world.must([&] { return world.leader() != nullptr && world.leader()->sid() != leader; }, 3000, "fail-over");
  EXPECT_LE(world.now_ms() - before, 1000);
  world.write(3);
  world.node(leader).resume();
  world.node(leader).confirm();  // it must not believe that it leads
  expect_calm(world);
}

}  // namespace
}  // namespace coord::sim
