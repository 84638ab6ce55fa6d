// What the replay of remote changes talks about: plain data (filesystem.md section 5). A node is named by its FUSE
// inode number (the nodeid that the kernel knows it by), a directory likewise, a name by its spelling in the mount.
//
// Overtaking. While an event waits for its replay, this host may change the same name, and the kernel raises the newer
// event at once. Raised after it, the older one would tell of a name what is not true any more: that of an overtaken
// name is left out (overtake()), and what is left of the event is raised (what_is_left()).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace coord::fs::replay {

enum class EventKind : std::uint8_t {
  kData,        // the data changed: OPEN, MODIFY, CLOSE_WRITE
  kAttributes,  // ACL, mode, owner: ATTRIB
  kCreate,      // CREATE, and for a file without x bits OPEN, CLOSE_WRITE
  kDelete,      // DELETE on the directory; ATTRIB, DELETE_SELF on the node
  kRename,      // MOVED_FROM, MOVED_TO, MOVE_SELF
  kGone,        // DELETE_SELF alone: of a kDelete whose name was overtaken. Only what_is_left() makes it
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
  bool overtaken = false;      // kDelete, kRename: (parent, name) was
  bool new_overtaken = false;  // kRename: (new_parent, new_name) was
};

// Inode numbers of nobody, neither node's nor the root's: what is deleted when only a name is to be told of.
inline constexpr std::uint64_t kNobodysFile = 2;
inline constexpr std::uint64_t kNobodysDirectory = 3;

// The name by which a kGone's node is looked up once more, in the directory that it was in. No znode can have it.
inline constexpr std::string_view kGoneName = "\x01gone";

// The kernel has just raised a newer event of that name itself. No effect on events that are not of it.
void overtake(Event& event, std::uint64_t parent, std::string_view name);

// What is still to be raised, and how; the event itself if nothing of it was overtaken. The names of `event` are to be
// invalidated in any case.
//   kDelete   its node is told that it has gone (kGone), if the kernel knows it;
//   kRename   new name overtaken: kDelete of the old one, by nobody's inode, because the node may live on elsewhere;
//             old name overtaken: kCreate of the new one; both: nothing.
Event what_is_left(const Event& event);

// What those see of a rename who watch its directories, if only one of them has a path in this mount (`old_reached`,
// `new_reached`): a node that leaves the mounted part of the tree, or comes into it. As what_is_left() with the other
// name overtaken: the node's own watches live on, and it may come back.
Event what_is_reached(const Event& rename, bool old_reached, bool new_reached);

}  // namespace coord::fs::replay
