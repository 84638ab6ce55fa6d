// rename: common/wire/extension.h (RenameRequest), filesystem.md section 4.
#include "common/model/posix.h"
#include "tests/replica/tree/extension_harness.h"

namespace coord::tree::test {
namespace {

TEST_F(Extension, RenameToAFreeName) {
  const NodeId a = dir(top, "a");
  const NodeId b = dir(top, "b");
  const NodeId f = file(a, "f", kRootUser, "data");
  const Stat before = at(a, "f")->stat;
  const wire::NodeInfo moved = info(rename(f, b, "g"));
  EXPECT_EQ(moved.id, f);
  EXPECT_EQ(moved.parent, b);
  EXPECT_EQ(moved.name, "g");
  EXPECT_EQ(moved.stat, before);
  EXPECT_FALSE(at(a, "f"));
  EXPECT_EQ(w.data("/top/b/g"), "data");
  EXPECT_EQ(info(rename(b, a, "b")).parent, a);  // a directory with what is in it
  EXPECT_EQ(w.data("/top/a/b/g"), "data");
}

TEST_F(Extension, RenameRefusals) {
  const NodeId a = dir(top, "a");
  const NodeId b = dir(a, "b");
  const NodeId f = file(top, "f");
  EXPECT_EQ(rename(NodeId{999}, top, "x").err, Err::kStaleNode);
  EXPECT_EQ(rename(f, NodeId{999}, "x").err, Err::kStaleNode);
  EXPECT_EQ(rename(f, top, "a/b").err, Err::kBadArguments);
  EXPECT_EQ(rename(f, top, "x", 4).err, Err::kBadArguments);
  EXPECT_EQ(rename(f, top, "x", 3).err, Err::kBadArguments);
  EXPECT_EQ(rename(f, top, "x", 2).err, Err::kNoNode);
  EXPECT_EQ(rename(a, b, "x").err, Err::kIntoItself);
  EXPECT_EQ(rename(a, a, "x").err, Err::kIntoItself);
  EXPECT_EQ(rename(b, top, "a", 2).err, Err::kIntoItself) << "exchange with its own parent";
  EXPECT_EQ(rename(f, top, "a").err, Err::kIsDirectory);
  EXPECT_EQ(rename(a, top, "f").err, Err::kNotDirectory);
  EXPECT_EQ(rename(f, top, "a", 1).err, Err::kNodeExists);
  EXPECT_EQ(rename(f, top, "f", 1).err, Err::kNodeExists);
  EXPECT_EQ(rename(f, top, "f").err, Err::kOk);
  EXPECT_EQ(rename(NodeId{2}, top, "z").err, Err::kNotPermitted);
  EXPECT_EQ(rename(kRootNode, top, "z").err, Err::kNotPermitted);
  EXPECT_EQ(rename(top, kRootNode, "zookeeper").err, Err::kNotPermitted);
  EXPECT_EQ(rename(top, kRootNode, "zookeeper", 2).err, Err::kNotPermitted);
  EXPECT_EQ(rename(f, f, "x").err, Err::kIntoItself);
  w.writes_refused = true;
  EXPECT_EQ(rename(f, top, "x").err, Err::kNoSpace);
}

TEST_F(Extension, RenameOntoAFile) {
  const NodeId source = file(top, "tmp", kAlice, "new", 0600);
  const NodeId target = file(top, "conf", kAlice, "old", 0644);
  const NodeId child = file(target, "child");
  EXPECT_EQ(rename(source, top, "conf", 1).err, Err::kNodeExists);
  ASSERT_EQ(attributes(source, kAlice, {}, {}, {}, 777).err, Err::kOk);
  const Acl acl = at(top, "conf")->acl;
  const wire::NodeInfo now = info(rename(source, top, "conf", 0, kAlice));
  EXPECT_EQ(now.id, target);
  EXPECT_EQ(now.stat.version, 1);
  EXPECT_EQ(now.acl, acl);
  EXPECT_EQ(now.attributes.mtime_ns, 777);
  EXPECT_EQ(at(top, "conf")->data, "new");
  EXPECT_FALSE(at(top, "tmp"));
  EXPECT_EQ(at(target, "child")->id, child);
  EXPECT_EQ(rename(target, top, "other").err, Err::kOk) << "its children go along to a free name";
  file(top, "conf");
  EXPECT_EQ(rename(target, top, "conf").err, Err::kNotEmpty);
}

// Of two hosts that move the same file away, or of which one removes what the other moves, one is told that it is not
// there.
TEST_F(Extension, ANodeThatIsElsewhereByNowIsLeftAlone) {
  const NodeId job = file(top, "job");
  const NodeId mine = dir(top, "mine");
  const NodeId theirs = dir(top, "theirs");
  const wire::NodePlace at{top, "job"};
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), job, mine, "job", 0, at})));
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), job, theirs, "job", 0, at})));
  const wire::DeleteHalf whole = wire::DeleteHalf::kWhole;
  w.prepare(w.request(Op::kDeleteNode, extension_body(wire::DeleteNodeRequest{header(), job, whole, at})));
  const std::vector<Applied> replies = w.settle();
  EXPECT_EQ(replies[0].err, Err::kOk);
  EXPECT_EQ(replies[1].err, Err::kNoNode);
  EXPECT_EQ(replies[2].err, Err::kNoNode);
  EXPECT_EQ(this->at(mine, "job")->id, job);

  // The same directory and another name, or the same name elsewhere, are other places.
  for (const wire::NodePlace& other : {wire::NodePlace{mine, "jo"}, wire::NodePlace{theirs, "job"}}) {
    EXPECT_EQ(w.code(Op::kRename, extension_body(wire::RenameRequest{header(), job, top, "x", 0, other})),
              Err::kNoNode);
    EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(wire::DeleteNodeRequest{header(), job, whole, other})),
              Err::kNoNode);
  }
  EXPECT_EQ(w.code(Op::kDeleteNode, extension_body(wire::DeleteNodeRequest{header(), job, whole, {mine, "job"}})),
            Err::kOk);
}

