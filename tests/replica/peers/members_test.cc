// Members that change, joiners, feature levels: who is let in, who dials, and two that dial each other at once.
#include <random>

#include "tests/replica/peers/transport_testing.h"

namespace coord::peers {
namespace {

using namespace testing;
using zab::Ping;

const Zxid kOld(1, 5), kYoung(2, 7);

class MembersTest : public TransportTest {
 protected:
  // Server `sid` with this list; the ports are filled in by connect().
  Server& add_with(std::uint32_t sid, const std::vector<std::uint32_t>& list, Zxid version,
                   const std::function<void(TransportOptions&)>& change = {}) {
    return add(sid, 0, [&](TransportOptions& options) {
      for (const std::uint32_t n : list) options.members[Sid(n)] = PeerAddress{"127.0.0.1", 1, false};
      options.members_version = version;
      if (change) change(options);
    });
  }
  void set_list(Server& server, Zxid version, const std::vector<std::uint32_t>& list) {
    server.options.members.clear();
    for (const std::uint32_t n : list) {
      PeerAddress& address = server.options.members[Sid(n)] = PeerAddress{"127.0.0.1", 1, false};
      for (const auto& other : servers_) {
        if (other->options.self == Sid(n)) address.port = other->transport->port();
      }
    }
    server->set_members(version, server.options.members);
  }
  static bool both_linked(const Server& one, const Server& two) {
    return one.user->link_to(two.options.self.value).value != 0 && two.user->link_to(one.options.self.value).value != 0;
  }
};

void dial_larger_soon(TransportOptions& options) { options.dial_larger_after = Ms(30); }

// --- who is not let in

TEST_F(MembersTest, AJoinerIsRefusedWhileTheListsAreOfFiles) {
  Server& one = add_with(1, {1, 2}, Zxid());
  Server& joiner = add_with(3, {1, 2, 3}, Zxid());
  connect();
  ASSERT_TRUE(until([&] { return joiner.user->troubles.contains(Sid(1)) && one.user->troubles.contains(Sid(0)); }));
  EXPECT_NE(joiner.user->troubles[Sid(1)].find("server 3 is no member"), std::string::npos);
  EXPECT_NE(one.user->troubles[Sid(0)].find("server 3 is no member"), std::string::npos);
  EXPECT_EQ(one.user->count("up") + joiner.user->count("up"), 0u);
}

TEST_F(MembersTest, AMemberWhoseFileIsNotTheListIsToldToCorrectIt) {
  Server& one = add_with(1, {1, 2, 3, 4}, kOld);
  Server& two = add_with(2, {1, 2, 3}, Zxid());
  connect();
  ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)) && one.user->troubles.contains(Sid(2)); }));
  for (const std::string& text : {one.user->troubles[Sid(2)], two.user->troubles[Sid(1)]}) {
    EXPECT_NE(text.find("server 4 is a voter in the configuration of server 1 and no member"), std::string::npos)
        << text;
    EXPECT_NE(text.find("coordctl get /zookeeper/config"), std::string::npos) << text;
  }
  EXPECT_EQ(one.user->count("up") + two.user->count("up"), 0u);
  // With the right lines it is let in, and the trouble is over.
  set_list(two, Zxid(), {1, 2, 3, 4});
  ASSERT_TRUE(until([&] { return both_linked(one, two); }));
  EXPECT_TRUE(one.user->troubles.empty());
  EXPECT_TRUE(two.user->troubles.empty());
}

TEST_F(MembersTest, WhoDoesNotKnowTheFeatureLevelIsRefusedAndBothSaySo) {
  Server& one = add(1, 2, [](TransportOptions& options) { options.feature_level = options.feature_level_known = 2; });
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)) && one.user->troubles.contains(Sid(2)); }));
  for (const std::string& text : {one.user->troubles[Sid(2)], two.user->troubles[Sid(1)]}) {
    EXPECT_NE(text.find("server 2 knows feature level 1, the ensemble is at level 2"), std::string::npos) << text;
  }
  two->dial_learner(1, Sid(1));
  ASSERT_TRUE(until([&] { return two.user->failed.contains(1); }));
  EXPECT_NE(two.user->failed[1].find("knows feature level 1"), std::string::npos) << two.user->failed[1];
  EXPECT_EQ(one.user->count("up") + two.user->count("up"), 0u);
}

