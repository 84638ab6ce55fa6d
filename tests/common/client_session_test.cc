// The rules of a client session, without a socket: time and bytes are given.
#include <gtest/gtest.h>

#include <numeric>

#include "common/client/session.h"
#include "tests/common/submit.h"

namespace coord::client {
namespace {

using namespace std::chrono_literals;
using wire::Op;

const Instant kStart{};

struct Frame {
  std::int32_t xid = 0;
  Op op = Op::kPing;
  std::string body;
};

std::vector<Frame> frames_of(const std::string& bytes) {
  std::vector<Frame> out;
  std::string_view rest = bytes;
  while (rest.size() >= 12) {
    const auto n = static_cast<std::size_t>(wire::load_be<std::int32_t>(rest.data()));
    out.push_back({wire::load_be<std::int32_t>(rest.data() + 4),
                   static_cast<Op>(wire::load_be<std::int32_t>(rest.data() + 8)), std::string(rest.substr(12, n - 8))});
    rest.remove_prefix(4 + n);
  }
  EXPECT_TRUE(rest.empty());
  return out;
}

std::string reply_to(std::int32_t xid, Err err = Err::kOk, std::int64_t zxid = 1, std::string_view body = {}) {
  std::string out;
  wire::Writer w(out);
  write(w, wire::ReplyHeader{xid, zxid, err});
  w.raw(body);
  return out;
}

std::string welcome(std::int64_t session = 77, std::int32_t timeout_ms = 3000) {
  std::string out;
  wire::Writer w(out);
  wire::ConnectResponse response;
  response.timeout_ms = timeout_ms;
  response.session = session;
  response.password = std::string(16, 'p');
  write(w, response);
  return out;
}

// A session with what its requests ended with, by name.
struct Bench {
  explicit Bench(Session::Settings settings = {}) : session(std::move(settings)) {}

  void submit(const std::string& name, Submit how = {}, Op op = Op::kGetData) {
    std::vector<Finished> finished;
    Request request{op, name, std::move(how), [this, name](const Reply& r) { ended.push_back({name, r.err, r.sent}); }};
    session.submit(std::move(request), now, finished);
    call(finished);
  }
  void call(std::vector<Finished>& finished) {
    for (Finished& f : finished) {
      Reply reply;
      reply.err = f.err;
      reply.sent = f.sent;
      f.done(reply);
    }
  }
  Session::Handshake connect(const std::string& answer = welcome()) {
    std::string out;
    session.begin_connection(out);
    stream = out.size();
    std::vector<Finished> finished;
    const auto result = session.handshake(answer, now, finished);
    call(finished);
    return result;
  }
  std::vector<Frame> output() {
    std::string out;
    session.take_output(out, now);
    stream += out.size();
    return frames_of(out);
  }
  std::vector<std::string> bodies() {
    std::vector<std::string> out;
    for (const Frame& f : output()) out.push_back(f.body);
    return out;
  }
  void disconnect() { disconnect(stream); }
  void disconnect(std::uint64_t written) {
    std::vector<Finished> finished;
    session.disconnected(written, finished);
    call(finished);
  }
  void expire() {
    std::vector<Finished> finished;
    session.expire_deadlines(now, finished);
    call(finished);
  }
  Incoming::Kind answer(std::int32_t xid, Err err = Err::kOk, std::string_view body = {}) {
    const std::string frame = reply_to(xid, err, 1, body);
    Incoming in = session.receive(frame, now);
    if (in.kind == Incoming::Kind::kReply) in.done(in.reply);
    return in.kind;
  }

  struct Ended {
    std::string name;
    Err err;
    bool sent;
    friend bool operator==(const Ended&, const Ended&) = default;
  };
  Session session;
  Instant now = kStart + 1h;
  std::uint64_t stream = 0;
  std::vector<Ended> ended;
};

using Names = std::vector<std::string>;

TEST(SessionXid, CountsFromOneAndWrapsFromTheLargestToOne) {
  Bench b;
  b.connect();
  b.submit("a");
  b.submit("b");
  const auto frames = b.output();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].xid, 1);
  EXPECT_EQ(frames[1].xid, 2);

