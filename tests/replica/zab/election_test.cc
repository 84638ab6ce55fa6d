// Fast leader election of one server whose peers are played by the test.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "replica/zab/invariants.h"
#include "replica/zab/peer.h"

namespace coord::zab {
namespace {

// Server 2 of three (or more) with the log (2:5) of epoch 2.
class ElectionTest : public ::testing::Test {
 protected:
  void start(std::uint32_t voters = 3, bool observer = false) {
    Config config;
    config.self = Sid{observer ? 9U : 2U};
    config.observer = observer;
    std::set<Sid> sids;
    for (std::uint32_t sid = 1; sid <= voters; ++sid) sids.insert(Sid{sid});
    config.voters = Quorum{sids};
    if (observer) config.observers = {Sid{9}};
    DurableState durable;
    durable.accepted_epoch = 3;
    durable.current_epoch = 2;
    durable.log.epoch_ends = {Zxid{2, 5}};
    peer_ = std::make_unique<Peer>(config, durable);
    step(Start{now_});
  }
  void step(const Event& event) {
    const Observation before = observe(*peer_);
    Actions out;
    peer_->step(event, out);
    ASSERT_EQ(broken_step(before, event, out, observe(*peer_)), std::nullopt);
    for (Action& action : out) {
      if (auto* persist = std::get_if<Persist>(&action)) persisted_ = persist->id;
      if (auto* close = std::get_if<CloseLink>(&action)) closed_.push_back(close->link);
      const auto* send = std::get_if<Send>(&action);
      if (send == nullptr) continue;
      if (const auto* n = std::get_if<Notification>(&send->message)) {
        told_[Sid{static_cast<std::uint32_t>(send->link.value)}] = *n;
        ++tellings_;
      }
    }
  }
  void link(std::uint32_t sid) { step(LinkUp{LinkId{sid}, Channel::kElection, Sid{sid}, false}); }
  void unlink(std::uint32_t sid) { step(LinkDown{LinkId{sid}}); }
  void hear(std::uint32_t from, Role state, std::uint64_t round, Vote vote, std::uint32_t accepted = 0,
            bool wants = false) {
    step(Received{LinkId{from}, Notification{state, round, vote, accepted, wants, {}}});
  }
  void pass(std::int64_t ms) {
    for (std::int64_t i = 0; i < ms; i += 20) step(Tick{now_ += 20});
  }
  static Vote vote(std::uint32_t leader, std::uint32_t epoch, Zxid zxid) { return {Sid{leader}, zxid, epoch}; }
  std::uint32_t votes_for() { return told_[Sid{1}].vote.leader.value; }
  bool follows(std::uint32_t leader) {
    return (peer_->role() == Role::kFollowing || peer_->role() == Role::kObserving) && peer_->leader() == Sid{leader};
  }

