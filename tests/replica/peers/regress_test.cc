// Known failures of connections between replicas (zab.md section 6), by their ZooKeeper numbers.
#include <dlfcn.h>
#include <netdb.h>

#include <boost/asio/ip/tcp.hpp>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "replica/peers/codec.h"
#include "tests/replica/peers/transport_testing.h"

namespace coord::peers {
namespace {

// What the name service says in these tests; empty: it does not answer. Other names are the system's.
struct Names {
  void tell(const std::string& name, const std::string& address) {
    const std::lock_guard<std::mutex> lock(mutex);
    addresses[name] = address;
  }
  int asked(const std::string& name) {
    const std::lock_guard<std::mutex> lock(mutex);
    return questions[name];
  }
  std::mutex mutex;  // look-ups come on a thread of Asio's
  std::map<std::string, std::string> addresses;
  std::map<std::string, int> questions;
};

Names& names() {
  static Names all;
  return all;
}

}  // namespace
}  // namespace coord::peers

// In place of the C library's, in this program.
extern "C" int getaddrinfo(const char* host, const char* service, const addrinfo* hints, addrinfo** found) {
  using Function = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
  static const auto real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "getaddrinfo"));
  auto& names = coord::peers::names();
  std::string address;
  {
    const std::lock_guard<std::mutex> lock(names.mutex);
    const auto known = host == nullptr ? names.addresses.end() : names.addresses.find(host);
    if (known == names.addresses.end()) return real(host, service, hints, found);
    ++names.questions[host];
    address = known->second;
  }
  return address.empty() ? EAI_AGAIN : real(address.c_str(), service, hints, found);
}

namespace coord::peers {
namespace {

using namespace testing;
using boost::asio::ip::tcp;

class Regression : public TransportTest {
 protected:
  // One that is free at 127.0.0.1 and at 127.0.0.2.
  std::uint16_t port_of_both() {
    for (;;) {
      tcp::acceptor one(context(), tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));
      boost::system::error_code error;
      tcp::acceptor two(context());
      two.open(tcp::v4());
      two.bind(tcp::endpoint(boost::asio::ip::make_address("127.0.0.2"), one.local_endpoint().port()), error);
      if (!error) return one.local_endpoint().port();
    }
  }
  // Server 1, which server 2 dials by a name.
  Server& add_named(const std::string& name, const std::string& address, std::uint16_t port) {
    return add(1, 2, [&](TransportOptions& options) {
      options.members[Sid(1)] = PeerAddress{name, port, false};
      options.listen_address = address;
      options.listen_port = port;
      options.incarnation = ++incarnation_;
    });
  }
  Server& add_dialer(const std::string& name, std::uint16_t port) {
    return add(2, 2, [&](TransportOptions& options) { options.members[Sid(1)] = PeerAddress{name, port, false}; });
  }
  std::uint64_t incarnation_ = 0;
};

TEST_F(Regression, Zk2184_a_member_moves_to_another_address_under_its_name) {
  const std::string name = "one.zk2184.test";
  const std::uint16_t port = port_of_both();
  names().tell(name, "127.0.0.1");
  Server& one = add_named(name, "127.0.0.1", port);
  Server& two = add_dialer(name, port);
  connect();
  ASSERT_TRUE(until([&] { return one.user->link_to(2).value != 0 && two.user->link_to(1).value != 0; }));
  two->dial_learner(1, Sid(1));
  ASSERT_TRUE(until([&] { return two.user->link_to(1, Channel::kLearner).value != 0; }));

  one.transport.reset();
  ASSERT_TRUE(until([&] { return two.user->up.empty(); }));
  const int asked = names().asked(name);
  Server& moved = add_named(name, "127.0.0.2", port);
  start(moved);
  names().tell(name, "127.0.0.2");
  ASSERT_TRUE(until([&] { return two.user->link_to(1).value != 0; })) << "the new address was not asked for";
  two->dial_learner(2, Sid(1));
  ASSERT_TRUE(until([&] { return two.user->link_to(1, Channel::kLearner).value != 0; })) << two.user->failed[2];
  ASSERT_TRUE(until([&] { return moved.user->up.size() == 2; }));
  EXPECT_GE(names().asked(name), asked + 2) << "once for each attempt";
}

// And a name service that is down does not part those who know each other.
TEST_F(Regression, Zk2184_without_an_answer_the_known_address_is_tried) {
  const std::string name = "two.zk2184.test";
  const std::uint16_t port = port_of_both();
  names().tell(name, "127.0.0.1");
  Server& one = add_named(name, "127.0.0.1", port);
  Server& two = add_dialer(name, port);
  connect();
  ASSERT_TRUE(until([&] { return two.user->link_to(1).value != 0; }));
  names().tell(name, "");
  one.transport.reset();
  ASSERT_TRUE(until([&] { return two.user->up.empty(); }));
  Server& again = add_named(name, "127.0.0.1", port);
  start(again);
  ASSERT_TRUE(until([&] { return two.user->link_to(1).value != 0; }));
}

// A member that has proven itself, whose messages the test writes byte by byte.
class Member {
 public:
  Member(boost::asio::io_context& context, std::uint16_t port, Identity self)
      : self_(std::move(self)),
        handshake_(self_, table_, Channel::kElection, Sid(1), std::string(kNonceBytes, 'n'), 0),
        line_(context, port) {
    handshake_.start(writer_, out_);
  }
  bool ready() {
    line_.write(std::exchange(out_, ""));
    line_.read_into(reader_);
    if (progress_ == Handshake::Progress::kMore) progress_ = handshake_.advance(reader_, writer_, out_);
    return progress_ == Handshake::Progress::kDone && out_.empty();
  }
  void say(const std::vector<std::string>& payloads) {
    std::string frames;
    for (const std::string& payload : payloads) writer_.put(payload, frames);
    line_.write(frames);
  }
  bool closed() { return line_.closed(); }

