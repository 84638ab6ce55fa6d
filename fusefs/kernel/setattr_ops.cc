// Attributes and extended attributes: chmod, chown, truncate, utimensat, setxattr, removexattr (filesystem.md section
// 4).
#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>
#include <optional>
#include <string>

#include "common/base/log.h"
#include "common/base/number.h"
#include "common/model/posix.h"
#include "fusefs/kernel/caller.h"
#include "fusefs/kernel/write_side.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

constexpr std::string_view kExpect = "user.coord.expect";
constexpr std::string_view kCas = "user.coord.cas";
constexpr int kOwnerOrMode = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
constexpr int kGenerationsMax = 16;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

std::optional<std::int32_t> parse_version(std::string_view text) {
  return parse_number<std::int32_t>(text, 0, std::numeric_limits<std::int32_t>::max());
}

// As near as 64 bits can hold it (1677 to 2262). -1 would be "now" to the replica: the nearest that is not.
std::int64_t nanoseconds(const timespec& time) {
  constexpr std::int64_t kSecondsMax = std::numeric_limits<std::int64_t>::max() / kNsPerSecond - 1;
  const std::int64_t seconds = std::clamp<std::int64_t>(time.tv_sec, -kSecondsMax, kSecondsMax);
  const std::int64_t ns = seconds * kNsPerSecond + time.tv_nsec;
  return ns == -1 ? 0 : ns;
}

// NAME of a node with children has been unlinked: what is left of it, NAME@, is not meant by who has NAME open.
bool half_unlinked(const wire::NodeInfo& info, View view) {
  return view == View::kData && info.attributes.shape == Shape::kFile && !shows_data_name(info);
}

}  // namespace

// Makes a node of this host only real for all. `data_too`: publishes what is written to it first, because the change
// that follows would be undone by a later commit.
int Writes::settle_for_attributes(NodeId id, pid_t tid, bool data_too, bool& just_made) {
  just_made = false;
  const FilePtr file = files_.find(id);
  if (file == nullptr) return 0;
  bool deferred_before = false;
  {
    const std::lock_guard lock(file->mutex);
    if (file->phase == File::Phase::kGone) return 0;
    deferred_before = file->phase == File::Phase::kDeferred;
  }
  int error = data_too ? commit_own(file, tid) : 0;
  if (error == 0) error = create_now(file);
  just_made = error == 0 && deferred_before;
  return error;
}

int Writes::truncate_handle(Handle& handle, std::uint64_t size) {
  File& file = *handle.file;
  {
    const std::lock_guard lock(file.mutex);
    if (file.fenced) return ESTALE;
    if (handle.error != 0) return handle.error;
    begin_again(handle);
    if (!handle.edits.truncate(size)) return EFBIG;
    note_write(handle);
  }
  mount_.coherence().invalidate_attributes(file.id);
  return 0;
}

int Writes::truncate_path(Ino ino, std::uint64_t size, const Credentials& who, pid_t tid) {
  if (size > mount_.data_max()) return EFBIG;
  bool just_made = false;
  // What the same program has written comes first.
  if (const int error = settle_for_attributes(node_of(ino), tid, /*data_too=*/true, just_made)) return error;
  File alone(node_of(ino), mount_.data_max());  // for this one transaction
  if (const FilePtr file = files_.find(alone.id)) {
    const std::lock_guard lock(file->mutex);
    if (file->phase == File::Phase::kGone) return 0;
    alone.node = file->node;
  }
  Edits cut(mount_.data_max());
  if (!cut.truncate(size)) return EFBIG;
  return publish(alone, cut, who, std::nullopt, /*announce=*/false, within(kCallDeadline)).result();
}

