// Mounts whose daemon is dead or hangs, and the guardian that clears them. Needs root and /dev/fuse.
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <thread>

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
    (void)unmount_lazily(path);
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
  EXPECT_FALSE(mount_at(path));
}

TEST_F(HungMount, ADeadPredecessorIsCleared) {
  const pid_t daemon = child([this] { return mount_without_answers(path) ? 0 : 1; });
  ASSERT_EQ(end_of(daemon, milliseconds(5000)), 0);
  EXPECT_EQ(mount_state(path), MountState::kDead);
  EXPECT_EQ(*canonical_mountpoint(path), path);
  const auto cleared = prepare_mountpoint(path);
  EXPECT_TRUE(cleared) << cleared.error().message;
  EXPECT_FALSE(mount_at(path));
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
