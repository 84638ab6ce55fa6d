#include "tests/history/checker.h"

#include "tests/history/index.h"
#include "tests/history/json.h"

namespace coord::history {

Verdict check(const History& history, const Options& options) {
  Index x(history, options);
  if (!x.build()) return x.verdict;
  const bool good = check_order(x) && check_sessions(x) && resolve_effects(x) && check_nodes(x) && check_watches(x) &&
                    check_linear(x);
  if (x.verdict.outcome == Outcome::kOk && (!good || x.budget.late())) {
    return {Outcome::kUnknown, "deadline", "the check did not come to an end within its deadline", {}};
  }
  return x.verdict;
}

std::string explain(const History& history, const Verdict& verdict) {
  if (verdict.outcome == Outcome::kOk) return "ok";
  std::string text = verdict.outcome == Outcome::kViolation ? "violation of " : "no verdict: ";
  text += verdict.rule + ": " + verdict.text;
  for (const std::size_t r : verdict.records) {
    text += "\n  record " + std::to_string(r) + ": " + to_json_line(history.records()[r]);
  }
  return text;
}

}  // namespace coord::history
