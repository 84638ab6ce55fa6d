// Collects what was told about each change of each node, and finds out which writes without an answer took effect:
// their unique value was seen. Each change has one writer, each writer one change.
#include <algorithm>

#include "tests/history/index.h"

namespace coord::history {
namespace {

std::string point_text(const Index& x, PathId path, const Point& p) {
  return std::string(x.paths[path].text) + " version " + std::to_string(p.version) + " of " + zxid_text(p.mzxid);
}

bool add_point(Index& x, PathId path, const Point& p) {
  if (!x.paths[path].judged) return true;
  auto& points = x.paths[path].points;
  auto it = std::lower_bound(points.begin(), points.end(), p,
                             [](const Point& a, const Point& b) { return a.mzxid < b.mzxid; });
  if (it == points.end() || it->mzxid != p.mzxid) {
    points.insert(it, p);
    return true;
  }
  if (it->czxid != p.czxid || it->version != p.version || it->owner != p.owner) {
    return x.fail("two-states", "one change is shown in two ways: " + point_text(x, path, *it) + ", created " +
                  zxid_text(it->czxid) + ", and version " + std::to_string(p.version) + ", created " +
                  zxid_text(p.czxid), {it->record, p.record});
  }
  if (it->value != kUntold && p.value != kUntold && it->value != p.value) {
    return x.fail("wrong-value", "one change is shown with two values: " + point_text(x, path, p),
                  {it->record, p.record});
  }
  if (it->value == kUntold && p.value != kUntold) *it = p;
  return true;
}

bool add_answer(Index& x, PathId path, const Answer& a, ValueId value, std::size_t record) {
  if (a.mzxid == 0 || path == kNoPath) return true;
  return add_point(x, path, {a.mzxid, a.czxid, a.version, a.owner, value, record, false});
}

bool collect(Index& x) {
  for (PathId p = 0; p < x.paths.size(); ++p) {
    if (x.paths[p].init == kNone) continue;
    const Record& r = x.records[x.paths[p].init];
    if (!add_answer(x, p, r.answer, x.value(r.request.value), x.paths[p].init)) return false;
  }
  for (const Operation& op : x.operations) {
    if (op.status != Status::kOk) continue;
    if (is_node_read(op.request->op)) {
      const bool get = op.request->op == Op::kGet || op.request->op == Op::kSyncGet;
      const ValueId value = get ? x.value(op.answer->value) : kUntold;
      if (!add_answer(x, x.path(op.request->path), *op.answer, value, op.end)) return false;
    }
    // In a multi the last effect on a path tells how the transaction left the node.
    for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
      const Effect& e = x.effects[i];
      if (e.answer == nullptr || !(is_create(e.kind) || is_set(e.kind))) continue;
      bool last = true;
      for (std::size_t j = i + 1; j < op.effects + op.effects_count; ++j) {
        last = last && (x.effects[j].path != e.path || x.effects[j].kind == Op::kCheck);
      }
      // A set that tells no czxid (a bare answer) is no point.
      if (last && e.answer->czxid != 0 && !add_answer(x, e.path, *e.answer, e.value, op.end)) return false;
    }
  }
  return true;
}

// The value of `p` was written by `e`: if that write had no answer, it is known from here on to be transaction p.mzxid.
bool resolve(Index& x, PathId path, const Point& p, Effect& e) {
  Operation& op = x.operations[e.op];
  const Record& seen = x.records[p.record];
  if (!may_make(x, e, path)) {
    return x.fail("phantom-value", std::string(x.paths[path].text) + " shows a value that was written to " +
                  e.request->path, {op.inv, p.record});
  }
  if (op.status == Status::kFail) {
    return x.fail("failed-took-effect", "a refused write is seen: " + point_text(x, path, p),
                  {op.inv, op.end, p.record});
  }
  if (seen.ns < op.inv_ns) {
    return x.fail("future", "a value was seen before its write was sent: " + point_text(x, path, p),
                  {p.record, op.inv});
  }
  if (op.txn != 0 && op.txn != p.mzxid) {
    return x.fail("applied-twice", "a write that is transaction " + zxid_text(op.txn) + " is seen as " +
                  point_text(x, path, p), {op.inv, op.end, op.seen, p.record});
  }
  if (op.txn != 0) return true;
  if (p.mzxid <= op.above) {
    return x.fail("real-time", "a write sent after " + zxid_text(op.above) + " had been told is seen as " +
                  point_text(x, path, p), {op.above_record, op.inv, p.record});
  }
  const auto [it, fresh] = x.txns.try_emplace(p.mzxid, e.op);
  if (!fresh) {
    const Operation& other = x.operations[it->second];
    return x.fail("zxid-twice", "two writes are transaction " + zxid_text(p.mzxid),
                  {other.inv, other.end, op.inv, p.record});
  }
  op.txn = p.mzxid;
  op.seen = p.record;
  e.path = path;
  x.paths[path].created = x.paths[path].created || is_create(e.kind);
  return true;
}

bool resolve_values(Index& x) {
  std::vector<Effect*> writers(x.value_ids.size() + 1, nullptr);
  for (Effect& e : x.effects) {
    if (e.value <= kEmpty) continue;
    Effect*& writer = writers[static_cast<std::size_t>(e.value)];
    if (writer != nullptr) {
      x.verdict = {Outcome::kUnknown, "not-a-history", "two requests write the same value",
                   {x.operations[writer->op].inv, x.operations[e.op].inv}};
      return false;
    }
    writer = &e;
  }
  for (PathId path = 0; path < x.paths.size(); ++path) {
    const std::size_t init = x.paths[path].init;
    for (const Point& p : x.paths[path].points) {
      if (p.value <= kEmpty || (init != kNone && x.records[init].answer.mzxid == p.mzxid)) continue;
      // A value first told by an answer behind value_ids' size at the start cannot be: all are interned by now.
      Effect* writer = static_cast<std::size_t>(p.value) < writers.size() ? writers[static_cast<std::size_t>(p.value)]
                                                                          : nullptr;
      if (writer == nullptr) {
        return x.fail("phantom-value", "nobody wrote this value: " + point_text(x, path, p), {p.record});
      }
      if (!resolve(x, path, p, *writer)) return false;
    }
  }
  return true;
}

// The writer of transaction `zxid`, if it is known, must have an effect on `path`. Sets `known`.
bool writer_fits(Index& x, PathId path, std::uint64_t zxid, const Point& p, bool& known) {
  const auto found = x.txns.find(zxid);
  known = found != x.txns.end();
  if (!known) return true;
  const Operation& op = x.operations[found->second];
  if (op.status == Status::kFail) {
    return x.fail("failed-took-effect", "the refused write " + zxid_text(zxid) + " is seen: " + point_text(x, path, p),
                  {op.inv, op.end, p.record});
  }
  for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
    Effect& e = x.effects[i];
    if (!may_make(x, e, path) || !(is_create(e.kind) || is_set(e.kind))) continue;
    e.path = path;
    return true;
  }
  return x.fail("phantom-change", "transaction " + zxid_text(zxid) +
                " has nothing to do with the node that shows it: " +
                point_text(x, path, p), {op.inv, op.end, op.seen, p.record});
}