  Session::Settings settings;
  settings.last_xid = 0x7ffffffe;
  Bench w(settings);
  w.connect();
  w.submit("a");
  w.submit("b");
  const auto wrapped = w.output();
  EXPECT_EQ(wrapped[0].xid, 0x7fffffff);
  EXPECT_EQ(wrapped[1].xid, 1);
  EXPECT_EQ(w.answer(0x7fffffff), Incoming::Kind::kReply);
  EXPECT_EQ(w.answer(1), Incoming::Kind::kReply);
}

TEST(SessionReceive, AnythingUnexpectedBreaksTheConnection) {
  Bench b;
  b.connect();
  EXPECT_EQ(b.answer(1), Incoming::Kind::kBroken);  // nobody asked
  b.submit("a");
  b.submit("b");
  b.output();
  EXPECT_EQ(b.answer(2), Incoming::Kind::kBroken);  // out of order
  EXPECT_EQ(b.answer(-4), Incoming::Kind::kBroken);
  EXPECT_EQ(b.answer(-9), Incoming::Kind::kBroken);
  EXPECT_EQ(b.session.receive("short", b.now).kind, Incoming::Kind::kBroken);
  EXPECT_EQ(b.answer(-1), Incoming::Kind::kBroken);     // an event without a body
  EXPECT_EQ(b.answer(-1000), Incoming::Kind::kBroken);  // likewise
  EXPECT_EQ(b.answer(-2), Incoming::Kind::kNothing);
  EXPECT_TRUE(b.ended.empty());
  EXPECT_EQ(b.answer(1), Incoming::Kind::kReply);
  EXPECT_EQ(b.answer(2, Err::kNoNode), Incoming::Kind::kReply);
  EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"a", Err::kOk, true}, {"b", Err::kNoNode, true}}));
}

TEST(SessionSent, IsExactByBytes) {
  Bench b;
  b.connect();
  b.submit("a");
  b.submit("b");
  b.submit("c");
  const auto before = b.stream;
  b.output();
  const std::uint64_t frame = (b.stream - before) / 3;
  b.submit("late");                      // never encoded
  b.disconnect(before + 2 * frame - 1);  // all of a, all but one byte of b
  EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"a", Err::kConnectionLoss, true},
                                                {"b", Err::kConnectionLoss, false},
                                                {"c", Err::kConnectionLoss, false},
                                                {"late", Err::kConnectionLoss, false}}));
}

TEST(SessionSent, TheLastByteCounts) {
  Bench b;
  b.connect();
  b.submit("a");
  b.output();
  b.disconnect(b.stream);
  EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"a", Err::kConnectionLoss, true}}));
}

TEST(SessionResend, KeepsItsOrderBeforeNewerRequests) {
  Bench b;
  b.connect();
  for (const char* name : {"r1", "r2", "r3"}) b.submit(name, resend());
  EXPECT_EQ(b.bodies(), (Names{"r1", "r2", "r3"}));
  b.submit("r4", resend());  // not yet sent when the connection breaks
  EXPECT_EQ(b.answer(1), Incoming::Kind::kReply);
  b.disconnect();
  EXPECT_EQ(b.ended.size(), 1u);
  b.submit("new");
  b.submit("r5", resend());
  EXPECT_EQ(b.connect(), Session::Handshake::kSameSession);
  EXPECT_EQ(b.bodies(), (Names{"r2", "r3", "r4", "new", "r5"}));
  b.disconnect();
  b.connect();
  EXPECT_EQ(b.bodies(), (Names{"r2", "r3", "r4", "r5"}));
}

TEST(SessionResend, RemembersThatItWasSentEarlier) {
  Bench b;
  b.connect();
  b.submit("sent", resend());
  const auto before = b.stream;
  b.output();
  b.submit("cut", resend());
  const auto whole = b.stream;
  b.output();
  b.disconnect(whole);  // nothing of "cut"
  EXPECT_GT(whole, before);
  b.now += 6s;
  b.expire();
  EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"sent", Err::kOperationTimeout, true},
                                                {"cut", Err::kOperationTimeout, false}}));
  b.connect();
  EXPECT_TRUE(b.bodies().empty());
}

