// What the scripted tests of whole replicas share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "tests/sim/replica/tables.h"
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

inline bool all_serve(ReplicaWorld& world) {
  const std::vector<Sid> all = world.all();
  return std::all_of(all.begin(), all.end(), [&](Sid sid) { return world.serves(sid); });
}

inline bool leads(ReplicaWorld& world, Sid sid) {
  return world.serves(sid) && world.core(sid).peer().role() == zab::Role::kLeading;
}

inline std::vector<Sid> others(ReplicaWorld& world, const std::set<Sid>& but) {
  std::vector<Sid> rest = world.all();
  std::erase_if(rest, [&](Sid sid) { return but.contains(sid); });
  return rest;
}

// Nothing passes between `side` and the rest, in either direction; connections stay, as far as they last.
inline void isolate(ReplicaWorld& world, const std::set<Sid>& side) {
  for (const Sid a : side) {
    for (const Sid b : others(world, side)) {
      world.network().block(a, b, true);
      world.network().block(b, a, true);
    }
  }
}

inline bool in_session_at(const SimSession& client, Sid sid) {
  return client.in_session() && client.replica() == sid.value;
}

// It has its session there, and goes nowhere else.
inline void settle_at(ReplicaWorld& world, SimSession& client, Sid sid) {
  client.stay_with(sid.value);
  if (client.replica() != sid.value) client.leave_connection();
  ASSERT_TRUE(world.run_until([&] { return in_session_at(client, sid); }, 10'000));
}

// At a moment when all that are up have applied the same and nothing is on its way.
inline Tables agreed(ReplicaWorld& world, AtEqualZxid& same) {
  const auto quiet = [&] {
    Zxid last;
    for (const Sid sid : world.all()) {
      if (!world.up(sid)) continue;
      runtime::Core& core = world.core(sid);
      if (!world.serves(sid) || core.outstanding() > 0) return false;
      if (last != Zxid{} && core.tree().last_applied() != last) return false;
      last = core.tree().last_applied();
    }
    return last != Zxid{};
  };
  EXPECT_TRUE(same.run_until(quiet, 20'000)) << "replicas do not come to rest at the same transaction";
  return one_truth(world);
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
