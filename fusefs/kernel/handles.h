// Open files of this host: one Handle for each open file description, and one File for each inode that is open for
// writing, that exists on this host only so far, or that is an ephemeral of this mount. What is written is collected in
// the Handle and published by a commit only (filesystem.md section 4; commit.cc).
//
// Each handle has its own edits, as if it were a host of its own. Edits shared by all handles of an inode would let the
// close of one program publish the half-written save of another, or use up its O_TRUNC, and readers would see a mixture
// (promise 3). Commits of one inode go one after the other, each applied to what is there then.
//
// Lock order: coherence lock -> FileTable -> File::mutex -> Handle::mutex. None of them is held across a request to the
// replica, and the coherence lock is never taken under any of them.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/wire/extension.h"
#include "fusefs/ops/edits.h"
#include "fusefs/ops/inode.h"
#include "fusefs/ops/write_rules.h"

namespace coord::fs {

struct File;

// A version of the data. `mzxid` names it: every change of the data has its own.
struct Snapshot {
  std::shared_ptr<const std::string> data;  // nullptr: none yet
  std::int64_t mzxid = -1;
};

// One open file description; its address is fuse_file_info::fh. It lives from the reply to open or create to RELEASE,
// which the kernel sends after all other requests of the handle are answered.
struct Handle {
  explicit Handle(std::size_t size_max) : edits(size_max) {}

  Ino ino = 0;
  NodeId id;      // of the inode
  NodeId pinned;  // NodeCache::pin; 0: none
  OpenIntent intent;
  Credentials who;
  pid_t tid = 0;            // of the opener
  pid_t thread_group = 0;   // of the opener; 0: not known, so counts as gone
  bool replay = false;      // opened by the replay helper: without effect
  std::shared_ptr<File> file;  // nullptr for most read-only handles

  std::mutex mutex;
  Snapshot snapshot;  // what reads return; guarded by mutex
  std::atomic<bool> has_read = false;  // else the snapshot is of the open, and the first read takes the current one

  // Guarded by file->mutex.
  Edits edits;                // since the last commit of this handle began
  std::int64_t mtime_ns = 0;  // of the last write that is not committed, ns since 1970
  bool touched = false;  // O_TRUNC or a write since the last commit
  bool wrote = false;    // a write since the last commit
  bool overtaken = false;  // its O_TRUNC has been published alone: what it writes later replaces everything again
  bool begun_again = false;  // it did so, and the kernel has not seen the file become empty
  std::optional<std::int32_t> expect;  // user.coord.expect, for the next commit of its program
  int error = 0;         // a commit failed: sticky
};

struct File {
  enum class Phase : std::uint8_t {
    kLive,      // the node exists as far as we know
    kDeferred,  // on this host only: `made` is what is to be created
    kGone,      // unlinked here, or it could not be created: writes go nowhere
  };

  File(NodeId file_id, std::size_t size_max) : id(file_id), flight(size_max), node(file_id) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const NodeId id;  // what the kernel knows the inode by

  mutable std::mutex mutex;
  std::condition_variable idle;  // in_flight became false
  Edits flight;                  // of the commit in progress
  const Handle* flight_of = nullptr;  // whose they are; compared, never followed
  std::size_t flight_base = 0;   // size of the data that `flight` is applied to
  bool in_flight = false;
  NodeId node;  // where commits go: `id`, or the node of another host that took the name first, or a rename's target
  NodeId pinned;  // NodeCache::pin of a `node` that is not `id`: its attributes are what fstat shows; 0: none
  Phase phase = Phase::kLive;
  Snapshot last;  // what this host has published last: for who has it open when it goes
  wire::NodeInfo made;  // kDeferred, and what became kGone from it
  Credentials creator;
  std::chrono::steady_clock::time_point made_at;
  bool told_gone = false;   // kDeferred: since then watchers were told that its name has gone (WriteSide::told_gone)
  bool other_name = false;  // opened by a create suffix: the kernel's events do not bear the true name
  bool unlinking = false;   // an unlink of this host is on its way
  SessionId session;        // of an ephemeral of this mount; 0 for others
  bool fenced = false;      // the session is lost, or in doubt: ESTALE
  bool drop_at_release = true;  // an ephemeral still has to be deleted
  std::vector<Handle*> handles;

  // Has this handle anything that is not published? `mutex` held.
  bool pending(const Handle& handle) const { return !handle.edits.empty() || flight_of == &handle; }
  // Who has written last and not published it yet; nullptr: nobody. `mutex` held.
  const Handle* latest_writer() const;
};
using FilePtr = std::shared_ptr<File>;

class FileTable {
 public:
  explicit FileTable(std::function<std::size_t()> size_max) : size_max_(std::move(size_max)) {}

  FilePtr find(NodeId id) const;
  // The file of `id`, made if there is none, with `handle` among its handles.
  FilePtr attach(NodeId id, Handle& handle);
  // As attach, only if there is one.
  FilePtr attach_existing(NodeId id, Handle& handle);
  // A new file that exists here only. nullptr if the place is taken by another one.
  FilePtr add_deferred(wire::NodeInfo made, Credentials creator, Handle& handle);
  // The handle is gone; the file goes with its last handle. True: that was it.
  bool detach(Handle& handle);
  // The name is free again, or no longer this host's alone. The caller changes the phase.
  void leave_place(const File& file);

  FilePtr deferred(NodeId parent, std::string_view name) const;
  std::vector<FilePtr> deferred_in(NodeId parent) const;
  std::vector<FilePtr> all_deferred() const;
  std::vector<FilePtr> all() const;

 private:
  using Places = std::map<std::pair<std::uint64_t, std::string>, FilePtr>;

  std::function<std::size_t()> size_max_;
  mutable std::mutex mutex_;
  std::unordered_map<NodeId, FilePtr> files_;
  Places places_;  // deferred ones, by parent and znode name
};

}  // namespace coord::fs
