// The fixture of the tests of extension mutations: requests of a trusted mount, for several users.
#pragma once

#include "tests/replica/tree/harness.h"

namespace coord::tree::test {

inline const Credentials kRootUser{};
inline const Credentials kAlice{1000, 1000, {50}};
inline const Credentials kBob{2000, 2000, {}};

class Extension : public ::testing::Test {
 protected:
  wire::MutationHeader header(const Credentials& who = kRootUser) { return {++seq, 0, who}; }

  Applied make(NodeId parent, std::string name, const Credentials& who = kRootUser, Data data = "",
               std::uint32_t mode = 0644, Shape shape = Shape::kFile) {
    wire::CreateNodeRequest r = request(parent, std::move(name), who, data, mode, shape);
    return w.call(Op::kCreateNode, extension_body(r));
  }
  wire::CreateNodeRequest request(NodeId parent, std::string name, const Credentials& who = kRootUser, Data data = "",
                                  std::uint32_t mode = 0644, Shape shape = Shape::kFile) {
    wire::CreateNodeRequest r;
    r.header = header(who);
    r.parent = parent;
    r.name = std::move(name);
    if (data) r.data = std::string(*data);
    r.attributes.shape = shape;
    r.attributes.exec = static_cast<std::uint16_t>(mode & 01111);
    r.acl = acl_for_new(who.uid, who.gid, mode);
    return r;
  }
  NodeId file(NodeId parent, std::string name, const Credentials& who = kRootUser, Data data = "",
              std::uint32_t mode = 0644) {
    return info(make(parent, std::move(name), who, data, mode)).id;
  }
  NodeId dir(NodeId parent, std::string name, const Credentials& who = kRootUser, std::uint32_t mode = 0755) {
    return info(make(parent, std::move(name), who, std::nullopt, mode, Shape::kDir)).id;
  }
  static wire::NodeInfo info(const Applied& reply) {
    EXPECT_EQ(reply.err, Err::kOk) << error_name(reply.err);
    wire::NodeInfo out;
    wire::Reader r(reply.body);
    wire::read(r, out);
    EXPECT_FALSE(r.failed());
    return out;
  }
  Applied remove(NodeId node, wire::DeleteHalf half = wire::DeleteHalf::kWhole, const Credentials& who = kRootUser) {
    return w.call(Op::kDeleteNode, extension_body(wire::DeleteNodeRequest{header(who), node, half}));
  }
  int removed(NodeId node, wire::DeleteHalf half) {
    const Applied reply = remove(node, half);
    EXPECT_EQ(reply.err, Err::kOk);
    return wire::Reader(reply.body).i8();
  }
  Applied set(NodeId node, Data data, const Credentials& who = kRootUser, std::int32_t version = -1) {
    wire::SetNodeDataRequest r{header(who), node, std::nullopt, version};
    if (data) r.data = std::string(*data);
    return w.call(Op::kSetNodeData, extension_body(r));
  }
  Applied rename(NodeId node, NodeId new_parent, std::string name, std::uint32_t flags = 0,
                 const Credentials& who = kRootUser) {
    return w.call(Op::kRename,
                  extension_body(wire::RenameRequest{header(who), node, new_parent, std::move(name), flags}));
  }
  Applied attributes(NodeId node, const Credentials& who, std::optional<std::uint32_t> mode,
                     std::optional<std::uint32_t> uid = {}, std::optional<std::uint32_t> gid = {},
                     std::optional<std::int64_t> mtime = {}) {
    return w.call(Op::kSetAttributes,
                  extension_body(wire::SetAttributesRequest{header(who), node, mode, uid, gid, mtime}));
  }
  std::optional<wire::NodeInfo> at(NodeId parent, std::string_view name) { return w.lookup(parent, name); }

  World w;
  std::int64_t seq = 0;
  // The root is world:anyone:cdrwa in a fresh tree; `top` is a directory of root in which everybody may create.
  NodeId top = dir(kRootNode, "top", kRootUser, 0777);
};

}  // namespace coord::tree::test