TEST_F(MembersTest, ANewFeatureLevelCountsForTheHandshakesToCome) {
  Server& one = add(1, 2, [](TransportOptions& options) { options.feature_level_known = 2; });
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return both_linked(one, two); }));
  one->set_feature_level(2);
  EXPECT_FALSE(until([&] { return !both_linked(one, two); }, Ms(100)));
  const auto link = one.user->link_to(2);
  one->close(link, "test");
  one.user->up.erase(link);
  ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)); }));
  EXPECT_NE(two.user->troubles[Sid(1)].find("knows feature level 1"), std::string::npos);
  EXPECT_EQ(one.user->up.size() + two.user->up.size(), 0u);
}

// Both dial and both refuse: each has one line about the other.
TEST_F(MembersTest, TwoThatRefuseEachOtherSayItOnce) {
  Server& one = add(1, 2, [](TransportOptions& options) {
    dial_larger_soon(options);
    options.members[Sid(7)] = {"127.0.0.1", 1, false};
  });
  Server& two = add(2, 2, dial_larger_soon);
  connect();
  ASSERT_TRUE(until([&] { return one.user->troubles.contains(Sid(2)) && two.user->troubles.contains(Sid(1)); }));
  EXPECT_FALSE(until([&] { return one.user->told[Sid(2)].size() + two.user->told[Sid(1)].size() != 2; }, Ms(400)));
}

// --- who dials

TEST_F(MembersTest, AJoinerDialsThoseWhoDoNotListIt) {
  for (const std::uint32_t joining : {1u, 4u}) {  // smaller than the others, and larger
    SCOPED_TRACE(joining);
    servers_.clear();
    Server& two = add_with(2, {2, 3}, kOld);
    Server& three = add_with(3, {2, 3}, kOld);
    Server& joiner = add_with(joining, {2, 3, joining}, Zxid(), dial_larger_soon);
    connect();
    ASSERT_TRUE(
        until([&] { return both_linked(two, joiner) && both_linked(three, joiner) && both_linked(two, three); }));
    for (const auto& [link, event] : joiner.user->up) EXPECT_TRUE(event.dialed);
    for (const auto& server : servers_) EXPECT_TRUE(server->user->troubles.empty());
    joiner->dial_learner(1, Sid(3));
    ASSERT_TRUE(until([&] { return three.user->link_to(joining, Channel::kLearner).value != 0; }));
    // It has the list now; then it is a member. Nothing of that touches a link.
    const std::size_t events = joiner.user->events.size() + two.user->events.size() + three.user->events.size();
    set_list(joiner, kOld, {2, 3});
    for (Server* server : {&three, &joiner, &two}) set_list(*server, kYoung, {2, 3, joining});
    EXPECT_FALSE(until(
        [&] { return joiner.user->events.size() + two.user->events.size() + three.user->events.size() != events; },
        Ms(100)));
  }
}

TEST_F(MembersTest, WhoIsNotInItsOwnListDialsAllAtOnce) {
  Server& guest = add_with(1, {2, 3}, kOld);
  Server& two = add_with(2, {2, 3}, kOld);
  Server& three = add_with(3, {2, 3}, kOld);
  connect();
  ASSERT_TRUE(until([&] { return both_linked(two, guest) && both_linked(three, guest); }));
  for (const auto& [link, event] : guest.user->up) EXPECT_TRUE(event.dialed);
}

