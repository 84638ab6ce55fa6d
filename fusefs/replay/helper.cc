#include "fusefs/replay/helper.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "common/base/fd.h"
#include "common/base/number.h"

extern char** environ;

namespace coord::fs::replay {
namespace {

constexpr int kHelperFd = 3;
constexpr std::size_t kWalkBytesMax = 3500;  // of one openat2, below PATH_MAX

// The root of the mount, if it is still the mount of this device.
Fd open_root(const char* mountpoint, std::uint64_t device) {
  Fd root(::open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.ok()) return root;
  struct statx st {};
  if (::statx(root.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0) return Fd(-1);
  if (makedev(st.stx_dev_major, st.stx_dev_minor) != device) {
    errno = ENODEV;
    return Fd(-1);
  }
  return root;
}

// A mount of the same file system, without what is mounted on it, that stands nowhere and may be written through.
Fd writable_clone(const Fd& root) {
  Fd clone(::open_tree(root.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  mount_attr change{};
  change.attr_clr = MOUNT_ATTR_RDONLY;
  if (clone.ok() && ::mount_setattr(clone.get(), "", AT_EMPTY_PATH, &change, sizeof change) != 0) return Fd(-1);
  return clone;
}

Fd open_beneath(int directory, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return Fd(static_cast<int>(::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how)));
}

// The directory `path`, in steps that each are short enough for the kernel.
Fd open_directory(int root, std::string_view path) {
  Fd at = open_beneath(root, ".");
  while (at.ok() && !path.empty()) {
    std::size_t cut = path.size();
    if (cut > kWalkBytesMax) {
      cut = path.rfind('/', kWalkBytesMax);
      if (cut == std::string_view::npos || cut == 0) {
        errno = ENAMETOOLONG;
        return Fd(-1);
      }
    }
    at = open_beneath(at.get(), std::string(path.substr(0, cut)));
    path.remove_prefix(std::min(cut + 1, path.size()));
  }
  return at;
}

int result(int returned) { return returned < 0 ? errno : 0; }

int touch(int directory, const char* name, bool both_times) {
  const timespec now[2] = {{0, both_times ? UTIME_NOW : UTIME_OMIT}, {0, UTIME_NOW}};
  return result(::utimensat(directory, name, now, AT_SYMLINK_NOFOLLOW));
}

Fd open_for_writing(int directory, const char* name) {
  return Fd(::openat(directory, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

int replay_data(int directory, const Event& event) {
  if (event.executable || event.type != NodeType::kFile) return touch(directory, event.name.c_str(), false);
  const Fd file = open_for_writing(directory, event.name.c_str());
  if (!file.ok() && errno != ETXTBSY && errno != EACCES) return errno;
  if (!file.ok()) return touch(directory, event.name.c_str(), false);
  const timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  return result(::futimens(file.get(), now));
}

int replay_create(int directory, const Event& event) {
  const char* const name = event.name.c_str();
  if (event.type == NodeType::kDirectory) return result(::mkdirat(directory, name, 0700));
  if (event.type == NodeType::kSymlink) return result(::symlinkat("-", directory, name));
  const int error = result(::mknodat(directory, name, S_IFREG | 0600, 0));
  // OPEN and CLOSE_WRITE, for those who wait for a file to be complete. If that fails, CREATE is out all the same.
  if (error == 0 && !event.executable) open_for_writing(directory, name);
  return error;
}

int replay_rename(int root, int directory, const Job& job) {
  const Fd new_directory = open_directory(root, job.new_path);
  if (!new_directory.ok()) return errno;
  const char* const name = job.event.name.c_str();
  if (job.event.type == NodeType::kDirectory) {  // see match.cc
    const Fd node(::openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!node.ok()) return errno;
  }
  return result(::renameat(directory, name, new_directory.get(), job.event.new_name.c_str()));
}

int perform(const Job& job, const char* mountpoint) {
  Fd root = open_root(mountpoint, job.device);
  if (root.ok() && job.read_only) root = writable_clone(root);
  if (!root.ok()) return errno;
  const Fd directory = open_directory(root.get(), job.path);
  if (!directory.ok()) return errno;
  switch (job.event.kind) {
    case EventKind::kData:
      return replay_data(directory.get(), job.event);
    case EventKind::kAttributes:
      return touch(directory.get(), job.event.name.c_str(), true);
    case EventKind::kCreate:
      return replay_create(directory.get(), job.event);
    case EventKind::kDelete:
      return result(::unlinkat(directory.get(), job.event.name.c_str(),
                               job.event.type == NodeType::kDirectory ? AT_REMOVEDIR : 0));
    case EventKind::kRename:
      return replay_rename(root.get(), directory.get(), job);
    case EventKind::kGone: {
      const Fd node(::openat(directory.get(), job.event.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      return node.ok() ? 0 : errno;
    }
  }
  return EINVAL;
}

template <class Call>
ssize_t retry_interrupted(Call call) {
  ssize_t n = 0;
  do {
    n = call();
  } while (n < 0 && errno == EINTR);
  return n;
}

}  // namespace

bool can_raise_on_read_only(const std::string& path) {
  const Fd root(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return root.ok() && writable_clone(root).ok();
}

int run_replay_helper(int fd, const char* mountpoint) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, "coordfs-replay");
  // A terminal's or a service manager's signals to the whole group are for the daemon: it closes the socket.
  for (const int ignored : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP}) ::signal(ignored, SIG_IGN);
  if (::chdir("/") != 0) return 1;
  ::umask(0);
  std::string bytes(kJobBytesMax, '\0');
  while (true) {
    const ssize_t n = retry_interrupted([&] { return ::recv(fd, bytes.data(), bytes.size(), 0); });
    if (n <= 0) return n < 0 ? 1 : 0;  // closed: the daemon has gone, or wants no more
    Job job;
    if (!decode_job(std::string_view(bytes).substr(0, static_cast<std::size_t>(n)), job)) return 1;
    const JobAnswer answer{job.id, perform(job, mountpoint)};
    const ssize_t sent = retry_interrupted([&] { return ::send(fd, &answer, sizeof answer, MSG_NOSIGNAL); });
    if (sent != static_cast<ssize_t>(sizeof answer)) return 0;
  }
}

bool replay_helper_main(int argc, char** argv, int& status) {
  if (argc < 2 || std::strcmp(argv[1], kHelperFlag) != 0) return false;
  const int fd = argc == 4 ? parse_number<int>(argv[2]).value_or(-1) : -1;
  status = fd >= 0 ? run_replay_helper(fd, argv[3]) : 2;
  return true;
}

HelperProcess::~HelperProcess() {
  kill();
  for (int i = 0; i < 50 && !dead(); ++i) ::usleep(2000);
  if (dead()) reap();
  if (fd_ >= 0) ::close(fd_);
}

Result<bool, Fault> HelperProcess::start(const std::string& exe, const std::string& mountpoint) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return fail(Fault{std::string("replay helper: socketpair: ") + std::strerror(errno)});
  }
  const Fd theirs(pair[1]);
  Fd ours(pair[0]);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), kHelperFd);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, kHelperFd + 1);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const std::string fd_text = std::to_string(kHelperFd);
  const char* const argv[] = {"coordfs", kHelperFlag, fd_text.c_str(), mountpoint.c_str(), nullptr};
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, exe.c_str(), &actions, &attributes, const_cast<char**>(argv), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return fail(Fault{"replay helper: cannot start " + exe + ": " + std::strerror(error)});
  pid_ = pid;
  if (fd_ >= 0) ::close(fd_);
  fd_ = ours.release();
  return true;
}

std::optional<JobAnswer> HelperProcess::run(const Job& job, int deadline_ms) {
  const std::string bytes = encode_job(job);
  if (bytes.empty()) return JobAnswer{job.id, ENAMETOOLONG};
  const ssize_t sent = retry_interrupted([&] { return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
  if (sent != static_cast<ssize_t>(bytes.size())) return std::nullopt;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(deadline_ms);
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0) return std::nullopt;
    pollfd waiting{fd_, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return std::nullopt;
    JobAnswer answer;
    const ssize_t n = ::recv(fd_, &answer, sizeof answer, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n != static_cast<ssize_t>(sizeof answer) || answer.id != job.id) return std::nullopt;
    return answer;
  }
}

void HelperProcess::kill() {
  if (pid_ > 0) ::kill(pid_, SIGKILL);
}

bool HelperProcess::dead() const {
  if (pid_ <= 0) return true;
  siginfo_t info{};
  const int r = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
  return r != 0 || info.si_pid == pid_;
}

void HelperProcess::reap() {
  if (pid_ > 0) ::waitpid(pid_, nullptr, WNOHANG);
  pid_ = 0;
}

}  // namespace coord::fs::replay
