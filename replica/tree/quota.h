// Quotas (client-protocol.md section 8.1): the text of zookeeper_limits and zookeeper_stats, and their place in the
// tree. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/model/ids.h"

namespace coord::tree {

inline constexpr std::string_view kQuotaRoot = "/zookeeper/quota";
inline constexpr std::string_view kLimitsName = "zookeeper_limits";
inline constexpr std::string_view kStatsName = "zookeeper_stats";

// -1: unlimited, or absent.
struct QuotaText {
  std::int64_t count = -1;
  std::int64_t bytes = -1;
  std::int64_t byte_hard_limit = -1;
  std::int64_t count_hard_limit = -1;
};
// Never fails: what is not understood counts as absent.
QuotaText parse_quota(std::string_view text);
std::string format_usage(std::int64_t count, std::int64_t bytes);  // "count=N,bytes=M"

// A registered quota: its zookeeper_limits exists. Keyed by the path that it limits.
struct Quota {
  NodeId limits;
  NodeId stats;  // 0: no zookeeper_stats (yet), so nothing is counted
};

}  // namespace coord::tree
