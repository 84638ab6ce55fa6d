// Making nodes: create, mknod, mkdir, symlink (filesystem.md sections 2 and 4).
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "common/base/log.h"
#include "common/model/posix.h"
#include "fusefs/kernel/write_side.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

wire::CreateMode mode_of(CreateSuffix suffix) {
  static_assert(static_cast<int>(CreateSuffix::kTtl) == static_cast<int>(wire::CreateMode::kTtl));
  return static_cast<wire::CreateMode>(suffix);
}

bool is_ephemeral(CreateSuffix suffix) {
  return suffix == CreateSuffix::kEphemeral || suffix == CreateSuffix::kEphemeralSequential;
}

}  // namespace

// --- the transaction ---

Answer<wire::NodeInfo> Writes::make_node(Making making, Deadline deadline) {
  ReplicaLink& link = mount_.replica();
  Answer<wire::NodeInfo> answer;
  if (!link.writable()) {
    answer.err = Err::kOperationTimeout;
    answer.sent = false;
    return answer;
  }
  bool again = false;
  for (;;) {
    const wire::CreateNodeRequest& request = making.request;
    std::int64_t seq = 0;
    NodeHooks hooks;
    hooks.submitted = [&](std::int64_t number) {
      seq = number;
      if (making.announce) {
        mount_.announcements().add(number, {wire::ChangeKind::kCreated, request.id, making.view, request.name});
      }
    };
    hooks.answered = [this, &request](const Answer<wire::NodeInfo>& got) {
      if (!got.ok()) return;
      wire::NodeInfo info = got.value;
      if (request.data && request.data->size() <= kCachedDataMax) info.data = request.data;
      mount_.coherence().absorb(info, request.hold);
    };
    answer = making.settle ? link.create_to_settle(request, left(deadline), std::move(hooks))
                           : link.create(request, left(deadline), std::move(hooks));
    if (answer.ok()) return answer;
    if (making.announce) mount_.announcements().retract(seq);
    if (making.settle && answer.unknown()) {
      link.settle_create(request, answer.seq, [this](const Answer<wire::NodeInfo>& late) {
        if (late.ok()) end_ephemeral(late.value.id, 0);  // nobody holds it
      });
      return answer;
    }
    // The session ended over it: whether it came to pass is told by the node id, which nobody else can have used.
    if (answer.err == Err::kNodeExists && again && request.id.value != 0) {
      wire::LookupRequest look;
      look.who = request.header.who;
      look.parent = request.parent;
      look.name = request.name;
      look.hold = true;
      Answer<wire::NodeInfo> seen = link.lookup(std::move(look), left(deadline), {nullptr, [this](const auto& got) {
                                                  if (got.ok()) mount_.coherence().absorb(got.value, true);
                                                }});
      if (seen.ok() && seen.value.id == request.id) return seen;
      return answer;
    }
    if (answer.err != Err::kSessionExpired || again || std::chrono::steady_clock::now() >= deadline) return answer;
    again = true;
  }
}

int Writes::prepare_making(Ino parent, const char* name, const Credentials& who, Shape shape, mode_t mode, Making& out,
                           Parsed& parsed) const {
  parsed = parse_name(name, parent == kRootIno);
  wire::CreateNodeRequest& request = out.request;
  request.header.who = who;
  request.parent = node_of(parent);
  request.name = parsed.znode_name;
  request.attributes.shape = shape;
  request.attributes.exec = static_cast<std::uint16_t>(mode & 01111);
  request.acl = acl_for_new(who.uid, who.gid, mode & 01777);
  request.hold = true;
  out.view = main_view(shape);
  if (shape == Shape::kFile) request.data = std::string();
  switch (parsed.kind) {
    case NameKind::kNode:
      request.fill_null = shape == Shape::kFile;
      return 0;
    case NameKind::kCreate:
      if (shape == Shape::kSymlink || (shape == Shape::kDir && is_ephemeral(parsed.mode))) return EINVAL;
      request.mode = mode_of(parsed.mode);
      request.ttl_ms = parsed.ttl_ms;
      out.announce = false;  // the kernel's CREATE bears the suffix, not the true name
      out.settle = is_ephemeral(parsed.mode);
      return 0;
    case NameKind::kChildrenDir:
      if (shape != Shape::kDir) return EINVAL;
      request.attributes.shape = Shape::kFile;  // with null data: only NAME@ is there
      return 0;
    case NameKind::kDotData:
    case NameKind::kHashed:
    case NameKind::kHashedChildrenDir:
      return shape == Shape::kFile ? 0 : EINVAL;
    case NameKind::kDotZnode:
    case NameKind::kDotCoord:
      return EEXIST;
    case NameKind::kInvalid:
      return parsed.error;
  }
  return EINVAL;
}

