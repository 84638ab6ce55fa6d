// The disk of the power cuts itself: what it never loses, and that it does lose the rest.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>
#include <set>

#include "tests/replica/store/power_cut_disk.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store::power_cut {
namespace {

class PowerCutDisk : public ::testing::Test {
 protected:
  PowerCutDisk() { std::filesystem::create_directory(root); }
  int open(const std::string& name, int flags = 0) {
    const int fd = ::open((root + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
    EXPECT_GE(fd, 0);
    return fd;
  }
  void put(int fd, const std::string& bytes, off_t at) {
    ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), at), static_cast<ssize_t>(bytes.size()));
  }
  void sync_names() {
    const int fd = ::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_EQ(::fsync(fd), 0);
    ::close(fd);
  }
  // All that may be found of a file after what `work` does, one letter for each sector; "-": no file.
  std::set<std::string> found(const std::string& name, const std::function<void()>& work) {
    Recorder recorder(root);
    work();
    const Recording recording = recorder.stop();
    std::set<std::string> all;
    Random random(1);
    Disk disk = recording.before;
    disk.advance(recording.events, recording.events.size());
    for (int i = 0; i < 500; ++i) {
      const Image image = disk.cut(recording.events, random);
      const auto file = image.files.find(name);
      all.insert(file == image.files.end() ? "-" : letters(*file->second));
    }
    EXPECT_TRUE(disk.whole(recording.events).files.at(last_name.empty() ? name : last_name)->is(
        root + "/" + (last_name.empty() ? name : last_name)));
    return all;
  }
  static std::string letters(const Image::File& file) {
    std::string all;
    for (std::size_t at = 0; at < file.size; at += kSector) {
      all += at < file.bytes.size() && file.bytes[at] != 0 ? file.bytes[at] : '0';
    }
    return all;
  }
  static std::string sectors(const std::string& names) {
    std::string bytes;
    for (const char c : names) bytes += std::string(kSector, c);
    return bytes;
  }

  TempDir dir;
  std::string root = dir / "root";
  std::string last_name;  // if it is another in the end
};

using Set = std::set<std::string>;

TEST_F(PowerCutDisk, what_was_not_synced_may_be_there_in_any_part_and_of_any_length) {
  const Set all = found("file", [&] {
    const int fd = open("file");
    sync_names();
    put(fd, sectors("ab"), 0);
    put(fd, sectors("c"), 512);
    ::close(fd);
  });
  EXPECT_EQ(all, (Set{"", "00", "0b", "0c", "a0", "ab", "ac"}));
}

TEST_F(PowerCutDisk, what_was_synced_is_there_and_a_later_write_is_not) {
  const Set all = found("file", [&] {
    const int fd = open("file");
    sync_names();
    put(fd, sectors("ab"), 0);
    ASSERT_EQ(::fdatasync(fd), 0);
    put(fd, sectors("x"), 0);
    std::string more = sectors("yz");
    ASSERT_EQ(::lseek(fd, 1024, SEEK_SET), 1024);
    const std::array<iovec, 2> parts = {{{more.data(), 512}, {more.data() + 512, 512}}};
    ASSERT_EQ(::writev(fd, parts.data(), 2), 1024);
    ::close(fd);
  });
  for (const std::string& one : all) {
    EXPECT_TRUE(one[0] == 'a' || one[0] == 'x') << one;
    EXPECT_EQ(one[1], 'b') << one;
  }
  EXPECT_EQ(all.size(), 10U) << "of the first sector two contents, of the two new ones any, or none";
}

TEST_F(PowerCutDisk, a_write_through_o_dsync_is_there_and_what_was_written_around_it_need_not_be) {
  const Set all = found("file", [&] {
    const int fd = open("file");
    const int meta = open("file", O_DSYNC);
    sync_names();
    put(fd, sectors("a"), 0);
    put(fd, sectors("b"), 512);
    put(meta, sectors("m"), 512);
    ::close(fd);
    ::close(meta);
  });
  EXPECT_EQ(all, (Set{"0m", "am"}));
}

TEST_F(PowerCutDisk, a_name_is_there_when_its_directory_was_synced) {
  const auto make = [&](bool sync) {
    return [this, sync] {
      const int fd = open("new");
      put(fd, sectors("a"), 0);
      ASSERT_EQ(::fsync(fd), 0);
      ::close(fd);
      ASSERT_EQ(::rename((root + "/new").c_str(), (root + "/file").c_str()), 0);
      if (sync) sync_names();
    };
  };
  last_name = "file";
  EXPECT_EQ(found("file", make(false)), (Set{"-", "a"}));
  std::filesystem::remove(root + "/file");
  EXPECT_EQ(found("file", make(true)), (Set{"a"}));
  EXPECT_EQ(found("new", [] {}), (Set{"-"}));
  last_name.clear();
}

}  // namespace
}  // namespace coord::store::power_cut
