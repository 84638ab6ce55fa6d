// Three whole replicas in this process: real connections between them on loopback, LMDB, several I/O threads, raw
// frames. The protocol in detail is tested in core_ensemble_test.cc; here are the shells, for ThreadSanitizer too.
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "common/base/fd.h"
#include "tests/replica/runtime/raw_client.h"

namespace coord::runtime {
namespace {

// Below the ports that the kernel gives to outgoing connections: while a replica is restarted, its port must not go to
// one of them. Chosen once on this machine, also while other tests run (tests/e2e/lib.py does the same): a socket of
// that name, which no file is left of, says that it is taken, as long as this process lives.
std::uint16_t free_port() {
  static std::mt19937 random(std::random_device{}());
  for (int n = 0; n < 200; ++n) {
    const auto port = static_cast<std::uint16_t>(std::uniform_int_distribution<int>(20'000, 31'999)(random));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const int length = std::snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "coord-test-port-%d", int{port});
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(length));
    Fd taken(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (::bind(taken.get(), reinterpret_cast<sockaddr*>(&name), size) != 0) continue;
    if (::bind(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) continue;
    taken.release();
    return port;
  }
  ADD_FAILURE() << "no free port on 127.0.0.1";
  return 0;
}

class Trio {
 public:
  explicit Trio(std::uint64_t log_keep_entries = 100'000, std::int32_t tick_ms = 2000) {
    log::set_level(std::getenv("CLUSTER_LOG") != nullptr ? log::Level::kDebug : log::Level::kError);
    char pattern[] = "/tmp/coord-trio-XXXXXX";
    directory_ = mkdtemp(pattern);
    std::vector<Member> members;
    for (std::uint32_t n = 1; n <= 3; ++n) members.push_back(Member{Sid(n), "127.0.0.1", free_port()});
    for (std::uint32_t n = 0; n < 3; ++n) {
      Config& config = configs_[n];
      config.server_id = n + 1;
      config.members = members;
      config.peer_secret = "a secret of this test";
      config.data_dir = directory_ + "/" + std::to_string(n + 1);
      config.tick_time_ms = tick_ms;
      config.has_client_port = true;
      config.client_address = "127.0.0.1";
      config.client_port = free_port();
      config.io_threads = 2;
      config.connections_per_ip_max = 0;
      config.grow_bytes = 4 << 20;
      config.log_keep_entries = log_keep_entries;
    }
  }
  ~Trio() {
    for (int n = 0; n < 3; ++n) stop(n);
    std::filesystem::remove_all(directory_);
  }
  void start(int n) {
    auto opened = Replica::open(configs_[n]);
    ASSERT_TRUE(opened) << opened.error().message;
    replicas_[n] = std::move(*opened);
    threads_[n] = std::thread([this, n] { replicas_[n]->run(); });
  }
  void start_all() {
    for (int n = 0; n < 3; ++n) start(n);
    for (int n = 0; n < 3; ++n) ASSERT_TRUE(serves(n)) << n;
  }
  void stop(int n) {
    if (!replicas_[n]) return;
    replicas_[n]->stop();
    threads_[n].join();
    replicas_[n].reset();
  }
  template <class Condition>
  static bool eventually(Condition&& condition) {
    const auto ends = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > ends) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  bool serves(int n) {
    return eventually([&] { return replicas_[n]->serving(); });
  }
  EnsembleStatus status(int n) { return replicas_[n]->ensemble_status(); }
  int leader() {
    int found = -1;
    eventually([&] {
      for (int n = 0; n < 3 && found < 0; ++n) {
        if (!replicas_[n] || !replicas_[n]->serving()) continue;
        if (status(n).role == zab::Role::kLeading && status(n).serving) found = n;
      }
      return found >= 0;
    });
    return found;
  }
  int follower(int which = 0) {
    const int lead = leader();
    for (int n = 0; n < 3; ++n) {
      if (n != lead && replicas_[n] && which-- == 0) return n;
    }
    return -1;
  }
  std::uint16_t port(int n) const { return replicas_[n]->client_port(); }
  bool runs(int n) const { return replicas_[n] != nullptr; }

