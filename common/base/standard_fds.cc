#include "common/base/standard_fds.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace coord {

bool occupy_standard_fds() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is this one, for those below are in use by now. Children are to inherit it.
    const int opened = ::open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_WRONLY);
    if (opened != fd) return false;
  }
  return true;
}

}  // namespace coord
