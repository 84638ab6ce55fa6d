// Who is refused, who is told of it, and what strangers can do: nothing.
#include <boost/asio/ip/tcp.hpp>

#include "tests/replica/peers/transport_testing.h"

namespace coord::peers {
namespace {

using namespace testing;
using boost::asio::ip::tcp;
using boost::system::error_code;

class StrangersTest : public TransportTest {
 protected:
  // Servers 1 and 2 that must not come together; server 3 goes with 1.
  void expect_refused(const std::function<void(TransportOptions&)>& change_two, const std::string& word_one,
                      const std::string& word_two) {
    Server& one = add(1);
    Server& two = add(2, 3, change_two);
    Server& three = add(3);
    connect();
    ASSERT_TRUE(until([&] {
      return one.user->troubles.contains(Sid(2)) && two.user->troubles.contains(Sid(1)) &&
             one.user->link_to(3).value != 0 && three.user->link_to(1).value != 0;
    }));
    EXPECT_NE(one.user->troubles[Sid(2)].find(word_one), std::string::npos) << one.user->troubles[Sid(2)];
    EXPECT_NE(two.user->troubles[Sid(1)].find(word_two), std::string::npos) << two.user->troubles[Sid(1)];
    EXPECT_EQ(one.user->link_to(2).value, 0u);
    EXPECT_EQ(two.user->count("up"), 0u);
    EXPECT_FALSE(one.user->troubles.contains(Sid(3)));
    // The rest goes on, and what is refused again is not told again.
    const std::size_t tries = 20;
    const std::size_t told = one.user->told[Sid(2)].size();
    const auto link = one.user->link_to(3), there = three.user->link_to(1);
    for (std::uint64_t n = 0; n < tries; ++n) {
      send(one, link, zab::Ping{n});
      ASSERT_TRUE(until([&] { return received(three, there) == n + 1; }));
    }
    EXPECT_FALSE(until([&] { return two.user->count("up") != 0 || one.user->told[Sid(2)].size() != told; }, Ms(300)));
  }
};

TEST_F(StrangersTest, WrongSecret) {
  expect_refused([](TransportOptions& options) { options.secret = "another"; }, "coord.peerSecret", "coord.peerSecret");
}

TEST_F(StrangersTest, NoSecret) {
  expect_refused([](TransportOptions& options) { options.secret = ""; }, "coord.peerSecret", "coord.peerSecret");
}

TEST_F(StrangersTest, MemberListThatDisagrees) {
  expect_refused([](TransportOptions& options) { options.members[Sid(7)] = {"127.0.0.1", 1, false}; }, "server 7",
                 "server 7");
}

TEST_F(StrangersTest, AnotherRole) {
  expect_refused([](TransportOptions& options) { options.members[Sid(3)].observer = true; }, "an observer", "a voter");
}

TEST_F(StrangersTest, ForeignCluster) {
  Server& one = add(1, 2, [](TransportOptions& options) { options.cluster_id = "aaaa"; });
  Server& two = add(2, 2, [](TransportOptions& options) { options.cluster_id = "bbbb"; });
  connect();
  ASSERT_TRUE(until([&] { return one.user->troubles.contains(Sid(2)) && two.user->troubles.contains(Sid(1)); }));
  for (const std::string& text : {one.user->troubles[Sid(2)], two.user->troubles[Sid(1)]}) {
    EXPECT_NE(text.find("aaaa"), std::string::npos) << text;
    EXPECT_NE(text.find("bbbb"), std::string::npos) << text;
  }
  EXPECT_EQ(one.user->count("up") + two.user->count("up"), 0u);
}

// Before it belongs to a cluster it is let in; what it has become counts for the handshakes to come, not for the link.
TEST_F(StrangersTest, AVirginIsLetInAndItsClusterCountsLater) {
  Server& one = add(1, 2, [](TransportOptions& options) { options.cluster_id = "aaaa"; });
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  two->set_cluster_id("bbbb");
  const auto link = one.user->link_to(2);
  EXPECT_FALSE(until([&] { return one.user->over.contains(link); }, Ms(100)));
  two->dial_learner(1, Sid(1));
  ASSERT_TRUE(until([&] { return two.user->failed.contains(1); }));
  EXPECT_NE(two.user->failed[1].find("bbbb"), std::string::npos);
  EXPECT_EQ(one.user->link_to(2), link);
}

// The trouble is over when the cause is.
TEST_F(StrangersTest, ATroubleEnds) {
  const auto quick = [](TransportOptions& options) {
    options.trouble_lasts = Ms(200);
    options.ping = Ms(20);
    options.silence_limit = Ms(5'000);
  };
  Server& one = add(1, 2, [&](TransportOptions& options) {
    quick(options);
    options.cluster_id = "aaaa";
  });
  Server& two = add(2, 2, [&](TransportOptions& options) {
    quick(options);
    options.cluster_id = "bbbb";
  });
  connect();
  ASSERT_TRUE(until([&] { return one.user->troubles.contains(Sid(2)) && two.user->troubles.contains(Sid(1)); }));
  two->set_cluster_id("aaaa");
  ASSERT_TRUE(
      until([&] { return one.user->troubles.empty() && two.user->troubles.empty() && one.user->up.size() == 1; }));
}

// As if by itself, too: the one that was refused was switched off.
TEST_F(StrangersTest, ATroubleThatDoesNotHappenAgainEnds) {
  Server& one = add(1, 2, [&](TransportOptions& options) {
    options.trouble_lasts = Ms(200);
    options.ping = Ms(20);
  });
  Server& two = add(2, 2, [](TransportOptions& options) { options.secret = "another"; });
  connect();
  ASSERT_TRUE(until([&] { return one.user->troubles.contains(Sid(2)); }));
  two.transport.reset();
  ASSERT_TRUE(until([&] { return one.user->troubles.empty(); }));
}

TEST_F(StrangersTest, TwoServersWithOneId) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const auto link = one.user->link_to(2);
  Server& twin = add(2, 2, [&](TransportOptions& options) {
    options.directory_id = "another disk";
    options.incarnation = 5;
    options.members[Sid(1)].port = one->port();
  });
  start(twin);
  ASSERT_TRUE(until([&] { return twin.user->troubles.contains(Sid(1)) && one.user->troubles.contains(Sid(2)); }));
  EXPECT_NE(twin.user->troubles[Sid(1)].find("two servers with id 2"), std::string::npos);
  EXPECT_NE(one.user->troubles[Sid(2)].find("two servers with id 2"), std::string::npos);
  EXPECT_FALSE(until([&] { return one.user->link_to(2) != link || twin.user->count("up") != 0; }, Ms(200)));
  // When the first is gone, the other may be the one that stays.
  two.transport.reset();
  ASSERT_TRUE(until([&] { return twin.user->up.size() == 1; }));
}

TEST_F(StrangersTest, ACopyOfADataDirectoryDoesNotTakeTheLinkBack) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  Server& copy = add(2, 2, [&](TransportOptions& options) {
    options.incarnation = 5;  // the same directory id
    options.members[Sid(1)].port = one->port();
  });
  start(copy);
  ASSERT_TRUE(until([&] { return copy.user->up.size() == 1 && two.user->troubles.contains(Sid(1)); }));
  EXPECT_NE(two.user->troubles[Sid(1)].find("copies of one data directory"), std::string::npos);
  const auto link = one.user->link_to(2);
  EXPECT_FALSE(until([&] { return one.user->link_to(2) != link; }, Ms(200)));
}

TEST_F(StrangersTest, OwnIdAtTheOtherEnd) {
  Server& two = add(2, 2);
  Server& other = add(2, 2, [](TransportOptions& options) { options.directory_id = "another disk"; });
  two.options.members[Sid(1)].port = other->port();
  connect();
  ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)) && other.user->troubles.contains(Sid(2)); }));
  EXPECT_NE(two.user->troubles[Sid(1)].find("two servers with id 2"), std::string::npos);
  EXPECT_NE(other.user->troubles[Sid(2)].find("two servers with id 2"), std::string::npos);
  EXPECT_EQ(two.user->count("up") + other.user->count("up"), 0u);
}

