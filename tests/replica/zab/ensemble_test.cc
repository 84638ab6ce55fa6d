#include "tests/replica/zab/ensemble.h"

namespace coord::zab {
namespace {

using testing::Ensemble;
using testing::Node;
using testing::text;
using Values = std::vector<std::string>;

// A leader in broadcast that everybody who is up and connected follows.
void settle(Ensemble& e, std::int64_t ms = 5000) {
  ASSERT_TRUE(e.wait(ms, [&] { return e.leader() != 0 && e.all_serve(); }));
}

std::uint32_t other_than(std::uint32_t a, std::uint32_t b = 0) {
  for (std::uint32_t sid = 1;; ++sid) {
    if (sid != a && sid != b) return sid;
  }
}

TEST(EnsembleTest, three_elect_at_once_and_replicate) {
  Ensemble e(3);
  e.boot_all();
  settle(e, 200);
  const std::uint32_t leader = e.leader();
  for (int i = 0; i < 5; ++i) e.propose(leader, std::to_string(i));
  for (std::uint32_t sid = 1; sid <= 3; ++sid) {
    EXPECT_EQ(e.values(sid), (Values{"0", "1", "2", "3", "4"})) << sid;
    EXPECT_TRUE(e.peer(sid).serving());
    EXPECT_TRUE(e.peer(sid).acknowledges());
    EXPECT_EQ(e.peer(sid).leader(), Sid{leader});
    EXPECT_EQ(e.node(sid).disk.cluster_id, e.node(leader).disk.cluster_id);
    EXPECT_FALSE(e.node(sid).disk.secret.empty());
  }
  EXPECT_EQ(e.peer(leader).learners().size(), 2U);
  e.pass(20'000);
  EXPECT_EQ(e.leader(), leader) << "a healthy leader stays";
  EXPECT_EQ(e.peer(leader).epoch(), 1U);
}

TEST(EnsembleTest, five_with_two_missing) {
  Ensemble e(5);
  e.boot(1);
  e.boot(3);
  e.pass(3000);
  EXPECT_EQ(e.leader(), 0U) << "two of five are no quorum";
  e.boot(5);
  settle(e);
  e.propose(e.leader(), "a");
  e.boot(2);
  e.boot(4);
  settle(e);
  EXPECT_EQ(e.values(2), Values{"a"});
  EXPECT_EQ(e.values(4), Values{"a"});
}

TEST(EnsembleTest, the_best_history_leads_not_the_highest_id) {
  Ensemble e(3);
  e.boot(1);
  e.boot(2);
  settle(e);
  e.propose(e.leader(), "a");
  e.crash(1);
  e.crash(2);
  e.boot(3);
  e.boot(1);
  settle(e);
  EXPECT_EQ(e.leader(), 1U);
  EXPECT_EQ(e.values(3), Values{"a"});
}

TEST(EnsembleTest, a_killed_leader_is_replaced_and_comes_back_by_diff) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t old = e.leader();
  e.propose(old, "a");
  e.crash(old);
  settle(e, 100);
  const std::uint32_t now = e.leader();
  ASSERT_NE(now, old);
  EXPECT_EQ(e.peer(now).epoch(), 2U);
  EXPECT_EQ(e.propose(now, "b"), (Zxid{2, 1}));
  e.boot(old);
  settle(e);
  EXPECT_EQ(e.leader(), now);
  EXPECT_EQ(e.values(old), (Values{"a", "b"}));
  EXPECT_TRUE(e.node(now).all<SendSnapshot>().empty());
  EXPECT_FALSE(e.node(now).all<ReadLog>().empty() && e.node(now).messages<Proposal>().empty());
}

// ZOOKEEPER-1154, 2832, 2845: what a leader logged alone is cut when it returns.
TEST(EnsembleTest, what_a_leader_logged_alone_is_cut_on_its_return) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t old = e.leader();
  e.propose(old, "a");
  e.isolate(old);
  e.propose(old, "lost 1");
  e.propose(old, "lost 2");
  EXPECT_EQ(e.logged(old), (Values{"a", "lost 1", "lost 2"}));
  ASSERT_TRUE(e.wait(2000, [&] { return e.leader() != 0 && e.leader() != old; }));
  e.propose(e.leader(), "b");
  ASSERT_TRUE(e.wait(2000, [&] { return e.peer(old).role() == Role::kLooking; })) << "it must notice that it is alone";
  e.heal();
  settle(e);
  for (std::uint32_t sid = 1; sid <= 3; ++sid) {
    EXPECT_EQ(e.values(sid), (Values{"a", "b"})) << sid;
    EXPECT_EQ(e.logged(sid), (Values{"a", "b"})) << sid;
  }
  ASSERT_EQ(e.node(old).all<Discard>().size(), 1U);
  EXPECT_EQ(e.node(old).all<Discard>()[0].after, (Zxid{1, 1}));
}

TEST(EnsembleTest, one_persist_adopts_cut_entries_and_epoch_and_only_then_it_is_acknowledged) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t old = e.leader();
  e.propose(old, "a");
  e.isolate(old);
  e.propose(old, "lost");
  ASSERT_TRUE(e.wait(2000, [&] { return e.leader() != 0 && e.leader() != old; }));
  e.propose(e.leader(), "b");
  e.crash(old);
  e.inject(e.leader(), Resign{});  // what comes before the epoch is staged, what is of the epoch goes out behind it
  ASSERT_TRUE(e.wait(2000, [&] { return e.leader() != 0 && e.peer(e.leader()).epoch() == 3; }));
  e.boot(old);
  Node& node = e.node(old);
  node.slow_disk = true;
  e.heal();
  ASSERT_TRUE(e.wait(3000, [&] { return !node.unwritten.empty(); }));
  ASSERT_EQ(node.unwritten.size(), 1U);
  if (node.unwritten.front().accepted_epoch) {
    e.write(node);
    e.run();
  }
  ASSERT_EQ(node.unwritten.size(), 1U);
  const Persist& persist = node.unwritten.front();
  EXPECT_EQ(persist.truncate_after, (Zxid{1, 1}));
  ASSERT_EQ(persist.append.size(), 1U);
  EXPECT_EQ(persist.current_epoch, 3U);
  EXPECT_TRUE(node.messages<AckNewLeader>().empty());
  e.propose(e.leader(), "c");
  EXPECT_TRUE(node.messages<Ack>().empty());
  EXPECT_FALSE(e.peer(old).serving());
  e.write(node);
  e.run();
  EXPECT_EQ(node.messages<AckNewLeader>().size(), 1U);
  EXPECT_TRUE(e.peer(old).serving());
  EXPECT_EQ(e.values(old), (Values{"a", "b", "c"}));
}

