// What the scripted tests of whole replicas share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "tests/sim/replica/world.h"

namespace coord::sim {

inline ReplicaOptions scripted_replicas(std::uint64_t seed, int voters = 3) {
  ReplicaOptions options;
  options.seed = seed;
  options.voters = voters;
  options.clients = 2;
  options.mounts = 1;
  return options;
}

// All up, and every client has a few answers.
inline void begin(ReplicaWorld& world) {
  for (const Sid sid : world.all()) world.boot(sid);
  for (auto& client : world.clients()) client->start();
  ASSERT_TRUE(world.run_until(
      [&] {
        return std::all_of(world.clients().begin(), world.clients().end(),
                           [](const auto& client) { return client->answers() > 20; });
      },
      20'000));
}

inline void expect_calm(ReplicaWorld& world) {
  try {
    world.calm();
    world.judge();
  } catch (const Violation& violation) {
    ADD_FAILURE() << violation.what();
  }
}

}  // namespace coord::sim
