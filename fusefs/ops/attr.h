// How one half of a znode looks to stat(2): struct stat from NodeInfo. Pure.
//
// Times: data: Stat.mtime (ms) * 10^6 + version ns; directories: + cversion ns as well, because a znode's Stat has no
// time for a change of its children. So st_mtime grows strictly with every change, even within one millisecond, and is
// the same on every host and after every remount. A time set by utimensat (Attributes.mtime_ns) is shown as it is, for
// both halves. st_ctime: the later of ctime and mtime, + version + aversion + cversion ns. st_atime = st_mtime.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>

#include "common/wire/extension.h"
#include "fusefs/ops/inode.h"

namespace coord::fs {

inline constexpr std::uint32_t kStatBlockSize = 4096;  // st_blksize; st_blocks counts 512 bytes

struct ShownAs {
  bool gone = false;                       // nlink 0
  std::optional<std::uint64_t> size;       // uncommitted size of the data half
  std::optional<std::int64_t> mtime_ns;    // its time
};

struct stat stat_of(const wire::NodeInfo& info, View view, const ShownAs& as = {});

// S_IFREG, S_IFDIR or S_IFLNK.
mode_t type_of(Shape shape, View view);

}  // namespace coord::fs
