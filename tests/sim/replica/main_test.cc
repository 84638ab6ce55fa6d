// The tests of the simulator of whole replicas; and, as `--hash SEED`, the hash of one run, for the test that compares
// two processes.
#include <gtest/gtest.h>

#include <cstdio>
#include <string_view>

#include "tests/sim/replica/world.h"

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--hash") {
    const coord::sim::Outcome outcome = coord::sim::run_replica_seed(std::stoull(argv[2]), false);
    std::printf("%016llx %llu\n", static_cast<unsigned long long>(outcome.hash),
                static_cast<unsigned long long>(outcome.steps));
    return outcome.good ? 0 : 1;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
