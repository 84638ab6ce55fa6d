#include "fusefs/kernel/read_ops.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "fusefs/kernel/caller.h"
#include "fusefs/names/names.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

using Standing = Mount::Standing;
using Found = Mount::Found;

// A LOOKUP by a replay helper is answered by the replay's own rules. True: answered.
bool answer_replay(Mount& mount, fuse_req_t req, Ino parent, const char* name) {
  const auto match = mount.replayer().match(fuse_req_ctx(req)->pid, replay::FsCall::kLookup, parent, name);
  if (!match) return false;
  switch (match->say) {
    case replay::Say::kNode:
      mount.reply_replay_entry(req, match->ino);
      break;
    case replay::Say::kAbsent:
      fuse_reply_err(req, ENOENT);
      break;
    case replay::Say::kHandle:
    case replay::Say::kCurrent:
    case replay::Say::kDone:
    case replay::Say::kRefuse:
      fuse_reply_err(req, EAGAIN);
      break;
  }
  return true;
}

}  // namespace

int settle(Mount& mount, Ino ino, const Credentials& who, Deadline deadline) {
  for (;;) {
    {
      SharedLock lock(mount.lock());
      if (mount.standing(ino) != Standing::kUnknown) return 0;
    }
    const Err err = mount.coherence().fetch_node(node_of(ino), who, deadline);
    if (err != Err::kOk && err != Err::kStaleNode) return read_errno(err);
    if (err == Err::kStaleNode) {
      SharedLock lock(mount.lock());
      return mount.standing(ino) == Standing::kUnknown ? ESTALE : 0;
    }
  }
}

void read_lookup(Mount& mount, fuse_req_t req, Ino parent, const char* name) {
  if (answer_replay(mount, req, parent, name)) return;
  if (!valid_ino(parent) || view_of(parent) != View::kDir) {
    fuse_reply_err(req, ENOTDIR);
    return;
  }
  if (!mount.reads_allowed()) {
    fuse_reply_err(req, ETIMEDOUT);
    return;
  }
  const Deadline deadline = within(kDirectoryDeadline);
  std::optional<Credentials> who;  // read from /proc only for a miss
  for (;;) {
    Found found;
    {
      SharedLock lock(mount.lock());
      const Standing at = mount.standing(parent);
      if (at == Standing::kLimbo || at == Standing::kGone) {
        if (at == Standing::kLimbo) mount.second_tries().expect(fuse_req_ctx(req)->pid);
        fuse_reply_err(req, at == Standing::kLimbo ? ESTALE : ENOENT);
        return;
      }
      found = mount.find(parent, name);
      if (found.kind == Found::Kind::kFound) {
        if (const pid_t tid = fuse_req_ctx(req)->pid; mount.second_tries().expected(tid)) {
          const CachedNode* node = mount.cache().find(node_of(found.ino));
          const bool data = node != nullptr && node->data != nullptr;
          mount.second_tries().found(tid, {found.ino, data ? node->data : nullptr, data ? node->info.stat.mzxid : -1});
        }
        mount.reply_entry(req, found.ino, !found.deferred && !mount.coherence().name_in_replay(parent, name));
        return;
      }
      if (found.kind == Found::Kind::kAbsent) {
        mount.pause_before_reply();
        fuse_reply_err(req, ENOENT);  // never cached: an entry reply with inode 0 would be
        return;
      }
    }
    if (!who) who = mount.caller(req);
    const int err = mount.ask(found, *who, deadline);
    mount.pause_between_steps();
    if (err != 0) {
      fuse_reply_err(req, err);
      return;
    }
  }
}

