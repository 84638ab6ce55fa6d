// Random kills, cuts and moves under load, from one seed: what a client was told stays true, whatever replica it asks.
// The simulator goes much further; this is the small one that is at hand with the code.
#include <gtest/gtest.h>

#include <random>

#include "tests/replica/runtime/cluster.h"

namespace coord::runtime::testing {
namespace {

constexpr std::int32_t kTimeout = 6'000;

// One client with a key of its own, which only ever counts up, and pipelined requests.
class Actor {
 public:
  Actor(Cluster& cluster, int number, std::uint64_t seed)
      : cluster_(cluster), key_("/k" + std::to_string(number)), random_(seed) {}

  // What was acknowledged, for the others.
  const std::string& key() const { return key_; }
  std::int64_t acked() const { return acked_; }

  void poll(const std::vector<std::unique_ptr<Actor>>& all) {
    if (stream_ && stream_->ended()) take_replies();
    if (!stream_ || stream_->ended()) {
      connect();
      return;
    }
    take_replies();
    if (!stream_ || !open_ || stream_->ended()) return;
    while (waiting_.size() < 4) ask(all);
    if (random_() % 200 == 0) stream_ = nullptr;  // leaves without a word; the old connection is still there
  }
  // Only what is wrong with what it was told.
  int wrong = 0, writes = 0, reads = 0, syncs = 0, expired = 0, connections = 0;

 private:
  struct Asked {
    std::int32_t xid;
    enum { kCreate, kSet, kRead, kSync, kReadOther } what;
    std::int64_t value = 0;  // written; at least expected
    std::string other;
  };

  void fail(const std::string& what) {
    ++wrong;
    ADD_FAILURE() << key_ << " at " << cluster_.clock.now_ms() << ": " << what;
  }

  void connect() {
    waiting_.clear();
    open_ = false;
    std::vector<Sid> up;
    for (const Member& member : cluster_.config.members) {
      if (cluster_.runs(member.sid)) up.push_back(member.sid);
    }
    if (up.empty()) return;
    stream_ = cluster_.open(up[random_() % up.size()]);
    at_ = 0;
    wire::ConnectRequest request;
    request.session = session_;
    request.password = password_;
    request.timeout_ms = kTimeout;
    request.last_zxid_seen = seen_;
    std::string out;
    const std::size_t frame = wire::begin_frame(out);
    wire::Writer writer(out);
    write(writer, request);
    wire::end_frame(out, frame);
    stream_->write(std::move(out));
  }

  template <class Body>
  void send(Asked asked, wire::Op op, Body&& body) {
    asked.xid = ++xid_;
    std::string out;
    const std::size_t frame = wire::begin_frame(out);
    wire::Writer writer(out);
    writer.i32(asked.xid);
    writer.i32(static_cast<std::int32_t>(op));
    body(writer);
    wire::end_frame(out, frame);
    stream_->write(std::move(out));
    waiting_.push_back(std::move(asked));
  }

  void ask(const std::vector<std::unique_ptr<Actor>>& all) {
    const auto read = [](const std::string& path) {
      return [path](wire::Writer& w) { w.buffer(path), w.boolean(false); };
    };
    const auto what = random_() % 10;
    if (!created_) {
      send({0, Asked::kCreate, 0, {}}, wire::Op::kCreate, [&](wire::Writer& w) {
        w.buffer(key_), w.buffer(std::string("0")), write(w, open_acl()), w.i32(0);
      });
      created_ = true;
    } else if (what < 5) {
      const std::int64_t value = ++sent_;
      send({0, Asked::kSet, value, {}}, wire::Op::kSetData, [&](wire::Writer& w) {
        w.buffer(key_), w.buffer(std::to_string(value)), w.i32(-1);
      });
    } else if (what < 8) {
      send({0, Asked::kRead, acked_, {}}, wire::Op::kGetData, read(key_));
    } else {
      const Actor& other = *all[random_() % all.size()];
      send({0, Asked::kSync, 0, {}}, wire::Op::kSync, [](wire::Writer& w) { w.buffer(std::string("/")); });
      send({0, Asked::kReadOther, other.acked(), other.key()}, wire::Op::kGetData, read(other.key()));
    }
  }

  void take_replies() {
    for (;;) {
      const std::string& got = stream_->received;
      if (got.size() - at_ < 4) return;
      const auto length = static_cast<std::size_t>(wire::load_be<std::int32_t>(got.data() + at_));
      if (got.size() - at_ - 4 < length) return;
      const std::string payload = got.substr(at_ + 4, length);
      at_ += 4 + length;
      if (!open_) {
        connected(payload);
        if (!stream_) return;
      } else {
        replied(payload);
      }
    }
  }

  void connected(const std::string& payload) {
    wire::Reader reader(payload);
    const wire::ConnectResponse response = wire::read_connect_response(reader);
    if (response.timeout_ms == 0) {
      // Never before its time.
      if (session_ != 0 && cluster_.clock.now_ms() - heard_ < kTimeout) fail("expired too early");
      ++expired;
      session_ = 0;
      password_.assign(16, '\0');
      stream_ = nullptr;
      return;
    }
    session_ = response.session;
    password_ = response.password;
    heard_ = cluster_.clock.now_ms();
    open_ = true;
    ++connections;
  }

