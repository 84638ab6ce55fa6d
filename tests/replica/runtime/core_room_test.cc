// A disk that is nearly full, and one without room, at members of an ensemble: who writes, who leads, who leaves.
#include <gtest/gtest.h>

#include "tests/replica/runtime/cluster.h"

namespace coord::runtime::testing {
namespace {

struct Room : ::testing::Test {
  Room() : cluster(3) { full.refuse_writes = true; }
  void SetUp() override {
    cluster.start_all();
    ASSERT_TRUE(cluster.settle());
    cluster.clock.run_for(500);  // the followers have said how they stand
  }
  Cluster cluster;
  store::Space full;  // nearly
};

TEST_F(Room, ADiskThatFillsUpRefusesWritesOnlyWithoutAQuorum) {
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.leader()));
  cluster.store(cluster.follower(0)).set_space(full);
  cluster.clock.run_for(500);
  client.create("/one", "");
  EXPECT_EQ(client.err(), Err::kOk);
  cluster.store(cluster.follower(1)).set_space(full);
  cluster.clock.run_for(500);
  client.create("/two", "");
  EXPECT_NE(client.err(), Err::kOk);
  cluster.store(cluster.follower(1)).set_space({});
  cluster.clock.run_for(500);
  client.create("/two", "");
  EXPECT_EQ(client.err(), Err::kOk);
}

