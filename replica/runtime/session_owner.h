// Who serves a session and when it may expire: the leader's memory, nothing of it is replicated. Pure: time is a
// monotonic argument in ms. Core thread only.
//
// A session has an owner (the replica that its client is connected to; none after the connection has gone) and a
// generation, raised whenever the session attaches anew; requests that come with an older one are refused.
//
// EXPIRY. Never early, at most its timeout and two ticks after the later of the last contact and the leader's
// establishment (plus the sync limit when the owner was lost). A deadline is the last contact known plus the timeout,
// rounded up by the tracker. Behind it, a session expires only with evidence from after the deadline:
//   owner is this server     what its connection says
//   owner is a learner       a touch table that the learner made after it was asked behind the deadline
//   no owner                 nothing: the only way to touch it is to attach
// and always (but for an ensemble of one) a confirmation of this leader by a quorum, asked for behind the deadline.
// When an owner's link goes down, it may go on serving reads until it notices, a sync limit later: its sessions count
// as heard of at that time.
//
// Source: replica/README.md (sessions); zab.md section 4.3; client-protocol.md section 2.5.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "common/model/ids.h"
#include "replica/runtime/forward.h"
#include "replica/tree/sessions.h"
#include "replica/tree/state_machine.h"

namespace coord::runtime {

class SessionOwners {
 public:
  struct Options {
    Sid self;
    std::int64_t tick_ms = 2000;
    std::int64_t sync_limit_ms = 600;
    bool alone = true;  // an ensemble of one needs no confirmation
  };
  static constexpr std::uint64_t kFirstGeneration = 1;  // of the owner that created the session

  explicit SessionOwners(const Options& options) : options_(options), tracker_(options.tick_ms) {}

  // --- the office
  void begin(const std::vector<tree::SessionInfo>& sessions, std::int64_t now_ms);  // each gets its full timeout
  void end();
  void learner_up(Sid sid);
  void learner_down(Sid sid, std::int64_t now_ms);
  void confirmed(std::int64_t asked_ms);  // a quorum still followed at that time
  void stalled(std::int64_t by_ms, std::int64_t now_ms);  // this process stood still: nobody may be blamed for it

  // --- sessions
  // `owner`: 0 or a learner that is not up any more: nobody.
  void created(SessionId session, std::int32_t timeout_ms, Sid owner, std::int64_t now_ms);
  void removed(SessionId session);
  struct Move {
    std::uint64_t generation = 0;
    Sid old_owner;  // 0: nobody
  };
  // Takes the session over for `owner`. Unknown: nullopt.
  std::optional<Move> attach(SessionId session, std::int32_t timeout_ms, Sid owner, std::int64_t now_ms);
  // Nobody's from now on: nothing more is taken from its present owner. Unknown: nullopt.
  std::optional<Move> revoke(SessionId session);
  // The owner's connection has gone; it was last heard of then.
  void released(SessionId session, Sid owner, std::uint64_t generation, std::int64_t heard_ms);
  // A request of its owner came.
  void heard(SessionId session, std::int64_t now_ms);
  bool current(SessionId session, Sid from, std::uint64_t generation) const;
  std::uint64_t generation(SessionId session) const;  // 0: unknown
  void table(Sid from, const forward::Touched& touched, std::int64_t now_ms);

  // --- expiry
  struct Due {
    std::vector<SessionId> expired;  // each once: to be closed now
    std::vector<std::pair<Sid, std::uint64_t>> ask;  // send these an Ask of this number
    bool confirm = false;            // have the leadership confirmed
  };
  // When this server's own connection of the session was last heard of; nullopt: there is none.
  using Heard = std::function<std::optional<std::int64_t>(SessionId)>;
  Due due(std::int64_t now_ms, const Heard& heard_here);

  std::size_t size() const { return sessions_.size(); }

 private:
  struct Session {
    std::int32_t timeout_ms = 0;
    Sid owner;
    std::uint64_t generation = 0;
  };
  struct Learner {
    std::uint64_t asked = 0;     // numbers
    std::uint64_t answered = 0;
    std::int64_t asked_ms = -1;  // of `asked`
    std::int64_t answered_ms = -1;  // when the one answered last was asked
  };
  void touch(SessionId id, const Session& session, std::int64_t heard_ms);
  bool proven(SessionId id, Session& session, std::int64_t due_ms, std::int64_t now_ms, const Heard& heard_here,
              Due& out);

  const Options options_;
  tree::ExpiryTracker tracker_;
  std::map<SessionId, Session> sessions_;
  std::map<Sid, Learner> learners_;
  std::map<SessionId, std::int64_t> due_;  // behind its deadline since then, and not proven yet
  std::int64_t confirmed_ms_ = -1;
  std::uint64_t next_generation_ = kFirstGeneration + 1;
};

}  // namespace coord::runtime
