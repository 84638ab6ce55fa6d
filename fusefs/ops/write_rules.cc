#include "fusefs/ops/write_rules.h"

#include <fcntl.h>

namespace coord::fs {

OpenIntent open_intent(int flags) {
  OpenIntent out;
  const int access = flags & O_ACCMODE;
  out.write = access == O_WRONLY || access == O_RDWR;
  out.read = access != O_WRONLY;
  out.append = out.write && (flags & O_APPEND) != 0;
  out.truncate = out.write && (flags & O_TRUNC) != 0;
  out.exclusive = (flags & O_EXCL) != 0;
  return out;
}

CommitNext after_commit(Err err, bool sent, bool conditional, bool versioned) {
  if (err == Err::kOk) return CommitNext::kDone;
  if (err == Err::kBadVersion) return conditional || !versioned ? CommitNext::kFail : CommitNext::kRebase;
  if (err == Err::kSessionExpired) return sent ? CommitNext::kInspect : CommitNext::kRebase;
  return CommitNext::kFail;
}

}  // namespace coord::fs
