// The order and the coalescing of events that wait for their replay. Pure: no threads, no clock; the Replayer locks.
//
// Events of one directory leave in the order they came in, one at a time; a rename belongs to both its directories and
// leaves when it is first in both. Directories do not wait for each other.
//
// Coalescing, among events that wait (never with one that was taken):
//   * data after data, attributes after attributes of one node: one event, at the place of the first;
//   * data after the create of the same node: none, if the create ends in CLOSE_WRITE anyway; attributes: none;
//   * delete: the waiting data and attribute events of the node go; if its create waits too and nobody can have seen the
//     node, create and delete both become name invalidations without an event;
//   * rename: waiting data and attribute events of the node move behind it, to the new name.
// So a node has at most one waiting event of each kind, renames apart.
//
// Bounded: with kWaitingMax events waiting, a new create, data or attribute event is refused (counted in dropped()),
// and a delete or rename is taken without raising its event, because its names must be invalidated in any case. Those
// are bounded by the inodes that the kernel knows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fusefs/replay/event.h"

namespace coord::fs::replay {

inline constexpr std::size_t kWaitingMax = 65536;

// An event that was taken, to be given back to done().
struct Taken {
  std::uint64_t ticket = 0;
  Event event;
};

class EventQueue {
 public:
  explicit EventQueue(std::size_t waiting_max = kWaitingMax) : waiting_max_(waiting_max) {}

  // What became of an event that add() was given or that it displaced.
  using Removed = std::function<void(const Event&)>;

  // `removed` is called for each event that will never be taken: `event` itself, or older ones that it made needless.
  void add(Event event, const Removed& removed);

  // The oldest event whose directories are free: none of their events taken and not done, and `busy(directory)` false.
  // nullopt: nothing can be done now. Looks at no more than kLookMax waiting directories.
  std::optional<Taken> take(const std::function<bool(std::uint64_t directory)>& busy);

  // The event is finished, its directories are free again.
  void done(const Taken& taken);

  // The waiting events of the node go (the kernel has forgotten it and all that could watch it).
  void forget_node(std::uint64_t ino, const Removed& removed);

  std::size_t waiting() const { return waiting_count_; }
  bool idle() const { return waiting_count_ == 0 && active_.empty(); }
  std::uint64_t dropped() const { return dropped_; }
  std::uint64_t coalesced() const { return coalesced_; }

  static constexpr std::size_t kLookMax = 64;

 private:
  struct Entry {
    std::uint64_t ticket = 0;
    Event event;
  };
  using Entries = std::map<std::uint64_t, Entry>;  // by ticket = order of arrival

  void insert(Event event);
  void erase(std::uint64_t ticket, const Removed& removed);
  std::uint64_t find(std::uint64_t ino, EventKind kind) const;
  bool first_everywhere(const Entry& entry) const;
  bool merge(const Event& event, const Removed& removed);
  void on_delete(Event& event, const Removed& removed);
  std::vector<Event> pull_changes(std::uint64_t ino);

  std::size_t waiting_max_;
  Entries waiting_;
  std::unordered_map<std::uint64_t, std::deque<std::uint64_t>> by_directory_;  // tickets, oldest first
  std::unordered_map<std::uint64_t, std::vector<std::uint64_t>> by_node_;      // tickets
  std::unordered_set<std::uint64_t> active_;                                   // directories of taken events
  std::list<std::uint64_t> turn_;  // directories with waiting events, next in turn first
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> turn_of_;
  std::size_t waiting_count_ = 0;
  std::uint64_t next_ticket_ = 1;
  std::uint64_t dropped_ = 0;
  std::uint64_t coalesced_ = 0;
};

}  // namespace coord::fs::replay
