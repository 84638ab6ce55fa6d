// The client against a scripted server over real sockets.
#include "common/client/client.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "tests/common/fake_server.h"
#include "tests/common/submit.h"

namespace coord::client {
namespace {

using namespace std::chrono_literals;
using wire::Op;

struct Answer {
  Err err = Err::kOk;
  bool sent = false;
  std::string body;
  std::int64_t zxid = 0;
};

std::future<Answer> ask(Client& client, std::string body, Submit how = {}, Op op = Op::kGetData) {
  const auto promise = std::make_shared<std::promise<Answer>>();
  auto future = promise->get_future();
  client.submit(op, std::move(body), std::move(how), [promise](const Reply& r) {
    promise->set_value({r.err, r.sent, std::string(r.body), r.zxid});
  });
  return future;
}

Answer wait(std::future<Answer>& future) {
  if (future.wait_for(5s) != std::future_status::ready) throw std::runtime_error("no completion in time");
  return future.get();
}

// What came through the callbacks, in order, as words; the test waits for the next.
class Log {
 public:
  void add(std::string word) {
    const std::lock_guard<std::mutex> lock(mutex_);
    words_.push_back(std::move(word));
    changed_.notify_all();
  }
  std::string next() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_for(lock, 5s, [this] { return taken_ < words_.size(); })) return "(nothing in time)";
    return words_[taken_++];
  }
  bool empty() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return taken_ == words_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> words_;
  std::size_t taken_ = 0;
};

std::string word(SessionEvent event) {
  switch (event) {
    case SessionEvent::kConnected:
      return "connected";
    case SessionEvent::kReconnected:
      return "reconnected";
    case SessionEvent::kDisconnected:
      return "disconnected";
    case SessionEvent::kExpired:
      return "expired";
  }
  return "?";
}

struct Rig {
  explicit Rig(FakeServer::Kind kind = FakeServer::Kind::kTcp) : server(kind) {
    options.target = server.target();
    options.session_timeout_ms = 4000;
    options.on_session = [this](SessionEvent e) { log.add(word(e)); };
    options.on_watch = [this](const wire::WatcherEvent& e, std::int64_t) {
      log.add("watch " + std::to_string(static_cast<int>(e.type)) + " " + e.path);
    };
    options.on_change = [this](const wire::ChangeEvent& e) { log.add("change " + std::to_string(e.zxid)); };
  }
  Client& start() {
    client = Client::create(options);
    return *client;
  }
  FakeServer server;
  Options options;
  Log log;
  std::unique_ptr<Client> client;  // the first to go
};

class ClientOver : public ::testing::TestWithParam<FakeServer::Kind> {};
INSTANTIATE_TEST_SUITE_P(Sockets, ClientOver, ::testing::Values(FakeServer::Kind::kTcp, FakeServer::Kind::kUnix));

TEST_P(ClientOver, AThousandPipelinedRequestsAreAnsweredInOrder) {
  Rig s(GetParam());
  Client& client = s.start();
  std::vector<std::future<Answer>> futures;
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) {
    client.submit(Op::kGetData, std::to_string(i), {}, [&order, i](const Reply& r) {
      EXPECT_EQ(r.body, "re:" + std::to_string(i));
      order.push_back(i);
    });
  }
  futures.push_back(ask(client, "last"));
  FakeConnection c = s.server.accept_session(7);
  for (int i = 0; i <= 1000; ++i) {
    const auto request = c.request();
    EXPECT_EQ(request.xid, i + 1);
    c.reply(request.xid, Err::kOk, "re:" + request.body);
  }
  EXPECT_EQ(wait(futures[0]).body, "re:last");
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Client, EventsComeBeforeLaterReplies) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_EQ(s.log.next(), "connected");
  client.submit(Op::kSetData, "x", {}, [&](const Reply&) { s.log.add("reply"); });
  const auto request = c.request();
  c.event(WatchType::kDataChanged, "/x");
  std::string change;
  wire::Writer w(change);
  wire::ChangeEvent event;
  event.zxid = 12;
  write(w, event);
  c.reply(wire::xid::kChangeEvent, Err::kOk, change);
  c.reply(request.xid);
  EXPECT_EQ(s.log.next(), "watch 3 /x");
  EXPECT_EQ(s.log.next(), "change 12");
  EXPECT_EQ(s.log.next(), "reply");
}

