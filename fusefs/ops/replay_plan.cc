#include "fusefs/ops/replay_plan.h"

#include <sys/stat.h>

#include "common/model/posix.h"
#include "fusefs/names/names.h"
#include "fusefs/ops/attr.h"

namespace coord::fs {
namespace {

using replay::Event;
using replay::EventKind;
using replay::NodeType;

NodeType node_type(Shape shape, View view) {
  const mode_t type = type_of(shape, view);
  return type == S_IFDIR ? NodeType::kDirectory : type == S_IFLNK ? NodeType::kSymlink : NodeType::kFile;
}

using Place = ShownName;

// Where that half is, if it is shown at all.
std::optional<Place> place(const wire::NodeInfo& info, View view) {
  if (info.id == mount_root() || !shows_name(info, view)) return std::nullopt;
  const bool dir_shaped = info.attributes.shape == Shape::kDir;
  if (view == View::kData && dir_shaped) return Place{ino_of(info.id, View::kDir), std::string(kDataName)};
  const bool plain = view == main_view(info.attributes.shape);
  return Place{ino_of(info.parent, View::kDir), plain ? shown_name(info.name) : children_dir_name(info.name)};
}

class Planner {
 public:
  explicit Planner(const PlanInput& in) : in_(in), event_(*in.event), info_(in.event->node) {}

  std::vector<Event> run() {
    switch (event_.kind) {
      case wire::ChangeKind::kCreated: created(); break;
      case wire::ChangeKind::kDeleted: deleted(); break;
      case wire::ChangeKind::kData:
      case wire::ChangeKind::kAttributes: changed(); break;
      case wire::ChangeKind::kRenamed: renamed(); break;
      case wire::ChangeKind::kDropAll: break;
    }
    return std::move(out_);
  }

 private:
  Event make(EventKind kind, View view, const Place& at) const {
    Event e;
    e.kind = kind;
    e.type = node_type(info_.attributes.shape, view);
    e.ino = ino_of(info_.id, view);
    e.parent = at.parent;
    e.name = at.name;
    e.executable = view == View::kData && (posix_view(info_.acl, info_.attributes, false).mode & 0111) != 0;
    e.seen = in_.knows(e.ino);
    return e;
  }

  const LostName* lost(View view) const {
    for (const LostName& l : *in_.lost) {
      if (l.ino == ino_of(info_.id, view)) return &l;
    }
    return nullptr;
  }

  void created() {
    children_directory_appears();
    const View view = main_view(info_.attributes.shape);
    for (const View v : kBothViews) {
      // A name that comes with a sibling half (a created .data) is nobody's to watch yet: its directory is new.
      if (v != view && info_.attributes.shape == Shape::kDir) continue;
      const auto at = place(info_, v);
      if (at && in_.knows(at->parent) && !in_.by_kernel(v)) out_.push_back(make(EventKind::kCreate, v, *at));
    }
  }

  // NAME@ of the parent is listed from its first child on.
  void children_directory_appears() {
    if (!in_.parent || in_.parent_children_before > 0 || in_.parent->stat.num_children == 0) return;
    const wire::NodeInfo& parent = *in_.parent;
    const Ino ino = ino_of(parent.id, View::kDir);
    if (parent.attributes.shape == Shape::kDir || in_.knows(ino)) return;
    const auto at = place(parent, View::kDir);
    if (!at || !in_.knows(at->parent)) return;
    Event e;
    e.kind = EventKind::kCreate;
    e.type = NodeType::kDirectory;
    e.ino = ino;
    e.parent = at->parent;
    e.name = at->name;
    e.seen = false;
    out_.push_back(std::move(e));
  }

  // A name goes, for good or because that half is not shown any more.
  bool name_goes(View view, bool raise) {
    const LostName* name = lost(view);
    if (name == nullptr) return false;
    const wire::NodeInfo& was = in_.before ? *in_.before : info_;
    Event e = make(EventKind::kDelete, view, Place{name->parent, name->name});
    e.type = node_type(was.attributes.shape, view);
    e.raise = raise;
    out_.push_back(std::move(e));
    return true;
  }

