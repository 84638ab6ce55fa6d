// What the scripted regressions share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "tests/sim/describe.h"
#include "tests/sim/world.h"

namespace coord::sim {

inline WorldOptions scripted(int voters, int observers = 0) {
  WorldOptions options;
  options.voters = voters;
  options.observers = observers;
  options.fixed = true;
  return options;
}

inline void boot_all(World& world) {
  for (const Sid sid : world.all()) world.boot(sid.value);
}

// Everybody up, a leader, `count` writes, everybody has them.
inline Sid start_with(World& world, int count) {
  boot_all(world);
  world.elect();
  world.write(count);
  world.must(
      [&] {
        for (const Sid sid : world.all()) {
          if (!world.caught_up(sid)) return false;
        }
        return true;
      },
      10'000, "the start");
  world.elect();
  return world.leader()->sid();
}

// One entry that nobody but the present leader has, which dies with it.
inline Zxid log_alone(World& world) {
  const Sid leader = world.elect();
  world.partition({leader.value});
  EXPECT_TRUE(world.node(leader).propose(20));
  const Zxid alone = world.node(leader).peer().last_logged();
  world.must([&] { return world.node(leader).disk().durable().holds(alone); }, 2000, "logging alone");
  return alone;
}

// Kills `victim` when a message like this is about to arrive for the nth time, anywhere.
template <class M>
void kill_at_message(World& world, std::uint32_t victim, int nth, bool power_cut = true) {
  auto left = std::make_shared<int>(nth);
  world.network().hold([&world, victim, left, power_cut](Sid, Sid, const zab::Message& message) {
    if (std::holds_alternative<M>(message) && --*left == 0) {
      world.scheduler().after(1, [&world, victim, power_cut] { world.crash(victim, power_cut); });
    }
    return false;
  });
}

inline void expect_calm(World& world) {
  try {
    world.calm();
  } catch (const Violation& violation) {
    ADD_FAILURE() << violation.what();
  }
}

}  // namespace coord::sim