TEST(Client, ReconnectsWithTheSameSession) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept();
  const auto first = c.connect_request();
  EXPECT_EQ(first.session, 0);
  EXPECT_EQ(first.last_zxid_seen, 0);
  EXPECT_EQ(first.password, std::string(16, '\0'));
  EXPECT_EQ(first.timeout_ms, 4000);
  c.welcome(0x123, 5000);
  EXPECT_TRUE(client.wait_connected(5s));
  auto future = ask(client, "a");
  c.reply(c.request().xid, Err::kOk, "", 99);
  EXPECT_EQ(wait(future).zxid, 99);
  EXPECT_EQ(client.last_zxid(), 99);
  EXPECT_EQ(client.session(), 0x123);
  EXPECT_EQ(client.negotiated_timeout_ms(), 5000);
  c.close();
  c = s.server.accept();
  const auto second = c.connect_request();
  EXPECT_EQ(second.session, 0x123);
  EXPECT_EQ(second.last_zxid_seen, 99);
  EXPECT_EQ(second.password, std::string(16, 'p'));
  c.welcome(0x123);
  EXPECT_EQ(s.log.next(), "connected");
  EXPECT_EQ(s.log.next(), "disconnected");
  EXPECT_EQ(s.log.next(), "reconnected");
}

TEST(Client, ALostConnectionFailsWhatWasSentAndResendsWhatMayBe) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  auto lost = ask(client, "plain");
  auto kept = ask(client, "mutation 1", resend());
  auto kept2 = ask(client, "mutation 2", resend());
  for (int i = 0; i < 3; ++i) c.request();
  c.close();
  const Answer answer = wait(lost);
  EXPECT_EQ(answer.err, Err::kConnectionLoss);
  EXPECT_TRUE(answer.sent);
  auto later = ask(client, "later");
  c = s.server.accept_session(7);
  for (const char* expected : {"mutation 1", "mutation 2", "later"}) {
    const auto request = c.request();
    EXPECT_EQ(request.body, expected);
    c.reply(request.xid, Err::kOk, "done");
  }
  EXPECT_EQ(wait(kept).body, "done");
  EXPECT_EQ(wait(kept2).body, "done");
  EXPECT_EQ(wait(later).body, "done");
}

TEST(Client, ARequestThatWasNotWhollyWrittenWasNotSent) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_EQ(s.log.next(), "connected");
  // More than the socket buffers of a peer that does not read can take: the last of these cannot have left.
  std::vector<std::future<Answer>> futures;
  for (int i = 0; i < 64; ++i) futures.push_back(ask(client, std::string(1 << 20, 'x')));
  const auto request = c.request();
  EXPECT_EQ(request.body.size(), 1u << 20);
  c.close();
  std::vector<bool> sent;
  for (auto& future : futures) {
    const Answer answer = wait(future);
    EXPECT_EQ(answer.err, Err::kConnectionLoss);
    sent.push_back(answer.sent);
  }
  EXPECT_TRUE(sent.front());
  EXPECT_FALSE(sent.back());
  EXPECT_TRUE(std::is_sorted(sent.rbegin(), sent.rend()));  // sent ones first, then only unsent ones
}

TEST(Client, DeadlinesHoldWithoutAServer) {
  Rig s;
  s.server.stop_listening();
  Client& client = s.start();
  auto future = ask(client, "a", within(50ms));
  const Answer answer = wait(future);
  EXPECT_EQ(answer.err, Err::kOperationTimeout);
  EXPECT_FALSE(answer.sent);
  EXPECT_FALSE(client.wait_connected(1ms));
  EXPECT_FALSE(client.connected());
  EXPECT_EQ(client.what_was_tried(), "127.0.0.1:" + std::to_string(s.server.port()) + ": Connection refused");
}

