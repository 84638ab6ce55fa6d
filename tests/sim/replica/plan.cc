// The random search over whole replicas.
#include <algorithm>
#include <cstdlib>
#include <set>

#include "tests/sim/replica/world.h"

namespace coord::sim {

namespace {

class Storm {
 public:
  Storm(ReplicaWorld& world, std::uint64_t seed) : world_(world), random_(seed ^ 0x517cc1b727220a95ULL) {
    every_us_ = random_.between(150, 3000) * kMs;
  }

  void run(std::int64_t ms) {
    for (const Sid sid : world_.all()) world_.boot(sid);
    for (auto& client : world_.clients()) client->start();
    active_ = true;
    next();
    world_.run_for(ms);
    active_ = false;
  }

 private:
  void next() {
    world_.scheduler().after(random_.heavy(every_us_), [this] {
      if (!active_) return;
      strike();
      next();
    });
  }

  Sid any() {
    const std::vector<Sid> all = world_.all();
    const Sid leader = world_.leader();
    return leader != Sid{} && random_.chance(0.4) ? leader : all[random_.below(all.size())];
  }

  void boot_later(Sid sid) {
    world_.scheduler().after(random_.between(1, 3000) * kMs, [this, sid] {
      if (active_) world_.boot(sid);
    });
  }

  void strike() {
    const Sid one = any();
    const std::uint64_t kind = random_.below(15);
    world_.note("fault", kind, one.value, 0);
    switch (kind) {
      case 0:
      case 1:
        world_.crash(one, random_.chance(0.5));
        return boot_later(one);
      case 2:
        if (!random_.chance(0.3)) return;
        for (const Sid sid : world_.all()) {
          world_.crash(sid, true);
          boot_later(sid);
        }
        return;
      case 3: return world_.pause(one, random_.chance(0.8) ? random_.between(10, 1500) : random_.between(1500, 8000));
      case 4:
      case 5: return partition();
      case 6: return world_.network().block(one, any(), true);
      case 7:
      case 8: return world_.network().heal();
      case 9: return world_.network().reset_some(one, any());
      case 10: return client().leave_connection();
      case 11: return client().pause_for(random_.between(100, 9000));
      case 12:
      case 13: return cut_client();
      default:
        world_.network().slow(random_.between(1, 40));
        return world_.scheduler().after(random_.between(100, 1500) * kMs, [this] { world_.network().slow(1); });
    }
  }

  void partition() {
    std::set<Sid> side;
    for (const Sid sid : world_.all()) {
      if (random_.chance(0.4)) side.insert(sid);
    }
    for (const Sid a : world_.all()) {
      for (const Sid b : world_.all()) {
        if (side.contains(a) != side.contains(b)) world_.network().block(a, b, true);
      }
    }
  }

  // Alone with its replica it waits, or it goes elsewhere while what it sent is still on its way.
  void cut_client() {
    using Direction = ReplicaWorld::Direction;
    SimSession& one = client();
    const Sid replica{std::max(one.replica(), 1U)};
    const std::uint64_t kind = random_.below(4);
    const std::int64_t ms = random_.chance(0.7) ? random_.between(50, 3000) : random_.between(3000, 9000);
    for (const Direction direction : {Direction::kToReplica, Direction::kToClient}) {
      if (kind == (direction == Direction::kToReplica ? 2U : 3U)) continue;
      world_.cut_client(one.number(), replica, direction, true);
      world_.scheduler().after(ms * kMs, [this, number = one.number(), replica, direction] {
        world_.cut_client(number, replica, direction, false);
      });
    }
    if (!random_.chance(0.6)) return;
    world_.scheduler().after(random_.between(1, 400) * kMs, [&one, replica] {
      if (one.replica() == replica.value) one.leave_connection();
    });
  }

  SimSession& client() { return *world_.clients()[random_.below(world_.clients().size())]; }

  ReplicaWorld& world_;
  Random random_;
  std::int64_t every_us_;
  bool active_ = false;
};

ReplicaOptions draw(std::uint64_t seed, bool trace) {
  Random random(seed ^ 0x2545f4914f6cdd1dULL);
  ReplicaOptions options;
  options.seed = seed;
  options.trace = trace;
  options.voters = random.chance(0.7) ? 3 : random.chance(0.9) ? 5 : 1;
  options.observers = random.chance(0.3) ? 1 : 0;
  options.clients = static_cast<int>(random.between(2, 5));
  options.mounts = static_cast<int>(random.between(0, 2));
  options.log_keep = random.chance(0.5) ? 5 + random.below(60) : 100'000;
  options.disk_us = random.between(100, 4000);
  return options;
}

}  // namespace

Outcome run_replica_seed(std::uint64_t seed, bool trace) {
  ReplicaWorld world(draw(seed, trace));
  Outcome outcome;
  Random random(seed ^ 0x9216d5d98979fb1bULL);
  try {
    Storm storm(world, seed);
    storm.run(random.between(5'000, 25'000));
    world.calm();
    world.judge();
  } catch (const Violation& violation) {
    outcome.good = false;
    outcome.violation = violation.what();
  }
  if (const char* const path = std::getenv("COORD_SIM_HISTORY")) world.write_history(path);
  outcome.hash = world.hash();
  outcome.steps = world.scheduler().steps();
  outcome.simulated_ms = world.scheduler().now_us() / 1000;
  outcome.transactions = world.history().records().size();
  for (const auto& client : world.clients()) outcome.answers += client->answers();
  return outcome;
}

}  // namespace coord::sim
