#include "common/model/posix.h"

#include <algorithm>
#include <string_view>

#include "common/base/number.h"

namespace coord {
namespace {

constexpr std::int32_t kWriteAll = perm::kWrite | perm::kCreate | perm::kDelete;
constexpr std::uint32_t kExecBits = 01111;

// The number behind `prefix` in an id of scheme `unix`, in its one spelling (no sign, no leading zeros).
std::optional<std::uint32_t> unix_id(const AclEntry& entry, std::string_view prefix) {
  if (entry.id.scheme != "unix") return std::nullopt;
  const std::string_view id = entry.id.id;
  if (!id.starts_with(prefix)) return std::nullopt;
  const std::string_view digits = id.substr(prefix.size());
  if (digits.empty() || (digits[0] == '0' && digits.size() > 1)) return std::nullopt;
  return parse_number<std::uint32_t>(digits);
}
std::optional<std::uint32_t> user_of(const AclEntry& entry) { return unix_id(entry, "u:"); }
std::optional<std::uint32_t> group_of(const AclEntry& entry) { return unix_id(entry, "g:"); }

bool is_world(const AclEntry& entry) { return entry.id.scheme == "world" && entry.id.id == "anyone"; }

template <class Entries>  // Acl or const Acl
auto* find_owner(Entries& acl) {
  const auto it = std::find_if(acl.begin(), acl.end(), [](const AclEntry& entry) {
    return user_of(entry).has_value() && (entry.perms & perm::kAdmin) != 0;
  });
  return it == acl.end() ? nullptr : &*it;
}

template <class Entries>
auto* find_group(Entries& acl) {
  const auto it =
      std::find_if(acl.begin(), acl.end(), [](const AclEntry& entry) { return group_of(entry).has_value(); });
  return it == acl.end() ? nullptr : &*it;
}

std::int32_t world_perms(const Acl& acl) {
  std::int32_t perms = 0;
  for (const AclEntry& entry : acl) {
    if (is_world(entry)) perms |= entry.perms;
  }
  return perms;
}

// What the unix and world entries grant to anybody: all that is left for uid 0 beside foreign entries.
std::int32_t granted_to_anybody(const Acl& acl) {
  std::int32_t perms = 0;
  for (const AclEntry& entry : acl) {
    if (is_world(entry) || user_of(entry) || group_of(entry)) perms |= entry.perms;
  }
  return perms;
}

bool has_foreign(const Acl& acl) {
  return std::any_of(acl.begin(), acl.end(),
                     [](const AclEntry& entry) { return entry.id.scheme != "unix" && entry.id.scheme != "world"; });
}

bool has_unix(const Acl& acl) {
  return std::any_of(acl.begin(), acl.end(), [](const AclEntry& entry) { return entry.id.scheme == "unix"; });
}

bool in_group(const Credentials& who, std::uint32_t gid) {
  return who.gid == gid || std::find(who.groups.begin(), who.groups.end(), gid) != who.groups.end();
}

// The class of acl(5) that decides for a process: its permissions and its place in the mode (6, 3 or 0).
struct Class {
  std::int32_t perms = 0;
  unsigned shift = 0;
};

Class class_of(const Acl& acl, const Credentials& who) {
  if (const AclEntry* owner = find_owner(acl); owner != nullptr && *user_of(*owner) == who.uid) {
    return {owner->perms, 6};
  }
  Class found;
  bool matched = false;
  for (const AclEntry& entry : acl) {  // named user
    if (const auto uid = user_of(entry); uid && *uid == who.uid) {
      found.perms |= entry.perms;
      matched = true;
    }
  }
  if (matched) return {found.perms, 3};
  for (const AclEntry& entry : acl) {
    if (const auto gid = group_of(entry); gid && in_group(who, *gid)) {
      found.perms |= entry.perms;
      matched = true;
    }
  }
  if (matched) return {found.perms, 3};
  return {world_perms(acl), 0};
}

// rwx of one class without x: r 4, w 2.
std::uint32_t rw_bits(std::int32_t perms, bool directory) {
  const std::int32_t w = directory ? perm::kCreate | perm::kDelete : perm::kWrite;
  return ((perms & perm::kRead) != 0 ? 4u : 0u) | ((perms & w) != 0 ? 2u : 0u);
}

std::int32_t perms_of_bits(std::uint32_t rwx) {
  return ((rwx & 4u) != 0 ? perm::kRead : 0) | ((rwx & 2u) != 0 ? kWriteAll : 0);
}

// Search follows READ where nobody in a mount has set it: on nodes that clients made (no unix entry), and on the
// children half of a file, whose stored x is that of the file.
bool search_follows_read(const Acl& acl, const Attributes& attributes) {
  return attributes.shape == Shape::kFile || !has_unix(acl);
}

AclEntry user_entry(std::uint32_t uid, std::int32_t perms) { return {perms, {"unix", "u:" + std::to_string(uid)}}; }
AclEntry group_entry(std::uint32_t gid, std::int32_t perms) { return {perms, {"unix", "g:" + std::to_string(gid)}}; }

// The permissions of a class for new r and w bits; untouched when the view shows them already, so that a client's finer
// grants (CREATE without DELETE, say) survive a chmod that does not change what is seen.
std::int32_t changed(std::int32_t perms, std::uint32_t rwx, bool directory) {
  if (rw_bits(perms, directory) == (rwx & 6u)) return perms;
  return perms_of_bits(rwx) | (perms & perm::kAdmin);
}

void apply_world(Acl& acl, std::uint32_t rwx, bool directory) {
  const std::int32_t before = world_perms(acl);
  if ((rwx & 6u) != 0 && rw_bits(before, directory) == (rwx & 6u)) return;
  // ADMIN for everybody does not outlive a chmod that changes what others may do: they could undo it.
  std::erase_if(acl, is_world);
  if ((rwx & 6u) != 0) acl.push_back({perms_of_bits(rwx), {"world", "anyone"}});
}

}  // namespace

PosixView posix_view(const Acl& acl, const Attributes& attributes, bool directory) {
  const AclEntry* owner = find_owner(acl);
  const AclEntry* group = find_group(acl);
  const std::int32_t other = world_perms(acl);
  const std::uint32_t u = rw_bits(owner != nullptr ? owner->perms : granted_to_anybody(acl), directory);
  const std::uint32_t g = rw_bits(group != nullptr ? group->perms : other, directory);
  const std::uint32_t o = rw_bits(other, directory);

  PosixView view;
  view.uid = owner != nullptr ? *user_of(*owner) : 0;
  view.gid = group != nullptr ? *group_of(*group) : 0;
  view.mode = (u << 6) | (g << 3) | o;
  // The x bits of a dir-shaped node are those of the directory; its `.data` shows none.
  if (directory || attributes.shape != Shape::kDir) view.mode |= attributes.exec & kExecBits;
  if (directory && search_follows_read(acl, attributes)) view.mode |= (view.mode & 0444u) >> 2;
  return view;
}

bool unix_allows(const Acl& acl, const Credentials& who, std::int32_t perms) {
  if (who.uid == 0) return !has_foreign(acl) || (granted_to_anybody(acl) & perms) != 0;
  return (class_of(acl, who).perms & perms) != 0;
}

bool unix_may_search(const Acl& acl, const Attributes& attributes, const Credentials& who) {
  const bool follows_read = search_follows_read(acl, attributes);
  if (who.uid == 0) {
    if (!has_foreign(acl)) return true;
    return (attributes.exec & 0111) != 0 || (follows_read && (granted_to_anybody(acl) & perm::kRead) != 0);
  }
  const Class decides = class_of(acl, who);
  if (((static_cast<unsigned>(attributes.exec) >> decides.shift) & 1u) != 0) return true;
  return follows_read && (decides.perms & perm::kRead) != 0;
}

bool unix_is_owner(const Acl& acl, const Credentials& who) {
  if (who.uid == 0) return true;
  const AclEntry* owner = find_owner(acl);
  return owner != nullptr && *user_of(*owner) == who.uid;
}

Acl acl_for_new(std::uint32_t uid, std::uint32_t gid, std::uint32_t mode) {
  Acl acl{user_entry(uid, perms_of_bits(mode >> 6) | perm::kAdmin), group_entry(gid, perms_of_bits(mode >> 3))};
  if ((mode & 6u) != 0) acl.push_back({perms_of_bits(mode), {"world", "anyone"}});
  return acl;
}

void apply_mode_and_owner(Acl& acl, Attributes& attributes, std::optional<std::uint32_t> mode,
                          std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid) {
  const bool directory = attributes.shape == Shape::kDir;
  const PosixView before = posix_view(acl, attributes, directory);
  const PosixView after{uid.value_or(before.uid), gid.value_or(before.gid), mode.value_or(before.mode) & 01777u};
  if (after.uid == before.uid && after.gid == before.gid && after.mode == before.mode) return;
  attributes.exec = static_cast<std::uint16_t>(after.mode & kExecBits);
  // Only x of a file has changed: that is not in the ACL.
  const std::uint32_t rw = 0666;
  if (!directory && after.uid == before.uid && after.gid == before.gid && ((after.mode ^ before.mode) & rw) == 0)
    return;

  // The entries of owner and group are made where they are missing, from what the node showed until now.
  if (find_group(acl) == nullptr) {
    acl.insert(acl.begin(), group_entry(before.gid, world_perms(acl) & ~perm::kAdmin));
  }
  if (find_owner(acl) == nullptr) {
    const std::int32_t perms = granted_to_anybody(acl) | perm::kAdmin;
    acl.insert(acl.begin(), user_entry(before.uid, perms));
  }
  AclEntry* owner = find_owner(acl);
  *owner = user_entry(after.uid, changed(owner->perms, after.mode >> 6, directory));
  AclEntry* group = find_group(acl);
  *group = group_entry(after.gid, changed(group->perms, after.mode >> 3, directory));
  apply_world(acl, after.mode, directory);
}

Err may_change_owner_or_mode(const Acl& acl, const Credentials& who, bool sets_mode, std::optional<std::uint32_t> uid,
                             std::optional<std::uint32_t> gid) {
  if (!sets_mode && !uid && !gid) return Err::kOk;
  // Beside foreign entries uid 0 has only what unix and world entries grant; else a chmod would give it the rest.
  if (who.uid == 0) return unix_allows(acl, who, perm::kAdmin) ? Err::kOk : Err::kNotPermitted;
  if (!unix_is_owner(acl, who)) return Err::kNotPermitted;
  if (uid && *uid != who.uid) return Err::kNotPermitted;
  if (gid) {
    const AclEntry* group = find_group(acl);
    const std::uint32_t current = group != nullptr ? *group_of(*group) : 0;
    if (*gid != current && !in_group(who, *gid)) return Err::kNotPermitted;
  }
  return Err::kOk;
}

}  // namespace coord
