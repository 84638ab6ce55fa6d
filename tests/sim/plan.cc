#include "tests/sim/plan.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace coord::sim {

namespace {

enum class Fault {
  kCrash, kPowerCutAll, kBoot, kPause, kPartition, kOneWay, kBridge, kRing, kFlap, kHeal, kReset, kDuplicateDial,
  kSlowNetwork, kStallDisk, kSlowDisk, kSyncError, kFull, kFlipBit, kWipe, kStarve, kResign, kCount,
};

class Plan {
 public:
  Plan(World& world, const RunOptions& options) : world_(world), random_(options.seed ^ 0x517cc1b727220a95ULL) {
    for (int& weight : weights_) weight = random_.chance(0.5) ? static_cast<int>(random_.between(1, 10)) : 0;
    weight(Fault::kCrash) = static_cast<int>(random_.between(2, 12));
    weight(Fault::kBoot) = static_cast<int>(random_.between(4, 16));
    weight(Fault::kHeal) = static_cast<int>(random_.between(3, 12));
    if (weight(Fault::kWipe) > 0) weight(Fault::kWipe) = 1;
    if (weight(Fault::kFlipBit) > 0) weight(Fault::kFlipBit) = 1;
    if (weight(Fault::kFull) > 0) weight(Fault::kFull) = 1;
    every_us_ = random_.between(60, 1500) * kMs;
    write_us_ = random_.between(2, 150) * kMs;
    crash_at_step_ = random_.chance(0.5) ? 0.0005 * static_cast<double>(random_.between(1, 30)) : 0;
    crash_in_actions_ = random_.chance(0.3) ? 0.0002 : 0;
    if (world_.options().writes_list && random_.chance(0.9)) change_us_ = random_.between(100, 3000) * kMs;
  }

  void run(std::int64_t ms) {
    world_.on_stage = [this](Sid sid, Stage) { return crash_here(sid, crash_at_step_); };
    world_.on_action = [this](Sid sid) { return crash_here(sid, crash_in_actions_); };
    world_.on_storage_error = [this](Sid sid) { boot_later(sid); };
    for (const Sid sid : world_.all()) {
      if (random_.chance(0.2)) {
        const double rate = 1.0 + static_cast<double>(random_.between(-50, 50)) / 1000;
        world_.node(sid).set_clock(random_.between(0, 100'000'000) * kMs, rate);
      }
      if (random_.chance(0.9)) world_.boot(sid.value);
      else boot_later(sid);
    }
    active_ = true;
    next_fault();
    next_write();
    if (change_us_ != 0) next_change();
    world_.run_for(ms);
    active_ = false;
  }

 private:
  int& weight(Fault fault) { return weights_[static_cast<std::size_t>(fault)]; }

  bool crash_here(Sid sid, double probability) {
    if (!active_ || probability == 0 || !random_.chance(probability)) return false;
    world_.node(sid).crash(random_.chance(0.7));
    boot_later(sid);
    return true;
  }

  void boot_later(Sid sid) {
    const std::int64_t wait = random_.chance(0.5) ? random_.between(1, 300) : random_.between(300, 5000);
    world_.scheduler().after(wait * kMs, [this, sid] {
      if (active_) world_.boot(sid.value);
    });
  }

  void next_write() {
    world_.scheduler().after(random_.heavy(write_us_), [this] {
      if (!active_) return;
      const std::size_t burst = random_.chance(0.1) ? random_.below(30) : 1;
      for (std::size_t i = 0; i < burst; ++i) {
        Node& one = any();
        if (one.up()) one.propose(random_.chance(0.05) ? random_.below(4000) : random_.below(80));
      }
      if (random_.chance(0.1)) any().confirm();
      for (const Sid sid : world_.all()) {
        if (random_.chance(0.05)) world_.node(sid).confirm();
      }
      next_write();
    });
  }

