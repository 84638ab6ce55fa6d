// The judge of exactly-once: what the mounts were told of their numbered requests against the committed history, which
// is read from the log (book.h) and not from the trees that decided it.
//
//   applied at most once    of the transactions that carry one (session, number), at most one changes anything
//   answered: once          a request that was answered with success has exactly one that does, a refused one none; the
//                           transaction is the one that the answer names
//   told from the history   each reply's zxid is that of a transaction of this session and number
//   given once              blocks of node ids do not overlap, and no node id is made twice
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "replica/store/store.h"
#include "tests/sim/replica/mount.h"

namespace coord::sim {

struct ExactlyOnce {
  std::string violation;        // "": it holds
  std::size_t answered = 0;     // requests
  std::size_t unanswered = 0;   // whose session expired
  std::size_t repetitions = 0;  // transactions beyond the first of their number
};

ExactlyOnce judge_exactly_once(const std::vector<store::LogEntry>& history,
                               const std::vector<const SimMount*>& mounts);

}  // namespace coord::sim
