// One attempt to reach a server: its name resolved, its addresses tried one after the other, within one limit. Only for
// the .cc files of this folder: Asio.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace coord::peers {

using Endpoints = std::vector<boost::asio::ip::tcp::endpoint>;

class Dial final : public std::enable_shared_from_this<Dial> {
 public:
  // Called once, never from within start(); not at all after cancel(). Empty `error`: connected.
  using Done = std::function<void(boost::asio::ip::tcp::socket socket, const std::string& error)>;

  // `known`: addresses of an earlier attempt, for when the name service does not answer; updated.
  Dial(boost::asio::io_context& context, std::string host, std::uint16_t port, std::chrono::milliseconds limit,
       std::shared_ptr<Endpoints> known, Done done);
  void start();
  void cancel();

 private:
  void resolved(const boost::system::error_code& error, const boost::asio::ip::tcp::resolver::results_type& found);
  void resolve_late();
  void next();
  void connected(const boost::system::error_code& error);
  void finish(const std::string& error);

  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  const std::string host_;
  const std::uint16_t port_;
  const std::chrono::steady_clock::time_point deadline_;
  std::shared_ptr<Endpoints> known_;
  Done done_;  // empty: over
  Endpoints left_;
  bool resolving_ = false;
  std::uint64_t attempt_ = 0;
  std::string last_error_;
};

}  // namespace coord::peers
