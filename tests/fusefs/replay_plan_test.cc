#include "fusefs/ops/replay_plan.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/fusefs/node.h"

namespace coord::fs {
namespace {

using replay::EventKind;
using replay::NodeType;
using wire::ChangeEvent;
using wire::ChangeKind;
using wire::NodeInfo;

class Plan : public ::testing::Test {
 protected:
  std::vector<replay::Event> plan(ChangeKind kind, const NodeInfo& info) { return plan_replay(input(kind, info)); }
  // "DIRECTORY/NAME ..." of raised_by_kernel().
  std::string raised(ChangeKind kind, const NodeInfo& info) {
    std::string out;
    for (const ShownName& at : raised_by_kernel(input(kind, info)))
      out += std::to_string(at.parent) + "/" + at.name + " ";
    return out;
  }
  PlanInput input(ChangeKind kind, const NodeInfo& info) {
    event.kind = kind;
    event.node = info;
    PlanInput in;
    in.event = &event;
    in.before = before;
    in.parent = parent;
    in.parent_children_before = children_before;
    in.children_dir_open = children_dir_open;
    in.lost = &lost;
    in.knows = [this](Ino ino) { return known.contains(ino); };
    in.by_kernel = [this](View view) { return ours.contains(view); };
    return in;
  }
  static Ino data(std::uint64_t id) { return ino_of(NodeId{id}, View::kData); }
  static Ino dir(std::uint64_t id) { return ino_of(NodeId{id}, View::kDir); }

  ChangeEvent event;
  std::optional<NodeInfo> before;
  std::optional<NodeInfo> parent;
  std::int32_t children_before = 0;
  bool children_dir_open = false;
  std::vector<LostName> lost;
  std::set<Ino> known;
  std::set<View> ours;
};

TEST_F(Plan, NothingForWhatNobodyCanWatch) {
  EXPECT_TRUE(plan(ChangeKind::kCreated, node(5, 2, "a")).empty());
  EXPECT_TRUE(plan(ChangeKind::kData, node(5, 2, "a")).empty());
  EXPECT_TRUE(plan(ChangeKind::kAttributes, node(5, 2, "a")).empty());
  EXPECT_TRUE(plan(ChangeKind::kDeleted, node(5, 2, "a")).empty());
}

TEST_F(Plan, NothingForWhatTheKernelHasRaised) {
  known = {dir(2), data(5)};
  ours = {View::kData};
  EXPECT_TRUE(plan(ChangeKind::kCreated, node(5, 2, "a")).empty());
  EXPECT_TRUE(plan(ChangeKind::kData, node(5, 2, "a")).empty());
  EXPECT_TRUE(plan(ChangeKind::kDeleted, node(5, 2, "a")).empty());
}

TEST_F(Plan, TheNamesOfWhatTheKernelHasRaised) {
  EXPECT_EQ(raised(ChangeKind::kCreated, node(5, 2, "a")), "");  // somebody else's
  ours = {View::kData};
  EXPECT_EQ(raised(ChangeKind::kCreated, node(5, 2, "a")), "9/a ");
  EXPECT_EQ(raised(ChangeKind::kDeleted, node(5, 2, "a")), "9/a ");
  before = node(5, 2, "a");
  EXPECT_EQ(raised(ChangeKind::kData, node(5, 2, "a")), "");
  event.old_parent = NodeId{3};
  event.old_name = "old";
  EXPECT_EQ(raised(ChangeKind::kRenamed, node(5, 2, "a")), "13/old 9/a ");
}

TEST_F(Plan, CreateInAKnownDirectory) {
  known = {dir(2)};
  const auto events = plan(ChangeKind::kCreated, node(5, 2, "a"));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, EventKind::kCreate);
  EXPECT_EQ(events[0].type, NodeType::kFile);
  EXPECT_EQ(events[0].ino, data(5));
  EXPECT_EQ(events[0].parent, dir(2));
  EXPECT_EQ(events[0].name, "a");
}

TEST_F(Plan, FirstChildOfAFileShowsItsChildrenDirectory) {
  known = {dir(1)};
  parent = node(2, 1, "conf");
  parent->stat.num_children = 1;
  const auto events = plan(ChangeKind::kCreated, node(5, 2, "a"));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "conf@");
  EXPECT_EQ(events[0].type, NodeType::kDirectory);
  EXPECT_EQ(events[0].parent, dir(1));
  known.insert(dir(2));  // somebody has made it, or looked at it: the kernel has it
  EXPECT_EQ(plan(ChangeKind::kCreated, node(5, 2, "a")).size(), 1u);
  EXPECT_EQ(plan(ChangeKind::kCreated, node(5, 2, "a"))[0].name, "a");
}

TEST_F(Plan, DeleteOfAKnownNodeTakesItsName) {
  known = {dir(2), data(5)};
  lost = {LostName{data(5), dir(2), "a"}};
  const auto events = plan(ChangeKind::kDeleted, node(5, 2, "a"));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, EventKind::kDelete);
  EXPECT_TRUE(events[0].raise);
  EXPECT_TRUE(events[0].seen);
}

TEST_F(Plan, DeleteOfAnUnknownNodeIsStillSeenInItsDirectory) {
  known = {dir(2)};
  const auto events = plan(ChangeKind::kDeleted, node(5, 2, "a", Shape::kDir));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].type, NodeType::kDirectory);
  EXPECT_FALSE(events[0].seen);
}

