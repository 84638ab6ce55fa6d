// A server for the tests of the client that does what the test says, frame by frame: the test's own thread accepts,
// reads and answers over raw sockets. Every wait ends after five seconds with an exception, which fails the test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/client/client.h"

namespace coord::client {

class FakeConnection {
 public:
  explicit FakeConnection(int fd) : fd_(fd) {}
  FakeConnection(FakeConnection&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FakeConnection& operator=(FakeConnection&& other) noexcept;
  ~FakeConnection() { close(); }

  struct Request {
    std::int32_t xid = 0;
    wire::Op op = wire::Op::kPing;
    std::string body;
  };
  std::string frame();  // the next frame's payload
  wire::ConnectRequest connect_request();
  Request request();    // the next that is not a ping; pings are answered
  bool at_end();        // the client has closed (waits for bytes or the end)
  bool silent(int ms);  // nothing but pings (which are left unanswered) comes for so long

  void raw(std::string_view bytes);
  void send(std::string_view payload);  // one frame
  void welcome(std::int64_t session, std::int32_t timeout_ms = 4000);
  void reply(std::int32_t xid, Err err = Err::kOk, std::string_view body = {}, std::int64_t zxid = 1);
  void event(WatchType type, const std::string& path, std::int64_t zxid = 1);
  void close();

 private:
  bool read_some(char* to, std::size_t n);  // false: the end
  int fd_;
};

class FakeServer {
 public:
  enum class Kind { kTcp, kUnix };
  explicit FakeServer(Kind kind = Kind::kTcp);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  Target target() const { return target_; }
  std::uint16_t port() const { return target_.servers[0].port; }
  FakeConnection accept();
  // accept(), the ConnectRequest, and a welcome.
  FakeConnection accept_session(std::int64_t session, std::int32_t timeout_ms = 4000);
  void stop_listening();

 private:
  int fd_ = -1;
  std::string directory_;
  Target target_;
};

}  // namespace coord::client
