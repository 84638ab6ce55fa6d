#include "fusefs/ops/node_cache.h"

#include <algorithm>
#include <unordered_set>

#include "common/base/check.h"
#include "fusefs/names/names.h"

namespace coord::fs {
namespace {

constexpr int index(View view) { return static_cast<int>(view); }

const ByKernel& by_nobody() {
  static const ByKernel never = [](View) { return false; };
  return never;
}

// ZooKeeper's own subtree is not shown: a `rm -rf /coord/*` must not meet it.
bool hidden(const wire::NodeInfo& info) {
  return info.parent == kRootNode && info.id != kRootNode && info.name == "zookeeper";
}

}  // namespace

bool shows_data_name(const wire::NodeInfo& info) {
  if (hidden(info) || info.attributes.shape == Shape::kDir) return false;
  return !info.null_data || info.stat.ephemeral_owner != 0 || info.attributes.shape == Shape::kSymlink;
}

bool shows_children_name(const wire::NodeInfo& info) {
  if (hidden(info) || info.attributes.shape == Shape::kDir) return false;
  return info.stat.num_children > 0 || !shows_data_name(info);
}

bool shows_dot_data(const wire::NodeInfo& info) {
  return !hidden(info) && info.attributes.shape == Shape::kDir && info.stat.data_length > 0;
}

bool shows_name(const wire::NodeInfo& info, View view) {
  if (hidden(info)) return false;
  if (info.attributes.shape == Shape::kDir) return view == View::kDir || shows_dot_data(info);
  return view == View::kDir ? shows_children_name(info) : shows_data_name(info);
}

// --- reading

const CachedNode* NodeCache::find(NodeId id) const {
  const auto it = nodes_.find(id);
  return it == nodes_.end() ? nullptr : it->second.get();
}

CachedNode* NodeCache::get(NodeId id) {
  const auto it = nodes_.find(id);
  return it == nodes_.end() ? nullptr : it->second.get();
}

const CachedNode* NodeCache::current(NodeId id) const {
  const CachedNode* node = find(id);
  return node != nullptr && node->current() ? node : nullptr;
}

const CachedNode* NodeCache::child(NodeId parent, std::string_view znode_name) const {
  const CachedNode* directory = find(parent);
  if (directory == nullptr) return nullptr;
  const auto it = directory->children.find(znode_name);
  return it == directory->children.end() ? nullptr : current(it->second);
}

bool NodeCache::place_of_info(const wire::NodeInfo& info, View view, Ino& parent, std::string& name) const {
  if (info.id == NodeId{} || hidden(info)) return false;
  const bool dir_shaped = info.attributes.shape == Shape::kDir;
  if (view == View::kData) {
    if (dir_shaped ? !shows_dot_data(info) : !shows_data_name(info)) return false;
    parent = dir_shaped ? ino_of(info.id, View::kDir) : ino_of(info.parent, View::kDir);
    name = dir_shaped ? std::string(kDataName) : shown_name(info.name);
    return true;
  }
  // NAME@ has its place also while it is empty and so not listed: whoever is in it, or removes it, still finds it.
  parent = ino_of(info.parent, View::kDir);
  if (info.id == mount_root()) {
    name.clear();
  } else {
    name = dir_shaped ? shown_name(info.name) : children_dir_name(info.name);
  }
  return true;
}

bool NodeCache::place_of(Ino ino, Ino& parent, std::string& name) const {
  const CachedNode* node = current(node_of(ino));
  return node != nullptr && place_of_info(node->info, view_of(ino), parent, name);
}

std::optional<std::string> NodeCache::path_of(Ino directory) const {
  std::string path;
  Ino at = directory;
  for (int depth = 0; at != kRootIno; ++depth) {
    Ino parent = 0;
    std::string name;
    // A rename elsewhere can bring two records into a cycle for a moment when one of them is out of date.
    if (depth > 4096 || !place_of(at, parent, name)) return std::nullopt;
    path = path.empty() ? name : name + "/" + path;
    at = parent;
  }
  return path;
}

std::optional<std::string> NodeCache::znode_path(NodeId id) const {
  std::string path;
  for (int depth = 0; id != mount_root(); ++depth) {
    const CachedNode* node = current(id);
    if (depth > 4096 || node == nullptr) return std::nullopt;
    path = "/" + node->info.name + path;
    id = node->info.parent;
  }
  path = root_path_ + path;
  return path.empty() ? "/" : path;
}

void NodeCache::for_each(const std::function<void(NodeId, const CachedNode&)>& visit) const {
  for (const auto& [id, node] : nodes_) visit(id, *node);
}

// --- references

void NodeCache::add_lookup(Ino ino) const {
  const CachedNode* node = find(node_of(ino));
  COORD_CHECK(node != nullptr);
  node->lookups[index(view_of(ino))].fetch_add(1, std::memory_order_relaxed);
}

bool NodeCache::forget(Ino ino, std::uint64_t count) const {
  if (ino == kRootIno) return false;  // the kernel has it for as long as the mount lives
  const CachedNode* node = find(node_of(ino));
  if (node == nullptr) return false;
  auto& lookups = node->lookups[index(view_of(ino))];
  std::uint64_t have = lookups.load(std::memory_order_relaxed);
  while (!lookups.compare_exchange_weak(have, have - std::min(have, count), std::memory_order_relaxed)) {
  }
  return !node->in_use();
}

void NodeCache::pin(NodeId id) const {
  const CachedNode* node = find(id);
  COORD_CHECK(node != nullptr);
  node->pins.fetch_add(1, std::memory_order_relaxed);
}

bool NodeCache::unpin(NodeId id) const {
  const CachedNode* node = find(id);
  COORD_CHECK(node != nullptr);
  const std::int32_t before = node->pins.fetch_sub(1, std::memory_order_relaxed);
  COORD_CHECK(before > 0);
  return !node->in_use();
}

// --- changing: pieces

CachedNode& NodeCache::ensure(NodeId id) {
  auto& slot = nodes_[id];
  if (slot == nullptr) slot = std::make_unique<CachedNode>();
  return *slot;
}

void NodeCache::touch(NodeId id, const CachedNode& node, Effects& effects) const {
  for (const View view : kBothViews) {
    if (node.lookups_of(view) != 0) effects.attributes.push_back(ino_of(id, view));
  }
}

void NodeCache::set_data(CachedNode& node, std::shared_ptr<const std::string> data) {
  if (node.data != nullptr) data_bytes_ -= node.data->size();
  node.data = std::move(data);
  if (node.data == nullptr) return;
  data_bytes_ += node.data->size();
  if (data_bytes_ <= kCachedDataTotalMax) return;
  for (auto& [id, other] : nodes_) other->data = nullptr;
  data_bytes_ = 0;
}

bool NodeCache::needed_by_parent(const CachedNode& node) const {
  if (node.info.id == NodeId{} || node.info.id == mount_root()) return false;
  const CachedNode* parent = find(node.info.parent);
  if (parent == nullptr || !parent->complete) return false;
  const auto it = parent->children.find(node.info.name);
  return it != parent->children.end() && it->second == node.info.id;
}

void NodeCache::link(NodeId id, const wire::NodeInfo& info) {
  if (id == mount_root()) return;
  CachedNode* parent = get(info.parent);
  if (parent != nullptr) parent->children[info.name] = id;
}

void NodeCache::unlink(NodeId id, const wire::NodeInfo& info) {
  CachedNode* parent = get(info.parent);
  if (parent == nullptr) return;
  const auto it = parent->children.find(info.name);
  if (it != parent->children.end() && it->second == id) parent->children.erase(it);
}

// The listing is not known to be whole any more, so children that were current only because of it are not.
void NodeCache::incomplete(NodeId, CachedNode& node) {
  if (!node.complete) return;
  node.complete = false;
  for (auto it = node.children.begin(); it != node.children.end();) {
    CachedNode* child = get(it->second);
    const NodeId id = it->second;
    ++it;
    if (child == nullptr || child->held) continue;
    if (child->current()) child->state = CachedNode::State::kUnknown;
    drop_if_unused(id);  // may take the element out of `children`
  }
}

void NodeCache::drop_if_unused(NodeId id) {
  const auto it = nodes_.find(id);
  if (it == nodes_.end() || id == mount_root()) return;
  CachedNode& node = *it->second;
  if (node.in_use() || node.held || needed_by_parent(node)) return;
  incomplete(id, node);
  set_data(node, nullptr);
  unlink(id, node.info);
  nodes_.erase(id);
}

void NodeCache::lose_if_known(const CachedNode& node, const wire::NodeInfo& was, View view, Effects& effects) {
  Ino parent = 0;
  std::string name;
  if (ino_of(was.id, view) == kRootIno) return;  // it has no name
  if (node.lookups_of(view) == 0 || !place_of_info(was, view, parent, name)) return;
  effects.lost.push_back(LostName{ino_of(was.id, view), parent, std::move(name)});
  CachedNode* self = get(was.id);
  COORD_CHECK(self != nullptr);
  ++self->limbo[index(view)];
}

// Puts the new info into the record, and says which inodes have lost their names by it.
void NodeCache::replace(CachedNode& node, wire::NodeInfo info, const ByKernel& by_kernel, Effects& effects) {
  const bool known = node.info.id != NodeId{};
  std::optional<std::string> data = std::move(info.data);
  info.data.reset();
  if (known) {
    COORD_CHECK(node.info.id == info.id);
    for (const View view : kBothViews) {
      Ino old_parent = 0, new_parent = 0;
      std::string old_name, new_name;
      if (node.lookups_of(view) == 0 || !place_of_info(node.info, view, old_parent, old_name)) continue;
      const bool shown = place_of_info(info, view, new_parent, new_name);
      const bool stays = shown && old_parent == new_parent && old_name == new_name;
      if (!stays && !by_kernel(view)) lose_if_known(node, node.info, view, effects);
    }
    const bool moved = node.info.parent != info.parent || node.info.name != info.name;
    if (moved) unlink(info.id, node.info);
    if (node.info.stat.mzxid != info.stat.mzxid || node.info.null_data != info.null_data) set_data(node, nullptr);
    // Moved: its attributes must be asked for, so that the old name, which the kernel still has, is found to be wrong.
    const bool same = node.info.stat == info.stat && node.info.acl == info.acl &&
                      node.info.attributes == info.attributes;
    if (moved || !same) {
      touch(info.id, node, effects);
    }
  } else {
    touch(info.id, node, effects);
  }
  node.info = std::move(info);
  link(node.info.id, node.info);
  if (data && data->size() <= kCachedDataMax) set_data(node, std::make_shared<const std::string>(std::move(*data)));
}

void NodeCache::mark_gone(NodeId id, CachedNode& node, const ByKernel& by_kernel, Effects& effects) {
  if (node.gone()) return;
  if (node.info.id != NodeId{}) {
    for (const View view : kBothViews) {
      if (!by_kernel(view)) lose_if_known(node, node.info, view, effects);
    }
    unlink(id, node.info);
  }
  touch(id, node, effects);
  node.state = CachedNode::State::kGone;
  node.held = false;  // the replica holds nodes that exist
  incomplete(id, node);
  if (node.pins.load(std::memory_order_relaxed) == 0) set_data(node, nullptr);  // else somebody may read it to its end
  drop_if_unused(id);
}

void NodeCache::update_parent_stat(NodeId id, const Stat& stat, Effects& effects) {
  CachedNode* parent = get(id);
  if (parent == nullptr || parent->info.id == NodeId{} || parent->gone() || parent->info.stat == stat) return;
  parent->info.stat = stat;
  touch(id, *parent, effects);
}

// --- changing: face

void NodeCache::absorb(wire::NodeInfo info, bool held, Effects& effects) {
  ++serial_;
  const NodeId id = info.id;
  CachedNode& node = ensure(id);
  replace(node, std::move(info), by_nobody(), effects);
  if (held) {
    node.held = true;
    node.absorbed = serial_;
  }
  node.state = node.held || needed_by_parent(node) ? CachedNode::State::kCurrent : CachedNode::State::kUnknown;
  if (!node.current()) drop_if_unused(id);
}

void NodeCache::absorb_directory(wire::ReadDirReply reply, Effects& effects) {
  const NodeId id = reply.node.id;
  absorb(std::move(reply.node), true, effects);
  std::unordered_set<NodeId> present;
  for (auto& child : reply.children) {
    present.insert(child.id);
    absorb(std::move(child), true, effects);
  }
  CachedNode& node = ensure(id);
  std::vector<NodeId> left_over;
  for (const auto& [name, child] : node.children) {
    if (!present.contains(child)) left_over.push_back(child);
  }
  for (const NodeId child_id : left_over) {
    std::erase_if(node.children, [child_id](const auto& entry) { return entry.second == child_id; });
    CachedNode* child = get(child_id);
    if (child == nullptr || child->gone()) continue;
    // It has left without an event that we saw; whoever asks for it asks the replica.
    touch(child_id, *child, effects);
    child->state = CachedNode::State::kUnknown;
    child->held = false;
    incomplete(child_id, *child);
    drop_if_unused(child_id);
  }
  node.complete = true;
}

void NodeCache::listing_unknown(NodeId id, Effects& effects) {
  CachedNode* node = get(id);
  if (node == nullptr) return;
  incomplete(id, *node);
  touch(id, *node, effects);
}

void NodeCache::absorb_gone(NodeId id, Effects& effects) {
  CachedNode* node = get(id);
  if (node != nullptr) mark_gone(id, *node, by_nobody(), effects);
}

void NodeCache::apply(const wire::ChangeEvent& event, const ByKernel& by_kernel, Effects& effects) {
  using wire::ChangeKind;
  if (event.kind == ChangeKind::kDropAll) {
    drop_all(effects);
    return;
  }
  const NodeId id = event.node.id;
  update_parent_stat(event.node.parent, event.parent_stat, effects);
  if (event.kind == ChangeKind::kRenamed) update_parent_stat(event.old_parent, event.old_parent_stat, effects);
  if (event.kind == ChangeKind::kDeleted) {
    CachedNode* node = get(id);
    if (node == nullptr) {
      unlink(id, event.node);
    } else {
      mark_gone(id, *node, by_kernel, effects);
    }
    return;
  }
  const CachedNode* parent = find(event.node.parent);
  const bool listed = parent != nullptr && parent->complete;
  CachedNode* node = get(id);
  if (node == nullptr) {
    if (!listed) return;
    node = &ensure(id);
  }
  replace(*node, event.node, by_kernel, effects);
  node->state = node->held || needed_by_parent(*node) ? CachedNode::State::kCurrent : CachedNode::State::kUnknown;
  if (!node->current()) drop_if_unused(id);
}

void NodeCache::lose_name(Ino ino, Ino parent, std::string name, Effects& effects) {
  CachedNode* node = get(node_of(ino));
  if (node == nullptr || node->lookups_of(view_of(ino)) == 0) return;
  ++node->limbo[index(view_of(ino))];
  effects.lost.push_back(LostName{ino, parent, std::move(name)});
}

void NodeCache::keep_for_replay(Ino ino, const wire::NodeInfo& info, bool gone) {
  CachedNode& node = ensure(info.id);
  if (node.info.id == NodeId{}) node.info = info;
  if (gone && !node.gone()) {
    node.state = CachedNode::State::kGone;
    node.held = false;
    incomplete(info.id, node);
    set_data(node, nullptr);
  }
  ++node.limbo[index(view_of(ino))];
}

void NodeCache::name_invalidated(Ino ino) {
  CachedNode* node = get(node_of(ino));
  COORD_CHECK(node != nullptr && node->limbo[index(view_of(ino))] > 0);
  --node->limbo[index(view_of(ino))];
}

void NodeCache::drop_all(Effects& effects) {
  ++serial_;
  for (auto& [id, node] : nodes_) {
    node->held = false;
    node->complete = false;
    if (node->current()) node->state = CachedNode::State::kUnknown;
    touch(id, *node, effects);
  }
  std::vector<NodeId> ids;
  for (const auto& [id, node] : nodes_) ids.push_back(id);
  for (const NodeId id : ids) drop_if_unused(id);
}

std::vector<NodeId> NodeCache::held() const {
  std::vector<NodeId> ids;
  for (const auto& [id, node] : nodes_) {
    if (node->current()) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

void NodeCache::forgotten(const std::vector<NodeId>& ids, std::int64_t since, Effects& effects) {
  for (const NodeId id : ids) {
    CachedNode* node = get(id);
    if (node == nullptr || !node->held || node->absorbed <= since) continue;
    node->held = false;
    if (!needed_by_parent(*node)) node->state = CachedNode::State::kUnknown;
    incomplete(id, *node);
    touch(id, *node, effects);
    drop_if_unused(id);
  }
}

std::vector<NodeId> NodeCache::reap(const std::vector<NodeId>& candidates) {
  std::vector<NodeId> out;
  for (const NodeId id : candidates) {
    CachedNode* node = get(id);
    if (node == nullptr || id == mount_root() || node->in_use()) continue;
    if (node->held) {
      out.push_back(id);
      node->held = false;
      incomplete(id, *node);
    }
    drop_if_unused(id);
  }
  return out;
}

}  // namespace coord::fs
