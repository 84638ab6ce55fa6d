// What the store and LMDB call of the C library, in this program: noted while there is a Recorder, and passed on.
// liblmdb is a shared library; its calls come here too, as the program's own symbols go first.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "tests/replica/store/power_cut_disk.h"

namespace coord::store::power_cut {

namespace {

struct Descriptor {
  int file = -1;
  bool dsync = false;
};

class Tape {
 public:
  void start(const std::string& root, const Disk& disk, std::uint32_t sync_us) {
    const std::lock_guard lock(mutex_);
    root_ = root + "/";
    paths_ = disk.names();
    next_ = static_cast<int>(paths_.size());
    sync_us_ = sync_us;
    events_.clear();
    descriptors_.clear();
    running_ = true;
  }
  std::vector<Event> stop() {
    const std::lock_guard lock(mutex_);
    running_ = false;
    descriptors_.clear();
    return std::move(events_);
  }
  bool running() const { return running_; }

  // The path below the root, if it lies there.
  std::optional<std::string> below(const char* path) const {
    if (!running_ || path == nullptr) return std::nullopt;
    if (root_.compare(0, root_.size() - 1, path) == 0) return "";
    if (std::strncmp(path, root_.c_str(), root_.size()) != 0) return std::nullopt;
    std::string name = path + root_.size();
    while (!name.empty() && name.back() == '/') name.pop_back();
    return name;
  }
  std::optional<Descriptor> find(int fd) {
    if (!running_) return std::nullopt;
    const std::lock_guard lock(mutex_);
    const auto found = descriptors_.find(fd);
    return found == descriptors_.end() ? std::nullopt : std::optional(found->second);
  }

  std::size_t add(Event event) {
    const std::lock_guard lock(mutex_);
    return push(std::move(event));
  }
  // The call is made here, so that names are noted in the order of what happened.
  template <class Call>
  int open(const std::string& name, int flags, const Call& call) {
    const std::lock_guard lock(mutex_);
    const int fd = call(flags & ~(O_SYNC | O_DSYNC));
    if (fd < 0) return fd;
    auto known = paths_.find(name);
    if (known == paths_.end()) known = made(name, false);
    if ((flags & O_TRUNC) != 0) {
      Event event;
      event.kind = Event::Kind::kTruncate;
      event.file = known->second;
      push(std::move(event));
    }
    descriptors_[fd] = {known->second, (flags & O_DSYNC) != 0};
    return fd;
  }
  template <class Call>
  int make_directory(const std::string& name, const Call& call) {
    const std::lock_guard lock(mutex_);
    const int rc = call();
    if (rc == 0) made(name, true);
    return rc;
  }
  template <class Call>
  int rename(const std::string& from, const std::string& to, const Call& call) {
    const std::lock_guard lock(mutex_);
    const int rc = call();
    if (rc != 0) return rc;
    Event event = name_event(to);
    event.from = from;
    event.target = paths_[to] = paths_.at(from);
    paths_.erase(from);
    push(std::move(event));
    return rc;
  }
  template <class Call>
  int unlink(const std::string& name, const Call& call) {
    const std::lock_guard lock(mutex_);
    const int rc = call();
    if (rc != 0) return rc;
    Event event = name_event(name);
    event.value = static_cast<std::uint64_t>(paths_.at(name));
    paths_.erase(name);
    push(std::move(event));
    return rc;
  }
  void closed(int fd) {
    if (!running_) return;
    const std::lock_guard lock(mutex_);
    descriptors_.erase(fd);
  }
  void linger(std::size_t event) const {
    if (sync_us_ == 0) return;
    const auto us = std::chrono::microseconds((event * 2654435761U >> 7) % sync_us_);
    std::this_thread::sleep_for(us);
  }

 private:
  std::size_t push(Event event) {
    events_.push_back(std::move(event));
    return events_.size() - 1;
  }
  Event name_event(const std::string& name) {
    const auto slash = name.rfind('/');
    Event event;
    event.kind = Event::Kind::kName;
    event.file = paths_.at(slash == std::string::npos ? "" : name.substr(0, slash));
    event.name = name;
    return event;
  }
  std::map<std::string, int>::iterator made(const std::string& name, bool directory) {
    Event event = name_event(name);
    event.target = next_++;
    event.directory = directory;
    const auto at = paths_.emplace(name, event.target).first;
    push(std::move(event));
    return at;
  }

