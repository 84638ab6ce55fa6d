// Replay of remote changes, in the daemon: queue, worker threads, helper processes, and the recognition of the helpers'
// requests. A shell around queue.h, match.h and helper.h.
//
// Per event, in the order of its directory, on a worker thread:
//   1. Host::invalidate_entry for its name (create, delete) or both names (rename): the old name leaves limbo;
//   2. if the event is to be raised: the job goes to the worker's own helper, whose system calls come back as FUSE
//      requests and are recognised by match(); on EEXIST or a refused call again from 1, with fresh paths;
//   3. Host::finished.
// Events of names that this host has changed since are not raised, or what is left of them (event.h); of a rename from
// or to a directory without a path here, what the other one sees of it.
// A worker may hang in 1 for as long as somebody holds the directory's lock: so there are several, each with its own
// helper, and Host::directory_busy lets them leave such a directory for later.
//
// A helper that dies is started again (back-off 10 ms to 1 s), and its event is tried again if it was not out yet. One
// that does not answer within the deadline is killed. A helper's pid is believed until the process is dead and is
// forgotten before it is reaped, because pids are used again; requests of a dying helper are refused.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "fusefs/replay/event.h"
#include "fusefs/replay/match.h"

namespace coord::fs::replay {

// What the mount does for the replayer. Called from worker threads, without any lock of the replayer held, except
// finished(), which add() calls too (see there).
class Host {
 public:
  virtual ~Host() = default;

  // fuse_lowlevel_notify_inval_entry: may block on the directory's lock. Errors (name not cached) do not matter.
  virtual void invalidate_entry(std::uint64_t parent, const std::string& name) = 0;

  // True while a request that holds the directory's lock (lookup, create, mkdir, unlink, rename, ... in it) is being
  // answered. Must not block. Wrong answers cost time only. Called with the queue's lock held: call nothing back.
  virtual bool directory_busy(std::uint64_t directory) = 0;

  // The path of a directory now, in spellings, relative to the mount's root: "" or "a/b@/c". nullopt: it has none here,
  // so nobody watches it: it is gone, or not in the part of the tree that is mounted, or was never looked at.
  virtual std::optional<std::string> directory_path(std::uint64_t directory) = 0;

  // Where the node of a data or attribute event is now. Comes with the event's own place, which stays if nothing newer
  // is known. False: gone, or no longer shown.
  virtual bool place_of(std::uint64_t ino, std::uint64_t& parent, std::string& name) = 0;

  // The event has left: raised, or not (coalesced, dropped, no longer applies). Its names are invalidated if it was a
  // delete or rename. Until here a kDelete's node must be answerable to match(). Exactly once per event. Must not
  // block; may be called from within add(), on its thread.
  virtual void finished(const Event& event, bool raised) = 0;
};

struct ReplayOptions {
  std::string exe = "/proc/self/exe";
  std::string mountpoint;  // absolute; the path that the helpers use
  bool read_only = false;  // the mount is: helpers make their calls through clones of it (helper.h)
  int workers = 3;         // 1..kWorkersMax
  std::chrono::milliseconds deadline{10'000};  // of one job; above the 2 s that any call may hold a directory's lock
};
inline constexpr int kWorkersMax = 8;

struct ReplayCounters {
  std::uint64_t raised = 0;     // events raised
  std::uint64_t coalesced = 0;  // not needed
  std::uint64_t dropped = 0;    // lost to overflow
  std::uint64_t given_up = 0;   // no longer applied, or failed too often
  std::uint64_t respawned = 0;  // helpers started again
  std::size_t waiting = 0;
};

class Replayer {
 public:
  // Starts the helper processes. To be called in the daemon's main thread, before the mount exists. `host` must outlive
  // the replayer.
  static Result<std::unique_ptr<Replayer>, Fault> start(ReplayOptions options, Host& host);
  // stop().
  ~Replayer();

  // After the mount exists: `device` is its st_dev; starts the worker threads. Events added before wait.
  void run(std::uint64_t device);

  // No further events; ends workers and helpers. To be called while requests are still being answered, or after the
  // connection is gone, so that no worker hangs in a lock. Waits at most `limit` and leaves what hangs (true: all
  // ended).
  bool stop(std::chrono::milliseconds limit = std::chrono::milliseconds(2000));

  // Any thread, in the order of the transactions. Does not block. See Host::finished.
  void add(Event event);

  // The kernel is about to raise, or has raised, a newer event of this name itself; its caller holds the lock of the
  // directory until then (but for what exists on this host only: Coherence). Any thread, before the kernel has its
  // answer, and after add() of what is older. Looks at every waiting event of the directory.
  // True: an event that is being raised now tells, or has told, that the name has gone; if the caller does not hold the
  // lock of the directory, that may come after what it had the kernel raise.
  bool overtake(std::uint64_t parent, std::string_view name);

  // To be called at the start of each handler of a request in FsCall, with fuse_req_ctx()->pid. nullopt: not a replay,
  // go on as usual. Any thread; costs a few loads when `tid` is not a helper's. tid 0 never matches.
  std::optional<Match> match(pid_t tid, FsCall call, std::uint64_t parent_or_node, std::string_view name = {},
                             std::uint64_t new_parent = 0, std::string_view new_name = {}) {
    if (tid <= 0 || !is_helper(tid)) return std::nullopt;
    return match_helper(tid, call, parent_or_node, name, new_parent, new_name);
  }

  // True for a process that must not count as a user of the mount.
  bool is_helper(pid_t tid) const {
    for (const auto& pid : pids_->slots) {
      if (pid.load(std::memory_order_acquire) == tid) return tid > 0;
    }
    return false;
  }

  ReplayCounters counters() const;
  // Waits until no event waits or is being replayed (tests, unmount). False after `limit`.
  bool wait_idle(std::chrono::milliseconds limit) const;

 private:
  struct Pids {
    std::atomic<pid_t> slots[2 * kWorkersMax] = {};  // living and dying helpers; 0 = free
  };
  struct State;
  class Worker;
  Replayer(std::shared_ptr<Pids> pids, std::shared_ptr<State> state);
  std::optional<Match> match_helper(pid_t tid, FsCall call, std::uint64_t node, std::string_view name,
                                    std::uint64_t new_parent, std::string_view new_name);

  std::shared_ptr<Pids> pids_;  // both shared with workers, which stop() may have to leave behind
  std::shared_ptr<State> state_;
};

}  // namespace coord::fs::replay
