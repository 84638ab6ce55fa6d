#include "fusefs/kernel/guardian.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "common/base/fd.h"
#include "common/base/number.h"
#include "fusefs/kernel/mountpoint.h"

extern char** environ;

namespace coord::fs {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr int kDaemonFd = 3;
constexpr int kSafeFd = 10;  // our own descriptors are above those that the daemon gets
constexpr milliseconds kKillLimit{5000};
constexpr milliseconds kSteadyAfter{60'000};  // a daemon that lived so long starts over with the shortest back-off

milliseconds since(Clock::time_point then) { return std::chrono::duration_cast<milliseconds>(Clock::now() - then); }

// The same open file under a number from kSafeFd on; closes the given one.
Fd lifted(int fd) {
  const Fd low(fd);
  return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, kSafeFd));
}

class Guardian {
 public:
  Guardian(const GuardianOptions& options, int status_fd)
      : options_(options), meter_(options.timeout, options.start_limit), status_fd_(status_fd) {}

  int run();

 private:
  bool set_up_signals();
  bool spawn();
  void attend();  // until the daemon has ended
  void look(milliseconds slice);
  void read_signals();
  void read_messages();
  void read_stderr();
  void message(char kind, const std::string& text);
  void reap();
  void ask_to_stop();
  void end_hung_daemon(const std::string& why);
  bool abort_mount();
  void drop_hung_mount();
  bool back_off();
  bool prepare();
  bool live_once();  // starts the daemon and attends it; false: cannot be started, now or ever
  int finish(int status);
  void report(int status);
  void say(int priority, const std::string& text);

  const GuardianOptions& options_;
  SilenceMeter meter_;
  Fd status_fd_;  // to the caller's process, until it has its answer
  Fd signals_, socket_, stderr_;

  pid_t daemon_ = 0;  // 0: has ended
  int wait_status_ = 0;
  bool ready_ = false;       // this daemon
  bool ever_ready_ = false;  // any
  bool stopping_ = false;
  bool detached_ = false;  // nobody reads our stderr any more
  Clock::time_point stop_at_{};
  Clock::time_point looked_at_{};
  std::optional<unsigned> minor_;  // of this daemon's mount
  std::optional<unsigned> found_;  // of the dead mount that it found
  milliseconds backoff_{0};
  std::string stderr_line_;
};

void Guardian::say(int priority, const std::string& text) {
  if (detached_) {
    ::syslog(priority, "%s: %s", options_.mountpoint.c_str(), text.c_str());
  } else {
    std::fprintf(stderr, "coordfs: %s\n", text.c_str());
  }
}

// The caller's process ends with `status`; from here on this one is on its own.
void Guardian::report(int status) {
  if (status_fd_.get() < 0) return;
  const auto byte = static_cast<unsigned char>(status);
  if (::write(status_fd_.get(), &byte, 1) != 1) status_fd_.reset();  // the caller has gone: nobody to tell
  status_fd_.reset();
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd < 3; ++fd) ::dup2(null.get(), fd);
  detached_ = true;
}

bool Guardian::set_up_signals() {
  sigset_t mask;
  ::sigemptyset(&mask);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::sigaddset(&mask, signal);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  ::signal(SIGCHLD, SIG_DFL);  // an ignored SIGCHLD, inherited, would hide how the daemon ended
  ::signal(SIGPIPE, SIG_IGN);
  signals_ = lifted(::signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC));
  return signals_.get() >= 0;
}

bool Guardian::spawn() {
  int pair[2], pipe_ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return false;
  socket_ = lifted(pair[0]);
  const Fd theirs = lifted(pair[1]);
  Fd their_stderr;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (!options_.foreground) {
    // A daemon that held the caller's stderr would make `$(mount ...)` wait for ever. A full pipe loses lines, it does
    // not stop the daemon.
    if (::pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC) != 0) return false;
    stderr_ = lifted(pipe_ends[0]);
    their_stderr = lifted(pipe_ends[1]);
    ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, their_stderr.get(), 2);
  }
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), kDaemonFd);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, kDaemonFd + 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);  // a terminal's Ctrl-C is ours to pass on
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<std::string> texts = {"coordfs", kDaemonFlag, std::to_string(kDaemonFd)};
  texts.insert(texts.end(), options_.arguments.begin(), options_.arguments.end());
  std::vector<char*> argv;
  for (std::string& text : texts) argv.push_back(text.data());
  argv.push_back(nullptr);
  const int error = ::posix_spawn(&daemon_, options_.exe.c_str(), &actions, &attributes, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    daemon_ = 0;
    errno = error;
    return false;
  }
  ready_ = false;
  minor_.reset();
  meter_.start();
  looked_at_ = Clock::now();
  return true;
}

