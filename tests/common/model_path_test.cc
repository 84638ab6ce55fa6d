#include <gtest/gtest.h>

#include <string>

#include "common/model/path.h"

namespace coord {
namespace {

std::string utf8(std::uint32_t c) {
  std::string out;
  if (c < 0x80) {
    out = {static_cast<char>(c)};
  } else if (c < 0x800) {
    out = {static_cast<char>(0xc0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3f))};
  } else if (c < 0x10000) {
    out = {static_cast<char>(0xe0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3f)),
           static_cast<char>(0x80 | (c & 0x3f))};
  } else {
    out = {static_cast<char>(0xf0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 0x3f)),
           static_cast<char>(0x80 | ((c >> 6) & 0x3f)), static_cast<char>(0x80 | (c & 0x3f))};
  }
  return out;
}

TEST(ValidPath, Rule1AbsoluteAndNotEmpty) {
  EXPECT_FALSE(valid_path(""));
  EXPECT_FALSE(valid_path("a"));
  EXPECT_FALSE(valid_path("a/b"));
  EXPECT_FALSE(valid_path(" /a"));
}

TEST(ValidPath, Rule2TheRoot) { EXPECT_TRUE(valid_path("/")); }

TEST(ValidPath, Rule3NoTrailingSlash) {
  EXPECT_FALSE(valid_path("/a/"));
  EXPECT_FALSE(valid_path("/a/b/"));
  EXPECT_TRUE(valid_path("/a/b"));
}

TEST(ValidPath, Rule4NoNulAndNoEmptyComponent) {
  EXPECT_FALSE(valid_path("//"));
  EXPECT_FALSE(valid_path("//a"));
  EXPECT_FALSE(valid_path("/a//b"));
  EXPECT_FALSE(valid_path(std::string_view("/a\0", 3)));
  EXPECT_FALSE(valid_path(std::string_view("/a\0b", 4)));
}

TEST(ValidPath, Rule5NoDotComponents) {
  for (const char* bad : {"/.", "/..", "/./a", "/../a", "/a/.", "/a/..", "/a/./b", "/a/../b"})
    EXPECT_FALSE(valid_path(bad)) << bad;
  for (const char* good : {"/...", "/..a", "/a..", "/.a", "/a.", "/a/...", "/a/.b/c.", "/a..b"})
    EXPECT_TRUE(valid_path(good)) << good;
}

// Every code point of the basic plane, against the ranges as the specification writes them.
TEST(ValidPath, Rule6ForbiddenCharacters) {
  for (std::uint32_t c = 0; c <= 0xffff; ++c) {
    if (c == '/' || c == '.') continue;
    const bool forbidden =
        c <= 0x1f || (0x7f <= c && c <= 0x9f) || (0xd800 <= c && c <= 0xf8ff) || (0xfff0 <= c && c <= 0xffff);
    ASSERT_EQ(valid_path("/x" + utf8(c) + "y"), !forbidden) << std::hex << c;
    ASSERT_EQ(valid_name(utf8(c)), !forbidden) << std::hex << c;
  }
  EXPECT_TRUE(valid_path("/ "));
  EXPECT_TRUE(valid_path("/~"));
  EXPECT_TRUE(valid_path("/" + utf8(0xffef)));
}

TEST(ValidPath, FourByteSequencesAreRefused) {
  for (const std::uint32_t c : {0x10000u, 0x1f600u, 0x10ffffu}) EXPECT_FALSE(valid_path("/" + utf8(c)));
}

TEST(ValidPath, MalformedUtf8IsRefused) {
  for (const std::string_view bad :
       {std::string_view("\x80"), std::string_view("\xbf"),      // stray continuation
        std::string_view("\xc3"), std::string_view("\xe2\x82"),  // cut short
        std::string_view("\xc3z"), std::string_view("\xe2z\x82"), std::string_view("\xe2\x82z"),
        std::string_view("\xc0\xaf"), std::string_view("\xc1\xbf"),          // overlong two bytes
        std::string_view("\xe0\x80\xaf"), std::string_view("\xe0\x9f\xbf"),  // overlong three bytes
        std::string_view("\xed\xa0\x80"), std::string_view("\xed\xbf\xbf"),  // surrogates
        std::string_view("\xed\xa0\xbd\xed\xb8\x80"),                        // CESU-8
        std::string_view("\xf0\x9f\x98\x80"), std::string_view("\xf8\x88\x80\x80\x80"), std::string_view("\xfe"),
        std::string_view("\xff")}) {
    EXPECT_FALSE(valid_path("/" + std::string(bad)));
    EXPECT_FALSE(valid_path("/" + std::string(bad) + "/b"));
    EXPECT_FALSE(valid_name(bad));
  }
}

TEST(ValidPath, AContinuationByteDoesNotReachOverASlash) {
  EXPECT_FALSE(valid_path("/\xc3/\xa4"));
  EXPECT_TRUE(valid_path("/\xc3\xa4/\xc3\xa4"));
}

TEST(ValidPath, NoLimitOfLength) { EXPECT_TRUE(valid_path("/" + std::string(500'000, 'a'))); }

TEST(ValidName, OneComponent) {
  EXPECT_FALSE(valid_name(""));
  EXPECT_FALSE(valid_name("/"));
  EXPECT_FALSE(valid_name("a/b"));
  EXPECT_FALSE(valid_name("."));
  EXPECT_FALSE(valid_name(".."));
  EXPECT_TRUE(valid_name("a b"));
}

TEST(PathParts, ParentAndLastName) {
  EXPECT_EQ(parent_path("/"), "/");
  EXPECT_EQ(parent_path("/a"), "/");
  EXPECT_EQ(parent_path("/a/b/c"), "/a/b");
  EXPECT_EQ(last_name("/"), "");
  EXPECT_EQ(last_name("/a"), "a");
  EXPECT_EQ(last_name("/a/b"), "b");
}

}  // namespace
}  // namespace coord
