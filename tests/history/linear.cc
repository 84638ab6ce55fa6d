// Searches, for each node, an order of its writes, refused writes and fresh reads that respects real time and gives
// the answers that were given. No zxid is believed: the walk of nodes.cc only says which candidate to try first, so
// that the search for a correct history goes straight through. Wing and Gong, "Testing and verifying concurrent
// objects" (1993); Lowe, "Testing for linearizability" (2017): positions that failed once are remembered, and only
// those, for a history that is right has few of them, however long it is. Two things keep writes without an answer from
// multiplying: those whose value nobody saw are interchangeable within one shape and are taken in order, and a position
// that failed fails as well when more of them have been used up.
#include <algorithm>
#include <unordered_map>

#include "tests/history/index.h"

namespace coord::history {
namespace {

struct State {
  bool exists = false;
  std::int32_t version = 0;
  ValueId value = kUntold;
  std::int64_t owner = 0;
  bool operator==(const State&) const = default;
};

struct Step {
  std::int64_t inv_ns = 0;
  std::int64_t end_ns = kNever;
  std::uint64_t hint = kZxidMax;     // tried in this order
  bool required = true;              // false: may never have happened
  const Operation* op = nullptr;     // null: the end of session `session`
  std::vector<const Effect*> effects;  // writes
  const Effect* refused = nullptr;
  std::int64_t session = 0;
  std::size_t record = kNone;        // session ends
  bool hidden = false;               // optional, and nobody read its value
  std::size_t same_before = kNone;   // the step before this one that is interchangeable with it
};

bool apply(const Index& x, State& s, const Effect& e) {
  if (is_create(e.kind)) {
    if (s.exists) return false;
    s = {true, 0, e.value, e.owner};
  } else {
    if (!s.exists || (e.expected >= 0 && e.expected != s.version)) return false;
    if (is_delete(e.kind)) s = {};
    if (is_set(e.kind)) s = {true, s.version + 1, e.value, s.owner};
  }
  const bool told = e.answer != nullptr && x.operations[e.op].status == Status::kOk && e.answer->version >= 0;
  return !told || !(is_create(e.kind) || is_set(e.kind)) || e.answer->version == s.version;
}

class Search {
 public:
  Search(Index& x, PathId path) : x_(x), path_(path) {}
  std::vector<Step> steps;
  bool run();
  void forget() {  // what the search needed
    std::vector<Frame>().swap(frames_);
    seen_.clear();
    std::vector<Step>().swap(steps);
  }

 private:
  struct Frame {
    State state;
    std::vector<std::uint32_t> candidates;
    std::size_t next = 0;
    std::uint32_t taken = 0;  // the step that led here
    std::size_t first = 0;    // no required step before this one is open
  };

  bool take(const Step& step, State& s);
  bool read(const Step& step, const State& s);
  void find_candidates(Frame& f);
  void find_shapes();
  bool is_done(std::size_t i) const { return (done_[i / 64] >> (i % 64) & 1U) != 0; }
  std::pair<std::string, std::vector<std::uint64_t>> position(const State& s) const;
  void remember(const State& s);
  bool failed_before(const State& s) const;
  bool leads_nowhere(const Step& step, const State& s) const;
  bool report();

