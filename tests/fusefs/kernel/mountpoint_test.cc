#include "fusefs/kernel/mountpoint.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>

#include "tests/fusefs/kernel/temp_dir.h"

namespace coord::fs {
namespace {

TEST(MountInfo, LeavesOutWhatIsNotALine) {
  EXPECT_TRUE(parse_mountinfo("").empty());
  EXPECT_TRUE(parse_mountinfo("\n\nrubbish\n1 2 3\n1 2 0:x / /m rw - t s o\n1 2 05 / /m rw - t s o\n").empty());
  EXPECT_TRUE(parse_mountinfo("36 35 0:51 / /mnt rw,noatime").empty());
}

TEST(MountInfo, Lines) {
  const auto mounts = parse_mountinfo(
      "36 35 0:51 / /a\\040b\\134c rw,nosuid master:1 shared:2 - fuse.coordfs unix:/s\\040x rw,user_id=0\n"
      "37 35 8:1 /sub /plain rw - ext4 /dev/sda1 rw");
  ASSERT_EQ(mounts.size(), 2U);
  EXPECT_EQ(mounts[0].point, "/a b\\c");
  EXPECT_EQ(mounts[0].type, "fuse.coordfs");
  EXPECT_EQ(mounts[0].source, "unix:/s x");
  EXPECT_EQ(mounts[0].major, 0U);
  EXPECT_EQ(mounts[0].minor, 51U);
  EXPECT_EQ(mounts[1].root, "/sub");
  EXPECT_EQ(mounts[1].major, 8U);
  EXPECT_FALSE(mounts[0].read_only_below || mounts[1].read_only_below);
  for (const auto& [options, below] :
       {std::pair("ro", true), {"ro,user_id=0", true}, {"rw,x=ro", false}, {"", false}}) {
    const auto one = parse_mountinfo(std::string("36 35 0:51 / /m ro - fuse.coordfs coord ") + options);
    ASSERT_EQ(one.size(), 1U);
    EXPECT_EQ(one[0].read_only_below, below) << options;
  }
}

TEST(MountInfo, TheTopmostIsTheOneThatNoneStandsOn) {
  // A mount put beneath another one comes later in the list.
  const auto mounts = parse_mountinfo(
      "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
      "41 42 0:41 / /m rw - fuse.coordfs old rw\n"
      "42 30 0:42 / /m rw - fuse.coordfs new rw\n");
  ASSERT_EQ(mounts.size(), 3U);
  ASSERT_NE(topmost(mounts, "/m"), nullptr);
  EXPECT_EQ(topmost(mounts, "/m")->source, "old");
  EXPECT_EQ(topmost(mounts, "/n"), nullptr);
}

TEST(MountInfo, OfThisProcess) {
  ASSERT_FALSE(read_mounts().empty());
  EXPECT_TRUE(mount_at("/proc"));
  EXPECT_FALSE(mount_at("/proc/"));
}

std::string why(const std::string& path) {
  const auto ok = prepare_mountpoint(path);
  return ok ? "" : ok.error().message;
}

TEST(MountPoint, SaysWhatIsWrong) {
  const TempDir temp;
  const std::string missing = temp.path() + "/missing", file = temp.path() + "/file", full = temp.path() + "/full";
  const auto canonical = canonical_mountpoint(missing);
  ASSERT_FALSE(canonical);
  EXPECT_EQ(canonical.error().message, "mount point " + missing + " does not exist");
  EXPECT_FALSE(canonical_mountpoint(""));
  std::ofstream(file) << "x";
  EXPECT_EQ(why(file), "mount point " + file + " is not a directory");
  std::filesystem::create_directories(full + "/precious");
  EXPECT_EQ(why(full), "mount point " + full + " is not empty: it contains 'precious'");
  EXPECT_EQ(why("/proc"), "mount point /proc is already mounted: proc from proc");
}

TEST(MountPoint, NotMountedFileIsAllowedAndKept) {
  const TempDir temp;
  EXPECT_EQ(why(temp.path()), "");
  ASSERT_TRUE(place_not_mounted_file(temp.path()));
  ASSERT_TRUE(place_not_mounted_file(temp.path()));
  EXPECT_TRUE(std::filesystem::exists(temp.path() + "/NOT_MOUNTED"));
  EXPECT_EQ(why(temp.path()), "");
  EXPECT_FALSE(place_not_mounted_file(temp.path() + "/nowhere"));
}

TEST(MountPoint, Canonical) {
  const TempDir temp;
  const std::string real = temp.path() + "/real", link = temp.path() + "/link";
  std::filesystem::create_directory(real);
  std::filesystem::create_directory_symlink(real, link);
  EXPECT_EQ(*canonical_mountpoint(link + "/"), real);
  EXPECT_EQ(*canonical_mountpoint(real + "/../real/."), real);
}

TEST(MountPoint, AForeignMountIsNotTouched) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const TempDir temp;
  if (::mount("other", temp.path().c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "cannot mount a tmpfs here";
  EXPECT_EQ(mount_state(temp.path()), MountState::kOther);
  EXPECT_EQ(why(temp.path()), "mount point " + temp.path() + " is already mounted: tmpfs from other");
  EXPECT_FALSE(*unmount_lazily(temp.path()));
  EXPECT_TRUE(mount_at(temp.path()));
  ::umount2(temp.path().c_str(), MNT_DETACH);
  EXPECT_EQ(mount_state(temp.path()), MountState::kNone);
}

TEST(MountPoint, AbortOfAConnectionThatIsNotThere) { EXPECT_FALSE(abort_connection(1048575)); }

}  // namespace
}  // namespace coord::fs
