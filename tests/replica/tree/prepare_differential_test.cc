// The same requests, prepared and applied one by one, and prepared in batches before anything is applied: every reply
// must be the same to the byte, and so must the state at the end. This is what an overlay that says something else
// than the tree does would break.
#include <map>
#include <random>

#include "replica/tree/prepare.h"
#include "tests/replica/tree/harness.h"

namespace coord::tree::test {
namespace {

using Random = std::mt19937_64;

// A stream of requests that meet each other often: few names, few sessions, node ids that mostly exist.
class Stream {
 public:
  // `world` is where the requests are answered one by one: most node ids are of nodes that exist there.
  Stream(std::uint64_t seed, World& world) : random_(seed), world_(world) {}

  Request next() {
    Request r;
    r.session = pick_session();
    r.xid = ++xid_;
    if (xid_ <= 5) slot_ = static_cast<std::size_t>(xid_);  // sessions to begin with
    if (xid_ <= 5 || (!open_[slot_] && below(3) == 0)) {
      open_session(r);
      return r;
    }
    r.ids = {{"ip", "10.0.0.1"}};
    if (below(4) == 0) r.ids.push_back({"digest", "u:h"});
    r.trusted = below(8) != 0;
    r.credentials = who();
    fill(r);
    return r;
  }

 private:
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return *(list.begin() + static_cast<std::ptrdiff_t>(below(list.size())));
  }
  SessionId current() const { return SessionId{static_cast<std::int64_t>(slot_) + 8 * generation_[slot_]}; }
  void open_session(Request& r) {
    r.session = current();
    r.op = Op::kCreateSession;
    r.body = session_body(1000, r.session);
    open_[slot_] = true;
  }
  // Ids are never used again after a close, but requests of a closed session still come.
  SessionId pick_session() {
    slot_ = 1 + below(5);
    const bool late = generation_[slot_] > 0 && below(8) == 0;
    return SessionId{current().value - (late ? 8 : 0)};
  }
  std::string name() { return std::string(1, static_cast<char>('a' + below(3))); }
  std::string path() {
    if (below(40) == 0)
      return one_of<std::string>({"/", "", "a/b", "/a/", "//a", "noslash", "/zookeeper", "/zookeeper/config"});
    std::string out;
    for (std::size_t depth = 1 + below(4) / 2 + below(2) * below(2); depth > 0; --depth) out += "/" + name();
    if (below(12) == 0) out += "0000000000";
    return out;
  }
  Data data() { return one_of<Data>({Data(), Data(""), Data("x"), Data("some more data")}); }
  std::int32_t version() { return below(3) == 0 ? static_cast<std::int32_t>(below(4)) : -1; }
  Credentials who() { return one_of<Credentials>({{}, {}, {}, {}, {1000, 1000, {50}}, {2000, 2000, {}}}); }
  Acl acl() {
    return one_of<Acl>({open_acl(), open_acl(), open_acl(), open_acl(), open_acl(), open_acl(), open_acl(),
                        acl_of("digest", "u:h"), acl_of("world", "anyone", 13), acl_of("unix", "u:1000"),
                        acl_of("auth", ""), Acl{}, acl_for_new(1000, 50, 0755)});
  }
  NodeId node() {
    if (below(30) == 0) return NodeId{below(16)};
    if (below(8) == 0) return NodeId{16 + below(40)};
    NodeId id = kRootNode;
    for (std::size_t depth = below(4); depth > 0; --depth) {
      if (const auto child = world_.lookup(id, name())) id = child->id;
    }
    return id;
  }
  wire::MutationHeader header(SessionId session) {
    std::int64_t& last = seq_[session.value];
    wire::MutationHeader h;
    h.seq = below(12) == 0 ? std::max<std::int64_t>(0, last - static_cast<std::int64_t>(below(6))) : ++last;
    h.acked_below = below(10) == 0 ? last - 2 : 0;
    h.who = who();
    return h;
  }
  std::pair<Op, std::string> stock() {
    const Op op = one_of({Op::kCreate, Op::kCreate, Op::kCreate2, Op::kCreateContainer, Op::kCreateTtl, Op::kDelete,
                          Op::kDelete, Op::kSetData, Op::kSetData, Op::kCheck});
    if (op == Op::kDelete || op == Op::kCheck) return {op, path_version_body(path(), version())};
    if (op == Op::kSetData) return {op, set_data_body(path(), data(), version())};
    if (op == Op::kCreateTtl) return {op, create_ttl_body(path(), 1000, below(4) == 0 ? 6 : 5, data())};
    const std::int32_t flags = op == Op::kCreateContainer ? 4 : one_of({0, 0, 0, 1, 2, 3, 4});
    return {op, create_body(path(), data(), acl(), flags)};
  }
  void fill(Request& r) {
    const std::size_t kind = below(100);
    if (kind < 35) {
      do std::tie(r.op, r.body) = stock();
      while (r.op == Op::kCheck);
    } else if (kind < 45) {
      r.op = Op::kSetAcl;
      r.body = set_acl_body(path(), acl(), version());
    } else if (kind < 58) {
      std::vector<std::pair<Op, std::string>> ops;
      for (std::size_t n = below(5); n > 0; --n) ops.push_back(stock());
      r.op = Op::kMulti;
      r.body = multi_body(ops);
    } else if (kind < 59) {
      r.op = Op::kCloseSession;
      if (r.session != current()) return;
      ++generation_[slot_];
      open_[slot_] = false;
    } else if (kind < 60) {
      open_session(r);
    } else if (kind < 61) {
      r.op = Op::kDeleteContainer;
      r.session = SessionId{};
      r.body = path_body(path());
    } else {
      extension(r);
    }
  }
  wire::NodePlace place() { return below(3) == 0 ? wire::NodePlace{node(), name()} : wire::NodePlace{}; }
  void extension(Request& r) {
    switch (below(30) == 0 ? 0 : 1 + below(11)) {
      case 0:
        r.op = Op::kCapabilities;
        r.body = extension_body(wire::CapabilitiesRequest{3});
        return;
      case 1:
      case 2:
      case 3:
      case 4: {
        wire::CreateNodeRequest c;
        c.header = header(r.session);
        c.parent = node();
        c.name = below(4) == 0 ? "" : name();
        if (below(3) == 0) c.id = node();
        c.mode = one_of({wire::CreateMode::kPersistent, wire::CreateMode::kPersistent, wire::CreateMode::kPersistent,
                         wire::CreateMode::kEphemeral, wire::CreateMode::kPersistentSequential,
                         wire::CreateMode::kContainer});
        if (const Data d = data()) c.data = std::string(*d);
        c.attributes.shape = one_of({Shape::kFile, Shape::kFile, Shape::kDir, Shape::kDir, Shape::kSymlink});
        c.attributes.exec = c.attributes.shape == Shape::kDir ? one_of<std::uint16_t>({0111, 0111, 01111}) : 0;
        c.acl = below(4) == 0 ? acl() : acl_for_new(c.header.who.uid, c.header.who.gid, one_of({0777u, 0755u, 0700u}));
        c.fill_null = below(2) == 0;
        r.op = Op::kCreateNode;
        r.body = extension_body(c);
        return;
      }
      case 5: {
        wire::SetNodeDataRequest c{header(r.session), node(), std::nullopt, version()};
        if (const Data d = data()) c.data = std::string(*d);
        r.op = Op::kSetNodeData;
        r.body = extension_body(c);
        return;
      }
      case 6:
      case 7:
        r.op = Op::kDeleteNode;
        r.body = extension_body(wire::DeleteNodeRequest{
            header(r.session), node(),
            one_of({wire::DeleteHalf::kWhole, wire::DeleteHalf::kData, wire::DeleteHalf::kChildren}), place()});
        return;
      case 8: {
        wire::SetAttributesRequest c;
        c.header = header(r.session);
        c.node = node();
        if (below(2) == 0) c.mode = one_of({0777u, 0755u, 0700u, 01777u, 0644u});
        if (below(4) == 0) c.uid = one_of({0u, 1000u, 2000u});
        if (below(4) == 0) c.gid = one_of({0u, 50u, 2000u});
        if (below(3) == 0) c.mtime_ns = one_of<std::int64_t>({-1, 0, 5, 77});
        r.op = Op::kSetAttributes;
        r.body = extension_body(c);
        return;
      }
      default:
        r.op = Op::kRename;
        r.body = extension_body(
            wire::RenameRequest{header(r.session), node(), node(), name(), one_of({0u, 0u, 0u, 1u, 2u}), place()});
        return;
    }
  }

