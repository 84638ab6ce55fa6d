// The watches of this replica's connections, and who these are: two tables, DATA and CHILD, from path to connections,
// with the modes in which each watches. Says who is to be told of an event; delivery is the caller's.
//
// Threading: any thread, locked inside. What makes "read and arm" one step is the caller's lock (state_machine.h):
// firing happens under the exclusive one.
//
// Source: client-protocol.md sections 2.8 and 7; ZooKeeper's WatchManager and DataTree.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/model/ids.h"
#include "common/model/records.h"

namespace coord::tree {

enum class WatchTable : std::uint8_t { kData = 0, kChild = 1 };

// Modes of one connection on one path of one table; they coexist.
namespace watch_mode {
inline constexpr std::uint8_t kStandard = 1, kPersistent = 2, kRecursive = 4, kAny = 7;
}

class Watches {
 public:
  // The permission filter: may a connection with these ids learn of the event?
  using Filter = std::function<bool(const std::vector<AuthId>& ids)>;

  void connection_opened(ConnId conn, const std::vector<AuthId>& ids);  // again when `ids` grew
  void connection_closed(ConnId conn);                                  // with all its watches

  // Arming for a connection that is not open does nothing: it closed while its request was on its way.
  void arm(ConnId conn, WatchTable table, std::string_view path, std::uint8_t mode);
  // Removes these modes; false if none of them was there.
  bool disarm(ConnId conn, WatchTable table, std::string_view path, std::uint8_t modes);
  bool armed(ConnId conn, WatchTable table, std::string_view path, std::uint8_t modes) const;

  // Whether anybody could be told anything: cheap, to save the caller the making of a path.
  bool idle(WatchTable table) const { return counts_[index(table)].load(std::memory_order_relaxed) == 0; }
  bool idle() const { return idle(WatchTable::kData) && idle(WatchTable::kChild); }

  // The event has happened at `path`: appends to `told` each connection that is to be told, once, and uses up one-shot
  // watches, also those that the filter (null: everybody may) or `skip` (sorted) keeps silent. DATA looks for recursive
  // watches above `path` too. Ascending order.
  void fire(WatchTable table, std::string_view path, const Filter& allowed, const std::vector<ConnId>& skip,
            std::vector<ConnId>& told);

  std::size_t count() const;  // of (connection, path, mode) in both tables

 private:
  struct Watcher {
    ConnId conn;
    std::uint8_t modes = 0;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };
  using Paths = std::unordered_map<std::string, std::vector<Watcher>, Hash, std::equal_to<>>;  // watchers by conn
  struct Connection {
    std::vector<AuthId> ids;
    std::unordered_set<const std::string*> paths[2];  // keys of the table
  };

  static std::size_t index(WatchTable table) { return static_cast<std::size_t>(table); }
  void set_modes(WatchTable table, Paths::iterator at, std::vector<Watcher>::iterator watcher, std::uint8_t modes);
  void fire_at(WatchTable table, std::string_view path, std::uint8_t modes, std::vector<ConnId>& hit);

  mutable std::mutex mutex_;
  Paths paths_[2];
  std::unordered_map<ConnId, Connection> connections_;
  std::atomic<std::size_t> counts_[2] = {0, 0};
  std::size_t recursive_ = 0;
};

}  // namespace coord::tree
