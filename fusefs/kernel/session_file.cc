#include "fusefs/kernel/session_file.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

#include "common/base/crc32c.h"

namespace coord::fs {
namespace {

constexpr std::size_t kFileBytesMax = 16'384;

std::string runtime_directory() {
  if (geteuid() == 0) return "/run/coordfs";
  const char* base = std::getenv("XDG_RUNTIME_DIR");
  return base == nullptr || base[0] != '/' ? "" : std::string(base) + "/coordfs";
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (std::size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n')) {
    lines.push_back(text.substr(0, at));
    text.remove_prefix(at + 1);
  }
  return lines;
}

}  // namespace

std::string encode_session(const SavedSession& session) {
  std::string hex;
  for (const char c : session.password) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return fmt::format("coordfs session 1\n{}\n{}\n{}\n", session.source, session.session, hex);
}

std::optional<SavedSession> decode_session(std::string_view text) {
  const auto lines = lines_of(text);
  if (lines.size() != 4 || lines[0] != "coordfs session 1" || lines[3].size() % 2 != 0) return std::nullopt;
  SavedSession out;
  out.source = lines[1];
  const std::string number(lines[2]);
  char* end = nullptr;
  errno = 0;
  out.session = std::strtoll(number.c_str(), &end, 10);
  if (errno != 0 || end == number.c_str() || *end != '\0' || out.session == 0) return std::nullopt;
  for (std::size_t i = 0; i < lines[3].size(); i += 2) {
    const int high = hex_digit(lines[3][i]);
    const int low = hex_digit(lines[3][i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out.password.push_back(static_cast<char>(high * 16 + low));
  }
  return out;
}

SessionFile::SessionFile(const std::string& mountpoint, const std::string& directory) {
  const std::string base = directory.empty() ? runtime_directory() : directory;
  if (base.empty()) return;
  if (mkdir(base.c_str(), 0700) != 0 && errno != EEXIST) return;
  struct stat at = {};
  if (lstat(base.c_str(), &at) != 0 || !S_ISDIR(at.st_mode) || at.st_uid != geteuid()) return;
  path_ = fmt::format("{}/{:08x}.session", base, crc32c(mountpoint));
}

std::optional<SavedSession> SessionFile::load() const {
  if (!usable()) return std::nullopt;
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return std::nullopt;
  std::string text(kFileBytesMax, '\0');
  const ssize_t got = read(fd, text.data(), text.size());
  close(fd);
  if (got <= 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(got));
  return decode_session(text);
}

bool SessionFile::save(const SavedSession& session) const {
  if (!usable()) return false;
  const std::string fresh = path_ + ".new";
  unlink(fresh.c_str());
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  const std::string text = encode_session(session);
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return written && rename(fresh.c_str(), path_.c_str()) == 0;
}

void SessionFile::remove() const {
  if (usable()) unlink(path_.c_str());
}

}  // namespace coord::fs
