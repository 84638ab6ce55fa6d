#include "fusefs/ops/task_status.h"

#include <charconv>

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
    } else if (key == "PPid" && next_number(value, number)) {
      out.parent = static_cast<pid_t>(number);
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

}  // namespace coord::fs
