// Open files: open, read, write, flush, fsync, release, fallocate (filesystem.md sections 3 and 4).
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "common/base/log.h"
#include "common/model/posix.h"
#include "fusefs/kernel/caller.h"
#include "fusefs/kernel/write_side.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

constexpr int kEndAttemptsMax = 1000;  // of kBackgroundDeadline each

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void reply_slice(fuse_req_t req, std::string_view data, off_t off, std::size_t size) {
  const std::size_t at = std::min(data.size(), static_cast<std::size_t>(off));
  const std::size_t count = std::min(size, data.size() - at);
  fuse_reply_buf(req, data.data() + at, count);
}

}  // namespace

// --- opening ---

std::unique_ptr<Handle> Writes::new_handle(fuse_req_t req, const fuse_file_info& fi, Credentials who) const {
  auto handle = std::make_unique<Handle>(mount_.data_max());
  handle->intent = open_intent(fi.flags);
  handle->who = std::move(who);
  handle->tid = fuse_req_ctx(req)->pid;
  if (handle->intent.write) handle->thread_group = thread_group_of(handle->tid);
  return handle;
}

void Writes::set_open_flags(const Handle& handle, fuse_file_info& fi) {
  fi.fh = reinterpret_cast<std::uint64_t>(&handle);
  fi.direct_io = 1;
  fi.keep_cache = 0;
  fi.noflush = handle.intent.write ? 0 : 1;
}

void Writes::begin_truncated(Handle& handle) {
  {
    const std::lock_guard lock(handle.file->mutex);
    handle.edits.replace_all();
    handle.mtime_ns = now_ns();
    handle.touched = true;
  }
  mount_.coherence().invalidate_attributes(handle.file->id);
}

int Writes::open_existing(Handle& handle, Ino ino, Deadline deadline, bool by_name) {
  if (view_of(ino) != View::kData) return EISDIR;
  handle.ino = ino;
  handle.id = node_of(ino);
  if (handle.intent.write) {
    if (const int error = refuse_early(kDirectoryDeadline)) return error;
  }
  for (;;) {
    bool again = false;
    if (const int error = open_once(handle, ino, deadline, by_name, again)) return error;
    if (!again) break;
  }
  if (handle.intent.truncate) begin_truncated(handle);
  return 0;
}

// One look at the memory; `again` when something had to be fetched.
int Writes::open_once(Handle& handle, Ino ino, Deadline deadline, bool by_name, bool& again) {
  const bool wants_data = handle.intent.read && !handle.intent.truncate;
  SharedLock lock(mount_.lock());
  const Mount::Standing standing = mount_.standing(ino);
  // Another name of it is in limbo, not the one that is asked for now, if the node is there.
  const bool here = by_name && mount_.cache().current(handle.id) != nullptr;
  if (by_name && found_gone(handle, standing)) return 0;
  if (standing == Mount::Standing::kGone) return ESTALE;
  if (standing == Mount::Standing::kLimbo && !here) return ESTALE;
  if (standing == Mount::Standing::kUnknown) {
    lock.unlock();
    again = true;
    return read_errno(mount_.coherence().fetch_node(handle.id, handle.who, deadline));
  }
  // A node of this host only, or one that another host's node has taken the place of, is known by its File.
  const std::optional<wire::NodeInfo> special = deferred(handle.id);
  const CachedNode* node = special ? nullptr : mount_.cache().current(handle.id);
  if (!special && node == nullptr) return ESTALE;
  const wire::NodeInfo& info = special ? *special : node->info;
  if (info.attributes.shape == Shape::kSymlink) return ELOOP;
  // The kernel has checked the mode bits; entries of other schemes bind uid 0 as well.
  if (handle.intent.write && !unix_allows(info.acl, handle.who, perm::kWrite)) return EACCES;
  if (handle.intent.read && !unix_allows(info.acl, handle.who, perm::kRead)) return EACCES;
  Snapshot snapshot;
  if (wants_data && special) {
    snapshot.data = std::make_shared<const std::string>();
  } else if (wants_data && node->data != nullptr) {
    snapshot = Snapshot{node->data, node->info.stat.mzxid};
  } else if (wants_data && handle.snapshot.data != nullptr) {
    snapshot = handle.snapshot;  // fetched a moment ago for this open, too large for the memory
  } else if (wants_data) {
    lock.unlock();
    NodeData fetched;
    const Err err = mount_.coherence().fetch_data(handle.id, handle.who, deadline, fetched);
    if (err != Err::kOk) return read_errno(err);
    again = true;
    handle.snapshot = Snapshot{fetched.data, fetched.info.stat.mzxid};
    return 0;
  }
  handle.snapshot = std::move(snapshot);
  if (handle.intent.write) {
    files_.attach(handle.id, handle);
  } else {
    files_.attach_existing(handle.id, handle);
  }
  if (mount_.cache().find(handle.id) != nullptr) {
    mount_.cache().pin(handle.id);
    handle.pinned = handle.id;
  }
  return 0;
}

