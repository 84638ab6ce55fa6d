// Walks each node through its transactions in zxid order and compares every reply with the state at the reply's zxid.
// Writes whose outcome nobody knows may step in anywhere above the zxids known when they were sent: the walk goes back
// and lets one in where it does not get on without. Unknown writes of one shape are interchangeable, so only their
// number is kept; of two equal nodes the one that has used up fewer of them can do all that the other can.
#include <algorithm>
#include <set>

#include "tests/history/index.h"

namespace coord::history {
namespace {

struct NodeState {
  bool exists = false;
  std::uint64_t czxid = 0;  // 0: made by an unknown write, so nobody was told
  std::uint64_t mzxid = 0;
  std::int32_t version = 0;
  std::int64_t owner = 0;
  ValueId value = kUntold;
  std::vector<std::uint8_t> used;  // per shape of unknown writes
};

// Unknown writes of one shape, or the unknown end of one session.
struct Shape {
  std::vector<Effect> effects;         // on this node, in order; empty: the end of session `owner`
  std::int64_t owner = 0;
  std::vector<std::pair<std::uint64_t, std::size_t>> above;  // sorted: for each write what it lies above; operation
  std::int64_t not_before_ns = kAlways;  // session ends: earliest expiry
  std::uint64_t before = kZxidMax;       // ephemerals: their owner's end
};

enum class What : std::uint8_t { kWrite, kStranger, kEnd, kRefused, kPresent, kShown, kAbsent };

struct Item {
  std::uint64_t zxid = 0;
  What what = What::kWrite;
  std::size_t op = kNone;
  const Effect* effect = nullptr;  // kRefused
  const Point* point = nullptr;    // kStranger; kWrite: how the node was seen after it
  std::int64_t session = 0;        // kEnd
  std::size_t record = kNone;
};

// 0: transactions; 1: what was seen at that zxid.
int rank(What what) { return what == What::kPresent || what == What::kShown || what == What::kAbsent ? 1 : 0; }

// The node after one more effect; false: it would have been refused.
bool apply(NodeState& s, const Effect& e, std::uint64_t zxid) {
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

// A set that its multi deletes again may be the only one to tell when the node was made.
bool fits_answer(NodeState& s, const Effect& e) {
  if (e.answer == nullptr || e.answer->version < 0 || !(is_create(e.kind) || is_set(e.kind))) return true;
  if (s.czxid == 0) s.czxid = e.answer->czxid;
  return e.answer->version == s.version && (e.answer->czxid == 0 || e.answer->czxid == s.czxid);
}

class Walk {
 public:
  Walk(Index& x, PathId path) : x_(x), path_(path) {}
  std::vector<Item> items;
  std::vector<Shape> shapes;
  bool run();

 private:
  struct Frame {
    std::size_t item = 0;
    NodeState state;
    std::size_t next = 0;        // 0: the item itself; k + 1: first an unknown write of shape k
    std::size_t shape = kNone;   // that led here; kNone: by passing an item
  };

  bool pass(const Item& item, NodeState& s);
  bool pass_write(const Item& item, NodeState& s);
  bool pass_stranger(const Item& item, NodeState& s, std::size_t k);
  bool pass_shown(const Item& item, const NodeState& s);
  bool let_in(const Item& item, NodeState& s, std::size_t k);
  bool step(Frame& f);
  bool first_time(std::size_t item, const NodeState& s);
  void enter(std::size_t item, NodeState s, std::size_t shape);
  NodeState start() const;
  std::size_t available(const Shape& shape, const Item& item) const;
  bool blocked_by_time(const NodeState& before, const Item& item) const;
  void note_changes(const Item& item, const NodeState& before);
  void succeed();
  bool report(const Item& item, const NodeState& before);
  std::int64_t end_ns(const Item& item) const;

  Index& x_;
  PathId path_;
  std::vector<Frame> frames_;
  std::vector<std::vector<NodeState>> seen_;  // per item
  std::size_t deepest_ = 0;               // the item that nothing passed
  NodeState deepest_state_;
  std::size_t last_change_ = kNone;       // operation
};

std::int64_t Walk::end_ns(const Item& item) const {
  return item.op != kNone ? x_.operations[item.op].end_ns : kNever;
}

std::size_t Walk::available(const Shape& shape, const Item& item) const {
  if (shape.effects.empty() && end_ns(item) < shape.not_before_ns) return 0;
  if (item.zxid > shape.before || (item.zxid == shape.before && rank(item.what) == 1)) return 0;
  const auto end = std::lower_bound(shape.above.begin(), shape.above.end(), std::pair{item.zxid, std::size_t{0}});
  return std::min<std::size_t>(255, static_cast<std::size_t>(end - shape.above.begin()));
}

bool same_node(const NodeState& a, const NodeState& b) {
  return a.exists == b.exists && a.czxid == b.czxid && a.mzxid == b.mzxid && a.version == b.version &&
         a.owner == b.owner && a.value == b.value;
}

bool no_more_used(const NodeState& a, const NodeState& b) {
  for (std::size_t k = 0; k < a.used.size(); ++k) {
    if (a.used[k] > b.used[k]) return false;
  }
  return true;
}

// One unknown write of shape k below this item.
bool Walk::let_in(const Item& item, NodeState& s, std::size_t k) {
  const Shape& shape = shapes[k];
  if (s.used[k] >= available(shape, item)) return false;
  // The change that this reply shows is an item of its own, and nothing may lie between.
  if (item.what == What::kShown && x_.operations[item.op].answer->mzxid != 0) return false;
  if (shape.effects.empty()) {
    if (!s.exists || s.owner != shape.owner) return false;
    s = NodeState{.used = std::move(s.used)};
  }
  for (const Effect& e : shape.effects) {
    if (!apply(s, e, 0)) return false;
  }
  ++s.used[k];
  return true;
}

bool fits_point(const NodeState& s, const Point* p) {
  if (p == nullptr) return true;
  const bool version = p->version < 0 || s.version == p->version;
  return s.exists && version && s.czxid == p->czxid && s.owner == p->owner;
}

bool Walk::pass_write(const Item& item, NodeState& s) {
  const Operation& op = x_.operations[item.op];
  for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
    const Effect& e = x_.effects[i];
    if (e.path != path_) continue;
    if (!apply(s, e, item.zxid) || !fits_answer(s, e)) return false;
  }
  return fits_point(s, item.point);
}

// A change that was seen but whose writer is not known: an unknown write of shape k.
bool Walk::pass_stranger(const Item& item, NodeState& s, std::size_t k) {
  if (shapes[k].effects.empty() || s.used[k] >= available(shapes[k], item)) return false;
  for (const Effect& e : shapes[k].effects) {
    if (!apply(s, e, item.zxid)) return false;
  }
  if (!fits_point(s, item.point)) return false;
  s.mzxid = item.point->mzxid;
  if (item.point->value != kUntold) s.value = item.point->value;
  ++s.used[k];
  return true;
}

bool Walk::pass_shown(const Item& item, const NodeState& s) {
  const Operation& op = x_.operations[item.op];
  const Answer& a = *op.answer;
  if (!s.exists) return false;
  const bool get = op.request->op == Op::kGet || op.request->op == Op::kSyncGet;
  if (get && s.value != kUntold && x_.value(a.value) != s.value) return false;
  if (a.mzxid == 0) return true;
  return s.mzxid == a.mzxid && s.czxid == a.czxid && s.version == a.version && s.owner == a.owner;
}

bool Walk::pass(const Item& item, NodeState& s) {
  switch (item.what) {
    case What::kWrite: return pass_write(item, s);
    case What::kStranger: return false;  // step() tries each shape
    case What::kEnd:
      if (s.exists && s.owner == item.session) s = NodeState{.used = std::move(s.used)};
      return true;
    case What::kRefused: return refusal_fits(x_, *item.effect, s.exists, s.version);
    case What::kPresent: return s.exists;
    case What::kShown: return pass_shown(item, s);
    case What::kAbsent: return !s.exists;
  }
  return false;
}

// What happened for certain, for the watch rules.
void Walk::note_changes(const Item& item, const NodeState& before) {
  auto& changes = x_.paths[path_].changes;
  if (item.what == What::kWrite) {
    const Operation& op = x_.operations[item.op];
    for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
      const Effect& e = x_.effects[i];
      if (e.path != path_ || e.kind == Op::kCheck) continue;
      changes.emplace_back(item.zxid, is_create(e.kind)   ? WatchType::kCreated
                                      : is_delete(e.kind) ? WatchType::kDeleted
                                                          : WatchType::kDataChanged);
    }
  } else if (item.what == What::kStranger) {
    const bool created = item.point->czxid == item.point->mzxid;
    changes.emplace_back(item.zxid, created ? WatchType::kCreated : WatchType::kDataChanged);
  } else if (item.what == What::kEnd) {
    const bool certain = std::none_of(shapes.begin(), shapes.end(),
                                      [&](const Shape& s) { return available(s, item) > 0; });
    const bool gone = before.exists && before.owner == item.session;
    if (certain && gone && x_.session(item.session)->end_zxid == item.zxid) {
      changes.emplace_back(item.zxid, WatchType::kDeleted);
    }
  }
}

// The way that was found: certain changes, and its order as a hint for the search in linear.cc.
void Walk::succeed() {
  std::vector<std::size_t> used(shapes.size(), 0);
  for (std::size_t i = 1; i < frames_.size(); ++i) {
    const Frame& from = frames_[i - 1];
    const Item& item = items[from.item];
    const std::size_t k = frames_[i].shape;
    if (k != kNone && !shapes[k].effects.empty()) {
      x_.hints[{shapes[k].above[used[k]++].second, path_}] = 2 * i;
    } else if (item.op != kNone) {
      x_.hints[{item.op, path_}] = 2 * i;
    }
    // A session's end belongs where it takes the node away, or right behind where something else did.
    const NodeState& after = frames_[i].state;
    if (after.exists && after.owner != 0) x_.end_hints[{after.owner, path_}] = kZxidMax;
    if (from.state.owner != 0 && after.owner != from.state.owner) x_.end_hints[{from.state.owner, path_}] = 2 * i + 1;
    if (frames_[i].item != from.item) note_changes(item, from.state);
  }
}

NodeState Walk::start() const {
  NodeState s;
  s.used.assign(shapes.size(), 0);
  const std::size_t init = x_.paths[path_].init;
  if (init == kNone) return s;
  const Record& r = x_.records[init];
  s.exists = true;
  s.czxid = r.answer.czxid;
  s.mzxid = r.answer.mzxid;
  s.version = r.answer.version;
  s.owner = r.answer.owner;
  s.value = x_.value(r.request.value);
  return s;
}

// False: this state, or one that has used fewer unknown writes, was tried before this item.
bool Walk::first_time(std::size_t item, const NodeState& s) {
  if (shapes.empty()) return true;
  for (const NodeState& before : seen_[item]) {
    if (!x_.budget.spend()) return false;
    if (same_node(before, s) && no_more_used(before, s)) return false;
  }
  seen_[item].push_back(s);
  return true;
}

void Walk::enter(std::size_t item, NodeState s, std::size_t shape) {
  if (!first_time(item, s)) return;
  if (item > deepest_ || frames_.empty()) {
    deepest_ = item;
    deepest_state_ = s;
  }
  frames_.push_back({item, std::move(s), 0, shape});
}

// The next thing to try from here; false: there is none left.
bool Walk::step(Frame& f) {
  const Item& item = items[f.item];
  const std::size_t at = f.item;
  const std::size_t choice = f.next++;
  NodeState s = f.state;  // enter() may move the frames
  if (choice == 0) {
    if (pass(item, s)) enter(at + 1, std::move(s), kNone);
    return true;
  }
  const std::size_t k = (choice - 1) / 2;
  if (k >= shapes.size()) return false;
  if (choice % 2 == 1) {
    if (item.what == What::kStranger && pass_stranger(item, s, k)) enter(at + 1, std::move(s), k);
  } else {
    if (let_in(item, s, k)) enter(at, std::move(s), k);
  }
  return true;
}

bool Walk::run() {
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return a.zxid != b.zxid ? a.zxid < b.zxid : rank(a.what) < rank(b.what);
  });
  if (items.empty()) return true;
  // What makes a node go before what only changes it: an absence needs no detour.
  const auto effort = [](const Shape& shape) {
    if (shape.effects.size() != 1) return shape.effects.empty() ? 0 : 3;
    return is_delete(shape.effects[0].kind) ? 1 : is_create(shape.effects[0].kind) ? 2 : 4;
  };
  std::stable_sort(shapes.begin(), shapes.end(), [&](const Shape& a, const Shape& b) { return effort(a) < effort(b); });
  seen_.resize(items.size() + 1);
  enter(0, start(), kNone);
  while (!frames_.empty()) {
    if (!x_.budget.spend()) return false;
    if (frames_.back().item == items.size()) {
      succeed();
      return true;
    }
    if (!step(frames_.back())) frames_.pop_back();
    if (x_.budget.spent()) return false;
  }
  for (std::size_t i = 0; i < deepest_; ++i) {
    if (items[i].what == What::kWrite) last_change_ = items[i].op;
  }
  return report(items[deepest_], deepest_state_);
}