TEST_F(Extension, RenameOntoAFileOfDataThatIsNotAppliedYet) {
  const NodeId source = file(top, "tmp", kRootUser, "first");
  const NodeId target = file(top, "conf", kRootUser, "old");
  w.prepare(w.request(Op::kSetNodeData, extension_body(wire::SetNodeDataRequest{header(), source, "second", -1})));
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), source, top, "conf", 0})));
  w.prepare(w.request(Op::kSetNodeData, extension_body(wire::SetNodeDataRequest{header(), source, "third", -1})));
  const std::vector<Applied> replies = w.settle();
  EXPECT_EQ(info(replies[1]).id, target);
  EXPECT_EQ(replies[2].err, Err::kStaleNode);
  EXPECT_EQ(w.data("/top/conf"), "second");
}

TEST_F(Extension, RenameDoesNotOpenWhatCannotBeRead) {
  const NodeId open = dir(top, "open", kRootUser, 0777);
  const NodeId secret = file(open, "secret", kBob, "secret", 0600);
  const NodeId another = file(open, "another", kBob, "secret", 0600);
  const NodeId mine = file(open, "mine", kAlice, "", 0666);
  const wire::NodeInfo now = info(rename(secret, open, "mine", 0, kAlice));
  EXPECT_EQ(now.id, mine) << "the target keeps its identity";
  const PosixView view = posix_view(now.acl, now.attributes, false);
  EXPECT_EQ(view.uid, kBob.uid) << "what could not be read keeps its own protection";
  EXPECT_EQ(view.mode, 0600u);
  EXPECT_EQ(rename(another, open, "renamed", 0, kAlice).err, Err::kOk) << "with its own ACL it may go anywhere";
}

