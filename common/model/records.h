// The plain records that clients, mount and replica share: Stat, ACL, watch events, shapes. No behaviour.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/model/ids.h"

namespace coord {

// client-protocol.md section 6. Times in ms since 1970.
struct Stat {
  std::int64_t czxid = 0;
  std::int64_t mzxid = 0;
  std::int64_t ctime = 0;
  std::int64_t mtime = 0;
  std::int32_t version = 0;
  std::int32_t cversion = 0;
  std::int32_t aversion = 0;
  std::int64_t ephemeral_owner = 0;
  std::int32_t data_length = 0;
  std::int32_t num_children = 0;
  std::int64_t pzxid = 0;
  friend bool operator==(const Stat&, const Stat&) = default;
};

namespace perm {
inline constexpr std::int32_t kRead = 1, kWrite = 2, kCreate = 4, kDelete = 8, kAdmin = 16, kAll = 31;
}

// An authenticated identity of a connection ("digest", "user:hash"), or the scheme and id of an ACL entry.
struct AuthId {
  std::string scheme;
  std::string id;
  friend bool operator==(const AuthId&, const AuthId&) = default;
};

struct AclEntry {
  std::int32_t perms = 0;
  AuthId id;
  friend bool operator==(const AclEntry&, const AclEntry&) = default;
};
using Acl = std::vector<AclEntry>;

inline Acl open_acl() { return {AclEntry{perm::kAll, AuthId{"world", "anyone"}}}; }

// client-protocol.md section 7. Types above kChildrenChanged are made by clients only.
enum class WatchType : std::int32_t { kNone = -1, kCreated = 1, kDeleted = 2, kDataChanged = 3, kChildrenChanged = 4 };
inline constexpr std::int32_t kStateSyncConnected = 3;

// How the mount shows a znode (filesystem.md section 2). Replicated with the node.
enum class Shape : std::uint8_t { kFile = 0, kDir = 1, kSymlink = 2 };

// Replicated POSIX attributes that the ACL cannot hold (filesystem.md section 7).
struct Attributes {
  Shape shape = Shape::kFile;
  std::uint16_t exec = 0;          // the x bits 0111 and the sticky bit 01000 of st_mode; nothing else
  std::int64_t mtime_ns = 0;       // set by utimensat; 0 = follow Stat.mtime. Cleared by the next change of the data.
  friend bool operator==(const Attributes&, const Attributes&) = default;
};

// Who makes a request that comes from a mount: the process behind the file system call. Scheme `unix`.
struct Credentials {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  // supplementary, `gid` need not be among them
  friend bool operator==(const Credentials&, const Credentials&) = default;
};

}  // namespace coord
