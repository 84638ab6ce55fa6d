// The data directory as a place: it exists, it is ours, nobody else uses it. Shell; start-up only.
#pragma once

#include <string>

#include "common/base/result.h"

namespace coord::store {

// Makes the names in a directory durable. Returns 0 or errno.
int sync_directory(const std::string& path);

// Holds the lock on the directory for as long as it lives.
class DataDirectory {
 public:
  // Creates the directory (0700) if it is missing; its parent must exist. Faults: not a directory, not writable,
  // foreign files but no database, in use by another process. Nothing is changed before the checks have passed.
  static Result<DataDirectory, Fault> open(const std::string& path);

  DataDirectory(DataDirectory&& other) noexcept;
  DataDirectory& operator=(DataDirectory&&) = delete;
  ~DataDirectory();

  const std::string& path() const { return path_; }
  std::string data_file() const;
  bool has_data() const;  // there is a data file that is not empty
  Result<bool, Fault> remove(const char* name) const;  // durably; it need not be there
  // Makes the file durable, then gives it the other name, durably.
  Result<bool, Fault> put_in_place(const char* name, const char* as) const;
  // Makes the names in the directory durable.
  Result<bool, Fault> sync() const;

 private:
  DataDirectory(std::string path, int lock_fd) : path_(std::move(path)), lock_fd_(lock_fd) {}

  std::string path_;
  int lock_fd_ = -1;
};

}  // namespace coord::store