int Writes::check_parent(Ino parent, const Credentials& who, Deadline deadline) {
  if (view_of(parent) != View::kDir) return ENOTDIR;
  for (;;) {
    {
      const SharedLock lock(mount_.lock());
      const Mount::Standing standing = mount_.standing(parent);
      if (standing == Mount::Standing::kLimbo) return ESTALE;
      if (standing == Mount::Standing::kGone) return ENOENT;
      if (standing == Mount::Standing::kLive) {
        const CachedNode* node = mount_.cache().current(node_of(parent));
        if (node == nullptr) return ESTALE;
        if (node->info.stat.ephemeral_owner != 0 && node->info.attributes.shape == Shape::kFile) return EPERM;
        const bool allowed = unix_allows(node->info.acl, who, perm::kCreate) &&
                             unix_may_search(node->info.acl, node->info.attributes, who);
        return allowed ? 0 : EACCES;
      }
    }
    if (const Err err = mount_.coherence().fetch_node(node_of(parent), who, deadline); err != Err::kOk) {
      return err == Err::kStaleNode ? ENOENT : read_errno(err);
    }
  }
}

// --- mkdir, mknod, symlink ---

void Writes::answer_made(fuse_req_t req, const char* call, Ino parent, const char* name, Making making,
                         Deadline deadline, bool keep) {
  const View view = making.view;
  const Answer<wire::NodeInfo> answer = make_node(std::move(making), deadline);
  if (!answer.ok()) {
    const int error = answer.err == Err::kStaleNode ? ENOENT : write_errno(answer.err, answer.sent);
    return refuse(req, error, call, parent, name, answer.err);
  }
  const NodeId id = answer.value.id;
  pin_record(answer.value);
  {
    const SharedLock lock(mount_.lock());
    mount_.reply_entry(req, ino_of(id, view), keep);
  }
  mount_.coherence().unpin(id);
}

void Writes::mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kMkdir, parent, name))) return;
  const Credentials who = mount_.caller(req);
  const Deadline deadline = within(kDirectoryDeadline);
  Making making;
  Parsed parsed;
  if (const int error = prepare_making(parent, name, who, Shape::kDir, mode, making, parsed)) {
    return refuse(req, error, "mkdir", parent, name, "not a name for a directory");
  }
  if (const int error = refuse_early(kDirectoryDeadline)) {
    return refuse(req, error, "mkdir", parent, name, "the replica takes no writes now");
  }
  if (parsed.kind == NameKind::kChildrenDir) {
    // NAME may be there already: then its directory is there too, only not listed while it is empty.
    Mount::Found found;
    const int error = mount_.resolve(parent, shown_name(parsed.znode_name), who, deadline, found);
    if (error != 0) return refuse(req, error, "mkdir", parent, name, "the directory could not be asked");
    if (found.kind == Mount::Found::Kind::kFound) {
      if (view_of(found.ino) == View::kDir)
        return refuse(req, EEXIST, "mkdir", parent, name, "a directory has no other half");
      const FilePtr file = files_.find(node_of(found.ino));
      if (file != nullptr) {
        if (const int failed = create_now(file))
          return refuse(req, failed, "mkdir", parent, name, "NAME could not be made");
      }
      const NodeId node = file == nullptr ? node_of(found.ino) : file->node;
      const SharedLock lock(mount_.lock());
      const CachedNode* cached = mount_.cache().current(node);
      if (cached == nullptr) {
        fuse_reply_err(req, ESTALE);
      } else if (cached->info.stat.ephemeral_owner != 0) {
        refuse(req, EPERM, "mkdir", parent, name, Err::kNoChildrenForEphemerals);
      } else if (cached->info.stat.num_children > 0) {
        fuse_reply_err(req, EEXIST);
      } else {
        mount_.reply_entry(req, ino_of(node, View::kDir), true);
      }
      return;
    }
  }
  if (making.request.mode == wire::CreateMode::kPersistent) making.request.id = mount_.replica().take_id();
  const bool keep = parsed.kind != NameKind::kCreate;
  answer_made(req, "mkdir", parent, name, std::move(making), deadline, keep);
}

