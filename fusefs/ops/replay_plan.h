// Which inotify events, and which invalidations of names, a change event means for this mount (filesystem.md section
// 5): a pure function of the event, of what was known before it, and of what the kernel knows.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/wire/extension.h"
#include "fusefs/ops/inode.h"
#include "fusefs/ops/node_cache.h"
#include "fusefs/replay/event.h"

namespace coord::fs {

struct PlanInput {
  const wire::ChangeEvent* event = nullptr;
  std::optional<wire::NodeInfo> before;  // the node as this mount knew it before the event
  // The parent after the event, and how many children it had before; for NAME@, which comes with the first child.
  std::optional<wire::NodeInfo> parent;
  std::int32_t parent_children_before = 0;
  bool children_dir_open = false;  // the kernel knows NAME@ of the node, as CachedNode has it, before the event
  const std::vector<LostName>* lost = nullptr;  // Effects::lost of this event
  std::function<bool(Ino)> knows;               // the kernel has lookups on the inode
  ByKernel by_kernel;                           // the kernel has raised this event for that half itself
};

// In the order in which they are to be replayed. Every element of `lost` is the (old) name of exactly one kDelete or
// kRename event.
std::vector<replay::Event> plan_replay(const PlanInput& in);

// Names of which this mount's kernel has raised that event itself (by_kernel): older events of them that still wait for
// their replay are overtaken (replay/event.h).
struct ShownName {
  Ino parent = 0;
  std::string name;
};
std::vector<ShownName> raised_by_kernel(const PlanInput& in);

// The event that only takes a lost name out of the kernel's cache.
replay::Event plain_invalidation(const LostName& lost);

}  // namespace coord::fs
