// How znode names are spelled in directories, and what a name that somebody types means (filesystem.md section 2).
// Pure; any thread.
//
// Special names, in every directory:
//   .data .znode .coord      control names (.coord means something in the mount's root only and is EINVAL elsewhere)
//   NAME@                    the directory of NAME's children
//   NAME@ephemeral @seq @ephemeral+seq @container @ttl=30s      create suffixes (units ms s m h d; "30s", "500ms")
//   PREFIX@hash=40HEX        the hash name of a znode whose spelling would be longer than 255 bytes
//
// A znode name that would be read as special is escaped, and the escape is a bijection on all names:
//   * @*.data, @*.znode, @*.coord: one more '@' in front (".data" -> "@.data", "@.data" -> "@@.data");
//   * a last run of k '@' at the end of the name, or right before a final suffix word, is doubled ("a@" -> "a@@",
//     "a@seq" -> "a@@seq", "a@@seq" -> "a@@@@seq"). So in a spelling an even run is plain text and an odd run is
//     special, whatever stands before it: "a@@@" is the children directory of "a@", "a@@@seq" creates from "a@".
// The words are: "", "ephemeral", "seq", "ephemeral+seq", "container", "ttl=" and "hash=" with anything but '@' after
// the '='. Words are matched exactly, in lower case.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace coord::fs {

inline constexpr std::size_t kShownBytesMax = 255;     // of one directory entry (NAME_MAX)
inline constexpr std::size_t kSequenceDigits = 10;     // what a sequential create puts behind the name
inline constexpr std::int64_t kTtlMsMax = (std::int64_t{1} << 40) - 1;
inline constexpr std::string_view kDataName = ".data";
inline constexpr std::string_view kZnodeName = ".znode";
inline constexpr std::string_view kCoordName = ".coord";

// The spelling of a znode (its data half, or a dir-shaped znode). `znode_name` is one valid component
// (coord::valid_name). The hash name if the spelling would not fit; at most 255 bytes in any case.
std::string shown_name(std::string_view znode_name);

// NAME@: shown_name + "@", or the hash name + "@" if that would not fit. (So a znode whose own spelling is exactly 255
// bytes long keeps it, and only its children directory goes by the hash name.)
std::string children_dir_name(std::string_view znode_name);

// True if shown_name(), or children_dir_name(), gives the hash name.
bool needs_hash(std::string_view znode_name);
bool children_dir_needs_hash(std::string_view znode_name);

// A readable prefix of the name (at most 120 bytes, cut between characters), "@hash=", and 40 hex digits of the name's
// SHA-256.
std::string hash_name(std::string_view znode_name);

enum class NameKind : std::uint8_t {
  kNode,               // `znode_name`
  kChildrenDir,        // NAME@ of `znode_name`
  kDotData,            // .data
  kDotZnode,           // .znode
  kDotCoord,           // .coord, in the mount's root only
  kCreate,             // `znode_name` with a create suffix: means something to creating calls only, else ENOENT
  kHashed,             // a hash name: find the sibling for which resolves() is true; none: ENOENT
  kHashedChildrenDir,  // hash name + "@"
  kInvalid,            // `error`
};

// Numbers as in wire::CreateMode (ZooKeeper's), which this folder does not include.
enum class CreateSuffix : std::int32_t {
  kNone = 0,
  kEphemeral = 1,
  kSequential = 2,
  kEphemeralSequential = 3,
  kContainer = 4,
  kTtl = 5,
};

struct Parsed {
  NameKind kind = NameKind::kInvalid;
  // kNode, kChildrenDir, kCreate: the true name (kCreate: may be empty if sequential, as ZooKeeper allows). Hashed
  // kinds: the hash name without a final '@'. Else empty.
  std::string znode_name;
  CreateSuffix mode = CreateSuffix::kNone;  // kCreate
  std::int64_t ttl_ms = 0;                  // kCreate with kTtl: 1..kTtlMsMax
  // kInvalid: EINVAL (ZooKeeper refuses the name, or a special form that makes no sense) or ENAMETOOLONG. A plain
  // lookup of an EINVAL name should answer ENOENT, so that `test -e` is quiet; creating calls answer `error`.
  int error = 0;
};

// What `shown`, one component as the kernel gave it, means. `in_mount_root`: its directory is the root of the mount.
// For every valid znode name Z: parse(shown_name(Z)) is kNode Z or kHashed that resolves to Z, likewise
// children_dir_name; and every spelling that parses as kNode or kChildrenDir is the one that shown_name or
// children_dir_name gives back.
Parsed parse_name(std::string_view shown, bool in_mount_root);

// Does the hashed name `parsed` (kHashed or kHashedChildrenDir) stand for `znode_name`? False for every name that is
// shown in full, so no znode has two spellings. False for other kinds.
bool resolves(const Parsed& parsed, std::string_view znode_name);

// True for the two kinds above: the name must be looked for among the siblings.
inline bool is_hashed(const Parsed& parsed) {
  return parsed.kind == NameKind::kHashed || parsed.kind == NameKind::kHashedChildrenDir;
}

}  // namespace coord::fs
