// Which connections of mounts hold which nodes, and so get their change events (common/wire/extension.h).
//
// Threading: any thread, locked inside; see watches.h.
#pragma once

#include <atomic>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/model/ids.h"

namespace coord::tree {

class Interest {
 public:
  explicit Interest(std::size_t limit) : limit_(limit) {}

  void connection_opened(ConnId conn);
  void connection_closed(ConnId conn);

  // Above the limit the connection loses all it held; it is then in take_overflowed() once. A connection that is not
  // open holds nothing.
  void hold(ConnId conn, NodeId node);
  void forget(ConnId conn, NodeId node);

  bool idle() const { return held_.load(std::memory_order_relaxed) == 0; }
  // The connections that hold any of these, each once, in ascending order.
  std::vector<ConnId> holders(const NodeId* nodes, std::size_t count) const;
  // The node is gone for good.
  void gone(NodeId node);

  bool overflow_pending() const { return overflow_pending_.load(std::memory_order_relaxed); }
  std::vector<ConnId> take_overflowed();

  std::size_t held() const { return held_.load(std::memory_order_relaxed); }

 private:
  void drop(ConnId conn, NodeId node);
  void drop_all(ConnId conn, std::unordered_set<NodeId>& nodes);

  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::unordered_map<NodeId, std::vector<ConnId>> by_node_;  // most nodes have one holder
  std::unordered_map<ConnId, std::unordered_set<NodeId>> by_conn_;
  std::vector<ConnId> overflowed_;
  std::atomic<std::size_t> held_ = 0;
  std::atomic<bool> overflow_pending_ = false;
};

}  // namespace coord::tree