// The kernel's second try has found a file that has been deleted since: it is open like one that is deleted a moment
// later. For readers, if its data is known. Shared lock held.
bool Writes::found_gone(Handle& handle, Mount::Standing standing) {
  const CachedNode* node = mount_.cache().find(handle.id);
  const bool dead = standing == Mount::Standing::kGone || standing == Mount::Standing::kLimbo;
  if (!dead || node == nullptr || !node->gone() || handle.intent.write || handle.snapshot.data == nullptr) return false;
  if (node->info.attributes.shape == Shape::kSymlink || !unix_allows(node->info.acl, handle.who, perm::kRead)) {
    return false;
  }
  files_.attach_existing(handle.id, handle);
  mount_.cache().pin(handle.id);
  handle.pinned = handle.id;
  return true;
}

void Writes::open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if ((fi->flags & O_ACCMODE) != O_RDONLY) {
    const auto match = replay_of(req, replay::FsCall::kOpen, ino);
    if (match && match->say == replay::Say::kHandle) {
      auto handle = std::make_unique<Handle>(mount_.data_max());
      handle->ino = ino;
      handle->replay = true;
      handle->intent = open_intent(fi->flags);
      set_open_flags(*handle, *fi);
      if (fuse_reply_open(req, fi) == 0) static_cast<void>(handle.release());
      return;
    }
    if (answer_replay(req, match)) return;
  }
  auto handle = new_handle(req, *fi, mount_.caller(req));
  const auto found = mount_.second_tries().take(handle->tid, ino, /*last=*/true);
  if (found && found->data != nullptr) handle->snapshot = Snapshot{found->data, found->mzxid};
  if (const int error = open_existing(*handle, ino, within(kCallDeadline), /*by_name=*/found.has_value())) {
    const pid_t tid = handle->tid;
    abandon(std::move(handle));
    // The kernel looks the name up again and opens once more: not in the same limbo, else the caller saw ESTALE for a
    // file that is there.
    if (error == ESTALE) {
      mount_.coherence().await_limbo_end(ino, within(kLimboWait));
      mount_.second_tries().expect(tid);
    }
    refuse(req, error, "open", ino, {}, error == EROFS ? "no replica that takes writes" : "not allowed or not there");
    return;
  }
  set_open_flags(*handle, *fi);
  if (fuse_reply_open(req, fi) == 0) {
    static_cast<void>(handle.release());
  } else {
    abandon(std::move(handle));  // the caller was interrupted: there will be no RELEASE
  }
}

void Writes::abandon(std::unique_ptr<Handle> handle) {
  if (handle->file != nullptr) {
    const std::lock_guard lock(handle->file->mutex);
    handle->edits.take();
    handle->touched = false;
  }
  close_handle(std::move(handle));
}

// --- reading ---

