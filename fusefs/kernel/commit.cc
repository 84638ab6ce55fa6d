// Commits: what was collected in a File becomes one transaction (filesystem.md section 4).
#include <algorithm>
#include <cerrno>

#include "common/base/log.h"
#include "fusefs/kernel/caller.h"
#include "fusefs/kernel/write_side.h"
#include "fusefs/ops/errno_map.h"

namespace coord::fs {
namespace {

bool passed(Deadline deadline) { return std::chrono::steady_clock::now() >= deadline; }

}  // namespace

int Writes::Publication::result() const { return error != 0 ? error : write_errno(err, sent); }

namespace {

bool is_open(const File& file, const Handle* handle) {
  return std::find(file.handles.begin(), file.handles.end(), handle) != file.handles.end();
}

}  // namespace

int Writes::commit(const FilePtr& file, Handle* by, CommitWhy why) {
  const std::size_t committed = committed_size(*file);
  Credentials who;
  std::optional<std::int32_t> expect;
  bool deferred = false;
  bool announce = false;
  bool fenced = false;
  const Deadline deadline = within(kCallDeadline);
  {
    std::unique_lock lock(file->mutex);
    if (!file->idle.wait_until(lock, deadline, [&] { return !file->in_flight; })) return ETIMEDOUT;
    fenced = file->fenced;
    deferred = file->phase == File::Phase::kDeferred;
    if (!is_open(*file, by) || file->phase == File::Phase::kGone) return 0;
    take_truncations(*file, *by);
    if (!deferred && by->edits.empty()) return by->error;
    if (by->touched && !by->wrote && by->edits.replaces_all()) by->overtaken = true;
    by->touched = false;
    by->wrote = false;
    who = by->who;
    file->in_flight = true;
    file->flight = by->edits.take();
    file->flight_of = by;
    file->flight_base = deferred ? 0 : committed;
    expect = std::exchange(by->expect, std::nullopt);
    for (Handle* other : file->handles) {
      if (other->thread_group == by->thread_group) other->expect.reset();  // said once, for the next commit
    }
    // At RELEASE the kernel's CLOSE_WRITE is already out, and whoever read the file because of it has read the old
    // data: let them know again.
    announce = !file->other_name && why != CommitWhy::kRelease;
  }
  Publication result;
  if (fenced) {
    result.error = ESTALE;
  } else if (deferred) {
    result = publish_new(*file, &file->flight, deadline);
    const bool adopted = result.err == Err::kNodeExists && result.error == 0;
    if (adopted) result = publish(*file, file->flight, who, expect, announce, deadline);
  } else {
    result = publish(*file, file->flight, who, expect, announce, deadline);
  }
  return finish_commit(file, by, result);
}

// An O_TRUNC without a write may be published only when its handle is released, which may be after a later save: it
// must not undo that one. So whoever commits first takes it along, below his own edits; should its program write after
// all, that begins anew. The file's mutex is held.
void Writes::take_truncations(File& file, Handle& by) {
  if (by.edits.empty()) return;
  for (Handle* other : file.handles) {
    if (other == &by || !other->touched || other->wrote || !other->edits.replaces_all()) continue;
    by.edits.put_back(other->edits.take());
    other->touched = false;
    other->overtaken = true;
  }
}

int Writes::commit_all(const FilePtr& file, CommitWhy why) {
  std::vector<Handle*> handles;
  {
    const std::lock_guard lock(file->mutex);
    for (Handle* handle : file->handles) {
      if (handle->intent.write) handles.push_back(handle);
    }
  }
  int first = 0;
  for (Handle* handle : handles) {  // one that is closed meanwhile is not followed
    const int error = commit(file, handle, why);
    if (first == 0) first = error;
  }
  return first;
}

int Writes::commit_own(const FilePtr& file, pid_t tid) {
  std::vector<Handle*> written;
  {
    const std::lock_guard lock(file->mutex);
    for (Handle* handle : file->handles) {
      if (handle->touched) written.push_back(handle);
    }
  }
  if (written.empty()) return 0;
  const pid_t group = thread_group_of(tid);
  int first = 0;
  for (Handle* handle : written) {
    bool own = false;
    {
      const std::lock_guard lock(file->mutex);
      own = is_open(*file, handle) && group != 0 && handle->thread_group == group;
    }
    if (!own) continue;
    const int error = commit(file, handle, CommitWhy::kFsync);
    if (first == 0) first = error;
  }
  return first;
}

int Writes::finish_commit(const FilePtr& file, Handle* by, const Publication& result) {
  int error = result.result();
  bool vanished = false;
  wire::NodeInfo made;
  {
    const std::lock_guard lock(file->mutex);
    Edits flight = file->flight.take();
    file->flight_of = nullptr;
    file->in_flight = false;
    const bool open = is_open(*file, by);
    if (error == 0) {
      if (open) {
        const std::lock_guard guard(by->mutex);
        if (by->snapshot.data == nullptr || by->snapshot.mzxid < result.data.mzxid) by->snapshot = result.data;
      }
      if (file->last.data == nullptr || file->last.mzxid < result.data.mzxid) file->last = result.data;
    } else if (file->phase == File::Phase::kGone || (file->unlinking && result.err == Err::kStaleNode)) {
      file->phase = File::Phase::kGone;  // removed by this host meanwhile: an unlinked file, kept for its handles
      if (open) by->edits.put_back(std::move(flight));
      error = 0;
    } else {
      vanished = file->phase == File::Phase::kDeferred;
      if (vanished) file->phase = File::Phase::kGone;
      if (vanished) made = file->made;
      for (Handle* handle : file->handles) {
        if (handle != by && !(vanished && handle->intent.write)) continue;
        // What was written since relies on what is lost now: all of it goes, so that no mixture is ever published.
        handle->error = error;
        handle->edits.take();
        handle->touched = false;
        handle->wrote = false;
      }
    }
  }
  if (vanished) {
    files_.leave_place(*file);
    mount_.coherence().vanished(made.parent, made.name);
  }
  file->idle.notify_all();
  mount_.coherence().invalidate_attributes(file->id);
  if (error != 0) {
    failed_commits_.fetch_add(1, std::memory_order_relaxed);
    log::warn("fuse", "commit failed node={} errno={} why=\"{}\" failed_commits={}", file->node.value, error,
              result.error != 0 ? "see errno" : error_text(result.err), failed_commits_.load());
  }
  return error;
}

// --- existing nodes ---

Err Writes::base_data(NodeId node, const Credentials& who, Deadline deadline, NodeData& out) {
  const Err err = mount_.coherence().fetch_data(node, who, deadline, out);
  if (err != Err::kNoAuth || who.uid == 0) return err;
  // Who may write but not read can still append: the mount reads the base for itself and shows it to nobody.
  return mount_.coherence().fetch_data(node, Credentials{}, deadline, out);
}

Writes::Publication Writes::publish(File& file, const Edits& edits, const Credentials& who,
                                    std::optional<std::int32_t> expect, bool announce, Deadline deadline) {
  NodeId node;
  {
    const std::lock_guard lock(file.mutex);
    node = file.node;
  }
  Publication out;
  for (;;) {
    out = Publication{};
    if (!mount_.replica().writable()) {
      out.err = Err::kOperationTimeout;
      out.sent = false;
      return out;
    }
    {
      const SharedLock lock(mount_.lock());
      const CachedNode* now = mount_.cache().current(node);
      if (now != nullptr && now->info.attributes.shape == Shape::kSymlink) {
        out.error = ESTALE;  // a link has taken its place; what was written is no target of a link
        return out;
      }
    }
    wire::SetNodeDataRequest request;
    request.header.who = who;
    request.node = node;
    request.version = expect.value_or(-1);
    std::shared_ptr<const std::string> data;
    if (edits.replaces_all()) {
      data = std::make_shared<const std::string>(edits.apply({}));
    } else {
      NodeData base;
      out.err = base_data(node, who, deadline, base);
      out.sent = out.err != Err::kOperationTimeout && out.err != Err::kConnectionLoss;
      if (out.err == Err::kOk && expect && base.info.stat.version != *expect) out.err = Err::kBadVersion;
      if (out.err != Err::kOk) return out;
      request.version = base.info.stat.version;
      data = std::make_shared<const std::string>(edits.apply(*base.data));
      const std::lock_guard lock(file.mutex);
      file.flight_base = base.data->size();
    }
    if (data->size() > mount_.data_max()) {
      out.error = EFBIG;
      return out;
    }
    request.data = *data;
    const std::int32_t sent_version = request.version;
    std::int64_t seq = 0;
    NodeHooks hooks;
    hooks.submitted = [&](std::int64_t number) {
      seq = number;
      if (announce) mount_.announcements().add(number, {wire::ChangeKind::kData, node, View::kData, {}});
    };
    hooks.answered = [this, node, data](const Answer<wire::NodeInfo>& answer) {
      if (answer.ok()) {
        wire::NodeInfo info = answer.value;
        if (data->size() <= kCachedDataMax) info.data = *data;
        mount_.coherence().absorb(info, false);
      } else if (answer.err == Err::kStaleNode) {
        mount_.coherence().absorb_gone(node);
      }
    };
    const Answer<wire::NodeInfo> answer =
        mount_.replica().set_data(std::move(request), left(deadline), std::move(hooks));
    if (!answer.ok() && announce) mount_.announcements().retract(seq);
    out.err = answer.err;
    out.sent = answer.sent;
    switch (after_commit(answer.err, answer.sent, expect.has_value(), sent_version >= 0)) {
      case CommitNext::kDone:
        out.data = Snapshot{data, answer.value.stat.mzxid};
        return out;
      case CommitNext::kFail:
        return out;
      case CommitNext::kInspect: {
        const Inspected seen = inspect(node, *data, sent_version, deadline, out.data);
        if (seen == Inspected::kHappened) {
          out.err = Err::kOk;
          return out;
        }
        if (seen == Inspected::kUnknown) {
          out.error = ETIMEDOUT;
          return out;
        }
        break;
      }
      case CommitNext::kRebase:
        break;
    }
    if (passed(deadline)) {
      out.error = ETIMEDOUT;  // others were faster all the time
      return out;
    }
  }
}

Writes::Inspected Writes::inspect(NodeId node, const std::string& data, std::int32_t sent_version, Deadline deadline,
                                  Snapshot& now) {
  wire::ReadNodeRequest request;
  request.node = node;
  const Answer<wire::NodeInfo> answer = mount_.replica().read_node(std::move(request), left(deadline));
  if (!answer.ok() || !answer.value.data) return Inspected::kUnknown;
  const std::int32_t version = answer.value.stat.version;
  if (sent_version >= 0 && version == sent_version) return Inspected::kDidNot;
  const bool ours = *answer.value.data == data && (sent_version < 0 || version == sent_version + 1);
  if (ours) {
    now = Snapshot{std::make_shared<const std::string>(data), answer.value.stat.mzxid};
    return Inspected::kHappened;
  }
  return sent_version < 0 ? Inspected::kDidNot : Inspected::kUnknown;
}

// --- new nodes ---

// kOk: made. kNodeExists without an errno: another host's node was adopted, and the edits are still to be published.
Writes::Publication Writes::publish_new(File& file, const Edits* edits, Deadline deadline) {
  Publication out;
  Making making;
  wire::CreateNodeRequest& request = making.request;
  {
    const std::lock_guard lock(file.mutex);
    request.header.who = file.creator;
    request.parent = file.made.parent;
    request.name = file.made.name;
    request.id = file.id;
    request.attributes = file.made.attributes;
    request.acl = file.made.acl;
  }
  auto data = std::make_shared<const std::string>(edits == nullptr ? std::string() : edits->apply({}));
  request.data = *data;
  request.fill_null = true;
  request.hold = true;
  NodeId node;
  do {
    const Answer<wire::NodeInfo> answer = make_node(making, deadline);
    out = Publication{};
    out.err = answer.err;
    out.sent = answer.sent;
    if (answer.ok()) {
      node = answer.value.id;
      out.data = Snapshot{data, answer.value.stat.mzxid};
    } else if (answer.err == Err::kNodeExists) {
      const Err err = adopt(file, deadline, out.error);
      if (err == Err::kNoNode && !passed(deadline)) continue;  // it has gone again: the name is free
      if (err != Err::kOk) {
        out.err = err;
        if (err == Err::kStaleNode) out.error = ENOENT;  // the parent has gone
      }
      if (err != Err::kOk || out.error != 0) return out;
      const std::lock_guard lock(file.mutex);
      node = file.node;
    } else {
      if (answer.err == Err::kStaleNode || answer.err == Err::kNoNode) out.error = ENOENT;  // the parent has gone
      return out;
    }
    break;
  } while (true);
  files_.leave_place(file);
  const std::lock_guard lock(file.mutex);
  file.node = node;
  if (file.phase == File::Phase::kDeferred) file.phase = File::Phase::kLive;
  file.made = wire::NodeInfo{};
  return out;
}

Err Writes::adopt(File& file, Deadline deadline, int& error) {
  NodeId parent;
  std::string name;
  {
    const std::lock_guard lock(file.mutex);
    parent = file.made.parent;
    name = file.made.name;
  }
  const Err err = mount_.coherence().fetch_child(parent, name, file.creator, deadline);
  if (err != Err::kOk) return err;
  NodeId winner;
  Shape shape = Shape::kFile;
  {
    const SharedLock lock(mount_.lock());
    const CachedNode* node = mount_.cache().child(parent, name);
    if (node == nullptr || !node->current()) return Err::kNoNode;
    winner = node->info.id;
    shape = node->info.attributes.shape;
    // The kernel's CREATE at the open stands for it now: a delete of it must be told, not cancel a create that waits.
    mount_.coherence().overtake(ino_of(parent, View::kDir), shown_name(name));
  }
  if (shape != Shape::kFile) {
    error = shape == Shape::kDir ? EISDIR : ESTALE;  // a link: as in publish()
    return Err::kOk;
  }
  log::info("fuse", "adopted node={} for={} name=\"{}\" reason=created_elsewhere_first", winner.value, file.id.value,
            name);
  redirect(file, winner);
  return Err::kOk;
}

void Writes::redirect(File& file, NodeId node) {
  NodeId drop;
  {
    const SharedLock coherence(mount_.lock());
    const bool known = mount_.cache().find(node) != nullptr;
    if (known) mount_.cache().pin(node);
    const std::lock_guard lock(file.mutex);
    file.node = node;
    // An ephemeral that a rename has put in place of another node has gone; that other one is not this host's to end.
    file.session = SessionId{};
    file.drop_at_release = file.fenced = false;
    // Who closes the last handle takes the pin back: without handles there is none to take.
    drop = known ? node : NodeId{};
    if (!file.handles.empty()) drop = std::exchange(file.pinned, drop);
  }
  if (drop.value != 0) mount_.coherence().unpin(drop);
}

int Writes::create_now(const FilePtr& file) {
  {
    std::unique_lock lock(file->mutex);
    file->idle.wait(lock, [&] { return !file->in_flight; });
    if (file->phase != File::Phase::kDeferred) return 0;
    file->in_flight = true;  // with nothing in flight: the edits stay
    file->flight_base = 0;
  }
  const Publication result = publish_new(*file, nullptr, within(kDirectoryDeadline));
  const bool adopted = result.err == Err::kNodeExists && result.error == 0;
  if (result.result() == 0 || adopted) {
    {
      const std::lock_guard lock(file->mutex);
      file->in_flight = false;
    }
    file->idle.notify_all();
    return 0;
  }
  if (!result.sent) {  // nothing has happened, and the name may still come to be
    {
      const std::lock_guard lock(file->mutex);
      file->in_flight = false;
      file->made_at = std::chrono::steady_clock::now();
    }
    file->idle.notify_all();
    return result.result();
  }
  return finish_commit(file, nullptr, result);
}

}  // namespace coord::fs