TEST_F(Room, ALeaderWhoseDiskIsNearlyFullHandsOverOnceToOneWithSpace) {
  const Sid low = cluster.leader();
  const std::uint32_t epoch = cluster.core(low).peer().epoch();
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  cluster.store(low).set_space(full);
  client.create("/at-once", "");
  EXPECT_NE(client.err(), Err::kQuotaExceeded);
  ASSERT_TRUE(cluster.clock.run_until(
      [&] { return cluster.leader() != low && cluster.leader() != Sid() && cluster.all_serve(); }, 1'000));
  ASSERT_TRUE(client.connect(cluster.leader()));
  client.create("/one", "");
  EXPECT_EQ(client.err(), Err::kOk);
  cluster.clock.run_for(120'000);
  EXPECT_NE(cluster.leader(), low);
  EXPECT_EQ(cluster.core(low).peer().epoch(), epoch + 1) << "one change of leader";
  // The next one fills up as well: a majority with space is left only when the first has some again.
  const Sid next = cluster.leader();
  cluster.store(next).set_space(full);
  cluster.clock.run_for(5'000);
  EXPECT_EQ(cluster.leader(), next) << "nobody could do better";
  Client other(cluster, 40'000);
  ASSERT_TRUE(other.connect(next));
  other.create("/two", "");
  EXPECT_EQ(other.err(), Err::kQuotaExceeded);
  cluster.store(low).set_space({});
  EXPECT_TRUE(cluster.clock.run_until([&] { return cluster.leader() != next && cluster.leader() != Sid(); }, 2'000));
}

// Equal disks fill up together, and the others say so a moment later.
TEST_F(Room, ALeaderDoesNotHandOverToThoseThatFillUpAtTheSameTime) {
  const Sid leader = cluster.leader();
  const std::uint32_t epoch = cluster.core(leader).peer().epoch();
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  cluster.store(leader).set_space(full);
  cluster.clock.run_for(50);
  for (int n = 0; n < 2; ++n) cluster.store(cluster.follower(n)).set_space(full);
  client.create("/one", "");
  EXPECT_EQ(client.err(), Err::kQuotaExceeded) << "it waited until it was known";
  cluster.clock.run_for(5'000);
  EXPECT_EQ(cluster.leader(), leader);
  EXPECT_EQ(cluster.core(leader).peer().epoch(), epoch);
}

// Those with space cannot be elected: who is elected again refuses writes for a while, and does not hand over at once.
TEST_F(Room, ALeaderWhoseDiskIsNearlyFullDoesNotHandOverAgainAndAgain) {
  const Sid low = cluster.leader();
  for (int n = 0; n < 2; ++n) {
    const Sid now = cluster.leader();
    cluster.store(now).set_space(full);
    ASSERT_TRUE(cluster.clock.run_until([&] { return cluster.leader() != now && cluster.leader() != Sid(); }, 2'000));
    cluster.store(now).set_space({});
    cluster.clock.run_for(1'000);
    if (cluster.leader() == low) break;
  }
  ASSERT_EQ(cluster.leader(), low);
  const std::uint32_t epoch = cluster.core(low).peer().epoch();
  cluster.store(low).set_space(full);
  cluster.clock.run_for(5'000);
  EXPECT_EQ(cluster.leader(), low);
  EXPECT_EQ(cluster.core(low).peer().epoch(), epoch);
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.follower(0)));
  client.create("/one", "");
  EXPECT_EQ(client.err(), Err::kQuotaExceeded);
  EXPECT_TRUE(cluster.clock.run_until([&] { return cluster.leader() != low && cluster.leader() != Sid(); }, 60'000));
}

TEST_F(Room, AFollowerWithoutRoomLeavesAndComesBack) {
  const Sid small = cluster.follower(0);
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.follower(1)));
  Client there(cluster, 40'000);
  ASSERT_TRUE(there.connect(small));
  const auto alarms = [&] { return cluster.core(small).ensemble_status().alarms; };
  for (const bool snapshot : {false, true}) {
    store::Space none;
    none.waiting = !snapshot;
    none.map_full = true;
    none.snapshots_too_large = snapshot ? 1 : 0;
    const std::uint32_t epoch = cluster.core(cluster.leader()).peer().epoch();
    cluster.store(small).set_space(none);
    EXPECT_TRUE(cluster.clock.run_until([&] { return !cluster.core(small).serving(); }, 100));
    EXPECT_TRUE(cluster.clock.run_until([&] { return !alarms().empty(); }, 1'000));
    ASSERT_EQ(alarms().size(), 1u);
    EXPECT_NE(alarms()[0].find("coord.mapSize"), std::string::npos) << alarms()[0];
    const std::uint64_t tries = cluster.core(small).peer().round().value_or(0);
    cluster.clock.run_for(20'000);
    EXPECT_FALSE(cluster.core(small).serving());
    EXPECT_EQ(cluster.core(small).peer().round().value_or(0), tries) << "it takes no part in elections";
    client.create(snapshot ? "/two" : "/one", "");
    EXPECT_EQ(client.err(), Err::kOk);
    store::Space low = none;
    low.waiting = false;
    low.refuse_writes = true;
    cluster.store(small).set_space(low);
    cluster.clock.run_for(20'000);
    EXPECT_FALSE(cluster.core(small).serving()) << "with so little it would soon be out again";
    low.refuse_writes = false;
    cluster.store(small).set_space(low);
    EXPECT_TRUE(cluster.clock.run_until([&] { return cluster.core(small).serving() && alarms().empty(); }, 15'000));
    EXPECT_EQ(cluster.core(cluster.leader()).peer().epoch(), epoch) << "nobody else was disturbed";
  }
  EXPECT_TRUE(there.ended()) << "its clients went to others";
}

TEST_F(Room, ALeaderWithoutRoomLeavesTheOfficeToOthers) {
  const Sid small = cluster.leader();
  store::Space none;
  none.waiting = true;
  cluster.store(small).set_space(none);
  ASSERT_TRUE(cluster.clock.run_until([&] { return cluster.leader() != small && cluster.leader() != Sid(); }));
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(cluster.leader()));
  client.create("/one", "");
  EXPECT_EQ(client.err(), Err::kOk);
  cluster.store(small).set_space({});
  EXPECT_TRUE(cluster.clock.run_until([&] { return cluster.core(small).serving(); }));
  EXPECT_EQ(cluster.core(small).ensemble_status().role, zab::Role::kFollowing);
}

}  // namespace
}  // namespace coord::runtime::testing
