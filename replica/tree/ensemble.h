// The members of the ensemble as replicated state and as clients see them in /zookeeper/config, and what the leader
// knows of them when it prepares a change. Pure.
//
// Text, one line for each member in the order of ids, then the version without a line end:
//
//   server.1=host:2888:3888:participant;0.0.0.0:2181
//   version=100000000
//
// A server has one port for its peers here, the first; the second, ZooKeeper's election port, is kept and shown. The
// part behind `;` is where clients go, shown as host:port; a list that came from files has none.
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

#include "common/base/result.h"
#include "common/model/ids.h"

namespace coord::tree {

inline constexpr std::int32_t kFeatureLevel = 2;          // what this program knows
inline constexpr std::int32_t kFeatureLevelReconfig = 2;  // the first that has reconfig, and the level, in the log

struct Member {
  Sid sid{};
  std::string host{};               // a name or a numeric address, without brackets
  std::uint16_t port = 0;           // for the other replicas
  std::uint16_t election_port = 0;  // ZooKeeper's; without meaning here. 0: not said, shown as `port`
  bool observer = false;
  std::string client{};             // "host:port"; empty: not said
  friend bool operator==(const Member&, const Member&) = default;
};

// "server.N=host:port:port[:role][;[clientHost:]clientPort]". Fault: what is wrong with it. `need_client`: a part for
// clients must be there, as in a request of a client.
Result<Member, Fault> parse_member(std::string_view text, bool need_client);
std::string to_text(const Member& member);  // "server.N=...", normalized
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
