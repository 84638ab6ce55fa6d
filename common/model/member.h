// A server of an ensemble and its line, as zoo.cfg, /zookeeper/config, a reconfig request and `coordctl reconfig` have
// it. Pure.
//
//   server.1=host:2888:3888:participant;0.0.0.0:2181
//
// A server has one port for its peers here, the first; the second, ZooKeeper's election port, is kept and shown. The
// part behind `;` is where clients go, shown as host:port; a list that came from files may have none.
//
// Source: client-protocol.md section 15.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/model/ids.h"

namespace coord {

inline constexpr std::uint32_t kServerIdMax = 254;

struct Member {
  Sid sid{};
  std::string host{};               // a name or a numeric address, without brackets
  std::uint16_t port = 0;           // for the other replicas
  std::uint16_t election_port = 0;  // ZooKeeper's; without meaning here. 0: not said, shown as `port`
  bool observer = false;
  std::string client{};             // "host:port"; empty: not said
  friend bool operator==(const Member&, const Member&) = default;
};

// What must be in a line. A request of a client must have the second port.
struct MemberForm {
  bool election_port = false;  // not there: it becomes `port`
};

// "server.N=host:port[:port][:role][;[clientHost:]clientPort]". Fault: what is wrong with it, without the line itself.
Result<Member, Fault> parse_member(std::string_view text, MemberForm form);
std::string to_text(const Member& member);  // "server.N=...", normalized

// A server id, 1..kServerIdMax.
std::optional<Sid> parse_server_id(std::string_view text);
// "[clientHost:]clientPort" as "host:port".
std::optional<std::string> parse_client_address(std::string_view text);

}  // namespace coord
