// What replicas say to each other, as plain data; bytes are codec.h's business, connections the transport's.
//
// Two channels between a pair of replicas, each a FIFO stream of its own, so that a snapshot does not delay a vote:
//   election  between all voters, and from each observer to the voters: Notification only;
//   learner   from a follower or observer to its leader: everything else.
// A new connection starts from nothing: no state of an older one is carried over (zab.md section 3.4).
//
// Source: zab.md sections 2.1 (notifications), 3.1 to 3.4 (discovery, synchronization, broadcast), 4.2, 4.3 (requests).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/model/ids.h"
#include "replica/zab/history.h"
#include "replica/zab/quorum.h"

namespace coord::zab {

enum class Role : std::uint8_t { kLooking = 0, kLeading = 1, kFollowing = 2, kObserving = 3 };

// --- election channel

struct Vote {
  Sid leader;  // 0: none
  Zxid zxid;                     // the proposed leader's last logged zxid
  std::uint32_t epoch = 0;       // the proposed leader's currentEpoch
  friend bool operator==(const Vote&, const Vote&) = default;
};

struct Notification {
  Role state = Role::kLooking;
  std::uint64_t round = 0;
  Vote vote;
  // What the sender has promised, so that a new epoch is above promises that its leader's quorum does not know
  // (zab.md section 2.3, stranded promise).
  std::uint32_t accepted_epoch = 0;
  bool wants_answer = false;     // the sender is looking and has not heard from the receiver in this round
  Zxid members;                  // version of the last membership that the sender knows to be committed
};

// --- learner channel, from the learner

struct FollowerInfo {
  bool voter = false;            // as the learner's configuration says
  std::uint32_t accepted_epoch = 0;
  Sid accepted_from;             // who was promised; 0: unknown
  std::string directory_id;      // 16 bytes made with the data directory: tells a disk that was lost
  bool virgin = false;           // has never belonged to a cluster
  bool damaged = false;          // DurableState::damaged
};

struct AckEpoch {
  std::uint32_t epoch = 0;         // the one of LeaderInfo
  bool counts = false;             // false: promised to somebody else; joins without acknowledging (section 2.3)
  std::uint32_t current_epoch = 0;
  LogShape log;                    // durable
  Zxid last_applied;               // never to be truncated below
};

struct AckNewLeader {              // the first acknowledgement on the stream
  std::uint32_t epoch = 0;
};
struct Ack {                       // cumulative, durable; entries of the present epoch only
  Zxid up_to;
};
struct Pong {
  std::uint64_t number = 0;        // of the Ping
  Zxid last_durable;
};

// --- learner channel, from the leader

struct LeaderInfo {
  std::uint32_t epoch = 0;
};
// The learner's log is to end at `point` (a point of it; its own last: nothing to cut). What follows is appended there.
struct SyncFrom {
  Zxid point;
};
struct SnapshotBegin {
  Zxid zxid;                       // of the tree in it
  std::uint64_t bytes = 0;         // about, for the log line
  Membership membership;           // in force at the leader; its transaction is in the snapshot or among the entries
                                   // that follow. Version 0: as the files say
};
struct SnapshotChunk {
  std::string bytes;               // the store's own format, checksummed inside
};
struct SnapshotEnd {
  std::uint64_t chunks = 0;
};
struct Proposal {                  // during synchronization too: the DIFF
  std::vector<LogEntry> entries;   // chained, ascending
  Zxid committed;                  // the leader's watermark; never above what was sent on this link
};
struct NewLeader {
  std::uint32_t epoch = 0;
  Zxid last;                       // of what was sent before: the learner's log must end here
  std::string cluster_id;          // 32 hex digits; a virgin adopts it
  std::string secret;              // 32 bytes, the key of session passwords; a virgin adopts it
};
struct UpToDate {
  Zxid committed;                  // apply up to here before serving
};
struct Commit {
  Zxid up_to;
};
struct Ping {
  std::uint64_t number = 0;
};

// --- both ways: between the replicas' drivers, in order with everything else on the link; the core does not look into
// it
struct Passed {
  std::string bytes;
};

// The sender leaves in order (shutdown, another role); the receiver need not wait for a timeout.
struct Bye {
  std::string reason;
};

using Message = std::variant<Notification, FollowerInfo, AckEpoch, AckNewLeader, Ack, Pong, LeaderInfo, SyncFrom,
                             SnapshotBegin, SnapshotChunk, SnapshotEnd, Proposal, NewLeader, UpToDate, Commit, Ping,
                             Passed, Bye>;

}  // namespace coord::zab
