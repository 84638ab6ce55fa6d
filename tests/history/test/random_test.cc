// The checker against a correct model (never a violation), against the same histories spoilt at one place (always one),
// and, on small histories with arbitrary answers, against every permutation.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/history/index.h"
#include "tests/history/test/model.h"

namespace coord::history {
namespace {

History made(std::uint64_t seed, ModelOptions options) { return Model(seed, options).run(); }

TEST(CheckerRandom, histories_of_a_correct_service_are_good) {
  std::uint64_t records = 0;
  for (std::uint64_t seed = 1; seed <= 500; ++seed) {
    ModelOptions options;
    options.operations = 50 + static_cast<int>(seed % 300);
    options.paths = 1 + static_cast<int>(seed % 6);
    options.sessions = 2 + static_cast<int>(seed % 7);
    const History h = made(seed, options);
    const Verdict v = check(h);
    ASSERT_EQ(v.outcome, Outcome::kOk) << "seed " << seed << ": " << explain(h, v);
    records += h.records().size();
  }
  EXPECT_GT(records, 50'000U);
}

TEST(CheckerRandom, histories_without_zxids_are_good) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    ModelOptions options;
    options.operations = 60;
    options.zxids = false;
    const History h = made(seed, options);
    const Verdict v = check(h);
    ASSERT_EQ(v.outcome, Outcome::kOk) << "seed " << seed << ": " << explain(h, v);
  }
}

// Spoils one answered read. False: this read has nothing to spoil in that way.
bool spoil(History& h, std::size_t record, int how) {
  Record& r = h.records()[record];
  Answer& a = r.answer;
  if (r.kind != Kind::kOk || a.mzxid == 0) return false;
  switch (how) {
    case 0: ++a.version; return true;
    case 1: --a.version; return a.version >= 0;
    case 2: a.mzxid -= 1; return a.mzxid >= a.czxid;
    case 3: a.owner += 1; return true;
    case 4: a.value = "nobody"; return true;
    default:  // the value of another write
      for (const Record& other : h.records()) {
        if (other.kind != Kind::kInv || other.request.value.empty() || other.request.value == a.value) continue;
        a.value = other.request.value;
        return true;
      }
      return false;
  }
}

TEST(CheckerRandom, a_spoilt_read_is_found_where_nothing_is_unknown) {
  int spoilt = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    ModelOptions options;
    options.operations = 80;
    options.lost_connections = options.session_ends = 0;
    const History good = made(seed, options);
    std::vector<std::uint64_t> gets;
    for (const Record& r : good.records()) {
      if (r.kind == Kind::kInv && (r.request.op == Op::kGet || r.request.op == Op::kSyncGet)) gets.push_back(r.id);
    }
    for (std::size_t i = 0; i < good.records().size(); ++i) {
      if (std::find(gets.begin(), gets.end(), good.records()[i].id) == gets.end()) continue;
      History h = good;
      const int how = static_cast<int>((seed + i) % 6);
      if (!spoil(h, i, how)) continue;
      ++spoilt;
      const Verdict v = check(h);
      ASSERT_EQ(v.outcome, Outcome::kViolation) << "seed " << seed << " record " << i << " how " << how << ": "
                                                << to_string(Zxid(h.records()[i].answer.zxid));
    }
  }
  EXPECT_GT(spoilt, 300);
}

TEST(CheckerRandom, a_spoilt_read_is_nearly_always_found_with_lost_connections) {
  int spoilt = 0;
  int found = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const History good = made(seed, {});
    for (std::size_t i = 0; i < good.records().size(); ++i) {
      const Record& r = good.records()[i];
      if (r.kind != Kind::kOk || r.answer.value.empty()) continue;
      History h = good;
      if (!spoil(h, i, static_cast<int>((seed + i) % 6))) continue;
      ++spoilt;
      found += check(h).outcome == Outcome::kViolation ? 1 : 0;
    }
  }
  EXPECT_GT(spoilt, 500);
  EXPECT_GE(found * 100, spoilt * 97) << found << " of " << spoilt;
}

