#include "fusefs/ops/errno_map.h"

#include <cerrno>

namespace coord::fs {

bool outcome_unknown(Err e, bool sent) {
  return (sent && (e == Err::kConnectionLoss || e == Err::kOperationTimeout)) || e == Err::kOutOfWindow;
}

int to_errno(Err e, bool sent, Access access) {
  switch (e) {
    case Err::kOk:
      return 0;
    case Err::kConnectionLoss:
    case Err::kOperationTimeout:
      return !sent && access == Access::kWrite ? EROFS : ETIMEDOUT;
    case Err::kOutOfWindow:  // done once already, its answer is lost
      return ETIMEDOUT;
    case Err::kNewConfigNoQuorum:
    case Err::kNotReadOnly:
      return EROFS;
    case Err::kSystemError:
    case Err::kRuntimeInconsistency:
      return EREMOTEIO;
    case Err::kMarshallingError:
      return EPROTO;
    case Err::kUnimplemented:
      return EOPNOTSUPP;
    case Err::kBadArguments:
    case Err::kInvalidAcl:
    case Err::kIntoItself:
      return EINVAL;
    case Err::kUnknownSession:
    case Err::kSessionExpired:
    case Err::kSessionMoved:
    case Err::kBadVersion:
    case Err::kStaleNode:
      return ESTALE;
    case Err::kReconfigInProgress:
      return EBUSY;
    case Err::kNoNode:
    case Err::kNoWatcher:
      return ENOENT;
    case Err::kNoAuth:
    case Err::kAuthFailed:
    case Err::kSessionClosedRequireSasl:
    case Err::kUntrusted:
      return EACCES;
    case Err::kNoChildrenForEphemerals:
    case Err::kEphemeralOnLocalSession:
    case Err::kReconfigDisabled:
    case Err::kNotPermitted:
      return EPERM;
    case Err::kNodeExists:
      return EEXIST;
    case Err::kNotEmpty:
      return ENOTEMPTY;
    case Err::kQuotaExceeded:
      return EDQUOT;
    case Err::kThrottledOp:
      return EAGAIN;
    case Err::kNoSpace:
      return ENOSPC;
    case Err::kNotDirectory:
      return ENOTDIR;
    case Err::kIsDirectory:
      return EISDIR;
    case Err::kSubtreeTooLarge:
      return EXDEV;
  }
  return EPROTO;
}

}  // namespace coord::fs
