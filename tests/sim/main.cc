// coord-sim: the deterministic simulator of whole ensembles, for long runs and for replaying a seed.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "tests/sim/campaign.h"
#include "tests/sim/mutants.h"
#include "tests/sim/plan.h"
#include "tests/sim/small_scope.h"
#ifdef COORD_SIM_REPLICA
#include "tests/sim/replica/world.h"
#endif

namespace {

using namespace coord::sim;

#ifdef COORD_SIM_REPLICA
constexpr bool kHasReplicaLayer = true;
#else
constexpr bool kHasReplicaLayer = false;
#endif

Outcome run_one(const RunOptions& run, [[maybe_unused]] bool replica) {
#ifdef COORD_SIM_REPLICA
  if (replica) return run_replica_seed(run.seed, run.trace);
#endif
  return run_seed(run);
}

void print(const Outcome& outcome, std::uint64_t seed) {
  std::printf("seed %llu: %s; hash %016llx, %.1f simulated s, %llu steps, %zu transactions, %zu leaders, "
              "%llu changes of members\n",
              static_cast<unsigned long long>(seed), outcome.good ? "good" : ("VIOLATION " + outcome.violation).c_str(),
              static_cast<unsigned long long>(outcome.hash), static_cast<double>(outcome.simulated_ms) / 1000,
              static_cast<unsigned long long>(outcome.steps), outcome.transactions, outcome.leaders,
              static_cast<unsigned long long>(outcome.changes));
}

void print(const Summary& summary, const std::string& suffix, bool small) {
  for (const Failure& failure : summary.failures) {
    std::printf("seed %llu: VIOLATION %s", static_cast<unsigned long long>(failure.seed), failure.what.c_str());
    if (!small) {
      std::printf("; replay: coord-sim --seed %llu --trace", static_cast<unsigned long long>(failure.seed));
    }
    std::printf("%s\n", suffix.c_str());
  }
  std::printf(
      "%llu seeds, %zu violations, %.1f seeds/s; %.0f simulated s, %llu steps, %llu transactions, %llu leaders, "
      "%llu snapshots, %llu answers, %llu confirmations, %llu changes of members\n",
      static_cast<unsigned long long>(summary.seeds), summary.failures.size(),
      static_cast<double>(summary.seeds) / summary.seconds, static_cast<double>(summary.simulated_ms) / 1000,
      static_cast<unsigned long long>(summary.steps), static_cast<unsigned long long>(summary.transactions),
      static_cast<unsigned long long>(summary.leaders), static_cast<unsigned long long>(summary.snapshots),
      static_cast<unsigned long long>(summary.answers), static_cast<unsigned long long>(summary.confirmations),
      static_cast<unsigned long long>(summary.changes));
}

// Every placement of up to `faults` faults, in as many parts as there are seeds asked for.
Outcome run_part(const RunOptions& run, int faults, std::uint64_t part, std::uint64_t parts) {
  SmallScope scope;
  scope.faults = faults;
  scope.part = part;
  scope.parts = parts;
  const SmallResult result = explore(scope, run.mutant);
  Outcome outcome;
  outcome.good = result.violation.empty();
  outcome.violation = result.violation;
  outcome.steps = result.runs;
  return outcome;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Simulates ensembles of replicas under faults, one per seed, and checks what must hold."};
  std::string seeds = "1..100";
  std::uint64_t seed = 0;
  std::string mutant_name;
  std::string layer = "core";
  std::string faults;
  int jobs = 1;
  int small = 0;
  bool trace = false, keep_going = false, list = false;
  app.add_option("--seeds", seeds, "A..B, both included");
  app.add_option("--seed", seed, "just this one");
  app.add_flag("--trace", trace, "print every event");
  app.add_option("--mutant", mutant_name, "with this fault built in");
  app.add_flag("--mutants", list, "their names");
  app.add_option("--layer", layer, "core: the protocol with a small driver; replica: whole replicas and their clients")
      ->check(CLI::IsMember(kHasReplicaLayer ? std::vector<std::string>{"core", "replica"}
                                             : std::vector<std::string>{"core"}));
  app.add_option("--small-scope", small, "every placement of up to so many faults on three servers, instead of seeds")
      ->check(CLI::Range(1, 4));
  app.add_option("--faults", faults, "replay one of those: MOMENT:KIND,...");
  app.add_option("--jobs", jobs, "processes")->check(CLI::Range(1, 64));
  app.add_flag("--keep-going", keep_going, "do not stop at the first violation");
  CLI11_PARSE(app, argc, argv);

  if (list) {
    for (const MutantName& one : all_mutants()) std::printf("%s\n", one.name.c_str());
    return 0;
  }
  RunOptions run;
  std::string suffix;
  if (!mutant_name.empty()) {
    const MutantName* const found = find_mutant(mutant_name);
    if (found == nullptr) {
      std::fprintf(stderr, "coord-sim: no mutant '%s', see --mutants\n", mutant_name.c_str());
      return 2;
    }
    run.mutant = found->mutant;
    activate(*found);
    if (found->needs_replicas()) layer = "replica";
    suffix = " --mutant " + mutant_name;
  }
  if (!faults.empty()) {
    const SmallRun result = run_small(parse_placed(faults), run.mutant, trace);
    std::printf("%zu moments; %s\n", result.moments, result.violation.empty() ? "good" : result.violation.c_str());
    return result.violation.empty() ? 0 : 1;
  }
  if (seed != 0) {
    run.seed = seed;
    run.trace = trace;
    const Outcome outcome = run_one(run, layer == "replica");
    print(outcome, seed);
    return outcome.good ? 0 : 1;
  }
  CampaignOptions campaign;
  const std::size_t dots = seeds.find("..");
  if (dots == std::string::npos || dots == 0 || dots + 2 >= seeds.size()) {
    std::fprintf(stderr, "coord-sim: --seeds takes A..B\n");
    return 2;
  }
  campaign.first = std::stoull(seeds.substr(0, dots));
  campaign.last = std::stoull(seeds.substr(dots + 2));
  campaign.jobs = jobs;
  campaign.keep_going = keep_going;
  if (layer == "replica") suffix += " --layer replica";
  campaign.run = [run, replica = layer == "replica"](std::uint64_t number) {
    RunOptions one = run;
    one.seed = number;
    return run_one(one, replica);
  };
  if (small > 0) {
    const std::uint64_t parts = static_cast<std::uint64_t>(jobs) * 8;
    campaign.first = 1;
    campaign.last = parts;
    campaign.seconds_per_seed = 3600;
    campaign.run = [run, small, parts](std::uint64_t number) { return run_part(run, small, number - 1, parts); };
  }
  const Summary summary = run_campaign(campaign);
  print(summary, suffix, small > 0);
  return summary.failures.empty() ? 0 : 1;
}
