// The ZAB core of one replica: a deterministic state machine. Events in; actions out. No sockets, threads, clocks,
// files, randomness or logging of its own: time and seed are arguments, and the same events give the same actions. One
// thread.
//
// THE PROMISE OF ORDER. Actions of one step are carried out in order. A Persist action is given to the store; nothing
// that depends on it happens before the event Persisted with its id (or a later one) has been stepped: the core itself
// withholds such actions (acknowledgements, commits, LeaderInfo) until then, so the driver may carry out everything it
// is handed at once. Persist actions may be merged by the driver as long as their order is kept; Persisted{id} answers
// all up to id. One Persist is atomic.
//
// WHAT LEAVES AND WHAT STAYS AT A CHANGE OF ROLE. PhaseChanged to kElection ends everything of the old role: all
// learner links are closed (CloseLink came first), replies to LogRead, SnapshotSent and the like are ignored from then
// on (they carry numbers), Persist actions in flight still complete and still count for what is durable; a new role
// starts from the settled log only (the core waits for them).
//
// An ensemble of one is the smallest case of the same steps: no links, no waiting, no ticks needed.
//
// Source: zab.md sections 1 (durable state), 2 (election, with 2.3), 3 (discovery, synchronization, broadcast), 4.2
// (sync). The files: election.h (FLE), discovery and leading: leader.h, following and observing: learner.h, what to
// send to a learner: sync_plan.h, majorities: quorum.h; this class owns what is durable and switches between them.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "common/model/ids.h"
#include "replica/zab/history.h"
#include "replica/zab/message.h"
#include "replica/zab/quorum.h"