  void next_fault() {
    world_.scheduler().after(random_.heavy(every_us_), [this] {
      if (!active_) return;
      strike();
      next_fault();
    });
  }

  // --- administrators

  void next_change() {
    world_.scheduler().after(random_.heavy(change_us_), [this] {
      if (!active_) return;
      administer();
      next_change();
    });
  }

  void administer() {
    const zab::Membership& members = world_.members();
    if (members.version == Zxid{}) return;
    const Sid one = random_server();
    const bool retired = world_.retired(one);
    world_.note("admin", one.value, retired ? 1 : 0, members.version.value);
    if (retired) {
      // Its old disk may be of use, and is only emptied when it is not.
      const bool empty = random_.chance(0.6) && world_.is_dispensable(one);
      return world_.enlist(one.value, random_.chance(0.2), empty);
    }
    if (!members.is_member(one)) {
      if (random_.chance(0.15) && world_.is_dispensable(one)) return world_.retire(one.value);
      return ask(one, random_.chance(0.8) ? Node::Part::kVoter : Node::Part::kObserver);
    }
    const bool voter = members.voters.contains(one);
    if (random_.chance(0.35)) return ask(one, voter ? Node::Part::kObserver : Node::Part::kVoter);
    if (voter && members.voters.size() <= 2 && random_.chance(0.8)) return;
    ask(one, std::nullopt);
  }

  // Those that lost their disk are more often the ones to be replaced, and the leader more often than the others.
  Sid random_server() {
    const auto last = static_cast<std::int64_t>(world_.servers().size());
    if (!world_.lost.empty() && random_.chance(0.3)) return *world_.lost.begin();
    if (Node* const leader = world_.leader(); leader != nullptr && random_.chance(0.15)) return leader->sid();
    return Sid{static_cast<std::uint32_t>(random_.between(1, last))};
  }

  void ask(Sid sid, std::optional<Node::Part> part) {
    Node* const leader = world_.leader();
    if (leader == nullptr) return;
    // Without a majority of disks no list lives, and a leader may not have noticed yet that one died.
    std::set<Sid> voters = world_.members().voters;
    voters.erase(sid);
    std::size_t lost = 0;
    for (const Sid voter : voters) lost += world_.lost.contains(voter) ? 1U : 0U;
    if (part == Node::Part::kVoter) voters.insert(sid);
    if (lost * 2 >= voters.size()) return;
    const bool taken = leader->reconfig(sid, part);
    world_.note("change", sid.value, part ? static_cast<std::uint64_t>(*part) + 1 : 0, taken ? 1 : 0);
  }

  Node& any() {
    const std::vector<Sid> all = world_.all();
    return world_.node(all[random_.below(all.size())]);
  }
  // The leader more often than chance would have it.
  Node& victim() {
    Node* const leader = world_.leader();
    return leader != nullptr && random_.chance(0.4) ? *leader : any();
  }

  void strike() {
    int total = 0;
    for (const int weight : weights_) total += weight;
    auto at = static_cast<int>(random_.below(static_cast<std::uint64_t>(total)));
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      at -= weights_[i];
      if (at < 0) return strike(static_cast<Fault>(i));
    }
  }

