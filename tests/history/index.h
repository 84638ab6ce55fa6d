// Inside of the checker: a history, turned into operations, sessions and interned paths and values, and the rules that
// read them. Each rule returns false when it has put a verdict into the index.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/history/checker.h"

namespace coord::history {

inline constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t kAlways = std::numeric_limits<std::int64_t>::min();
inline constexpr std::uint64_t kZxidMax = std::numeric_limits<std::uint64_t>::max();

using PathId = std::uint32_t;
using ValueId = std::int32_t;
inline constexpr PathId kNoPath = std::numeric_limits<PathId>::max();
inline constexpr ValueId kUntold = -1;
inline constexpr ValueId kEmpty = 0;  // the empty value; not unique

enum class Status : std::uint8_t { kOk, kFail, kInfo };

// One write of one node, or a condition on it, inside an operation. A multi has several.
struct Effect {
  std::size_t op = 0;
  Op kind = Op::kOther;
  PathId path = kNoPath;     // of the created name; kNoPath: sequential name not known
  ValueId value = kUntold;
  std::int32_t expected = -1;
  std::int64_t owner = 0;    // creates
  const Request* request = nullptr;
  const Answer* answer = nullptr;  // null: not told
};

struct Operation {
  std::size_t inv = kNone;  // record indices
  std::size_t end = kNone;
  const Request* request = nullptr;
  const Answer* answer = nullptr;  // ok, fail
  Status status = Status::kInfo;
  std::int64_t session = 0;
  std::int64_t inv_ns = 0;
  std::int64_t end_ns = kNever;
  std::uint64_t zxid = 0;   // of the reply
  std::uint64_t txn = 0;    // of the transaction, as far as known: ok writes, info writes that were seen, refusals
  std::uint64_t above = 0;  // every zxid that anybody was told before inv: this operation's transaction is above
  std::size_t above_record = kNone;
  std::size_t seen = kNone;  // info: the record that proves the effect
  std::int64_t fresh_ns = kNever;  // reads: sent behind a sync that was sent then; kNever: no sync
  std::size_t sync = kNone;        // that sync's operation
  std::size_t effects = 0;   // first effect, and their number; writes of every status
  std::size_t effects_count = 0;
};

struct Session {
  std::int64_t id = 0;
  std::int64_t open_ns = kAlways;
  std::uint64_t replied = 0;           // largest zxid of its replies, that of its close excepted
  std::size_t replied_record = kNone;
  std::int64_t timeout_ns = 0;         // smallest that was negotiated; 0 = not known
  std::int64_t touched_ns = kAlways;   // it cannot expire before this + timeout
  std::size_t touched_record = kNone;
  bool close_tried = false;
  bool ended = false;                  // closed or expired for certain
  std::uint64_t end_zxid = 0;          // 0: not known
  std::uint64_t end_max = kZxidMax;    // it had ended at this zxid
  std::size_t end_record = kNone;
  std::int64_t end_from_ns = kAlways;  // the end lies in [end_from_ns, end_ns]
  std::int64_t end_ns = kNever;
};

class Budget {
 public:
  explicit Budget(const Options& options);
  bool spend() {
    if (++steps_ > steps_max_ || ((steps_ & 1023U) == 0 && late())) spent_ = true;
    return !spent_;
  }
  bool spent() const { return spent_; }
  bool late();

 private:
  std::uint64_t steps_ = 0;
  std::uint64_t steps_max_;
  bool timed_;
  bool spent_ = false;
  std::chrono::steady_clock::time_point end_;
};

// What somebody was told about one change of one node: the node as the transaction `mzxid` left it.
struct Point {
  std::uint64_t mzxid = 0;
  std::uint64_t czxid = 0;
  std::int32_t version = 0;  // -1: not told (a multi may create and set at once)
  std::int64_t owner = 0;
  ValueId value = kUntold;
  std::size_t record = kNone;
  bool by_stranger = false;  // no operation of the history is known to be this transaction
};

struct PathInfo {
  std::string_view text;
  PathId parent = kNoPath;
  std::vector<PathId> children;
  bool judged = true;        // not the root, not /zookeeper
  bool created = false;      // somebody tries to create it, or it is an init record
  bool delete_tried = false;
  std::size_t init = kNone;  // its init record
  std::vector<Point> points;  // by mzxid; filled by resolve_effects()
  std::vector<std::pair<std::uint64_t, WatchType>> changes;  // certain ones, by zxid; filled by the node rules
};

// Everything that the rules share.
struct Index {
  Index(const History& h, const Options& o) : records(h.records()), options(o), budget(o) {}

