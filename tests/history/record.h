// The plain records of one history: what clients asked, what they were told and when, over a whole run. Written by the
// simulator (which feeds them directly, without JSON) and by real-process tests (JSON lines, README.md in this folder),
// judged by checker.h. No behaviour here. Times are monotonic nanoseconds of one clock for the whole history.
//
// A simulator or client writes, in the order in which it happens:
//   History h;
//   h.add(session_record(ns, client, session, SessionChange::kOpened, replica, timeout_ns, zxid));  // 0 = not known
//   auto id = h.invoke(ns, client, session, {.op = Op::kSetCas, .path = "/a", .value = "u17", .expected = 3});
//   h.ok(ns, id, {.zxid = z, .mzxid = z, .czxid = c, .version = 4});    // reply without error
//   h.fail(ns, id, {.error = Err::kBadVersion, .zxid = z});             // definite refusal: no effect
//   h.info(ns, id);                                                     // connection lost: took effect once, or never
//   h.event(ns, client, session, WatchType::kDataChanged, "/a", z);     // as it reaches the client
//   h.fault(ns, "crash replica 2");                                     // for the reader only
// An operation that never got an answer may be left open: that is `info` at the end of the history.
//
// What the checker relies on:
// - every written value is unique in the whole history (else "applied twice" is reported); an empty value is exempt;
// - requests of one session are recorded in the order of sending, replies and events in the order of arrival;
// - `ns` of inv is not after the sending, `ns` of ok, fail and ev is not before the arrival;
// - all writes below the paths that are read are in the history, or the node is an `init` record.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/model/records.h"

namespace coord::history {

enum class Kind : std::uint8_t {
  kInv,      // a request was sent
  kOk,       // its reply, without error
  kFail,     // its reply, with a definite error: no effect
  kInfo,     // no reply will come: outcome unknown
  kEvent,    // a watch event
  kSession,  // a change of a session
  kFault,    // what the test did to the ensemble
  kInit,     // a node that was there before the history began; goes before everything else
};

enum class Op : std::uint8_t {
  kCreate,              // persistent
  kCreateSeq,           // persistent, sequential; answer.name is the created path
  kCreateEphemeral,
  kCreateEphemeralSeq,
  kSet,
  kSetCas,              // `expected` >= 0
  kDelete,
  kDeleteCas,           // `expected` >= 0
  kCheck,               // in a multi only
  kGet,
  kExists,
  kChildren,
  kSync,
  kSyncGet,             // sync and get as one operation; the answer is that of the get
  kMulti,
  kPing,
  kClose,               // closes the session; answer.zxid is that of the close transaction
  kOther,               // anything else: only zxid order is judged. With `watch`: leaves a persistent recursive watch
};

struct Request {
  Op op = Op::kOther;
  std::string path{};
  std::string value{};         // unique
  std::int32_t expected = -1;  // kSetCas, kDeleteCas, kCheck; -1 = any
  bool watch = false;          // reads: leaves a one-shot watch (get, exists: data; children: child)
  std::vector<Request> multi{};
};

// Zeros mean "not told". mzxid != 0 says that czxid, version and owner are told as well (a Stat).
struct Answer {
  Err error = Err::kOk;
  std::uint64_t zxid = 0;    // of the reply header
  std::uint64_t mzxid = 0;
  std::uint64_t czxid = 0;
  std::int32_t version = -1;
  std::int64_t owner = 0;    // ephemeral owner
  std::string name{};        // creates: the created path
  std::string value{};       // kGet, kSyncGet
  std::vector<std::string> children{};  // kChildren: names, not paths
  bool replayed = false;     // the answer kept by the replica for a request that the client repeated after a reconnect:
                             // its header may be newer than the transaction, and it may come out of order
  std::vector<Answer> multi{};  // one per request.multi
};

enum class SessionChange : std::uint8_t {
  kOpened,        // first connect; `replica` is the owner
  kDisconnected,  // the connection ended; watches on it are gone
  kMoved,         // reconnected, to the same or another replica: `replica` is the owner now. Implies kDisconnected.
  kClosed,        // closed by its client; implied by an answered Op::kClose. zxid 0 = not known
  kExpired,       // expired by the leader. `ns`: when it happened, or when it was noticed; zxid 0 = not known
};

struct Record {
  Kind kind = Kind::kFault;
  std::int64_t ns = 0;
  std::uint32_t client = 0;
  std::int64_t session = 0;    // 0 = none
  std::uint64_t id = 0;        // of the operation; unique in the history. inv, ok, fail, info
  Request request{};           // inv; init: path and value
  Answer answer{};             // ok, fail, info; init: mzxid, czxid, version, owner; ev, sess: zxid only
  WatchType event = WatchType::kNone;                   // ev; the path is request.path
  SessionChange change = SessionChange::kDisconnected;  // sess
  std::uint32_t replica = 0;                            // sess: owner; 0 = not known
  std::int64_t timeout_ns = 0;                          // sess opened, moved: negotiated; 0 = not known
  std::string note{};                                    // fault
};

Record session_record(std::int64_t ns, std::uint32_t client, std::int64_t session, SessionChange change,
                      std::uint32_t replica = 0, std::int64_t timeout_ns = 0, std::uint64_t zxid = 0);

// Records in the order in which they were added. Caller serialises.
class History {
 public:
  void add(Record record);

  // Shorthands. invoke() chooses the id; the answer takes client and session from the request with that id.
  std::uint64_t invoke(std::int64_t ns, std::uint32_t client, std::int64_t session, Request request);
  void ok(std::int64_t ns, std::uint64_t id, Answer answer);
  void fail(std::int64_t ns, std::uint64_t id, Answer answer);
  void info(std::int64_t ns, std::uint64_t id);
  void event(std::int64_t ns, std::uint32_t client, std::int64_t session, WatchType type, std::string path,
             std::uint64_t zxid);
  void fault(std::int64_t ns, std::string note);

  const std::vector<Record>& records() const { return records_; }
  std::vector<Record>& records() { return records_; }  // tests that spoil a history on purpose
  void clear();

 private:
  void answer(Kind kind, std::int64_t ns, std::uint64_t id, Answer answer);

  std::vector<Record> records_;
  std::unordered_map<std::uint64_t, std::size_t> invoked_;  // id -> index of its inv
  std::uint64_t last_id_ = 0;
};

}  // namespace coord::history