TEST(EnsembleTest, an_entry_counts_when_it_is_durable_and_the_leaders_disk_is_not_needed) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader(), a = other_than(leader), b = other_than(leader, a);
  for (const std::uint32_t sid : {1, 2, 3}) e.node(sid).slow_disk = true;
  e.propose(leader, "x");
  EXPECT_EQ(e.values(leader), Values{});
  e.write(e.node(a));
  e.run();
  EXPECT_EQ(e.values(leader), Values{}) << "one of three";
  e.write(e.node(b));
  e.run();
  for (const std::uint32_t sid : {1, 2, 3}) EXPECT_EQ(e.values(sid), Values{"x"}) << sid;
  EXPECT_EQ(e.logged(leader), Values{});
}

TEST(EnsembleTest, who_missed_more_than_the_log_gets_a_snapshot) {
  for (const bool known : {false, true}) {
    Ensemble e(3);
    e.boot_all();
    settle(e);
    const std::uint32_t late = other_than(e.leader());
    e.propose(e.leader(), "a");
    e.crash(late);
    for (int i = 0; i < 10; ++i) e.propose(e.leader(), "n" + std::to_string(i));
    for (std::uint32_t sid = 1; sid <= 3; ++sid) {
      if (sid != late) e.purge(sid, Zxid{1, 7});
    }
    if (known) {  // a restarted leader knows its floor; a running one finds that the entries are gone
      const std::uint32_t old = e.leader(), third = other_than(old, late);
      e.crash(old);
      e.crash(third);
      e.boot(old);
      e.boot(third);
      settle(e);
    }
    // Make the leader forget what it has in memory: the tail holds this epoch.
    if (!known) {
      const std::uint32_t old = e.leader();
      e.inject(old, Resign{});
      settle(e);
    }
    e.boot(late);
    settle(e);
    EXPECT_EQ(e.values(late).size(), 11U);
    EXPECT_EQ(e.values(late), e.values(e.leader()));
    EXPECT_EQ(e.node(late).all<Reload>().size(), 1U) << known;
    EXPECT_EQ(e.node(late).all<Discard>()[0].after, Zxid{});
    e.propose(e.leader(), "z");
    EXPECT_EQ(e.values(late).back(), "z");
  }
}