// What has no name any more belongs to those who have it open on this host: fstat shows them what they have set, and
// nobody else comes to know. The kernel has checked that they may.
void Writes::change_unlinked(NodeId id, const struct stat& attr, int to_set) {
  const auto change = [&](wire::NodeInfo& info) {
    std::optional<std::uint32_t> mode;
    std::optional<std::uint32_t> uid;
    std::optional<std::uint32_t> gid;
    if ((to_set & FUSE_SET_ATTR_MODE) != 0) mode = static_cast<std::uint32_t>(attr.st_mode) & 01777;
    if ((to_set & FUSE_SET_ATTR_UID) != 0) uid = attr.st_uid;
    if ((to_set & FUSE_SET_ATTR_GID) != 0) gid = attr.st_gid;
    apply_mode_and_owner(info.acl, info.attributes, mode, uid, gid);
    if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
      timespec now{};
      clock_gettime(CLOCK_REALTIME, &now);
      info.attributes.mtime_ns = nanoseconds(now);
    } else if ((to_set & FUSE_SET_ATTR_MTIME) != 0) {
      info.attributes.mtime_ns = nanoseconds(attr.st_mtim);
    }
  };
  const ExclusiveLock lock(mount_.lock());
  const CachedNode* node = mount_.cache().find(id);
  if (node != nullptr && node->gone()) return change(mount_.cache().ensure(id).info);
  const FilePtr file = files_.find(id);
  if (file == nullptr) return;
  const std::lock_guard guard(file->mutex);
  // Otherwise the node is there all the same: NAME of a node with children.
  if (file->phase == File::Phase::kGone && file->made.id == id) change(file->made);
}