  Index& x_;
  PathId path_;
  std::vector<std::uint64_t> done_;  // bit set of linearized steps
  std::vector<std::uint64_t> needed_;  // bit set of the required steps
  std::vector<std::uint32_t> optional_;  // the other ones, ascending
  std::unordered_map<std::string, std::vector<std::vector<std::uint64_t>>> seen_;
  std::size_t required_ = 0;
  std::size_t deepest_ = 0;
  std::uint32_t stuck_ = 0;
  State stuck_state_;
  std::vector<Frame> frames_;
};

bool Search::read(const Step& step, const State& s) {
  const Operation& op = *step.op;
  if (op.status == Status::kFail) return !s.exists;
  if (!s.exists) return false;
  const bool get = op.request->op == Op::kGet || op.request->op == Op::kSyncGet;
  if (get && x_.value(op.answer->value) != s.value) return false;
  return op.answer->mzxid == 0 || (op.answer->version == s.version && op.answer->owner == s.owner);
}

bool Search::take(const Step& step, State& s) {
  if (step.op == nullptr) {
    if (s.exists && s.owner == step.session) s = {};
    return true;
  }
  if (step.refused != nullptr) return refusal_fits(x_, *step.refused, s.exists, s.version);
  if (step.effects.empty()) return read(step, s);
  for (const Effect* e : step.effects) {
    if (!apply(x_, s, *e)) return false;
  }
  if (step.hidden && s.exists) s.value = kUntold;
  return true;
}

// Open steps that were sent before the first open step was answered.
void Search::find_candidates(Frame& f) {
  std::int64_t first_end = kNever;
  std::uint32_t blocker = 0;
  const auto open = [this](std::size_t i) {
    return !is_done(i) && (steps[i].same_before == kNone || is_done(steps[i].same_before));
  };
  // What may never happen stays open for ever: all that lies behind such a step is not to be looked at again for it.
  for (const std::uint32_t i : optional_) {
    if (i >= f.first) break;
    if (open(i)) f.candidates.push_back(i);
  }
  for (std::size_t i = f.first; i < steps.size(); ++i) {
    if (steps[i].inv_ns > first_end) break;
    if (i == f.first && (is_done(i) || !steps[i].required)) ++f.first;
    if (!open(i)) continue;
    f.candidates.push_back(static_cast<std::uint32_t>(i));
    if (steps[i].required && steps[i].end_ns < first_end) {
      first_end = steps[i].end_ns;
      blocker = static_cast<std::uint32_t>(i);
    }
  }
  std::erase_if(f.candidates, [&](std::uint32_t i) { return steps[i].inv_ns > first_end; });
  std::stable_sort(f.candidates.begin(), f.candidates.end(), [&](std::uint32_t a, std::uint32_t b) {
    return steps[a].hint != steps[b].hint ? steps[a].hint < steps[b].hint : steps[a].required && !steps[b].required;
  });
  if (frames_.size() >= deepest_) {
    deepest_ = frames_.size();
    stuck_ = blocker;
    stuck_state_ = f.state;
  }
}

bool within(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if ((a[i] & ~b[i]) != 0) return false;
  }
  return true;
}

// Where the search stands: the required steps that are done and the state, and the optional ones that are done.
std::pair<std::string, std::vector<std::uint64_t>> Search::position(const State& s) const {
  std::vector<std::uint64_t> optional(done_);
  std::string key;
  const auto add = [&key](auto v) { key.append(reinterpret_cast<const char*>(&v), sizeof(v)); };
  for (std::size_t i = 0; i < done_.size(); ++i) {
    optional[i] &= ~needed_[i];
    add(done_[i] & needed_[i]);
  }
  add(s.exists);
  add(s.version);
  add(s.value);
  add(s.owner);
  return {std::move(key), std::move(optional)};
}

void Search::remember(const State& s) {
  auto [key, optional] = position(s);
  auto& used = seen_[std::move(key)];
  std::erase_if(used, [&optional = optional](const auto& before) { return within(optional, before); });
  used.push_back(std::move(optional));
}

// From this position, or from one that has used fewer optional steps.
bool Search::failed_before(const State& s) const {
  if (seen_.empty()) return false;
  const auto [key, optional] = position(s);
  const auto found = seen_.find(key);
  if (found == seen_.end()) return false;
  return std::any_of(found->second.begin(), found->second.end(), [this, &optional = optional](const auto& before) {
    return !x_.budget.spend() || within(before, optional);
  });
}

// Optional steps that, after all, change nothing: without them the search stands there already.
bool Search::leads_nowhere(const Step& step, const State& s) const {
  if (step.required) return false;
  for (std::size_t k = frames_.size(); k-- > 0;) {
    if (frames_[k].state == s) return true;
    if (k == 0 || steps[frames_[k].taken].required) break;
  }
  return false;
}

// Interchangeable: optional, same effects, of values that no read on this node shows.
void Search::find_shapes() {
  std::vector<ValueId> read;
  for (const Step& step : steps) {
    if (step.op != nullptr && is_node_read(step.op->request->op) && step.op->answer != nullptr) {
      read.push_back(x_.value(step.op->answer->value));
    }
  }
  std::sort(read.begin(), read.end());
  const auto hidden = [&](const Step& s) {
    return !s.required && s.op != nullptr && s.op->txn == 0 &&
           std::none_of(s.effects.begin(), s.effects.end(), [&](const Effect* e) {
             return (is_create(e->kind) || is_set(e->kind)) && std::binary_search(read.begin(), read.end(), e->value);
           });
  };
  const auto same = [](const Effect* a, const Effect* b) {
    const auto shape = [](Op op) { return is_create(op) ? 0 : is_set(op) ? 1 : is_delete(op) ? 2 : 3; };
    return shape(a->kind) == shape(b->kind) && a->expected == b->expected && a->owner == b->owner;
  };
  std::vector<std::size_t> last;  // of each shape
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (!hidden(steps[i])) continue;
    const auto it = std::find_if(last.begin(), last.end(), [&](std::size_t j) {
      return std::equal(steps[i].effects.begin(), steps[i].effects.end(), steps[j].effects.begin(),
                        steps[j].effects.end(), same);
    });
    steps[i].hidden = true;
    if (it == last.end()) {
      last.push_back(i);
    } else {
      steps[i].same_before = *it;
      *it = i;
    }
  }
}