TEST(Client, DeadlinesHoldAgainstAServerThatDoesNotAnswer) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  auto slow = ask(client, "slow", within(50ms));
  const auto request = c.request();
  EXPECT_EQ(wait(slow).err, Err::kOperationTimeout);
  auto next = ask(client, "next");
  c.reply(request.xid, Err::kOk, "too late");
  c.reply(c.request().xid, Err::kOk, "in time");
  EXPECT_EQ(wait(next).body, "in time");
}

TEST(Client, AnExpiredSessionFailsEverythingAndIsReplaced) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  auto mutation = ask(client, "m", resend());
  c.request();
  c.close();
  c = s.server.accept();
  EXPECT_EQ(c.connect_request().session, 7);
  c.welcome(0, 0);
  EXPECT_EQ(wait(mutation).err, Err::kSessionExpired);
  EXPECT_TRUE(c.at_end());
  c = s.server.accept();
  const auto fresh = c.connect_request();
  EXPECT_EQ(fresh.session, 0);
  EXPECT_EQ(fresh.password, std::string(16, '\0'));
  c.welcome(8);
  for (const char* expected : {"connected", "disconnected", "expired", "connected"}) EXPECT_EQ(s.log.next(), expected);
  EXPECT_EQ(client.session(), 8);
}

TEST(Client, WithoutRenewExpiryIsTheEnd) {
  Rig s;
  s.options.renew = false;
  s.options.session = 7;
  s.options.password = std::string(16, 'x');
  Client& client = s.start();
  FakeConnection c = s.server.accept();
  EXPECT_EQ(c.connect_request().password, std::string(16, 'x'));
  c.welcome(0, 0);
  EXPECT_EQ(s.log.next(), "expired");
  auto future = ask(client, "a");
  const Answer answer = wait(future);
  EXPECT_EQ(answer.err, Err::kSessionExpired);
  EXPECT_FALSE(answer.sent);
}

TEST(Client, HoldsRequestsUntilReleased) {
  Rig s;
  s.options.hold_after_connect = true;
  std::future<Answer> resumed;
  std::promise<void> submitted;
  s.options.on_session = [&](SessionEvent event) {
    if (event != SessionEvent::kConnected) return;
    Submit how;
    how.first = true;
    s.client->submit(Op::kResume, "resume", how, [&](const Reply&) {
      s.log.add("resumed");
      s.client->release();
    });
    submitted.set_value();
  };
  // The callback uses s.client: it must be set before the server lets the client in.
  Client& client = s.start();
  auto held = ask(client, "held");
  FakeConnection c = s.server.accept_session(7);
  submitted.get_future().wait();
  const auto resume = c.request();
  EXPECT_EQ(resume.body, "resume");
  EXPECT_TRUE(c.silent(100));
  c.reply(resume.xid);
  EXPECT_EQ(s.log.next(), "resumed");
  const auto request = c.request();
  EXPECT_EQ(request.body, "held");
  c.reply(request.xid);
  EXPECT_EQ(wait(held).err, Err::kOk);
}

TEST(Client, ArmsWatchesAgain) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  Submit how;
  how.watch = Submit::Watch::kChild;
  how.watch_path = "/dir";
  auto future = ask(client, "children", how, Op::kGetChildren);
  c.reply(c.request().xid, Err::kOk, "", 41);
  wait(future);
  c.close();
  c = s.server.accept_session(7);
  const auto rearm = c.request();
  EXPECT_EQ(rearm.op, Op::kSetWatches);
  wire::Reader r(rearm.body);
  EXPECT_EQ(r.i64(), 41);
  EXPECT_TRUE(wire::read_strings(r).empty());
  EXPECT_TRUE(wire::read_strings(r).empty());
  EXPECT_EQ(wire::read_strings(r), std::vector<std::string>{"/dir"});
  c.event(WatchType::kChildrenChanged, "/dir", -1);
  c.reply(rearm.xid);
  for (const char* expected : {"connected", "disconnected", "reconnected", "watch 4 /dir"})
    EXPECT_EQ(s.log.next(), expected);
  c.close();
  c = s.server.accept_session(7);
  EXPECT_TRUE(c.silent(50));  // fired: nothing to arm
}

