// FUSE inode numbers: which half of which znode one means. Pure arithmetic.
//
// A znode has up to two halves, and each half is one inode, whatever the name it goes by at the moment:
//   View::kData  the data as a file (NAME of a file-shaped node, DIR/.data), or the symlink itself;
//   View::kDir   the directory of the children (DIR of a dir-shaped node, NAME@ of any other).
// So an inode never changes its type, not even when a client's empty file becomes a directory with its first child: the
// regular file NAME becomes DIR/.data under its old number, open handles go on, and DIR is another number. (A type
// change under one nodeid makes the kernel fail every open handle.)
//
// ino = node id * 4 + view; the mount's root directory is FUSE_ROOT_ID (1): the directory half of the tree's root, or
// of the znode that the path in SOURCE names. Node ids start at 1, so 1 is free otherwise. Node ids are replicated and
// never reused: the number is the same on every host and after every remount, and the FUSE generation is always 0,
// because no (ino) ever means a second object.
#pragma once

#include <cstdint>

#include "common/base/check.h"
#include "common/model/records.h"

namespace coord::fs {

enum class View : std::uint8_t { kData = 0, kDir = 1 };
inline constexpr int kViews = 2;
inline constexpr View kBothViews[kViews] = {View::kData, View::kDir};

using Ino = std::uint64_t;  // fuse_ino_t
inline constexpr Ino kRootIno = 1;
inline constexpr std::uint64_t kGeneration = 0;

// The znode whose directory half is the root of the mount. Set once, before the first request is served.
namespace detail {
inline NodeId mount_root_node = kRootNode;
}
inline NodeId mount_root() { return detail::mount_root_node; }
inline void set_mount_root(NodeId node) { detail::mount_root_node = node; }

inline Ino ino_of(NodeId node, View view) {
  if (node == mount_root() && view == View::kDir) return kRootIno;
  return node.value * 4 + static_cast<Ino>(view);
}
inline NodeId node_of(Ino ino) { return ino == kRootIno ? mount_root() : NodeId{ino / 4}; }
constexpr View view_of(Ino ino) { return ino == kRootIno || ino % 4 == 1 ? View::kDir : View::kData; }
// False for numbers that this mount never gives out (a confused kernel, or a later version's).
constexpr bool valid_ino(Ino ino) { return ino == kRootIno || (ino >= 4 && ino % 4 <= 1 && ino != 5); }

// The half that NAME itself is.
constexpr View main_view(Shape shape) { return shape == Shape::kDir ? View::kDir : View::kData; }

}  // namespace coord::fs
