// Stock operations: client-protocol.md section 3.1 row by row, and the items of section 18 that prep decides.
#include "tests/replica/tree/harness.h"

namespace coord::tree::test {
namespace {

Acl read_only() { return acl_of("world", "anyone", perm::kRead); }
// `me` has no permission below it but what `perms` says.
Acl world_may(std::int32_t perms) { return acl_of("world", "anyone", perms); }

// --- create

TEST(PrepareCreate, FlagsComeBeforeEverything) {
  World w;
  EXPECT_EQ(w.create("noslash", "", 7), Err::kBadArguments);
  EXPECT_EQ(w.create("/absent/x", "", -1), Err::kBadArguments);
  Request r = w.request(Op::kCreate, create_body("/x", "", open_acl(), 9));
  r.session = SessionId{99};
  EXPECT_EQ(w.call(r).err, Err::kBadArguments);  // before the session
}

TEST(PrepareCreate, TtlNeedsExtendedTypes) {
  Limits limits;
  limits.extended_types = false;
  World w(limits);
  EXPECT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/t", 1000)), Err::kUnimplemented);
  EXPECT_EQ(w.create("/t", "", 5), Err::kUnimplemented);
  EXPECT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/t", 0)), Err::kUnimplemented);
}

TEST(PrepareCreate, TtlRange) {
  World w;
  for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 40}) {
    EXPECT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/t", bad)), Err::kBadArguments) << bad;
  }
  EXPECT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/t", 1000, 0)), Err::kBadArguments);  // not a TTL mode
  EXPECT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/t", -1, 0)), Err::kBadArguments);
  EXPECT_EQ(w.create("/t", "", 5), Err::kBadArguments);  // create has no ttl
  EXPECT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/t", 1)), Err::kOk);
  EXPECT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/u", (std::int64_t{1} << 40) - 1)), Err::kOk);
  EXPECT_EQ(w.stat("/t")->ephemeral_owner, 0);
}

TEST(PrepareCreate, SessionBeforePath) {
  World w;
  Request r = w.request(Op::kCreate, create_body("noslash"));
  r.session = SessionId{99};
  EXPECT_EQ(w.call(r).err, Err::kUnknownSession);
}

TEST(PrepareCreate, PathWithoutSlashOrWithNulBeforeAcl) {
  World w;
  EXPECT_EQ(w.create("noslash", "", 0, {}), Err::kBadArguments);
  EXPECT_EQ(w.create(std::string_view("/a\0b", 4), "", 0, {}), Err::kBadArguments);
  EXPECT_EQ(w.create("", "", 0, {}), Err::kBadArguments);
}

TEST(PrepareCreate, AclBeforeParent) {
  World w;
  EXPECT_EQ(w.create("/absent/x", "", 0, {}), Err::kInvalidAcl);
  EXPECT_EQ(w.create("/absent/x", "", 0, acl_of("nonsense", "x")), Err::kInvalidAcl);
  std::string null_acl;
  wire::Writer writer(null_acl);
  writer.buffer(std::string_view("/x"));
  writer.buffer(std::string_view());
  writer.i32(-1);
  writer.i32(0);
  EXPECT_EQ(w.code(Op::kCreate, null_acl), Err::kInvalidAcl);
}

TEST(PrepareCreate, ParentMissingBeforeValidation) {
  World w;
  EXPECT_EQ(w.create("a/b"), Err::kNoNode);
  EXPECT_EQ(w.create("/absent/b\x1e"), Err::kNoNode);
  EXPECT_EQ(w.create("/a/"), Err::kNoNode);
}

TEST(PrepareCreate, NoAuthHidesNodeExistsAndBadNames) {
  World w;
  ASSERT_EQ(w.create("/p"), Err::kOk);
  ASSERT_EQ(w.create("/p/c"), Err::kOk);
  ASSERT_EQ(w.code(Op::kSetAcl, set_acl_body("/p", read_only())), Err::kOk);
  EXPECT_EQ(w.create("/p/c"), Err::kNoAuth);
  EXPECT_EQ(w.create("/p/new"), Err::kNoAuth);
  EXPECT_EQ(w.create("/p/b\x1e"), Err::kNoAuth);
}