  std::unique_ptr<Peer> peer_;
  std::int64_t now_ = 0;
  std::map<Sid, Notification> told_;
  int tellings_ = 0;
  std::vector<LinkId> closed_;
  std::uint64_t persisted_ = 0;
};

TEST_F(ElectionTest, a_vote_is_larger_by_epoch_then_zxid_then_server) {
  const struct {
    Vote vote;
    std::uint32_t expected;
  } table[] = {
      {vote(1, 2, Zxid{2, 5}), 2},  // equal but for the server
      {vote(3, 2, Zxid{2, 5}), 3},
      {vote(1, 2, Zxid{2, 6}), 1},
      {vote(3, 2, Zxid{2, 4}), 2},
      {vote(1, 3, Zxid{2, 1}), 1},  // the adopted epoch before the log (ZOOKEEPER-335)
      {vote(3, 1, Zxid{2, 9}), 2},
      {vote(0, 9, Zxid{9, 9}), 2},  // nobody
      {vote(7, 9, Zxid{9, 9}), 2},  // no voter
  };
  for (const auto& row : table) {
    start(5);
    for (const std::uint32_t sid : {1, 3, 4, 5}) link(sid);
    hear(4, Role::kLooking, peer_->round().value(), row.vote);
    EXPECT_EQ(votes_for(), row.expected) << row.vote.leader.value << " " << row.vote.epoch << " "
                                         << to_string(row.vote.zxid);
  }
}

TEST_F(ElectionTest, without_a_quorum_of_links_nobody_proposes_itself) {
  start(5);
  link(1);
  EXPECT_EQ(votes_for(), 0U);
  link(3);
  EXPECT_EQ(votes_for(), 2U);
  unlink(3);
  EXPECT_EQ(votes_for(), 0U);
}

TEST_F(ElectionTest, a_later_round_is_joined_and_an_earlier_one_only_answered) {
  start();
  link(1);
  link(3);
  hear(3, Role::kLooking, 7, vote(1, 1, Zxid{1, 1}));
  EXPECT_EQ(peer_->round(), 7U);
  EXPECT_EQ(told_[Sid{1}].round, 7U);
  EXPECT_EQ(votes_for(), 2U);
  tellings_ = 0;
  hear(1, Role::kLooking, 6, vote(1, 9, Zxid{9, 9}));
  EXPECT_EQ(tellings_, 1);
  EXPECT_EQ(votes_for(), 2U);
  EXPECT_EQ(peer_->phase(), Phase::kElection);
}

TEST_F(ElectionTest, it_ends_at_once_when_all_that_are_reached_agree) {
  start();
  link(1);
  hear(1, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}));
  EXPECT_EQ(peer_->role(), Role::kLeading);
}

TEST_F(ElectionTest, it_waits_a_little_for_a_better_vote_when_they_do_not) {
  start();
  link(1);
  link(3);
  hear(1, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}));
  EXPECT_EQ(peer_->role(), Role::kLooking) << "3 is there and has not voted";
  hear(3, Role::kLooking, 1, vote(3, 2, Zxid{2, 9}));
  EXPECT_EQ(votes_for(), 3U);
  EXPECT_EQ(peer_->role(), Role::kLooking) << "1 has not followed yet";
  pass(40);
  EXPECT_TRUE(follows(3)) << "2 and 3 are a quorum";
}

TEST_F(ElectionTest, a_silent_voter_is_waited_for_no_longer_than_that) {
  start();
  link(1);
  link(3);
  hear(1, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}));
  pass(40);
  EXPECT_EQ(peer_->role(), Role::kLeading);
}

TEST_F(ElectionTest, a_leader_without_a_link_is_not_voted_for) {
  start(5);
  link(1);
  link(3);
  hear(1, Role::kLooking, 1, vote(5, 9, Zxid{9, 1}));
  EXPECT_EQ(votes_for(), 2U);
  link(5);
  EXPECT_EQ(votes_for(), 5U);
  unlink(5);
  EXPECT_EQ(votes_for(), 2U);
  EXPECT_EQ(peer_->round(), 2U) << "those who voted for the one that went are asked again";
}

TEST_F(ElectionTest, a_dead_leader_is_not_elected_again_by_those_who_have_not_noticed) {
  start(5);
  for (const std::uint32_t sid : {1, 3, 4, 5}) link(sid);
  for (const std::uint32_t sid : {1, 3, 4}) hear(sid, Role::kFollowing, 4, vote(5, 6, {}));
  pass(1000);
  EXPECT_EQ(peer_->role(), Role::kLooking);
  hear(5, Role::kLeading, 4, vote(5, 6, {}));
  EXPECT_TRUE(follows(5));
}

// ZOOKEEPER-1514, 1732, 1805: rounds and zxids of members differ; and the own round never goes back.
TEST_F(ElectionTest, a_live_leader_is_joined_whatever_the_rounds_and_none_goes_back) {
  start(5);
  for (const std::uint32_t sid : {1, 3, 4, 5}) link(sid);
  hear(4, Role::kLooking, 20, vote(4, 1, {}));
  hear(1, Role::kFollowing, 3, vote(3, 6, Zxid{1, 1}));
  hear(3, Role::kLeading, 9, vote(3, 6, Zxid{4, 1}));
  EXPECT_TRUE(follows(3)) << "the two and the joiner are three of five";
  EXPECT_EQ(peer_->round(), 20U);
}

