// Rules on zxids alone: unique transactions, real time, order per session, sequential names.
#include <algorithm>
#include <map>

#include "tests/history/index.h"

namespace coord::history {
namespace {

bool transactions_unique(Index& x) {
  for (std::size_t i = 0; i < x.operations.size(); ++i) {
    const Operation& op = x.operations[i];
    if (op.txn == 0) continue;
    const auto [it, fresh] = x.txns.try_emplace(op.txn, i);
    if (fresh) continue;
    const Operation& other = x.operations[it->second];
    return x.fail("zxid-twice", "two writes were answered with the transaction " + zxid_text(op.txn),
                  {other.inv, other.end, op.inv, op.end});
  }
  return true;
}

bool real_time(Index& x) {
  for (const Operation& op : x.operations) {
    if (op.answer == nullptr || op.zxid == 0) continue;
    if (op.txn != 0 && op.txn <= op.above) {
      return x.fail("real-time", "a write sent after " + zxid_text(op.above) + " had been told became transaction " +
                    zxid_text(op.txn), {op.above_record, op.inv, op.end});
    }
    const Op kind = op.request->op;
    const bool sync_answered = kind == Op::kSyncGet || (kind == Op::kSync && op.status == Status::kOk);
    if (sync_answered && op.zxid < op.above) {
      return x.fail("stale-sync", "a sync sent after " + zxid_text(op.above) + " had been told was answered at " +
                    zxid_text(op.zxid), {op.above_record, op.inv, op.end});
    }
    if (op.sync != kNone && op.zxid < x.operations[op.sync].above) {
      const Operation& sync = x.operations[op.sync];
      return x.fail("stale-sync", "a read behind a sync that was sent after " + zxid_text(sync.above) +
                    " had been told was answered at " + zxid_text(op.zxid),
                    {sync.above_record, sync.inv, op.inv, op.end});
    }
  }
  return true;
}

struct SessionWalk {
  std::uint64_t last = 0;
  std::size_t last_record = kNone;
  std::size_t answered = kNone;  // operation answered last
};

bool replies_of_sessions(Index& x) {
  std::unordered_map<std::int64_t, SessionWalk> walks;
  for (const std::size_t r : x.order) {
    const Record& record = x.records[r];
    if (record.session == 0 || (record.kind != Kind::kOk && record.kind != Kind::kFail)) continue;
    const std::size_t number = x.operation_of[r];
    const Operation& op = x.operations[number];
    SessionWalk& walk = walks[op.session];
    if (x.options.replies_in_order && !op.answer->replayed) {
      if (walk.answered != kNone && number < walk.answered) {
        return x.fail("reply-order", "replies of one session came in another order than its requests",
                      {x.operations[walk.answered].inv, x.operations[walk.answered].end, op.inv, op.end});
      }
      walk.answered = number;
    }
    if (op.zxid == 0) continue;
    const bool fresh_txn = op.txn != 0 && !op.answer->replayed;
    if (op.zxid < walk.last || (fresh_txn && op.zxid == walk.last)) {
      return x.fail("session-order", "a session that had been told " + zxid_text(walk.last) + " was answered at " +
                    zxid_text(op.zxid) + (fresh_txn ? " by a write" : ""), {walk.last_record, op.inv, op.end});
    }
    walk.last = op.zxid;
    walk.last_record = r;
  }
  return true;
}

bool answers_make_sense(Index& x) {
  for (const Operation& op : x.operations) {
    if (op.answer == nullptr) continue;
    const Answer& a = *op.answer;
    if (op.zxid != 0 && (a.mzxid > op.zxid || a.czxid > op.zxid)) {
      return x.fail("future", "a reply at " + zxid_text(op.zxid) + " shows the transaction " +
                    zxid_text(std::max(a.mzxid, a.czxid)), {op.inv, op.end});
    }
    if (a.mzxid != 0 && a.czxid > a.mzxid) {
      return x.fail("stat", "a node changed last at " + zxid_text(a.mzxid) + " was created later, at " +
                    zxid_text(a.czxid), {op.inv, op.end});
    }
    if (op.status == Status::kOk && is_write(op.request->op) && op.request->op != Op::kMulti && a.mzxid != 0 &&
        op.txn != 0 && a.mzxid != op.txn) {
      return x.fail("stat", "the reply of transaction " + zxid_text(op.txn) + " shows the node changed at " +
                    zxid_text(a.mzxid), {op.inv, op.end});
    }
  }
  return true;
}

// A parent that may have been deleted and made again begins counting at zero: those are left to the node rules.
bool sequential_names(Index& x) {
  struct Made {
    std::uint64_t txn;
    std::size_t order;  // within a multi
    std::int64_t number;
    const Effect* effect;
  };
  std::map<PathId, std::vector<Made>> parents;
  for (std::size_t i = 0; i < x.effects.size(); ++i) {
    const Effect& e = x.effects[i];
    const Operation& op = x.operations[e.op];
    if (!is_sequential(e.kind) || op.status != Status::kOk || e.answer == nullptr || e.answer->name.empty()) continue;
    const std::string& name = e.answer->name;
    const std::int64_t number = sequence_of(name);
    if (number < 0 || name.size() != e.request->path.size() + 10 || !name.starts_with(e.request->path)) {
      return x.fail("sequential-name", "a sequential create of " + e.request->path + " made " + name, {op.inv, op.end});
    }
    const PathId parent = x.paths[e.path].parent;
    if (!x.paths[parent].delete_tried) parents[parent].push_back({op.txn, i, number, &e});
  }
  for (auto& [parent, made] : parents) {
    std::map<std::int64_t, const Effect*> numbers;
    for (const Made& m : made) {
      const auto [it, fresh] = numbers.try_emplace(m.number, m.effect);
      if (fresh) continue;
      const Operation& a = x.operations[it->second->op];
      const Operation& b = x.operations[m.effect->op];
      return x.fail("sequential-twice", "two sequential creates in " + std::string(x.paths[parent].text) +
                    " got the number " + std::to_string(m.number), {a.inv, a.end, b.inv, b.end});
    }
    std::erase_if(made, [](const Made& m) { return m.txn == 0; });
    std::sort(made.begin(), made.end(), [](const Made& a, const Made& b) {
      return a.txn != b.txn ? a.txn < b.txn : a.order < b.order;
    });
    for (std::size_t i = 1; i < made.size(); ++i) {
      if (made[i - 1].number < made[i].number) continue;
      const Operation& a = x.operations[made[i - 1].effect->op];
      const Operation& b = x.operations[made[i].effect->op];
      return x.fail("sequential-order", "the later of two sequential creates got the smaller number: " +
                    made[i - 1].effect->answer->name + " at " + zxid_text(a.txn) + ", " +
                    made[i].effect->answer->name + " at " + zxid_text(b.txn), {a.inv, a.end, b.inv, b.end});
    }
  }
  return true;
}

}  // namespace

bool check_order(Index& x) {
  return transactions_unique(x) && real_time(x) && replies_of_sessions(x) && answers_make_sense(x) &&
         sequential_names(x);
}

}  // namespace coord::history
