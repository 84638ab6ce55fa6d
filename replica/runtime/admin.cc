#include "replica/runtime/admin.h"

#include <pwd.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <shared_mutex>

#include "common/base/log.h"
#include "common/base/version.h"
#include "replica/runtime/core.h"
#include "replica/runtime/membership.h"

namespace coord::runtime {
namespace {

// What `envi` says as zookeeper.version: clients parse the leading digits and choose features by them. The level of
// the protocol is that of 3.9; the rest is our own name.
constexpr const char* kProtocolVersion = "3.9.2";

std::string version_line() {
  return fmt::format("Zookeeper version: {}-coord-{}, built on 2026-11-20 00:00 UTC\n", kProtocolVersion, kVersion);
}

struct Facts {
  std::size_t nodes, watches, ephemerals, data_bytes, sessions;
  Zxid zxid;
  std::uint64_t digest;
};

// As ZooKeeper names them.
const char* mode(const EnsembleStatus& status) {
  if (status.alone) return "standalone";
  switch (status.role) {
    case zab::Role::kLeading:
      return "leader";
    case zab::Role::kFollowing:
      return "follower";
    case zab::Role::kObserving:
      return "observer";
    case zab::Role::kLooking:
      break;
  }
  return "looking";
}

// What ZooKeeper's mntr calls peer_state: "leading - broadcast".
std::string peer_state(const EnsembleStatus& status) {
  static const std::map<zab::Role, const char*> roles = {{zab::Role::kLooking, "looking"},
                                                         {zab::Role::kLeading, "leading"},
                                                         {zab::Role::kFollowing, "following"},
                                                         {zab::Role::kObserving, "observing"}};
  static const std::map<zab::Phase, const char*> phases = {{zab::Phase::kElection, "election"},
                                                           {zab::Phase::kDiscovery, "discovery"},
                                                           {zab::Phase::kSynchronization, "synchronization"},
                                                           {zab::Phase::kBroadcast, "broadcast"}};
  return fmt::format("{} - {}", roles.at(status.role), phases.at(status.phase));
}

const char* yes_or_no(bool value) { return value ? "yes" : "no"; }

Facts facts(Core& core) {
  std::shared_lock<TreeLock> lock(core.tree_lock());
  const tree::StateMachine& tree = core.tree();
  return {tree.node_count(),      tree.watch_count(),      tree.ephemeral_count(),
          tree.data_bytes(),      tree.sessions().size(),  tree.last_applied(), tree.digest()};
}

// As /zookeeper/config and `coordctl config` have it.
std::string version_text(Zxid version) { return fmt::format("{:x}", version.value); }

std::size_t participants(const EnsembleStatus& status) {
  if (!status.members.empty()) {
    return static_cast<std::size_t>(std::count_if(status.members.begin(), status.members.end(),
                                                  [](const Member& member) { return !member.observer; }));
  }
  std::size_t count = status.observer ? 0 : 1;
  for (const EnsembleStatus::Peer& peer : status.peers) count += peer.observer || !peer.member ? 0 : 1;
  return count;
}

std::string latency_text(const Core::Latency& latency) {
  const double average =
      latency.count == 0 ? 0.0 : static_cast<double>(latency.total_us) / 1000.0 / static_cast<double>(latency.count);
  return fmt::format("{}/{:.4g}/{}", latency.min_us / 1000, average, latency.max_us / 1000);
}

std::string connection_line(const ClientConn& conn) {
  const net::Remote& remote = conn.remote();
  const std::string from = remote.is_unix ? fmt::format("unix:uid={},pid={}", remote.uid, remote.pid)
                                          : fmt::format("{}:{}", remote.address, remote.port);
  return fmt::format(" /{}[1](queued={},recved={},sent={})\n", from, conn.queued(), conn.packets_received(),
                     conn.packets_sent());
}

std::string srvr(Core& core, bool with_clients) {
  const Facts f = facts(core);
  std::string text = version_line();
  if (with_clients) {
    text += "Clients:\n";
    for (const auto& conn : core.connections()) text += connection_line(*conn);
    text += "\n";
  }
  text += fmt::format("Latency min/avg/max: {}\n", latency_text(core.latency()));
  text += fmt::format("Received: {}\nSent: {}\n", core.traffic().received.load(), core.traffic().sent.load());
  text += fmt::format("Connections: {}\nOutstanding: {}\n", core.connection_count(), core.outstanding());
  text += fmt::format("Zxid: 0x{:x}\nMode: {}\nNode count: {}\n", f.zxid.value, mode(core.ensemble_status()), f.nodes);
  return text;
}

std::size_t open_files() {
  std::error_code error;
  std::size_t count = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error)) {
    ++count;
  }
  return count;
}

