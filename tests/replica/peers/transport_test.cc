// Links over loopback: coming up, order, size, loss, replacement, the end.
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

#include "tests/replica/peers/transport_testing.h"

namespace coord::peers {
namespace {

using namespace testing;
using boost::asio::ip::tcp;
using zab::Passed;
using zab::Ping;

TEST_F(TransportTest, ThreeServersConnectEachWithEach) {
  for (std::uint32_t sid = 1; sid <= 3; ++sid) add(sid);
  connect();
  ASSERT_TRUE(until([&] {
    return std::all_of(servers_.begin(), servers_.end(), [](const auto& s) { return s->user->up.size() == 2; });
  }));
  for (const auto& server : servers_) {
    EXPECT_TRUE(server->user->troubles.empty());
    for (const auto& [link, event] : server->user->up) {
      EXPECT_EQ(event.channel, Channel::kElection);
      EXPECT_EQ(event.dialed, event.peer < server->options.self);
    }
  }
}

TEST_F(TransportTest, AnObserverDialsAllVotersAndNobodyDialsIt) {
  const auto roles = [](TransportOptions& options) { options.members[Sid(1)].observer = true; };
  for (std::uint32_t sid = 1; sid <= 3; ++sid) add(sid, 3, roles);
  connect();
  ASSERT_TRUE(until([&] {
    return std::all_of(servers_.begin(), servers_.end(), [](const auto& s) { return s->user->up.size() == 2; });
  }));
  for (const auto& [link, event] : servers_[0]->user->up) EXPECT_TRUE(event.dialed);
}

TEST_F(TransportTest, MessagesArriveInOrderAndTogether) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  constexpr std::uint64_t kCount = 20'000;
  for (std::uint64_t n = 0; n < kCount; ++n) one->send(link, Ping{n});
  EXPECT_GT(one->queued_bytes(link), kCount);
  EXPECT_EQ(two.user->batches, 0u);
  one->flush();
  ASSERT_TRUE(until([&] { return received(two, there) == kCount; }));
  for (std::uint64_t n = 0; n < kCount; ++n) ASSERT_EQ(std::get<Ping>(two.user->got[there][n]).number, n);
  EXPECT_LT(two.user->batches, kCount / 20);
  ASSERT_TRUE(until([&] { return one->queued_bytes(link) == 0; }));
}

TEST_F(TransportTest, LargeMessagesPassWhole) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  std::vector<std::string> sent;
  for (const std::size_t size : {1u, 100'000u, 9u << 20, 30u << 20, 3u}) {
    std::string bytes(size, '\0');
    for (std::size_t n = 0; n < size; ++n) bytes[n] = static_cast<char>(n * 31 + size + (n >> 12));
    sent.push_back(std::move(bytes));
    one->send(link, Passed{sent.back()});
  }
  one->flush();
  ASSERT_TRUE(until([&] { return received(two, there) == sent.size(); }));
  for (std::size_t n = 0; n < sent.size(); ++n) {
    EXPECT_TRUE(std::get<Passed>(two.user->got[there][n]).bytes == sent[n]) << n;
  }
}

// Pings wait behind it, so its coming is heard instead; and where it comes from hears that it does.
TEST_F(TransportTest, ALargeMessageOnItsWayIsASignOfLifeOnBothSides) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  one->send(link, Passed{std::string(30u << 20, 'x')});
  for (std::uint64_t n = 0; n < 100; ++n) one->send(link, Ping{n});
  one->flush();
  std::size_t before = 0;
  two.user->on_received = [&](zab::LinkId) { before = std::max(before, two.user->parts[there]); };
  ASSERT_TRUE(until([&] { return received(two, there) == 101; }));
  EXPECT_EQ(std::get<Passed>(two.user->got[there][0]).bytes.size(), 30u << 20);
  for (std::uint64_t n = 0; n < 100; ++n) ASSERT_EQ(std::get<Ping>(two.user->got[there][n + 1]).number, n);
  EXPECT_GT(before, 10u);
  ASSERT_TRUE(until([&] { return one.user->parts[link] > 0; }));
  EXPECT_EQ(one->queued_bytes(link), 0u);
  EXPECT_EQ(received(one, link), 0u);
}

