// What a mount asks without changing anything (common/wire/extension.h).
#include <algorithm>
#include <vector>

#include "common/model/posix.h"
#include "replica/tree/node_info.h"
#include "replica/tree/read_ops.h"

namespace coord::tree {

using wire::Reader;
using wire::Writer;

const Credentials& ReadOps::asker(const Peer& peer, const Credentials& claimed) {
  return peer.trusted ? claimed : peer.credentials;
}

bool ReadOps::may(const Node& node, const Credentials& who, std::int32_t perms) const {
  return limits_.skip_acl || unix_allows(tree_.acl(node), who, perms);
}

bool ReadOps::may_search(const Node& node, const Credentials& who) const {
  return limits_.skip_acl || unix_may_search(tree_.acl(node), node.attributes(), who);
}

Err ReadOps::capabilities(const Peer& peer, Reader& r, Writer& w) const {
  wire::CapabilitiesRequest request;
  wire::read(r, request);
  if (r.failed()) return Err::kMarshallingError;
  if (request.reserve_ids != 0) return Err::kBadArguments;  // > 0 is a write, and never comes here
  wire::CapabilitiesReply reply;
  reply.trusted = peer.trusted;
  reply.peer_uid = peer.credentials.uid;
  reply.peer_gid = peer.credentials.gid;
  reply.disk_bytes = disk_bytes_;
  reply.disk_free_bytes = disk_free_bytes_;
  reply.node_count = static_cast<std::int64_t>(tree_.nodes().size());
  wire::write(w, reply);
  return Err::kOk;
}

Err ReadOps::lookup(const Peer& peer, Reader& r, Writer& w) const {
  wire::LookupRequest request;
  wire::read(r, request);
  if (r.failed()) return Err::kMarshallingError;
  const Credentials& who = asker(peer, request.who);
  const Node* node = tree_.nodes().find(request.parent);
  if (node == nullptr) return Err::kStaleNode;
  if (!request.name.empty()) {
    if (!may_search(*node, who)) return Err::kNoAuth;
    node = tree_.nodes().child(request.parent, request.name);
    if (node == nullptr) return Err::kNoNode;
  }
  if (request.hold) interest_.hold(peer.conn, node->id);
  const bool fits = request.data_max > 0 && node->data.size() <= static_cast<std::size_t>(request.data_max);
  write_node_info(w, tree_, *node, fits && may(*node, who, perm::kRead));
  return Err::kOk;
}

Err ReadOps::read_dir(const Peer& peer, Reader& r, Writer& w) const {
  wire::ReadDirRequest request;
  wire::read(r, request);
  if (r.failed()) return Err::kMarshallingError;
  const Node* node = tree_.nodes().find(request.node);
  if (node == nullptr) return Err::kStaleNode;
  if (!may(*node, asker(peer, request.who), perm::kRead)) return Err::kNoAuth;
  std::vector<const Node*> children;
  children.reserve(node->num_children);
  for (const Node* child = node->first_child; child != nullptr; child = child->next_sibling) children.push_back(child);
  std::sort(children.begin(), children.end(), [](const Node* a, const Node* b) { return a->name < b->name; });
  if (request.hold) {
    interest_.hold(peer.conn, node->id);
    for (const Node* child : children) interest_.hold(peer.conn, child->id);
  }
  write_node_info(w, tree_, *node, false);
  w.i32(static_cast<std::int32_t>(children.size()));
  for (const Node* child : children) write_node_info(w, tree_, *child, false);
  return Err::kOk;
}

Err ReadOps::read_node(const Peer& peer, Reader& r, Writer& w) const {
  wire::ReadNodeRequest request;
  wire::read(r, request);
  if (r.failed()) return Err::kMarshallingError;
  const Node* node = tree_.nodes().find(request.node);
  if (node == nullptr) return Err::kStaleNode;
  if (!may(*node, asker(peer, request.who), perm::kRead)) return Err::kNoAuth;
  write_node_info(w, tree_, *node, true);
  return Err::kOk;
}

Err ReadOps::forget(const Peer& peer, Reader& r) const {
  wire::ForgetRequest request;
  wire::read(r, request);
  if (r.failed()) return Err::kMarshallingError;
  for (const NodeId id : request.nodes) interest_.forget(peer.conn, id);
  return Err::kOk;
}

Err ReadOps::resume(const Peer& peer, Reader& r, Writer& w) const {
  wire::ResumeRequest request;
  wire::read(r, request);
  if (r.failed()) return Err::kMarshallingError;
  w.i32(static_cast<std::int32_t>(request.nodes.size()));
  for (const NodeId id : request.nodes) {
    const Node* node = tree_.nodes().find(id);
    w.boolean(node != nullptr);
    if (node == nullptr) continue;
    interest_.hold(peer.conn, id);
    write_node_info(w, tree_, *node, false);
  }
  return Err::kOk;
}

}  // namespace coord::tree
