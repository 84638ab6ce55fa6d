#include "fusefs/ops/errno_map.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace coord::fs {
namespace {

TEST(ErrnoMap, NothingWasSent) {
  EXPECT_EQ(write_errno(Err::kConnectionLoss, false), EROFS);
  EXPECT_EQ(write_errno(Err::kOperationTimeout, false), EROFS);
  EXPECT_EQ(read_errno(Err::kConnectionLoss, false), ETIMEDOUT);
  EXPECT_FALSE(outcome_unknown(Err::kConnectionLoss, false));
}

TEST(ErrnoMap, OutcomeUnknown) {
  for (const Err e : {Err::kConnectionLoss, Err::kOperationTimeout}) {
    EXPECT_EQ(write_errno(e, true), ETIMEDOUT);
    EXPECT_EQ(read_errno(e, true), ETIMEDOUT);
    EXPECT_TRUE(outcome_unknown(e, true));
  }
  EXPECT_TRUE(outcome_unknown(Err::kOutOfWindow, true));
  EXPECT_FALSE(outcome_unknown(Err::kNoNode, true));
}

TEST(ErrnoMap, TableOfTheSpecification) {
  EXPECT_EQ(write_errno(Err::kOk), 0);
  EXPECT_EQ(write_errno(Err::kNoNode), ENOENT);
  EXPECT_EQ(write_errno(Err::kNodeExists), EEXIST);
  EXPECT_EQ(write_errno(Err::kNotEmpty), ENOTEMPTY);
  EXPECT_EQ(write_errno(Err::kNoChildrenForEphemerals), EPERM);
  EXPECT_EQ(write_errno(Err::kBadVersion), ESTALE);
  EXPECT_EQ(write_errno(Err::kNoAuth), EACCES);
  EXPECT_EQ(write_errno(Err::kInvalidAcl), EINVAL);
  EXPECT_EQ(write_errno(Err::kQuotaExceeded), EDQUOT);
  EXPECT_EQ(write_errno(Err::kNoSpace), ENOSPC);
  EXPECT_EQ(write_errno(Err::kSessionExpired), ESTALE);
  EXPECT_EQ(write_errno(Err::kSubtreeTooLarge), EXDEV);
  EXPECT_EQ(write_errno(Err::kNotPermitted), EPERM);
}

TEST(ErrnoMap, NeverWhatTheKernelMisunderstands) {
  for (int code = -2000; code <= 0; ++code) {
    for (const bool sent : {false, true}) {
      const int write = write_errno(static_cast<Err>(code), sent);
      EXPECT_NE(write, EIO) << code;
      EXPECT_NE(write, ENOSYS) << code;
      EXPECT_EQ(write == 0, code == 0) << code;
    }
  }
  EXPECT_EQ(write_errno(static_cast<Err>(-77)), EPROTO);
}

}  // namespace
}  // namespace coord::fs
