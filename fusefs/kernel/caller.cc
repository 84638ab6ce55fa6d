#include "fusefs/kernel/caller.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace coord::fs {
namespace {

constexpr std::size_t kFamilyMax = 64;
constexpr int kDescriptorsMax = 1024;

std::string read_proc(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
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

std::string read_status_file(pid_t tid) {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/status", static_cast<int>(tid));
  return read_proc(path.data());
}

}  // namespace

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

bool may_hold_another(pid_t tid, std::uint64_t ino) {
  const std::string wanted = "\nino:\t" + std::to_string(ino) + "\n";
  if (::access("/proc/thread-self/children", R_OK) != 0) return true;  // a kernel without CONFIG_PROC_CHILDREN
  std::vector<pid_t> family{thread_group_of(tid)};
  for (std::size_t n = 0; n < family.size(); ++n) {
    if (family[n] <= 0 || family.size() > kFamilyMax) return true;
    const std::string process = "/proc/" + std::to_string(family[n]);
    std::error_code error;
    int descriptors = 0;
    for (std::filesystem::directory_iterator at(process + "/fdinfo", error), end; !error && at != end;
         at.increment(error)) {
      if (++descriptors > kDescriptorsMax) return true;
      if (read_proc(at->path().c_str()).find(wanted) != std::string::npos) return true;
    }
    if (error && (n == 0 || error != std::errc::no_such_file_or_directory)) return true;
    for (std::filesystem::directory_iterator at(process + "/task", error), end; !error && at != end;
         at.increment(error)) {
      std::istringstream children(read_proc((at->path() / "children").c_str()));
      for (pid_t child = 0; children >> child;) family.push_back(child);
    }
  }
  return false;
}

bool may_hold_writable(pid_t tid, std::uint64_t ino) {
  if (tid <= 0) return true;
  const std::string wanted = "\nino:\t" + std::to_string(ino) + "\n";
  std::error_code error;
  int descriptors = 0;
  for (std::filesystem::directory_iterator at("/proc/" + std::to_string(tid) + "/fdinfo", error), end;
       !error && at != end; at.increment(error)) {
    if (++descriptors > kDescriptorsMax) return true;
    const std::string text = read_proc(at->path().c_str());
    if (text.find(wanted) == std::string::npos) continue;
    const std::size_t flags = text.find("flags:\t");
    if (flags == std::string::npos) return true;
    if ((std::strtoul(text.c_str() + flags + 7, nullptr, 8) & O_ACCMODE) != O_RDONLY) return true;
  }
  return static_cast<bool>(error);
}

bool thread_group_gone(pid_t tgid) {
  if (tgid <= 0) return true;
  return group_ended(read_task_status(tgid));
}

}  // namespace coord::fs