std::string mntr(Core& core) {
  const Facts f = facts(core);
  const Core::Latency latency = core.latency();
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const store::Space space = core.store().space();
  const store::Counters writer = core.store().counters();
  const EnsembleStatus status = core.ensemble_status();
  std::string text =
      fmt::format("zk_version\t{}-coord-{}\nzk_server_state\t{}\n", kProtocolVersion, kVersion, mode(status));
  const auto line = [&text](const char* key, auto value) { text += fmt::format("zk_{}\t{}\n", key, value); };
  const double average =
      latency.count == 0 ? 0.0 : static_cast<double>(latency.total_us) / 1000.0 / static_cast<double>(latency.count);
  text += fmt::format("zk_avg_latency\t{:.4f}\n", average);
  line("max_latency", latency.max_us / 1000);
  line("min_latency", latency.min_us / 1000);
  line("packets_received", core.traffic().received.load());
  line("packets_sent", core.traffic().sent.load());
  line("num_alive_connections", core.connection_count());
  line("outstanding_requests", core.outstanding());
  line("uptime", core.uptime_ms());
  line("znode_count", f.nodes);
  line("watch_count", f.watches);
  line("ephemerals_count", f.ephemerals);
  line("approximate_data_size", f.data_bytes);
  line("global_sessions", f.sessions);
  line("local_sessions", 0);
  line("open_file_descriptor_count", open_files());
  line("max_file_descriptor_count", files.rlim_cur);
  if (!status.alone) {
    std::size_t troubles = 0;
    for (const EnsembleStatus::Peer& peer : status.peers) troubles += peer.trouble.empty() ? 0 : 1;
    line("peer_state", peer_state(status));
    line("quorum_size", participants(status));
    line("coord_leader", status.leader.value);
    line("coord_acknowledges", status.acknowledges ? 1 : 0);
    line("coord_troubles", troubles);
    line("coord_members_version", version_text(status.members_version));
    line("coord_reconfiguring", status.reconfiguring ? 1 : 0);
    line("coord_enrolled", status.enrolled);
    line("coord_snapshots_sent", status.snapshots_sent);
  }
  line("coord_feature_level", status.feature_level);
  line("coord_feature_level_known", status.feature_level_known);
  if (status.role == zab::Role::kLeading && !status.alone) {
    std::size_t learners = 0, followers = 0, synced = 0;
    for (const EnsembleStatus::Peer& peer : status.peers) {
      learners += peer.learner ? 1 : 0;
      followers += peer.learner && peer.member && !peer.observer ? 1 : 0;
      synced += peer.serving && peer.member && !peer.observer ? 1 : 0;
    }
    line("learners", learners);
    line("followers", followers);
    line("synced_followers", synced);
    line("synced_observers", status.learners() - synced);
  }
  line("last_zxid", fmt::format("0x{:x}", f.zxid.value));
  line("digest", fmt::format("{:016x}", f.digest));
  line("coord_epoch", status.epoch);
  line("coord_alarms", status.alarms.size());
  line("coord_commits", writer.commits);
  line("coord_log_entries", writer.entries);
  line("coord_folded_nodes", writer.folded_nodes);
  line("coord_commit_us_avg", writer.commits == 0 ? 0 : writer.commit_ns_total / 1000 / writer.commits);
  line("coord_commit_us_max", writer.commit_ns_max / 1000);
  line("coord_store_used_bytes", space.used_bytes);
  line("coord_store_grown_bytes", space.grown_bytes);
  line("coord_writes_refused", space.refuse_writes ? 1 : 0);
  return text;
}

// What is nobody's fault and should be known. Nothing goes by the file's server lines any more; yet a person who reads
// them, or starts an empty server with them, should find the truth there.
std::string notes(const EnsembleStatus& status, std::vector<Member> file) {
  if (status.members.empty()) return "";
  std::string text;
  if (!status.is_member()) {
    text += fmt::format("Note: server {} is not a member: it serves as a guest and counts for nothing\n",
                        status.self.value);
    // By its own line a guest has come to be one.
    std::erase_if(file, [&status](const Member& member) { return member.sid == status.self; });
  }
  if (const std::string what = difference(file, status.members); !what.empty()) {
    text += fmt::format("Note: the members are those of /zookeeper/config, not those of this server's file ({}): bring "
                        "the file up to date\n",
                        what);
  }
  return text;
}

std::string member_line(const EnsembleStatus::Peer& peer) {
  const char* connected = peer.connected ? "connected" : "not connected";
  std::string text = peer.member ? fmt::format("Member {}: {}, {}", peer.sid.value,
                                               peer.observer ? "observer" : "participant", connected)
                                 : fmt::format("Guest {}: {}", peer.sid.value, connected);
  if (peer.learner) {
    text += fmt::format(", {}{}{}, acked 0x{:x}, heard {} ms ago", peer.serving ? "serving" : "synchronizing",
                        peer.observer || peer.counted || !peer.member ? "" : ", not counted",
                        peer.refuses_writes ? ", its disk is nearly full" : "", peer.acked.value, peer.silent_ms);
  }
  if (peer.feature_level > 0) text += fmt::format(", knows feature level {}", peer.feature_level);
  return text + "\n";
}

