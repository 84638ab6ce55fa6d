// Deliberate faults of the implementation, one at a time, to see that the simulator finds each: switches in the
// simulated shells (disk, driver), and, in coord-sim-mutants, in the core itself (replica/zab/mutation.h) and in the
// rules of the tree (replica/tree/mutation.h), which only layer 2 has: whole replicas and their clients.
#pragma once

#include <string>
#include <vector>

#include "replica/tree/mutation.h"
#include "replica/zab/mutation.h"

namespace coord::sim {

enum class Mutant {
  kNone,
  // the disk
  kFsyncSkipped,      // pages are reported durable from the page cache, and so is the root
  kRootBeforePages,   // the first of the two barriers is missing
  kRootNotAwaited,    // reported durable when the pages are, before the root is written
  kTruncationLost,    // TRUNC is not carried out
  kSnapshotInPieces,  // the staged snapshot, the entries behind it and the epoch become durable one by one
  // the driver
  kAckBeforeSync,        // Persisted is reported on submission
  kEpochBeforeData,      // currentEpoch is written in a transaction of its own, before the entries
  kPromiseNotPersisted,  // acceptedEpoch is kept in memory
  kApplyUncommitted,     // entries are applied as they are appended
  kReplyAtProposal,      // the client is answered when its write has been proposed
  kHintAhead,            // the commit hint is the end of the log
  kDiffWithHole,         // ReadLog leaves an entry out
  kSnapshotOfMemory,     // a snapshot is labelled with a later zxid than its content
  kDirectoryIdKept,      // a lost disk comes back under its old directory id
  kDamageForgotten,      // a salvaged store says that it is whole
  kPurgeUnapplied,       // the log is purged above the durable tree
  kEntriesDropped,  // the network loses an entry of a proposal now and then: harmless while the core checks the chain
  // the core, see replica/zab/mutation.h
  kCore,
  // the tree, see replica/tree/mutation.h
  kTree,
};

struct MutantName {
  std::string name;
  Mutant mutant;
  zab::Mutation core = zab::Mutation::kNone;
  tree::Mutation tree = tree::Mutation::kNone;
  bool needs_replicas() const { return mutant == Mutant::kTree; }  // found by layer 2 alone
};
const std::vector<MutantName>& all_mutants();
// From now on, in this process. Those of core and tree need a build with COORD_MUTANTS.
void activate(const MutantName& mutant);
// nullptr: there is none of this name.
const MutantName* find_mutant(const std::string& name);

}  // namespace coord::sim
