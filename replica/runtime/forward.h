// What the drivers of two replicas say to each other on a learner link (zab::Passed): forwarded requests, the moves of
// sessions, touch tables, syncs. Pure: plain data and its bytes.
//
// The decoder takes bytes from an authenticated peer, yet trusts nothing: what does not decode to the last byte is
// refused as a whole.
//
// Source: replica/README.md (requests of clients of a follower, sessions, digests); zab.md sections 4.2, 4.3.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/model/ids.h"
#include "replica/tree/state_machine.h"

namespace coord::runtime::forward {

// --- to the leader
struct Request {                  // comes back with the entry as its Origin, or as Refused
  std::uint64_t id = 0;           // ascending
  std::uint64_t generation = 0;   // of the session's owner; 0 with createSession
  tree::Request request;
};
struct Attach {                   // an existing session wants to go on here
  std::uint64_t id = 0;
  SessionId session;
  std::int32_t timeout_ms = 0;    // as negotiated now
};
struct Touch {
  SessionId session;
  std::uint64_t generation = 0;
  std::int64_t age_ms = 0;        // since it was heard of
  bool connected = true;          // false: its connection has gone
};
struct DigestNote {
  Zxid zxid;
  std::uint64_t digest = 0;
};
struct Touched {                  // sessions heard of since the last one
  std::uint64_t answers = 0;      // the highest Ask that this table answers
  bool refuse_writes = false;     // the sender's disk is nearly full
  std::int32_t feature_level = 1;  // what the sender knows, 1 to 1000
  std::vector<Touch> touches;
  std::vector<DigestNote> digests;
};
struct Sync {
  std::uint64_t id = 0;
};

// --- from the leader
struct Attached {
  std::uint64_t id = 0;
  bool accepted = false;
  std::uint64_t generation = 0;
};
struct Moved {                    // connections of this session with an older generation are to be closed
  SessionId session;
  std::uint64_t generation = 0;
};
struct Refused {                  // this request was not taken: close its client
  std::uint64_t id = 0;
};
struct Ask {                      // for a table made after this
  std::uint64_t number = 0;
};
struct Synced {
  std::uint64_t id = 0;
  Zxid zxid;                      // apply up to here before answering
};
struct Differs {                  // the sender of the note has another state there than the leader
  Zxid zxid;
};

using Passed = std::variant<Request, Attach, Touched, Sync, Attached, Moved, Refused, Ask, Synced, Differs>;

std::string encode(const Passed& message);
std::optional<Passed> decode(std::string_view bytes);

}  // namespace coord::runtime::forward
