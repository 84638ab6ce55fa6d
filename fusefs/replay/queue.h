// The order and the coalescing of events that wait for their replay. Pure: no threads, no clock; the Replayer locks.
//
// Events of one directory leave in the order they came in, one at a time; a rename belongs to both its directories and
// leaves when it is first in both. Directories do not wait for each other.
//
// Coalescing, among events that wait (never with one that was taken):
//   * data after data, attributes after attributes of one node: one event, at the place of the first;
//   * data after the create of the same node: none, if the create ends in CLOSE_WRITE anyway; attributes: none;
//   * delete: the waiting data and attribute events of the node go; if its create waits too and nobody can have seen
//     the node, the create goes as well and the delete only invalidates the name;
//   * rename: waiting data and attribute events of the node move behind it, to the new name.
// So a node has at most one waiting event of each kind, renames apart.
//
// Bounded: with kWaitingMax events waiting, a new create, data or attribute event is refused (counted in dropped()),
// and a delete or rename is taken without raising its event, because its names must be invalidated in any case. Those
// are bounded by the inodes that the kernel knows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <set>
#include <string_view>
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

  // The kernel has raised a newer event of this name itself: those that wait, or were taken and are not done, are of
  // the past (event.h).
  void overtake(std::uint64_t parent, std::string_view name);

  // The event as it is now, of one that was taken and is not done.
  const Event& current(const Taken& taken) const { return taken_.at(taken.ticket); }

  // The event is finished, its directories are free again.
  void done(const Taken& taken);

  std::size_t waiting() const { return waiting_.size(); }
  bool idle() const { return waiting_.empty() && active_.empty(); }
  std::uint64_t dropped() const { return dropped_; }
  std::uint64_t coalesced() const { return coalesced_; }

  static constexpr std::size_t kLookMax = 64;

 private:
  using Tickets = std::set<std::uint64_t>;

  void insert(Event event);
  Event extract(std::uint64_t ticket);
  Event* find(std::uint64_t ino, EventKind kind);
  Event* last_of(std::uint64_t ino);
  bool needless(const Event& event);
  void make_room_for_delete(Event& event, const Removed& removed);
  std::vector<Event> extract_changes(std::uint64_t ino);
  bool first_everywhere(std::uint64_t ticket, const Event& event) const;

  std::size_t waiting_max_;
  std::unordered_map<std::uint64_t, Event> waiting_;         // by ticket; tickets grow in order of arrival
  std::unordered_map<std::uint64_t, Tickets> by_directory_;  // a rename stands in both directories
  std::unordered_map<std::uint64_t, Tickets> by_node_;
  std::unordered_map<std::uint64_t, Event> taken_;  // by ticket, not done
  std::unordered_set<std::uint64_t> active_;        // directories of taken events
  std::list<std::uint64_t> turn_;             // directories with waiting events, the next one to look at first
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> turn_of_;
  std::uint64_t next_ticket_ = 1;
  std::uint64_t dropped_ = 0;
  std::uint64_t coalesced_ = 0;
};

}  // namespace coord::fs::replay
