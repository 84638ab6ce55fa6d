// The feature level of the ensemble: who may raise it, how far, and what happens to a replica that knows less.
#include "tests/replica/tree/ensemble_harness.h"

namespace coord::tree {
namespace {

using namespace test;

TEST(FeatureLevel, WhoMay) {
  Leader w;
  w.ids = {{"ip", "127.0.0.1"}};
  EXPECT_EQ(w.level(0), Err::kNoAuth);
  EXPECT_EQ(w.level(2), Err::kNoAuth);
  w.trusted = true;
  EXPECT_EQ(w.level(2), Err::kNoAuth) << "a mount's user";
  w.trusted = false;
  w.credentials.uid = 0;
  EXPECT_EQ(w.level(2), Err::kNoAuth) << "coord.tcpUser";
  Request r = w.request(Op::kFeatureLevel, level_body(2));
  r.trusted = true;
  r.session = SessionId(77);
  EXPECT_EQ(w.call(r).err, Err::kUnknownSession);
  r.body = "?";
  EXPECT_EQ(w.call(r).err, Err::kMarshallingError);
  EXPECT_EQ(w.machine.feature_level(), 1);
  w.trusted = true;
  EXPECT_EQ(w.level(2), Err::kOk) << "root on the socket";
  w.trusted = false;
  w.ids = {{"super", ""}};
  w.credentials.uid = 1000;
  EXPECT_EQ(w.level(2), Err::kOk);
}

TEST(FeatureLevel, AskingChangesNothing) {
  Leader w;
  const std::uint64_t digest = w.machine.digest();
  w.machine.set_electorate(w.electorate);
  Applied reply = w.call(Op::kFeatureLevel, level_body(0));
  EXPECT_EQ(reply.err, Err::kOk);
  EXPECT_EQ(reply.body, level_body(1));
  EXPECT_EQ(w.machine.digest(), digest);
  reply = w.call(Op::kFeatureLevel, level_body(2));
  EXPECT_EQ(reply.body, level_body(2));
  EXPECT_EQ(w.machine.feature_level(), 2);
  EXPECT_NE(w.machine.digest(), digest);
  EXPECT_EQ(w.call(Op::kFeatureLevel, level_body(2)).body, level_body(2)) << "again";
  EXPECT_EQ(w.call(Op::kFeatureLevel, level_body(0)).body, level_body(2));
}

TEST(FeatureLevel, NeverDownNorAboveWhatIsKnown) {
  Leader w;
  w.connect(3, 1);
  EXPECT_EQ(w.level(2), Err::kBadArguments) << "3 knows less";
  w.connect(3, 5);
  EXPECT_EQ(w.level(3), Err::kBadArguments) << "the leader knows less";
  EXPECT_EQ(w.level(-1), Err::kBadArguments);
  EXPECT_EQ(w.level(INT32_MIN), Err::kBadArguments);
  EXPECT_EQ(w.level(2), Err::kOk);
  EXPECT_EQ(w.level(1), Err::kBadArguments);
  EXPECT_EQ(w.machine.feature_level(), 2);
}

TEST(FeatureLevel, EveryMemberMustBeThere) {
  Leader w;
  w.connect(3, 0);
  EXPECT_EQ(w.level(2), Err::kNewConfigNoQuorum) << "only the files name it, and it is away";
  w.electorate.feature_levels.clear();
  EXPECT_EQ(w.level(2), Err::kNewConfigNoQuorum);
  w.electorate.alone = true;
  EXPECT_EQ(w.level(2), Err::kOk);
}

TEST(FeatureLevel, TheFirstIsTheLeadersWhoHasAskedThoseThatAreThere) {
  Leader w;
  w.connect(3, 0);
  EXPECT_EQ(w.level(2), Err::kNewConfigNoQuorum);
  EXPECT_EQ(w.internal(Op::kFeatureLevel, level_body(2)), Err::kOk);
  EXPECT_EQ(w.machine.feature_level(), 2);
}

TEST(FeatureLevel, AListedMemberThatIsAwayIsMissed) {
  // Data of an ensemble with a list, but a level that can still rise, is made by a hand.
  Limits limits;
  limits.feature_level_known = 9;
  Leader w(limits);
  w.begin();
  w.disconnect(3);
  for (auto& [sid, known] : w.electorate.feature_levels) known = 9;
  EXPECT_EQ(w.level(3), Err::kNewConfigNoQuorum);
  EXPECT_EQ(w.level(2), Err::kOk) << "what is so already needs nobody";
  w.connect(3, 2);
  EXPECT_EQ(w.level(3), Err::kBadArguments);
  w.connect(3, 9);
  w.connect(7, 1);
  EXPECT_EQ(w.level(3), Err::kOk) << "a guest is not asked";
  EXPECT_EQ(w.level(7), Err::kOk) << "by any amount";
}

TEST(FeatureLevel, HeldBack) {
  Limits limits;
  limits.feature_level_known = 1;
  Leader w(limits);
  EXPECT_EQ(w.level(2), Err::kBadArguments);
  EXPECT_EQ(w.level(1), Err::kOk);
}

TEST(FeatureLevelDeathTest, AboveWhatIsKnownIsNotApplied) {
  Limits limits;
  limits.feature_level_known = 1;
  StateMachine machine(limits);
  EventLog sink;
  Txn txn;
  txn.op = Op::kFeatureLevel;
  txn.changes.emplace_back(FeatureLevelTxn{2});
  std::string payload;
  encode(txn, payload);
  EXPECT_DEATH(machine.apply(Zxid(1, 1), payload, false, sink), "feature level 2.*knows 1");
}

TEST(FeatureLevel, TwoInARow) {
  Limits limits;
  limits.feature_level_known = 9;
  Leader w(limits);
  for (auto& [sid, known] : w.electorate.feature_levels) known = 9;
  w.machine.set_electorate(w.electorate);
  for (const std::int32_t level : {5, 4, 5, 0}) w.prepare(w.request(Op::kFeatureLevel, level_body(level)));
  const auto replies = w.settle();
  EXPECT_EQ(replies[0].body, level_body(5));
  EXPECT_EQ(replies[1].err, Err::kBadArguments);
  EXPECT_EQ(replies[2].body, level_body(5));
  EXPECT_EQ(replies[3].body, level_body(5));
  w.prepare(w.request(Op::kFeatureLevel, level_body(9)));
  w.outstanding.clear();
  w.machine.forget_prepared();
  EXPECT_EQ(w.level(6), Err::kOk);
}

}  // namespace
}  // namespace coord::tree
