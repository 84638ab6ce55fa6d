#include "tests/sim/small_scope.h"

#include <gtest/gtest.h>

namespace coord::sim {
namespace {

TEST(SmallScope, One_fault_everywhere) {
  SmallScope scope;
  scope.faults = 1;
  const SmallResult result = explore(scope);
  EXPECT_EQ(result.violation, "");
  EXPECT_GT(result.runs, 100u);
}

TEST(SmallScope, Faults_are_spelled_and_parsed) {
  EXPECT_EQ(spell(parse_placed("12:1,30:2")), "12:1,30:2");
  EXPECT_TRUE(parse_placed("none").empty());
}

}  // namespace
}  // namespace coord::sim
