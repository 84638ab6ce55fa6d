#include <gtest/gtest.h>

#include "tests/sim/plan.h"

namespace coord::sim {
namespace {

TEST(Determinism, The_same_seed_is_the_same_run) {
  std::set<std::uint64_t> hashes;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Outcome once = run_seed({seed});
    const Outcome again = run_seed({seed});
    EXPECT_EQ(once.hash, again.hash) << "seed " << seed;
    EXPECT_EQ(once.steps, again.steps) << "seed " << seed;
    hashes.insert(once.hash);
  }
  EXPECT_EQ(hashes.size(), 20u) << "seeds differ";
}

}  // namespace
}  // namespace coord::sim
