// Members that were away while the list changed, and what is left when they do not come back.
#include "tests/replica/zab/reconfig_fixture.h"

namespace coord::zab {
namespace {

using testing::Ensemble;
using testing::Numbers;
using testing::sids;
using testing::Values;

class AwayTest : public testing::ReconfigTest {
 protected:
  // While `away`, a follower of three, is away, the list becomes {away, 4, 5} in four steps. The last one.
  Zxid replace_all_but(std::uint32_t away) {
    const std::uint32_t first = e_->leader();
    e_->crash(away);
    guest(4, {1, 2, 3});
    e_->reconfig(first, {1, 2, 3, 4});
    guest(5, {1, 2, 3, 4});
    e_->reconfig(first, {1, 2, 3, 4, 5});
    e_->reconfig(first, {away, first, 4, 5});
    settle();
    const Zxid change = e_->reconfig(first, {away, 4, 5});
    settle();
    return change;
  }
};

TEST_F(AwayTest, who_was_away_over_several_changes_finds_the_leader) {
  for (const bool guests_stay : {true, false}) {
    SCOPED_TRACE(guests_stay);
    start(3);
    const std::uint32_t first = e_->leader();
    const std::uint32_t away = others(3, {first})[0], second = others(3, {first})[1];
    const Zxid change = replace_all_but(away);
    e_->propose(e_->leader(), "a");
    if (!guests_stay) {
      e_->crash(first);
      e_->crash(second);
    }
    e_->boot(away);
    settle();
    expect_members(change, {away, 4, 5});
    EXPECT_EQ(values(away), Values{"a"});
    EXPECT_TRUE(e_->peer(away).acknowledges());
    // And it counts for them.
    e_->crash(e_->leader());
    settle();
    e_->propose(e_->leader(), "b");
    EXPECT_EQ(values(away).back(), "b");
  }
}

// The same, and its members elect a leader only when it is there already.
TEST_F(AwayTest, who_was_away_finds_a_leader_that_is_elected_later) {
  start(3);
  const std::uint32_t away = others(3, {e_->leader()})[0];
  replace_all_but(away);
  for (const std::uint32_t sid : others(5, {away})) e_->crash(sid);
  e_->boot(away);
  e_->boot(4);
  e_->pass(3000);
  e_->boot(5);
  settle();
  e_->propose(e_->leader(), "a");
  EXPECT_EQ(values(away), Values{"a"});
}

// Without its vote there is no majority, and by the list that it knows the other one is no voter.
TEST_F(AwayTest, who_was_away_votes_for_one_it_never_heard_of) {
  start(3);
  const std::uint32_t away = others(3, {e_->leader()})[0];
  const Zxid change = replace_all_but(away);
  for (const std::uint32_t sid : others(5, {away})) e_->crash(sid);
  e_->boot(4);
  e_->boot(away);
  settle();
  EXPECT_EQ(e_->leader(), 4U);
  expect_members(change, {away, 4, 5});
  e_->propose(4, "a");
  EXPECT_EQ(values(away), Values{"a"});
}

TEST_F(AwayTest, an_observer_that_was_promoted_while_it_was_away_votes) {
  start(3, 1);
  e_->crash(4);
  e_->reconfig(e_->leader(), {1, 2, 3, 4});
  const std::uint32_t last = others(3, {e_->leader()})[0];
  Numbers next{4, e_->leader()};
  for (const std::uint32_t sid : others(3, {e_->leader(), last})) next.insert(sid);
  const Zxid change = e_->reconfig(e_->leader(), next);
  next.erase(4);
  const std::uint32_t stays = *next.begin();
  for (std::uint32_t sid = 1; sid <= 3; ++sid) e_->crash(sid);
  e_->boot(4);
  e_->boot(stays);  // two of three, and the observer does not know that it is one of them
  settle();
  next.insert(4);
  expect_members(change, next);
  EXPECT_TRUE(e_->peer(4).acknowledges());
}

TEST_F(AwayTest, who_was_removed_while_it_was_away_is_a_guest_when_it_returns) {
  start(5);
  const std::uint32_t gone = others(5, {e_->leader()})[0];
  e_->crash(gone);
  Numbers rest{1, 2, 3, 4, 5};
  rest.erase(gone);
  const Zxid change = e_->reconfig(e_->leader(), rest);
  const std::uint32_t leader = e_->leader(), epoch = e_->peer(leader).epoch();
  e_->boot(gone);
  settle();
  expect_members(change, rest);
  EXPECT_FALSE(e_->peer(gone).acknowledges());
  e_->pass(5000);
  EXPECT_EQ(e_->leader(), leader) << "it disturbs nobody";
  EXPECT_EQ(e_->peer(leader).epoch(), epoch);
}

// The leader hears a majority of the old list, and none of the new: it must not hang on to its office.
TEST_F(AwayTest, Zk1699_without_a_majority_of_the_new_list_the_leader_gives_up) {
  for (const bool adds : {false, true}) {
    SCOPED_TRACE(adds);
    start(3);
    if (adds) guest(4, {1, 2, 3});
    const std::uint32_t leader = e_->leader(), near = others(3, {leader})[0], far = others(3, {leader})[1];
    for (const std::uint32_t sid : {leader, near, far}) e_->node(sid).slow_disk = true;
    const Numbers next = adds ? Numbers{1, 2, 3, 4} : Numbers{leader, far};
    const Zxid change = e_->reconfig(leader, next);
    EXPECT_EQ(e_->leader(), leader);
    e_->crash(far);  // the majority of the new list is gone in the middle of it
    if (adds) e_->crash(4);
    for (const std::uint32_t sid : {leader, near, far}) e_->node(sid).slow_disk = false;
    e_->run();
    EXPECT_LT(e_->peer(leader).last_committed(), change);
    ASSERT_TRUE(e_->wait(3000, [&] { return e_->leader() == 0; })) << e_->describe();
    expect_no_leader(2000);
    e_->boot(far);
    settle();
    expect_members(change, next);
  }
}

}  // namespace
}  // namespace coord::zab