 private:
  const Identity self_;
  const PeerTable table_;
  Handshake handshake_;
  FrameReader reader_{kHelloBytesMax};
  FrameWriter writer_;
  std::string out_;
  Handshake::Progress progress_ = Handshake::Progress::kMore;
  Stranger line_;
};

std::vector<std::string> malformed_notifications(const std::string& good) {
  std::vector<std::string> all;
  for (std::size_t size = 1; size < good.size(); ++size) all.push_back(good.substr(0, size));
  all.push_back(good + '\0');
  all.push_back(std::string(10'000, '\xff'));
  for (const char tag : {'\0', '\x13', '\x7f', '\xff'}) all.push_back(tag + good.substr(1));
  std::mt19937 random(3769);
  while (all.size() < 120) {
    std::string bytes = good;
    for (auto n = 1 + random() % 4; n > 0; --n) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (!decode(bytes)) all.push_back(bytes);
  }
  return all;
}

// They end the link they came by, once what came before them was heard; the election hears nothing of them, and the
// links to others stay. (What can be decoded and is absurd: ElectionTest.absurd_notifications_are_dropped. Any bytes at
// all: tests/fuzz/peer_message_fuzz.cc.)
TEST_F(Regression, Zk3769_malformed_notifications_end_their_link_and_nothing_else) {
  Server& one = add(1);
  Server& three = add(3);
  connect();
  ASSERT_TRUE(until([&] { return one.user->link_to(3).value != 0 && three.user->link_to(1).value != 0; }));
  const auto other = one.user->link_to(3), there = three.user->link_to(1);
  std::string good;
  encode(zab::Notification{zab::Role::kLooking, 7, {Sid(2), Zxid(3, 9), 3}, 4, true, Zxid(2, 5)}, good);
  Identity two{Sid(2), "", "directory 2", 7, {{Sid(1), false}, {Sid(2), false}, {Sid(3), false}}, one.options.secret,
               false};
  for (const std::string& bad : malformed_notifications(good)) {
    ++two.incarnation;
    Member member(context(), one->port(), two);
    ASSERT_TRUE(until([&] { return member.ready() && one.user->link_to(2).value != 0; }));
    const auto link = one.user->link_to(2);
    member.say({good, bad, good});
    ASSERT_TRUE(until([&] { return one.user->over.contains(link); })) << "of " << bad.size() << " bytes";
    EXPECT_NE(one.user->over[link].find("cannot be decoded"), std::string::npos) << one.user->over[link];
    ASSERT_EQ(received(one, link), 1u);
    EXPECT_EQ(std::get<zab::Notification>(one.user->got[link][0]).round, 7u);
    ASSERT_TRUE(until([&] { return member.closed(); }));
  }
  EXPECT_EQ(one.user->link_to(3), other);
  send(one, other, zab::Ping{1});
  ASSERT_TRUE(until([&] { return received(three, there) == 1; }));
}

}  // namespace
}  // namespace coord::peers