// True if only the time of an expiry stands against this item.
bool Walk::blocked_by_time(const NodeState& before, const Item& item) const {
  if (!before.exists || before.owner == 0) return false;
  return std::any_of(shapes.begin(), shapes.end(), [&](const Shape& s) {
    return s.effects.empty() && s.owner == before.owner && end_ns(item) < s.not_before_ns &&
           !s.above.empty() && s.above.front().first < item.zxid;
  });
}

std::string state_text(const NodeState& s) {
  if (!s.exists) return "it does not exist";
  return "it has version " + std::to_string(s.version) + (s.mzxid != 0 ? " of " + zxid_text(s.mzxid) : "");
}

bool Walk::report(const Item& item, const NodeState& before) {
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
                     node + ": a write succeeded that cannot" + (cas ? ", by its expected version" : "") + is,
                     offending);
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
class WalkSorter {
 public:
  explicit WalkSorter(Index& x) : x_(x), walks_() {
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

  const Point* point_at(PathId path, std::uint64_t zxid) const {
    const auto& points = x_.paths[path].points;
    const auto it = std::lower_bound(points.begin(), points.end(), zxid,
                                     [](const Point& p, std::uint64_t at) { return p.mzxid < at; });
    return it != points.end() && it->mzxid == zxid ? &*it : nullptr;
  }

  void add_write(std::size_t number) {
    const Operation& op = x_.operations[number];
    const std::size_t end = op.effects + op.effects_count;
    for (std::size_t i = op.effects; i < end; ++i) {
      const Effect& e = x_.effects[i];
      if (e.path == kNoPath) add_nameless(e, op.txn - 1);
      bool first = e.path != kNoPath;
      for (std::size_t j = op.effects; j < i; ++j) first = first && x_.effects[j].path != e.path;
      if (first) add(e.path, {.zxid = op.txn, .what = What::kWrite, .op = number, .point = point_at(e.path, op.txn)});
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

  // A sequential create whose name nobody was told: it may be any name that fits.
  void add_nameless(const Effect& e, std::uint64_t above) {
    for (PathId p = 0; p < x_.paths.size(); ++p) {
      if (may_make(x_, e, p)) add_shape(p, {e}, above, e.op);
    }
  }

  void add_unknown(std::size_t number) {
    const Operation& op = x_.operations[number];
    for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
      const Effect& e = x_.effects[i];
      if (e.path == kNoPath) {
        add_nameless(e, op.above);
        continue;
      }
      bool first = true;
      std::vector<Effect> here;
      for (std::size_t j = op.effects; j < op.effects + op.effects_count; ++j) {
        if (x_.effects[j].path != e.path) continue;
        first = first && j >= i;
        here.push_back(x_.effects[j]);
      }
      if (first) add_shape(e.path, std::move(here), op.above, number);
    }
  }

  static bool same(const Effect& a, const Effect& b) {
    const auto shape = [](Op op) { return is_create(op) ? 0 : is_set(op) ? 1 : is_delete(op) ? 2 : 3; };
    return shape(a.kind) == shape(b.kind) && a.expected == b.expected && a.owner == b.owner;
  }

  void add_shape(PathId path, std::vector<Effect> here, std::uint64_t above, std::size_t op) {
    // Values of unknown writes were not seen, whatever they are; an unseen empty value equals any other.
    for (Effect& e : here) e.value = kUntold;
    auto& shapes = walks_[path].shapes;
    auto it = std::find_if(shapes.begin(), shapes.end(), [&](const Shape& s) {
      return std::equal(s.effects.begin(), s.effects.end(), here.begin(), here.end(), same);
    });
    if (it == shapes.end()) {
      shapes.push_back({std::move(here), 0, {}});
      it = shapes.end() - 1;
      for (const Effect& e : it->effects) {
        if (e.owner != 0) it->before = x_.session(e.owner)->end_max;
      }
    }
    const std::pair member{above, op};
    it->above.insert(std::upper_bound(it->above.begin(), it->above.end(), member), member);
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
        walk.shapes.push_back({{}, id, {{0, kNone}}, kAlways});
        continue;
      }
      if (s->end_max != kZxidMax) {
        walk.items.push_back({.zxid = s->end_max, .what = What::kEnd, .session = id, .record = s->end_record});
      }
      if (s->end_zxid != 0) continue;
      const bool timed = s->timeout_ns != 0 && s->touched_ns != kAlways && !s->close_tried;
      const std::int64_t from = timed ? s->touched_ns + s->timeout_ns - x_.options.expiry_slack_ns : kAlways;
      walk.shapes.push_back({{}, id, {{s->replied, kNone}}, from});
    }
  }

  Index& x_;
  std::vector<Walk> walks_;
};

}  // namespace

bool check_nodes(Index& x) { return WalkSorter(x).run(); }

}  // namespace coord::history
