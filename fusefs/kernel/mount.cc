#include "fusefs/kernel/mount.h"

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <future>

#include "common/base/check.h"
#include "fusefs/kernel/caller.h"
#include "fusefs/names/names.h"
#include "fusefs/ops/attr.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

// An inode that is answered for under its new name while an old one is still in the kernel's cache: its attributes must
// expire by themselves, so that the old name is asked about again. Long enough for the call that asked.
constexpr double kLimboTimeout = 0.02;  // seconds

// Attributes of an inode that is nobody's: no request about it comes within a replay.
constexpr double kNobodyTimeout = 60;  // seconds

constexpr std::chrono::seconds kDiskWait{1};

int test_delay_ms(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::max(0, std::atoi(text));
}

void sleep_ms(int milliseconds) {
  if (milliseconds == 0) return;
  const timespec pause{milliseconds / 1000, (milliseconds % 1000) * 1'000'000L};
  nanosleep(&pause, nullptr);
}

}  // namespace

// --- announcements

void Announcements::add(std::int64_t seq, Item item) {
  const std::lock_guard guard(mutex_);
  auto [it, is_new] = items_.try_emplace(seq);
  it->second.push_back(std::move(item));
  if (!is_new) return;
  order_.push_back(seq);
  while (order_.size() > kMax) {
    items_.erase(order_.front());
    order_.pop_front();
  }
}

void Announcements::retract(std::int64_t seq) {
  const std::lock_guard guard(mutex_);
  items_.erase(seq);
}

bool Announcements::covers(std::int64_t seq, wire::ChangeKind kind, NodeId node, View view,
                           std::string_view name) const {
  const std::lock_guard guard(mutex_);
  const auto it = items_.find(seq);
  if (it == items_.end()) return false;
  for (const Item& item : it->second) {
    if (item.kind != kind || item.view != view) continue;
    if (item.node != NodeId{} && item.node != node) continue;
    const bool by_name = kind == wire::ChangeKind::kCreated || kind == wire::ChangeKind::kRenamed;
    if (!by_name || item.name == name) return true;
  }
  return false;
}

// --- mount

Mount::Mount()
    : delay_reply_ms_(test_delay_ms("COORDFS_TEST_DELAY_REPLY_MS")),
      delay_step_ms_(test_delay_ms("COORDFS_TEST_DELAY_STEP_MS")),
      delay_event_ms_(test_delay_ms("COORDFS_TEST_DELAY_EVENT_MS")) {}
Mount::~Mount() = default;

Credentials Mount::caller(fuse_req_t req) const {
  const fuse_ctx* ctx = fuse_req_ctx(req);
  return credentials_of(ctx->uid, ctx->gid, ctx->pid);
}

void Mount::pause_before_reply() const { sleep_ms(delay_reply_ms_); }
void Mount::pause_between_steps() const { sleep_ms(delay_step_ms_); }
void Mount::pause_before_event() const { sleep_ms(delay_event_ms_); }

Mount::Standing Mount::standing(Ino ino) const {
  const NodeId id = node_of(ino);
  const CachedNode* node = cache_.find(id);
  if (node != nullptr && node->current()) return node->in_limbo(view_of(ino)) ? Standing::kLimbo : Standing::kLive;
  if (writes_ != nullptr && writes_->deferred(id)) return Standing::kLive;
  if (node == nullptr || !node->gone()) return Standing::kUnknown;
  return node->in_limbo(view_of(ino)) ? Standing::kLimbo : Standing::kGone;
}

Mount::Shown Mount::show(Ino ino, Uncommitted edits) const {
  const NodeId id = node_of(ino);
  const View view = view_of(ino);
  const CachedNode* node = cache_.find(id);
  Shown out;
  std::optional<wire::NodeInfo> local;
  const wire::NodeInfo* info = nullptr;
  ShownAs as;
  if (node != nullptr && node->current()) {
    info = &node->info;
    if (node->in_limbo(view)) out.timeout = kLimboTimeout;
  } else {
    local = writes_->deferred(id);
    if (local) {
      info = &*local;
      as.gone = writes_->deferred_is_gone(id);
      out.timeout = 0;
    } else {
      COORD_CHECK(node != nullptr && node->info.id == id);
      info = &node->info;
      as.gone = node->gone();
      out.timeout = 0;
    }
  }
  if (view == View::kData) {
    if (const auto pending = writes_->pending(id)) {
      const bool with = edits == Uncommitted::kShown;
      as.size = with ? pending->size : pending->committed;
      if (with && pending->mtime_ns != 0) as.mtime_ns = pending->mtime_ns;
      out.timeout = 0;
    }
  }
  out.attr = stat_of(*info, view, as);
  out.attr.st_ino = ino;
  return out;
}

