#include "replica/tree/watches.h"

#include <gtest/gtest.h>

namespace coord::tree {
namespace {

constexpr ConnId kA{1}, kB{2}, kC{3};
using Conns = std::vector<ConnId>;

struct WatchesTest : ::testing::Test {
  WatchesTest() {
    for (const ConnId conn : {kA, kB, kC}) watches.connection_opened(conn, {AuthId{"ip", std::to_string(conn.value)}});
  }
  Conns fire(WatchTable table, std::string_view path, const Conns& skip = {}) {
    Conns told;
    watches.fire(table, path, nullptr, skip, told);
    return told;
  }
  void arm(ConnId conn, std::string_view path, std::uint8_t mode = watch_mode::kStandard) {
    watches.arm(conn, WatchTable::kData, path, mode);
  }
  Watches watches;
};

TEST_F(WatchesTest, a_closed_connection_can_arm_nothing) {
  arm(ConnId(9), "/a");
  EXPECT_TRUE(watches.idle());
  EXPECT_EQ(fire(WatchTable::kData, "/a"), Conns());
}

TEST_F(WatchesTest, removing_what_is_not_there_says_so) {
  EXPECT_FALSE(watches.disarm(kA, WatchTable::kData, "/a", watch_mode::kAny));
  arm(kA, "/a");
  EXPECT_FALSE(watches.disarm(kA, WatchTable::kChild, "/a", watch_mode::kAny));
  EXPECT_FALSE(watches.disarm(kB, WatchTable::kData, "/a", watch_mode::kAny));
  EXPECT_FALSE(watches.disarm(kA, WatchTable::kData, "/a", watch_mode::kPersistent));
  EXPECT_TRUE(watches.disarm(kA, WatchTable::kData, "/a", watch_mode::kAny));
  EXPECT_FALSE(watches.disarm(kA, WatchTable::kData, "/a", watch_mode::kAny));
  EXPECT_EQ(watches.count(), 0U);
}

TEST_F(WatchesTest, one_shot_fires_once_and_for_each_connection) {
  arm(kB, "/a");
  arm(kA, "/a");
  arm(kA, "/a");
  EXPECT_EQ(watches.count(), 2U);
  EXPECT_EQ(fire(WatchTable::kData, "/a"), (Conns{kA, kB}));
  EXPECT_EQ(fire(WatchTable::kData, "/a"), Conns());
  EXPECT_TRUE(watches.idle());
}

TEST_F(WatchesTest, modes_coexist_and_only_the_standard_one_is_used_up) {
  arm(kA, "/a", watch_mode::kStandard);
  arm(kA, "/a", watch_mode::kPersistent);
  arm(kA, "/a", watch_mode::kRecursive);
  EXPECT_EQ(watches.count(), 3U);
  EXPECT_EQ(fire(WatchTable::kData, "/a"), Conns{kA});
  EXPECT_EQ(watches.count(), 2U);
  EXPECT_EQ(fire(WatchTable::kData, "/a"), Conns{kA});
  EXPECT_EQ(fire(WatchTable::kData, "/a/b/c"), Conns{kA});
  EXPECT_TRUE(watches.disarm(kA, WatchTable::kData, "/a", watch_mode::kRecursive));
  EXPECT_EQ(fire(WatchTable::kData, "/a/b"), Conns());
  EXPECT_EQ(fire(WatchTable::kData, "/a"), Conns{kA});
}

TEST_F(WatchesTest, recursive_ones_hear_of_all_below_once) {
  arm(kA, "/", watch_mode::kRecursive);
  arm(kA, "/a/b", watch_mode::kRecursive);
  arm(kA, "/a/b/c");
  EXPECT_EQ(fire(WatchTable::kData, "/a/b/c"), Conns{kA});
  EXPECT_EQ(fire(WatchTable::kData, "/"), Conns{kA});
  EXPECT_EQ(fire(WatchTable::kData, "/x"), Conns{kA});
  EXPECT_EQ(fire(WatchTable::kChild, "/a"), Conns());
}

TEST_F(WatchesTest, who_may_not_see_loses_the_one_shot_silently) {
  arm(kA, "/a");
  arm(kB, "/a");
  Conns told;
  watches.fire(
      WatchTable::kData, "/a", [](const std::vector<AuthId>& ids) { return ids[0].id == "2"; }, {}, told);
  EXPECT_EQ(told, Conns{kB});
  EXPECT_TRUE(watches.idle());
}

TEST_F(WatchesTest, the_skipped_are_used_up_too) {
  watches.arm(kA, WatchTable::kChild, "/a", watch_mode::kStandard);
  watches.arm(kB, WatchTable::kChild, "/a", watch_mode::kStandard);
  EXPECT_EQ(fire(WatchTable::kChild, "/a", {kA}), Conns{kB});
  EXPECT_TRUE(watches.idle());
}

TEST_F(WatchesTest, closing_a_connection_takes_all_its_watches) {
  for (int i = 0; i < 100; ++i) {
    arm(kA, "/n" + std::to_string(i), watch_mode::kStandard);
    arm(kA, "/n" + std::to_string(i), watch_mode::kRecursive);
    watches.arm(kA, WatchTable::kChild, "/n" + std::to_string(i), watch_mode::kPersistent);
    arm(kB, "/n" + std::to_string(i % 10));
  }
  watches.connection_closed(kA);
  EXPECT_EQ(watches.count(), 10U);
  EXPECT_EQ(fire(WatchTable::kData, "/n5/deep"), Conns());
  EXPECT_EQ(fire(WatchTable::kData, "/n5"), Conns{kB});
  watches.connection_closed(kB);
  EXPECT_TRUE(watches.idle());
}

}  // namespace
}  // namespace coord::tree
