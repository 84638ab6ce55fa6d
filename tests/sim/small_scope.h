// Exhaustive search at a small scope: three servers, three transactions, fixed delays, and every way to put up to four
// faults at the moments that matter: each durable step of each server, each message of the protocol (zab.md section 6:
// this scope shows the known failures).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/mutants.h"

namespace coord::sim {

// At the moment of this number (counted over the run): 1 the server concerned dies there and is back soon, 2 dies and
// is back late, 3 (messages only; else as 1, killed without a power cut) the two are cut off from each other for a
// while.
struct Placed {
  std::size_t moment = 0;
  int kind = 1;
};
inline constexpr int kPlacedKinds = 3;

struct SmallRun {
  std::size_t moments = 0;  // that there were
  std::string violation;    // empty: good
};
SmallRun run_small(const std::vector<Placed>& faults, Mutant mutant = Mutant::kNone,
                   bool trace = false);

struct SmallScope {
  int faults = 2;
  // A fault is placed at most this many moments behind the one before; the first anywhere.
  std::vector<std::size_t> windows = {1000, 12, 6, 4};
  std::size_t part = 0, parts = 1;  // this process takes each parts-th first fault
};
struct SmallResult {
  std::size_t runs = 0;
  std::string violation;  // with the faults that show it, for --faults
};
SmallResult explore(const SmallScope& scope, Mutant mutant = Mutant::kNone);

std::string spell(const std::vector<Placed>& faults);                 // "12:1,30:2"
std::vector<Placed> parse_placed(const std::string& text);

}  // namespace coord::sim