// What the leader takes to be in its log is purged when it is asked for, behind NEWLEADER.
TEST(EnsembleTest, entries_of_the_epoch_that_were_purged_meanwhile_come_with_a_snapshot) {
  Ensemble e(3, 0, [](Config& c) { c.limits.tail_bytes = 0; });
  e.boot_all();
  settle(e);
  const std::uint32_t late = other_than(e.leader());
  e.propose(e.leader(), "a");
  e.crash(late);
  for (int i = 0; i < 10; ++i) e.propose(e.leader(), "n" + std::to_string(i));
  e.purge(e.leader(), Zxid{1, 7});
  e.boot(late);
  settle(e);
  EXPECT_EQ(e.values(late).size(), 11U);
  EXPECT_EQ(e.node(late).all<Reload>().size(), 1U);
}

TEST(EnsembleTest, a_diff_that_is_too_long_is_a_snapshot_with_entries_behind_it) {
  Ensemble e(3, 0, [](Config& c) {
    c.limits.diff_bytes = 2000;
    c.limits.tail_bytes = 500;
    c.limits.read_chunk_bytes = 300;
  });
  e.boot_all();
  settle(e);
  const std::uint32_t late = other_than(e.leader());
  e.crash(late);
  for (int i = 0; i < 100; ++i) e.propose(e.leader(), "n" + std::to_string(i));
  e.boot(late);
  settle(e);
  EXPECT_EQ(e.values(late), e.values(e.leader()));
  EXPECT_EQ(e.node(late).all<Reload>().size(), 1U);
}

TEST(EnsembleTest, a_long_diff_is_read_in_chunks_and_new_proposals_keep_their_order) {
  Ensemble e(3, 0, [](Config& c) {
    c.limits.tail_bytes = 500;
    c.limits.read_chunk_bytes = 300;
    c.limits.learner_window_bytes = 2000;
  });
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader(), late = other_than(leader);
  e.crash(late);
  for (int i = 0; i < 100; ++i) e.propose(leader, "n" + std::to_string(i));
  e.boot(late);
  e.node(late).slow_disk = true;
  for (int i = 0; i < 100; ++i) {
    e.propose(leader, "m" + std::to_string(i));
    if (i % 10 == 0) e.pass(20);
    if (i % 7 == 0) e.write(e.node(late));
  }
  e.node(late).slow_disk = false;
  e.run();
  settle(e);
  ASSERT_TRUE(e.wait(2000, [&] { return e.values(late).size() == 200; }));
  EXPECT_GT(e.node(leader).all<ReadLog>().size(), 5U);
  EXPECT_TRUE(e.node(leader).all<SendSnapshot>().empty());
  EXPECT_EQ(e.leader(), leader);
}

// ZOOKEEPER-3911: everything acknowledged at NEWLEADER survives a power cut.
TEST(EnsembleTest, a_power_cut_of_all_loses_nothing) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 3; ++i) e.propose(e.leader(), std::to_string(round) + "." + std::to_string(i));
    for (std::uint32_t sid = 1; sid <= 3; ++sid) e.crash(sid);
    e.boot_all();
    settle(e);
  }
  for (std::uint32_t sid = 1; sid <= 3; ++sid) EXPECT_EQ(e.values(sid).size(), 15U) << sid;
}

TEST(EnsembleTest, observers_follow_and_never_count) {
  Ensemble e(3, 2);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader();
  e.propose(leader, "a");
  EXPECT_EQ(e.values(4), Values{"a"});
  EXPECT_EQ(e.peer(5).role(), Role::kObserving);
  EXPECT_FALSE(e.peer(5).acknowledges());
  // ZOOKEEPER-2959: leader and two observers are no quorum; and nothing uncommitted reaches an observer.
  e.crash(other_than(leader));
  e.crash(other_than(leader, other_than(leader)));
  if (e.peer(leader).accepts_proposals()) e.propose(leader, "b");
  EXPECT_EQ(e.logged(4), Values{"a"});
  e.pass(5000);
  EXPECT_EQ(e.leader(), 0U);
  EXPECT_EQ(e.values(4), Values{"a"});
  e.boot_all();
  settle(e);
  EXPECT_EQ(e.values(4), e.values(e.leader()));
}