// The first read of a descriptor, and each one at offset 0, starts on the current version. Who may not read that one
// goes on with the one he has: permission is a matter of the open.
int Writes::repin(Handle& handle, Deadline deadline) {
  NodeId node = handle.id;
  Snapshot last;
  if (handle.file != nullptr) {
    const std::lock_guard lock(handle.file->mutex);
    if (handle.file->phase == File::Phase::kDeferred) return 0;
    node = handle.file->node;
    last = handle.file->last;
  }
  // What has gone is read as it was last, as far as this host knows that.
  const auto stay = [&handle](const Snapshot& at_the_end) {
    const std::lock_guard guard(handle.mutex);
    if (at_the_end.data != nullptr && handle.snapshot.mzxid < at_the_end.mzxid) handle.snapshot = at_the_end;
    return 0;
  };
  {
    const SharedLock lock(mount_.lock());
    const CachedNode* cached = mount_.cache().find(node);
    if (cached != nullptr && cached->gone()) {
      if (cached->data != nullptr && last.mzxid < cached->info.stat.mzxid) {
        last = Snapshot{cached->data, cached->info.stat.mzxid};
      }
      return stay(last);
    }
    if (cached != nullptr && cached->current()) {
      const std::lock_guard guard(handle.mutex);
      if (handle.snapshot.mzxid == cached->info.stat.mzxid) return 0;
      if (cached->data != nullptr && unix_allows(cached->info.acl, handle.who, perm::kRead)) {
        handle.snapshot = Snapshot{cached->data, cached->info.stat.mzxid};
        return 0;
      }
    }
  }
  NodeData now;
  const Err err = mount_.coherence().fetch_data(node, handle.who, deadline, now);
  if (err == Err::kStaleNode || err == Err::kNoNode) return stay(last);
  if (err == Err::kNoAuth) {
    const std::lock_guard guard(handle.mutex);
    if (handle.snapshot.data != nullptr) return 0;
  }
  if (err != Err::kOk) return read_errno(err);
  const std::lock_guard guard(handle.mutex);
  // Another thread may have read a newer version through the same descriptor meanwhile: never back.
  if (handle.snapshot.data == nullptr || handle.snapshot.mzxid < now.info.stat.mzxid) {
    handle.snapshot = Snapshot{now.data, now.info.stat.mzxid};
  }
  return 0;
}

void Writes::read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t off, fuse_file_info* fi) {
  Handle& handle = handle_of(fi);
  if (handle.replay) {
    fuse_reply_buf(req, nullptr, 0);
    return;
  }
  const FilePtr file = handle.file;  // outlives the reply, after which RELEASE may free the handle
  bool fenced = false;
  if (file != nullptr) {
    const std::lock_guard lock(file->mutex);
    fenced = file->fenced;
  }
  if (fenced) return refuse(req, ESTALE, "read", ino, {}, "the session of this ephemeral is lost");
  // Who goes to the end, or to the size that stat has shown, wants the version of now, not that of the open.
  if (off == 0 || !handle.has_read) {
    if (const int error = repin(handle, within(kCallDeadline))) {
      return refuse(req, error, "read", ino, {}, "the current data could not be fetched");
    }
    handle.has_read = true;
  }
  std::shared_ptr<const std::string> data;
  {
    const std::lock_guard guard(handle.mutex);
    data = handle.snapshot.data;
  }
  if (data == nullptr) data = std::make_shared<const std::string>();
  std::optional<std::string> written;
  if (file != nullptr && handle.intent.write) {  // who writes sees what it has written
    const std::lock_guard lock(file->mutex);
    if (file->pending(handle)) {
      const bool flying = file->flight_of == &handle;
      const std::string below = flying ? file->flight.apply(*data) : std::string();
      written = handle.edits.read(flying ? std::string_view(below) : std::string_view(*data),
                                  static_cast<std::uint64_t>(off), size);
    }
  }
  if (!written) return reply_slice(req, *data, off, size);
  fuse_reply_buf(req, written->data(), written->size());
}

// --- writing ---

std::size_t Writes::committed_size(const File& file) {
  NodeId node;
  {
    const std::lock_guard lock(file.mutex);
    if (file.phase == File::Phase::kDeferred) return 0;
    node = file.node;
  }
  const SharedLock lock(mount_.lock());
  const CachedNode* cached = mount_.cache().find(node);
  return cached == nullptr ? 0 : static_cast<std::size_t>(std::max(0, cached->info.stat.data_length));
}

// The file's mutex is held.
void Writes::note_write(Handle& handle) {
  handle.overtaken = false;
  handle.touched = true;
  handle.wrote = true;
  handle.mtime_ns = now_ns();
}

// What is written to a file that was opened with O_TRUNC stands for all of it, also when somebody else's commit has
// emptied it meanwhile. The file's mutex is held, before the handle's edits are added to.
void Writes::begin_again(Handle& handle) {
  if (!handle.overtaken || handle.error != 0) return;
  handle.edits.replace_all();
  handle.begun_again = true;
}