TEST_F(Extension, RenameOntoNullData) {
  const NodeId source = file(top, "tmp", kRootUser, "new");
  const NodeId half = info(make(top, "half", kRootUser, std::nullopt)).id;
  const NodeId another = info(make(top, "another", kRootUser, std::nullopt)).id;
  EXPECT_EQ(rename(another, top, "tmp").err, Err::kNoNode);
  EXPECT_EQ(info(rename(source, top, "half", 1)).id, half) << "for a mount the name is free";
}

TEST_F(Extension, RenameOntoAnotherShapeReplacesTheNode) {
  const NodeId link = info(make(top, "link", kRootUser, "target", 0777, Shape::kSymlink)).id;
  const NodeId f = file(top, "f", kRootUser, "data");
  const wire::NodeInfo now = info(rename(f, top, "link"));
  EXPECT_EQ(now.id, f);
  EXPECT_EQ(now.attributes.shape, Shape::kFile);
  EXPECT_EQ(now.stat.version, 0);
  EXPECT_FALSE(at(top, "f"));
  EXPECT_EQ(remove(link).err, Err::kStaleNode);
  const NodeId link2 = info(make(top, "link2", kRootUser, "target", 0777, Shape::kSymlink)).id;
  EXPECT_EQ(rename(link2, top, "link", 1).err, Err::kNodeExists);
  EXPECT_EQ(info(rename(link2, top, "link")).id, link2);
  EXPECT_EQ(remove(f).err, Err::kStaleNode);
  const NodeId link3 = info(make(top, "link3", kRootUser, "other", 0777, Shape::kSymlink)).id;
  EXPECT_EQ(info(rename(link3, top, "link")).id, link2) << "of one kind: the target stays";
  EXPECT_EQ(at(top, "link")->data, "other");
}

TEST_F(Extension, RenameOntoAnotherShapeWithChildren) {
  const NodeId target = file(top, "conf", kRootUser, "old");
  const NodeId child = file(target, "child");
  const NodeId link = info(make(top, "link", kRootUser, "target", 0777, Shape::kSymlink)).id;
  const wire::NodeInfo now = info(rename(link, top, "conf"));
  EXPECT_EQ(now.id, target) << "it cannot go";
  EXPECT_EQ(now.attributes.shape, Shape::kSymlink);
  EXPECT_EQ(at(target, "child")->id, child);
  const NodeId source = file(top, "source", kRootUser, "new");
  file(source, "below");
  EXPECT_EQ(rename(source, top, "conf").err, Err::kNotEmpty);
  const NodeId other = info(make(top, "other", kRootUser, "target", 0777, Shape::kSymlink)).id;
  EXPECT_EQ(info(rename(source, top, "other")).id, source) << "its children go along";
  EXPECT_TRUE(at(source, "below"));
  EXPECT_EQ(remove(other).err, Err::kStaleNode);
}

// The link's own permissions are open to all, and mean nothing for a file; the link may be another user's.
TEST_F(Extension, RenameOntoASymlinkBringsItsPermissions) {
  const Acl secret = info(make(top, "secret", kAlice, "s3cret", 0600)).acl;
  make(top, "link", kBob, "target", 0777, Shape::kSymlink);
  const wire::NodeInfo now = info(rename(at(top, "secret")->id, top, "link"));
  EXPECT_EQ(now.attributes.shape, Shape::kFile);
  EXPECT_EQ(now.acl, secret);
  EXPECT_EQ(now.attributes.exec, 0);
  const Acl open = info(make(top, "link2", kBob, "target", 0777, Shape::kSymlink)).acl;
  EXPECT_EQ(info(rename(at(top, "link2")->id, top, "link")).acl, open);
  file(file(top, "conf", kRootUser, "x", 0600), "child");
  const NodeId link = info(make(top, "link3", kBob, "target", 0777, Shape::kSymlink)).id;
  EXPECT_EQ(info(rename(link, top, "conf")).acl, open) << "likewise when the target stays because of its children";
}

