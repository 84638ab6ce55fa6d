// opendir, readdir, readdirplus, releasedir (read_ops.h).
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "fusefs/kernel/read_ops.h"
#include "fusefs/names/names.h"
#include "fusefs/ops/attr.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

using Standing = Mount::Standing;

struct Item {
  std::string name;
  Ino ino = 0;
  mode_t type = 0;
};

struct DirectoryHandle {
  std::mutex mutex;
  std::vector<Item> items;  // "." and ".." first
  bool begun = false;       // something has been read
};

void add_node(const wire::NodeInfo& info, std::vector<Item>& items) {
  const Shape shape = info.attributes.shape;
  const View view = main_view(shape);
  if (shows_name(info, view)) items.push_back(Item{shown_name(info.name), ino_of(info.id, view), type_of(shape, view)});
  if (shape != Shape::kDir && shows_children_name(info)) {
    items.push_back(Item{children_dir_name(info.name), ino_of(info.id, View::kDir), S_IFDIR});
  }
}

// The listing from the memory, under the shared lock. False: not there.
bool list(Mount& mount, Ino ino, std::vector<Item>& items) {
  const NodeId id = node_of(ino);
  const CachedNode* node = mount.cache().current(id);
  const bool local = node == nullptr && mount.writes().deferred(id).has_value();
  if (!local && (node == nullptr || !node->complete)) return false;
  items.clear();
  items.push_back(Item{".", ino, S_IFDIR});
  items.push_back(Item{"..", local ? kRootIno : ino_of(node->info.parent, View::kDir), S_IFDIR});
  if (local) return true;
  if (node->info.attributes.shape == Shape::kDir && (shows_dot_data(node->info) || mount.writes().pending(id))) {
    items.push_back(Item{std::string(kDataName), ino_of(id, View::kData), S_IFREG});
  }
  for (const auto& [name, child_id] : node->children) {
    const CachedNode* child = mount.cache().current(child_id);
    if (child != nullptr) add_node(child->info, items);
  }
  for (const wire::NodeInfo& info : mount.writes().deferred_in(id)) {
    if (!node->children.contains(info.name)) add_node(info, items);
  }
  return true;
}

// With fetches. 0 or an errno.
int snapshot(Mount& mount, fuse_req_t req, Ino ino, std::vector<Item>& items) {
  if (!mount.reads_allowed()) return ETIMEDOUT;
  const Deadline deadline = within(kCallDeadline);
  for (;;) {
    {
      SharedLock lock(mount.lock());
      const Standing at = mount.standing(ino);
      if (at == Standing::kLimbo) return ESTALE;
      if (at == Standing::kGone) {
        items = {Item{".", ino, S_IFDIR}, Item{"..", kRootIno, S_IFDIR}};
        return 0;
      }
      if (list(mount, ino, items)) return 0;
    }
    const Err err = mount.coherence().fetch_directory(node_of(ino), mount.caller(req), deadline);
    if (err == Err::kStaleNode) {
      SharedLock lock(mount.lock());
      if (mount.standing(ino) == Standing::kUnknown) return ESTALE;
    } else if (err != Err::kOk) {
      return read_errno(err);
    }
  }
}

// fi->fh points to a shared pointer: as soon as a READDIR is answered, RELEASEDIR may come on another thread, while
// this one still has to unlock the handle.
using HandlePtr = std::shared_ptr<DirectoryHandle>;
HandlePtr* shared_handle_of(const fuse_file_info* fi) { return reinterpret_cast<HandlePtr*>(fi->fh); }

// What readdirplus gives the kernel for one name: the node as it is now, if the name still stands for it and the node
// is held; else the name and type only (nodeid 0), so that the kernel asks.
bool entry_now(Mount& mount, Ino directory, const Item& item, fuse_entry_param& entry) {
  const CachedNode* node = mount.cache().current(node_of(item.ino));
  Ino parent = 0;
  std::string name;
  if (node == nullptr || !node->held || node->in_limbo(view_of(item.ino)) ||
      !mount.cache().place_of(item.ino, parent, name) || parent != directory || name != item.name) {
    return false;
  }
  const Mount::Shown shown = mount.show(item.ino);
  entry.ino = item.ino;
  entry.generation = kGeneration;
  entry.attr = shown.attr;
  entry.attr_timeout = shown.timeout;
  entry.entry_timeout = mount.coherence().name_in_replay(directory, item.name) ? 0 : kLongTimeout;
  return true;
}

}  // namespace

void read_opendir(Mount& mount, fuse_req_t req, Ino ino, fuse_file_info* fi) {
  auto handle = std::make_unique<HandlePtr>(std::make_shared<DirectoryHandle>());
  const int err = snapshot(mount, req, ino, (*handle)->items);
  if (err != 0) {
    fuse_reply_err(req, err);
    return;
  }
  fi->fh = reinterpret_cast<std::uint64_t>(handle.get());
  HandlePtr* const given = handle.release();            // before the reply: RELEASEDIR may follow at once
  if (fuse_reply_open(req, fi) != 0) delete given;      // the kernel does not want it any more: no RELEASEDIR
}

void read_readdir(Mount& mount, fuse_req_t req, Ino ino, std::size_t size, off_t off, fuse_file_info* fi, bool plus) {
  const HandlePtr keep = *shared_handle_of(fi);
  DirectoryHandle& handle = *keep;
  const std::lock_guard guard(handle.mutex);
  if (off == 0 && handle.begun) {
    const int err = snapshot(mount, req, ino, handle.items);
    if (err != 0) {
      fuse_reply_err(req, err);
      return;
    }
  }
  handle.begun = true;
  std::vector<char> buffer(size);
  std::size_t used = 0;
  std::vector<Ino> given;
  SharedLock lock(mount.lock());
  for (std::size_t at = off < 0 ? handle.items.size() : static_cast<std::size_t>(off); at < handle.items.size(); ++at) {
    const Item& item = handle.items[at];
    fuse_entry_param entry = {};
    const bool counted = plus && at >= 2 && entry_now(mount, ino, item, entry);
    if (!counted) {
      entry = {};
      entry.attr.st_ino = item.ino;
      entry.attr.st_mode = item.type;
    }
    const off_t next = static_cast<off_t>(at + 1);
    const std::size_t room = size - used;
    const std::size_t need =
        plus ? fuse_add_direntry_plus(req, buffer.data() + used, room, item.name.c_str(), &entry, next)
             : fuse_add_direntry(req, buffer.data() + used, room, item.name.c_str(), &entry.attr, next);
    if (need > room) break;
    used += need;
    if (counted) {
      mount.count_lookup(item.ino);
      given.push_back(item.ino);
    }
  }
  mount.pause_before_reply();
  if (fuse_reply_buf(req, buffer.data(), used) == 0) return;
  lock.unlock();
  for (const Ino lost : given) mount.coherence().forget(lost, 1);
}

void read_releasedir(Mount&, fuse_req_t req, Ino, fuse_file_info* fi) {
  delete shared_handle_of(fi);
  fuse_reply_err(req, 0);
}

}  // namespace coord::fs
