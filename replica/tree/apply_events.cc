// Who is told what: the part of Application that fires watches and makes change events, and the changes that touch
// whole subtrees.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "common/base/check.h"
#include "common/model/path.h"
#include "replica/tree/acl_check.h"
#include "replica/tree/apply.h"
#include "replica/tree/node_info.h"

namespace coord::tree {
namespace {

// `top` and all below it, parents before their children.
std::vector<const Node*> subtree(const Node& top) {
  std::vector<const Node*> nodes{&top};
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const Node* child = nodes[i]->first_child; child != nullptr; child = child->next_sibling) {
      nodes.push_back(child);
    }
  }
  return nodes;
}

}  // namespace

std::string Application::watched_path(const Node& node) const {
  return watches_.idle() ? std::string() : tree_.nodes().path_of(node);
}

void Application::fire(WatchTable table, std::string_view path, WatchType type, const Node& node, bool keep_told) {
  if (!keep_told) skip_.clear();
  told_.clear();
  if (skip_acl_ || (tree_.world_perms(node) & perm::kRead) != 0) {
    watches_.fire(table, path, nullptr, skip_, told_);
  } else {
    const Acl& acl = tree_.acl(node);
    const auto may_read = [&acl](const std::vector<AuthId>& ids) { return acl_allows(acl, ids, perm::kRead); };
    watches_.fire(table, path, may_read, skip_, told_);
  }
  for (const ConnId conn : told_) sink_.watch_event(conn, type, path, zxid_);
}

// DATA, then CHILD for those who were not told already.
void Application::fire_deleted(const Node& node, std::string_view path) {
  fire(WatchTable::kData, path, WatchType::kDeleted, node);
  skip_ = told_;
  fire(WatchTable::kChild, path, WatchType::kDeleted, node, true);
}

void Application::change(MoveTxn& c) {
  Node& node = tree_.get(c.id);
  Node& new_parent = tree_.get(c.new_parent);
  const Node& old_parent = *node.parent;
  std::string old_name = node.name;
  const bool watched = !watches_.idle();
  std::vector<const Node*> moved;
  if (watched) {
    moved = subtree(node);
    for (std::size_t i = moved.size(); i-- > 0;) fire_deleted(*moved[i], tree_.nodes().path_of(*moved[i]));
    fire(WatchTable::kChild, tree_.nodes().path_of(old_parent), WatchType::kChildrenChanged, old_parent);
  }
  tree_.move(node, new_parent, std::move(c.new_name), c.new_parent_creates, zxid_);
  node_ = &node;
  if (watched) {
    for (const Node* n : moved) fire(WatchTable::kData, tree_.nodes().path_of(*n), WatchType::kCreated, *n);
    fire(WatchTable::kChild, tree_.nodes().path_of(new_parent), WatchType::kChildrenChanged, new_parent);
  }
  note_renamed(node, old_parent, std::move(old_name));
}

void Application::change(ExchangeTxn& c) {
  Node& a = tree_.get(c.a);
  Node& b = tree_.get(c.b);
  const Node& a_parent = *a.parent;
  const Node& b_parent = *b.parent;
  std::string a_name = a.name;
  std::string b_name = b.name;
  const bool watched = !watches_.idle();
  std::vector<const Node*> moved;
  if (watched) {
    moved = subtree(a);
    const std::vector<const Node*> others = subtree(b);
    moved.insert(moved.end(), others.begin(), others.end());
    for (std::size_t i = moved.size(); i-- > 0;) fire_deleted(*moved[i], tree_.nodes().path_of(*moved[i]));
  }
  tree_.exchange(a, b, zxid_);
  node_ = &a;
  if (watched) {
    for (const Node* n : moved) fire(WatchTable::kData, tree_.nodes().path_of(*n), WatchType::kCreated, *n);
    fire(WatchTable::kChild, tree_.nodes().path_of(a_parent), WatchType::kChildrenChanged, a_parent);
    if (&a_parent != &b_parent) {
      fire(WatchTable::kChild, tree_.nodes().path_of(b_parent), WatchType::kChildrenChanged, b_parent);
    }
  }
  note_renamed(a, a_parent, std::move(a_name));
  note_renamed(b, b_parent, std::move(b_name));
}

