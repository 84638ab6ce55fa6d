// Taking names away and moving them: unlink, rmdir, rename, link (filesystem.md sections 2 and 4).
#include <linux/fs.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "common/base/log.h"
#include "fusefs/kernel/write_side.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {

using Found = Mount::Found;

// --- unlink, rmdir ---

// True: the name was this host's only, and is gone. False: it exists for all by now.
bool Writes::unlink_deferred(const FilePtr& file) {
  {
    std::unique_lock lock(file->mutex);
    file->idle.wait(lock, [&] { return !file->in_flight; });
    if (file->phase != File::Phase::kDeferred) return file->phase == File::Phase::kGone;
    file->phase = File::Phase::kGone;
  }
  files_.leave_place(*file);
  return true;
}

void Writes::empty_dot_data(fuse_req_t req, NodeId node, Ino parent, const Credentials& who, Deadline deadline) {
  if (const FilePtr file = files_.find(node)) {
    const std::lock_guard lock(file->mutex);
    for (Handle* handle : file->handles) handle->edits.take();  // what was written to it goes with it
  }
  wire::SetNodeDataRequest request;
  request.header.who = who;
  request.node = node;
  request.data = std::string();
  std::int64_t seq = 0;
  NodeHooks hooks;
  hooks.submitted = [&](std::int64_t number) {
    seq = number;
    mount_.announcements().add(number, {wire::ChangeKind::kData, node, View::kData, {}});
  };
  hooks.answered = [this](const Answer<wire::NodeInfo>& answer) {
    if (answer.ok()) mount_.coherence().absorb(answer.value, false);
  };
  const auto answer = mount_.replica().set_data(std::move(request), left(deadline), std::move(hooks));
  if (!answer.ok()) {
    mount_.announcements().retract(seq);
    return refuse(req, write_errno(answer.err, answer.sent), "unlink", parent, kDataName, answer.err);
  }
  mount_.coherence().invalidate_attributes(node);
  fuse_reply_err(req, 0);
}

bool Writes::other_by_now(Err err, Ino parent, const char* name, const Found& found, Deadline deadline) {
  if (std::chrono::steady_clock::now() >= deadline) return false;
  if (err == Err::kStaleNode) return true;
  if (err != Err::kNoNode) return false;
  const SharedLock lock(mount_.lock());
  const Found now = mount_.find(parent, name);
  return now.kind != found.kind || now.ino != found.ino;
}

bool Writes::remove_node(fuse_req_t req, const char* call, Ino parent, const char* name, const Found& found,
                         wire::DeleteHalf half, const Credentials& who, Deadline deadline) {
  const NodeId node = node_of(found.ino);
  const View view = view_of(found.ino);
  const FilePtr file = view == View::kData ? files_.find(node) : nullptr;
  if (file != nullptr) {
    const std::lock_guard lock(file->mutex);
    file->unlinking = true;
  }
  wire::DeleteNodeRequest request;
  request.header.who = who;
  request.node = node;
  request.half = half;
  request.at = {found.parent_node, found.znode_name};
  std::int64_t seq = 0;
  Hooks<int> hooks;
  hooks.submitted = [&](std::int64_t number) {
    seq = number;
    mount_.announcements().add(number, {wire::ChangeKind::kDeleted, node, view, {}});
    // unlink of a node with children only makes its data null
    if (half == wire::DeleteHalf::kData) {
      mount_.announcements().add(number, {wire::ChangeKind::kData, node, view, {}});
    }
  };
  hooks.answered = [this, node](const Answer<int>& answer) {
    if ((answer.ok() && answer.value == 1) || answer.err == Err::kStaleNode) mount_.coherence().absorb_gone(node);
  };
  const Answer<int> answer = mount_.replica().remove(std::move(request), left(deadline), std::move(hooks));
  if (!answer.ok()) mount_.announcements().retract(seq);
  if (file != nullptr) {
    const std::lock_guard lock(file->mutex);
    file->unlinking = false;
    if (answer.ok()) {
      file->phase = File::Phase::kGone;
      file->drop_at_release = false;
    }
  }
  if (other_by_now(answer.err, parent, name, found, deadline)) return false;
  if (!answer.ok()) {
    refuse(req, write_errno(answer.err, answer.sent), call, parent, name, answer.err);
  } else {
    fuse_reply_err(req, 0);
  }
  return true;
}

void Writes::unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kUnlink, parent, name))) return;
  const Credentials who = mount_.caller(req);
  const Deadline deadline = within(kDirectoryDeadline);
  while (!unlink_once(req, parent, name, who, deadline)) {
  }
}