namespace coord::zab {

// Election; then, leading or following: discovery (the epoch is being minted), synchronization (histories are being
// made equal; NEWLEADER is being acknowledged), broadcast (a learner: UPTODATE has come).
enum class Phase : std::uint8_t { kElection, kDiscovery, kSynchronization, kBroadcast };

enum class Channel : std::uint8_t { kElection = 0, kLearner = 1 };
enum class Room : std::uint8_t { kPlenty, kLow, kNone };  // on the disk
using LinkId = NamedInt<struct LinkTag, std::uint64_t>;  // one connection; never reused within a process

struct Timing {  // milliseconds
  std::int64_t ping = 100;              // leader to learners: half a peer tick
  std::int64_t sync_limit = 600;        // silence after which a leader or learner in broadcast is given up; ten times
                                        // this is the age of the oldest unacknowledged proposal at which a follower is
                                        // cut off, as long as the others are a quorum
  std::int64_t init_limit = 10'000;     // for discovery and synchronization, counted from the last progress
  std::int64_t connect_limit = 1'000;   // from the end of an election to FollowerInfo on a learner link
  std::int64_t finalize_wait = 20;      // for a better vote when not every reachable voter has voted the same
  std::int64_t resend_first = 100;      // notifications again; doubles up to
  std::int64_t resend_most = 2'000;
  std::int64_t lead_alone_limit = 2'000;  // a nominee whose quorum does not come
};

// Named maxima of flow control.
struct Limits {
  // Proposals sent and not acknowledged; above: the learner is sent no more until it acknowledges some. Nobody waits
  // for it, and what it is owed is the durable log's, not memory's; it is cut off when the oldest gets too old
  // (Timing).
  std::size_t learner_window_bytes = 64u << 20;
  std::size_t outstanding_entries = 50'000;       // proposed and not committed; above: accepts_proposals() is false
  std::size_t outstanding_bytes = 64u << 20;
  std::size_t diff_bytes = 256u << 20;            // a longer DIFF is a snapshot
  std::size_t read_chunk_bytes = 1u << 20;        // of log read at once for a DIFF
  std::size_t tail_bytes = 16u << 20;             // of durable log kept in memory for late learners
};

struct Config {
  Sid self;
  // The members as the files say, for as long as the log says nothing.
  Quorum voters;
  std::set<Sid> observers;
  bool observer = false;                  // this server
  // The members that the entry with this payload makes the members, `version` left 0; nullopt: it is no such entry.
  // Called for each entry that is appended: cheap for those that are not. Empty: there are none.
  std::function<std::optional<Membership>(const std::string& payload)> membership_of;
  // The same of entries that enrol data directories.
  std::function<std::optional<std::map<Sid, std::string>>(const std::string& payload)> enrolment_of;
  std::uint32_t counter_max = 0xf0000000;  // hand over before a counter above this (zab.md section 1.3)
  std::uint64_t seed = 0;                 // of the jitter in the election's timers
  Timing timing;
  Limits limits;
};

// What the store held at start.
struct DurableState {
  std::uint32_t accepted_epoch = 0;
  Sid accepted_from;
  std::uint32_t current_epoch = 0;
  LogShape log;
  Zxid commit_hint;
  std::string directory_id;   // 16 bytes, made with the data directory
  std::string cluster_id;     // 32 hex digits; empty: virgin, has never belonged to a cluster
  std::string secret;         // 32 bytes; empty with cluster_id
  // The log or the tree lost something to the disk (a broken checksum) and was emptied; the promises are intact. Such a
  // replica acknowledges nothing before it has got everything from a leader that did not count it.
  bool damaged = false;
  // For the bootstrap: what a virgin that becomes the first leader names its cluster. Random, made by the driver.
  std::string fresh_cluster_id, fresh_secret;
  std::map<Sid, std::string> enrolled;  // as of the tree at start, see Enrolled
  // What the tree holds (if its version is not 0), then what is in the log above it, ascending.
  std::vector<Membership> memberships;
  // Enrolments in the log above the tree, ascending.
  std::vector<std::pair<Zxid, std::map<Sid, std::string>>> enrolments;
};

// --- events
struct Start {
  std::int64_t now_ms = 0;
};
struct Propose {  // only while accepts_proposals(); must be next_zxid()
  Zxid zxid;
  Payload payload;
  Origin origin;
};
struct Persisted {
  std::uint64_t id = 0;
};
struct Tick {  // at least every 20 ms while other servers are configured
  std::int64_t now_ms = 0;  // monotonic
};
// A link to `peer` is ready in both directions, authenticated, of the same cluster (or one side is virgin). At most one
// per peer and channel: a new one comes after LinkDown of the old. Learner links: `dialed` by this server (it wants to
// follow) or accepted.
struct LinkUp {
  LinkId link;
  Channel channel;
  Sid peer;
  bool dialed;
};
struct LinkDown {
  LinkId link;
};
// The DialLearner of this number ended without a link.
struct DialFailed {
  std::uint64_t number = 0;
};
struct Received {
  LinkId link;
  Message message;
};
// Something came on this link, and no message is whole yet: a large one is on its way, or this is the other side's sign
// of life while it takes one. As good as a message for those who watch whether somebody is there.
struct Heard {
  LinkId link;
};
// Log entries asked for with ReadLog, in order; fewer than asked for: the next ReadLog goes on behind them. Empty: what
// was asked for has been purged meanwhile.
struct LogRead {
  std::uint64_t number = 0;
  std::vector<LogEntry> entries;
};
// The snapshot asked for with SendSnapshot has been handed to the link, SnapshotEnd included.
struct SnapshotSent {
  LinkId link;
  Zxid zxid;
};
// What came by ReceiveSnapshot is complete, verified and waiting, durable, beside the present state. `zxid` 0: it was
// damaged or did not fit; the link is given up.
struct SnapshotStaged {
  LinkId link;
  Zxid zxid;
};
// The replicated list of data directories that may acknowledge has changed (Enrol): sid -> directory id. WHO COUNTS,
// for promises, NEWLEADER and acknowledgements alike: a voter whose directory is the enrolled one; everybody while
// nobody is enrolled (bootstrap); never a voter that is enrolled with another directory (it lost its disk, and with it
// promises and acknowledgements: Alarm, once it has all that is committed or nobody has led for init_limit), nor one
// that is damaged, nor one that is not enrolled yet while others are (Enrol follows when it has synchronized).
struct Enrolled {
  std::map<Sid, std::string> directories;
};
// Prove that this server leads: answered by LeadershipConfirmed with the same number. Only while leading in broadcast.
struct ConfirmLeadership {
  std::uint64_t number = 0;
};
// Give up the office in order: no more proposals, and an election when all outstanding ones are committed.
struct Resign {};
// Whether this server's disk has room. Low: among servers with equal histories another one is to lead, as far as one
// is elected soon (election.h); to resign, if it leads, is the driver's to decide. None: what was handed out in Persist
// may never become durable: it leaves the role that it has, and takes no part in elections. It is as good as gone, but
// comes back by itself.
struct RoomChanged {
  Room room;
};
using Event = std::variant<Start, Propose, Persisted, Tick, LinkUp, LinkDown, DialFailed, Received, Heard,
                           LogRead, SnapshotSent, SnapshotStaged, Enrolled, ConfirmLeadership, Resign, RoomChanged>;

// --- actions
struct Persist {
  std::uint64_t id = 0;  // ascending from 1
  // In this order, as one atomic and durable step:
  bool install_snapshot = false;            // the staged one replaces tree and log; the log's floor is its zxid
  std::optional<Zxid> truncate_after;
  std::vector<LogEntry> append;
  std::optional<std::uint32_t> accepted_epoch;
  Sid accepted_from;                        // with accepted_epoch
  std::optional<std::uint32_t> current_epoch;
  std::string cluster_id, secret;           // when a virgin adopts them, else empty
  bool repaired = false;                    // `damaged` is over
};
// Deliver everything up to and including this, in order. At establishment it covers the whole initial history, of which
// a part may be delivered already; there is none if that history is empty.
struct Deliver {
  Zxid up_to;
};
// The log was cut: entries above this are gone and never to be delivered. Comes with the Persist that cuts.
struct Discard {
  Zxid after;
};
// Entries were appended to this replica's log by its leader, to be delivered later. (On the leader the driver knows
// what it proposed.)
struct Appended {
  std::vector<LogEntry> entries;
};
// The staged snapshot has been installed durably: the serving tree is to be loaded from the store anew, as of `zxid`;
// entries above it follow as Appended, which the driver received before this already.
struct Reload {
  Zxid zxid;
};
struct PhaseChanged {
  Role role;
  Phase phase;
  std::uint32_t epoch;
  Sid leader;  // 0 in an election
};
struct Send {
  LinkId link;
  Message message;
};
struct DialLearner {
  std::uint64_t number = 0;
  Sid leader;
};
struct CloseLink {
  LinkId link;
  std::string reason;
};
struct ReadLog {  // of this server's own durable log: the entries in (after, up_to], at least one, about max_bytes
  std::uint64_t number = 0;
  Zxid after;
  Zxid up_to;
  std::size_t max_bytes = 0;
};
struct SendSnapshot {  // SnapshotBegin, chunks, SnapshotEnd on this link, then SnapshotSent; pings may come between
  LinkId link;
  Membership membership;  // for SnapshotBegin
  bool hurry = false;     // the learner keeps in memory what is committed meanwhile: it is damaged
};
struct ReceiveSnapshot {  // one message of it, in order
  LinkId link;
  std::variant<SnapshotBegin, SnapshotChunk, SnapshotEnd> part;
};
struct DropSnapshot {};   // what was received so far, or staged, is not wanted any more
struct PassedUp {         // from the peer's driver
  LinkId link;
  Sid from;
  std::string bytes;
};
// Leading: this learner is in broadcast and may forward requests, or is not any more.
struct LearnerChanged {
  LinkId link;
  Sid sid;
  bool serving;
};
struct LeadershipConfirmed {
  std::uint64_t number = 0;
  Zxid committed;  // as of the question
};
// Leading: a voter that was never enrolled has synchronized: propose its enrolment.
struct Enrol {
  std::map<Sid, std::string> directories;
};
// Something an administrator must know; one clear line, also for `coordctl status`. Repeated at most once per cause.
struct Alarm {
  std::string text;
  bool over = false;  // what an earlier one with this text said is so no more
};
using Action = std::variant<Persist, Deliver, Discard, Appended, Reload, PhaseChanged, Send, DialLearner, CloseLink,
                            ReadLog, SendSnapshot, ReceiveSnapshot, DropSnapshot, PassedUp, LearnerChanged,
                            LeadershipConfirmed, Enrol, Alarm>;
using Actions = std::vector<Action>;

class Peer {
 public:
  Peer(Config config, DurableState durable);
  ~Peer();
  Peer(Peer&&) noexcept;
  Peer& operator=(Peer&&) noexcept;

