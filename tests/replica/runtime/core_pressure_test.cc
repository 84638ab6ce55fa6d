// Clients that ask for much, read slowly or take all they can get, at a leader and at a follower.
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "tests/replica/runtime/cluster.h"

namespace coord::runtime::testing {
namespace {

constexpr std::size_t kNoEnd = std::numeric_limits<std::size_t>::max();

struct Pressure : ::testing::TestWithParam<bool> {
  Pressure() : cluster(3) {}
  void SetUp() override {
    cluster.start_all();
    ASSERT_TRUE(cluster.settle());
    at = GetParam() ? cluster.leader() : cluster.follower();
    Client setup(cluster, 40'000);
    ASSERT_TRUE(setup.connect(at));
    setup.create("/big", std::string(900'000, 'b'));
    setup.create("/leader", "old");
    setup.create("/other", "");
    for (int n = 0; n < 3; ++n) ASSERT_EQ(setup.err(), Err::kOk);
  }
  static std::string data_of(const Reply& reply) {
    wire::Reader reader(reply.body);
    return std::string(reader.string());
  }
  ClientConn& newest() { return *cluster.core(at).connections().back(); }
  Cluster cluster;
  Sid at;
};

INSTANTIATE_TEST_SUITE_P(LeaderAndFollower, Pressure, ::testing::Bool(),
                         [](const auto& p) { return p.param ? "AtTheLeader" : "AtAFollower"; });

// Its own next write neither shows in a read nor passes the watch that the read leaves, however little the client has
// taken of the answers before.
TEST_P(Pressure, AReadIsAnsweredFromBeforeTheNextWrite) {
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(at));
  client.take_only(0);
  client.gather();
  client.set("/other", "1");
  for (int n = 0; n < 12; ++n) client.get("/big");
  const std::int32_t read = client.get("/leader", true);
  const std::int32_t written = client.set("/leader", "new");
  client.send();
  cluster.clock.run_for(1'000);
  client.take_only(kNoEnd);
  for (std::int32_t xid = 1; xid < read; ++xid) {
    const auto reply = client.next();
    ASSERT_TRUE(reply);
    ASSERT_EQ(reply->xid, xid);
  }
  const auto old = client.next();
  ASSERT_TRUE(old);
  EXPECT_EQ(old->xid, read);
  EXPECT_EQ(data_of(*old), "old");
  const auto event = client.next();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->xid, wire::xid::kNotification);
  const auto reply = client.next();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->xid, written);
  EXPECT_GT(reply->zxid, old->zxid);
}

// With a sync between.
TEST_P(Pressure, OrderIsKeptBehindMuchOutput) {
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(at));
  client.take_only(0);
  client.gather();
  std::map<std::int32_t, std::string> seen;
  std::int32_t xid = 0;
  for (int n = 0; n < 20; ++n) {
    client.set("/leader", std::to_string(n));
    for (int big = 0; big < 7; ++big) client.get("/big");
    client.sync();
    xid = client.get("/leader");
    seen[xid] = std::to_string(n);
  }
  client.send();
  for (int n = 0; n < 20; ++n) {
    client.take_only(static_cast<std::size_t>(n) * 400'000);
    cluster.clock.run_for(100);
  }
  client.take_only(kNoEnd);
  for (std::int32_t n = 1; n <= xid; ++n) {
    const auto reply = client.next();
    ASSERT_TRUE(reply) << n;
    ASSERT_EQ(reply->xid, n);
    if (seen.contains(n)) {
      EXPECT_EQ(data_of(*reply), seen[n]);
    }
  }
}

// With multis and pings between, and a reader so slow that it takes several times its session's timeout.
TEST_P(Pressure, MultisAndPingsKeepTheirPlaceBehindMuchOutput) {
  Client client(cluster, 4'000);
  ASSERT_TRUE(client.connect(at));
  client.take_only(0);
  client.gather();
  std::vector<std::int32_t> order;
  std::map<std::int32_t, std::string> seen;
  const auto ping = [&] {
    client.ping();
    order.push_back(wire::xid::kPing);
  };
  for (int n = 0; n < 20; ++n) {
    for (int big = 0; big < 4; ++big) order.push_back(client.get("/big"));
    ping();
    order.push_back(client.multi({"/leader", "/other"}, std::to_string(n)));
    for (int big = 0; big < 4; ++big) order.push_back(client.get("/big"));
    order.push_back(client.get(n % 2 == 0 ? "/leader" : "/other"));
    seen[order.back()] = std::to_string(n);
    ping();
  }
  client.send();
  const std::size_t all = client.received() + 20u * 8 * 900'000;
  const std::int64_t begun = cluster.clock.now_ms();
  for (int n = 0; client.received() < all; ++n) {
    if (n % 5 == 0) ping();
    client.take_only(1'000'000);
    cluster.clock.run_for(200);
    ASSERT_FALSE(client.ended()) << client.received();
    ASSERT_LT(cluster.clock.now_ms() - begun, 100'000);
  }
  EXPECT_GT(cluster.clock.now_ms() - begun, 20'000);
  client.take_only(kNoEnd);
  std::int64_t zxid = 0;
  for (const std::int32_t xid : order) {
    const auto reply = client.next();
    ASSERT_TRUE(reply) << xid;
    ASSERT_EQ(reply->xid, xid);
    ASSERT_EQ(reply->err, Err::kOk);
    ASSERT_GE(reply->zxid, zxid);
    zxid = reply->zxid;
    if (seen.contains(xid)) {
      EXPECT_EQ(data_of(*reply), seen[xid]);
    }
  }
  EXPECT_EQ(client.read("/leader"), "19");
}

// The answers that writes must wait for are few, so that they fit into memory: behind them nothing more is read.
TEST_P(Pressure, FewReadsWaitForTheirTurn) {
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(at));
  client.gather();
  client.set("/other", "1");
  for (int n = 0; n < 1000; ++n) client.get("/leader");
  client.set("/other", "2");
  client.send();
  cluster.clock.run_until([&] { return newest().queued() > 0; });
  EXPECT_LE(newest().queued(), 130u);
  for (std::int32_t n = 1; n <= 1002; ++n) {
    const auto reply = client.next();
    ASSERT_TRUE(reply) << n;
    ASSERT_EQ(reply->xid, n);
  }
}

TEST_P(Pressure, IdsOfAConnectionAreBounded) {
  Client many(cluster, 40'000);
  ASSERT_TRUE(many.connect(at));
  int accepted = 0;
  for (int n = 0; n < 100 && !many.ended(); ++n) {
    many.auth("user" + std::to_string(n) + ":secret");
    const auto reply = many.next();
    ASSERT_TRUE(reply);
    if (reply->err == Err::kOk) {
      ++accepted;
      continue;
    }
    EXPECT_EQ(reply->err, Err::kAuthFailed);
    break;
  }
  EXPECT_EQ(accepted, 63);  // and the address
  EXPECT_TRUE(many.ends());

  Client again(cluster, 40'000);  // the same one over and over is one
  ASSERT_TRUE(again.connect(at));
  for (int n = 0; n < 100; ++n) {
    again.auth("user:secret");
    ASSERT_EQ(again.err(), Err::kOk);
  }

  Client large(cluster, 40'000);
  ASSERT_TRUE(large.connect(at));
  large.auth(std::string(40'000, 'a') + ":secret");
  EXPECT_EQ(large.err(), Err::kOk);
  large.auth(std::string(40'000, 'b') + ":secret");
  EXPECT_EQ(large.err(), Err::kAuthFailed);
  EXPECT_TRUE(large.ends());
}

// Every request on its way has the ids of its client with it.
TEST_P(Pressure, IdsCountInWhatMayBeOnItsWay) {
  Client client(cluster, 40'000);
  ASSERT_TRUE(client.connect(at));
  client.auth(std::string(60'000, 'a') + ":secret");
  ASSERT_EQ(client.err(), Err::kOk);
  client.gather();
  for (int n = 0; n < 1000; ++n) client.set("/other", "x");
  client.send();
  cluster.clock.run_until([&] { return newest().queued() > 0; });
  EXPECT_LE(newest().queued(), 40u);
  for (int n = 0; n < 1000; ++n) ASSERT_EQ(client.err(), Err::kOk);
}

// Its pings lie behind requests that wait until it has read: that it reads is as good.
TEST_P(Pressure, ASlowReaderLivesAndOneThatStopsDoesNot) {
  Client client(cluster, 4'000);
  ASSERT_TRUE(client.connect(at));
  client.take_only(0);
  for (int n = 0; n < 20; ++n) client.get("/big");
  const std::size_t all = client.received() + 20u * 900'000;
  for (int n = 0; client.received() < all; ++n) {
    if (n % 10 == 0) client.ping();
    client.take_only(60'000);
    cluster.clock.run_for(100);
    ASSERT_FALSE(client.ended()) << client.received();
    ASSERT_LT(n, 1000);
  }
  client.take_only(0);
  for (int n = 0; n < 20; ++n) client.get("/big");
  for (int n = 0; n < 10 && !client.ended(); ++n) {
    client.ping();
    cluster.clock.run_for(1000);
  }
  EXPECT_TRUE(client.ended());
}

// Requests that take long are answered in parts, and others have their turn between.
TEST_P(Pressure, MuchWorkIsDoneInParts) {
  Client client(cluster, 40'000), other(cluster, 40'000);
  ASSERT_TRUE(client.connect(at));
  ASSERT_TRUE(other.connect(at));
  client.gather();
  for (int n = 0; n < 200; ++n) client.get("/leader");
  const std::size_t before = client.received();
  cluster.clock.look_costs_us = 2'000;
  client.send();
  other.get("/other");
  EXPECT_EQ(other.err(), Err::kOk);
  cluster.clock.look_costs_us = 0;
  EXPECT_LT(client.received(), before + 200 * 40);
  for (std::int32_t n = 1; n <= 200; ++n) {
    const auto reply = client.next();
    ASSERT_TRUE(reply) << n;
    ASSERT_EQ(reply->xid, n);
  }
}

}  // namespace
}  // namespace coord::runtime::testing
