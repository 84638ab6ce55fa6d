// Rules on watch events: each comes before any reply that could reveal its change, one-shot watches fire once, no event
// is lost while its connection lives. Only changes that happened for certain count.
#include <algorithm>

#include "tests/history/index.h"

namespace coord::history {
namespace {

struct Arm {
  PathId path = kNoPath;
  bool child = false;
  std::uint64_t above = 0;      // armed at this zxid
  std::uint64_t due = kZxidMax;  // the first certain change after it
  std::size_t record = kNone;
};

struct SessionWatches {
  std::vector<Arm> arms;
  std::vector<std::string_view> persistent;  // recursive
  std::uint64_t replied = 0;                 // on this connection
  std::size_t replied_record = kNone;
};

class Watches {
 public:
  explicit Watches(Index& x) : x_(x), children_(x.paths.size()), ready_(x.paths.size(), false) {}
  bool run();

 private:
  bool reply(std::size_t record);
  bool event(std::size_t record);
  bool check_change(std::size_t record, PathId path);
  void arm(SessionWatches& w, std::size_t record, const Operation& op);
  const std::vector<std::uint64_t>& child_changes(PathId path);
  std::uint64_t next_change(PathId path, bool child, std::uint64_t above);
  bool overdue(const Arm& arm, std::size_t record);

