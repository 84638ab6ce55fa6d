// The random search: what goes wrong in the run of one seed, and how much is asked of it.
#pragma once

#include <cstdint>
#include <string>

#include "tests/sim/world.h"

namespace coord::sim {

struct Outcome {
  bool good = true;
  std::string violation;
  std::uint64_t hash = 0;
  std::uint64_t steps = 0;
  std::int64_t simulated_ms = 0;
  std::size_t transactions = 0;
  std::size_t leaders = 0;
  std::uint64_t snapshots = 0;
  std::uint64_t answers = 0;
  std::uint64_t confirmations = 0;
  std::uint64_t changes = 0;  // of the members
};

struct RunOptions {
  std::uint64_t seed = 1;
  Mutant mutant = Mutant::kNone;
  bool trace = false;
};

// Never throws: a violation is an outcome. A failed COORD_CHECK of the code under test ends the process.
Outcome run_seed(const RunOptions& options);

}  // namespace coord::sim
