#include "fusefs/ops/node_cache.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/fusefs/node.h"

namespace coord::fs {
namespace {

using wire::ChangeEvent;
using wire::ChangeKind;
using wire::NodeInfo;

const ByKernel kNobody = [](View) { return false; };
const ByKernel kKernel = [](View) { return true; };

ChangeEvent change(ChangeKind kind, NodeInfo info) {
  ChangeEvent event;
  event.kind = kind;
  event.node = std::move(info);
  return event;
}

class NodeCacheTest : public ::testing::Test {
 protected:
  NodeCacheTest() {
    cache.absorb(node(1, 1, "", Shape::kDir), true, effects);
    effects = {};
  }
  void hold(const NodeInfo& info) {
    cache.absorb(info, true, effects);
    effects = {};
  }
  void know(std::uint64_t id, View view) { cache.add_lookup(ino_of(NodeId{id}, view)); }
  void apply(ChangeKind kind, const NodeInfo& info, const ByKernel& by = kNobody) {
    effects = {};
    cache.apply(change(kind, info), by, effects);
  }
  bool invalidated(std::uint64_t id, View view) const {
    return std::count(effects.attributes.begin(), effects.attributes.end(), ino_of(NodeId{id}, view)) > 0;
  }

  NodeCache cache;
  Effects effects;
};

TEST_F(NodeCacheTest, UnknownNodesAreNotCurrent) {
  EXPECT_EQ(cache.current(NodeId{99}), nullptr);
  EXPECT_EQ(cache.child(kRootNode, "x"), nullptr);
  EXPECT_EQ(cache.path_of(ino_of(NodeId{99}, View::kDir)), std::nullopt);
  apply(ChangeKind::kData, node(99, 98, "x"));
  EXPECT_EQ(cache.find(NodeId{99}), nullptr) << "an event of something that nobody holds is not kept";
  apply(ChangeKind::kDeleted, node(99, 98, "x"));
  EXPECT_EQ(cache.size(), 1u);
}

TEST_F(NodeCacheTest, AnAnswerThatHoldsNothingIsNotKept) {
  cache.absorb(node(5, 1, "a"), false, effects);
  EXPECT_EQ(cache.find(NodeId{5}), nullptr);
}

TEST_F(NodeCacheTest, HeldNodeIsFoundByNameUntilItIsDeleted) {
  hold(node(5, 1, "a"));
  ASSERT_NE(cache.child(kRootNode, "a"), nullptr);
  apply(ChangeKind::kDeleted, node(5, 1, "a"));
  EXPECT_EQ(cache.child(kRootNode, "a"), nullptr);
}

TEST_F(NodeCacheTest, DataChangeInvalidatesWhatTheKernelKnowsAndDropsTheData) {
  auto info = node(5, 1, "a");
  info.data = "old";
  hold(info);
  know(5, View::kData);
  ASSERT_NE(cache.find(NodeId{5})->data, nullptr);
  info.data.reset();
  info.stat.mzxid = 50;
  info.stat.version = 1;
  apply(ChangeKind::kData, info);
  EXPECT_TRUE(invalidated(5, View::kData));
  EXPECT_FALSE(invalidated(5, View::kDir)) << "the kernel does not know that half";
  EXPECT_EQ(cache.find(NodeId{5})->data, nullptr);
  EXPECT_EQ(cache.data_bytes(), 0u);
}

TEST_F(NodeCacheTest, AttributeChangeKeepsTheData) {
  auto info = node(5, 1, "a");
  info.data = "same";
  hold(info);
  info.data.reset();
  info.attributes.exec = 0111;
  apply(ChangeKind::kAttributes, info);
  EXPECT_NE(cache.find(NodeId{5})->data, nullptr);
}

TEST_F(NodeCacheTest, RemoteDeleteIsLimboUntilTheNameIsInvalidated) {
  hold(node(5, 1, "a"));
  know(5, View::kData);
  apply(ChangeKind::kDeleted, node(5, 1, "a"));
  ASSERT_EQ(effects.lost.size(), 1u);
  EXPECT_EQ(effects.lost[0].parent, kRootIno);
  EXPECT_EQ(effects.lost[0].name, "a");
  const CachedNode* gone = cache.find(NodeId{5});
  ASSERT_NE(gone, nullptr);
  EXPECT_TRUE(gone->gone());
  EXPECT_TRUE(gone->in_limbo(View::kData));
  cache.name_invalidated(ino_of(NodeId{5}, View::kData));
  EXPECT_FALSE(gone->in_limbo(View::kData));
  EXPECT_TRUE(cache.forget(ino_of(NodeId{5}, View::kData), 1));
  EXPECT_TRUE(cache.reap({NodeId{5}}).empty()) << "the replica does not hold what is gone";
  EXPECT_EQ(cache.find(NodeId{5}), nullptr);
}

TEST_F(NodeCacheTest, LocalDeleteHasNoLimbo) {
  hold(node(5, 1, "a"));
  know(5, View::kData);
  apply(ChangeKind::kDeleted, node(5, 1, "a"), kKernel);
  EXPECT_TRUE(effects.lost.empty());
  EXPECT_FALSE(cache.find(NodeId{5})->in_limbo(View::kData));
}

TEST_F(NodeCacheTest, RemoteRenameLosesTheOldNameAndFindsTheNew) {
  hold(node(6, 1, "d", Shape::kDir));
  hold(node(5, 1, "a"));
  know(5, View::kData);
  auto event = change(ChangeKind::kRenamed, node(5, 6, "b"));
  event.old_parent = kRootNode;
  event.old_name = "a";
  effects = {};
  cache.apply(event, kNobody, effects);
  ASSERT_EQ(effects.lost.size(), 1u);
  EXPECT_EQ(effects.lost[0].name, "a");
  EXPECT_EQ(cache.child(kRootNode, "a"), nullptr);
  EXPECT_EQ(cache.child(NodeId{6}, "b"), cache.find(NodeId{5}));
  Ino parent = 0;
  std::string name;
  ASSERT_TRUE(cache.place_of(ino_of(NodeId{5}, View::kData), parent, name));
  EXPECT_EQ(parent, ino_of(NodeId{6}, View::kDir));
  EXPECT_EQ(name, "b");
}

TEST_F(NodeCacheTest, EmptyFileThatBecomesADirectoryLosesItsName) {
  hold(node(5, 1, "a"));
  know(5, View::kData);
  apply(ChangeKind::kAttributes, node(5, 1, "a", Shape::kDir));
  ASSERT_EQ(effects.lost.size(), 1u) << "the inode of the data goes by another name now";
  EXPECT_EQ(effects.lost[0].ino, ino_of(NodeId{5}, View::kData));
  EXPECT_EQ(effects.lost[0].name, "a");
}

TEST_F(NodeCacheTest, DataSetToNullTakesTheNameAway) {
  auto info = node(5, 1, "a");
  info.stat.num_children = 1;
  hold(info);
  know(5, View::kData);
  know(5, View::kDir);
  info.null_data = true;
  info.stat.mzxid = 60;
  apply(ChangeKind::kData, info);
  ASSERT_EQ(effects.lost.size(), 1u);
  EXPECT_EQ(effects.lost[0].ino, ino_of(NodeId{5}, View::kData));
}

TEST_F(NodeCacheTest, CompleteListingFollowsEvents) {
  wire::ReadDirReply reply;
  reply.node = node(1, 1, "", Shape::kDir);
  reply.children = {node(5, 1, "a"), node(6, 1, "b")};
  cache.absorb_directory(reply, effects);
  ASSERT_TRUE(cache.find(kRootNode)->complete);
  apply(ChangeKind::kCreated, node(7, 1, "c"));
  ASSERT_NE(cache.child(kRootNode, "c"), nullptr);
  EXPECT_FALSE(cache.child(kRootNode, "c")->held) << "current through its directory only";
  apply(ChangeKind::kDeleted, node(5, 1, "a"));
  EXPECT_EQ(cache.find(kRootNode)->children.size(), 2u);
  EXPECT_EQ(cache.find(NodeId{5}), nullptr) << "nobody knows it";
}

TEST_F(NodeCacheTest, UnheldChildrenAreNotCurrentWithoutTheirDirectory) {
  wire::ReadDirReply reply;
  reply.node = node(2, 1, "d", Shape::kDir);
  cache.absorb_directory(reply, effects);
  apply(ChangeKind::kCreated, node(7, 2, "c"));
  cache.pin(NodeId{7});
  ASSERT_NE(cache.current(NodeId{7}), nullptr);
  EXPECT_EQ(cache.reap({NodeId{2}}), std::vector<NodeId>{NodeId{2}});
  EXPECT_EQ(cache.current(NodeId{7}), nullptr);
  ASSERT_NE(cache.find(NodeId{7}), nullptr) << "pinned";
  EXPECT_TRUE(cache.unpin(NodeId{7}));
  cache.reap({NodeId{7}});
  EXPECT_EQ(cache.find(NodeId{7}), nullptr);
}

TEST_F(NodeCacheTest, ReapSparesWhatIsInUse) {
  hold(node(5, 1, "a"));
  know(5, View::kData);
  know(5, View::kData);
  EXPECT_TRUE(cache.reap({NodeId{5}, kRootNode}).empty());
  EXPECT_FALSE(cache.forget(ino_of(NodeId{5}, View::kData), 1));
  EXPECT_TRUE(cache.forget(ino_of(NodeId{5}, View::kData), 1));
  EXPECT_EQ(cache.reap({NodeId{5}}), std::vector<NodeId>{NodeId{5}});
  EXPECT_EQ(cache.size(), 1u);
}

TEST_F(NodeCacheTest, HeldAgainBeforeTheForgetWasAnsweredIsNotCurrent) {
  hold(node(5, 1, "a"));
  const auto forgotten = cache.reap({NodeId{5}});
  const auto since = cache.serial();
  hold(node(5, 1, "a"));  // a Lookup that the replica answered before the Forget
  know(5, View::kData);
  effects = {};
  cache.forgotten(forgotten, since, effects);
  EXPECT_EQ(cache.current(NodeId{5}), nullptr);
  EXPECT_TRUE(invalidated(5, View::kData));
}

TEST_F(NodeCacheTest, HeldAgainAfterTheForgetWasAnsweredIsCurrent) {
  hold(node(5, 1, "a"));
  const auto forgotten = cache.reap({NodeId{5}});
  cache.forgotten(forgotten, cache.serial(), effects);
  hold(node(5, 1, "a"));
  EXPECT_NE(cache.current(NodeId{5}), nullptr);
}

TEST_F(NodeCacheTest, MoveThatNoEventToldIsSeenByTheNextAnswer) {
  hold(node(5, 1, "a"));
  know(5, View::kData);
  cache.drop_all(effects);
  EXPECT_TRUE(invalidated(5, View::kData));
  effects = {};
  cache.absorb(node(5, 1, "b"), true, effects);
  ASSERT_EQ(effects.lost.size(), 1u);
  EXPECT_EQ(effects.lost[0].name, "a");
}

TEST_F(NodeCacheTest, DropAllKeepsGoneNodesGone) {
  hold(node(5, 1, "a"));
  know(5, View::kData);
  apply(ChangeKind::kDeleted, node(5, 1, "a"), kKernel);
  cache.drop_all(effects);
  EXPECT_TRUE(cache.find(NodeId{5})->gone());
}

TEST_F(NodeCacheTest, ParentStatComesWithTheEvent) {
  know(1, View::kDir);
  auto event = change(ChangeKind::kCreated, node(5, 1, "a"));
  event.parent_stat.cversion = 7;
  event.parent_stat.num_children = 1;
  cache.apply(event, kNobody, effects);
  EXPECT_EQ(cache.find(kRootNode)->info.stat.cversion, 7);
  EXPECT_TRUE(invalidated(1, View::kDir));
}

TEST_F(NodeCacheTest, CachedDataIsBounded) {
  auto info = node(5, 1, "a");
  info.data = std::string(kCachedDataMax + 1, 'x');
  hold(info);
  EXPECT_EQ(cache.find(NodeId{5})->data, nullptr);
  for (std::uint64_t id = 10; id < 10 + 2 * kCachedDataTotalMax / kCachedDataMax; ++id) {
    auto big = node(id, 1, "n" + std::to_string(id));
    big.data = std::string(kCachedDataMax, 'x');
    hold(big);
    ASSERT_LE(cache.data_bytes(), kCachedDataTotalMax);
  }
}

TEST_F(NodeCacheTest, PathsGoThroughBothKindsOfDirectories) {
  hold(node(2, 1, "d", Shape::kDir));
  hold(node(3, 2, "f"));
  hold(node(4, 3, "child"));
  EXPECT_EQ(cache.path_of(kRootIno), "");
  EXPECT_EQ(cache.path_of(ino_of(NodeId{3}, View::kDir)), "d/f@");
  EXPECT_EQ(cache.znode_path(NodeId{4}), "/d/f/child");
  EXPECT_EQ(cache.znode_path(kRootNode), "/");
}

TEST(Shows, NamesByShapeDataAndChildren) {
  auto info = node(5, 2, "a");
  EXPECT_TRUE(shows_data_name(info));
  EXPECT_FALSE(shows_children_name(info));
  info.stat.num_children = 1;
  EXPECT_TRUE(shows_children_name(info));
  info.null_data = true;
  EXPECT_FALSE(shows_data_name(info));
  info.stat.num_children = 0;
  EXPECT_TRUE(shows_children_name(info)) << "always visible under some name";
  info.stat.ephemeral_owner = 7;
  EXPECT_TRUE(shows_data_name(info));
  EXPECT_FALSE(shows_children_name(info));
  auto dir = node(5, 2, "a", Shape::kDir);
  EXPECT_FALSE(shows_dot_data(dir));
  EXPECT_TRUE(shows_name(dir, View::kDir));
  dir.stat.data_length = 1;
  EXPECT_TRUE(shows_dot_data(dir));
  EXPECT_FALSE(shows_children_name(dir)) << "NAME@ of a dir-shaped node is ENOENT";
}

TEST(Shows, ZooKeepersOwnNodeIsHiddenAtTheRootOnly) {
  EXPECT_FALSE(shows_name(node(2, 1, "zookeeper", Shape::kDir), View::kDir));
  EXPECT_TRUE(shows_name(node(9, 5, "zookeeper", Shape::kDir), View::kDir));
}

// The kernel knows the root for as long as the mount lives: its attributes are invalidated, it has no name to lose.
TEST_F(NodeCacheTest, TheRootIsAlwaysKnownAndNeverLost) {
  know(1, View::kDir);
  EXPECT_FALSE(cache.forget(kRootIno, 1));
  EXPECT_EQ(cache.find(kRootNode)->lookups_of(View::kDir), 1u);
  NodeInfo changed = node(1, 1, "", Shape::kDir);
  changed.stat.aversion = 1;
  apply(ChangeKind::kAttributes, changed);
  EXPECT_TRUE(invalidated(1, View::kDir));
  cache.absorb_gone(kRootNode, effects);
  EXPECT_TRUE(effects.lost.empty());
}

}  // namespace
}  // namespace coord::fs
