// What /proc/TID/status says about the task behind a FUSE request (proc(5)). Pure: parses text.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace coord::fs {

struct TaskStatus {
  bool valid = false;  // every field was there; else there are no groups
  char state = '?';
  pid_t tgid = 0;
  pid_t parent = 0;  // thread group; 0: none
  int threads = 0;
  std::uint32_t fsuid = 0;
  std::uint32_t fsgid = 0;
  std::vector<std::uint32_t> groups;
};
TaskStatus parse_task_status(std::string_view text);

// Nothing of the thread group runs any more, given the status of its leader: no such process, or a zombie that is not
// merely the leader that ended before its other threads.
inline bool group_ended(const TaskStatus& leader) {
  return !leader.valid || ((leader.state == 'Z' || leader.state == 'X') && leader.threads <= 1);
}

}  // namespace coord::fs
