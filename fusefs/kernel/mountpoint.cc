#include "fusefs/kernel/mountpoint.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

#include "common/base/number.h"

extern char** environ;

namespace coord::fs {
namespace {

using std::chrono::milliseconds;

std::string reason(int error) { return std::strerror(error); }

std::string unescape_octal(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t k) {
      return i + k < text.size() && text[i + k] >= '0' && text[i + k] <= '7' ? text[i + k] - '0' : -1;
    };
    if (text[i] == '\\' && digit(1) >= 0 && digit(2) >= 0 && digit(3) >= 0) {
      out += static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> out;
  while (!line.empty()) {
    const std::size_t space = std::min(line.find(' '), line.size());
    if (space > 0) out.push_back(line.substr(0, space));
    line.remove_prefix(std::min(space + 1, line.size()));
  }
  return out;
}

// "36 35 98:0 /root /point opts [optional fields] - type source super": proc(5).
std::optional<MountEntry> parse_line(std::string_view line) {
  const auto fields = words(line);
  const auto dash = std::find(fields.begin(), fields.end(), "-");
  if (dash - fields.begin() < 6 || fields.end() - dash < 3) return std::nullopt;
  MountEntry entry;
  const std::size_t colon = std::min(fields[2].find(':'), fields[2].size() - 1);
  const auto id = parse_number<int>(fields[0]), parent = parse_number<int>(fields[1]);
  const auto major = parse_number<unsigned>(fields[2].substr(0, colon));
  const auto minor = parse_number<unsigned>(fields[2].substr(colon + 1));
  if (!id || !parent || !major || !minor) return std::nullopt;
  entry.id = *id;
  entry.parent = *parent;
  entry.major = *major;
  entry.minor = *minor;
  entry.root = unescape_octal(fields[3]);
  entry.point = unescape_octal(fields[4]);
  entry.type = unescape_octal(dash[1]);
  entry.source = unescape_octal(dash[2]);
  entry.read_only_below = fields.end() - dash > 3 && (dash[3] == "ro" || dash[3].starts_with("ro,"));
  return entry;
}

// Waits for a child of ours at most `limit`; nullopt: still running.
std::optional<int> wait_child(pid_t pid, milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (true) {
    int status = 0;
    const pid_t r = ::waitpid(pid, &status, WNOHANG);
    if (r == pid) return status;
    if (r < 0 && errno != EINTR) return 0;
    if (std::chrono::steady_clock::now() >= end) return std::nullopt;
    ::usleep(1000);
  }
}

// The errno of statfs(path), which always asks the daemon, from a child process; nullopt: no answer in time.
std::optional<int> probe(const std::string& path, milliseconds deadline) {
  const pid_t pid = ::fork();
  if (pid < 0) return errno;
  if (pid == 0) {
    struct statfs fs {};
    const int r = ::statfs(path.c_str(), &fs);
    ::_exit(r == 0 ? 0 : (errno > 0 && errno < 255 ? errno : 255));
  }
  const auto status = wait_child(pid, deadline);
  if (!status) {
    ::kill(pid, SIGKILL);
    wait_child(pid, milliseconds(100));  // if it cannot end yet, it stays a zombie of this process
    return std::nullopt;
  }
  return WIFEXITED(*status) ? WEXITSTATUS(*status) : EIO;
}

bool run_fusermount(const std::string& path) {
  const char* const argv[] = {"fusermount3", "-u", "-z", "-q", "--", path.c_str(), nullptr};
  pid_t pid = 0;
  if (::posix_spawnp(&pid, argv[0], nullptr, nullptr, const_cast<char**>(argv), environ) != 0) return false;
  const auto status = wait_child(pid, milliseconds(5000));
  if (!status) ::kill(pid, SIGKILL);
  return status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
}

bool write_one(int fd) {
  if (fd < 0) return false;
  const bool ok = ::write(fd, "1", 1) == 1;
  ::close(fd);
  return ok;
}

// A mount of fusectl that stands nowhere in the file tree.
int detached_fusectl() {
  const int context = ::fsopen("fusectl", FSOPEN_CLOEXEC);
  if (context < 0) return -1;
  int mount = -1;
  if (::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0) {
    mount = ::fsmount(context, FSMOUNT_CLOEXEC, 0);
  }
  ::close(context);
  return mount;
}

std::string described(const MountEntry& entry) { return entry.type + " from " + entry.source; }

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (auto entry = parse_line(text.substr(0, end))) out.push_back(std::move(*entry));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::vector<MountEntry> read_mounts() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_mountinfo(text.str());
}

const MountEntry* topmost(const std::vector<MountEntry>& mounts, const std::string& path) {
  const MountEntry* top = nullptr;
  for (const MountEntry& entry : mounts) {
    if (entry.point != path) continue;
    const bool covered = std::any_of(mounts.begin(), mounts.end(), [&](const MountEntry& other) {
      return other.point == path && other.parent == entry.id && other.id != entry.id;
    });
    if (!covered) top = &entry;
  }
  return top;
}

std::optional<MountEntry> mount_at(const std::string& path) {
  const std::vector<MountEntry> mounts = read_mounts();
  const MountEntry* const top = topmost(mounts, path);
  return top == nullptr ? std::nullopt : std::optional(*top);
}

Result<std::string, Fault> canonical_mountpoint(const std::string& path) {
  if (path.empty()) return fail(Fault{"the mount point is empty"});
  const auto resolve = [](const std::string& p) {
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(p.c_str(), nullptr), &::free);
    return real ? std::string(real.get()) : std::string();
  };
  if (std::string whole = resolve(path); !whole.empty()) return whole;
  const int error = errno;
  if (error == ENOENT) return fail(Fault{"mount point " + path + " does not exist"});
  if (error != ENOTCONN && error != ECONNABORTED) return fail(Fault{"mount point " + path + ": " + reason(error)});
  // A dead mount refuses even this: what stands above it does not.
  const std::size_t last = path.find_last_not_of('/');
  const std::string trimmed = path.substr(0, last + 1);
  const std::size_t slash = trimmed.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
  const std::string real_parent = resolve(parent);
  if (real_parent.empty()) return fail(Fault{"mount point " + path + ": " + reason(errno)});
  return (real_parent == "/" ? "" : real_parent) + "/" + trimmed.substr(slash + 1);
}