  const std::vector<Record>& records;
  const Options& options;
  Budget budget;
  Verdict verdict;
  std::vector<std::size_t> order;  // record indices by time
  std::vector<Operation> operations;
  std::vector<std::size_t> operation_of;  // record index -> operation, or kNone
  std::vector<Effect> effects;
  std::vector<PathInfo> paths;
  std::unordered_map<std::string_view, PathId> path_ids;
  std::unordered_map<std::string_view, ValueId> value_ids;
  std::vector<Session> sessions;
  std::unordered_map<std::int64_t, std::size_t> session_ids;
  std::unordered_map<std::uint64_t, std::size_t> txns;  // zxid -> operation

  // The order in which check_nodes() got through, for the search: (operation or session, node) -> position.
  std::map<std::pair<std::size_t, PathId>, std::uint64_t> hints;
  std::map<std::pair<std::int64_t, PathId>, std::uint64_t> end_hints;

  bool build();                       // index.cc; false: not a history
  PathId path(std::string_view text);
  ValueId value(const std::string& text);
  Session* session(std::int64_t id);  // null: not in the history
  bool fail(std::string rule, std::string text, std::vector<std::size_t> offending);  // always false

 private:
  bool add_request(std::size_t record);
  bool add_reply(std::size_t record);
  bool add_session_record(std::size_t record);
  bool add_init(std::size_t record);
  bool bad(std::size_t record, const std::string& why);
  void note_reply(Operation& op);
  void add_effects(std::size_t op);
  void add_effect(std::size_t op, const Request& request, const Answer* answer);
  void add_listing(const Operation& op);
  void mark_above();
  void mark_fresh();
  void finish_sessions();
  Session& session_at(std::int64_t id);

  std::unordered_map<std::uint64_t, std::size_t> open_;  // operation id -> operation
  std::deque<std::string> texts_;                        // paths that no record spells out
};

inline bool is_create(Op op) {
  return op == Op::kCreate || op == Op::kCreateSeq || op == Op::kCreateEphemeral || op == Op::kCreateEphemeralSeq;
}
inline bool is_sequential(Op op) { return op == Op::kCreateSeq || op == Op::kCreateEphemeralSeq; }
inline bool is_ephemeral(Op op) { return op == Op::kCreateEphemeral || op == Op::kCreateEphemeralSeq; }
inline bool is_set(Op op) { return op == Op::kSet || op == Op::kSetCas; }
inline bool is_delete(Op op) { return op == Op::kDelete || op == Op::kDeleteCas; }
inline bool is_write(Op op) { return is_create(op) || is_set(op) || is_delete(op) || op == Op::kMulti; }
inline bool is_node_read(Op op) {
  return op == Op::kGet || op == Op::kExists || op == Op::kChildren || op == Op::kSyncGet;
}
// Refusals that say something about the tree; the leader orders them like a transaction.
bool is_state_error(Err error);
std::string zxid_text(std::uint64_t zxid);
std::string_view parent_path(std::string_view path);
// The number at the end of a sequential name, or -1.
std::int64_t sequence_of(std::string_view name);

// True if `e` writes `path`: by name, or as a sequential name that nobody was told.
bool may_make(const Index& index, const Effect& e, PathId path);
// The part of a refused write whose error speaks of its node alone; null: none does.
const Effect* culprit(const Index& index, const Operation& op);
// True if the refusal of `e`, a culprit, is right for its node in this state.
bool refusal_fits(const Index& index, const Effect& e, bool exists, std::int32_t version);

// The rules, in the order of check().
bool check_order(Index& index);      // order.cc: zxids, real time, sessions, sequential names
bool check_sessions(Index& index);   // sessions.cc: ends, ephemeral owners, expiry
bool resolve_effects(Index& index);  // points.cc: which unanswered writes took effect; values, versions
bool check_nodes(Index& index);      // nodes.cc: each node's states by zxid
bool check_watches(Index& index);    // watches.cc
bool check_linear(Index& index);     // linear.cc

}  // namespace coord::history