  void strike(Fault fault) {
    Node& one = victim();
    const std::uint32_t sid = one.sid().value;
    world_.note("fault", static_cast<std::uint64_t>(fault), sid, 0);
    switch (fault) {
      case Fault::kCrash:
        one.crash(random_.chance(0.6));
        return boot_later(one.sid());
      case Fault::kPowerCutAll:
        world_.power_cut();
        for (const Sid other : world_.all()) boot_later(other);
        return;
      case Fault::kBoot: return boot_all();
      case Fault::kPause: return pause(one);
      case Fault::kPartition: return partition();
      case Fault::kOneWay: return world_.network().block(one.sid(), any().sid(), true);
      case Fault::kBridge: return bridge();
      case Fault::kRing: return ring();
      case Fault::kFlap: return flap(one.sid(), any().sid(), 6);
      case Fault::kHeal: return world_.heal();
      case Fault::kReset: return world_.network().reset_some(one.sid(), any().sid());
      case Fault::kDuplicateDial: return world_.network().duplicate_dial(one.sid(), any().sid());
      case Fault::kSlowNetwork: return slow_network();
      case Fault::kStallDisk:
        return one.disk().stall_until(world_.scheduler().now_us() + random_.between(100, 3000) * kMs);
      case Fault::kSlowDisk: return one.disk().slow(random_.between(1, 40));
      case Fault::kSyncError: return one.disk().fail_next_sync();
      case Fault::kFull: return fill(one);
      case Fault::kFlipBit: return flip(one);
      case Fault::kWipe: return wipe(one);
      case Fault::kStarve: return starve(one);
      case Fault::kResign: return one.resign();
      case Fault::kCount: return;
    }
  }

  void boot_all() {
    for (const Sid sid : world_.all()) world_.boot(sid.value);
  }

