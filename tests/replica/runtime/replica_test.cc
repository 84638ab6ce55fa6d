// A whole replica in this process, several I/O threads, raw frames over loopback: the threaded shells, for
// ThreadSanitizer above all. What the protocol says in detail is tested in tests/e2e and tests/replica/tree.
#include <map>
#include <thread>

#include "tests/replica/runtime/raw_client.h"

namespace coord::runtime {
namespace {

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

// The answer to the ConnectRequest meets a socket that is gone: its failure comes between the answer and what would
// have been read next.
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

// More is asked for than may wait in memory: the answers come as the client reads, in order, and writes go on between.
TEST(Replica, AnswersWaitForTheirReader) {
  Server server(4);
  Conn setup(server.port());
  setup.connected();
  setup.create("/big", std::string(900'000, 'b'));
  setup.flush();
  ASSERT_EQ(setup.next().err, Err::kOk);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&server, t] {
      Conn conn(server.port());
      conn.connected();
      const std::string base = "/t" + std::to_string(t) + "-";
      for (int n = 0; n < 60; ++n) {
        conn.create(base + std::to_string(n), "v" + std::to_string(n));
        conn.get("/big", true);
        conn.get(base + std::to_string(n));
      }
      conn.put(Op::kCloseSession, [](wire::Writer&) {});
      conn.flush();
      std::int32_t xid = 0;
      for (int n = 0; n < 60; ++n) {
        const Frame made = conn.next();
        ASSERT_EQ(made.xid, ++xid);
        ASSERT_EQ(made.err, Err::kOk);
        const Frame big = conn.next();
        ASSERT_EQ(big.xid, ++xid);
        ASSERT_EQ(data_of(big).size(), 900'000u);
        const Frame own = conn.next();
        ASSERT_EQ(own.xid, ++xid);
        ASSERT_EQ(data_of(own), "v" + std::to_string(n));
      }
      ASSERT_EQ(conn.next().xid, ++xid);
      EXPECT_TRUE(conn.closed_by_peer());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A client whose frames are not read before it has taken its answers: however little of them it takes within its
// session's timeout, it lives; when it takes nothing, it does not.
void takes_little_and_nothing(Server& server, Conn& conn) {
  Conn other(server.port());
  other.connected();
  other.create("/big", std::string(900'000, 'b'));
  other.flush();
  ASSERT_EQ(other.next().err, Err::kOk);
  const auto alive = [&other] {
    other.put(Op::kExists, [](wire::Writer& w) { w.buffer("/alive"), w.boolean(false); });
    other.flush();
    return other.next().err == Err::kOk;
  };
  ASSERT_EQ(conn.connected().timeout_ms, 1'000);
  conn.take_ahead(16'384);
  conn.create("/alive", "", 1);
  conn.flush();
  ASSERT_EQ(conn.next().err, Err::kOk);
  constexpr int kReads = 30;  // the sockets and the server together hold less than their answers
  for (int n = 0; n < kReads; ++n) conn.get("/big");
  conn.flush();
  for (int n = 0; n < 80; ++n) {
    conn.take(4'096);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the pace of the client: 80 KiB in a timeout
    ASSERT_TRUE(alive()) << n;
  }
  for (int n = 0; n < kReads; ++n) ASSERT_EQ(data_of(conn.next()).size(), 900'000u);
  for (int n = 0; n < kReads; ++n) conn.get("/big");
  conn.flush();
  const auto since = std::chrono::steady_clock::now();
  while (alive() && std::chrono::steady_clock::now() - since < std::chrono::seconds(20)) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(alive());
}

TEST(Replica, WhoTakesLittleOfItsAnswersLives) {
  Server server(2, 200);
  Conn conn(server.port(), 0, std::string(16, '\0'), 1'000);
  takes_little_and_nothing(server, conn);
}

TEST(Replica, WhoTakesLittleOfItsAnswersFromTheUnixSocketLives) {
  Server server(2, 200);
  Conn conn(server.socket(), 1'000);
  takes_little_and_nothing(server, conn);
}

// The last answers are sent as long as the client takes some of them, and not for ever.
TEST(Replica, TheLastAnswersWaitForWhoTakesThem) {
  Server server(2);
  Conn conn(server.port());
  conn.connected();
  conn.take_ahead(16'384);
  conn.create("/big", std::string(900'000, 'b'));
  constexpr int kReads = 12;
  for (int n = 0; n < kReads; ++n) conn.get("/big");
  conn.put(Op::kCloseSession, [](wire::Writer&) {});
  conn.flush();
  ASSERT_EQ(conn.next().err, Err::kOk);
  for (int n = 0; n < 100; ++n) {
    conn.take(4'096);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the pace of the client: 160 KiB in two seconds
  }
  for (int n = 0; n < kReads; ++n) ASSERT_EQ(data_of(conn.next()).size(), 900'000u);
  EXPECT_EQ(conn.next().err, Err::kOk);
  EXPECT_TRUE(conn.closed_by_peer());
}

// Its own next write neither shows in a read nor passes the watch that the read leaves.
TEST(Replica, AReadIsAnsweredFromBeforeTheNextWrite) {
  Server server(2);
  Conn other(server.port());
  other.connected();
  Conn conn(server.port());
  conn.connected();
  conn.create("/big", std::string(900'000, 'b'));
  conn.create("/leader", "0");
  conn.flush();
  ASSERT_EQ(conn.next().err, Err::kOk);
  ASSERT_EQ(conn.next().err, Err::kOk);
  std::int32_t xid = 2;
  for (int round = 1; round <= 5; ++round) {
    conn.create("/c" + std::to_string(round), "");
    for (int n = 0; n < 40; ++n) conn.get("/big");
    conn.get("/leader", true);
    conn.set("/leader", std::to_string(round));
    conn.flush();
    do {  // it is carried out while the answers wait
      other.get("/leader");
      other.flush();
    } while (data_of(other.next()) != std::to_string(round));
    for (int n = 0; n < 41; ++n) ASSERT_EQ(conn.next().xid, ++xid);
    const Frame read = conn.next();
    ASSERT_EQ(read.xid, ++xid);
    EXPECT_EQ(data_of(read), std::to_string(round - 1));
    EXPECT_EQ(conn.next().xid, wire::xid::kNotification);
    EXPECT_EQ(conn.next().xid, ++xid);
  }
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