TEST(PrepareCreate, ValidationAfterTheParent) {
  World w;
  ASSERT_EQ(w.create("/a"), Err::kOk);
  EXPECT_EQ(w.create("/a/"), Err::kBadArguments);
  EXPECT_EQ(w.create("/b\x1e"), Err::kBadArguments);
  EXPECT_EQ(w.create("//b"), Err::kBadArguments);
  EXPECT_EQ(w.create("/a/."), Err::kBadArguments);
  EXPECT_EQ(w.create("/a/.."), Err::kBadArguments);
  EXPECT_EQ(w.create("/\xf0\x9f\x98\x80"), Err::kBadArguments);  // four bytes of UTF-8
  EXPECT_EQ(w.create("/a b"), Err::kOk);
  EXPECT_EQ(w.create("/..a"), Err::kOk);
  EXPECT_EQ(w.create("/a.."), Err::kOk);
  EXPECT_EQ(w.create("/\xc3\xa4h"), Err::kOk);
}

TEST(PrepareCreate, RootExists) {
  World w;
  EXPECT_EQ(w.create("/"), Err::kNodeExists);
}

TEST(PrepareCreate, SequentialNameBehindASlash) {
  World w;
  ASSERT_EQ(w.create("/a"), Err::kOk);
  EXPECT_EQ(w.create_name("/a/", 2), "/a/0000000000");
  EXPECT_EQ(w.create_name("/", 2), "/0000000001");
}

TEST(PrepareCreate, ExistsBeforeEphemeralParent) {
  World w;
  ASSERT_EQ(w.create("/e", "", 1), Err::kOk);
  EXPECT_EQ(w.create("/e"), Err::kNodeExists);
  EXPECT_EQ(w.create("/e/c"), Err::kNoChildrenForEphemerals);
  EXPECT_EQ(w.create("/e/c", "", 1), Err::kNoChildrenForEphemerals);
}

TEST(PrepareCreate, ContainerFlagOnPlainCreateMakesAPersistentNode) {
  World w;
  ASSERT_EQ(w.create("/plain", "", 4), Err::kOk);
  ASSERT_EQ(w.code(Op::kCreateContainer, create_body("/box", "", open_acl(), 4)), Err::kOk);
  ASSERT_EQ(w.code(Op::kCreateContainer, create_body("/box0", "", open_acl(), 0)), Err::kOk);
  for (const char* path : {"/plain", "/box", "/box0"}) {
    ASSERT_EQ(w.create(std::string(path) + "/c"), Err::kOk);
    ASSERT_EQ(w.remove(std::string(path) + "/c"), Err::kOk);
    EXPECT_EQ(w.stat(path)->ephemeral_owner, 0);
  }
  const std::vector<Request> due = w.machine.reap(w.now, 10);
  ASSERT_EQ(due.size(), 2u);
  for (const Request& r : due) EXPECT_EQ(w.call(r).err, Err::kOk);
  EXPECT_TRUE(w.exists("/plain"));
  EXPECT_FALSE(w.exists("/box"));
  EXPECT_FALSE(w.exists("/box0"));
}

TEST(PrepareCreate, SuffixCountsEveryChildEverCreated) {  // section 18.1
  World w;
  ASSERT_EQ(w.create("/p"), Err::kOk);
  ASSERT_EQ(w.create("/p/x"), Err::kOk);
  ASSERT_EQ(w.remove("/p/x"), Err::kOk);
  EXPECT_EQ(w.create_name("/p/s", 2), "/p/s0000000001");
  EXPECT_EQ(w.stat("/p")->cversion, 3);
  EXPECT_EQ(w.stat("/p")->num_children, 1);
}

TEST(PrepareCreate, PipelinedSequentialNamesAreDistinct) {
  World w;
  for (int i = 0; i < 3; ++i) w.prepare(w.request(Op::kCreate, create_body("/s", "", open_acl(), 2)));
  const std::vector<Applied> replies = w.settle();
  for (int i = 0; i < 3; ++i) {
    wire::Reader r(replies[static_cast<std::size_t>(i)].body);
    EXPECT_EQ(r.string(), "/s000000000" + std::to_string(i));
  }
}