// zab.md section 2.3. Server 3 promised epoch 9 to somebody who died; the leader of epoch 1 is healthy.
TEST(EnsembleTest, a_stranded_promise_learns_and_a_bare_quorum_makes_it_whole) {
  Ensemble e(3);
  e.boot(1);
  e.boot(2);
  settle(e);
  const std::uint32_t leader = e.leader();
  e.node(3).disk.accepted = 9;
  e.node(3).disk.accepted_from = Sid{1};
  e.node(3).slow_disk = true;
  e.propose(leader, "a");
  e.boot(3);
  ASSERT_TRUE(e.wait(1000, [&] { return !e.node(3).messages<AckEpoch>().empty(); }));
  EXPECT_FALSE(e.node(3).messages<AckEpoch>()[0].counts);
  EXPECT_EQ(e.peer(leader).epoch(), 1U);
  e.node(3).slow_disk = false;
  // Two of three acknowledge: the leader resigns once, in a quiet moment, for an epoch above the promise.
  ASSERT_TRUE(e.wait(5000, [&] { return e.leader() != 0 && e.peer(e.leader()).epoch() > 9 && e.all_serve(); }));
  EXPECT_TRUE(e.peer(3).acknowledges());
  EXPECT_EQ(e.values(3), Values{"a"});
  const std::uint32_t epoch = e.peer(e.leader()).epoch();
  e.pass(10'000);
  EXPECT_EQ(e.peer(e.leader()).epoch(), epoch);
}

TEST(EnsembleTest, a_stranded_promise_is_no_reason_to_resign_while_others_acknowledge) {
  Ensemble e(5);
  for (const std::uint32_t sid : {1, 2, 3, 4}) e.boot(sid);
  settle(e);
  const std::uint32_t epoch = e.peer(e.leader()).epoch();
  e.node(5).disk.accepted = 9;
  e.boot(5);
  settle(e);
  EXPECT_FALSE(e.peer(5).acknowledges());
  e.propose(e.leader(), "a");
  EXPECT_EQ(e.values(5), Values{"a"});
  EXPECT_TRUE(e.node(5).messages<Ack>().empty());
  e.pass(5000);
  EXPECT_EQ(e.peer(e.leader()).epoch(), epoch);
}

TEST(EnsembleTest, voters_are_enrolled_and_a_lost_disk_never_counts) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const auto asked = e.node(e.leader()).all<Enrol>();
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].directories.size(), 3U);
  for (std::uint32_t sid = 1; sid <= 3; ++sid) {
    e.node(sid).enrolled = asked[0].directories;
    e.inject(sid, Enrolled{asked[0].directories});
  }
  e.propose(e.leader(), "a");
  const std::uint32_t leader = e.leader(), lost = other_than(leader), third = other_than(leader, lost);
  e.crash(lost);
  e.node(lost).disk = {};
  e.node(lost).disk.directory = "another one";
  e.node(lost).enrolled = {};
  e.boot(lost);
  settle(e);
  EXPECT_EQ(e.values(lost), Values{"a"});
  EXPECT_EQ(e.node(leader).all<Alarm>().size(), 1U);
  e.inject(lost, Enrolled{asked[0].directories});
  EXPECT_EQ(e.node(lost).all<Alarm>().size(), 1U);
  EXPECT_FALSE(e.peer(lost).acknowledges());
  e.crash(third);
  if (e.peer(leader).accepts_proposals()) e.propose(leader, "b");
  e.pass(10'000);
  EXPECT_EQ(e.leader(), 0U) << "a lost disk is no member of a quorum";
  EXPECT_EQ(e.values(leader), Values{"a"});
  e.boot(third);
  settle(e);
  e.propose(e.leader(), "c");
  EXPECT_EQ(e.values(lost).back(), "c");
  EXPECT_NE(e.leader(), lost);
}