  void pause(Node& one) {
    one.pause();
    const std::int64_t wait = random_.chance(0.8) ? random_.between(10, 1500) : random_.between(1500, 20'000);
    world_.scheduler().after(wait * kMs, [&one] { one.resume(); });
  }

  void partition() {
    std::set<std::uint32_t> side;
    for (const Sid sid : world_.all()) {
      if (random_.chance(0.4)) side.insert(sid.value);
    }
    world_.partition(side);
  }

  // Two halves that see each other through one server only.
  void bridge() {
    const Sid middle = any().sid();
    for (const Sid a : world_.all()) {
      for (const Sid b : world_.all()) {
        if (a != middle && b != middle && (a.value % 2) != (b.value % 2)) world_.network().block(a, b, true);
      }
    }
  }

  void ring() {
    const std::vector<Sid> all = world_.all();
    for (std::size_t i = 0; i < all.size(); ++i) {
      for (std::size_t j = 0; j < all.size(); ++j) {
        const std::size_t apart = (j + all.size() - i) % all.size();
        if (apart > 1 && apart + 1 < all.size()) world_.network().block(all[i], all[j], true);
      }
    }
  }

  void flap(Sid a, Sid b, int left) {
    if (!active_ || left == 0) return;
    world_.network().block(a, b, left % 2 == 0);
    world_.network().block(b, a, left % 2 == 0);
    if (left % 2 == 0) world_.network().reset_some(a, b);
    world_.scheduler().after(random_.between(20, 800) * kMs, [this, a, b, left] { flap(a, b, left - 1); });
  }

  void slow_network() {
    world_.network().slow(random_.between(1, 60));
    world_.scheduler().after(random_.between(100, 2000) * kMs, [this] { world_.network().slow(1); });
  }

  void fill(Node& one) {
    const std::int64_t ms = random_.between(500, 4000);
    const bool waits = ms % 2 == 0;  // or ends
    waits ? one.disk().starve(true) : one.disk().fill(true);
    if (waits) one.disk().low(ms % 4 == 0);  // and for longer than it has none
    world_.scheduler().after(ms * kMs, [&one, waits] { waits ? one.disk().starve(false) : one.disk().fill(false); });
    world_.scheduler().after(2 * ms * kMs, [&one] { one.disk().low(false); });
  }

  void starve(Node& one) {
    one.starve_ticks(random_.between(20, 900) * kMs);
    world_.scheduler().after(random_.between(200, 3000) * kMs, [&one] { one.starve_ticks(20 * kMs); });
  }

  // Of a minority only, and of those that the replicated state of every voter knows: before that nobody could tell.
  bool may_lose(const Node& one) const {
    const zab::Membership& members = world_.members();
    if (!world_.members_settled()) return false;
    std::set<Sid> gone = world_.lost;
    gone.insert(one.sid());
    std::erase_if(gone, [&](Sid sid) { return !members.voters.contains(sid); });
    if (gone.size() * 2 >= members.voters.size()) return false;
    for (const Sid sid : members.voters) {
      const Tree& tree = world_.node(sid).disk().durable().tree;
      if (world_.lost.contains(sid)) continue;
      if (tree.members.version != members.version) return false;
      for (const Sid voter : members.voters) {
        if (!tree.enrolled.contains(voter)) return false;
      }
    }
    return true;
  }

  void flip(Node& one) {
    if (!may_lose(one)) return;
    one.crash(true);
    one.disk().flip_bit();
    world_.lost.insert(one.sid());
    boot_later(one.sid());
  }

  void wipe(Node& one) {
    if (!may_lose(one)) return;
    one.crash(true);
    world_.wipe(one.sid().value);
    boot_later(one.sid());
  }

  World& world_;
  Random random_;
  std::vector<int> weights_ = std::vector<int>(static_cast<std::size_t>(Fault::kCount));
  std::int64_t every_us_;
  std::int64_t write_us_;
  std::int64_t change_us_ = 0;  // 0: there are no administrators
  double crash_at_step_;
  double crash_in_actions_;
  bool active_ = false;
};

WorldOptions draw(const RunOptions& run) {
  Random random(run.seed ^ 0x2545f4914f6cdd1dULL);
  WorldOptions options;
  options.seed = run.seed;
  options.mutant = run.mutant;
  options.trace = run.trace;
  const std::uint64_t size = random.below(20);
  options.voters = size < 12 ? 3 : size < 18 ? 5 : size < 19 ? 4 : 2;
  options.observers = random.chance(0.3) ? static_cast<int>(random.between(1, 2)) : 0;
  options.writes_list = random.chance(0.6);
  options.spares = options.writes_list ? static_cast<int>(random.between(0, 2)) : 0;
  options.log_keep = random.chance(0.5) ? random.below(40) : 1000;
  options.fold_every = static_cast<std::uint64_t>(random.between(1, 40));
  options.counter_max = random.chance(0.1) ? static_cast<std::uint32_t>(random.between(2, 60)) : 0xf0000000;
  options.disk_us = random.chance(0.2) ? random.between(5000, 30'000) : random.between(100, 3000);
  options.network_us = random.chance(0.1) ? random.between(5000, 15'000) : random.between(50, 800);
  if (random.chance(0.2)) {
    // What a snapshot leaves to be sent behind it has to fit: as with the real limits, it is what may be outstanding.
    options.limits.diff_bytes = 30'000 + random.below(100'000);
    options.limits.outstanding_bytes = 15'000;
  }
  if (random.chance(0.2)) options.limits.read_chunk_bytes = random.below(300) + 1;
  if (random.chance(0.2)) options.limits.tail_bytes = random.below(500);
  if (random.chance(0.1)) options.limits.outstanding_entries = random.below(20) + 1;
  if (random.chance(0.1)) options.limits.learner_window_bytes = 20'000 + random.below(50'000);
  return options;
}

}  // namespace

Outcome run_seed(const RunOptions& run) {
  World world(draw(run));
  Outcome outcome;
  Random random(run.seed ^ 0x9216d5d98979fb1bULL);
  try {
    Plan plan(world, run);
    plan.run(random.between(5'000, 30'000));
    world.calm();
  } catch (const Violation& violation) {
    outcome.good = false;
    outcome.violation = violation.what();
  }
  outcome.hash = world.hash();
  outcome.steps = world.scheduler().steps();
  outcome.simulated_ms = world.now_ms();
  outcome.transactions = world.ghost().history_size();
  outcome.leaders = world.ghost().established_count();
  outcome.changes = world.ghost().changes();
  for (const Sid sid : world.servers()) {
    outcome.snapshots += world.node(sid).snapshots_installed();
    outcome.answers += world.node(sid).answered();
    outcome.confirmations += world.node(sid).confirmed();
  }
  return outcome;
}

}  // namespace coord::sim
