// NodeInfo of a node, as extension replies and change events carry it (common/wire/extension.h). Pure.
#pragma once

#include "common/wire/codec.h"
#include "common/wire/extension.h"
#include "replica/tree/data_tree.h"

namespace coord::tree {

// Without data.
wire::NodeInfo node_info(const DataTree& tree, const Node& node);

// The bytes of the same, straight from the node, with its data if `with_data`.
void write_node_info(wire::Writer& w, const DataTree& tree, const Node& node, bool with_data);

}  // namespace coord::tree