TEST(SessionDeadline, IsKeptInEachState) {
  Bench b;
  b.submit("waiting", within(100ms));
  EXPECT_EQ(b.session.next_wakeup(), b.now + 100ms);
  b.now += 99ms;
  b.expire();
  EXPECT_TRUE(b.ended.empty());
  b.now += 1ms;
  b.expire();
  EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"waiting", Err::kOperationTimeout, false}}));
  EXPECT_EQ(b.session.next_wakeup(), Instant::max());

  b.connect();
  b.submit("flying", within(100ms));
  b.submit("longer", within(300ms));
  b.output();
  b.now += 100ms;
  b.expire();
  ASSERT_EQ(b.ended.size(), 2u);
  EXPECT_EQ(b.ended[1], (Bench::Ended{"flying", Err::kOperationTimeout, true}));
  EXPECT_EQ(b.answer(1), Incoming::Kind::kNothing);  // its reply still comes, and is matched
  EXPECT_EQ(b.answer(2), Incoming::Kind::kReply);
  EXPECT_EQ(b.ended.size(), 3u);
  EXPECT_EQ(b.session.pending(), 0u);
}

TEST(SessionDeadline, ALateRequestEndsOnceOnly) {
  Bench b;
  b.connect();
  b.submit("a", within(10ms));
  b.output();
  b.now += 10ms;
  b.expire();
  b.disconnect();
  EXPECT_EQ(b.ended.size(), 1u);
}

TEST(SessionDeadline, HugeAndNegativeOnesDoNotOverflow) {
  Bench b;
  b.submit("for ever", within(Millis::max()));
  b.submit("before", within(Millis(-5)));
  b.expire();
  EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"before", Err::kOperationTimeout, false}}));
}

TEST(SessionKeepAlive, PingsAfterAThirdAndDiesAfterTwo) {
  Bench b;
  b.connect(welcome(77, 3000));
  EXPECT_EQ(b.session.next_wakeup(), b.now + 1000ms);
  b.now += 999ms;
  EXPECT_TRUE(b.output().empty());
  b.now += 1ms;
  const auto ping = b.output();
  ASSERT_EQ(ping.size(), 1u);
  EXPECT_EQ(ping[0].xid, -2);
  EXPECT_EQ(ping[0].op, Op::kPing);
  EXPECT_TRUE(b.output().empty());  // one is enough
  b.now += 999ms;
  EXPECT_FALSE(b.session.dead(b.now));
  b.now += 1ms;
  EXPECT_TRUE(b.session.dead(b.now));
  b.session.received_bytes(b.now);  // any byte counts
  EXPECT_FALSE(b.session.dead(b.now + 1999ms));
  EXPECT_TRUE(b.session.dead(b.now + 2000ms));
  b.disconnect();
  EXPECT_FALSE(b.session.dead(b.now + 1h));
}

TEST(SessionKeepAlive, RequestsTakeThePlaceOfPings) {
  Bench b;
  b.connect(welcome(77, 3000));
  b.now += 900ms;
  b.submit("a");
  EXPECT_EQ(b.output().size(), 1u);
  b.now += 900ms;
  EXPECT_TRUE(b.output().empty());
}

TEST(SessionHandshake, PresentsWhatItKnows) {
  Session::Settings settings;
  settings.timeout_ms = 1234;
  settings.session = 55;
  settings.password = std::string(16, 'q');
  Session session(settings);
  std::string out;
  session.begin_connection(out);
  EXPECT_EQ(out.size(), 4u + 45u);
  wire::Reader r(std::string_view(out).substr(4));
  const wire::ConnectRequest request = wire::read_connect_request(r);
  EXPECT_EQ(request.session, 55);
  EXPECT_EQ(request.password, std::string(16, 'q'));
  EXPECT_EQ(request.timeout_ms, 1234);
  EXPECT_FALSE(request.read_only);
}

TEST(SessionHandshake, NonsenseIsRefused) {
  Bench b;
  EXPECT_EQ(b.connect("garbage"), Session::Handshake::kRefused);
  EXPECT_EQ(b.connect(welcome(0, 3000)), Session::Handshake::kRefused);
  EXPECT_EQ(b.connect(welcome(0, 0)), Session::Handshake::kRefused);  // no session of ours can have expired
  EXPECT_EQ(b.connect(welcome(77)), Session::Handshake::kNewSession);
  b.disconnect();
  EXPECT_EQ(b.connect(welcome(78)), Session::Handshake::kRefused);  // somebody else's
  EXPECT_EQ(b.session.id(), 77);
}

