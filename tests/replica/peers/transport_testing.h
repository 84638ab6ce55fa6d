// Transports of one process on one event loop, driven by the test: nothing happens but in until() and turns().
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "replica/net/asio_impl.h"
#include "replica/net/loop.h"
#include "replica/peers/frame.h"
#include "replica/peers/handshake.h"
#include "replica/peers/transport.h"

namespace coord::peers::testing {

using Channel = zab::Channel;
using Ms = TransportOptions::Ms;

inline constexpr auto kDeadline = std::chrono::seconds(20);

struct Event {
  std::string what;  // "up", "down", "failed", "writable"
  zab::LinkId link;
  Channel channel = Channel::kElection;
  Sid peer;
  bool dialed = false;
  std::uint64_t number = 0;
};

// What a transport reports.
class Recorder final : public LinksUser {
 public:
  void link_up(zab::LinkId link, Channel channel, Sid peer, bool dialed) override {
    events.push_back({"up", link, channel, peer, dialed, 0});
    EXPECT_FALSE(up.contains(link));
    for (const auto& [other, event] : up) EXPECT_FALSE(event.peer == peer && event.channel == channel);
    EXPECT_FALSE(over.contains(link));
    up[link] = events.back();
    if (on_up) on_up(link);
  }
  void link_down(zab::LinkId link, const std::string& why) override {
    EXPECT_TRUE(up.contains(link)) << "a link that was not up, or twice: " << why;
    events.push_back({"down", link, up[link].channel, up[link].peer, false, 0});
    up.erase(link);
    over[link] = why;
  }
  void dial_failed(std::uint64_t number, Sid peer, const std::string& why) override {
    events.push_back({"failed", {}, Channel::kLearner, peer, true, number});
    failed[number] = why;
  }
  void received(zab::LinkId link, std::vector<zab::Message> messages) override {
    EXPECT_TRUE(up.contains(link));
    EXPECT_FALSE(messages.empty());
    ++batches;
    for (auto& message : messages) got[link].push_back(std::move(message));
    if (on_received) on_received(link);
  }
  void heard(zab::LinkId link) override {
    EXPECT_TRUE(up.contains(link));
    ++parts[link];
  }
  void writable(zab::LinkId link) override {
    EXPECT_TRUE(up.contains(link));
    events.push_back({"writable", link, {}, {}, false, 0});
  }
  void trouble(Sid peer, const std::string& text) override {
    told[peer].push_back(text);
    text.empty() ? static_cast<void>(troubles.erase(peer)) : static_cast<void>(troubles[peer] = text);
  }

  zab::LinkId link_to(std::uint32_t peer, Channel channel = Channel::kElection) const {
    for (const auto& [link, event] : up) {
      if (event.peer == Sid(peer) && event.channel == channel) return link;
    }
    return {};
  }
  std::size_t count(const std::string& what) const {
    std::size_t n = 0;
    for (const Event& event : events) n += event.what == what ? 1 : 0;
    return n;
  }

  std::vector<Event> events;
  std::map<zab::LinkId, Event> up;
  std::map<zab::LinkId, std::string> over;
  std::map<zab::LinkId, std::vector<zab::Message>> got;
  std::map<std::uint64_t, std::string> failed;
  std::map<Sid, std::string> troubles;
  std::map<Sid, std::vector<std::string>> told;
  std::size_t batches = 0;
  std::map<zab::LinkId, std::size_t> parts;
  std::function<void(zab::LinkId)> on_up, on_received;
};

// Somebody who has found the port, and says what the test makes it say.
class Stranger {
 public:
  Stranger(boost::asio::io_context& context, std::uint16_t port) : socket_(context) {
    socket_.connect(boost::asio::ip::tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), port));
    socket_.set_option(boost::asio::ip::tcp::no_delay(true));
    socket_.non_blocking(true);
  }
  bool write(const std::string& bytes) {
    boost::system::error_code error;
    boost::asio::write(socket_, boost::asio::buffer(bytes), error);
    return !error;
  }
  // Whether the other side has closed.
  bool closed() {
    char bytes[4096];
    boost::system::error_code error;
    while (true) {
      answered += socket_.read_some(boost::asio::buffer(bytes), error);
      if (error == boost::asio::error::would_block) return false;
      if (error) return true;
    }
  }
  void read_into(FrameReader& reader) {
    const auto room = reader.room(4096);
    boost::system::error_code error;
    const std::size_t count = socket_.read_some(boost::asio::buffer(room.data, room.size), error);
    if (!error) reader.wrote(count);
  }
  std::size_t answered = 0;

 private:
  boost::asio::ip::tcp::socket socket_;
};

struct Server {
  TransportOptions options;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Recorder> user = std::make_unique<Recorder>();
  bool started = false;
  Transport* operator->() { return transport.get(); }
};

class TransportTest : public ::testing::Test {
 protected:
  boost::asio::io_context& context() { return loop_.impl().context; }

  // Runs the loop until `done`; false: the deadline came first.
  [[nodiscard]] bool until(const std::function<bool()>& done, std::chrono::milliseconds limit = kDeadline) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      context().restart();
      context().run_one_for(std::chrono::milliseconds(20));
    }
    return true;
  }

  // Options of server `sid` among servers 1..count on 127.0.0.1, the last `observers` of them observers; each listens
  // on a port of the kernel's choice and learns the others' by connect().
  Server& add(std::uint32_t sid, std::uint32_t count = 3, const std::function<void(TransportOptions&)>& change = {}) {
    Server server;
    TransportOptions& options = server.options;
    options.self = Sid(sid);
    options.listen_address = "127.0.0.1";
    for (std::uint32_t n = 1; n <= count; ++n) options.members[Sid(n)] = PeerAddress{"127.0.0.1", 1, false};
    options.secret = "the secret of the tests";
    options.directory_id = "directory " + std::to_string(sid);
    options.incarnation = sid * 1000;
    options.redial_first = Ms(5);
    options.redial_most = Ms(50);
    options.dial_larger_after = Ms(60'000);  // not in these tests, but in those of it
    options.stop_limit = Ms(2000);
    if (change) change(options);
    auto transport = Transport::open(loop_, options);
    EXPECT_TRUE(transport) << transport.error().message;
    server.transport = std::move(*transport);
    servers_.push_back(std::make_unique<Server>(std::move(server)));
    return *servers_.back();
  }

  // Tells everybody everybody's port, and starts those who were not.
  void connect() {
    for (auto& server : servers_) {
      for (auto& other : servers_) {
        auto& members = server->options.members;
        const auto at = members.find(other->options.self);
        if (at != members.end() && at->second.port == 1) at->second.port = other->transport->port();
      }
      server->transport->set_members(server->options.members_version, server->options.members);
    }
    for (auto& server : servers_) start(*server);
  }
  void start(Server& server) {
    if (!std::exchange(server.started, true)) server.transport->start(*server.user);
  }

  void send(Server& server, zab::LinkId link, const zab::Message& message) {
    server.transport->send(link, message);
    server.transport->flush();
  }

  std::size_t received(Server& server, zab::LinkId link) { return server.user->got[link].size(); }

  net::Loop loop_;
  std::vector<std::unique_ptr<Server>> servers_;
};

}  // namespace coord::peers::testing
