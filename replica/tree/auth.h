// What an `auth` request proves (client-protocol.md section 8). Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/error.h"
#include "common/model/records.h"

namespace coord::tree {

// "user:base64(sha1(credential))", where user is what stands before the first ':' (all of it if there is none).
std::string digest_id(std::string_view credential);

// Adds to `ids`, as a set: digest:<digest_id>, and super if it equals `super_digest` (empty: nobody is). Scheme `ip`
// adds nothing, as every connection has its address from the start. Any other scheme: kAuthFailed.
Err authenticate(std::string_view scheme, std::string_view credential, std::string_view super_digest,
                 std::vector<AuthId>& ids);

}  // namespace coord::tree