int Writes::change_attributes(Ino ino, const struct stat& attr, int to_set, const Credentials& who, pid_t tid) {
  const bool sets_mtime = (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0;
  if ((to_set & kOwnerOrMode) == 0 && !sets_mtime) return 0;  // times of access are not kept
  const bool mtime_now = (to_set & FUSE_SET_ATTR_MTIME_NOW) != 0;
  const Deadline deadline = within(kCallDeadline);
  NodeId node = node_of(ino);
  bool just_made = false;
  bool unlinked = false;
  bool open_to_write = false;  // so NAME may be about to come (back)
  if (view_of(ino) == View::kData) {
    if (const int error = settle_for_attributes(node, tid, sets_mtime, just_made)) return error;
    if (const FilePtr file = files_.find(node)) {
      const std::lock_guard lock(file->mutex);
      unlinked = file->phase == File::Phase::kGone;
      open_to_write = true;
      node = file->node;
    }
  }
  wire::SetAttributesRequest request;
  while (!unlinked) {
    {
      const SharedLock lock(mount_.lock());
      const CachedNode* found = mount_.cache().find(node);
      if (found != nullptr && found->gone()) {
        // By a path the kernel looks the name up again.
        if (found->in_limbo(view_of(ino)) || node != node_of(ino)) return ESTALE;
        unlinked = true;
        break;
      }
      if (const CachedNode* cached = mount_.cache().current(node)) {
        const wire::NodeInfo& info = cached->info;
        if (!open_to_write && half_unlinked(info, view_of(ino))) return 0;
        const PosixView now = posix_view(info.acl, info.attributes, view_of(ino) == View::kDir);
        const auto mode = static_cast<std::uint32_t>(attr.st_mode) & 01777;
        if ((to_set & FUSE_SET_ATTR_MODE) != 0 && mode != now.mode) request.mode = mode;
        if ((to_set & FUSE_SET_ATTR_UID) != 0 && attr.st_uid != now.uid) request.uid = attr.st_uid;
        if ((to_set & FUSE_SET_ATTR_GID) != 0 && attr.st_gid != now.gid) request.gid = attr.st_gid;
        const std::int64_t mtime = nanoseconds(attr.st_mtim);
        const std::int64_t mtime_shown =
            info.attributes.mtime_ns != 0 ? info.attributes.mtime_ns : info.stat.mtime * 1'000'000;
        if (mtime_now) {
          if (!just_made) request.mtime_ns = -1;  // made by this very call: its time is now
        } else if (sets_mtime && mtime != mtime_shown) {
          request.mtime_ns = mtime;
        }
        break;
      }
    }
    if (const Err err = mount_.coherence().fetch_node(node, who, deadline); err != Err::kOk) return read_errno(err);
  }
  if (unlinked) {
    change_unlinked(node_of(ino), attr, to_set);
    return 0;
  }
  if (!request.mode && !request.uid && !request.gid && !request.mtime_ns) return 0;
  if (const int error = refuse_early(kCallDeadline)) return error;
  request.header.who = who;
  request.node = node;
  std::int64_t seq = 0;
  NodeHooks hooks;
  hooks.submitted = [&](std::int64_t number) {
    seq = number;
    mount_.announcements().add(number, {wire::ChangeKind::kAttributes, node, view_of(ino), {}});
  };
  hooks.answered = [this, node](const Answer<wire::NodeInfo>& answer) {
    if (answer.ok()) mount_.coherence().absorb(answer.value, false);
    if (answer.err == Err::kStaleNode) mount_.coherence().absorb_gone(node);
  };
  const auto answer = mount_.replica().set_attributes(std::move(request), left(deadline), std::move(hooks));
  if (!answer.ok()) mount_.announcements().retract(seq);
  return write_errno(answer.err, answer.sent);
}

void Writes::setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* fi) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kSetattr, ino))) return;
  const Credentials who = mount_.caller(req);
  const pid_t tid = fuse_req_ctx(req)->pid;
  // By a path that may lead elsewhere now, the kernel looks the name up again. No waiting for the end of the limbo: the
  // kernel holds the inode's lock, which the replay needs to take the name away, with the directory's lock in its hand.
  const bool found = fi == nullptr && mount_.second_tries().take(tid, ino, /*last=*/true).has_value();
  if (fi == nullptr && !found) {
    const SharedLock lock(mount_.lock());
    const CachedNode* node = mount_.cache().find(node_of(ino));
    // Pinned: it may come by a descriptor, and then there is nothing to look up.
    if (node != nullptr && node->in_limbo(view_of(ino)) && node->pins == 0) {
      mount_.second_tries().expect(tid);
      fuse_reply_err(req, ESTALE);
      return;
    }
  }
  int error = 0;
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
    if (view_of(ino) != View::kData) return refuse(req, EISDIR, "truncate", ino, {}, "a directory");
    if (attr->st_size < 0) return refuse(req, EINVAL, "truncate", ino, {}, "a negative size");
    error = refuse_early(kCallDeadline);
    const auto size = static_cast<std::uint64_t>(attr->st_size);
    Handle* handle = fi != nullptr ? &handle_of(fi) : nullptr;
    const bool by_handle = handle != nullptr && handle->file != nullptr && handle->intent.write;
    if (error == 0)
      error = by_handle ? truncate_handle(*handle, size) : truncate_path(ino, size, who, tid);
    // The kernel sends the times along with a size: they are what a change of the data has anyway.
    to_set &= ~(FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW);
  }
  if (error == 0) error = change_attributes(ino, *attr, to_set, who, tid);
  if (error == ESTALE && fi == nullptr) {
    // What the second try has found has been deleted since: as if that had happened a moment later.
    const SharedLock lock(mount_.lock());
    const CachedNode* node = mount_.cache().find(node_of(ino));
    if (found && node != nullptr && node->gone()) error = 0;
    if (error != 0) mount_.second_tries().expect(tid);
  }
  if (error != 0) return refuse(req, error, "setattr", ino, {}, "not allowed, not there, or not possible now");
  const Deadline deadline = within(kCallDeadline);
  for (;;) {
    {
      const SharedLock lock(mount_.lock());
      const Mount::Standing standing = mount_.standing(ino);
      if (standing == Mount::Standing::kLimbo && !found) {
        if (fi == nullptr) mount_.second_tries().expect(tid);
        fuse_reply_err(req, ESTALE);
        return;
      }
      if (standing != Mount::Standing::kUnknown) return mount_.reply_attributes(req, ino);
    }
    if (const Err err = mount_.coherence().fetch_node(node_of(ino), who, deadline); err != Err::kOk) {
      return refuse(req, read_errno(err), "setattr", ino, {}, err);
    }
  }
}

