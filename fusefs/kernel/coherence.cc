#include "fusefs/kernel/coherence.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/model/posix.h"
#include "fusefs/kernel/mount.h"
#include "fusefs/names/names.h"
#include "fusefs/ops/replay_plan.h"

namespace coord::fs {
namespace {

constexpr std::int32_t kLookupDataMax = 4096;  // data that comes along with a lookup
constexpr std::size_t kForgetBatch = 10'000;   // ids in one Forget

// Set while this thread is inside Replayer::add(), which may call Host::finished() at once: the lock is held then.
thread_local std::vector<replay::Event>* t_finished_in_add = nullptr;

bool takes_name(const replay::Event& event) {
  return event.kind == replay::EventKind::kDelete || event.kind == replay::EventKind::kRename;
}

}  // namespace

CoherenceLock::CoherenceLock() {
  pthread_rwlockattr_t attr;
  pthread_rwlockattr_init(&attr);
  // Readers are short, but many: without this a change event could wait for ever.
  pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_init(&lock_, &attr);
  pthread_rwlockattr_destroy(&attr);
}

Millis left(Deadline deadline) {
  const auto rest = std::chrono::ceil<Millis>(deadline - std::chrono::steady_clock::now());
  return std::max(rest, Millis(1));
}

Coherence::~Coherence() = default;

// --- fetches

bool Coherence::may_ask(Deadline deadline) const {
  if (std::chrono::steady_clock::now() >= deadline) return false;
  return !waited_in_vain_.load(std::memory_order_relaxed) || mount_.client_connected();
}

Err Coherence::asked(Err err) {
  const bool in_vain = err == Err::kOperationTimeout && !mount_.client_connected();
  if (waited_in_vain_.load(std::memory_order_relaxed) != in_vain) waited_in_vain_.store(in_vain);
  return err;
}

Err Coherence::fetch_child(NodeId parent, const std::string& znode_name, const Credentials& who, Deadline deadline) {
  if (!may_ask(deadline)) return Err::kOperationTimeout;
  counters_.misses.fetch_add(1, std::memory_order_relaxed);
  wire::LookupRequest request;
  request.who = who;
  request.parent = parent;
  request.name = znode_name;
  request.hold = true;
  request.data_max = kLookupDataMax;
  NodeHooks hooks;
  hooks.answered = [this, parent](const Answer<wire::NodeInfo>& answer) {
    if (answer.ok()) absorb(answer.value, true);
    if (answer.err == Err::kStaleNode) absorb_gone(parent);
  };
  return asked(mount_.replica().lookup(std::move(request), left(deadline), std::move(hooks)).err);
}

Err Coherence::fetch_node(NodeId node, const Credentials& who, Deadline deadline) {
  if (!may_ask(deadline)) return Err::kOperationTimeout;
  counters_.misses.fetch_add(1, std::memory_order_relaxed);
  wire::LookupRequest request;
  request.who = who;
  request.parent = node;
  request.hold = true;
  request.data_max = kLookupDataMax;
  NodeHooks hooks;
  hooks.answered = [this, node](const Answer<wire::NodeInfo>& answer) {
    if (answer.ok()) absorb(answer.value, true);
    if (answer.err == Err::kStaleNode || answer.err == Err::kNoNode) absorb_gone(node);
  };
  const Err err = asked(mount_.replica().lookup(std::move(request), left(deadline), std::move(hooks)).err);
  return err == Err::kNoNode ? Err::kStaleNode : err;
}

Err Coherence::fetch_directory(NodeId node, const Credentials& who, Deadline deadline) {
  if (!may_ask(deadline)) return Err::kOperationTimeout;
  counters_.misses.fetch_add(1, std::memory_order_relaxed);
  wire::ReadDirRequest request;
  request.who = who;
  request.node = node;
  request.hold = true;
  Hooks<wire::ReadDirReply> hooks;
  hooks.answered = [this, node](const Answer<wire::ReadDirReply>& answer) {
    if (answer.err == Err::kStaleNode) absorb_gone(node);
    if (!answer.ok()) return;
    {
      ExclusiveLock lock(lock_);
      Effects effects;
      mount_.cache().absorb_directory(answer.value, effects);
      perform(effects);
    }
    candidate(node);
    for (const auto& child : answer.value.children) candidate(child.id);
  };
  return asked(mount_.replica().read_dir(std::move(request), left(deadline), std::move(hooks)).err);
}

Err Coherence::fetch_data(NodeId id, const Credentials& who, Deadline deadline, NodeData& out) {
  {
    SharedLock lock(lock_);
    const CachedNode* node = mount_.cache().current(id);
    if (node != nullptr && node->data != nullptr && unix_allows(node->info.acl, who, perm::kRead)) {
      counters_.hits.fetch_add(1, std::memory_order_relaxed);
      out = NodeData{node->info, node->data};
      return Err::kOk;
    }
  }
  if (!may_ask(deadline)) return Err::kOperationTimeout;
  counters_.misses.fetch_add(1, std::memory_order_relaxed);
  wire::ReadNodeRequest request;
  request.who = who;
  request.node = id;
  NodeHooks hooks;
  hooks.answered = [this, id](const Answer<wire::NodeInfo>& answer) {
    if (answer.ok()) absorb(answer.value, false);
    if (answer.err == Err::kStaleNode || answer.err == Err::kNoNode) absorb_gone(id);
  };
  Answer<wire::NodeInfo> answer = mount_.replica().read_node(std::move(request), left(deadline), std::move(hooks));
  asked(answer.err);
  if (!answer.ok()) return answer.err == Err::kNoNode ? Err::kStaleNode : answer.err;
  out.data = std::make_shared<const std::string>(std::move(answer.value.data).value_or(std::string()));
  answer.value.data.reset();
  out.info = std::move(answer.value);
  return Err::kOk;
}

// --- absorbing

void Coherence::absorb(const wire::NodeInfo& info, bool held) {
  {
    ExclusiveLock lock(lock_);
    Effects effects;
    mount_.cache().absorb(info, held, effects);
    perform(effects);
  }
  // If the one who asked has gone by now, nothing else would ever drop it.
  if (held) candidate(info.id);
}

void Coherence::absorb_gone(NodeId node) {
  ExclusiveLock lock(lock_);
  Effects effects;
  mount_.cache().absorb_gone(node, effects);
  perform(effects);
}

void Coherence::lose_name(Ino ino, Ino parent, const std::string& name) {
  ExclusiveLock lock(lock_);
  Effects effects;
  mount_.cache().lose_name(ino, parent, name, effects);
  perform(effects);
}

void Coherence::invalidate_attributes(NodeId node) {
  invalidate({ino_of(node, View::kData), ino_of(node, View::kDir)});
}

void Coherence::invalidate(const std::vector<Ino>& inodes) {
  fuse_session* session = mount_.session();
  if (session == nullptr) return;
  // Attributes only (offset -1): takes no lock in the kernel. An inode that it does not know is no error to us.
  for (const Ino ino : inodes) fuse_lowlevel_notify_inval_inode(session, ino, -1, 0);
}

void Coherence::perform(const Effects& effects) {
  invalidate(effects.attributes);
  for (const LostName& lost : effects.lost) queue(plain_invalidation(lost));
}

void Coherence::queue(replay::Event event) {
  if (takes_name(event)) counters_.limbo.fetch_add(1, std::memory_order_relaxed);
  note_names(event, 1);
  if (!mount_.raise_events_) event.raise = false;
  std::vector<replay::Event> finished;
  t_finished_in_add = &finished;
  mount_.replayer().add(std::move(event));
  t_finished_in_add = nullptr;
  for (const replay::Event& e : finished) finish_locked(e, false);
}

// --- change events

void Coherence::on_change(const wire::ChangeEvent& event) {
  counters_.events.fetch_add(1, std::memory_order_relaxed);
  if (event.more) {
    first_part_.push_back(event);
    return;
  }
  if (event.origin_seq == 0 || event.origin != mount_.replica().session()) mount_.pause_before_event();
  ExclusiveLock lock(lock_);
  for (const wire::ChangeEvent& before : first_part_) take_locked(before);
  first_part_.clear();
  take_locked(event);
}

void Coherence::take_locked(const wire::ChangeEvent& event) {
  const bool from_us = event.origin_seq != 0 && event.origin == mount_.replica().session();
  if (event.kind == wire::ChangeKind::kDropAll) {
    log::warn("fuse", "everything held was dropped by the replica: too much was held nodes={}", mount_.cache().size());
    Effects effects;
    mount_.cache().drop_all(effects);
    perform(effects);
  } else {
    if (event.zxid > last_zxid_.load()) last_zxid_.store(event.zxid);
    apply_locked(event, from_us);
  }
  mount_.writes().on_change(event);
}

void Coherence::apply_locked(const wire::ChangeEvent& event, bool from_us) {
  NodeCache& cache = mount_.cache();
  const NodeId id = event.node.id;
  const auto known_info = [&cache](NodeId node) -> std::optional<wire::NodeInfo> {
    const CachedNode* found = cache.find(node);
    if (found == nullptr || found->info.id == NodeId{} || found->gone()) return std::nullopt;
    return found->info;
  };
  PlanInput in;
  in.event = &event;
  in.before = known_info(id);
  if (const CachedNode* node = cache.find(id)) {
    in.children_dir_open = node->children_dir_open && node->lookups_of(View::kDir) != 0;
  }
  in.parent = known_info(event.node.parent);
  if (in.parent) in.parent_children_before = in.parent->stat.num_children;
  in.by_kernel = [this, &event, from_us](View view) {
    return from_us &&
           mount_.announcements().covers(event.origin_seq, event.kind, event.node.id, view, event.node.name);
  };
  in.knows = [&cache](Ino ino) {
    const CachedNode* node = cache.find(node_of(ino));
    return node != nullptr && node->lookups_of(view_of(ino)) != 0;
  };
  Effects effects;
  cache.apply(event, in.by_kernel, effects);
  in.lost = &effects.lost;
  if (in.parent) in.parent->stat = event.parent_stat;
  invalidate(effects.attributes);
  for (const ShownName& at : raised_by_kernel(in)) {
    if (overtake(at.parent, at.name)) mount_.writes().told_gone(event.node.parent, event.node.name);
  }
  // A rename of ours onto this node: the kernel has raised MOVED_TO for its name.
  if (from_us && event.kind == wire::ChangeKind::kData &&
      mount_.announcements().covers(event.origin_seq, wire::ChangeKind::kRenamed, id, View::kData, event.node.name)) {
    overtake(ino_of(event.node.parent, View::kDir), shown_name(event.node.name));
  }
  if (from_us && event.kind == wire::ChangeKind::kCreated && mount_.writes().was_told_gone(id)) {
    in.by_kernel = [](View) { return false; };
  }
  for (replay::Event& planned : plan_replay(in)) {
    const bool in_limbo = std::any_of(effects.lost.begin(), effects.lost.end(),
                                      [&planned](const LostName& lost) { return lost.ino == planned.ino; });
    if (takes_name(planned) && !in_limbo) {
      cache.keep_for_replay(planned.ino, event.node, event.kind == wire::ChangeKind::kDeleted);
    }
    queue(std::move(planned));
  }
}

void Coherence::note_names(const replay::Event& event, int change) {
  const auto note = [this, change](Ino parent, const std::string& name) {
    const auto it = names_in_replay_.try_emplace(std::pair(parent, name), 0).first;
    it->second += change;
    if (it->second <= 0) names_in_replay_.erase(it);
  };
  if (event.kind != replay::EventKind::kCreate && !takes_name(event)) return;
  note(event.parent, event.name);
  if (event.kind == replay::EventKind::kRename) note(event.new_parent, event.new_name);
}

bool Coherence::name_in_replay(Ino parent, std::string_view name) const {
  return !names_in_replay_.empty() && names_in_replay_.contains(std::pair(parent, std::string(name)));
}

bool Coherence::overtake(Ino parent, const std::string& name) {
  return name_in_replay(parent, name) && mount_.replayer().overtake(parent, name);
}

void Coherence::vanished(NodeId parent, const std::string& znode_name) {
  const ExclusiveLock lock(lock_);
  if (mount_.cache().child(parent, znode_name) != nullptr) return;
  replay::Event event;
  event.kind = replay::EventKind::kDelete;
  event.ino = replay::kNobodysFile;
  event.parent = ino_of(parent, View::kDir);
  event.name = shown_name(znode_name);
  queue(std::move(event));
}

void Coherence::finish_locked(const replay::Event& event, bool raised) {
  note_names(event, -1);
  if (!takes_name(event)) return;
  if (raised) {
    mount_.writes().told_gone(node_of(event.parent), parse_name(event.name, event.parent == kRootIno).znode_name);
  }
  if (event.ino == replay::kNobodysFile) return;
  mount_.cache().name_invalidated(event.ino);
  {
    const std::lock_guard guard(finished_mutex_);
    ++finished_;
  }
  finished_changed_.notify_all();
  // What was asked for in limbo was not kept by the kernel; what comes now is the truth about the inode itself.
  invalidate({event.ino});
  candidate(node_of(event.ino));
}

void Coherence::await_limbo_end(Ino ino, Deadline deadline) {
  for (;;) {
    std::uint64_t seen = 0;
    {
      const SharedLock lock(lock_);
      const CachedNode* node = mount_.cache().find(node_of(ino));
      if (node == nullptr || !node->in_limbo(view_of(ino))) return;
      const std::lock_guard guard(finished_mutex_);
      seen = finished_;
    }
    std::unique_lock guard(finished_mutex_);
    if (!finished_changed_.wait_until(guard, deadline, [&] { return finished_ != seen; })) return;
  }
}

void Coherence::event_finished(const replay::Event& event, bool raised) {
  if (!takes_name(event) && event.kind != replay::EventKind::kCreate) return;
  if (t_finished_in_add != nullptr) {
    t_finished_in_add->push_back(event);
    return;
  }
  ExclusiveLock lock(lock_);
  finish_locked(event, raised);
}

// --- references

void Coherence::forget(Ino ino, std::uint64_t count) {
  bool unused = false;
  {
    SharedLock lock(lock_);
    unused = mount_.cache().forget(ino, count);
  }
  if (unused) candidate(node_of(ino));
}

void Coherence::unpin(NodeId node) {
  bool unused = false;
  {
    SharedLock lock(lock_);
    unused = mount_.cache().unpin(node);
  }
  if (unused) candidate(node);
}

void Coherence::candidate(NodeId node) {
  const std::lock_guard guard(candidates_mutex_);
  candidates_.push_back(node);
}

void Coherence::tick() {
  std::vector<NodeId> candidates;
  {
    const std::lock_guard guard(candidates_mutex_);
    candidates.swap(candidates_);
  }
  std::size_t at = 0;
  while (at < candidates.size()) {
    const std::size_t count = std::min(kForgetBatch, candidates.size() - at);
    const std::vector<NodeId> batch(candidates.begin() + static_cast<std::ptrdiff_t>(at),
                                    candidates.begin() + static_cast<std::ptrdiff_t>(at + count));
    at += count;
    // Dropping and submitting are one step: whoever misses a dropped node afterwards asks behind the Forget.
    ExclusiveLock lock(lock_);
    const std::vector<NodeId> forgotten = mount_.cache().reap(batch);
    if (!forgotten.empty()) forget_now(forgotten, mount_.cache().serial());
  }
}

void Coherence::forget_now(const std::vector<NodeId>& nodes, std::int64_t serial) {
  counters_.forgets.fetch_add(nodes.size(), std::memory_order_relaxed);
  wire::ForgetRequest request;
  request.nodes = nodes;
  std::string body;
  wire::Writer out(body);
  wire::write(out, request);
  client::Submit how;
  how.deadline = Millis(30'000);
  mount_.replica().client().submit(wire::Op::kForget, std::move(body), std::move(how),
                                   [this, nodes, serial](const client::Reply&) {
                                     // Whatever the outcome: an answer that held one of them and was ordered before
                                     // the Forget is not to be relied on.
                                     ExclusiveLock lock(lock_);
                                     Effects effects;
                                     mount_.cache().forgotten(nodes, serial, effects);
                                     perform(effects);
                                   });
}

}  // namespace coord::fs
