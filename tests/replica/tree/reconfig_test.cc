// reconfig, from the request to the state of every replica: who may, in which order it is judged (client-protocol.md
// section 15), what it leaves.
#include <random>

#include "tests/replica/tree/ensemble_harness.h"

namespace coord::tree {
namespace {

using namespace test;

// --- who may, and in which order it is judged

TEST(Reconfig, DisabledIsFirst) {
  Leader w;
  w.electorate.reconfig_enabled = false;
  w.electorate.alone = true;
  w.machine.set_electorate(w.electorate);
  Request r = w.request(Op::kReconfig, reconfig_body("some thing", std::nullopt));
  r.session = SessionId(77);
  EXPECT_EQ(w.call(r).err, Err::kReconfigDisabled);
  r.trusted = true;  // of coord.mountUsers
  EXPECT_EQ(w.call(r).err, Err::kReconfigDisabled);
  r.trusted = false;
  r.credentials.uid = 0;  // coord.tcpUser
  EXPECT_EQ(w.call(r).err, Err::kReconfigDisabled);
  r.trusted = true;
  EXPECT_EQ(w.call(r).err, Err::kUnknownSession) << "root on the socket may, whatever the file says";
  r.body = "?";
  EXPECT_EQ(w.call(r).err, Err::kMarshallingError);
}

TEST(Reconfig, EachTestHidesThoseBehindIt) {
  Leader w;
  w.begin();
  // Everything is wrong; one thing after the other is put right.
  w.ids = {{"ip", "127.0.0.1"}};
  w.electorate.reconfig_enabled = false;
  w.electorate.alone = true;
  w.electorate.pending = true;
  w.disconnect(2);
  w.disconnect(3);
  Request r = w.request(Op::kReconfig, "");
  r.session = SessionId(77);
  const auto judged = [&](const std::string& body) {
    w.machine.set_electorate(w.electorate);
    r.body = body;
    return w.call(r).err;
  };
  const std::string bad = reconfig_body("some thing", "3", std::nullopt, 5);
  EXPECT_EQ(judged(bad), Err::kReconfigDisabled);
  w.electorate.reconfig_enabled = true;
  EXPECT_EQ(judged(bad), Err::kUnknownSession);
  r.session = w.me;
  EXPECT_EQ(judged(bad), Err::kUnimplemented);
  w.electorate.alone = false;
  EXPECT_EQ(judged(bad), Err::kReconfigInProgress);
  w.electorate.pending = false;
  EXPECT_EQ(judged(bad), Err::kBadVersion);
  EXPECT_EQ(judged(reconfig_body("some thing", "3")), Err::kBadArguments);
  EXPECT_EQ(judged(reconfig_body("some thing", "x")), Err::kMarshallingError) << "who leaves is read first";
  EXPECT_EQ(judged(reconfig_body(std::nullopt, "3")), Err::kNewConfigNoQuorum);
  w.connect(2);
  EXPECT_EQ(judged(reconfig_body(std::nullopt, "3")), Err::kNoAuth);
  EXPECT_EQ(judged(reconfig_body(std::nullopt, "99")), Err::kNoAuth) << "what changes nothing, too";
  EXPECT_EQ(w.members(), "1v 2v 3v ");
  r.ids.push_back({"super", ""});
  EXPECT_EQ(judged(reconfig_body(std::nullopt, "3")), Err::kOk);
  EXPECT_EQ(w.members(), "1v 2v ");
}

TEST(Reconfig, RootOnTheSocketNeedsNoRight) {
  Leader w;
  w.begin();
  w.electorate.reconfig_enabled = false;
  const Acl locked = acl_of("digest", "somebody:else", perm::kRead);
  ASSERT_EQ(w.code(Op::kSetAcl, set_acl_body("/zookeeper/config", locked)), Err::kOk);
  w.ids = {{"unix", "u:0"}};
  w.credentials.uid = 0;
  EXPECT_EQ(w.leave("3"), Err::kReconfigDisabled);
  w.trusted = true;
  EXPECT_EQ(w.leave("3"), Err::kOk);
}

TEST(Reconfig, WriteOnTheNodeIsEnough) {
  Leader w;
  w.begin();
  const Acl acl{AclEntry{perm::kRead | perm::kWrite, {"digest", "admin:x"}}};
  ASSERT_EQ(w.code(Op::kSetAcl, set_acl_body("/zookeeper/config", acl)), Err::kOk);
  w.ids = {{"digest", "admin:y"}};
  EXPECT_EQ(w.leave("3"), Err::kNoAuth);
  w.ids = {{"digest", "admin:x"}};
  EXPECT_EQ(w.leave("3"), Err::kOk);
}

TEST(Reconfig, NeedsTheFeatureLevel) {
  Leader w;
  EXPECT_EQ(w.add(said(4)), Err::kUnimplemented);
  EXPECT_EQ(w.internal(Op::kReconfig, Leader::first()), Err::kUnimplemented);
  EXPECT_EQ(w.members(), "");
}

// --- the first list

TEST(Reconfig, TheFirstListIsTheLeadersOwn) {
  Leader w;
  ASSERT_EQ(w.internal(Op::kFeatureLevel, level_body(2)), Err::kOk);
  EXPECT_EQ(w.whole(line(1) + "," + line(2)), Err::kReconfigInProgress) << "from a client";
  w.electorate.pending = true;
  EXPECT_EQ(w.internal(Op::kReconfig, Leader::first()), Err::kReconfigInProgress);
  w.electorate = Electorate{false, false, false, {}, {}};  // nothing of what a client's request needs
  EXPECT_EQ(w.internal(Op::kReconfig, reconfig_body(std::nullopt, std::nullopt, "server.1=h")), Err::kBadArguments);
  EXPECT_EQ(w.internal(Op::kReconfig, reconfig_body(std::nullopt, std::nullopt, "")), Err::kBadArguments);
  EXPECT_EQ(w.internal(Op::kReconfig, reconfig_body(std::nullopt, std::nullopt, line(1, "observer"))),
            Err::kBadArguments);
  EXPECT_EQ(w.machine.members_version(), Zxid());
  EXPECT_EQ(w.internal(Op::kReconfig, Leader::first()), Err::kOk);
  EXPECT_EQ(w.members(), "1v 2v 3v ");
  EXPECT_EQ(w.machine.members_version(), w.zxid);
  EXPECT_TRUE(w.machine.enrolled().empty());
  EXPECT_EQ(w.internal(Op::kReconfig, Leader::first()), Err::kNodeExists);
}

TEST(Reconfig, TwoFirstListsInARow) {
  Leader w;
  w.machine.set_electorate(w.electorate);
  Request r;
  r.op = Op::kFeatureLevel;
  r.body = level_body(2);
  w.prepare(r);
  r.op = Op::kReconfig;
  r.body = Leader::first();
  w.prepare(r);
  w.prepare(r);
  w.prepare(w.request(Op::kReconfig, reconfig_body(std::nullopt, "3")));
  const auto replies = w.settle();
  EXPECT_EQ(replies[0].err, Err::kOk);
  EXPECT_EQ(replies[1].err, Err::kOk) << "the level that is on its way counts";
  EXPECT_EQ(replies[2].err, Err::kNodeExists);
  EXPECT_EQ(replies[3].err, Err::kReconfigInProgress);
}

// --- what is asked for

TEST(Reconfig, RefusedLists) {
  Leader w;
  w.begin();
  w.connect(4);
  w.connect(5);
  for (const std::string& joining : {
           std::string("some thing"),
           line(4),
           std::string("server.4=h4:2888;2181"),
           std::string("server.0=h:1:2;3"),
           said(4) + ";2281",
           said(4, "boss"),
           said(4) + "," + said(4),                       // twice
           said(4) + "," + said(5),                       // two servers
           said(4) + "," + said(3, "observer"),           // one more, one with another role
           std::string("server.3=other:2888:3888;2181"),  // a member elsewhere
           std::string("server.3=h3:2889:3888;2181"),
           std::string("server.4=h3:2888:4888;2181"),  // somebody else's addresses
           std::string("server.4=h3:5888:3888;2181"),
           std::string("server.4=h4:2888:3888;h3:2888"),
           std::string("version=100000000"),
           said(4) + "\n" + said(4),
       }) {
    EXPECT_EQ(w.add(joining), Err::kBadArguments) << joining;
  }
  EXPECT_EQ(w.leave("2,3"), Err::kBadArguments) << "two at a time, and one voter left";
  EXPECT_EQ(w.reconfig(said(4), "3").err, Err::kBadArguments) << "an exchange is two changes";
  EXPECT_EQ(w.reconfig("server.3=other:2888:3888;2181", "3").err, Err::kBadArguments) << "the same in disguise";
  EXPECT_EQ(w.leave("three"), Err::kMarshallingError);
  EXPECT_EQ(w.leave("3x"), Err::kMarshallingError);
  for (const std::string& list : {
           std::string(""),
           std::string("\n"),
           said(1) + "," + said(2) + "," + said(4),                          // one goes, one comes
           said(1) + "," + said(2) + "," + said(3) + "," + line(4),          // a new one without its clients
           said(1) + "," + said(2, "observer") + "," + said(3, "observer"),  // two with another role
           said(1) + "," + said(2) + ",group.1=1:2",
           said(1) + "," + said(1) + "," + said(2),
       }) {
    EXPECT_EQ(w.whole(list), Err::kBadArguments) << list;
  }
  EXPECT_EQ(w.members(), "1v 2v 3v ");
}

TEST(Reconfig, TwoVotersStay) {
  Leader w;
  w.begin();
  ASSERT_EQ(w.leave("3"), Err::kOk);
  EXPECT_EQ(w.leave("2"), Err::kBadArguments);
  EXPECT_EQ(w.add(said(2, "observer")), Err::kBadArguments);
  EXPECT_EQ(w.whole(said(1)), Err::kBadArguments);
  EXPECT_EQ(w.members(), "1v 2v ");
}

TEST(Reconfig, AddsRemovesChangesRoles) {
  Leader w;
  w.begin();
  w.connect(4);
  EXPECT_EQ(w.add(said(4, "observer")), Err::kOk);
  EXPECT_EQ(w.members(), "1v 2v 3v 4o ");
  EXPECT_EQ(w.add(said(4)), Err::kOk);
  EXPECT_EQ(w.members(), "1v 2v 3v 4v ");
  EXPECT_EQ(w.add(said(1, "observer")), Err::kOk);
  EXPECT_EQ(w.members(), "1o 2v 3v 4v ");
  EXPECT_EQ(w.leave(" 1 , , "), Err::kOk);
  EXPECT_EQ(w.members(), "2v 3v 4v ");
  EXPECT_EQ(w.add(said(1, "observer")), Err::kOk);
  EXPECT_EQ(w.members(), "1o 2v 3v 4v ") << "in the order of ids";
  EXPECT_EQ(w.reconfig("", "", line(2) + "\n" + line(3) + ";2181,\n" + line(4) + "\nversion=1\n").err, Err::kOk)
      << "a list as it stands in /zookeeper/config, without one server";
  EXPECT_EQ(w.members(), "2v 3v 4v ");
  EXPECT_EQ(w.machine.members()[1].client, "0.0.0.0:2181");
  EXPECT_EQ(w.machine.members()[2].client, "0.0.0.0:2181") << "not said, so it stays";
}

TEST(Reconfig, WildcardAndLoopbackSayNothing) {
  Leader w;
  w.begin();
  EXPECT_EQ(w.add("server.4=127.0.0.1:1:2:observer;2181"), Err::kOk);
  EXPECT_EQ(w.add("server.5=127.0.0.1:3:2:observer;2181"), Err::kOk) << "only the first port must be its own";
  EXPECT_EQ(w.add("server.6=127.0.0.1:1:4:observer;2181"), Err::kBadArguments);
  EXPECT_EQ(w.add("server.6=0.0.0.0:1:2:observer;0.0.0.0:9"), Err::kOk);
  EXPECT_EQ(w.add("server.7=[::1]:1:2:observer;[::1]:9"), Err::kOk);
  EXPECT_EQ(w.add("server.8=[2001:db8::8]:1:2:observer;[2001:db8::8]:9"), Err::kOk);
  EXPECT_EQ(w.add("server.9=[2001:db8::8]:3:4:observer;[2001:db8::8]:9"), Err::kBadArguments);
  EXPECT_EQ(w.add("server.9=h9:3:4:observer;[2001:db8::8]:2"), Err::kBadArguments);
}

TEST(Reconfig, NothingToDoIsSuccess) {
  Leader w;
  w.begin();
  ASSERT_EQ(w.add(said(3)), Err::kOk) << "where its clients go was not said before";
  const Zxid version = w.machine.members_version();
  EXPECT_EQ(version, w.zxid);
  const std::uint64_t digest = w.machine.digest();
  const std::string three = said(3);
  for (const auto& [joining, leaving] : {std::pair<Data, Data>{three, std::nullopt},
                                         {std::nullopt, "99,300,-4,0,4294967297"},
                                         {three, "3"},
                                         {std::nullopt, std::nullopt},
                                         {"", ""}}) {
    const Applied reply = w.reconfig(joining, leaving);
    EXPECT_EQ(reply.err, Err::kOk);
    wire::Reader r(reply.body);
    EXPECT_EQ(r.string(), config_text(w.machine.members(), version));
  }
  EXPECT_EQ(w.machine.members_version(), version);
  EXPECT_EQ(w.machine.digest(), digest);
}

TEST(Reconfig, VersionMustBeThePresentOne) {
  Leader w;
  w.begin();
  const std::int64_t version = w.machine.members_version().wire();
  EXPECT_EQ(w.reconfig(std::nullopt, "3", std::nullopt, 0).err, Err::kBadVersion);
  EXPECT_EQ(w.reconfig(std::nullopt, "3", std::nullopt, version + 1).err, Err::kBadVersion);
  EXPECT_EQ(w.reconfig(std::nullopt, "3", std::nullopt, version).err, Err::kOk);
  EXPECT_EQ(w.reconfig(said(3), std::nullopt, std::nullopt, version).err, Err::kBadVersion);
}

TEST(Reconfig, OneAtATime) {
  Leader w;
  w.begin();
  w.machine.set_electorate(w.electorate);
  w.prepare(w.request(Op::kReconfig, reconfig_body(std::nullopt, "3")));
  w.prepare(w.request(Op::kReconfig, reconfig_body(std::nullopt, "99")));
  w.prepare(w.request(Op::kFeatureLevel, level_body(2)));
  auto replies = w.settle();
  EXPECT_EQ(replies[0].err, Err::kOk);
  EXPECT_EQ(replies[1].err, Err::kReconfigInProgress);
  EXPECT_EQ(replies[2].err, Err::kOk);
  EXPECT_EQ(w.add(said(3)), Err::kOk) << "applied: nothing is outstanding any more";
  w.prepare(w.request(Op::kReconfig, reconfig_body(std::nullopt, "3")));
  w.outstanding.clear();
  w.machine.forget_prepared();
  EXPECT_EQ(w.leave("3"), Err::kOk) << "neither after what was prepared was lost";
  EXPECT_EQ(w.members(), "1v 2v ");
}

// What is prepared and what is applied overlap: the one counts until it is the other.
TEST(Reconfig, WhatIsOutstandingCountsUntilItIsApplied) {
  Leader w;
  w.machine.set_electorate(w.electorate);
  const auto apply_first = [&w] {
    const auto [zxid, payload] = w.outstanding.front();
    w.outstanding.pop_front();
    EXPECT_EQ(w.machine.apply(zxid, payload, true, w.sink).err, Err::kOk);
  };
  const auto prepare = [&w](Op op, std::string body) {
    Request r;
    r.op = op;
    r.body = std::move(body);
    w.prepare(r);
  };
  prepare(Op::kFeatureLevel, level_body(2));
  prepare(Op::kReconfig, Leader::first());
  apply_first();
  prepare(Op::kReconfig, Leader::first());
  apply_first();
  EXPECT_EQ(w.settle().back().err, Err::kNodeExists);
  ASSERT_EQ(w.internal(Op::kEnrol, Leader::enrolment()), Err::kOk);
  // The reconfig is applied, an enrolment behind it is not: that of 4 must not be forgotten meanwhile.
  w.connect(4);
  w.machine.set_electorate(w.electorate);
  w.prepare(w.request(Op::kReconfig, reconfig_body(said(4), std::nullopt)));
  prepare(Op::kEnrol, directories_body({{Sid(2), directory_of(2)}}));
  apply_first();
  w.disconnect(2);
  w.disconnect(3);
  w.machine.set_electorate(w.electorate);
  w.prepare(w.request(Op::kReconfig, reconfig_body(std::nullopt, "2")));
  for (const Applied& reply : w.settle()) EXPECT_EQ(reply.err, Err::kOk);
  EXPECT_EQ(w.members(), "1v 3v 4v ");
}

TEST(Reconfig, WhatAnotherLeaderDidCounts) {
  Leader w;
  w.begin();
  Txn txn;
  txn.op = Op::kReconfig;
  txn.changes.emplace_back(ReconfigTxn{{w.machine.members()[0], w.machine.members()[1]}, {}});
  std::string payload;
  encode(txn, payload);
  w.zxid = Zxid(w.zxid.value + 1);
  w.machine.apply(w.zxid, payload, false, w.sink);
  EXPECT_EQ(w.leave("2"), Err::kBadArguments) << "two voters are left";
}

// --- the new majority, and whose directory counts

TEST(Reconfig, WhoBeginsToVoteMustBeHere) {
  Leader w;
  w.begin();
  EXPECT_EQ(w.add(said(4)), Err::kNewConfigNoQuorum) << "three of four would be enough, but for nothing more";
  EXPECT_EQ(w.add(said(4, "observer")), Err::kOk);
  EXPECT_EQ(w.add(said(4)), Err::kNewConfigNoQuorum);
  w.connect(4);
  EXPECT_EQ(w.add(said(4)), Err::kOk);
  w.disconnect(4);
  EXPECT_EQ(w.leave("3"), Err::kOk) << "who votes already may be away";
}

TEST(Reconfig, TheNewVotersNeedAMajority) {
  Leader w;
  w.begin();
  w.disconnect(3);
  EXPECT_EQ(w.add(said(4, "observer")), Err::kOk) << "two of three vote";
  EXPECT_EQ(w.add(said(4)), Err::kNewConfigNoQuorum) << "two of four";
  w.connect(4);
  EXPECT_EQ(w.add(said(4)), Err::kOk) << "three of four, the one that begins to vote included";
  w.disconnect(2);
  EXPECT_EQ(w.leave("1"), Err::kNewConfigNoQuorum) << "one of three";
  EXPECT_EQ(w.leave("3"), Err::kOk) << "two of three";
}

TEST(Reconfig, AnotherDirectoryDoesNotCount) {
  Leader w;
  w.begin();
  w.connect(4);
  w.electorate.synced[Sid(3)] = "a new disk";
  EXPECT_EQ(w.add(said(4)), Err::kOk) << "1, 2 and 4 of four";
  w.electorate.synced[Sid(2)] = "a new disk";
  w.disconnect(4);
  EXPECT_EQ(w.add(said(5, "observer")), Err::kNewConfigNoQuorum) << "1 of four";
  w.connect(4);
  EXPECT_EQ(w.leave("3"), Err::kOk) << "1 and 4 of three";
}

TEST(Reconfig, DirectoriesComeAndGoWithTheMembers) {
  Leader w;
  w.begin();
  w.connect(4);
  w.electorate.synced[Sid(9)] = "a guest";
  const auto enrolled = [&](std::uint32_t sid) -> std::string {
    const auto at = w.machine.enrolled().find(Sid(sid));
    return at == w.machine.enrolled().end() ? "" : at->second;
  };
  ASSERT_EQ(w.add(said(4, "observer")), Err::kOk);
  EXPECT_EQ(enrolled(4), directory_of(4));
  EXPECT_EQ(w.machine.enrolled().size(), 4U);
  w.electorate.synced[Sid(4)] = "a new disk";
  ASSERT_EQ(w.add(said(4)), Err::kOk);
  EXPECT_EQ(enrolled(4), "a new disk") << "an observer that begins to vote begins with what it has";
  w.electorate.synced[Sid(3)] = "a new disk";
  ASSERT_EQ(w.add(said(3)), Err::kOk);
  EXPECT_EQ(enrolled(3), directory_of(3)) << "a voter keeps the one that it has promised with";
  ASSERT_EQ(w.leave("3"), Err::kOk);
  EXPECT_EQ(enrolled(3), "");
  ASSERT_EQ(w.add(said(3)), Err::kOk);
  EXPECT_EQ(enrolled(3), "a new disk") << "who was removed may come back with an empty one";
  w.disconnect(3);
  ASSERT_EQ(w.leave("3"), Err::kOk);
  ASSERT_EQ(w.internal(Op::kEnrol, directories_body({{Sid(3), "late"}, {Sid(2), directory_of(2)}})), Err::kOk);
  EXPECT_EQ(enrolled(3), "") << "an enrolment that comes after the removal";
  ASSERT_EQ(w.add(said(3, "observer")), Err::kOk);
  EXPECT_EQ(enrolled(3), "") << "it is not here";
}

TEST(Reconfig, NobodyIsEnrolledBeforeTheFirstEnrolment) {
  Leader w;
  ASSERT_EQ(w.internal(Op::kFeatureLevel, level_body(2)), Err::kOk);
  ASSERT_EQ(w.internal(Op::kReconfig, Leader::first()), Err::kOk);
  w.connect(4);
  ASSERT_EQ(w.add(said(4)), Err::kOk);
  EXPECT_TRUE(w.machine.enrolled().empty()) << "else only the new one would count";
  ASSERT_EQ(w.leave("4"), Err::kOk);
  // Enrolment and reconfig in a row: the second knows of the first.
  w.machine.set_electorate(w.electorate);
  Request r;
  r.op = Op::kEnrol;
  r.body = Leader::enrolment();
  w.prepare(r);
  w.prepare(w.request(Op::kReconfig, reconfig_body(said(4), std::nullopt)));
  w.settle();
  EXPECT_EQ(w.machine.enrolled().size(), 4U);
}

// --- what it leaves

TEST(Reconfig, TheNodeTellsIt) {
  Leader w;
  Stat stat = *w.stat("/zookeeper/config");
  EXPECT_EQ(stat.version, 0);
  w.begin();
  stat = *w.stat("/zookeeper/config");
  EXPECT_EQ(stat.version, -1);
  EXPECT_EQ(stat.mzxid, w.machine.members_version().wire());
  EXPECT_EQ(*w.data("/zookeeper/config"), config_text(w.machine.members(), w.machine.members_version()));
  w.now += 1000;
  w.connect(4);
  const Applied reply = w.reconfig(said(4), std::nullopt);
  ASSERT_EQ(reply.err, Err::kOk);
  EXPECT_EQ(reply.op, Op::kReconfig);
  wire::Reader r(reply.body);
  const std::string text(r.string());
  char version[32];
  std::snprintf(version, sizeof version, "%llx", static_cast<unsigned long long>(w.zxid.value));
  EXPECT_EQ(text, line(1) + "\n" + line(2) + "\n" + line(3) + "\n" + said(4) + "\nversion=" + version);
  EXPECT_EQ(w.data("/zookeeper/config"), text);
  stat = wire::read_stat(r);
  EXPECT_EQ(r.remaining(), 0U);
  EXPECT_FALSE(r.failed());
  EXPECT_EQ(stat, *w.stat("/zookeeper/config"));
  EXPECT_EQ(stat.version, -1);
  EXPECT_EQ(stat.aversion, -1);
  EXPECT_EQ(stat.czxid, 0);
  EXPECT_EQ(stat.mzxid, w.zxid.wire());
  EXPECT_EQ(stat.mtime, w.now);
  EXPECT_EQ(stat.data_length, static_cast<std::int32_t>(text.size()));
}

class WatchLog : public EventLog {
 public:
  void watch_event(ConnId, WatchType type, std::string_view path, Zxid zxid) override {
    seen.push_back(std::to_string(static_cast<int>(type)) + " " + std::string(path) + " " + std::to_string(zxid.value));
  }
  std::vector<std::string> seen;
};

TEST(Reconfig, WatchersOfTheNodeAreTold) {
  Leader w;
  w.begin();
  w.machine.connection_opened(w.peer());
  ASSERT_EQ(w.read(Op::kGetData, watch_body("/zookeeper/config", true)).first, Err::kOk);
  ASSERT_EQ(w.read(Op::kGetChildren, watch_body("/zookeeper", true)).first, Err::kOk);
  WatchLog log;
  const auto apply = [&](const std::string& leaving) {
    const Zxid zxid = w.zxid = Zxid(w.zxid.value + 1);
    const Request r = w.request(Op::kReconfig, reconfig_body(std::nullopt, leaving));
    return w.machine.apply(zxid, w.machine.prepare(r, zxid, w.now), true, log).err;
  };
  w.machine.set_electorate(w.electorate);
  EXPECT_EQ(apply("99"), Err::kOk);
  EXPECT_EQ(apply("2,3"), Err::kBadArguments);
  EXPECT_TRUE(log.seen.empty());
  EXPECT_EQ(apply("3"), Err::kOk);
  EXPECT_EQ(log.seen, std::vector<std::string>{"3 /zookeeper/config " + std::to_string(w.zxid.value)});
}

TEST(Reconfig, AFollowerHasTheSame) {
  Leader w;
  StateMachine follower{Limits()};
  EventLog sink;
  Request open;
  open.session = w.me;
  open.op = Op::kCreateSession;
  open.body = session_body(10000, w.me);
  follower.apply(w.zxid, follower.prepare(open, w.zxid, w.now), false, sink);
  const auto both = [&](Request r) {
    w.machine.set_electorate(w.electorate);
    w.prepare(r);
    const auto [zxid, payload] = w.outstanding.back();
    w.settle();
    follower.apply(zxid, payload, false, sink);
    EXPECT_EQ(follower.digest(), w.machine.digest());
    EXPECT_EQ(follower.members(), w.machine.members());
    EXPECT_EQ(follower.members_version(), w.machine.members_version());
    EXPECT_EQ(follower.enrolled(), w.machine.enrolled());
    EXPECT_EQ(follower.feature_level(), w.machine.feature_level());
  };
  const auto internal = [](Op op, std::string body) {
    Request r;
    r.op = op;
    r.body = std::move(body);
    return r;
  };
  const std::uint64_t before = follower.digest();
  both(internal(Op::kFeatureLevel, level_body(2)));
  const std::uint64_t levelled = follower.digest();
  EXPECT_NE(levelled, before);
  both(internal(Op::kReconfig, Leader::first()));
  both(internal(Op::kEnrol, Leader::enrolment()));
  w.connect(4);
  both(w.request(Op::kReconfig, reconfig_body(said(4), std::nullopt)));
  both(w.request(Op::kReconfig, reconfig_body(said(4, "observer"), std::nullopt)));
  both(w.request(Op::kReconfig, reconfig_body(std::nullopt, "1")));
  EXPECT_EQ(w.members(), "2v 3v 4o ");
}

TEST(Reconfig, ThePayloadIsFoundAtAppend) {
  Leader w;
  w.begin();
  w.connect(4);
  w.machine.set_electorate(w.electorate);
  w.prepare(w.request(Op::kReconfig, reconfig_body(said(4), std::nullopt)));
  const auto change = reconfig_of(w.outstanding.back().second);
  ASSERT_TRUE(change);
  EXPECT_EQ(change->members.size(), 4U);
  EXPECT_EQ(change->directories, (std::map<Sid, std::string>{{Sid(4), directory_of(4)}}));
  w.prepare(w.request(Op::kReconfig, reconfig_body(std::nullopt, "3")));
  EXPECT_FALSE(reconfig_of(w.outstanding.back().second)) << "a refusal";
  w.prepare(w.request(Op::kCreate, create_body("/x")));
  EXPECT_FALSE(reconfig_of(w.outstanding.back().second));
  w.settle();
}

TEST(Reconfig, AFullDiskIsNoReasonToKeepAServer) {
  Leader w;
  w.begin();
  w.writes_refused = true;
  EXPECT_EQ(w.leave("3"), Err::kOk);
}

TEST(Reconfig, NotInAMulti) {
  Leader w;
  w.begin();
  for (const Op op : {Op::kReconfig, Op::kFeatureLevel}) {
    const Applied reply = w.call(Op::kMulti, multi_body({{op, reconfig_body(std::nullopt, "3")}}));
    EXPECT_EQ(reply.err, Err::kMarshallingError);
  }
  EXPECT_EQ(w.members(), "1v 2v 3v ");
}

TEST(Reconfig, GoesToTheLeader) {
  for (const Op op : {Op::kReconfig, Op::kFeatureLevel}) {
    EXPECT_TRUE(StateMachine::is_write(op, ""));
    EXPECT_FALSE(StateMachine::is_read(op));
  }
}

// Any text: a refusal, or one step that leaves two voters and a majority of them here.
TEST(ReconfigFuzz, EveryChangeIsOneStep) {
  static const std::string kWords[] = {"server.",
                                       "1",
                                       "2",
                                       "3",
                                       "4",
                                       "5",
                                       "6",
                                       "=h",
                                       "=",
                                       ":2888",
                                       ":3888",
                                       ":",
                                       ";",
                                       ";2181",
                                       ",",
                                       "\n",
                                       " ",
                                       ":observer",
                                       "[::1]",
                                       "x",
                                       "version=",
                                       "9",
                                       "-",
                                       said(3),
                                       said(4),
                                       said(5),
                                       line(1),
                                       line(2),
                                       said(2, "observer"),
                                       said(5, "observer")};
  std::mt19937 random(99);
  Leader w;
  w.begin();
  w.connect(4);
  int changed = 0;
  const auto text = [&]() -> std::optional<std::string> {
    if (random() % 3 == 0) return std::nullopt;
    std::string out;
    for (auto n = random() % 8; n > 0; --n) out += kWords[random() % std::size(kWords)];
    return out;
  };
  for (int i = 0; i < 30'000; ++i) {
    const std::vector<Member> before = w.machine.members();
    const auto joining = text();
    const auto leaving = text();
    const auto whole = random() % 4 == 0 ? text() : std::nullopt;
    const Applied reply = w.reconfig(joining, leaving, whole);
    const std::vector<Member>& after = w.machine.members();
    if (reply.err != Err::kOk) {
      ASSERT_EQ(after, before);
      continue;
    }
    if (after == before) continue;
    ++changed;
    std::map<Sid, int> roles;
    std::size_t voters = 0, here = 0, differ = 0;
    for (const Member& m : before) roles[m.sid] = m.observer ? 2 : 1;
    for (const Member& m : after) {
      const int role = m.observer ? 2 : 1;
      differ += roles[m.sid] != role ? 1U : 0U;
      roles.erase(m.sid);
      voters += role == 1 ? 1U : 0U;
      here += role == 1 && w.electorate.synced.contains(m.sid) ? 1U : 0U;
    }
    ASSERT_LE(differ + roles.size(), 1U);
    ASSERT_GE(voters, 2U);
    ASSERT_GT(2 * here, voters);
  }
  EXPECT_GT(changed, 100);
}

}  // namespace
}  // namespace coord::tree
