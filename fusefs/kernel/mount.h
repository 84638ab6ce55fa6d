// The mounted file system: one object that owns the parts and lets them find each other; the seam between the read side
// (lookup, attributes, directories, coherence) and the write side (handles, commits, creation, removal), and the
// answers both sides give to the kernel.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/client/client.h"
#include "common/wire/extension.h"
#include "fusefs/kernel/coherence.h"
#include "fusefs/kernel/options.h"
#include "fusefs/kernel/replica_link.h"
#include "fusefs/kernel/second_tries.h"
#include "fusefs/ops/node_cache.h"
#include "fusefs/replay/replayer.h"

namespace coord::fs {

// Entries and attributes that only change events can change: the kernel may keep them as long as it likes.
inline constexpr double kLongTimeout = 86'400.0;  // seconds
inline constexpr std::uint32_t kBlockSize = 4096;  // st_blksize; st_blocks counts 512 bytes
inline constexpr std::uint32_t kMaxWrite = 1 << 20;

// Which changes this mount's kernel has made in its own caches, and raised inotify events for, before their change
// events come back (filesystem.md section 5: skip the replay iff the kernel has raised exactly this event on exactly
// this name). The write side adds what a mutation is about to do when the kernel will be told that it succeeded, in
// NodeHooks::submitted; and retracts it when the caller gets an error after all (a time-out), before that reply.
// Threading: any; own mutex, which is the last in the lock order.
class Announcements {
 public:
  struct Item {
    wire::ChangeKind kind = wire::ChangeKind::kData;
    NodeId node;       // as in the event; 0: whichever (a create whose id the replica chooses, a rename's target)
    View view = View::kData;
    std::string name;  // znode name (kCreated: the event must have it; kRenamed: the new one); else ignored
  };
  void add(std::int64_t seq, Item item);  // several per seq are fine
  void retract(std::int64_t seq);
  bool covers(std::int64_t seq, wire::ChangeKind kind, NodeId node, View view, std::string_view name) const;

  static constexpr std::size_t kMax = 16'384;  // the oldest go first; one that is missed costs a needless event only

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::int64_t, std::vector<Item>> items_;
  std::deque<std::int64_t> order_;
};

// What this host has beyond the committed tree for a node: uncommitted edits.
struct Pending {
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;  // ns since 1970; 0: the node's
  std::uint64_t committed = 0;  // the size without them
  // The kernel knows the size that those who write need by itself: one program has emptied the file and written all
  // that is in it, or appends, wherever the kernel believes the end to be.
  bool kernel_knows_size = false;
};

// Changes of the connection, as the write side has to know them.
enum class Link : std::uint8_t {
  kAway,     // no replica: answers come from memory, writes are refused after a while
  kSuspect,  // away for so long that the leader may expire the session soon: ephemeral handles are fenced until kBack
  kBack,     // the same session again, and the memory is current
  kNew,      // the session was lost, another one is there, and the memory is current: ephemeral handles are dead
};

// The write side (handles.cc, write_ops.cc, ...), made by make_write_side(). Handlers run on worker threads without any
// lock and answer their request exactly once, as those of fuse_lowlevel_ops do; replay requests are matched in them.
// As soon as a request on a handle is answered, its RELEASE may run on another thread: nothing that the handle owns may
// be touched after the reply, not even to unlock it (copy a shared pointer first). Hooks say which lock the caller
// holds; they must not take it again, and must not block.
class WriteSide {
 public:
  virtual ~WriteSide() = default;

