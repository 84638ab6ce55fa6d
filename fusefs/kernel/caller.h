// Who is behind a FUSE request: the credentials that go to the replica, and the thread group that decides whether a
// FLUSH is a commit (filesystem.md sections 4 and 7). Reads /proc, because FUSE requests carry neither supplementary
// groups nor thread groups. Nothing is cached: pids are used again.
//
// Threading: any thread, no state.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "common/model/records.h"
#include "fusefs/ops/task_status.h"

namespace coord::fs {

TaskStatus read_task_status(pid_t tid);

// uid, gid and tid of the request as fuse_req_ctx() has them. Fails closed: a task that is gone, that has changed its
// uid since, or that another pid namespace hides (tid 0) has no supplementary groups.
Credentials credentials_of(std::uint32_t uid, std::uint32_t gid, pid_t tid);

// The thread group of a task; 0 when it is gone or hidden.
pid_t thread_group_of(pid_t tid);

// Whether the process of `tid`, or one that it has started, may still have a descriptor on an inode of that number, by
// their open descriptors as /proc shows them (proc(5), fdinfo). Also true when that cannot be found out, or there are
// very many of them. For FLUSH: the one that is being closed is not among them any more.
bool may_hold_another(pid_t tid, std::uint64_t ino);

// Whether the process of `tid` has a descriptor on an inode of that number that can be written to, by the same means.
// Also true when that cannot be found out, or there are very many of them.
bool may_hold_writable(pid_t tid, std::uint64_t ino);

// True when nothing of the thread group runs any more: no such process, or a zombie. A tgid of 0 counts as gone.
bool thread_group_gone(pid_t tgid);

}  // namespace coord::fs
