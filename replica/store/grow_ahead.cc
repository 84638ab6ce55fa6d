#include "replica/store/grow_ahead.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"

namespace coord::store {

namespace {

// A commit that meets a chunk on its way to the disk waits for it, so it is small.
constexpr std::uint64_t kChunk = 1ULL << 20;
constexpr auto kRetry = std::chrono::seconds(1);
// A disk this slow would hold up the commit itself as well.
constexpr auto kReserveWaitMax = std::chrono::seconds(60);

Fault fault(const std::string& path, const std::string& what, int error) {
  return {path + ": " + what + (error == 0 ? "" : std::string(": ") + std::strerror(error))};
}

}  // namespace

bool is_full(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

void storage_failed(const std::string& what, const std::string& error) {
  const bool damaged = error.starts_with("MDB_PAGE_NOTFOUND") || error.starts_with("MDB_CORRUPTED");
  log::error("store", "{}: {}; ending the process, {}", what, error,
             damaged ? "the file is damaged: restore the directory from a backup" : "what was acknowledged is safe");
  std::_Exit(EXIT_FAILURE);  // other threads are in the middle of something
}

GrowAhead::GrowAhead(Options options) : options_(std::move(options)) {}

GrowAhead::~GrowAhead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_grower_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (fd_ >= 0) ::close(fd_);
}

Result<std::unique_ptr<GrowAhead>, Fault> GrowAhead::open(Options options, std::uint64_t used) {
  COORD_CHECK_MSG(options.step >= kMinimum, "the step in which the file grows is at least the minimum");
  std::unique_ptr<GrowAhead> self(new GrowAhead(std::move(options)));
  if (auto opened = self->open_file(used); !opened) return fail(std::move(opened.error()));
  self->goal_ = used + self->options_.step;
  int error = 0;
  while (error == 0 && self->grown_ < self->goal_) error = self->grow_chunk(self->goal_);
  if (error != 0 && !is_full(error)) return fail(fault(self->options_.path, "cannot be extended", error));
  if (self->grown_ < used + std::min(kMinimum, self->options_.step)) {
    Fault full = fault(self->options_.path,
                       "no room for even " + std::to_string(kMinimum >> 20) + " MiB of reserve; " +
                           (self->space().map_full ? "make coord.mapSize larger" : "free some space on the disk"),
                       0);
    full.no_room = true;
    return fail(std::move(full));
  }
  self->full_ = self->grown_ < self->goal_;
  self->refuse_ = self->must_refuse();
  return self;
}

Result<bool, Fault> GrowAhead::open_file(std::uint64_t used) {
  fd_ = ::open(options_.path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd_ < 0) return fail(fault(options_.path, "cannot be opened for growing", errno));
  struct stat st {};
  if (::fstat(fd_, &st) != 0) return fail(fault(options_.path, "cannot stat", errno));
  const auto size = static_cast<std::uint64_t>(st.st_size);
  const auto solid = fill_holes(used, size);
  if (!solid) return fail(solid.error());
  // A process that was killed may have left it to the cache.
  if (const int error = sync(); error != 0) return fail(fault(options_.path, "cannot be synced", error));
  used_ = used;
  // What a crash left half written at the end is written again.
  grown_ = std::max(used, *solid / options_.page_size * options_.page_size);
  return true;
}

// A file that came out of a sparse copy has holes, and writing into one is an extension in disguise. Returns up to
// where the file is solid, `used` at least.
Result<std::uint64_t, Fault> GrowAhead::fill_holes(std::uint64_t used, std::uint64_t size) const {
  std::uint64_t at = 0;
  while (at < size) {
    const off_t hole = ::lseek(fd_, static_cast<off_t>(at), SEEK_HOLE);
    if (hole < 0)
      return errno == EINVAL ? Result<std::uint64_t, Fault>(size)  // a file system that cannot tell
                             : fail(fault(options_.path, "cannot be searched for holes", errno));
    const auto from = static_cast<std::uint64_t>(hole);
    if (from >= used) return std::min(from, size);
    const off_t data = ::lseek(fd_, hole, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return fail(fault(options_.path, "cannot be searched for holes", errno));
    const std::uint64_t to = std::min(used, data < 0 ? size : static_cast<std::uint64_t>(data));
    std::uint64_t end = 0;
    if (const int error = zero_fill(from, to, end); error != 0) {
      return fail(fault(options_.path, "is sparse, and its holes cannot be filled", error));
    }
    at = to;
  }
  return size;
}

// `end` is how far it went.
int GrowAhead::zero_fill(std::uint64_t from, std::uint64_t to, std::uint64_t& end) const {
  static char zeros[256 << 10];  // never written: costs no memory
  for (end = from; end < to;) {
    const std::uint64_t size = std::min<std::uint64_t>(to - end, sizeof zeros);
    const ssize_t n = ::pwrite(fd_, zeros, size, static_cast<off_t>(end));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    end += static_cast<std::uint64_t>(n);
  }
  return 0;
}

int GrowAhead::sync() const {
  int rc = 0;
  while ((rc = ::fdatasync(fd_)) != 0 && errno == EINTR) {
  }
  return rc == 0 ? 0 : errno;
}

int GrowAhead::grow_chunk(std::uint64_t goal) {
  const std::lock_guard alone(file_);
  const std::uint64_t from = grown_;  // only the holder of file_ moves it
  const std::uint64_t to = std::min({from + kChunk, goal, options_.limit});
  if (from >= to) return from >= goal ? 0 : ENOSPC;
  std::uint64_t end = from;
  const int error = zero_fill(from, to, end);
  end = end / options_.page_size * options_.page_size;
  if (end > from) {
    // Not "full" even if that is what it says: what a failed sync leaves behind is unknown.
    if (const int failed = sync(); failed != 0) storage_failed("syncing " + options_.path, std::strerror(failed));
    const std::lock_guard lock(mutex_);
    grown_ = end;
  }
  return error;
}

void GrowAhead::start(std::function<void(bool)> on_space) {
  COORD_CHECK(!thread_.joinable());
  on_space_ = std::move(on_space);
  thread_ = std::thread([this] { run(); });
}

void GrowAhead::run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (grown_ < used_ + options_.step / 2) goal_ = std::max(goal_, used_ + options_.step);
    if (!wanted()) {
      full_ = false;
      report(lock);
      wake_grower_.wait(lock, [&] { return stop_ || wanted() || grown_ < used_ + options_.step / 2; });
      continue;
    }
    if (full_ && std::chrono::steady_clock::now() < retry_) {
      report(lock);
      wake_grower_.wait_until(lock, retry_, [&] { return stop_ || must_refuse() != refuse_; });
      continue;
    }
    const std::uint64_t goal = goal_;
    lock.unlock();
    const int error = grow_chunk(goal);
    if (error != 0 && !is_full(error)) storage_failed("writing ahead " + options_.path, std::strerror(error));
    lock.lock();
    if (error != 0) full(lock);
    report(lock);
    wake_writer_.notify_all();
  }
}

