#include "replica/tree/quota.h"

#include "common/base/number.h"

namespace coord::tree {

QuotaText parse_quota(std::string_view text) {
  QuotaText out;
  while (!text.empty()) {
    const std::size_t end = text.find_first_of(",;");
    const std::string_view item = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = item.substr(0, equals);
    std::string_view value = item.substr(equals + 1);
    // "bytes=-1=;byteHardLimit=..." has a second '=' before the separator.
    value = value.substr(0, value.find('='));
    const std::int64_t number = parse_number<std::int64_t>(value).value_or(-1);
    if (key == "count") out.count = number;
    if (key == "bytes") out.bytes = number;
    if (key == "byteHardLimit") out.byte_hard_limit = number;
    if (key == "countHardLimit") out.count_hard_limit = number;
  }
  return out;
}

std::string format_usage(std::int64_t count, std::int64_t bytes) {
  return "count=" + std::to_string(count) + ",bytes=" + std::to_string(bytes);
}

}  // namespace coord::tree