  void step(const Event& event, Actions& out);

  Role role() const;
  Phase phase() const;
  Sid leader() const;                      // who leads, as far as this server follows or leads; 0: nobody
  LinkId leader_link() const;              // following in broadcast: the link to forward by; 0: none
  std::uint32_t epoch() const;             // the one being minted, or the last one adopted
  std::uint32_t accepted_epoch() const;    // promised, not necessarily durable
  std::uint32_t current_epoch() const;     // adopted, not necessarily durable
  // Leading in broadcast, with room. False too when the counter of the epoch ran out or after Resign: once everything
  // outstanding is committed, the core goes through an election by itself.
  bool accepts_proposals() const;
  // Leading or following in broadcast, with everything that UPTODATE covers delivered: clients may be served.
  bool serving() const;
  Zxid next_zxid() const;                  // of the next proposal; only while accepts_proposals()
  Zxid last_logged() const;                // appended, not necessarily durable
  Zxid last_durable() const;               // of this server's own log
  Zxid last_committed() const;             // known to be; the hint until the first commit
  const LogShape& log() const;             // appended, not necessarily durable
  bool acknowledges() const;  // its acknowledgements count (not an observer, a lost disk, a stranded promise)

  // For `mntr`, `coordctl status` and tests: what the leader knows of its learners.
  struct LearnerView {
    Sid sid;
    bool voter = false, counted = false, serving = false;
    // Serves, was heard of lately, and has this leader's history on disk but for what it is being sent just now; its
    // promise is this leader's.
    bool synced = false;
    std::string directory_id;
    Zxid acked;
    std::int64_t silent_ms = 0;
  };
  std::vector<LearnerView> learners() const;
  std::optional<std::uint64_t> round() const;  // of the election

  const Membership& membership() const;           // the last one known to be committed
  const Membership* pending_membership() const;   // logged, not known to be committed; nullptr: none

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace coord::zab
