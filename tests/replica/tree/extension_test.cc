// Extension mutations but rename: common/wire/extension.h, filesystem.md sections 2, 4 and 7.
#include "tests/replica/tree/extension_harness.h"

namespace coord::tree::test {
namespace {

// --- exactly once

TEST_F(Extension, RepeatedSequenceNumberIsAnsweredTheSame) {
  const wire::CreateNodeRequest r = request(top, "once");
  const Applied first = w.call(Op::kCreateNode, extension_body(r));
  const std::uint64_t next_id_probe = w.machine.node_count();
  const Applied again = w.call(Op::kCreateNode, extension_body(r));
  EXPECT_EQ(first.err, Err::kOk);
  EXPECT_EQ(again.err, first.err);
  EXPECT_EQ(again.body, first.body);
  EXPECT_EQ(w.machine.node_count(), next_id_probe);
}

TEST_F(Extension, RepeatedWhileTheFirstIsOutstanding) {
  const wire::CreateNodeRequest r = request(top, "once");
  w.prepare(w.request(Op::kCreateNode, extension_body(r)));
  w.prepare(w.request(Op::kCreateNode, extension_body(r)));
  w.prepare(w.request(Op::kCreateNode, extension_body(r)));
  const std::vector<Applied> replies = w.settle();
  EXPECT_EQ(replies[0].err, Err::kOk);
  for (const Applied& reply : replies) {
    EXPECT_EQ(reply.err, replies[0].err);
    EXPECT_EQ(reply.body, replies[0].body);
  }
}

TEST_F(Extension, RefusalsAreRepeatedToo) {
  wire::CreateNodeRequest r = request(NodeId{999}, "x");
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kStaleNode);
  r.parent = top;  // it would work now, but the number has its answer
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kStaleNode);
  EXPECT_FALSE(at(top, "x"));
}

TEST_F(Extension, NumbersBelowTheWindow) {
  wire::DeleteNodeRequest r{{10, 0, {}}, NodeId{999}, wire::DeleteHalf::kWhole};
  EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(r)), Err::kStaleNode);
  r.header = {12, 12, {}};
  EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(r)), Err::kStaleNode);
  r.header = {10, 0, {}};
  EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(r)), Err::kOutOfWindow);
  r.header = {11, 0, {}};
  EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(r)), Err::kOutOfWindow);
  r.header = {13, 14, {}};  // acknowledges itself
  EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(r)), Err::kOutOfWindow);
  r.header = {13, 0, {}};
  EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(r)), Err::kStaleNode) << "the refused one acknowledged nothing";
  for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN}) {
    r.header = {bad, bad, {}};
    EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(r)), Err::kBadArguments);
  }
}

TEST_F(Extension, WindowIsBounded) {
  wire::DeleteNodeRequest r{{0, 0, {}}, NodeId{999}, wire::DeleteHalf::kWhole};
  const auto send = [&](std::int64_t number, std::int64_t acked) {
    r.header = {number, acked, {}};
    w.prepare(w.request(Op::kDeleteNode, extension_body(r)));
  };
  const auto max = static_cast<std::int64_t>(wire::kAnswerWindowMax);
  for (std::int64_t n = 0; n < max; ++n) {
    send(100 + n, 100);
    if (n == max / 2) w.settle();
  }
  send(100 + max, 100);
  send(100 + max, 101);  // makes room for itself
  send(100, 100);        // whose answer is now gone
  const std::vector<Applied> replies = w.settle();
  const std::size_t n = replies.size();
  EXPECT_EQ(replies[n - 4].err, Err::kStaleNode);
  EXPECT_EQ(replies[n - 3].err, Err::kBadArguments);
  EXPECT_EQ(replies[n - 2].err, Err::kStaleNode);
  EXPECT_EQ(replies[n - 1].err, Err::kOutOfWindow);
}

TEST_F(Extension, UnknownSession) {
  Request r = w.request(Op::kCreateNode, extension_body(request(top, "x")));
  r.session = SessionId{99};
  EXPECT_EQ(w.call(r).err, Err::kUnknownSession);
}

// --- identity

TEST_F(Extension, UntrustedPeersAreThemselves) {
  const NodeId secret = file(top, "secret", kRootUser, "x", 0600);
  w.trusted = false;
  w.credentials = kAlice;
  EXPECT_EQ(set(secret, "mine", kRootUser).err, Err::kNoAuth);
  const wire::NodeInfo made = info(make(top, "a", kRootUser));
  EXPECT_EQ(posix_view(made.acl, made.attributes, false).uid, kAlice.uid);
}

