// The counter of an epoch runs out while clients write: connections that are refused may end, but every session goes
// on, what was acknowledged stays, and nothing behind a refused write is carried out.
#include <atomic>
#include <thread>
#include <vector>

#include "tests/replica/runtime/raw_client.h"

namespace coord::runtime {
namespace {

// One session of a client that pipelines creates of 0, 1, 2, ... and connects again where it was cut off.
struct Writer {
  Writer(Server& server, int number) : server_(server), base_("/w" + std::to_string(number)) {}

  void run(int total) {
    const auto ends = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (done_ < total && std::chrono::steady_clock::now() < ends) {
      Conn conn(server_.port(), session_, password_);
      conn.may_end();
      const auto response = conn.connected();
      if (conn.ended()) continue;  // just now between two epochs
      ASSERT_NE(response.session, 0) << "the session must go on";
      session_ = response.session;
      password_ = response.password;
      if (!look(conn)) continue;
      write(conn, total);
    }
    EXPECT_EQ(done_, total);
  }

 private:
  // What is there is a prefix of what was sent, and holds all that was acknowledged.
  bool look(Conn& conn) {
    conn.create(base_, "");
    conn.put(Op::kGetChildren, [&](wire::Writer& w) { w.buffer(base_), w.boolean(false); });
    conn.flush();
    conn.next();
    const Frame list = conn.next();
    if (conn.ended()) return false;
    EXPECT_EQ(list.err, Err::kOk);
    wire::Reader reader(list.body);
    const int count = reader.i32();
    int above = -1;
    for (int n = 0; n < count; ++n) above = std::max(above, std::stoi(std::string(reader.string())));
    EXPECT_EQ(above + 1, count) << "a write was carried out, but not the one before it";
    EXPECT_GE(count, done_) << "an acknowledged write is gone";
    done_ = count;
    return true;
  }

  void write(Conn& conn, int total) {
    const int from = done_;
    for (int n = from; n < total; ++n) conn.create(base_ + "/" + std::to_string(n), "x", 1);
    conn.flush();
    for (int n = from; n < total; ++n) {
      const Frame frame = conn.next();
      if (conn.ended()) return;
      ASSERT_EQ(frame.err, Err::kOk);
      ++done_;
    }
  }

  Server& server_;
  const std::string base_;
  std::int64_t session_ = 0;
  std::string password_ = std::string(16, '\0');
  int done_ = 0;
};

void write_over_epochs(int io_threads, std::uint32_t counter_max, int clients, int writes) {
  Server server(io_threads, 2000, counter_max);
  std::vector<std::thread> threads;
  for (int n = 0; n < clients; ++n) {
    threads.emplace_back([&server, n, writes] { Writer(server, n).run(writes); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(HandOver, OneThread) { write_over_epochs(1, 70, 4, 150); }
TEST(HandOver, FourThreads) { write_over_epochs(4, 40, 6, 150); }

// Sessions fall due in every moment of a hand-over; none may be forgotten.
TEST(HandOver, SessionsExpireAcrossEpochs) {
  Server server(2, 10, 12);
  Conn live(server.port(), 0, std::string(16, '\0'), 30'000);
  live.connected();
  for (int n = 0; n < 300; ++n) {
    Conn conn(server.port(), 0, std::string(16, '\0'), 20);
    conn.may_end();
    if (conn.connected().session == 0) continue;
    conn.create("/e" + std::to_string(n), "", 1);
    conn.flush();
    conn.next();
  }
  const auto ends = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (;;) {
    Conn conn(server.port());
    conn.may_end();
    conn.connected();
    conn.put(Op::kGetChildren, [&](wire::Writer& w) { w.buffer("/"), w.boolean(false); });
    conn.flush();
    const Frame list = conn.next();
    if (!conn.ended()) {
      wire::Reader reader(list.body);
      const int count = reader.i32();
      if (count == 1) break;  // /zookeeper
      ASSERT_LT(std::chrono::steady_clock::now(), ends) << count - 1 << " ephemerals of sessions that never expire";
    }
    std::this_thread::yield();
  }
}

}  // namespace
}  // namespace coord::runtime