void Guardian::message(char kind, const std::string& text) {
  switch (kind) {
    case 'M': {
      const std::size_t colon = text.find(':');
      if (colon == std::string::npos) break;
      if (const auto minor = parse_number<unsigned>(std::string_view(text).substr(colon + 1))) minor_ = *minor;
      break;
    }
    case 'R':
      ready_ = true;
      if (!ever_ready_) ::sd_notify(0, "READY=1");
      ever_ready_ = true;
      report(0);
      break;
    case 'F':
      say(LOG_ERR, text);
      break;
    case 'N':
      say(LOG_NOTICE, text);
      break;
    default:  // 'B'
      if (ready_ && !stopping_) ::sd_notify(0, "WATCHDOG=1");
      break;
  }
}

void Guardian::read_messages() {
  char buffer[4096];
  while (socket_.get() >= 0) {
    const ssize_t n = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      socket_.reset();  // the daemon is ending; SIGCHLD follows, or silence
      return;
    }
    meter_.heard();
    message(buffer[0], std::string(buffer + 1, static_cast<std::size_t>(n - 1)));
  }
}

// What the detached daemon writes to its stderr: to the caller while it waits, later to syslog, line by line.
void Guardian::read_stderr() {
  char buffer[4096];
  while (stderr_.get() >= 0) {
    const ssize_t n = ::read(stderr_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      stderr_.reset();
      return;
    }
    stderr_line_.append(buffer, static_cast<std::size_t>(n));
    for (std::size_t end = 0; (end = stderr_line_.find('\n')) != std::string::npos; stderr_line_.erase(0, end + 1)) {
      say(LOG_INFO, stderr_line_.substr(0, end));
    }
    if (stderr_line_.size() > sizeof buffer) stderr_line_.clear();  // not lines
  }
}

void Guardian::reap() {
  int status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
    if (pid != daemon_) continue;
    daemon_ = 0;
    wait_status_ = status;
  }
}

void Guardian::ask_to_stop() {
  if (!stopping_) {
    ::sd_notify(0, "STOPPING=1");
    stop_at_ = Clock::now() + options_.stop_limit;
  }
  stopping_ = true;
  if (daemon_ > 0) ::kill(daemon_, SIGTERM);
}

void Guardian::read_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) ask_to_stop();
    if (info.ssi_signo == SIGHUP && daemon_ > 0) ::kill(daemon_, SIGHUP);
    if (info.ssi_signo == SIGCHLD) reap();
  }
}

// Waits at most `slice` for anything to happen, and deals with it.
void Guardian::look(milliseconds slice) {
  pollfd fds[3] = {{signals_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}, {stderr_.get(), POLLIN, 0}};
  ::poll(fds, 3, static_cast<int>(slice.count()));
  const milliseconds passed = since(looked_at_);
  looked_at_ = Clock::now();
  meter_.silent(passed);
  read_messages();  // what came while we were not running counts
  read_stderr();
  read_signals();
}

void Guardian::attend() {
  while (daemon_ > 0) {
    look(kBeatInterval);
    if (daemon_ > 0 && meter_.hung()) {
      end_hung_daemon(ready_ ? "the daemon's heartbeat has stopped; aborting its connection"
                             : "the daemon hangs while it starts; ending it");
    }
    if (daemon_ > 0 && stopping_ && Clock::now() >= stop_at_) end_hung_daemon("the daemon does not stop; ending it");
  }
  read_messages();  // its last words
  read_stderr();
  socket_.reset();
  stderr_.reset();
}

void Guardian::end_hung_daemon(const std::string& why) {
  say(LOG_ERR, why);
  abort_mount();  // first of all: no process may wait for it any longer
  ::kill(daemon_, SIGKILL);
  const auto end = Clock::now() + kKillLimit;
  while (daemon_ > 0 && Clock::now() < end) look(milliseconds(50));
  if (daemon_ > 0) {
    say(LOG_ERR, "daemon pid=" + std::to_string(daemon_) + " does not end even by SIGKILL; leaving it behind");
    daemon_ = 0;
    drop_hung_mount();
  }
  wait_status_ = SIGKILL;  // whatever it managed to say in the end
}

// Aborts the connection of the daemon's mount, whoever holds it. The dead mount stays where it is: its users get
// ENOTCONN, and nobody writes into the directory below until the next daemon has put its own mount in its place. False:
// the daemon has no mount there any more.
bool Guardian::abort_mount() {
  const auto entry = mount_at(options_.mountpoint);
  if (!entry || entry->type != kMountType) return false;
  // Not told: what was there before the daemon is a dead predecessor, anything else the daemon has mounted itself.
  if (!minor_ && options_.prepare && entry->minor != found_) minor_ = entry->minor;
  if (!minor_ || entry->minor != *minor_) return false;
  // This may fail: a dead connection is gone from fusectl, a plain user may have none. Then the daemon's end ends it.
  (void)abort_connection(*minor_);
  return true;
}

// The mount of a daemon that could not be ended and whose connection could not be aborted would hang its users for
// ever: rather no mount.
void Guardian::drop_hung_mount() {
  if (mount_state(options_.mountpoint, milliseconds(500)) != MountState::kHung || !minor_) return;
  if (auto gone = unmount_lazily(options_.mountpoint, minor_); !gone) say(LOG_ERR, gone.error().message);
}

