// The judge itself, and the moments at which exactly-once is hard, each on purpose.
#include "tests/sim/replica/exactly_once.h"

#include <gtest/gtest.h>

#include "replica/tree/txn.h"
#include "tests/sim/replica/scenario.h"

namespace coord::sim {
namespace {

using Direction = ReplicaWorld::Direction;

class Written {
 public:
  void add(std::int64_t seq, tree::Change change) {
    tree::Txn txn;
    txn.session = SessionId(7);
    txn.op = wire::Op::kCreateNode;
    txn.seq = seq;
    txn.changes.push_back(std::move(change));
    auto payload = std::make_shared<std::string>();
    tree::encode(txn, *payload);
    const Zxid zxid(1, static_cast<std::uint32_t>(log.size() + 1));
    log.push_back(store::LogEntry{zxid, log.empty() ? Zxid{} : log.back().zxid, std::move(payload)});
  }
  std::string verdict() const { return judge_exactly_once(log, {}).violation; }

  std::vector<store::LogEntry> log;
};

tree::CreateTxn node(std::uint64_t id) {
  tree::CreateTxn create;
  create.id = NodeId(id);
  create.parent = kRootNode;
  create.name = "n" + std::to_string(id);
  create.acl = open_acl();
  return create;
}

TEST(Exactly_once_judge, Sees_a_request_that_is_applied_twice) {
  Written written;
  written.add(1, node(16));
  written.add(2, node(17));
  written.add(1, tree::ErrorTxn{});  // a repeated one
  EXPECT_EQ(written.verdict(), "");
  EXPECT_EQ(judge_exactly_once(written.log, {}).repetitions, 1u);
  written.add(2, node(18));
  EXPECT_NE(written.verdict(), "");
}

TEST(Exactly_once_judge, Sees_ids_that_are_given_twice) {
  Written nodes;
  nodes.add(1, node(16));
  nodes.add(2, node(16));
  EXPECT_NE(nodes.verdict(), "");
  Written blocks;
  blocks.add(0, tree::ReserveIdsTxn{NodeId(20), 10});
  blocks.add(0, tree::ReserveIdsTxn{NodeId(30), 10});
  EXPECT_EQ(blocks.verdict(), "");
  blocks.add(0, tree::ReserveIdsTxn{NodeId(39), 10});
  EXPECT_NE(blocks.verdict(), "");
}

// Requests are on their way when their client goes elsewhere, and arrive after it has asked there again.
TEST(Exactly_once, Requests_of_the_old_connection_arrive_after_the_session_has_moved) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    ReplicaWorld world(scripted_replicas(seed));
    begin(world);
    for (int round = 0; round < 5; ++round) {
      SimMount& mount = *world.mounts().front();
      const Sid old{mount.replica()};
      world.cut_client(mount.number(), old, Direction::kToReplica, true);
      world.run_for(100);
      mount.leave_connection();
      ASSERT_TRUE(world.run_until([&] { return mount.in_session(); }, 20'000));
      world.run_for(40);
      world.cut_client(mount.number(), old, Direction::kToReplica, false);
      world.run_for(200);
    }
    expect_calm(world);
    EXPECT_GT(world.once().answered, 20u);
  }
}

// Requests are carried out, and their answers never arrive.
TEST(Exactly_once, Answers_are_lost_and_the_leader_changes) {
  std::size_t repetitions = 0;
  for (std::uint64_t seed = 11; seed <= 15; ++seed) {
    ReplicaWorld world(scripted_replicas(seed));
    begin(world);
    for (int round = 0; round < 3; ++round) {
      SimMount& mount = *world.mounts().front();
      const Sid old{mount.replica()};
      world.cut_client(mount.number(), old, Direction::kToClient, true);
      world.run_for(100);
      const Sid leader = world.leader();
      if (leader != Sid{}) world.crash(leader, round % 2 == 0);
      mount.leave_connection();
      ASSERT_TRUE(world.run_until([&] { return mount.in_session(); }, 20'000));
      if (leader != Sid{}) world.boot(leader);
      world.cut_client(mount.number(), old, Direction::kToClient, false);
      world.run_for(300);
    }
    expect_calm(world);
    repetitions += world.once().repetitions;
  }
  EXPECT_GT(repetitions, 20u) << "requests that were carried out are asked for again";
}

}  // namespace
}  // namespace coord::sim