bool Writes::unlink_once(fuse_req_t req, Ino parent, const char* name, const Credentials& who, Deadline deadline) {
  const auto no = [&](int error, std::string_view why) {
    refuse(req, error, "unlink", parent, name, why);
    return true;
  };
  Found found;
  if (const int error = mount_.resolve(parent, name, who, deadline, found)) {
    return no(error, "the name could not be asked for");
  }
  if (found.kind != Found::Kind::kFound || view_of(found.ino) == View::kDir) {
    fuse_reply_err(req, found.kind != Found::Kind::kFound ? ENOENT : EISDIR);
    return true;
  }
  if (found.deferred && !found.dot_data) {
    const FilePtr file = files_.find(node_of(found.ino));
    const FilePtr local = files_.deferred(found.parent_node, found.znode_name);
    if (file != nullptr && file == local && unlink_deferred(file)) {
      fuse_reply_err(req, 0);
      return true;
    }
    if (mount_.resolve(parent, name, who, deadline, found) != 0 || found.kind != Found::Kind::kFound) {
      fuse_reply_err(req, ENOENT);
      return true;
    }
  }
  if (const int error = refuse_early(kDirectoryDeadline); error != 0 && error != ENOSPC) {
    return no(error, "the replica takes no writes now");
  }
  if (found.dot_data) {
    empty_dot_data(req, node_of(found.ino), parent, who, deadline);
    return true;
  }
  return remove_node(req, "unlink", parent, name, found, wire::DeleteHalf::kData, who, deadline);
}

void Writes::rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kRmdir, parent, name))) return;
  {
    const SharedLock lock(mount_.lock());
    mount_.children_dir_goes(parent, name);
  }
  const Credentials who = mount_.caller(req);
  const Deadline deadline = within(kDirectoryDeadline);
  while (!rmdir_once(req, parent, name, who, deadline)) {
  }
}

bool Writes::rmdir_once(fuse_req_t req, Ino parent, const char* name, const Credentials& who, Deadline deadline) {
  const auto no = [&](int error, std::string_view why) {
    refuse(req, error, "rmdir", parent, name, why);
    return true;
  };
  Found found;
  if (const int error = mount_.resolve(parent, name, who, deadline, found)) {
    return no(error, "the name could not be asked for");
  }
  const Parsed parsed = parse_name(name, parent == kRootIno);
  const bool children_half = parsed.kind == NameKind::kChildrenDir || parsed.kind == NameKind::kHashedChildrenDir;
  if (found.kind != Found::Kind::kFound && children_half) {
    // NAME@ of a file is there, only not listed, while it has no children: its removal is nothing to do.
    bool there = false;
    {
      const SharedLock lock(mount_.lock());
      const CachedNode* child = mount_.cache().child(found.parent_node, found.znode_name);
      there = child != nullptr && child->info.attributes.shape == Shape::kFile;
    }
    fuse_reply_err(req, there ? 0 : ENOENT);
    return true;
  }
  if (found.kind != Found::Kind::kFound || view_of(found.ino) != View::kDir) {
    fuse_reply_err(req, found.kind != Found::Kind::kFound ? ENOENT : ENOTDIR);
    return true;
  }
  if (!files_.deferred_in(node_of(found.ino)).empty()) return no(ENOTEMPTY, "a file in it is being written");
  if (const int error = refuse_early(kDirectoryDeadline); error != 0 && error != ENOSPC) {
    return no(error, "the replica takes no writes now");
  }
  const auto half = children_half ? wire::DeleteHalf::kChildren : wire::DeleteHalf::kWhole;
  return remove_node(req, "rmdir", parent, name, found, half, who, deadline);
}

// --- rename ---

// The znode name that a rename to `new_name` means. `main`: what moves is the half that NAME itself is.
int Writes::rename_target(Ino new_parent, const char* new_name, View view, bool main, std::string& out) const {
  const Parsed parsed = parse_name(new_name, new_parent == kRootIno);
  switch (parsed.kind) {
    case NameKind::kNode:
      out = parsed.znode_name;
      return main ? 0 : EXDEV;
    case NameKind::kChildrenDir:
      out = parsed.znode_name;
      return view == View::kDir && !main ? 0 : EXDEV;  // EXDEV: mv copies instead
    case NameKind::kDotData:
      return EXDEV;
    case NameKind::kInvalid:
      return parsed.error;
    case NameKind::kDotZnode:
    case NameKind::kDotCoord:
    case NameKind::kCreate:
    case NameKind::kHashed:
    case NameKind::kHashedChildrenDir:
      return EINVAL;
  }
  return EINVAL;
}

int Writes::settle_before_rename(NodeId node, pid_t tid) {
  const FilePtr file = files_.find(node);
  if (file == nullptr) return 0;
  const int error = commit_own(file, tid);
  return error != 0 ? error : create_now(file);
}

void Writes::rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
                    unsigned flags) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kRename, parent, name, new_parent, new_name))) return;
  const Credentials who = mount_.caller(req);
  const Deadline deadline = within(kDirectoryDeadline);
  while (!rename_once(req, parent, name, new_parent, new_name, flags, who, deadline)) {
  }
}

