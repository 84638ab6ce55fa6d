// Deliberate faults of the tree's rules, to see that the simulator (tests/sim) finds each; as replica/zab/mutation.h.
// They exist only where COORD_MUTANTS is defined; in production COORD_TREE_MUTANT is the constant false.
#pragma once

namespace coord::tree {

enum class Mutation {
  kNone,
  kWindowForgotten,  // a leader knows only the sequence numbers that it prepared itself
  kWindowTooShort,   // the oldest answer that may still be asked for is dropped
  kFirstAnswerLost,  // a repeated request is answered as if nothing had been kept
  kWindowNotKept,    // the answers do not survive a restart, nor a snapshot
};

#ifdef COORD_MUTANTS
inline Mutation active_mutation = Mutation::kNone;  // one per process
#define COORD_TREE_MUTANT(name) (::coord::tree::active_mutation == ::coord::tree::Mutation::name)
#else
#define COORD_TREE_MUTANT(name) false
#endif

}  // namespace coord::tree
