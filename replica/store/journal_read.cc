// What a former life left in the journal (journal.h).
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "common/base/crc32c.h"
#include "replica/store/journal.h"
#include "replica/store/schema.h"

namespace coord::store {

namespace {

using namespace journal;
using schema::get_u32;
using schema::get_u64;

constexpr const char* kRestore = "; restore the directory from a backup, or remove it and join anew";

Fault fault(const std::string& what, int error = 0) {
  return {std::string(kFile) + " " + what + (error == 0 ? "" : std::string(": ") + std::strerror(error)) + kRestore};
}

struct File {
  int fd = -1;
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
};

// Up to `size` bytes; less: the file ends there.
Result<std::string, Fault> read_at(int fd, std::uint64_t offset, std::uint64_t size) {
  std::string bytes(size, '\0');
  std::uint64_t got = 0;
  while (got < size) {
    const ssize_t n = ::pread(fd, bytes.data() + got, size - got, static_cast<off_t>(offset + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(fault("cannot be read", errno));
    if (n == 0) break;
    got += static_cast<std::uint64_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

struct Header {
  std::string id;
  std::uint64_t segment_bytes = 0;
};

std::optional<Header> parse_header(std::string_view block) {
  if (block.size() < kHeaderSize) return std::nullopt;
  if (get_u32(block.data()) != crc32c(block.substr(4, kHeaderSize - 4))) return std::nullopt;
  if (block.substr(4, kHeaderMagic.size()) != kHeaderMagic || get_u32(block.data() + 12) != kVersion) {
    return std::nullopt;
  }
  Header header{std::string(block.substr(16, kIdSize)), get_u64(block.data() + 16 + kIdSize)};
  const bool sane = header.segment_bytes >= kSegmentMin && header.segment_bytes <= kSegmentMax &&
                    header.segment_bytes % kBlock == 0;
  return sane ? std::optional(header) : std::nullopt;
}

// The record at the start of `bytes`, if there is a whole one of this life.
std::optional<std::string_view> record_at(std::string_view bytes, std::string_view id) {
  if (bytes.size() < kRecordHeaderSize || get_u32(bytes.data() + 4) != kRecordMagic) return std::nullopt;
  const std::uint32_t length = get_u32(bytes.data() + 8);
  if (length < kRecordHeaderSize || length > bytes.size() || bytes.substr(16, kIdSize) != id) return std::nullopt;
  if (get_u32(bytes.data()) != crc32c(bytes.substr(4, length - 4))) return std::nullopt;
  return bytes.substr(0, length);
}

// nullopt: its checksum is right and yet it is none.
std::optional<JournalRecord> decode(std::string_view bytes) {
  JournalRecord record;
  const std::uint32_t count = get_u32(bytes.data() + 12);
  record.sequence = get_u64(bytes.data() + 32);
  record.previous = Zxid{get_u64(bytes.data() + 40)};
  record.commit_hint = Zxid{get_u64(bytes.data() + 48)};
  Zxid previous = record.previous;
  std::string_view rest = bytes.substr(kRecordHeaderSize);
  for (std::uint32_t n = 0; n < count; ++n) {
    if (rest.size() < kEntryHeaderSize) return std::nullopt;
    const Zxid zxid{get_u64(rest.data())};
    const std::uint32_t size = get_u32(rest.data() + 8);
    rest.remove_prefix(kEntryHeaderSize);
    if (size > rest.size()) return std::nullopt;
    record.entries.push_back({zxid, previous, std::make_shared<const std::string>(rest.substr(0, size))});
    rest.remove_prefix(size);
    previous = zxid;
  }
  if (count == 0 || !rest.empty()) return std::nullopt;
  return record;
}

struct Found {
  std::uint64_t newest = 0;
  std::map<std::uint64_t, JournalRecord> records;  // behind the mark
};

// Records follow each other; behind a broken one each block may begin one again.
Result<bool, Fault> search(std::string_view segment, std::string_view id, std::uint64_t after, Found& found) {
  for (std::uint64_t at = 0; at < segment.size();) {
    const auto bytes = record_at(segment.substr(at), id);
    if (!bytes) {
      at += kBlock;
      continue;
    }
    at += whole_blocks(bytes->size());
    const std::uint64_t sequence = get_u64(bytes->data() + 32);
    found.newest = std::max(found.newest, sequence);
    if (sequence <= after) continue;
    auto record = decode(*bytes);
    if (!record) return fail(fault("holds record " + std::to_string(sequence) + ", which makes no sense"));
    found.records.emplace(sequence, std::move(*record));
  }
  return true;
}

// Closed by the database: nothing in it counts, unless it is of a later life than the database has seen.
Result<bool, Fault> check_closed(int fd, const Header& header, const JournalMark& mark) {
  if (header.id == mark.id) return true;
  const auto first = read_at(fd, kBlock, header.segment_bytes);
  if (!first) return fail(first.error());
  if (!record_at(*first, header.id)) return true;
  return fail(fault(std::string("holds writes of which ") + schema::kDataFile +
                    " knows nothing: that is older (out of a backup, without the journal of that time?)"));
}

}  // namespace

Result<bool, Fault> check_journal_opens(const std::string& directory) {
  File file;
  file.fd = ::open((directory + "/" + kFile).c_str(), O_RDWR | O_CLOEXEC);
  if (file.fd >= 0 || errno == ENOENT) return true;
  return fail(Fault{std::string(kFile) + " cannot be opened for reading and writing: " + std::strerror(errno)});
}

Result<std::vector<JournalRecord>, Fault> read_journal(const std::string& directory, const JournalMark& mark,
                                                       bool* apart) {
  const auto fault_apart = [apart](const std::string& what) {
    if (apart != nullptr) *apart = true;
    return fault(what);
  };
  std::vector<JournalRecord> records;
  File file;
  file.fd = ::open((directory + "/" + kFile).c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd < 0) {
    if (errno == ENOENT && !mark.open) return records;
    if (errno != ENOENT) return fail(fault("cannot be opened", errno));
    return fail(fault_apart(std::string("is missing, and what was acknowledged last is in it and not in ") +
                      schema::kDataFile + ": put it back"));
  }
  const auto block = read_at(file.fd, 0, kBlock);
  if (!block) return fail(block.error());
  const auto header = parse_header(*block);
  if (!mark.open) {
    if (!header) return records;
    const auto checked = check_closed(file.fd, *header, mark);
    if (!checked && apart != nullptr) *apart = true;
    return checked ? Result<std::vector<JournalRecord>, Fault>(records) : fail(checked.error());
  }
  if (!header) return fail(fault("is damaged: its header is broken"));
  if (header->id != mark.id)
    return fail(fault_apart(std::string("is not the one that belongs to ") + schema::kDataFile));

  Found found;
  for (const std::uint64_t n : {0U, 1U}) {
    const auto segment = read_at(file.fd, kBlock + n * header->segment_bytes, header->segment_bytes);
    if (!segment) return fail(segment.error());
    if (segment->size() < header->segment_bytes) return fail(fault("is cut off"));
    if (auto searched = search(*segment, mark.id, mark.sequence, found); !searched) return fail(searched.error());
  }
  if (found.newest < mark.sequence) {
    return fail(fault("is damaged or out of date: it ends at record " + std::to_string(found.newest) + ", and " +
                      schema::kDataFile + " holds record " + std::to_string(mark.sequence) + " already"));
  }
  for (std::uint64_t sequence = mark.sequence + 1; sequence <= found.newest; ++sequence) {
    const auto at = found.records.find(sequence);
    if (at == found.records.end()) {
      return fail(fault("is damaged: record " + std::to_string(sequence) + " is broken or gone, and newer ones up to " +
                        std::to_string(found.newest) + " are there"));
    }
    records.push_back(std::move(at->second));
  }
  return records;
}

}  // namespace coord::store
