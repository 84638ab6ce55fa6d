#include "fusefs/kernel/write_side.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "common/base/log.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {

std::unique_ptr<WriteSide> make_write_side(Mount& mount) { return std::make_unique<Writes>(mount); }

Writes::Writes(Mount& mount)
    : mount_(mount), files_([&mount] { return mount.data_max(); }), background_([this] { background(); }) {}

Writes::~Writes() {
  {
    const std::lock_guard lock(stop_mutex_);
    stop_ = true;
  }
  stop_changed_.notify_all();
  background_.join();
}

void Writes::refuse(fuse_req_t req, int error, const char* call, Ino ino, std::string_view name, std::string_view why) {
  log::info("fuse", "refused call={} ino={} name=\"{}\" uid={} errno={} why=\"{}\"", call, ino, name,
            fuse_req_ctx(req)->uid, error, why);
  fuse_reply_err(req, error);
}

void Writes::refuse(fuse_req_t req, int error, const char* call, Ino ino, std::string_view name, Err err) {
  refuse(req, error, call, ino, name, error_text(err));
}

int Writes::refuse_early(Millis wait) {
  const Err err = wait.count() == 0 ? (!mount_.replica().writable()     ? Err::kOperationTimeout
                                       : mount_.replica().disk_full() ? Err::kNoSpace
                                                                      : Err::kOk)
                                    : mount_.replica().ready_to_write(wait);
  return write_errno(err, /*sent=*/false);
}

std::optional<replay::Match> Writes::replay_of(fuse_req_t req, replay::FsCall call, Ino ino, const char* name,
                                               Ino new_parent, const char* new_name) {
  return mount_.replayer().match(fuse_req_ctx(req)->pid, call, ino, name, new_parent, new_name);
}

bool Writes::answer_replay(fuse_req_t req, const std::optional<replay::Match>& match) {
  if (!match) return false;
  switch (match->say) {
    case replay::Say::kNode:
      mount_.reply_replay_entry(req, match->ino);
      return true;
    case replay::Say::kCurrent: {
      const SharedLock lock(mount_.lock());
      if (mount_.standing(match->ino) == Mount::Standing::kUnknown) {
        fuse_reply_err(req, EAGAIN);
      } else {
        mount_.reply_attributes(req, match->ino);
      }
      return true;
    }
    case replay::Say::kDone:
      fuse_reply_err(req, 0);
      return true;
    case replay::Say::kAbsent:
      fuse_reply_err(req, ENOENT);
      return true;
    case replay::Say::kHandle:
    case replay::Say::kRefuse:
      fuse_reply_err(req, EAGAIN);
      return true;
  }
  return false;
}

void Writes::pin_record(const wire::NodeInfo& made) {
  const ExclusiveLock lock(mount_.lock());
  CachedNode& node = mount_.cache().ensure(made.id);
  // What it was, should it never come to be: the last attributes of an inode that the kernel knows.
  if (node.info.id == NodeId{}) node.info = made;
  mount_.cache().pin(made.id);
}

// --- hooks ---

std::optional<Pending> Writes::pending(NodeId node) const {
  const FilePtr file = files_.find(node);
  if (file == nullptr) return std::nullopt;
  const std::lock_guard lock(file->mutex);
  const Handle* writer = file->latest_writer();
  if (writer == nullptr) return std::nullopt;
  std::size_t committed = 0;
  if (file->made.id == file->id) {
    committed = 0;  // it exists on this host only, or has never existed elsewhere
  } else if (const CachedNode* cached = mount_.cache().find(file->node)) {
    committed = static_cast<std::size_t>(std::max(0, cached->info.stat.data_length));
  }
  const std::size_t base = file->flight_of == writer ? file->flight.size(file->flight_base) : committed;
  const auto writers = std::count_if(file->handles.begin(), file->handles.end(),
                                     [&file](const Handle* handle) { return file->pending(*handle); });
  const bool whole =
      writer->edits.replaces_all() || (file->flight_of == writer && file->flight.replaces_all());
  return Pending{writer->edits.size(base), writer->mtime_ns, committed,
                 writers == 1 && !writer->begun_again && (whole || writer->intent.append)};
}

namespace {

// The File's node as the read side may show it. Its mutex and the coherence lock are held.
std::optional<wire::NodeInfo> deferred_info(const File& file, const NodeCache& cache) {
  if (file.phase == File::Phase::kLive) {
    if (file.node == file.id) return std::nullopt;
    const CachedNode* other = cache.current(file.node);
    if (other == nullptr) return std::nullopt;
    wire::NodeInfo info = other->info;
    info.id = file.id;
    return info;
  }
  if (file.made.id != file.id) return std::nullopt;
  wire::NodeInfo info = file.made;
  if (const Handle* writer = file.latest_writer()) {
    const std::size_t base = file.flight_of == writer ? file.flight.size(0) : 0;
    info.stat.data_length = static_cast<std::int32_t>(writer->edits.size(base));
  }
  return info;
}

}  // namespace

