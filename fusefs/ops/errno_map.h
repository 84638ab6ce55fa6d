// The one place that turns an answer of the replica into an errno (filesystem.md section 4). Pure.
#pragma once

#include "common/base/error.h"

namespace coord::fs {

enum class Access : bool { kRead, kWrite };

// The errno for `e`, 0 for kOk. `sent`: client::Reply::sent. For a write, a request that was certainly not sent gives
// EROFS (nothing happened, the mount is read-only for the moment), one whose outcome is unknown ETIMEDOUT. For a read
// both give ETIMEDOUT. Never EIO, never ENOSYS (the kernel would stop asking). A number that is none of ours: EPROTO.
int to_errno(Err e, bool sent, Access access);

inline int write_errno(Err e, bool sent = true) { return to_errno(e, sent, Access::kWrite); }
inline int read_errno(Err e, bool sent = true) { return to_errno(e, sent, Access::kRead); }

// True if a request that ended so may nevertheless have been executed: the caller must undo it if it turns out to have
// been (ephemerals, filesystem.md section 6), and may not report "nothing happened".
bool outcome_unknown(Err e, bool sent);

}  // namespace coord::fs
