#include "tests/history/checker.h"

#include <gtest/gtest.h>

namespace coord::history {
namespace {

TEST(Checker, an_empty_history_is_good) { EXPECT_EQ(check(History{}).outcome, Outcome::kOk); }

}  // namespace
}  // namespace coord::history
