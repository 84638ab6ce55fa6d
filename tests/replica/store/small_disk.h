// A disk that can be filled.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "tests/replica/store/store_testing.h"

namespace coord::store {

// A tmpfs of so many bytes, seen by this process alone. Root only.
class SmallDisk {
 public:
  explicit SmallDisk(std::uint64_t bytes) {
    static const bool unshared =
        ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    mounted_ = unshared && ::mount("coord-store-test", dir_.path().c_str(), "tmpfs", 0, size(bytes).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(dir_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  bool resize(std::uint64_t bytes) {
    return ::mount("coord-store-test", dir_.path().c_str(), "tmpfs", MS_REMOUNT, size(bytes).c_str()) == 0;
  }
  std::string operator/(const std::string& name) const { return dir_ / name; }
  // Takes all that is left. The grower may be taking some of it at the same time, hence in pieces.
  void fill() {
    const int fd = ::open((dir_ / "filler").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    off_t size = 0;
    for (off_t piece = 64 << 20; piece >= 4096;) {
      if (::posix_fallocate(fd, size, piece) == 0) {
        size += piece;
      } else {
        piece /= 2;
      }
    }
    ::close(fd);
  }
  void empty() { std::filesystem::remove(dir_ / "filler"); }

 private:
  static std::string size(std::uint64_t bytes) { return "size=" + std::to_string(bytes) + ",mode=0700"; }
  TempDir dir_;
  bool mounted_ = false;
};

#define NEEDS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount a small file system"

}  // namespace coord::store
