// The syntax of zoo.cfg (a Java properties file as ZooKeeper reads it): `key=value` lines, '#' comments, blanks around
// key and value ignored. What the keys mean is the reader's business (replica/runtime/config.h). Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace coord {

struct ConfigEntry {
  std::string key;
  std::string value;
  int line = 0;  // 1-based
};

// All entries in order; a later entry of the same key wins, which is the reader's to apply. Fault: "FILE:LINE: why".
Result<std::vector<ConfigEntry>, Fault> parse_config(std::string_view text, std::string_view file_name);
Result<std::vector<ConfigEntry>, Fault> read_config_file(const std::string& path);
// All of a small file; else an errno: that of the failure, EFBIG for more than 1 MiB.
Result<std::string, int> read_small_file(const std::string& path);

}  // namespace coord