  std::mutex mutex_;
  std::atomic<bool> running_{false};
  std::string root_;
  std::uint32_t sync_us_ = 0;
  std::map<std::string, int> paths_;
  std::map<int, Descriptor> descriptors_;
  int next_ = 0;
  std::vector<Event> events_;
};

Tape& tape() {
  static Tape& the_one = *new Tape;  // for as long as anybody calls anything
  return the_one;
}

template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

bool is_zero(const char* bytes, std::size_t size) {
  return size > 0 && bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

// `bytes` in one piece. Events are noted when it begins and when it has returned: in between it may be half done.
template <class Call>
ssize_t noted_write(const Descriptor& to, std::uint64_t offset, std::string bytes, const Call& call) {
  const std::size_t size = bytes.size();
  Event write;
  write.kind = Event::Kind::kWrite;
  write.file = to.file;
  write.offset = offset;
  write.size = size;
  if (!is_zero(bytes.data(), size)) write.bytes = std::move(bytes);
  Event written;
  written.kind = Event::Kind::kWritten;
  written.begin = tape().add(std::move(write));
  written.durable = to.dsync;
  const ssize_t n = call();
  if (n != static_cast<ssize_t>(size)) std::abort();  // a real disk that is full is not what this is about
  if (to.dsync) tape().linger(written.begin);
  tape().add(std::move(written));
  return n;
}

int noted_sync(const Descriptor& of) {
  Event sync;
  sync.kind = Event::Kind::kSync;
  sync.file = of.file;
  Event synced;
  synced.kind = Event::Kind::kSynced;
  synced.begin = tape().add(std::move(sync));
  tape().linger(synced.begin);
  tape().add(std::move(synced));
  return 0;
}

std::uint64_t offset_of(int fd) { return static_cast<std::uint64_t>(::lseek(fd, 0, SEEK_CUR)); }

}  // namespace

Recorder::Recorder(const std::string& root, std::uint32_t sync_us) : before_(Disk::read(root)) {
  tape().start(root, before_, sync_us);
}

Recorder::~Recorder() {
  if (tape().running()) tape().stop();
}

Recording Recorder::stop() { return {std::move(before_), tape().stop()}; }

void Recorder::note(Note note, std::uint64_t value) {
  Event event;
  event.kind = Event::Kind::kNote;
  event.note = note;
  event.value = value;
  tape().add(std::move(event));
}

}  // namespace coord::store::power_cut

using coord::store::power_cut::noted_sync;
using coord::store::power_cut::noted_write;
using coord::store::power_cut::offset_of;
using coord::store::power_cut::real;
using coord::store::power_cut::tape;

extern "C" {

int open(const char* path, int flags, ...) {
  using Function = int (*)(const char*, int, ...);
  static const auto next = real<Function>("open");
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  const auto name = tape().below(path);
  if (!name) return next(path, flags, mode);
  return tape().open(*name, flags, [&](int real_flags) { return next(path, real_flags, mode); });
}

int close(int fd) {
  static const auto next = real<int (*)(int)>("close");
  tape().closed(fd);
  return next(fd);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
  static const auto next = real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  const auto to = tape().find(fd);
  if (!to) return next(fd, data, size, at);
  std::string bytes(static_cast<const char*>(data), size);
  return noted_write(*to, static_cast<std::uint64_t>(at), std::move(bytes), [&] { return next(fd, data, size, at); });
}

ssize_t write(int fd, const void* data, size_t size) {
  static const auto next = real<ssize_t (*)(int, const void*, size_t)>("write");
  const auto to = tape().find(fd);
  if (!to) return next(fd, data, size);
  std::string bytes(static_cast<const char*>(data), size);
  return noted_write(*to, offset_of(fd), std::move(bytes), [&] { return next(fd, data, size); });
}

ssize_t writev(int fd, const iovec* parts, int count) {
  static const auto next = real<ssize_t (*)(int, const iovec*, int)>("writev");
  const auto to = tape().find(fd);
  if (!to) return next(fd, parts, count);
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  return noted_write(*to, offset_of(fd), std::move(bytes), [&] { return next(fd, parts, count); });
}

int ftruncate(int fd, off_t size) noexcept {
  static const auto next = real<int (*)(int, off_t)>("ftruncate");
  const auto to = tape().find(fd);
  if (to) {
    coord::store::power_cut::Event event;
    event.kind = coord::store::power_cut::Event::Kind::kTruncate;
    event.file = to->file;
    event.size = static_cast<std::uint64_t>(size);
    tape().add(std::move(event));
  }
  return next(fd, size);
}

int fsync(int fd) {
  static const auto next = real<int (*)(int)>("fsync");
  const auto of = tape().find(fd);
  return of ? noted_sync(*of) : next(fd);
}

int fdatasync(int fd) {
  static const auto next = real<int (*)(int)>("fdatasync");
  const auto of = tape().find(fd);
  return of ? noted_sync(*of) : next(fd);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const auto next = real<int (*)(const char*, mode_t)>("mkdir");
  const auto name = tape().below(path);
  if (!name) return next(path, mode);
  return tape().make_directory(*name, [&] { return next(path, mode); });
}

int rename(const char* from, const char* to) noexcept {
  static const auto next = real<int (*)(const char*, const char*)>("rename");
  const auto old_name = tape().below(from);
  const auto new_name = tape().below(to);
  if (!old_name || !new_name) return next(from, to);
  return tape().rename(*old_name, *new_name, [&] { return next(from, to); });
}

int unlink(const char* path) noexcept {
  static const auto next = real<int (*)(const char*)>("unlink");
  const auto name = tape().below(path);
  if (!name) return next(path);
  return tape().unlink(*name, [&] { return next(path); });
}

}  // extern "C"