// Our own word, which a replica answers without a quorum too: how it stands in the ensemble, and what is wrong.
std::string memb(Core& core) {
  const EnsembleStatus status = core.ensemble_status();
  const Facts f = facts(core);
  std::string text = fmt::format(
      "Server: {}\nRole: {}\nLeader: {}\nEpoch: {}\nServing: {}\nAcknowledges: {}\nCluster: {}\n"
      "Logged: 0x{:x}\nDurable: 0x{:x}\nCommitted: 0x{:x}\nApplied: 0x{:x}\nDigest: {:016x}\nLearners: {}\n",
      status.self.value, mode(status), status.leader.value, status.epoch, yes_or_no(core.serving()),
      yes_or_no(status.acknowledges), status.cluster_id.empty() ? "none yet" : status.cluster_id,
      status.last_logged.value, status.last_durable.value, status.last_committed.value, f.zxid.value, f.digest,
      status.learners());
  if (!status.alone) {
    text += fmt::format("Members: {}\nReconfiguring: {}\n", version_text(status.members_version),
                        yes_or_no(status.reconfiguring));
  }
  text += fmt::format("Feature level: {} of {} known\n", status.feature_level, status.feature_level_known);
  for (const EnsembleStatus::Peer& peer : status.peers) {
    text += member_line(peer);
    if (!peer.trouble.empty()) text += fmt::format("Trouble: server {}: {}\n", peer.sid.value, peer.trouble);
  }
  text += notes(status, core.config().members);
  for (const std::string& alarm : status.alarms) text += "Alarm: " + alarm + "\n";
  return text;
}

// As ZooKeeper's conf has it: the limits under our names, for they are in other ticks. The members are those of the
// replicated list, and those of the file while there is none.
std::string membership(const Config& c, const EnsembleStatus& status) {
  const std::vector<Member>& members = status.members.empty() ? c.members : status.members;
  const auto own = std::find_if(c.members.begin(), c.members.end(),
                                [&c](const Member& member) { return member.sid.value == c.server_id; });
  if (own == c.members.end()) return "";
  const auto now = std::find_if(members.begin(), members.end(),
                                [&c](const Member& member) { return member.sid.value == c.server_id; });
  const bool observer = now == members.end() || now->observer;
  std::string text = fmt::format(
      "coord.peerTickTime={}\ncoord.peerInitLimit={}\ncoord.peerSyncLimit={}\nelectionAlg=3\nelectionPort={}\n"
      "quorumPort={}\npeerType={}\nreconfigEnabled={}\nmembership: \n",
      c.peer_tick_ms, c.init_limit, c.sync_limit, own->election_port, own->port, observer ? 1 : 0, c.reconfig_enabled);
  for (const Member& member : members) text += to_text(member) + "\n";
  if (!status.members.empty()) text += "version=" + version_text(status.members_version) + "\n";
  return text;
}

std::string conf(Core& core) {
  const Config& c = core.config();
  return membership(c, core.ensemble_status()).insert(0, fmt::format(
      "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize=0\ntickTime={}\n"
      "maxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\nserverId={}\n",
      c.client_port, c.data_dir, core.store().space().used_bytes, c.data_dir, c.tick_time_ms, c.connections_per_ip_max,
      c.min_timeout(), c.max_timeout(), c.client_backlog, c.server_id));
}

std::string envi() {
  utsname os{};
  uname(&os);
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  const passwd* user = getpwuid(getuid());
  std::error_code error;
  return fmt::format(
      "Environment:\nzookeeper.version={}-coord-{}, built on 2026-11-20 00:00 UTC\nhost.name={}\nos.name={}\n"
      "os.arch={}\nos.version={}\nuser.name={}\nuser.dir={}\n",
      kProtocolVersion, kVersion, host, os.sysname, os.machine, os.release, user == nullptr ? "" : user->pw_name,
      std::filesystem::current_path(error).string());
}

}  // namespace

bool is_four_letter_word(std::string_view word) {
  static const std::set<std::string_view> words = {"conf", "cons", "crst", "dirs", "dump", "envi",
                                                   "gtmk", "hash", "isro", "memb", "mntr", "ruok", "srst",
                                                   "srvr", "stat", "stmk", "wchc", "wchp", "wchs"};
  return words.contains(word);
}

std::string answer_four_letter_word(Core& core, std::string_view word, bool local) {
  if (word == "memb") return memb(core);
  const std::set<std::string>& allowed = core.config().four_letter_words;
  if (!local && !allowed.contains("*") && !allowed.contains(std::string(word))) {
    return fmt::format("{} is not executed because it is not in the whitelist.\n", word);
  }
  if (word == "ruok") return "imok";
  if (word == "envi") return envi();
  if (word == "isro") return core.serving() ? "rw" : "null";
  if (!core.serving()) return "This ZooKeeper instance is not currently serving requests\n";
  if (word == "srvr") return srvr(core, false);
  if (word == "stat") return srvr(core, true);
  if (word == "mntr") return mntr(core);
  if (word == "conf") return conf(core);
  return fmt::format("{} is not executed because this server does not have it.\n", word);
}

}  // namespace coord::runtime
