#include "fusefs/ops/write_rules.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace coord::fs {
namespace {

TEST(OpenIntent, ReadOnlyNeverWrites) {
  const OpenIntent intent = open_intent(O_RDONLY | O_TRUNC | O_APPEND);
  EXPECT_TRUE(intent.read);
  EXPECT_FALSE(intent.write);
  EXPECT_FALSE(intent.truncate);
  EXPECT_FALSE(intent.append);
}

TEST(OpenIntent, WriteFlags) {
  const OpenIntent intent = open_intent(O_WRONLY | O_CREAT | O_TRUNC);
  EXPECT_FALSE(intent.read);
  EXPECT_TRUE(intent.write);
  EXPECT_TRUE(intent.truncate);
  const OpenIntent both = open_intent(O_RDWR | O_APPEND | O_EXCL);
  EXPECT_TRUE(both.read && both.write && both.append && both.exclusive);
}

TEST(CreatesAtOnce, OnlyAPlainOpenForWritingWaits) {
  EXPECT_FALSE(creates_at_once(open_intent(O_WRONLY | O_CREAT | O_TRUNC), CreateSuffix::kNone));
  EXPECT_FALSE(creates_at_once(open_intent(O_RDWR | O_CREAT), CreateSuffix::kNone));
  EXPECT_TRUE(creates_at_once(open_intent(O_WRONLY | O_CREAT | O_EXCL), CreateSuffix::kNone));
  EXPECT_TRUE(creates_at_once(open_intent(O_RDONLY | O_CREAT), CreateSuffix::kNone)) << "flock FILE opens so";
  EXPECT_TRUE(creates_at_once(open_intent(O_WRONLY | O_CREAT), CreateSuffix::kSequential));
  EXPECT_TRUE(creates_at_once(open_intent(O_WRONLY | O_CREAT), CreateSuffix::kEphemeral));
}

// filesystem.md section 4, "What shells really send".
TEST(FlushCommits, FirstFlushOfEchoComesBeforeTheWrite) { EXPECT_FALSE(flush_commits(false, true, false)); }
TEST(FlushCommits, AChildThatInheritedTheDescriptorDoesNotPublish) { EXPECT_FALSE(flush_commits(true, false, false)); }
TEST(FlushCommits, TheOpenerPublishes) { EXPECT_TRUE(flush_commits(true, true, false)); }
TEST(FlushCommits, AnybodyPublishesForAnOpenerThatHasGone) {
  EXPECT_TRUE(flush_commits(true, false, true));
  EXPECT_FALSE(flush_commits(false, false, true));
}

TEST(AfterCommit, ConflictIsRebasedUnlessTheCallerAskedForThatVersion) {
  EXPECT_EQ(after_commit(Err::kBadVersion, true, false, true), CommitNext::kRebase);
  EXPECT_EQ(after_commit(Err::kBadVersion, true, true, true), CommitNext::kFail);
}

TEST(AfterCommit, AnUnknownOutcomeIsNeverTriedAgain) {
  EXPECT_EQ(after_commit(Err::kOperationTimeout, true, false, true), CommitNext::kFail);
  EXPECT_EQ(after_commit(Err::kConnectionLoss, true, false, false), CommitNext::kFail);
}

TEST(AfterCommit, ALostSessionIsInspectedIfTheRequestWasOnItsWay) {
  EXPECT_EQ(after_commit(Err::kSessionExpired, true, false, true), CommitNext::kInspect);
  EXPECT_EQ(after_commit(Err::kSessionExpired, false, false, true), CommitNext::kRebase);
}

TEST(AfterCommit, RefusalsAreFinal) {
  for (const Err err : {Err::kNoAuth, Err::kStaleNode, Err::kNoSpace, Err::kQuotaExceeded, Err::kOutOfWindow}) {
    EXPECT_EQ(after_commit(err, true, false, true), CommitNext::kFail);
  }
  EXPECT_EQ(after_commit(Err::kOk, true, true, true), CommitNext::kDone);
}

}  // namespace
}  // namespace coord::fs