TEST(EnsembleTest, a_voter_that_was_never_there_is_enrolled_when_it_has_synchronized) {
  Ensemble e(3);
  e.boot(1);
  e.boot(2);
  settle(e);
  const std::uint32_t leader = e.leader();
  EXPECT_TRUE(e.node(leader).all<Enrol>().empty()) << "a little patience for the third";
  e.pass(3000);
  ASSERT_EQ(e.node(leader).all<Enrol>().size(), 1U);
  const auto two = e.node(leader).all<Enrol>()[0].directories;
  EXPECT_EQ(two.size(), 2U);
  for (const std::uint32_t sid : {1, 2}) e.inject(sid, Enrolled{two});
  e.boot(3);
  settle(e);
  const auto asked = e.node(leader).all<Enrol>();
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[1].directories, (std::map<Sid, std::string>{{Sid{3}, "directory3"}}));
  const auto counted = [&] {
    std::size_t count = 0;
    for (const auto& view : e.peer(leader).learners()) count += view.counted ? 1U : 0U;
    return count;
  };
  EXPECT_EQ(counted(), 1U);
  auto all = two;
  all[Sid{3}] = "directory3";
  for (const std::uint32_t sid : {1, 2, 3}) e.inject(sid, Enrolled{all});
  EXPECT_EQ(counted(), 2U);
}

TEST(EnsembleTest, a_damaged_store_is_filled_by_a_leader_that_did_not_count_it) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader(), hurt = other_than(leader), third = other_than(leader, hurt);
  e.propose(leader, "a");
  for (const std::uint32_t sid : {leader, hurt, third}) e.crash(sid);
  e.node(hurt).disk.log.clear();
  e.node(hurt).disk.base.clear();
  e.node(hurt).disk.hint = e.node(hurt).disk.floor = Zxid{};
  e.node(hurt).disk.damaged = true;
  e.boot(hurt);
  e.boot(leader);
  e.pass(10'000);
  EXPECT_EQ(e.leader(), 0U) << "the damaged one makes no quorum";
  e.boot(third);
  settle(e);
  EXPECT_EQ(e.values(hurt), Values{"a"});
  EXPECT_FALSE(e.node(hurt).disk.damaged);
  EXPECT_TRUE(e.peer(hurt).acknowledges());
}

// It keeps in memory what is committed while its snapshot is on its way; one that was only away does not.
TEST(EnsembleTest, a_snapshot_for_a_damaged_store_is_sent_in_a_hurry) {
  for (const bool damaged : {false, true}) {
    Ensemble e(3, 0, [](Config& c) { c.limits.tail_bytes = 0; });
    e.boot_all();
    settle(e);
    const std::uint32_t away = other_than(e.leader());
    e.propose(e.leader(), "a");
    e.crash(away);
    for (int n = 0; n < 10; ++n) e.propose(e.leader(), "a");
    e.purge(e.leader(), Zxid{1, 7});
    if (damaged) {
      e.node(away).disk.log.clear();
      e.node(away).disk.base.clear();
      e.node(away).disk.hint = e.node(away).disk.floor = Zxid{};
      e.node(away).disk.damaged = true;
    }
    e.boot(away);
    settle(e);
    const auto sent = e.node(e.leader()).all<SendSnapshot>();
    ASSERT_EQ(sent.size(), 1U);
    EXPECT_EQ(sent[0].hurry, damaged);
  }
}

TEST(EnsembleTest, a_hung_leader_is_replaced_and_steps_down_when_it_wakes) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t old = e.leader();
  e.pause(old);
  ASSERT_TRUE(e.wait(1500, [&] { return e.leader() != 0 && e.leader() != old; }));
  const std::uint32_t now = e.leader();
  e.propose(now, "a");
  e.go_on(old);
  ASSERT_TRUE(e.wait(3000, [&] { return e.peer(old).role() == Role::kFollowing && e.peer(old).serving(); }));
  EXPECT_EQ(e.leader(), now);
  EXPECT_EQ(e.peer(old).leader(), Sid{now});
  EXPECT_EQ(e.values(old), Values{"a"});
}

TEST(EnsembleTest, a_stop_of_this_process_is_not_the_others_silence) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader();
  // The clock jumps for all of them (a frozen machine): nobody blames anybody.
  for (std::uint32_t sid = 1; sid <= 3; ++sid) e.pause(sid);
  e.pass(5000);
  for (std::uint32_t sid = 1; sid <= 3; ++sid) e.go_on(sid);
  e.pass(3000);
  EXPECT_EQ(e.leader(), leader);
  EXPECT_EQ(e.peer(leader).epoch(), 1U);
}

