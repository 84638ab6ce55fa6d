#include "fusefs/names/names.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "common/model/path.h"

namespace coord::fs {
namespace {

Parsed parse(std::string_view shown) { return parse_name(shown, false); }

void expect_invalid(std::string_view shown, int error) {
  const Parsed p = parse(shown);
  EXPECT_EQ(p.kind, NameKind::kInvalid) << shown;
  EXPECT_EQ(p.error, error) << shown;
}

void expect_create(std::string_view shown, std::string_view name, CreateSuffix mode, std::int64_t ttl = 0) {
  const Parsed p = parse(shown);
  EXPECT_EQ(p.kind, NameKind::kCreate) << shown;
  EXPECT_EQ(p.znode_name, name) << shown;
  EXPECT_EQ(p.mode, mode) << shown;
  EXPECT_EQ(p.ttl_ms, ttl) << shown;
}

TEST(Names, RefusesWhatZooKeeperRefuses) {
  for (const char* bad : {"", ".", "..", "a\x01", "a\x7f", "\xff", "\xf0\x9f\x98\x80", "a/b"}) {
    expect_invalid(bad, EINVAL);
  }
  expect_invalid(std::string("a\0b", 3), EINVAL);
  expect_invalid(std::string(256, 'a'), ENAMETOOLONG);
}

TEST(Names, RefusesSpecialFormsWithoutMeaning) {
  for (const char* bad : {"@", "@ephemeral", "@container", "@ttl=3s", ".data@", ".znode@", ".data@seq", "a@seq@",
                          "a@seq@ephemeral", "a@ttl=", "a@ttl=30", "a@ttl=0s", "a@ttl=-1s", "a@ttl=+1s", "a@ttl=1w",
                          "a@ttl=s", "a@ttl=99999999999999999999s", "a@ttl=20000d", "a@hash=12", "a@hash=",
                          ".@container", "a@hash=ABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCD", ".coord"}) {
    expect_invalid(bad, EINVAL);
  }
  expect_invalid(std::string(246, 'a') + "@seq", ENAMETOOLONG);  // 246 + 10 digits
}

TEST(Names, ControlNames) {
  EXPECT_EQ(parse(".data").kind, NameKind::kDotData);
  EXPECT_EQ(parse(".znode").kind, NameKind::kDotZnode);
  EXPECT_EQ(parse_name(".coord", true).kind, NameKind::kDotCoord);
}

TEST(Names, CreateSuffixes) {
  expect_create("me@ephemeral", "me", CreateSuffix::kEphemeral);
  expect_create("job-@seq", "job-", CreateSuffix::kSequential);
  expect_create("@seq", "", CreateSuffix::kSequential);
  expect_create("a@ephemeral+seq", "a", CreateSuffix::kEphemeralSequential);
  expect_create("a@container", "a", CreateSuffix::kContainer);
  expect_create("a@ttl=30s", "a", CreateSuffix::kTtl, 30'000);
  expect_create("a@ttl=5ms", "a", CreateSuffix::kTtl, 5);
  expect_create("a@ttl=2m", "a", CreateSuffix::kTtl, 120'000);
  expect_create("a@ttl=1h", "a", CreateSuffix::kTtl, 3'600'000);
  expect_create("a@ttl=1d", "a", CreateSuffix::kTtl, 86'400'000);
  expect_create("a@@@seq", "a@", CreateSuffix::kSequential);
  expect_create("a@@seq@ephemeral", "a@seq", CreateSuffix::kEphemeral);
  expect_create("@.data@seq", ".data", CreateSuffix::kSequential);
}

TEST(Names, SpellingsOfTheSpecification) {
  EXPECT_EQ(shown_name("config"), "config");
  EXPECT_EQ(children_dir_name("config"), "config@");
  EXPECT_EQ(shown_name(".data"), "@.data");
  EXPECT_EQ(shown_name(".coord"), "@.coord");
  EXPECT_EQ(shown_name("@.data"), "@@.data");
  EXPECT_EQ(shown_name("a@"), "a@@");
  EXPECT_EQ(children_dir_name("a@"), "a@@@");
  EXPECT_EQ(shown_name("a@@"), "a@@@@");
  EXPECT_EQ(shown_name("a@seq"), "a@@seq");
  EXPECT_EQ(shown_name("user@host"), "user@host");
  EXPECT_EQ(shown_name("a@Seq"), "a@Seq");
  EXPECT_EQ(shown_name("x.data"), "x.data");
  EXPECT_EQ(shown_name("@x.data"), "@x.data");
}

TEST(Names, LengthLimits) {
  const std::string n254(254, 'n'), n255(255, 'n'), n256(256, 'n');
  EXPECT_EQ(shown_name(n254), n254);
  EXPECT_EQ(children_dir_name(n254), n254 + "@");
  EXPECT_EQ(shown_name(n255), n255);
  EXPECT_EQ(children_dir_name(n255), hash_name(n255) + "@");
  EXPECT_FALSE(resolves(parse(hash_name(n255)), n255));  // it is shown in full
  EXPECT_TRUE(resolves(parse(hash_name(n255) + "@"), n255));
  EXPECT_EQ(shown_name(n256), hash_name(n256));
  EXPECT_TRUE(resolves(parse(hash_name(n256)), n256));
  EXPECT_FALSE(resolves(parse(hash_name(n256)), n256 + "n"));
  const std::string euro = "\xe2\x82\xac";
  std::string long_name = "x";
  for (int i = 0; i < 100; ++i) long_name += euro;
  EXPECT_TRUE(valid_name(hash_name(long_name)));  // no character cut in two
}

std::vector<std::string> pieces() {
  return {"@",   "@@",    "a",    ".data", ".znode", ".coord", "seq",   "ephemeral", "ephemeral+seq", "container",
          "ttl=", "30s",  "hash=", ".",    "+",      "\xc3\xa9", "b",     "@seq",      "@ttl=1s",       "@hash=",
          "0123456789abcdef0123456789abcdef01234567"};
}

// For every valid name: both spellings fit, lead back to exactly this name, and no two names share one.
class Bijection {
 public:
  void name(const std::string& z) {
    if (!valid_name(z)) return;
    const Parsed own = parse(shown_name(z));
    check(z, own, NameKind::kNode, NameKind::kHashed);
    check(z, parse(children_dir_name(z)), NameKind::kChildrenDir, NameKind::kHashedChildrenDir);
    claim(shown_name(z), z);
    claim(children_dir_name(z), z + "/");
  }
  // For every string: if it is a spelling, it is the spelling.
  void shown(const std::string& s) {
    const Parsed p = parse(s);
    if (p.kind == NameKind::kNode) {
      EXPECT_EQ(shown_name(p.znode_name), s);
    }
    if (p.kind == NameKind::kChildrenDir) {
      EXPECT_EQ(children_dir_name(p.znode_name), s);
    }
    if (p.kind == NameKind::kInvalid) {
      EXPECT_NE(p.error, 0);
    }
  }

 private:
  void check(const std::string& z, const Parsed& p, NameKind plain, NameKind hashed) {
    if (is_hashed(p)) {
      ASSERT_EQ(p.kind, hashed) << z;
      ASSERT_TRUE(resolves(p, z)) << z;
    } else {
      ASSERT_EQ(p.kind, plain) << z;
      ASSERT_EQ(p.znode_name, z);
    }
  }
  void claim(const std::string& spelling, const std::string& owner) {
    ASSERT_LE(spelling.size(), kShownBytesMax);
    const auto [it, fresh] = owners_.emplace(spelling, owner);
    ASSERT_TRUE(fresh || it->second == owner) << spelling << " stands for " << it->second << " and " << owner;
  }
  std::map<std::string, std::string> owners_;
};

TEST(Names, BijectionOverRandomNames) {
  std::mt19937 random(7);
  const auto parts = pieces();
  Bijection bijection;
  for (int i = 0; i < 60'000; ++i) {
    std::string name;
    for (std::size_t n = 1 + random() % 5; n > 0; --n) name += parts[random() % parts.size()];
    if (random() % 8 == 0) name.insert(random() % (name.size() + 1), 240 + random() % 20, random() % 4 ? 'p' : '@');
    bijection.name(name);
    bijection.shown(name);
    if (testing::Test::HasFatalFailure()) FAIL() << "case " << i;
  }
}

TEST(Names, BijectionOverAllShortNames) {
  const std::vector<std::string> letters = {"@", "a", "@seq", ".data", "@ttl=1s"};
  Bijection bijection;
  std::vector<std::string> names = {""};
  for (int length = 0; length < 5; ++length) {
    std::vector<std::string> longer;
    for (const auto& name : names) {
      for (const auto& letter : letters) longer.push_back(name + letter);
    }
    for (const auto& name : longer) {
      bijection.name(name);
      bijection.shown(name);
    }
    names = std::move(longer);
  }
}

// Names that are themselves spelled like hash names, and hash names of names that end in '@'.
TEST(Names, BijectionOverHashLookAlikes) {
  Bijection bijection;
  const std::string long_name(300, 'x');
  std::string name = hash_name(long_name);
  bijection.name(long_name);
  for (int i = 0; i < 6; ++i) {
    bijection.name(name);
    bijection.name(name + "@");
    name = shown_name(name);
  }
  bijection.name(std::string(120, '@') + std::string(200, 'y'));
  bijection.name(std::string(300, '@'));
}

}  // namespace
}  // namespace coord::fs