void read_getattr(Mount& mount, fuse_req_t req, Ino ino, bool by_handle) {
  if (!valid_ino(ino)) {
    fuse_reply_err(req, ESTALE);
    return;
  }
  if (!mount.reads_allowed()) {
    fuse_reply_err(req, ETIMEDOUT);
    return;
  }
  const Deadline deadline = within(kCallDeadline);
  // A directory's attributes may be asked for under its own lock, which the replay of its renaming needs.
  bool may_wait = view_of(ino) == View::kData;
  // The kernel asks for a directory's attributes again before it moves it elsewhere, also in the helper's call.
  const bool helper = mount.replayer().is_helper(fuse_req_ctx(req)->pid);
  std::optional<bool> writes;  // does the caller? asked for only while there are uncommitted edits
  for (;;) {
    bool limbo = false;
    bool ask_writes = false;
    {
      SharedLock lock(mount.lock());
      const Standing at = mount.standing(ino);
      limbo = at == Standing::kLimbo && !helper && !mount.second_tries().has(fuse_req_ctx(req)->pid, ino);
      if (limbo && !may_wait) {
        mount.second_tries().expect(fuse_req_ctx(req)->pid);
        fuse_reply_err(req, ESTALE);
        return;
      }
      if (!limbo && at != Standing::kUnknown) {
        // Who does not write reads the committed data, so he is shown its size.
        const auto pending = view_of(ino) == View::kData ? mount.writes().pending(node_of(ino)) : std::nullopt;
        const bool two_sizes = pending && pending->kernel_knows_size && !by_handle;
        ask_writes = two_sizes && !writes;
        if (two_sizes && writes && !*writes) {
          mount.reply_committed_attributes(req, ino);
          return;
        }
        if (!ask_writes) {
          mount.reply_attributes(req, ino);
          return;
        }
      }
    }
    if (ask_writes) {
      writes = may_hold_writable(fuse_req_ctx(req)->pid, ino);
      continue;
    }
    if (limbo) {
      may_wait = false;
      mount.coherence().await_limbo_end(ino, within(kLimboWait));
      // By a path: the kernel looks the name up anew, and finds the truth. With a descriptor there is nothing to look
      // up, and no way to tell: then the inode itself is the truth (fstat comes without a handle).
      const SharedLock lock(mount.lock());
      const CachedNode* node = mount.cache().find(node_of(ino));
      if (node != nullptr && node->pins.load() != 0) continue;
      mount.second_tries().expect(fuse_req_ctx(req)->pid);
      fuse_reply_err(req, ESTALE);
      return;
    }
    const int err = settle(mount, ino, mount.caller(req), deadline);
    if (err != 0) {
      fuse_reply_err(req, err);
      return;
    }
  }
}

void read_readlink(Mount& mount, fuse_req_t req, Ino ino) {
  if (!mount.reads_allowed()) {
    fuse_reply_err(req, ETIMEDOUT);
    return;
  }
  const pid_t tid = fuse_req_ctx(req)->pid;
  const auto found = mount.second_tries().take(tid, ino, /*last=*/false);
  Standing at = Standing::kUnknown;
  bool current = false;
  bool symlink = false;
  {
    SharedLock lock(mount.lock());
    at = mount.standing(ino);
    const CachedNode* node = mount.cache().find(node_of(ino));
    current = node != nullptr && node->current();
    symlink = node != nullptr && node->info.attributes.shape == Shape::kSymlink;
  }
  const bool gone = at == Standing::kGone || (at == Standing::kLimbo && !current);
  if (found && gone && symlink && found->data != nullptr) {
    fuse_reply_readlink(req, found->data->c_str());
    return;
  }
  if (gone || (at == Standing::kLimbo && !found)) {
    // The kernel looks the name up again and asks once more: not in the same limbo.
    mount.coherence().await_limbo_end(ino, within(kLimboWait));
    mount.second_tries().expect(tid);
    fuse_reply_err(req, ESTALE);
    return;
  }
  NodeData data;
  const Err err = mount.coherence().fetch_data(node_of(ino), mount.caller(req), within(kCallDeadline), data);
  if (err != Err::kOk) {
    if (read_errno(err) == ESTALE) mount.second_tries().expect(tid);
    fuse_reply_err(req, read_errno(err));
  } else if (data.info.attributes.shape != Shape::kSymlink) {
    fuse_reply_err(req, EINVAL);
  } else {
    fuse_reply_readlink(req, data.data->c_str());
  }
}

// The replica's disk, and the tree's nodes: a tree has no number of nodes that is the limit, so "free" ones are as many
// as fit the free space, a node to a block.
void read_statfs(Mount& mount, fuse_req_t req, Ino) {
  const wire::CapabilitiesReply disk = mount.disk();
  struct statvfs out = {};
  out.f_bsize = kBlockSize;
  out.f_frsize = kBlockSize;
  out.f_blocks = static_cast<fsblkcnt_t>(std::max<std::int64_t>(disk.disk_bytes, 0)) / kBlockSize;
  out.f_bfree = static_cast<fsblkcnt_t>(std::max<std::int64_t>(disk.disk_free_bytes, 0)) / kBlockSize;
  out.f_bavail = out.f_bfree;
  // Nodes have no limit of their own: as many as there are, and as many as there are free blocks for.
  out.f_files = static_cast<fsfilcnt_t>(std::max<std::int64_t>(disk.node_count, 0)) + out.f_bfree;
  out.f_ffree = out.f_bfree;
  out.f_favail = out.f_bfree;
  out.f_namemax = kShownBytesMax;
  fuse_reply_statfs(req, &out);
}

}  // namespace coord::fs
