// The rules of the write path as functions (filesystem.md section 4): what an open asks for, when a FLUSH is a commit,
// and what follows an answer to a commit. Pure.
#pragma once

#include <cstdint>

#include "common/base/error.h"
#include "fusefs/names/names.h"

namespace coord::fs {

struct OpenIntent {
  bool read = false;
  bool write = false;
  bool append = false;
  bool truncate = false;   // O_TRUNC, and writable: O_RDONLY|O_TRUNC truncates nothing here
  bool exclusive = false;  // O_EXCL
};
OpenIntent open_intent(int flags);

// Does open(O_CREAT) of a new name make its transaction before it answers? Else the name is made at the first commit.
inline bool creates_at_once(const OpenIntent& intent, CreateSuffix suffix) {
  return suffix != CreateSuffix::kNone || intent.exclusive || !intent.write;
}

// `written`: something was written through any handle of the inode since the last commit; O_TRUNC alone is not. The
// first FLUSH of `echo x > f` comes before its WRITE, and every child that inherited a descriptor flushes when it ends:
// neither may publish half a file.
inline bool flush_commits(bool written, bool by_opener, bool opener_gone) {
  return written && (by_opener || opener_gone);
}

enum class CommitNext : std::uint8_t {
  kDone,
  kRebase,   // another host was faster: apply the edits to the current data, and again
  kInspect,  // the session ended with the request in flight: look at the node whether it came to pass
  kFail,     // final: the edits are dropped and the error sticks to the handles
};
// `conditional`: user.coord.expect was set, so a conflict is final. `versioned`: the request named a version.
CommitNext after_commit(Err err, bool sent, bool conditional, bool versioned);

}  // namespace coord::fs
