// multi: client-protocol.md section 9 and the items of section 18 about it.
#include "tests/replica/tree/harness.h"

namespace coord::tree::test {
namespace {

std::vector<Err> codes(const std::vector<MultiResult>& results) {
  std::vector<Err> out;
  for (const MultiResult& r : results) out.push_back(r.err);
  return out;
}

TEST(Multi, EmptySucceeds) {
  World w;
  EXPECT_TRUE(w.multi({}).empty());
}

TEST(Multi, FailureHasHeaderErrZeroAndOneResultEach) {  // section 18.4
  World w;
  ASSERT_EQ(w.create("/there"), Err::kOk);
  const std::uint64_t digest = w.machine.digest();
  const auto results = w.multi({{Op::kCreate, create_body("/a")},
                                {Op::kCreate, create_body("/there")},
                                {Op::kDelete, path_version_body("/absent")},
                                {Op::kSetData, set_data_body("/there", "x")}});
  EXPECT_EQ(codes(results),
            (std::vector<Err>{Err::kOk, Err::kNodeExists, Err::kRuntimeInconsistency, Err::kRuntimeInconsistency}));
  for (const MultiResult& r : results) EXPECT_EQ(r.type, -1);
  EXPECT_EQ(w.machine.digest(), digest);
}

TEST(Multi, ResultTypes) {  // section 18.5
  World w;
  const auto results = w.multi({{Op::kCreate, create_body("/a")},
                                {Op::kCreate2, create_body("/b")},
                                {Op::kCreateContainer, create_body("/c", "", open_acl(), 4)},
                                {Op::kCreateTtl, create_ttl_body("/d", 1000)},
                                {Op::kSetData, set_data_body("/a", "x")},
                                {Op::kCheck, path_version_body("/a", 1)},
                                {Op::kDelete, path_version_body("/a")}});
  std::vector<int> types;
  for (const MultiResult& r : results) types.push_back(r.type);
  EXPECT_EQ(types, (std::vector<int>{1, 15, 15, 15, 5, 13, 2}));
  EXPECT_EQ(results[0].path, "/a");
  EXPECT_EQ(results[1].stat, *w.stat("/b"));
  EXPECT_EQ(results[4].stat.version, 1);
}

TEST(Multi, EachSeesThoseBefore) {  // section 18.6
  World w;
  const auto results = w.multi({{Op::kCreate, create_body("/p")},
                                {Op::kCheck, path_version_body("/p", 0)},
                                {Op::kSetData, set_data_body("/p", "x", 0)},
                                {Op::kCheck, path_version_body("/p", 1)},
                                {Op::kCreate, create_body("/p/c")},
                                {Op::kDelete, path_version_body("/p/c")},
                                {Op::kDelete, path_version_body("/p", 1)}});
  for (const MultiResult& r : results) EXPECT_EQ(r.err, Err::kOk);
  EXPECT_FALSE(w.exists("/p"));
  EXPECT_EQ(
      codes(w.multi({{Op::kCreate, create_body("/e", "", open_acl(), 1)}, {Op::kCreate, create_body("/e/c")}}))[1],
      Err::kNoChildrenForEphemerals);
  EXPECT_EQ(codes(w.multi({{Op::kCreate, create_body("/p")},
                           {Op::kCreate, create_body("/p/c")},
                           {Op::kDelete, path_version_body("/p")}}))[2],
            Err::kNotEmpty);
  EXPECT_EQ(codes(w.multi({{Op::kCreate, create_body("/p", "", acl_of("world", "anyone", 1))},
                           {Op::kSetData, set_data_body("/p", "")}}))[1],
            Err::kNoAuth);
}

TEST(Multi, SequenceCounter) {  // section 18.7
  World w;
  ASSERT_EQ(w.create("/q"), Err::kOk);
  const auto failed =
      w.multi({{Op::kCreate, create_body("/q/s", "", open_acl(), 2)}, {Op::kDelete, path_version_body("/absent")}});
  EXPECT_EQ(failed[1].err, Err::kNoNode);
  const auto results = w.multi(
      {{Op::kCreate, create_body("/q/s", "", open_acl(), 2)}, {Op::kCreate, create_body("/q/s", "", open_acl(), 2)}});
  EXPECT_EQ(results[0].path, "/q/s0000000000");
  EXPECT_EQ(results[1].path, "/q/s0000000001");
}

TEST(Multi, FailedOneWithAPipelinedSuccessor) {
  World w;
  ASSERT_EQ(w.create("/q"), Err::kOk);
  w.prepare(w.request(Op::kCreate, create_body("/q/s", "", open_acl(), 2)));
  w.prepare(w.request(Op::kMulti, multi_body({{Op::kCreate, create_body("/q/s", "", open_acl(), 2)},
                                              {Op::kSetData, set_data_body("/q", "no")},
                                              {Op::kDelete, path_version_body("/absent")}})));
  w.prepare(w.request(Op::kCreate, create_body("/q/s", "", open_acl(), 2)));
  w.prepare(w.request(Op::kSetData, set_data_body("/q", "yes", 0)));
  const std::vector<Applied> replies = w.settle();
  EXPECT_EQ(wire::Reader(replies[2].body).string(), "/q/s0000000001");
  EXPECT_EQ(replies[3].err, Err::kOk);
}

TEST(Multi, OneTimestampAndCzxid) {  // section 18.46
  World w;
  const auto results = w.multi({{Op::kCreate2, create_body("/a")}, {Op::kCreate2, create_body("/b")}});
  EXPECT_EQ(results[0].stat.czxid, results[1].stat.czxid);
  EXPECT_EQ(results[0].stat.ctime, results[1].stat.ctime);
  EXPECT_EQ(results[0].stat.czxid, w.zxid.wire());
}

TEST(Multi, SetDataStatIsTheStateRightAfterIt) {
  World w;
  const auto results = w.multi({{Op::kCreate, create_body("/broker", std::nullopt, open_acl(), 1)},
                                {Op::kSetData, set_data_body("/broker", "v0")},
                                {Op::kSetData, set_data_body("/broker", "later")}});
  EXPECT_EQ(results[1].stat.version, 1);
  EXPECT_EQ(results[1].stat.data_length, 2);
  EXPECT_EQ(results[1].stat.czxid, w.zxid.wire());
  EXPECT_EQ(results[1].stat.ephemeral_owner, w.me.value);
}

TEST(Multi, ForeignOperationsRefuseTheWhole) {
  World w;
  const std::pair<Op, std::string> good{Op::kCreate, create_body("/a")};
  for (const std::pair<Op, std::string>& bad :
       {std::pair{Op::kSetAcl, set_acl_body("/", open_acl())}, std::pair{Op::kExists, watch_body("/")},
        std::pair{Op::kGetData, watch_body("/")}, std::pair{Op::kDeleteContainer, path_body("/")},
        std::pair{Op::kCreateNode, std::string(200, '\0')}, std::pair{Op::kMulti, multi_body({})},
        std::pair{Op::kCreate, create_body("/b", "", open_acl(), 7)}}) {
    EXPECT_EQ(w.code(Op::kMulti, multi_body({good, bad})), Err::kMarshallingError) << static_cast<int>(bad.first);
    EXPECT_FALSE(w.exists("/a"));
  }
  const std::string whole = multi_body({good});
  EXPECT_EQ(w.code(Op::kMulti, whole.substr(0, whole.size() - 1)), Err::kMarshallingError);
}

TEST(Multi, CheckErrors) {
  World w;
  ASSERT_EQ(w.create("/w", "", 0, acl_of("world", "anyone", perm::kWrite)), Err::kOk);
  ASSERT_EQ(w.create("/r"), Err::kOk);
  const auto check = [&](std::string_view path, std::int32_t version) {
    return w.multi({{Op::kCheck, path_version_body(path, version)}})[0].err;
  };
  EXPECT_EQ(check("w", 0), Err::kBadArguments);
  EXPECT_EQ(check("/absent", 0), Err::kNoNode);
  EXPECT_EQ(check("/w", 5), Err::kNoAuth);
  EXPECT_EQ(check("/r", 5), Err::kBadVersion);
  EXPECT_EQ(check("/r", -1), Err::kOk);
}

TEST(Multi, UnknownSessionIsTheFirstResult) {
  World w;
  Request r = w.request(Op::kMulti,
                        multi_body({{Op::kDelete, path_version_body("/a")}, {Op::kDelete, path_version_body("/b")}}));
  r.session = SessionId{99};
  const Applied reply = w.call(r);
  EXPECT_EQ(codes(read_multi(reply.body)), (std::vector<Err>{Err::kUnknownSession, Err::kRuntimeInconsistency}));
}

TEST(Multi, EphemeralsOfARolledBackMultiAreNobodys) {
  World w;
  w.prepare(w.request(Op::kMulti, multi_body({{Op::kCreate, create_body("/e", "", open_acl(), 1)},
                                              {Op::kDelete, path_version_body("/absent")}})));
  w.prepare(w.request(Op::kCloseSession, ""));
  for (const Applied& reply : w.settle()) EXPECT_EQ(reply.err, Err::kOk);
}

}  // namespace
}  // namespace coord::tree::test
