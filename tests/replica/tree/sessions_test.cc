#include "replica/tree/sessions.h"

#include <gtest/gtest.h>

#include <limits>

namespace coord::tree {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

TEST(ExpiryTrackerTest, an_unknown_session_cannot_be_renewed_or_removed) {
  ExpiryTracker tracker(2000);
  EXPECT_FALSE(tracker.touch(SessionId(1), 0));
  tracker.remove(SessionId(1));
  EXPECT_EQ(tracker.next_instant(), kNever);
  EXPECT_TRUE(tracker.expired(1'000'000).empty());
}

// client-protocol.md section 18 item 19.
TEST(ExpiryTrackerTest, dies_between_its_timeout_and_one_tick_more) {
  for (std::int64_t now = 0; now < 4000; now += 7) {
    ExpiryTracker tracker(2000);
    tracker.touch(SessionId(1), 4000, now);
    EXPECT_GT(tracker.next_instant(), now + 4000);
    EXPECT_LE(tracker.next_instant(), now + 6000);
    EXPECT_EQ(tracker.next_instant() % 2000, 0);
    EXPECT_TRUE(tracker.expired(tracker.next_instant() - 1).empty());
    EXPECT_EQ(tracker.expired(tracker.next_instant()), std::vector<SessionId>{SessionId(1)});
    EXPECT_EQ(tracker.size(), 0U);
  }
}

TEST(ExpiryTrackerTest, is_reported_once) {
  ExpiryTracker tracker(1000);
  tracker.touch(SessionId(2), 1000, 0);
  tracker.touch(SessionId(1), 1000, 10);
  const std::vector<SessionId> both{SessionId(1), SessionId(2)};
  EXPECT_EQ(tracker.expired(5000), both);
  EXPECT_TRUE(tracker.expired(9000).empty());
  EXPECT_FALSE(tracker.touch(SessionId(1), 9000));
}

TEST(ExpiryTrackerTest, renewing_postpones) {
  ExpiryTracker tracker(1000);
  tracker.touch(SessionId(1), 3000, 0);
  tracker.touch(SessionId(2), 3000, 0);
  EXPECT_TRUE(tracker.touch(SessionId(1), 3000));
  EXPECT_EQ(tracker.expired(4000), std::vector<SessionId>{SessionId(2)});
  EXPECT_EQ(tracker.next_instant(), 7000);
  tracker.touch(SessionId(1), 1000, 3000);  // a reconnect negotiates less
  EXPECT_EQ(tracker.next_instant(), 5000);
  tracker.remove(SessionId(1));
  EXPECT_EQ(tracker.next_instant(), kNever);
}

TEST(ExpiryTrackerTest, a_pause_of_ours_is_nobodys_fault) {
  ExpiryTracker tracker(1000);
  tracker.touch(SessionId(1), 3000, 0);
  tracker.extend_all(10'500);
  EXPECT_EQ(tracker.next_instant(), 15'000);
  EXPECT_TRUE(tracker.expired(14'999).empty());
  EXPECT_TRUE(tracker.touch(SessionId(1), 14'000));
  EXPECT_EQ(tracker.next_instant(), 18'000);
}

}  // namespace
}  // namespace coord::tree