TEST(SessionExpiry, FailsEverythingAndStartsAnewIfAsked) {
  for (const bool renew : {true, false}) {
    Session::Settings settings;
    settings.renew = renew;
    Bench b(settings);
    b.connect();
    b.submit("sent", resend());
    b.output();
    b.disconnect();
    b.submit("queued");
    EXPECT_EQ(b.connect(welcome(0, 0)), Session::Handshake::kExpired);
    EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"sent", Err::kSessionExpired, true},
                                                  {"queued", Err::kSessionExpired, false}}));
    EXPECT_EQ(b.session.id(), 0);
    EXPECT_EQ(b.session.ended(), !renew);
    b.submit("after");
    if (renew) {
      EXPECT_EQ(b.connect(welcome(99)), Session::Handshake::kNewSession);
      EXPECT_EQ(b.bodies(), (Names{"after"}));
    } else {
      EXPECT_EQ(b.ended.back(), (Bench::Ended{"after", Err::kSessionExpired, false}));
    }
  }
}

TEST(SessionHold, OnlyFirstRequestsPassUntilReleased) {
  Session::Settings settings;
  settings.hold_after_connect = true;
  Bench b(settings);
  b.submit("old");
  b.connect();
  b.submit("f1", first());
  b.submit("new");
  b.submit("f2", first());
  EXPECT_EQ(b.bodies(), (Names{"f1", "f2"}));
  EXPECT_TRUE(b.bodies().empty());
  b.session.release();
  EXPECT_EQ(b.bodies(), (Names{"old", "new"}));
  b.disconnect();
  b.connect();
  b.submit("again");
  EXPECT_TRUE(b.bodies().empty());  // held anew on each connection
}

TEST(SessionHold, ResendRequestsWaitToo) {
  Session::Settings settings;
  settings.hold_after_connect = true;
  Bench b(settings);
  b.connect();
  b.session.release();
  b.submit("r", resend());
  b.output();
  b.disconnect();
  b.connect();
  b.submit("resume", first());
  EXPECT_EQ(b.bodies(), (Names{"resume"}));
  b.session.release();
  EXPECT_EQ(b.bodies(), (Names{"r"}));
}

TEST(SessionBatch, EndsNearItsMaximum) {
  Bench b;
  b.connect();
  for (int i = 0; i < 6; ++i) b.submit(std::string(1 << 20, 'x'));
  EXPECT_EQ(b.output().size(), 4u);
  EXPECT_EQ(b.output().size(), 2u);
}

TEST(SessionLimit, TooManyRequestsAreRefusedNotKept) {
  Bench b;
  int refused = 0;
  std::vector<Finished> finished;
  for (std::size_t i = 0; i <= kRequestsMax; ++i) {
    b.session.submit({Op::kGetData, {}, {}, [&](const Reply&) { ++refused; }}, b.now, finished);
  }
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_EQ(finished[0].err, Err::kConnectionLoss);
  EXPECT_FALSE(finished[0].sent);
}

Submit watching(Submit::Watch kind, const std::string& path) {
  Submit how;
  how.watch = kind;
  how.watch_path = path;
  return how;
}

std::string event(WatchType type, const std::string& path) {
  std::string out;
  wire::Writer w(out);
  write(w, wire::ReplyHeader{-1, 5, Err::kOk});
  write(w, wire::WatcherEvent{type, 3, path});
  return out;
}

std::string path_and_number(const std::string& path, std::int32_t number) {
  std::string out;
  wire::Writer w(out);
  w.buffer(path);
  w.i32(number);
  return out;
}

struct Lists {
  std::int64_t zxid = 0;
  std::vector<Names> lists;
};
Lists lists_of(const Frame& frame) {
  wire::Reader r(frame.body);
  Lists out{r.i64(), {}};
  while (r.remaining() > 0) out.lists.push_back(wire::read_strings(r));
  EXPECT_FALSE(r.failed());
  return out;
}