TEST_F(ElectionTest, members_that_name_different_epochs_of_a_leader_are_no_quorum) {
  start(5);
  for (const std::uint32_t sid : {1, 3, 4, 5}) link(sid);
  hear(1, Role::kFollowing, 3, vote(3, 5, {}));
  hear(3, Role::kLeading, 3, vote(3, 6, {}));
  pass(1000);
  EXPECT_EQ(peer_->role(), Role::kLooking);
}

TEST_F(ElectionTest, an_observer_is_not_part_of_a_quorum_and_follows_a_live_leader) {
  start(3, true);
  for (const std::uint32_t sid : {1, 2, 3}) link(sid);
  hear(3, Role::kLeading, 3, vote(3, 6, {}));
  EXPECT_EQ(peer_->role(), Role::kLooking);
  hear(1, Role::kLooking, 3, vote(3, 6, {}));
  pass(1000);
  EXPECT_EQ(peer_->role(), Role::kLooking);
  hear(1, Role::kFollowing, 3, vote(3, 6, {}));
  EXPECT_TRUE(follows(3));
}

TEST_F(ElectionTest, absurd_notifications_are_dropped) {
  start();
  link(1);
  link(3);
  hear(1, Role::kLooking, 1ULL << 63, vote(1, 9, Zxid{9, 1}));
  hear(1, Role::kLooking, 1, vote(1, 1U << 31, Zxid{9, 1}));
  hear(1, Role::kLooking, 1, vote(1, 9, Zxid{9, 1}), 0xffffffff);
  EXPECT_EQ(peer_->round(), 1U);
  EXPECT_EQ(votes_for(), 2U);
}

TEST_F(ElectionTest, the_new_epoch_is_above_every_promise_it_has_heard_of) {
  start();
  link(1);
  link(3);
  hear(3, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}), 41);
  hear(1, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}), 17);
  ASSERT_EQ(peer_->role(), Role::kLeading);
  step(LinkUp{LinkId{101}, Channel::kLearner, Sid{1}, false});
  step(Received{LinkId{101}, FollowerInfo{true, 17, {}, "d", false, false}});
  EXPECT_EQ(peer_->epoch(), 42U);
}

// ZOOKEEPER-3109.
TEST_F(ElectionTest, a_nominee_whose_voters_look_again_gives_up_at_once) {
  start();
  link(1);
  hear(1, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}));
  ASSERT_EQ(peer_->role(), Role::kLeading);
  hear(1, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}));
  EXPECT_EQ(peer_->role(), Role::kLeading) << "the same vote again is none";
  hear(1, Role::kLooking, 2, vote(1, 1, Zxid{1, 1}));
  EXPECT_EQ(peer_->role(), Role::kLooking);
}

TEST_F(ElectionTest, a_nominee_to_whom_nobody_comes_gives_up) {
  start();
  link(1);
  hear(1, Role::kLooking, 1, vote(2, 2, Zxid{2, 5}));
  ASSERT_EQ(peer_->role(), Role::kLeading);
  pass(2100);
  EXPECT_EQ(peer_->role(), Role::kLooking);
  EXPECT_EQ(peer_->accepted_epoch(), 3U) << "no epoch was minted";
}

TEST_F(ElectionTest, a_link_on_which_nothing_comes_back_is_closed) {
  start();
  link(1);
  link(3);
  hear(1, Role::kLooking, 1, {});
  pass(3000);
  EXPECT_EQ(closed_, std::vector<LinkId>{LinkId{3}});
}

TEST_F(ElectionTest, notifications_are_sent_again_ever_more_seldom) {
  start();
  link(1);
  link(3);
  hear(1, Role::kLooking, 1, {});
  hear(3, Role::kLooking, 1, {});
  tellings_ = 0;
  pass(1000);
  const int first = tellings_;
  EXPECT_GE(first, 4);
  tellings_ = 0;
  pass(10'000);
  EXPECT_LE(tellings_, 14);
  EXPECT_GE(tellings_, 6);
}

}  // namespace
}  // namespace coord::zab
