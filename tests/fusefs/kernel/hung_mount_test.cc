// Mounts whose daemon is dead or hangs, and the guardian that clears them. Needs root and /dev/fuse.
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <functional>
#include <thread>

#include "fusefs/kernel/fuse_mount.h"
#include "fusefs/kernel/guardian.h"
#include "fusefs/kernel/mountpoint.h"
#include "tests/fusefs/kernel/children.h"
#include "tests/fusefs/kernel/temp_dir.h"

namespace coord::fs {
namespace {

using std::chrono::milliseconds;

// Mounts and answers nothing: every access waits.
bool mount_without_answers(const std::string& path) {
  const char* argv[] = {"hung", "-o", "fsname=test,subtype=coordfs"};
  fuse_args args = FUSE_ARGS_INIT(3, const_cast<char**>(argv));
  const fuse_lowlevel_ops none{};
  static fuse_session* session = nullptr;  // for as long as the process
  session = fuse_session_new(&args, &none, sizeof none, nullptr);
  fuse_opt_free_args(&args);
  return session != nullptr && fuse_session_mount(session, path.c_str()) == 0;
}

class HungMount : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs root and /dev/fuse";
    std::filesystem::create_directory(path);
  }
  void TearDown() override {
    for (const pid_t pid : children) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    while (!layers().empty() && unmount_lazily(path).value_or(false)) {
    }
  }
  pid_t child(const std::function<int()>& body) {
    ::fflush(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(body());
    children.push_back(pid);
    return pid;
  }
  // Waits for the child's end at most `limit`; nullopt: it still runs.
  std::optional<int> end_of(pid_t pid, milliseconds limit) {
    for (const auto end = std::chrono::steady_clock::now() + limit; std::chrono::steady_clock::now() < end;) {
      int status = 0;
      if (::waitpid(pid, &status, WNOHANG) == pid) {
        std::erase(children, pid);
        return status;
      }
      std::this_thread::sleep_for(milliseconds(2));
    }
    return std::nullopt;
  }
  bool wait_mounted() {
    for (int i = 0; i < 2000; ++i) {
      if (mount_at(path)) return true;
      std::this_thread::sleep_for(milliseconds(2));
    }
    return false;
  }

  std::vector<MountEntry> layers() const {
    auto found = read_mounts();
    std::erase_if(found, [this](const MountEntry& entry) { return entry.point != path; });
    return found;
  }
  static bool kernel_puts_beneath() {
    utsname name{};
    ::uname(&name);
    int major = 0, minor = 0;
    std::sscanf(name.release, "%d.%d", &major, &minor);
    return major > 6 || (major == 6 && minor >= 5);
  }

  TempDir temp;
  const std::string path = temp.path() + "/m";
  std::vector<pid_t> children;
};

TEST_F(HungMount, IsRecognisedAndAborted) {
  const pid_t daemon = child([this] { return mount_without_answers(path) ? ::pause() : 1; });
  ASSERT_TRUE(wait_mounted());
  EXPECT_EQ(mount_state(path, milliseconds(100)), MountState::kHung);
  const auto refused = prepare_mountpoint(path);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("already mounted: fuse.coordfs from test, which does not answer"),
            std::string::npos);
  EXPECT_EQ(mount_at(path)->type, kMountType);
  EXPECT_EQ(::kill(daemon, 0), 0);
  const auto aborted = abort_connection(mount_at(path)->minor);
  ASSERT_TRUE(aborted) << aborted.error().message;
  EXPECT_EQ(mount_state(path), MountState::kDead);
  EXPECT_EQ(*canonical_mountpoint(path), path);
  EXPECT_FALSE(*unmount_lazily(path, mount_at(path)->minor + 1));  // not that one
  EXPECT_TRUE(prepare_mountpoint(path));
  EXPECT_EQ(*clear_dead_mounts(path), 0);
  EXPECT_FALSE(mount_at(path));
}

TEST_F(HungMount, ADeadPredecessorIsNoReasonToRefuseAndIsCleared) {
  const pid_t daemon = child([this] { return mount_without_answers(path) ? 0 : 1; });
  ASSERT_EQ(end_of(daemon, milliseconds(5000)), 0);
  EXPECT_EQ(mount_state(path), MountState::kDead);
  EXPECT_EQ(*canonical_mountpoint(path), path);
  const auto usable = prepare_mountpoint(path);
  EXPECT_TRUE(usable) << usable.error().message;
  EXPECT_EQ(mount_state(path), MountState::kDead) << "it goes on covering the directory";
  EXPECT_EQ(*clear_dead_mounts(path), 0);
  EXPECT_FALSE(mount_at(path));
}

TEST_F(HungMount, ALivingMountIsNotMountedOver) {
  child([this] { return mount_without_answers(path) ? ::pause() : 1; });
  ASSERT_TRUE(wait_mounted());
  EXPECT_FALSE(mount_fuse(path, {}));
  EXPECT_EQ(layers().size(), 1U);
}

