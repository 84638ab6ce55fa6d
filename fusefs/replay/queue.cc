#include "fusefs/replay/queue.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace coord::fs::replay {
namespace {

bool two_directories(const Event& event) {
  return event.kind == EventKind::kRename && event.new_parent != event.parent;
}

// The create of this node ends with OPEN and CLOSE_WRITE, which tells of any change before it as well.
bool create_tells_of_data(const Event& create) {
  return create.raise && create.type == NodeType::kFile && !create.executable;
}

}  // namespace

void EventQueue::insert(Event event) {
  const std::uint64_t ticket = next_ticket_++;
  const auto enter = [&](std::uint64_t directory) {
    Tickets& tickets = by_directory_[directory];
    if (tickets.empty()) turn_of_[directory] = turn_.insert(turn_.end(), directory);
    tickets.insert(ticket);
  };
  enter(event.parent);
  if (two_directories(event)) enter(event.new_parent);
  by_node_[event.ino].insert(ticket);
  waiting_.emplace(ticket, std::move(event));
}

Event EventQueue::extract(std::uint64_t ticket) {
  auto node = waiting_.extract(ticket);
  COORD_CHECK(!node.empty());
  Event event = std::move(node.mapped());
  const auto leave = [&](std::uint64_t directory) {
    const auto it = by_directory_.find(directory);
    it->second.erase(ticket);
    if (!it->second.empty()) return;
    by_directory_.erase(it);
    const auto turn = turn_of_.find(directory);
    turn_.erase(turn->second);
    turn_of_.erase(turn);
  };
  leave(event.parent);
  if (two_directories(event)) leave(event.new_parent);
  const auto it = by_node_.find(event.ino);
  it->second.erase(ticket);
  if (it->second.empty()) by_node_.erase(it);
  return event;
}

Event* EventQueue::last_of(std::uint64_t ino) {
  const auto it = by_node_.find(ino);
  return it == by_node_.end() ? nullptr : &waiting_.at(*it->second.rbegin());
}

// The waiting event of this kind in the node's present life, that is, after its last waiting delete.
Event* EventQueue::find(std::uint64_t ino, EventKind kind) {
  const auto it = by_node_.find(ino);
  if (it == by_node_.end()) return nullptr;
  for (auto ticket = it->second.rbegin(); ticket != it->second.rend(); ++ticket) {
    Event& event = waiting_.at(*ticket);
    if (event.kind == kind) return &event;
    if (event.kind == EventKind::kDelete) return nullptr;
  }
  return nullptr;
}

// Is a data or attribute event told by one that waits already?
bool EventQueue::needless(const Event& event) {
  if (!event.raise) return true;
  if (const Event* last = last_of(event.ino); last != nullptr && last->kind == EventKind::kDelete) return true;
  Event* const data = find(event.ino, EventKind::kData);
  Event* const create = find(event.ino, EventKind::kCreate);
  if (data != nullptr) data->executable = event.executable;  // whether it may be opened is decided by the newest
  if (create != nullptr) create->executable = event.executable;
  if (event.kind == EventKind::kData) {
    return data != nullptr || (create != nullptr && create_tells_of_data(*create));
  }
  return find(event.ino, EventKind::kAttributes) != nullptr || (create != nullptr && create->raise);
}

std::vector<Event> EventQueue::extract_changes(std::uint64_t ino) {
  std::vector<Event> out;
  const auto it = by_node_.find(ino);
  if (it == by_node_.end()) return out;
  const Tickets tickets = it->second;
  for (const std::uint64_t ticket : tickets) {
    const EventKind kind = waiting_.at(ticket).kind;
    if (kind == EventKind::kData || kind == EventKind::kAttributes) out.push_back(extract(ticket));
  }
  return out;
}

void EventQueue::make_room_for_delete(Event& event, const Removed& removed) {
  for (const Event& change : extract_changes(event.ino)) {
    ++coalesced_;
    removed(change);
  }
  if (event.seen) return;
  const Event* const create = find(event.ino, EventKind::kCreate);
  if (create == nullptr || !create->raise || last_of(event.ino) != create) return;
  Event gone = extract(*by_node_.at(event.ino).rbegin());
  coalesced_ += 2;
  event.raise = false;
  removed(gone);
}

void EventQueue::add(Event event, const Removed& removed) {
  COORD_CHECK(event.ino != 0 && event.parent != 0 && !event.name.empty());
  const bool change = event.kind == EventKind::kData || event.kind == EventKind::kAttributes;
  if (change && needless(event)) {
    coalesced_ += event.raise ? 1 : 0;
    removed(event);
    return;
  }
  if (event.kind == EventKind::kDelete) make_room_for_delete(event, removed);
  if (waiting_.size() >= waiting_max_ && event.raise) {
    ++dropped_;
    if (change || event.kind == EventKind::kCreate) {
      removed(event);
      return;
    }
    event.raise = false;
  }
  if (event.kind != EventKind::kRename) {
    insert(std::move(event));
    return;
  }
  COORD_CHECK(event.new_parent != 0 && !event.new_name.empty());
  std::vector<Event> moved = extract_changes(event.ino);
  for (Event& follower : moved) {
    follower.parent = event.new_parent;
    follower.name = event.new_name;
  }
  insert(std::move(event));
  for (Event& follower : moved) insert(std::move(follower));
}

bool EventQueue::first_everywhere(std::uint64_t ticket, const Event& event) const {
  if (active_.contains(event.parent) || *by_directory_.at(event.parent).begin() != ticket) return false;
  if (!two_directories(event)) return true;
  return !active_.contains(event.new_parent) && *by_directory_.at(event.new_parent).begin() == ticket;
}

std::optional<Taken> EventQueue::take(const std::function<bool(std::uint64_t)>& busy) {
  const std::size_t looks = std::min(turn_.size(), kLookMax);
  for (std::size_t i = 0; i < looks; ++i) {
    const std::uint64_t directory = turn_.front();
    turn_.splice(turn_.end(), turn_, turn_.begin());  // looked at: to the end, taken or not
    const std::uint64_t ticket = *by_directory_.at(directory).begin();
    const Event& event = waiting_.at(ticket);
    if (!first_everywhere(ticket, event)) continue;
    if (busy(event.parent) || (two_directories(event) && busy(event.new_parent))) continue;
    Taken taken{ticket, extract(ticket)};
    taken_.emplace(ticket, taken.event);
    active_.insert(taken.event.parent);
    if (two_directories(taken.event)) active_.insert(taken.event.new_parent);
    return taken;
  }
  return std::nullopt;
}

void EventQueue::overtake(std::uint64_t parent, std::string_view name) {
  if (const auto it = by_directory_.find(parent); it != by_directory_.end()) {
    for (const std::uint64_t ticket : it->second) replay::overtake(waiting_.at(ticket), parent, name);
  }
  for (auto& [ticket, event] : taken_) replay::overtake(event, parent, name);
}

void EventQueue::done(const Taken& taken) {
  taken_.erase(taken.ticket);
  COORD_CHECK(active_.erase(taken.event.parent) == 1);
  if (two_directories(taken.event)) COORD_CHECK(active_.erase(taken.event.new_parent) == 1);
}

}  // namespace coord::fs::replay
