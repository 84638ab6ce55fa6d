// One TCP connection to another server, from its first byte to its last: TLS if configured, the handshake, then a link
// with its queue. Only for the .cc files of this folder: Asio.
//
// Lives on the loop's thread; kept alive by its own operations. Its owner is told what becomes of it by exactly one of
// these sequences, never from within a call of the owner's:
//     came_up, then (received | heard | writable)*, then lost   a link
//     refused                                                the handshake ended with a no, ours or theirs
//     broken                                                 it ended before the handshake was done
// and then, always, ended: nothing of it is left. After finish() or drop() only ended comes.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replica/peers/frame.h"
#include "replica/peers/handshake.h"
#include "replica/peers/transport.h"

namespace coord::peers {

class Connection;
using ConnectionPtr = std::shared_ptr<Connection>;

class ConnectionOwner {
 public:
  virtual void came_up(const ConnectionPtr& connection) = 0;
  virtual void refused(const ConnectionPtr& connection) = 0;
  virtual void broken(const ConnectionPtr& connection, const std::string& why) = 0;
  virtual void lost(const ConnectionPtr& connection, const std::string& why) = 0;
  virtual void received(const ConnectionPtr& connection, std::vector<zab::Message> messages) = 0;
  virtual void heard(const ConnectionPtr& connection) = 0;  // something came, and no message is whole yet
  virtual void writable(const ConnectionPtr& connection) = 0;
  virtual void ended(const ConnectionPtr& connection) = 0;

 protected:
  ~ConnectionOwner() = default;
};

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  struct Limits {
    TransportOptions::Ms handshake, linger;
    std::size_t queue_high, queue_low, queue_max;
  };
  // `tls` may be null. `handshake` knows which side this is.
  Connection(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls, const Limits& limits,
             ConnectionOwner& owner, std::unique_ptr<Handshake> handshake);

  void start();
  // False: above the high mark. Leaves with flush().
  bool send(const zab::Message& message);
  void ping();  // a frame that is no message; none while something is being sent anyway
  void flush();
  // Sends what is queued, as far as that goes within the linger limit, and closes.
  void finish();
  void drop();    // closes at once
  void give_up(const std::string& why);  // as if it had broken: the owner is told
  void disown();  // drop, and nothing is told any more, `ended` neither

  bool up() const { return state_ == State::kUp; }
  bool dialed() const { return dialed_; }
  // What the handshake found; its peer() is there once up.
  const Handshake& handshake() const { return *handshake_; }
  const std::string& address() const { return address_; }
  std::size_t queued_bytes() const { return queued_; }
  std::chrono::steady_clock::time_point heard_at() const { return heard_at_; }
  void forgive_silence() { heard_at_ = std::chrono::steady_clock::now(); }
  bool tls_failed() const { return tls_failed_; }

  // The owner's notes.
  zab::LinkId link;
  std::chrono::steady_clock::time_point up_at;

 private:
  enum class State { kNew, kTls, kHandshake, kUp, kLinger, kEnded };
  using Error = boost::system::error_code;

  void tls_done(const Error& error);
  void begin_handshake();
  void read();
  void read_done(const Error& error, std::size_t count);
  void advance_handshake();
  void deliver();
  void note_part();
  void write();
  void frame_more();
  void write_done(const Error& error, std::size_t count);
  void recycle();
  std::string& chunk_for(std::size_t bytes);
  void add(std::size_t bytes);
  void fail_later(const std::string& why);
  void arm(TransportOptions::Ms limit);
  void end();

  boost::asio::ip::tcp::socket socket_;
  std::optional<boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>> tls_;
  boost::asio::steady_timer timer_;
  const Limits limits_;
  ConnectionOwner* owner_;  // null: disowned
  std::unique_ptr<Handshake> handshake_;
  const bool dialed_;
  std::string address_;
  State state_ = State::kNew;
  bool doomed_ = false;  // fails at the end of the turn
  bool tls_failed_ = false;
  FrameReader reader_{kHelloBytesMax};
  FrameWriter writer_;
  bool reading_ = false, writing_now_ = false, shut_ = false;
  std::deque<std::string> queue_, writing_;  // chunks of whole frames
  // Behind them: a large message, and what was sent behind it. Made frames of when it is their turn, bit by bit.
  std::deque<std::string> unframed_;
  std::size_t framed_ = 0;  // of unframed_.front()
  std::vector<std::string> spare_;
  std::size_t written_ = 0;  // of writing_.front()
  std::size_t queued_ = 0;
  bool above_high_ = false;
  char drain_[1024];
  std::chrono::steady_clock::time_point heard_at_, answered_at_;
};

}  // namespace coord::peers
