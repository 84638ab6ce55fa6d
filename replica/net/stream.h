// One accepted connection, TCP or Unix: bytes in, bytes out, and nothing of the protocol. The user keeps the bytes that
// wait to be sent (it has to order them under its own lock) and lends them when the socket can take more.
//
// Threading: a stream lives on one loop for life; its callbacks run there. request_flush and request_close from any
// thread. A stream is kept alive by the operations in flight; after on_closed no callback comes any more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "replica/net/loop.h"

namespace coord::net {

// Who is at the other end.
struct Remote {
  bool is_unix = false;
  std::string address;  // TCP: numeric, IPv4 in dotted form also on a dual-stack socket (client-protocol.md 18.48)
  std::uint16_t port = 0;
  std::uint32_t uid = 0, gid = 0;  // Unix: SO_PEERCRED
  std::int32_t pid = 0;
};

class StreamUser {
 public:
  virtual ~StreamUser() = default;
  // New bytes were appended to `in`; erase from its front what was consumed. Return false to stop reading until
  // Stream::resume_reading().
  virtual bool on_bytes(std::string& in) = 0;
  // Move what is to be sent into `out` (empty on call). Leaving it empty means nothing to send.
  virtual void take_output(std::string& out) = 0;
  // While nothing is read (on_bytes has asked for that): the peer has taken some of what is sent to it. Looked at every
  // 100 ms, by what its kernel has acknowledged; on a Unix socket, by what it has read.
  virtual void on_taken() = 0;
  // The connection is over, for whatever reason. Called exactly once.
  virtual void on_closed() = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual const Remote& remote() const = 0;
  virtual Executor& loop() = 0;
  virtual void start(std::shared_ptr<StreamUser> user) = 0;  // loop thread; begins reading
  virtual void request_flush() = 0;                           // any thread; coalesced
  virtual void resume_reading() = 0;                          // any thread
  // Closes; `flush` first sends what take_output still yields, as long as the peer takes some of it every 2 s.
  virtual void request_close(bool flush) = 0;                 // any thread
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual std::uint16_t port() const = 0;  // the real one, when 0 was asked for; 0 for Unix
  virtual void close() = 0;                // loop thread
};

// Called on `loop` of the new connection, which is chosen round robin. Must call start() or drop the stream.
using OnAccept = std::function<void(std::shared_ptr<Stream>)>;

// `address` empty: all addresses, dual-stack. Fault names address, port and reason.
Result<std::unique_ptr<Listener>, Fault> listen_tcp(std::vector<Loop*> loops, const std::string& address,
                                                    std::uint16_t port, int backlog, OnAccept on_accept);
// A stale socket file that nobody listens on is replaced; a live one is a Fault. Mode 0660, group `group` if it exists.
Result<std::unique_ptr<Listener>, Fault> listen_unix(std::vector<Loop*> loops, const std::string& path,
                                                     const std::string& group, OnAccept on_accept);

}  // namespace coord::net
