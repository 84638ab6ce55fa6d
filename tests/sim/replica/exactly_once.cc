#include "tests/sim/replica/exactly_once.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <variant>

#include "replica/tree/txn.h"

namespace coord::sim {

namespace {

struct Carried {
  std::set<std::uint64_t> zxids;      // of all transactions of this number
  std::vector<std::uint64_t> effects;  // of those that change something
};

struct Log {
  std::map<SimMount::Key, Carried> numbers;
  std::map<std::uint64_t, std::int32_t> blocks;  // count by first id
  std::set<std::uint64_t> made;
  std::string violation;
};

bool changes_something(const tree::Txn& txn) {
  return std::any_of(txn.changes.begin(), txn.changes.end(),
                     [](const tree::Change& change) { return !std::holds_alternative<tree::ErrorTxn>(change); });
}

std::string text(const SimMount::Key& key) {
  return "request " + std::to_string(key.second) + " of session " + std::to_string(key.first);
}

void note(Log& log, const tree::Txn& txn, Zxid zxid) {
  for (const tree::Change& change : txn.changes) {
    if (const auto* block = std::get_if<tree::ReserveIdsTxn>(&change)) {
      const bool is_new = log.blocks.try_emplace(block->first.value, block->count).second;
      if (!is_new) log.violation = "a block of node ids is given twice";
    }
    if (const auto* create = std::get_if<tree::CreateTxn>(&change)) {
      const bool is_new = log.made.insert(create->id.value).second;
      if (!is_new) log.violation = "node " + std::to_string(create->id.value) + " is made twice";
    }
  }
  if (txn.seq == 0) return;
  Carried& carried = log.numbers[{txn.session.value, txn.seq}];
  carried.zxids.insert(zxid.value);
  if (changes_something(txn)) carried.effects.push_back(zxid.value);
}

std::string applied_once(const SimMount::Key& key, const Carried& carried) {
  if (carried.effects.size() <= 1) return "";
  return text(key) + " is applied " + std::to_string(carried.effects.size()) + " times, first at " +
         to_string(Zxid(carried.effects[0])) + ", then at " + to_string(Zxid(carried.effects[1]));
}

std::string told_rightly(const SimMount::Key& key, const SimMount::Entry& entry, const Carried& carried) {
  for (const std::uint64_t zxid : entry.zxids) {
    if (!carried.zxids.contains(zxid)) {
      return text(key) + " was answered at " + to_string(Zxid(zxid)) + ", which is no transaction of it";
    }
  }
  if (!entry.answered) return "";
  const std::size_t must = entry.err == Err::kOk ? 1 : 0;
  if (carried.effects.size() != must) {
    return text(key) + " was answered " + std::string(error_name(entry.err)) + " and is applied " +
           std::to_string(carried.effects.size()) + " times";
  }
  const bool names_it = entry.op == wire::Op::kCreateNode || entry.op == wire::Op::kSetNodeData;
  if (must == 1 && names_it && entry.mzxid != carried.effects[0]) {
    return text(key) + " was answered with a node of " + to_string(Zxid(entry.mzxid)) + " and is applied at " +
           to_string(Zxid(carried.effects[0]));
  }
  return "";
}

}  // namespace

ExactlyOnce judge_exactly_once(const std::vector<store::LogEntry>& history,
                               const std::vector<const SimMount*>& mounts) {
  ExactlyOnce result;
  Log log;
  for (const store::LogEntry& entry : history) {
    const std::optional<tree::Txn> txn = tree::decode(*entry.payload);
    if (!txn) {
      result.violation = "a transaction in the log cannot be decoded";
      return result;
    }
    note(log, *txn, entry.zxid);
  }
  result.violation = log.violation;
  std::uint64_t given_below = 0;
  for (const auto& [first, count] : log.blocks) {
    if (first < given_below) result.violation = "blocks of node ids overlap";
    given_below = first + static_cast<std::uint64_t>(count);
  }
  for (const auto& [key, carried] : log.numbers) {
    result.repetitions += carried.zxids.size() - 1;
    if (result.violation.empty()) result.violation = applied_once(key, carried);
  }
  for (const SimMount* mount : mounts) {
    for (const auto& [first, count] : mount->blocks()) {
      const auto at = log.blocks.find(first.value);
      if (at == log.blocks.end() || at->second != count) result.violation = "a block of node ids that nobody gave";
    }
    for (const auto& [key, entry] : mount->entries()) {
      ++(entry.answered ? result.answered : result.unanswered);
      const std::string wrong = told_rightly(key, entry, log.numbers[key]);
      if (!wrong.empty() && result.violation.empty()) result.violation = wrong;
    }
  }
  return result;
}

}  // namespace coord::sim