TEST(PrepareCreate, SequenceEndsCleanly) {
  World w;
  // A parent that has seen 2^31 creates, from a store.
  ASSERT_EQ(w.create("/p"), Err::kOk);
  const NodeId parent = w.lookup(kRootNode, "p")->id;
  CreateTxn child;
  child.id = NodeId{1000};
  child.parent = parent;
  child.name = "old";
  child.acl = open_acl();
  child.parent_creates = 0x7fffffffu;
  Txn txn;
  txn.op = Op::kCreate;
  txn.changes = {child};
  std::string payload;
  encode(txn, payload);
  w.zxid = Zxid{w.zxid.value + 1};
  w.machine.apply(w.zxid, payload, false, w.sink);
  EXPECT_EQ(w.create_name("/p/s", 2), "/p/s2147483647");
  EXPECT_EQ(w.create("/p/s", "", 2), Err::kBadArguments);
  EXPECT_EQ(w.create("/p/plain"), Err::kOk);
}

TEST(PrepareCreate, NullAndEmptyDataAreDistinct) {
  World w;
  ASSERT_EQ(w.create("/null", std::nullopt), Err::kOk);
  ASSERT_EQ(w.create("/empty", ""), Err::kOk);
  EXPECT_EQ(w.data("/null"), std::nullopt);
  EXPECT_EQ(w.data("/empty"), "");
}

TEST(PrepareCreate, Shapes) {  // filesystem.md section 2
  World w;
  ASSERT_EQ(w.create("/null", std::nullopt), Err::kOk);
  ASSERT_EQ(w.create("/empty", ""), Err::kOk);
  ASSERT_EQ(w.create("/full", "x"), Err::kOk);
  ASSERT_EQ(w.create("/eph", std::nullopt, 1), Err::kOk);
  ASSERT_EQ(w.code(Op::kCreateContainer, create_body("/box", std::nullopt, open_acl(), 4)), Err::kOk);
  EXPECT_EQ(w.lookup(kRootNode, "null")->attributes, (Attributes{Shape::kDir, 0111, 0}));
  EXPECT_EQ(w.lookup(kRootNode, "box")->attributes.shape, Shape::kDir);
  for (const char* file : {"empty", "full", "eph"}) {
    EXPECT_EQ(w.lookup(kRootNode, file)->attributes, (Attributes{Shape::kFile, 0, 0})) << file;
  }
  ASSERT_EQ(w.create("/empty/c"), Err::kOk);
  ASSERT_EQ(w.create("/full/c"), Err::kOk);
  EXPECT_EQ(w.lookup(kRootNode, "empty")->attributes, (Attributes{Shape::kDir, 0111, 0}));
  EXPECT_EQ(w.lookup(kRootNode, "full")->attributes.shape, Shape::kFile);
  ASSERT_EQ(w.remove("/empty/c"), Err::kOk);
  EXPECT_EQ(w.lookup(kRootNode, "empty")->attributes.shape, Shape::kDir);  // for good
  // Emptied after its first child: that was the only occasion.
  ASSERT_EQ(w.set("/full", ""), Err::kOk);
  ASSERT_EQ(w.remove("/full/c"), Err::kOk);
  ASSERT_EQ(w.create("/full/d"), Err::kOk);
  EXPECT_EQ(w.lookup(kRootNode, "full")->attributes.shape, Shape::kFile);
}

// --- delete

