// A node as the replica tells of it; its id is the zxid that made it.
#pragma once

#include <string>
#include <utility>

#include "common/wire/extension.h"

namespace coord::fs {

inline wire::NodeInfo node(std::uint64_t id, std::uint64_t parent, std::string name, Shape shape = Shape::kFile) {
  wire::NodeInfo info;
  info.id = NodeId{id};
  info.parent = NodeId{parent};
  info.name = std::move(name);
  info.attributes.shape = shape;
  info.acl = open_acl();
  info.stat.czxid = info.stat.mzxid = static_cast<std::int64_t>(id);
  return info;
}

}  // namespace coord::fs
