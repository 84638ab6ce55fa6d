// The command line of `coordfs SOURCE MOUNTPOINT [-f] [-o OPT,...]` and of the mount helper
// `mount.coordfs SOURCE MOUNTPOINT [-sfnv] [-N ns] [-t type] [-o OPT,...]` (mount(8), "External helpers"), as a pure
// function. The text of --help and the exit statuses are main's; the guardian's and the replay helper's hidden
// arguments are not handled here (guardian.h, fusefs/replay/helper.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace coord::fs {

enum class CallStyle : std::uint8_t {
  kCoordfs,      // -f = foreground, -d = debug and foreground
  kMountHelper,  // -f = fake (check only, do not mount), -s = tolerate unknown options, -n and -v as mount(8) has them
};
// By argv[0]: a base name beginning with "mount." is a mount helper.
CallStyle call_style(const std::string& argv0);

enum class LockScope : std::uint8_t {
  kCluster,  // the default: replicated locks; ENOLCK until there are any
  kLocal,    // the kernel's own, on this host only
};

struct MountOptions {
  std::string source;      // "unix:/path", "host:port", ...[/chroot]; what it means is client::parse_target's
  std::string mountpoint;  // as given
  bool foreground = false;
  bool fake = false;
  bool verbose = false;
  bool help = false;     // --help, -h: nothing else is checked
  bool version = false;  // --version, -V

  bool read_only = false;                         // ro
  bool allow_other = false;                       // allow_other, noallow_other; default: true for root
  std::chrono::seconds wait{10};                  // wait=SECONDS, 0..3600: for a replica, at the start
  std::int32_t session_timeout_ms = 10'000;       // session_timeout=MS, 1000..600000
  LockScope locks = LockScope::kCluster;          // locks=cluster|local
  // stale=serve: a host that is cut off goes on answering reads (nullopt). stale=fail:SECONDS, 0..86400: reads fail
  // after that time.
  std::optional<std::chrono::seconds> stale_fail_after;
  std::chrono::milliseconds guardian_timeout{3000};  // guardian_timeout=MS, 500..60000
  std::string log_file;                           // log=FILE, absolute; "": stderr, or syslog's place when detached
  bool debug = false;                             // debug, -d
};

// `arguments` without argv[0]. Ignored, as fstab and mount(8) put them there: rw, defaults, auto, noauto, user, users,
// nouser, owner, group, _netdev, nofail, x-*, X-*, comment=*, uhelper=*, helper=*, dev/nodev, suid/nosuid, exec,
// async, relatime, strictatime, atime, noatime, nodiratime, diratime, lazytime, nolazytime, _rnetdev. (The mount is
// nosuid,nodev in any case.) Later options win over earlier ones. noexec, sync and dirsync are unknown, because they
// would promise something. Fault: one line that names the option and what would be accepted; the caller exits with 2.
Result<MountOptions, Fault> parse_mount_options(const std::vector<std::string>& arguments, CallStyle style,
                                                bool is_root);

}  // namespace coord::fs
