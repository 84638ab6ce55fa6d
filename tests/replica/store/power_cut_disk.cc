#include "tests/replica/store/power_cut_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>
#include <unordered_map>

namespace coord::store::power_cut {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kBlock = 4096;

bool is_zero(const char* bytes, std::size_t size) {
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

// But for zeros at the end.
std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes;
  std::vector<char> chunk(64 << 10);
  for (std::size_t at = 0; in; at += chunk.size()) {
    in.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    const auto got = static_cast<std::size_t>(in.gcount());
    if (is_zero(chunk.data(), got)) continue;
    bytes.resize(at);
    bytes.append(chunk.data(), got);
  }
  return bytes;
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

void put(int fd, const char* bytes, std::uint64_t size, std::uint64_t offset) {
  ASSERT_EQ(::pwrite(fd, bytes, size, static_cast<off_t>(offset)), static_cast<ssize_t>(size));
}

}  // namespace

bool Image::File::is(const std::string& path) const {
  const std::string there = read_file(path);
  const std::string& shorter = there.size() < bytes.size() ? there : bytes;
  const std::string& longer = there.size() < bytes.size() ? bytes : there;
  return fs::file_size(path) == size && longer.compare(0, shorter.size(), shorter) == 0 &&
         is_zero(longer.data() + shorter.size(), longer.size() - shorter.size());
}

void Image::write(const std::string& root) const {
  static const std::array<char, 64 << 10> zeros{};
  for (const auto& [path, file] : files) {
    if (!file) {
      ASSERT_EQ(::mkdir((root + "/" + path).c_str(), 0700), 0);
      continue;
    }
    const int fd = ::open((root + "/" + path).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    const std::string& bytes = file->bytes;
    ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(file->size)), 0);
    std::uint64_t at = std::min<std::uint64_t>(file->solid, bytes.size());
    if (at > 0) put(fd, bytes.data(), at, 0);
    while (at < file->solid) {
      const std::uint64_t size = std::min<std::uint64_t>(file->solid - at, zeros.size());
      put(fd, zeros.data(), size, at);
      at += size;
    }
    while (at < bytes.size()) {
      const std::uint64_t size = std::min<std::uint64_t>(kBlock - at % kBlock, bytes.size() - at);
      if (!is_zero(bytes.data() + at, size)) put(fd, bytes.data() + at, size, at);
      at += size;
    }
    ::close(fd);
  }
}

Disk Disk::read(const std::string& root) {
  Disk disk;
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    paths.push_back(fs::relative(entry.path(), root).string());
  }
  std::sort(paths.begin(), paths.end());
  disk.files_.push_back({true, {}, 0, {}, {}});
  disk.paths_[""] = 0;
  for (const std::string& path : paths) {
    const int id = static_cast<int>(disk.files_.size());
    const bool directory = fs::is_directory(root + "/" + path);
    File file;
    file.directory = directory;
    if (!directory) file.durable = read_file(root + "/" + path);
    if (!directory) file.size = fs::file_size(root + "/" + path);
    disk.files_.push_back(std::move(file));
    disk.paths_[path] = id;
    disk.files_[static_cast<std::size_t>(disk.paths_.at(parent_of(path)))].names[path] = id;
  }
  return disk;
}

std::uint64_t Disk::size_of(const std::string& path) const {
  const auto found = paths_.find(path);
  return found == paths_.end() ? 0 : files_[static_cast<std::size_t>(found->second)].size;
}

void Disk::advance(const std::vector<Event>& events, std::size_t position) {
  for (; position_ < position; ++position_) take(events, position_);
}

void Disk::take(const std::vector<Event>& events, std::size_t at) {
  const Event& event = events[at];
  const auto file_of = [this](const Event& e) -> File& { return files_.at(static_cast<std::size_t>(e.file)); };
  switch (event.kind) {
    case Event::Kind::kTruncate:
      file_of(event).pending.push_back({at, at});
      break;
    case Event::Kind::kName:
      if (event.target >= static_cast<int>(files_.size())) files_.resize(static_cast<std::size_t>(event.target) + 1);
      if (event.target >= 0) files_[static_cast<std::size_t>(event.target)].directory = event.directory;
      file_of(event).pending.push_back({at, at});
      break;
    case Event::Kind::kWrite:
      file_of(event).pending.push_back({at, kNotYet});
      break;
    case Event::Kind::kWritten: {
      File& file = file_of(events[event.begin]);
      const auto found = std::find_if(file.pending.begin(), file.pending.end(),
                                      [&](const Pending& pending) { return pending.event == event.begin; });
      ASSERT_NE(found, file.pending.end());
      found->written = at;
      if (!event.durable) break;
      // The sectors are written as they are in the cache: with what else was written to them before.
      const Event& write = events[event.begin];
      const auto touches = [&](const Pending& pending) {
        const Event& e = events[pending.event];
        return e.kind == Event::Kind::kTruncate || (e.offset / kSector * kSector < write.offset + write.size &&
                                                    write.offset / kSector * kSector < e.offset + e.size);
      };
      for (auto pending = file.pending.begin(); pending != file.pending.end();) {
        const bool taken = pending->event <= event.begin && touches(*pending);
        if (taken) apply(events[pending->event], file);
        pending = taken ? file.pending.erase(pending) : pending + 1;
      }
      break;
    }
    case Event::Kind::kSynced:
      make_durable(events, file_of(events[event.begin]), event.begin);
      break;
    case Event::Kind::kSync:
    case Event::Kind::kNote:
      break;
  }
}

