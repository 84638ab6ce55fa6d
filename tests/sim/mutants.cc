#include "tests/sim/mutants.h"

namespace coord::sim {

const std::vector<MutantName>& all_mutants() {
  static const std::vector<MutantName> mutants = {
      {"fsync_skipped", Mutant::kFsyncSkipped},
      {"root_before_pages", Mutant::kRootBeforePages},
      {"root_not_awaited", Mutant::kRootNotAwaited},
      {"truncation_lost", Mutant::kTruncationLost},
      {"snapshot_in_pieces", Mutant::kSnapshotInPieces},
      {"ack_before_sync", Mutant::kAckBeforeSync},
      {"epoch_before_data", Mutant::kEpochBeforeData},
      {"promise_not_persisted", Mutant::kPromiseNotPersisted},
      {"apply_uncommitted", Mutant::kApplyUncommitted},
      {"reply_at_proposal", Mutant::kReplyAtProposal},
      {"hint_ahead", Mutant::kHintAhead},
      {"diff_with_hole", Mutant::kDiffWithHole},
      {"snapshot_of_memory", Mutant::kSnapshotOfMemory},
      {"directory_id_kept", Mutant::kDirectoryIdKept},
      {"damage_forgotten", Mutant::kDamageForgotten},
      {"purge_unapplied", Mutant::kPurgeUnapplied},
#ifdef COORD_MUTANTS
      {"quorum_minus_one", Mutant::kCore, zab::Mutation::kQuorumMinusOne},
      {"observer_counted", Mutant::kCore, zab::Mutation::kObserverCounted},
      {"unenrolled_counted", Mutant::kCore, zab::Mutation::kUnenrolledCounted},
      {"damaged_counted", Mutant::kCore, zab::Mutation::kDamagedCounted},
      {"newleader_ack_before_persist", Mutant::kCore, zab::Mutation::kNewLeaderAckBeforePersist},
      {"uptodate_before_quorum", Mutant::kCore, zab::Mutation::kUpToDateBeforeQuorum},
      {"leader_check_off", Mutant::kCore, zab::Mutation::kLeaderCheckOff},
      {"vote_by_zxid_only", Mutant::kCore, zab::Mutation::kVoteByZxidOnly},
      {"gap_accepted", Mutant::kEntriesDropped, zab::Mutation::kGapAccepted},
      {"truncation_skipped", Mutant::kCore, zab::Mutation::kTruncationSkipped},
      {"truncate_below_delivered", Mutant::kCore, zab::Mutation::kTruncateBelowDelivered},
      {"promise_twice", Mutant::kCore, zab::Mutation::kPromiseTwice},
      {"confirmed_without_pongs", Mutant::kCore, zab::Mutation::kConfirmedWithoutPongs},
      {"leaderinfo_before_persist", Mutant::kCore, zab::Mutation::kLeaderInfoBeforePersist},
      {"stranded_counts", Mutant::kCore, zab::Mutation::kStrandedCounts},
      {"better_history_ignored", Mutant::kCore, zab::Mutation::kBetterHistoryIgnored},
      {"leader_ack_undurable", Mutant::kCore, zab::Mutation::kLeaderAckUndurable},
      {"epoch_not_raised", Mutant::kCore, zab::Mutation::kEpochNotRaised},
      {"new_quorum_only", Mutant::kCore, zab::Mutation::kNewQuorumOnly},
      {"old_quorum_only", Mutant::kCore, zab::Mutation::kOldQuorumOnly},
      {"pending_forgotten_at_restart", Mutant::kCore, zab::Mutation::kPendingForgottenAtRestart},
      {"guest_counted", Mutant::kCore, zab::Mutation::kGuestCounted},
      {"membership_not_cut_with_log", Mutant::kCore, zab::Mutation::kMembershipNotCutWithLog},
      {"snapshot_without_membership", Mutant::kCore, zab::Mutation::kSnapshotWithoutMembership},
      {"window_forgotten", Mutant::kTree, zab::Mutation::kNone, tree::Mutation::kWindowForgotten},
      {"window_too_short", Mutant::kTree, zab::Mutation::kNone, tree::Mutation::kWindowTooShort},
      {"first_answer_lost", Mutant::kTree, zab::Mutation::kNone, tree::Mutation::kFirstAnswerLost},
      {"window_not_kept", Mutant::kTree, zab::Mutation::kNone, tree::Mutation::kWindowNotKept},
#endif
  };
  return mutants;
}

void activate(const MutantName& mutant) {
#ifdef COORD_MUTANTS
  zab::active_mutation = mutant.core;
  tree::active_mutation = mutant.tree;
#else
  static_cast<void>(mutant);
#endif
}

const MutantName* find_mutant(const std::string& name) {
  for (const MutantName& mutant : all_mutants()) {
    if (mutant.name == name) return &mutant;
  }
  return nullptr;
}

}  // namespace coord::sim