// A write of this handle is refused with `error`, for a while. A save that began with O_TRUNC is then not whole: its
// close, or its RELEASE, would put what there is of it, or nothing, in place of the old content, should writes pass
// again by then. So it ends here, like a commit that failed. True: that is so. The file's mutex is held.
bool Writes::spoil_save(Handle& handle, std::size_t committed, int error) {
  if (!handle.edits.replaces_all() || (!handle.wrote && committed == 0)) return false;
  handle.error = error;
  handle.edits.take();
  handle.touched = false;
  handle.wrote = false;
  return true;
}

void Writes::write(fuse_req_t req, fuse_ino_t ino, const char* buf, std::size_t size, off_t off, fuse_file_info* fi) {
  Handle& handle = handle_of(fi);
  if (answer_replay(req, replay_of(req, replay::FsCall::kOtherChange, ino))) return;
  if (handle.replay || !handle.intent.write) return refuse(req, EBADF, "write", ino, {}, "not open for writing");
  File& file = *handle.file;  // up to the reply: then RELEASE may free both
  const std::size_t committed = committed_size(file);
  bool first = false;
  bool spoilt = false;
  int error = refuse_early(Millis{0});
  std::string_view why = "the replica takes no writes now";
  {
    const std::lock_guard lock(file.mutex);
    first = !file.pending(handle);
    const std::size_t base = file.flight_of == &handle ? file.flight.size(file.flight_base) : committed;
    const std::string_view bytes(buf, size);
    if (error == 0) begin_again(handle);
    if (file.fenced || handle.error != 0) {
      error = file.fenced ? ESTALE : handle.error;
      why = file.fenced ? "the session is lost" : "an earlier write or commit failed";
    } else if (error != 0) {
      spoilt = spoil_save(handle, committed, error);
    } else if (handle.intent.append ? handle.edits.append(bytes, base)
                                    : handle.edits.write(static_cast<std::uint64_t>(off), bytes)) {
      note_write(handle);
    } else {
      // What does not fit is not saved in part: the committed data stays, also after an O_TRUNC.
      error = handle.error = EFBIG;
      handle.edits.take();
      handle.touched = handle.wrote = false;
      why = "longer than the data of a node may be";
      spoilt = true;
    }
  }
  if (spoilt || (error == 0 && first)) mount_.coherence().invalidate_attributes(file.id);
  if (error != 0) return refuse(req, error, "write", ino, {}, why);
  fuse_reply_write(req, size);
}

void Writes::fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* fi) {
  Handle& handle = handle_of(fi);
  if (answer_replay(req, replay_of(req, replay::FsCall::kOtherChange, ino))) return;
  if (mode != 0) return refuse(req, EOPNOTSUPP, "fallocate", ino, {}, "only plain allocation is known");
  if (handle.replay || !handle.intent.write) return refuse(req, EBADF, "fallocate", ino, {}, "not open for writing");
  if (const int error = refuse_early(Millis{0})) {
    return refuse(req, error, "fallocate", ino, {}, "the replica takes no writes now");
  }
  const std::uint64_t end = static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(length);
  File& file = *handle.file;
  std::size_t size = committed_size(file);
  int error = 0;
  {
    const std::lock_guard lock(file.mutex);
    begin_again(handle);
    if (file.flight_of == &handle) size = file.flight.size(file.flight_base);
    size = handle.edits.size(size);
    if (file.fenced || handle.error != 0) {
      error = file.fenced ? ESTALE : handle.error;
    } else if (end > size) {
      if (handle.edits.extend(end)) {
        note_write(handle);
      } else {
        error = EFBIG;
      }
    }
  }
  if (error != 0) return refuse(req, error, "fallocate", ino, {}, "too long, or an earlier commit failed");
  mount_.coherence().invalidate_attributes(file.id);
  fuse_reply_err(req, 0);
}

// --- publishing and closing ---

