// The write side of the mount (filesystem.md section 4): handles, commits, creation and removal of names, attributes.
// The handlers of WriteSide stand in write_ops.cc, create_ops.cc, name_ops.cc and setattr_ops.cc, the commits in
// commit.cc, the hooks and the background thread in write_side.cc.
//
// Each change that the kernel knows to have succeeded is announced before it is sent (Mount's Announcements), and taken
// back if the caller gets an error after all. Every refusal leaves one log line.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fusefs/kernel/handles.h"
#include "fusefs/kernel/mount.h"
#include "fusefs/names/names.h"

namespace coord::fs {

// A name that exists on this host only is made for all after that time.
inline constexpr Millis kDeferredMax{1000};
inline constexpr Millis kBackgroundTick{100};
inline constexpr int kSymlinkBytesMax = 4095;

enum class CommitWhy : std::uint8_t { kFlush, kFsync, kRelease, kDrain };

class Writes final : public WriteSide {
 public:
  explicit Writes(Mount& mount);
  ~Writes() override;

  void open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) override;
  void read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t off, fuse_file_info* fi) override;
  void write(fuse_req_t req, fuse_ino_t ino, const char* buf, std::size_t size, off_t off, fuse_file_info* fi) override;
  void flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) override;
  void fsync(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) override;
  void release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) override;
  void fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* fi) override;
  void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) override;
  void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) override;
  void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) override;
  void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) override;
  void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) override;
  void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) override;
  void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
              unsigned flags) override;
  void link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) override;
  void setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* fi) override;
  void setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, std::size_t size,
                int flags) override;
  void removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) override;
  void fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) override;

  std::optional<Pending> pending(NodeId node) const override;
  std::optional<wire::NodeInfo> deferred(NodeId parent, std::string_view znode_name) const override;
  std::optional<wire::NodeInfo> deferred(NodeId id) const override;
  bool deferred_is_gone(NodeId id) const override;
  void told_gone(NodeId parent, std::string_view znode_name) override;
  bool was_told_gone(NodeId id) const override;
  std::vector<wire::NodeInfo> deferred_in(NodeId parent) const override;
  void on_change(const wire::ChangeEvent& event) override;
  void on_link(Link state) override;
  void drain(Millis limit) override;

 private:
  // --- common (write_side.cc)
  // One log line and the error reply.
  void refuse(fuse_req_t req, int error, const char* call, Ino ino, std::string_view name, std::string_view why);
  void refuse(fuse_req_t req, int error, const char* call, Ino ino, std::string_view name, Err err);
  // The early refusal: 0, EROFS or ENOSPC. `wait`: for a connection that is away.
  int refuse_early(Millis wait);
  // What a refused replay request is answered, and one that needs no answer of its own. True: answered.
  bool answer_replay(fuse_req_t req, const std::optional<replay::Match>& match);
  std::optional<replay::Match> replay_of(fuse_req_t req, replay::FsCall call, Ino ino, const char* name = "",
                                         Ino new_parent = 0, const char* new_name = "");
  // Gives the memory a record for a node that exists on this host only, or was just made, and keeps it there.
  void pin_record(const wire::NodeInfo& made);
  void background();
  void create_overdue();

  // --- opening (write_ops.cc)
  std::unique_ptr<Handle> new_handle(fuse_req_t req, const fuse_file_info& fi, Credentials who) const;
  // The rest of an open of an inode that exists: permissions, pin, snapshot, file. 0 or an errno.
  // `by_name`: found by its name just now, so the limbo of another name of it does not matter.
  int open_existing(Handle& handle, Ino ino, Deadline deadline, bool by_name);
  int open_once(Handle& handle, Ino ino, Deadline deadline, bool by_name, bool& again);
  bool found_gone(Handle& handle, Mount::Standing standing);
  void begin_truncated(Handle& handle);
  static void set_open_flags(const Handle& handle, fuse_file_info& fi);
  void abandon(std::unique_ptr<Handle> handle);  // an open whose reply the kernel did not want, or that failed
  void close_handle(std::unique_ptr<Handle> handle);
  int repin(Handle& handle, Deadline deadline);
  std::size_t committed_size(const File& file);
  static void note_write(Handle& handle);
  static void begin_again(Handle& handle);
  static bool spoil_save(Handle& handle, std::size_t committed, int error);
  void end_ephemeral(NodeId node, int attempt);

  // --- commits (commit.cc)
  // Publishes what has been written through the handle, and makes a deferred file. 0 or an errno, which then sticks to
  // the handle. Nothing happens if it has been closed meanwhile.
  int commit(const FilePtr& file, Handle* by, CommitWhy why);
  // Likewise for every handle of the inode (drain), or only for those that the program of `tid` has opened and written
  // to: what another program has not closed yet is not its to publish. The first error.
  int commit_all(const FilePtr& file, CommitWhy why);
  static void take_truncations(File& file, Handle& by);
  int commit_own(const FilePtr& file, pid_t tid);
  // Makes a deferred file exist for all, empty; its edits stay uncommitted. 0 or an errno.
  int create_now(const FilePtr& file);
  struct Publication {  // the result of one attempt to publish
    Err err = Err::kOk;
    bool sent = true;
    int error = 0;  // an errno that no Err stands for
    Snapshot data;
    int result() const;
  };
  Publication publish(File& file, const Edits& edits, const Credentials& who, std::optional<std::int32_t> expect,
                      bool announce, Deadline deadline);
  Publication publish_new(File& file, const Edits* edits, Deadline deadline);
  Err adopt(File& file, Deadline deadline, int& error);
  enum class Inspected : std::uint8_t { kHappened, kDidNot, kUnknown };
  Inspected inspect(NodeId node, const std::string& data, std::int32_t sent_version, Deadline deadline, Snapshot& now);
  Err base_data(NodeId node, const Credentials& who, Deadline deadline, NodeData& out);
  int finish_commit(const FilePtr& file, Handle* by, const Publication& result);

  // --- making nodes (create_ops.cc)
  struct Making {
    wire::CreateNodeRequest request;
    View view = View::kData;
    bool announce = true;  // the kernel will raise CREATE for exactly this name
    bool settle = false;   // an unknown outcome must be undone (ephemerals)
  };
  Answer<wire::NodeInfo> make_node(Making making, Deadline deadline);
  // A request as far as the name decides it. 0 or an errno.
  int prepare_making(Ino parent, const char* name, const Credentials& who, Shape shape, mode_t mode, Making& out,
                     Parsed& parsed) const;
  // May `who` create in the directory, as far as this host knows? 0 or an errno.
  int check_parent(Ino parent, const Credentials& who, Deadline deadline);
  // What the name of a create stands for already: an inode to open, or 0. `listed`: a name that others see too.
  Ino existing_for(Ino parent, const char* name, const Parsed& parsed, bool& listed) const;
  void answer_made(fuse_req_t req, const char* call, Ino parent, const char* name, Making making, Deadline deadline,
                   bool keep);
  // False: it has gone in between, and nothing is answered; `handle` is as before.
  bool create_existing(fuse_req_t req, std::unique_ptr<Handle>& handle, Ino ino, bool listed, const char* name,
                       const fuse_file_info& fi, Deadline deadline);
  // False: no node id is at hand, or the place is taken; `handle` and the request are as before.
  bool create_deferred(fuse_req_t req, std::unique_ptr<Handle>& handle, const Making& making, const fuse_file_info& fi);
  // False: somebody else was faster, so now there is something to open; nothing is answered, `handle` is as before.
  bool create_at_once(fuse_req_t req, std::unique_ptr<Handle>& handle, Making making, const Parsed& parsed, Ino parent,
                      const char* name, const fuse_file_info& fi, Deadline deadline);
  void reply_created(fuse_req_t req, std::unique_ptr<Handle> handle, Ino ino, bool keep, fuse_file_info fi);

  // --- names (name_ops.cc)
  // Another host was faster, and the memory knows it already (its change event comes before our answer): the name is to
  // be looked at again.
  bool other_by_now(Err err, Ino parent, const char* name, const Mount::Found& found, Deadline deadline);
  // False: the node had gone from there already, and nothing is answered; the name may stand for another one by now.
  bool remove_node(fuse_req_t req, const char* call, Ino parent, const char* name, const Mount::Found& found,
                   wire::DeleteHalf half, const Credentials& who, Deadline deadline);
  bool unlink_deferred(const FilePtr& file);
  // What unlink, rmdir and rename do for the caller; false as remove_node.
  bool unlink_once(fuse_req_t req, Ino parent, const char* name, const Credentials& who, Deadline deadline);
  bool rmdir_once(fuse_req_t req, Ino parent, const char* name, const Credentials& who, Deadline deadline);
  bool rename_once(fuse_req_t req, Ino parent, const char* name, Ino new_parent, const char* new_name, unsigned flags,
                   const Credentials& who, Deadline deadline);
  // From now on commits of the file go to `node`. No lock held.
  void redirect(File& file, NodeId node);
  void empty_dot_data(fuse_req_t req, NodeId node, Ino parent, const Credentials& who, Deadline deadline);
  int rename_target(Ino new_parent, const char* new_name, View view, bool main, std::string& out) const;
  class Moving {  // a node that a rename of this host is taking away, until its handles are redirected
   public:
    Moving(Writes& owner, NodeId node);
    ~Moving();
    Moving(const Moving&) = delete;
    Moving& operator=(const Moving&) = delete;

   private:
    Writes& owner_;
    NodeId node_;
  };
  // Everything of this host that must be visible to all before the node moves.
  int settle_before_rename(NodeId node, pid_t tid);

  // --- attributes (setattr_ops.cc)
  int truncate_path(Ino ino, std::uint64_t size, const Credentials& who, pid_t tid);
  int truncate_handle(Handle& handle, std::uint64_t size);
  int change_attributes(Ino ino, const struct stat& attr, int to_set, const Credentials& who, pid_t tid);
  void change_unlinked(NodeId id, const struct stat& attr, int to_set);
  int compare_and_set(Ino ino, std::string_view value, const Credentials& who);
  static bool set_expectation(File& file, pid_t tid, std::optional<std::int32_t> version);
  int settle_for_attributes(NodeId id, pid_t tid, bool data_too, bool& just_made);

  Mount& mount_;
  FileTable files_;
  std::atomic<std::uint64_t> failed_commits_{0};
  std::mutex moving_mutex_;  // last in the lock order
  std::multiset<NodeId> moving_;

  std::mutex stop_mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::thread background_;
};

inline Handle& handle_of(const fuse_file_info* fi) { return *reinterpret_cast<Handle*>(fi->fh); }

}  // namespace coord::fs