TEST_F(Extension, OnlyRootGivesNodesAway) {
  wire::CreateNodeRequest r = request(top, "gift", kAlice);
  r.acl = acl_for_new(kBob.uid, kBob.gid, 0640);
  wire::NodeInfo made = info(w.call(Op::kCreateNode, extension_body(r)));
  EXPECT_EQ(posix_view(made.acl, made.attributes, false).uid, kAlice.uid);
  EXPECT_EQ(posix_view(made.acl, made.attributes, false).gid, kAlice.gid);
  EXPECT_EQ(posix_view(made.acl, made.attributes, false).mode, 0640u);
  EXPECT_FALSE(unix_allows(made.acl, kBob, perm::kRead | perm::kAdmin));

  r = request(top, "group", kAlice);
  r.acl = acl_for_new(kAlice.uid, 50, 0640);  // a group of hers
  made = info(w.call(Op::kCreateNode, extension_body(r)));
  EXPECT_EQ(posix_view(made.acl, made.attributes, false).gid, 50u);

  r = request(top, "open", kAlice);
  r.acl = open_acl();  // no owner: root's
  made = info(w.call(Op::kCreateNode, extension_body(r)));
  EXPECT_EQ(posix_view(made.acl, made.attributes, false).uid, kAlice.uid);

  r = request(top, "by-root", kRootUser);
  r.acl = acl_for_new(kBob.uid, kBob.gid, 0600);
  made = info(w.call(Op::kCreateNode, extension_body(r)));
  EXPECT_EQ(posix_view(made.acl, made.attributes, false).uid, kBob.uid);
}

// --- createNode

TEST_F(Extension, CreateRefusals) {
  EXPECT_EQ(make(NodeId{999}, "x").err, Err::kStaleNode);
  for (const std::string& bad : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                 std::string("a\0b", 3), std::string(256, 'x'), std::string("\xf0\x9f\x98\x80")}) {
    EXPECT_EQ(make(top, bad).err, Err::kBadArguments) << bad;
  }
  EXPECT_EQ(make(top, std::string(255, 'x')).err, Err::kOk);
  EXPECT_EQ(make(top, std::string(255, 'x')).err, Err::kNodeExists);
  wire::CreateNodeRequest r = request(top, "no-acl");
  r.acl.clear();
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kInvalidAcl);

  const NodeId closed = dir(top, "closed", kRootUser, 0700);
  EXPECT_EQ(make(closed, "x", kAlice).err, Err::kNoAuth);
  const NodeId readable = dir(top, "readable", kRootUser, 0755);
  EXPECT_EQ(make(readable, "x", kAlice).err, Err::kNoAuth);
  file(readable, "there");
  EXPECT_EQ(make(readable, "there", kAlice).err, Err::kNodeExists) << "as Linux: who may search learns of it";
  const NodeId unsearchable = dir(top, "unsearchable", kRootUser, 0776);
  EXPECT_EQ(make(unsearchable, "x", kAlice).err, Err::kNoAuth);

  const NodeId link = info(make(top, "link", kRootUser, "target", 0777, Shape::kSymlink)).id;
  EXPECT_EQ(make(link, "x").err, Err::kNotDirectory);
  EXPECT_EQ(make(top, "link2", kRootUser, std::nullopt, 0777, Shape::kSymlink).err, Err::kBadArguments);

  r = request(top, "eph");
  r.mode = wire::CreateMode::kEphemeral;
  const NodeId ephemeral = info(w.call(Op::kCreateNode, extension_body(r))).id;
  EXPECT_EQ(make(ephemeral, "x").err, Err::kNoChildrenForEphemerals);
}

TEST_F(Extension, CreateModes) {
  wire::CreateNodeRequest r = request(top, "job-");
  r.mode = wire::CreateMode::kEphemeralSequential;
  const wire::NodeInfo job = info(w.call(Op::kCreateNode, extension_body(r)));
  EXPECT_EQ(job.name, "job-0000000000");
  EXPECT_EQ(job.stat.ephemeral_owner, w.me.value);
  r = request(top, "");
  r.mode = wire::CreateMode::kPersistentSequential;
  EXPECT_EQ(info(w.call(Op::kCreateNode, extension_body(r))).name, "0000000001");
  r = request(top, std::string(246, 'x'));
  r.mode = wire::CreateMode::kPersistentSequential;
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kBadArguments) << "with its digits it is too long";
  r = request(top, "ttl");
  r.mode = wire::CreateMode::kTtl;
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kBadArguments);
  r.header = header();
  r.ttl_ms = 1000;
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kOk);
}

