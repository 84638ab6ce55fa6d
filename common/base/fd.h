// A file descriptor that is closed at the end of its scope; -1: none. What close(2) says is not reported: who must know
// that data is on disk calls fsync(2) first. Threading: one thread at a time.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace coord {

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~Fd() { reset(); }

  bool ok() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  // Does not change errno: what failed before is what the caller wants to say.
  void reset(int fd = -1) {
    const int error = errno;
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
    errno = error;
  }

 private:
  int fd_;
};

}  // namespace coord