TEST_F(StrangersTest, AServerThatReachesItself) {
  Server& two = add(2, 2);
  two.options.members[Sid(1)].port = two->port();
  connect();
  ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)); }));
  EXPECT_NE(two.user->troubles[Sid(1)].find("has reached itself"), std::string::npos);
  EXPECT_NE(two.user->troubles[Sid(1)].find("server.1"), std::string::npos);
  EXPECT_EQ(two.user->count("up"), 0u);
}

TEST_F(StrangersTest, AnotherServerThanExpected) {
  Server& one = add(1);
  Server& three = add(3);
  three.options.members[Sid(2)].port = one->port();
  connect();
  ASSERT_TRUE(until([&] { return three.user->troubles.contains(Sid(2)) && three.user->link_to(1).value != 0; }));
  EXPECT_NE(three.user->troubles[Sid(2)].find("expects server 2 at an address where server 1 is"), std::string::npos);
  EXPECT_EQ(three.user->up.size(), 1u);
}

TEST_F(StrangersTest, SomethingElseListensThere) {
  tcp::acceptor other(context(), tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));
  std::vector<tcp::socket> held;
  std::function<void()> accept = [&] {
    other.async_accept([&](error_code error, tcp::socket socket) {
      if (error) return;
      boost::asio::write(socket, boost::asio::buffer(std::string("220 mail.example.com ESMTP\r\n")), error);
      held.push_back(std::move(socket));
      accept();
    });
  };
  accept();
  Server& two = add(2, 2);
  two.options.members[Sid(1)].port = other.local_endpoint().port();
  connect();
  ASSERT_TRUE(until([&] { return two.user->troubles.contains(Sid(1)); }));
  EXPECT_NE(two.user->troubles[Sid(1)].find("does not answer as a replica"), std::string::npos);
  other.close();
}