bool Search::run() {
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.inv_ns < b.inv_ns; });
  done_.assign(steps.size() / 64 + 1, 0);
  needed_ = done_;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (!steps[i].required) {
      optional_.push_back(static_cast<std::uint32_t>(i));
      continue;
    }
    needed_[i / 64] |= std::uint64_t{1} << (i % 64);
    ++required_;
  }
  find_shapes();
  Frame start;
  const std::size_t init = x_.paths[path_].init;
  if (init != kNone) {
    const Record& r = x_.records[init];
    start.state = {true, r.answer.version, x_.value(r.request.value), r.answer.owner};
  }
  if (required_ == 0) return true;
  find_candidates(start);
  frames_.push_back(std::move(start));
  while (!frames_.empty()) {
    Frame& f = frames_.back();
    if (f.next == f.candidates.size()) {
      if (frames_.size() == 1) return report();
      remember(f.state);
      done_[f.taken / 64] &= ~(std::uint64_t{1} << (f.taken % 64));
      required_ += steps[f.taken].required ? 1 : 0;
      frames_.pop_back();
      continue;
    }
    if (!x_.budget.spend()) return false;
    const std::uint32_t chosen = f.candidates[f.next++];
    Frame child;
    child.state = f.state;
    if (!take(steps[chosen], child.state) || leads_nowhere(steps[chosen], child.state)) continue;
    done_[chosen / 64] |= std::uint64_t{1} << (chosen % 64);
    if (failed_before(child.state)) {
      done_[chosen / 64] &= ~(std::uint64_t{1} << (chosen % 64));
      continue;
    }
    required_ -= steps[chosen].required ? 1 : 0;
    if (required_ == 0) return true;
    child.taken = chosen;
    child.first = f.first;
    find_candidates(child);
    frames_.push_back(std::move(child));
  }
  return report();
}

bool Search::report() {
  const Step& step = steps[stuck_];
  std::vector<std::size_t> offending{step.record};
  if (step.op != nullptr) offending.insert(offending.end(), {step.op->inv, step.op->end});
  // The operation answered last before the one that fits nowhere was sent is the usual other half.
  const Operation* before = nullptr;
  for (const Step& s : steps) {
    if (s.op == nullptr || s.effects.empty() || !s.required || s.end_ns >= step.inv_ns) continue;
    if (before == nullptr || s.end_ns > before->end_ns) before = s.op;
  }
  if (before != nullptr) offending.insert(offending.end(), {before->inv, before->end});
  const std::string state = stuck_state_.exists ? "version " + std::to_string(stuck_state_.version) : "no node";
  return x_.fail("not-linearizable", "no order of the operations on " + std::string(x_.paths[path_].text) +
                 " gives the answers that were given; the longest attempt stops, with " + state +
                 ", before the named operation", offending);
}

class SearchSorter {
 public:
  explicit SearchSorter(Index& x) : x_(x), owners_(x.paths.size()) {
    searches_.reserve(x.paths.size());
    for (PathId p = 0; p < x.paths.size(); ++p) searches_.emplace_back(x, p);
  }