  Random random_;
  World& world_;
  std::int32_t xid_ = 0;
  std::size_t slot_ = 0;
  std::int64_t generation_[8] = {};
  bool open_[8] = {};
  std::map<std::int64_t, std::int64_t> seq_;
};

// -12 and -112 tell how far the close of a session has got, and nothing else may.
Err normal(Err err) { return err == Err::kUnknownSession ? Err::kSessionExpired : err; }
std::string normal(Op op, std::string body) {
  if (op != Op::kMulti) return body;
  const std::string unknown("\xff\xff\xff\xf4", 4);
  const std::string expired("\xff\xff\xff\x90", 4);
  for (std::size_t at = 0; (at = body.find(unknown, at)) != std::string::npos; at += 4) body.replace(at, 4, expired);
  return body;
}

struct Outcome {
  std::vector<Applied> replies;
  std::uint64_t digest = 0;
  std::vector<SessionId> closed;
};

// One by one, making the requests as it goes.
Outcome play_reference(std::uint64_t seed, std::size_t count, std::vector<Request>& requests) {
  World w;
  Stream stream(seed, w);
  Outcome out;
  for (std::size_t i = 0; i < count; ++i) {
    w.now += 3;
    requests.push_back(stream.next());
    out.replies.push_back(w.call(requests.back()));
  }
  out.digest = w.machine.digest();
  out.closed = w.sink.closed;
  return out;
}

Outcome play(const std::vector<Request>& requests, std::uint64_t seed, std::size_t largest_batch) {
  World w;
  Random random(seed ^ 0x5eed);
  Outcome out;
  std::size_t batch = 0;
  const auto settle = [&] {
    for (Applied& reply : w.settle()) out.replies.push_back(std::move(reply));
    batch = 1 + static_cast<std::size_t>(random() % largest_batch);
  };
  settle();
  for (const Request& r : requests) {
    w.now += 3;
    w.prepare(r);
    // Sometimes only a part of what is outstanding gets applied.
    if (w.outstanding.size() >= batch) {
      if (random() % 2 == 0) {
        settle();
      } else {
        auto half = w.outstanding.size() / 2;
        for (; half > 0; --half, w.outstanding.pop_front()) {
          out.replies.push_back(
              w.machine.apply(w.outstanding.front().first, w.outstanding.front().second, true, w.sink));
        }
        if (w.outstanding.size() > largest_batch) settle();
      }
    }
  }
  settle();
  out.digest = w.machine.digest();
  out.closed = w.sink.closed;
  return out;
}

TEST(PrepareDifferential, PipelinedAndOneByOneAreTheSame) {
  std::map<Op, std::pair<int, int>> seen;  // successes and refusals
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    std::vector<Request> requests;
    const Outcome reference = play_reference(seed, 400, requests);
    for (const std::size_t largest : {std::size_t{5}, std::size_t{50}, requests.size()}) {
      const Outcome outcome = play(requests, seed, largest);
      ASSERT_EQ(outcome.replies.size(), requests.size());
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const Applied& expected = reference.replies[i];
        const Applied& reply = outcome.replies[i];
        ASSERT_EQ(normal(reply.err), normal(expected.err))
            << error_name(reply.err) << " instead of " << error_name(expected.err) << ", seed " << seed << " request "
            << i << " op " << static_cast<int>(requests[i].op) << " batches up to " << largest;
        ASSERT_EQ(normal(reply.op, reply.body), normal(expected.op, expected.body))
            << "seed " << seed << " request " << i << " op " << static_cast<int>(requests[i].op);
      }
      ASSERT_EQ(outcome.digest, reference.digest) << "seed " << seed;
      ASSERT_EQ(outcome.closed, reference.closed) << "seed " << seed;
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      ++(reference.replies[i].err == Err::kOk ? seen[requests[i].op].first : seen[requests[i].op].second);
    }
  }
  // The stream must not be all refusals, or it would prove nothing.
  for (const auto& [op, counts] : seen) {
    EXPECT_GT(counts.first, op == Op::kDeleteContainer ? -1 : 50) << "op " << static_cast<int>(op);
    if (op != Op::kCloseSession && op != Op::kMulti) {
      EXPECT_GT(counts.second, 0) << "op " << static_cast<int>(op);
    }
  }
}

