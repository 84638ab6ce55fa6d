// A disk that loses power. A Recorder notes what this process does to the files below a directory (it stands in front
// of the C library: power_cut_disk.cc); a Disk follows such a recording up to any position, and tells what a power cut
// there might leave.
//
// WHAT IS TAKEN FOR GRANTED of a file system: a write that was not synced is there or not, whole or in any of its
// sectors of 512 bytes, whatever came of earlier and later ones; a sector has one of the contents that it had in the
// cache. fsync and fdatasync make durable what was written to that file before they began, and its length; a write
// through a descriptor with O_DSYNC, itself, once it has returned (and earlier ones that touch its sectors, whole). A
// length that was not synced is one of those that the file had. A name is there when its directory was synced after it
// was made; until then any of the changes to a directory may be missing, but a rename is done or not.
//
// Under a recorder no sync reaches the real disk, which nobody looks at; hence it costs nothing, and the order of
// things hardly depends on the machine. Not recorded: memory that is mapped (mapped_for_writing tells of it), and
// calls that the store and LMDB do not make; that nothing was missed shows in Disk::whole being what is really there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace coord::store::power_cut {

using Random = std::mt19937;

inline constexpr std::uint64_t kSector = 512;

enum class Note { kOpened, kSubmitted, kDurable };

struct Event {
  enum class Kind {
    kWrite,     // has begun: `file`, `offset`, `size`, `bytes` (none: zeros)
    kWritten,   // `begin` has returned, and is `durable`, or is not
    kTruncate,  // `file`, `size`
    kSync,      // has begun: `file`, which may be a directory
    kSynced,    // `begin` has returned
    kName,      // in the directory `file`, `name` is `target` now, or nothing (-1); `from` was its name before
    kNote,      // by the test: `note`, `value`
  };
  Kind kind{};
  int file = -1;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::string bytes;
  std::size_t begin = 0;
  bool durable = false;
  std::string name;  // path below the root
  std::string from;
  int target = -1;
  bool directory = false;  // the target
  Note note{};
  std::uint64_t value = 0;
};

// What is found on a disk when the power is back. Of each path, nullptr: a directory.
struct Image {
  struct File {
    std::string bytes;  // zeros follow, up to `size`
    std::uint64_t size = 0;
    std::uint64_t solid = 0;  // what is behind this and zero was never written: a hole
    bool is(const std::string& path) const;  // the same is there
  };
  std::map<std::string, std::shared_ptr<const File>> files;
  std::string how;  // for the message

  void write(const std::string& root) const;  // a directory that is there, and empty
};

class Disk {
 public:
  // All that is below `root` is durable. Files are numbered in the order of their paths, from 1; the root is 0.
  static Disk read(const std::string& root);

  // Brings it to where events [0, position) have happened. Goes forward only.
  void advance(const std::vector<Event>& events, std::size_t position);
  Image cut(const std::vector<Event>& events, Random& random) const;
  Image whole(const std::vector<Event>& events) const;  // no cut: the cache

  // As read.
  const std::map<std::string, int>& names() const { return paths_; }
  std::uint64_t size_of(const std::string& path) const;  // 0: it is not there

 private:
  static constexpr std::size_t kNotYet = ~std::size_t{0};
  struct Pending {
    std::size_t event = 0;
    std::size_t written = kNotYet;  // the event that says that it has returned
  };
  struct File {
    bool directory = false;
    std::string durable;  // zeros follow, up to `size`
    std::uint64_t size = 0;
    std::map<std::string, int> names;
    std::vector<Pending> pending;
  };
  struct Fate;

  void take(const std::vector<Event>& events, std::size_t at);
  void make_durable(const std::vector<Event>& events, File& file, std::size_t before);
  static void apply(const Event& event, File& file);
  std::shared_ptr<const Image::File> content(const std::vector<Event>& events, const File& file, Fate& fate) const;
  std::map<std::string, int> entries(const std::vector<Event>& events, const File& file, Fate& fate) const;
  Image image(const std::vector<Event>& events, Fate& fate) const;

  std::vector<File> files_;
  std::map<std::string, int> paths_;
  std::size_t position_ = 0;
};

struct Recording {
  Disk before;
  std::vector<Event> events;
};

// One at a time. Files that were opened before are not recorded.
class Recorder {
 public:
  // `sync_us`: a sync takes up to so long, for threads to overtake each other.
  explicit Recorder(const std::string& root, std::uint32_t sync_us = 0);
  ~Recorder();  // as stop()
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  void note(Note note, std::uint64_t value = 0);  // any thread
  Recording stop();                               // the files are closed

 private:
  Disk before_;
};

// Files below `root` that are mapped so that memory writes them.
std::vector<std::string> mapped_for_writing(const std::string& root);

}  // namespace coord::store::power_cut