TEST(EnsembleTest, after_its_own_stop_a_leader_proves_itself_before_it_goes_on) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader();
  Actions out;
  e.peer(leader).step(Tick{e.now() + 5000}, out);
  EXPECT_FALSE(e.peer(leader).accepts_proposals());
  EXPECT_EQ(e.leader(), leader);
  for (const Action& action : out) {
    const auto* send = std::get_if<Send>(&action);
    const auto* ping = send ? std::get_if<Ping>(&send->message) : nullptr;
    if (ping) {
      e.inject(leader, Received{send->link, Pong{ping->number, {}}});
      break;
    }
  }
  EXPECT_TRUE(e.peer(leader).accepts_proposals()) << "one pong and itself are a quorum";
}

TEST(EnsembleTest, a_leader_cut_off_from_its_quorum_gives_up_and_a_minority_disturbs_nobody) {
  Ensemble e(5);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader(), cut_off = other_than(leader);
  for (int i = 0; i < 10; ++i) {
    e.isolate(cut_off);
    e.pass(2000);
    e.heal();
    e.pass(1000);
    EXPECT_EQ(e.leader(), leader);
    EXPECT_EQ(e.peer(leader).epoch(), 1U);
  }
  settle(e);
  e.isolate(leader);
  ASSERT_TRUE(e.wait(700, [&] { return e.peer(leader).role() == Role::kLooking; }));
  ASSERT_TRUE(e.wait(2000, [&] { return e.leader() != 0; }));
  e.heal();
  settle(e);
}

// A joiner that reaches the followers but not the leader asks, and changes nothing.
TEST(EnsembleTest, a_joiner_that_cannot_reach_the_leader_disturbs_nobody) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader(), cut_off = other_than(leader);
  e.cut(leader, cut_off);
  e.pass(10'000);
  EXPECT_EQ(e.leader(), leader);
  EXPECT_EQ(e.peer(leader).epoch(), 1U);
  EXPECT_EQ(e.peer(cut_off).role(), Role::kLooking);
  e.heal();
  settle(e);
}

// A bridge: 1-2 and 4-5 see each other only through 3.
TEST(EnsembleTest, a_bridge_has_a_leader_with_a_quorum) {
  Ensemble e(5);
  e.boot_all();
  settle(e);
  for (const std::uint32_t a : {1, 2}) {
    for (const std::uint32_t b : {4, 5}) e.cut(a, b);
  }
  ASSERT_TRUE(e.wait(5000, [&] { return e.leader() != 0; }));
  e.pass(2000);
  const std::uint32_t leader = e.leader();
  ASSERT_NE(leader, 0U);
  e.propose(leader, "a");
  EXPECT_EQ(e.values(leader), Values{"a"});
}

// Server 3 sees only 2; it has the best history and yet cannot lead: the others do not wait for it.
TEST(EnsembleTest, who_cannot_have_a_quorum_is_not_elected) {
  Ensemble e(5);
  e.boot_all();
  settle(e);
  e.propose(e.leader(), "a");
  const std::uint32_t best = e.leader();
  for (std::uint32_t sid = 1; sid <= 5; ++sid) {
    if (sid != best && sid != other_than(best)) e.cut(best, sid);
  }
  ASSERT_TRUE(e.wait(3000, [&] { return e.leader() != 0 && e.leader() != best; }));
}

// zab.md section 2.3: a slow disk is no silence; it is cut off after ten sync limits, and never from a bare quorum.
TEST(EnsembleTest, a_disk_that_does_not_keep_up_is_cut_off_while_the_others_are_a_quorum) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader(), slow = other_than(leader), third = other_than(leader, slow);
  e.node(slow).slow_disk = true;
  e.propose(leader, "a");
  e.pass(5000);
  EXPECT_TRUE(e.peer(slow).serving());
  e.pass(1500);
  EXPECT_FALSE(e.peer(slow).serving());
  e.node(slow).slow_disk = false;
  e.run();
  settle(e);
  e.crash(third);
  e.node(slow).slow_disk = true;
  e.propose(leader, "b");
  e.pass(10'000);
  EXPECT_EQ(e.leader(), leader);
  EXPECT_TRUE(e.peer(slow).serving()) << "without it there is no quorum";
  EXPECT_EQ(e.values(leader), Values{"a"});
  e.node(slow).slow_disk = false;
  e.run();
  EXPECT_EQ(e.values(leader), (Values{"a", "b"}));
}