std::optional<wire::NodeInfo> Writes::deferred(NodeId parent, std::string_view znode_name) const {
  const FilePtr file = files_.deferred(parent, znode_name);
  if (file == nullptr) return std::nullopt;
  const std::lock_guard lock(file->mutex);
  if (file->phase != File::Phase::kDeferred) return std::nullopt;
  return deferred_info(*file, mount_.cache());
}

std::optional<wire::NodeInfo> Writes::deferred(NodeId id) const {
  const FilePtr file = files_.find(id);
  if (file == nullptr) return std::nullopt;
  const std::lock_guard lock(file->mutex);
  return deferred_info(*file, mount_.cache());
}

bool Writes::deferred_is_gone(NodeId id) const {
  const FilePtr file = files_.find(id);
  if (file == nullptr) return false;
  const std::lock_guard lock(file->mutex);
  return file->phase == File::Phase::kGone;
}

void Writes::told_gone(NodeId parent, std::string_view znode_name) {
  const FilePtr file = files_.deferred(parent, znode_name);
  if (file == nullptr) return;
  const std::lock_guard lock(file->mutex);
  file->told_gone = true;
}

bool Writes::was_told_gone(NodeId id) const {
  const FilePtr file = files_.find(id);
  if (file == nullptr) return false;
  const std::lock_guard lock(file->mutex);
  return file->told_gone;
}

std::vector<wire::NodeInfo> Writes::deferred_in(NodeId parent) const {
  std::vector<wire::NodeInfo> out;
  for (const FilePtr& file : files_.deferred_in(parent)) {
    const std::lock_guard lock(file->mutex);
    if (file->phase != File::Phase::kDeferred) continue;
    if (auto info = deferred_info(*file, mount_.cache())) out.push_back(std::move(*info));
  }
  return out;
}

// A node that this host itself has deleted is an unlinked file to those who have it open, also to those who opened it
// while the deletion was on its way. What somebody else has deleted fails at the commit. The sources of renames in
// progress are left alone: they may go on as the target.
void Writes::on_change(const wire::ChangeEvent& event) {
  if (event.kind != wire::ChangeKind::kDeleted || event.origin_seq == 0) return;
  if (event.origin != mount_.replica().session()) return;
  {
    const std::lock_guard lock(moving_mutex_);
    if (moving_.contains(event.node.id)) return;
  }
  const FilePtr file = files_.find(event.node.id);
  if (file == nullptr) return;
  const std::lock_guard lock(file->mutex);
  if (file->node != file->id || file->phase != File::Phase::kLive) return;
  file->phase = File::Phase::kGone;
  file->drop_at_release = false;
}

Writes::Moving::Moving(Writes& owner, NodeId node) : owner_(owner), node_(node) {
  const std::lock_guard lock(owner_.moving_mutex_);
  owner_.moving_.insert(node_);
}

Writes::Moving::~Moving() {
  const std::lock_guard lock(owner_.moving_mutex_);
  owner_.moving_.erase(owner_.moving_.find(node_));
}

void Writes::on_link(Link state) {
  const SessionId session = mount_.replica().session();
  for (const FilePtr& file : files_.all()) {
    const std::lock_guard lock(file->mutex);
    if (file->session.value == 0) continue;
    switch (state) {
      case Link::kAway:
        break;
      case Link::kSuspect:
        file->fenced = true;
        break;
      case Link::kBack:
      case Link::kNew:
        file->fenced = file->session != session;
        if (!file->fenced) break;
        file->drop_at_release = false;  // it ended with its session
        log::warn("fuse", "fenced node={} reason=session_lost", file->node.value);
        break;
    }
  }
}

void Writes::drain(Millis limit) {
  const Deadline deadline = within(limit);
  for (const FilePtr& file : files_.all()) {
    if (std::chrono::steady_clock::now() < deadline) {
      commit_all(file, CommitWhy::kDrain);  // says why, if it fails
      continue;
    }
    const std::lock_guard lock(file->mutex);
    if (file->latest_writer() != nullptr) {
      log::error("fuse", "uncommitted writes are lost node={} reason=unmount", file->node.value);
    }
  }
}

// --- names that wait to be created ---

void Writes::background() {
  std::unique_lock lock(stop_mutex_);
  while (!stop_changed_.wait_for(lock, kBackgroundTick, [this] { return stop_; })) {
    lock.unlock();
    create_overdue();
    lock.lock();
  }
}

void Writes::create_overdue() {
  const auto now = std::chrono::steady_clock::now();
  for (const FilePtr& file : files_.all_deferred()) {
    {
      const std::lock_guard lock(file->mutex);
      if (file->phase != File::Phase::kDeferred || file->in_flight || now - file->made_at < kDeferredMax) continue;
    }
    if (!mount_.replica().writable()) return;
    create_now(file);
  }
}

}  // namespace coord::fs
