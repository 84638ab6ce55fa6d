// A whole replica in this process, several I/O threads, raw frames over loopback: the threaded shells, for ThreadSanitizer
// above all. What the protocol says in detail is tested in tests/e2e and tests/replica/tree.
#include "replica/runtime/replica.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <thread>

#include "common/base/log.h"
#include "common/wire/protocol.h"

namespace coord::runtime {
namespace {

using wire::Op;

class Server {
 public:
  explicit Server(int io_threads, std::int32_t tick_ms = 2000) {
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
                std::int32_t timeout_ms = 30'000) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
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
    return put(Op::kCreate, [&](wire::Writer& w) { w.buffer(path), w.buffer(data), write(w, open_acl()), w.i32(flags); });
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

 private:
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
        ADD_FAILURE() << "no answer";
        return std::string(16, '\0');
      }
      in_.append(chunk, static_cast<std::size_t>(n));
    }
  }
  int fd_ = -1;
  std::int32_t xid_ = 0;
  std::string out_;
  std::string in_;
};

std::string data_of(const Frame& frame) {
  wire::Reader reader(frame.body);
  return std::string(reader.string());
}

// Reads pipelined behind writes of the same client see exactly the writes before them, in order, whichever thread
// answers them.
TEST(Replica, PipelinedReadsSeeTheWritesBeforeThem) {
  Server server(3);
  Conn conn(server.port());
  ASSERT_NE(conn.connected().timeout_ms, 0);
  conn.create("/a", "");
  for (int n = 0; n < 500; ++n) {
    conn.set("/a", std::to_string(n));
    conn.get("/a");
    conn.get("/a");
  }
  conn.flush();
  EXPECT_EQ(conn.next().xid, 1);
  std::int32_t xid = 1;
  std::int64_t zxid = 0;
  for (int n = 0; n < 500; ++n) {
    for (int part = 0; part < 3; ++part) {
      const Frame frame = conn.next();
      ASSERT_EQ(frame.xid, ++xid);
      ASSERT_GE(frame.zxid, zxid);
      zxid = frame.zxid;
      ASSERT_EQ(frame.err, Err::kOk);
      if (part > 0) {
        ASSERT_EQ(data_of(frame), std::to_string(n));
      }
    }
  }
}

// Many clients on many threads; each reader checks that versions and zxids never go back, and that a watch event comes
// before any answer that could reveal its change.
TEST(Replica, WatchEventsComeBeforeWhatRevealsThem) {
  Server server(4);
  Conn setup(server.port());
  setup.connected();
  setup.create("/w", "0");
  setup.flush();
  setup.next();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&server, &stop] {
      Conn conn(server.port());
      conn.connected();
      while (!stop) {
        conn.set("/w", "x");
        conn.flush();
        conn.next();
      }
    });
  }
  for (int r = 0; r < 4; ++r) {
    threads.emplace_back([&server] {
      Conn conn(server.port());
      conn.connected();
      std::int64_t mzxid = 0;
      bool armed = false;
      for (int n = 0; n < 400; ++n) {
        conn.get("/w", true);
        conn.flush();
        for (;;) {
          const Frame frame = conn.next();
          if (frame.xid == wire::xid::kNotification) {
            armed = false;
            continue;
          }
          wire::Reader reader(frame.body);
          reader.buffer();
          const Stat stat = wire::read_stat(reader);
          ASSERT_GE(stat.mzxid, mzxid);
          // Newer data than when the watch was armed, and no event before it: a lost or late watch.
          if (armed) {
            ASSERT_EQ(stat.mzxid, mzxid);
          }
          mzxid = stat.mzxid;
          armed = true;
          break;
        }
      }
    });
  }
  for (std::size_t n = 2; n < threads.size(); ++n) threads[n].join();
  stop = true;
  threads[0].join();
  threads[1].join();
}

TEST(Replica, ARestartKeepsSessionsDataAndEphemerals) {
  Server server(2);
  std::int64_t session = 0;
  std::string password;
  {
    Conn conn(server.port());
    const auto response = conn.connected();
    session = response.session;
    password = response.password;
    conn.create("/e", "mine", 1);
    conn.create("/p", "kept", 0);
    conn.flush();
    EXPECT_EQ(conn.next().err, Err::kOk);
    EXPECT_EQ(conn.next().err, Err::kOk);
  }
  server.stop();
  server.start();
  Conn wrong(server.port(), session, std::string(16, 'x'));
  EXPECT_EQ(wrong.connected().timeout_ms, 0);
  EXPECT_TRUE(wrong.closed_by_peer());
  Conn again(server.port(), session, password);
  EXPECT_EQ(again.connected().session, session);
  again.get("/e");
  again.get("/p");
  again.put(Op::kCloseSession, [](wire::Writer&) {});
  again.flush();
  EXPECT_EQ(data_of(again.next()), "mine");
  EXPECT_EQ(data_of(again.next()), "kept");
  EXPECT_EQ(again.next().err, Err::kOk);
  EXPECT_TRUE(again.closed_by_peer());
  Conn other(server.port());
  other.connected();
  other.get("/e");
  other.flush();
  EXPECT_EQ(other.next().err, Err::kNoNode);
}

TEST(Replica, ASecondConnectionOfASessionEndsTheFirst) {
  Server server(2);
  Conn first(server.port());
  const auto response = first.connected();
  Conn second(server.port(), response.session, response.password);
  EXPECT_EQ(second.connected().session, response.session);
  EXPECT_TRUE(first.closed_by_peer());
}

// The answer to the ConnectRequest meets a socket that is gone: its failure comes between the answer and what would have
// been read next.
TEST(Replica, AClientMayLeaveBeforeTheAnswer) {
  Server server(2);
  for (int n = 0; n < 200; ++n) {
    Conn conn(server.port());
    conn.get("/");  // behind the ConnectRequest
    conn.flush();
  }
  Conn conn(server.port());
  EXPECT_NE(conn.connected().timeout_ms, 0);
}

// Sessions opened and dropped by many threads at once, some with requests in flight.
TEST(Replica, ConnectionsComeAndGo) {
  Server server(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&server, t] {
      for (int n = 0; n < 40; ++n) {
        Conn conn(server.port());
        ASSERT_NE(conn.connected().timeout_ms, 0);
        conn.create("/c" + std::to_string(t) + "-" + std::to_string(n), "x", n % 2);
        conn.get("/", true);
        conn.flush();
        if (n % 3 == 0) continue;  // gone with everything in flight
        conn.next();
        if (n % 3 == 1) {
          conn.put(Op::kCloseSession, [](wire::Writer&) {});
          conn.flush();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Conn conn(server.port());
  EXPECT_NE(conn.connected().timeout_ms, 0);
}

}  // namespace
}  // namespace coord::runtime
