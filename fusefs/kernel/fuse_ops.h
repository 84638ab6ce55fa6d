// The table of FUSE requests: who answers what. Thin glue, no decisions but these: locks are refused with ENOLCK (an
// unset handler would make the kernel lock on this host only and look right), ioctl with ENOTTY, and the directories
// whose lock the kernel holds during a request are noted for the replayer.
#pragma once

#include "fusefs/kernel/mount.h"

namespace coord::fs {

// `local_locks`: -o locks=local, the kernel's own locks.
fuse_lowlevel_ops fuse_ops(bool local_locks);

}  // namespace coord::fs
