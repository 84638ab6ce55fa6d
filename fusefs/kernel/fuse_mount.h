// Makes the kernel mount of a FUSE connection so that the directory below is never exposed between the death of one
// daemon and the start of the next (filesystem.md section 8): whoever looks meanwhile gets ENOTCONN from the dead
// mount, and no write lands in the directory. mount(2), fsopen(2) and move_mount(2) only; nothing asks a daemon.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"

namespace coord::fs {

struct FuseMount {
  std::string source = "coord";
  bool allow_other = true;
  // For all who see the mount. The file system below stays writable, so that a clone of the mount can raise inotify
  // events (replay/helper.h); where that cannot be done (no fsopen(2), fsmount(2), move_mount(2)), all is read-only.
  bool read_only = false;
};

// What becomes of a dead coordfs mount at the mount point.
enum class Replace : unsigned char {
  kBeneath,  // the new one is put beneath it and then it is taken away (Linux 6.5); with an older kernel as kOver
  kOver,     // it stays below the new one: one at the most, others that lie there go
};

// Mounts at `path` (canonical), on the directory or on a dead coordfs mount. The descriptor of the connection, to be
// given to libfuse as "/dev/fd/N"; closing it ends the connection. nullopt: not permitted to this process, but perhaps
// to fusermount3. Fault: something living is mounted there, or the reason.
Result<std::optional<int>, Fault> mount_fuse(const std::string& path, const FuseMount& how,
                                             Replace replace = Replace::kBeneath);

}  // namespace coord::fs
