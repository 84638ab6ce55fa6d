// Requests from the bytes of a fuzz input, over a small vocabulary, for requests_fuzz.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/wire/extension.h"
#include "common/wire/protocol.h"
#include "replica/tree/state_machine.h"
#include "tests/fuzz/input.h"

namespace coord::fuzz {

using tree::Peer;
using tree::Request;
using wire::Op;

inline constexpr std::int64_t kSessions[] = {100, 101, 102};

// 100: root on the socket, trusted. 101: a stock client with a digest. 102: an untrusted user on the socket.
inline Peer peer_of(std::int64_t session) {
  Peer peer;
  peer.conn = ConnId(static_cast<std::uint64_t>(session));
  peer.session = SessionId(session);
  if (session == 100) {
    peer.ids = {{"unix", "u:0"}};
    peer.trusted = true;
  } else if (session == 101) {
    peer.ids = {{"ip", "127.0.0.1"}, {"digest", "u:h"}};
    peer.credentials = {65534, 65534, {}};
  } else {
    peer.ids = {{"unix", "u:1000"}};
    peer.credentials = {1000, 1000, {5}};
  }
  return peer;
}

inline Request request_of(std::int64_t session, Op op) {
  const Peer peer = peer_of(session);
  Request request;
  request.session = peer.session;
  request.xid = 7;
  request.op = op;
  request.ids = peer.ids;
  request.trusted = peer.trusted;
  request.credentials = peer.credentials;
  return request;
}

inline Request session_request(std::int64_t session) {
  Request request = request_of(session, Op::kCreateSession);
  wire::Writer w(request.body);
  w.i32(10'000);
  w.i64(session);
  return request;
}

inline std::string path_from(Input& in) {
  static constexpr std::string_view kNames[] = {
      "a", "b", "c", "s-", "d0000000000", "zookeeper", "quota", "zookeeper_limits", "zookeeper_stats", "config"};
  static constexpr std::string_view kOdd[] = {"/",
                                              "",
                                              "/zookeeper/quota/a",
                                              "/zookeeper/quota/a/zookeeper_limits",
                                              "/zookeeper/quota/a/b/zookeeper_limits",
                                              "/zookeeper/config",
                                              "//a",
                                              "/a/",
                                              "/zookeeper/quota/zookeeper_limits",
                                              "/zookeeper/quota/a/zookeeper_stats"};
  const std::uint8_t kind = in.byte();
  if (kind >= 224) return std::string(in.pick(kOdd));
  if (kind >= 216) return std::string(in.piece());
  std::string path;
  for (int depth = 1 + kind % 3; depth > 0; --depth) {
    const std::size_t name = in.byte();
    path += "/";
    path += kNames[name < 224 ? name % 4 : name % std::size(kNames)];
  }
  return path;
}

inline std::string name_from(Input& in) {
  static constexpr std::string_view kNames[] = {"a", "b", "c", "s-", "zookeeper_limits", ".", "x/y", ""};
  const std::uint8_t kind = in.byte();
  return kind < 240 ? std::string(kNames[kind < 200 ? kind % 4 : kind % std::size(kNames)]) : std::string(in.piece());
}

inline std::optional<std::string> data_from(Input& in) {
  const std::uint8_t kind = in.byte();
  if (kind < 40) return std::nullopt;
  if (kind < 80) return std::string();
  if (kind < 120) return "count=" + std::to_string(kind % 5) + ",bytes=" + std::to_string(kind % 40);
  return std::string(in.piece());
}

inline Acl acl_from(Input& in) {
  const std::uint8_t kind = in.byte();
  const std::int32_t perms = kind & 31;
  switch (kind >> 5) {
    case 0:
    case 1:
    case 2:
      return open_acl();
    case 3:
      return {AclEntry{perms, {"world", "anyone"}}};
    case 4:
      return {AclEntry{perms, {"auth", ""}}};
    case 5:
      return {AclEntry{perms, {"digest", "u:h"}}, AclEntry{1, {"world", "anyone"}}};
    case 6:
      return {AclEntry{perms | 16, {"unix", "u:1000"}}, AclEntry{perms, {"unix", "g:5"}}};
    default:
      return {AclEntry{in.number32(), {std::string(in.piece()), std::string(in.piece())}}};
  }
}

inline NodeId node_from(Input& in) {
  const std::uint8_t id = in.byte();
  if (id < 60) return kRootNode;
  return id < 245 ? NodeId(16 + id % (id < 180 ? 8 : 16)) : NodeId(static_cast<std::uint64_t>(in.number()));
}

inline std::int32_t version_from(Input& in) {
  const std::uint8_t kind = in.byte();
  return kind < 160 ? -1 : kind < 240 ? kind % 4 : in.number32();
}

inline Credentials credentials_from(Input& in) {
  static const Credentials kWho[] = {{0, 0, {}}, {1000, 1000, {5}}, {1001, 5, {}}};
  return in.pick(kWho);
}

inline wire::MutationHeader header_from(Input& in) {
  const std::uint8_t seq = in.byte();
  const std::uint8_t acked = in.byte();
  wire::MutationHeader header;
  // Mostly a fresh number, as what is repeated or out of the window does nothing.
  header.seq = seq < 200 ? in.next_sequence() : seq < 250 ? seq - 200 : in.number();
  header.acked_below = acked < 200 ? 0 : acked < 250 ? acked - 200 : in.number();
  header.who = credentials_from(in);
  return header;
}

// The body of a stock mutation, which may stand in a multi.
inline void stock_body(Input& in, Op op, wire::Writer& w) {
  w.buffer(path_from(in));
  if (op == Op::kCreate || op == Op::kCreate2 || op == Op::kCreateContainer || op == Op::kCreateTtl) {
    w.buffer(data_from(in));
    wire::write(w, acl_from(in));
    const std::uint8_t flags = in.byte();
    w.i32(flags >= 250                 ? in.number32()
          : op == Op::kCreateContainer ? 4
          : op == Op::kCreateTtl       ? 5 + flags % 2
                                       : flags % 4);
    if (op == Op::kCreateTtl) w.i64(in.number());
    return;
  }
  if (op == Op::kSetData) w.buffer(data_from(in));
  if (op == Op::kSetAcl) wire::write(w, acl_from(in));
  w.i32(version_from(in));
}

inline void multi_body(Input& in, wire::Writer& w) {
  static constexpr Op kOps[] = {Op::kCreate, Op::kCreate2,         Op::kDelete,    Op::kSetData,
                                Op::kCheck,  Op::kCreateContainer, Op::kCreateTtl, Op::kSetAcl};
  for (std::size_t n = in.below(6); n > 0; --n) {
    const std::uint8_t op = in.byte();
    const Op chosen = kOps[op < 250 ? op % 7 : 7];
    wire::write(w, wire::MultiHeader{static_cast<std::int32_t>(chosen), false, -1});
    stock_body(in, chosen, w);
  }
  wire::write(w, wire::MultiHeader{-1, true, -1});
}

inline void multi_read_body(Input& in, wire::Writer& w) {
  static constexpr Op kOps[] = {Op::kGetData, Op::kGetChildren, Op::kExists};
  for (std::size_t n = in.below(4); n > 0; --n) {
    wire::write(w, wire::MultiHeader{static_cast<std::int32_t>(in.pick(kOps)), false, -1});
    w.buffer(path_from(in));
    w.boolean(in.flag());
  }
  wire::write(w, wire::MultiHeader{-1, true, -1});
}

inline wire::CreateNodeRequest create_node_from(Input& in) {
  wire::CreateNodeRequest r;
  r.header = header_from(in);
  r.parent = node_from(in);
  r.name = name_from(in);
  r.id = in.byte() < 224 ? NodeId{} : node_from(in);
  const std::uint8_t mode = in.byte();
  r.mode = static_cast<wire::CreateMode>(mode < 128 ? 0 : mode % 7);
  r.ttl_ms = in.number();
  r.data = data_from(in);
  r.attributes.shape = static_cast<Shape>(in.below(3));
  r.attributes.exec = static_cast<std::uint16_t>(in.number() & 01111);
  r.attributes.mtime_ns = in.number();
  r.acl = acl_from(in);
  const std::uint8_t bits = in.byte();
  r.fill_null = (bits & 1) != 0;
  r.hold = (bits & 2) != 0;
  return r;
}

inline void mutation_body(Input& in, Op op, wire::Writer& w) {
  if (op == Op::kCreateNode) return wire::write(w, create_node_from(in));
  if (op == Op::kSetNodeData) {
    const wire::MutationHeader header = header_from(in);
    const NodeId node = node_from(in);
    return wire::write(w, wire::SetNodeDataRequest{header, node, data_from(in), version_from(in)});
  }
  if (op == Op::kDeleteNode) {
    const wire::MutationHeader header = header_from(in);
    const NodeId node = node_from(in);
    return wire::write(w, wire::DeleteNodeRequest{header, node, static_cast<wire::DeleteHalf>(in.below(3)), {}});
  }
  if (op == Op::kSetAttributes) {
    wire::SetAttributesRequest r;
    r.header = header_from(in);
    r.node = node_from(in);
    if (in.flag()) r.mode = static_cast<std::uint32_t>(in.number32());
    if (in.flag()) r.uid = in.pick({0U, 1000U, 1001U, 0xffffffffU});
    if (in.flag()) r.gid = in.pick({0U, 1000U, 5U, 0xffffffffU});
    if (in.flag()) r.mtime_ns = in.number();
    return wire::write(w, r);
  }
  wire::RenameRequest r;
  r.header = header_from(in);
  r.node = node_from(in);
  r.new_parent = node_from(in);
  r.new_name = name_from(in);
  const std::uint8_t flags = in.byte();
  r.flags = flags < 250 ? flags % 3 : flags;
  if (flags % 8 == 0) {
    r.at.parent = node_from(in);
    r.at.name = name_from(in);
  }
  wire::write(w, r);
}

inline void read_body(Input& in, Op op, wire::Writer& w) {
  const auto paths = [&] {
    std::vector<std::string> out;
    for (std::size_t n = in.below(4); n > 0; --n) out.push_back(path_from(in));
    wire::write_strings(w, out);
  };
  const auto ids = [&] {
    std::vector<NodeId> out;
    for (std::size_t n = in.below(6); n > 0; --n) out.push_back(node_from(in));
    return out;
  };
  if (op == Op::kLookup) {
    const Credentials who = credentials_from(in);
    const NodeId parent = node_from(in);
    const std::string name = in.flag() ? name_from(in) : std::string();
    return wire::write(w, wire::LookupRequest{who, parent, name, in.flag(), in.number32()});
  }
  if (op == Op::kReadDir) {
    const Credentials who = credentials_from(in);
    const NodeId node = node_from(in);
    return wire::write(w, wire::ReadDirRequest{who, node, in.flag()});
  }
  if (op == Op::kReadNode) {
    const Credentials who = credentials_from(in);
    return wire::write(w, wire::ReadNodeRequest{who, node_from(in)});
  }
  if (op == Op::kForget) return wire::write(w, wire::ForgetRequest{ids()});
  if (op == Op::kResume) return wire::write(w, wire::ResumeRequest{ids()});
  if (op == Op::kMultiRead) return multi_read_body(in, w);
  if (op == Op::kWhoAmI) return;
  if (op == Op::kSetWatches || op == Op::kSetWatches2) {
    w.i64(in.flag() ? 0x100000000 + in.byte() : in.number());
    for (int n = op == Op::kSetWatches ? 3 : 5; n > 0; --n) paths();
    return;
  }
  w.buffer(path_from(in));
  if (op == Op::kAddWatch || op == Op::kRemoveWatches || op == Op::kCheckWatches)
    return w.i32(static_cast<int>(in.below(7)));
  w.boolean(in.flag());
}

inline Request create_request(std::string_view path, std::optional<std::string_view> data) {
  Request request = request_of(100, Op::kCreate);
  wire::Writer w(request.body);
  w.buffer(path);
  w.buffer(data);
  wire::write(w, open_acl());
  w.i32(0);
  return request;
}

inline std::int64_t session_from(Input& in) {
  const std::uint8_t session = in.byte();
  return session < 140 ? 100 : session < 250 ? kSessions[session % 3] : in.number();
}

inline Request build_request(Input& in) {
  static constexpr Op kStock[] = {Op::kCreate, Op::kCreate2, Op::kCreateContainer, Op::kCreateTtl,
                                  Op::kDelete, Op::kSetData, Op::kSetAcl,          Op::kCreate};
  static constexpr Op kMutations[] = {Op::kCreateNode, Op::kSetNodeData, Op::kDeleteNode, Op::kSetAttributes,
                                      Op::kRename};
  static constexpr Op kReads[] = {Op::kExists,        Op::kGetData,       Op::kGetAcl,     Op::kGetChildren,
                                  Op::kGetChildren2,  Op::kGetEphemerals, Op::kAddWatch,   Op::kGetAllChildrenNumber,
                                  Op::kRemoveWatches, Op::kCheckWatches,  Op::kSetWatches, Op::kSetWatches2,
                                  Op::kMultiRead,     Op::kLookup,        Op::kReadDir,    Op::kReadNode,
                                  Op::kForget,        Op::kResume,        Op::kWhoAmI};
  const std::uint8_t kind = in.byte();
  Request request = request_of(session_from(in), Op::kError);
  wire::Writer w(request.body);
  if (kind < 90) {
    request.op = in.pick(kStock);
    stock_body(in, request.op, w);
  } else if (kind < 170) {
    request.op = in.pick(kMutations);
    mutation_body(in, request.op, w);
  } else if (kind < 190) {
    request.op = Op::kMulti;
    multi_body(in, w);
  } else if (kind < 235) {
    request.op = in.pick(kReads);
    read_body(in, request.op, w);
  } else if (kind < 242) {
    return session_request(session_from(in));
  } else if (kind < 248) {
    request.op = Op::kCloseSession;
  } else {
    request.op = Op::kCapabilities;
    w.i32(kind < 254 ? static_cast<std::int32_t>(in.below(20)) : in.number32());
  }
  return request;
}

// Any op, any body. No op of the shell's own (ping, auth, ...) is excluded.
inline Request raw_request(Input& in) {
  static constexpr std::int32_t kOps[] = {-11,  -10,  -1,   0,    1,    2,    3,    4,    5,   6,    7,    8,
                                          9,    11,   12,   13,   14,   15,   16,   17,   18,  19,   20,   21,
                                          22,   100,  101,  102,  103,  104,  105,  106,  107, 1000, 1001, 1002,
                                          1003, 1010, 1011, 1012, 1013, 1014, 1030, 1031, 1032};
  const std::uint8_t op = in.byte();
  const std::int32_t number = op < 250 ? kOps[op % std::size(kOps)] : in.integer<std::int32_t>();
  Request request = request_of(session_from(in), static_cast<Op>(number));
  request.body = in.piece();
  return request;
}

}  // namespace coord::fuzz