TEST(EnsembleTest, leadership_is_confirmed_by_pongs_only) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  const std::uint32_t leader = e.leader();
  const Zxid zxid = e.propose(leader, "a");
  for (std::uint64_t n = 1; n <= 3; ++n) e.inject(leader, ConfirmLeadership{n});
  const auto confirmed = e.node(leader).all<LeadershipConfirmed>();
  ASSERT_EQ(confirmed.size(), 3U);
  EXPECT_EQ(confirmed[2].committed, zxid);
  // Deaf: what the others say does not arrive.
  for (std::uint32_t sid = 1; sid <= 3; ++sid) {
    if (sid != leader) e.pause(sid);
  }
  e.inject(leader, ConfirmLeadership{4});
  EXPECT_EQ(e.node(leader).all<LeadershipConfirmed>().size(), 3U);
}

TEST(EnsembleTest, a_full_epoch_and_a_resignation_hand_over_when_all_is_committed) {
  Ensemble e(3, 0, [](Config& c) { c.counter_max = 3; });
  e.boot_all();
  settle(e);
  for (std::uint32_t sid = 1; sid <= 3; ++sid) e.node(sid).slow_disk = true;
  const std::uint32_t leader = e.leader();
  for (int i = 0; i < 3; ++i) e.propose(leader, std::to_string(i));
  EXPECT_FALSE(e.peer(leader).accepts_proposals());
  EXPECT_EQ(e.peer(leader).phase(), Phase::kBroadcast) << "three are outstanding";
  for (std::uint32_t sid = 1; sid <= 3; ++sid) e.node(sid).slow_disk = false;
  e.run();
  settle(e);
  EXPECT_EQ(e.peer(e.leader()).epoch(), 2U);
  for (std::uint32_t sid = 1; sid <= 3; ++sid) EXPECT_EQ(e.values(sid), (Values{"0", "1", "2"})) << sid;
  EXPECT_EQ(e.propose(e.leader(), "3"), (Zxid{2, 1}));
  e.inject(e.leader(), Resign{});
  settle(e);
  EXPECT_EQ(e.peer(e.leader()).epoch(), 3U);
}

// A nominee's identity that was never used gives way: no virgin is locked out for ever by a bootstrap that failed.
TEST(EnsembleTest, an_identity_without_an_entry_gives_way) {
  Ensemble e(3);
  e.node(1).disk.cluster_id = "of a nominee that died";
  e.node(1).disk.secret = "its secret";
  e.node(1).disk.accepted = e.node(1).disk.current = 1;
  e.boot(2);
  e.boot(3);
  settle(e);
  e.propose(e.leader(), "a");
  e.boot(1);
  settle(e);
  EXPECT_EQ(e.node(1).disk.cluster_id, e.node(2).disk.cluster_id);
  EXPECT_EQ(e.values(1), Values{"a"});
}

TEST(EnsembleTest, another_cluster_is_not_followed) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  e.propose(e.leader(), "a");
  const std::uint32_t odd = other_than(e.leader());
  e.crash(odd);
  e.node(odd).disk.cluster_id = "another";
  e.boot(odd);
  e.pass(5000);
  EXPECT_FALSE(e.peer(odd).serving());
  EXPECT_EQ(e.node(odd).all<Alarm>().size(), 1U);
  EXPECT_NE(e.leader(), 0U);
}

TEST(EnsembleTest, a_diverged_replica_is_named_and_left_alone) {
  Ensemble e(3);
  e.boot_all();
  settle(e);
  e.propose(e.leader(), "a");
  const std::uint32_t odd = other_than(e.leader());
  e.crash(odd);
  e.node(odd).disk.log.push_back({Zxid{1, 2}, Zxid{1, 1}, text("x"), {}});
  e.node(odd).disk.log.push_back({Zxid{1, 3}, Zxid{1, 2}, text("y"), {}});
  e.node(odd).disk.hint = Zxid{1, 3};  // it says that they were committed
  e.node(odd).disk.current = e.node(odd).disk.accepted = 1;
  const std::uint32_t leader = e.leader();
  e.boot(odd);
  e.pass(3000);
  EXPECT_FALSE(e.peer(odd).serving());
  EXPECT_EQ(e.node(leader).all<Alarm>().size(), 1U);
  EXPECT_EQ(e.leader(), leader);
  e.propose(leader, "b");
}

}  // namespace
}  // namespace coord::zab
