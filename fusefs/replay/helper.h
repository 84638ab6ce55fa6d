// The replay helper: a single-threaded process that makes, through the mount, the system calls of other hosts' changes,
// so that the kernel raises their inotify events (filesystem.md section 5). It knows nothing of the tree: it gets jobs,
// one at a time, over a SOCK_SEQPACKET socket pair, and answers each with an errno. It keeps no descriptor under the
// mount between jobs and holds no /dev/fuse descriptor, so that it ends when the daemon does: its socket closes, its
// pending call fails because the connection is aborted, and it has PR_SET_PDEATHSIG.
//
// A directory in a job's path can be exchanged for a symlink at any moment, and the helper may be root: so paths are
// resolved with openat2(RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV) from a directory whose device is checked
// to be the mount's, and the last step is relative to that descriptor. It never changes anything outside the mount.
//
// On a read-only mount each job makes a clone of the mount that stands nowhere, and writable (open_tree(2),
// mount_setattr(2); CAP_SYS_ADMIN). It goes with the job: a clone that stayed would keep the file system alive after
// umount(8), and the daemon would not end. A privileged listener of fanotify(7) can keep it so: its event descriptors
// are on the clone, as is everything that it does through them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "fusefs/replay/event.h"

namespace coord::fs::replay {

inline constexpr std::size_t kJobBytesMax = 60'000;  // longer paths have no replay
inline constexpr const char* kHelperFlag = "--replay-helper";

struct Job {
  std::uint64_t id = 0;
  Event event;           // kind, type, executable, name, new_name; the inode numbers are not sent
  std::string path;      // of the directory, relative to the mount's root, "" = the root, no slash at the ends
  std::string new_path;  // kRename: of the new directory
  std::uint64_t device = 0;  // st_dev of the mount
  bool read_only = false;    // the mount is; what lies below it is not: the call goes through a clone of the mount
};

struct JobAnswer {
  std::uint64_t id = 0;
  int error = 0;        // errno of the call that raises the event, 0: success
};

// True: on the read-only mount at `path`, jobs can be done (see above), by a process of these rights. Asks no daemon.
bool can_raise_on_read_only(const std::string& path);

// Bytes and back; the empty string for a job above kJobBytesMax, false for anything that is not a job.
std::string encode_job(const Job& job);
bool decode_job(std::string_view bytes, Job& job);

// The main of the helper process: serves jobs from `fd` until it closes. Returns the exit status. To be called as the
// first thing of main() for the hidden arguments `--replay-helper FD MOUNTPOINT`, before any thread or library is set
// up.
int run_replay_helper(int fd, const char* mountpoint);

// True, with the exit status in `status`, if argv asked for the helper and it has run: main() returns `status` then.
bool replay_helper_main(int argc, char** argv, int& status);

// One helper process, seen from the daemon. Threading: one thread at a time.
class HelperProcess {
 public:
  HelperProcess() = default;
  ~HelperProcess();  // kills it and reaps it if it can be reaped within 100 ms
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;

  // Starts `exe` (normally /proc/self/exe) with --replay-helper. The calling thread must live as long as the helper
  // (PR_SET_PDEATHSIG is about threads). SIGCHLD must not be ignored in this process.
  Result<bool, Fault> start(const std::string& exe, const std::string& mountpoint);

  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }

  // Sends the job and waits for its answer. nullopt: the helper has died, or has not answered within `deadline_ms`;
  // the caller must kill() it.
  std::optional<JobAnswer> run(const Job& job, int deadline_ms);

  // SIGKILL by pid. The process stays a zombie, and its pid is not given to another one, until reap().
  void kill();
  // True if it is dead (a zombie) or was never started. Does not block, does not reap.
  bool dead() const;
  // Ends the zombie; to be called when its pid is no longer trusted by anybody. Only after dead().
  void reap();

 private:
  pid_t pid_ = 0;
  int fd_ = -1;
};

}  // namespace coord::fs::replay
