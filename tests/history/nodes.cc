// Walks each node through its transactions in zxid order and compares every reply with the state at the reply's zxid.
// Writes whose outcome nobody knows may step in anywhere above the zxids known when they were sent: the walk keeps the
// set of states that are possible. Unknown writes of one shape are interchangeable, so only their number is kept.
#include <algorithm>
#include <compare>
#include <set>

#include "tests/history/index.h"

namespace coord::history {
namespace {

struct State {
  bool exists = false;
  std::uint64_t czxid = 0;  // 0: made by an unknown write, so nobody was told
  std::uint64_t mzxid = 0;
  std::int32_t version = 0;
  std::int64_t owner = 0;
  ValueId value = kUntold;
  std::vector<std::uint8_t> used;  // per shape of unknown writes
  friend auto operator<=>(const State&, const State&) = default;
};

// Unknown writes of one shape, or the unknown end of one session.
struct Shape {
  std::vector<Effect> effects;         // on this node, in order; empty: the end of session `owner`
  std::int64_t owner = 0;
  std::vector<std::uint64_t> above;    // sorted: one for each write; it lies above
  std::int64_t not_before_ns = kAlways;  // session ends: earliest expiry
};

enum class What : std::uint8_t { kWrite, kStranger, kEnd, kRefused, kPresent, kShown, kAbsent };

struct Item {
  std::uint64_t zxid = 0;
  What what = What::kWrite;
  std::size_t op = kNone;
  const Effect* effect = nullptr;  // kRefused
  const Point* point = nullptr;    // kStranger
  std::int64_t session = 0;        // kEnd
  std::size_t record = kNone;
};

// 0: transactions; 1: what was seen at that zxid.
int rank(What what) { return what == What::kPresent || what == What::kShown || what == What::kAbsent ? 1 : 0; }

// The node after one more effect; false: it would have been refused.
bool apply(State& s, const Effect& e, std::uint64_t zxid) {
  if (is_create(e.kind)) {
    if (s.exists) return false;
    s.exists = true;
    s.czxid = s.mzxid = zxid;
    s.version = 0;
    s.owner = e.owner;
    s.value = e.value;
    return true;
  }
  if (!s.exists || (e.expected >= 0 && e.expected != s.version)) return false;
  if (is_set(e.kind)) {
    ++s.version;
    s.mzxid = zxid;
    s.value = e.value;
  } else if (is_delete(e.kind)) {
    s.exists = false;
    s.czxid = s.mzxid = 0;
    s.version = 0;
    s.owner = 0;
    s.value = kUntold;
  }
  return true;
}

bool fits_answer(const State& s, const Effect& e) {
  if (e.answer == nullptr || e.answer->version < 0 || !(is_create(e.kind) || is_set(e.kind))) return true;
  return e.answer->version == s.version && (e.answer->czxid == 0 || e.answer->czxid == s.czxid);
}

class Walk {
 public:
  Walk(Index& x, PathId path) : x_(x), path_(path) {}
  std::vector<Item> items;
  std::vector<Shape> shapes;
  bool run();

 private:
  void close(const Item& item);
  bool pass(const Item& item, const State& from, std::vector<State>& to);
  bool pass_write(const Item& item, State s, std::vector<State>& to);
  bool pass_stranger(const Item& item, const State& from, std::vector<State>& to);
  bool pass_refused(const Item& item, const State& s);
  bool pass_shown(const Item& item, const State& s);
  std::size_t available(const Shape& shape, const Item& item) const;
  bool blocked_by_time(const State& before, const Item& item) const;
  void note_changes(const Item& item, const std::vector<State>& before);
  bool report(const Item& item, const State& before);
  std::int64_t end_ns(const Item& item) const;