  // --- FUSE requests
  virtual void open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) = 0;
  virtual void read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t off, fuse_file_info* fi) = 0;
  virtual void write(fuse_req_t req, fuse_ino_t ino, const char* buf, std::size_t size, off_t off,
                     fuse_file_info* fi) = 0;
  virtual void flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) = 0;
  virtual void fsync(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) = 0;
  virtual void release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) = 0;
  virtual void fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* fi) = 0;
  virtual void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) = 0;
  virtual void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) = 0;
  virtual void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) = 0;
  virtual void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) = 0;
  virtual void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) = 0;
  virtual void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) = 0;
  virtual void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
                      unsigned flags) = 0;
  virtual void link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) = 0;
  virtual void setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* fi) = 0;
  virtual void setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, std::size_t size,
                        int flags) = 0;
  virtual void removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) = 0;
  virtual void fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) = 0;

  // --- hooks of the read side
  // Uncommitted edits of the node on this host. [shared or exclusive lock held]
  virtual std::optional<Pending> pending(NodeId node) const = 0;
  // Nodes that exist on this host only (deferred creation), by place, by id, and all of a directory; `id` may also be
  // one that has been given up for another host's node since: then that node's info under the asked id. [shared lock
  // held]
  virtual std::optional<wire::NodeInfo> deferred(NodeId parent, std::string_view znode_name) const = 0;
  virtual std::optional<wire::NodeInfo> deferred(NodeId id) const = 0;
  virtual std::vector<wire::NodeInfo> deferred_in(NodeId parent) const = 0;
  // deferred(id) is of a node that has been unlinked here, or could not be created. [shared lock held]
  virtual bool deferred_is_gone(NodeId id) const = 0;
  // The replay of another's change has told that this name has gone, while a file of it exists on this host only, for
  // which the kernel has raised CREATE before. [exclusive lock held]
  virtual void told_gone(NodeId parent, std::string_view znode_name) = 0;
  // Was it, of this node that has now been created for all? Then CREATE is to be raised once more. [exclusive lock]
  virtual bool was_told_gone(NodeId id) const = 0;
  // The event has been applied to the memory. [I/O thread, exclusive lock held]
  virtual void on_change(const wire::ChangeEvent& event) = 0;
  // [I/O thread or background thread, no lock held]
  virtual void on_link(Link state) = 0;
  // Before the connection to the kernel ends: commit what can be committed within `limit`. [no lock held]
  virtual void drain(Millis limit) = 0;
};

class Mount {
 public:
  Mount();
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  CoherenceLock& lock() { return coherence_.lock(); }
  NodeCache& cache() { return cache_; }
  const NodeCache& cache() const { return cache_; }
  Coherence& coherence() { return coherence_; }
  Announcements& announcements() { return announcements_; }
  SecondTries& second_tries() { return second_tries_; }
  ReplicaLink& replica() { return link_; }
  replay::Replayer& replayer() { return *replayer_; }
  WriteSide& writes() { return *writes_; }
  fuse_session* session() const { return session_; }
  const MountOptions& options() const { return options_; }

  // Who is behind the request (caller.h). Whether the replica believes it is the replica's business.
  Credentials caller(fuse_req_t req) const;
  // The longest data of a node that the replica takes in one request (from its capabilities).
  std::size_t data_max() const { return data_max_; }

  // --- answers, all under the shared lock; the exclusive one is fine too
  // Attributes of an inode for the kernel. False: not known (fetch), in limbo (ESTALE: see standing()).
  struct Shown {  // what to show for one inode
    struct stat attr = {};
    double timeout = kLongTimeout;
  };
  enum class Standing : std::uint8_t {
    kLive,     // current, or deferred on this host
    kUnknown,  // fetch_node(), then again
    kLimbo,    // ESTALE
    kGone,     // deleted: last attributes, nlink 0; its handles go on
  };
  Standing standing(Ino ino) const;
  enum class Uncommitted : std::uint8_t { kShown, kHidden };  // edits of this host: size and mtime
  // For kLive and kGone.
  Shown show(Ino ino, Uncommitted edits = Uncommitted::kShown) const;

  // Entry reply: counts the lookup, shows the inode, answers; takes the lookup back if the kernel does not want the
  // answer any more. `keep`: false gives timeout 0 for the name (create suffixes, uncommitted nodes, replays). The
  // record must exist (NodeCache::ensure for deferred ones).
  // Both return 0, or what fuse_reply_*() said: the kernel did not want the answer (no RELEASE will come for a create).
  int reply_entry(fuse_req_t req, Ino ino, bool keep);
  int reply_create(fuse_req_t req, Ino ino, bool keep, const fuse_file_info& fi);
  void reply_attributes(fuse_req_t req, Ino ino);
  // To a GETATTR of somebody who does not write the file: without uncommitted edits, and so that the kernel shows it to
  // the caller only. Its own size of the inode stays that of the writer, whose lseek uses it. Only if the kernel knows
  // that size: it may not keep an answer to the writer either that is under way at the same time.
  void reply_committed_attributes(fuse_req_t req, Ino ino);
  // Counts an entry that the kernel is about to be given. Shared lock held.
  void count_lookup(Ino ino) const;
  // Somebody is about to remove that directory: see CachedNode::children_dir_open. Shared lock held.
  void children_dir_goes(Ino parent, std::string_view shown) const;
  // The answer to a replay's LOOKUP, MKNOD, MKDIR, SYMLINK (replay::Say::kNode): an entry reply with that inode, dead
  // or alive, timeout 0. Without any lock; may ask the replica, so that the kernel only gets nodes that are held. Also
  // for replay::kNobodysFile and kNobodysDirectory, which have no record, and whose forgetting is ignored.
  void reply_replay_entry(fuse_req_t req, Ino ino);

