#include "tests/history/index.h"

#include <algorithm>
#include <cctype>

namespace coord::history {
namespace {

bool is_answer(const Record& r) { return r.kind == Kind::kOk || r.kind == Kind::kFail; }

// -1 and the like mean "none" on the wire.
std::uint64_t told(std::uint64_t zxid) { return (zxid >> 63) != 0 ? 0 : zxid; }

// Errors that a replica without the session gives: the reply says nothing about a live session.
bool is_session_error(Err error) {
  return error == Err::kSessionExpired || error == Err::kSessionMoved || error == Err::kUnknownSession ||
         error == Err::kConnectionLoss || error == Err::kOperationTimeout;
}

bool leader_ordered(Op op) { return is_write(op) || op == Op::kSync || op == Op::kSyncGet || op == Op::kClose; }

}  // namespace

bool is_state_error(Err error) {
  return error == Err::kNoNode || error == Err::kNodeExists || error == Err::kBadVersion || error == Err::kNotEmpty ||
         error == Err::kNoChildrenForEphemerals;
}

std::string zxid_text(std::uint64_t zxid) { return to_string(Zxid(zxid)); }

std::string_view parent_path(std::string_view path) {
  const auto slash = path.rfind('/');
  if (slash == std::string_view::npos || path.size() == 1) return {};
  return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

std::int64_t sequence_of(std::string_view name) {
  if (name.size() < 10) return -1;
  std::int64_t number = 0;
  for (const char c : name.substr(name.size() - 10)) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) return -1;
    number = number * 10 + (c - '0');
  }
  return number;
}

bool may_make(const Index& x, const Effect& e, PathId path) {
  if (e.path != kNoPath) return e.path == path;
  const auto text = x.paths[path].text;
  return is_sequential(e.kind) && text.size() == e.request->path.size() + 10 && text.starts_with(e.request->path) &&
         sequence_of(text) >= 0;
}

const Effect* culprit(const Index& x, const Operation& op) {
  const bool multi = op.request->op == Op::kMulti;
  for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
    const Effect& e = x.effects[i];
    if (multi && (e.answer == nullptr || !is_state_error(e.answer->error))) continue;
    for (std::size_t j = op.effects; j < i; ++j) {
      // Earlier parts of the multi may have prepared the refusal.
      if (x.effects[j].path == e.path || x.effects[j].path == kNoPath) return nullptr;
    }
    return &e;
  }
  return nullptr;
}

bool refusal_fits(const Index& x, const Effect& e, bool exists, std::int32_t version) {
  const Err error = e.answer != nullptr ? e.answer->error : x.operations[e.op].answer->error;
  if (error == Err::kNodeExists) return !is_create(e.kind) || exists;
  if (error == Err::kNoNode) return is_create(e.kind) || !exists;  // a create's: the parent is missing
  if (error == Err::kBadVersion) return exists && e.expected >= 0 && e.expected != version;
  return error != Err::kNotEmpty || exists;
}

Budget::Budget(const Options& options)
    : steps_max_(options.steps_max),
      timed_(options.deadline.count() > 0),
      end_(std::chrono::steady_clock::now() + options.deadline) {}

bool Budget::late() { return timed_ && std::chrono::steady_clock::now() >= end_; }

bool Index::fail(std::string rule, std::string text, std::vector<std::size_t> offending) {
  std::erase(offending, kNone);
  std::sort(offending.begin(), offending.end());
  offending.erase(std::unique(offending.begin(), offending.end()), offending.end());
  verdict = {Outcome::kViolation, std::move(rule), std::move(text), std::move(offending)};
  return false;
}

bool Index::bad(std::size_t record, const std::string& why) {
  verdict = {Outcome::kUnknown, "not-a-history", why, {record}};
  return false;
}

PathId Index::path(std::string_view text) {
  const auto [it, fresh] = path_ids.try_emplace(text, static_cast<PathId>(paths.size()));
  if (!fresh) return it->second;
  const PathId id = it->second;
  paths.emplace_back();
  paths[id].text = text;
  paths[id].judged = text.size() > 1 && !text.starts_with("/zookeeper");
  const auto above = parent_path(text);
  if (!above.empty()) {
    const PathId parent = path(above);
    paths[id].parent = parent;
    paths[parent].children.push_back(id);
  }
  return id;
}

ValueId Index::value(const std::string& text) {
  if (text.empty()) return kEmpty;
  return value_ids.try_emplace(text, static_cast<ValueId>(value_ids.size() + 1)).first->second;
}

Session& Index::session_at(std::int64_t id) {
  const auto [it, fresh] = session_ids.try_emplace(id, sessions.size());
  if (fresh) sessions.emplace_back().id = id;
  return sessions[it->second];
}

Session* Index::session(std::int64_t id) {
  const auto found = session_ids.find(id);
  return found == session_ids.end() ? nullptr : &sessions[found->second];
}

