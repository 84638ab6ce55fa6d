// What the replay of remote changes talks about: plain data (filesystem.md section 5). A node is named by its FUSE
// inode number (the nodeid that the kernel knows it by), a directory likewise, a name by its spelling in the mount.
#pragma once

#include <cstdint>
#include <string>

namespace coord::fs::replay {

enum class EventKind : std::uint8_t {
  kData,        // the data changed: OPEN, MODIFY, CLOSE_WRITE
  kAttributes,  // ACL, mode, owner: ATTRIB
  kCreate,      // CREATE, and for a file without x bits OPEN, CLOSE_WRITE
  kDelete,      // DELETE on the directory; ATTRIB, DELETE_SELF on the node
  kRename,      // MOVED_FROM, MOVED_TO, MOVE_SELF
};

enum class NodeType : std::uint8_t { kFile, kDirectory, kSymlink };

struct Event {
  EventKind kind = EventKind::kData;
  NodeType type = NodeType::kFile;  // as the kernel sees the inode; a wrong one makes the kernel fail the call
  std::uint64_t ino = 0;            // the node; of a deleted one, its last inode number. Never 0
  std::uint64_t parent = 0;         // its directory (of a rename: the old one)
  std::string name;                 // its spelling there (of a rename: the old one)
  std::uint64_t new_parent = 0;     // kRename only
  std::string new_name;             // kRename only
  bool executable = false;          // has an x bit: it is never opened for writing
  // kDelete: the kernel knows the inode (lookup count > 0), so that somebody may watch it. A create that is still
  // waiting and a delete that nobody can have seen cancel each other.
  bool seen = true;
  // False: only the invalidation of the names, no inotify event: the kernel has raised it already, or nobody can watch.
  bool raise = true;
};

}  // namespace coord::fs::replay