bool find_writers(Index& x) {
  for (PathId path = 0; path < x.paths.size(); ++path) {
    const std::size_t init = x.paths[path].init;
    const std::uint64_t init_m = init == kNone ? 0 : x.records[init].answer.mzxid;
    const std::uint64_t init_c = init == kNone ? 0 : x.records[init].answer.czxid;
    auto& points = x.paths[path].points;
    std::vector<Point> creations;
    for (Point& p : points) {
      bool known = false;
      if (p.mzxid != init_m && !writer_fits(x, path, p.mzxid, p, known)) return false;
      p.by_stranger = !known && p.mzxid != init_m;
      if (p.czxid == p.mzxid || p.czxid == 0 || p.czxid == init_c) continue;
      if (!writer_fits(x, path, p.czxid, p, known)) return false;
      const bool told = std::any_of(points.begin(), points.end(), [&](const Point& o) { return o.mzxid == p.czxid; });
      if (!known && !told) creations.push_back({p.czxid, p.czxid, -1, p.owner, kUntold, p.record, true});
    }
    for (const Point& c : creations) {
      if (!add_point(x, path, c)) return false;
    }
  }
  return true;
}

bool both_cas(const Index& x, const Point& a, const Point& b) {
  const auto cas = [&](const Point& p) {
    const auto found = x.txns.find(p.mzxid);
    return found != x.txns.end() && x.operations[found->second].request->op == Op::kSetCas;
  };
  return cas(a) && cas(b);
}

bool versions_rise(Index& x) {
  for (PathId path = 0; path < x.paths.size(); ++path) {
    std::vector<Point> points = x.paths[path].points;
    std::erase_if(points, [](const Point& p) { return p.version < 0; });
    for (std::size_t i = 0; i < points.size(); ++i) {
      const Point& p = points[i];
      if (p.version == 0 && p.mzxid != p.czxid) {
        return x.fail("version", "a node that was changed has version 0: " + point_text(x, path, p), {p.record});
      }
      if (i == 0 || points[i - 1].czxid == p.czxid) {
        if (i == 0 || points[i - 1].version < p.version) continue;
        const bool same = points[i - 1].version == p.version;
        return x.fail(!same ? "version" : both_cas(x, points[i - 1], p) ? "double-cas" : "version-twice",
                      point_text(x, path, points[i - 1]) + " is followed by " + point_text(x, path, p),
                      {points[i - 1].record, p.record});
      }
      if (p.czxid < points[i - 1].mzxid) {
        return x.fail("version", "a node made at " + zxid_text(points[i - 1].czxid) + " and one made at " +
                      zxid_text(p.czxid) + " lived at the same time: " + point_text(x, path, p),
                      {points[i - 1].record, p.record});
      }
    }
  }
  return true;
}

}  // namespace

bool resolve_effects(Index& x) {
  return collect(x) && resolve_values(x) && find_writers(x) && versions_rise(x);
}

}  // namespace coord::history
