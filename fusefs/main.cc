// coordfs, mount.coordfs: the command line, and which of three processes this is: the guardian (what the user starts),
// the daemon that the guardian starts, or a replay helper that the daemon starts.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/standard_fds.h"
#include "common/base/version.h"
#include "common/client/client.h"
#include "fusefs/kernel/guardian.h"
#include "fusefs/kernel/mountpoint.h"
#include "fusefs/kernel/options.h"
#include "fusefs/kernel/session.h"
#include "fusefs/replay/helper.h"

namespace {

using namespace coord;
using namespace coord::fs;

constexpr const char* kAsMountHelper = "--as-mount-helper";  // guardian to daemon: how to read the rest

constexpr const char* kHelp = R"(NAME
  coordfs - mount a coordination tree (ZooKeeper's) as a file system

SYNOPSIS
  coordfs SOURCE MOUNTPOINT [-f] [-d] [-o OPTION[,OPTION]...]
  mount -t fuse.coordfs SOURCE MOUNTPOINT [-o OPTION,...]
  coordfs --help | --version

DESCRIPTION
  Shows the tree of a coordd replica below MOUNTPOINT: every znode is a file or a directory, on every host the same.
  `cat` reads the data of a znode, a save is one transaction, inotify sees changes from anywhere, an ephemeral file
  lives as long as somebody holds it open. Stays in the background when the mount answers; with -f in the foreground.

  SOURCE      unix:/run/coordd/client.sock    the local replica; the callers' user ids count
              host:port[,host:port...]        replicas over TCP; coordfs acts as one identity
              Several of both kinds, separated by commas, are tried in turn, sockets first.
  MOUNTPOINT  an existing directory, empty but for the file NOT_MOUNTED, which coordfs puts there itself, so that
              scripts fail loudly while nothing is mounted.

OPTIONS
  -f            stay in the foreground, log to stderr
  -d            debug messages; implies -f
  -o ro         read-only; remote changes raise inotify events as elsewhere, but none where an ordinary user mounts
  -o allow_other, -o noallow_other
                let other users in (the default for root; others need user_allow_other in /etc/fuse.conf)
  -o wait=SECONDS
                how long to wait for a replica at the start (default 10, 0 to 3600)
  -o session_timeout=MS
                after this time without contact the ensemble gives up this mount's ephemerals (default 10000)
  -o stale=serve | -o stale=fail:SECONDS
                while no replica can be reached: go on answering reads from memory (the default), or fail them
                with ETIMEDOUT after SECONDS
  -o locks=cluster | -o locks=local
                flock and fcntl locks over all hosts (until then: ENOLCK), or on this host only
  -o guardian_timeout=MS
                a daemon that is silent for so long is killed and started again (default 3000)
  -o log=FILE   absolute, not below MOUNTPOINT; reopened at SIGHUP
  -o debug      as -d, but in the background
  The options of fstab and mount(8) that promise nothing here (rw, defaults, _netdev, nofail, noauto, user, x-*, ...)
  are accepted. The mount is always nosuid,nodev.

NAMES
  NAME             the data of a znode, or the directory of a dir-shaped one
  NAME@            the directory of the children of a znode that is a file
  DIR/.data        the data of a directory
  NAME@ephemeral, NAME@seq, NAME@ephemeral+seq, NAME@container, NAME@ttl=30s
                   for creating: `exec 9>/coord/members/me@ephemeral`

EXTENDED ATTRIBUTES (getfattr -n user.coord.KEY FILE)
  name path version cversion aversion czxid mzxid pzxid ephemeral_owner shape acl

EXIT STATUS
  0  unmounted, or (in the background) mounted
  1  no replica answered in time, or the mount failed
  2  bad arguments, or a mount point that cannot be used; nothing was started

FILES
  /run/coordfs/*.session   the session of each mount, so that a restart can end its predecessor's
  MOUNTPOINT/NOT_MOUNTED   seen only while not mounted

SIGNALS
  SIGTERM, SIGINT   unmount and end      SIGHUP   reopen the log file

SEE ALSO
  coordd(8), coordctl(1), inotifywait(1), fusefs/README.md
)";

int usage_error(const std::string& message) {
  std::fprintf(stderr, "coordfs: %s\nTry 'coordfs --help'.\n", message.c_str());
  return kExitUsage;
}

bool below(const std::string& path, const std::string& directory) {
  return path == directory ||
         (path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/');
}

// What can be known without a replica to be wrong. Empty: fine.
std::string check(const MountOptions& options, const std::string& mountpoint) {
  const auto target = client::parse_target(options.source);
  if (!target) return target.error().message;
  if (!options.log_file.empty() && below(options.log_file, mountpoint)) {
    return "log=" + options.log_file + " is below the mount point: coordfs opens nothing under its own mount";
  }
  return "";
}

int run_daemon(const MountOptions& options, const std::string& mountpoint, Heartbeat heartbeat) {
  // Until the mount is there, stderr is the terminal of the one who mounts: only what is wrong goes there.
  const bool quiet = !options.foreground && options.log_file.empty();
  const auto level = options.debug ? log::Level::kDebug : quiet ? log::Level::kWarn : log::Level::kInfo;
  if (!log::configure(level, options.log_file, "coordfs")) {
    heartbeat.failed("cannot open the log file " + options.log_file);
    return kExitUsage;
  }
  return run_mount(options, mountpoint, std::move(heartbeat));
}

}  // namespace

int main(int argc, char** argv) {
  if (!occupy_standard_fds()) return kExitFailed;
  int helper_status = 0;
  if (replay::replay_helper_main(argc, argv, helper_status)) return helper_status;
  const bool is_daemon = argc > 1 && std::strcmp(argv[1], kDaemonFlag) == 0;
  std::optional<Heartbeat> heartbeat;
  if (is_daemon) {
    heartbeat = Heartbeat::adopt(argc, argv);
    if (!heartbeat) return kExitFailed;  // the guardian has gone
  }
  std::vector<std::string> arguments(argv + std::min(is_daemon ? 3 : 1, argc), argv + argc);
  CallStyle style = argc > 0 ? call_style(argv[0]) : CallStyle::kCoordfs;
  if (is_daemon) {
    style = CallStyle::kCoordfs;
    if (!arguments.empty() && arguments.front() == kAsMountHelper) {
      style = CallStyle::kMountHelper;
      arguments.erase(arguments.begin());
    }
  }
  const auto options = parse_mount_options(arguments, style, geteuid() == 0);
  if (!options) return usage_error(options.error().message);
  if (options->help) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (options->version) {
    std::printf("coordfs %s\n", kVersion);
    return 0;
  }
  const auto mountpoint = canonical_mountpoint(options->mountpoint);
  if (!mountpoint) return usage_error(mountpoint.error().message);
  if (const std::string why = check(*options, *mountpoint); !why.empty()) return usage_error(why);
  if (is_daemon) return run_daemon(*options, *mountpoint, std::move(*heartbeat));
  if (options->fake) return 0;
  if (const auto usable = prepare_mountpoint(*mountpoint); !usable) return usage_error(usable.error().message);

  GuardianOptions guardian;
  guardian.arguments = arguments;
  if (style == CallStyle::kMountHelper) guardian.arguments.insert(guardian.arguments.begin(), kAsMountHelper);
  guardian.mountpoint = *mountpoint;
  guardian.foreground = options->foreground;
  guardian.timeout = options->guardian_timeout;
  return run_guardian(guardian);
}
