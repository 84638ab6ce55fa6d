// Changes of the members with real disks and delays (zab.md sections 6 and 8): known failures by their ZooKeeper
// numbers, and a crash at every durable step of every side.
#include "tests/sim/scenario.h"

namespace coord::sim {
namespace {

WorldOptions with_list(int voters, int spares, int observers = 0) {
  WorldOptions options = scripted(voters, observers);
  options.spares = spares;
  options.writes_list = true;
  return options;
}

// As start_with(), and the list of the members is in the log.
Sid start_listed(World& world, int count) {
  start_with(world, count);
  world.must([&] { return world.members().version != Zxid{}; }, 10'000, "the first list");
  return world.elect();
}

// The leader takes the change, whoever that is by now.
void change(World& world, std::uint32_t sid, std::optional<Node::Part> part) {
  world.must([&] { return world.leader() != nullptr && world.leader()->reconfig(Sid{sid}, part); }, 10'000,
             "a change that is taken");
}

void add(World& world, std::uint32_t sid) {
  world.enlist(sid, false, true);
  world.must([&] { return world.caught_up(Sid{sid}); }, 10'000, "a guest");
  change(world, sid, Node::Part::kVoter);
  world.must([&] { return world.members().voters.contains(Sid{sid}); }, 10'000, "a new voter");
}

void remove(World& world, std::uint32_t sid) {
  change(world, sid, std::nullopt);
  world.must([&] { return !world.members().is_member(Sid{sid}); }, 10'000, "a removal");
}

TEST(Regression, Reconfig_grows_shrinks_and_replaces_everybody) {
  World world(with_list(3, 2));
  start_listed(world, 3);
  add(world, 4);
  add(world, 5);
  for (const std::uint32_t sid : {1, 2, 3}) {
    remove(world, sid);
    world.write(2);
    world.must([&] { return world.is_dispensable(Sid{sid}); }, 10'000, "everybody's knowing of it");
    world.retire(sid);
    world.write(1);
  }
  world.enlist(1, false, true);
  world.must([&] { return world.caught_up(Sid{1}); }, 10'000, "the one that was emptied");
  change(world, 1, Node::Part::kVoter);
  world.must([&] { return world.members().voters.contains(Sid{1}); }, 10'000, "being a voter again");
  world.power_cut();
  expect_calm(world);
  EXPECT_EQ(world.members().voters, (std::set<Sid>{Sid{1}, Sid{4}, Sid{5}}));
}

// The majority of the new list is gone while the change is pending: the leader must not hang on to its office.
TEST(Regression, Zk1699_the_majority_of_the_new_list_dies_in_the_middle) {
  World world(with_list(3, 0));
  const Sid leader = start_listed(world, 2);
  const std::uint32_t removed = leader == Sid{1} ? 2 : 1;
  std::uint32_t stays = 0;
  for (const Sid sid : world.voters()) {
    if (sid != leader && sid.value != removed) stays = sid.value;
  }
  kill_at_message<zab::Ack>(world, stays, 1);
  const std::size_t before = world.ghost().changes();
  ASSERT_TRUE(world.node(leader).reconfig(Sid{removed}, std::nullopt));
  world.crash(stays);
  world.must([&] { return world.leader() == nullptr; }, 5000, "the leader's resignation");
  world.run_for(2000);
  EXPECT_EQ(world.leader(), nullptr);
  EXPECT_EQ(world.ghost().changes(), before);
  world.network().release();
  world.boot(stays);
  world.must([&] { return world.ghost().changes() > before; }, 10'000, "the completion of the change");
  expect_calm(world);
}

// A change and its commit come before the joiner's UPTODATE.
TEST(Regression, Zk2172_a_change_while_the_joiner_waits_for_uptodate) {
  for (const bool snapshot : {false, true}) {
    WorldOptions options = with_list(3, 1);
    if (snapshot) {
      options.log_keep = 2;
      options.fold_every = 1;
      options.limits.tail_bytes = 10;
    }
    World world(options);
    start_listed(world, 30);
    world.network().hold([](Sid, Sid to, const zab::Message& message) {
      return to == Sid{4} && std::holds_alternative<zab::UpToDate>(message);
    });
    world.enlist(4, false, true);
    const Node& joiner = world.node(4);
    world.must([&] { return joiner.up() && joiner.peer().last_durable() == world.ghost().last_delivered(); }, 10'000,
               "synchronizing");
    change(world, 4, Node::Part::kVoter);
    world.must([&] { return world.members().voters.contains(Sid{4}); }, 10'000, "the change");
    EXPECT_FALSE(world.node(4).serving());
    world.network().release();
    world.must([&] { return world.caught_up(Sid{4}); }, 10'000, "catching up");
    EXPECT_EQ(world.node(4).peer().membership().version, world.members().version);
    EXPECT_TRUE(world.node(4).peer().acknowledges());
    EXPECT_EQ(world.node(4).snapshots_installed(), snapshot ? 1U : 0U);
    expect_calm(world);
  }
}

// Grow, and the disk of one dies at each of its steps: leader, follower, joiner; then the same for a removal.
TEST(Regression, Reconfig_with_a_crash_at_every_durable_step_of_every_side) {
  for (const bool adds : {true, false}) {
    for (int victim = 0; victim < 3; ++victim) {
      for (int stage = 0; stage < kStages; ++stage) {
        for (const int nth : {1, 2}) {
          SCOPED_TRACE(std::to_string(adds) + " " + std::to_string(victim) + " " + std::to_string(stage) + " " +
                       std::to_string(nth));
          World world(with_list(3, 1));
          start_listed(world, 2);
          world.enlist(4, false, true);
          world.must([&] { return world.caught_up(Sid{4}); }, 10'000, "a guest");
          const Sid leader = world.elect();
          const std::uint32_t follower = leader == Sid{1} ? 2 : 1;
          const std::uint32_t dies = victim == 0 ? leader.value : victim == 1 ? follower : 4;
          world.crash_at(dies, static_cast<Stage>(stage), nth);
          ASSERT_TRUE(world.node(leader).reconfig(adds ? Sid{4} : Sid{follower},
                                                  adds ? std::optional(Node::Part::kVoter) : std::nullopt));
          world.run_for(3);
          if (world.node(leader).up()) world.node(leader).propose(20);
          world.run_for(1500);
          world.boot(dies);
          expect_calm(world);
          if (HasFailure()) return;
        }
      }
    }
  }
}

// The same with messages: whoever is about to get the nth proposal, acknowledgement or commit dies.
TEST(Regression, Reconfig_with_a_death_at_every_message) {
  for (const bool removes_the_leader : {true, false}) {
    for (std::uint32_t dies = 1; dies <= 4; ++dies) {
      for (int nth = 1; nth <= 12; ++nth) {
        SCOPED_TRACE(std::to_string(removes_the_leader) + " " + std::to_string(dies) + " " + std::to_string(nth));
        World world(with_list(3, 1));
        start_listed(world, 2);
        add(world, 4);
        const Sid leader = world.elect();
        auto left = std::make_shared<int>(nth);
        world.network().hold([&world, dies, left](Sid, Sid, const zab::Message& message) {
          const bool matters = std::holds_alternative<zab::Proposal>(message) ||
                               std::holds_alternative<zab::Ack>(message) ||
                               std::holds_alternative<zab::Commit>(message) ||
                               std::holds_alternative<zab::Bye>(message);
          if (matters && --*left == 0) world.scheduler().after(0, [&world, dies] { world.crash(dies); });
          return false;
        });
        const std::uint32_t other = leader == Sid{2} ? 3 : 2;
        ASSERT_TRUE(world.node(leader).reconfig(removes_the_leader ? leader : Sid{other}, std::nullopt));
        world.run_for(2000);
        expect_calm(world);
        if (HasFailure()) return;
      }
    }
  }
}

TEST(Regression, A_voter_that_lost_its_disk_is_replaced_under_its_own_id) {
  World world(with_list(3, 0));
  const Sid leader = start_listed(world, 5);
  const std::uint32_t victim = leader == Sid{1} ? 2 : 1;
  world.run_for(1000);
  world.crash(victim);
  world.wipe(victim);
  world.boot(victim);
  world.must([&] { return world.caught_up(Sid{victim}); }, 10'000, "serving with a new disk");
  EXPECT_FALSE(world.node(victim).peer().acknowledges());
  remove(world, victim);
  change(world, victim, Node::Part::kVoter);
  world.must([&] { return world.members().voters.contains(Sid{victim}); }, 10'000, "being a voter again");
  world.must([&] { return world.caught_up(Sid{victim}) && world.node(victim).peer().acknowledges(); }, 10'000,
             "counting again");
  EXPECT_FALSE(world.lost.contains(Sid{victim}));
  for (const Sid sid : world.voters()) {
    if (sid.value != victim && sid != world.leader()->sid()) {
      world.crash(sid.value);
      break;
    }
  }
  world.write(3);
  expect_calm(world);
}

TEST(Regression, Zk1319_a_growing_ensemble_in_restart_storms) {
  World world(with_list(3, 2));
  start_listed(world, 5);
  for (int round = 0; round < 12; ++round) {
    const std::uint32_t joiner = round % 2 == 0 ? 4 : 5;
    if (world.retired(Sid{joiner})) world.enlist(joiner, false, true);
    world.run_for(700);
    if (Node* const leader = world.leader()) {
      leader->reconfig(Sid{joiner}, world.members().voters.contains(Sid{joiner}) ? std::nullopt
                                                                                : std::optional(Node::Part::kVoter));
    }
    world.run_for(round % 5);
    if (round % 3 == 0) {
      world.power_cut();
    } else if (Node* const leader = world.leader()) {
      world.crash(leader->sid().value);
    }
    world.run_for(100);
    boot_all(world);
    world.elect();
    world.write(2);
  }
  expect_calm(world);
}

}  // namespace
}  // namespace coord::sim
