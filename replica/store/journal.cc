#include "replica/store/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "replica/store/data_directory.h"
#include "replica/store/grow_ahead.h"
#include "replica/store/schema.h"

namespace coord::store {

namespace {

using namespace journal;
using schema::put_u32;
using schema::put_u64;

constexpr std::size_t kBufferKept = 256U << 10;  // what one large record needed goes back

Fault journal_fault(const std::string& directory, const std::string& what, int error) {
  return {"data directory " + directory + ": " + kFile + " " + what +
          (error == 0 ? "" : std::string(": ") + std::strerror(error))};
}

// Returns 0 or errno.
int write_all(int fd, const char* bytes, std::uint64_t size, std::uint64_t offset) {
  while (size > 0) {
    const ssize_t n = ::pwrite(fd, bytes, size, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    bytes += n;
    size -= static_cast<std::uint64_t>(n);
    offset += static_cast<std::uint64_t>(n);
  }
  return 0;
}

int sync_data(int fd) {
  int rc = 0;
  while ((rc = ::fdatasync(fd)) != 0 && errno == EINTR) {
  }
  return rc == 0 ? 0 : errno;
}

// Zeros, really written: blocks that are only reserved would cost the file system's own journal on first use.
int fill(int fd, std::uint64_t size) {
  static const char zeros[256 << 10] = {};
  for (std::uint64_t at = 0; at < size; at += sizeof zeros) {
    if (const int error = write_all(fd, zeros, std::min<std::uint64_t>(sizeof zeros, size - at), at); error != 0) {
      return error;
    }
  }
  return ::fsync(fd) == 0 ? 0 : errno;
}

// As long as it should be, and nothing of it a hole (a sparse copy).
bool is_whole(const struct stat& st, std::uint64_t size) {
  return S_ISREG(st.st_mode) && static_cast<std::uint64_t>(st.st_size) == size &&
         static_cast<std::uint64_t>(st.st_blocks) * 512 >= size;
}

bool has_room(const std::string& directory, std::uint64_t bytes) {
  struct statvfs st {};
  if (::statvfs(directory.c_str(), &st) != 0) return true;  // writing will tell
  return static_cast<std::uint64_t>(st.f_bavail) * st.f_frsize >= bytes;
}

// Under another name first: a file with the journal's name is complete.
Result<int, Fault> make(const Journal::Options& options, std::uint64_t size) {
  const std::string path = options.directory + "/" + kFile;
  const std::string fresh = options.directory + "/" + kNewFile;
  const int fd = ::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return fail(journal_fault(options.directory, "cannot be made", errno));
  int error = fill(fd, size);
  if (error == 0 && ::rename(fresh.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) error = sync_directory(options.directory);
  if (error == 0) return fd;
  ::close(fd);
  ::unlink(fresh.c_str());
  if (is_full(error)) return -1;
  return fail(journal_fault(options.directory, "cannot be made", error));
}

std::uint64_t file_size(std::uint64_t segment_bytes) { return kBlock + 2 * segment_bytes; }

}  // namespace

Result<std::unique_ptr<Journal>, Fault> Journal::open(const Options& options) {
  COORD_CHECK(options.segment_bytes % kBlock == 0 && options.segment_bytes >= kSegmentMin &&
              options.segment_bytes <= kSegmentMax);
  const std::string path = options.directory + "/" + kFile;
  const std::uint64_t size = file_size(options.segment_bytes);
  if (::unlink((options.directory + "/" + kNewFile).c_str()) != 0 && errno != ENOENT) {
    return fail(journal_fault(options.directory, "left over in the making cannot be removed", errno));
  }
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) return fail(journal_fault(options.directory, "cannot be opened", errno));
  struct stat st {};
  if (fd >= 0 && ::fstat(fd, &st) != 0) {
    const int error = errno;
    ::close(fd);
    return fail(journal_fault(options.directory, "cannot be looked at", error));
  }
  if (fd >= 0 && !is_whole(st, size)) {
    ::close(fd);
    fd = -1;
  }
  if (fd < 0 && has_room(options.directory, size + options.leave_bytes)) {
    auto made = make(options, size);
    if (!made) return fail(std::move(made.error()));
    fd = *made;
  }
  if (fd < 0) {
    log::warn("store", "no room for a journal: each write goes to the database at once, which is slower; dir={}",
              options.directory);
    return nullptr;
  }
  return std::unique_ptr<Journal>(new Journal(path, fd, options.segment_bytes));
}

Journal::~Journal() { ::close(fd_); }

void Journal::write(const char* bytes, std::uint64_t size, std::uint64_t offset) {
  if (const int error = write_all(fd_, bytes, size, offset); error != 0) {
    storage_failed("writing " + path_, std::strerror(error));
  }
  if (const int error = sync_data(fd_); error != 0) storage_failed("syncing " + path_, std::strerror(error));
}

void Journal::begin(const std::string& id) {
  COORD_CHECK_MSG(id.size() == kIdSize && !begun(), "a journal has one life");
  std::vector<char> block(kBlock);
  char* at = block.data() + 4;
  std::memcpy(at, kHeaderMagic.data(), kHeaderMagic.size());
  put_u32(at + 8, kVersion);
  std::memcpy(at + 12, id.data(), kIdSize);
  put_u64(at + 12 + kIdSize, segment_bytes_);
  put_u32(block.data(), crc32c({at, kHeaderSize - 4}));
  write(block.data(), block.size(), 0);
  id_ = id;
}

std::uint64_t Journal::bytes_of(const std::vector<Batch>& batches) {
  std::uint64_t bytes = kRecordHeaderSize;
  for (const Batch& batch : batches) {
    for (const LogEntry& entry : batch.append) bytes += kEntryHeaderSize + entry.payload->size();
  }
  return bytes;
}

std::uint64_t Journal::overwrites(std::uint64_t bytes) const {
  return at_ + whole_blocks(bytes) <= segment_bytes_ ? 0 : last_[1 - segment_];
}

void Journal::encode(const std::vector<Batch>& batches, std::uint64_t bytes) {
  const std::uint64_t size = whole_blocks(bytes);
  if (buffer_.size() < size || buffer_.size() > std::max<std::size_t>(kBufferKept, size)) {
    buffer_ = std::vector<char>(std::max<std::size_t>(size, kBlock * 4));
  }
  char* const record = buffer_.data();
  char* at = record + kRecordHeaderSize;
  std::uint32_t count = 0;
  Zxid hint;
  Zxid previous;
  for (const Batch& batch : batches) {
    if (batch.commit_hint) hint = std::max(hint, *batch.commit_hint);
    for (const LogEntry& entry : batch.append) {
      if (count++ == 0) previous = entry.previous;
      put_u64(at, entry.zxid.value);
      put_u32(at + 8, static_cast<std::uint32_t>(entry.payload->size()));
      if (!entry.payload->empty()) std::memcpy(at + kEntryHeaderSize, entry.payload->data(), entry.payload->size());
      at += kEntryHeaderSize + entry.payload->size();
    }
  }
  COORD_CHECK_MSG(count > 0 && at == record + bytes, "a record is as long as was said");
  std::memset(at, 0, size - bytes);
  put_u32(record + 4, kRecordMagic);
  put_u32(record + 8, static_cast<std::uint32_t>(bytes));
  put_u32(record + 12, count);
  std::memcpy(record + 16, id_.data(), kIdSize);
  put_u64(record + 32, sequence_ + 1);
  put_u64(record + 40, previous.value);
  put_u64(record + 48, hint.value);
  put_u32(record, crc32c({record + 4, bytes - 4}));
}

std::uint64_t Journal::append(const std::vector<Batch>& batches) {
  COORD_CHECK_MSG(begun(), "a journal is begun before it is written");
  const std::uint64_t bytes = bytes_of(batches);
  const std::uint64_t size = whole_blocks(bytes);
  COORD_CHECK_MSG(size <= segment_bytes_, "a record fits a segment");
  encode(batches, bytes);
  if (at_ + size > segment_bytes_) {
    segment_ = 1 - segment_;
    at_ = 0;
  }
  write(buffer_.data(), size, kBlock + segment_ * segment_bytes_ + at_);
  at_ += size;
  last_[segment_] = ++sequence_;
  return sequence_;
}

}  // namespace coord::store
