// Who counts when what enrols or adds it is only in the log, and what a learner has when it says that it is whole:
// found by a reviewer of the changes of members.
#include "tests/replica/zab/ensemble.h"

namespace coord::zab {
namespace {

using testing::Ensemble;
using testing::sids;

void settle(Ensemble& e) {
  ASSERT_TRUE(e.wait(10000, [&] { return e.leader() != 0 && e.all_serve() && e.peer(e.leader()).accepts_proposals(); }))
      << e.describe();
}

TEST(WhoCounts, damaged_repaired_too_early) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t L = e.leader();
  const std::uint32_t hurt = L == 1 ? 2 : 1, third = 6 - L - hurt;
  e.node(third).slow_disk = true;
  e.propose(L, "x");
  ASSERT_EQ(e.values(L), std::vector<std::string>{"x"});  // acknowledged to the client
  e.crash(hurt);
  e.node(hurt).disk.log.clear();
  e.node(hurt).disk.base.clear();
  e.node(hurt).disk.hint = e.node(hurt).disk.floor = Zxid{};
  e.node(hurt).disk.damaged = true;
  e.lose = [&](std::uint32_t, std::uint32_t to, const Message& m) {
    return to == hurt && std::holds_alternative<Proposal>(m);
  };
  e.boot(hurt);
  e.wait(1000, [&] { return !e.node(hurt).disk.damaged; });
  EXPECT_TRUE(e.node(hurt).disk.damaged || !e.logged(hurt).empty()) << "repaired without x";
  e.crash(L);
  e.crash(third);
  e.lose = {};
  e.node(third).slow_disk = false;
  e.boot(third);
  e.pass(5000);
  if (e.leader() != 0) {
    EXPECT_EQ(e.values(e.leader()).front(), "x") << e.describe();
  }
}

TEST(WhoCounts, lost_joins_hang) {
  Ensemble e(4);
  e.enrols = true;
  e.boot_all();
  settle(e);
  ASSERT_TRUE(e.wait(1000, [&] { return e.node(e.leader()).enrolled.size() == 4; }));
  e.reconfig(e.leader(), {1, 2, 3, 4});
  e.pass(500);
  e.crash(4);
  e.pass(3000);
  settle(e);
  ASSERT_EQ(e.leader(), 3U);
  e.reconfig(3, {2, 3, 4});
  e.pass(200);
  e.crash(1);
  e.add(1, sids({1, 2, 3, 4}));
  e.boot(1);
  e.pass(3000);
  settle(e);
  e.reconfig(3, {1, 2, 3, 4});
  e.pass(200);
  const Zxid last = e.reconfig(3, {1, 3, 4});
  e.pass(500);
  ASSERT_EQ(e.peer(3).membership().version, last) << e.describe();
  e.lose = [&](std::uint32_t from, std::uint32_t to, const Message& m) {
    return from == 3 && to == 4 && std::holds_alternative<UpToDate>(m);
  };
  e.boot(4);
  e.wait(2000, [&] { return !e.node(4).disk.log.empty() && e.node(4).disk.log.back().zxid == last; });
  ASSERT_EQ(e.node(4).disk.log.back().zxid, last);
  e.crash(3);
  e.crash(4);
  e.crash(2);
  e.lose = {};
  e.boot(4);
  for (int i = 0; i < 12; ++i) e.pass(10'000);
  EXPECT_NE(e.leader(), 0U) << "1 and 4 of {1,3,4} are up for 120 s" << e.describe();
}

TEST(WhoCounts, better_history_of_one_that_counts_later) {
  Ensemble e(5);
  e.boot_all();
  settle(e);
  ASSERT_EQ(e.leader(), 3U);
  e.propose(3, "a");
  e.pass(200);
  e.crash(4);
  e.crash(2);
  e.lose = [](std::uint32_t, std::uint32_t, const Message& m) {
    return std::holds_alternative<Commit>(m) || std::holds_alternative<Ping>(m);
  };
  e.propose(3, "x");
  ASSERT_EQ(e.values(3), (std::vector<std::string>{"a", "x"}));
  e.crash(5);
  e.crash(1);
  e.crash(3);
  e.lose = {};

  e.boot(4);
  std::map<Sid, std::string> all, but5;
  for (std::uint32_t i = 1; i <= 5; ++i) {
    all[Sid{i}] = "directory" + std::to_string(i);
    if (i != 5) but5[Sid{i}] = all[Sid{i}];
  }
  e.inject(4, Enrolled{but5});  // the tree of the snapshot that has 3's enrolment is being loaded
  e.boot(2);
  e.pause(5);
  e.boot(5);
  e.inject(5, Enrolled{but5});
  e.go_on(5);
  e.wait(1000, [&] { return e.peer(4).role() == Role::kLeading; });

  ASSERT_EQ(e.peer(4).role(), Role::kLeading);
  e.pass(100);
  e.node(2).slow_disk = true;
  e.lose = [](std::uint32_t from, std::uint32_t, const Message& m) {
    return from == 1 && std::holds_alternative<AckEpoch>(m);
  };
  e.boot(1);
  e.wait(400, [&] { return !e.node(5).messages<AckEpoch>().empty(); });

  e.crash(1);
  e.inject(4, Enrolled{all});
  e.node(2).slow_disk = false;
  e.pass(100);
  if (e.leader() == 4) {
    EXPECT_EQ(e.values(4), (std::vector<std::string>{"a", "x"}));
  }
}

TEST(WhoCounts, enrolment_not_applied_hang) {
  Ensemble e(3);
  e.enrols = true;
  e.boot(2);
  e.boot(3);
  settle(e);
  ASSERT_TRUE(e.wait(5000, [&] { return e.node(3).enrolled.size() == 2 && e.node(2).enrolled.size() == 2; }));
  ASSERT_EQ(e.leader(), 3U);
  e.lose = [](std::uint32_t, std::uint32_t to, const Message& m) {
    return to == 2 && std::holds_alternative<Commit>(m);
  };
  e.boot(1);
  ASSERT_TRUE(e.wait(3000, [&] { return e.node(3).enrolled.size() == 3; }));
  e.crash(3);
  e.crash(2);
  e.lose = {};
  e.boot(2);
  for (int i = 0; i < 12; ++i) e.pass(10'000);
  EXPECT_NE(e.leader(), 0U) << "1 and 2 of {1,2,3} are up for 120 s" << e.describe();
}

TEST(WhoCounts, synced_without_history) {
  Ensemble e(3);
  e.enrols = true;
  e.boot_all();
  settle(e);
  ASSERT_TRUE(e.wait(1000, [&] { return e.node(e.leader()).enrolled.size() == 3; }));
  const std::uint32_t L = e.leader();
  e.reconfig(L, {1, 2, 3});
  e.pass(200);
  for (int i = 0; i < 1000; ++i) e.propose(L, "v" + std::to_string(i));
  e.add(4, sids({1, 2, 3, 4}));
  e.lose = [](std::uint32_t, std::uint32_t to, const Message& m) {
    return to == 4 && (std::holds_alternative<Proposal>(m) || std::holds_alternative<UpToDate>(m));
  };
  e.boot(4);
  e.wait(300, [&] { return e.peer(4).current_epoch() == 1; });
  e.pass(40);
  for (const auto& l : e.peer(L).learners()) {
    if (l.sid != Sid{4}) continue;
    EXPECT_FALSE(l.synced) << "entries on its disk: " << e.node(4).disk.log.size() << " of 1002, serving " << l.serving
                           << " acked " << to_string(l.acked);
  }
}

std::size_t alarms(Ensemble& e) {
  std::size_t count = 0;
  for (std::uint32_t sid = 1; sid <= 3; ++sid) count += e.node(sid).all<Alarm>().size();
  return count;
}

// While it catches up it passes the time in which its former directory was enrolled.
TEST(WhoCounts, a_server_that_was_added_again_is_not_taken_for_one_that_lost_its_disk) {
  Ensemble e(3);
  e.enrols = true;
  e.boot_all();
  settle(e);
  ASSERT_TRUE(e.wait(1000, [&] { return e.node(e.leader()).enrolled.size() == 3; }));
  const std::uint32_t L = e.leader();
  ASSERT_NE(L, 1U);
  e.propose(L, "a");
  e.reconfig(L, {2, 3});
  e.pass(200);
  e.crash(1);
  e.add(1, sids({1, 2, 3}));
  e.boot(1);
  e.pass(3000);
  EXPECT_TRUE(e.peer(1).serving());
  EXPECT_EQ(alarms(e), 0U) << e.describe();
  const testing::Disk younger = e.node(1).disk;
  e.reconfig(L, {1, 2, 3});
  e.pass(500);
  ASSERT_TRUE(e.peer(1).acknowledges());
  // Again from nothing, and from what it had when it was no member.
  for (const bool empty : {true, false}) {
    e.crash(1);
    e.node(1).disk = younger;
    if (empty) {
      e.node(1).disk = {};
      e.node(1).disk.directory = younger.directory;
    }
    e.node(1).enrolled = {};
    e.boot(1);
    e.pass(3000);
    EXPECT_TRUE(e.peer(1).acknowledges()) << empty;
    EXPECT_EQ(alarms(e), 0U) << empty << e.describe();
  }
}

// A stop in the middle of that: what it has says that it lost its disk, until it hears more.
TEST(WhoCounts, a_lost_disk_is_told_when_all_is_there_or_nobody_leads) {
  for (const bool alone : {false, true}) {
    Ensemble e(3);
    e.enrols = true;
    e.boot_all();
    settle(e);
    ASSERT_TRUE(e.wait(1000, [&] { return e.node(e.leader()).enrolled.size() == 3; }));
    const std::uint32_t L = e.leader();
    ASSERT_NE(L, 1U);
    e.propose(L, "a");
    e.crash(1);
    e.node(1).disk.directory = "another";
    if (alone) {
      e.crash(2);
      e.crash(3);
    }
    e.boot(1);
    e.pass(500);
    EXPECT_EQ(e.node(1).all<Alarm>().size(), alone ? 0U : 1U);
    if (!alone) {
      e.reconfig(L, {2, 3});
      e.pass(200);
      for (const std::uint32_t sid : {1U, L}) {
        const auto told = e.node(sid).all<Alarm>();
        EXPECT_TRUE(told.size() == 2 && told.back().over) << sid << e.describe();
      }
      continue;
    }
    e.pass(15'000);
    ASSERT_EQ(e.node(1).all<Alarm>().size(), 1U);
    EXPECT_FALSE(e.node(1).all<Alarm>()[0].over);
    e.boot(2);
    e.boot(3);
    settle(e);
    EXPECT_EQ(e.node(1).all<Alarm>().size(), 1U) << "still so";
  }
}

TEST(WhoCounts, electorate_changes_while_gathering) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::map<Sid, std::string> all{{Sid{1}, "directory1"}, {Sid{2}, "directory2"}, {Sid{3}, "directory3"}};
  auto two = all;
  two.erase(Sid{1});
  for (std::uint32_t i = 1; i <= 3; ++i) e.crash(i);
  e.boot(2);
  e.inject(2, Enrolled{two});
  e.boot(1);
  ASSERT_TRUE(e.wait(1500, [&] { return e.peer(2).role() == Role::kLeading; }));
  e.pass(200);
  const auto from = e.now();
  e.inject(2, Enrolled{all});
  EXPECT_TRUE(e.wait(30'000, [&] { return e.leader() != 0; }));
  EXPECT_LT(e.now() - from, 1000) << "ms until there is a leader";
}

}  // namespace
}  // namespace coord::zab
