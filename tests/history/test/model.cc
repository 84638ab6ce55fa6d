#include "tests/history/test/model.h"

#include <algorithm>
#include <cstdio>

#include "tests/history/index.h"

namespace coord::history {

Model::Model(std::uint64_t seed, ModelOptions options) : rng_(seed), options_(options) {
  log_.push_back({Zxid(1, 0).value, {}, {}});
}

void Model::commit(Tree tree, std::uint64_t zxid, std::vector<Event> events) {
  log_.push_back({zxid, std::move(tree), std::move(events)});
}

void Model::open(Client& c) {
  c = {};
  c.session = ++last_session_;
  c.applied = log_.size() - 1;
  c.alive = true;
  c.touched = now_;
  h_.add(session_record(tick(), static_cast<std::uint32_t>(c.session), c.session, SessionChange::kOpened, 1, kTimeout));
}

Request Model::some_request(bool in_multi) {
  const std::string path = some_path();
  const auto at = tip().find(path);
  // Mostly a version that is right at this moment.
  const int version = at != tip().end() && !chance(0.2) ? at->second.version : below(4);
  switch (below(in_multi ? 6 : 16)) {
    case 0: return {.op = Op::kCreate, .path = path, .value = unique()};
    case 1: return {.op = Op::kSet, .path = path, .value = unique()};
    case 2: return {.op = Op::kSetCas, .path = path, .value = unique(), .expected = version};
    case 3: return {.op = Op::kDelete, .path = path};
    case 4: return {.op = Op::kCreateEphemeral, .path = path, .value = unique()};
    case 5: return {.op = Op::kCreateSeq, .path = "/p/s-", .value = unique()};
    case 6: return {.op = Op::kDeleteCas, .path = path, .expected = version};
    case 7:
    case 8: return {.op = Op::kSet, .path = path, .value = unique()};
    case 9: return {.op = Op::kExists, .path = path, .watch = chance(0.3)};
    case 10: return {.op = Op::kChildren, .path = "/p", .watch = chance(0.3)};
    case 11: return {.op = Op::kSync, .path = path};
    case 12: return {.op = Op::kSyncGet, .path = path};
    case 13: {
      Request multi{.op = Op::kMulti};
      for (int i = 1 + below(3); i > 0; --i) multi.multi.push_back(some_request(true));
      return multi;
    }
    default: return {.op = Op::kGet, .path = path, .watch = chance(0.3)};
  }
}

void Model::invoke(Client& c) {
  Request r = some_request(false);
  const auto id = h_.invoke(tick(), static_cast<std::uint32_t>(c.session), c.session, r);
  c.sent.emplace_back(id, std::move(r));
  c.waiting.insert(id);
}

Answer Model::execute(Tree& tree, const Request& r, std::int64_t session, std::uint64_t zxid,
                      std::vector<Event>& events, Err& error) {
  std::string path = r.path;
  if (is_sequential(r.op)) {
    char number[16];
    std::snprintf(number, sizeof(number), "%010d", tree["/p"].creates);
    path += number;
  }
  const auto at = tree.find(path);
  const auto refuse = [&](Err e) {
    error = e;
    return Answer{.error = e};
  };
  if (is_create(r.op)) {
    if (path != "/p" && !tree.contains("/p")) return refuse(Err::kNoNode);
    if (at != tree.end()) return refuse(Err::kNodeExists);
    tree[path] = {zxid, zxid, 0, is_ephemeral(r.op) ? session : 0, r.value, 0};
    if (path != "/p") ++tree["/p"].creates;
    events.push_back({path, WatchType::kCreated});
    Answer a{.name = path};
    if (chance(0.5)) {
      a.mzxid = a.czxid = zxid;
      a.version = 0;
      a.owner = tree[path].owner;
    }
    return a;
  }
  if (at == tree.end()) return refuse(Err::kNoNode);
  Node& n = at->second;
  if (r.expected >= 0 && r.expected != n.version) return refuse(Err::kBadVersion);
  if (is_delete(r.op)) {
    tree.erase(at);
    events.push_back({path, WatchType::kDeleted});
    return {};
  }
  n.value = r.value;
  n.mzxid = zxid;
  ++n.version;
  events.push_back({path, WatchType::kDataChanged});
  return {.mzxid = n.mzxid, .czxid = n.czxid, .version = n.version, .owner = n.owner};
}

Answer Model::write(const Request& r, std::int64_t session, Err& error) {
  const std::uint64_t zxid = log_.back().zxid + 1 + static_cast<std::uint64_t>(below(3));
  Tree tree = tip();
  std::vector<Event> events;
  Answer answer;
  if (r.op == Op::kMulti) {
    for (const Request& part : r.multi) {
      if (error != Err::kOk) answer.multi.push_back({.error = Err::kRuntimeInconsistency});
      else answer.multi.push_back(execute(tree, part, session, zxid, events, error));
    }
    if (error != Err::kOk) {
      for (Answer& a : answer.multi) {
        if (a.error == Err::kOk) a = {};
      }
    }
  } else {
    answer = execute(tree, r, session, zxid, events, error);
  }
  if (error != Err::kOk) {
    tree = tip();
    events.clear();
    answer.error = error;
  }
  commit(std::move(tree), zxid, std::move(events));
  answer.zxid = zxid;
  return answer;
}

// The client's replica applies up to `to`: its watches fire before anything else is answered.
void Model::advance(Client& c, std::size_t to) {
  while (c.applied < to) {
    const Txn& txn = log_[++c.applied];
    for (const Event& e : txn.events) {
      const bool data = c.data_watches.erase(e.path) != 0;
      const bool child = e.type == WatchType::kDeleted && c.child_watches.erase(e.path) != 0;
      if (data || child) c.outbox.push_back({.event = true, .type = e.type, .path = e.path, .zxid = txn.zxid});
      const std::string parent(parent_path(e.path));
      if (e.type != WatchType::kDataChanged && c.child_watches.erase(parent) != 0) {
        c.outbox.push_back({.event = true, .type = WatchType::kChildrenChanged, .path = parent, .zxid = txn.zxid});
      }
    }
  }
}

Answer Model::read(Client& c, const Request& r, Err& error) {
  const Txn& seen = log_[c.applied];
  Answer a{.zxid = seen.zxid};
  if (r.op == Op::kSync) return a;
  const auto at = seen.after.find(r.path);
  if (at == seen.after.end()) {
    error = a.error = Err::kNoNode;
    if (r.watch && r.op == Op::kExists) c.data_watches.insert(r.path);
    return a;
  }
  if (r.watch) (r.op == Op::kChildren ? c.child_watches : c.data_watches).insert(r.path);
  if (r.op == Op::kChildren) {
    for (const auto& [path, node] : seen.after) {
      if (parent_path(path) == r.path) a.children.push_back(path.substr(r.path.size() + 1));
    }
    return a;
  }
  const Node& n = at->second;
  a.mzxid = n.mzxid;
  a.czxid = n.czxid;
  a.version = n.version;
  a.owner = n.owner;
  if (r.op != Op::kExists) a.value = n.value;
  return a;
}

void Model::process(Client& c) {
  const auto [id, request] = c.sent.front();
  c.sent.pop_front();
  c.touched = now_;
  Out out{.id = id};
  const bool write_op = is_write(request.op);
  if (write_op) out.answer = write(request, c.session, out.error);
  const bool fresh = write_op || request.op == Op::kSync || request.op == Op::kSyncGet;
  const auto lag = static_cast<int>(log_.size() - 1 - c.applied);
  advance(c, fresh ? log_.size() - 1 : c.applied + static_cast<std::size_t>(below(lag + 1)));
  if (!write_op) out.answer = read(c, request, out.error);
  c.outbox.push_back(std::move(out));
}

void Model::deliver(Client& c) {
  Out out = std::move(c.outbox.front());
  c.outbox.pop_front();
  if (out.event) {
    h_.event(tick(), static_cast<std::uint32_t>(c.session), c.session, out.type, out.path, out.zxid);
    return;
  }
  if (!options_.zxids) out.answer.zxid = out.answer.mzxid = out.answer.czxid = 0;
  c.waiting.erase(out.id);
  if (out.error == Err::kOk) h_.ok(tick(), out.id, std::move(out.answer));
  else h_.fail(tick(), out.id, std::move(out.answer));
}

// What was on its way to the leader may still happen, in order, later than anything.
void Model::lose_connection(Client& c) {
  for (auto& [id, request] : c.sent) {
    if (!is_write(request.op) || chance(0.3)) break;
    ghosts_[c.session].push_back(std::move(request));
  }
  c.sent.clear();
  c.outbox.clear();
  c.data_watches.clear();
  c.child_watches.clear();
  for (const auto id : c.waiting) h_.info(tick(), id);
  c.waiting.clear();
  if (c.alive) {
    const auto client = static_cast<std::uint32_t>(c.session);
    h_.add(session_record(tick(), client, c.session, SessionChange::kMoved, 2, kTimeout));
  }
}

std::uint64_t Model::close_session(std::int64_t session) {
  Tree tree = tip();
  std::vector<Event> events;
  for (auto it = tree.begin(); it != tree.end();) {
    if (it->second.owner == session) {
      events.push_back({it->first, WatchType::kDeleted});
      it = tree.erase(it);
    } else {
      ++it;
    }
  }
  const std::uint64_t zxid = log_.back().zxid + 1;
  commit(std::move(tree), zxid, std::move(events));
  ghosts_.erase(session);
  return zxid;
}

void Model::end_session(Client& c) {
  const auto client = static_cast<std::uint32_t>(c.session);
  c.alive = false;
  if (chance(0.5)) {
    lose_connection(c);
    now_ = std::max(now_, c.touched + kTimeout);
    const std::uint64_t zxid = close_session(c.session);
    h_.add(session_record(tick(), client, c.session, SessionChange::kExpired, 0, 0, chance(0.5) ? zxid : 0));
  } else {
    while (!c.sent.empty()) process(c);
    advance(c, log_.size() - 1);
    while (!c.outbox.empty()) deliver(c);
    const auto id = h_.invoke(tick(), client, c.session, {.op = Op::kClose});
    const std::uint64_t zxid = close_session(c.session);
    if (chance(0.7)) h_.ok(tick(), id, {.zxid = options_.zxids ? zxid : 0});
    else h_.info(tick(), id);
  }
}

History Model::run() {
  clients_.resize(static_cast<std::size_t>(options_.sessions));
  for (Client& c : clients_) open(c);
  Client& first = clients_[0];
  const auto id = h_.invoke(tick(), 1, first.session, {.op = Op::kCreate, .path = "/p", .value = unique()});
  first.sent.emplace_back(id, Request{.op = Op::kCreate, .path = "/p", .value = "u1"});
  first.waiting.insert(id);
  process(first);
  deliver(first);
  int left = options_.operations;
  while (left > 0) {
    Client& c = clients_[static_cast<std::size_t>(below(options_.sessions))];
    if (!c.alive) {
      open(c);
    } else if (chance(options_.lost_connections)) {
      lose_connection(c);
    } else if (chance(options_.session_ends)) {
      end_session(c);
    } else if (!ghosts_.empty() && chance(0.1)) {
      auto& [session, queue] = *ghosts_.begin();
      Err ignored = Err::kOk;
      if (!queue.empty()) write(queue.front(), session, ignored);
      if (!queue.empty()) queue.pop_front();
      if (queue.empty()) ghosts_.erase(session);
    } else if (c.waiting.size() < 3 && chance(0.4)) {
      invoke(c);
      --left;
    } else if (!c.sent.empty() && chance(0.6)) {
      process(c);
    } else if (!c.outbox.empty()) {
      deliver(c);
    } else if (chance(0.2)) {
      advance(c, c.applied + static_cast<std::size_t>(below(static_cast<int>(log_.size() - c.applied))));
    }
  }
  return std::move(h_);
}

}  // namespace coord::history
