// The daemon's end of the guardian's socket, and the pure decisions of guardian.h.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/number.h"
#include "fusefs/kernel/guardian.h"

namespace coord::fs {
namespace {
constexpr std::size_t kTextMax = 4000;
}

std::optional<Heartbeat> Heartbeat::adopt(int argc, char** argv) {
  if (argc < 3 || std::strcmp(argv[1], kDaemonFlag) != 0) return std::nullopt;
  const int fd = parse_number<int>(argv[2]).value_or(-1);
  if (fd < 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return std::nullopt;
  Heartbeat heartbeat(fd);
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  pollfd peer{fd, 0, 0};
  if (::poll(&peer, 1, 0) != 0) return std::nullopt;  // it died before the line above
  return heartbeat;
}

Heartbeat& Heartbeat::operator=(Heartbeat&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Heartbeat::~Heartbeat() {
  if (fd_ >= 0) ::close(fd_);
}

// False: nobody is there any more. A guardian that does not read for a second misses the message.
bool Heartbeat::send(char kind, std::string_view text) {
  const std::string message = kind + std::string(text.substr(0, kTextMax));
  for (int tries = 0; tries < 2; ++tries) {
    if (::send(fd_, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return false;
    if (kind == 'B') return true;
    pollfd room{fd_, POLLOUT, 0};
    ::poll(&room, 1, 1000);
  }
  return true;
}

bool Heartbeat::beat() { return send('B', {}); }

void Heartbeat::mounted(unsigned major, unsigned minor) {
  send('M', std::to_string(major) + ":" + std::to_string(minor));
}

void Heartbeat::ready() { send('R', {}); }

void Heartbeat::failed(std::string_view message) { send('F', message); }

void Heartbeat::notice(std::string_view message) { send('N', message); }

AfterExit after_exit(int wait_status, bool was_ready, bool stopping, int& status) {
  const bool clean = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == kExitUnmounted;
  if (stopping || (was_ready && clean)) {
    status = kExitUnmounted;
    return AfterExit::kStop;
  }
  if (was_ready) return AfterExit::kRestart;
  status = WIFEXITED(wait_status) && !clean ? WEXITSTATUS(wait_status) : kExitFailed;
  return AfterExit::kStop;
}

}  // namespace coord::fs
