#include "fusefs/ops/seq_window.h"

#include <gtest/gtest.h>

namespace coord::fs {
namespace {

TEST(SeqWindow, FullWindowGivesNoNumber) {
  SeqWindow window(3);
  EXPECT_EQ(window.open(), 1);
  EXPECT_EQ(window.open(), 2);
  EXPECT_EQ(window.open(), 3);
  EXPECT_EQ(window.open(), 0);
  window.close(2);
  EXPECT_EQ(window.open(), 0) << "the oldest open number decides, not how many are open";
  window.close(1);
  EXPECT_EQ(window.open(), 4);
}

TEST(SeqWindow, AckedBelowIsTheLowestOpenNumber) {
  SeqWindow window(100);
  EXPECT_EQ(window.acked_below(), 1);
  window.open();
  window.open();
  window.open();
  EXPECT_EQ(window.acked_below(), 1);
  window.close(2);
  EXPECT_EQ(window.acked_below(), 1);
  window.close(1);
  EXPECT_EQ(window.acked_below(), 3);
  window.close(3);
  EXPECT_EQ(window.acked_below(), 4);
  EXPECT_EQ(window.outstanding(), 0U);
}

TEST(SeqWindow, NumbersAreNeverGivenTwice) {
  SeqWindow window(100);
  std::int64_t last = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t seq = window.open();
    EXPECT_GT(seq, last);
    last = seq;
    window.close(seq);
  }
}

TEST(SeqWindowDeathTest, ClosingTwiceIsOurBug) {
  SeqWindow window(100);
  const std::int64_t seq = window.open();
  window.close(seq);
  EXPECT_DEATH(window.close(seq), "");
}

}  // namespace
}  // namespace coord::fs