// False: told to stop meanwhile.
bool Guardian::back_off() {
  backoff_ = std::clamp(backoff_ * 2, options_.backoff_min, options_.backoff_max);
  say(LOG_WARNING, "starting the daemon again in " + std::to_string(backoff_.count()) + " ms");
  const auto end = Clock::now() + backoff_;
  looked_at_ = Clock::now();
  while (!stopping_ && Clock::now() < end) look(std::min(kBeatInterval, std::max(milliseconds(1), -since(end))));
  return !stopping_;
}

// Only the first start refuses. Later the mount comes back, whatever has happened to its mount point meanwhile.
bool Guardian::prepare() {
  if (!options_.prepare) return true;
  const auto there = mount_at(options_.mountpoint);
  found_ = there ? std::optional(there->minor) : std::nullopt;
  if (ever_ready_ && there)
    return true;  // not the directory itself; the daemon says what is wrong with it, if anything
  if (auto ok = ever_ready_ ? check_directory(options_.mountpoint) : prepare_mountpoint(options_.mountpoint); !ok) {
    say(ever_ready_ ? LOG_WARNING : LOG_ERR, ok.error().message + (ever_ready_ ? "; mounting over it" : ""));
    if (!ever_ready_) return false;
  }
  if (there) return true;
  if (auto placed = place_not_mounted_file(options_.mountpoint); !placed) say(LOG_WARNING, placed.error().message);
  return true;
}

// The end. A dead mount that covers the directory goes, too. Only a predecessor's stays if ours never came: whoever
// tries again finds what we found.
int Guardian::finish(int status) {
  if (options_.prepare && (ever_ready_ || stopping_ || !found_)) {
    if (auto cleared = clear_dead_mounts(options_.mountpoint); !cleared) say(LOG_ERR, cleared.error().message);
    if (ever_ready_ && !mount_at(options_.mountpoint)) (void)place_not_mounted_file(options_.mountpoint);
  }
  report(ever_ready_ ? status : std::max(status, kExitFailed));
  return status;
}

bool Guardian::live_once() {
  if (!spawn()) {
    say(LOG_ERR, "cannot start the daemon: " + std::string(std::strerror(errno)));
    wait_status_ = SIGKILL;
    return ever_ready_;
  }
  attend();
  // A daemon that ended well but left its mount did not end because of an umount: somebody aborted the connection.
  if (abort_mount() && !stopping_ && ready_ && wait_status_ == kExitUnmounted) {
    say(LOG_ERR, "the mount's connection was aborted by somebody");
    wait_status_ = kExitFailed << 8;
  }
  return true;
}

int Guardian::run() {
  ::openlog("coordfs", LOG_PID, LOG_DAEMON);
  if (!set_up_signals()) {
    say(LOG_ERR, std::string("signalfd: ") + std::strerror(errno));
    return finish(kExitFailed);
  }
  while (true) {
    if (!prepare()) return finish(kExitFailed);
    const auto born = Clock::now();
    if (!live_once()) return finish(kExitFailed);
    int status = 0;
    if (after_exit(wait_status_, ever_ready_, stopping_, status) == AfterExit::kStop) return finish(status);
    if (since(born) > kSteadyAfter) backoff_ = milliseconds(0);
    if (WIFSIGNALED(wait_status_)) {
      say(LOG_ERR, "the daemon was ended by signal " + std::to_string(WTERMSIG(wait_status_)));
    }
    if (!back_off()) return finish(kExitUnmounted);
  }
}

// The caller's side of a guardian that goes on in the background.
int wait_for_report(int fd) {
  unsigned char status = 0;
  ssize_t n = 0;
  do {
    n = ::read(fd, &status, 1);
  } while (n < 0 && errno == EINTR);
  if (n == 1) return status;
  std::fprintf(stderr, "coordfs: the guardian process ended unexpectedly\n");
  return kExitFailed;
}

}  // namespace

int run_guardian(const GuardianOptions& options) {
  if (options.foreground) return Guardian(options, -1).run();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    std::fprintf(stderr, "coordfs: pipe: %s\n", std::strerror(errno));
    return kExitFailed;
  }
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) {
    std::fprintf(stderr, "coordfs: fork: %s\n", std::strerror(errno));
    return kExitFailed;
  }
  if (pid > 0) {
    ::close(ends[1]);
    const int status = wait_for_report(ends[0]);
    ::close(ends[0]);
    return status;
  }
  ::close(ends[0]);
  ::setsid();
  if (::chdir("/") != 0) ::_exit(kExitFailed);
  const int status_fd = ::fcntl(ends[1], F_DUPFD_CLOEXEC, kSafeFd);
  ::close(ends[1]);
  ::_exit(Guardian(options, status_fd).run());
}

}  // namespace coord::fs
