// A state machine with the ends tied together: requests are encoded, prepared, applied at once and their replies handed
// back; everything that goes to the sink is recorded. For the tests of this folder.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/wire/codec.h"
#include "common/wire/extension.h"
#include "common/wire/protocol.h"
#include "replica/tree/state_machine.h"
#include "replica/tree/txn.h"
#include "tests/replica/tree/bodies.h"

// A namespace of its own, because all tests of this folder end up in one binary.
namespace coord::tree::machine_test {

using test::create_body;
using test::path_body;
using test::path_version_body;
using test::set_data_body;
using test::watch_body;

struct SeenWatch {
  ConnId conn;
  WatchType type;
  std::string path;
  Zxid zxid;
};

class RecordingSink : public Sink {
 public:
  void watch_event(ConnId conn, WatchType type, std::string_view path, Zxid zxid) override {
    watches.push_back({conn, type, std::string(path), zxid});
    static constexpr const char* kNames[] = {"none", "created", "deleted", "data", "children"};
    log.push_back(std::to_string(conn.value) + " " + kNames[static_cast<int>(type)] + " " + std::string(path));
  }
  void change_event(ConnId conn, const wire::ChangeEvent& event) override {
    changes.emplace_back(conn, event);
    static constexpr const char* kNames[] = {"", "CREATED", "DELETED", "DATA", "ATTRIBUTES", "RENAMED", "DROP_ALL"};
    log.push_back(std::to_string(conn.value) + " " + kNames[static_cast<int>(event.kind)] + " " + event.node.name);
  }
  void session_closed(SessionId session, Zxid) override {
    closed.push_back(session);
    log.push_back("closed " + std::to_string(session.value));
  }
  std::vector<std::string> take_log() { return std::exchange(log, {}); }

  std::vector<SeenWatch> watches;
  std::vector<std::pair<ConnId, wire::ChangeEvent>> changes;
  std::vector<SessionId> closed;
  std::vector<std::string> log;  // everything, in order: "CONN what path"
};

inline std::string body(const std::function<void(wire::Writer&)>& fill) {
  std::string out;
  wire::Writer w(out);
  fill(w);
  return out;
}
template <class Record>
std::string encoded(const Record& record) {
  return body([&](wire::Writer& w) { wire::write(w, record); });
}
class MachineTest : public ::testing::Test {
 protected:
  explicit MachineTest(Limits limits = {}) : machine(std::move(limits)) {
    open_session(SessionId(100), ConnId(1));
    sink.log.clear();
  }

  Peer peer_of(SessionId session, ConnId conn) const {
    Peer peer;
    peer.conn = conn;
    peer.session = session;
    peer.ids = {AuthId{"ip", "127.0.0.1"}};
    peer.credentials = Credentials{65534, 65534, {}};
    return peer;
  }
  Peer open_session(SessionId session, ConnId conn) {
    if (!machine.session(session)) {
      request(session, wire::Op::kCreateSession, body([&](wire::Writer& w) {
                w.i32(10000);
                w.i64(session.value);
              }));
    }
    const Peer peer = peer_of(session, conn);
    machine.connection_opened(peer);
    return peer;
  }

  // Prepare and apply in one step.
  Applied request(SessionId session, wire::Op op, std::string bytes, std::vector<AuthId> ids = {}) {
    Request r;
    r.session = session;
    r.xid = 7;
    r.op = op;
    r.body = std::move(bytes);
    r.ids = std::move(ids);
    r.trusted = true;
    const Zxid zxid = next_zxid();
    const std::string payload = machine.prepare(r, zxid, now);
    return machine.apply(zxid, payload, true, sink);
  }
  Applied request(wire::Op op, std::string bytes) { return request(SessionId(100), op, std::move(bytes)); }

  // A transaction made by hand, as a follower gets it.
  Applied apply(Txn txn) {
    if (txn.time == 0) txn.time = now;
    std::string payload;
    encode(txn, payload);
    return machine.apply(next_zxid(), payload, true, sink);
  }
  Zxid next_zxid() { return zxid_ = Zxid(zxid_.value + 1); }
  Zxid last_zxid() const { return zxid_; }

  struct Answered {
    Err err;
    std::string body;
    std::vector<std::pair<WatchType, std::string>> early;
  };
  Answered read(const Peer& peer, wire::Op op, std::string_view bytes) {
    Answered out{Err::kOk, "prefix", {}};
    out.err = machine.read(peer, op, bytes, out.body,
                           [&](WatchType type, std::string_view path) { out.early.emplace_back(type, path); });
    EXPECT_TRUE(out.body.starts_with("prefix"));
    out.body.erase(0, 6);
    EXPECT_TRUE(out.err == Err::kOk || out.body.empty());
    return out;
  }
  Answered read(wire::Op op, std::string_view bytes) { return read(peer_of(SessionId(100), ConnId(1)), op, bytes); }

  void create(std::string_view path, std::optional<std::string_view> data = "", std::int32_t flags = 0,
              const Acl& acl = open_acl()) {
    ASSERT_EQ(request(wire::Op::kCreate, create_body(path, data, acl, flags)).err, Err::kOk) << path;
  }
  void remove(std::string_view path) {
    ASSERT_EQ(request(wire::Op::kDelete, path_version_body(path, -1)).err, Err::kOk) << path;
  }
  void set(std::string_view path, std::optional<std::string_view> data) {
    ASSERT_EQ(request(wire::Op::kSetData, set_data_body(path, data)).err, Err::kOk) << path;
  }
  Stat stat(std::string_view path) {
    const Answered answer = read(wire::Op::kExists, watch_body(path, false));
    EXPECT_EQ(answer.err, Err::kOk) << path;
    wire::Reader r(answer.body);
    return wire::read_stat(r);
  }
  bool exists(std::string_view path) { return read(wire::Op::kExists, watch_body(path, false)).err == Err::kOk; }
  // The node of a path, by Lookups from the root.
  wire::NodeInfo info(std::string_view path) {
    wire::NodeInfo node;
    node.id = kRootNode;
    Peer peer = peer_of(SessionId(100), ConnId(1));
    peer.trusted = true;
    std::string_view rest = path == "/" ? std::string_view() : path.substr(1);
    do {
      wire::LookupRequest lookup;
      lookup.parent = node.id;
      lookup.name = std::string(rest.substr(0, rest.find('/')));
      rest = rest.size() == lookup.name.size() ? std::string_view() : rest.substr(lookup.name.size() + 1);
      const Answered answer = read(peer, wire::Op::kLookup, encoded(lookup));
      EXPECT_EQ(answer.err, Err::kOk) << path;
      wire::Reader r(answer.body);
      wire::read(r, node);
    } while (!rest.empty());
    return node;
  }

  StateMachine machine;
  RecordingSink sink;
  TimeMs now = 1'700'000'000'000;

 private:
  Zxid zxid_{1, 0};
};

}  // namespace coord::tree::machine_test
