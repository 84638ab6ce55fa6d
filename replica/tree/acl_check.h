// The ACL rules of stock operations: is an ACL well-formed, what is stored for it, and does it let a connection do
// something. The permission rules for mount users (scheme `unix`, POSIX classes) are common/model/posix.h. Pure; any
// thread.
//
// Schemes: world, auth, digest, ip, unix. sasl and x509 are not registered, so their entries are refused. `super` is an
// identity of connections only.
// Source: client-protocol.md section 8; ZooKeeper's PrepRequestProcessor.fixupACL, ZooKeeperServer.checkACL,
// IPAuthenticationProvider, DigestAuthenticationProvider.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/model/records.h"

namespace coord::tree {

// May a connection with `ids` do what needs any of `perms`? An empty ACL allows everything, and so does an id of scheme
// `super`. uid 0 on the Unix socket: everything, unless the ACL has entries of other schemes than unix and world; then
// what its unix and world entries grant to anybody. Other unix ids match by equality.
bool acl_allows(const Acl& acl, const std::vector<AuthId>& ids, std::int32_t perms);

// What is stored for an ACL that a client sent: `auth` entries replaced by the authenticated ids of the connection
// (digest, and unix:u: of the socket; not ip, not unix:g:), exact duplicates removed, order kept. kInvalidAcl: null
// (decoded as empty), empty, an unknown scheme, an ill-formed id, or `auth` without an authenticated id.
Result<Acl> acl_to_store(const Acl& requested, const std::vector<AuthId>& ids);

// Is `id` well-formed for an entry of `scheme` (not `auth`)?
bool valid_acl_id(std::string_view scheme, std::string_view id);

// `address` (an ip id of a connection) lies in `range` ("addr" or "addr/bits"); the same family only.
bool ip_matches(std::string_view address, std::string_view range);

}  // namespace coord::tree
