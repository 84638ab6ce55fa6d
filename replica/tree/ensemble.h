// The members of the ensemble as replicated state and as clients see them in /zookeeper/config, and what the leader
// knows of them when it prepares a change. Pure.
//
// Text, one line for each member in the order of ids (common/model/member.h), then the version without a line end:
//
//   server.1=host:2888:3888:participant;0.0.0.0:2181
//   version=100000000
//
// Source: client-protocol.md section 15; zab.md section 8; replica/README.md (membership, feature level).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/ids.h"
#include "common/model/member.h"

namespace coord::tree {

inline constexpr std::int32_t kFeatureLevel = 2;          // what this program knows
inline constexpr std::int32_t kFeatureLevelReconfig = 2;  // the first that has reconfig, and the level, in the log

// What /zookeeper/config holds.
std::string config_text(const std::vector<Member>& members, Zxid version);

// Why a replica that knows less than its data or its ensemble cannot go on, for a person.
std::string above_known(std::int32_t level, std::int32_t known);

// What the leader knows and the tree does not, for preparing kReconfig and kFeatureLevel.
struct Electorate {
  bool alone = true;
  bool reconfig_enabled = false;      // zoo.cfg reconfigEnabled
  bool pending = false;               // a reconfig is logged and not committed
  std::map<Sid, std::string> synced;  // has the whole history on disk, this server too: its data directory
  // What those connected know, this server too. 0: a member that is not connected; must be said of those that only the
  // files name, for the tree does not know them.
  std::map<Sid, int> feature_levels;
};

}  // namespace coord::tree