void Writes::flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  Handle& handle = handle_of(fi);
  const auto match = replay_of(req, replay::FsCall::kFlush, ino);
  if (match && handle.replay) {
    fuse_reply_err(req, 0);
    return;
  }
  if (handle.replay || handle.file == nullptr || !handle.intent.write) {
    fuse_reply_err(req, 0);
    return;
  }
  bool wrote = false;
  bool emptied = false;
  int error = 0;
  {
    const std::lock_guard lock(handle.file->mutex);
    wrote = handle.wrote;
    emptied = handle.touched && !wrote && handle.file->phase == File::Phase::kLive;
    error = handle.error;
  }
  if (error == 0 && (wrote || emptied)) {
    const pid_t tid = fuse_req_ctx(req)->pid;
    const bool by_opener =
        tid == handle.tid || (handle.thread_group != 0 && thread_group_of(tid) == handle.thread_group);
    const bool gone = !by_opener && thread_group_gone(handle.thread_group);
    // `: > f`: if that was the last descriptor, what the program sees next is the empty file.
    const bool last = emptied && by_opener && !may_hold_another(tid, handle.ino);
    if (last || flush_commits(wrote, by_opener, gone)) error = commit(handle.file, &handle, CommitWhy::kFlush);
  }
  if (error != 0) return refuse(req, error, "close", ino, {}, "what was written is not committed");
  fuse_reply_err(req, 0);
}

void Writes::fsync(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info* fi) {
  Handle& handle = handle_of(fi);
  if (handle.replay || handle.file == nullptr) {
    fuse_reply_err(req, 0);
    return;
  }
  int error = 0;
  {
    const std::lock_guard lock(handle.file->mutex);
    error = handle.error;
  }
  if (error == 0) error = commit(handle.file, &handle, CommitWhy::kFsync);
  if (error != 0) return refuse(req, error, "fsync", ino, {}, "what was written is not committed");
  fuse_reply_err(req, 0);
}

void Writes::fsyncdir(fuse_req_t req, fuse_ino_t, int, fuse_file_info*) {
  fuse_reply_err(req, 0);  // every change of a directory is durable when it is answered
}

void Writes::release(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  std::unique_ptr<Handle> handle(&handle_of(fi));
  close_handle(std::move(handle));
  fuse_reply_err(req, 0);
}

void Writes::close_handle(std::unique_ptr<Handle> handle) {
  if (handle->file != nullptr) {
    const FilePtr file = handle->file;
    bool left_over = false;
    {
      const std::lock_guard lock(file->mutex);
      const bool last = file->handles.size() == 1;
      left_over = handle->error == 0 && (handle->touched || (last && file->phase == File::Phase::kDeferred));
    }
    if (left_over) commit(file, handle.get(), CommitWhy::kRelease);
    if (files_.detach(*handle)) {
      NodeId ephemeral;
      NodeId redirected;
      {
        const std::lock_guard lock(file->mutex);
        if (file->session.value != 0 && file->drop_at_release) ephemeral = file->node;
        redirected = std::exchange(file->pinned, NodeId{});
      }
      if (redirected.value != 0) mount_.coherence().unpin(redirected);
      if (ephemeral.value != 0) end_ephemeral(ephemeral, 0);
    }
  }
  if (handle->pinned.value != 0) mount_.coherence().unpin(handle->pinned);
}

// The deletion is sent again over reconnects until it is answered or the session, and the node with it, is gone. It is
// the mount's own act, so uid 0's. The kernel raises no DELETE for it: not announced.
void Writes::end_ephemeral(NodeId node, int attempt) {
  wire::DeleteNodeRequest request;
  request.node = node;
  Hooks<int> hooks;
  hooks.answered = [this, node, attempt](const Answer<int>& answer) {
    const Err err = answer.err;
    if (err == Err::kOk || err == Err::kStaleNode) {
      mount_.coherence().absorb_gone(node);
    } else if (err == Err::kOperationTimeout && attempt < kEndAttemptsMax) {
      end_ephemeral(node, attempt + 1);
    } else if (err != Err::kSessionExpired && err != Err::kConnectionLoss) {  // else it ends with its session
      log::error("fuse", "an ephemeral could not be ended node={} why=\"{}\"", node.value, error_text(err));
    }
  };
  mount_.replica().remove_async(std::move(request), kBackgroundDeadline, std::move(hooks));
}

}  // namespace coord::fs