TEST_F(Extension, NodeIds) {
  const auto probe = [&](std::int32_t count) {
    return w.call(Op::kCapabilities, extension_body(wire::CapabilitiesRequest{count}));
  };
  EXPECT_EQ(probe(-1).err, Err::kBadArguments);
  EXPECT_EQ(probe(65537).err, Err::kBadArguments);
  const Applied reply = probe(100);
  wire::CapabilitiesReply block;
  wire::Reader reader(reply.body);
  wire::read(reader, block);
  ASSERT_EQ(block.id_count, 100);
  wire::CreateNodeRequest r = request(top, "mine");
  r.id = NodeId{block.first_id.value + 7};
  EXPECT_EQ(info(w.call(Op::kCreateNode, extension_body(r))).id, r.id);
  for (const NodeId bad : {r.id, NodeId{1}, NodeId{15}, NodeId{block.first_id.value + 100}, top}) {
    wire::CreateNodeRequest again = request(top, "other");
    again.id = bad;
    EXPECT_EQ(w.code(Op::kCreateNode, extension_body(again)), Err::kBadArguments) << bad.value;
  }
  EXPECT_GE(file(top, "chosen").value, block.first_id.value + 100);
  // A reserved block is known before it is applied.
  w.prepare(w.request(Op::kCapabilities, extension_body(wire::CapabilitiesRequest{10})));
  w.prepare(w.request(Op::kCapabilities, extension_body(wire::CapabilitiesRequest{10})));
  const auto replies = w.settle();
  wire::CapabilitiesReply second;
  wire::Reader r0(replies[0].body);
  wire::Reader r1(replies[1].body);
  wire::read(r0, block);
  wire::read(r1, second);
  EXPECT_EQ(second.first_id.value, block.first_id.value + 10);
}

TEST_F(Extension, FillNull) {
  const NodeId node = info(make(top, "half", kRootUser, std::nullopt, 0666)).id;  // mkdir(half@)
  file(node, "child");
  EXPECT_EQ(make(top, "half", kRootUser, "x").err, Err::kNodeExists);
  wire::CreateNodeRequest r = request(top, "half", kAlice, "x");
  r.fill_null = true;
  const wire::NodeInfo filled = info(w.call(Op::kCreateNode, extension_body(r)));
  EXPECT_EQ(filled.id, node);
  EXPECT_FALSE(filled.null_data);
  EXPECT_EQ(filled.stat.version, 1);
  r.header = header();
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kNodeExists);
  dir(top, "d");
  r = request(top, "d");
  r.fill_null = true;
  EXPECT_EQ(w.code(Op::kCreateNode, extension_body(r)), Err::kNodeExists);
}

TEST_F(Extension, FirstChildMakesADirectoryOfAClientsEmptyFile) {
  ASSERT_EQ(w.create("/client", ""), Err::kOk);
  ASSERT_EQ(w.create("/client2", ""), Err::kOk);
  const NodeId client = at(kRootNode, "client")->id;
  file(client, "child");
  EXPECT_EQ(at(kRootNode, "client")->attributes.shape, Shape::kDir);
  const NodeId mine = file(top, "mine");
  file(mine, "child");
  EXPECT_EQ(at(top, "mine")->attributes.shape, Shape::kFile) << "made in a mount: a file for good";
  const NodeId moved = file(top, "moved");
  EXPECT_EQ(rename(moved, at(kRootNode, "client2")->id, "moved").err, Err::kOk);
  EXPECT_EQ(at(kRootNode, "client2")->attributes, (Attributes{Shape::kDir, 0111, 0}));
}

// --- setNodeData, deleteNode

TEST_F(Extension, SetData) {
  const NodeId node = file(top, "f", kAlice, "x", 0644);
  EXPECT_EQ(set(NodeId{999}, "y").err, Err::kStaleNode);
  EXPECT_EQ(set(node, "y", kBob, 9).err, Err::kNoAuth);
  EXPECT_EQ(set(node, "y", kAlice, 9).err, Err::kBadVersion);
  EXPECT_EQ(info(set(node, "y", kAlice, 0)).stat.version, 1);
  EXPECT_TRUE(info(set(node, std::nullopt, kAlice)).null_data);
  w.writes_refused = true;
  EXPECT_EQ(set(node, "y", kAlice).err, Err::kNoSpace);
}

TEST_F(Extension, DeleteHalves) {
  using wire::DeleteHalf;
  const NodeId node = file(top, "f", kRootUser, "data");
  const NodeId child = file(node, "c");
  EXPECT_EQ(remove(node).err, Err::kNotEmpty);
  EXPECT_EQ(remove(node, DeleteHalf::kChildren).err, Err::kNotEmpty);
  EXPECT_EQ(removed(node, DeleteHalf::kData), 2);
  EXPECT_TRUE(at(top, "f")->null_data);
  EXPECT_EQ(remove(node, DeleteHalf::kData).err, Err::kNoNode);
  EXPECT_EQ(removed(child, DeleteHalf::kData), 1);
  EXPECT_EQ(removed(node, DeleteHalf::kChildren), 1);
  EXPECT_FALSE(at(top, "f"));
  EXPECT_EQ(remove(node).err, Err::kStaleNode);

  const NodeId full = file(top, "g", kRootUser, "data");
  EXPECT_EQ(removed(full, DeleteHalf::kChildren), 0);
  EXPECT_TRUE(at(top, "g"));
  const NodeId directory = dir(top, "d");
  EXPECT_EQ(remove(directory, DeleteHalf::kData).err, Err::kIsDirectory);
  EXPECT_EQ(remove(directory, DeleteHalf::kChildren).err, Err::kNoNode);
  w.writes_refused = true;
  EXPECT_EQ(removed(directory, DeleteHalf::kWhole), 1);
}

