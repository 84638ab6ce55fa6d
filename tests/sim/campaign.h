// Many seeds in several processes; a seed that aborts or hangs is a violation like any other.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/sim/plan.h"

namespace coord::sim {

struct CampaignOptions {
  std::uint64_t first = 1;
  std::uint64_t last = 100;
  int jobs = 1;
  bool keep_going = false;
  int seconds_per_seed = 120;
  std::function<Outcome(std::uint64_t seed)> run;
};

struct Failure {
  std::uint64_t seed = 0;
  std::string what;
};

struct Summary {
  std::uint64_t seeds = 0;
  std::uint64_t simulated_ms = 0;
  std::uint64_t steps = 0;
  std::uint64_t transactions = 0;
  std::uint64_t leaders = 0;
  std::uint64_t snapshots = 0;
  std::uint64_t answers = 0;
  std::uint64_t confirmations = 0;
  std::uint64_t changes = 0;
  double seconds = 0;
  std::vector<Failure> failures;
};

Summary run_campaign(const CampaignOptions& options);

}  // namespace coord::sim