// --- extended attributes ---

// "VERSION:DATA": the data becomes DATA if the version is VERSION. The kernel raises no MODIFY for it: not announced.
int Writes::compare_and_set(Ino ino, std::string_view value, const Credentials& who) {
  const std::size_t colon = value.find(':');
  const auto version = colon == std::string_view::npos ? std::nullopt : parse_version(value.substr(0, colon));
  if (!version) return EINVAL;
  if (view_of(ino) != View::kData) return EISDIR;
  File alone(node_of(ino), mount_.data_max());
  {
    const FilePtr file = files_.find(alone.id);
    if (file != nullptr) {
      const std::lock_guard lock(file->mutex);
      alone.node = file->node;
    }
  }
  Edits all(mount_.data_max());
  all.replace_all();
  if (!all.write(0, value.substr(colon + 1))) return EFBIG;
  const Publication result = publish(alone, all, who, *version, /*announce=*/false, within(kCallDeadline));
  return result.err == Err::kBadVersion && result.error == 0 ? ECANCELED : result.result();
}

// For the handles of the program that asks, or of the nearest that has started it and has some: a shell has the file
// open and calls setfattr. Other programs' commits are not concerned. False: there are none; or none to take back.
bool Writes::set_expectation(File& file, pid_t tid, std::optional<std::int32_t> version) {
  TaskStatus task = read_task_status(tid);
  for (int generation = 0; task.valid && generation < kGenerationsMax; ++generation) {
    bool any = false;
    {
      const std::lock_guard lock(file.mutex);
      for (Handle* handle : file.handles) {
        if (!handle->intent.write || handle->thread_group != task.tgid) continue;
        any = any || version || handle->expect;
        handle->expect = version;
      }
    }
    if (any) return true;
    task = read_task_status(task.parent);
  }
  return false;
}

void Writes::setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, std::size_t size, int) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kOtherChange, ino))) return;
  const std::string_view key(name);
  if (key != kExpect && key != kCas) {
    const bool ours = key.starts_with("user.coord.");
    return refuse(req, ours ? EPERM : ENOTSUP, "setxattr", ino, key, ours ? "read-only" : "no such attributes here");
  }
  const Credentials who = mount_.caller(req);
  if (const int error = refuse_early(kCallDeadline)) {
    return refuse(req, error, "setxattr", ino, key, "the replica takes no writes now");
  }
  bool just_made = false;
  int error = view_of(ino) == View::kData
                  ? settle_for_attributes(node_of(ino), fuse_req_ctx(req)->pid, false, just_made)
                  : EISDIR;
  if (error == 0 && key == kCas) error = compare_and_set(ino, {value, size}, who);
  if (error == 0 && key == kExpect) {
    const auto version = parse_version({value, size});
    const FilePtr file = files_.find(node_of(ino));
    if (!version) {
      error = EINVAL;
    } else if (file == nullptr) {
      error = EBADF;  // means something to a file that is open for writing only
    } else {
      error = set_expectation(*file, fuse_req_ctx(req)->pid, version) ? 0 : EBADF;
    }
  }
  if (error != 0) return refuse(req, error, "setxattr", ino, key, "not a version, not that version, or not open");
  fuse_reply_err(req, 0);
}

void Writes::removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  if (answer_replay(req, replay_of(req, replay::FsCall::kOtherChange, ino))) return;
  const std::string_view key(name);
  if (key == kExpect) {
    if (const FilePtr file = files_.find(node_of(ino))) {
      if (set_expectation(*file, fuse_req_ctx(req)->pid, std::nullopt)) {
        fuse_reply_err(req, 0);
        return;
      }
    }
  }
  const bool read_only = key.starts_with("user.coord.") && key != kExpect && key != kCas;
  fuse_reply_err(req, read_only ? EPERM : ENODATA);
}

}  // namespace coord::fs
