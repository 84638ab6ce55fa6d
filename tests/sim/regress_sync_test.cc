// Known failures of synchronization and of what is durable when (zab.md section 6), by their ZooKeeper numbers.
#include "tests/sim/scenario.h"

namespace coord::sim {
namespace {

Sid other_than(World& world, Sid leader) {
  for (const Sid sid : world.voters()) {
    if (sid != leader) return sid;
  }
  return {};
}

// And 1156: no more than that is cut.
TEST(Regression, Zk1154_a_suffix_that_nobody_else_has_is_cut) {
  World world(scripted(3));
  const Sid first = start_with(world, 4);
  const Zxid common = world.ghost().last_delivered();
  const Zxid alone = log_alone(world);
  world.crash(first.value);
  world.heal();
  world.elect();
  world.write(1);
  world.boot(first.value);
  bool cut_too_much = false;
  world.on_stage = [&](Sid at, Stage) {
    cut_too_much = cut_too_much || (at == first && !world.node(first).disk().durable().holds(common));
    return false;
  };
  world.must([&] { return world.caught_up(first); }, 10'000, "returning");
  EXPECT_FALSE(cut_too_much);
  EXPECT_FALSE(world.node(first).disk().durable().holds(alone));
  world.power_cut();
  expect_calm(world);
  EXPECT_FALSE(world.node(first).disk().durable().holds(alone));
}

// And 1558.
TEST(Regression, Zk1549_an_uncommitted_tail_does_not_reach_the_tree) {
  World world(scripted(3));
  const Sid first = start_with(world, 2);
  log_alone(world);
  world.power_cut();
  world.heal();
  const Sid second = other_than(world, first);
  world.boot(first.value);
  world.boot(second.value);
  // It stands for election with its longer log, and dies before anybody has it.
  world.must([&] { return world.node(first).peer().role() == zab::Role::kLeading; }, 5000, "a nomination");
  world.crash(first.value);
  for (const Sid sid : world.voters()) {
    if (sid != first) world.boot(sid.value);
  }
  world.elect();
  world.write(2);
  expect_calm(world);
}

// Dies at every durable step while it adopts a new epoch (1653, 2307, 2354), with entries to take over (4643).
void crash_at_every_step_of_joining(int missed, bool leader_too) {
  for (const Stage stage : kAllStages) {
    for (int nth = 1; nth <= 3; ++nth) {
      for (const bool power_cut : {true, false}) {
        World world(scripted(3));
        const Sid first = start_with(world, 2);
        const Sid late = other_than(world, first);
        world.crash(late.value);
        world.write(missed);
        world.power_cut();
        world.crash_at(late.value, stage, nth, power_cut);
        if (leader_too) world.crash_at(first.value, stage, nth, power_cut);
        boot_all(world);
        world.run_for(1500);
        boot_all(world);
        world.run_for(300);
        world.power_cut();
        expect_calm(world);
      }
    }
  }
}

TEST(Regression, Zk1653_Zk2307_Zk2354_crash_at_every_step_of_adopting_an_epoch) {
  crash_at_every_step_of_joining(0, true);
}
TEST(Regression, Zk4643_crash_between_each_pair_of_durable_steps_of_a_diff) {
  crash_at_every_step_of_joining(5, false);
}

TEST(Regression, Zk2355_connection_cut_in_mid_proposal) {
  World world(scripted(3));
  const Sid leader = start_with(world, 2);
  const Sid cut = other_than(world, leader);
  world.network().hold([&](Sid, Sid to, const zab::Message& message) {
    return to == cut && std::holds_alternative<zab::Proposal>(message);
  });
  world.write(3);
  world.network().reset_some(leader, cut);
  world.network().reset_some(leader, cut);
  world.run_for(100);
  world.network().release();
  world.must([&] { return world.caught_up(cut); }, 10'000, "joining again");
  expect_calm(world);
}

// Every sequence of up to four pairs of three servers, each with a committed write and one that its leader logs alone.
TEST(Regression, Zk2832_all_sequences_of_pairs) {
  const std::set<std::uint32_t> pairs[] = {{1, 2}, {1, 3}, {2, 3}};
  int sequences = 0;
  for (int length = 1; length <= 4; ++length) {
    int count = 1;
    for (int i = 0; i < length; ++i) count *= 3;
    for (int code = 0; code < count; ++code) {
      World world(scripted(3));
      start_with(world, 1);
      int rest = code;
      for (int i = 0; i < length; ++i, rest /= 3) {
        world.power_cut();
        for (const std::uint32_t sid : pairs[rest % 3]) world.boot(sid);
        world.elect();
        if (i % 2 == 0) world.write(1);
        log_alone(world);
        world.heal();
      }
      world.power_cut();
      expect_calm(world);
      ++sequences;
      if (HasFailure()) FAIL() << "sequence " << code << " of length " << length;
    }
  }
  EXPECT_EQ(sequences, 3 + 9 + 27 + 81);
}

TEST(Regression, Zk2845_a_log_without_commit_a_new_election_a_restart) {
  World world(scripted(3));
  const Sid first = start_with(world, 2);
  const Zxid alone = log_alone(world);
  world.must([&] { return world.leader() != nullptr && world.leader()->sid() != first; }, 10'000, "the others");
  world.write(2);
  world.heal();  // the first one has never been restarted
  world.must([&] { return world.caught_up(first); }, 10'000, "joining");
  EXPECT_FALSE(world.node(first).disk().durable().holds(alone));
  world.power_cut();
  world.boot(first.value);
  world.boot(other_than(world, first).value);
  world.elect();
  expect_calm(world);
  EXPECT_FALSE(world.node(first).disk().durable().holds(alone));
}

WorldOptions short_logs() {
  WorldOptions options = scripted(3);
  options.log_keep = 2;
  options.fold_every = 1;
  options.limits.tail_bytes = 0;  // else what was purged is still sent from memory
  return options;
}

// A follower so far behind that it needs a snapshot.
Sid leave_behind(World& world) {
  const Sid leader = start_with(world, 2);
  const Sid late = other_than(world, leader);
  world.crash(late.value);
  world.write(30);
  world.run_for(500);
  world.write(1);
  return late;
}

TEST(Regression, Snapshot_for_who_missed_too_much) {
  World world(short_logs());
  const Sid late = leave_behind(world);
  world.boot(late.value);
  world.must([&] { return world.caught_up(late); }, 10'000, "a snapshot");
  EXPECT_EQ(world.node(late).snapshots_installed(), 1u);
  world.power_cut();
  expect_calm(world);
}

TEST(Regression, Zk2872_snapshot_interrupted_at_each_chunk) {
  for (const bool leader_dies : {false, true}) {
    for (int nth = 1; nth <= 4; ++nth) {
      World world(short_logs());
      const Sid late = leave_behind(world);
      const Sid leader = world.elect();
      kill_at_message<zab::SnapshotChunk>(world, (leader_dies ? leader : late).value, nth);
      world.boot(late.value);
      world.run_for(2000);
      expect_calm(world);
    }
  }
}

TEST(Regression, Zk3642_leader_dies_behind_the_last_byte_of_a_snapshot) {
  World world(short_logs());
  const Sid late = leave_behind(world);
  kill_at_message<zab::SnapshotEnd>(world, world.elect().value, 1);
  world.boot(late.value);
  world.run_for(1500);
  world.network().release();
  boot_all(world);
  world.elect();
  world.write(1);
  world.must([&] { return world.caught_up(late); }, 10'000, "the next leader's snapshot");
  world.power_cut();
  expect_calm(world);
}

TEST(Regression, Zk3104_transactions_during_a_slow_snapshot_then_a_crash_after_newleader) {
  for (const Stage stage : kAllStages) {
    World world(short_logs());
    const Sid late = leave_behind(world);
    world.network().set_latency(5000);
    world.boot(late.value);
    for (int i = 0; i < 10; ++i) world.write(1);
    world.crash_at(late.value, stage, 1);
    world.run_for(500);
    world.network().set_latency(200);
    boot_all(world);
    world.power_cut();
    expect_calm(world);
  }
}

TEST(Regression, Zk3023_Zk3911_Zk4646_Zk4785_power_cut_after_each_acknowledgement) {
  for (int nth = 1; nth <= 12; ++nth) {
    World world(scripted(3));
    boot_all(world);
    auto left = std::make_shared<int>(nth);
    world.network().hold([&world, left](Sid, Sid, const zab::Message& message) {
      if (!std::holds_alternative<zab::Ack>(message) && !std::holds_alternative<zab::AckNewLeader>(message))
        return false;
      if (--*left == 0) world.scheduler().after(50, [&world] { world.power_cut(); });
      return false;
    });
    world.run_until([&] { return world.leader() != nullptr; }, 3000);
    for (int i = 0; i < 12; ++i) {
      if (Node* const leader = world.leader()) leader->propose(20);
      world.run_for(3);
    }
    world.run_for(500);
    world.power_cut();
    expect_calm(world);
  }
}

TEST(Regression, Zk3701_no_space_at_a_truncation) {
  World world(scripted(3));
  const Sid first = start_with(world, 2);
  const Zxid alone = log_alone(world);
  world.crash(first.value);
  world.heal();
  world.elect();
  world.write(1);
  world.node(first).disk().fill(true);
  world.boot(first.value);
  world.must([&] { return !world.node(first).up(); }, 5000, "the end of a process that cannot write");
  EXPECT_TRUE(world.node(first).disk().durable().holds(alone));
  EXPECT_FALSE(world.caught_up(first));
  world.node(first).disk().fill(false);
  world.boot(first.value);
  world.must([&] { return world.caught_up(first); }, 10'000, "returning");
  EXPECT_FALSE(world.node(first).disk().durable().holds(alone));
}

TEST(Regression, Zk4394_proposals_newleader_commits_uptodate_interleaved) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  const Sid late = other_than(world, leader);
  for (int i = 0; i < 8; ++i) {
    world.crash(late.value);
    world.run_for(20);
    world.node(leader).disk().stall_until(0);
    world.node(late).disk().slow(1 + i * 10);
    world.boot(late.value);
    for (int k = 0; k < 200; ++k) {
      world.node(leader).propose(20);
      world.run_for(1);
    }
    world.must([&] { return world.caught_up(late); }, 10'000, "joining under load");
  }
  EXPECT_EQ(world.ghost().established_count(), 1u);
  expect_calm(world);
}

TEST(Regression, Zk4685_a_slow_disk_while_newleader_and_proposals_come) {
  World world(scripted(3));
  const Sid leader = start_with(world, 3);
  const Sid late = other_than(world, leader);
  world.crash(late.value);
  world.write(5);
  world.node(late).disk().set_latency(40'000);
  world.boot(late.value);
  for (int k = 0; k < 100; ++k) {
    world.node(leader).propose(20);
    world.run_for(5);
  }
  world.must([&] { return world.caught_up(late); }, 10'000, "joining with a slow disk");
  EXPECT_EQ(world.ghost().established_count(), 1u);
}

TEST(Regression, Zk4925_stale_follower_leads_other_stale_follower) {
  World world(scripted(5));
  start_with(world, 2);
  const Sid leader = world.elect();
  std::vector<Sid> others;
  for (const Sid sid : world.voters()) {
    if (sid != leader) others.push_back(sid);
  }
  world.crash(others[0].value);
  world.write(5);
  world.crash(others[1].value);
  world.write(5);
  // The stale one catches up by DIFF, then leads, then the other stale one catches up with it.
  world.boot(others[0].value);
  world.must([&] { return world.caught_up(others[0]); }, 10'000, "the first stale one");
  world.crash(leader.value);
  world.crash(others[2].value);
  world.boot(others[1].value);
  world.must([&] { return world.caught_up(others[1]); }, 10'000, "the second stale one");
  world.write(3);
  world.power_cut();
  expect_calm(world);
}

TEST(Regression, Zk5094_connection_cut_in_mid_truncation) {
  for (int nth = 1; nth <= 3; ++nth) {
    World world(scripted(3));
    const Sid first = start_with(world, 2);
    log_alone(world);
    world.crash(first.value);
    world.heal();
    world.elect();
    world.write(6);
    auto left = std::make_shared<int>(nth);
    world.network().hold([&world, left, first](Sid from, Sid to, const zab::Message& message) {
      const bool part = std::holds_alternative<zab::SyncFrom>(message) ||
                        std::holds_alternative<zab::Proposal>(message) ||
                        std::holds_alternative<zab::NewLeader>(message);
      if (to != first || !part || --*left != 0) return false;
      world.scheduler().after(1, [&world, from, to] {
        for (int i = 0; i < 4; ++i) world.network().reset_some(from, to);
      });
      return false;
    });
    world.boot(first.value);
    world.run_for(300);
    world.network().release();
    world.crash(world.elect().value);
    expect_calm(world);
  }
}

TEST(Regression, Lost_disk_never_counts_and_still_serves) {
  World world(scripted(3));
  const Sid leader = start_with(world, 5);
  world.run_for(1000);
  const Sid victim = other_than(world, leader);
  world.crash(victim.value);
  world.wipe(victim.value);
  world.boot(victim.value);
  world.must([&] { return world.caught_up(victim); }, 10'000, "serving with a new disk");
  EXPECT_FALSE(world.node(victim).peer().acknowledges());
  EXPECT_FALSE(world.alarms().empty());
  world.write(2);
  // With the third one away there is no quorum, whatever the one without its promises says.
  for (const Sid sid : world.voters()) {
    if (sid != leader && sid != victim) world.crash(sid.value);
  }
  const std::size_t before = world.ghost().history_size();
  world.node(leader).propose(10);
  world.run_for(4000);
  EXPECT_EQ(world.ghost().history_size(), before);
  EXPECT_EQ(world.leader(), nullptr);
  expect_calm(world);
}

TEST(Regression, Damaged_store_is_repaired_by_a_leader_that_did_not_count_it) {
  World world(scripted(3));
  const Sid leader = start_with(world, 5);
  world.run_for(1000);
  const Sid victim = other_than(world, leader);
  world.crash(victim.value);
  world.node(victim).disk().flip_bit();
  world.boot(victim.value);
  world.must([&] { return world.caught_up(victim); }, 10'000, "the repair");
  world.must([&] { return !world.node(victim).disk().durable().damaged; }, 5000, "being whole again");
  world.write(2);
  expect_calm(world);
}

TEST(Regression, Damaged_and_alone_with_one_that_lags_there_is_no_leader) {
  World world(scripted(3));
  const Sid leader = start_with(world, 5);
  std::vector<Sid> others;
  for (const Sid sid : world.voters()) {
    if (sid != leader) others.push_back(sid);
  }
  world.run_for(1000);
  world.crash(others[0].value);  // lags from here
  world.write(5);
  world.power_cut();
  world.node(leader).disk().flip_bit();
  world.boot(others[0].value);
  world.boot(leader.value);
  world.run_for(5000);
  EXPECT_EQ(world.leader(), nullptr) << "what the damaged one had acknowledged would be lost";
  expect_calm(world);
}

TEST(Regression, Everybody_loses_power_ten_times_under_load) {
  World world(scripted(3));
  for (int i = 0; i < 10; ++i) {
    boot_all(world);
    world.elect();
    for (int k = 0; k < 50; ++k) {
      if (Node* const leader = world.leader()) leader->propose(30);
      world.run_for(1);
    }
    world.power_cut();
  }
  expect_calm(world);
  EXPECT_GT(world.ghost().history_size(), 100u);
}

TEST(Regression, One_server_alone_keeps_what_it_acknowledged) {
  World world(scripted(1));
  for (int i = 0; i < 5; ++i) {
    world.boot(1);
    world.elect(100);
    world.write(5);
    world.crash(1);
  }
  expect_calm(world);
}

}  // namespace
}  // namespace coord::sim
