#include "replica/peers/troubles.h"

#include <gtest/gtest.h>

namespace coord::peers {
namespace {

TEST(Troubles, LoggedOncePerCauseAndMinute) {
  Troubles troubles(15'000, 60'000);
  std::int64_t now = 5;
  auto noted = troubles.note(Sid(2), 1, "bad", now);
  EXPECT_TRUE(noted.log && noted.changed);
  for (; now < 60'000; now += 1'000) {
    noted = troubles.note(Sid(2), 1, "bad", now);
    EXPECT_FALSE(noted.log || noted.changed) << now;
  }
  noted = troubles.note(Sid(2), 1, "bad", 60'005);
  EXPECT_TRUE(noted.log);
  EXPECT_FALSE(noted.changed);
  EXPECT_TRUE(troubles.note(Sid(2), 2, "another", 60'006).log);
  EXPECT_TRUE(troubles.note(Sid(3), 1, "bad", 60'006).log);
  EXPECT_EQ(troubles.text(Sid(2)), "bad; another");
}

// The texts of strangers cannot flood the log.
TEST(Troubles, AnotherTextIsLoggedAtMostOnceASecond) {
  Troubles troubles(15'000, 60'000);
  int lines = 0;
  for (std::int64_t now = 0; now < 10'000; ++now) {
    if (troubles.note(Sid(2), 1, "text " + std::to_string(now), now).log) ++lines;
  }
  EXPECT_EQ(lines, 10);
}

TEST(Troubles, OverWhenItDoesNotHappenAgain) {
  Troubles troubles(15'000, 60'000);
  troubles.note(Sid(2), 1, "bad", 0);
  troubles.note(Sid(2), 2, "worse", 10'000);
  EXPECT_TRUE(troubles.expire(14'999).empty());
  EXPECT_EQ(troubles.expire(15'000), std::vector<Sid>{Sid(2)});
  EXPECT_EQ(troubles.text(Sid(2)), "worse");
  EXPECT_EQ(troubles.expire(25'000), std::vector<Sid>{Sid(2)});
  EXPECT_EQ(troubles.text(Sid(2)), "");
  EXPECT_FALSE(troubles.note(Sid(2), 1, "bad", 30'000).log);  // within the minute of its line
  EXPECT_EQ(troubles.text(Sid(2)), "bad");
  EXPECT_TRUE(troubles.present(Sid(2), 1));
  EXPECT_FALSE(troubles.present(Sid(2), 2));
  EXPECT_TRUE(troubles.clear(Sid(2), 1));
  EXPECT_FALSE(troubles.present(Sid(2), 1));
  EXPECT_FALSE(troubles.clear(Sid(2), 1));
  EXPECT_EQ(troubles.text(Sid(2)), "");
}

}  // namespace
}  // namespace coord::peers
