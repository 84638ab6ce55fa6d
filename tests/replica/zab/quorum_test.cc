#include "replica/zab/quorum.h"

#include <gtest/gtest.h>

#include <random>

namespace coord::zab {
namespace {

std::set<Sid> sids(std::initializer_list<std::uint32_t> values) {
  std::set<Sid> set;
  for (const auto v : values) set.insert(Sid{v});
  return set;
}

TEST(QuorumTest, nobody_is_no_quorum_even_of_nobody) {
  EXPECT_FALSE(Quorum{}.is_quorum({}));
  EXPECT_FALSE(Quorum{}.is_quorum(sids({1})));
  EXPECT_FALSE(Quorum{sids({1})}.is_quorum({}));
}

TEST(QuorumTest, one_voter_is_its_own_quorum) { EXPECT_TRUE(Quorum{sids({7})}.is_quorum(sids({7}))); }

TEST(QuorumTest, half_is_no_quorum) {
  const Quorum four{sids({1, 2, 3, 4})};
  EXPECT_FALSE(four.is_quorum(sids({1, 2})));
  EXPECT_TRUE(four.is_quorum(sids({1, 2, 4})));
}

TEST(QuorumTest, strangers_do_not_count) {
  const Quorum three{sids({1, 2, 3})};
  EXPECT_FALSE(three.is_quorum(sids({1, 8, 9, 10})));
  EXPECT_TRUE(three.is_quorum(sids({1, 3, 8})));
}

TEST(QuorumTest, two_lists_must_both_agree) {
  const Quorum grows{sids({1, 2}), sids({1, 2, 3})};
  EXPECT_FALSE(grows.is_quorum(sids({1, 3}))) << "of the new list only";
  EXPECT_TRUE(grows.is_quorum(sids({1, 2}))) << "a majority of each";
  const Quorum further{sids({1, 2, 3}), sids({1, 2, 3, 4})};
  EXPECT_FALSE(further.is_quorum(sids({1, 2}))) << "of the old list only";
  EXPECT_FALSE(further.is_quorum(sids({1, 4})));
  EXPECT_TRUE(further.is_quorum(sids({1, 2, 4})));
  const Quorum shrinks{sids({1, 2, 3}), sids({1, 2})};
  EXPECT_FALSE(shrinks.is_quorum(sids({1, 3}))) << "of the old list only";
  EXPECT_TRUE(shrinks.is_quorum(sids({1, 2})));
  const Quorum back{sids({1, 2, 3, 4}), sids({1, 2, 3})};
  EXPECT_FALSE(back.is_quorum(sids({1, 2}))) << "of the new list only";
  EXPECT_FALSE(back.is_quorum({}));
}

TEST(QuorumTest, a_voter_of_either_list_is_a_voter) {
  const Quorum both{sids({1, 2}), sids({2, 3})};
  EXPECT_EQ(both.voters(), sids({1, 2, 3}));
  EXPECT_TRUE(both.is_voter(Sid{1}) && both.is_voter(Sid{3}));
  EXPECT_FALSE(both.is_voter(Sid{4}));
  EXPECT_FALSE((Quorum{sids({1}), {}}.is_quorum(sids({1})))) << "of nobody there is no majority";
}

TEST(AcksTest, position_never_goes_back) {
  const Quorum one{sids({1})};
  Acks acks;
  acks.acknowledge(Sid{1}, Zxid{2, 5});
  acks.acknowledge(Sid{1}, Zxid{2, 3});
  EXPECT_EQ(acks.committed(one), (Zxid{2, 5}));
  acks.clear();
  EXPECT_EQ(acks.committed(one), Zxid{});
}

TEST(AcksTest, nothing_is_committed_by_a_minority_or_by_strangers) {
  const Quorum three{sids({1, 2, 3})};
  Acks acks;
  EXPECT_EQ(acks.committed(three), Zxid{});
  EXPECT_EQ(acks.committed(Quorum{}), Zxid{});
  acks.acknowledge(Sid{1}, Zxid{1, 9});
  acks.acknowledge(Sid{4}, Zxid{1, 9});
  acks.acknowledge(Sid{5}, Zxid{1, 9});
  EXPECT_EQ(acks.committed(three), Zxid{});
  acks.acknowledge(Sid{3}, Zxid{1, 4});
  EXPECT_EQ(acks.committed(three), (Zxid{1, 4}));
}

// Against the definition: the largest z such that those at or above it are a quorum.
TEST(AcksTest, agrees_with_the_definition_for_all_sizes) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::set<Sid> voters;
    Acks acks;
    std::map<Sid, Zxid> positions;
    std::set<Sid> others;
    const auto size = static_cast<std::uint32_t>(1 + random() % 7);
    for (std::uint32_t sid = 1; sid <= 9; ++sid) {
      if (sid <= size) voters.insert(Sid{sid});
      if (random() % 2 == 0) others.insert(Sid{sid});
      if (random() % 4 == 0) continue;
      positions[Sid{sid}] = Zxid{1, static_cast<std::uint32_t>(random() % 6)};
      acks.acknowledge(Sid{sid}, positions[Sid{sid}]);
    }
    const Quorum quorum = round % 2 == 0 ? Quorum{voters} : Quorum{voters, others};
    Zxid expected;
    for (const auto& candidate : positions) {
      std::set<Sid> there;
      for (const auto& [sid, position] : positions) {
        if (position >= candidate.second) there.insert(sid);
      }
      if (quorum.is_quorum(there)) expected = std::max(expected, candidate.second);
    }
    ASSERT_EQ(acks.committed(quorum), expected) << "round " << round;
  }
}

}  // namespace
}  // namespace coord::zab
