// The quota part of DataTree: which paths are limited, and the usage in zookeeper_stats. The usage is replicated state
// that changes beside the versions: no mzxid, no version, no watch (client-protocol.md section 8.1).
#include <utility>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "replica/tree/data_tree.h"

namespace coord::tree {
namespace {

// The limited path of a node in the quota tree; empty: not one, or a quota of the root, which ZooKeeper ignores too.
std::string limited_path(const NodeTable& nodes, const Node& node) {
  if (node.name != kLimitsName && node.name != kStatsName) return {};
  const Node* top = node.parent;
  while (top->id != kQuotaNode && top != &nodes.root()) top = top->parent;
  if (top->id != kQuotaNode || node.parent == top) return {};
  return nodes.path_of(*node.parent).substr(kQuotaRoot.size());
}

// Visits `top` and everything below it, parents first.
template <class Visit>
void walk(const Node& top, Visit visit) {
  const Node* node = &top;
  for (;;) {
    visit(*node);
    if (node->first_child != nullptr) {
      node = node->first_child;
      continue;
    }
    while (node != &top && node->next_sibling == nullptr) node = node->parent;
    if (node == &top) return;
    node = node->next_sibling;
  }
}

}  // namespace

DataTree::Quotas::const_iterator DataTree::quota_for(std::string_view path) const {
  if (quotas_.empty()) return quotas_.end();
  while (path.size() > 1) {
    const auto at = quotas_.find(path);
    if (at != quotas_.end()) return at;
    path = path.substr(0, path.rfind('/'));
  }
  return quotas_.end();
}

void DataTree::write_usage(Node& stats, std::int64_t count, std::int64_t bytes) {
  std::string text = format_usage(count, bytes);
  digest_ -= node_hash(stats);
  data_bytes_ += text.size() - stats.data.size();
  stats.data = std::move(text);
  stats.null_data = false;
  stats.data_crc = crc32c(stats.data);
  digest_ += node_hash(stats);
  mark(stats);
}

void DataTree::add_usage(std::string_view path, std::int64_t count, std::int64_t bytes) {
  const auto at = quota_for(path);
  if (at == quotas_.end() || at->second.stats.value == 0) return;
  Node& stats = get(at->second.stats);
  const QuotaText now = parse_quota(stats.data);
  write_usage(stats, now.count + count, now.bytes + bytes);
}

void DataTree::quota_created(const Node& node) {
  const std::string limited = limited_path(nodes_, node);
  if (!limited.empty()) {
    if (node.name == kLimitsName) {
      const Node* stats = nodes_.child(node.parent->id, kStatsName);
      quotas_[limited] = Quota{node.id, stats == nullptr ? NodeId() : stats->id};
    } else {
      const auto at = quotas_.find(limited);
      if (at != quotas_.end()) at->second.stats = node.id;
      std::int64_t count = 0;
      std::int64_t bytes = 0;
      if (const Node* top = nodes_.find(limited)) {
        walk(*top, [&](const Node& n) {
          ++count;
          bytes += static_cast<std::int64_t>(n.data.size());
        });
      }
      write_usage(get(node.id), count, bytes);
    }
  }
  if (!quotas_.empty()) add_usage(nodes_.path_of(node), 1, static_cast<std::int64_t>(node.data.size()));
}

void DataTree::quota_erased(const Node& node) {
  if (quotas_.empty()) return;
  add_usage(nodes_.path_of(node), -1, -static_cast<std::int64_t>(node.data.size()));
  const std::string limited = limited_path(nodes_, node);
  const auto at = limited.empty() ? quotas_.end() : quotas_.find(limited);
  if (at == quotas_.end()) return;
  if (node.name == kLimitsName) {
    quotas_.erase(at);
  } else {
    at->second.stats = NodeId();
  }
}

void DataTree::quota_changed(const Node& node, std::int64_t bytes) {
  if (!quotas_.empty() && bytes != 0) add_usage(nodes_.path_of(node), 0, bytes);
}

void DataTree::count_subtree(const Node& top, std::int64_t sign) {
  if (quotas_.empty()) return;
  walk(top, [&](const Node& n) {
    add_usage(nodes_.path_of(n), sign, sign * static_cast<std::int64_t>(n.data.size()));
  });
}

void DataTree::quota_moved(const Node& node) {
  const Node* above = node.parent;
  while (above->id != kQuotaNode && above != &nodes_.root()) above = above->parent;
  if (!quotas_.empty() || above->id == kQuotaNode) register_quotas();
}

void DataTree::register_quotas() {
  quotas_.clear();
  walk(get(kQuotaNode), [&](const Node& node) {
    if (node.name != kLimitsName) return;
    const std::string limited = limited_path(nodes_, node);
    if (limited.empty()) return;
    const Node* stats = nodes_.child(node.parent->id, kStatsName);
    quotas_[limited] = Quota{node.id, stats == nullptr ? NodeId() : stats->id};
  });
}

}  // namespace coord::tree
