// What is at a mount point, and what may be done about it (filesystem.md section 8). System calls only, no threads.
// Nothing here stats, opens or reads below a FUSE mount in this process, because that can hang for as long as the
// mount's daemon does: state comes from /proc/self/mountinfo, and the one call that must ask the daemon is made in a
// child process with a deadline.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace coord::fs {

inline constexpr std::string_view kMountType = "fuse.coordfs";
inline constexpr std::string_view kNotMountedFile = "NOT_MOUNTED";

// One line of /proc/self/mountinfo, proc(5), with octal escapes decoded.
struct MountEntry {
  int id = 0;
  int parent = 0;  // the mount it stands on
  unsigned major = 0;
  unsigned minor = 0;  // of a FUSE mount, also the name of its directory in /sys/fs/fuse/connections
  std::string root;
  std::string point;
  std::string type;
  std::string source;
  bool read_only_below = false;  // the file system itself, not only this mount of it
};

// Pure; lines that cannot be understood are left out. In the kernel's order, which is that of the mounting and not
// always that of what covers what.
std::vector<MountEntry> parse_mountinfo(std::string_view text);
std::vector<MountEntry> read_mounts();

// The topmost mount at exactly `path` (canonical), now.
const MountEntry* topmost(const std::vector<MountEntry>& mounts, const std::string& path);
std::optional<MountEntry> mount_at(const std::string& path);

// The absolute path without symlinks. Works for a mount point whose daemon is dead, too. Fault: "mount point X does not
// exist", or the reason.
Result<std::string, Fault> canonical_mountpoint(const std::string& path);

enum class MountState : unsigned char {
  kNone,   // nothing is mounted there
  kOther,  // a mount that is not ours to touch (another type), alive or not
  kLive,   // fuse.coordfs, answers
  kHung,   // fuse.coordfs, does not answer within the deadline
  kDead,   // fuse.coordfs whose connection is gone (ENOTCONN): a dead predecessor's
};
MountState mount_state(const std::string& path, std::chrono::milliseconds deadline = std::chrono::milliseconds(2000));

// All that must be right before the first mount at `path` (canonical), one clear message for each: a directory; empty
// but for NOT_MOUNTED; not mounted already (by what). A dead predecessor's mount is right, too, and stays: it covers
// the directory, so that nobody writes into it, until mount_fuse() puts a living one in its place.
Result<bool, Fault> prepare_mountpoint(const std::string& path);

// Fault: not a directory, or not empty but for NOT_MOUNTED. Looks at what is there, mounted or not.
Result<bool, Fault> check_directory(const std::string& path);

// Takes away the dead coordfs mounts on top at `path`, but for the lowest `keep`. Returns how many dead ones are left.
Result<int, Fault> clear_dead_mounts(const std::string& path, int keep = 0);

// Creates NOT_MOUNTED in the (unmounted) directory if it is not there, so that scripts that expect the mount fail
// loudly.
Result<bool, Fault> place_not_mounted_file(const std::string& path);

// Aborts the FUSE connection of device 0:`minor`: all its requests fail at once, whatever its daemon does. Uses
// /sys/fs/fuse/connections, or, where fusectl is not mounted there (containers), a detached fusectl mount of its own.
Result<bool, Fault> abort_connection(unsigned minor);

// Takes the mount at `path` away without asking its daemon (MNT_DETACH; an ordinary user: fusermount3 -u -z), if it is
// of type fuse.coordfs and, with `minor`, of that device. True: one was taken away.
Result<bool, Fault> unmount_lazily(const std::string& path, std::optional<unsigned> minor = std::nullopt);

}  // namespace coord::fs