void Writes::mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kMknod, parent, name))) return;
  if (!S_ISREG(mode) && (mode & S_IFMT) != 0) {
    return refuse(req, EPERM, "mknod", parent, name, "devices, fifos and sockets are not for other hosts");
  }
  const Credentials who = mount_.caller(req);
  Making making;
  Parsed parsed;
  int error = prepare_making(parent, name, who, Shape::kFile, mode, making, parsed);
  // Without a descriptor nobody would hold an ephemeral.
  if (error == 0 && (making.settle || (parsed.kind != NameKind::kNode && parsed.kind != NameKind::kCreate)))
    error = EINVAL;
  if (error != 0) return refuse(req, error, "mknod", parent, name, "not a name for a file");
  if ((error = refuse_early(kDirectoryDeadline)) != 0) {
    return refuse(req, error, "mknod", parent, name, "the replica takes no writes now");
  }
  making.request.id = mount_.replica().take_id();
  const bool keep = parsed.kind != NameKind::kCreate;
  answer_made(req, "mknod", parent, name, std::move(making), within(kDirectoryDeadline), keep);
}

void Writes::symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kSymlink, parent, name))) return;
  const Credentials who = mount_.caller(req);
  Making making;
  Parsed parsed;
  int error = prepare_making(parent, name, who, Shape::kSymlink, 0777, making, parsed);
  if (error == 0 && std::strlen(target) > static_cast<std::size_t>(kSymlinkBytesMax)) error = ENAMETOOLONG;
  if (error != 0) return refuse(req, error, "symlink", parent, name, "not a name for a symlink, or too long");
  if ((error = refuse_early(kDirectoryDeadline)) != 0) {
    return refuse(req, error, "symlink", parent, name, "the replica takes no writes now");
  }
  making.request.data = target;
  making.request.id = mount_.replica().take_id();
  answer_made(req, "symlink", parent, name, std::move(making), within(kDirectoryDeadline), true);
}

// --- create ---

Ino Writes::existing_for(Ino parent, const char* name, const Parsed& parsed, bool& listed) const {
  const SharedLock lock(mount_.lock());
  const Mount::Found found = mount_.find(parent, name);
  if (found.kind == Mount::Found::Kind::kFound) {
    listed = !found.deferred;
    return found.ino;
  }
  listed = false;
  if (parsed.kind == NameKind::kDotData) {  // the other half of a directory is there, only empty
    const CachedNode* directory = mount_.cache().current(node_of(parent));
    const bool has_half = directory != nullptr && directory->info.attributes.shape == Shape::kDir;
    return has_half ? ino_of(node_of(parent), View::kData) : 0;
  }
  if (parsed.kind != NameKind::kNode) return 0;
  const CachedNode* child = mount_.cache().child(node_of(parent), parsed.znode_name);
  const bool null_file = child != nullptr && child->info.null_data && child->info.attributes.shape == Shape::kFile;
  return null_file ? ino_of(child->info.id, View::kData) : 0;
}

void Writes::create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kOtherChange, parent))) return;
  const Credentials who = mount_.caller(req);
  const Deadline deadline = within(kDirectoryDeadline);
  Making making;
  Parsed parsed;
  if (const int error = prepare_making(parent, name, who, Shape::kFile, mode, making, parsed)) {
    return refuse(req, error, "create", parent, name, "not a name for a file");
  }
  if (const int error = refuse_early(kDirectoryDeadline)) {
    return refuse(req, error, "create", parent, name, "the replica takes no writes now");
  }
  auto handle = new_handle(req, *fi, who);
  for (;;) {  // until the name has stayed what it was found to be
    if (parsed.kind != NameKind::kCreate) {
      bool listed = false;
      const Ino existing = existing_for(parent, name, parsed, listed);
      if (existing != 0 && handle->intent.exclusive && listed) {
        fuse_reply_err(req, EEXIST);
        return;
      }
      // An exclusive creation on null data is a transaction like any other, which decides who was first.
      if (existing != 0 && (!handle->intent.exclusive || parsed.kind == NameKind::kDotData)) {
        if (create_existing(req, handle, existing, listed, name, *fi, deadline)) return;
        continue;
      }
      if (parsed.kind != NameKind::kNode) return refuse(req, EINVAL, "create", parent, name, "not a name for a file");
    }
    if (!creates_at_once(handle->intent, parsed.mode)) {
      if (const int error = check_parent(parent, who, deadline)) {
        return refuse(req, error, "create", parent, name, "not allowed in this directory, or it has gone");
      }
      if (create_deferred(req, handle, making, *fi)) return;
    }
    if (create_at_once(req, handle, making, parsed, parent, name, *fi, deadline)) return;
  }
}