  Index& x_;
  PathId path_;
  std::vector<State> states_;
  std::size_t last_change_ = kNone;  // operation
};

std::int64_t Walk::end_ns(const Item& item) const {
  return item.op != kNone ? x_.operations[item.op].end_ns : kNever;
}

std::size_t Walk::available(const Shape& shape, const Item& item) const {
  if (shape.effects.empty() && end_ns(item) < shape.not_before_ns) return 0;
  const auto end = std::lower_bound(shape.above.begin(), shape.above.end(), item.zxid);
  return std::min<std::size_t>(255, static_cast<std::size_t>(end - shape.above.begin()));
}

// Adds the states that unknown writes below this item can make.
void Walk::close(const Item& item) {
  if (shapes.empty()) return;
  std::set<State> seen(states_.begin(), states_.end());
  states_.assign(seen.begin(), seen.end());
  std::vector<std::size_t> limits;
  for (const Shape& shape : shapes) limits.push_back(available(shape, item));
  for (std::size_t i = 0; i < states_.size(); ++i) {
    for (std::size_t k = 0; k < shapes.size(); ++k) {
      if (states_[i].used[k] >= limits[k]) continue;
      State s = states_[i];
      bool good = true;
      for (const Effect& e : shapes[k].effects) good = good && apply(s, e, 0);
      if (shapes[k].effects.empty()) {
        good = s.exists && s.owner == shapes[k].owner;
        if (good) s = State{.used = std::move(s.used)};
      }
      if (!good) continue;
      ++s.used[k];
      if (!x_.budget.spend()) return;
      if (seen.insert(s).second) states_.push_back(std::move(s));
    }
  }
}

bool Walk::pass_write(const Item& item, State s, std::vector<State>& to) {
  const Operation& op = x_.operations[item.op];
  for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
    const Effect& e = x_.effects[i];
    if (e.path != path_) continue;
    if (!apply(s, e, item.zxid) || !fits_answer(s, e)) return false;
  }
  to.push_back(std::move(s));
  return true;
}

// A change that was seen but whose writer is not known: one of the unknown writes.
bool Walk::pass_stranger(const Item& item, const State& from, std::vector<State>& to) {
  bool any = false;
  for (std::size_t k = 0; k < shapes.size(); ++k) {
    if (shapes[k].effects.empty() || from.used[k] >= available(shapes[k], item)) continue;
    State s = from;
    bool good = true;
    for (const Effect& e : shapes[k].effects) good = good && apply(s, e, item.zxid);
    const Point& p = *item.point;
    if (!good || !s.exists || s.version != p.version || s.owner != p.owner || s.czxid != p.czxid) continue;
    s.mzxid = p.mzxid;
    s.value = p.value == kUntold ? s.value : p.value;
    ++s.used[k];
    to.push_back(std::move(s));
    any = true;
  }
  return any;
}

bool Walk::pass_refused(const Item& item, const State& s) {
  return refusal_fits(x_, *item.effect, s.exists, s.version);
}

bool Walk::pass_shown(const Item& item, const State& s) {
  const Operation& op = x_.operations[item.op];
  const Answer& a = *op.answer;
  if (!s.exists) return false;
  const bool get = op.request->op == Op::kGet || op.request->op == Op::kSyncGet;
  if (get && s.value != kUntold && x_.value(a.value) != s.value) return false;
  if (a.mzxid == 0) return true;
  return s.mzxid == a.mzxid && s.czxid == a.czxid && s.version == a.version && s.owner == a.owner;
}

bool Walk::pass(const Item& item, const State& from, std::vector<State>& to) {
  bool good = true;
  switch (item.what) {
    case What::kWrite: return pass_write(item, from, to);
    case What::kStranger: return pass_stranger(item, from, to);
    case What::kEnd:
      to.push_back(from);
      if (from.exists && from.owner == item.session) to.back() = State{.used = from.used};
      return true;
    case What::kRefused: good = pass_refused(item, from); break;
    case What::kPresent: good = from.exists; break;
    case What::kShown: good = pass_shown(item, from); break;
    case What::kAbsent: good = !from.exists; break;
  }
  if (good) to.push_back(from);
  return good;
}

// What happened for certain, for the watch rules.
void Walk::note_changes(const Item& item, const std::vector<State>& before) {
  auto& changes = x_.paths[path_].changes;
  if (item.what == What::kWrite) {
    const Operation& op = x_.operations[item.op];
    for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
      const Effect& e = x_.effects[i];
      if (e.path != path_ || e.kind == Op::kCheck) continue;
      changes.emplace_back(item.zxid, is_create(e.kind)   ? WatchType::kCreated
                                      : is_delete(e.kind) ? WatchType::kDeleted
                                                          : WatchType::kDataChanged);
      last_change_ = item.op;
    }
  } else if (item.what == What::kStranger) {
    const bool created = item.point->czxid == item.point->mzxid;
    changes.emplace_back(item.zxid, created ? WatchType::kCreated : WatchType::kDataChanged);
  } else if (item.what == What::kEnd) {
    const Session* s = x_.session(item.session);
    const bool gone = std::all_of(before.begin(), before.end(), [&](const State& state) {
      return state.exists && state.owner == item.session;
    });
    if (gone && s->end_zxid == item.zxid) changes.emplace_back(item.zxid, WatchType::kDeleted);
  }
}

