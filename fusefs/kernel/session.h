// The life of one mount, from the first connection to the replica until it is gone: the daemon process of coordfs.
//
// Order at the start, so that nothing hangs and nothing is half there: helpers of the replayer (before the mount
// exists, from the main thread) -> connection and first answer of the replica -> predecessor's session closed -> root
// fetched -> kernel mount -> workers -> READY. At the end: no new requests (lazy unmount), open files have a moment to
// be closed, the write side commits what it can, connection aborted if somebody still holds files, session closed.
#pragma once

#include <optional>
#include <string>

#include "fusefs/kernel/guardian.h"
#include "fusefs/kernel/options.h"

namespace coord::fs {

// Blocks until the mount is gone; returns the exit status: kExitUnmounted, kExitFailed, kExitUsage. In the main thread,
// before any other exists; blocks SIGTERM, SIGINT, SIGHUP for the process. `mountpoint` is canonical and prepared.
// `heartbeat`: the line to the guardian; nullopt: none (messages go to stderr then).
int run_mount(const MountOptions& options, const std::string& mountpoint, std::optional<Heartbeat> heartbeat);

}  // namespace coord::fs
