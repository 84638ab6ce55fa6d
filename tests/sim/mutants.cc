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
  };
  return mutants;
}

const MutantName* find_mutant(const std::string& name) {
  for (const MutantName& mutant : all_mutants()) {
    if (mutant.name == name) return &mutant;
  }
  return nullptr;
}

}  // namespace coord::sim