// What the log holds must give the same state as what the leader applied from memory.
TEST(PrepareDifferential, ReplayOfTheLogIsTheSame) {
  for (std::uint64_t seed = 1000; seed < 1020; ++seed) {
    World leader;
    Stream stream(seed, leader);
    StateMachine follower{Limits{}};
    EventLog sink;
    Zxid zxid = leader.zxid;
    Request open;
    open.session = leader.me;
    open.op = Op::kCreateSession;
    open.body = session_body(10000, leader.me);
    follower.apply(zxid, follower.prepare(open, zxid, leader.now), false, sink);
    for (int i = 0; i < 400; ++i) {
      leader.prepare(stream.next());
      const auto [z, payload] = leader.outstanding.back();
      if (i % 7 == 0) leader.settle();
      follower.apply(z, payload, false, sink);
    }
    leader.settle();
    ASSERT_EQ(leader.machine.digest(), follower.digest()) << "seed " << seed;
  }
}

// Any bytes as the body of any operation: a refusal at worst.
TEST(PrepareFuzz, RandomBodies) {
  Random random(4711);
  World w;
  ASSERT_EQ(w.create("/a", std::nullopt), Err::kOk);
  static constexpr Op kOps[] = {Op::kCreate,          Op::kDelete,      Op::kSetData,       Op::kSetAcl,
                                Op::kMulti,           Op::kCreate2,     Op::kReconfig,      Op::kCreateContainer,
                                Op::kDeleteContainer, Op::kCreateTtl,   Op::kCreateSession, Op::kCapabilities,
                                Op::kCreateNode,      Op::kSetNodeData, Op::kDeleteNode,    Op::kSetAttributes,
                                Op::kRename,          Op::kCheck,       Op::kError,         Op::kSync,
                                Op::kFeatureLevel};
  for (int i = 0; i < 60'000; ++i) {
    Request r = w.request(kOps[random() % std::size(kOps)], std::string(random() % 120, '\0'));
    // Mostly zeros, small numbers and -1, so that lengths and flags are often plausible.
    for (char& c : r.body) {
      const auto dice = random() % 8;
      c = static_cast<char>(dice < 4 ? 0 : dice < 6 ? random() % 8 : dice == 6 ? 0xff : random());
    }
    if (random() % 10 == 0) r.session = SessionId{};
    w.prepare(r);
    if (w.outstanding.size() > 20) w.settle();
  }
  w.settle();
}

// Valid requests with a few bytes changed get further than random ones.
TEST(PrepareFuzz, MutatedBodies) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    World w;
    Stream stream(seed, w);
    Random random(seed);
    for (int i = 0; i < 400; ++i) {
      Request r = stream.next();
      for (auto n = random() % 4; n > 0 && !r.body.empty(); --n) {
        r.body[random() % r.body.size()] = static_cast<char>(random() % 2 == 0 ? random() : random() % 3);
      }
      if (random() % 8 == 0) r.body.resize(random() % (r.body.size() + 1));
      w.prepare(r);
      if (w.outstanding.size() > random() % 30) w.settle();
    }
    w.settle();
  }
}

}  // namespace
}  // namespace coord::tree::test
