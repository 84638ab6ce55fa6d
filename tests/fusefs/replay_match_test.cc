#include "fusefs/replay/match.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "fusefs/replay/helper.h"

namespace coord::fs::replay {
namespace {

constexpr std::uint64_t kDir = 1, kOther = 2, kNode = 10;

Event event(EventKind kind, NodeType type = NodeType::kFile) {
  Event e;
  e.kind = kind;
  e.type = type;
  e.ino = kNode;
  e.parent = kDir;
  e.name = "n";
  e.new_parent = kOther;
  e.new_name = "m";
  return e;
}

// '-': as for anybody.
char say(const std::optional<Match>& m) {
  if (!m) return '-';
  EXPECT_TRUE(m->say == Say::kRefuse || m->ino == kNode);
  return "ANHCDR"[static_cast<int>(m->say)];
}

#define EXPECT_SAY(matcher, what, ...) EXPECT_EQ(say((matcher).match(__VA_ARGS__)), what)

TEST(ReplayMatch, WhatDoesNotBelongToTheJobIsRefused) {
  for (const EventKind kind :
       {EventKind::kData, EventKind::kAttributes, EventKind::kCreate, EventKind::kDelete, EventKind::kRename}) {
    JobMatcher m(event(kind));
    for (const FsCall call : {FsCall::kMknod, FsCall::kMkdir, FsCall::kSymlink, FsCall::kUnlink, FsCall::kRmdir}) {
      EXPECT_SAY(m, 'R', call, kDir, "n");  // right name, but never looked up
      EXPECT_SAY(m, 'R', call, kOther, "n");
      EXPECT_SAY(m, 'R', call, kDir, "other");
    }
    EXPECT_SAY(m, 'R', FsCall::kRename, kDir, "n", kOther, "m");
    EXPECT_SAY(m, 'R', FsCall::kOpen, kNode + 1, "");
    EXPECT_SAY(m, 'R', FsCall::kSetattr, kNode + 1, "");
    EXPECT_SAY(m, 'R', FsCall::kFlush, kNode, "");
    EXPECT_SAY(m, 'R', FsCall::kOtherChange, kNode, "");
    EXPECT_SAY(m, '-', FsCall::kLookup, kOther, "n");
    EXPECT_SAY(m, '-', FsCall::kLookup, kDir, "elsewhere");
    EXPECT_FALSE(m.raised());
  }
}

TEST(ReplayMatch, AnOvertakenJobIsNotAnswered) {
  for (const EventKind kind : {EventKind::kCreate, EventKind::kDelete, EventKind::kRename}) {
    JobMatcher other_name(event(kind));
    other_name.overtaken(kDir, "x");
    other_name.overtaken(kOther, "n");
    EXPECT_TRUE(other_name.match(FsCall::kLookup, kDir, "n"));
    JobMatcher m(event(kind));
    m.match(FsCall::kLookup, kDir, "n");
    m.match(FsCall::kLookup, kOther, "m");
    m.overtaken(kDir, "n");
    EXPECT_SAY(m, '-', FsCall::kLookup, kDir, "n");
    EXPECT_SAY(m, 'R', FsCall::kMknod, kDir, "n");
    EXPECT_SAY(m, 'R', FsCall::kUnlink, kDir, "n");
    EXPECT_SAY(m, 'R', FsCall::kRename, kDir, "n", kOther, "m");
    EXPECT_FALSE(m.raised());
  }
  JobMatcher by_new_name(event(EventKind::kRename));
  by_new_name.overtaken(kOther, "m");
  EXPECT_SAY(by_new_name, '-', FsCall::kLookup, kDir, "n");
}

TEST(ReplayMatch, GoneIsOneLookup) {
  Event deleted = event(EventKind::kDelete);
  deleted.overtaken = true;
  const Event gone = what_is_left(deleted);
  JobMatcher m(gone);
  EXPECT_SAY(m, '-', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(m, 'N', FsCall::kLookup, kDir, kGoneName);
  EXPECT_TRUE(m.raised());
  EXPECT_FALSE(m.told_gone(kDir, "n"));
  EXPECT_SAY(m, 'R', FsCall::kUnlink, kDir, kGoneName);
}

TEST(ReplayMatch, WhichNameItHasToldToBeGone) {
  JobMatcher deleted(event(EventKind::kDelete));
  deleted.match(FsCall::kLookup, kDir, "n");
  EXPECT_FALSE(deleted.told_gone(kDir, "n"));
  deleted.match(FsCall::kUnlink, kDir, "n");
  EXPECT_TRUE(deleted.told_gone(kDir, "n"));
  EXPECT_FALSE(deleted.told_gone(kDir, "x"));
  JobMatcher created(event(EventKind::kCreate));
  created.match(FsCall::kLookup, kDir, "n");
  created.match(FsCall::kMknod, kDir, "n");
  EXPECT_FALSE(created.told_gone(kDir, "n"));
}

TEST(ReplayMatch, AttemptsTakeAboutASecond) {
  std::chrono::milliseconds all{0};
  for (int attempts = 1; attempts < kAttemptsMax; ++attempts) all += pause_after(attempts);
  EXPECT_EQ(pause_after(1).count(), 0);
  EXPECT_EQ(all.count(), 1023);
}

TEST(ReplayEvent, WhatIsLeftOfAnOvertakenOne) {
  Event created = event(EventKind::kCreate);
  overtake(created, kDir, "n");
  EXPECT_FALSE(what_is_left(created).raise);

  Event deleted = event(EventKind::kDelete);
  overtake(deleted, kDir, "n");
  EXPECT_EQ(what_is_left(deleted).kind, EventKind::kGone);
  EXPECT_EQ(what_is_left(deleted).ino, kNode);
  EXPECT_TRUE(what_is_left(deleted).raise);
  deleted.seen = false;
  EXPECT_FALSE(what_is_left(deleted).raise) << "nobody can watch it";

  for (const NodeType type : {NodeType::kFile, NodeType::kDirectory}) {
    Event old_name = event(EventKind::kRename, type);
    overtake(old_name, kDir, "n");
    Event left = what_is_left(old_name);
    EXPECT_EQ(left.kind, EventKind::kCreate);
    EXPECT_EQ(left.ino, kNode);
    EXPECT_EQ(left.parent, kOther);
    EXPECT_EQ(left.name, "m");

    Event new_name = event(EventKind::kRename, type);
    overtake(new_name, kOther, "m");
    left = what_is_left(new_name);
    EXPECT_EQ(left.kind, EventKind::kDelete);
    EXPECT_EQ(left.ino, type == NodeType::kFile ? kNobodysFile : kNobodysDirectory) << "the node may live on";
    EXPECT_EQ(left.parent, kDir);
    EXPECT_EQ(left.name, "n");
    EXPECT_TRUE(left.raise);
    overtake(new_name, kDir, "n");
    EXPECT_FALSE(what_is_left(new_name).raise);
  }

  Event data = event(EventKind::kData);
  overtake(data, kDir, "n");
  EXPECT_TRUE(what_is_left(data).raise) << "of the node, whatever its name";
  Event elsewhere = event(EventKind::kDelete);
  overtake(elsewhere, kOther, "n");
  overtake(elsewhere, kDir, "m");
  EXPECT_EQ(what_is_left(elsewhere).kind, EventKind::kDelete);
}

TEST(ReplayEvent, ARenameOfWhichOneDirectoryIsNotHere) {
  const Event renamed = event(EventKind::kRename);
  EXPECT_EQ(what_is_reached(renamed, true, true).kind, EventKind::kRename);
  EXPECT_TRUE(what_is_reached(renamed, true, true).raise);
  EXPECT_FALSE(what_is_reached(renamed, false, false).raise);

  const Event out = what_is_reached(renamed, true, false);
  EXPECT_EQ(out.kind, EventKind::kDelete);
  EXPECT_EQ(out.ino, kNobodysFile) << "it lives on, and may come back";
  EXPECT_EQ(out.parent, kDir);
  EXPECT_EQ(out.name, "n");

  const Event in = what_is_reached(renamed, false, true);
  EXPECT_EQ(in.kind, EventKind::kCreate);
  EXPECT_EQ(in.ino, kNode);
  EXPECT_EQ(in.parent, kOther);
  EXPECT_EQ(in.name, "m");
}

TEST(ReplayMatch, Data) {
  JobMatcher m(event(EventKind::kData));
  EXPECT_SAY(m, '-', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(m, 'H', FsCall::kOpen, kNode, "");
  EXPECT_SAY(m, 'R', FsCall::kOpen, kNode, "");  // once
  EXPECT_SAY(m, 'C', FsCall::kSetattr, kNode, "");
  EXPECT_TRUE(m.raised());
  EXPECT_SAY(m, 'R', FsCall::kSetattr, kNode, "");
  EXPECT_SAY(m, 'D', FsCall::kFlush, kNode, "");
}

TEST(ReplayMatch, AnExecutableOrADirectoryIsNotOpened) {
  Event script = event(EventKind::kData);
  script.executable = true;
  JobMatcher m(script);
  EXPECT_SAY(m, 'R', FsCall::kOpen, kNode, "");
  EXPECT_SAY(m, 'C', FsCall::kSetattr, kNode, "");
  JobMatcher d(event(EventKind::kData, NodeType::kDirectory));
  EXPECT_SAY(d, 'R', FsCall::kOpen, kNode, "");
}

TEST(ReplayMatch, Attributes) {
  JobMatcher m(event(EventKind::kAttributes));
  EXPECT_SAY(m, 'R', FsCall::kOpen, kNode, "");
  EXPECT_SAY(m, 'C', FsCall::kSetattr, kNode, "");
  EXPECT_SAY(m, 'R', FsCall::kSetattr, kNode, "");
}

TEST(ReplayMatch, Create) {
  JobMatcher m(event(EventKind::kCreate));
  EXPECT_SAY(m, 'R', FsCall::kOpen, kNode, "");  // not before it is created
  EXPECT_SAY(m, 'A', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(m, 'R', FsCall::kMkdir, kDir, "n");
  EXPECT_SAY(m, 'N', FsCall::kMknod, kDir, "n");
  EXPECT_TRUE(m.raised());
  EXPECT_SAY(m, 'R', FsCall::kMknod, kDir, "n");
  EXPECT_SAY(m, '-', FsCall::kLookup, kDir, "n");  // and from now on it is there
  EXPECT_SAY(m, 'H', FsCall::kOpen, kNode, "");
  EXPECT_SAY(m, 'D', FsCall::kFlush, kNode, "");
  EXPECT_SAY(m, 'R', FsCall::kOpen, kNode, "");
}

TEST(ReplayMatch, CreateDirectoryAndSymlink) {
  JobMatcher d(event(EventKind::kCreate, NodeType::kDirectory));
  EXPECT_SAY(d, 'A', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(d, 'R', FsCall::kMknod, kDir, "n");
  EXPECT_SAY(d, 'N', FsCall::kMkdir, kDir, "n");
  EXPECT_SAY(d, 'R', FsCall::kOpen, kNode, "");
  JobMatcher s(event(EventKind::kCreate, NodeType::kSymlink));
  EXPECT_SAY(s, 'A', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(s, 'N', FsCall::kSymlink, kDir, "n");
}

TEST(ReplayMatch, Delete) {
  JobMatcher m(event(EventKind::kDelete));
  EXPECT_SAY(m, 'N', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(m, 'R', FsCall::kRmdir, kDir, "n");
  EXPECT_SAY(m, 'D', FsCall::kUnlink, kDir, "n");
  EXPECT_SAY(m, 'R', FsCall::kUnlink, kDir, "n");
  EXPECT_SAY(m, '-', FsCall::kLookup, kDir, "n");
  JobMatcher d(event(EventKind::kDelete, NodeType::kDirectory));
  EXPECT_SAY(d, 'N', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(d, 'R', FsCall::kUnlink, kDir, "n");
  EXPECT_SAY(d, 'D', FsCall::kRmdir, kDir, "n");
}

TEST(ReplayMatch, Rename) {
  JobMatcher m(event(EventKind::kRename));
  EXPECT_SAY(m, 'N', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(m, 'R', FsCall::kRename, kDir, "n", kOther, "m");  // the new name was cached: not asked for
  EXPECT_SAY(m, 'A', FsCall::kLookup, kOther, "m");
  EXPECT_SAY(m, 'R', FsCall::kRename, kDir, "n", kDir, "m");
  EXPECT_SAY(m, 'R', FsCall::kRename, kOther, "m", kDir, "n");
  EXPECT_SAY(m, 'D', FsCall::kRename, kDir, "n", kOther, "m");
  EXPECT_SAY(m, 'R', FsCall::kRename, kDir, "n", kOther, "m");
  JobMatcher d(event(EventKind::kRename, NodeType::kDirectory));
  EXPECT_SAY(d, 'N', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(d, 'A', FsCall::kLookup, kOther, "m");
  EXPECT_SAY(d, 'R', FsCall::kRename, kDir, "n", kOther, "m");  // only looked up before, not under the lock
  EXPECT_SAY(d, 'N', FsCall::kLookup, kDir, "n");
  EXPECT_SAY(d, 'D', FsCall::kRename, kDir, "n", kOther, "m");
}

TEST(ReplayMatch, Outcomes) {
  EXPECT_EQ(outcome(0, true, 1), Outcome::kDone);
  EXPECT_EQ(outcome(0, false, 1), Outcome::kGiveUp);
  EXPECT_EQ(outcome(EEXIST, false, 1), Outcome::kAgain);
  EXPECT_EQ(outcome(ESTALE, true, 1), Outcome::kAgain);  // answered, but the kernel did not go on
  EXPECT_EQ(outcome(EAGAIN, false, kAttemptsMax), Outcome::kGiveUp);
  EXPECT_EQ(outcome(EAGAIN, true, 1), Outcome::kGiveUp);  // we refused the node itself: it has gone
  EXPECT_EQ(outcome(EISDIR, false, 1), Outcome::kAgain);  // another node under that name, of another kind
  EXPECT_EQ(outcome(ENOTCONN, false, 1), Outcome::kGiveUp);
  EXPECT_EQ(outcome(EXDEV, false, 1), Outcome::kGiveUp);
  EXPECT_EQ(outcome(std::nullopt, true, 1), Outcome::kDone);
  EXPECT_EQ(outcome(std::nullopt, false, 1), Outcome::kAgain);
}

TEST(ReplayJob, RefusesWhatIsNotAJob) {
  Job job;
  EXPECT_FALSE(decode_job("", job));
  EXPECT_FALSE(decode_job(std::string(39, '\0'), job));
  EXPECT_FALSE(decode_job(std::string(41, '\0'), job));
  std::string bytes(40, '\0');
  EXPECT_TRUE(decode_job(bytes, job));
  bytes[16] = 1;  // a path that is not there
  EXPECT_FALSE(decode_job(bytes, job));
  bytes[16] = 0;
  bytes[32] = 9;  // no such kind
  EXPECT_FALSE(decode_job(bytes, job));
}

TEST(ReplayJob, BytesAndBack) {
  Job job;
  job.id = 7;
  job.device = 0x1234;
  job.event = event(EventKind::kRename, NodeType::kDirectory);
  job.event.executable = true;
  job.read_only = true;
  job.path = "a/b@";
  job.new_path = std::string(5000, 'x');
  Job back;
  ASSERT_TRUE(decode_job(encode_job(job), back));
  EXPECT_EQ(back.id, 7U);
  EXPECT_EQ(back.device, 0x1234U);
  EXPECT_EQ(back.event.kind, EventKind::kRename);
  EXPECT_EQ(back.event.type, NodeType::kDirectory);
  EXPECT_TRUE(back.event.executable);
  EXPECT_TRUE(back.read_only);
  EXPECT_EQ(back.event.name, "n");
  EXPECT_EQ(back.event.new_name, "m");
  EXPECT_EQ(back.path, job.path);
  EXPECT_EQ(back.new_path, job.new_path);
  job.path = std::string(kJobBytesMax, 'y');
  EXPECT_EQ(encode_job(job), "");
}

}  // namespace
}  // namespace coord::fs::replay
