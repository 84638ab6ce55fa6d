#include "common/base/number.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace coord {
namespace {

TEST(Number, AllOfTheTextOrNothing) {
  for (const char* bad : {"", " ", "x", "1x", " 1", "1 ", "+1", "0x10", "1.0", "--1", "4294967296", "-1"}) {
    EXPECT_EQ(parse_number<std::uint32_t>(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(parse_number<std::uint32_t>("4294967295"), 4294967295U);
  EXPECT_EQ(parse_number<std::int32_t>("-2147483648"), INT32_MIN);
  EXPECT_EQ(parse_number<std::int32_t>("007"), 7);
  EXPECT_EQ(parse_number<std::uint64_t>("fF", 16), 255U);
  EXPECT_EQ(parse_number<std::uint64_t>("g", 16), std::nullopt);
}

TEST(Number, InARange) {
  EXPECT_EQ(parse_number<int>("0", 1, 3), std::nullopt);
  EXPECT_EQ(parse_number<int>("1", 1, 3), 1);
  EXPECT_EQ(parse_number<int>("3", 1, 3), 3);
  EXPECT_EQ(parse_number<int>("4", 1, 3), std::nullopt);
  EXPECT_EQ(parse_number<std::uint16_t>("65536", 1, 65535), std::nullopt);
}

}  // namespace
}  // namespace coord
