// The requests about watches: setWatches, setWatches2, addWatch, checkWatches, removeWatches.
// Source: client-protocol.md sections 2.8, 3.3 and 7; ZooKeeper's DataTree.setWatches, removeWatch, containsWatcher.
#include <vector>

#include "replica/tree/read_ops.h"

namespace coord::tree {
namespace {

using wire::Reader;
using wire::Writer;

// ZooKeeper's Watcher.WatcherType.
enum class WatcherType : std::int32_t { kChildren = 1, kData = 2, kAny = 3, kPersistent = 4, kRecursive = 5 };

struct Places {
  std::uint8_t data = 0;   // modes in the DATA table
  std::uint8_t child = 0;  // modes in the CHILD table
};

// What a type stands for; `data` and `child` 0: there is no such type.
Places places_of(std::int32_t type) {
  switch (static_cast<WatcherType>(type)) {
    case WatcherType::kChildren:
      return {0, watch_mode::kStandard};
    case WatcherType::kData:
      return {watch_mode::kStandard, 0};
    case WatcherType::kAny:
      return {watch_mode::kAny, watch_mode::kAny};
    case WatcherType::kPersistent:
      return {watch_mode::kPersistent, watch_mode::kPersistent};
    case WatcherType::kRecursive:
      return {watch_mode::kRecursive, 0};
  }
  return {};
}

}  // namespace

Err ReadOps::set_watches(const Peer& peer, Reader& r, bool with_persistent, const EarlyEvent& early) const {
  const std::int64_t relative = r.i64();
  const std::vector<std::string> data = wire::read_strings(r);
  const std::vector<std::string> exist = wire::read_strings(r);
  const std::vector<std::string> child = wire::read_strings(r);
  std::vector<std::string> persistent;
  std::vector<std::string> recursive;
  if (with_persistent) {
    persistent = wire::read_strings(r);
    recursive = wire::read_strings(r);
  }
  if (r.failed()) return Err::kMarshallingError;
  for (const std::string& path : data) {
    const Node* node = tree_.nodes().find(path);
    if (node == nullptr) {
      early(WatchType::kDeleted, path);
    } else if (node->mzxid > relative) {
      early(WatchType::kDataChanged, path);
    } else {
      watches_.arm(peer.conn, WatchTable::kData, path, watch_mode::kStandard);
    }
  }
  for (const std::string& path : exist) {
    if (tree_.nodes().find(path) != nullptr) {
      early(WatchType::kCreated, path);
    } else {
      watches_.arm(peer.conn, WatchTable::kData, path, watch_mode::kStandard);
    }
  }
  for (const std::string& path : child) {
    const Node* node = tree_.nodes().find(path);
    if (node == nullptr) {
      early(WatchType::kDeleted, path);
    } else if (node->pzxid > relative) {
      early(WatchType::kChildrenChanged, path);
    } else {
      watches_.arm(peer.conn, WatchTable::kChild, path, watch_mode::kStandard);
    }
  }
  for (const std::string& path : persistent) {
    watches_.arm(peer.conn, WatchTable::kData, path, watch_mode::kPersistent);
    watches_.arm(peer.conn, WatchTable::kChild, path, watch_mode::kPersistent);
  }
  for (const std::string& path : recursive) watches_.arm(peer.conn, WatchTable::kData, path, watch_mode::kRecursive);
  return Err::kOk;
}

Err ReadOps::add_watch(const Peer& peer, Reader& r, Writer& w) const {
  const auto path = r.buffer();
  const std::int32_t mode = r.i32();
  if (r.failed() || !path || mode < 0 || mode > 1) return Err::kMarshallingError;
  if (mode == 0) {
    watches_.arm(peer.conn, WatchTable::kData, *path, watch_mode::kPersistent);
    watches_.arm(peer.conn, WatchTable::kChild, *path, watch_mode::kPersistent);
  } else {
    watches_.arm(peer.conn, WatchTable::kData, *path, watch_mode::kRecursive);
  }
  w.i32(0);
  return Err::kOk;
}

Err ReadOps::remove_watches(const Peer& peer, Reader& r, bool only_check) const {
  const auto path = r.buffer();
  const Places places = places_of(r.i32());
  if (r.failed() || !path || (places.data | places.child) == 0) return Err::kMarshallingError;
  bool found = false;
  if (only_check) {
    found = watches_.armed(peer.conn, WatchTable::kData, *path, places.data) ||
            watches_.armed(peer.conn, WatchTable::kChild, *path, places.child);
  } else {
    const bool in_data = watches_.disarm(peer.conn, WatchTable::kData, *path, places.data);
    const bool in_child = watches_.disarm(peer.conn, WatchTable::kChild, *path, places.child);
    found = in_data || in_child;
  }
  return found ? Err::kOk : Err::kNoWatcher;
}

}  // namespace coord::tree
