// Transport's inside. Only for the .cc files of this folder: Asio.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "replica/peers/connection.h"
#include "replica/peers/dial.h"
#include "replica/peers/handshake.h"
#include "replica/peers/transport.h"
#include "replica/peers/troubles.h"

namespace coord::peers {

class Transport::Impl final : public ConnectionOwner, public std::enable_shared_from_this<Transport::Impl> {
 public:
  Impl(net::Loop& loop, TransportOptions options, std::unique_ptr<boost::asio::ssl::context> tls);

  Result<bool, Fault> listen();
  void start(LinksUser& user);
  void stop();
  void abandon();  // nothing is told any more, everything is closed

  std::uint16_t port() const;
  void set_directory_id(const std::string& directory_id) { identity_.directory_id = directory_id; }
  void set_cluster_id(const std::string& cluster_id) { identity_.cluster_id = cluster_id; }
  void set_members(Zxid version, std::map<Sid, PeerAddress> members);
  void set_candidates(std::map<Sid, PeerAddress> candidates);
  void dials_changed();
  void set_feature_level(int level);
  void dial_learner(std::uint64_t number, Sid leader);
  bool send(zab::LinkId link, const zab::Message& message);
  void flush();
  void close(zab::LinkId link, const std::string& reason);
  std::size_t queued_bytes(zab::LinkId link) const;
  std::size_t open_connections() const { return connections_.size(); }

  // ConnectionOwner
  void came_up(const ConnectionPtr& connection) override;
  void refused(const ConnectionPtr& connection) override;
  void broken(const ConnectionPtr& connection, const std::string& why) override;
  void lost(const ConnectionPtr& connection, const std::string& why) override;
  void received(const ConnectionPtr& connection, std::vector<zab::Message> messages) override;
  void heard(const ConnectionPtr& connection) override;
  void writable(const ConnectionPtr& connection) override;
  void ended(const ConnectionPtr& connection) override;

 private:
  // How this server gets its election link to a server that it dials, if that does not dial first. While there is a
  // link nothing is under way; without one it is the dial, the connection until it is up, or the timer.
  struct Election {
    explicit Election(boost::asio::io_context& context) : timer(context) {}
    boost::asio::steady_timer timer;
    TransportOptions::Ms wait{0};
    std::chrono::steady_clock::time_point alone_since = std::chrono::steady_clock::now();
    std::shared_ptr<Dial> dial;
    ConnectionPtr connection;
  };
  struct LearnerDial {
    std::uint64_t number = 0;
    Sid leader;
    std::shared_ptr<Dial> dial;
    ConnectionPtr connection;
  };
  // Causes of trouble besides those of Refusal.
  static constexpr int kRefusedByPeer = 32;  // or'ed with the Refusal
  static_assert(static_cast<int>(Refusal::kOther) < kRefusedByPeer);
  static constexpr int kTls = 100, kWordless = 101, kClock = 102, kUnreachable = 103, kStranger = 104;

  void accept();
  void accepted(boost::asio::ip::tcp::socket socket);
  bool dials(Sid sid) const;
  bool dials_at_once(Sid sid) const;
  bool linked(Sid sid) const { return by_peer_.contains({sid, zab::Channel::kElection}); }
  void dial_elections();
  void dial_election(Sid sid);
  void dial_election_at(Sid sid, std::chrono::steady_clock::time_point due);
  void redial_later(Sid sid);
  void stop_dialing(Election& election);
  void learn_addresses();
  void learn_address(const Hello& peer);
  void warn_of_trust();
  std::shared_ptr<Dial> make_dial(Sid sid, Dial::Done done);
  ConnectionPtr make_connection(boost::asio::ip::tcp::socket socket, zab::Channel channel, Sid wanted);
  void cancel_learner_dial(const char* why);
  void dial_ended(const ConnectionPtr& connection, const std::string& why);
  void gone(const ConnectionPtr& connection);
  bool keeps_older(const Connection& older, const Connection& newer) const;
  void no_words(const ConnectionPtr& connection, const std::string& why);
  void unlink(const ConnectionPtr& connection);
  void tick();
  void ping_all();
  void trouble(Sid sid, int cause, const std::string& text);
  void tell(Sid sid);
  void all_well(Sid sid);
  void once_a_minute(Sid sid, int cause, const std::string& text);
  void later(std::function<void(Impl&)> work);
  std::int64_t now_ms() const { return loop_.now_us() / 1000; }
  std::string named(Sid sid) const;

  net::Loop& loop_;
  boost::asio::io_context& context_;
  TransportOptions options_;
  const std::unique_ptr<boost::asio::ssl::context> tls_;
  Identity identity_;
  PeerTable table_;
  Troubles troubles_, only_logged_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer accept_timer_, tick_timer_;
  LinksUser* user_ = nullptr;  // null: before start and after stop
  bool stopped_ = false, warned_of_trust_ = false;

  std::map<const Connection*, ConnectionPtr> connections_;
  std::list<ConnectionPtr> strangers_;  // accepted, not up, oldest first
  std::unordered_map<zab::LinkId, ConnectionPtr> links_;
  std::map<std::pair<Sid, zab::Channel>, zab::LinkId> by_peer_;
  std::vector<ConnectionPtr> unflushed_;
  std::map<Sid, Election> elections_;
  std::optional<LearnerDial> learner_dial_;
  std::map<Sid, PeerAddress> addresses_;  // of all members there have been since the start, and who said theirs
  std::map<Sid, PeerAddress> candidates_;
  std::set<Sid> listed_;                  // has been in a list
  std::map<Sid, std::shared_ptr<Endpoints>> known_;
  std::map<Sid, int> wordless_;
  std::map<Sid, std::string> clocks_;  // warnings about connected servers
  std::uint64_t next_link_ = 1;
  std::chrono::steady_clock::time_point last_tick_{};
  std::minstd_rand jitter_;
};

}  // namespace coord::peers
