// A journal in front of the database: an acknowledged entry of the log is one record here first, written over blocks
// that the file has already, so that one flush without metadata makes it durable. The database takes many records in
// one transaction later, and says in it which was the last (schema.h, meta/journal); opening takes over the rest.
//
// The file, `journal` in the data directory: a header of one block, then two segments of equal size, used in turn. A
// segment is written from its start, each record on blocks of its own (a write that a crash tears never touches what
// was acknowledged before), and written again only when the database durably holds everything in it.
//
//   header   crc (4), magic (8), version (4), id (16), bytes of a segment (8)
//   record   crc (4), magic (4), length (4), number of entries (4), id (16), sequence (8), zxid before the first (8),
//            commit hint (8), then for each entry zxid (8), size (4), payload
//
// Big-endian; each crc is CRC32C over what follows it, up to `length`. Sequences count from 1 in each life of the
// journal, which has a random id of its own: what an earlier life left in the blocks is not taken for a record of this.
// Within a life, one record is on its way at a time and is durable before the next is written: if a record is missing
// that has a newer one behind it, something is damaged; if the newest is torn, it was never acknowledged. What this
// cannot tell: a newest record that was whole and has rotted since, in the half second before the database has it too.
//
// Threading: the writer thread. Errors: a Fault at open; after that any error ends the process (store.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "replica/store/store.h"

namespace coord::store {

namespace journal {

inline constexpr const char* kFile = "journal";
inline constexpr const char* kNewFile = "journal.new";  // one that is being made
inline constexpr std::uint64_t kBlock = 4096;
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::string_view kHeaderMagic = "coordjnl";
inline constexpr std::uint32_t kRecordMagic = 0x434a524e;
inline constexpr std::size_t kIdSize = 16;
inline constexpr std::size_t kHeaderSize = 4 + 8 + 4 + kIdSize + 8;
inline constexpr std::size_t kRecordHeaderSize = 4 + 4 + 4 + 4 + kIdSize + 8 + 8 + 8;
inline constexpr std::size_t kEntryHeaderSize = 8 + 4;
inline constexpr std::uint64_t kSegmentMin = 16 * kBlock;
inline constexpr std::uint64_t kSegmentMax = 1ULL << 30;

constexpr std::uint64_t whole_blocks(std::uint64_t bytes) { return (bytes + kBlock - 1) / kBlock * kBlock; }

}  // namespace journal

// Where the database stands with the journal; kept in the database, changed in its transactions.
struct JournalMark {
  bool open = false;           // there may be records behind `sequence`
  std::string id;              // of the journal's life; empty: there never was one
  std::uint64_t sequence = 0;  // the last record that the database holds
};

class Journal {
 public:
  struct Options {
    std::string directory;
    std::uint64_t segment_bytes = 0;  // whole blocks
    std::uint64_t leave_bytes = 0;    // not made where less than this would be left on the disk
  };

  // Takes the file that is there, if it is whole, or makes one. Nothing in it is needed any more. nullptr: there is no
  // room for it; that is no Fault, as a store can do without.
  static Result<std::unique_ptr<Journal>, Fault> open(const Options& options);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // A new life: makes the header durable. Before the first append; the database must know `id` before that, too.
  void begin(const std::string& id);
  bool begun() const { return !id_.empty(); }
  const std::string& id() const { return id_; }
  std::uint64_t sequence() const { return sequence_; }  // of the last record; 0: none yet
  std::uint64_t segment_bytes() const { return segment_bytes_; }

  // Of the record of these batches. It must fit a segment.
  static std::uint64_t bytes_of(const std::vector<Batch>& batches);
  bool fits(std::uint64_t bytes) const { return bytes <= segment_bytes_; }
  // What the database must durably hold before a record of `bytes` is written: it will go over these.
  std::uint64_t overwrites(std::uint64_t bytes) const;
  // The entries and hints of these batches, which have at least one entry, become one record, durable on return.
  // Returns its sequence.
  std::uint64_t append(const std::vector<Batch>& batches);

 private:
  Journal(std::string path, int fd, std::uint64_t segment_bytes)
      : path_(std::move(path)), fd_(fd), segment_bytes_(segment_bytes) {}
  void encode(const std::vector<Batch>& batches, std::uint64_t bytes);
  void write(const char* bytes, std::uint64_t size, std::uint64_t offset);

  const std::string path_;
  const int fd_;
  const std::uint64_t segment_bytes_;
  std::string id_;
  std::uint64_t sequence_ = 0;
  std::size_t segment_ = 0;                // is being written
  std::uint64_t at_ = 0;                   // in it
  std::array<std::uint64_t, 2> last_{};    // sequence in each
  std::vector<char> buffer_;
};

struct JournalRecord {
  std::uint64_t sequence = 0;
  Zxid previous;
  Zxid commit_hint;  // 0: none
  std::vector<LogEntry> entries;
};

// A journal that is there and may not be opened (permissions): that says nothing about what is in it.
Result<bool, Fault> check_journal_opens(const std::string& directory);

// For opening: reads only. `mark` is what the database says. Returns the records behind the mark, in order.
// Faults (the caller adds the directory): the journal is missing, damaged, of another life, or has lost a record; or
// the mark is closed and the journal holds records all the same, of a life that this database has not seen. `apart`:
// journal and database do not belong together, somebody has moved one of them; nothing says that either is damaged.
Result<std::vector<JournalRecord>, Fault> read_journal(const std::string& directory, const JournalMark& mark,
                                                       bool* apart = nullptr);

}  // namespace coord::store