TEST(SessionWatches, AreRegisteredAgainOnlyWhileArmed) {
  Bench b;
  b.connect();
  b.submit("d", watching(Submit::Watch::kData, "/d"));
  b.submit("e", watching(Submit::Watch::kExist, "/e"));
  b.submit("e2", watching(Submit::Watch::kExist, "/e2"));
  b.submit("c", watching(Submit::Watch::kChild, "/c"));
  b.submit("gone", watching(Submit::Watch::kData, "/gone"));
  b.submit("fired", watching(Submit::Watch::kData, "/fired"));
  b.output();
  b.answer(1);
  b.answer(2, Err::kNoNode);  // exists on a missing node arms too
  b.answer(3);                // on a node that is there it is a data watch
  b.answer(4);
  b.answer(5, Err::kNoNode);  // getData on a missing node does not
  b.answer(6);
  EXPECT_EQ(b.session.receive(event(WatchType::kDataChanged, "/fired"), b.now).kind, Incoming::Kind::kWatch);
  b.disconnect();
  b.connect();
  const auto frames = b.output();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].op, Op::kSetWatches);
  const Lists lists = lists_of(frames[0]);
  EXPECT_EQ(lists.zxid, 5);
  EXPECT_EQ(lists.lists, (std::vector<Names>{{"/d", "/e2"}, {"/e"}, {"/c"}}));
  EXPECT_EQ(b.answer(frames[0].xid), Incoming::Kind::kNothing);
  b.disconnect();
  b.connect(welcome(0, 0));  // with the session they are gone for good
  b.connect(welcome(5));
  EXPECT_TRUE(b.output().empty());
}

TEST(SessionWatches, PersistentOnesStayUntilRemoved) {
  Bench b;
  b.connect();
  b.submit(path_and_number("/p", 0), {}, Op::kAddWatch);
  b.submit(path_and_number("/r", 1), {}, Op::kAddWatch);
  b.submit(path_and_number("/x", 1), {}, Op::kAddWatch);
  b.output();
  for (const int xid : {1, 2, 3}) b.answer(xid);
  b.session.receive(event(WatchType::kDeleted, "/p"), b.now);
  b.submit(path_and_number("/x", 3), {}, Op::kRemoveWatches);
  b.output();
  b.answer(4);
  b.disconnect();
  b.connect();
  const auto frames = b.output();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].op, Op::kSetWatches2);
  EXPECT_EQ(lists_of(frames[0]).lists, (std::vector<Names>{{}, {}, {}, {"/p"}, {"/r"}}));
}

TEST(SessionWatches, CanBeLeftAlone) {
  Session::Settings settings;
  settings.rearm_watches = false;
  Bench b(settings);
  b.connect();
  b.submit("d", watching(Submit::Watch::kData, "/d"));
  b.output();
  b.answer(1);
  b.disconnect();
  b.connect();
  EXPECT_TRUE(b.output().empty());
}

TEST(WatchRegistry, FramesOfAtMost128KiBHoldEverythingOnce) {
  WatchRegistry watches;
  std::set<std::string> expected;
  for (int i = 0; i < 1000; ++i) {
    const std::string path = "/" + std::string(1000, 'a') + std::to_string(i);
    watches.add(static_cast<WatchRegistry::Kind>(i % 5), path);
    expected.insert(path);
  }
  std::set<std::string> seen;
  std::size_t frames = 0;
  for (const auto& rearm : watches.rearm(9)) {
    EXPECT_LE(rearm.body.size(), kRearmBytesMax);
    for (const Names& list : lists_of({0, rearm.op, rearm.body}).lists) {
      for (const std::string& path : list) EXPECT_TRUE(seen.insert(path).second);
    }
    ++frames;
  }
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(frames, 8u);
  EXPECT_TRUE(WatchRegistry().rearm(9).empty());
}

TEST(WatchRegistry, DeletionUsesUpAllOneShotWatches) {
  WatchRegistry watches;
  for (int kind = 0; kind < WatchRegistry::kKinds; ++kind) watches.add(static_cast<WatchRegistry::Kind>(kind), "/a");
  watches.fired({WatchType::kChildrenChanged, 3, "/a"});
  EXPECT_EQ(watches.size(), 4u);
  watches.fired({WatchType::kDeleted, 3, "/a"});
  EXPECT_EQ(watches.size(), 2u);
  watches.removed(4, "/a");
  watches.removed(5, "/a");
  EXPECT_TRUE(watches.empty());
}

TEST(SessionAuth, IsRepeatedOnEachConnectionBeforeAnythingElse) {
  Bench b;
  b.connect();
  b.submit("bad", {}, Op::kAuth);
  b.submit("good", {}, Op::kAuth);
  const auto frames = b.output();
  EXPECT_EQ(frames[0].xid, -4);
  b.answer(-4, Err::kAuthFailed);
  b.answer(-4);
  EXPECT_EQ(b.ended, (std::vector<Bench::Ended>{{"bad", Err::kAuthFailed, true}, {"good", Err::kOk, true}}));
  b.disconnect();
  b.submit("read");
  b.connect();
  EXPECT_EQ(b.bodies(), (Names{"good", "read"}));
  b.answer(-4, Err::kAuthFailed);  // refused now: not tried for ever
  b.disconnect();
  b.connect();
  EXPECT_TRUE(b.bodies().empty());
}