bool GrowAhead::wanted() const { return grown_ < goal_; }

void GrowAhead::full(std::unique_lock<std::mutex>& lock) {
  retry_ = std::chrono::steady_clock::now() + kRetry;
  if (!full_) {
    log::warn("store",
              "the data file cannot be extended, disk (or map) full: file={} grown={} used={} wanted={}; trying again "
              "every second",
              options_.path, grown_.load(), used_.load(), goal_);
  }
  full_ = true;
  // What one large batch would have liked is not pursued; but the disk counts as full until something more was had.
  goal_ = std::max(used_ + options_.step, grown_ + kChunk);
  lock.unlock();
  const std::uint64_t free = options_.free_bytes ? options_.free_bytes() : 0;
  lock.lock();
  free_bytes_ = free;
}

// Writing goes on while half a step is ahead; or an eighth, if a whole step of freed pages lies inside the file (it is
// a database that was emptied on a disk that stayed full).
bool GrowAhead::must_refuse() const {
  const std::uint64_t used = used_;
  const std::uint64_t grown = grown_;
  if (!full_ || grown >= used + options_.step / 2) return false;
  return grown < used + options_.step / 8 || free_bytes_ < options_.step;
}

void GrowAhead::report(std::unique_lock<std::mutex>& lock) {
  const bool refuse = must_refuse();
  if (refuse == refuse_) {
    told_ = told_ || refuse;  // as of open
    return;
  }
  refuse_ = refuse;
  log::warn("store", "{}: used={} grown={} free_inside={}",
            refuse ? "the reserve is all that is left" : "there is more than the reserve again", used_.load(),
            grown_.load(), free_bytes_);
  if (on_space_) {
    lock.unlock();
    on_space_(refuse);
    lock.lock();
  }
  told_ = refuse;
  wake_writer_.notify_all();
}

GrowAhead::Lease GrowAhead::reserve(std::uint64_t bytes) {
  Lease lease;
  std::unique_lock lock(mutex_);
  // Whole pages: the file grows by these, and a goal inside one would never be reached.
  const std::uint64_t need = used_ + (bytes + options_.page_size - 1) / options_.page_size * options_.page_size;
  // The last quarter of a step is not touched before it is known whether there is more: else a grower that gets no CPU
  // finds the disk full only when the reserve is gone.
  const std::uint64_t easy = need + options_.step / 4;
  while (!thread_.joinable() && grown_ < easy && !full_) {
    lock.unlock();
    const int error = grow_chunk(easy);
    if (error != 0 && !is_full(error)) storage_failed("writing ahead " + options_.path, std::strerror(error));
    lock.lock();
    full_ = error != 0;
  }
  if (grown_ < easy && !full_) {
    goal_ = std::max(goal_, easy);
    wake_grower_.notify_one();
    wake_writer_.wait_for(lock, kReserveWaitMax, [&] { return stop_ || full_ || grown_ >= easy; });
  }
  // Who writes faster than the grower is scheduled would use up the reserve before anybody hears of it.
  if (thread_.joinable() && must_refuse() && !told_) {
    wake_grower_.notify_one();
    wake_writer_.wait_for(lock, kReserveWaitMax, [&] { return stop_ || told_ || !must_refuse(); });
  }
  lease.limit_ = grown_;
  if (lease.limit_ >= need) return lease;
  lock.unlock();
  lease.alone_ = std::unique_lock(file_);
  return lease;
}

void GrowAhead::committed(std::uint64_t used) {
  const std::lock_guard lock(mutex_);
  used_ = used;
  if (grown_ < used) grown_ = used;  // only under a lease that keeps the grower out
  if (grown_ < used + options_.step / 2 && !refuse_) wake_grower_.notify_one();
}

bool GrowAhead::only_full(const Lease& lease, int error) const {
  // LMDB says EIO of a write that the disk took a part of. A failed sync would show here once more.
  if (lease.covered() || (!is_full(error) && error != EIO) || sync() != 0) return false;
  if (error != EIO) return true;
  if (grown_ >= options_.limit) return false;
  std::uint64_t end = 0;
  return is_full(zero_fill(grown_, grown_ + options_.page_size, end));
}

bool GrowAhead::full() const {
  const std::lock_guard lock(mutex_);
  return full_;
}

Space GrowAhead::space() const {
  Space space;
  space.refuse_writes = refuse_;
  space.used_bytes = used_;
  space.grown_bytes = grown_;
  space.map_full = grown_ + options_.page_size > options_.limit;
  return space;
}

}  // namespace coord::store
