#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string>

#include "tests/sim/replica/world.h"

namespace coord::sim {
namespace {

constexpr std::uint64_t kSeeds = 4;

std::string run_here(std::uint64_t seed) {
  const Outcome outcome = run_replica_seed(seed, false);
  EXPECT_TRUE(outcome.good) << "seed " << seed << ": " << outcome.violation;
  std::array<char, 64> line{};
  std::snprintf(line.data(), line.size(), "%016llx %llu\n", static_cast<unsigned long long>(outcome.hash),
                static_cast<unsigned long long>(outcome.steps));
  return line.data();
}

// Another process has other addresses.
std::string run_elsewhere(std::uint64_t seed) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  FILE* const out = ::popen(("'" + program + "' --hash " + std::to_string(seed)).c_str(), "r");
  if (out == nullptr) return "no process";
  std::string said;
  std::array<char, 256> buffer{};
  while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), out) != nullptr) said += buffer.data();
  EXPECT_EQ(::pclose(out), 0) << said;
  return said;
}

TEST(Determinism_of_replicas, The_same_seed_is_the_same_run_in_one_process) {
  std::set<std::string> runs;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const std::string once = run_here(seed);
    EXPECT_EQ(once, run_here(seed)) << "seed " << seed;
    runs.insert(once);
  }
  EXPECT_EQ(runs.size(), kSeeds) << "seeds differ";
}

TEST(Determinism_of_replicas, The_same_seed_is_the_same_run_in_two_processes) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const std::string once = run_elsewhere(seed);
    EXPECT_EQ(once, run_elsewhere(seed)) << "seed " << seed;
    EXPECT_EQ(once, run_here(seed)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace coord::sim
