// What coordctl makes of a server that a person names, and of /zookeeper/config.
#include <gtest/gtest.h>

#include "common/tools/members.h"

namespace coord::tools {
namespace {

TEST(MemberSpec, WhatIsWrongIsNamed) {
  for (const char* bad :
       {"", "4", "4=", "4=d", "4=:2888", "4=d:0", "4=d:65536", "4=d:x", "4=d:1:2:leader", "4=d:1:2:3",
        "4=d:1:observer:2", "0=d:1", "255=d:1", "x=d:1", "server.=d:1", "server.4", "server4=d:1", "4=d:1;", "4=d:1;0",
        "4=d:1;:2181", "4=d:1;a:b", "4=d:1;2181;2281", "4=d:participant"}) {
    const auto parsed = parse_spec(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_GT(parsed.error().message.size(), 20u) << bad;
  }
}

TEST(MemberSpec, WhatIsNotSaidIsFilledIn) {
  const struct {
    const char* given;
    const char* full;
  } cases[] = {
      {"4=d:2888", "server.4=d:2888:2888:participant;0.0.0.0:2181"},
      {"server.4=d:2888", "server.4=d:2888:2888:participant;0.0.0.0:2181"},
      {"4=d:2888:observer", "server.4=d:2888:2888:observer;0.0.0.0:2181"},
      {"4=d:2888:3888;2182", "server.4=d:2888:3888:participant;0.0.0.0:2182"},
      {"254=[::1]:2888:3888:observer;[::1]:2182", "server.254=[::1]:2888:3888:observer;[::1]:2182"},
      {"server.4=d:2888:3888:participant;e:2181", "server.4=d:2888:3888:participant;e:2181"},
  };
  for (const auto& c : cases) {
    const auto parsed = parse_spec(c.given);
    ASSERT_TRUE(parsed) << c.given << ": " << parsed.error().message;
    EXPECT_EQ(to_text(*parsed), c.full);
  }
}

constexpr const char* kConfiguration =
    "server.1=a:2888:3888:participant\n"
    "server.2=[::1]:2888:3888:observer;0.0.0.0:2181\n"
    "server.30=c:2888:3888:participant;0.0.0.0:2181;0.0.0.0:2281\n"
    "version=10000000a";

TEST(Configuration, IsReadAsTheServerWroteIt) {
  const auto now = parse_configuration(kConfiguration);
  ASSERT_TRUE(now);
  EXPECT_EQ(now->version, 0x10000000aULL);
  ASSERT_EQ(now->members.size(), 3u);
  std::string text;
  for (const MemberLine& member : now->members) text += to_text(member) + "\n";
  EXPECT_EQ(text + "version=10000000a", kConfiguration);
  ASSERT_NE(now->find(2), nullptr);
  EXPECT_EQ(now->find(2)->role, "observer");
  EXPECT_EQ(now->find(2)->peers, "[::1]:2888:3888");
  EXPECT_EQ(now->find(3), nullptr);
}

TEST(Configuration, AnythingElseIsNone) {
  for (const char* bad : {"", "version=1", "server.1=a:1:2:participant", "server.1=a:1:2:participant\nversion=",
                          "server.1=a:1:2:participant\nversion=xyz", "group.1=1:2\nversion=1", "hello"}) {
    EXPECT_FALSE(parse_configuration(bad)) << bad;
  }
}

TEST(Role, IsChangedInThePresentLine) {
  const auto now = *parse_configuration(kConfiguration);
  const struct {
    const char* given;
    const char* full;
  } cases[] = {
      {"2=participant", "server.2=[::1]:2888:3888:participant;0.0.0.0:2181"},
      {"2=observer", "server.2=[::1]:2888:3888:observer;0.0.0.0:2181"},
      {"30=observer", "server.30=c:2888:3888:observer;0.0.0.0:2181;0.0.0.0:2281"},
      {"1=observer;2182", "server.1=a:2888:3888:observer;0.0.0.0:2182"},
      {"2=participant;x:9", "server.2=[::1]:2888:3888:participant;x:9"},
  };
  for (const auto& c : cases) {
    const auto line = with_role(now, c.given);
    ASSERT_TRUE(line) << c.given << ": " << line.error().message;
    EXPECT_EQ(to_text(*line), c.full);
  }
}

TEST(Role, WhatIsWrongIsNamed) {
  const auto now = *parse_configuration(kConfiguration);
  const struct {
    const char* given;
    const char* says;
  } cases[] = {
      {"2", "expected ID=participant"}, {"2=leader", "expected ID=participant"}, {"x=observer", "not a server id"},
      {"3=observer", "not a member"},   {"2=observer;x", "CLIENTPORT"},
      {"1=observer", "'1=observer;CLIENTPORT'"},
  };
  for (const auto& c : cases) {
    const auto line = with_role(now, c.given);
    ASSERT_FALSE(line) << c.given;
    EXPECT_NE(line.error().message.find(c.says), std::string::npos) << line.error().message;
  }
}

TEST(ConfigVersion, IsHexadecimal) {
  EXPECT_EQ(*parse_config_version("10000000a"), 0x10000000aULL);
  EXPECT_EQ(*parse_config_version("0x1f"), 0x1fULL);
  EXPECT_EQ(*parse_config_version("0"), 0u);
  for (const char* bad : {"", "0x", "-1", "xyz", "1 ", "10000000000000000"}) {
    EXPECT_FALSE(parse_config_version(bad)) << bad;
  }
}

}  // namespace
}  // namespace coord::tools
