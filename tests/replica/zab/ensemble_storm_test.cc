#include <cstdlib>
#include <iterator>
#include <random>

#include "tests/replica/zab/ensemble.h"

namespace coord::zab {
namespace {

using testing::Ensemble;
using testing::text;
using Values = std::vector<std::string>;

std::uint32_t number4(std::mt19937& random) { return static_cast<std::uint32_t>(random() % 4); }

// --- whatever a peer sends: the process lives, and what is committed stays

Message hostile(std::mt19937& random) {
  const auto number = [&]() -> std::uint32_t {
    constexpr std::uint32_t kOdd[] = {0, 1, 2, 3, 4, 9, 0x7fffffff, 0x80000000, 0xffffffff};
    return kOdd[random() % std::size(kOdd)];
  };
  const auto zxid = [&] { return Zxid{number() % 5, number()}; };
  const auto payload = [&] { return random() % 3 ? text("h") : text("members:1,2;o:3;join:2=d"); };
  const auto membership = [&] {
    Membership members;
    members.version = zxid();
    for (auto n = random() % 4; n > 0; --n) members.voters.insert(Sid{number()});
    if (random() % 2) members.joins[Sid{number()}] = "d";
    return members;
  };
  const auto entries = [&] {
    std::vector<LogEntry> result;
    for (auto n = random() % 3; n > 0; --n) {
      const Zxid previous = zxid();
      result.push_back(
          {random() % 2 ? Zxid{previous.value + 1} : zxid(), previous, random() % 4 ? payload() : nullptr, {}});
    }
    return result;
  };
  switch (random() % 18) {
    case 0:
      return Notification{
          static_cast<Role>(random() % 4), number(), {Sid{number()}, zxid(), number()}, number(), random() % 2 == 0,
          zxid()};
    case 1: return FollowerInfo{random() % 2 == 0, number(), Sid{number()}, "d", random() % 2 == 0, random() % 2 == 0};
    case 2: return AckEpoch{number(), random() % 2 == 0, number(), {zxid(), {zxid(), zxid()}}, zxid()};
    case 3: return AckNewLeader{number()};
    case 4: return Ack{zxid()};
    case 5: return Pong{number(), zxid()};
    case 6: return LeaderInfo{number()};
    case 7: return SyncFrom{zxid()};
    case 8: return SnapshotBegin{zxid(), 1, membership()};
    case 9: return SnapshotChunk{"0"};
    case 10: return SnapshotEnd{number()};
    case 11: return Proposal{entries(), zxid()};
    case 12: return NewLeader{number(), zxid(), "c", "s"};
    case 13: return UpToDate{zxid()};
    case 14: return Commit{zxid()};
    case 15: return Ping{number()};
    case 16: return Passed{"x"};
    default: return Bye{"x"};
  }
}

// Every peer is an impostor with a valid certificate: it says anything at any time, on links of every kind.
TEST(EnsembleStormTest, hostile_messages_close_links_and_abort_nobody) {
  for (std::uint32_t seed = 1; seed <= 300 && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    Config config;
    config.self = Sid{1};
    config.voters = Quorum{{Sid{1}, Sid{2}, Sid{3}}};
    config.seed = seed;
    config.membership_of = testing::members_of;
    DurableState durable;
    durable.accepted_epoch = durable.current_epoch = 2;
    durable.log.epoch_ends = {Zxid{1, 3}, Zxid{2, 3}};
    durable.commit_hint = Zxid{1, 3};
    durable.directory_id = "d";
    Peer peer(config, durable);
    std::vector<Event> events{Start{0}};
    std::uint64_t persisted = 0, link = 0;
    std::int64_t now = 0;
    std::vector<LinkId> open;
    for (int i = 0; i < 400; ++i) {
      if (events.empty()) {
        const auto dice = random() % 20;
        if (dice == 0) {
          events.push_back(Tick{now += 20 + random() % 200});
        } else if (dice <= 2) {
          const LinkId id{++link};
          open.push_back(id);
          events.push_back(LinkUp{id, dice == 1 ? Channel::kElection : Channel::kLearner, Sid{1 + number4(random)},
                                  random() % 2 == 0});
        } else if (dice == 3 && !open.empty()) {
          events.push_back(LinkDown{open[random() % open.size()]});
        } else if (dice == 4) {
          events.push_back(Persisted{persisted});
        } else if (dice == 5) {
          events.push_back(LogRead{random() % 9, {}});
        } else if (dice == 6 && !open.empty()) {
          events.push_back(SnapshotStaged{open[random() % open.size()], Zxid{2, 1 + number4(random)}});
        } else if (!open.empty()) {
          events.push_back(Received{open[random() % open.size()], hostile(random)});
        } else {
          continue;
        }
      }
      const Event event = events.front();
      events.erase(events.begin());
      const Observation before = observe(peer);
      Actions out;
      peer.step(event, out);
      ASSERT_EQ(broken_step(before, event, out, observe(peer)), std::nullopt);
      const Zxid committed{1, 3};
      ASSERT_TRUE(peer.log().has_point(committed) || peer.log().floor > committed);
      for (const Action& action : out) {
        if (const auto* persist = std::get_if<Persist>(&action)) persisted = persist->id;
        if (const auto* dial = std::get_if<DialLearner>(&action)) {
          const LinkId id{++link};
          open.push_back(id);
          events.push_back(LinkUp{id, Channel::kLearner, dial->leader, true});
        }
      }
    }
  }
}

// --- a small storm: crashes, partitions, slow disks; then calm, and everything must go on

void storm(std::uint32_t seed, std::uint32_t voters) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Ensemble e(voters, seed % 3 == 0 ? 1 : 0, [&](Config& c) {
    c.seed = seed;
    c.counter_max = 20;
    c.limits.tail_bytes = 200;
    c.limits.read_chunk_bytes = 200;
    c.limits.diff_bytes = seed % 2 ? 1500 : 100'000;
    c.limits.learner_window_bytes = 600;
  });
  const std::uint32_t servers = voters + (seed % 3 == 0 ? 1 : 0);
  e.enrols = seed % 5 == 0;
  e.boot_all();
  // Who is missing while the first list is made does not count until it has been there.
  if (e.enrols) e.pass(3000);
  int value = 0;
  std::set<std::string> acknowledged;
  const auto any = [&] { return 1 + static_cast<std::uint32_t>(random() % servers); };
  for (int i = 0; i < 150 && !::testing::Test::HasFatalFailure(); ++i) {
    const std::uint32_t sid = any();
    switch (random() % 14) {
      case 0: if (e.node(sid).up()) e.crash(sid); break;
      case 1:
      case 2: if (!e.node(sid).up()) e.boot(sid); break;
      case 3: if (const std::uint32_t other = any(); other != sid) e.cut(sid, other); break;
      case 4: e.heal(); break;
      case 5: e.node(sid).slow_disk = !e.node(sid).slow_disk; e.run(); break;
      case 6: if (e.node(sid).up()) e.write(e.node(sid)); e.run(); break;
      case 7: e.pass(static_cast<std::int64_t>(20 + random() % 1000)); break;
      case 8:
        if (e.node(sid).up() && !e.node(sid).delivered.empty()) {
          const auto& delivered = e.node(sid).delivered;
          const Zxid up_to = std::min(delivered[random() % delivered.size()].zxid, e.peer(sid).last_durable());
          if (e.node(sid).unwritten.empty()) e.purge(sid, up_to);
        }
        break;
      case 9: if (e.node(sid).up()) e.pause(sid); break;
      case 10: e.go_on(sid); break;
      default:
        for (auto n = random() % 8; n > 0 && e.leader() != 0 && e.peer(e.leader()).accepts_proposals(); --n) {
          e.propose(e.leader(), std::to_string(++value));
        }
        break;
    }
    for (std::uint32_t one = 1; one <= servers; ++one) {
      if (!e.node(one).up()) continue;
      for (const std::string& seen : e.values(one)) acknowledged.insert(seen);
    }
  }
  if (::testing::Test::HasFatalFailure()) return;
  for (std::uint32_t sid = 1; sid <= servers; ++sid) e.go_on(sid);
  e.heal();
  for (std::uint32_t sid = 1; sid <= servers; ++sid) e.node(sid).slow_disk = false;
  e.run();
  e.boot_all();
  ASSERT_TRUE(e.wait(10'000, [&] {
    return e.leader() != 0 && e.all_serve() && e.peer(e.leader()).accepts_proposals();
  })) << e.describe();
  e.propose(e.leader(), "probe");
  e.pass(200);
  const Values all = e.values(e.leader());
  for (std::uint32_t sid = 1; sid <= servers; ++sid) ASSERT_EQ(e.values(sid), all) << sid;
  EXPECT_EQ(all.back(), "probe");
  for (const std::string& seen : acknowledged)
    ASSERT_TRUE(std::find(all.begin(), all.end(), seen) != all.end()) << seen;
}

// COORD_STORMS=FROM,TO for long runs.
TEST(EnsembleStormTest, storms_lose_nothing_and_pass) {
  std::uint32_t from = 1, to = 300;
  if (const char* range = std::getenv("COORD_STORMS")) {
    char* rest = nullptr;
    from = static_cast<std::uint32_t>(std::strtoul(range, &rest, 10));
    to = *rest == ',' ? static_cast<std::uint32_t>(std::strtoul(rest + 1, nullptr, 10)) : from;
  }
  for (std::uint32_t seed = from; seed <= to && !HasFatalFailure(); ++seed) storm(seed, seed % 4 == 0 ? 5 : 3);
}

}  // namespace
}  // namespace coord::zab