  bool run() {
    for (const Operation& op : x_.operations) {
      if (is_write(op.request->op)) op.status == Status::kFail ? add_refusal(op) : add_write(op);
      else if (is_node_read(op.request->op) && op.answer != nullptr && op.fresh_ns != kNever) add_read(op);
    }
    for (PathId p = 0; p < x_.paths.size(); ++p) {
      if (!x_.paths[p].judged) continue;
      const std::size_t init = x_.paths[p].init;
      if (init != kNone) owners_[p].push_back(x_.records[init].answer.owner);
      add_ends(p);
      if (!searches_[p].run()) return false;
      searches_[p].forget();
    }
    return true;
  }

 private:
  void add_write(const Operation& op) {
    for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
      const Effect& e = x_.effects[i];
      if (e.path == kNoPath) {
        for (PathId p = 0; p < x_.paths.size(); ++p) {
          if (may_make(x_, e, p)) add(op, p, {&e}, false);
        }
        continue;
      }
      bool first = true;
      std::vector<const Effect*> here;
      for (std::size_t j = op.effects; j < op.effects + op.effects_count; ++j) {
        if (x_.effects[j].path != e.path) continue;
        first = first && j >= i;
        here.push_back(&x_.effects[j]);
      }
      if (first) add(op, e.path, std::move(here), op.status == Status::kOk);
    }
  }

  std::uint64_t hint(const Operation& op, PathId path) const {
    const auto found = x_.hints.find({static_cast<std::size_t>(&op - x_.operations.data()), path});
    return found == x_.hints.end() ? kZxidMax : found->second;
  }

  void add(const Operation& op, PathId path, std::vector<const Effect*> effects, bool required) {
    for (const Effect* e : effects) owners_[path].push_back(e->owner);
    Step step;
    step.inv_ns = op.inv_ns;
    step.end_ns = op.end_ns;
    step.required = required;
    step.hint = hint(op, path);
    step.op = &op;
    step.effects = std::move(effects);
    searches_[path].steps.push_back(std::move(step));
  }

  void add_refusal(const Operation& op) {
    if (!is_state_error(op.answer->error) && op.request->op != Op::kMulti) return;
    const Effect* e = culprit(x_, op);
    if (e == nullptr || e->path == kNoPath) return;
    Step step;
    step.inv_ns = op.inv_ns;
    step.end_ns = op.end_ns;
    step.hint = hint(op, e->path);
    step.op = &op;
    step.refused = e;
    searches_[e->path].steps.push_back(std::move(step));
  }

  void add_read(const Operation& op) {
    if (op.status == Status::kFail && op.answer->error != Err::kNoNode) return;
    Step step;
    step.inv_ns = op.fresh_ns;
    step.end_ns = op.end_ns;
    const PathId path = x_.path(op.request->path);
    step.hint = hint(op, path);
    step.op = &op;
    searches_[path].steps.push_back(std::move(step));
  }

  // The end of each session that may own the node. Where nothing is known of it, it may end at any time, or not.
  void add_ends(PathId path) {
    auto& owners = owners_[path];
    std::sort(owners.begin(), owners.end());
    owners.erase(std::unique(owners.begin(), owners.end()), owners.end());
    for (const std::int64_t id : owners) {
      if (id == 0) continue;
      const Session* s = x_.session(id);
      Step step;
      step.session = id;
      step.inv_ns = s == nullptr ? kAlways : std::max(s->open_ns, s->end_from_ns);
      step.required = s != nullptr && s->ended;
      if (s != nullptr) {
        step.end_ns = s->end_ns;
        step.record = s->end_record;
      }
      const auto found = x_.end_hints.find({id, path});
      if (found != x_.end_hints.end()) step.hint = found->second;
      else if (!x_.hints.empty()) step.hint = 0;  // it never owned the node: out of the way
      searches_[path].steps.push_back(std::move(step));
    }
  }

  Index& x_;
  std::vector<Search> searches_;
  std::vector<std::vector<std::int64_t>> owners_;
};

}  // namespace

bool check_linear(Index& x) { return SearchSorter(x).run(); }

}  // namespace coord::history