TEST_F(TransportTest, AboveTheHighMarkSendSaysSoAndWritableComesBelowTheLowOne) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  const Passed piece{std::string(100'000, 'x')};
  std::size_t sent = 1;
  while (one->send(link, piece)) ++sent;
  EXPECT_EQ(sent, 11u);
  EXPECT_FALSE(one->send(link, piece));  // taken all the same
  EXPECT_EQ(one.user->count("writable"), 0u);
  one->flush();
  ASSERT_TRUE(until([&] { return one.user->count("writable") == 1; }));
  EXPECT_LT(one->queued_bytes(link), one.options.queue_low_bytes);
  ASSERT_TRUE(until([&] { return received(two, there) == sent + 1; }));
  EXPECT_EQ(one.user->count("writable"), 1u);
  EXPECT_TRUE(one->send(link, piece));
}

TEST_F(TransportTest, ALinkWhoseQueueIsFullIsClosed) {
  Server& one = add(1, 2, [](TransportOptions& options) { options.queue_bytes_max = 1 << 20; });
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2);
  for (int n = 0; n < 30; ++n) one->send(link, Passed{std::string(100'000, 'x')});  // never flushed
  EXPECT_TRUE(one.user->over.empty()) << "called back from within a call";
  ASSERT_TRUE(until([&] { return one.user->over.contains(link); }));
  EXPECT_NE(one.user->over[link].find("does not read"), std::string::npos);
  ASSERT_TRUE(until([&] { return two.user->over.size() == 1; }));
  EXPECT_EQ(one->queued_bytes(link), 0u);
  EXPECT_TRUE(one->send(link, Ping{1}));  // of a link that is gone: nothing
}

TEST_F(TransportTest, AfterAnEndTheElectionLinkComesBack) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  for (int round = 1; round <= 5; ++round) {
    ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; })) << round;
    Server& closing = round % 2 == 0 ? one : two;
    Server& other = round % 2 == 0 ? two : one;
    const auto link = closing.user->up.begin()->first, there = other.user->up.begin()->first;
    closing->close(link, "test");
    closing.user->up.erase(link);
    ASSERT_TRUE(until([&] { return other.user->over.contains(there); }));
    EXPECT_FALSE(closing.user->over.contains(link));
  }
}

