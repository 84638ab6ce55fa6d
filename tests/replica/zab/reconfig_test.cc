// Changes of the members (zab.md section 8; replica/README.md, membership), and every place to fail on the way.
#include "tests/replica/zab/reconfig_fixture.h"

namespace coord::zab {
namespace {

using testing::Ensemble;
using testing::Numbers;
using testing::sids;
using testing::Values;
using ReconfigTest = testing::ReconfigTest;

// --- the changes themselves

TEST_F(ReconfigTest, a_voter_joins_as_a_guest_and_counts_from_its_transaction_on) {
  start(3);
  guest(4, {1, 2, 3});
  std::uint32_t leader = e_->leader();
  e_->propose(leader, "a");
  EXPECT_EQ(values(4), Values{"a"});
  EXPECT_EQ(e_->peer(4).role(), Role::kObserving);
  EXPECT_FALSE(e_->peer(4).acknowledges());
  const Peer::LearnerView before = view(leader, 4);
  EXPECT_TRUE(before.synced && before.serving && !before.voter && !before.counted);
  EXPECT_EQ(before.directory_id, "directory4");
  // As a guest it is part of no quorum.
  for (const std::uint32_t sid : others(3, {leader})) e_->crash(sid);
  if (e_->peer(leader).accepts_proposals()) e_->propose(leader, "b");
  expect_no_leader();
  EXPECT_EQ(values(leader), Values{"a"});
  e_->boot_all();
  settle();
  const Zxid change = e_->reconfig(e_->leader(), {1, 2, 3, 4});
  expect_members(change, {1, 2, 3, 4});
  leader = e_->leader();
  EXPECT_TRUE(view(leader, 4).counted && view(leader, 4).voter);
  EXPECT_TRUE(e_->peer(4).acknowledges());
  EXPECT_EQ(e_->peer(4).role(), Role::kFollowing);
  EXPECT_EQ(e_->node(leader).enrolled.at(Sid{4}), "directory4");
  // Three of four with it, and not two.
  const auto rest = others(3, {leader});
  e_->crash(rest[0]);
  e_->propose(leader, "c");
  EXPECT_EQ(values(leader).back(), "c");
  e_->crash(rest[1]);
  if (e_->peer(leader).accepts_proposals()) e_->propose(leader, "d");
  expect_no_leader();
  EXPECT_EQ(values(leader).back(), "c");
}

TEST_F(ReconfigTest, a_removed_follower_goes_on_as_a_guest) {
  start(3);
  const std::uint32_t leader = e_->leader();
  const auto rest = others(3, {leader});
  const std::uint32_t gone = rest[0], stays = rest[1];
  const Zxid change = e_->reconfig(leader, {leader, stays});
  expect_members(change, {leader, stays});
  EXPECT_EQ(e_->peer(gone).role(), Role::kObserving);
  EXPECT_FALSE(e_->peer(gone).acknowledges());
  EXPECT_FALSE(e_->node(leader).enrolled.contains(Sid{gone}));
  e_->propose(leader, "a");
  EXPECT_EQ(values(gone), Values{"a"});
  e_->crash(gone);
  e_->propose(leader, "b");
  EXPECT_EQ(values(stays), (Values{"a", "b"}));
  e_->boot(gone);
  settle();
  EXPECT_EQ(values(gone), (Values{"a", "b"}));
  e_->crash(stays);
  if (e_->peer(leader).accepts_proposals()) e_->propose(leader, "c");
  expect_no_leader();
  EXPECT_EQ(values(leader), (Values{"a", "b"})) << "one that was removed makes no quorum";
}

TEST_F(ReconfigTest, a_removed_leader_commits_and_leaves) {
  for (const std::uint32_t size : {3U, 2U}) {
    SCOPED_TRACE(size);
    start(size);
    const std::uint32_t old = e_->leader();
    e_->propose(old, "a");
    Numbers rest;
    for (const std::uint32_t sid : others(size, {old})) rest.insert(sid);
    const Zxid change = e_->reconfig(old, rest);
    EXPECT_FALSE(e_->peer(old).accepts_proposals());
    ASSERT_TRUE(e_->wait(2000, [&] { return e_->leader() != 0 && e_->leader() != old; })) << e_->describe();
    settle();
    expect_members(change, rest);
    e_->propose(e_->leader(), "b");
    EXPECT_EQ(values(old), (Values{"a", "b"}));
    EXPECT_EQ(e_->peer(old).role(), Role::kObserving);
    EXPECT_FALSE(e_->peer(old).acknowledges());
    e_->pass(5000);
    EXPECT_NE(e_->leader(), old);
  }
}

TEST_F(ReconfigTest, an_observer_becomes_a_voter_and_an_observer_again) {
  start(3, 1);
  EXPECT_EQ(e_->peer(4).role(), Role::kObserving);
  const Zxid up = e_->reconfig(e_->leader(), {1, 2, 3, 4});
  expect_members(up, {1, 2, 3, 4});
  settle();
  EXPECT_EQ(e_->peer(4).role(), Role::kFollowing);
  EXPECT_TRUE(e_->peer(4).acknowledges());
  e_->crash(others(3, {e_->leader()})[0]);
  e_->propose(e_->leader(), "a");
  EXPECT_EQ(values(4), Values{"a"});
  e_->boot_all();
  settle();
  const Zxid down = e_->reconfig(e_->leader(), {1, 2, 3}, {4});
  expect_members(down, {1, 2, 3}, {4});
  settle();
  EXPECT_EQ(e_->peer(4).role(), Role::kObserving);
  EXPECT_FALSE(e_->peer(4).acknowledges());
  e_->propose(e_->leader(), "b");
  EXPECT_EQ(values(4), (Values{"a", "b"}));
}

TEST_F(ReconfigTest, a_leader_becomes_an_observer) {
  start(3);
  const std::uint32_t old = e_->leader();
  Numbers rest{1, 2, 3};
  rest.erase(old);
  const Zxid change = e_->reconfig(old, rest, {old});
  ASSERT_TRUE(e_->wait(2000, [&] { return e_->leader() != 0 && e_->leader() != old; })) << e_->describe();
  settle();
  expect_members(change, rest, {old});
  EXPECT_EQ(e_->peer(old).role(), Role::kObserving);
}

TEST_F(ReconfigTest, a_removed_server_comes_back_under_its_id_with_an_empty_disk) {
  start(3);
  const std::uint32_t leader = e_->leader(), gone = others(3, {leader})[0], stays = others(3, {leader})[1];
  e_->reconfig(leader, {leader, stays});
  e_->crash(gone);
  e_->propose(leader, "a");
  guest(gone, {leader, stays});
  EXPECT_EQ(values(gone), Values{"a"});
  EXPECT_FALSE(e_->peer(gone).acknowledges());
  const Zxid change = e_->reconfig(e_->leader(), {1, 2, 3});
  expect_members(change, {1, 2, 3});
  EXPECT_TRUE(e_->peer(gone).acknowledges());
  for (int round = 0; round < 2; ++round) {  // what it acknowledges counts, after a restart of all too
    e_->crash(stays);
    settle();
    e_->propose(e_->leader(), "b");
    EXPECT_EQ(values(gone).back(), "b");
    for (const std::uint32_t sid : {leader, gone}) e_->crash(sid);
    e_->boot_all();
    settle();
  }
  EXPECT_EQ(values(gone), (Values{"a", "b", "b"}));
}

// --- a majority of the old list and one of the new

struct Half {
  const char* which;
  std::uint32_t servers;  // that are there before; with a guest besides if `guest`
  bool guest;
  std::uint32_t removed;  // which follower of the leader: 0 none, 1 the first, ...
  Numbers alive;          // besides the leader: the first follower is 1, ..., the guest is 9
};

class HalfTest : public ReconfigTest, public ::testing::WithParamInterface<Half> {};

TEST_P(HalfTest, neither_list_commits_alone) {
  const Half& half = GetParam();
  start(half.servers);
  const std::uint32_t joiner = half.servers + 1;
  Numbers now;
  for (std::uint32_t sid = 1; sid <= half.servers; ++sid) now.insert(sid);
  if (half.guest) guest(joiner, now);
  const std::uint32_t leader = e_->leader();
  const auto followers = others(half.servers, {leader});
  Numbers next = now, alive{leader};
  if (half.guest) next.insert(joiner);
  if (half.removed != 0) next.erase(followers[half.removed - 1]);
  for (const std::uint32_t one : half.alive) alive.insert(one == 9 ? joiner : followers[one - 1]);
  const std::uint32_t last = half.guest ? joiner : half.servers;
  for (const std::uint32_t dead : others(last, alive)) e_->crash(dead);
  ASSERT_EQ(e_->leader(), leader);
  const Zxid change = e_->reconfig(leader, next);
  for (const std::uint32_t sid : alive) EXPECT_EQ(e_->peer(sid).membership().version, first_) << sid;
  EXPECT_FALSE(e_->peer(leader).pending_membership() == nullptr);
  EXPECT_LT(e_->peer(leader).last_committed(), change);
  expect_no_leader();
  EXPECT_LT(e_->peer(leader).last_committed(), change);
  // With everybody back it is completed: those who have it know more.
  e_->boot_all();
  settle();
  expect_members(change, next);
  e_->propose(e_->leader(), "a");
  for (const std::uint32_t sid : now) EXPECT_EQ(values(sid), Values{"a"}) << sid;
}

INSTANTIATE_TEST_SUITE_P(
    Lists, HalfTest,
    ::testing::Values(Half{"adding_a_third_with_a_majority_of_the_new_list_only", 2, true, 0, {9}},
                      Half{"adding_a_fourth_with_a_majority_of_the_old_list_only", 3, true, 0, {1}},
                      Half{"removing_of_four_with_a_majority_of_the_new_list_only", 4, false, 3, {1}},
                      Half{"removing_of_three_with_a_majority_of_the_old_list_only", 3, false, 1, {1}}),
    [](const auto& param) { return std::string(param.param.which); });

// --- the leader dies at each step

TEST_F(ReconfigTest, what_only_its_leader_logged_is_cut_off_with_its_list) {
  start(3);
  guest(4, {1, 2, 3});
  const std::uint32_t old = e_->leader();
  e_->isolate(old);
  const Zxid change = e_->reconfig(old, {1, 2, 3, 4});
  ASSERT_FALSE(e_->peer(old).pending_membership() == nullptr);
  EXPECT_EQ(e_->peer(old).pending_membership()->version, change);
  EXPECT_EQ(e_->peer(old).membership().version, first_);
  ASSERT_TRUE(e_->wait(3000, [&] { return e_->leader() != 0 && e_->leader() != old; }));
  e_->propose(e_->leader(), "b");
  e_->wait(2000, [&] { return e_->peer(old).role() == Role::kLooking; });
  e_->heal();
  settle();
  ASSERT_FALSE(e_->node(old).all<Discard>().empty());
  expect_members(first_, {1, 2, 3});
  EXPECT_EQ(values(old), Values{"b"});
  EXPECT_FALSE(e_->peer(4).acknowledges());
  // Another change goes through as if there had never been that one.
  const Zxid later = e_->reconfig(e_->leader(), {1, 2, 3, 4});
  expect_members(later, {1, 2, 3, 4});
}

TEST_F(ReconfigTest, a_pending_change_that_a_snapshot_replaces_is_void) {
  e_ = std::make_unique<Ensemble>(3);  // without a list in the log
  e_->boot_all();
  settle();
  const std::uint32_t old = e_->leader();
  e_->isolate(old);
  e_->reconfig(old, {1, 2, 3, 4});
  ASSERT_FALSE(e_->peer(old).pending_membership() == nullptr);
  ASSERT_TRUE(e_->wait(3000, [&] { return e_->leader() != 0 && e_->leader() != old; }));
  for (int i = 0; i < 5; ++i) e_->propose(e_->leader(), std::to_string(i));
  const Zxid last = e_->peer(e_->leader()).last_durable();
  for (const std::uint32_t sid : others(3, {old})) {
    e_->purge(sid, last);
    e_->crash(sid);
  }
  for (const std::uint32_t sid : others(3, {old})) e_->boot(sid);
  e_->wait(2000, [&] { return e_->peer(old).role() == Role::kLooking; });
  e_->heal();
  settle();
  ASSERT_EQ(e_->node(old).all<Reload>().size(), 1U);
  EXPECT_TRUE(e_->peer(old).pending_membership() == nullptr);
  e_->crash(others(3, {old})[0]);
  settle();
  e_->propose(e_->leader(), "two of three");
  EXPECT_EQ(values(old).back(), "two of three");
}

TEST_F(ReconfigTest, one_that_is_on_a_minority_is_completed_by_a_new_leader_who_has_it) {
  start(5);
  const std::uint32_t old = e_->leader();
  const auto rest = others(5, {old});
  const std::uint32_t heir = rest[0], removed = rest[3];
  for (const std::uint32_t sid : {rest[1], rest[2], rest[3]}) e_->cut(old, sid);
  Numbers next{1, 2, 3, 4, 5};
  next.erase(removed);
  const Zxid change = e_->reconfig(old, next);
  EXPECT_FALSE(e_->peer(heir).pending_membership() == nullptr);
  EXPECT_EQ(e_->peer(old).membership().version, first_);
  e_->crash(old);
  settle();
  expect_members(change, next);
  e_->heal();
  e_->boot(old);
  settle();
  expect_members(change, next);
}

TEST_F(ReconfigTest, one_that_is_on_a_minority_that_dies_is_lost) {
  start(5);
  const std::uint32_t old = e_->leader();
  const auto rest = others(5, {old});
  for (const std::uint32_t sid : {rest[1], rest[2], rest[3]}) e_->cut(old, sid);
  Numbers next{1, 2, 3, 4, 5};
  next.erase(rest[3]);
  e_->reconfig(old, next);
  e_->pause(rest[0]);  // or it is elected at once
  e_->crash(old);
  e_->crash(rest[0]);
  e_->go_on(rest[0]);
  settle();
  e_->propose(e_->leader(), "a");
  e_->heal();
  e_->boot_all();
  settle();
  expect_members(first_, {1, 2, 3, 4, 5});
  for (std::uint32_t sid = 1; sid <= 5; ++sid) EXPECT_EQ(values(sid), Values{"a"}) << sid;
}

TEST_F(ReconfigTest, one_that_a_majority_of_the_old_list_has_waits_for_one_of_the_new) {
  start(3);
  guest(4, {1, 2, 3});
  const std::uint32_t old = e_->leader(), has = others(3, {old})[0], lacks = others(3, {old})[1];
  e_->crash(4);
  e_->crash(lacks);
  const Zxid change = e_->reconfig(old, {1, 2, 3, 4});
  EXPECT_FALSE(e_->peer(has).pending_membership() == nullptr);
  e_->crash(old);
  e_->boot(lacks);
  expect_no_leader();  // two of the old three, and only two of the new four
  EXPECT_LT(e_->peer(has).last_committed(), change);
  e_->boot(4);
  settle();
  EXPECT_EQ(e_->leader(), has);
  expect_members(change, {1, 2, 3, 4});
}

TEST_F(ReconfigTest, one_that_was_committed_and_nobody_told_is_completed) {
  for (const bool removes_itself : {false, true}) {
    SCOPED_TRACE(removes_itself);
    start(3);
    guest(4, {1, 2, 3});
    const std::uint32_t old = e_->leader();
    Numbers next{1, 2, 3, 4};
    if (removes_itself) next = {others(3, {old})[0], others(3, {old})[1]};
    lose_commits();
    if (removes_itself) {  // its last words as well
      e_->lose = [old](std::uint32_t from, std::uint32_t, const Message& message) {
        return std::holds_alternative<Commit>(message) ||
               (from == old && (std::holds_alternative<Notification>(message) || std::holds_alternative<Bye>(message)));
      };
    }
    const Zxid change = e_->reconfig(old, next);
    EXPECT_EQ(e_->peer(old).membership().version, change);
    for (const std::uint32_t sid : others(3, removes_itself ? Numbers{1, 2, 3} : Numbers{old})) {
      EXPECT_EQ(e_->peer(sid).membership().version, first_) << sid << e_->describe();
    }
    e_->crash(old);
    e_->lose = nullptr;
    settle();
    expect_members(change, next);
    EXPECT_NE(e_->leader(), old);
  }
}

// Two servers, one removes itself: the other has the change in its log, needs both of the old list, and hears from the
// one that left that it is committed.
TEST_F(ReconfigTest, who_left_says_that_the_new_list_holds) {
  start(2);
  const std::uint32_t old = e_->leader(), rest = old == 1 ? 2 : 1;
  lose_commits();
  const Zxid change = e_->reconfig(old, {rest});
  ASSERT_TRUE(e_->wait(3000, [&] { return e_->leader() == rest; })) << e_->describe();
  settle();
  expect_members(change, {rest});
  e_->propose(rest, "a");
  EXPECT_EQ(values(old), Values{"a"});
}

// --- restarts

TEST_F(ReconfigTest, a_pending_change_is_known_after_a_restart) {
  start(3);
  guest(4, {1, 2, 3});
  const std::uint32_t leader = e_->leader(), has = others(3, {leader})[0], lacks = others(3, {leader})[1];
  e_->crash(4);
  e_->crash(lacks);
  const Zxid change = e_->reconfig(leader, {1, 2, 3, 4});
  e_->crash(leader);
  e_->crash(has);
  e_->boot(leader);
  e_->boot(has);
  ASSERT_FALSE(e_->peer(has).pending_membership() == nullptr);
  EXPECT_EQ(e_->peer(has).pending_membership()->version, change);
  EXPECT_EQ(e_->peer(has).membership().version, first_);
  expect_no_leader();  // two of four
  e_->boot(lacks);
  settle();
  expect_members(change, {1, 2, 3, 4});
  e_->boot(4);
  settle();
  EXPECT_TRUE(e_->peer(4).acknowledges());
}

TEST_F(ReconfigTest, the_list_is_known_after_a_restart_from_the_log_and_from_the_tree) {
  start(3);
  guest(4, {1, 2, 3});
  const Zxid change = e_->reconfig(e_->leader(), {1, 2, 3, 4});
  for (const bool purged : {false, true}) {
    SCOPED_TRACE(purged);
    e_->propose(e_->leader(), "a");
    const Zxid last = e_->peer(e_->leader()).last_committed();
    for (std::uint32_t sid = 1; sid <= 4; ++sid) e_->crash(sid);
    for (std::uint32_t sid = 1; sid <= 4 && purged; ++sid) e_->purge(sid, last);
    e_->boot(1);
    e_->boot(2);
    expect_no_leader();
    e_->boot(3);
    e_->boot(4);
    settle();
    expect_members(change, {1, 2, 3, 4});
  }
}

// --- joining

TEST_F(ReconfigTest, a_joiner_by_snapshot_gets_the_list_with_it) {
  start(3);
  const std::uint32_t gone = others(3, {e_->leader()})[0];
  Numbers rest{1, 2, 3};
  rest.erase(gone);
  const Zxid change = e_->reconfig(e_->leader(), rest);
  e_->crash(gone);
  for (int i = 0; i < 5; ++i) e_->propose(e_->leader(), std::to_string(i));
  const Zxid last = e_->peer(e_->leader()).last_committed();
  for (const std::uint32_t sid : rest) e_->purge(sid, last);
  e_->inject(e_->leader(), Resign{});  // which forgets what it has in memory
  settle();
  guest(4, {1, 2, 3});  // a file that is out of date
  ASSERT_EQ(e_->node(4).all<Reload>().size(), 1U);
  EXPECT_EQ(values(4).size(), 5U);
  expect_members(change, rest);
  EXPECT_FALSE(e_->peer(4).acknowledges());
  e_->crash(4);
  e_->boot(4);
  settle();
  expect_members(change, rest);
  rest.insert(4);
  const Zxid joined = e_->reconfig(e_->leader(), rest);
  expect_members(joined, rest);
  EXPECT_TRUE(e_->peer(4).acknowledges());
}

// A change and its commit arrive while the joiner is still synchronizing.
TEST_F(ReconfigTest, Zk2172_a_change_between_snapshot_and_uptodate) {
  for (const bool itself : {true, false}) {
    SCOPED_TRACE(itself);
    start(3, 1);
    for (int i = 0; i < 5; ++i) e_->propose(e_->leader(), std::to_string(i));
    const Zxid last = e_->peer(e_->leader()).last_committed();
    for (std::uint32_t sid = 1; sid <= 4; ++sid) e_->purge(sid, last);
    e_->inject(e_->leader(), Resign{});
    settle();
    e_->add(5, sids({1, 2, 3, 5}));
    e_->node(5).slow_disk = true;
    e_->boot(5);
    ASSERT_TRUE(e_->wait(2000, [&] {
      if (e_->node(5).unwritten.empty()) return false;
      if (e_->node(5).unwritten.back().install_snapshot) return true;
      e_->write(e_->node(5));  // its promise
      return false;
    })) << e_->describe();
    const Numbers next = itself ? Numbers{1, 2, 3, 5} : Numbers{1, 2, 3, 4};
    const Numbers observers = itself ? Numbers{4} : Numbers{};
    const Zxid change = e_->reconfig(e_->leader(), next, observers);
    e_->propose(e_->leader(), "a");
    EXPECT_EQ(values(e_->leader()).back(), "a") << "the others are a majority of both";
    EXPECT_FALSE(e_->peer(5).serving());
    e_->node(5).slow_disk = false;
    e_->run();
    settle();
    expect_members(change, next, observers);
    EXPECT_EQ(e_->peer(5).acknowledges(), itself);
    EXPECT_EQ(values(5).back(), "a");
  }
}

// Joiners that have each other in their files are a majority of nothing.
TEST_F(ReconfigTest, two_joiners_never_elect_themselves) {
  start(3);
  for (std::uint32_t sid = 1; sid <= 3; ++sid) e_->crash(sid);
  e_->add(4, sids({1, 2, 3, 4, 5}));
  e_->add(5, sids({1, 2, 3, 4, 5}));
  e_->boot(4);
  e_->boot(5);
  expect_no_leader();
  e_->boot(2);  // the three would be a majority of what the joiners' files say
  expect_no_leader();
  EXPECT_EQ(e_->node(4).disk.accepted, 0U);
  EXPECT_EQ(e_->node(5).disk.accepted, 0U);
  e_->boot(1);
  settle();
  e_->propose(e_->leader(), "a");
  EXPECT_EQ(values(4), Values{"a"});
  EXPECT_EQ(values(5), Values{"a"});
  EXPECT_FALSE(e_->peer(4).acknowledges() || e_->peer(5).acknowledges());
}

// --- order

TEST_F(ReconfigTest, what_is_behind_a_change_needs_both_lists_until_it_is_committed) {
  start(3);
  guest(4, {1, 2, 3});
  const std::uint32_t leader = e_->leader(), has = others(3, {leader})[0], lacks = others(3, {leader})[1];
  e_->node(4).slow_disk = true;
  e_->node(lacks).slow_disk = true;
  const Zxid change = e_->reconfig(leader, {1, 2, 3, 4});
  e_->propose(leader, "a");
  EXPECT_LT(e_->peer(has).last_committed(), change);
  EXPECT_EQ(values(has), Values{});
  e_->node(4).slow_disk = false;
  e_->run();
  EXPECT_EQ(values(has), Values{"a"});
  e_->node(lacks).slow_disk = false;
  e_->run();
  expect_members(change, {1, 2, 3, 4});
}

TEST_F(ReconfigTest, many_changes_one_after_another_with_writes_between) {
  start(3, 0, [](Config& config) { config.counter_max = 7; });
  guest(4, {1, 2, 3});
  guest(5, {1, 2, 3});
  int written = 0;
  const std::vector<Numbers> lists = {{1, 2, 3, 4}, {1, 2, 3, 4, 5}, {2, 3, 4, 5}, {3, 4, 5}, {4, 5}, {5},
                                      {1, 5},       {1, 2, 5},       {1, 2, 3, 5}, {1, 2, 3}};
  for (const Numbers& list : lists) {
    settle();
    const Zxid change = e_->reconfig(e_->leader(), list);
    settle();
    expect_members(change, list);
    e_->propose(e_->leader(), std::to_string(++written));
    settle();
  }
  e_->pass(1000);
  for (std::uint32_t sid = 1; sid <= 5; ++sid) EXPECT_EQ(values(sid).size(), lists.size()) << sid;
  for (const std::uint32_t sid : {4, 5}) EXPECT_FALSE(e_->peer(sid).acknowledges());
}

}  // namespace
}  // namespace coord::zab
