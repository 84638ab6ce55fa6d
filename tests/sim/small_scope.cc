#include "tests/sim/small_scope.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "tests/sim/world.h"

namespace coord::sim {

namespace {

// So that a failed check of the code under test says where it happened.
char running[200];
void say_running(int) {
  static_cast<void>(!::write(2, "small scope: --faults ", 22));
  static_cast<void>(!::write(2, running, std::strlen(running)));
  static_cast<void>(!::write(2, "\n", 1));
  ::signal(SIGABRT, SIG_DFL);
}

class Run {
 public:
  Run(const std::vector<Placed>& faults, WorldOptions options) : faults_(faults), world_(std::move(options)) {}

  SmallRun go() {
    SmallRun result;
    world_.on_stage = [this](Sid sid, Stage stage) { return at_stage(sid, stage); };
    world_.network().hold(
        [this](Sid from, Sid to, const zab::Message& message) { return at_message(from, to, message); });
    try {
      for (const Sid sid : world_.all()) world_.boot(sid.value);
      world_.run_until([this] { return world_.leader() != nullptr; }, 1500);
      for (int i = 0; i < 3; ++i) {
        if (Node* const leader = world_.leader()) leader->propose(8);
        world_.run_for(2);
      }
      world_.run_for(100);
      world_.calm();
    } catch (const Violation& violation) {
      result.violation = violation.what();
    }
    result.moments = moment_;
    return result;
  }

 private:
  int next() {
    const std::size_t now = moment_++;
    if (placed_ < faults_.size() && faults_[placed_].moment == now) return faults_[placed_++].kind;
    return 0;
  }

  void die(Sid sid, bool power_cut, std::int64_t back_ms) {
    world_.crash(sid.value, power_cut);
    world_.scheduler().after(back_ms * 1000, [this, sid] { world_.boot(sid.value); });
  }

  bool at_stage(Sid sid, Stage stage) {
    if (stage != Stage::kPagesWritten && stage != Stage::kRootWritten && stage != Stage::kDurable) return false;
    const int kind = next();
    if (kind == 0) return false;
    die(sid, kind != 3, kind == 2 ? 700 : 5);
    return true;
  }

  bool at_message(Sid from, Sid to, const zab::Message& message) {
    const bool matters = !std::holds_alternative<zab::Notification>(message) &&
                         !std::holds_alternative<zab::Ping>(message) && !std::holds_alternative<zab::Pong>(message) &&
                         !std::holds_alternative<zab::Passed>(message) && !std::holds_alternative<zab::Bye>(message);
    const int kind = matters ? next() : 0;
    if (kind == 0) return false;
    if (kind == 3) {
      world_.block(from.value, to.value);
      world_.block(to.value, from.value);
      world_.scheduler().after(800'000, [this, from, to] {
        world_.block(from.value, to.value, false);
        world_.block(to.value, from.value, false);
      });
      return true;
    }
    world_.scheduler().after(0, [this, to, kind] { die(to, true, kind == 2 ? 700 : 5); });
    return false;
  }

  const std::vector<Placed>& faults_;
  std::size_t placed_ = 0;
  std::size_t moment_ = 0;
  World world_;
};

void descend(const SmallScope& scope, std::vector<Placed>& faults, Mutant mutant, SmallResult& result) {
  const SmallRun run = run_small(faults, mutant);
  ++result.runs;
  if (!run.violation.empty()) {
    result.violation = run.violation + "; replay: coord-sim --faults " + spell(faults) + " --trace";
    return;
  }
  const std::size_t depth = faults.size();
  if (static_cast<int>(depth) >= scope.faults) return;
  const std::size_t from = faults.empty() ? 0 : faults.back().moment + 1;
  const std::size_t to = std::min(run.moments, from + scope.windows[std::min(depth, scope.windows.size() - 1)]);
  for (std::size_t moment = from; moment < to; ++moment) {
    if (depth == 0 && moment % scope.parts != scope.part) continue;
    for (int kind = 1; kind <= kPlacedKinds && result.violation.empty(); ++kind) {
      faults.push_back({moment, kind});
      descend(scope, faults, mutant, result);
      faults.pop_back();
    }
  }
}

}  // namespace

SmallRun run_small(const std::vector<Placed>& faults, Mutant mutant, bool trace) {
  const std::string text = spell(faults);
  std::strncpy(running, text.c_str(), sizeof running - 1);
  ::signal(SIGABRT, say_running);
  WorldOptions options;
  options.fixed = true;
  options.mutant = mutant;
  options.trace = trace;
  return Run(faults, options).go();
}

SmallResult explore(const SmallScope& scope, Mutant mutant) {
  SmallResult result;
  std::vector<Placed> faults;
  descend(scope, faults, mutant, result);
  return result;
}

std::string spell(const std::vector<Placed>& faults) {
  std::string text;
  for (const Placed& fault : faults) {
    text += (text.empty() ? "" : ",") + std::to_string(fault.moment) + ":" + std::to_string(fault.kind);
  }
  return text.empty() ? "none" : text;
}

std::vector<Placed> parse_placed(const std::string& text) {
  std::vector<Placed> faults;
  std::istringstream in(text);
  Placed one;
  char colon = 0, comma = 0;
  while (in >> one.moment >> colon >> one.kind) {
    faults.push_back(one);
    in >> comma;
  }
  return faults;
}

}  // namespace coord::sim
