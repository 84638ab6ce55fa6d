#include "replica/tree/interest.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace coord::tree {

void Interest::connection_opened(ConnId conn) {
  const std::lock_guard lock(mutex_);
  by_conn_.try_emplace(conn);
}

// Takes the connection out of the node's holders.
void Interest::drop(ConnId conn, NodeId node) {
  const auto at = by_node_.find(node);
  COORD_CHECK(at != by_node_.end());
  std::erase(at->second, conn);
  if (at->second.empty()) by_node_.erase(at);
  --held_;
}

void Interest::drop_all(ConnId conn, std::unordered_set<NodeId>& nodes) {
  for (const NodeId node : nodes) drop(conn, node);
  nodes.clear();
}

void Interest::connection_closed(ConnId conn) {
  const std::lock_guard lock(mutex_);
  const auto at = by_conn_.find(conn);
  if (at == by_conn_.end()) return;
  drop_all(conn, at->second);
  by_conn_.erase(at);
  std::erase(overflowed_, conn);
}

void Interest::hold(ConnId conn, NodeId node) {
  const std::lock_guard lock(mutex_);
  const auto at = by_conn_.find(conn);
  if (at == by_conn_.end() || at->second.contains(node)) return;
  if (at->second.size() >= limit_) {
    drop_all(conn, at->second);
    if (std::find(overflowed_.begin(), overflowed_.end(), conn) == overflowed_.end()) overflowed_.push_back(conn);
    overflow_pending_ = true;
  }
  at->second.insert(node);
  by_node_[node].push_back(conn);
  ++held_;
}

void Interest::forget(ConnId conn, NodeId node) {
  const std::lock_guard lock(mutex_);
  const auto at = by_conn_.find(conn);
  if (at != by_conn_.end() && at->second.erase(node) == 1) drop(conn, node);
}

std::vector<ConnId> Interest::holders(const NodeId* nodes, std::size_t count) const {
  std::vector<ConnId> out;
  if (idle()) return out;
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < count; ++i) {
    const auto at = by_node_.find(nodes[i]);
    if (at != by_node_.end()) out.insert(out.end(), at->second.begin(), at->second.end());
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

void Interest::gone(NodeId node) {
  if (idle()) return;
  const std::lock_guard lock(mutex_);
  const auto at = by_node_.find(node);
  if (at == by_node_.end()) return;
  for (const ConnId conn : at->second) by_conn_.at(conn).erase(node);
  held_ -= at->second.size();
  by_node_.erase(at);
}

std::vector<ConnId> Interest::take_overflowed() {
  const std::lock_guard lock(mutex_);
  overflow_pending_ = false;
  return std::exchange(overflowed_, {});
}

}  // namespace coord::tree
