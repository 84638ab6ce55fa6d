// The replicated state of a replica and every rule about it: the tree, sessions, ACLs, watches, quotas, the extension
// operations. Requests in, transactions out; transactions in, replies and events out. Pure core: no sockets, threads,
// clocks, files; time is an argument. The same transactions give the same state, to the byte, on every replica.
//
// Life of a write on the leader:   prepare(request, zxid, now) -> payload for the log;   ... durable on a quorum ...;
//                                  apply(zxid, payload) -> Applied (the reply), watch and change events to the sink.
// On a follower, and when the log is replayed at start, there is apply() only.
//
// Threading: one core thread calls prepare, apply, take_fold, load_*. read() may run on any thread, concurrently with
// other reads and with prepare, never with apply/load: the caller holds a shared lock around read and an exclusive one
// around apply. The watch tables have a lock of their own, as reads arm watches.
//
// Source: client-protocol.md sections 3 to 10 (operations, errors and their precedence, Stat, watches, ACLs, multi);
// filesystem.md sections 2, 4, 7 and common/wire/extension.h (extensions).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/model/ids.h"
#include "common/model/records.h"
#include "common/wire/extension.h"
#include "common/wire/protocol.h"
#include "replica/tree/ensemble.h"

namespace coord::tree {

struct Limits {
  std::int32_t min_session_timeout_ms = 4000;   // 2 ticks
  std::int32_t max_session_timeout_ms = 40000;  // 20 ticks
  bool skip_acl = false;                        // zoo.cfg skipACL=yes
  bool enforce_quota = false;
  bool extended_types = true;    // TTL nodes; zoo.cfg extendedTypesEnabled
  std::string super_digest;      // "super:<base64>"; empty: none
  std::int64_t container_never_used_ms = 0;  // 0: a container that never had a child stays
  // The highest feature level that this replica goes along with; lower than kFeatureLevel: held back on purpose.
  std::int32_t feature_level_known = kFeatureLevel;
};

// Who is at the other end of a connection. Fixed at accept, but `ids`, which grows with `auth`.
struct Peer {
  ConnId conn;
  SessionId session;
  std::vector<AuthId> ids;       // always holds ip:<address> for TCP, unix:u:<uid> for the socket
  bool trusted = false;          // may speak for other users in extension operations
  Credentials credentials;       // who an untrusted peer is in extension operations
};

// A request that needs a transaction. Self-contained, so that a follower can forward it.
struct Request {
  SessionId session;
  std::int32_t xid = 0;
  wire::Op op = wire::Op::kError;
  std::string body;              // as it came from the client, undecoded; kCreateSession: i32 timeout, i64 session id
  std::vector<AuthId> ids;
  bool trusted = false;
  Credentials credentials;
};

// What the origin of a request answers.
struct Applied {
  SessionId session;
  std::int32_t xid = 0;
  wire::Op op = wire::Op::kError;
  Err err = Err::kOk;
  std::string body;  // what follows the reply header; empty on errors (a failed multi is not an error here: section 9)
};

// Where events go. Called from apply() only, in the order in which clients must see them; must not call back.
class Sink {
 public:
  virtual ~Sink() = default;
  // `conn` has, or had, a watch that fires; the ACL filter is already applied.
  virtual void watch_event(ConnId conn, WatchType type, std::string_view path, Zxid zxid) = 0;
  virtual void change_event(ConnId conn, const wire::ChangeEvent& event) = 0;
  // The session's record and ephemerals are gone.
  virtual void session_closed(SessionId session, Zxid zxid) = 0;
};

// A consistent cut of what changed since the last one, encoded, for the store.
struct Fold {
  Zxid tree_durable;
  std::vector<std::pair<NodeId, std::optional<std::string>>> nodes;        // nullopt: gone
  std::vector<std::pair<SessionId, std::optional<std::string>>> sessions;  // nullopt: gone
  std::string counters;  // next node id and the like, one record
};

struct SessionInfo {
  SessionId id;
  std::int32_t timeout_ms = 0;
};

class StateMachine {
 public:
  explicit StateMachine(Limits limits);
  ~StateMachine();
  StateMachine(const StateMachine&) = delete;
  StateMachine& operator=(const StateMachine&) = delete;

