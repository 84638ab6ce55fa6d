// The memory of the mount and the kernel's caches, kept together (filesystem.md section 3): the lock, the fetches that
// fill the memory, the change events that update it, the invalidations that follow, limbo, and forgetting.
//
// THE RULE. Reading the memory, until the reply is written to the kernel, happens under the shared lock; changing the
// memory and invalidating the kernel's attributes under the exclusive one. So no older answer can reach the kernel
// after an invalidation. Nobody waits for the replica, for a file or for another process under either; fuse_reply_*()
// is fine under the shared one. The lock prefers writers and is not recursive: never take it twice in one thread.
//
// Lock order: coherence lock -> any mutex of the write side -> mutexes of the link and the replayer's queue.
//
// Handlers look like this:
//   const Deadline deadline = within(kCallDeadline);
//   for (;;) {
//     SharedLock lock(mount.lock());
//     const CachedNode* node = mount.cache().current(id);
//     if (node != nullptr) { ...; mount.pause_before_reply(); fuse_reply_...(); return; }
//     lock.unlock();
//     Err err = mount.coherence().fetch_node(id, who, deadline);   // the answer goes into the memory, then we look
// again
//     if (err != Err::kOk) { fuse_reply_err(req, read_errno(err)); return; }
//   }
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common/client/client.h"
#include "common/wire/extension.h"
#include "fusefs/kernel/replica_link.h"
#include "fusefs/ops/node_cache.h"
#include "fusefs/replay/event.h"

namespace coord::fs {

class Mount;

class CoherenceLock {
 public:
  CoherenceLock();
  ~CoherenceLock() { pthread_rwlock_destroy(&lock_); }
  CoherenceLock(const CoherenceLock&) = delete;
  CoherenceLock& operator=(const CoherenceLock&) = delete;
  void lock() { pthread_rwlock_wrlock(&lock_); }
  void unlock() { pthread_rwlock_unlock(&lock_); }
  void lock_shared() { pthread_rwlock_rdlock(&lock_); }
  void unlock_shared() { pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_;
};

class SharedLock {
 public:
  explicit SharedLock(CoherenceLock& lock) : lock_(lock) { lock_.lock_shared(); }
  ~SharedLock() { unlock(); }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;
  void unlock() {
    if (held_) lock_.unlock_shared();
    held_ = false;
  }

 private:
  CoherenceLock& lock_;
  bool held_ = true;
};

class ExclusiveLock {
 public:
  explicit ExclusiveLock(CoherenceLock& lock) : lock_(lock) { lock_.lock(); }
  ~ExclusiveLock() { unlock(); }
  ExclusiveLock(const ExclusiveLock&) = delete;
  ExclusiveLock& operator=(const ExclusiveLock&) = delete;
  void unlock() {
    if (held_) lock_.unlock();
    held_ = false;
  }

 private:
  CoherenceLock& lock_;
  bool held_ = true;
};

using Deadline = std::chrono::steady_clock::time_point;
inline Deadline within(Millis limit) { return std::chrono::steady_clock::now() + limit; }
// What is left, at least 1 ms, so that a request that is already late still fails as a time-out.
Millis left(Deadline deadline);

// How long a request waits for the end of a limbo before it is answered ESTALE: a replay takes far less, but for a
// directory whose lock is held.
inline constexpr Millis kLimboWait{250};

// Data of a node and the node as it was then, as one consistent answer.
struct NodeData {
  wire::NodeInfo info;  // without data
  std::shared_ptr<const std::string> data;  // never nullptr; empty for null data (info.null_data)
};

class Coherence {
 public:
  explicit Coherence(Mount& mount) : mount_(mount) {}
  ~Coherence();

  CoherenceLock& lock() { return lock_; }

  // --- worker threads, without the lock; each waits at most until `deadline`. Err::kOk: the memory has the answer (or
  // had: look again). kNoNode, kStaleNode (the memory knows it as gone), kNoAuth, kOperationTimeout, ...
  Err fetch_child(NodeId parent, const std::string& znode_name, const Credentials& who, Deadline deadline);
  Err fetch_node(NodeId node, const Credentials& who, Deadline deadline);
  Err fetch_directory(NodeId node, const Credentials& who, Deadline deadline);
  // The data, from the memory if `who` may read it and it is there, else from the replica.
  Err fetch_data(NodeId node, const Credentials& who, Deadline deadline, NodeData& out);

