#include "fusefs/kernel/caller.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <string>

namespace coord::fs {
namespace {

std::string_view trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  return s;
}

// The next number of a list separated by blanks; false at its end.
bool next_number(std::string_view& s, std::uint32_t& out) {
  s = trim(s);
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), out);
  if (ec != std::errc()) return false;
  s.remove_prefix(static_cast<std::size_t>(end - s.data()));
  return true;
}

// The fourth of "real effective saved filesystem".
bool fs_id(std::string_view value, std::uint32_t& out) {
  for (int i = 0; i < 4; ++i) {
    if (!next_number(value, out)) return false;
  }
  return true;
}

std::string read_status_file(pid_t tid) {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/status", static_cast<int>(tid));
  const int fd = ::open(path.data(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::string text;
  std::array<char, 4096> chunk{};
  ssize_t got = 0;
  // 64 KiB hold more than the groups that Linux allows in practice; a longer file counts as unreadable.
  while (text.size() <= 65536 && (got = ::read(fd, chunk.data(), chunk.size())) > 0) {
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  return got == 0 ? text : std::string();
}

}  // namespace

TaskStatus parse_task_status(std::string_view text) {
  TaskStatus out;
  unsigned found = 0;
  while (!text.empty()) {
    const std::size_t eol = text.find('\n');
    if (eol == std::string_view::npos) break;  // cut off: what it says may be cut off too
    const std::string_view line = text.substr(0, eol);
    text.remove_prefix(eol + 1);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view key = line.substr(0, colon);
    std::string_view value = trim(line.substr(colon + 1));
    std::uint32_t number = 0;
    if (key == "State" && !value.empty()) {
      out.state = value.front();
      found |= 1U;
    } else if (key == "Tgid" && next_number(value, number)) {
      out.tgid = static_cast<pid_t>(number);
      found |= 2U;
    } else if (key == "Uid" && fs_id(value, out.fsuid)) {
      found |= 4U;
    } else if (key == "Gid" && fs_id(value, out.fsgid)) {
      found |= 8U;
    } else if (key == "Groups") {
      while (next_number(value, number)) out.groups.push_back(number);
      found |= 16U;
    } else if (key == "Threads" && next_number(value, number)) {
      out.threads = static_cast<int>(number);
      found |= 32U;
    }
  }
  out.valid = found == 63U;
  if (!out.valid) out.groups.clear();
  return out;
}

TaskStatus read_task_status(pid_t tid) {
  return tid > 0 ? parse_task_status(read_status_file(tid)) : TaskStatus{};
}

Credentials credentials_of(std::uint32_t uid, std::uint32_t gid, pid_t tid) {
  Credentials who;
  who.uid = uid;
  who.gid = gid;
  if (uid == 0) return who;  // no rule asks for the groups of uid 0
  TaskStatus status = read_task_status(tid);
  if (status.valid && status.fsuid == uid && status.fsgid == gid) who.groups = std::move(status.groups);
  return who;
}

pid_t thread_group_of(pid_t tid) {
  const TaskStatus status = read_task_status(tid);
  return status.valid ? status.tgid : 0;
}

bool thread_group_gone(pid_t tgid) {
  if (tgid <= 0) return true;
  const TaskStatus status = read_task_status(tgid);
  if (!status.valid) return true;
  // The first thread of a group may end before the others and then shows as a zombie.
  return (status.state == 'Z' || status.state == 'X') && status.threads <= 1;
}

}  // namespace coord::fs
