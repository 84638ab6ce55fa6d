// What the tests of prepare share: a StateMachine that answers one request after the other (or
// prepares ahead), and readers of replies. machine_harness.h is its sibling for the tests of apply and reads.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/model/posix.h"
#include "common/wire/extension.h"
#include "common/wire/protocol.h"
#include "replica/tree/state_machine.h"
#include "replica/tree/txn.h"
#include "tests/replica/tree/bodies.h"

namespace coord::tree::test {

using wire::Op;
// --- replies

struct MultiResult {
  std::int32_t type = 0;
  Err err = Err::kOk;
  std::string path;
  Stat stat;
};
inline std::vector<MultiResult> read_multi(std::string_view body) {
  std::vector<MultiResult> out;
  wire::Reader r(body);
  for (;;) {
    const wire::MultiHeader header = wire::read_multi_header(r);
    if (r.failed()) ADD_FAILURE() << "a multi reply that ends early";
    if (r.failed() || header.done) break;
    MultiResult result;
    result.type = header.type;
    if (header.type == -1) {
      result.err = static_cast<Err>(r.i32());
      EXPECT_EQ(header.err, static_cast<std::int32_t>(result.err));
    }
    if (header.type == 1 || header.type == 15) result.path = r.string();
    if (header.type == 15 || header.type == 5) result.stat = wire::read_stat(r);
    out.push_back(std::move(result));
  }
  EXPECT_EQ(r.remaining(), 0u);
  return out;
}

// --- events

class EventLog : public Sink {
 public:
  void watch_event(ConnId, WatchType, std::string_view, Zxid) override {}
  void change_event(ConnId conn, const wire::ChangeEvent& event) override { changes.emplace_back(conn, event); }
  void session_closed(SessionId session, Zxid) override { closed.push_back(session); }

  std::vector<std::pair<ConnId, wire::ChangeEvent>> changes;
  std::vector<SessionId> closed;
};

// A replica on its own. Requests come from session `me` unless told otherwise.
class World {
 public:
  explicit World(Limits limits = {}) : machine(std::move(limits)) { me = open_session(); }

  // Prepares without applying; the answers come from settle(), in order.
  void prepare(const Request& request) {
    zxid = Zxid{zxid.value + 1};
    outstanding.emplace_back(zxid, machine.prepare(request, zxid, now, writes_refused));
  }
  std::vector<Applied> settle() {
    std::vector<Applied> out;
    for (; !outstanding.empty(); outstanding.pop_front()) {
      out.push_back(machine.apply(outstanding.front().first, outstanding.front().second, true, sink));
    }
    return out;
  }
  Applied call(const Request& request) {
    prepare(request);
    return settle().back();
  }
  Request request(Op op, std::string body) const {
    Request r;
    r.session = me;
    r.xid = 7;
    r.op = op;
    r.body = std::move(body);
    r.ids = ids;
    r.trusted = trusted;
    r.credentials = credentials;
    return r;
  }
  Applied call(Op op, std::string body) { return call(request(op, std::move(body))); }
  Err code(Op op, std::string body) { return call(op, std::move(body)).err; }

  SessionId open_session(std::int32_t timeout = 10000) {
    const SessionId id{++last_session};
    Request r;
    r.session = id;
    r.op = Op::kCreateSession;
    r.body = session_body(timeout, id);
    EXPECT_EQ(call(r).err, Err::kOk);
    return id;
  }

  // The common ones, as `me`.
  Err create(std::string_view path, Data data = "", std::int32_t flags = 0, const Acl& acl = open_acl()) {
    return code(Op::kCreate, create_body(path, data, acl, flags));
  }
  std::string create_name(std::string_view path, std::int32_t flags) {  // "" when refused
    const Applied reply = call(Op::kCreate, create_body(path, "", open_acl(), flags));
    wire::Reader r(reply.body);
    return reply.err == Err::kOk ? std::string(r.string()) : "";
  }
  Err remove(std::string_view path, std::int32_t version = -1) {
    return code(Op::kDelete, path_version_body(path, version));
  }
  Err set(std::string_view path, Data data, std::int32_t version = -1) {
    return code(Op::kSetData, set_data_body(path, data, version));
  }
  std::vector<MultiResult> multi(const std::vector<std::pair<Op, std::string>>& ops) {
    const Applied reply = call(Op::kMulti, multi_body(ops));
    EXPECT_EQ(reply.err, Err::kOk);
    return read_multi(reply.body);
  }

  // --- reads
  Peer peer(std::uint64_t conn = 1) const {
    Peer p;
    p.conn = ConnId{conn};
    p.session = me;
    p.ids = ids;
    p.trusted = trusted;
    p.credentials = credentials;
    return p;
  }
  std::pair<Err, std::string> read(Op op, std::string body) {
    std::string out;
    const Err err = machine.read(peer(), op, body, out, [](WatchType, std::string_view) {});
    return {err, out};
  }
  std::optional<Stat> stat(std::string_view path) {
    const auto [err, body] = read(Op::kExists, watch_body(path));
    if (err != Err::kOk) return std::nullopt;
    wire::Reader r(body);
    return wire::read_stat(r);
  }
  bool exists(std::string_view path) { return stat(path).has_value(); }
  std::optional<std::string> data(std::string_view path) {  // nullopt: null, or no node
    const auto [err, body] = read(Op::kGetData, watch_body(path));
    wire::Reader r(body);
    const auto bytes = err == Err::kOk ? r.buffer() : std::nullopt;
    return bytes ? std::optional<std::string>(*bytes) : std::nullopt;
  }
  Acl acl(std::string_view path) {
    const auto [err, body] = read(Op::kGetAcl, path_body(path));
    EXPECT_EQ(err, Err::kOk);
    wire::Reader r(body);
    return wire::read_acl(r);
  }
  // As root; nullopt when refused. `name` empty: `parent` itself.
  std::optional<wire::NodeInfo> lookup(NodeId parent, std::string_view name) {
    wire::LookupRequest r;
    r.parent = parent;
    r.name = name;
    r.data_max = 1 << 20;
    Peer root = peer();
    root.trusted = true;
    std::string out;
    const Err err = machine.read(root, Op::kLookup, extension_body(r), out, [](WatchType, std::string_view) {});
    if (err != Err::kOk) return std::nullopt;
    wire::NodeInfo info;
    wire::Reader reader(out);
    wire::read(reader, info);
    EXPECT_FALSE(reader.failed());
    return info;
  }

  StateMachine machine;
  EventLog sink;
  Zxid zxid;
  TimeMs now = 1'700'000'000'000;
  bool writes_refused = false;
  std::int64_t last_session = 0x0100'0000'0000'0000;
  SessionId me;
  std::vector<AuthId> ids{{"ip", "127.0.0.1"}};
  bool trusted = true;
  Credentials credentials;
  std::deque<std::pair<Zxid, std::string>> outstanding;
};

}  // namespace coord::tree::test