 private:
  std::string directory_;
  Config configs_[3];
  std::unique_ptr<Replica> replicas_[3];
  std::thread threads_[3];
};

void sync(Conn& conn) {
  conn.put(Op::kSync, [](wire::Writer& w) { w.buffer(std::string("/")); });
  conn.flush();
  EXPECT_EQ(conn.next().err, Err::kOk);
}

std::string read(Conn& conn, const std::string& path) {
  conn.get(path);
  conn.flush();
  const Frame frame = conn.next();
  return frame.err == Err::kOk ? data_of(frame) : "error " + std::to_string(static_cast<int>(frame.err));
}

Err done(Conn& conn) {
  conn.flush();
  return conn.next().err;
}

TEST(ReplicaEnsemble, WritesThroughAFollowerAreReadAtTheOthers) {
  Trio trio;
  trio.start_all();
  Conn writer(trio.port(trio.follower(0)));
  ASSERT_NE(writer.connected().session, 0);
  writer.create("/a", "0");
  ASSERT_EQ(done(writer), Err::kOk);
  Conn at_leader(trio.port(trio.leader())), at_other(trio.port(trio.follower(1)));
  at_leader.connected();
  at_other.connected();
  for (int n = 1; n <= 100; ++n) {
    writer.set("/a", std::to_string(n));
    ASSERT_EQ(done(writer), Err::kOk);
    ASSERT_EQ(read(at_leader, "/a"), std::to_string(n));
    sync(at_other);
    ASSERT_EQ(read(at_other, "/a"), std::to_string(n));
  }
}

TEST(ReplicaEnsemble, ASessionMovesBetweenReplicas) {
  Trio trio;
  trio.start_all();
  auto conn = std::make_unique<Conn>(trio.port(trio.follower(0)));
  const auto response = conn->connected();
  conn->create("/e", "mine", 1);
  ASSERT_EQ(done(*conn), Err::kOk);
  for (const int to : {trio.leader(), trio.follower(1), trio.follower(0)}) {
    auto next = std::make_unique<Conn>(trio.port(to), response.session, response.password);
    ASSERT_EQ(next->connected().session, response.session);
    EXPECT_TRUE(conn->closed_by_peer());
    sync(*next);
    EXPECT_EQ(read(*next, "/e"), "mine");
    conn = std::move(next);
  }
}

TEST(ReplicaEnsemble, OneIsStoppedAndTheOthersGoOn) {
  Trio trio;
  trio.start_all();
  std::int64_t session = 0;
  std::string password(16, '\0');
  for (int round = 0; round < 4; ++round) {
    const int victim = round % 2 == 0 ? trio.leader() : trio.follower(0);
    const std::string path = "/n" + std::to_string(round);
    {
      Conn conn(trio.port(victim), session, password);
      const auto response = conn.connected();
      ASSERT_NE(response.session, 0);
      session = response.session;
      password = response.password;
      conn.create(path, "x", 1);
      ASSERT_EQ(done(conn), Err::kOk);
      trio.stop(victim);
    }
    const int lead = trio.leader();
    ASSERT_GE(lead, 0);
    Conn conn(trio.port(lead), session, password);
    ASSERT_EQ(conn.connected().session, session) << "the session goes on";
    EXPECT_EQ(read(conn, path), "x");
    conn.set(path, "y");
    EXPECT_EQ(done(conn), Err::kOk);
    trio.start(victim);
    ASSERT_TRUE(trio.serves(victim));
    Conn back(trio.port(victim));
    ASSERT_NE(back.connected().session, 0);
    sync(back);
    EXPECT_EQ(read(back, path), "y");
  }
}

TEST(ReplicaEnsemble, ASessionAtAFollowerExpiresInTime) {
  constexpr std::int32_t kTick = 500, kTimeout = 1500;
  Trio trio(100'000, kTick);
  trio.start_all();
  Conn watcher(trio.port(trio.leader()), 0, std::string(16, '\0'), 10'000);
  watcher.connected();
  Conn silent(trio.port(trio.follower(0)), 0, std::string(16, '\0'), kTimeout);
  ASSERT_EQ(silent.connected().timeout_ms, kTimeout);
  silent.create("/e", "", 1);
  ASSERT_EQ(done(silent), Err::kOk);
  const auto last = std::chrono::steady_clock::now();
  EXPECT_EQ(read(watcher, "/e"), "");
  const auto passed = [&] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - last).count();
  };
  ASSERT_TRUE(Trio::eventually([&] { return read(watcher, "/e") != ""; }));
  EXPECT_GE(passed(), kTimeout - 20);  // its last contact was a little before `last`
  EXPECT_LE(passed(), kTimeout + 2 * kTick + 1000) << "the machine may be slow, but not that slow";
  EXPECT_TRUE(silent.closed_by_peer());
}

TEST(ReplicaEnsemble, ASnapshotIsInstalledWhileWritesGoOn) {
  Trio trio(100);
  trio.start_all();
  const int away = trio.follower(0);
  const int left[2] = {trio.leader(), trio.follower(1)};
  trio.stop(away);
  constexpr int kNodes = 5000;
  {
    Conn filler(trio.port(left[0]));
    filler.connected();
    for (int n = 0; n < kNodes; ++n) filler.create("/n" + std::to_string(n), std::string(200, 'x'));
    filler.flush();
    for (int n = 0; n < kNodes; ++n) ASSERT_EQ(filler.next().err, Err::kOk);
  }
  // What was in memory of the log is gone with these.
  for (const int n : left) trio.stop(n);
  for (const int n : left) trio.start(n);
  Conn conn(trio.port(trio.leader()));
  ASSERT_NE(conn.connected().session, 0);
  trio.start(away);
  int value = 0;
  while (!trio.status(away).serving || value < 200) {
    conn.set("/n0", std::to_string(++value));
    ASSERT_EQ(done(conn), Err::kOk);
    ASSERT_LT(value, 100'000);
  }
  Conn back(trio.port(away));
  ASSERT_NE(back.connected().session, 0);
  sync(back);
  EXPECT_EQ(read(back, "/n0"), std::to_string(value));
  EXPECT_EQ(read(back, "/n" + std::to_string(kNodes - 1)), std::string(200, 'x'));
  // What was installed and written behind it stands after a restart.
  trio.stop(away);
  trio.start(away);
  ASSERT_TRUE(trio.serves(away));
  Conn again(trio.port(away));
  ASSERT_NE(again.connected().session, 0);
  sync(again);
  EXPECT_EQ(read(again, "/n0"), std::to_string(value));
}

// Clients at all replicas write and read while one after the other is restarted.
TEST(ReplicaEnsemble, LoadAtAllWhileEachIsRestarted) {
  Trio trio;
  trio.start_all();
  std::atomic<bool> stop{false};
  std::atomic<int> written{0};
  const std::uint16_t ports[3] = {trio.port(0), trio.port(1), trio.port(2)};
  std::vector<std::thread> clients;
  for (int n = 0; n < 3; ++n) {
    clients.emplace_back([&, n] {
      const std::string key = "/k" + std::to_string(n);
      std::int64_t session = 0;
      std::string password(16, '\0');
      int value = 0, acked = 0;
      for (int round = 0; !stop; ++round) {
        Conn conn(ports[(n + round) % 3], session, password, 30'000, true);
        const auto response = conn.connected();
        if (conn.ended()) {
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
          continue;
        }
        ASSERT_NE(response.timeout_ms, 0) << "a session of half a minute is gone";
        session = response.session;
        password = response.password;
        conn.create(key, "0");
        conn.flush();
        conn.next();
        while (!stop && !conn.ended()) {
          for (int k = 0; k < 10; ++k) conn.set(key, std::to_string(++value));
          conn.get(key);
          conn.flush();
          for (int k = 0; k < 10; ++k) {
            const Frame frame = conn.next();
            if (conn.ended()) break;
            ASSERT_EQ(frame.err, Err::kOk);
            acked = value - 9 + k;
            ++written;
          }
          if (conn.ended()) break;
          const Frame frame = conn.next();
          if (conn.ended()) break;
          ASSERT_EQ(data_of(frame), std::to_string(value));
        }
      }
      Conn last(ports[n]);
      last.connected();
      sync(last);
      EXPECT_GE(std::stoi(read(last, key)), acked);
    });
  }
  for (int n = 0; n < 3; ++n) {
    const int before = written;
    EXPECT_TRUE(Trio::eventually([&] { return written > before + 200; }));
    trio.stop(n);
    EXPECT_TRUE(Trio::eventually([&] { return written > before + 400; }));
    trio.start(n);
    ASSERT_TRUE(trio.serves(n));
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace coord::runtime
