#include "tests/sim/replica/tables.h"

#include <optional>

#include "common/base/check.h"

namespace coord::sim {

namespace {

std::string read(tree::StateMachine& tree, SessionId session, wire::Op op,
                 const std::function<void(wire::Writer&)>& request) {
  tree::Peer peer;
  peer.session = session;
  std::string body;
  wire::Writer out(body);
  request(out);
  std::string answer;
  const Err err = tree.read(peer, op, body, answer, [](WatchType, std::string_view) {});
  COORD_CHECK(err == Err::kOk);
  return answer;
}

std::map<std::int64_t, Tables::Row> session_rows(tree::StateMachine& tree) {
  std::map<std::int64_t, Tables::Row> rows;
  for (const tree::SessionInfo& session : tree.sessions()) {
    Tables::Row& row = rows[session.id.value];
    row.timeout_ms = session.timeout_ms;
    const std::string answer = read(tree, session.id, wire::Op::kGetEphemerals,
                                    [](wire::Writer& out) { out.buffer(std::string_view("/")); });
    wire::Reader in(answer);
    for (std::string& path : wire::read_strings(in)) row.ephemerals.insert(std::move(path));
  }
  return rows;
}

void walk(tree::StateMachine& tree, const std::string& path, std::map<std::string, Stat>& nodes) {
  const std::string answer = read(tree, SessionId{}, wire::Op::kGetChildren2, [&](wire::Writer& out) {
    out.buffer(std::string_view(path));
    out.boolean(false);
  });
  wire::Reader in(answer);
  const std::vector<std::string> children = wire::read_strings(in);
  if (path != "/") nodes[path] = wire::read_stat(in);
  for (const std::string& child : children) walk(tree, path == "/" ? "/" + child : path + "/" + child, nodes);
}

std::string hex(std::int64_t session) {
  return to_string(Zxid(static_cast<std::uint64_t>(session)));  // as two numbers: high, low
}

}  // namespace

std::set<std::string> Tables::owned_by(std::int64_t session) const {
  std::set<std::string> paths;
  for (const auto& [path, stat] : nodes) {
    if (session != 0 && stat.ephemeral_owner == session) paths.insert(path);
  }
  return paths;
}

Tables read_tables(runtime::Core& core) {
  Tables tables;
  tables.zxid = core.tree().last_applied();
  tables.digest = core.tree().digest();
  tables.sessions = session_rows(core.tree());
  walk(core.tree(), "/", tables.nodes);
  return tables;
}

std::string contradiction(const Tables& tables) {
  std::size_t listed = 0;
  for (const auto& [id, row] : tables.sessions) listed += row.ephemerals.size();
  std::size_t owned = 0;
  for (const auto& [path, stat] : tables.nodes) {
    if (stat.ephemeral_owner == 0) continue;
    ++owned;
    const auto owner = tables.sessions.find(stat.ephemeral_owner);
    if (owner == tables.sessions.end()) {
      return path + " belongs to session " + hex(stat.ephemeral_owner) + ", which is no more";
    }
    if (!owner->second.ephemerals.contains(path)) return path + " is not among what its session owns";
  }
  return owned == listed ? "" : "sessions own nodes that are not there";
}

// --- at equal zxid

void AtEqualZxid::look() {
  for (const Sid sid : world_.all()) {
    if (!world_.up(sid)) continue;
    runtime::Core& core = world_.core(sid);
    const zab::Role role = core.peer().role();
    const auto [known, is_new] = roles_.try_emplace(sid, role);
    if (!is_new && known->second != role) {
      known->second = role;
      ++changes_of_role_;
    }
    const std::pair now(world_.incarnation(sid), core.tree().last_applied());
    if (last_[sid] == now || now.second == Zxid{}) continue;
    last_[sid] = now;
    Noted mine{sid, core.tree().digest(), session_rows(core.tree())};
    const auto at = noted_.find(now.second);
    if (at == noted_.end()) {
      noted_.emplace(now.second, std::move(mine));
      continue;
    }
    ++compared_;
    const Noted& other = at->second;
    if (other.digest != mine.digest || other.sessions != mine.sessions) {
      world_.violate(3, sid, "another state than that of server " + std::to_string(other.by.value) + " at " +
                                 to_string(now.second));
    }
  }
}

bool AtEqualZxid::run_until(const std::function<bool()>& true_now, std::int64_t ms) {
  const std::int64_t until = world_.scheduler().now_us() + ms * 1000;
  while (!true_now()) {
    if (!world_.scheduler().run_one(until)) return true_now();
    look();
  }
  return true;
}

void AtEqualZxid::run_for(std::int64_t ms) {
  run_until([] { return false; }, ms);
}

Tables one_truth(ReplicaWorld& world) {
  std::optional<Tables> first;
  for (const Sid sid : world.all()) {
    if (!world.up(sid)) continue;
    Tables tables = read_tables(world.core(sid));
    if (const std::string wrong = contradiction(tables); !wrong.empty()) world.violate(14, sid, wrong);
    if (!first) {
      first = std::move(tables);
    } else if (tables.zxid != first->zxid) {
      world.violate(3, sid, "it has applied " + to_string(tables.zxid) + ", another " + to_string(first->zxid));
    } else if (tables.sessions != first->sessions) {
      world.violate(3, sid, "another table of sessions at the same zxid");
    } else if (tables.nodes != first->nodes || tables.digest != first->digest) {
      world.violate(3, sid, "another tree at the same zxid");
    }
  }
  return first.value_or(Tables{});
}

}  // namespace coord::sim