  void deleted() {
    const bool dir_shaped = info_.attributes.shape == Shape::kDir;
    for (const View v : kBothViews) {
      auto at = place(info_, v);
      // Without children NAME@ is not listed, but who has seen it is told that it has gone.
      if (!at && !dir_shaped && v == View::kDir && in_.children_dir_open) {
        at = Place{ino_of(info_.parent, View::kDir), children_dir_name(info_.name)};
      }
      const bool with_its_directory = dir_shaped && v == View::kData;  // .data: nobody can be told
      const bool raise = !with_its_directory && (at || v == main_view(info_.attributes.shape));
      if (name_goes(v, raise) || !raise || in_.by_kernel(v)) continue;
      if (at && in_.knows(at->parent)) out_.push_back(make(EventKind::kDelete, v, *at));
    }
  }

  void changed() {
    const bool reshaped = in_.before && in_.before->attributes.shape != info_.attributes.shape;
    for (const View v : kBothViews) name_goes(v, true);
    for (const View v : kBothViews) {
      const auto now = place(info_, v);
      if (!now || in_.by_kernel(v)) continue;
      const auto was = in_.before ? place(*in_.before, v) : now;
      const bool same = was && was->parent == now->parent && was->name == now->name;
      const bool known = in_.knows(ino_of(info_.id, v));
      if (!same) {
        const bool may_appear = v == View::kData || reshaped;
        if (may_appear && in_.knows(now->parent)) out_.push_back(make(EventKind::kCreate, v, *now));
      } else if (event_.kind == wire::ChangeKind::kData) {
        if (v == View::kData && (known || in_.knows(now->parent))) out_.push_back(make(EventKind::kData, v, *now));
      } else if (known || (v == main_view(info_.attributes.shape) && in_.knows(now->parent))) {
        out_.push_back(make(EventKind::kAttributes, v, *now));
      }
    }
  }

  void renamed() {
    wire::NodeInfo was = info_;
    was.parent = event_.old_parent;
    was.name = event_.old_name;
    for (const View v : kBothViews) {
      const LostName* name = lost(v);
      const auto now = place(info_, v);
      if (name != nullptr && !now) {
        name_goes(v, true);
        continue;
      }
      const auto old = name != nullptr ? std::optional(Place{name->parent, name->name}) : place(was, v);
      if (!old || !now || (old->parent == now->parent && old->name == now->name)) continue;
      const View view = main_view(info_.attributes.shape);
      const bool main = v == view || !place(info_, view);  // NAME@ may be all there is
      const bool watched = in_.knows(old->parent) || in_.knows(now->parent);
      if (name == nullptr && (!main || !watched || in_.by_kernel(v))) continue;
      Event e = make(EventKind::kRename, v, *old);
      e.new_parent = now->parent;
      e.new_name = now->name;
      out_.push_back(std::move(e));
    }
  }

  const PlanInput& in_;
  const wire::ChangeEvent& event_;
  const wire::NodeInfo& info_;
  std::vector<Event> out_;
};

}  // namespace

std::vector<replay::Event> plan_replay(const PlanInput& in) { return Planner(in).run(); }

std::vector<ShownName> raised_by_kernel(const PlanInput& in) {
  std::vector<ShownName> out;
  const wire::NodeInfo& info = in.event->node;
  wire::NodeInfo was = in.before ? *in.before : info;
  if (in.event->kind == wire::ChangeKind::kRenamed) {
    was = info;
    was.parent = in.event->old_parent;
    was.name = in.event->old_name;
  }
  for (const View view : kBothViews) {
    if (!in.by_kernel(view)) continue;
    const auto old = in.event->kind == wire::ChangeKind::kCreated ? std::nullopt : place(was, view);
    const auto now = in.event->kind == wire::ChangeKind::kDeleted ? std::nullopt : place(info, view);
    if (old && now && old->parent == now->parent && old->name == now->name) continue;
    if (old) out.push_back(*old);
    if (now) out.push_back(*now);
  }
  return out;
}

replay::Event plain_invalidation(const LostName& lost) {
  Event e;
  e.kind = EventKind::kDelete;
  e.type = view_of(lost.ino) == View::kDir ? NodeType::kDirectory : NodeType::kFile;
  e.ino = lost.ino;
  e.parent = lost.parent;
  e.name = lost.name;
  e.raise = false;
  return e;
}

}  // namespace coord::fs