bool Walk::run() {
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return a.zxid != b.zxid ? a.zxid < b.zxid : rank(a.what) < rank(b.what);
  });
  State start;
  start.used.assign(shapes.size(), 0);
  const std::size_t init = x_.paths[path_].init;
  if (init != kNone) {
    const Record& r = x_.records[init];
    start.exists = true;
    start.czxid = r.answer.czxid;
    start.mzxid = r.answer.mzxid;
    start.version = r.answer.version;
    start.owner = r.answer.owner;
    start.value = x_.value(r.request.value);
  }
  states_.push_back(start);
  for (const Item& item : items) {
    const State before = states_.front();
    close(item);
    std::vector<State> next;
    for (const State& s : states_) {
      if (!x_.budget.spend()) return false;
      pass(item, s, next);
    }
    if (x_.budget.spent()) return false;
    if (next.empty()) return report(item, before);
    note_changes(item, states_);
    if (next.size() > 1) {
      std::sort(next.begin(), next.end());
      next.erase(std::unique(next.begin(), next.end()), next.end());
    }
    states_ = std::move(next);
  }
  return true;
}

// True if only the time of an expiry stands against this item.
bool Walk::blocked_by_time(const State& before, const Item& item) const {
  if (!before.exists || before.owner == 0) return false;
  return std::any_of(shapes.begin(), shapes.end(), [&](const Shape& s) {
    return s.effects.empty() && s.owner == before.owner && end_ns(item) < s.not_before_ns &&
           !s.above.empty() && s.above.front() < item.zxid;
  });
}

std::string state_text(const State& s) {
  if (!s.exists) return "it does not exist";
  return "it has version " + std::to_string(s.version) + (s.mzxid != 0 ? " of " + zxid_text(s.mzxid) : "");
}

bool Walk::report(const Item& item, const State& before) {
  std::vector<std::size_t> offending{item.record};
  if (item.op != kNone) {
    offending.push_back(x_.operations[item.op].inv);
    offending.push_back(x_.operations[item.op].end);
  }
  if (last_change_ != kNone) {
    const Operation& op = x_.operations[last_change_];
    offending.insert(offending.end(), {op.inv, op.end, op.seen});
  }
  const std::string node = std::string(x_.paths[path_].text) + " at " + zxid_text(item.zxid);
  const std::string is = ", but by its earlier transactions " + state_text(before) +
                         (shapes.empty() ? "" : ", and no unanswered write explains the difference");
  if (blocked_by_time(before, item)) {
    const Session* s = x_.session(before.owner);
    offending.insert(offending.end(), {s->touched_record, s->end_record});
    return x_.fail("early-expiry", node + ": an ephemeral is gone before its owner's timeout has passed", offending);
  }
  switch (item.what) {
    case What::kWrite: {
      const Operation& op = x_.operations[item.op];
      bool cas = false;
      for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
        cas = cas || (x_.effects[i].path == path_ && x_.effects[i].expected >= 0 && before.exists &&
                      x_.effects[i].expected != before.version);
      }
      return x_.fail(cas ? "cas" : before.exists ? "write-result" : "lost-write",
                     node + ": a write succeeded that cannot" + (cas ? ", by its expected version" : "") + is, offending);
    }
    case What::kStranger:
      return x_.fail("phantom-change", node + ": a change is seen that no write of this history can have made" + is,
                     offending);
    case What::kRefused: return x_.fail("refusal", node + ": a write was refused without reason" + is, offending);
    case What::kShown: {
      const Answer& a = *x_.operations[item.op].answer;
      const bool older = before.exists && a.mzxid != 0 && a.mzxid < before.mzxid;
      return x_.fail(!before.exists ? "undead" : older ? "stale-read" : "wrong-read",
                     node + ": a read shows version " + std::to_string(a.version) + " of " + zxid_text(a.mzxid) + is,
                     offending);
    }
    case What::kPresent: return x_.fail("undead", node + ": it was seen" + is, offending);
    case What::kAbsent: return x_.fail("lost-write", node + ": it is absent" + is, offending);
    case What::kEnd: break;
  }
  return x_.fail("node", node + is, offending);
}

