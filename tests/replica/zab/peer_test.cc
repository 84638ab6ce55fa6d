#include "replica/zab/peer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>

#include "replica/zab/invariants.h"

namespace coord::zab {
namespace {

Config config_of(std::uint32_t self, std::set<Sid> voters) {
  Config config;
  config.self = Sid{self};
  config.voters = Quorum{std::move(voters)};
  return config;
}

Config alone(std::uint32_t counter_max = 0xf0000000) {
  Config config = config_of(1, {Sid{1}});
  config.counter_max = counter_max;
  return config;
}

DurableState state(std::uint32_t accepted, std::uint32_t current, const std::vector<Zxid>& log, Zxid hint) {
  DurableState durable;
  durable.accepted_epoch = accepted;
  durable.current_epoch = current;
  durable.log.epoch_ends = log;
  durable.commit_hint = hint;
  return durable;
}

Payload payload(const std::string& text) { return std::make_shared<const std::string>(text); }

// A disk that takes what it is given in order, and a driver that hands things on when it is told to.
struct Driver {
  struct Disk {
    std::uint32_t accepted = 0;
    std::uint32_t current = 0;
    std::vector<LogEntry> log;
    Zxid hint;
  };
  explicit Driver(Config c) : config(std::move(c)) { boot(); }

  void boot() {
    DurableState durable = state(disk.accepted, disk.current, {}, disk.hint);
    for (const LogEntry& entry : disk.log) durable.log.append(entry.zxid);
    peer.emplace(config, std::move(durable));
    queue.clear();
    written = reported = 0;
    ASSERT_EQ(broken_state(observe(*peer)), std::nullopt);
  }
  void step(const Event& event) {
    const Observation before = observe(*peer);
    Actions out;
    peer->step(event, out);
    ASSERT_EQ(broken_step(before, event, out, observe(*peer)), std::nullopt);
    for (Action& action : out) take(action);
  }
  void take(Action& action) {
    if (auto* persist = std::get_if<Persist>(&action)) {
      queue.push_back(std::move(*persist));
    } else if (auto* commit = std::get_if<Deliver>(&action)) {
      // Never committed before it is durable, and a restart finds every committed entry.
      ASSERT_FALSE(disk.log.empty());
      ASSERT_LE(commit->up_to, disk.log.back().zxid);
      committed = std::max(committed, commit->up_to);
      ++commits;
    } else {
      phases.push_back(std::get<PhaseChanged>(action));
    }
  }
  // Up to `count` queued Persists reach the disk as one write.
  void write(std::size_t count) {
    for (; count > 0 && !queue.empty(); --count) {
      const Persist& persist = queue.front();
      if (persist.accepted_epoch) disk.accepted = *persist.accepted_epoch;
      if (persist.current_epoch) disk.current = *persist.current_epoch;
      for (const LogEntry& entry : persist.append) {
        ASSERT_EQ(entry.previous, disk.log.empty() ? Zxid{} : disk.log.back().zxid);
        disk.log.push_back(entry);
      }
      written = persist.id;
      queue.erase(queue.begin());
      ASSERT_GE(disk.accepted, disk.current);
      ASSERT_GE(disk.current, disk.log.empty() ? 0 : disk.log.back().zxid.epoch());
    }
  }
  void report() {
    if (reported == written) return;
    reported = written;
    step(Persisted{written});
  }
  void settle() {
    for (int guard = 0; !queue.empty() || reported != written; ++guard) {
      ASSERT_LT(guard, 1000);
      write(100);
      report();
    }
  }
  Zxid propose(const std::string& text) {
    const Zxid zxid = peer->next_zxid();
    step(Propose{zxid, payload(text), {}});
    return zxid;
  }