TEST_F(Plan, DeleteTakesTheChildrenDirectoryToo) {
  known = {dir(2), data(5), dir(5)};
  lost = {LostName{data(5), dir(2), "a"}, LostName{dir(5), dir(2), "a@"}};
  children_dir_open = true;
  auto events = plan(ChangeKind::kDeleted, node(5, 2, "a"));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].name, "a");
  EXPECT_TRUE(events[0].raise);
  EXPECT_EQ(events[1].name, "a@");
  EXPECT_EQ(events[1].type, NodeType::kDirectory);
  EXPECT_TRUE(events[1].raise);
  EXPECT_TRUE(events[1].seen);
  lost.clear();  // an answer had said before that it has gone
  events = plan(ChangeKind::kDeleted, node(5, 2, "a"));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].name, "a@");
  children_dir_open = false;  // this host has removed it, and the kernel has raised that
  lost = {LostName{data(5), dir(2), "a"}, LostName{dir(5), dir(2), "a@"}};
  events = plan(ChangeKind::kDeleted, node(5, 2, "a"));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE(events[0].raise);
  EXPECT_FALSE(events[1].raise);
}

TEST_F(Plan, DeleteOfANodeThatIsOnlyAChildrenDirectory) {
  known = {dir(2)};
  auto info = node(5, 2, "a");
  info.null_data = true;
  auto events = plan(ChangeKind::kDeleted, info);
  ASSERT_EQ(events.size(), 1u) << "as its creation was told of";
  EXPECT_EQ(events[0].name, "a@");
  EXPECT_EQ(events[0].type, NodeType::kDirectory);
  lost = {LostName{dir(5), dir(2), "a@"}};
  events = plan(ChangeKind::kDeleted, info);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_TRUE(events[0].raise);
  lost.clear();
  ours = {View::kDir};
  EXPECT_TRUE(plan(ChangeKind::kDeleted, info).empty());
}

TEST_F(Plan, DotDataGoesSilentlyWithItsDirectory) {
  known = {dir(2), dir(5), data(5)};
  auto info = node(5, 2, "d", Shape::kDir);
  info.stat.data_length = 3;
  lost = {LostName{data(5), dir(5), ".data"}, LostName{dir(5), dir(2), "d"}};
  const auto events = plan(ChangeKind::kDeleted, info);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].name, ".data");
  EXPECT_FALSE(events[0].raise);
  EXPECT_TRUE(events[1].raise);
}

TEST_F(Plan, DataOfADirectoryGoesByDotData) {
  known = {dir(5)};
  auto info = node(5, 2, "d", Shape::kDir);
  before = info;
  info.stat.data_length = 3;
  auto events = plan(ChangeKind::kData, info);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, EventKind::kCreate) << "it was empty, so it was not there";
  EXPECT_EQ(events[0].name, ".data");
  before = info;
  events = plan(ChangeKind::kData, info);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, EventKind::kData);
}

TEST_F(Plan, ExecutableFilesAreMarked) {
  known = {dir(2)};
  auto info = node(5, 2, "a");
  info.attributes.exec = 0111;
  before = info;
  const auto events = plan(ChangeKind::kData, info);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_TRUE(events[0].executable);
}

TEST_F(Plan, FileThatBecomesADirectory) {
  known = {dir(2), data(5)};
  before = node(5, 2, "a");
  lost = {LostName{data(5), dir(2), "a"}};
  const auto events = plan(ChangeKind::kAttributes, node(5, 2, "a", Shape::kDir));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].kind, EventKind::kDelete);
  EXPECT_EQ(events[0].type, NodeType::kFile);
  EXPECT_EQ(events[1].kind, EventKind::kCreate);
  EXPECT_EQ(events[1].type, NodeType::kDirectory);
  EXPECT_EQ(events[1].ino, dir(5));
}

TEST_F(Plan, RenameHasBothNames) {
  known = {dir(2), dir(3), data(5)};
  lost = {LostName{data(5), dir(2), "a"}};
  before = node(5, 2, "a");
  event.old_parent = NodeId{2};
  event.old_name = "a";
  const auto events = plan(ChangeKind::kRenamed, node(5, 3, "b"));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, EventKind::kRename);
  EXPECT_EQ(events[0].name, "a");
  EXPECT_EQ(events[0].new_parent, dir(3));
  EXPECT_EQ(events[0].new_name, "b");
}

TEST_F(Plan, RenameOfANodeThatIsOnlyAChildrenDirectory) {
  known = {dir(2)};
  event.old_parent = NodeId{2};
  event.old_name = "a";
  auto info = node(5, 3, "b");
  info.stat.num_children = 1;
  EXPECT_EQ(plan(ChangeKind::kRenamed, info).size(), 1u) << "NAME tells of both";
  info.null_data = true;
  const auto events = plan(ChangeKind::kRenamed, info);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "a@");
  EXPECT_EQ(events[0].new_name, "b@");
}

// Whatever happens: each lost name leaves limbo by exactly one event.
TEST_F(Plan, EveryLostNameHasItsEvent) {
  known = {dir(2), dir(3), data(5), dir(5)};
  before = node(5, 2, "a");
  before->stat.num_children = 1;
  event.old_parent = NodeId{2};
  event.old_name = "a";
  lost = {LostName{data(5), dir(2), "a"}, LostName{dir(5), dir(2), "a@"}};
  for (const auto kind : {ChangeKind::kDeleted, ChangeKind::kData, ChangeKind::kAttributes, ChangeKind::kRenamed}) {
    for (const bool moved : {false, true}) {
      auto info = node(5, moved ? 3 : 2, moved ? "b" : "a");
      info.stat.num_children = 1;
      std::multiset<Ino> taken;
      for (const auto& e : plan(kind, info)) {
        if (e.kind == EventKind::kDelete || e.kind == EventKind::kRename) taken.insert(e.ino);
      }
      if (kind == ChangeKind::kRenamed && !moved) continue;  // no such event
      EXPECT_EQ(taken, (std::multiset<Ino>{data(5), dir(5)})) << static_cast<int>(kind) << moved;
    }
  }
}

}  // namespace
}  // namespace coord::fs
