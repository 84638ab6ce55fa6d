#include "tests/sim/replica/mount_model.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace coord::sim {

std::string Expected::differs(Err told, std::string_view body, std::int64_t session) const {
  if (told != err) return "answered " + std::string(error_name(told)) + " instead of " + std::string(error_name(err));
  wire::Reader in(body);
  if (err != Err::kOk) return body.empty() ? "" : "a refusal with a body";
  if (!node) return in.i8() == 1 && !in.failed() && in.remaining() == 0 ? "" : "a delete that did not delete the znode";
  wire::NodeInfo got;
  wire::read(in, got);
  if (in.failed() || in.remaining() != 0) return "an answer that does not decode";
  if (id != NodeId{} && got.id != id) {
    return "node " + std::to_string(got.id.value) + " instead of " + std::to_string(id.value);
  }
  if (got.parent != parent || got.name != name) return "the name \"" + got.name + "\" instead of \"" + name + "\"";
  if (got.stat.version != version) {
    return "version " + std::to_string(got.stat.version) + " instead of " + std::to_string(version);
  }
  if (static_cast<std::size_t>(got.stat.data_length) != bytes) return "data of another length";
  if (got.stat.ephemeral_owner != (ephemeral ? session : 0)) return "another owner";
  return "";
}

const MountModel::Node* MountModel::any(Random& random) const {
  std::vector<const Node*> known;
  for (const auto& [handle, node] : nodes_) {
    if (node.id != NodeId{}) known.push_back(&node);
  }
  return known.empty() ? nullptr : known[random.below(known.size())];
}

std::optional<NodeId> MountModel::any_dead(Random& random) const {
  if (dead_.empty()) return std::nullopt;
  return dead_[random.below(dead_.size())];
}

void MountModel::learn(Handle handle, NodeId id) {
  const auto at = nodes_.find(handle);
  if (at != nodes_.end()) at->second.id = id;
}

MountModel::Node* MountModel::find(NodeId id) {
  for (auto& [handle, node] : nodes_) {
    if (node.id == id) return &node;
  }
  return nullptr;
}

MountModel::Node* MountModel::find(std::size_t dir, const std::string& name) {
  for (auto& [handle, node] : nodes_) {
    if (node.dir == dir && node.name == name) return &node;
  }
  return nullptr;
}

void MountModel::erase(NodeId id) {
  std::erase_if(nodes_, [id](const auto& entry) { return entry.second.id == id; });
  dead_.push_back(id);
}

Expected MountModel::info(const Node& node) const {
  Expected e;
  e.node = true;
  e.id = node.id;
  e.parent = dirs_[node.dir];
  e.name = node.name;
  e.version = node.version;
  e.bytes = node.data.size();
  e.ephemeral = node.ephemeral;
  return e;
}

Expected MountModel::create(Handle handle, std::size_t dir, std::string& name, bool sequential, bool ephemeral,
                            NodeId id, std::string data) {
  std::string final_name = name;
  if (sequential) {
    char digits[16];
    std::snprintf(digits, sizeof digits, "%010u", creates_[dir]);
    final_name += digits;
  }
  if (find(dir, final_name) != nullptr) return {.err = Err::kNodeExists};
  ++creates_[dir];
  const Node& node = nodes_[handle] = Node{id, dir, std::move(final_name), std::move(data), 0, ephemeral};
  return info(node);
}

Expected MountModel::set(NodeId id, std::string data, std::int32_t version) {
  Node* const node = find(id);
  if (node == nullptr) return {.err = Err::kStaleNode};
  if (version != -1 && version != node->version) return {.err = Err::kBadVersion};
  node->data = std::move(data);
  ++node->version;
  return info(*node);
}

Expected MountModel::remove(NodeId id) {
  if (find(id) == nullptr) return {.err = Err::kStaleNode};
  erase(id);
  return {};
}

wire::NodePlace MountModel::place(NodeId id) const {
  for (const auto& [handle, node] : nodes_) {
    if (node.id == id) return {dirs_[node.dir], node.name};
  }
  return {};
}

Expected MountModel::rename(NodeId id, std::size_t dir, const std::string& name, std::uint32_t flags) {
  Node* const source = find(id);
  if (source == nullptr) return {.err = Err::kStaleNode};
  Node* const target = find(dir, name);
  if (target == nullptr) {
    if (flags == kRenameExchange) return {.err = Err::kNoNode};
    ++creates_[dir];
    source->dir = dir;
    source->name = name;
    return info(*source);
  }
  if (flags == kRenameNoReplace) return {.err = Err::kNodeExists};
  if (flags == kRenameExchange) {
    ++creates_[source->dir];
    if (source->dir != target->dir) ++creates_[target->dir];
    std::swap(source->dir, target->dir);
    std::swap(source->name, target->name);
    return info(*source);
  }
  // The target keeps its id and gets the data.
  target->data = source->data;
  ++target->version;
  const Expected expected = info(*target);
  erase(id);
  return expected;
}

std::vector<MountModel::Node> MountModel::list(std::size_t dir) const {
  std::vector<Node> out;
  for (const auto& [handle, node] : nodes_) {
    if (node.dir == dir) out.push_back(node);
  }
  std::sort(out.begin(), out.end(), [](const Node& a, const Node& b) { return a.name < b.name; });
  return out;
}

}  // namespace coord::sim