// What had returned when the sync began.
void Disk::make_durable(const std::vector<Event>& events, File& file, std::size_t before) {
  std::vector<Pending> later;
  for (const Pending& pending : file.pending) {
    if (pending.written >= before) {
      later.push_back(pending);
    } else {
      apply(events[pending.event], file);
    }
  }
  file.pending = std::move(later);
}

void Disk::apply(const Event& event, File& file) {
  if (event.kind == Event::Kind::kName) {
    const auto is = [&](const std::string& name, int id) {
      const auto found = file.names.find(name);
      return found != file.names.end() && found->second == id;
    };
    if (!event.from.empty() && is(event.from, event.target)) file.names.erase(event.from);
    if (event.target >= 0) {
      file.names[event.name] = event.target;
    } else if (is(event.name, static_cast<int>(event.value))) {
      file.names.erase(event.name);
    }
  } else if (event.kind == Event::Kind::kTruncate) {
    file.size = event.size;
    file.durable.resize(std::min<std::uint64_t>(file.durable.size(), event.size));
  } else {
    const std::uint64_t end = event.offset + event.size;
    file.size = std::max(file.size, end);
    if (!event.bytes.empty()) {
      if (file.durable.size() < end) file.durable.resize(end);
      file.durable.replace(event.offset, event.size, event.bytes);
    } else if (event.offset < file.durable.size()) {
      std::memset(file.durable.data() + event.offset, 0, std::min(end, file.durable.size()) - event.offset);
    }
  }
}

// What becomes of that which is not durable: of a hundred writes so many are whole and so many are torn.
struct Disk::Fate {
  Random* random = nullptr;
  std::uint32_t whole = 100;
  std::uint32_t torn = 0;
  std::uint32_t in_order = 100;  // 0: the changes to a directory are there or not one by one; else in their order

  std::uint32_t dice(std::size_t sides) const {
    return sides <= 1 ? 0 : static_cast<std::uint32_t>((*random)() % sides);
  }
  bool all() const { return whole == 100; }
  bool nothing() const { return whole == 0 && torn == 0; }
};

namespace {

// Which sectors of a write have come to the disk.
std::vector<bool> torn(std::uint64_t sectors, Random& random) {
  std::vector<bool> there(sectors);
  const auto share = random() % 101;
  const auto edge = random() % (sectors + 1);
  const auto how = random() % 4;
  for (std::uint64_t i = 0; i < sectors; ++i) {
    there[i] = how == 0 ? i < edge : how == 1 ? i >= edge : random() % 100 < share;
  }
  return there;
}

using Sector = std::array<char, kSector>;

// The sectors of a file that differ from what is durable: in the cache, and on the disk.
class Sectors {
 public:
  Sectors(const std::string& durable, std::uint64_t size) : durable_(durable), size_(size) {}

  void write(const Event& event, const std::vector<bool>& there) {
    const std::uint64_t first = event.offset / kSector;
    for (std::uint64_t i = 0; i < there.size(); ++i) {
      Sector& sector = cached(first + i);
      const std::uint64_t begin = (first + i) * kSector;
      const std::uint64_t from = std::max(begin, event.offset);
      const std::uint64_t to = std::min(begin + kSector, event.offset + event.size);
      if (event.bytes.empty()) std::memset(sector.data() + (from - begin), 0, to - from);
      if (!event.bytes.empty()) {
        std::memcpy(sector.data() + (from - begin), event.bytes.data() + (from - event.offset), to - from);
      }
      if (there[i]) disk_[first + i] = sector;
    }
  }
  void cut_off(std::uint64_t size) {
    for (auto* sectors : {&cache_, &disk_}) {
      for (auto& [number, sector] : *sectors) clear(sector, number * kSector, size);
    }
    size_ = std::min(size_, size);
  }
  std::shared_ptr<const Image::File> content(std::uint64_t size) const {
    auto file = std::make_shared<Image::File>();
    file->size = size;
    file->solid = std::min(size, size_);
    file->bytes.assign(durable_, 0, file->solid);
    for (const auto& [number, sector] : disk_) {
      const std::uint64_t at = number * kSector;
      if (at >= size) continue;
      const std::uint64_t bytes = std::min(kSector, size - at);
      const bool zero = is_zero(sector.data(), bytes);
      if (file->bytes.size() < at + bytes && !zero) file->bytes.resize(at + bytes);
      if (at < file->bytes.size()) {
        std::memcpy(file->bytes.data() + at, sector.data(), std::min<std::size_t>(bytes, file->bytes.size() - at));
      }
    }
    return file;
  }

