#include "replica/runtime/config.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <sstream>

#include "common/base/number.h"

namespace coord::runtime {
namespace {

using Text = std::string_view;
// Takes the value into the configuration; an empty string is success, else the reason.
using Setter = std::function<std::string(Config&, Text)>;

std::string trimmed(Text text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == Text::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

template <class Int>
Setter number(Int Config::*member, std::int64_t low, std::int64_t high) {
  return [member, low, high](Config& config, Text value) -> std::string {
    const auto parsed = parse_number<std::int64_t>(value, low, high);
    if (!parsed) return "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high);
    config.*member = static_cast<Int>(*parsed);
    return "";
  };
}

// Bytes, with an optional suffix K, M, G or T (powers of 1024).
Setter size(std::uint64_t Config::*member, std::uint64_t low, std::uint64_t high) {
  return [member, low, high](Config& config, Text value) -> std::string {
    const std::string range =
        "must be a size from " + std::to_string(low) + " to " + std::to_string(high) + " bytes (suffixes K, M, G, T)";
    std::uint64_t parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (error != std::errc()) return range;
    const Text suffix(end, static_cast<std::size_t>(value.data() + value.size() - end));
    static const std::map<Text, int> shifts = {{"", 0}, {"K", 10}, {"M", 20}, {"G", 30}, {"T", 40}};
    const auto shift = shifts.find(suffix);
    if (shift == shifts.end() || parsed > (high >> shift->second)) return range;
    parsed <<= shift->second;
    if (parsed < low) return range;
    config.*member = parsed;
    return "";
  };
}

// The same, or 0 for none.
Setter size_or_none(std::uint64_t Config::*member, std::uint64_t low, std::uint64_t high) {
  return [member, other = size(member, low, high)](Config& config, Text value) -> std::string {
    if (value == "0") {
      config.*member = 0;
      return "";
    }
    const std::string wrong = other(config, value);
    return wrong.empty() ? wrong : wrong + ", or 0";
  };
}

Setter flag(bool Config::*member, Text yes = "true", Text no = "false") {
  return [member, yes, no](Config& config, Text value) -> std::string {
    if (value != yes && value != no) return "must be " + std::string(yes) + " or " + std::string(no);
    config.*member = value == yes;
    return "";
  };
}

// ZooKeeper takes yes and no for some keys, true and false for others.
Setter any_flag(bool Config::*member) {
  return [member](Config& config, Text value) -> std::string {
    const bool on = value == "yes" || value == "true";
    if (!on && value != "no" && value != "false") return "must be true or false (or yes or no)";
    config.*member = on;
    return "";
  };
}

Setter text(std::string Config::*member) {
  return [member](Config& config, Text value) -> std::string {
    if (value.empty()) return "must not be empty";
    config.*member = std::string(value);
    return "";
  };
}

std::vector<std::string> list(Text value) {
  std::vector<std::string> items;
  std::istringstream stream{std::string(value)};
  for (std::string item; std::getline(stream, item, ',');) {
    if (item = trimmed(item); !item.empty()) items.push_back(item);
  }
  return items;
}

std::string set_client_port(Config& config, Text value) {
  config.has_client_port = true;
  return number(&Config::client_port, 0, 65535)(config, value);
}

std::string set_words(Config& config, Text value) {
  config.four_letter_words.clear();
  for (const std::string& word : list(value)) config.four_letter_words.insert(word);
  return "";
}

std::string set_mount_users(Config& config, Text value) {
  config.mount_users.clear();
  for (const std::string& item : list(value)) {
    const auto uid = parse_number<std::uint32_t>(item);
    if (!uid) return "must be numeric user ids separated by commas";
    config.mount_users.insert(*uid);
  }
  return "";
}

std::string set_tcp_user(Config& config, Text value) {
  const auto colon = value.find(':');
  const auto uid = parse_number<std::uint32_t>(value.substr(0, colon));
  const auto gid = colon == Text::npos ? uid : parse_number<std::uint32_t>(value.substr(colon + 1));
  if (!uid || !gid) return "must be UID or UID:GID, numbers";
  config.tcp_user = Credentials{*uid, *gid, {}};
  return "";
}

// A line of zoo.cfg may leave out the second port, which has no meaning here; where clients go is only shown.
std::string set_member(Config& config, Text id, Text value) {
  auto parsed = parse_member("server." + std::string(id) + "=" + std::string(value), {});
  if (!parsed) return parsed.error().message;
  Member member = *std::move(parsed);
  for (const Member& other : config.members) {
    if (other.sid == member.sid) return "server id " + std::string(id) + " is given twice";
    if (other.host == member.host && other.port == member.port) {
      return "has the same host and port as server." + std::to_string(other.sid.value);
    }
  }
  config.members.push_back(std::move(member));
  return "";
}

std::string set_secret(Config& config, Text value) {
  if (!config.peer_secret.empty()) return "the secret is given twice: keep one line of it";
  return text(&Config::peer_secret)(config, value);
}

// A secret that others can read is none.
std::string set_secret_file(Config& config, Text value) {
  if (!config.peer_secret.empty()) return "the secret is given twice: keep one line of it";
  const std::string path(value);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return "cannot be read: " + std::string(std::strerror(errno));
  if ((status.st_mode & 077U) != 0) return "can be read by others than its owner: chmod 600 " + path;
  auto secret = read_small_file(path);
  if (!secret) return "cannot be read: " + std::string(std::strerror(secret.error()));
  config.peer_secret = std::move(*secret);
  while (config.peer_secret.ends_with('\n') || config.peer_secret.ends_with('\r')) config.peer_secret.pop_back();
  if (config.peer_secret.empty()) return "is empty: put a secret of some length into it";
  return "";
}

std::string set_level(Config& config, Text value) {
  static const std::set<Text> levels = {"trace", "debug", "info", "warn", "error"};
  if (!levels.contains(value)) return "must be trace, debug, info, warn or error";
  config.log_level = std::string(value);
  return "";
}

std::string set_super_digest(Config& config, Text value) {
  if (!value.starts_with("super:") || value.size() < 8) return "must be super:BASE64, the SHA-1 of super:PASSWORD";
  config.super_digest = std::string(value);
  return "";
}

std::string set_frame_size(Config& config, Text value) {
  const std::string wrong = number(&Config::frame_size_max, 1024, kFrameSizeMost)(config, value);
  if (wrong.empty()) return wrong;
  return wrong + " (a leader that carries out a larger request would be taken for dead; split larger values)";
}

const std::map<Text, Setter>& setters() {
  constexpr std::int64_t kDay = 86'400'000;
  static const std::map<Text, Setter> table = {
      {"dataDir", text(&Config::data_dir)},
      {"tickTime", number(&Config::tick_time_ms, 10, 3'600'000)},
      {"minSessionTimeout", number(&Config::min_session_timeout_ms, -1, kDay)},
      {"maxSessionTimeout", number(&Config::max_session_timeout_ms, -1, kDay)},
      {"clientPort", set_client_port},
      {"clientPortAddress", text(&Config::client_address)},
      {"clientPortListenBacklog", number(&Config::client_backlog, -1, 1'000'000)},
      {"maxClientCnxns", number(&Config::connections_per_ip_max, 0, 10'000'000)},
      {"maxCnxns", number(&Config::connections_max, 0, 10'000'000)},
      {"jute.maxbuffer", set_frame_size},
      {"skipACL", flag(&Config::skip_acl, "yes", "no")},
      {"enforceQuota", flag(&Config::enforce_quota)},
      {"extendedTypesEnabled", flag(&Config::extended_types)},
      {"DigestAuthenticationProvider.superDigest", set_super_digest},
      {"4lw.commands.whitelist", set_words},
      {"znode.container.checkIntervalMs", number(&Config::container_check_ms, 100, kDay)},
      {"znode.container.maxNeverUsedIntervalMs", number(&Config::container_never_used_ms, 0, kDay)},
      {"znode.container.maxPerMinute", number(&Config::reaped_per_check_max, 1, 10'000'000)},
      {"coord.socket", text(&Config::socket)},
      {"coord.socketGroup", text(&Config::socket_group)},
      {"coord.mountUsers", set_mount_users},
      {"coord.tcpUser", set_tcp_user},
      {"coord.ioThreads", number(&Config::io_threads, 1, 64)},
      {"coord.peerTickTime", number(&Config::peer_tick_ms, 50, 10'000)},
      {"coord.peerInitLimit", number(&Config::init_limit, 1, 100'000)},
      {"coord.peerSyncLimit", number(&Config::sync_limit, 2, 100'000)},
      {"coord.peerSecret", set_secret},
      {"coord.peerSecretFile", set_secret_file},
      {"coord.peerTls.cert", text(&Config::peer_certificate)},
      {"coord.peerTls.key", text(&Config::peer_key)},
      {"coord.peerTls.ca", text(&Config::peer_authority)},
      {"coord.peerAddress", text(&Config::peer_address)},
      {"coord.featureLevelMax", number(&Config::feature_level_max, 1, tree::kFeatureLevel)},
      {"reconfigEnabled", any_flag(&Config::reconfig_enabled)},
      {"coord.mapSize", size(&Config::map_bytes, 64ULL << 20, 16ULL << 40)},
      {"coord.growSize", size(&Config::grow_bytes, 4ULL << 20, 16ULL << 30)},
      {"coord.journalSize", size_or_none(&Config::journal_bytes, 64ULL << 10, 1ULL << 30)},
      {"coord.snapshotRate", size_or_none(&Config::snapshot_rate, 1ULL << 20, 1ULL << 40)},
      {"coord.logKeepSize", size(&Config::log_keep_bytes, 1ULL << 20, 1ULL << 40)},
      {"coord.logKeepEntries", number(&Config::log_keep_entries, 1000, 1'000'000'000)},
      {"coord.logKeepTime", number(&Config::log_keep_seconds, 0, 366 * kDay / 1000)},
      {"coord.logFile", text(&Config::log_file)},
      {"coord.logLevel", set_level},
  };
  return table;
}

// Keys of zoo.cfg that are right in an ensemble's file and change nothing for a single replica of ours.
bool known_without_effect(Text key) {
  static const std::set<Text> keys = {"initLimit",  "syncLimit",      "electionAlg",       "snapCount",
                                      "dataLogDir", "preAllocSize",   "globalOutstandingLimit", "standaloneEnabled",
                                      "admin.enableServer",           "admin.serverPort",  "admin.serverAddress",
                                      "autopurge.purgeInterval",      "autopurge.snapRetainCount",
                                      "readonlymode.enabled",
                                      "localSessionsEnabled",         "localSessionsUpgradingEnabled"};
  return keys.contains(key);
}

}  // namespace

Result<Config, Fault> interpret_config(const std::vector<ConfigEntry>& entries, std::string_view file_name) {
  Config config;
  for (const ConfigEntry& entry : entries) {
    const std::string where = std::string(file_name) + ":" + std::to_string(entry.line) + ": ";
    if (entry.key.starts_with("server.")) {
      const std::string reason = set_member(config, std::string_view(entry.key).substr(7), entry.value);
      if (!reason.empty()) return fail(Fault{where + entry.key + "=" + entry.value + ": " + reason});
      continue;
    }
    if (entry.key == "secureClientPort" || entry.key.starts_with("ssl.")) {
      return fail(Fault{where + entry.key + ": TLS for clients is not supported by this version; remove the line"});
    }
    if (entry.key == "dynamicConfigFile") {
      config.warnings.push_back(where + entry.key + " has no effect here: the server lines stand in this file");
      continue;
    }
    const auto setter = setters().find(entry.key);
    if (setter == setters().end()) {
      config.warnings.push_back(where + (known_without_effect(entry.key)
                                             ? entry.key + " has no effect here"
                                             : "unknown key " + entry.key + " is ignored"));
      continue;
    }
    const std::string reason = setter->second(config, entry.value);
    if (!reason.empty()) return fail(Fault{where + entry.key + "=" + entry.value + ": " + reason});
  }
  return config;
}

Result<bool, Fault> check_config(const Config& config, std::string_view file_name) {
  const std::string where = std::string(file_name) + ": ";
  if (config.data_dir.empty()) return fail(Fault{where + "dataDir is missing: say where the replica keeps its data"});
  const std::uint64_t grow_least = kGrowRequestsLeast * static_cast<std::uint64_t>(config.frame_size_max);
  if (config.grow_size() < grow_least) {
    return fail(Fault{where + "coord.growSize " + std::to_string(config.grow_bytes) +
                      " is too small for jute.maxbuffer: a disk that fills up would not be noticed in time; make it " +
                      std::to_string(grow_least) + " at least, or leave it out"});
  }
  if (config.min_timeout() > config.max_timeout()) {
    return fail(Fault{where + "minSessionTimeout " + std::to_string(config.min_timeout()) +
                      " is greater than maxSessionTimeout " + std::to_string(config.max_timeout())});
  }
  const bool some_tls =
      !config.peer_certificate.empty() || !config.peer_key.empty() || !config.peer_authority.empty();
  const bool all_tls =
      !config.peer_certificate.empty() && !config.peer_key.empty() && !config.peer_authority.empty();
  if (some_tls && !all_tls) {
    return fail(
        Fault{where + "coord.peerTls.cert, coord.peerTls.key and coord.peerTls.ca go together: give all three"});
  }
  if (!config.members.empty() && std::all_of(config.members.begin(), config.members.end(),
                                             [](const Member& member) { return member.observer; })) {
    return fail(Fault{where + "all servers are observers: at least one server line must be a participant"});
  }
  if (!config.has_client_port && config.socket.empty()) {
    return fail(Fault{where + "nobody could connect: give clientPort or coord.socket"});
  }
  return true;
}

Result<bool, Fault> read_server_id(Config& config) {
  const std::string path = config.data_dir + "/myid";
  const auto is_self = [&](const Member& member) { return member.sid.value == config.server_id; };
  const auto file = read_small_file(path);
  if (!file && file.error() != ENOENT && file.error() != ENOTDIR) {
    return fail(Fault{path + ": cannot be read: " + std::strerror(file.error())});
  }
  if (!file) {
    if (config.members.size() < 2) {
      if (!config.members.empty()) config.server_id = config.members[0].sid.value;
      return true;
    }
    return fail(Fault{path + ": is missing: with several server lines it must hold the id of this server"});
  }
  const std::string content = trimmed(*file);
  const auto id = parse_server_id(content);
  if (!id) return fail(Fault{path + ":1: \"" + content + "\" is not a server id: a whole number from 1 to 254"});
  config.server_id = id->value;
  if (!config.members.empty() && std::none_of(config.members.begin(), config.members.end(), is_self)) {
    return fail(Fault{path + ":1: there is no server." + content + " line: correct the file or the configuration"});
  }
  return true;
}

}  // namespace coord::runtime
