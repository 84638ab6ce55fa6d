// What this mount knows of the tree: the nodes it holds on the replica, kept current by change events, and what the
// kernel has been told about them. Pure: no threads, no clock, no kernel; changes say in `Effects` what the kernel has
// to be told, and the shell (kernel/coherence) tells it.
//
// Locking is the caller's (kernel/coherence.h): const functions and those marked [shared] under the shared lock, all
// others under the exclusive one. Pointers and references are good until that lock is released.
//
// A node's record is *current* when it is held, or is a child of a held directory whose listing is complete: the
// replica sends the changes of both. Of a child that is not held by itself it tells only whether there are children,
// not how many (its Stat is older then): good for a listing, not for attributes (see Mount::find). Only current records
// may be shown.
//
// A record lives while the kernel has lookups on one of its inodes, while it is pinned (open handles), while a name of
// it is in limbo, or while its parent's listing needs it.
//
// Limbo (filesystem.md section 3): an inode whose name was taken away by somebody else, until the kernel has been
// told to forget that name. It answers ESTALE to path-like requests, so that the kernel asks again and callers see the
// truth. After that: `gone` = its last attributes with nlink 0, else the live node.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/wire/extension.h"
#include "fusefs/ops/inode.h"

namespace coord::fs {

inline constexpr std::size_t kCachedDataMax = 64 * 1024;            // data of one node; longer ones are not kept
inline constexpr std::size_t kCachedDataTotalMax = 64 * 1024 * 1024;  // above it all cached data is dropped

// A name that an inode has lost. `name` is the spelling in the mount.
struct LostName {
  Ino ino = 0;
  Ino parent = 0;
  std::string name;
};

// What a change means for the kernel. `attributes`: inodes whose cached attributes are out of date and that the kernel
// knows. `lost`: names to be invalidated; their inodes are in limbo now, once for each element.
struct Effects {
  std::vector<Ino> attributes;
  std::vector<LostName> lost;
};

// Does what happened to (view of the node's) name come from this mount's kernel itself? Then the kernel has already
// changed its cache and there is no limbo. See kernel/mount.h, Announcements.
using ByKernel = std::function<bool(View)>;

struct CachedNode {
  enum class State : std::uint8_t {
    kUnknown,  // not current: `info` is empty or old; ask the replica
    kCurrent,
    kGone,     // deleted; `info` is its last one
  };
  wire::NodeInfo info;  // never with data; that is in `data`
  State state = State::kUnknown;
  bool held = false;    // the replica sends its changes to us, by its own right
  bool complete = false;  // `children` is the whole directory, and held
  std::map<std::string, NodeId, std::less<>> children;  // by znode name; those that are known
  // The data at info.stat.version, or nullptr. Before showing it check that the caller may read it (the kernel has
  // checked the mode bits; uid 0 passes those, but is not above foreign ACL schemes: unix_allows()).
  std::shared_ptr<const std::string> data;
  std::int64_t absorbed = 0;  // the cache's serial number of the last answer that held it
  mutable std::atomic<std::uint64_t> lookups[kViews] = {0, 0};  // the kernel's lookup counts
  mutable std::atomic<std::int32_t> pins{0};
  // NAME@ of a file-shaped node has been shown to the kernel, and nobody on this host has removed it since: it can be
  // looked up, for as long as the kernel knows it, also while it has no children (between mkdir NAME@ and its first
  // child).
  mutable std::atomic<bool> children_dir_open{false};
  std::uint32_t limbo[kViews] = {0, 0};  // names of that inode which are being invalidated

  bool current() const { return state == State::kCurrent; }
  bool gone() const { return state == State::kGone; }
  bool in_limbo(View v) const { return limbo[static_cast<int>(v)] != 0; }
  std::uint64_t lookups_of(View v) const { return lookups[static_cast<int>(v)].load(std::memory_order_relaxed); }
  bool kernel_knows() const { return lookups_of(View::kData) != 0 || lookups_of(View::kDir) != 0; }
  bool in_use() const {
    return kernel_knows() || pins.load(std::memory_order_relaxed) != 0 || limbo[0] != 0 || limbo[1] != 0;
  }
};

// Which names of a node exist, by what it is (filesystem.md section 2). A node is always visible under some name: a
// file-shaped one with null data and no children shows as NAME@ (an ephemeral one, which can have no children, as
// NAME).
bool shows_data_name(const wire::NodeInfo& info);      // NAME is the data half
bool shows_children_name(const wire::NodeInfo& info);  // NAME@
bool shows_dot_data(const wire::NodeInfo& info);       // DIR/.data
bool shows_name(const wire::NodeInfo& info, View view);  // whatever name that half has

class NodeCache {
 public:
  // --- reading [shared]
  const CachedNode* find(NodeId id) const;                                      // any state
  const CachedNode* current(NodeId id) const;                                   // nullptr unless current
  const CachedNode* child(NodeId parent, std::string_view znode_name) const;  // nullptr: not known here
  // The place of that half in the mount, from what is known: its directory's inode and its spelling there. False if the
  // node has no such name or is not current. (The root's parent is itself, its name "".)
  bool place_of(Ino ino, Ino& parent, std::string& name) const;
  // Spellings from the root, "" for it, without a slash at the ends; nullopt if some part is not known.
  std::optional<std::string> path_of(Ino directory) const;
  // Path of the znode ("/", "/a/b"), likewise.
  std::optional<std::string> znode_path(NodeId node) const;

