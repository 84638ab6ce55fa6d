#include "replica/store/data_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/fd.h"
#include "replica/store/schema.h"

namespace coord::store {

namespace {

std::string error_text_of(int error) { return std::strerror(error); }

Fault fault(const std::string& path, const std::string& what) { return {"data directory " + path + ": " + what}; }

Result<bool, Fault> synced(const std::string& path) {
  const int error = sync_directory(path);
  return error == 0 ? Result<bool, Fault>(true) : fail(fault(path, "cannot sync: " + error_text_of(error)));
}

std::string parent_of(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<bool, Fault> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) return synced(parent_of(path));
  if (errno != EEXIST) return fail(fault(path, "cannot be created: " + error_text_of(errno)));
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail(fault(path, error_text_of(errno)));
  if (!S_ISDIR(st.st_mode)) return fail(fault(path, "is not a directory"));
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
    return fail(fault(path, "is not readable and writable for this user: " + error_text_of(errno)));
  }
  return true;
}

// What may lie beside, or before, the database.
bool is_ours(std::string_view name) {
  static constexpr std::array<std::string_view, 8> kKnown = {
      ".", "..", "myid", "zoo.cfg", "lost+found", schema::kLockFile, schema::kLmdbLockFile, schema::kNewDataFile};
  return std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end();
}

// A directory without our database must hold nothing of somebody else's, such as ZooKeeper's version-2/.
Result<bool, Fault> check_contents(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  if (dir == nullptr) return fail(fault(path, "cannot be listed: " + error_text_of(errno)));
  std::vector<std::string> foreign;
  bool ours = false;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name == schema::kDataFile) {
      ours = true;
    } else if (!is_ours(name)) {
      foreign.emplace_back(name);
    }
  }
  ::closedir(dir);
  if (ours || foreign.empty()) return true;
  std::sort(foreign.begin(), foreign.end());
  constexpr std::size_t kNamed = 5;
  std::string names;
  for (std::size_t i = 0; i < foreign.size() && i < kNamed; ++i) names += (i == 0 ? "" : ", ") + foreign[i];
  if (foreign.size() > kNamed) names += ", ...";
  return fail(fault(path, "holds files of something else and no database of ours (" + names +
                              "); choose an empty directory, or move them away"));
}

}  // namespace

Result<DataDirectory, Fault> DataDirectory::open(const std::string& path) {
  if (path.empty()) return fail(Fault{"no data directory given"});
  if (auto made = make_directory(path); !made) return fail(std::move(made.error()));
  if (auto checked = check_contents(path); !checked) return fail(std::move(checked.error()));
  const std::string lock_file = path + "/" + schema::kLockFile;
  const int fd = ::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail(fault(path, std::string("cannot open ") + schema::kLockFile + ": " + error_text_of(errno)));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(fd);
    if (error != EWOULDBLOCK) return fail(fault(path, "cannot be locked: " + error_text_of(error)));
    return fail(fault(path, "is in use by another process; stop that one first, or choose another directory"));
  }
  return DataDirectory(path, fd);
}

DataDirectory::DataDirectory(DataDirectory&& other) noexcept
    : path_(std::move(other.path_)), lock_fd_(std::exchange(other.lock_fd_, -1)) {}

DataDirectory::~DataDirectory() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

std::string DataDirectory::data_file() const { return path_ + "/" + schema::kDataFile; }

bool DataDirectory::has_data() const {
  struct stat st {};
  return ::stat(data_file().c_str(), &st) == 0 && st.st_size > 0;
}

Result<bool, Fault> DataDirectory::remove(const char* name) const {
  if (::unlink((path_ + "/" + name).c_str()) == 0) return sync();
  if (errno == ENOENT) return true;
  return fail(fault(path_, std::string(name) + " cannot be removed: " + error_text_of(errno)));
}

Result<bool, Fault> DataDirectory::put_in_place(const char* name, const char* as) const {
  const Fd file(::open((path_ + "/" + name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok() || ::fsync(file.get()) != 0 ||
      ::rename((path_ + "/" + name).c_str(), (path_ + "/" + as).c_str()) != 0) {
    return fail(fault(path_, std::string(name) + " cannot become " + as + ": " + error_text_of(errno)));
  }
  return sync();
}

int sync_directory(const std::string& path) {
  const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.ok()) return errno;
  return ::fsync(directory.get()) == 0 ? 0 : errno;
}

Result<bool, Fault> DataDirectory::sync() const { return synced(path_); }

}  // namespace coord::store
