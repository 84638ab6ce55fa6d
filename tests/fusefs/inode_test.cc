#include "fusefs/ops/inode.h"

#include <gtest/gtest.h>

#include <set>

namespace coord::fs {
namespace {

TEST(Inode, RootDirectoryIsFuseRoot) {
  EXPECT_EQ(ino_of(kRootNode, View::kDir), kRootIno);
  EXPECT_EQ(node_of(kRootIno), kRootNode);
  EXPECT_EQ(view_of(kRootIno), View::kDir);
}

TEST(Inode, NumbersAreABijectionOnNodesAndViews) {
  std::set<Ino> seen;
  for (std::uint64_t id = 1; id < 1000; ++id) {
    for (const View view : {View::kData, View::kDir}) {
      const Ino ino = ino_of(NodeId{id}, view);
      EXPECT_TRUE(seen.insert(ino).second) << ino;
      EXPECT_TRUE(valid_ino(ino));
      EXPECT_EQ(node_of(ino), NodeId{id});
      EXPECT_EQ(view_of(ino), view);
    }
  }
}

TEST(Inode, NumbersThatAreNeverGivenOutAreInvalid) {
  for (const Ino ino : {Ino{0}, Ino{2}, Ino{3}, Ino{5}, Ino{6}, Ino{7}, Ino{4002}}) EXPECT_FALSE(valid_ino(ino)) << ino;
}

}  // namespace
}  // namespace coord::fs