MountState mount_state(const std::string& path, milliseconds deadline) {
  const auto entry = mount_at(path);
  if (!entry) return MountState::kNone;
  if (entry->type != kMountType) return MountState::kOther;
  const auto error = probe(path, deadline);
  if (!error) return MountState::kHung;
  return *error == ENOTCONN || *error == ECONNABORTED ? MountState::kDead : MountState::kLive;
}

Result<bool, Fault> check_directory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), &::closedir);
  if (!directory) {
    if (errno == ENOTDIR) return fail(Fault{"mount point " + path + " is not a directory"});
    return fail(Fault{"mount point " + path + ": " + reason(errno)});
  }
  errno = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == ".." || name == kNotMountedFile) continue;
    return fail(Fault{"mount point " + path + " is not empty: it contains '" + std::string(name) + "'"});
  }
  if (errno != 0) return fail(Fault{"mount point " + path + ": " + reason(errno)});
  return true;
}

Result<int, Fault> clear_dead_mounts(const std::string& path, int keep) {
  while (mount_state(path) == MountState::kDead) {
    const auto mounts = read_mounts();
    const auto layers = std::count_if(mounts.begin(), mounts.end(), [&path](const MountEntry& entry) {
      return entry.point == path && entry.type == kMountType;
    });
    if (layers <= keep) return static_cast<int>(layers);
    const MountEntry* const top = topmost(mounts, path);
    auto gone = unmount_lazily(path, top == nullptr ? std::nullopt : std::optional(top->minor));
    if (!gone) return fail(gone.error());
    if (!*gone) break;  // somebody else takes them away at this moment
  }
  return 0;
}

Result<bool, Fault> prepare_mountpoint(const std::string& path) {
  const MountState state = mount_state(path);
  if (state == MountState::kDead) return true;
  if (const auto entry = mount_at(path)) {
    return fail(Fault{"mount point " + path + " is already mounted: " + described(*entry) +
                      (state == MountState::kHung ? ", which does not answer (umount -l takes it away)" : "")});
  }
  return check_directory(path);
}

Result<bool, Fault> place_not_mounted_file(const std::string& path) {
  const std::string file = path + "/" + std::string(kNotMountedFile);
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
  if (fd < 0) {
    if (errno == EEXIST) return true;
    return fail(Fault{"cannot create " + file + ": " + reason(errno)});
  }
  constexpr std::string_view kText = "The coordination tree is not mounted here at present.\n";
  const bool ok = ::write(fd, kText.data(), kText.size()) == static_cast<ssize_t>(kText.size());
  ::close(fd);
  if (!ok) return fail(Fault{"cannot write " + file});
  return true;
}

Result<bool, Fault> abort_connection(unsigned minor) {
  const std::string file = std::to_string(minor) + "/abort";
  if (write_one(::open(("/sys/fs/fuse/connections/" + file).c_str(), O_WRONLY | O_CLOEXEC))) return true;
  const int fusectl = detached_fusectl();
  if (fusectl < 0) return fail(Fault{"cannot abort FUSE connection " + file + ": fusectl: " + reason(errno)});
  const bool ok = write_one(::openat(fusectl, file.c_str(), O_WRONLY | O_CLOEXEC));
  const int error = errno;
  ::close(fusectl);
  if (!ok) return fail(Fault{"cannot abort FUSE connection " + file + ": " + reason(error)});
  return true;
}

Result<bool, Fault> unmount_lazily(const std::string& path, std::optional<unsigned> minor) {
  const auto entry = mount_at(path);
  if (!entry || entry->type != kMountType || (minor && *minor != entry->minor)) return false;
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return true;
  const int error = errno;
  if (error == EPERM && run_fusermount(path)) return true;
  return fail(Fault{"cannot unmount " + path + ": " + reason(error)});
}

}  // namespace coord::fs
