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
      {"jute.maxbuffer=33554433", "from 1024 to 33554432 (a leader that carries out a larger request"},
      {"skipACL=true", "skipACL"},
      {"enforceQuota=yes", "enforceQuota"},
      {"coord.growSize=1K", "coord.growSize"},
      {"coord.journalSize=1K", "or 0"},
      {"coord.snapshotRate=100K", "or 0"},
      {"coord.mapSize=99999999999999999999", "coord.mapSize"},
      {"coord.mapSize=9Q", "coord.mapSize"},
      {"coord.mountUsers=alice", "coord.mountUsers"},
      {"coord.tcpUser=alice", "coord.tcpUser"},
      {"coord.tcpUser=5:", "coord.tcpUser"},
      {"coord.ioThreads=0", "coord.ioThreads"},
      {"coord.logLevel=loud", "coord.logLevel"},
      {"DigestAuthenticationProvider.superDigest=root:x", "superDigest"},
      {"dataDir=", "dataDir"},
      {"reconfigEnabled=1", "reconfigEnabled"},
      {"reconfigEnabled=", "reconfigEnabled"},
      {"coord.featureLevelMax=0", "coord.featureLevelMax"},
      {"coord.featureLevelMax=99", "coord.featureLevelMax"},
  };
  for (const auto& c : cases) {
    const auto result = interpret("\n# a comment\n" + std::string(c.line) + "\n");
    ASSERT_FALSE(result) << c.line;
    EXPECT_NE(result.error().message.find("zoo.cfg:3: "), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find(c.key), std::string::npos) << result.error().message;
  }
}

TEST(Config, WhatIsNotSupportedIsRefusedNotIgnored) {
  for (const char* text : {"secureClientPort=2281\n", "ssl.keyStore.location=/x\n"}) {
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

TEST(Config, MembersAreRead) {
  const auto result = interpret(
      "server.1=a.example:2888:3888\nserver.2=b:2888:3888:participant;0.0.0.0:2181\nserver.3=[::1]:99:observer\n"
      "server.254=d:2888\n");
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(result->members.size(), 4u);
  EXPECT_EQ(result->members[0].host, "a.example");
  EXPECT_EQ(result->members[0].port, 2888);
  EXPECT_FALSE(result->members[1].observer);
  EXPECT_EQ(result->members[2].host, "::1");
  EXPECT_EQ(result->members[2].port, 99);
  EXPECT_TRUE(result->members[2].observer);
  EXPECT_EQ(result->members[3].sid, Sid(254));
  EXPECT_EQ(result->members[0].election_port, 3888);
  EXPECT_EQ(result->members[3].election_port, 2888) << "not given: the first";
  EXPECT_EQ(result->members[1].client, "0.0.0.0:2181");
  EXPECT_EQ(result->members[0].client, "");
}

TEST(Config, WhereClientsGoIsKept) {
  const struct {
    const char* given;
    const char* kept;
  } cases[] = {{"2181", "0.0.0.0:2181"}, {"a.example:2181", "a.example:2181"}, {"[::]:2181", "[::]:2181"}};
  for (const auto& c : cases) {
    const auto result = interpret("server.1=a:2888:3888:observer;" + std::string(c.given) + "\n");
    ASSERT_TRUE(result) << c.given;
    EXPECT_EQ(result->members[0].client, c.kept);
    EXPECT_TRUE(result->members[0].observer);
  }
  for (const char* bad : {"", "0", "65536", "x", ":2181", "a:b", "::1:2181", "[]:2181", "a b:2181", "2181;2281"}) {
    EXPECT_FALSE(interpret("server.1=a:2888:3888;" + std::string(bad) + "\n")) << bad;
  }
}

TEST(Config, ReconfigurationIsOffUnlessSwitchedOn) {
  EXPECT_FALSE(interpret("")->reconfig_enabled);
  for (const char* on : {"true", "yes"}) {
    EXPECT_TRUE(interpret("reconfigEnabled=" + std::string(on) + "\n")->reconfig_enabled) << on;
  }
  for (const char* off : {"false", "no"}) {
    EXPECT_FALSE(interpret("reconfigEnabled=" + std::string(off) + "\n")->reconfig_enabled) << off;
  }
}

TEST(Config, AReplicaKnowsItsFeatureLevelOrLess) {
  EXPECT_EQ(interpret("")->feature_level_max, tree::kFeatureLevel);
  EXPECT_EQ(interpret("coord.featureLevelMax=1\n")->feature_level_max, 1);
}

TEST(Config, ADynamicFileIsToldNotToBeRead) {
  const auto result = interpret("standaloneEnabled=false\ndynamicConfigFile=/etc/zoo.dynamic\n");
  ASSERT_TRUE(result);
  ASSERT_EQ(result->warnings.size(), 2u);
  EXPECT_EQ(result->warnings[0], "zoo.cfg:1: standaloneEnabled has no effect here");
  EXPECT_NE(result->warnings[1].find("the server lines stand in this file"), std::string::npos);
}

TEST(Config, BadMembersAreRefused) {
  for (const char* line :
       {"server.0=a:1", "server.255=a:1", "server.x=a:1", "server.2=a", "server.2=:1", "server.2=a:0",
        "server.2=a:70000", "server.2=a:1:2:leader", "server.2=a:1:2:observer:3", "server.1=b:1", "server.2=z:7:8"}) {
    const auto result = interpret("server.1=z:7:8\n" + std::string(line) + "\n");
    ASSERT_FALSE(result) << line;
    EXPECT_NE(result.error().message.find("zoo.cfg:2: server."), std::string::npos) << result.error().message;
  }
}

TEST(Config, WhatMembersNeedTogether) {
  const std::string base = "dataDir=/x\nclientPort=1\n";
  const auto why = [&](const std::string& text) {
    const auto config = interpret(base + text);
    EXPECT_TRUE(config) << config.error().message;
    const auto checked = check_config(*config, "zoo.cfg");
    return checked ? "" : checked.error().message;
  };
  EXPECT_NE(why("server.1=a:1:2:observer\n").find("at least one server line"), std::string::npos);
  EXPECT_NE(why("coord.peerTls.cert=/c\ncoord.peerTls.ca=/a\n").find("give all three"), std::string::npos);
  EXPECT_EQ(why("server.1=a:1:2\nserver.2=b:1:2\ncoord.peerSecret=s\n"), "");
}

TEST(Config, ASecretFileIsForItsOwnerAlone) {
  char pattern[] = "/tmp/coord-config-XXXXXX";
  const std::string directory = mkdtemp(pattern);
  const std::string path = directory + "/secret";
  const auto read = [&] { return interpret("coord.peerSecretFile=" + path + "\n"); };
  EXPECT_NE(read().error().message.find("No such file"), std::string::npos);
  std::ofstream(path) << "of one\n";
  std::filesystem::permissions(path, std::filesystem::perms(0640));
  EXPECT_NE(read().error().message.find("chmod 600"), std::string::npos);
  std::filesystem::permissions(path, std::filesystem::perms(0600));
  ASSERT_TRUE(read());
  EXPECT_EQ(read()->peer_secret, "of one");
  std::ofstream(path) << "\n";
  EXPECT_NE(read().error().message.find("is empty"), std::string::npos);
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  std::filesystem::permissions(path, std::filesystem::perms(0700));
  EXPECT_NE(read().error().message.find("cannot be read: Is a directory"), std::string::npos);
  std::filesystem::remove_all(directory);
}

TEST(Config, TheSecretIsGivenOnce) {
  for (const char* second : {"coord.peerSecret=b", "coord.peerSecretFile=/dev/null"}) {
    const auto result = interpret("coord.peerSecret=a\n" + std::string(second) + "\n");
    ASSERT_FALSE(result) << second;
    EXPECT_NE(result.error().message.find("zoo.cfg:2: coord.peerSecret"), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find("twice"), std::string::npos) << result.error().message;
  }
}

TEST(Config, PeerTicksAreNotZooKeepers) {
  const auto defaults = interpret("initLimit=10\nsyncLimit=5\n");
  ASSERT_TRUE(defaults);
  EXPECT_EQ(defaults->peer_tick_ms, 200);
  EXPECT_EQ(defaults->init_limit, 50);
  EXPECT_EQ(defaults->sync_limit, 3);
  const auto result = interpret("coord.peerTickTime=50\ncoord.peerInitLimit=100\ncoord.peerSyncLimit=2\n"
                                "coord.peerAddress=127.0.0.2\ncoord.logKeepTime=3600\n");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->peer_tick_ms, 50);
  EXPECT_EQ(result->init_limit, 100);
  EXPECT_EQ(result->sync_limit, 2);
  EXPECT_EQ(result->peer_address, "127.0.0.2");
  EXPECT_EQ(result->log_keep_seconds, 3600u);
  for (const char* line : {"coord.peerTickTime=49", "coord.peerTickTime=10001", "coord.peerSyncLimit=1",
                           "coord.peerInitLimit=0", "coord.logKeepTime=-1"}) {
    EXPECT_FALSE(interpret(std::string(line) + "\n")) << line;
  }
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
      {"dataDir=/x\nclientPort=1\ncoord.growSize=4M\njute.maxbuffer=1048577\n", "make it 4194308 at least"},
  };
  for (const auto& c : cases) {
    const auto config = interpret(c.text);
    ASSERT_TRUE(config);
    const auto checked = check_config(*config, "zoo.cfg");
    ASSERT_FALSE(checked) << c.text;
    EXPECT_NE(checked.error().message.find(c.says), std::string::npos) << checked.error().message;
  }
}

