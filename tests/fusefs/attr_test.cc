#include "fusefs/ops/attr.h"

#include <gtest/gtest.h>

#include "common/model/posix.h"

namespace coord::fs {
namespace {

wire::NodeInfo file(std::uint64_t id = 7) {
  wire::NodeInfo info;
  info.id = NodeId{id};
  info.parent = kRootNode;
  info.name = "f";
  info.acl = open_acl();
  info.stat.ctime = 1'000;
  info.stat.mtime = 2'000;
  info.stat.data_length = 1025;
  return info;
}

std::int64_t ns(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }

TEST(Attr, FileHalf) {
  const struct stat s = stat_of(file(), View::kData);
  EXPECT_EQ(s.st_mode, static_cast<mode_t>(S_IFREG | 0666));
  EXPECT_EQ(s.st_ino, ino_of(NodeId{7}, View::kData));
  EXPECT_EQ(s.st_size, 1025);
  EXPECT_EQ(s.st_blocks, 3);
  EXPECT_EQ(s.st_nlink, 1u);
}

TEST(Attr, ChildrenHalfOfAFileIsADirectory) {
  const struct stat s = stat_of(file(), View::kDir);
  EXPECT_TRUE(S_ISDIR(s.st_mode));
  EXPECT_EQ(s.st_nlink, 2u);
}

TEST(Attr, SymlinkHasAllModeBits) {
  auto info = file();
  info.attributes.shape = Shape::kSymlink;
  EXPECT_EQ(stat_of(info, View::kData).st_mode, static_cast<mode_t>(S_IFLNK | 0777));
}

TEST(Attr, DeletedNodeHasNoLinks) {
  ShownAs as;
  as.gone = true;
  EXPECT_EQ(stat_of(file(), View::kData, as).st_nlink, 0u);
  EXPECT_EQ(stat_of(file(), View::kDir, as).st_nlink, 0u);
}

TEST(Attr, PendingSizeIsOfTheDataHalfOnly) {
  ShownAs as;
  as.size = 5;
  EXPECT_EQ(stat_of(file(), View::kData, as).st_size, 5);
  EXPECT_EQ(stat_of(file(), View::kDir, as).st_size, static_cast<off_t>(kStatBlockSize));
}

TEST(Attr, MtimeGrowsWithEveryChangeWithinOneMillisecond) {
  auto info = file();
  std::int64_t last = 0;
  for (int version = 0; version < 5; ++version) {
    info.stat.version = version;
    const std::int64_t now = ns(stat_of(info, View::kData).st_mtim);
    EXPECT_GT(now, last);
    last = now;
  }
}

TEST(Attr, DirectoryMtimeGrowsWithEveryChildWithoutNewTime) {
  auto info = file();
  info.attributes.shape = Shape::kDir;
  const std::int64_t before = ns(stat_of(info, View::kDir).st_mtim);
  info.stat.cversion = 1;
  EXPECT_GT(ns(stat_of(info, View::kDir).st_mtim), before);
}

TEST(Attr, MtimeSetByAUserIsShownAsItIs) {
  auto info = file();
  info.stat.version = 9;
  info.attributes.mtime_ns = 1'234'567'890'123'456'789;
  EXPECT_EQ(ns(stat_of(info, View::kData).st_mtim), 1'234'567'890'123'456'789);
}

TEST(Attr, TimesBefore1970) {
  auto info = file();
  info.attributes.mtime_ns = -1;
  const struct stat s = stat_of(info, View::kData);
  EXPECT_EQ(s.st_mtim.tv_sec, -1);
  EXPECT_EQ(s.st_mtim.tv_nsec, 999'999'999);
}

}  // namespace
}  // namespace coord::fs
