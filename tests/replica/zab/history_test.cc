#include "replica/zab/history.h"

#include <gtest/gtest.h>

#include <random>

#include "replica/zab/sync_plan.h"

namespace coord::zab {
namespace {

Zxid z(std::uint32_t epoch, std::uint32_t counter) { return Zxid{epoch, counter}; }

TEST(HistoryTest, only_the_next_counter_or_a_later_epochs_first_follows) {
  EXPECT_TRUE(follows(Zxid{}, z(1, 1)));
  EXPECT_TRUE(follows(z(1, 1), z(1, 2)));
  EXPECT_TRUE(follows(z(1, 7), z(4, 1)));
  EXPECT_FALSE(follows(z(1, 1), z(1, 1)));
  EXPECT_FALSE(follows(z(1, 1), z(1, 3)));
  EXPECT_FALSE(follows(z(1, 1), z(2, 2)));
  EXPECT_FALSE(follows(z(2, 1), z(1, 2)));
  EXPECT_FALSE(follows(z(1, 0xffffffff), z(2, 0)));
}

TEST(HistoryTest, points_of_a_log_that_was_purged_inside_an_epoch) {
  const LogShape log{z(2, 5), {z(2, 9), z(4, 3)}};
  EXPECT_TRUE(well_formed(log));
  EXPECT_TRUE(log.has_point(z(2, 5)));
  EXPECT_TRUE(log.has_point(z(2, 6)));
  EXPECT_TRUE(log.has_point(z(4, 1)));
  EXPECT_TRUE(log.has_point(z(4, 3)));
  for (const Zxid no : {z(2, 4), z(2, 10), z(3, 1), z(4, 0), z(4, 4), z(5, 1), Zxid{}}) {
    EXPECT_FALSE(log.has_point(no)) << to_string(no);
  }
  EXPECT_EQ(point_before(log, z(2, 6)), z(2, 5));
  EXPECT_EQ(point_before(log, z(4, 1)), z(2, 9));
  EXPECT_EQ(entries_above(log, z(2, 5)), 7U);
  EXPECT_EQ(entries_above(log, z(2, 9)), 3U);
  EXPECT_EQ(entries_above(log, z(4, 3)), 0U);
}

TEST(HistoryTest, a_shape_that_contradicts_itself_is_seen) {
  EXPECT_TRUE(well_formed({}));
  EXPECT_TRUE(well_formed({z(3, 0), {z(3, 1)}}));
  EXPECT_FALSE(well_formed({z(2, 5), {z(2, 5)}}));
  EXPECT_FALSE(well_formed({z(2, 5), {z(1, 9)}}));
  EXPECT_FALSE(well_formed({{}, {z(2, 1), z(2, 3)}}));
  EXPECT_FALSE(well_formed({{}, {z(2, 0)}}));
  EXPECT_FALSE(well_formed({{}, {z(3, 1), z(2, 1)}}));
}

TEST(HistoryTest, cutting_inside_an_epoch_at_its_end_and_at_the_floor) {
  LogShape log{z(1, 2), {z(1, 4), z(3, 5)}};
  log.truncate_after(z(3, 2));
  EXPECT_EQ(log, (LogShape{z(1, 2), {z(1, 4), z(3, 2)}}));
  log.truncate_after(z(1, 4));
  EXPECT_EQ(log, (LogShape{z(1, 2), {z(1, 4)}}));
  log.truncate_after(z(1, 2));
  EXPECT_EQ(log, (LogShape{z(1, 2), {}}));
  log.append(z(1, 3));
  log.append(z(7, 1));
  EXPECT_EQ(log.last(), z(7, 1));
}

// Against the definition, on real histories: random branches of one tree of entries with random floors.
TEST(HistoryTest, common_point_agrees_with_the_definition) {
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    std::vector<Zxid> trunk;
    std::uint32_t epoch = 1;
    const auto grow = [&](std::vector<Zxid>& log, std::uint32_t min_epoch) {
      for (auto n = random() % 6; n > 0; --n) {
        const bool next_epoch = log.empty() || random() % 3 == 0 || log.back().epoch() < min_epoch;
        if (next_epoch) epoch = std::max(epoch, min_epoch) + 1;
        const Zxid last = log.empty() ? Zxid{} : log.back();
        log.push_back(next_epoch ? Zxid{epoch, 1} : Zxid{last.epoch(), last.counter() + 1});
      }
    };
    grow(trunk, 0);
    std::vector<Zxid> a = trunk, b = trunk;
    // Only one of the two goes on in the trunk's last epoch, as only one leader has it.
    grow(a, 0);
    ++epoch;
    grow(b, epoch);
    const auto shape = [&](const std::vector<Zxid>& log, std::size_t purged) {
      LogShape result;
      if (purged > 0) result.floor = log[purged - 1];
      for (std::size_t i = purged; i < log.size(); ++i) result.append(log[i]);
      return result;
    };
    const LogShape left = shape(a, random() % (a.size() + 1)), right = shape(b, random() % (b.size() + 1));
    std::optional<Zxid> expected;
    a.push_back(Zxid{});
    for (const Zxid zxid : a) {
      if (left.has_point(zxid) && right.has_point(zxid) && (!expected || zxid > *expected)) expected = zxid;
    }
    ASSERT_EQ(common_point(left, right), expected) << "round " << round;
    ASSERT_EQ(common_point(right, left), expected) << "round " << round;
  }
}

constexpr std::size_t kMany = 1 << 30;

TEST(SyncPlanTest, chooses_by_membership_of_the_common_point) {
  const LogShape leader{z(1, 2), {z(1, 4), z(3, 5)}};
  const auto plan = [&](const LogShape& learner, Zxid applied) {
    return plan_sync(leader, learner, applied, leader.last(), 100, kMany);
  };
  // Equal, behind, surplus of a minority in the same epoch, surplus in an epoch that the leader never saw (1154).
  EXPECT_EQ(plan(leader, z(3, 1)).point, z(3, 5));
  EXPECT_EQ(plan({{}, {z(1, 3)}}, {}).point, z(1, 3));
  EXPECT_EQ(plan({{}, {z(1, 4), z(3, 9)}}, z(3, 2)).point, z(3, 5));
  EXPECT_EQ(plan({{}, {z(1, 4), z(2, 7)}}, z(1, 4)).point, z(1, 4));
  EXPECT_EQ(plan({{}, {z(1, 4), z(2, 7)}}, z(1, 4)).kind, SyncKind::kDiff);
  // The leader has purged what it would need.
  EXPECT_EQ(plan({{}, {z(1, 1)}}, {}).kind, SyncKind::kSnapshot);
  EXPECT_EQ(plan({}, {}).kind, SyncKind::kSnapshot);
  // It applied what the leader never had.
  EXPECT_EQ(plan({{}, {z(1, 4), z(2, 7)}}, z(2, 1)).kind, SyncKind::kDiverged);
  EXPECT_EQ(plan({z(3, 6), {}}, z(3, 6)).kind, SyncKind::kDiverged);
}

TEST(SyncPlanTest, a_diff_that_is_too_long_is_a_snapshot) {
  const LogShape leader{{}, {z(1, 100)}};
  EXPECT_EQ(plan_sync(leader, {}, {}, z(1, 99), 100, 10'000).kind, SyncKind::kDiff);
  EXPECT_EQ(plan_sync(leader, {}, {}, z(1, 99), 100, 9'999).kind, SyncKind::kSnapshot);
  EXPECT_EQ(plan_sync(leader, {}, {}, {}, 100, 9'999).kind, SyncKind::kDiff) << "an empty tree is no help";
  EXPECT_EQ(plan_sync(leader, {{}, {z(1, 50)}}, {}, z(1, 99), 100, 9'999).kind, SyncKind::kDiff);
}

}  // namespace
}  // namespace coord::zab