TEST_F(MembersTest, ALargerIdIsDialedOnlyWhenItDoesNotDial) {
  Server& one = add(1, 2, [](TransportOptions& options) { options.dial_larger_after = Ms(200); });
  Server& two = add(2, 2, [](TransportOptions& options) { options.members[Sid(1)].port = 2; });  // nobody is there
  const auto began = std::chrono::steady_clock::now();
  connect();
  ASSERT_TRUE(until([&] { return both_linked(one, two); }));
  EXPECT_GE(std::chrono::steady_clock::now() - began, Ms(200));
  EXPECT_TRUE(one.user->up.begin()->second.dialed);
  // Again when that link goes, and not while there is one.
  const auto link = two.user->link_to(1);
  two->close(link, "test");
  two.user->up.erase(link);
  ASSERT_TRUE(until([&] { return one.user->up.empty(); }));
  ASSERT_TRUE(until([&] { return both_linked(one, two); }));
  EXPECT_TRUE(one.user->up.begin()->second.dialed);
  EXPECT_FALSE(until([&] { return one->open_connections() != 1 || two->open_connections() != 1; }, Ms(400)));
}

TEST_F(MembersTest, ALinkThatTheOtherHasDialedIsDialedAgainByWhoeverMay) {
  Server& one = add(1, 2, dial_larger_soon);
  Server& two = add(2, 2, [](TransportOptions& options) { options.members[Sid(1)].port = 2; });
  connect();
  ASSERT_TRUE(until([&] { return both_linked(one, two); }));
  // Now server 2 can reach server 1 as well, and dials first when the link is gone.
  one->set_members(Zxid(), {{Sid(1), {"127.0.0.1", one->port(), false}}, {Sid(2), {"127.0.0.1", 2, false}}});
  two->set_members(Zxid(), {{Sid(1), {"127.0.0.1", one->port(), false}}, {Sid(2), {"127.0.0.1", two->port(), false}}});
  const auto link = one.user->link_to(2);
  one->close(link, "test");
  one.user->up.erase(link);
  ASSERT_TRUE(until([&] { return two.user->over.size() == 1 && both_linked(one, two); }));
  EXPECT_TRUE(two.user->up.begin()->second.dialed);
}

// --- when the list changes

TEST_F(MembersTest, LinksOfThoseWhoLeaveStayAndWhoIsDialedChangesAtOnce) {
  for (std::uint32_t sid = 1; sid <= 3; ++sid) add_with(sid, {1, 2, 3}, kOld);
  Server &one = *servers_[0], &two = *servers_[1], &three = *servers_[2];
  connect();
  ASSERT_TRUE(until([&] { return both_linked(one, two) && both_linked(two, three) && both_linked(one, three); }));
  const std::size_t events = one.user->events.size() + two.user->events.size() + three.user->events.size();
  // Server 2 leaves, server 3 becomes an observer.
  for (auto& server : servers_) {
    server->options.members.erase(Sid(2));
    server->options.members[Sid(3)].observer = true;
    (*server)->set_members(kYoung, server->options.members);
  }
  EXPECT_FALSE(until(
      [&] { return one.user->events.size() + two.user->events.size() + three.user->events.size() != events; },
      Ms(100)));
  send(one, one.user->link_to(2), Ping{1});
  ASSERT_TRUE(until([&] { return received(two, two.user->link_to(1)) == 1; }));
  // Nobody dials the one that has left any more.
  const auto link = three.user->link_to(2), there = two.user->link_to(3);
  three->close(link, "test");
  two->close(there, "test");
  three.user->up.erase(link);
  two.user->up.erase(there);
  EXPECT_FALSE(until([&] { return two.user->up.size() != 1 || three.user->up.size() != 1; }, Ms(150)));
  // It dials the voters.
  const auto last = one.user->link_to(2);
  one->close(last, "test");
  one.user->up.erase(last);
  ASSERT_TRUE(until([&] { return two.user->over.size() == 1 && both_linked(one, two); }));
  EXPECT_TRUE(two.user->up[two.user->link_to(1)].dialed);
  EXPECT_TRUE(three.user->over.empty());
  for (const auto& server : servers_) EXPECT_TRUE(server->user->troubles.empty());
}

