// coord-check FILE...: judges histories. Exit status 0: all good; 1: a violation; 2: no verdict, or bad input.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>

#include "tests/history/checker.h"
#include "tests/history/json.h"

namespace {

using namespace coord::history;

// Files of several processes of one run are one history: ids are per file, and are made distinct here.
int check_histories(const std::vector<std::string>& files, const Options& options, bool merge) {
  int worst = 0;
  History all;
  const auto judge = [&](const History& history, const std::string& name) {
    const Verdict verdict = check(history, options);
    std::cout << name << ": " << explain(history, verdict) << '\n';
    const int status = verdict.outcome == Outcome::kOk ? 0 : verdict.outcome == Outcome::kViolation ? 1 : 2;
    worst = worst == 1 || status == 1 ? 1 : std::max(worst, status);
  };
  for (std::size_t i = 0; i < files.size(); ++i) {
    std::ifstream in(files[i]);
    History history;
    const auto read = in ? read_json_lines(in, history) : coord::Result<void, coord::Fault>(
                                                              coord::fail(coord::Fault{"cannot be opened"}));
    if (!read) {
      std::cerr << files[i] << ": " << read.error().message << '\n';
      return worst == 1 ? 1 : 2;
    }
    if (!merge) {
      judge(history, files[i]);
      continue;
    }
    for (Record r : history.records()) {
      r.id = r.id * files.size() + i;
      all.add(std::move(r));
    }
  }
  if (merge) judge(all, files[0] + " and " + std::to_string(files.size() - 1) + " more");
  return worst;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Judges histories of a coordination service: JSON lines, tests/history/README.md.");
  std::vector<std::string> files;
  double seconds = 60;
  double lag = 0;
  double slack = 0;
  bool merge = false;
  bool refusals_without_zxid = false;
  bool unordered = false;
  app.add_option("FILE", files, "histories")->required();
  app.add_flag("--merge", merge, "the files are parts of one history, by one clock");
  app.add_option("--deadline", seconds, "seconds for each history; past it there is no verdict (exit status 2)")
      ->capture_default_str();
  app.add_option("--touch-lag", lag, "seconds in which a replica may serve reads before the leader knows");
  app.add_option("--expiry-slack", slack, "seconds forgiven to an early expiry");
  app.add_flag("--refusals-without-zxid", refusals_without_zxid, "a refused write has no transaction of its own");
  app.add_flag("--unordered-sessions", unordered, "requests of a session are not recorded in the order of sending");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  Options options;
  options.deadline = std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
  options.steps_max = ~std::uint64_t{0};
  options.touch_lag_ns = static_cast<std::int64_t>(lag * 1e9);
  options.expiry_slack_ns = static_cast<std::int64_t>(slack * 1e9);
  options.refused_writes_take_zxid = !refusals_without_zxid;
  options.replies_in_order = !unordered;
  return check_histories(files, options, merge);
}