  void replied(const std::string& payload) {
    wire::Reader reader(payload);
    const wire::ReplyHeader header = wire::read_reply_header(reader);
    heard_ = cluster_.clock.now_ms();
    if (waiting_.empty() || waiting_.front().xid != header.xid) return fail("an answer out of order");
    const Asked asked = waiting_.front();
    waiting_.pop_front();
    if (header.zxid < seen_) fail("zxids go back");
    seen_ = std::max(seen_, header.zxid);
    switch (asked.what) {
      case Asked::kCreate:
        if (header.err != Err::kOk && header.err != Err::kNodeExists) created_ = false;
        break;
      case Asked::kSet:
        if (header.err == Err::kNoNode) created_ = false;
        if (header.err != Err::kOk) break;
        acked_ = asked.value;
        shown_ = std::max(shown_, asked.value);
        ++writes;
        break;
      case Asked::kSync:
        if (header.err != Err::kOk) fail("a sync failed");
        ++syncs;
        break;
      case Asked::kRead:
      case Asked::kReadOther:
        if (header.err != Err::kOk) {
          if (asked.value > 0) fail("a key has gone");
          break;
        }
        ++reads;
        const std::int64_t value = std::stoll(std::string(reader.string()));
        if (value < asked.value) fail("read " + std::to_string(value) + ", knew " + std::to_string(asked.value));
        if (asked.what == Asked::kRead) {
          if (value < shown_) fail("its own key goes back");
          shown_ = std::max(shown_, value);
        }
        break;
    }
  }

  Cluster& cluster_;
  const std::string key_;
  std::mt19937_64 random_;
  std::shared_ptr<MemoryStream> stream_;
  std::size_t at_ = 0;
  bool open_ = false, created_ = false;
  std::int64_t session_ = 0, seen_ = 0, heard_ = 0;
  std::string password_ = std::string(16, '\0');
  std::int32_t xid_ = 0;
  std::deque<Asked> waiting_;
  std::int64_t sent_ = 0, acked_ = 0, shown_ = 0;
};

void disturb(Cluster& cluster, std::mt19937_64& random) {
  const auto count = cluster.config.members.size();
  const Sid sid(static_cast<std::uint32_t>(random() % count + 1));
  const Sid other(static_cast<std::uint32_t>(random() % count + 1));
  switch (random() % 8) {
    case 0:
    case 1:
      if (cluster.runs(sid)) cluster.kill(sid);
      break;
    case 2:
    case 3:
      if (!cluster.runs(sid)) cluster.start(sid);
      break;
    case 4:
      if (sid != other) cluster.cut(sid, other);
      break;
    case 5:
      if (sid != other) cluster.cut(sid, other, false);
      break;
    case 6:
      cluster.isolate(sid);
      break;
    default:
      cluster.isolate(sid, false);
      break;
  }
}

void storm(std::uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  Cluster cluster(seed % 4 == 0 ? 5 : 3, seed % 3 == 0 ? 1 : 0);
  if (seed % 2 == 0) cluster.log_keep_entries = 30;
  if (seed % 5 == 0) cluster.config.counter_max = 300;
  cluster.start_all();
  std::vector<std::unique_ptr<Actor>> actors;
  for (int n = 0; n < 5; ++n) actors.push_back(std::make_unique<Actor>(cluster, n, random()));
  const auto run = [&](std::int64_t ms) {
    for (std::int64_t end = cluster.clock.now_ms() + ms; cluster.clock.now_ms() < end;) {
      for (const auto& actor : actors) actor->poll(actors);
      cluster.clock.run_for(20);
    }
  };
  for (int round = 0; round < 25; ++round) {
    run(static_cast<std::int64_t>(random() % 1500));
    disturb(cluster, random);
  }
  for (const Member& member : cluster.config.members) {
    cluster.isolate(member.sid, false);
    if (!cluster.runs(member.sid)) cluster.start(member.sid);
  }
  ASSERT_TRUE(cluster.settle(20'000)) << "no leader with everybody there";
  run(2'000);
  int writes = 0, syncs = 0;
  for (const auto& actor : actors) {
    writes += actor->writes;
    syncs += actor->syncs;
    EXPECT_EQ(actor->wrong, 0);
  }
  EXPECT_GT(writes, 100);
  EXPECT_GT(syncs, 10);
  actors.clear();
  cluster.clock.run_for(30'000);  // sessions go, and nothing more happens
  const Sid lead = cluster.leader();
  ASSERT_NE(lead, Sid());
  for (const Member& member : cluster.config.members) {
    Core& core = cluster.core(member.sid);
    EXPECT_TRUE(core.serving()) << member.sid.value;
    EXPECT_EQ(core.tree().digest(), cluster.core(lead).tree().digest()) << member.sid.value;
    EXPECT_EQ(core.tree().last_applied(), cluster.core(lead).tree().last_applied()) << member.sid.value;
    EXPECT_TRUE(core.tree().sessions().empty()) << member.sid.value;
    EXPECT_TRUE(core.ensemble_status().alarms.empty()) << core.ensemble_status().alarms.front();
  }
}

TEST(CoreStorm, WhatClientsWereToldStaysTrue) {
  const char* from = std::getenv("STORM_FROM");
  const char* to = std::getenv("STORM_TO");
  const std::uint64_t first = from == nullptr ? 1 : std::stoull(from);
  const std::uint64_t last = to == nullptr ? first + 11 : std::stoull(to);
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    storm(seed);
    if (::testing::Test::HasFailure()) break;
  }
}

}  // namespace
}  // namespace coord::runtime::testing