// Sorts what the history says into walks, one for each node.
class Sorter {
 public:
  explicit Sorter(Index& x) : x_(x), walks_() {
    walks_.reserve(x.paths.size());
    for (PathId p = 0; p < x.paths.size(); ++p) walks_.emplace_back(x, p);
  }

  bool run() {
    for (std::size_t i = 0; i < x_.operations.size(); ++i) {
      const Operation& op = x_.operations[i];
      if (is_write(op.request->op)) {
        if (op.status == Status::kFail) add_refusal(i);
        else if (op.txn != 0) add_write(i);
        else add_unknown(i);
      } else if (is_node_read(op.request->op) && op.answer != nullptr && op.zxid != 0) {
        add_read(i);
      }
    }
    for (PathId p = 0; p < x_.paths.size(); ++p) add_strangers(p);
    for (PathId p = 0; p < x_.paths.size(); ++p) {
      if (!x_.paths[p].judged) continue;
      add_ends(p);
      if (!walks_[p].run()) return false;
    }
    return true;
  }

 private:
  void add(PathId path, Item item) {
    if (path != kNoPath && x_.paths[path].judged) walks_[path].items.push_back(item);
  }

  void add_write(std::size_t number) {
    const Operation& op = x_.operations[number];
    const std::size_t end = op.effects + op.effects_count;
    for (std::size_t i = op.effects; i < end; ++i) {
      const Effect& e = x_.effects[i];
      bool first = e.path != kNoPath;
      for (std::size_t j = op.effects; j < i; ++j) first = first && x_.effects[j].path != e.path;
      if (first) add(e.path, {.zxid = op.txn, .what = What::kWrite, .op = number});
      if (is_create(e.kind) && op.effects_count == 1 && e.path != kNoPath) {
        const PathId parent = x_.paths[e.path].parent;
        if (parent != kNoPath && x_.paths[parent].created) {
          add(parent, {.zxid = op.txn, .what = What::kPresent, .op = number});
        }
      }
    }
  }

  void add_refusal(std::size_t number) {
    const Operation& op = x_.operations[number];
    const Effect* e = op.txn == 0 ? nullptr : culprit(x_, op);
    if (e == nullptr) return;
    if (is_create(e->kind) && op.request->op != Op::kMulti && op.answer->error == Err::kNoNode && e->path != kNoPath) {
      add(x_.paths[e->path].parent, {.zxid = op.txn, .what = What::kAbsent, .op = number});
    }
    add(e->path, {.zxid = op.txn, .what = What::kRefused, .op = number, .effect = e});
  }

