#include "replica/tree/node_info.h"

namespace coord::tree {

wire::NodeInfo node_info(const DataTree& tree, const Node& node) {
  wire::NodeInfo info;
  info.id = node.id;
  info.parent = node.parent->id;
  info.name = node.name;
  info.attributes = node.attributes();
  info.stat = node.stat();
  info.acl = tree.acl(node);
  info.null_data = node.null_data;
  info.ttl_ms = node.lifetime == Lifetime::kTtl ? node.owner_or_ttl : 0;
  return info;
}

// Field for field as wire::write(Writer&, const NodeInfo&), without copying name, ACL and data on the way; a test
// compares the two.
void write_node_info(wire::Writer& w, const DataTree& tree, const Node& node, bool with_data) {
  w.i64(static_cast<std::int64_t>(node.id.value));
  w.i64(static_cast<std::int64_t>(node.parent->id.value));
  w.buffer(std::string_view(node.name));
  wire::write(w, node.attributes());
  wire::write(w, node.stat());
  wire::write(w, tree.acl(node));
  w.boolean(node.null_data);
  w.i64(node.lifetime == Lifetime::kTtl ? node.owner_or_ttl : 0);
  w.boolean(with_data);
  if (with_data) w.buffer(std::string_view(node.data));
}

}  // namespace coord::tree
