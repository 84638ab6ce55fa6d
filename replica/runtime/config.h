// The settings of a replica: zoo.cfg's keys with ZooKeeper's meanings and defaults (client-protocol.md section 13), and
// our own, prefixed `coord.`. Every limit has its name and default here. Pure, apart from read_config.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/config.h"
#include "common/base/result.h"
#include "common/model/ids.h"
#include "common/model/member.h"
#include "common/model/records.h"
#include "replica/tree/ensemble.h"

namespace coord::runtime {

// Of jute.maxbuffer: what a leader carries out at once while the others hear nothing of it must take much less than the
// sync limit, and chunks of log of that size must fit the queue of a link (peers/transport.h).
inline constexpr std::int32_t kFrameSizeMost = 32 << 20;

// Of coord.growSize: so many requests of jute.maxbuffer it must hold at least, and does by default; a share of it may
// be proposed and not committed. A request takes twice its size in the data file (in the log and in the tree).
inline constexpr std::uint64_t kGrowRequestsLeast = 4;
inline constexpr std::uint64_t kGrowRequestsDefault = 8;
inline constexpr std::uint64_t kGrowSharesOnTheWay = 16;

struct Config {
  std::string data_dir;                 // dataDir
  std::int32_t tick_time_ms = 2000;     // tickTime
  std::int32_t min_session_timeout_ms = -1;  // minSessionTimeout; -1: 2 ticks
  std::int32_t max_session_timeout_ms = -1;  // maxSessionTimeout; -1: 20 ticks
  bool has_client_port = false;         // clientPort
  std::uint16_t client_port = 0;        // 0: chosen by the kernel and logged
  std::string client_address;           // clientPortAddress; empty: all
  int client_backlog = -1;              // clientPortListenBacklog
  int connections_per_ip_max = 60;      // maxClientCnxns; 0: any number
  int connections_max = 0;              // maxCnxns; 0: any number
  std::int32_t frame_size_max = 0xfffff;     // jute.maxbuffer; at most kFrameSizeMost
  bool skip_acl = false;                // skipACL=yes
  bool enforce_quota = false;           // enforceQuota
  bool extended_types = true;           // extendedTypesEnabled; on unless switched off
  std::string super_digest;             // DigestAuthenticationProvider.superDigest
  std::set<std::string> four_letter_words = {"srvr"};  // 4lw.commands.whitelist; "*": all
  std::int64_t container_check_ms = 60'000;            // znode.container.checkIntervalMs
  std::int64_t container_never_used_ms = 0;            // znode.container.maxNeverUsedIntervalMs
  int reaped_per_check_max = 10'000;                   // znode.container.maxPerMinute
  std::uint32_t server_id = 1;          // dataDir/myid if it is there

  std::vector<Member> members;          // server.N, this server included; empty: an ensemble of one
  std::int64_t peer_tick_ms = 200;      // coord.peerTickTime
  int init_limit = 50;                  // coord.peerInitLimit, in peer ticks
  int sync_limit = 3;                   // coord.peerSyncLimit, in peer ticks
  std::string peer_secret;              // coord.peerSecret, or the content of coord.peerSecretFile
  std::string peer_certificate;         // coord.peerTls.cert, PEM files
  std::string peer_key;                 // coord.peerTls.key
  std::string peer_authority;           // coord.peerTls.ca
  bool reconfig_enabled = false;        // reconfigEnabled: who may write /zookeeper/config may change the members
  int feature_level_max = tree::kFeatureLevel;  // coord.featureLevelMax: what this replica may know
  std::string peer_address;  // coord.peerAddress: where to listen for them; empty: the own server line's host

  std::string socket;                   // coord.socket; empty: none
  std::string socket_group = "coord";   // coord.socketGroup
  std::set<std::uint32_t> mount_users;  // coord.mountUsers, uids; 0 always
  Credentials tcp_user{65534, 65534, {}};  // coord.tcpUser=UID[:GID]: who a mount that comes over TCP acts as
  int io_threads = 1;                   // coord.ioThreads; the first is the core's
  std::uint64_t map_bytes = 256ULL << 30;       // coord.mapSize
  // coord.growSize: half of it is left when writes are refused, and must take what is on its way then (kGrow...).
  // 0: not given, see grow_size().
  std::uint64_t grow_bytes = 0;
  std::uint64_t journal_bytes = 8ULL << 20;     // coord.journalSize, of each half; 0: none
  std::uint64_t snapshot_rate = 32ULL << 20;    // coord.snapshotRate, bytes/s while there are writes; 0: no limit
  std::uint64_t log_keep_bytes = 64ULL << 20;   // coord.logKeepSize
  std::uint64_t log_keep_entries = 100'000;     // coord.logKeepEntries
  std::uint64_t log_keep_seconds = 0;           // coord.logKeepTime; 0: size alone decides
  std::uint32_t counter_max = 0xf0000000;       // no key: transactions of an epoch; small only in tests
  std::string log_file;                 // coord.logFile; empty: stderr
  std::string log_level = "info";       // coord.logLevel

  std::vector<std::string> warnings;    // unknown keys, keys without effect here; "FILE:LINE: ..."

  std::uint64_t grow_size() const {
    const std::uint64_t requests = kGrowRequestsDefault * static_cast<std::uint64_t>(frame_size_max);
    return grow_bytes != 0 ? grow_bytes : std::max(std::uint64_t{32} << 20, requests);
  }
  // Never 0: that means an invalid session on the wire.
  std::int32_t min_timeout() const {
    return min_session_timeout_ms < 0 ? 2 * tick_time_ms : std::max(min_session_timeout_ms, 1);
  }
  std::int32_t max_timeout() const { return max_session_timeout_ms < 0 ? 20 * tick_time_ms : max_session_timeout_ms; }
};

// Fault: "FILE:LINE: key: what is wrong with the value and what it may be". Nothing is started on a Fault.
Result<Config, Fault> interpret_config(const std::vector<ConfigEntry>& entries, std::string_view file_name);

// What reading the whole configuration means together: dataDir given, min <= max, someone can connect, no other voter.
Result<bool, Fault> check_config(const Config& config, std::string_view file_name);

// The server id in dataDir/myid, if that file exists.
Result<bool, Fault> read_server_id(Config& config);

}  // namespace coord::runtime