TEST_F(StrangersTest, SomethingThatNeverAnswersListensThere) {
  tcp::acceptor silent(context(), tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));  // never accepts
  Server& two = add(2, 2, [&](TransportOptions& options) {
    options.members[Sid(1)].port = silent.local_endpoint().port();
    options.handshake_limit = Ms(50);
  });
  connect();
  two->dial_learner(9, Sid(1));
  ASSERT_TRUE(until([&] { return two.user->failed.contains(9) && two.user->troubles.contains(Sid(1)); }));
  EXPECT_NE(two.user->troubles[Sid(1)].find("not answer as a replica"), std::string::npos);
}

// --- those who only connect

// A member with a clock of 1970: let in, and told of for as long as it is connected.
TEST_F(StrangersTest, ClocksFarApartAreToldAndDoNotKeepThemApart) {
  Server& one = add(1, 2, [](TransportOptions& options) {
    options.ping = Ms(20);
    options.trouble_lasts = Ms(100);
  });
  connect();
  Identity two{Sid(2), "", "directory 2", 7, {{Sid(1), false}, {Sid(2), false}}, one.options.secret, false};
  PeerTable table;
  Handshake handshake(two, table, Channel::kElection, Sid(1), std::string(kNonceBytes, 'n'), 0);
  FrameReader reader(kHelloBytesMax);
  FrameWriter writer;
  std::string out;
  handshake.start(writer, out);
  auto progress = Handshake::Progress::kMore;
  auto stranger = std::make_unique<Stranger>(context(), one->port());
  ASSERT_TRUE(until([&] {
    stranger->write(std::exchange(out, ""));
    stranger->read_into(reader);
    if (progress == Handshake::Progress::kMore) progress = handshake.advance(reader, writer, out);
    return progress == Handshake::Progress::kDone && out.empty();
  }));
  ASSERT_TRUE(until([&] { return one.user->link_to(2).value != 0 && one.user->troubles.contains(Sid(2)); }));
  EXPECT_NE(one.user->troubles[Sid(2)].find("the clocks of"), std::string::npos);
  EXPECT_FALSE(until([&] { return !one.user->troubles.contains(Sid(2)); }, Ms(300)));
  stranger.reset();
  ASSERT_TRUE(until([&] { return one.user->up.empty() && one.user->troubles.empty(); }));
}