TEST_F(Extension, RenameOntoADirectory) {
  const NodeId a = dir(top, "a");
  file(a, "f");
  const NodeId b = dir(top, "b");
  EXPECT_EQ(info(rename(a, top, "b")).id, a);
  EXPECT_FALSE(at(top, "a"));
  EXPECT_EQ(remove(b).err, Err::kStaleNode);
  EXPECT_EQ(rename(dir(top, "c"), top, "b").err, Err::kNotEmpty);
}

TEST_F(Extension, RenameExchange) {
  const NodeId a = dir(top, "a");
  const NodeId f = file(a, "f", kRootUser, "data", 0666);
  const NodeId g = file(top, "g", kRootUser, "", 0666);
  EXPECT_EQ(info(rename(a, top, "g", 2)).name, "g");
  EXPECT_EQ(at(top, "a")->id, g);
  EXPECT_EQ(w.data("/top/g/f"), "data");
  EXPECT_EQ(info(rename(f, top, "a", 2)).id, f);
  EXPECT_EQ(at(a, "f")->id, g);
  // Both at once, before either is applied.
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), f, a, "f", 2})));
  w.prepare(w.request(Op::kSetData, set_data_body("/top/a", "to g", 0)));
  w.prepare(w.request(Op::kSetData, set_data_body("/top/g/f", "to f", 0)));
  for (const Applied& reply : w.settle()) EXPECT_EQ(reply.err, Err::kOk);
  EXPECT_EQ(at(top, "a")->id, g);
}

TEST_F(Extension, RenamePermission) {
  const NodeId sticky = dir(top, "sticky", kRootUser, 01777);
  const NodeId closed = dir(top, "closed", kRootUser, 0755);
  const NodeId hers = file(sticky, "f", kAlice);
  EXPECT_EQ(rename(hers, top, "f", 0, kBob).err, Err::kNoAuth);
  EXPECT_EQ(rename(hers, closed, "f", 0, kAlice).err, Err::kNoAuth);
  EXPECT_EQ(rename(file(top, "his", kBob), sticky, "f", 0, kBob).err, Err::kNoAuth) << "it would replace hers";
  EXPECT_EQ(rename(hers, top, "f", 0, kAlice).err, Err::kOk);
  const NodeId d = dir(top, "d", kAlice, 0755);
  EXPECT_EQ(rename(d, sticky, "d", 0, kBob).err, Err::kNoAuth) << "its '..' would change";
  EXPECT_EQ(rename(d, top, "e", 0, kBob).err, Err::kOk);
}

TEST_F(Extension, RenameOfSubtrees) {
  const NodeId a = dir(top, "a");
  const NodeId b = dir(a, "b");
  wire::CreateNodeRequest r = request(b, "eph");
  r.mode = wire::CreateMode::kEphemeral;
  w.prepare(w.request(Op::kCreateNode, extension_body(r)));
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), a, top, "x", 0})));
  EXPECT_EQ(w.settle().back().err, Err::kSubtreeTooLarge) << "an ephemeral that is not applied yet";
  EXPECT_EQ(rename(a, top, "x").err, Err::kSubtreeTooLarge);
  const NodeId ephemeral = at(b, "eph")->id;
  EXPECT_EQ(rename(ephemeral, top, "eph").err, Err::kOk) << "alone it may move";
  EXPECT_EQ(rename(a, top, "x").err, Err::kOk);
}

TEST_F(Extension, RenameLimit) {
  const NodeId a = dir(top, "a", kRootUser, 0777);
  for (int i = 0; i < wire::kRenameNodesMax - 1; ++i) {
    w.prepare(w.request(Op::kCreate, create_body("/top/a/" + std::to_string(i), "", open_acl())));
    if (i == wire::kRenameNodesMax / 2) w.settle();
  }
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), a, top, "b", 0})));
  w.prepare(w.request(Op::kCreate, create_body("/top/b/one-more")));
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), a, top, "c", 0})));
  w.prepare(w.request(Op::kDelete, path_version_body("/top/b/17")));
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), a, top, "d", 0})));
  std::vector<Applied> replies = w.settle();
  const std::size_t n = replies.size();
  EXPECT_EQ(replies[n - 5].err, Err::kOk);
  EXPECT_EQ(replies[n - 3].err, Err::kSubtreeTooLarge);
  EXPECT_EQ(replies[n - 1].err, Err::kOk);
}