TEST_F(MembersTest, ANewMemberIsDialedAtOnceAndOneThatLeftIsFollowedStill) {
  Server& one = add_with(1, {1, 3}, kOld);
  Server& two = add_with(2, {1, 2, 3}, kYoung);
  Server& three = add_with(3, {1, 3}, kOld);
  connect();
  three->dial_learner(1, Sid(2));
  ASSERT_TRUE(until([&] { return three.user->failed.contains(1); }));
  EXPECT_NE(three.user->failed[1].find("no address of server 2"), std::string::npos) << three.user->failed[1];
  EXPECT_EQ(three.user->link_to(2), zab::LinkId());
  for (Server* server : {&one, &three}) set_list(*server, kYoung, {1, 2, 3});
  ASSERT_TRUE(until([&] { return both_linked(two, three); }));
  EXPECT_TRUE(three.user->up[three.user->link_to(2)].dialed);
  for (Server* server : {&one, &three}) set_list(*server, Zxid(3, 1), {1, 3});
  three->dial_learner(2, Sid(2));
  ASSERT_TRUE(until([&] { return two.user->link_to(3, Channel::kLearner).value != 0; }));
}

TEST_F(MembersTest, AnAddressThatChangesIsDialedAtOnce) {
  Server& one = add(1, 2);
  Server& two = add(2, 2, [](TransportOptions& options) {
    options.members[Sid(1)] = {"no.such.host.invalid", 2, false};
    options.redial_first = options.redial_most = Ms(60'000);
  });
  connect();
  two->set_members(Zxid(), {{Sid(1), {"127.0.0.1", one->port(), false}}, {Sid(2), {"127.0.0.1", two->port(), false}}});
  ASSERT_TRUE(until([&] { return both_linked(one, two); }));
}

// --- two that dial each other at once

// Servers 1 and 2, each on a loop of its own, whose turns are dealt out at random: who comes up first at whom, and
// whether a dial is given up in time, is another thing in each round.
TEST_F(MembersTest, TwoThatDialEachOtherAtOnceKeepTheSameConnection) {
  std::mt19937 random(11);
  std::size_t crossed = 0, kept_smaller = 0;
  for (int round = 0; round < 400; ++round) {
    SCOPED_TRACE(round);
    net::Loop loops[2];
    TransportOptions options[2];
    std::unique_ptr<Transport> transports[2];
    Recorder users[2];
    for (std::uint32_t n : {0u, 1u}) {
      options[n].self = Sid(n + 1);
      options[n].listen_address = "127.0.0.1";
      options[n].members = {{Sid(1), {"127.0.0.1", 1, false}}, {Sid(2), {"127.0.0.1", 1, false}}};
      options[n].secret = "secret";
      options[n].directory_id = "directory " + std::to_string(n);
      options[n].incarnation = 5 + n;
      options[n].dial_larger_after = Ms(0);
      auto opened = Transport::open(loops[n], options[n]);
      ASSERT_TRUE(opened);
      transports[n] = std::move(*opened);
    }
    for (std::uint32_t n : {0u, 1u}) {
      options[n].members[Sid(2 - n)].port = transports[1 - n]->port();
      transports[n]->set_members(Zxid(), options[n].members);
      transports[n]->start(users[n]);
    }
    const auto share = 1 + random() % 9;
    const auto turn = [&] {
      auto& context = loops[random() % 10 < share ? 0 : 1].impl().context;
      context.restart();
      context.poll_one();
    };
    const auto run_until = [&](const std::function<bool()>& done) {
      const auto deadline = std::chrono::steady_clock::now() + kDeadline;
      while (!done() && std::chrono::steady_clock::now() < deadline) turn();
      return done();
    };
    const auto settled = [&] {
      return users[0].up.size() == 1 && users[1].up.size() == 1 && transports[0]->open_connections() == 1 &&
             transports[1]->open_connections() == 1;
    };
    ASSERT_TRUE(run_until(settled));
    const zab::LinkId link = users[0].link_to(2), there = users[1].link_to(1);
    EXPECT_NE(users[0].up[link].dialed, users[1].up[there].dialed);
    for (int n = 0; n < 100; ++n) turn();
    for (const std::uint64_t n : {1u, 2u, 3u}) {
      transports[0]->send(link, Ping{n});
      transports[1]->send(there, Ping{10 + n});
      transports[0]->flush();
      transports[1]->flush();
      ASSERT_TRUE(run_until([&] { return users[0].got[link].size() == n && users[1].got[there].size() == n; }));
    }
    EXPECT_TRUE(settled());
    EXPECT_EQ(users[0].link_to(2), link);
    EXPECT_EQ(users[1].link_to(1), there);
    // The larger id has one link from the start; the smaller may have had its own for a moment.
    EXPECT_EQ(users[1].count("up"), 1u);
    EXPECT_LE(users[0].count("up"), 2u);
    if (users[0].count("up") == 2) {
      ++crossed;
      EXPECT_TRUE(users[1].up[there].dialed);
    } else if (users[0].up[link].dialed) {
      ++kept_smaller;
    }
    EXPECT_TRUE(users[0].troubles.empty());
    EXPECT_TRUE(users[1].troubles.empty());
    for (auto& transport : transports) transport.reset();
    for (auto& loop : loops) loop.impl().context.poll();
  }
  // All that can happen has happened.
  EXPECT_GT(crossed, 5u);
  EXPECT_GT(kept_smaller, 5u);
  EXPECT_LT(crossed + kept_smaller, 395u);
}

// The smaller id dials though there is a link, for its end of that is gone. A link that is old enough gives way.
TEST_F(MembersTest, AnEndThatIsGoneIsReplacedOnceItIsNotCrossing) {
  for (const bool young : {true, false}) {
    SCOPED_TRACE(young);
    servers_.clear();
    Server& one = add(1, 2);
    Server& two = add(2, 2, [&](TransportOptions& options) {
      options.crossed_within = young ? Ms(60'000) : Ms(0);
      options.redial_first = options.redial_most = Ms(60'000);
    });
    connect();
    ASSERT_TRUE(until([&] { return both_linked(one, two); }));
    const auto old = two.user->link_to(1);
    ASSERT_TRUE(two.user->up[old].dialed);
    const std::size_t events = two.user->events.size();
    // As if the same process had lost its end.
    Server& again = add(1, 2, [&](TransportOptions& options) {
      options.members[Sid(2)].port = two->port();
      options.dial_larger_after = Ms(0);
    });
    start(again);
    if (young) {
      ASSERT_TRUE(until([&] { return again.user->count("down") == 3; }));
      EXPECT_EQ(two.user->events.size(), events);
      EXPECT_EQ(two.user->link_to(1), old);
    } else {
      ASSERT_TRUE(until([&] { return two.user->over.contains(old) && both_linked(two, again); }));
      EXPECT_FALSE(two.user->up.begin()->second.dialed);
    }
    EXPECT_TRUE(two.user->troubles.empty());
  }
}

// A process that was started anew replaces a link at once, whoever dialed it.
TEST_F(MembersTest, ANewIncarnationReplacesAYoungLink) {
  Server& one = add(1, 2);
  Server& two = add(2, 2, [](TransportOptions& options) { options.crossed_within = Ms(60'000); });
  connect();
  ASSERT_TRUE(until([&] { return both_linked(one, two); }));
  const auto old = two.user->link_to(1);
  Server& again = add(1, 2, [&](TransportOptions& options) {
    options.members[Sid(2)].port = two->port();
    options.dial_larger_after = Ms(0);
    options.incarnation = 77;
  });
  start(again);
  ASSERT_TRUE(until([&] { return two.user->over.contains(old) && both_linked(two, again); }));
}

}  // namespace
}  // namespace coord::peers