void Application::queue(wire::ChangeEvent event, std::vector<ConnId> holders) {
  event.zxid = zxid_.wire();
  event.origin = session_;
  event.origin_seq = seq_;
  // chmod changes ACL and x bits: one event tells both.
  if (!events_.empty() && event.kind == wire::ChangeKind::kAttributes) {
    auto& [last, last_holders] = events_.back();
    if (last.kind == event.kind && last.node.id == event.node.id) {
      last = std::move(event);
      return;
    }
  }
  events_.emplace_back(std::move(event), std::move(holders));
}

std::vector<ConnId> Application::holders_of(NodeId node, std::initializer_list<const Node*> parents) const {
  std::array<NodeId, 5> ids{node};
  std::size_t count = 1;
  for (const Node* parent : parents) ids[count++] = parent->id;
  return interest_.holders(ids.data(), count);
}

// Whose listing shows NAME@ from now on, or not any more, because the node has got its first child, or has lost its
// last one. Otherwise the node itself.
const Node* Application::listing_with(const Node& parent, std::uint32_t children_now) {
  const bool shows = parent.shape != Shape::kDir && parent.num_children == children_now;
  return shows ? parent.parent : &parent;
}

void Application::note(wire::ChangeKind kind, const Node& node) {
  const bool created = kind == wire::ChangeKind::kCreated;
  std::vector<ConnId> holders =
      holders_of(node.id, {node.parent, created ? listing_with(*node.parent, 1) : node.parent});
  if (holders.empty()) return;
  wire::ChangeEvent event;
  event.kind = kind;
  event.node = node_info(tree_, node);
  event.parent_stat = node.parent->stat();
  queue(std::move(event), std::move(holders));
}

void Application::note_deleted(const wire::NodeInfo& before, const Node& parent) {
  std::vector<ConnId> holders = holders_of(before.id, {&parent, listing_with(parent, 0)});
  if (holders.empty()) return;
  wire::ChangeEvent event;
  event.kind = wire::ChangeKind::kDeleted;
  event.node = before;
  event.parent_stat = parent.stat();
  queue(std::move(event), std::move(holders));
}

void Application::note_renamed(const Node& node, const Node& old_parent, std::string old_name) {
  std::vector<ConnId> holders = holders_of(
      node.id, {node.parent, &old_parent, listing_with(*node.parent, 1), listing_with(old_parent, 0)});
  if (holders.empty()) return;
  wire::ChangeEvent event;
  event.kind = wire::ChangeKind::kRenamed;
  event.node = node_info(tree_, node);
  event.parent_stat = node.parent->stat();
  event.old_parent = old_parent.id;
  event.old_name = std::move(old_name);
  event.old_parent_stat = old_parent.stat();
  queue(std::move(event), std::move(holders));
}

void Application::deliver_events() {
  std::unordered_map<ConnId, std::size_t> last;  // of each connection; needed only if there are several
  if (events_.size() > 1) {
    for (std::size_t i = 0; i < events_.size(); ++i) {
      for (const ConnId conn : events_[i].second) last[conn] = i;
    }
  }
  for (std::size_t i = 0; i < events_.size(); ++i) {
    auto& [event, holders] = events_[i];
    for (const ConnId conn : holders) {
      event.more = !last.empty() && last.at(conn) != i;
      sink_.change_event(conn, event);
    }
  }
}

void Application::deliver_drop_alls() {
  if (!interest_.overflow_pending()) return;
  for (const ConnId conn : interest_.take_overflowed()) {
    wire::ChangeEvent event;
    event.kind = wire::ChangeKind::kDropAll;
    event.zxid = zxid_.wire();
    sink_.change_event(conn, event);
  }
}

}  // namespace coord::tree
