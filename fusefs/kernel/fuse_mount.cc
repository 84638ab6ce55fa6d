#include "fusefs/kernel/fuse_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/fd.h"
#include "fusefs/kernel/mountpoint.h"

namespace coord::fs {
namespace {

constexpr unsigned kMoveMountBeneath = 0x200;  // Linux 6.5; not in the headers of Debian 12

Fault fault(const std::string& path, const std::string& what, int error) {
  return Fault{"cannot mount at " + path + ": " + what + ": " + std::strerror(error)};
}

// A mount of the connection that stands nowhere yet. -1: this kernel or container has no such calls.
Fd detached_mount(int connection, const FuseMount& how) {
  const Fd context(::fsopen("fuse", FSOPEN_CLOEXEC));
  if (!context.ok()) return Fd(-1);
  const auto set = [&context](const char* key, const std::string& value) {
    return ::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0;
  };
  const auto flag = [&context](const char* key) {
    return ::fsconfig(context.get(), FSCONFIG_SET_FLAG, key, nullptr, 0) == 0;
  };
  const bool ok = set("source", how.source) && set("subtype", "coordfs") && set("fd", std::to_string(connection)) &&
                  set("rootmode", "40000") && set("user_id", std::to_string(::getuid())) &&
                  set("group_id", std::to_string(::getgid())) && flag("default_permissions") &&
                  (!how.allow_other || flag("allow_other"));
  if (!ok || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return Fd(-1);
  const unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (how.read_only ? MOUNT_ATTR_RDONLY : 0U);
  return Fd(::fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
}

// The new mount takes the place of the dead one. False: the kernel cannot do that, nothing has changed.
bool put_beneath(const std::string& path, int mount) {
  // This very mount, whatever lies at the path by the time of the umount.
  const Fd dead(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dead.ok()) return false;
  const unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | kMoveMountBeneath;
  if (::move_mount(mount, "", dead.get(), "", flags) != 0) return false;
  const std::string same = "/proc/self/fd/" + std::to_string(dead.get());
  if (::umount2(same.c_str(), MNT_DETACH) != 0) (void)clear_dead_mounts(path, 1);
  return true;
}

bool put_over(const std::string& path, int mount) {
  return ::move_mount(mount, "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

int mount_plainly(const std::string& path, int connection, const FuseMount& how) {
  const std::string options = "fd=" + std::to_string(connection) + ",rootmode=40000,user_id=" +
                              std::to_string(::getuid()) + ",group_id=" + std::to_string(::getgid()) +
                              ",default_permissions" + (how.allow_other ? ",allow_other" : "");
  unsigned long flags = MS_NOSUID | MS_NODEV;
  if (how.read_only) flags |= MS_RDONLY;
  const std::string type(kMountType);
  return ::mount(how.source.c_str(), path.c_str(), type.c_str(), flags, options.c_str()) == 0 ? 0 : errno;
}

Fd open_device() { return Fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC)); }

}  // namespace

Result<std::optional<int>, Fault> mount_fuse(const std::string& path, const FuseMount& how, Replace replace) {
  if (::geteuid() != 0) return std::optional<int>();
  const MountState state = mount_state(path);
  if (state != MountState::kNone && state != MountState::kDead) {
    return fail(Fault{"cannot mount at " + path + ": something else is mounted there"});
  }
  Fd connection = open_device();
  if (!connection.ok()) return fail(fault(path, "/dev/fuse", errno));
  if (state == MountState::kDead) {
    // On a kernel that cannot put one beneath, one dead mount stays for good and covers the directory, also while the
    // next dead one above it is exchanged.
    if (auto left = clear_dead_mounts(path, 1); !left) return fail(left.error());
  }
  const bool beneath = state == MountState::kDead && replace == Replace::kBeneath;
  if (beneath || how.read_only) {
    const Fd mount = detached_mount(connection.get(), how);
    if (mount.ok() && beneath && put_beneath(path, mount.get())) return std::optional(connection.release());
    if (mount.ok() && how.read_only && put_over(path, mount.get())) return std::optional(connection.release());
    connection = open_device();  // the old one belongs to the mount that could not be placed
    if (!connection.ok()) return fail(fault(path, "/dev/fuse", errno));
  }
  const int error = mount_plainly(path, connection.get(), how);
  if (error == EPERM) return std::optional<int>();
  if (error != 0) return fail(fault(path, "mount", error));
  return std::optional(connection.release());
}

}  // namespace coord::fs