// --- replies

void Mount::count_lookup(Ino ino) const {
  cache_.add_lookup(ino);
  if (view_of(ino) == View::kDir) cache_.find(node_of(ino))->children_dir_open = true;
}

void Mount::children_dir_goes(Ino parent, std::string_view shown) const {
  const Found found = find(parent, shown);
  if (found.kind != Found::Kind::kFound || view_of(found.ino) != View::kDir) return;
  const CachedNode* node = cache_.find(node_of(found.ino));
  if (node != nullptr) node->children_dir_open = false;
}

namespace {

fuse_entry_param entry_of(Ino ino, const Mount::Shown& shown, bool keep) {
  fuse_entry_param entry = {};
  entry.ino = ino;
  entry.generation = kGeneration;
  entry.attr = shown.attr;
  entry.attr_timeout = shown.timeout;
  entry.entry_timeout = keep ? kLongTimeout : 0;
  return entry;
}

}  // namespace

int Mount::reply_entry(fuse_req_t req, Ino ino, bool keep) {
  const fuse_entry_param entry = entry_of(ino, show(ino), keep);
  count_lookup(ino);  // before the reply: a FORGET may follow at once
  pause_before_reply();
  const int unwanted = fuse_reply_entry(req, &entry);
  if (unwanted != 0 && cache_.forget(ino, 1)) coherence_.candidate(node_of(ino));
  return unwanted;
}

int Mount::reply_create(fuse_req_t req, Ino ino, bool keep, const fuse_file_info& fi) {
  const fuse_entry_param entry = entry_of(ino, show(ino), keep);
  cache_.add_lookup(ino);
  pause_before_reply();
  const int unwanted = fuse_reply_create(req, &entry, &fi);
  if (unwanted != 0 && cache_.forget(ino, 1)) coherence_.candidate(node_of(ino));
  return unwanted;
}

void Mount::reply_attributes(fuse_req_t req, Ino ino) {
  const Shown shown = show(ino);
  pause_before_reply();
  fuse_reply_attr(req, &shown.attr, shown.timeout);
}

void Mount::reply_committed_attributes(fuse_req_t req, Ino ino) {
  const Shown shown = show(ino, Uncommitted::kHidden);
  pause_before_reply();
  // The kernel does not keep an answer to what it has asked before an invalidation.
  if (shown.timeout == 0) coherence_.invalidate_attributes(node_of(ino));
  fuse_reply_attr(req, &shown.attr, shown.timeout);
}

void Mount::reply_replay_entry(fuse_req_t req, Ino ino) {
  if (ino == replay::kNobodysFile || ino == replay::kNobodysDirectory) {
    const bool directory = ino == replay::kNobodysDirectory;
    Shown nobody;
    nobody.attr.st_ino = ino;
    nobody.attr.st_mode = directory ? S_IFDIR | 0700 : S_IFREG | 0600;
    nobody.attr.st_nlink = directory ? 2 : 1;
    nobody.attr.st_uid = fuse_req_ctx(req)->uid;  // the helper may remove it from a sticky directory
    nobody.attr.st_gid = fuse_req_ctx(req)->gid;
    nobody.timeout = kNobodyTimeout;
    const fuse_entry_param entry = entry_of(ino, nobody, false);
    fuse_reply_entry(req, &entry);
    return;
  }
  const Deadline deadline = within(kDirectoryDeadline);
  const Credentials who = caller(req);
  for (;;) {
    {
      SharedLock guard(lock());
      const CachedNode* node = cache_.find(node_of(ino));
      if (node != nullptr && node->info.id != NodeId{} && (node->gone() || (node->current() && node->held))) {
        reply_entry(req, ino, false);
        return;
      }
    }
    const Err err = coherence_.fetch_node(node_of(ino), who, deadline);
    if (err != Err::kOk) {
      fuse_reply_err(req, err == Err::kStaleNode ? EAGAIN : read_errno(err));
      return;
    }
  }
}

wire::CapabilitiesReply Mount::disk() {
  // Shared with the completion, which may come after this has given up waiting.
  const auto answer = std::make_shared<std::promise<wire::CapabilitiesReply>>();
  std::future<wire::CapabilitiesReply> future = answer->get_future();
  if (client_connected()) {
    link_.capabilities_async({}, false, [this, answer](const Answer<wire::CapabilitiesReply>& a) {
      const std::lock_guard guard(disk_mutex_);
      if (a.ok()) disk_ = a.value;
      answer->set_value(disk_);
    });
    if (future.wait_for(kDiskWait) == std::future_status::ready) return future.get();
  }
  const std::lock_guard guard(disk_mutex_);
  return disk_;
}

