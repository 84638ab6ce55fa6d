// Processes that the tests of this folder start from the test binary itself.
#pragma once

#include <string>

#include "fusefs/kernel/guardian.h"

namespace coord::fs {

// kDaemonFlag FD MODE DIRECTORY: a daemon for the guardian that behaves as MODE says and keeps a diary in
// DIRECTORY/lives (guardian_test.cc). True, with the exit status, if argv asked for it.
bool testing_child_main(int argc, char** argv, int& status);

// The daemons of hung_mount_test.cc: modes "hung-mount", "left-mount" and "dirt-mount".
int mounting_daemon(Heartbeat& heartbeat, const std::string& mode, const std::string& directory);

}  // namespace coord::fs
