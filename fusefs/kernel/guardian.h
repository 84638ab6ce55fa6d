// The guardian: the parent process of the daemon. It touches nothing below the mount and does nothing but watch, so it
// can always do what is left to do when the daemon hangs: abort the mount's own connection, kill the daemon by pid,
// unmount, start it again (filesystem.md sections 1.9 and 8).
//
//   coordfs (guardian) --posix_spawn--> coordfs --mount-daemon FD ... (daemon) --posix_spawn--> coordfs --replay-helper
//
// They talk over one SOCK_SEQPACKET pair, the daemon writes: a beat every kBeatInterval from a thread of its own; the
// device of its mount; "ready" when the mount answers; or why it could not start. The guardian counts silence in its
// own short slices, so that a host or a cgroup that was frozen is not taken for a hung daemon.
//
// The daemon ends by exit status: kExitUnmounted (somebody unmounted it, or it was told to stop): the guardian ends
// with 0; a failure before its first "ready": the guardian ends with the same status and the message; all else (a
// signal, a crash, any status after "ready"): started again, with a back-off of 100 ms to 5 s that starts over after
// a minute.
//
// SIGTERM and SIGINT to the guardian: SIGTERM to the daemon, which unmounts; after stop_limit the hard way. SIGHUP is
// passed on. If the guardian dies, the daemon gets SIGTERM (PR_SET_PDEATHSIG) and Heartbeat::beat() says so.
// systemd: READY=1 with the first "ready", WATCHDOG=1 with beats, STOPPING=1.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace coord::fs {

inline constexpr int kExitUnmounted = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr std::chrono::milliseconds kBeatInterval{250};
inline constexpr const char* kDaemonFlag = "--mount-daemon";

// The daemon's end.
class Heartbeat {
 public:
  // To be called by main() before any thread, if argv[1] is kDaemonFlag; argv[2] is the descriptor, the user's own
  // arguments follow from argv[3] on. Sets PR_SET_PDEATHSIG; nullopt: not the daemon, or the guardian has gone.
  static std::optional<Heartbeat> adopt(int argc, char** argv);
  explicit Heartbeat(int fd) : fd_(fd) {}
  Heartbeat(Heartbeat&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Heartbeat& operator=(Heartbeat&& other) noexcept;
  ~Heartbeat();

  // Every kBeatInterval, from a thread whose beating proves that the daemon is well (it should look at the workers).
  // From the start of the process on, also while it waits for a replica. Never blocks. False: the guardian has gone;
  // unmount and exit. One thread.
  bool beat();
  // Right after the kernel mount is made: st_dev of it, so that the guardian can abort this very connection.
  void mounted(unsigned major, unsigned minor);
  // The replica has given its first answer and the mount answers.
  void ready();
  // Why the start failed, one line; exit with kExitFailed or kExitUsage afterwards.
  void failed(std::string_view message);
  // A line for the one who called coordfs, on its stderr, before ready.
  void notice(std::string_view message);

 private:
  bool send(char kind, std::string_view text);
  int fd_ = -1;
};

struct GuardianOptions {
  std::string exe = "/proc/self/exe";
  std::vector<std::string> arguments;  // the user's, without argv[0]: handed to the daemon behind kDaemonFlag and FD
  std::string mountpoint;              // canonical
  bool foreground = false;
  bool prepare = true;  // check the mount point and create NOT_MOUNTED (false in tests without a mount)
  std::chrono::milliseconds timeout{3000};      // silence after which the daemon counts as hung
  std::chrono::milliseconds start_limit{60'000};  // until the first beat
  std::chrono::milliseconds stop_limit{10'000};
  std::chrono::milliseconds backoff_min{100};
  std::chrono::milliseconds backoff_max{5000};
};

// Runs until the mount is gone for good; returns the exit status. Without `foreground` it forks: the caller's process
// returns here as soon as the mount answers (0) or has failed (status; the message is on stderr), its child goes on as
// guardian in a session of its own and does not return. To be called before any thread exists.
int run_guardian(const GuardianOptions& options);

// What the guardian decides, apart from the doing. Pure.
class SilenceMeter {
 public:
  SilenceMeter(std::chrono::milliseconds timeout, std::chrono::milliseconds start_limit)
      : timeout_(timeout), start_limit_(start_limit) {}
  void start() { *this = SilenceMeter(timeout_, start_limit_); }
  void heard() {
    heard_ = true;
    silence_ = std::chrono::milliseconds(0);
  }
  // `slice` has passed on the clock since the last call, nothing was heard. A slice counts for at most two
  // kBeatIntervals: a longer one means that the guardian itself was not running.
  void silent(std::chrono::milliseconds slice) { silence_ += std::min(slice, 2 * kBeatInterval); }
  bool hung() const { return silence_ >= (heard_ ? timeout_ : start_limit_); }

 private:
  std::chrono::milliseconds timeout_;
  std::chrono::milliseconds start_limit_;
  std::chrono::milliseconds silence_{0};
  bool heard_ = false;
};

enum class AfterExit : unsigned char { kStop, kRestart };
// `wait_status` as from waitpid(2); `status`: the guardian's own exit status if it stops.
AfterExit after_exit(int wait_status, bool was_ready, bool stopping, int& status);

}  // namespace coord::fs