  // The replica's disk, for statfs: asked for now, the last known when no answer comes within a second.
  wire::CapabilitiesReply disk();

  // False when the replica has been away for longer than -o stale=fail:SECONDS allows: answer ETIMEDOUT.
  bool reads_allowed() const { return reads_allowed_.load(std::memory_order_relaxed); }

  // COORDFS_TEST_DELAY_REPLY_MS: sleeps between reading the memory and writing the reply, for the race test.
  void pause_before_reply() const;
  // COORDFS_TEST_DELAY_STEP_MS: sleeps without a lock between the steps of a call, where another call may run.
  void pause_between_steps() const;
  // COORDFS_TEST_DELAY_EVENT_MS: sleeps before another session's change is taken in, without a lock: a mount that lags.
  void pause_before_event() const;

  // --- names
  // The child of directory `parent` by the spelling `shown`: which node and which half. Under the shared lock.
  struct Found {
    enum class Kind : std::uint8_t {
      kFound,     // `ino`; its standing may still be anything
      kAbsent,    // certainly ENOENT (or not a name that can exist: .znode, create suffixes, invalid ones)
      kAsk,       // not known here: fetch_child(parent node, znode_name), or fetch_directory if `whole_directory`
    } kind = Kind::kAbsent;
    Ino ino = 0;
    NodeId parent_node;      // the znode whose child it is (of `.data`: the directory's own node)
    std::string znode_name;  // empty for `.data`
    bool dot_data = false;
    bool whole_directory = false;
    bool deferred = false;   // exists on this host only
  };
  Found find(Ino parent, std::string_view shown) const;
  // find() with fetches: waits until `deadline`, without the lock. 0 and `found` (kFound or kAbsent), or an errno
  // (ESTALE when the parent is in limbo or gone). The answer may be out of date again when it is used: check under the
  // lock.
  int resolve(Ino parent, std::string_view shown, const Credentials& who, Deadline deadline, Found& found);
  // Fetches what a kAsk needs. 0: look again; ENOENT: certainly absent; else the errno to answer. No lock held.
  int ask(const Found& found, const Credentials& who, Deadline deadline);

  // Requests in progress that hold the lock of a directory in the kernel (Host::directory_busy). The table of
  // session.cc counts lookup, create, mknod, mkdir, symlink, unlink, rmdir, rename by itself.
  void directory_enter(Ino directory);
  void directory_leave(Ino directory);
  bool directory_busy(Ino directory) const;

 private:
  friend class MountRunner;
  bool client_connected() const;
  friend class Coherence;

  MountOptions options_;
  NodeCache cache_;
  ReplicaLink link_;
  Coherence coherence_{*this};
  Announcements announcements_;
  SecondTries second_tries_;
  std::unique_ptr<replay::Replayer> replayer_;
  std::unique_ptr<WriteSide> writes_;
  fuse_session* session_ = nullptr;
  int delay_reply_ms_ = 0;
  int delay_step_ms_ = 0;
  int delay_event_ms_ = 0;
  std::atomic<bool> reads_allowed_{true};
  std::atomic<bool> raise_events_{true};  // false: nothing can be written at all, so a helper could not make the calls
  std::atomic<std::size_t> data_max_{static_cast<std::size_t>(wire::kFrameSizeMax) - 4096};
  std::mutex disk_mutex_;
  wire::CapabilitiesReply disk_;  // the last answer
  mutable std::mutex busy_mutex_;
  std::unordered_map<Ino, int> busy_;
};

// Made by the write side's folder part (kernel/write_side.cc).
std::unique_ptr<WriteSide> make_write_side(Mount& mount);

// Directory locks of one handler, for Host::directory_busy.
class DirectoryUse {
 public:
  DirectoryUse(Mount& mount, Ino directory) : mount_(mount), directory_(directory) {
    mount_.directory_enter(directory_);
  }
  ~DirectoryUse() { mount_.directory_leave(directory_); }
  DirectoryUse(const DirectoryUse&) = delete;
  DirectoryUse& operator=(const DirectoryUse&) = delete;

 private:
  Mount& mount_;
  Ino directory_;
};

}  // namespace coord::fs
