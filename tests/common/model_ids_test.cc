#include <gtest/gtest.h>

#include "common/model/ids.h"

namespace coord {
namespace {

TEST(IdsTest, an_age_that_cannot_be_said_is_the_end_of_the_range) {
  EXPECT_EQ(age_ms(10, 3), 7);
  EXPECT_EQ(age_ms(3, 10), -7);
  EXPECT_EQ(age_ms(1, INT64_MIN), INT64_MAX);
  EXPECT_EQ(age_ms(-2, INT64_MAX), INT64_MIN);
  EXPECT_EQ(age_ms(-1, INT64_MAX), INT64_MIN);
}

}  // namespace
}  // namespace coord