  // --- which requests go where
  // True for what must become a transaction (create*, delete, set*, multi, reconfig, create/closeSession, extension
  // mutations, capabilities that reserve ids, the feature level); false for what read() answers. `sync` and `ping`,
  // `auth` and `sasl` are neither: the caller answers them.
  static bool is_write(wire::Op op, std::string_view body);
  static bool is_read(wire::Op op);

  // --- leader
  // Validates against the tree and everything prepared but not yet applied, and returns the encoded transaction,
  // refusals included: they consume a zxid too. `zxid` must be the next one in order. Never fails. `writes_refused`:
  // the disk is nearly full; everything but deletes, session closes and truncating setData is refused with kNoSpace
  // (stock: kQuotaExceeded).
  std::string prepare(const Request& request, Zxid zxid, TimeMs now, bool writes_refused = false);
  // Drops everything that was prepared and not applied (the leader lost its office).
  void forget_prepared();

  // --- every replica
  // Applies one committed transaction; zxids strictly ascending. `want_reply`: fill in Applied::body.
  // A payload that does not decode is a broken invariant (the log is checksummed): aborts. So does a feature level
  // above Limits::feature_level_known, which no leader of this ensemble can have proposed.
  Applied apply(Zxid zxid, std::string_view payload, bool want_reply, Sink& sink);
  Zxid last_applied() const;

  // --- reads, on any thread, under the caller's shared lock
  // Answers a read of `peer`, arming its watches: appends the reply's body to `out` and returns the code for the header
  // (on an error nothing is appended). Watch catch-up events of setWatches go to `early`, to be sent before the reply.
  Err read(const Peer& peer, wire::Op op, std::string_view body, std::string& out,
           const std::function<void(WatchType, std::string_view path)>& early);
  // Adds what an `auth` request proves to `ids` (digest; super), or kAuthFailed.
  Err authenticate(std::string_view scheme, std::string_view credential, std::vector<AuthId>& ids) const;

  // Watches and interest belong to connections. `ids` is copied, for the ACL filter; call again when it grows.
  void connection_opened(const Peer& peer);
  void connection_closed(ConnId conn);

  // --- sessions (replicated table; expiry is sessions.h)
  std::optional<SessionInfo> session(SessionId id) const;
  std::vector<SessionInfo> sessions() const;
  bool session_known_or_prepared(SessionId id) const;  // core thread; for the uniqueness of new ids

  // --- reaping: containers and TTL nodes that are due, at most `max`; each as a ready deleteContainer request
  std::vector<Request> reap(TimeMs now, std::size_t max) const;

  // --- store
  // Which data directory acknowledges for which server (wire::Op::kEnrol, a leader's internal request with session 0).
  const std::map<Sid, std::string>& enrolled() const;
  // The members as the last reconfig left them; empty (and version 0): there was none.
  const std::vector<Member>& members() const;
  Zxid members_version() const;
  std::int32_t feature_level() const;  // 1 if none was ever set
  // The leader's own view, for the next prepare() of kReconfig or kFeatureLevel. Not replicated.
  void set_electorate(Electorate electorate);

  std::size_t dirty_nodes() const;
  std::size_t dirty_bytes() const;  // an estimate of the encoded size
  // What changed since the last fold, as of last_applied(). Never empties half a change: call between applies.
  Fold take_fold();
  // Start-up, in any order of nodes, on a fresh object; finish_load() links them. A Fault names the broken record.
  Result<bool, Fault> load_node(NodeId id, std::string_view record);
  Result<bool, Fault> load_session(SessionId id, std::string_view record);
  Result<bool, Fault> load_counters(std::string_view record);
  Result<bool, Fault> finish_load(Zxid tree_durable);

  // The size of the disk under the store and what is free of it, for a mount's statfs. Not replicated.
  void set_disk(std::int64_t bytes, std::int64_t free_bytes);

  // --- facts for four-letter words, metrics and tests
  std::size_t node_count() const;       // as `srvr` counts: the root twice
  std::size_t ephemeral_count() const;
  std::size_t watch_count() const;
  std::size_t data_bytes() const;       // paths and data, approximately
  std::uint64_t digest() const;         // order-independent hash of all nodes and sessions, kept incrementally

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace coord::tree