// Somebody writes into the mount point all the time, while one dead mount after the other gets a successor.
TEST_F(HungMount, TheDirectoryIsNeverExposed) {
  for (const Replace replace : {Replace::kBeneath, Replace::kOver}) {
    const auto first = mount_fuse(path, {}, replace);
    ASSERT_TRUE(first) << first.error().message;
    if (!*first) GTEST_SKIP() << "may not mount here";
    ASSERT_TRUE(abort_connection(mount_at(path)->minor));
    ::close(**first);
    const pid_t writer = child([this] {
      const std::string file = path + "/w";
      while (true) {
        const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
        if (fd >= 0) return 1;
      }
    });
    for (int round = 0; round < 100; ++round) {
      const auto next = mount_fuse(path, {}, replace);
      ASSERT_TRUE(next) << next.error().message;
      const auto entry = mount_at(path);
      ASSERT_TRUE(entry);
      EXPECT_EQ(entry->type, kMountType);
      EXPECT_EQ(entry->source, "coord");
      EXPECT_LE(layers().size(), replace == Replace::kBeneath && kernel_puts_beneath() ? 1U : 2U);
      ASSERT_TRUE(abort_connection(entry->minor));
      ::close(**next);
    }
    ASSERT_EQ(::kill(writer, SIGKILL), 0);
    const auto status = end_of(writer, milliseconds(5000));
    ASSERT_TRUE(status);
    EXPECT_TRUE(WIFSIGNALED(*status)) << "it could write";
    EXPECT_EQ(*clear_dead_mounts(path), 0);
    EXPECT_FALSE(mount_at(path));
    EXPECT_TRUE(std::filesystem::is_empty(path));
  }
}

TEST_F(HungMount, OptionsAreTheSameEitherWay) {
  std::string lines[2];
  const auto line = [this] {
    std::ifstream file("/proc/self/mountinfo");
    for (std::string text; std::getline(file, text);) {
      const auto at = text.find(" " + path + " ");
      if (at != std::string::npos) return text.substr(at);
    }
    return std::string();
  };
  for (std::string& text : lines) {
    const auto mount = mount_fuse(path, {"coord", true, true});  // the second time over the dead first
    ASSERT_TRUE(mount) << mount.error().message;
    if (!*mount) GTEST_SKIP() << "may not mount here";
    if (&text == &lines[1] && layers().size() > 1) GTEST_SKIP() << "an older kernel mounts one way only";
    text = line();
    ASSERT_TRUE(abort_connection(mount_at(path)->minor));
    ::close(**mount);
  }
  EXPECT_EQ(lines[0], lines[1]);
  for (const char* const word : {"ro", "nosuid", "nodev", "allow_other", "default_permissions"}) {
    EXPECT_NE(lines[0].find(word), std::string::npos) << word << " in " << lines[0];
  }
  EXPECT_EQ(lines[0].find(" coord ro"), std::string::npos) << "only the mount, not what is below: " << lines[0];
  EXPECT_EQ(*clear_dead_mounts(path), 0);
}

// Whatever got into the directory meanwhile: only the first start refuses, a restart mounts over it.
TEST_F(HungMount, ARestartDoesNotRefuse) {
  const pid_t guardian = child([this] {
    GuardianOptions options;
    options.arguments = {"dirt-mount", temp.path()};
    options.mountpoint = path;
    options.foreground = true;
    options.backoff_min = milliseconds(5);
    return run_guardian(options);
  });
  EXPECT_EQ(end_of(guardian, milliseconds(10'000)), 0);
  std::ifstream lives(temp.path() + "/mounts");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(lives), {}), "LL");
  EXPECT_TRUE(std::filesystem::exists(path + "/dirt"));
  EXPECT_TRUE(std::filesystem::exists(path + "/NOT_MOUNTED"));
}

TEST_F(HungMount, TheGuardianFreesItsVictimsAndStartsAgain) {
  const pid_t guardian = child([this] {
    GuardianOptions options;
    options.arguments = {"hung-mount", temp.path()};
    options.mountpoint = path;
    options.foreground = true;
    options.timeout = milliseconds(1000);
    options.backoff_min = milliseconds(5);
    return run_guardian(options);
  });
  ASSERT_TRUE(wait_mounted());
  const pid_t victim = child([this] {
    struct stat st {};
    return ::stat((path + "/x").c_str(), &st) == 0 ? 0 : errno;
  });
  const auto status = end_of(victim, milliseconds(5000));
  ASSERT_TRUE(status) << "still waiting for a daemon that is stopped";
  EXPECT_NE(WEXITSTATUS(*status), 0);
  EXPECT_EQ(end_of(guardian, milliseconds(10'000)), 0);  // its second daemon says "unmounted"
  EXPECT_FALSE(mount_at(path));
  EXPECT_TRUE(std::filesystem::exists(path + "/NOT_MOUNTED"));
}

// The connection of a healthy daemon is aborted by somebody: the daemon ends well, but nobody has unmounted.
TEST_F(HungMount, AnAbortedConnectionIsNotAnUnmount) {
  const pid_t guardian = child([this] {
    GuardianOptions options;
    options.arguments = {"left-mount", temp.path()};
    options.mountpoint = path;
    options.foreground = true;
    options.backoff_min = milliseconds(5);
    return run_guardian(options);
  });
  EXPECT_EQ(end_of(guardian, milliseconds(10'000)), 0);
  std::ifstream lives(temp.path() + "/mounts");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(lives), {}), "LL");
  EXPECT_FALSE(mount_at(path));
}

}  // namespace

int mounting_daemon(Heartbeat& heartbeat, const std::string& mode, const std::string& directory) {
  const bool first = !std::filesystem::exists(directory + "/mounts");
  std::ofstream(directory + "/mounts", std::ios::app) << 'L' << std::flush;
  if (first && mode == "dirt-mount") {
    heartbeat.ready();
    std::ofstream(directory + "/m/dirt") << "x" << std::flush;
    ::raise(SIGKILL);
  }
  if (first) {
    if (!mount_without_answers(directory + "/m")) return kExitFailed;
    const auto entry = mount_at(directory + "/m");
    heartbeat.mounted(entry->major, entry->minor);
  }
  heartbeat.ready();
  if (first && mode == "hung-mount") ::raise(SIGSTOP);
  return kExitUnmounted;
}

}  // namespace coord::fs
