#include "fusefs/ops/task_status.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace coord::fs {
namespace {

const char* const kText =
    "Name:\tbash: Uid: 7\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t812\nNgid:\t0\nPid:\t813\n"
    "Uid:\t1000\t1001\t1002\t1003\nGid:\t100\t101\t102\t103\nFDSize:\t256\nGroups:\t4 24 1000 \nThreads:\t2\n";

TEST(TaskStatus, EmptyTextIsNotValid) { EXPECT_FALSE(parse_task_status("").valid); }

TEST(TaskStatus, CutOffTextIsNotValidAndHasNoGroups) {
  const std::string whole = kText;
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const TaskStatus status = parse_task_status(std::string_view(whole).substr(0, n));
    EXPECT_FALSE(status.valid) << n;
    EXPECT_TRUE(status.groups.empty()) << n;
  }
}

TEST(TaskStatus, FieldsThatAreNoNumbersAreNotValid) {
  std::string text = kText;
  text.replace(text.find("812"), 3, "abc");
  EXPECT_FALSE(parse_task_status(text).valid);
}

TEST(TaskStatus, ReadsFileSystemIdsGroupsAndThreadGroup) {
  const TaskStatus status = parse_task_status(kText);
  ASSERT_TRUE(status.valid);
  EXPECT_EQ(status.state, 'S');
  EXPECT_EQ(status.tgid, 812);
  EXPECT_EQ(status.threads, 2);
  EXPECT_EQ(status.fsuid, 1003U);
  EXPECT_EQ(status.fsgid, 103U);
  EXPECT_EQ(status.groups, (std::vector<std::uint32_t>{4, 24, 1000}));
}

TEST(TaskStatus, NoGroupsAreAnEmptyListAndValid) {
  std::string text = kText;
  text.replace(text.find("4 24 1000 "), 10, "");
  const TaskStatus status = parse_task_status(text);
  EXPECT_TRUE(status.valid);
  EXPECT_TRUE(status.groups.empty());
}

TEST(TaskStatus, ThisKernelsOwnText) {
  std::ifstream in("/proc/self/status");
  std::stringstream text;
  text << in.rdbuf();
  const TaskStatus status = parse_task_status(text.str());
  ASSERT_TRUE(status.valid) << text.str();
  EXPECT_EQ(status.tgid, getpid());
  EXPECT_EQ(status.fsuid, geteuid());
}

TEST(GroupEnded, OnlyADeadGroupHasEnded) {
  TaskStatus leader = parse_task_status(kText);
  EXPECT_FALSE(group_ended(leader));
  leader.state = 'Z';
  EXPECT_FALSE(group_ended(leader)) << "the leader ended, another thread runs on";
  leader.threads = 1;
  EXPECT_TRUE(group_ended(leader));
  EXPECT_TRUE(group_ended(TaskStatus{})) << "no such process";
}

}  // namespace
}  // namespace coord::fs