TEST_F(StrangersTest, GarbageChangesNothing) {
  Server& one = add(1, 2);
  Server& two = add(2, 2);
  connect();
  ASSERT_TRUE(until([&] { return one.user->up.size() == 1 && two.user->up.size() == 1; }));
  const std::size_t events = one.user->events.size();
  const std::size_t before = one->open_connections();
  std::string frame;
  FrameWriter().put("Hnot a hello", frame);
  std::string forged;
  Hello hello;
  hello.sid = Sid(2);
  hello.wanted = Sid(1);
  hello.members = {{Sid(1), false}, {Sid(2), false}};
  hello.nonce = std::string(kNonceBytes, 'n');
  std::string body = "H";
  encode(hello, body);
  FrameWriter writer;
  writer.put(body, forged);
  writer.put("P" + std::string(kMacBytes, 'x'), forged);
  for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100'000, '\xff'), frame, forged,
                                   std::string("\x16\x03\x01\x02\x00\x01", 6), std::string(8, '\0')}) {
    Stranger stranger(context(), one->port());
    stranger.write(bytes);
    ASSERT_TRUE(until([&] { return stranger.closed(); }));
    EXPECT_LT(stranger.answered, 2000u);
  }
  ASSERT_TRUE(until([&] { return one->open_connections() == before; }));
  EXPECT_EQ(one.user->events.size(), events);
  EXPECT_FALSE(one.user->troubles.contains(Sid(0)));
  // Only the forged hello claimed to be somebody: who fails to prove it is named with the address it came from.
  EXPECT_NE(one.user->troubles[Sid(2)].find("different secrets"), std::string::npos);
  const auto link = one.user->link_to(2), there = two.user->link_to(1);
  send(one, link, zab::Ping{1});
  ASSERT_TRUE(until([&] { return received(two, there) == 1; }));
}

TEST_F(StrangersTest, WhoSaysNothingIsClosedInTime) {
  Server& one = add(1, 2, [](TransportOptions& options) { options.handshake_limit = Ms(100); });
  connect();
  Stranger silent(context(), one->port());
  Stranger slow(context(), one->port());
  std::string hello;
  FrameWriter().put(std::string(1000, 'H'), hello);
  std::size_t written = 0;
  ASSERT_TRUE(until([&] {
    if (written < hello.size()) slow.write(hello.substr(written++, 1));
    return silent.closed() && slow.closed();
  }));
  ASSERT_TRUE(until([&] { return one->open_connections() == 0; }));
  EXPECT_TRUE(one.user->events.empty());
  EXPECT_TRUE(one.user->troubles.empty());
}

TEST_F(StrangersTest, ACrowdOfThemDoesNotKeepMembersOut) {
  Server& one = add(1, 2);
  connect();
  std::vector<std::unique_ptr<Stranger>> crowd;
  for (std::size_t n = 0; n < kStrangersMax + 20; ++n) {
    crowd.push_back(std::make_unique<Stranger>(context(), one->port()));
    ASSERT_TRUE(until([&] { return one->open_connections() >= std::min(n + 1, kStrangersMax); }));
    EXPECT_LE(one->open_connections(), kStrangersMax + 2);
  }
  ASSERT_TRUE(until([&] { return crowd[19]->closed(); }));
  EXPECT_FALSE(crowd.back()->closed());
  Server& two = add(2, 2, [&](TransportOptions& options) { options.members[Sid(1)].port = one->port(); });
  start(two);
  ASSERT_TRUE(until([&] { return two.user->up.size() == 1 && one.user->up.size() == 1; }));
}

TEST_F(StrangersTest, ABadAddressOrPortIsAFault) {
  Server& one = add(1, 2);
  TransportOptions options = one.options;
  options.listen_port = one->port();
  const auto taken = Transport::open(loop_, options);
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().message.find(std::to_string(one->port())), std::string::npos) << taken.error().message;
  options.listen_address = "no.such.host.invalid";
  EXPECT_FALSE(Transport::open(loop_, options));
}

}  // namespace
}  // namespace coord::peers
