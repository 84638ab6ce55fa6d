#include "common/tools/context.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>

#include "common/base/log.h"
#include "common/model/ids.h"
#include "common/model/path.h"

namespace coord::tools {
namespace {

constexpr std::chrono::milliseconds kCloseLimit{1000};
constexpr std::size_t kRequestOverhead = 512;       // header, flags and ACL beside path and data
constexpr std::string_view kPermLetters = "rwcda";  // bit 0 to bit 4

std::string local_time(std::int64_t ms) {
  const time_t seconds = static_cast<time_t>(ms / 1000);
  tm parts{};
  char text[40];
  if (::localtime_r(&seconds, &parts) == nullptr || ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts) == 0) {
    return std::to_string(ms);
  }
  char zone[8];
  const std::size_t zone_size = ::strftime(zone, sizeof zone, "%z", &parts);
  return fmt::format("{}.{:03}{}", text, ms % 1000, std::string_view(zone, zone_size));
}

std::string hex_zxid(std::int64_t zxid) { return to_string(Zxid(static_cast<std::uint64_t>(zxid))); }

}  // namespace

int complain(int code, std::string_view message) {
  std::fflush(stdout);
  std::fprintf(stderr, "coordctl: %.*s\n", static_cast<int>(message.size()), message.data());
  return code;
}

int finish_output(int code) {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  // An error that was met earlier has left its mark in the stream only.
  const std::string why = errno != 0 ? std::strerror(errno) : "write error";
  complain(kUsage, "standard output: " + why);
  return code == kDone ? static_cast<int>(kUsage) : code;
}

int complain(std::string_view path, Err err) {
  const bool nobody = err == Err::kConnectionLoss || err == Err::kOperationTimeout || err == Err::kSessionExpired;
  return complain(nobody ? kNoServer : kRefused, fmt::format("{}: {} ({})", path, error_text(err), error_name(err)));
}

int Context::connect() {
  Result<client::Target, Fault> target = client::parse_target(server);
  if (!target) return complain(kUsage, target.error().message);
  log::configure(log::Level::kError);
  options.target = std::move(*target);
  client = client::Client::create(options);
  if (!client->wait_connected(timeout())) {
    return complain(kNoServer,
                    fmt::format("no server answered within {} ms; tried {}", timeout_ms, client->what_was_tried()));
  }
  for (const std::string& entry : auth) {
    const std::size_t colon = entry.find(':');
    if (colon == std::string::npos)
      return complain(kUsage, "--auth: expected SCHEME:CREDENTIAL, found \"" + entry + "\"");
    const auto done = blocking().auth(entry.substr(0, colon), entry.substr(colon + 1));
    if (!done) return complain("--auth " + entry.substr(0, colon), done.error());
  }
  return kDone;
}

void Context::close() {
  if (client) client->close(std::min(kCloseLimit, timeout()));
}

Result<std::string, Fault> data_argument(const std::string& text) {
  if (text != "-") return text;
  std::string data;
  char buffer[64 * 1024];
  errno = 0;
  // A little more than can be sent is enough to see that it is too much.
  while (data.size() <= static_cast<std::size_t>(wire::kFrameSizeMax)) {
    const std::size_t n = std::fread(buffer, 1, sizeof buffer, stdin);
    if (n == 0) break;
    data.append(buffer, n);
  }
  if (std::ferror(stdin) != 0) {
    return fail(Fault{std::string("standard input: ") + std::strerror(errno != 0 ? errno : EIO)});
  }
  return data;
}

bool check_path(std::string_view path) {
  if (valid_path(path)) return true;
  complain(kRefused,
           fmt::format("{}: not a valid node path (absolute, no empty, \".\" or \"..\" component, no trailing "
                       "slash, no control characters)",
                       path));
  return false;
}

bool check_size(std::string_view path, std::size_t data_size) {
  if (path.size() + data_size + kRequestOverhead <= static_cast<std::size_t>(wire::kFrameSizeMax)) return true;
  complain(kRefused,
           fmt::format("{}: too much data: a request has at most {} bytes in all", path, wire::kFrameSizeMax));
  return false;
}

namespace {
sigset_t end_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  return set;
}
}  // namespace

void hold_signals() {
  const sigset_t set = end_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void wait_for_signal(const std::function<bool()>& stop) {
  const sigset_t set = end_signals();
  const timespec step{0, 200'000'000};
  while (!stop()) {
    if (::sigtimedwait(&set, nullptr, &step) > 0) return;
  }
}

std::string format_stat(const Stat& stat) {
  return fmt::format(
      "czxid = {}\nmzxid = {}\npzxid = {}\nctime = {}\nmtime = {}\nversion = {}\ncversion = {}\naversion = {}\n"
      "ephemeralOwner = 0x{:x}\ndataLength = {}\nnumChildren = {}\n",
      hex_zxid(stat.czxid), hex_zxid(stat.mzxid), hex_zxid(stat.pzxid), local_time(stat.ctime), local_time(stat.mtime),
      stat.version, stat.cversion, stat.aversion, static_cast<std::uint64_t>(stat.ephemeral_owner), stat.data_length,
      stat.num_children);
}

std::string format_acl(const Acl& acl) {
  std::string out;
  for (const AclEntry& entry : acl) {
    out += entry.id.scheme + ":" + entry.id.id + ":";
    for (const char letter : std::string_view("cdrwa")) {
      const std::size_t bit = kPermLetters.find(letter);
      if ((entry.perms >> bit & 1) != 0) out.push_back(letter);
    }
    out.push_back('\n');
  }
  return out;
}

Result<Acl, Fault> parse_acl(std::string_view text) {
  Acl acl;
  for (;;) {
    const std::size_t comma = text.find(',');
    const std::string_view piece = text.substr(0, comma);
    const std::size_t first = piece.find(':');
    const std::size_t last = piece.rfind(':');
    if (first == std::string_view::npos || first == last) {
      return fail(Fault{fmt::format("\"{}\": expected SCHEME:ID:PERMISSIONS", piece)});
    }
    AclEntry entry;
    entry.id.scheme = piece.substr(0, first);
    entry.id.id = piece.substr(first + 1, last - first - 1);
    for (const char letter : piece.substr(last + 1)) {
      const std::size_t bit = kPermLetters.find(letter);
      if (bit == std::string_view::npos) {
        return fail(Fault{fmt::format("\"{}\": permissions are letters of \"cdrwa\"", piece)});
      }
      entry.perms |= 1 << bit;
    }
    acl.push_back(std::move(entry));
    if (comma == std::string_view::npos) return acl;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace coord::tools