TEST(CheckerRandom, an_absence_in_place_of_a_node_is_found) {
  int spoilt = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    ModelOptions options;
    options.operations = 80;
    options.lost_connections = options.session_ends = 0;
    History h = made(seed, options);
    for (Record& r : h.records()) {
      if (r.kind != Kind::kOk || r.answer.value.empty()) continue;
      r.kind = Kind::kFail;
      r.answer = {.error = Err::kNoNode, .zxid = r.answer.zxid};
      ++spoilt;
      ASSERT_EQ(check(h).outcome, Outcome::kViolation) << "seed " << seed;
      break;
    }
  }
  EXPECT_GT(spoilt, 80);
}

TEST(CheckerRandom, an_event_that_is_lost_or_late_is_found) {
  int spoilt = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    ModelOptions options;
    options.operations = 100;
    options.lost_connections = options.session_ends = 0;
    const History good = made(seed, options);
    std::set<std::uint64_t> writes;
    std::set<std::uint64_t> answered;  // transactions; the writer of another is not known at the end of the history
    for (const Record& r : good.records()) {
      if (r.kind == Kind::kInv && is_write(r.request.op)) writes.insert(r.id);
      if (r.kind == Kind::kOk && writes.contains(r.id)) answered.insert(r.answer.zxid);
    }
    for (std::size_t i = 0; i < good.records().size(); ++i) {
      const Record& event = good.records()[i];
      if (event.kind != Kind::kEvent || !answered.contains(event.answer.zxid)) continue;
      // The next reply of this session that gives the change away.
      std::size_t reply = i + 1;
      for (; reply < good.records().size(); ++reply) {
        const Record& r = good.records()[reply];
        const bool answer = r.kind == Kind::kOk || r.kind == Kind::kFail;
        if (answer && r.session == event.session && r.answer.zxid >= event.answer.zxid) break;
      }
      if (reply == good.records().size()) continue;
      History without;
      History behind;
      for (std::size_t j = 0; j < good.records().size(); ++j) {
        if (j == i) continue;
        without.add(good.records()[j]);
        behind.add(good.records()[j]);
        if (j != reply) continue;
        Record moved = event;
        moved.ns = good.records()[j].ns;
        behind.add(std::move(moved));
      }
      ASSERT_EQ(check(without).rule, "lost-event") << "seed " << seed << " record " << i;
      ASSERT_EQ(check(behind).rule, "event-after-reply") << "seed " << seed << " record " << i;
      ++spoilt;
    }
  }
  EXPECT_GT(spoilt, 100);
}

// --- every permutation ------------------------------------------------------------------------------------------

struct Small {
  Request request;
  Kind kind = Kind::kInfo;
  Answer answer;
  std::int64_t inv = 0, end = 0;
};

struct Register {
  bool exists = false;
  int version = 0;
  std::string value;
};

bool step(Register& s, const Small& o) {
  const Request& r = o.request;
  const bool told = o.kind != Kind::kInfo;
  Err error = Err::kOk;
  Register next = s;
  if (r.op == Op::kCreate) {
    if (s.exists) error = Err::kNodeExists;
    else next = {true, 0, r.value};
  } else if (!s.exists) {
    error = Err::kNoNode;
  } else if (r.expected >= 0 && r.expected != s.version) {
    error = Err::kBadVersion;
  } else if (r.op == Op::kSet || r.op == Op::kSetCas) {
    next = {true, s.version + 1, r.value};
  } else if (r.op == Op::kDelete || r.op == Op::kDeleteCas) {
    next = {};
  }
  if (!told) {
    if (error != Err::kOk) return false;  // as if it never happened: covered by leaving it out
  } else {
    if (error != o.answer.error) return false;
    if (r.op == Op::kSyncGet && error == Err::kOk && o.answer.value != s.value) return false;
    if (error == Err::kOk && o.answer.version >= 0 && o.answer.version != next.version) return false;
  }
  s = next;
  return true;
}

bool explainable(const std::vector<Small>& all, std::uint32_t left, const Register& s) {
  bool complete = true;
  for (std::size_t i = 0; i < all.size(); ++i) {
    complete = complete && ((left >> i & 1U) == 0 || all[i].kind == Kind::kInfo);
  }
  if (complete) return true;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if ((left >> i & 1U) == 0) continue;
    bool first = true;  // nothing left ended before it began
    for (std::size_t j = 0; j < all.size(); ++j) {
      first = first && ((left >> j & 1U) == 0 || j == i || all[j].kind == Kind::kInfo || all[j].end >= all[i].inv);
    }
    Register next = s;
    if (first && step(next, all[i]) && explainable(all, left & ~(1U << i), next)) return true;
  }
  return false;
}