TEST(Client, ABadServerCostsTheConnectionOnly) {
  const std::function<void(FakeConnection&)> tricks[] = {
      [](FakeConnection& c) { c.reply(12345); },                                  // a wrong xid
      [](FakeConnection& c) { c.raw("HTTP/1.1 400 Bad Request\r\n\r\n"); },       // a huge length
      [](FakeConnection& c) { c.raw(std::string_view("\xff\xff\xff\xff", 4)); },  // a negative one
      [](FakeConnection& c) { c.raw(std::string(4, '\0')); },                     // an empty frame
      [](FakeConnection& c) { c.send("short"); },
      [](FakeConnection& c) { c.reply(wire::xid::kNotification, Err::kOk, "xx"); },
      [](FakeConnection& c) {  // ends within a reply
        c.raw(std::string_view("\x00\x00\x00\x20zzzz", 8));
        c.close();
      },
  };
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_EQ(s.log.next(), "connected");
  for (const auto& trick : tricks) {
    auto future = ask(client, "a");
    c.request();
    trick(c);
    EXPECT_EQ(wait(future).err, Err::kConnectionLoss);
    EXPECT_EQ(s.log.next(), "disconnected");
    c = s.server.accept_session(7);
    EXPECT_EQ(s.log.next(), "reconnected");
  }
  auto future = ask(client, "good");
  c.reply(c.request().xid, Err::kOk, "fine");
  EXPECT_EQ(wait(future).body, "fine");
}

TEST(Client, NonsenseInTheHandshakeIsTriedAgain) {
  Rig s;
  Client& client = s.start();
  for (const std::string_view bad : {std::string_view("HTTP/1.1 400\r\n"), std::string_view("\0\0\0\3abc", 7)}) {
    FakeConnection c = s.server.accept();
    c.raw(bad);
    EXPECT_TRUE(c.at_end());
  }
  FakeConnection c = s.server.accept_session(7);
  EXPECT_TRUE(client.wait_connected(5s));
}

TEST(Client, AServerThatNeverAnswersTheHandshakeIsLeft) {
  Rig s;
  s.options.connect_timeout = 50ms;
  Client& client = s.start();
  FakeConnection silent = s.server.accept();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_TRUE(client.wait_connected(5s));
}

TEST(Client, ASilentConnectionIsDeadAfterTwoThirds) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7, 300);
  EXPECT_EQ(s.log.next(), "connected");
  const std::string ping = c.frame();  // pings come, and are not answered
  EXPECT_EQ(wire::load_be<std::int32_t>(ping.data()), wire::xid::kPing);
  EXPECT_EQ(s.log.next(), "disconnected");
  FakeConnection again = s.server.accept_session(7, 4000);
  EXPECT_EQ(s.log.next(), "reconnected");
  EXPECT_TRUE(client.connected());
}

TEST(Client, GoesToTheNextServer) {
  Rig s;
  FakeServer other;
  FakeServer dead;
  dead.stop_listening();
  s.options.target.servers = {dead.target().servers[0], s.server.target().servers[0]};
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_TRUE(client.wait_connected(5s));
}