bool Mount::client_connected() const { return link_.client().connected(); }

// --- names

Mount::Found Mount::find(Ino parent, std::string_view shown) const {
  Found out;
  const Parsed parsed = parse_name(shown, parent == kRootIno);
  const NodeId directory = node_of(parent);
  const CachedNode* dir = cache_.find(directory);
  out.parent_node = directory;
  switch (parsed.kind) {
    case NameKind::kDotZnode:
    case NameKind::kDotCoord:
    case NameKind::kCreate:
    case NameKind::kInvalid:
      return out;
    case NameKind::kDotData:
      out.dot_data = true;
      if (dir == nullptr || !dir->current()) {
        out.kind = Found::Kind::kAsk;
      } else if (dir->info.attributes.shape == Shape::kDir &&
                 (shows_dot_data(dir->info) || writes_->pending(directory))) {
        out.kind = Found::Kind::kFound;
        out.ino = ino_of(directory, View::kData);
        out.deferred = !shows_dot_data(dir->info);
      }
      return out;
    case NameKind::kNode:
    case NameKind::kChildrenDir:
      out.znode_name = parsed.znode_name;
      break;
    case NameKind::kHashed:
    case NameKind::kHashedChildrenDir: {
      if (dir == nullptr || !dir->complete) {
        out.kind = Found::Kind::kAsk;
        out.whole_directory = true;
        return out;
      }
      for (const auto& [name, id] : dir->children) {
        if (resolves(parsed, name)) out.znode_name = name;
      }
      if (out.znode_name.empty()) return out;
      break;
    }
  }
  const bool children_dir = parsed.kind == NameKind::kChildrenDir || parsed.kind == NameKind::kHashedChildrenDir;
  const CachedNode* child = cache_.child(directory, out.znode_name);
  if (child == nullptr) {
    if (!children_dir) {
      if (const auto local = writes_->deferred(directory, out.znode_name)) {
        out.kind = Found::Kind::kFound;
        out.deferred = true;
        out.ino = ino_of(local->id, main_view(local->attributes.shape));
        return out;
      }
    }
    if (dir == nullptr || !dir->complete) out.kind = Found::Kind::kAsk;
    return out;
  }
  if (!child->held) {  // known only through its directory: the kernel gets nodes that are held by themselves
    out.kind = Found::Kind::kAsk;
    return out;
  }
  const wire::NodeInfo& info = child->info;
  const bool dir_shaped = info.attributes.shape == Shape::kDir;
  if (children_dir) {
    const bool open = child->children_dir_open && child->lookups_of(View::kDir) != 0;
    if (dir_shaped || (!shows_children_name(info) && !open)) return out;
    out.kind = Found::Kind::kFound;
    out.ino = ino_of(info.id, View::kDir);
    return out;
  }
  const View view = main_view(info.attributes.shape);
  const bool committed = shows_name(info, view);
  if (!committed && !(view == View::kData && writes_->pending(info.id))) return out;
  out.kind = Found::Kind::kFound;
  out.ino = ino_of(info.id, view);
  out.deferred = !committed;
  return out;
}

int Mount::resolve(Ino parent, std::string_view shown, const Credentials& who, Deadline deadline, Found& found) {
  for (;;) {
    {
      SharedLock guard(lock());
      const Standing at = standing(parent);
      if (at == Standing::kLimbo) return ESTALE;
      if (at == Standing::kGone) return ENOENT;
      found = find(parent, shown);
      if (found.kind != Found::Kind::kAsk) return 0;
    }
    const int err = ask(found, who, deadline);
    if (err == ENOENT) {
      found.kind = Found::Kind::kAbsent;
      return 0;
    }
    if (err != 0) return err;
  }
}

int Mount::ask(const Found& found, const Credentials& who, Deadline deadline) {
  Err err = Err::kOk;
  if (found.whole_directory) {
    err = coherence_.fetch_directory(found.parent_node, who, deadline);
  } else if (found.dot_data) {
    err = coherence_.fetch_node(found.parent_node, who, deadline);
  } else {
    err = coherence_.fetch_child(found.parent_node, found.znode_name, who, deadline);
  }
  return read_errno(err);
}

// --- busy directories

void Mount::directory_enter(Ino directory) {
  const std::lock_guard guard(busy_mutex_);
  ++busy_[directory];
}

void Mount::directory_leave(Ino directory) {
  const std::lock_guard guard(busy_mutex_);
  const auto it = busy_.find(directory);
  if (it != busy_.end() && --it->second == 0) busy_.erase(it);
}

bool Mount::directory_busy(Ino directory) const {
  const std::lock_guard guard(busy_mutex_);
  return busy_.contains(directory);
}

}  // namespace coord::fs