 private:
  Sector& cached(std::uint64_t number) {
    const auto [it, fresh] = cache_.try_emplace(number);
    if (fresh) {
      it->second.fill('\0');
      const std::uint64_t at = number * kSector;
      const std::uint64_t end = std::min<std::uint64_t>(durable_.size(), size_);
      if (at < end) std::memcpy(it->second.data(), durable_.data() + at, std::min(kSector, end - at));
    }
    return it->second;
  }
  static void clear(Sector& sector, std::uint64_t at, std::uint64_t size) {
    for (std::uint64_t i = size > at ? size - at : 0; i < kSector; ++i) sector[i] = '\0';
  }

  const std::string& durable_;
  std::uint64_t size_;  // of what is durable, so much still counts
  std::unordered_map<std::uint64_t, Sector> cache_;
  std::unordered_map<std::uint64_t, Sector> disk_;
};

}  // namespace

std::shared_ptr<const Image::File> Disk::content(const std::vector<Event>& events, const File& file,
                                                 Fate& fate) const {
  const std::size_t count = file.pending.size();
  std::size_t sized = fate.nothing() ? 0 : count;  // the length is as of so many of them
  if (!fate.all() && !fate.nothing() && fate.dice(2) == 0) sized = fate.dice(count + 1);
  std::uint64_t size = file.size;
  Sectors sectors(file.durable, file.size);
  for (std::size_t i = 0; i < count; ++i) {
    const Event& event = events[file.pending[i].event];
    if (event.kind == Event::Kind::kTruncate) {
      if (i < sized) size = event.size;
      if (i < sized && event.size < file.size) sectors.cut_off(event.size);
      continue;
    }
    if (event.size == 0) continue;
    if (i < sized) size = std::max(size, event.offset + event.size);
    const std::uint64_t covered = (event.offset + event.size - 1) / kSector - event.offset / kSector + 1;
    const std::uint32_t dice = fate.all() ? 0 : fate.dice(100);
    const bool whole = dice < fate.whole;
    const bool partly = !whole && dice < fate.whole + fate.torn;
    sectors.write(event, partly ? torn(covered, *fate.random) : std::vector<bool>(covered, whole));
  }
  return sectors.content(size);
}

std::map<std::string, int> Disk::entries(const std::vector<Event>& events, const File& file, Fate& fate) const {
  File after;
  after.names = file.names;
  std::size_t count = file.pending.size();
  if (fate.nothing()) count = 0;
  if (!fate.all() && fate.in_order != 0) count = fate.dice(count + 1);
  for (std::size_t i = 0; i < count; ++i) {
    if (fate.in_order != 0 || fate.all() || fate.dice(2) == 0) apply(events[file.pending[i].event], after);
  }
  return after.names;
}

Image Disk::image(const std::vector<Event>& events, Fate& fate) const {
  Image image;
  std::vector<std::size_t> directories = {0};
  while (!directories.empty()) {
    const File& directory = files_[directories.back()];
    directories.pop_back();
    for (const auto& [name, id] : entries(events, directory, fate)) {
      const File& file = files_[static_cast<std::size_t>(id)];
      image.files[name] = file.directory ? nullptr : content(events, file, fate);
      if (file.directory) directories.push_back(static_cast<std::size_t>(id));
    }
  }
  return image;
}

Image Disk::cut(const std::vector<Event>& events, Random& random) const {
  Fate fate;
  fate.random = &random;
  static constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 7> kFates = {
      {{0, 0}, {100, 0}, {50, 0}, {0, 100}, {90, 10}, {10, 45}, {45, 10}}};
  std::tie(fate.whole, fate.torn) = kFates[fate.dice(kFates.size())];
  fate.in_order = fate.dice(2);
  Image found = image(events, fate);
  std::ostringstream how;
  how << "of what was not synced, " << fate.whole << "% there and " << fate.torn << "% torn; of names, "
      << (fate.all() ? "all" : fate.nothing() ? "none" : fate.in_order != 0 ? "the first" : "any");
  found.how = how.str();
  return found;
}

Image Disk::whole(const std::vector<Event>& events) const {
  Fate fate;
  return image(events, fate);
}

std::vector<std::string> mapped_for_writing(const std::string& root) {
  std::vector<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range;
    std::string mode;
    words >> range >> mode;
    const auto at = line.find(root + "/");
    const bool written = mode.size() == 4 && mode[1] == 'w' && mode[3] == 's';
    if (at != std::string::npos && written) found.push_back(line.substr(at));
  }
  return found;
}

}  // namespace coord::store::power_cut
