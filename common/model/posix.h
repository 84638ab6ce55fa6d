// The mapping between a znode's ACL and POSIX ownership and permission (filesystem.md section 7). Pure; the mount shows
// with it what the replica enforces with it, so both give the same verdict.
//
// ACL ids of scheme `unix`: "u:UID", "g:GID". Owner = the first `unix:u:` entry with ADMIN, else uid 0. Group = the
// first `unix:g:` entry, else gid 0. Other = `world:anyone`. r = READ; w of a file = WRITE, w of a directory =
// CREATE or
// DELETE; setting w sets WRITE, CREATE and DELETE together. x and the sticky bit stand in Attributes.exec.
// Further `unix` entries are named users and groups. Entries of other schemes (digest, ip, x509, sasl) give nothing to
// mount users and are kept untouched by every function here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/model/records.h"

namespace coord {

struct PosixView {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t mode = 0;  // 01777
};

// `directory`: the view asked for is the directory half (DIR, or NAME@), else the data half.
// An ACL of exactly world:anyone shows root:root with its bits for all three classes.
PosixView posix_view(const Acl& acl, const Attributes& attributes, bool directory);

// May `who` do what needs any of `perms` (perm:: bits)? POSIX order: owner, named user, any matching group entry,
// other;
// the first class that matches decides, as in acl(5). uid 0 may do everything unless the ACL has entries of other
// schemes than unix and world; then it has the union of what the unix and world entries grant to anybody.
bool unix_allows(const Acl& acl, const Credentials& who, std::int32_t perms);

// May `who` search (x) a directory-like node?
bool unix_may_search(const Acl& acl, const Attributes& attributes, const Credentials& who);

bool unix_is_owner(const Acl& acl, const Credentials& who);  // the owner, or uid 0

// The ACL of a node made in a mount: unix:u:UID with ADMIN, unix:g:GID, world:anyone if `mode` has other bits.
Acl acl_for_new(std::uint32_t uid, std::uint32_t gid, std::uint32_t mode);

// What chmod and chown make of `acl` and `attributes`; foreign and named entries stay. nullopt: leave as it is.
void apply_mode_and_owner(Acl& acl, Attributes& attributes, std::optional<std::uint32_t> mode,
                          std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid);

// chmod, chown by `who` as Linux decides it for a process without capabilities (root may all): Err::kOk or
// Err::kNotPermitted. Only root changes the owner; the owner may give the group one of its own.
Err may_change_owner_or_mode(const Acl& acl, const Credentials& who, bool sets_mode, std::optional<std::uint32_t> uid,
                             std::optional<std::uint32_t> gid);

}  // namespace coord
