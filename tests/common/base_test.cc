#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <set>
#include <sstream>

#include "common/base/config.h"
#include "common/base/crc32c.h"
#include "common/base/error.h"
#include "common/base/log.h"

namespace coord {
namespace {

std::string message_of(std::string_view text) {
  const auto result = parse_config(text, "zoo.cfg");
  return result ? "no fault" : result.error().message;
}

TEST(Config, FaultsNameFileAndLine) {
  EXPECT_EQ(message_of("a=1\ntickTime 2000\n"), "zoo.cfg:2: expected key=value, found \"tickTime 2000\"");
  EXPECT_EQ(message_of("\n\n =5"), "zoo.cfg:3: no key before '='");
  EXPECT_EQ(message_of("a b=5"), "zoo.cfg:1: blanks inside the key \"a b\"");
  EXPECT_EQ(message_of("# x\na=1\nb=\\"), "zoo.cfg:3: the file ends after a backslash");
  EXPECT_EQ(message_of("a=\\u12"), "zoo.cfg:1: \\u must be followed by four hex digits of a character");
  EXPECT_EQ(message_of("a=\\ud800"), "zoo.cfg:1: \\u must be followed by four hex digits of a character");
  EXPECT_EQ(message_of(std::string_view("a=1\nb=\0x\n", 9)),
            "zoo.cfg:2: a control character, which no setting can contain");
}

TEST(Config, TheLineOfAContinuedEntryIsItsFirst) {
  EXPECT_EQ(message_of("a=1,\\\n  2\nbad\n"), "zoo.cfg:3: expected key=value, found \"bad\"");
  const auto entries = parse_config("a=1,\\\n  2\nb=3\n", "f");
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].value, "1,2");
  EXPECT_EQ((*entries)[0].line, 1);
  EXPECT_EQ((*entries)[1].line, 3);
}

TEST(Config, ReadsWhatZooKeeperReads) {
  const auto entries = parse_config(
      "\xef\xbb\xbf# comment\r\n! another\n\n  tickTime = 2000 \r\nserver.1=h:2888:3888:participant;0.0.0.0:2181\n"
      "empty=\npath=C:\\\\x\\u00e4\na=b=c # not a comment\nlast=1",
      "f");
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 6u);
  const auto is = [&](std::size_t i, const char* key, const char* value, int line) {
    EXPECT_EQ((*entries)[i].key, key);
    EXPECT_EQ((*entries)[i].value, value);
    EXPECT_EQ((*entries)[i].line, line);
  };
  is(0, "tickTime", "2000", 4);
  is(1, "server.1", "h:2888:3888:participant;0.0.0.0:2181", 5);
  is(2, "empty", "", 6);
  is(3, "path", "C:\\x\xc3\xa4", 7);
  is(4, "a", "b=c # not a comment", 8);
  is(5, "last", "1", 9);
}

TEST(Config, RepeatedKeysStayInOrder) {
  const auto entries = parse_config("a=1\na=2\n", "f");
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[1].value, "2");
}

TEST(Config, FilesThatCannotBeRead) {
  const auto missing = read_config_file("/nonexistent/zoo.cfg");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "/nonexistent/zoo.cfg: No such file or directory");
  const auto directory = read_config_file("/");
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().message, "/: Is a directory");
}

// RFC 3720, B.4.
TEST(Crc32c, Rfc3720Vectors) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string up(32, '\0');
  std::iota(up.begin(), up.end(), '\0');
  EXPECT_EQ(crc32c(up), 0x46dd794eu);
  EXPECT_EQ(crc32c(std::string(up.rbegin(), up.rend())), 0x113fdb5cu);
  const unsigned char read_command[48] = {0x01, 0xc0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
                                          0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
                                          0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0};
  EXPECT_EQ(crc32c(std::string_view(reinterpret_cast<const char*>(read_command), 48)), 0xd9963a56u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(Crc32c, ContinuesFromASeed) {
  const std::string text = "the quick brown fox jumps over the lazy dog";
  for (std::size_t n = 0; n <= text.size(); ++n) {
    EXPECT_EQ(crc32c(std::string_view(text).substr(n), crc32c(std::string_view(text).substr(0, n))), crc32c(text));
  }
}

TEST(Errors, StockClientsNeverSeeOurCodes) {
  for (std::int32_t code = -1100; code <= 0; ++code) {
    if (!is_known_code(code)) continue;
    const auto stock = static_cast<std::int32_t>(stock_code(static_cast<Err>(code)));
    EXPECT_GT(stock, -1000) << code;
    EXPECT_TRUE(is_known_code(stock)) << code;
    if (code > -1000) {
      EXPECT_EQ(stock, code);
    }
  }
}

TEST(Errors, NamesAreDistinct) {
  std::set<std::string_view> names;
  for (std::int32_t code = -1100; code <= 0; ++code) {
    if (!is_known_code(code)) continue;
    EXPECT_TRUE(names.insert(error_name(static_cast<Err>(code))).second) << code;
  }
  EXPECT_EQ(error_name(static_cast<Err>(-99)), "unknown");
}

TEST(Log, WritesPrefixComponentAndFieldsAndReopens) {
  char dir[] = "/tmp/coord-log-XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  const std::string file = std::string(dir) + "/log";
  EXPECT_FALSE(log::configure(log::Level::kInfo, "/dev/null/no"));
  ASSERT_TRUE(log::configure(log::Level::kInfo, file, "sid=1 100%"));
  log::debug("zab", "hidden n={}", 1);
  log::info("zab", "elected leader={}", 3);
  const auto text = [](const std::string& path) {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  };
  EXPECT_NE(text(file).find("info sid=1 100% zab: elected leader=3\n"), std::string::npos) << text(file);
  EXPECT_EQ(text(file).find("hidden"), std::string::npos);
  ASSERT_EQ(std::rename(file.c_str(), (file + ".1").c_str()), 0);
  log::reopen();
  log::warn("net", "after {{}} rotation");
  EXPECT_NE(text(file).find("warning sid=1 100% net: after {} rotation\n"), std::string::npos) << text(file);
  log::set_level(log::Level::kOff);
  EXPECT_FALSE(log::enabled(log::Level::kError));
  ASSERT_TRUE(log::configure(log::Level::kWarn));
  std::remove((file + ".1").c_str());
  std::remove(file.c_str());
  std::remove(dir);
}

}  // namespace
}  // namespace coord
