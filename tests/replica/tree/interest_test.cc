#include "replica/tree/interest.h"

#include <gtest/gtest.h>

namespace coord::tree {
namespace {

using Conns = std::vector<ConnId>;
constexpr ConnId kA{1}, kB{2};

Conns holders(const Interest& interest, std::initializer_list<NodeId> nodes) {
  return interest.holders(nodes.begin(), nodes.size());
}

TEST(InterestTest, a_closed_connection_holds_nothing) {
  Interest interest(10);
  interest.hold(kA, NodeId(5));
  EXPECT_TRUE(interest.idle());
  interest.forget(kA, NodeId(5));
  interest.connection_closed(kA);
}

TEST(InterestTest, above_the_limit_all_is_dropped_and_said_once) {
  Interest interest(3);
  interest.connection_opened(kA);
  interest.connection_opened(kB);
  interest.hold(kB, NodeId(20));
  for (std::uint64_t id = 20; id < 23; ++id) interest.hold(kA, NodeId(id));
  interest.hold(kA, NodeId(22));  // again: no news
  EXPECT_FALSE(interest.overflow_pending());
  interest.hold(kA, NodeId(23));
  EXPECT_TRUE(interest.overflow_pending());
  EXPECT_EQ(holders(interest, {NodeId(20)}), Conns{kB});
  EXPECT_EQ(holders(interest, {NodeId(23)}), Conns{kA});
  EXPECT_EQ(interest.take_overflowed(), Conns{kA});
  EXPECT_FALSE(interest.overflow_pending());
  EXPECT_TRUE(interest.take_overflowed().empty());
}

TEST(InterestTest, each_holder_is_named_once) {
  Interest interest(10);
  interest.connection_opened(kA);
  interest.connection_opened(kB);
  interest.hold(kB, NodeId(2));
  interest.hold(kA, NodeId(1));
  interest.hold(kA, NodeId(2));
  EXPECT_EQ(holders(interest, {NodeId(1), NodeId(2)}), (Conns{kA, kB}));
  interest.forget(kA, NodeId(2));
  EXPECT_EQ(holders(interest, {NodeId(2)}), Conns{kB});
  interest.gone(NodeId(2));
  EXPECT_EQ(holders(interest, {NodeId(2)}), Conns());
  EXPECT_EQ(interest.held(), 1U);
  interest.connection_closed(kA);
  EXPECT_TRUE(interest.idle());
}

}  // namespace
}  // namespace coord::tree