TEST_F(TransportTest, WhatWasQueuedBeforeCloseArrives) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  // The other side sends too: unread bytes must not turn the end into a reset that eats the last words.
  for (int n = 0; n < 100; ++n) two->send(there, Passed{std::string(10'000, 'y')});
  two->flush();
  for (int n = 0; n < 50; ++n) one->send(link, Passed{std::string(100'000, 'x')});
  one->send(link, zab::Bye{"leaving"});
  one->close(link, "test");  // not even flushed
  one.user->up.erase(link);
  ASSERT_TRUE(until([&] { return two.user->over.contains(there); }));
  ASSERT_EQ(received(two, there), 51u);
  EXPECT_EQ(std::get<zab::Bye>(two.user->got[there].back()).reason, "leaving");
  EXPECT_FALSE(one.user->over.contains(link));
}

TEST_F(TransportTest, NothingComesFromALinkThatWasClosedWhileReceiving) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2);
  two.user->on_received = [&](zab::LinkId at) {
    two->close(at, "enough");
    two.user->up.erase(at);
    two.user->on_received = nullptr;
  };
  const auto there = two.user->link_to(1);
  for (int n = 0; n < 10; ++n) send(one, link, Passed{std::string(100'000, 'x')});
  ASSERT_TRUE(until([&] { return one.user->over.contains(link); }));
  EXPECT_LT(received(two, there), 10u);
  EXPECT_FALSE(two.user->over.contains(there));
}

TEST_F(TransportTest, AProcessThatEndsAndStartsAgainReplacesItsLinks) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto old = one.user->link_to(2);
  Server& again = add(2, 2, [&](TransportOptions& options) {
    options.incarnation = 77;
    options.members[Sid(1)].port = one->port();
  });
  two.transport.reset();
  start(again);
  ASSERT_TRUE(
      until([&] { return again.user->up.size() == 1 && one.user->link_to(2) != old && !one.user->up.empty(); }));
  EXPECT_TRUE(one.user->over.contains(old));
  EXPECT_TRUE(one.user->troubles.empty());
}

// The same process dials again though the link is up at the other end (half open there): the new one counts.
TEST_F(TransportTest, ADuplicateConnectionReplacesTheOlder) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto old = one.user->link_to(2);
  Server& twin = add(2, 2, [&](TransportOptions& options) { options.members[Sid(1)].port = one->port(); });
  start(twin);
  ASSERT_TRUE(until([&] { return one.user->over.contains(old) && one.user->up.size() == 1; }));
  const auto& events = one.user->events;
  ASSERT_GE(events.size(), 3u);
  EXPECT_EQ(events[1].what, "down");
  EXPECT_EQ(events[2].what, "up");
  EXPECT_EQ(events[2].peer, Sid(2));
}

TEST_F(TransportTest, LearnerLinksAreDialedOnRequest) {
  for (std::uint32_t sid = 1; sid <= 3; ++sid) add(sid);
  connect();
  Server& leader = *servers_[2];
  Server& learner = *servers_[0];  // whoever has the smaller id may follow the other too
  learner->dial_learner(7, Sid(3));
  EXPECT_TRUE(learner.user->events.empty());
  ASSERT_TRUE(until([&] {
    return learner.user->link_to(3, Channel::kLearner).value != 0 &&
           leader.user->link_to(1, Channel::kLearner).value != 0;
  }));
  const auto link = learner.user->link_to(3, Channel::kLearner), there = leader.user->link_to(1, Channel::kLearner);
  EXPECT_TRUE(learner.user->up[link].dialed);
  EXPECT_FALSE(leader.user->up[there].dialed);
  send(learner, link, Ping{1});
  send(leader, there, Ping{2});
  ASSERT_TRUE(until([&] { return received(learner, link) == 1 && received(leader, there) == 1; }));
  // Not dialed again when it ends.
  leader->close(there, "test");
  leader.user->up.erase(there);
  ASSERT_TRUE(until([&] { return learner.user->over.contains(link); }));
  EXPECT_EQ(learner.user->count("failed"), 0u);
  learner->dial_learner(8, Sid(3));
  ASSERT_TRUE(until([&] { return learner.user->link_to(3, Channel::kLearner).value != 0; }));
}

TEST_F(TransportTest, ALearnerDialFailsOnceAndSaysWhy) {
  Server& one = add(1);
  std::uint16_t closed = 0;
  {
    tcp::acceptor unused(context(), tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));
    closed = unused.local_endpoint().port();
  }
  one.options.members[Sid(2)].port = closed;
  one.options.members[Sid(3)].host = "no.such.host.invalid";
  connect();
  one->dial_learner(1, Sid(2));
  ASSERT_TRUE(until([&] { return one.user->failed.contains(1); }));
  EXPECT_NE(one.user->failed[1].find("refused"), std::string::npos) << one.user->failed[1];
  one->dial_learner(2, Sid(3));
  ASSERT_TRUE(until([&] { return one.user->failed.contains(2); }));
  EXPECT_NE(one.user->failed[2].find("no.such.host.invalid"), std::string::npos) << one.user->failed[2];
  one->dial_learner(3, Sid(9));
  EXPECT_FALSE(one.user->failed.contains(3)) << "called back from within a call";
  one->dial_learner(4, Sid(1));
  one->dial_learner(5, Sid(2));
  one->dial_learner(6, Sid(2));
  ASSERT_TRUE(until([&] { return one.user->failed.size() == 6; }));
  EXPECT_EQ(one.user->count("failed"), 6u);
  EXPECT_NE(one.user->failed[3].find("no address of server 9"), std::string::npos) << one.user->failed[3];
  EXPECT_NE(one.user->failed[4].find("does not follow itself"), std::string::npos) << one.user->failed[4];
  EXPECT_TRUE(one.user->troubles.empty());
}

TEST_F(TransportTest, NamesAreResolvedAndAllTheirAddressesTried) {
  Server& one = add(1, 2);  // on 127.0.0.1 only; localhost may be ::1 first
  Server& two = add(2, 2, [&](TransportOptions& options) {
    options.members[Sid(1)].host = "localhost";
    options.members[Sid(1)].port = one->port();
  });
  connect();
  ASSERT_TRUE(until([&] { return two.user->up.size() == 1; }));
}

// A peer that is gone without a word (its host lost power): here one that is stopped.
TEST_F(TransportTest, ASilentElectionLinkIsClosedAndALivelyOneIsNot) {
  net::Loop other_loop;
  const auto quick = [](TransportOptions& options) {
    options.ping = Ms(50);
    options.silence_limit = Ms(300);
  };
  Server& one = add(1, 2, quick);
  TransportOptions options = one.options;
  options.self = Sid(2);
  options.directory_id = "directory 2";
  options.members[Sid(1)].port = one->port();
  auto two = Transport::open(other_loop, options);
  ASSERT_TRUE(two);
  Recorder user;
  start(one);
  (*two)->start(user);
  const auto both = [&](bool run_other, const std::function<bool()>& done, Ms limit) {
    return until(
        [&] {
          if (run_other) {
            other_loop.impl().context.restart();
            other_loop.impl().context.poll();
          }
          return done();
        },
        limit);
  };
  ASSERT_TRUE(both(true, [&] { return !one.user->up.empty() && !user.up.empty(); }, kDeadline));
  EXPECT_FALSE(both(true, [&] { return !one.user->over.empty(); }, Ms(1000)));  // pings keep it
  ASSERT_TRUE(both(false, [&] { return !one.user->over.empty(); }, kDeadline));
  EXPECT_NE(one.user->over.begin()->second.find("silent"), std::string::npos);
  // The one that was stopped does not blame the other for its own absence, but finds the link closed, and comes back.
  ASSERT_TRUE(both(
      true, [&] { return user.over.size() == 1 && !user.up.empty() && !one.user->up.empty(); }, kDeadline));
  EXPECT_EQ(user.over.begin()->second.find("silent"), std::string::npos);
  (*two).reset();
  context().poll();
}

TEST_F(TransportTest, StopSendsWhatIsQueuedAndCallsNobody) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  for (int n = 0; n < 20; ++n) one->send(link, Passed{std::string(100'000, 'x')});
  const std::size_t events = one.user->events.size();
  one->stop();
  one->send(link, Ping{1});
  one->dial_learner(1, Sid(2));
  one->close(link, "late");
  ASSERT_TRUE(until([&] { return two.user->over.contains(there) && one->open_connections() == 0; }));
  EXPECT_EQ(received(two, there), 20u);
  EXPECT_EQ(one.user->events.size(), events);
}

}  // namespace
}  // namespace coord::peers
