#include "fusefs/kernel/second_tries.h"

#include <gtest/gtest.h>

namespace coord::fs {
namespace {

TEST(SecondTriesTest, OnlyWhoWasAnsweredEstaleHasOne) {
  SecondTries tries;
  tries.found(1, {10, nullptr, -1});
  EXPECT_FALSE(tries.expected(1));
  EXPECT_FALSE(tries.has(1, 10));
  tries.expect(1);
  tries.found(1, {10, nullptr, -1});
  tries.found(2, {10, nullptr, -1});
  EXPECT_TRUE(tries.has(1, 10));
  EXPECT_FALSE(tries.has(2, 10));
}

TEST(SecondTriesTest, TheLastLookupCounts) {
  SecondTries tries;
  tries.expect(1);
  tries.found(1, {10, nullptr, -1});
  tries.found(1, {20, nullptr, -1});
  EXPECT_FALSE(tries.has(1, 10));
  EXPECT_TRUE(tries.has(1, 20));
}

TEST(SecondTriesTest, ItIsGoodForOneCall) {
  SecondTries tries;
  tries.expect(1);
  tries.found(1, {10, std::make_shared<const std::string>("link"), 5});
  const auto link = tries.take(1, 10, /*last=*/false);
  ASSERT_TRUE(link.has_value());
  EXPECT_EQ(*link->data, "link");
  EXPECT_FALSE(tries.take(1, 10, false).has_value());
  tries.found(1, {20, nullptr, -1});  // the walk goes on behind the link
  EXPECT_TRUE(tries.take(1, 20, true).has_value());
  tries.found(1, {20, nullptr, -1});
  EXPECT_FALSE(tries.has(1, 20));
}

TEST(SecondTriesTest, TheLastCallEndsItAlsoForAnotherInode) {
  SecondTries tries;
  tries.expect(1);
  tries.found(1, {10, nullptr, -1});
  EXPECT_FALSE(tries.take(1, 30, true).has_value());
  EXPECT_FALSE(tries.expected(1));
}

TEST(SecondTriesTest, ThreadsThatCannotBeToldApartHaveNone) {
  SecondTries tries;
  tries.expect(0);
  EXPECT_FALSE(tries.expected(0));
}

}  // namespace
}  // namespace coord::fs