  Index& x_;
  std::unordered_map<std::int64_t, SessionWatches> sessions_;
  std::vector<std::vector<std::uint64_t>> children_;
  std::vector<bool> ready_;
};

const std::vector<std::uint64_t>& Watches::child_changes(PathId path) {
  auto& changes = children_[path];
  if (ready_[path]) return changes;
  ready_[path] = true;
  for (const auto& [zxid, type] : x_.paths[path].changes) {
    if (type == WatchType::kDeleted) changes.push_back(zxid);
  }
  for (const PathId child : x_.paths[path].children) {
    for (const auto& [zxid, type] : x_.paths[child].changes) {
      if (type != WatchType::kDataChanged) changes.push_back(zxid);
    }
  }
  std::sort(changes.begin(), changes.end());
  return changes;
}

std::uint64_t Watches::next_change(PathId path, bool child, std::uint64_t above) {
  if (child) {
    const auto& changes = child_changes(path);
    const auto it = std::upper_bound(changes.begin(), changes.end(), above);
    return it == changes.end() ? kZxidMax : *it;
  }
  for (const auto& [zxid, type] : x_.paths[path].changes) {
    if (zxid > above) return zxid;
  }
  return kZxidMax;
}

void Watches::arm(SessionWatches& w, std::size_t record, const Operation& op) {
  const Op kind = op.request->op;
  if (!op.request->watch) return;
  if (kind == Op::kOther) {
    if (op.status == Status::kOk) w.persistent.push_back(op.request->path);
    return;
  }
  const bool absent = op.status == Status::kFail;
  if (absent && !(kind == Op::kExists && op.answer->error == Err::kNoNode)) return;
  if (!is_node_read(kind)) return;
  Arm arm;
  arm.path = x_.path(op.request->path);
  arm.child = kind == Op::kChildren;
  arm.above = op.zxid;
  arm.record = record;
  // Without a zxid in the reply nothing can be said about what it should have caught.
  if (op.zxid != 0) arm.due = next_change(arm.path, arm.child, op.zxid);
  for (Arm& old : w.arms) {
    if (old.path == arm.path && old.child == arm.child) return;  // one slot; the older arming is the stricter
  }
  w.arms.push_back(arm);
}

bool Watches::overdue(const Arm& arm, std::size_t record) {
  const Record& reply = x_.records[record];
  // Did it come after all, behind the reply?
  std::size_t later = kNone;
  for (std::size_t i = record + 1; i < x_.records.size() && later == kNone; ++i) {
    const Record& r = x_.records[i];
    if (r.session == reply.session && r.kind == Kind::kEvent && r.answer.zxid == arm.due) later = i;
  }
  const std::string path(x_.paths[arm.path].text);
  const Operation& armed = x_.operations[x_.operation_of[arm.record]];
  const auto writer = x_.txns.find(arm.due);
  const std::size_t write = writer == x_.txns.end() ? kNone : x_.operations[writer->second].inv;
  return x_.fail(later != kNone ? "event-after-reply" : "lost-event", "the watch of " + path + " armed at " +
                 zxid_text(arm.above) + " did not tell of " + zxid_text(arm.due) + " before a reply at " +
                 zxid_text(reply.answer.zxid), {armed.inv, arm.record, write, record, later});
}

bool Watches::reply(std::size_t record) {
  const Operation& op = x_.operations[x_.operation_of[record]];
  if (op.session == 0) return true;
  SessionWatches& w = sessions_[op.session];
  if (op.zxid != 0) {
    // A session's end takes its watches along, so it need not tell of what it deletes itself.
    const std::uint64_t told = op.request->op == Op::kClose ? op.zxid - 1 : op.zxid;
    for (const Arm& arm : w.arms) {
      if (arm.due <= told) return overdue(arm, record);
    }
    if (op.zxid > w.replied) {
      w.replied = op.zxid;
      w.replied_record = record;
    }
  }
  arm(w, record, op);
  return true;
}

// An event that names a transaction whose writer is known must fit it.
bool Watches::check_change(std::size_t record, PathId path) {
  const Record& r = x_.records[record];
  const auto writer = x_.txns.find(r.answer.zxid);
  if (writer == x_.txns.end() || !x_.paths[path].judged) return true;
  const std::uint64_t zxid = r.answer.zxid;
  bool found = false;
  if (r.event == WatchType::kChildrenChanged) {
    const auto& changes = child_changes(path);
    found = std::binary_search(changes.begin(), changes.end(), zxid);
  } else {
    const auto& changes = x_.paths[path].changes;
    found = std::find(changes.begin(), changes.end(), std::pair{zxid, r.event}) != changes.end();
  }
  if (found) return true;
  const Operation& op = x_.operations[writer->second];
  for (std::size_t i = op.effects; i < op.effects + op.effects_count; ++i) {
    if (x_.effects[i].path == kNoPath) return true;  // a sequential name that nobody was told
  }
  return x_.fail("phantom-event", "an event on " + r.request.path + " names " + zxid_text(zxid) +
                 ", which changed no such thing", {op.inv, op.end, record});
}

bool covers(std::string_view root, std::string_view path) {
  if (root == "/" || path == root) return true;
  return path.starts_with(root) && path[root.size()] == '/';
}

bool Watches::event(std::size_t record) {
  const Record& r = x_.records[record];
  SessionWatches& w = sessions_[r.session];
  const PathId path = x_.path(r.request.path);
  const std::uint64_t zxid = (r.answer.zxid >> 63) != 0 ? 0 : r.answer.zxid;
  if (zxid != 0 && zxid <= w.replied) {
    return x_.fail("event-after-reply", "an event of " + zxid_text(zxid) + " came after a reply at " +
                   zxid_text(w.replied), {w.replied_record, record});
  }
  if (zxid != 0 && !check_change(record, path)) return false;
  const auto matches = [&](const Arm& a) {
    if (a.path != path) return false;
    return r.event == WatchType::kDeleted || a.child == (r.event == WatchType::kChildrenChanged);
  };
  bool armed = false;
  for (const Arm& a : w.arms) {
    if (!matches(a)) continue;
    armed = true;
    if (zxid > a.due) {
      const Operation& op = x_.operations[x_.operation_of[a.record]];
      return x_.fail("lost-event", "the watch of " + r.request.path + " armed at " + zxid_text(a.above) +
                     " told of " + zxid_text(zxid) + " but not of " + zxid_text(a.due) + " before it",
                     {op.inv, a.record, record});
    }
  }
  std::erase_if(w.arms, matches);
  armed = armed || std::any_of(w.persistent.begin(), w.persistent.end(), [&](std::string_view root) {
    return covers(root, r.request.path);
  });
  if (armed) return true;
  return x_.fail("event-twice", "an event on " + r.request.path + " without a watch: a one-shot watch fired twice, or "
                 "was never set on this connection", {record});
}

bool Watches::run() {
  for (const std::size_t r : x_.order) {
    const Record& record = x_.records[r];
    bool good = true;
    switch (record.kind) {
      case Kind::kOk:
      case Kind::kFail: good = reply(r); break;
      case Kind::kEvent: good = event(r); break;
      // Watches belong to the connection, and it has ended.
      case Kind::kInfo:
      case Kind::kSession: sessions_.erase(record.session); break;
      case Kind::kInv:
      case Kind::kFault:
      case Kind::kInit: break;
    }
    if (!good) return false;
  }
  return true;
}

}  // namespace

bool check_watches(Index& x) { return Watches(x).run(); }

}  // namespace coord::history
