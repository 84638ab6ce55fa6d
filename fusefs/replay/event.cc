#include "fusefs/replay/event.h"

namespace coord::fs::replay {

void overtake(Event& event, std::uint64_t parent, std::string_view name) {
  const bool of_name = event.parent == parent && event.name == name;
  switch (event.kind) {
    case EventKind::kData:
    case EventKind::kAttributes:
    case EventKind::kGone:
      return;
    case EventKind::kCreate:
      if (of_name) event.raise = false;
      return;
    case EventKind::kDelete:
      if (of_name) event.overtaken = true;
      return;
    case EventKind::kRename:
      if (of_name) event.overtaken = true;
      if (event.new_parent == parent && event.new_name == name) event.new_overtaken = true;
      return;
  }
}

Event what_is_left(const Event& event) {
  Event left = event;
  left.overtaken = left.new_overtaken = false;
  if (event.kind == EventKind::kDelete && event.overtaken) {
    left.kind = EventKind::kGone;
    left.name = kGoneName;
    left.raise = event.raise && event.seen;
  }
  if (event.kind != EventKind::kRename) return left;
  if (event.overtaken && event.new_overtaken) {
    left.raise = false;
  } else if (event.overtaken) {
    left.kind = EventKind::kCreate;
    left.parent = event.new_parent;
    left.name = event.new_name;
  } else if (event.new_overtaken) {
    left.kind = EventKind::kDelete;
    left.ino = event.type == NodeType::kDirectory ? kNobodysDirectory : kNobodysFile;
  }
  return left;
}

Event what_is_reached(const Event& rename, bool old_reached, bool new_reached) {
  Event event = rename;
  event.overtaken = !old_reached;
  event.new_overtaken = !new_reached;
  return what_is_left(event);
}

}  // namespace coord::fs::replay