  // --- what answers of mutations say, for the write side: I/O thread, or any thread that holds no lock; takes the
  // exclusive lock, updates the memory, invalidates. To be called in NodeHooks::answered, so in stream order.
  void absorb(const wire::NodeInfo& info, bool held);
  void absorb_gone(NodeId node);
  // The inode has lost this name in the kernel's view and nothing else says so (see NodeCache::lose_name): limbo now,
  // invalidation by the replay threads. Takes the exclusive lock.
  void lose_name(Ino ino, Ino parent, const std::string& name);
  // Invalidates the kernel's attributes of both halves. Any thread, with the shared, the exclusive, or no lock. For
  // changes of what only this host sees (pending sizes).
  void invalidate_attributes(NodeId node);

  // --- references; forget() and unpin() may be called with the shared lock or none, never with the exclusive one.
  void forget(Ino ino, std::uint64_t count);
  void unpin(NodeId node);

  void candidate(NodeId node);  // may not be in use any more; any lock or none

  // --- from the client, on its I/O thread
  void on_change(const wire::ChangeEvent& event);
  // After kReconnected, or kConnected of a later session: compares everything held, then calls `done` (resume.cc).
  void resume(std::function<void()> done);

  // Waits, at most until `deadline`, for the end of the inode's limbo. For requests about an inode that would be
  // answered ESTALE because of it: the kernel asks for the name once more, and only once, so what it does then must not
  // meet the same limbo. Never from a replay helper or under a lock of the kernel that a replay needs (a directory's;
  // an inode's, as in SETATTR); no lock held. See also second_tries.h.
  void await_limbo_end(Ino ino, Deadline deadline);

  // A create, delete or rename of this name waits for its replay: entry replies for it have timeout 0, so that the
  // kernel asks again in the helper's call, and is told what the replay needs. Shared lock held.
  bool name_in_replay(Ino parent, std::string_view name) const;

  // The kernel is about to be told that its caller has changed this name, and raises the event itself: what others did
  // to it before and what still waits for its replay is overtaken. For names that exist on this host only; for all
  // others the change event says it. Shared or exclusive lock held. True: as Replayer::overtake().
  bool overtake(Ino parent, const std::string& name);
  // A name that existed on this host only has gone without the kernel's knowing: its watchers are told, unless another
  // host has made it by now. No lock held.
  void vanished(NodeId parent, const std::string& znode_name);

  // --- from the replayer
  void event_finished(const replay::Event& event, bool raised);

  // Every 50 ms or so from a background thread: sends what was forgotten.
  void tick();

  struct Counters {
    std::atomic<std::uint64_t> hits{0}, misses{0}, events{0}, limbo{0}, forgets{0};
  };
  const Counters& counters() const { return counters_; }
  std::int64_t last_zxid() const { return last_zxid_.load(std::memory_order_relaxed); }  // of change events

 private:
  friend class Resume;  // resume.cc
  // All with the exclusive lock held.
  void perform(const Effects& effects);            // attributes, and the names as plain invalidations
  void invalidate(const std::vector<Ino>& inodes);  // attributes only
  void apply_locked(const wire::ChangeEvent& event, bool from_us);
  void take_locked(const wire::ChangeEvent& event);
  void queue(replay::Event event);
  void finish_locked(const replay::Event& event, bool raised);
  void note_names(const replay::Event& event, int change);

  void forget_now(const std::vector<NodeId>& nodes, std::int64_t serial);
  // Is there any point in asking the replica now? Once a fetch has waited for a connection in vain, the next ones fail
  // at once until there is one: a walk over names that are not known would else take seconds for each of them.
  bool may_ask(Deadline deadline) const;
  Err asked(Err err);

  Mount& mount_;
  CoherenceLock lock_;
  Counters counters_;
  std::atomic<std::int64_t> last_zxid_{0};
  std::vector<wire::ChangeEvent> first_part_;  // of a transaction whose last event has not come yet. I/O thread only
  std::map<std::pair<Ino, std::string>, int, std::less<>> names_in_replay_;  // under lock_
  std::atomic<bool> waited_in_vain_{false};
  std::mutex finished_mutex_;  // last in the lock order
  std::condition_variable finished_changed_;
  std::uint64_t finished_ = 0;  // names that have left limbo
  std::mutex candidates_mutex_;
  std::vector<NodeId> candidates_;  // maybe not in use any more
};

}  // namespace coord::fs
