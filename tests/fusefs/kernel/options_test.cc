#include "fusefs/kernel/options.h"

#include <gtest/gtest.h>

namespace coord::fs {
namespace {

using Arguments = std::vector<std::string>;

MountOptions good(const Arguments& arguments, CallStyle style = CallStyle::kCoordfs, bool root = true) {
  const auto parsed = parse_mount_options(arguments, style, root);
  EXPECT_TRUE(parsed) << parsed.error().message;
  return parsed ? *parsed : MountOptions{};
}

std::string bad(const Arguments& arguments, CallStyle style = CallStyle::kCoordfs) {
  const auto parsed = parse_mount_options(arguments, style, true);
  EXPECT_FALSE(parsed);
  return parsed ? "" : parsed.error().message;
}

std::string bad_option(const std::string& option) { return bad({"unix:/s", "/m", "-o", option}); }

TEST(Options, NamesWhatItDoesNotUnderstand) {
  EXPECT_EQ(bad({}), "SOURCE and MOUNTPOINT are missing");
  EXPECT_EQ(bad({"unix:/s"}), "MOUNTPOINT is missing");
  EXPECT_EQ(bad({"unix:/s", ""}), "SOURCE and MOUNTPOINT must not be empty");
  EXPECT_NE(bad({"a", "b", "c"}).find("'c'"), std::string::npos);
  EXPECT_NE(bad({"a", "b", "-x"}).find("'-x'"), std::string::npos);
  EXPECT_NE(bad({"a", "b", "--frobnicate"}).find("'--frobnicate'"), std::string::npos);
  EXPECT_NE(bad({"a", "b", "-o"}).find("-o"), std::string::npos);
  EXPECT_NE(bad_option("ro,frobnicate").find("'frobnicate'"), std::string::npos);
  EXPECT_NE(bad_option("frobnicate=1").find("'frobnicate=1'"), std::string::npos);
  EXPECT_NE(bad_option("wait").find("'wait'"), std::string::npos);
  EXPECT_NE(bad_option("noexec").find("'noexec'"), std::string::npos);
}

TEST(Options, NumbersHaveRanges) {
  for (const char* option : {"wait=", "wait=x", "wait=1s", "wait=-1", "wait=3601", "session_timeout=999",
                             "session_timeout=99999999999999999999", "guardian_timeout=1",
                             "uid=0", "gid=0", "commit_timeout=1000", "stale=fail:", "stale=fail:x", "stale=never",
                             "locks=none", "log=relative"}) {
    EXPECT_NE(bad_option(option).find(std::string(option).substr(0, 3)), std::string::npos) << option;
  }
}

TEST(Options, Defaults) {
  const MountOptions o = good({"unix:/run/coordd/client.sock", "/coord"});
  EXPECT_EQ(o.source, "unix:/run/coordd/client.sock");
  EXPECT_EQ(o.mountpoint, "/coord");
  EXPECT_TRUE(o.allow_other);
  EXPECT_FALSE(o.foreground || o.read_only || o.debug || o.fake);
  EXPECT_EQ(o.wait.count(), 10);
  EXPECT_EQ(o.locks, LockScope::kCluster);
  EXPECT_FALSE(o.stale_fail_after);
  EXPECT_FALSE(good({"a", "b"}, CallStyle::kCoordfs, false).allow_other);
}

TEST(Options, AllOfThem) {
  const MountOptions o = good({"-f", "h:1,h:2/root", "-o", "ro,wait=3,session_timeout=4000", "/m",
                               "-olocks=local,stale=fail:60,log=/var/log/x,debug",
                               "-o", "guardian_timeout=1000,noallow_other,,"});
  EXPECT_TRUE(o.foreground);
  EXPECT_TRUE(o.read_only);
  EXPECT_FALSE(o.allow_other);
  EXPECT_EQ(o.source, "h:1,h:2/root");
  EXPECT_EQ(o.mountpoint, "/m");
  EXPECT_EQ(o.wait.count(), 3);
  EXPECT_EQ(o.session_timeout_ms, 4000);
  EXPECT_EQ(o.locks, LockScope::kLocal);
  EXPECT_EQ(o.stale_fail_after, std::chrono::seconds(60));
  EXPECT_EQ(o.log_file, "/var/log/x");
  EXPECT_TRUE(o.debug);
  EXPECT_EQ(o.guardian_timeout.count(), 1000);
}

TEST(Options, LaterWins) {
  EXPECT_EQ(good({"a", "b", "-o", "wait=1,wait=2"}).wait.count(), 2);
  EXPECT_FALSE(good({"a", "b", "-o", "stale=fail:1,stale=serve"}).stale_fail_after);
}

TEST(Options, WhatFstabAndMountPutThere) {
  const MountOptions o = good({"unix:/s", "/m", "-f", "-n", "-v", "-t", "fuse.coordfs", "-N", "1", "-o",
                               "rw,defaults,_netdev,noauto,nofail,x-systemd.automount,X-foo=bar,comment=hi,nodev"},
                              CallStyle::kMountHelper);
  EXPECT_TRUE(o.fake);
  EXPECT_FALSE(o.foreground);
  EXPECT_TRUE(o.verbose);
}

TEST(Options, SloppyMountHelper) {
  EXPECT_EQ(good({"unix:/s", "/m", "-o", "frobnicate,wait=4", "-sv"}, CallStyle::kMountHelper).wait.count(), 4);
  EXPECT_NE(bad({"unix:/s", "/m", "-o", "frobnicate"}, CallStyle::kMountHelper), "");
  EXPECT_NE(bad({"unix:/s", "/m", "-s", "-o", "wait=x"}, CallStyle::kMountHelper), "");
  EXPECT_NE(bad({"unix:/s", "/m", "-s"}), "");  // coordfs itself has no -s
}

TEST(Options, HelpAndVersionNeedNothingElse) {
  EXPECT_TRUE(good({"--help"}).help);
  EXPECT_TRUE(good({"-h"}).help);
  EXPECT_TRUE(good({"-V"}).version);
  EXPECT_TRUE(good({"x", "--version"}).version);
}

TEST(Options, OddNames) {
  EXPECT_EQ(good({"a", "--", "-m"}).mountpoint, "-m");
  EXPECT_EQ(call_style("/sbin/mount.coordfs"), CallStyle::kMountHelper);
  EXPECT_EQ(call_style("mount.fuse.coordfs"), CallStyle::kMountHelper);
  EXPECT_EQ(call_style("/mnt/mount.d/coordfs"), CallStyle::kCoordfs);
}

}  // namespace
}  // namespace coord::fs
