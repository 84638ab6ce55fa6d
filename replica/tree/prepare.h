// Requests in, transactions out: the leader's decisions. Every rule about what a request may do is here and in
// acl_check.h and common/model/posix.h; applying a transaction decides nothing any more.
//
// A request is judged against the tree and everything prepared but not yet applied (overlay.h), so that the outcome
// does not depend on how far applying lags behind. It is answered by exactly one transaction, refusals included.
//
// Choices where the specifications leave room:
// * Sequential names end at 2147483647: once a parent has seen 2^31 creates, a sequential create in it is
//   kBadArguments. Plain creates go on; the counter stops at 2^32-1.
// * closeSession of a session that is closing or gone: success, changes nothing. createSession of an id that exists:
//   kSessionExpired.
// * deleteContainer re-checks that the node is still due for reaping, by the rules of StateMachine::reap, so that
//   neither a node created anew at its path nor a fresh setData of a TTL node is lost; else kBadVersion.
// * `writes_refused` lets deletes, session closes and data that shrinks pass, as state_machine.h says, and what reading
//   and deleting need: new sessions, reserved node ids, and changes that change nothing.
// * Rename of a directory onto an empty directory replaces it, as POSIX says: DeleteTxn and MoveTxn. Onto a file, the
//   caller must be able to read the source, because the data comes under the target's ACL; a modification time set by
//   utimensat moves along, so that `rsync` and `cp -p` by way of a temporary file keep it.
// * A reconfig passes `writes_refused` as well, and so does the feature level: they take no room to speak of, and to
//   remove the server whose disk is full may be the remedy.
// * A reconfig names at most one server: added, removed, or given another role. What it says of other members must be
//   their role, host and first port; the second port and the part for clients are shown only, so they are taken over as
//   said. In a whole list, a member of now may come without the part for clients, which it then keeps.
// * mtime_ns 0 in SetAttributes is stored as 1 ns, because 0 means "follow Stat.mtime".
//
// Pure; core thread only. Source: client-protocol.md sections 2.6, 3, 8, 9, 10, 15; common/wire/extension.h;
// filesystem.md sections 2, 4, 7; zab.md sections 4.1, 4.3.
#pragma once

#include <string_view>
#include <utility>

#include "replica/tree/overlay.h"
#include "replica/tree/state_machine.h"
#include "replica/tree/txn.h"

namespace coord::tree {

class Preparer {
 public:
  // Both must outlive it.
  Preparer(const DataTree& tree, const Limits& limits) : tree_(tree), limits_(limits), overlay_(tree) {}

  // The transaction that answers `request`. `zxid` ascends strictly, over calls and over what the tree has applied.
  // Never fails: a refusal is an ErrorTxn, a malformed body too.
  Txn prepare(const Request& request, Zxid zxid, TimeMs now, bool writes_refused);

  // The tree has applied everything up to `zxid`.
  void applied(Zxid zxid) { overlay_.applied(zxid); }
  void set_electorate(Electorate electorate) { electorate_ = std::move(electorate); }
  // Nothing of what was prepared will be applied.
  void clear() { overlay_.clear(); }

  // In the tree or about to be; a session that is closing counts.
  bool session_known(SessionId id) const { return overlay_.session(id) != Overlay::SessionState::kUnknown; }

  const Overlay& overlay() const { return overlay_; }

 private:
  const DataTree& tree_;
  const Limits& limits_;
  Electorate electorate_;
  Overlay overlay_;
};

}  // namespace coord::tree