// The local replica's socket is preferred wherever it stands in the list; a host takes over when it is gone.
TEST(Client, GoesFromASocketToAHostWithTheSameSession) {
  Rig s;
  FakeServer local(FakeServer::Kind::kUnix);
  s.options.target.servers.push_back(local.target().servers[0]);
  Client& client = s.start();
  FakeConnection first = local.accept_session(7);
  ASSERT_TRUE(client.wait_connected(5s));
  local.stop_listening();
  first.close();
  FakeConnection second = s.server.accept();
  EXPECT_EQ(second.connect_request().session, 7);
  second.welcome(7);
  EXPECT_EQ(s.log.next(), "connected");
  EXPECT_EQ(s.log.next(), "disconnected");
  EXPECT_EQ(s.log.next(), "reconnected");
}

TEST(Client, FindsHostNames) {
  Rig s;
  s.options.target.servers[0].host = "localhost";
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_TRUE(client.wait_connected(5s));
}

TEST(Client, SaysWhichHostNameIsUnknown) {
  Rig s;
  s.options.target.servers[0].host = "no-such-host.invalid";
  Client& client = s.start();
  auto future = ask(client, "a", within(100ms));
  EXPECT_EQ(wait(future).err, Err::kOperationTimeout);
  EXPECT_NE(client.what_was_tried().find("no-such-host.invalid:"), std::string::npos);
}

TEST(Client, ReadsALargeReplyInPieces) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  std::string large(20 << 20, 'x');
  for (std::size_t i = 0; i < large.size(); i += 4096) large[i] = static_cast<char>(i >> 12);
  for (int i = 0; i < 2; ++i) {
    auto future = ask(client, "large", within(60s));
    auto small = ask(client, "small", within(60s));
    c.reply(c.request().xid, Err::kOk, large);
    c.reply(c.request().xid, Err::kOk, "small");
    EXPECT_TRUE(future.get().body == large);
    EXPECT_EQ(small.get().body, "small");
  }
}

TEST(Client, ChrootIsPutBeforeAndTakenOff) {
  Rig s;
  s.options.target.chroot = "/app/x";
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_EQ(s.log.next(), "connected");
  Blocking blocking(client);
  auto created =
      std::async(std::launch::async, [&] { return blocking.create("/a", "d", wire::CreateMode::kPersistent); });
  auto request = c.request();
  wire::Reader r(request.body);
  EXPECT_EQ(r.string(), "/app/x/a");
  std::string body;
  wire::Writer(body).buffer("/app/x/a0000000001");
  c.reply(request.xid, Err::kOk, body);
  EXPECT_EQ(created.get().value(), "/a0000000001");

  auto root = std::async(std::launch::async, [&] { return blocking.children("/", true); });
  request = c.request();
  wire::Reader path(request.body);
  EXPECT_EQ(path.string(), "/app/x");
  std::string names;
  wire::Writer w(names);
  wire::write_strings(w, {"a", "b"});
  c.reply(request.xid, Err::kOk, names);
  EXPECT_EQ(root.get().value(), (std::vector<std::string>{"a", "b"}));
  c.event(WatchType::kChildrenChanged, "/app/x");
  EXPECT_EQ(s.log.next(), "watch 4 /");
  c.event(WatchType::kDeleted, "/app/x/a");
  EXPECT_EQ(s.log.next(), "watch 2 /a");
}

TEST(Client, BlockingCallsReportErrorsAndBadReplies) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  Blocking blocking(client);
  auto missing = std::async(std::launch::async, [&] { return blocking.get("/a"); });
  c.reply(c.request().xid, Err::kNoNode);
  EXPECT_EQ(missing.get().error(), Err::kNoNode);
  auto garbage = std::async(std::launch::async, [&] { return blocking.get("/a"); });
  c.reply(c.request().xid, Err::kOk, "zz");
  EXPECT_EQ(garbage.get().error(), Err::kMarshallingError);
  auto null_data = std::async(std::launch::async, [&] { return blocking.get("/a"); });
  c.reply(c.request().xid, Err::kOk, "\xff\xff\xff\xff" + std::string(68, '\0'));
  const auto data = null_data.get();
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->is_null);
}