TEST(Backoff, DoublesToItsMaximumWithJitter) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Backoff backoff(1000ms, seed);
    for (const int full : {20, 40, 80, 160, 320, 640, 1000, 1000, 1000}) {
      const auto delay = backoff.next().count();
      EXPECT_GE(delay, full - full / 2);
      EXPECT_LE(delay, full);
    }
    backoff.reset();
    EXPECT_LE(backoff.next(), 20ms);
  }
  Backoff a(1000ms, 1);
  Backoff same(1000ms, 1);
  Backoff other(1000ms, 2);
  bool differs = false;
  for (int i = 0; i < 10; ++i) {
    const auto delay = a.next();
    EXPECT_EQ(delay, same.next());
    differs = differs || delay != other.next();
  }
  EXPECT_TRUE(differs);
}

TEST(ParseTarget, Understands) {
  const auto local = parse_target("unix:/run/a.sock,unix:/run/b.sock");
  ASSERT_TRUE(local);
  ASSERT_EQ(local->servers.size(), 2u);
  EXPECT_EQ(local->servers[1].unix_path, "/run/b.sock");
  const auto tcp = parse_target("a.example:2181,[::1]:99,localhost/app/x");
  ASSERT_TRUE(tcp);
  ASSERT_EQ(tcp->servers.size(), 3u);
  EXPECT_EQ(tcp->servers[0].host, "a.example");
  EXPECT_EQ(tcp->servers[1].host, "::1");
  EXPECT_EQ(tcp->servers[1].port, 99);
  EXPECT_EQ(tcp->servers[2].port, 2181);
  EXPECT_EQ(tcp->chroot, "/app/x");
  EXPECT_EQ(parse_target("h:1/")->chroot, "");
  EXPECT_EQ(parse_target("h:1/a,b")->chroot, "/a,b");
}

TEST(ParseTarget, SocketsAndHostsMayBeMixed) {
  const auto target = parse_target("a:1,unix:/run/a.sock,unix:/run/b.sock,[::1]:2/app");
  ASSERT_TRUE(target) << target.error().message;
  ASSERT_EQ(target->servers.size(), 4u);
  EXPECT_EQ(target->servers[0].host, "a");
  EXPECT_EQ(target->servers[0].unix_path, "");
  EXPECT_EQ(target->servers[1].unix_path, "/run/a.sock");
  EXPECT_EQ(target->servers[2].unix_path, "/run/b.sock");
  EXPECT_EQ(target->servers[3].host, "::1");
  EXPECT_EQ(target->chroot, "/app");
}

TEST(ParseTarget, NamesThePieceItCannotUnderstand) {
  const std::pair<const char*, const char*> cases[] = {
      {"h:0", "\"h:0\""},
      {"h:65536", "\"h:65536\""},
      {"h:1,h:x", "\"h:x\""},
      {"h:", "\"h:\""},
      {":2181", "\":2181\""},
      {"h:1,,h:2", "empty piece"},
      {"h:1,", "empty"},
      {"::1", "\"::1\""},
      {"[::1", "\"[::1\""},
      {"[::1]x", "\"[::1]x\""},
      {"unix:", "\"unix:\""},
      {"unix:/a,,h:1", "empty piece"},
      {"h:1/a,unix:/x", "behind the last"},
      {"unix:/a,h:x", "\"h:x\""},
      {"h:1/a//b", "\"/a//b\""},
      {"h:1/a/", "\"/a/\""},
      {"a b:1", "\"a b:1\""},
      {"", "no server"},
      {"h:1 ", "\"h:1 \""},
  };
  for (const auto& [text, piece] : cases) {
    const auto target = parse_target(text);
    ASSERT_FALSE(target) << text;
    EXPECT_NE(target.error().message.find(piece), std::string::npos) << text << " -> " << target.error().message;
  }
  EXPECT_FALSE(parse_target("unix:/" + std::string(107, 'x')));
}

}  // namespace
}  // namespace coord::client