TEST(Config, AStepOfTheDataFileHoldsTheLargestRequests) {
  EXPECT_EQ(interpret("")->grow_size(), 32ULL << 20);
  EXPECT_EQ(interpret("jute.maxbuffer=33554432\n")->grow_size(), 256ULL << 20);
  EXPECT_EQ(interpret("jute.maxbuffer=33554432\ncoord.growSize=128M\n")->grow_size(), 128ULL << 20);
}

TEST(Config, SizesTakeSuffixes) {
  const auto result = interpret("coord.growSize=64M\ncoord.mapSize=1T\n");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->grow_bytes, 64ULL << 20);
  EXPECT_EQ(result->map_bytes, 1ULL << 40);
  const auto none = interpret("coord.journalSize=0\ncoord.snapshotRate=0\n");
  ASSERT_TRUE(none);
  EXPECT_EQ(none->journal_bytes + none->snapshot_rate, 0u);
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
  std::ofstream(directory + "/myid") << "7\n";
  config.members = {Member{Sid(7), "a", 1}, Member{Sid(8), "b", 1}};
  EXPECT_TRUE(read_server_id(config));
  config.members[0].sid = Sid(9);
  EXPECT_NE(read_server_id(config).error().message.find("no server.7 line"), std::string::npos);
  std::filesystem::remove(directory + "/myid");
  EXPECT_NE(read_server_id(config).error().message.find("is missing"), std::string::npos);
  config.members.resize(1);
  EXPECT_TRUE(read_server_id(config));
  std::filesystem::create_directory(directory + "/myid");
  const auto unreadable = read_server_id(config);
  ASSERT_FALSE(unreadable);
  EXPECT_NE(unreadable.error().message.find("/myid: cannot be read: Is a directory"), std::string::npos);
  EXPECT_EQ(config.server_id, 9u) << "the only line says it too";
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace coord::runtime
