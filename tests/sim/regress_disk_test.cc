// Known failures with disks that fail or hold less than others' (zab.md section 6), by their ZooKeeper numbers.
#include <algorithm>
#include <map>
#include <tuple>

#include "tests/sim/scenario.h"

namespace coord::sim {
namespace {

std::vector<Sid> others_than(World& world, Sid leader) {
  std::vector<Sid> others;
  for (const Sid sid : world.all()) {
    if (sid != leader) others.push_back(sid);
  }
  return others;
}

// --- 2247: a storage error ends the process (store.h), and the others go on

// The disk of `sid` fails at its nth `stage` from now: the write of pages, their flush, the write of the root, its
// flush, and (kDurable) after that.
void fail_at(World& world, Sid sid, Stage stage, int nth) {
  auto left = std::make_shared<int>(nth);
  world.on_stage = [&world, sid, stage, left](Sid at, Stage now) {
    if (at != sid || now != stage || --*left != 0) return false;
    world.storage_error(at);
    return true;
  };
}

void write_until_it_ends(World& world, Sid leader, Sid victim) {
  for (int i = 0; i < 200 && world.node(victim).up(); ++i) {
    world.node(leader).propose(20);
    world.run_for(1);
  }
  EXPECT_FALSE(world.node(victim).up()) << "a process that cannot write has not ended";
}

// `third`: is there, too; without it nothing is committed that is not on the leader's disk. `slow`: the others'
// acknowledgements come before the disk fails.
void leaders_disk_fails(Stage stage, int nth, bool third, bool slow) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  const std::vector<Sid> others = others_than(world, leader);
  if (!third) world.crash(others[0].value, false);
  world.run_for(20);
  world.node(leader).disk().slow(slow ? 20 : 1);
  fail_at(world, leader, stage, nth);
  write_until_it_ends(world, leader, leader);
  if (!third) {
    world.run_for(1500);
    EXPECT_EQ(world.leader(), nullptr);
    world.boot(others[0].value);
  }
  EXPECT_NE(world.elect(3000), leader);
  world.write(3);
  world.node(leader).disk().slow(1);
  world.boot(leader.value);
  world.must([&] { return world.caught_up(leader); }, 10'000, "returning");
  world.power_cut();
  expect_calm(world);
}

TEST(Regression, Zk2247_the_leaders_disk_fails_at_each_step) {
  for (const Stage stage : kAllStages) {
    for (int nth = 1; nth <= 3; ++nth) {
      for (const bool third : {true, false}) {
        for (const bool slow : {true, false}) {
          SCOPED_TRACE(std::to_string(static_cast<int>(stage)) + " " + std::to_string(nth) + (third ? " third" : "") +
                       (slow ? " slow" : ""));
          leaders_disk_fails(stage, nth, third, slow);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(Regression, Zk2247_a_followers_disk_fails_at_each_step) {
  for (const Stage stage : kAllStages) {
    for (int nth = 1; nth <= 3; ++nth) {
      SCOPED_TRACE(std::to_string(static_cast<int>(stage)) + " " + std::to_string(nth));
      World world(scripted(3));
      const Sid leader = start_with(world, 3);
      const Sid victim = others_than(world, leader)[0];
      fail_at(world, victim, stage, nth);
      write_until_it_ends(world, leader, victim);
      world.write(3);
      EXPECT_EQ(world.ghost().established_count(), 1u) << "a follower's disk is no reason for an election";
      world.boot(victim.value);
      world.must([&] { return world.caught_up(victim); }, 10'000, "returning");
      world.power_cut();
      expect_calm(world);
      if (HasFailure()) return;
    }
  }
}

// A disk that stays full: the one whose it is ends as often as it is started, and disturbs nobody.
TEST(Regression, Zk2247_the_leaders_disk_is_full_and_stays_so) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  world.node(leader).disk().fill(true);
  write_until_it_ends(world, leader, leader);
  world.elect(3000);
  world.write(3);
  const std::size_t leaders = world.ghost().established_count();
  for (int start = 0; start < 5; ++start) {
    world.boot(leader.value);
    world.must([&] { return !world.node(leader).up(); }, 5000, "the end of a process that cannot write");
    world.write(2);
  }
  EXPECT_EQ(world.ghost().established_count(), leaders);
  world.node(leader).disk().fill(false);
  world.boot(leader.value);
  world.must([&] { return world.caught_up(leader); }, 10'000, "returning");
  expect_calm(world);
}

// --- a disk without room: what is to be written waits, and the server is out until there is some

TEST(Regression, A_follower_without_room_is_out_until_there_is_some) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  const Sid victim = others_than(world, leader)[0];
  const Zxid had = world.node(victim).disk().durable().last();
  world.node(victim).disk().starve(true);
  world.write(20);
  world.must([&] { return !world.node(victim).serving(); }, 1000, "leaving");
  world.write(20);
  world.run_for(5000);
  EXPECT_EQ(world.node(victim).disk().durable().last(), had);
  EXPECT_EQ(world.node(victim).phase_changes(), 5u) << "it does not try in between";
  EXPECT_EQ(world.ghost().established_count(), 1u) << "nobody else is disturbed";
  world.node(victim).disk().starve(false);
  world.must([&] { return world.caught_up(victim); }, 10'000, "returning");
  EXPECT_EQ(world.ghost().established_count(), 1u);
  expect_calm(world);
}

TEST(Regression, A_leader_without_room_leaves_the_office_to_others) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  world.node(leader).disk().starve(true);
  for (int i = 0; i < 20; ++i) {
    world.node(leader).propose(20);
    world.run_for(1);
  }
  world.must([&] { return world.leader() != nullptr && world.leader()->sid() != leader; }, 3000, "another leader");
  world.write(20);
  world.run_for(3000);
  EXPECT_EQ(world.ghost().established_count(), 2u);
  world.node(leader).disk().starve(false);
  world.must([&] { return world.caught_up(leader); }, 10'000, "returning");
  EXPECT_EQ(world.ghost().established_count(), 2u);
  expect_calm(world);
}

// It was acknowledged by the two that are left: they must have it, once both can write.
TEST(Regression, Without_room_at_one_of_two_nobody_leads_and_nothing_is_lost) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  const std::vector<Sid> others = others_than(world, leader);
  world.crash(others[1].value, false);
  world.write(3);
  world.node(others[0]).disk().starve(true);
  for (int i = 0; i < 20; ++i) {
    world.node(leader).propose(20);
    world.run_for(1);
  }
  world.must([&] { return world.leader() == nullptr; }, 3000, "the end of an ensemble without a majority");
  world.run_for(3000);
  EXPECT_EQ(world.leader(), nullptr);
  world.node(others[0]).disk().starve(false);
  EXPECT_EQ(world.elect(5000), leader) << "who has it all";
  world.write(3);
  world.boot(others[1].value);
  world.must([&] { return world.caught_up(others[1]); }, 10'000, "returning");
  expect_calm(world);
}

// --- a disk that is nearly full: another one leads, if it can

TEST(Regression, Whose_disk_is_low_leaves_the_office_to_an_equal) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  world.node(leader).disk().low(true);
  world.run_for(50);
  world.node(leader).resign();
  world.must([&] { return world.leader() != nullptr && world.leader()->sid() != leader; }, 500, "another leader");
  world.must([&] { return world.caught_up(leader); }, 500, "following");
  world.write(3);
  // Nor is it elected when that one goes: it has the higher number.
  const Sid next = world.leader()->sid();
  world.crash(next.value, false);
  world.run_for(800);
  ASSERT_NE(world.leader(), nullptr);
  EXPECT_NE(world.leader()->sid(), leader);
  EXPECT_EQ(world.ghost().established_count(), 3u);
  world.boot(next.value);
  expect_calm(world);
}

TEST(Regression, Whose_disk_is_low_leads_when_nobody_else_has_its_history) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  const std::vector<Sid> others = others_than(world, leader);
  const Zxid alone = log_alone(world);
  world.must([&] { return world.leader() == nullptr || world.leader()->sid() != leader; }, 3000, "its end");
  world.crash(others[0].value, false);
  world.crash(others[1].value, false);
  world.node(leader).disk().low(true);
  world.run_for(50);
  world.network().heal();
  world.boot(others[0].value);
  EXPECT_EQ(world.elect(5000), leader);
  EXPECT_TRUE(world.node(leader).disk().durable().holds(alone));
  world.write(3);
  world.boot(others[1].value);
  expect_calm(world);
}

TEST(Regression, When_all_disks_are_low_one_leads) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  for (const Sid sid : world.all()) world.node(sid).disk().low(true);
  world.run_for(50);
  world.crash(leader.value, false);
  EXPECT_NE(world.elect(3000), leader);
  world.write(3);
  world.boot(leader.value);
  expect_calm(world);
}

// --- 2846: logs that were purged unevenly

// Wherever the logs on disk begin, they are parts of one chain, which ends with what was delivered last; and the trees
// below them are of the same history.
void expect_one_history(World& world) {
  std::map<Zxid, std::tuple<Zxid, std::string>> all;
  for (const Sid sid : world.all()) {
    SCOPED_TRACE("server " + std::to_string(sid.value));
    const Image& image = world.node(sid).disk().durable();
    Zxid behind = image.floor;
    for (const zab::LogEntry& entry : image.log) {
      EXPECT_EQ(entry.previous, behind) << to_string(entry.zxid);
      behind = entry.zxid;
      const auto [known, fresh] = all.try_emplace(entry.zxid, entry.previous, *entry.payload);
      EXPECT_TRUE(fresh || known->second == std::tuple(entry.previous, *entry.payload)) << to_string(entry.zxid);
    }
    EXPECT_EQ(behind, world.ghost().last_delivered());
    EXPECT_LE(image.floor, image.tree.zxid);
    EXPECT_EQ(image.tree.chain, world.ghost().chain_at(image.tree.count));
    EXPECT_EQ(world.node(sid).applied().chain, world.ghost().chain_at(world.ghost().history_size()));
  }
}

struct Uneven {
  std::vector<std::size_t> keep;  // entries of log, of servers 1, 2, 3
  int late = 0;                   // the first or second follower; 2: the leader, which has logged something alone
  int missed = 0;                 // by that one
  bool restart = false;           // of the others before that: then they know where their logs begin
};

struct Synchronized {
  std::size_t by_entries = 0, by_snapshot = 0, cut = 0;
};

void synchronize_unevenly(const Uneven& uneven, Synchronized& count) {
  WorldOptions options = scripted(3);
  options.fold_every = 1;
  options.limits.tail_bytes = 0;  // else what was purged is still sent from memory
  World world(options);
  for (std::uint32_t sid = 1; sid <= 3; ++sid) world.node(sid).keep_log(uneven.keep[sid - 1]);
  const Sid first = start_with(world, 15);
  world.crash(first.value);
  world.elect();
  world.write(5);
  world.boot(first.value);
  world.must([&] { return world.caught_up(first); }, 10'000, "the first one's return");

  Sid late = world.elect();
  if (uneven.late < 2) {
    late = others_than(world, late)[static_cast<std::size_t>(uneven.late)];
  } else {
    log_alone(world);
  }
  const Zxid end = world.node(late).disk().durable().last();
  world.crash(late.value);
  world.heal();
  world.elect();
  world.write(uneven.missed);
  world.run_for(300);  // the trees are on disk, and the logs below them go
  if (uneven.restart) {
    world.power_cut();
    for (const Sid sid : others_than(world, late)) world.boot(sid.value);
    world.elect();
  }
  world.boot(late.value);
  world.must([&] { return world.caught_up(late); }, 10'000, "being synchronized");
  const std::uint64_t snapshots = world.node(late).snapshots_installed();
  (snapshots != 0 ? count.by_snapshot : count.by_entries) += 1;
  if (snapshots == 0 && !world.node(late).disk().durable().holds(end)) ++count.cut;

  // The synchronized one leads or brings up the next one, with what it has got.
  for (const Sid with : others_than(world, late)) {
    world.power_cut();
    world.boot(late.value);
    world.boot(with.value);
    world.elect();
    world.write(3);
  }
  world.power_cut();
  expect_calm(world);
  world.run_for(1000);
  expect_one_history(world);
}

TEST(Regression, Zk2846_logs_purged_unevenly_then_a_diff_then_a_restart) {
  Synchronized count;
  std::vector<std::size_t> keep{2, 12, 1000};
  bool restart = false;
  do {
    for (int late = 0; late < 3; ++late) {
      for (const int missed : {1, 8, 40}) {
        restart = !restart;  // and the other way round with the next order of servers
        SCOPED_TRACE(std::to_string(keep[0]) + "," + std::to_string(keep[1]) + "," + std::to_string(keep[2]) + " " +
                     std::to_string(late) + " " + std::to_string(missed) + (restart ? " restart" : ""));
        synchronize_unevenly({keep, late, missed, restart}, count);
        if (HasFailure()) return;
      }
    }
  } while (std::next_permutation(keep.begin(), keep.end()));
  EXPECT_GE(count.by_entries, 10u);
  EXPECT_GE(count.by_snapshot, 10u);
  EXPECT_GE(count.cut, 3u);
}

}  // namespace
}  // namespace coord::sim
