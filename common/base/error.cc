#include "common/base/error.h"

namespace coord {
namespace {

struct Row {
  Err code;
  std::string_view name;
  std::string_view text;
};

constexpr Row kRows[] = {
    {Err::kOk, "ok", "success"},
    {Err::kSystemError, "system_error", "internal error of the server"},
    {Err::kRuntimeInconsistency, "runtime_inconsistency",
     "not tried, because an earlier operation of the multi failed"},
    {Err::kConnectionLoss, "connection_loss", "the connection was lost before the answer came; the outcome is unknown"},
    {Err::kMarshallingError, "marshalling_error", "the request could not be decoded"},
    {Err::kUnimplemented, "unimplemented", "the server does not know or allow this operation"},
    {Err::kOperationTimeout, "operation_timeout", "no answer within the deadline; the outcome is unknown"},
    {Err::kBadArguments, "bad_arguments", "an argument is not valid"},
    {Err::kUnknownSession, "unknown_session", "the server does not know the session"},
    {Err::kNewConfigNoQuorum, "new_config_no_quorum", "no quorum of the new configuration is connected"},
    {Err::kReconfigInProgress, "reconfig_in_progress", "another reconfiguration is in progress"},
    {Err::kNoNode, "no_node", "the node does not exist"},
    {Err::kNoAuth, "no_auth", "not permitted by the node's ACL"},
    {Err::kBadVersion, "bad_version", "the version does not match"},
    {Err::kNoChildrenForEphemerals, "no_children_for_ephemerals", "an ephemeral node cannot have children"},
    {Err::kNodeExists, "node_exists", "the node exists already"},
    {Err::kNotEmpty, "not_empty", "the node has children"},
    {Err::kSessionExpired, "session_expired", "the session has expired"},
    {Err::kInvalidAcl, "invalid_acl", "the ACL is not valid"},
    {Err::kAuthFailed, "auth_failed", "authentication failed"},
    {Err::kSessionMoved, "session_moved", "the session has moved to another server"},
    {Err::kNotReadOnly, "not_read_only", "the server is read-only"},
    {Err::kEphemeralOnLocalSession, "ephemeral_on_local_session", "a local session cannot own ephemerals"},
    {Err::kNoWatcher, "no_watcher", "there is no such watch"},
    {Err::kReconfigDisabled, "reconfig_disabled", "reconfiguration is disabled"},
    {Err::kSessionClosedRequireSasl, "session_closed_require_sasl", "the session must authenticate first"},
    {Err::kQuotaExceeded, "quota_exceeded", "a quota is exceeded, or the server's disk is nearly full"},
    {Err::kThrottledOp, "throttled_op", "the server is throttling this operation"},
    {Err::kNoSpace, "no_space", "the replica's disk is nearly full"},
    {Err::kNotDirectory, "not_directory", "not a directory"},
    {Err::kIsDirectory, "is_directory", "is a directory"},
    {Err::kStaleNode, "stale_node", "no node with that node id"},
    {Err::kSubtreeTooLarge, "subtree_too_large", "the subtree is too large to rename, or holds ephemerals"},
    {Err::kNotPermitted, "not_permitted", "only the owner may do this"},
    {Err::kIntoItself, "into_itself", "a directory cannot be moved into itself"},
    {Err::kUntrusted, "untrusted", "this peer may not act for other users"},
    {Err::kOutOfWindow, "out_of_window", "the answer to this sequence number is no longer kept"},
};

const Row* find(Err e) {
  for (const Row& row : kRows) {
    if (row.code == e) return &row;
  }
  return nullptr;
}

}  // namespace

std::string_view error_name(Err e) {
  const Row* row = find(e);
  return row == nullptr ? "unknown" : row->name;
}

std::string_view error_text(Err e) {
  const Row* row = find(e);
  return row == nullptr ? "unknown error" : row->text;
}

Err stock_code(Err e) {
  if (static_cast<std::int32_t>(e) > -1000) return e;
  return e == Err::kNoSpace ? Err::kQuotaExceeded : Err::kSystemError;
}

bool is_known_code(std::int32_t code) { return find(static_cast<Err>(code)) != nullptr; }

}  // namespace coord