  void add_unknown(std::size_t number) {
    const Operation& op = x_.operations[number];
    for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
      const Effect& e = x_.effects[i];
      if (e.path == kNoPath) {
        for (PathId p = 0; p < x_.paths.size(); ++p) {
          if (may_make(x_, e, p)) add_shape(p, {e}, op.above);
        }
        continue;
      }
      bool first = true;
      std::vector<Effect> here;
      for (std::size_t j = op.effects; j < op.effects + op.effects_count; ++j) {
        if (x_.effects[j].path != e.path) continue;
        first = first && j >= i;
        here.push_back(x_.effects[j]);
      }
      if (first) add_shape(e.path, std::move(here), op.above);
    }
  }

  static bool same(const Effect& a, const Effect& b) {
    const auto shape = [](Op op) { return is_create(op) ? 0 : is_set(op) ? 1 : is_delete(op) ? 2 : 3; };
    return shape(a.kind) == shape(b.kind) && a.expected == b.expected && a.owner == b.owner;
  }

  void add_shape(PathId path, std::vector<Effect> here, std::uint64_t above) {
    // Values of unknown writes were not seen, whatever they are; an unseen empty value equals any other.
    for (Effect& e : here) e.value = kUntold;
    auto& shapes = walks_[path].shapes;
    auto it = std::find_if(shapes.begin(), shapes.end(), [&](const Shape& s) {
      return std::equal(s.effects.begin(), s.effects.end(), here.begin(), here.end(), same);
    });
    if (it == shapes.end()) {
      shapes.push_back({std::move(here), 0, {}, kAlways});
      it = shapes.end() - 1;
    }
    it->above.insert(std::upper_bound(it->above.begin(), it->above.end(), above), above);
  }

  void add_read(std::size_t number) {
    const Operation& op = x_.operations[number];
    const PathId path = x_.path(op.request->path);
    if (op.status == Status::kFail) {
      if (op.answer->error == Err::kNoNode) add(path, {.zxid = op.zxid, .what = What::kAbsent, .op = number});
      return;
    }
    const bool bare = op.answer->mzxid == 0 && op.request->op != Op::kGet && op.request->op != Op::kSyncGet;
    add(path, {.zxid = op.zxid, .what = bare ? What::kPresent : What::kShown, .op = number});
    if (op.request->op != Op::kChildren) return;
    std::vector<std::string_view> names(op.answer->children.begin(), op.answer->children.end());
    std::sort(names.begin(), names.end());
    for (const PathId child : x_.paths[path].children) {
      const auto text = x_.paths[child].text;
      const bool listed = std::binary_search(names.begin(), names.end(), text.substr(text.rfind('/') + 1));
      add(child, {.zxid = op.zxid, .what = listed ? What::kPresent : What::kAbsent, .op = number});
    }
  }

  void add_strangers(PathId path) {
    for (const Point& p : x_.paths[path].points) {
      if (p.by_stranger) add(path, {.zxid = p.mzxid, .what = What::kStranger, .point = &p, .record = p.record});
    }
  }

  // Ends of the sessions that may own this node.
  void add_ends(PathId path) {
    Walk& walk = walks_[path];
    std::set<std::int64_t> owners;
    for (const Point& p : x_.paths[path].points) owners.insert(p.owner);
    for (const Shape& s : walk.shapes) for (const Effect& e : s.effects) owners.insert(e.owner);
    for (const Item& item : walk.items) {
      if (item.what != What::kWrite) continue;
      const Operation& op = x_.operations[item.op];
      for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
        if (x_.effects[i].path == path) owners.insert(x_.effects[i].owner);
      }
    }
    owners.erase(0);
    for (const std::int64_t id : owners) {
      const Session* s = x_.session(id);
      if (s == nullptr) {
        walk.shapes.push_back({{}, id, {0}, kAlways});
        continue;
      }
      if (s->end_max != kZxidMax) {
        walk.items.push_back({.zxid = s->end_max, .what = What::kEnd, .session = id, .record = s->end_record});
      }
      if (s->end_zxid != 0) continue;
      const bool timed = s->timeout_ns != 0 && s->touched_ns != kAlways && !s->close_tried;
      const std::int64_t from = timed ? s->touched_ns + s->timeout_ns - x_.options.expiry_slack_ns : kAlways;
      walk.shapes.push_back({{}, id, {s->replied}, from});
    }
  }

  Index& x_;
  std::vector<Walk> walks_;
};

}  // namespace

bool check_nodes(Index& x) { return Sorter(x).run(); }

}  // namespace coord::history