TEST(PrepareDelete, ProtectedNodes) {
  World w;
  w.ids.push_back({"super", "super"});
  for (const char* path : {"/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "noslash", ""}) {
    EXPECT_EQ(w.remove(path), Err::kBadArguments) << path;
  }
  EXPECT_EQ(w.remove(std::string_view("/a\0", 3)), Err::kBadArguments);
}

TEST(PrepareDelete, Order) {
  World w;
  EXPECT_EQ(w.remove("/absent/x"), Err::kNoNode);
  EXPECT_EQ(w.remove("a/b"), Err::kNoNode);
  EXPECT_EQ(w.remove("/absent"), Err::kNoNode);
  ASSERT_EQ(w.create("/p", ""), Err::kOk);
  ASSERT_EQ(w.create("/p/c"), Err::kOk);
  EXPECT_EQ(w.remove("/p", 5), Err::kBadVersion);  // not NotEmpty
  EXPECT_EQ(w.remove("/p", 0), Err::kNotEmpty);
  EXPECT_EQ(w.remove("//p", 0), Err::kNoNode);
  EXPECT_EQ(w.remove("/p/c/"), Err::kNoNode);
  EXPECT_EQ(w.remove("/p//c"), Err::kNoNode);
  ASSERT_EQ(w.code(Op::kSetAcl, set_acl_body("/p", read_only())), Err::kOk);
  EXPECT_EQ(w.remove("/p/c"), Err::kNoAuth);
  EXPECT_EQ(w.remove("/p/absent"), Err::kNoAuth);  // hides NoNode
}

TEST(PrepareDelete, NeedsDeleteOnTheParentOnly) {
  World w;
  ASSERT_EQ(w.create("/p", "", 0, world_may(perm::kDelete | perm::kCreate)), Err::kOk);
  ASSERT_EQ(w.create("/p/c", "", 0, world_may(perm::kRead)), Err::kOk);
  EXPECT_EQ(w.remove("/p/c"), Err::kOk);
}

TEST(PrepareDelete, MovesPzxidAndCversion) {  // section 18.2
  World w;
  ASSERT_EQ(w.create("/p"), Err::kOk);
  ASSERT_EQ(w.create("/p/c"), Err::kOk);
  const Stat before = *w.stat("/p");
  ASSERT_EQ(w.remove("/p/c"), Err::kOk);
  const Stat after = *w.stat("/p");
  EXPECT_EQ(after.pzxid, w.zxid.wire());
  EXPECT_EQ(after.cversion, before.cversion + 1);
  EXPECT_EQ(after.mzxid, before.mzxid);
  EXPECT_EQ(after.version, before.version);
}

// --- setData, setACL

TEST(PrepareSetData, Order) {
  World w;
  EXPECT_EQ(w.set("a", "x"), Err::kBadArguments);
  EXPECT_EQ(w.set("/a/", "x"), Err::kBadArguments);
  EXPECT_EQ(w.set("", "x"), Err::kBadArguments);
  EXPECT_EQ(w.set("/a", "x"), Err::kNoNode);
  ASSERT_EQ(w.create("/r", "", 0, read_only()), Err::kOk);
  EXPECT_EQ(w.set("/r", "x", 9), Err::kNoAuth);
  ASSERT_EQ(w.create("/w", "", 0, open_acl()), Err::kOk);
  EXPECT_EQ(w.set("/w", "x", 9), Err::kBadVersion);
  EXPECT_EQ(w.set("/w", "x", 0), Err::kOk);
  EXPECT_EQ(w.set("/w", "x", 0), Err::kBadVersion);
  EXPECT_EQ(w.set("/w", "x", 1), Err::kOk);
  EXPECT_EQ(w.set("/w", "x", -1), Err::kOk);
  EXPECT_EQ(w.stat("/w")->version, 3);
  EXPECT_EQ(w.set("/zookeeper/config", "x"), Err::kNoAuth);
}

TEST(PrepareSetData, PipelinedVersions) {
  World w;
  ASSERT_EQ(w.create("/w"), Err::kOk);
  for (const std::int32_t version : {0, 1, 1, 2}) w.prepare(w.request(Op::kSetData, set_data_body("/w", "x", version)));
  std::vector<Err> codes;
  for (const Applied& reply : w.settle()) codes.push_back(reply.err);
  EXPECT_EQ(codes, (std::vector<Err>{Err::kOk, Err::kOk, Err::kBadVersion, Err::kOk}));
}

TEST(PrepareSetAcl, Order) {
  World w;
  EXPECT_EQ(w.code(Op::kSetAcl, set_acl_body("a", {})), Err::kBadArguments);
  EXPECT_EQ(w.code(Op::kSetAcl, set_acl_body("/a", {})), Err::kInvalidAcl);
  EXPECT_EQ(w.code(Op::kSetAcl, set_acl_body("/a", open_acl())), Err::kNoNode);
  ASSERT_EQ(w.create("/r", "", 0, world_may(perm::kRead | perm::kWrite)), Err::kOk);
  EXPECT_EQ(w.code(Op::kSetAcl, set_acl_body("/r", open_acl(), 9)), Err::kNoAuth);
  ASSERT_EQ(w.create("/x"), Err::kOk);
  EXPECT_EQ(w.code(Op::kSetAcl, set_acl_body("/x", open_acl(), 9)), Err::kBadVersion);
  EXPECT_EQ(w.code(Op::kSetAcl, set_acl_body("/x", open_acl(), 0)), Err::kOk);
  EXPECT_EQ(w.stat("/x")->aversion, 1);
}

TEST(PrepareSetAcl, ChangesAversionOnly) {  // section 18.31
  World w;
  ASSERT_EQ(w.create("/x"), Err::kOk);
  Stat expected = *w.stat("/x");
  w.now += 1000;
  ASSERT_EQ(w.code(Op::kSetAcl, set_acl_body("/x", open_acl())), Err::kOk);
  ++expected.aversion;
  EXPECT_EQ(*w.stat("/x"), expected);
}

// --- replies of refused and undecodable requests

TEST(PrepareOther, RefusalsConsumeAZxidAndChangeNothing) {  // section 18.3
  World w;
  const std::uint64_t digest = w.machine.digest();
  ASSERT_EQ(w.remove("/absent"), Err::kNoNode);
  EXPECT_EQ(w.machine.last_applied(), w.zxid);
  EXPECT_EQ(w.machine.digest(), digest);
}

TEST(PrepareOther, UndecodableBodies) {  // section 18.28
  World w;
  std::string null_path;
  wire::Writer(null_path).i32(-1);
  for (const Op op : {Op::kCreate, Op::kCreate2, Op::kCreateContainer, Op::kCreateTtl, Op::kDelete, Op::kSetData,
                      Op::kSetAcl, Op::kMulti, Op::kReconfig, Op::kCreateNode, Op::kRename}) {
    EXPECT_EQ(w.code(op, ""), Err::kMarshallingError) << static_cast<int>(op);
    EXPECT_EQ(w.code(op, "\x7f\xff\xff\xff"), Err::kMarshallingError) << static_cast<int>(op);
    EXPECT_EQ(w.code(op, null_path), Err::kMarshallingError) << static_cast<int>(op);
  }
  EXPECT_EQ(w.code(Op::kDelete, path_version_body("/absent") + "trailing"), Err::kNoNode);
}

TEST(PrepareOther, ReconfigIsDisabled) {
  World w;
  std::string body;
  wire::Writer writer(body);
  for (int i = 0; i < 3; ++i) writer.i32(-1);
  writer.i64(-1);
  EXPECT_EQ(w.code(Op::kReconfig, body), Err::kUnimplemented) << "root on the socket, of a server that is alone";
  w.trusted = false;
  EXPECT_EQ(w.code(Op::kReconfig, body), Err::kReconfigDisabled);
}

TEST(PrepareOther, DeleteContainerIsNotForClients) {
  World w;
  EXPECT_EQ(w.code(Op::kDeleteContainer, path_body("/x")), Err::kUnimplemented);
}

TEST(PrepareOther, DeleteContainerChecksAgain) {
  World w;
  const auto reap = [&](std::string_view path) {
    Request r;
    r.op = Op::kDeleteContainer;
    r.body = path_body(path);
    return w.call(r).err;
  };
  EXPECT_EQ(reap("/zookeeper"), Err::kBadArguments);
  EXPECT_EQ(reap("/absent"), Err::kNoNode);
  ASSERT_EQ(w.code(Op::kCreateContainer, create_body("/box", "", open_acl(), 4)), Err::kOk);
  EXPECT_EQ(reap("/box"), Err::kBadVersion);  // never used
  ASSERT_EQ(w.create("/box/c"), Err::kOk);
  EXPECT_EQ(reap("/box"), Err::kNotEmpty);
  ASSERT_EQ(w.remove("/box/c"), Err::kOk);
  // A client is quicker, and makes a node of the same name that must not go.
  ASSERT_EQ(w.remove("/box"), Err::kOk);
  ASSERT_EQ(w.create("/box"), Err::kOk);
  EXPECT_EQ(reap("/box"), Err::kBadVersion);
  ASSERT_EQ(w.create("/e", "", 1), Err::kOk);
  EXPECT_EQ(reap("/e"), Err::kBadVersion);

  ASSERT_EQ(w.code(Op::kCreateTtl, create_ttl_body("/t", 1000)), Err::kOk);
  w.now += 1001;
  ASSERT_EQ(w.machine.reap(w.now, 10).size(), 1u);
  w.prepare(w.request(Op::kSetData, set_data_body("/t", "fresh")));  // restarts its clock, not yet applied
  Request r;
  r.op = Op::kDeleteContainer;
  r.body = path_body("/t");
  w.prepare(r);
  EXPECT_EQ(w.settle().back().err, Err::kBadVersion);
  w.now += 1001;
  EXPECT_EQ(reap("/t"), Err::kOk);
}

// --- sessions

TEST(PrepareSession, ClosingAndUnknown) {
  World w;
  const SessionId other = w.open_session();
  Request close = w.request(Op::kCloseSession, "");
  close.session = other;
  Request create = w.request(Op::kCreate, create_body("/e", "", open_acl(), 1));
  create.session = other;
  w.prepare(close);
  w.prepare(create);  // must not survive its session
  w.prepare(close);
  const std::vector<Applied> replies = w.settle();
  EXPECT_EQ(replies[0].err, Err::kOk);
  EXPECT_EQ(replies[1].err, Err::kSessionExpired);
  EXPECT_EQ(replies[2].err, Err::kOk);
  EXPECT_EQ(w.sink.closed.size(), 1u);
  EXPECT_FALSE(w.exists("/e"));
  EXPECT_EQ(w.call(create).err, Err::kUnknownSession);
  for (const Op op : {Op::kDelete, Op::kSetData, Op::kSetAcl}) {
    Request r = w.request(op, op == Op::kDelete    ? path_version_body("/x")
                              : op == Op::kSetData ? set_data_body("/x", "")
                                                   : set_acl_body("/x", open_acl()));
    r.session = other;
    EXPECT_EQ(w.call(r).err, Err::kUnknownSession);
  }
}

TEST(PrepareSession, CloseTakesEphemeralsThatAreNotYetApplied) {
  World w;
  const SessionId other = w.open_session();
  const auto as_other = [&](Op op, std::string body) {
    Request r = w.request(op, std::move(body));
    r.session = other;
    return r;
  };
  ASSERT_EQ(w.create("/p", std::nullopt), Err::kOk);
  ASSERT_EQ(w.call(as_other(Op::kCreate, create_body("/p/applied", "", open_acl(), 1))).err, Err::kOk);
  ASSERT_EQ(w.call(as_other(Op::kCreate, create_body("/p/gone", "", open_acl(), 1))).err, Err::kOk);
  w.prepare(as_other(Op::kSetData, set_data_body("/p/applied", "x")));
  w.prepare(as_other(Op::kCreate, create_body("/p/pending", "", open_acl(), 1)));
  w.prepare(w.request(Op::kDelete, path_version_body("/p/gone")));
  w.prepare(as_other(Op::kCloseSession, ""));
  w.prepare(w.request(Op::kSetData, set_data_body("/p/pending", "x")));
  w.prepare(w.request(Op::kDelete, path_version_body("/p")));
  const std::vector<Applied> replies = w.settle();
  EXPECT_EQ(replies[4].err, Err::kNoNode);
  EXPECT_EQ(replies[5].err, Err::kOk) << "the close empties /p";
}

TEST(PrepareSession, CreateSessionRefusals) {
  World w;
  const auto open = [&](std::int32_t timeout, std::int64_t id) {
    Request r;
    r.session = SessionId{id};
    r.op = Op::kCreateSession;
    wire::Writer writer(r.body);
    writer.i32(timeout);
    writer.i64(id);
    return w.call(r).err;
  };
  EXPECT_EQ(open(1000, 0), Err::kBadArguments);
  EXPECT_EQ(open(0, 5), Err::kBadArguments);
  EXPECT_EQ(open(1000, INT64_MIN), Err::kBadArguments);
  EXPECT_EQ(open(1000, -1), Err::kBadArguments);
  EXPECT_EQ(open(1000, w.me.value), Err::kSessionExpired);
  EXPECT_EQ(open(1000, 5), Err::kOk);
  EXPECT_TRUE(w.machine.session_known_or_prepared(SessionId{5}));
  EXPECT_FALSE(w.machine.session_known_or_prepared(SessionId{6}));
}

TEST(PrepareSession, PreparedSessionIsKnownAndForgotten) {
  World w;
  Request r;
  r.session = SessionId{5};
  r.op = Op::kCreateSession;
  wire::Writer writer(r.body);
  writer.i32(1000);
  writer.i64(5);
  w.prepare(r);
  EXPECT_TRUE(w.machine.session_known_or_prepared(SessionId{5}));
  w.machine.forget_prepared();
  w.outstanding.clear();
  EXPECT_FALSE(w.machine.session_known_or_prepared(SessionId{5}));
}

TEST(PrepareOther, ForgottenRequestsLeaveNothing) {
  World w;
  ASSERT_EQ(w.create("/p"), Err::kOk);
  w.prepare(w.request(Op::kCreate, create_body("/p/c")));
  w.prepare(w.request(Op::kSetData, set_data_body("/p", "x")));
  w.machine.forget_prepared();
  w.outstanding.clear();
  EXPECT_EQ(w.set("/p", "y", 0), Err::kOk);
  EXPECT_EQ(w.create("/p/c"), Err::kOk);
}

// --- a disk that is nearly full, quotas

TEST(PrepareDiskFull, OnlyWhatFreesSpacePasses) {
  World w;
  ASSERT_EQ(w.create("/f", "0123456789"), Err::kOk);
  ASSERT_EQ(w.create("/g"), Err::kOk);
  const SessionId other = w.open_session();
  w.writes_refused = true;
  EXPECT_EQ(w.create("/new"), Err::kQuotaExceeded);
  EXPECT_EQ(w.create("/f"), Err::kNodeExists);
  EXPECT_EQ(w.set("/f", "0123456789"), Err::kQuotaExceeded);
  EXPECT_EQ(w.set("/f", "012345678"), Err::kOk);
  EXPECT_EQ(w.set("/f", ""), Err::kOk);
  EXPECT_EQ(w.set("/f", std::nullopt), Err::kOk);
  EXPECT_EQ(w.code(Op::kSetAcl, set_acl_body("/f", open_acl())), Err::kQuotaExceeded);
  EXPECT_EQ(w.remove("/g"), Err::kOk);
  Request close = w.request(Op::kCloseSession, "");
  close.session = other;
  EXPECT_EQ(w.call(close).err, Err::kOk);
  w.open_session();  // somebody must be able to come and delete
  const auto results = w.multi({{Op::kDelete, path_version_body("/f")}, {Op::kCreate, create_body("/h")}});
  EXPECT_EQ(results[0].err, Err::kOk);
  EXPECT_EQ(results[1].err, Err::kQuotaExceeded);
  w.writes_refused = false;
  EXPECT_EQ(w.create("/new"), Err::kOk);
}

TEST(PrepareQuota, HardLimitsOnly) {
  Limits limits;
  limits.enforce_quota = true;
  World w(limits);
  ASSERT_EQ(w.create("/q"), Err::kOk);
  ASSERT_EQ(w.create("/zookeeper/quota/q"), Err::kOk);
  ASSERT_EQ(w.create("/zookeeper/quota/q/zookeeper_limits", "count=1,bytes=1=;byteHardLimit=10;countHardLimit=3"),
            Err::kOk);
  ASSERT_EQ(w.create("/zookeeper/quota/q/zookeeper_stats", ""), Err::kOk);
  EXPECT_EQ(w.create("/q/a", "12345"), Err::kOk);  // beyond the soft limits
  EXPECT_EQ(w.create("/q/b", "123456"), Err::kQuotaExceeded);
  EXPECT_EQ(w.create("/q/b", "12345"), Err::kOk);
  EXPECT_EQ(w.create("/q/c", ""), Err::kQuotaExceeded);
  EXPECT_EQ(w.set("/q/a", "123456", 9), Err::kQuotaExceeded);  // before the version
  EXPECT_EQ(w.set("/q/a", "1234"), Err::kOk);
  EXPECT_EQ(w.remove("/q/b"), Err::kOk);
  EXPECT_EQ(w.create("/q/c", "123456"), Err::kOk);
  EXPECT_EQ(w.create("/elsewhere", "0123456789012345"), Err::kOk);
}

TEST(PrepareQuota, NotEnforcedByDefault) {
  World w;
  ASSERT_EQ(w.create("/q"), Err::kOk);
  ASSERT_EQ(w.create("/zookeeper/quota/q"), Err::kOk);
  ASSERT_EQ(w.create("/zookeeper/quota/q/zookeeper_limits", "count=1,bytes=1=;byteHardLimit=1;countHardLimit=1"),
            Err::kOk);
  ASSERT_EQ(w.create("/zookeeper/quota/q/zookeeper_stats", ""), Err::kOk);
  EXPECT_EQ(w.create("/q/a", "12345"), Err::kOk);
}

}  // namespace
}  // namespace coord::tree::test