  Config config;
  std::optional<Peer> peer;
  Disk disk;
  std::vector<Persist> queue;  // handed out, not on disk
  std::uint64_t written = 0;
  std::uint64_t reported = 0;
  Zxid committed;  // over all lives
  int commits = 0;
  std::vector<PhaseChanged> phases;
};

TEST(PeerTest, with_other_voters_start_stays_looking_and_promises_nothing) {
  Peer peer(config_of(1, {Sid{1}, Sid{2}, Sid{3}}), {});
  Actions out;
  peer.step(Start{}, out);
  peer.step(Tick{1'000'000}, out);
  EXPECT_EQ(peer.phase(), Phase::kElection);
  EXPECT_FALSE(peer.accepts_proposals());
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(std::get<PhaseChanged>(out[0]).role, Role::kLooking);
}

TEST(PeerTest, a_server_that_is_no_voter_stays_looking) {
  Peer peer(config_of(9, {Sid{1}}), {});
  Actions out;
  peer.step(Start{}, out);
  EXPECT_EQ(peer.phase(), Phase::kElection);
}

using PeerDeathTest = ::testing::Test;

TEST(PeerDeathTest, refuses_states_that_cannot_be) {
  EXPECT_DEATH(Peer(alone(), state(1, 2, {}, {})), "never promised");
  EXPECT_DEATH(Peer(alone(), state(3, 2, {Zxid{3, 1}}, {})), "never adopted");
  EXPECT_DEATH(Peer(alone(), state(3, 3, {Zxid{3, 1}}, (Zxid{3, 2}))), "lacks what was committed");
  EXPECT_DEATH(Peer(alone(0), {}), "room for one");
  EXPECT_DEATH(Peer(alone(0xffffffff), {}), "never proposed");
}

TEST(PeerDeathTest, refuses_to_lead_with_an_absurd_epoch) {
  Peer peer(alone(), state(1U << 31, 7, {Zxid{7, 1}}, {}));
  Actions out;
  EXPECT_DEATH(peer.step(Start{}, out), "absurdly high");
}

TEST(PeerDeathTest, refuses_proposals_out_of_phase_or_order) {
  Driver driver(alone());
  EXPECT_DEATH(driver.peer->next_zxid(), "accepts_proposals");
  driver.step(Start{});
  Actions out;
  EXPECT_DEATH(driver.peer->step(Propose{Zxid{1, 1}, payload("x"), {}}, out), "broadcast only");
  driver.settle();
  EXPECT_DEATH(driver.peer->step(Propose{Zxid{1, 2}, payload("x"), {}}, out), "without gaps");
  EXPECT_DEATH(driver.peer->step(Propose{Zxid{1, 1}, nullptr, {}}, out), "payload");
  EXPECT_DEATH(driver.peer->step(Persisted{99}, out), "before it was handed out");
  EXPECT_DEATH(driver.peer->step(Start{}, out), "once");
}

TEST(PeerTest, promise_is_durable_before_anything_else_and_adoption_before_broadcast) {
  Driver driver(alone());
  driver.disk.accepted = 6;  // promised in an earlier life, not adopted
  driver.disk.current = 4;
  driver.disk.log = {{Zxid{4, 1}, Zxid{}, payload("a"), {}}};
  driver.boot();
  driver.step(Start{});
  ASSERT_EQ(driver.queue.size(), 1U);
  EXPECT_EQ(driver.queue[0].accepted_epoch, 7U);
  EXPECT_FALSE(driver.queue[0].current_epoch);
  EXPECT_EQ(driver.peer->phase(), Phase::kDiscovery);
  EXPECT_EQ(driver.peer->epoch(), 7U);
  EXPECT_EQ(driver.peer->current_epoch(), 4U);
  driver.write(1);
  driver.report();
  ASSERT_EQ(driver.queue.size(), 1U);
  EXPECT_EQ(driver.queue[0].current_epoch, 7U);
  EXPECT_EQ(driver.peer->phase(), Phase::kSynchronization);
  EXPECT_EQ(driver.commits, 0) << "the initial history is not committed before NEWLEADER's quorum";
  EXPECT_FALSE(driver.peer->accepts_proposals());
  driver.write(1);
  driver.report();
  EXPECT_EQ(driver.peer->phase(), Phase::kBroadcast);
  EXPECT_EQ(driver.committed, (Zxid{4, 1}));
  EXPECT_EQ(driver.peer->next_zxid(), (Zxid{7, 1}));
  ASSERT_EQ(driver.phases.size(), 4U);
  EXPECT_EQ(driver.phases[0].phase, Phase::kElection);
  EXPECT_EQ(driver.phases[3].epoch, 7U);
}

TEST(PeerTest, an_empty_history_commits_nothing) {
  Driver driver(alone());
  driver.step(Start{});
  driver.settle();
  EXPECT_TRUE(driver.peer->accepts_proposals());
  EXPECT_EQ(driver.commits, 0);
  EXPECT_EQ(driver.peer->next_zxid(), (Zxid{1, 1}));
}

TEST(PeerTest, commit_waits_for_persisted_and_one_completion_answers_many) {
  Driver driver(alone());
  driver.step(Start{});
  driver.settle();
  for (int i = 0; i < 5; ++i) driver.propose("p");
  EXPECT_EQ(driver.commits, 0);
  driver.write(3);
  EXPECT_EQ(driver.commits, 0) << "durable, but not reported yet";
  driver.report();
  EXPECT_EQ(driver.committed, (Zxid{1, 3}));
  EXPECT_EQ(driver.commits, 1);
  EXPECT_EQ(driver.peer->last_durable(), (Zxid{1, 3}));
  EXPECT_EQ(driver.peer->last_logged(), (Zxid{1, 5}));
  driver.step(Persisted{driver.reported});  // again: nothing new
  EXPECT_EQ(driver.commits, 1);
  driver.settle();
  EXPECT_EQ(driver.committed, (Zxid{1, 5}));
}

TEST(PeerTest, written_but_not_reported_is_committed_by_the_next_life) {
  Driver driver(alone());
  driver.step(Start{});
  driver.settle();
  driver.propose("a");
  driver.propose("b");
  driver.write(1);
  driver.boot();  // crash: b was never written
  driver.step(Start{});
  driver.settle();
  EXPECT_EQ(driver.committed, (Zxid{1, 1}));
  EXPECT_EQ(driver.propose("c"), (Zxid{2, 1}));
  EXPECT_EQ(driver.queue[0].append[0].previous, (Zxid{1, 1}));
}

TEST(PeerTest, a_full_epoch_takes_no_proposals_and_hands_over_when_all_is_committed) {
  Driver driver(alone(3));
  driver.step(Start{});
  driver.settle();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(driver.peer->accepts_proposals());
    driver.propose("p");
  }
  EXPECT_FALSE(driver.peer->accepts_proposals());
  EXPECT_EQ(driver.peer->phase(), Phase::kBroadcast);
  driver.write(2);
  driver.report();
  EXPECT_EQ(driver.peer->phase(), Phase::kBroadcast) << "one is outstanding";
  EXPECT_FALSE(driver.peer->accepts_proposals());
  driver.write(1);
  driver.report();
  EXPECT_EQ(driver.committed, (Zxid{1, 3}));
  EXPECT_EQ(driver.peer->phase(), Phase::kDiscovery);
  EXPECT_EQ(driver.peer->epoch(), 2U);
  driver.settle();
  ASSERT_TRUE(driver.peer->accepts_proposals());
  EXPECT_EQ(driver.propose("q"), (Zxid{2, 1}));
  driver.settle();
  EXPECT_EQ(driver.committed, (Zxid{2, 1}));
}

TEST(PeerTest, a_restart_in_a_full_epoch_starts_a_new_one) {
  Driver driver(alone(1));
  driver.step(Start{});
  driver.settle();
  driver.propose("p");
  driver.write(1);
  driver.boot();
  driver.step(Start{});
  driver.settle();
  EXPECT_TRUE(driver.peer->accepts_proposals());
  EXPECT_EQ(driver.peer->next_zxid(), (Zxid{2, 1}));
}

TEST(InvariantsTest, finds_what_is_broken) {
  const Observation good{Role::kLeading, Phase::kBroadcast, 2, 2, Zxid{2, 2}, Zxid{2, 1}, Zxid{2, 1}};
  EXPECT_EQ(broken_state(good), std::nullopt);
  Observation bad = good;
  bad.accepted_epoch = 1;
  EXPECT_NE(broken_state(bad), std::nullopt);
  bad = good;
  EXPECT_NE(broken_step(good, Persisted{1}, {Deliver{Zxid{2, 2}}}, bad), std::nullopt) << "beyond what is committed";
  EXPECT_NE(broken_step(good, Persisted{1}, {Send{LinkId{1}, Ack{Zxid{2, 2}}}}, bad), std::nullopt) << "not durable";
  EXPECT_NE(broken_step(good, Tick{}, {Send{LinkId{1}, Ack{Zxid{2, 1}}}}, bad), std::nullopt) << "no completion";
  Persist cut;
  cut.truncate_after = Zxid{1, 9};
  EXPECT_NE(broken_step(good, Persisted{1}, {cut}, bad), std::nullopt) << "a committed entry is cut";
  bad.last_committed = Zxid{2, 2};
  EXPECT_NE(broken_step(good, Tick{}, {}, bad), std::nullopt) << "committed by nothing";
  bad = good;
  bad.last_logged = Zxid{2, 4};
  Persist gap;
  gap.append = {{Zxid{2, 4}, Zxid{2, 2}, payload("x"), {}}};
  EXPECT_NE(broken_step(good, Propose{}, {gap}, bad), std::nullopt);
  EXPECT_NE(broken_step(good, Propose{}, {}, bad), std::nullopt) << "grew without a Persist";
  bad = good;
  bad.last_durable = bad.last_committed = Zxid{2, 2};
  EXPECT_NE(broken_step(good, Tick{}, {}, bad), std::nullopt) << "durable without a completion";
}

// A driver that delays, merges and crashes at random. One seed is one history.
void random_life(std::uint32_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Driver driver(alone(2 + seed % 9));
  driver.step(Start{});
  for (int i = 0; i < 300 && !::testing::Test::HasFatalFailure(); ++i) {
    const auto dice = random() % 100;
    if (dice < 45 && driver.peer->accepts_proposals()) {
      driver.propose("p" + std::to_string(i));
    } else if (dice < 65) {
      driver.write(1 + random() % 4);
    } else if (dice < 88) {
      driver.report();
    } else if (dice < 92) {
      driver.step(Tick{i});
    } else if (dice < 96) {
      // The hint is lazy: any committed position up to now.
      driver.disk.hint = std::max(driver.disk.hint, random() % 2 ? driver.committed : Zxid{});
    } else {
      driver.boot();
      ASSERT_GE(driver.peer->last_logged(), driver.committed) << "a committed entry was lost";
      driver.step(Start{});
    }
  }
  driver.settle();
  while (driver.peer->phase() != Phase::kBroadcast) driver.settle();
  ASSERT_TRUE(driver.peer->accepts_proposals());
  driver.propose("probe");
  driver.settle();
  ASSERT_EQ(driver.committed, driver.disk.log.back().zxid);
  Zxid last;
  for (const LogEntry& entry : driver.disk.log) {
    ASSERT_EQ(entry.previous, last);
    ASSERT_GT(entry.zxid, last);
    ASSERT_EQ(entry.zxid.counter(), entry.zxid.epoch() == last.epoch() ? last.counter() + 1 : 1);
    last = entry.zxid;
  }
}

TEST(PeerTest, any_delay_merge_and_crash_keeps_the_invariants) {
  for (std::uint32_t seed = 1; seed <= 3000 && !HasFatalFailure(); ++seed) random_life(seed);
}

}  // namespace
}  // namespace coord::zab