  // Path of the znode at the mount's root: "" for the tree's root. Before the first request.
  void set_root_path(std::string path) { root_path_ = std::move(path); }

  // --- the kernel's references [shared]. The record must exist.
  void add_lookup(Ino ino) const;
  // True if the node is not in use any more: then reap() has something to do.
  bool forget(Ino ino, std::uint64_t count) const;
  void pin(NodeId node) const;
  bool unpin(NodeId node) const;  // as forget()

  // --- changing [exclusive]
  // The record for `id`, made if it is not there (state kUnknown). For nodes that exist on this host only for now.
  CachedNode& ensure(NodeId id);
  // An answer of the replica: the node as it is now. `held`: the answer holds it. info.data, if there, is cached.
  void absorb(wire::NodeInfo info, bool held, Effects& effects);
  // An answer of ReadDir with hold.
  void absorb_directory(wire::ReadDirReply reply, Effects& effects);
  // The directory's listing may have changed unseen: it is not complete any more.
  void listing_unknown(NodeId id, Effects& effects);
  // An answer said that the node does not exist (any more).
  void absorb_gone(NodeId id, Effects& effects);
  // A change event, in stream order.
  void apply(const wire::ChangeEvent& event, const ByKernel& by_kernel, Effects& effects);
  // The inode has lost that name although no event said so (a local rename onto a file leaves the source's inode at the
  // target's name): limbo, and an element in `effects.lost`.
  void lose_name(Ino ino, Ino parent, std::string name, Effects& effects);
  // A replay will show this name of the node once more, although the kernel did not know the inode (so lose_name() does
  // nothing): the record is made if need be, and kept until name_invalidated(). `gone`: the node has been deleted.
  void keep_for_replay(Ino ino, const wire::NodeInfo& info, bool gone);
  // The kernel has been told about one element of Effects::lost, or the replay of keep_for_replay() has ended.
  void name_invalidated(Ino ino);
  // Nothing is held any more (connection lost for good, kDropAll): no record is current; gone ones stay gone.
  void drop_all(Effects& effects);
  // The connection broke: records stay readable, but what comes back must be compared. Ids to ask for in Resume.
  std::vector<NodeId> held() const;
  // The answer of Forget for `ids` that was submitted when serial() was `since`: those that were held again in between
  // are not current any more, because the replica may have forgotten them after the answer that held them.
  void forgotten(const std::vector<NodeId>& ids, std::int64_t since, Effects& effects);
  // Drops the records in `candidates` that are not in use (the root never); the held ones among them are returned, to
  // be sent in a Forget.
  std::vector<NodeId> reap(const std::vector<NodeId>& candidates);

  std::int64_t serial() const { return serial_; }
  std::size_t size() const { return nodes_.size(); }
  std::size_t data_bytes() const { return data_bytes_; }
  // Every record [shared].
  void for_each(const std::function<void(NodeId, const CachedNode&)>& visit) const;

 private:
  using Map = std::unordered_map<NodeId, std::unique_ptr<CachedNode>>;
  CachedNode* get(NodeId id);
  void touch(NodeId id, const CachedNode& node, Effects& effects) const;
  void touch_directory(NodeId parent, Effects& effects) const;
  void update_parent_stat(NodeId parent, const Stat& stat, Effects& effects);
  void link(NodeId id, const wire::NodeInfo& info);
  void unlink(NodeId id, const wire::NodeInfo& info);
  void replace(CachedNode& node, wire::NodeInfo info, const ByKernel& by_kernel, Effects& effects);
  void mark_gone(NodeId id, CachedNode& node, const ByKernel& by_kernel, Effects& effects);
  void set_data(CachedNode& node, std::shared_ptr<const std::string> data);
  void incomplete(NodeId id, CachedNode& node);
  void drop_if_unused(NodeId id);
  bool needed_by_parent(const CachedNode& node) const;
  bool place_of_info(const wire::NodeInfo& info, View view, Ino& parent, std::string& name) const;
  void lose_if_known(const CachedNode& node, const wire::NodeInfo& was, View view, Effects& effects);

  Map nodes_;
  std::string root_path_;
  std::int64_t serial_ = 0;
  std::size_t data_bytes_ = 0;
};

}  // namespace coord::fs
