// A whole replica in this process, and raw frames to it over loopback.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "common/base/log.h"
#include "common/wire/protocol.h"
#include "replica/runtime/replica.h"

namespace coord::runtime {

using wire::Op;

class Server {
 public:
  explicit Server(int io_threads, std::int32_t tick_ms = 2000, std::uint32_t counter_max = 0) {
    log::set_level(log::Level::kError);
    char pattern[] = "/tmp/coord-replica-XXXXXX";
    directory_ = mkdtemp(pattern);
    config_.data_dir = directory_ + "/data";
    config_.tick_time_ms = tick_ms;
    config_.has_client_port = true;
    config_.client_address = "127.0.0.1";
    config_.socket = directory_ + "/socket";
    config_.io_threads = io_threads;
    config_.connections_per_ip_max = 0;
    config_.grow_bytes = 4 << 20;
    if (counter_max != 0) config_.counter_max = counter_max;
    start();
  }
  ~Server() {
    stop();
    std::filesystem::remove_all(directory_);
  }

  void start() {
    auto opened = Replica::open(config_);
    if (!opened) {
      ADD_FAILURE() << opened.error().message;
      abort();
    }
    replica_ = std::move(*opened);
    port_ = replica_->client_port();
    thread_ = std::thread([this] { replica_->run(); });
    while (!replica_->serving()) std::this_thread::yield();
  }
  void stop() {
    if (!replica_) return;
    replica_->stop();
    thread_.join();
    replica_.reset();
  }
  std::uint16_t port() const { return port_; }
  const std::string& socket() const { return config_.socket; }

 private:
  std::string directory_;
  Config config_;
  std::unique_ptr<Replica> replica_;
  std::thread thread_;
  std::uint16_t port_ = 0;
};

struct Frame {
  std::int32_t xid = 0;
  std::int64_t zxid = 0;
  Err err = Err::kOk;
  std::string body;
};

class Conn {
 public:
  explicit Conn(std::uint16_t port, std::int64_t session = 0, std::string password = std::string(16, '\0'),
                std::int32_t timeout_ms = 30'000, bool may_end = false)
      : may_end_(may_end) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int connected = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    if (!may_end_) {
      EXPECT_EQ(connected, 0);
    }
    ask_for_session(session, std::move(password), timeout_ms);
  }
  // Over the Unix socket.
  Conn(const std::string& path, std::int32_t timeout_ms) : may_end_(false) {
    fd_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ask_for_session(0, std::string(16, '\0'), timeout_ms);
  }
  ~Conn() { ::close(fd_); }
  Conn(const Conn&) = delete;
  Conn& operator=(const Conn&) = delete;

  wire::ConnectResponse connected() {
    flush();
    const std::string payload = next_payload();
    wire::Reader reader(payload);
    return wire::read_connect_response(reader);
  }
  template <class Body>
  std::int32_t put(Op op, Body&& body) {
    const std::size_t frame = wire::begin_frame(out_);
    wire::Writer writer(out_);
    writer.i32(++xid_);
    writer.i32(static_cast<std::int32_t>(op));
    body(writer);
    wire::end_frame(out_, frame);
    return xid_;
  }
  std::int32_t set(const std::string& path, const std::string& data) {
    return put(Op::kSetData, [&](wire::Writer& w) { w.buffer(path), w.buffer(data), w.i32(-1); });
  }
  std::int32_t get(const std::string& path, bool watch = false) {
    return put(Op::kGetData, [&](wire::Writer& w) { w.buffer(path), w.boolean(watch); });
  }
  std::int32_t create(const std::string& path, const std::string& data, std::int32_t flags = 0) {
    return put(Op::kCreate,
               [&](wire::Writer& w) { w.buffer(path), w.buffer(data), write(w, open_acl()), w.i32(flags); });
  }
  void flush() {
    std::size_t at = 0;
    while (at < out_.size()) {
      const ssize_t n = ::send(fd_, out_.data() + at, out_.size() - at, MSG_NOSIGNAL);
      if (n <= 0) break;
      at += static_cast<std::size_t>(n);
    }
    out_.clear();
  }
  Frame next() {
    const std::string payload = next_payload();
    wire::Reader reader(payload);
    const wire::ReplyHeader header = wire::read_reply_header(reader);
    return {header.xid, header.zxid, header.err, std::string(reader.rest())};
  }
  bool closed_by_peer() {
    char byte;
    return ::recv(fd_, &byte, 1, 0) == 0;
  }

  // The kernel takes about so much that this client has not read.
  void take_ahead(int bytes) { ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes); }
  // One piece of what has arrived, for next() later. False: there is none, or the connection has ended.
  bool take(std::size_t most) {
    std::string piece(most, '\0');
    const ssize_t n = ::recv(fd_, piece.data(), most, MSG_DONTWAIT);
    if (n > 0) in_.append(piece, 0, static_cast<std::size_t>(n));
    return n > 0;
  }

  // The server may close this connection: then next() gives an empty frame and ended() is true.
  void may_end() { may_end_ = true; }
  bool ended() const { return ended_; }

 private:
  void ask_for_session(std::int64_t session, std::string password, std::int32_t timeout_ms) {
    timeval limit{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    wire::ConnectRequest request;
    request.session = session;
    request.password = std::move(password);
    request.timeout_ms = timeout_ms;
    request.has_read_only = true;
    const std::size_t frame = wire::begin_frame(out_);
    wire::Writer writer(out_);
    write(writer, request);
    wire::end_frame(out_, frame);
  }
  std::string next_payload() {
    for (;;) {
      if (in_.size() >= 4) {
        const auto size = static_cast<std::size_t>(wire::load_be<std::int32_t>(in_.data()));
        if (in_.size() >= 4 + size) {
          std::string payload = in_.substr(4, size);
          in_.erase(0, 4 + size);
          return payload;
        }
      }
      char chunk[65536];
      const ssize_t n = ::recv(fd_, chunk, sizeof chunk, 0);
      if (n <= 0) {
        if (!may_end_) ADD_FAILURE() << "no answer";
        ended_ = true;
        return std::string(16, '\0');
      }
      in_.append(chunk, static_cast<std::size_t>(n));
    }
  }
  int fd_ = -1;
  bool may_end_;
  bool ended_ = false;
  std::int32_t xid_ = 0;
  std::string out_;
  std::string in_;
};

inline std::string data_of(const Frame& frame) {
  wire::Reader reader(frame.body);
  return std::string(reader.string());
}

}  // namespace coord::runtime
