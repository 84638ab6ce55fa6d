// The error codes of the project: ZooKeeper's numbers where ZooKeeper has one (client-protocol.md section 5), and a
// range of our own, below -1000, that only extension operations (design.md section 5) may carry. A stock client must
// never see one of ours: `stock_code()` is the one place that folds them.
#pragma once

#include <cstdint>
#include <string_view>

namespace coord {

enum class Err : std::int32_t {
  kOk = 0,
  kSystemError = -1,
  kRuntimeInconsistency = -2,  // results behind the culprit of a failed multi
  kConnectionLoss = -4,        // made by our client library, never sent
  kMarshallingError = -5,
  kUnimplemented = -6,
  kOperationTimeout = -7,  // made by our client library, never sent
  kBadArguments = -8,
  kUnknownSession = -12,
  kNewConfigNoQuorum = -13,
  kReconfigInProgress = -14,
  kNoNode = -101,
  kNoAuth = -102,
  kBadVersion = -103,
  kNoChildrenForEphemerals = -108,
  kNodeExists = -110,
  kNotEmpty = -111,
  kSessionExpired = -112,
  kInvalidAcl = -114,
  kAuthFailed = -115,
  kSessionMoved = -118,
  kNotReadOnly = -119,
  kEphemeralOnLocalSession = -120,
  kNoWatcher = -121,
  kReconfigDisabled = -123,
  kSessionClosedRequireSasl = -124,
  kQuotaExceeded = -125,
  kThrottledOp = -127,

  // Ours: extension operations only.
  kNoSpace = -1001,            // the replica's disk is nearly full; deletes still pass
  kNotDirectory = -1002,       // the parent is a symlink, or not what the caller said
  kIsDirectory = -1003,        // rename of a file onto a directory
  kStaleNode = -1004,          // no node with that node id (any more)
  kSubtreeTooLarge = -1005,    // rename above the named limit, or with ephemerals inside
  kNotPermitted = -1006,       // EPERM: chown or chmod by somebody who is not the owner
  kIntoItself = -1007,         // rename of a directory into its own subtree
  kUntrusted = -1008,          // the peer may not speak for other users
  kOutOfWindow = -1009,        // a repeated sequence number whose answer is no longer kept
};

// The ZooKeeper name in lower case with underscores, for example "no_node"; "unknown" for a foreign number.
std::string_view error_name(Err e);

// One English clause for people, for example "the node does not exist".
std::string_view error_text(Err e);

// What a stock client may see in place of `e`: itself, or the nearest ZooKeeper code for one of ours.
Err stock_code(Err e);

// True for a number that a server may put into a reply (client-protocol.md section 5, or our range).
bool is_known_code(std::int32_t code);

}  // namespace coord
