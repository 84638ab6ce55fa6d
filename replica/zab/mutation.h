// Deliberate faults of the core, to see that the simulator (tests/sim) finds each. They exist only where COORD_MUTANTS
// is defined, in a library of the tests; in production COORD_MUTANT is the constant false.
#pragma once

namespace coord::zab {

enum class Mutation {
  kNone,
  kQuorumMinusOne,          // half of the voters is a quorum
  kObserverCounted,         // observers acknowledge like voters
  kUnenrolledCounted,       // a voter with another data directory counts
  kDamagedCounted,          // a damaged store counts
  kOldEpochAcksCounted,     // an acknowledgement of an older epoch's entry counts
  kNewLeaderAckBeforePersist,  // the learner acknowledges NEWLEADER before its store has it
  kUpToDateBeforeQuorum,    // the first acknowledgement of NEWLEADER is enough
  kLeaderCheckOff,          // a vote for a leader that has not said so is followed
  kVoteByZxidOnly,          // votes are compared without the epoch
  kGapAccepted,             // the chain check of proposals is off
  kTruncationSkipped,       // SyncFrom does not cut the learner's log
  kTruncateBelowDelivered,  // the common point is taken one entry too low
  kPromiseTwice,            // a promise of the same epoch to another nominee counts
  kConfirmedWithoutPongs,   // leadership is confirmed without asking anybody
  kLeaderInfoBeforePersist,  // the new epoch is announced before it is durable
  kStrandedCounts,          // a learner that promised a later epoch acknowledges
  kBetterHistoryIgnored,    // a nominee does not mind a follower with a longer history
  kLeaderAckUndurable,      // the leader counts its own log before it is durable
  kEpochNotRaised,          // the new epoch is the leader's own promise + 1, not the quorum's
  kNewQuorumOnly,           // while a change of the members is pending, the new list decides alone
  kOldQuorumOnly,           // ... the old one alone
  kPendingForgottenAtRestart,  // a change that is logged and not committed is not known after a restart
  kGuestCounted,            // who is no member counts
  kMembershipNotCutWithLog,  // a change whose transaction was cut off goes on
  kSnapshotWithoutMembership,  // the list that comes with a snapshot is not taken
};

#ifdef COORD_MUTANTS
inline Mutation active_mutation = Mutation::kNone;  // one per process
#define COORD_MUTANT(name) (::coord::zab::active_mutation == ::coord::zab::Mutation::name)
#else
#define COORD_MUTANT(name) false
#endif

}  // namespace coord::zab
