#include "fusefs/kernel/guardian.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/fusefs/kernel/children.h"
#include "tests/fusefs/kernel/temp_dir.h"

namespace coord::fs {
namespace {

using std::chrono::milliseconds;

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void note(const std::string& directory, char what) {
  std::ofstream(directory + "/lives", std::ios::app) << what << std::flush;
}

std::string diary(const std::string& directory) { return read_file(directory + "/lives"); }

volatile sig_atomic_t terminated = 0;

// Beats until told to stop or until the guardian has gone; notes which.
int beat_on(Heartbeat& heartbeat, const std::string& directory, bool obey) {
  ::signal(SIGTERM, [](int) { terminated = 1; });
  while (heartbeat.beat()) {
    ::usleep(20'000);  // the pace of the beats, no wait for anything
    if (terminated == 0) continue;
    note(directory, 't');
    if (obey) return kExitUnmounted;
    terminated = 0;
  }
  note(directory, 'g');
  return kExitUnmounted;
}

int fake_daemon(Heartbeat& heartbeat, const std::string& mode, const std::string& directory) {
  const bool first = diary(directory).empty();
  note(directory, 'L');
  if (mode == "fail") return heartbeat.failed("no replica answers"), kExitFailed;
  if (mode == "usage") return heartbeat.failed("bad option"), kExitUsage;
  if (mode == "early") return kExitUnmounted;
  if (mode == "silent") ::pause();
  heartbeat.ready();
  if (mode == "unmounted" || (!first && mode != "stubborn" && mode != "run")) return kExitUnmounted;
  if (mode == "crash") ::raise(SIGKILL);
  if (mode == "status") return 7;
  if (mode == "stop") ::raise(SIGSTOP);
  if (mode == "hang") ::pause();
  return beat_on(heartbeat, directory, mode != "stubborn");
}

// A guardian in a child process of its own, with a fake daemon.
struct GuardianRun {
  explicit GuardianRun(const std::string& mode, bool foreground = true) {
    ::fflush(nullptr);
    pid = ::fork();
    if (pid != 0) return;
    const int out = ::open((temp.path() + "/stderr").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(out, 2);
    GuardianOptions options;
    options.arguments = {mode, temp.path()};
    options.mountpoint = temp.path();
    options.foreground = foreground;
    options.prepare = false;
    options.timeout = milliseconds(600);
    options.start_limit = milliseconds(600);
    options.stop_limit = milliseconds(300);
    options.backoff_min = milliseconds(5);
    ::_exit(run_guardian(options));
  }
  ~GuardianRun() {
    if (pid > 0) ::kill(pid, SIGKILL);
    if (pid > 0) ::waitpid(pid, nullptr, 0);
  }
  int status() {
    int status = 0;
    ::waitpid(pid, &status, 0);
    pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  // Waits until the diary holds `what`.
  bool noted(const std::string& what) const {
    for (int i = 0; i < 1000; ++i) {
      if (diary(temp.path()).find(what) != std::string::npos) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }
  std::string messages() const { return read_file(temp.path() + "/stderr"); }
  TempDir temp;
  pid_t pid = 0;
};

TEST(Guardian, ADaemonThatCannotStartIsNotStartedAgain) {
  GuardianRun fails("fail"), usage("usage"), early("early");
  EXPECT_EQ(fails.status(), kExitFailed);
  EXPECT_NE(fails.messages().find("no replica answers"), std::string::npos);
  EXPECT_EQ(diary(fails.temp.path()), "L");
  EXPECT_EQ(usage.status(), kExitUsage);
  EXPECT_EQ(early.status(), kExitFailed);
}

TEST(Guardian, ADaemonThatHangsAtStartIsEnded) {
  GuardianRun run("silent");
  EXPECT_EQ(run.status(), kExitFailed);
  EXPECT_NE(run.messages().find("hangs while it starts"), std::string::npos);
}

TEST(Guardian, UnmountedIsTheEnd) { EXPECT_EQ(GuardianRun("unmounted").status(), 0); }

TEST(Guardian, StartsAgainAfterACrashOrAHang) {
  for (const char* mode : {"crash", "status", "stop", "hang"}) {
    GuardianRun run(mode);
    EXPECT_EQ(run.status(), 0) << mode;
    EXPECT_EQ(diary(run.temp.path()), "LL") << mode;
  }
}

TEST(Guardian, SigtermStopsTheDaemonCleanly) {
  GuardianRun run("run");
  ASSERT_TRUE(run.noted("L"));
  ::kill(run.pid, SIGTERM);
  EXPECT_EQ(run.status(), 0);
  EXPECT_TRUE(diary(run.temp.path()) == "Lt" || diary(run.temp.path()) == "L");
}

TEST(Guardian, ADaemonThatDoesNotStopIsEnded) {
  GuardianRun run("stubborn");
  ASSERT_TRUE(run.noted("L"));
  ::kill(run.pid, SIGINT);
  EXPECT_EQ(run.status(), 0);
}

TEST(Guardian, TheDaemonNoticesTheGuardiansDeath) {
  GuardianRun run("run");
  ASSERT_TRUE(run.noted("L"));
  std::this_thread::sleep_for(milliseconds(100));  // adopt() is done
  ::kill(run.pid, SIGKILL);
  EXPECT_EQ(run.status(), -SIGKILL);
  EXPECT_TRUE(run.noted("t") || run.noted("g"));
}

TEST(Guardian, DetachedReturnsWhenTheMountAnswers) {
  GuardianRun run("run", false);
  EXPECT_EQ(run.status(), 0);
  EXPECT_EQ(diary(run.temp.path()), "L");  // and it goes on: the diary has no end
  GuardianRun fails("fail", false);
  EXPECT_EQ(fails.status(), kExitFailed);
  EXPECT_NE(fails.messages().find("no replica answers"), std::string::npos);
  // End the first one's processes: the daemon's parent is the guardian.
  const std::string pid = read_file(run.temp.path() + "/guardian");
  ASSERT_FALSE(pid.empty());
  ::kill(std::stoi(pid), SIGTERM);
  EXPECT_TRUE(run.noted("t"));
}

TEST(Guardian, AfterExit) {
  int status = -1;
  const auto exited = [](int code) { return code << 8; };
  EXPECT_EQ(after_exit(exited(0), true, false, status), AfterExit::kStop);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(after_exit(exited(0), false, false, status), AfterExit::kStop);
  EXPECT_EQ(status, kExitFailed);
  EXPECT_EQ(after_exit(SIGSEGV, false, false, status), AfterExit::kStop);
  EXPECT_EQ(status, kExitFailed);
  EXPECT_EQ(after_exit(exited(2), false, false, status), AfterExit::kStop);
  EXPECT_EQ(status, 2);
  EXPECT_EQ(after_exit(exited(1), true, false, status), AfterExit::kRestart);
  EXPECT_EQ(after_exit(SIGSEGV, true, false, status), AfterExit::kRestart);
  EXPECT_EQ(after_exit(SIGSEGV, true, true, status), AfterExit::kStop);
  EXPECT_EQ(status, 0);
}

TEST(Guardian, AFrozenHostIsNotAHungDaemon) {
  SilenceMeter meter(milliseconds(3000), milliseconds(60'000));
  for (int i = 0; i < 100; ++i) meter.silent(kBeatInterval);
  EXPECT_FALSE(meter.hung());  // it may take its time until the first beat
  meter.heard();
  meter.silent(std::chrono::hours(5));
  EXPECT_FALSE(meter.hung());
  meter.heard();
  for (int i = 0; i < 12; ++i) meter.silent(kBeatInterval);
  EXPECT_TRUE(meter.hung());
}

}  // namespace

bool testing_child_main(int argc, char** argv, int& status) {
  auto heartbeat = Heartbeat::adopt(argc, argv);
  if (!heartbeat || argc < 5) return false;
  std::ofstream(std::string(argv[4]) + "/guardian") << ::getppid() << std::flush;
  const std::string mode = argv[3];
  status = mode.ends_with("-mount") ? mounting_daemon(*heartbeat, mode, argv[4])
                                    : fake_daemon(*heartbeat, mode, argv[4]);
  return true;
}

}  // namespace coord::fs