bool Writes::create_existing(fuse_req_t req, std::unique_ptr<Handle>& handle, Ino ino, bool listed, const char* name,
                             const fuse_file_info& fi, Deadline deadline) {
  if (const int error = open_existing(*handle, ino, deadline, /*by_name=*/true)) {
    if (error == ESTALE && std::chrono::steady_clock::now() < deadline) {
      handle->snapshot = Snapshot{};
      return false;
    }
    abandon(std::move(handle));
    refuse(req, error, "create", ino, name, "it exists and cannot be opened so");
    return true;
  }
  reply_created(req, std::move(handle), ino, listed, fi);
  return true;
}

bool Writes::create_deferred(fuse_req_t req, std::unique_ptr<Handle>& handle, const Making& making,
                             const fuse_file_info& fi) {
  wire::NodeInfo made;
  made.id = mount_.replica().take_id();
  if (made.id.value == 0) return false;
  made.parent = making.request.parent;
  made.name = making.request.name;
  made.attributes = making.request.attributes;
  made.acl = making.request.acl;
  made.stat.ctime = made.stat.mtime = now_ms();
  handle->ino = ino_of(made.id, View::kData);
  handle->id = made.id;
  // Before the file can be found by its name: who finds it answers with its record. The kernel revalidates an old
  // dentry of this name without the directory's lock, so a LOOKUP may run beside this CREATE.
  pin_record(made);
  if (files_.add_deferred(made, handle->who, *handle) == nullptr) {
    mount_.coherence().unpin(made.id);
    return false;
  }
  mount_.pause_between_steps();
  handle->pinned = made.id;
  {
    const std::lock_guard lock(handle->file->mutex);
    handle->touched = true;  // an empty file is something to publish at RELEASE
    if (handle->intent.truncate) handle->edits.replace_all();
  }
  {
    const SharedLock lock(mount_.lock());
    mount_.coherence().overtake(ino_of(made.parent, View::kDir), shown_name(made.name));
  }
  const Ino ino = handle->ino;
  reply_created(req, std::move(handle), ino, false, fi);
  return true;
}

bool Writes::create_at_once(fuse_req_t req, std::unique_ptr<Handle>& handle, Making making, const Parsed& parsed,
                            Ino parent, const char* name, const fuse_file_info& fi, Deadline deadline) {
  const bool suffix = parsed.kind == NameKind::kCreate;
  const bool ephemeral = making.settle;
  making.request.id = mount_.replica().take_id();
  const Answer<wire::NodeInfo> answer = make_node(making, deadline);
  if (answer.err == Err::kNodeExists && !suffix && !handle->intent.exclusive) {
    // Another host was faster: then this is an open of its node, which has to be known for that.
    Mount::Found found;
    int error = mount_.resolve(parent, name, handle->who, deadline, found);
    if (error == 0 && std::chrono::steady_clock::now() >= deadline) error = ETIMEDOUT;
    if (error == 0) return false;
    refuse(req, error, "create", parent, name, "somebody else made it, and it cannot be asked for");
    return true;
  }
  if (!answer.ok()) {
    const int error = answer.err == Err::kStaleNode ? ENOENT : write_errno(answer.err, answer.sent);
    refuse(req, error, "create", parent, name, answer.err);
    return true;
  }
  const NodeId id = answer.value.id;
  handle->id = id;
  handle->ino = ino_of(id, View::kData);
  handle->snapshot = Snapshot{std::make_shared<const std::string>(), answer.value.stat.mzxid};
  pin_record(answer.value);
  handle->pinned = id;
  if (handle->intent.write || ephemeral) {
    const FilePtr file = files_.attach(id, *handle);
    const std::lock_guard lock(file->mutex);
    file->other_name = suffix;
    // Somebody else may write to it before this handle does. Nothing to publish yet: it is empty.
    if (handle->intent.truncate) handle->edits.replace_all();
    if (ephemeral) {
      file->session = SessionId{answer.value.stat.ephemeral_owner};
      file->fenced = file->session != mount_.replica().session();
    }
  }
  const Ino ino = handle->ino;
  reply_created(req, std::move(handle), ino, !suffix, fi);
  return true;
}

void Writes::reply_created(fuse_req_t req, std::unique_ptr<Handle> handle, Ino ino, bool keep, fuse_file_info fi) {
  set_open_flags(*handle, fi);
  Handle* const raw = handle.release();  // RELEASE may come as soon as the reply is written
  int unwanted = 0;
  {
    const SharedLock lock(mount_.lock());
    unwanted = mount_.reply_create(req, ino, keep, fi);
  }
  if (unwanted != 0) abandon(std::unique_ptr<Handle>(raw));
}

}  // namespace coord::fs