bool Index::build() {
  order.resize(records.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto by_time = [&](std::size_t a, std::size_t b) {
    const auto rank = [](const Record& r) { return r.kind == Kind::kInit ? kAlways : r.ns; };
    return rank(records[a]) < rank(records[b]);
  };
  if (!std::is_sorted(order.begin(), order.end(), by_time)) std::stable_sort(order.begin(), order.end(), by_time);
  operation_of.assign(records.size(), kNone);
  operations.reserve(records.size() / 2 + 1);
  for (const std::size_t r : order) {
    bool good = true;
    switch (records[r].kind) {
      case Kind::kInv: good = add_request(r); break;
      case Kind::kOk:
      case Kind::kFail:
      case Kind::kInfo: good = add_reply(r); break;
      case Kind::kSession: good = add_session_record(r); break;
      case Kind::kInit: good = add_init(r); break;
      case Kind::kEvent: static_cast<void>(path(records[r].request.path)); break;
      case Kind::kFault: break;
    }
    if (!good) return false;
  }
  for (std::size_t i = 0; i < operations.size(); ++i) add_effects(i);
  mark_above();
  mark_fresh();
  finish_sessions();
  return true;
}

bool Index::add_request(std::size_t record) {
  const Record& r = records[record];
  if (!open_.try_emplace(r.id, operations.size()).second) return bad(record, "an operation id is used twice");
  operation_of[record] = operations.size();
  Operation& op = operations.emplace_back();
  op.inv = record;
  op.request = &r.request;
  op.session = r.session;
  op.inv_ns = r.ns;
  if (r.session != 0 && r.request.op == Op::kClose) session_at(r.session).close_tried = true;
  return true;
}

bool Index::add_reply(std::size_t record) {
  const Record& r = records[record];
  const auto found = open_.find(r.id);
  if (found == open_.end()) return bad(record, "an answer without a request before it");
  Operation& op = operations[found->second];
  if (op.end != kNone) return bad(record, "an operation with two answers");
  operation_of[record] = found->second;
  op.end = record;
  if (r.kind == Kind::kInfo) return true;
  if ((r.kind == Kind::kFail) != (r.answer.error != Err::kOk) &&
      !(r.kind == Kind::kFail && op.request->op == Op::kMulti)) {
    return bad(record, "`ok` goes without an error, `fail` with one");
  }
  if (!r.answer.multi.empty() && r.answer.multi.size() != op.request->multi.size()) {
    return bad(record, "a multi whose answer has another number of parts");
  }
  op.end_ns = r.ns;
  op.answer = &r.answer;
  op.status = r.kind == Kind::kOk ? Status::kOk : Status::kFail;
  op.zxid = told(r.answer.zxid);
  note_reply(op);
  return true;
}

// What a reply says about its session.
void Index::note_reply(Operation& op) {
  if (op.session == 0 || (op.status == Status::kFail && is_session_error(op.answer->error))) return;
  Session& s = session_at(op.session);
  if (op.request->op == Op::kClose) {
    if (op.status != Status::kOk) return;
    s.ended = true;
    if (op.zxid != 0) s.end_zxid = op.zxid;
    s.end_from_ns = op.inv_ns;
    s.end_ns = std::min(s.end_ns, op.end_ns);
    s.end_record = op.end;
    return;
  }
  if (op.zxid > s.replied) {
    s.replied = op.zxid;
    s.replied_record = op.end;
  }
  const std::int64_t touched = op.inv_ns - (leader_ordered(op.request->op) ? 0 : options.touch_lag_ns);
  if (touched > s.touched_ns && !s.ended) {
    s.touched_ns = touched;
    s.touched_record = op.end;
  }
}

bool Index::add_session_record(std::size_t record) {
  const Record& r = records[record];
  if (r.session == 0) return bad(record, "a session record without a session");
  Session& s = session_at(r.session);
  switch (r.change) {
    case SessionChange::kOpened:
      if (s.open_ns == kAlways) s.open_ns = r.ns;
      [[fallthrough]];
    case SessionChange::kMoved:
      if (r.timeout_ns > 0) s.timeout_ns = s.timeout_ns == 0 ? r.timeout_ns : std::min(s.timeout_ns, r.timeout_ns);
      return true;
    case SessionChange::kDisconnected: return true;
    case SessionChange::kClosed:
      s.close_tried = true;
      [[fallthrough]];
    case SessionChange::kExpired:
      s.ended = true;
      if (told(r.answer.zxid) != 0 && s.end_zxid == 0) s.end_zxid = told(r.answer.zxid);
      if (s.end_record == kNone || r.change == SessionChange::kExpired) s.end_record = record;
      s.end_ns = std::min(s.end_ns, r.ns);
      return true;
  }
  return true;
}

bool Index::add_init(std::size_t record) {
  const Record& r = records[record];
  const PathId id = path(r.request.path);
  if (r.answer.mzxid == 0 || r.answer.czxid == 0 || r.answer.version < 0) {
    return bad(record, "an init record needs mzxid, czxid and version");
  }
  if (paths[id].init != kNone) return bad(record, "two init records for one path");
  paths[id].init = record;
  paths[id].created = true;
  return true;
}

void Index::add_effects(std::size_t number) {
  Operation& op = operations[number];
  const Request& request = *op.request;
  op.effects = effects.size();
  if (request.op == Op::kMulti) {
    for (std::size_t i = 0; i < request.multi.size(); ++i) {
      const bool has = op.answer != nullptr && i < op.answer->multi.size();
      add_effect(number, request.multi[i], has ? &op.answer->multi[i] : nullptr);
    }
  } else if (is_write(request.op)) {
    add_effect(number, request, op.answer);
  } else {
    if (!request.path.empty()) static_cast<void>(path(request.path));
    if (request.op == Op::kChildren && op.status == Status::kOk) add_listing(op);
  }
  op.effects_count = effects.size() - op.effects;
  if (!is_write(request.op) || op.answer == nullptr) return;
  if (op.status == Status::kOk) {
    op.txn = op.answer->replayed ? told(op.answer->mzxid) : op.zxid;
    if (op.txn == 0) op.txn = told(op.answer->mzxid);
    if (op.txn == 0 && !op.answer->replayed && !op.answer->multi.empty()) op.txn = told(op.answer->multi[0].mzxid);
  } else if (options.refused_writes_take_zxid && !op.answer->replayed && is_state_error(op.answer->error)) {
    op.txn = op.zxid;
  }
}

void Index::add_effect(std::size_t number, const Request& request, const Answer* answer) {
  Effect e;
  e.op = number;
  e.kind = request.op;
  e.request = &request;
  e.answer = answer;
  e.expected = request.expected;
  const bool done = operations[number].status == Status::kOk;
  if (is_sequential(request.op)) {
    if (done && answer != nullptr && !answer->name.empty()) e.path = path(answer->name);
  } else {
    e.path = path(request.path);
  }
  if (is_create(request.op) || is_set(request.op)) e.value = value(request.value);
  if (is_create(request.op) && e.path != kNoPath) paths[e.path].created = true;
  if (is_delete(request.op) && e.path != kNoPath) paths[e.path].delete_tried = true;
  if (is_ephemeral(request.op)) {
    e.owner = operations[number].session;
    session_at(e.owner);
  }
  effects.push_back(e);
}

void Index::add_listing(const Operation& op) {
  const std::string prefix = op.request->path == "/" ? "/" : op.request->path + "/";
  for (const std::string& name : op.answer->children) {
    texts_.push_back(prefix + name);
    static_cast<void>(path(texts_.back()));
  }
}

// For each operation the largest zxid that anybody had been told before it was sent. Committed then, so below the
// zxid of any transaction that the operation becomes, and not above what a sync answers.
void Index::mark_above() {
  std::size_t done = 0;
  std::uint64_t highest = 0;
  std::size_t by = kNone;
  for (const std::size_t r : order) {
    if (records[r].kind != Kind::kInv) continue;
    for (; done < order.size() && (records[order[done]].ns < records[r].ns ||
                                   records[order[done]].kind == Kind::kInit); ++done) {
      const Record& before = records[order[done]];
      if (!is_answer(before) && before.kind != Kind::kEvent) continue;
      if (told(before.answer.zxid) <= highest) continue;
      highest = told(before.answer.zxid);
      by = order[done];
    }
    Operation& op = operations[operation_of[r]];
    op.above = highest;
    op.above_record = by;
  }
}

// A read behind an answered sync of its session is linearizable over [sync sent, read answered]: its reply's zxid is
// not below that of the sync, because replies to a session never go back.
void Index::mark_fresh() {
  std::unordered_map<std::int64_t, std::vector<std::size_t>> syncs;  // per session, in the order of sending
  for (std::size_t i = 0; i < operations.size(); ++i) {
    Operation& op = operations[i];
    const Op kind = op.request->op;
    if (kind == Op::kSyncGet) {
      op.fresh_ns = op.inv_ns;
    } else if (is_node_read(kind) && op.answer != nullptr && op.session != 0) {
      const auto& before = syncs[op.session];
      for (auto it = before.rbegin(); it != before.rend(); ++it) {
        const Operation& sync = operations[*it];
        if (sync.end_ns > (options.replies_in_order ? op.end_ns : op.inv_ns)) continue;
        op.fresh_ns = sync.inv_ns;
        op.sync = *it;
        break;
      }
    }
    if ((kind == Op::kSync || kind == Op::kSyncGet) && op.status == Status::kOk) syncs[op.session].push_back(i);
  }
}

// An end whose zxid nobody told had happened before any write or sync that was sent after it was noticed.
void Index::finish_sessions() {
  for (Session& s : sessions) {
    if (!s.ended) continue;
    if (s.end_zxid != 0) {
      s.end_max = s.end_zxid;
      continue;
    }
    for (const Operation& op : operations) {
      if (op.inv_ns <= s.end_ns || op.answer == nullptr) continue;
      const bool write = op.txn != 0;
      const bool sync = op.status == Status::kOk && (op.request->op == Op::kSync || op.request->op == Op::kSyncGet);
      if (write) s.end_max = std::min(s.end_max, op.txn - 1);
      if (sync && op.zxid != 0) s.end_max = std::min(s.end_max, op.zxid);
    }
  }
}

}  // namespace coord::history
