#include "replica/tree/ensemble.h"

#include <cstdio>

namespace coord::tree {

std::string config_text(const std::vector<Member>& members, Zxid version) {
  std::string out;
  for (const Member& member : members) out += to_text(member) + '\n';
  char digits[24];
  std::snprintf(digits, sizeof digits, "%llx", static_cast<unsigned long long>(version.value));
  return out + "version=" + digits;
}

std::string above_known(std::int32_t level, std::int32_t known) {
  return "the data is at feature level " + std::to_string(level) + ", and this replica knows " + std::to_string(known) +
         ": start a newer version (or one that coord.featureLevelMax does not hold back)";
}

}  // namespace coord::tree