TEST_F(Extension, DeletePermission) {
  const NodeId open = dir(top, "open", kRootUser, 0777);
  const NodeId sticky = dir(top, "sticky", kRootUser, 01777);
  const NodeId closed = dir(top, "closed", kRootUser, 0755);
  EXPECT_EQ(remove(file(open, "f", kAlice), wire::DeleteHalf::kWhole, kBob).err, Err::kOk);
  const NodeId hers = file(sticky, "f", kAlice);
  EXPECT_EQ(remove(hers, wire::DeleteHalf::kWhole, kBob).err, Err::kNoAuth);
  EXPECT_EQ(remove(hers, wire::DeleteHalf::kWhole, kAlice).err, Err::kOk);
  EXPECT_EQ(remove(file(closed, "f", kRootUser, "", 0666), wire::DeleteHalf::kWhole, kBob).err, Err::kNoAuth);
  for (std::uint64_t id = 1; id <= 4; ++id) EXPECT_EQ(remove(NodeId{id}).err, Err::kNotPermitted) << id;
}

// --- setAttributes

TEST_F(Extension, AttributesWithoutChangeTouchNothing) {
  const NodeId node = file(top, "f", kAlice, "x", 0644);
  const std::uint64_t digest_of_tree = w.machine.dirty_nodes();
  wire::NodeInfo same = info(attributes(node, kAlice, 0644, kAlice.uid, kAlice.gid));
  EXPECT_EQ(same.stat.aversion, 0);
  EXPECT_EQ(w.machine.dirty_nodes(), digest_of_tree);
  EXPECT_EQ(info(attributes(node, kAlice, 0600)).stat.aversion, 1);
  EXPECT_EQ(info(attributes(node, kAlice, 0600)).stat.aversion, 1);
  const wire::NodeInfo executable = info(attributes(node, kAlice, 0700));
  EXPECT_EQ(executable.attributes.exec, 0100);
  EXPECT_EQ(executable.stat.aversion, 2) << "a change of mode is a change of the ACL";
  w.writes_refused = true;
  EXPECT_EQ(attributes(node, kAlice, 0700).err, Err::kOk);
  EXPECT_EQ(attributes(node, kAlice, 0600).err, Err::kNoSpace);
}

TEST_F(Extension, AttributesPermission) {
  const NodeId node = file(top, "f", kAlice, "x", 0646);
  EXPECT_EQ(attributes(NodeId{999}, kRootUser, 0600).err, Err::kStaleNode);
  EXPECT_EQ(attributes(node, kBob, 0600).err, Err::kNotPermitted);
  EXPECT_EQ(attributes(node, kAlice, {}, kBob.uid).err, Err::kNotPermitted);
  EXPECT_EQ(attributes(node, kAlice, {}, {}, kBob.gid).err, Err::kNotPermitted);
  EXPECT_EQ(attributes(node, kAlice, {}, {}, 50).err, Err::kOk);
  EXPECT_EQ(attributes(node, kBob, {}, {}, {}, 5).err, Err::kNotPermitted);
  EXPECT_EQ(attributes(node, kBob, {}, {}, {}, -1).err, Err::kOk) << "he may write it";
  EXPECT_EQ(attributes(file(top, "g", kAlice, "", 0644), kBob, {}, {}, {}, -1).err, Err::kNoAuth);
  EXPECT_EQ(attributes(node, kRootUser, {}, kBob.uid).err, Err::kOk);
}

TEST_F(Extension, Mtime) {
  const NodeId node = file(top, "f");
  EXPECT_EQ(info(attributes(node, kRootUser, {}, {}, {}, 12345)).attributes.mtime_ns, 12345);
  EXPECT_EQ(info(attributes(node, kRootUser, {}, {}, {}, -1)).attributes.mtime_ns, w.now * 1'000'000);
  EXPECT_EQ(info(attributes(node, kRootUser, {}, {}, {}, 0)).attributes.mtime_ns, 1);
  EXPECT_EQ(at(top, "f")->stat.aversion, 0);
  EXPECT_EQ(info(set(node, "x")).attributes.mtime_ns, 0) << "cleared by the next change of the data";
}

}  // namespace
}  // namespace coord::tree::test