Small some_operation(std::mt19937_64& rng, std::size_t number) {
  const auto below = [&](unsigned n) { return static_cast<int>(rng() % n); };
  Small o;
  const std::string value = "w" + std::to_string(number);
  const int version = below(3);
  switch (below(7)) {
    case 0: o.request = {.op = Op::kCreate, .path = "/r", .value = value}; break;
    case 1: o.request = {.op = Op::kSet, .path = "/r", .value = value}; break;
    case 2: o.request = {.op = Op::kSetCas, .path = "/r", .value = value, .expected = version}; break;
    case 3: o.request = {.op = below(2) == 0 ? Op::kDelete : Op::kDeleteCas, .path = "/r", .expected = -1}; break;
    default: o.request = {.op = Op::kSyncGet, .path = "/r"}; break;
  }
  if (o.request.op == Op::kDeleteCas) o.request.expected = version;
  o.inv = 1000 * below(12);
  o.end = o.inv + 1 + 1000 * below(6);
  return o;
}

// Answers from a sequential run in a random order, at times altered: about half of the histories are explainable.
std::vector<Small> small_history(std::mt19937_64& rng) {
  std::vector<Small> all;
  const std::size_t n = 3 + rng() % 5;
  for (std::size_t i = 0; i < n; ++i) all.push_back(some_operation(rng, i));
  all[0].request = {.op = Op::kCreate, .path = "/r", .value = "w0"};
  all[0].inv = 0;
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin() + 1, order.end(), rng);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return all[a].end < all[b].inv; });
  Register s;
  for (const std::size_t i : order) {
    Small& o = all[i];
    const Request& r = o.request;
    if (r.op != Op::kSyncGet && rng() % 5 == 0) {
      if (rng() % 2 == 0) step(s, o);
      continue;  // no answer
    }
    Register next = s;
    for (const Err e : {Err::kOk, Err::kNoNode, Err::kNodeExists, Err::kBadVersion}) {
      next = s;
      o.kind = e == Err::kOk ? Kind::kOk : Kind::kFail;
      o.answer = {.error = e};
      if (e == Err::kOk && r.op == Op::kSyncGet) o.answer.value = s.value;
      if (step(next, o)) break;
    }
    s = next;
    if (o.kind == Kind::kOk && (r.op == Op::kSet || r.op == Op::kSetCas)) o.answer.version = s.version;
  }
  if (rng() % 2 == 0) {
    Small& o = all[rng() % n];
    if (o.kind == Kind::kOk && o.request.op == Op::kSyncGet) o.answer.value = "w" + std::to_string(rng() % n);
    else if (o.kind == Kind::kOk && o.answer.version >= 0) o.answer.version += 1;
  }
  return all;
}

TEST(CheckerRandom, agrees_with_every_permutation_on_small_histories) {
  std::mt19937_64 rng(7);
  int good = 0;
  int bad = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::vector<Small> all = small_history(rng);
    std::vector<Record> records;
    for (std::size_t i = 0; i < all.size(); ++i) {
      Record inv;
      inv.kind = Kind::kInv;
      inv.ns = all[i].inv;
      inv.id = i + 1;
      inv.request = all[i].request;
      records.push_back(inv);
      if (all[i].kind == Kind::kInfo) continue;
      Record end;
      end.kind = all[i].kind;
      end.ns = all[i].end;
      end.id = i + 1;
      end.answer = all[i].answer;
      records.push_back(end);
    }
    std::stable_sort(records.begin(), records.end(), [](const Record& a, const Record& b) { return a.ns < b.ns; });
    History h;
    for (Record& r : records) h.add(std::move(r));
    const bool expected = explainable(all, (1U << all.size()) - 1, {});
    const Verdict v = check(h);
    ASSERT_EQ(v.outcome, expected ? Outcome::kOk : Outcome::kViolation) << "round " << round << ": " << explain(h, v);
    (expected ? good : bad) += 1;
  }
  EXPECT_GT(good, 2000);
  EXPECT_GT(bad, 2000);
}

}  // namespace
}  // namespace coord::history