TEST_F(Extension, StockRequestsSeeARenameThatIsNotApplied) {
  const NodeId a = dir(top, "a", kRootUser, 0777);
  ASSERT_EQ(w.create("/top/a/f"), Err::kOk);
  w.prepare(w.request(Op::kRename, extension_body(wire::RenameRequest{header(), a, top, "b", 0})));
  w.prepare(w.request(Op::kSetData, set_data_body("/top/a/f", "x")));
  w.prepare(w.request(Op::kSetData, set_data_body("/top/b/f", "x")));
  w.prepare(w.request(Op::kCreate, create_body("/top/b/f")));
  w.prepare(w.request(Op::kCreate, create_body("/top/a")));
  w.prepare(w.request(Op::kCreate, create_body("/top/a/f")));
  std::vector<Err> codes;
  for (const Applied& reply : w.settle()) codes.push_back(reply.err);
  EXPECT_EQ(codes, (std::vector<Err>{Err::kOk, Err::kNoNode, Err::kOk, Err::kNodeExists, Err::kOk, Err::kOk}));
}

TEST(ExtensionQuota, MovesCountWhereTheyArrive) {
  Limits limits;
  limits.enforce_quota = true;
  World w(limits);
  for (const char* path : {"/q", "/q/in", "/out", "/out/a", "/out/a/b", "/zookeeper/quota/q"}) {
    ASSERT_EQ(w.create(path, std::nullopt), Err::kOk) << path;
  }
  ASSERT_EQ(w.create("/zookeeper/quota/q/zookeeper_limits", "count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3"),
            Err::kOk);
  ASSERT_EQ(w.create("/zookeeper/quota/q/zookeeper_stats", ""), Err::kOk);
  const NodeId q = w.lookup(kRootNode, "q")->id;
  const NodeId in = w.lookup(q, "in")->id;
  const NodeId out = w.lookup(kRootNode, "out")->id;
  const NodeId a = w.lookup(out, "a")->id;
  const NodeId b = w.lookup(a, "b")->id;
  std::int64_t seq = 0;
  const auto rename = [&](NodeId node, NodeId parent, std::string name) {
    return w.code(Op::kRename, extension_body(wire::RenameRequest{{++seq, 0, {}}, node, parent, std::move(name), 0}));
  };
  EXPECT_EQ(rename(a, q, "a"), Err::kQuotaExceeded) << "two nodes more";
  EXPECT_EQ(rename(b, q, "b"), Err::kOk);
  EXPECT_EQ(rename(b, in, "b"), Err::kOk) << "within one quota nothing is added";
  EXPECT_EQ(rename(a, q, "a"), Err::kQuotaExceeded);
  EXPECT_EQ(rename(b, out, "b"), Err::kOk);
  EXPECT_EQ(rename(a, q, "a"), Err::kOk);

  ASSERT_EQ(w.set("/out/b", "0123456789x"), Err::kOk);
  ASSERT_EQ(w.create("/out/f", "0123456789x"), Err::kOk);
  ASSERT_EQ(w.remove("/q/a"), Err::kOk);
  ASSERT_EQ(w.create("/q/f", "x"), Err::kOk);
  EXPECT_EQ(rename(w.lookup(out, "f")->id, q, "f"), Err::kQuotaExceeded) << "onto a file: its bytes";
  ASSERT_EQ(w.set("/out/f", "0123456789"), Err::kOk);
  EXPECT_EQ(rename(w.lookup(out, "f")->id, q, "f"), Err::kOk);
}

}  // namespace
}  // namespace coord::tree::test