bool Writes::rename_once(fuse_req_t req, Ino parent, const char* name, Ino new_parent, const char* new_name,
                         unsigned flags, const Credentials& who, Deadline deadline) {
  const auto no = [&](int error, std::string_view why) {
    refuse(req, error, "rename", parent, name, why);
    return true;
  };
  if ((flags & ~static_cast<unsigned>(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return no(EINVAL, "unknown flags");
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  Found source;
  Found target;
  int error = mount_.resolve(parent, name, who, deadline, source);
  if (error == 0) error = mount_.resolve(new_parent, new_name, who, deadline, target);
  if (error != 0) return no(error, "the names could not be asked for");
  if (source.kind != Found::Kind::kFound) return no(ENOENT, "no such name");
  const bool replaces = target.kind == Found::Kind::kFound;
  if (replaces && (flags & RENAME_NOREPLACE) != 0) return no(EEXIST, "the new name is taken");
  if (exchange && !replaces) return no(ENOENT, "nothing to exchange with");
  if (source.dot_data || target.dot_data) return no(EXDEV, ".data belongs to its directory");
  if ((error = refuse_early(kDirectoryDeadline)) != 0) return no(error, "the replica takes no writes now");

  // What exists on this host only becomes real first; a target like that is simply replaced.
  if ((error = settle_before_rename(node_of(source.ino), fuse_req_ctx(req)->pid)) != 0)
    return no(error, "its data could not be committed");
  if (replaces && target.deferred) {
    const FilePtr file = files_.deferred(target.parent_node, target.znode_name);
    if (exchange && file != nullptr) {
      error = settle_before_rename(file->id, fuse_req_ctx(req)->pid);
    } else if (file != nullptr) {
      unlink_deferred(file);
    }
    if (error != 0) return no(error, "the new name could not be committed");
  }
  if ((error = mount_.resolve(parent, name, who, deadline, source)) != 0) return no(error, "the name has gone");
  if (source.kind != Found::Kind::kFound) return no(ENOENT, "the name has gone");

  wire::RenameRequest request;
  request.header.who = who;
  request.node = node_of(source.ino);
  request.new_parent = node_of(new_parent);
  request.flags = flags;
  request.at = {source.parent_node, source.znode_name};
  const View view = view_of(source.ino);
  bool main = true;
  bool whole = true;  // the node has no half under another name that would have to stay
  {
    const SharedLock lock(mount_.lock());
    const CachedNode* node = mount_.cache().current(request.node);
    if (node == nullptr) {
      fuse_reply_err(req, ESTALE);
      return true;
    }
    main = main_view(node->info.attributes.shape) == view;
    whole = main || !shows_data_name(node->info);
  }
  if (!whole) return no(EXDEV, "NAME@ is a half of NAME");
  if ((error = rename_target(new_parent, new_name, view, main, request.new_name)) != 0) {
    return no(error, "not a name that it can have");
  }
  const NodeId moved = request.node;
  const NodeId other = replaces ? node_of(target.ino) : NodeId{};
  const View other_view = replaces ? view_of(target.ino) : View::kData;
  std::int64_t seq = 0;
  NodeHooks hooks;
  hooks.submitted = [&](std::int64_t number) {
    seq = number;
    Announcements& said = mount_.announcements();
    // To a free name, or exchanged, or onto something of another kind, which goes: the node moves. Onto a file: the
    // source's node goes, the target's data changes; of that the kernel knows that the old name has gone, and it has
    // raised MOVED_TO, whichever node is the target.
    said.add(number, {wire::ChangeKind::kRenamed, moved, view, request.new_name});
    said.add(number, {wire::ChangeKind::kDeleted, moved, view, {}});
    if (exchange) {
      said.add(number, {wire::ChangeKind::kRenamed, other, other_view, source.znode_name});
    } else {
      said.add(number, {wire::ChangeKind::kRenamed, NodeId{}, view, request.new_name});
      if (replaces) said.add(number, {wire::ChangeKind::kDeleted, other, other_view, {}});
    }
  };
  hooks.answered = [&, this](const Answer<wire::NodeInfo>& answer) {
    if (!answer.ok()) return;
    mount_.coherence().absorb(answer.value, false);
    if (answer.value.id == moved) return;
    // The kernel puts the source's inode at the new name, where the target's is.
    mount_.coherence().absorb_gone(moved);
    mount_.coherence().lose_name(source.ino, new_parent, new_name);
  };
  const Moving moving(*this, moved);
  const auto answer = mount_.replica().rename(request, left(deadline), std::move(hooks));
  if (!answer.ok()) {
    mount_.announcements().retract(seq);
    if (other_by_now(answer.err, parent, name, source, deadline)) {
      // One of them has gone in between; the names may stand for others by now.
      for (const NodeId node : {moved, request.new_parent}) {
        static_cast<void>(mount_.coherence().fetch_node(node, who, deadline));  // the memory learns what it was
      }
      return false;
    }
    refuse(req, write_errno(answer.err, answer.sent), "rename", parent, name, answer.err);
    return true;
  }
  if (answer.value.id != moved) {
    // Who still writes to the source's inode writes to the file by its new name.
    if (const FilePtr file = files_.find(moved)) redirect(*file, answer.value.id);
  }
  fuse_reply_err(req, 0);
  return true;
}

void Writes::link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t, const char* new_name) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kOtherChange, ino))) return;
  refuse(req, EPERM, "link", ino, new_name, "a node has one name");
}

}  // namespace coord::fs
