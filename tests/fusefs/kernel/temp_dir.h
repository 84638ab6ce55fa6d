#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace coord::fs {

// A private directory that goes with its scope.
class TempDir {
 public:
  TempDir() {
    std::string name = std::filesystem::temp_directory_path() / "coordfs-test-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace coord::fs
