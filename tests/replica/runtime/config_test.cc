#include "replica/runtime/config.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace coord::runtime {
namespace {

Result<Config, Fault> interpret(const std::string& text) {
  auto entries = parse_config(text, "zoo.cfg");
  if (!entries) return fail(entries.error());
  return interpret_config(*entries, "zoo.cfg");
}

// Each bad line: the message names file, line and key, so that an administrator finds it.
TEST(Config, BadValuesNameFileLineAndKey) {
  const struct {
    const char* line;
    const char* key;
  } cases[] = {
      {"tickTime=fast", "tickTime"},
      {"tickTime=0", "tickTime"},
      {"tickTime=2000x", "tickTime"},
      {"tickTime=", "tickTime"},
      {"clientPort=65536", "clientPort"},
      {"clientPort=-1", "clientPort"},
      {"clientPort=2181 2182", "clientPort"},
      {"maxClientCnxns=-5", "maxClientCnxns"},
      {"skipACL=true", "skipACL"},
      {"enforceQuota=yes", "enforceQuota"},
      {"coord.growSize=1K", "coord.growSize"},
      {"coord.mapSize=99999999999999999999", "coord.mapSize"},
      {"coord.mapSize=9Q", "coord.mapSize"},
      {"coord.mountUsers=alice", "coord.mountUsers"},
      {"coord.tcpUser=alice", "coord.tcpUser"},
      {"coord.tcpUser=5:", "coord.tcpUser"},
      {"coord.ioThreads=0", "coord.ioThreads"},
      {"coord.logLevel=loud", "coord.logLevel"},
      {"DigestAuthenticationProvider.superDigest=root:x", "superDigest"},
      {"dataDir=", "dataDir"},
  };
  for (const auto& c : cases) {
    const auto result = interpret("\n# a comment\n" + std::string(c.line) + "\n");
    ASSERT_FALSE(result) << c.line;
    EXPECT_NE(result.error().message.find("zoo.cfg:3: "), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find(c.key), std::string::npos) << result.error().message;
  }
}

TEST(Config, WhatIsNotSupportedIsRefusedNotIgnored) {
  for (const char* text : {"server.1=a:2888:3888\nserver.2=b:2888:3888\n", "secureClientPort=2281\n",
                           "ssl.keyStore.location=/x\n"}) {
    const auto result = interpret(text);
    ASSERT_FALSE(result) << text;
    EXPECT_NE(result.error().message.find("not supported by this version"), std::string::npos);
  }
}

TEST(Config, UnknownKeysWarnAndOneServerLineIsFine) {
  const auto result = interpret("colour=blue\nserver.1=a:2888:3888\ninitLimit=10\n");
  ASSERT_TRUE(result);
  ASSERT_EQ(result->warnings.size(), 2u);
  EXPECT_EQ(result->warnings[0], "zoo.cfg:1: unknown key colour is ignored");
  EXPECT_EQ(result->warnings[1], "zoo.cfg:3: initLimit has no effect here");
}

TEST(Config, DefaultsFollowTheTick) {
  const auto result = interpret("tickTime=500\ndataDir=/x\nclientPort=2181\n");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->min_timeout(), 1000);
  EXPECT_EQ(result->max_timeout(), 10000);
  EXPECT_TRUE(check_config(*result, "zoo.cfg"));
}

TEST(Config, TheWholeMustMakeSense) {
  const struct {
    const char* text;
    const char* says;
  } cases[] = {
      {"clientPort=2181\n", "dataDir is missing"},
      {"dataDir=/x\n", "nobody could connect"},
      {"dataDir=/x\nclientPort=1\nminSessionTimeout=9000\nmaxSessionTimeout=8000\n", "minSessionTimeout 9000"},
  };
  for (const auto& c : cases) {
    const auto config = interpret(c.text);
    ASSERT_TRUE(config);
    const auto checked = check_config(*config, "zoo.cfg");
    ASSERT_FALSE(checked) << c.text;
    EXPECT_NE(checked.error().message.find(c.says), std::string::npos) << checked.error().message;
  }
}

TEST(Config, SizesTakeSuffixes) {
  const auto result = interpret("coord.growSize=64M\ncoord.mapSize=1T\n");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->grow_bytes, 64ULL << 20);
  EXPECT_EQ(result->map_bytes, 1ULL << 40);
}

TEST(Config, ServerIdComesFromMyid) {
  char pattern[] = "/tmp/coord-config-XXXXXX";
  const std::string directory = mkdtemp(pattern);
  Config config;
  config.data_dir = directory;
  EXPECT_TRUE(read_server_id(config));
  EXPECT_EQ(config.server_id, 1u);
  std::ofstream(directory + "/myid") << "7\n";
  EXPECT_TRUE(read_server_id(config));
  EXPECT_EQ(config.server_id, 7u);
  for (const char* bad : {"0", "255", "seven", "", "7 8"}) {
    std::ofstream(directory + "/myid") << bad;
    const auto result = read_server_id(config);
    ASSERT_FALSE(result) << bad;
    EXPECT_NE(result.error().message.find("/myid:1:"), std::string::npos);
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace coord::runtime