TEST(Client, CloseEndsTheSessionBehindWhatWasAsked) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_EQ(s.log.next(), "connected");
  auto before = ask(client, "before");
  auto closed = std::async(std::launch::async, [&] { client.close(5s); });
  const auto first = c.request();
  EXPECT_EQ(first.body, "before");
  const auto last = c.request();
  EXPECT_EQ(last.op, Op::kCloseSession);
  c.reply(first.xid);
  c.reply(last.xid);
  closed.get();
  EXPECT_EQ(wait(before).err, Err::kOk);
  EXPECT_FALSE(client.connected());
  auto after = ask(client, "after");
  EXPECT_EQ(wait(after).err, Err::kSessionExpired);
}

TEST(Client, CloseReturnsInTimeFromAServerThatDoesNotAnswer) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  EXPECT_EQ(s.log.next(), "connected");
  const auto begin = std::chrono::steady_clock::now();
  client.close(50ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 3s);
}

TEST(Client, CloseWithoutASessionReturnsAtOnce) {
  Rig s;
  s.server.stop_listening();
  const auto begin = std::chrono::steady_clock::now();
  s.start().close(5s);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 3s);
}

TEST(Client, DestructionEndsEveryRequestOnce) {
  std::atomic<int> lost{0};
  std::atomic<int> nested{0};
  constexpr int kRequests = 100;
  {
    Rig s;
    Client& client = s.start();
    FakeConnection c = s.server.accept_session(7);
    EXPECT_EQ(s.log.next(), "connected");
    for (int i = 0; i < kRequests; ++i) {
      client.submit(Op::kGetData, "x", i % 2 == 0 ? resend() : Submit{}, [&](const Reply& r) {
        EXPECT_EQ(r.err, Err::kConnectionLoss);
        ++lost;
        client.submit(Op::kGetData, "again", {}, [&](const Reply& second) {
          EXPECT_EQ(second.err, Err::kConnectionLoss);
          EXPECT_FALSE(second.sent);
          ++nested;
        });
      });
    }
    c.request();
    s.client.reset();
  }
  EXPECT_EQ(lost, kRequests);
  EXPECT_EQ(nested, kRequests);
}

TEST(Client, DestructionNeverHangs) {
  for (int i = 0; i < 3; ++i) {
    Rig s;
    if (i == 0) s.server.stop_listening();                                            // backing off
    if (i == 1) s.options.target.servers[0].host = "a.name.that.takes.long.invalid";  // looking up
    Client& client = s.start();
    auto future = ask(client, "a");
    if (i == 2) s.server.accept();  // between connect and handshake
    s.client.reset();
    EXPECT_EQ(wait(future).err, Err::kConnectionLoss);
  }
}

TEST(Client, DestructionEndsEvenACompletionThatAlwaysAsksAgain) {
  Rig s;
  s.server.stop_listening();
  Client& client = s.start();
  std::function<void(const Reply&)> again = [&](const Reply&) { client.submit(Op::kGetData, "x", {}, again); };
  client.submit(Op::kGetData, "x", {}, again);
  s.client.reset();
}

TEST(Client, SubmitsFromManyThreads) {
  Rig s;
  Client& client = s.start();
  FakeConnection c = s.server.accept_session(7);
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  std::atomic<int> answered{0};
  std::promise<void> all;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        client.submit(Op::kGetData, "x", within(60s), [&](const Reply& r) {
          EXPECT_EQ(r.err, Err::kOk);
          if (++answered == kThreads * kEach) all.set_value();
        });
        static_cast<void>(client.connected());
        static_cast<void>(client.last_zxid());
      }
    });
  }
  for (int i = 0; i < kThreads * kEach; ++i) c.reply(c.request().xid);
  EXPECT_EQ(all.get_future().wait_for(10s), std::future_status::ready);
  for (std::thread& t : threads) t.join();
}

}  // namespace
}  // namespace coord::client
