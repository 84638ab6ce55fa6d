// Arbitrary records from the store: loading gives a Fault or a tree that can be read from end to end, never a crash.
// The input is a list of records; each says its kind, and is raw bytes or a node put together field by field, so that
// the checks behind decoding (parents, names, circles, owners) are reached.
#include "common/wire/extension.h"
#include "replica/tree/record.h"
#include "replica/tree/state_machine.h"
#include "tests/fuzz/input.h"

namespace coord::tree {
namespace {

using fuzz::Input;

constexpr int kRecordsMax = 64;

NodeId small_id(Input& in) {
  const std::uint8_t id = in.byte();
  return id == 255 ? NodeId(in.integer<std::uint64_t>()) : NodeId(id % 32);
}

std::string built_node(Input& in) {
  static const Acl kAcls[] = {open_acl(), {}, {AclEntry{1, {"digest", "u:h"}}}, {AclEntry{31, {"unix", "u:1"}}}};
  static const std::string kNames[] = {"a", "b",  "quota", "zookeeper", "zookeeper_limits", "zookeeper_stats",
                                       "",  "x/y"};
  Node parent;
  parent.id = small_id(in);
  Node node;
  node.parent = &parent;
  node.name = in.pick(kNames);
  const std::uint8_t bits = in.byte();
  node.null_data = (bits & 1) != 0;
  node.from_client = (bits & 2) != 0;
  node.shape = static_cast<Shape>((bits >> 2) & 3);
  node.lifetime = static_cast<Lifetime>((bits >> 4) & 3);
  node.owner_or_ttl = in.number();
  node.mtime_ns = in.number();
  node.creates = static_cast<std::uint32_t>(in.number());
  node.version = in.number32();
  node.ctime = node.mtime = in.number();
  node.exec = static_cast<std::uint16_t>(in.number());
  if (!node.null_data) node.data = in.piece();
  return encode_node(node, in.pick(kAcls));
}

std::string built_session(Input& in) {
  Session session;
  session.timeout_ms = in.number32();
  session.acked_below = in.number();
  for (std::size_t n = in.below(4); n > 0; --n) {
    session.answers[in.number()] = Answer{static_cast<Err>(in.number32()), std::string(in.piece())};
  }
  return encode_session(session);
}

// False: a Fault, after which nothing more may be done with the machine.
bool load_one(Input& in, StateMachine& machine) {
  const std::uint8_t kind = in.byte();
  switch (kind % 6) {
    case 0:
      return machine.load_node(small_id(in), in.piece()).has_value();
    case 1:
    case 2: {
      const NodeId id = small_id(in);
      return machine.load_node(id, built_node(in)).has_value();
    }
    case 3:
      return machine.load_session(SessionId(in.number()), in.piece()).has_value();
    case 4: {
      const SessionId id(in.number());
      return machine.load_session(id, built_session(in)).has_value();
    }
    default:
      return machine
          .load_counters(kind < 128 ? encode_counters(Counters{small_id(in), {}}) : std::string(in.piece()))
          .has_value();
  }
}

// Everything below `node`, as root sees it; how many nodes.
std::size_t walk(StateMachine& machine, const Peer& peer, NodeId node, int depth) {
  COORD_CHECK_MSG(depth < 2 * kRecordsMax, "a circle in a tree that was loaded");
  std::string body;
  wire::Writer w(body);
  wire::write(w, wire::ReadDirRequest{{}, node, true});
  std::string out;
  const Err err = machine.read(peer, wire::Op::kReadDir, body, out, nullptr);
  if (err != Err::kOk) return 1;
  wire::Reader r(out);
  wire::ReadDirReply reply;
  wire::read(r, reply);
  if (r.failed()) return 1;  // exec bits that no node has, in a record that says so
  std::size_t count = 1;
  for (const wire::NodeInfo& child : reply.children) {
    COORD_CHECK_MSG(child.parent == node, "a child that names another parent");
    count += walk(machine, peer, child.id, depth + 1);
  }
  return count;
}

}  // namespace
}  // namespace coord::tree

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coord;
  using namespace coord::tree;
  fuzz::Input in(data, size);
  StateMachine machine{Limits()};
  for (int n = 0; n < kRecordsMax && !in.empty(); ++n) {
    if (!load_one(in, machine)) return 0;
  }
  if (!machine.finish_load(Zxid(77))) return 0;
  Peer peer{ConnId(1), SessionId(1), {AuthId{"unix", "u:0"}}, true, Credentials{}};
  machine.connection_opened(peer);
  COORD_CHECK_MSG(walk(machine, peer, kRootNode, 0) < machine.node_count(), "more nodes than there are");
  static_cast<void>(machine.reap(1'000'000'000'000, 100));
  static_cast<void>(machine.sessions());
  COORD_CHECK_MSG(machine.take_fold().nodes.empty(), "a tree that was just loaded has changed");
  return 0;
}
