// The members of an ensemble as text: what /zookeeper/config holds, and what a person types to add a server. Pure.
//
//   server.4=d.example:2888:3888:participant;0.0.0.0:2181
//
// Source: client-protocol.md section 15.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace coord::tools {

// Where clients go, if a person who adds a server does not say.
inline constexpr std::uint16_t kDefaultClientPort = 2181;

// One line, kept as the server wrote it as far as we need not understand it.
struct MemberLine {
  std::uint32_t id = 0;
  std::string peers;   // "d.example:2888:3888", the ports of the servers among themselves
  std::string role;    // "participant" or "observer"
  std::string client;  // "0.0.0.0:2181" and what may follow behind a further ';'; empty: not said
};
std::string to_text(const MemberLine& member);

struct Configuration {
  std::vector<MemberLine> members;
  std::uint64_t version = 0;
  const MemberLine* find(std::uint32_t id) const;  // nullptr: no member
};

// The content of /zookeeper/config; nullopt: it is empty (a server that is alone) or nothing of the kind.
std::optional<Configuration> parse_configuration(std::string_view text);

// "[server.]4=host:port[:port][:role][;[address:]clientPort]" with what is not said filled in: the second port is the
// first, the role participant, the client port kDefaultClientPort.
Result<MemberLine, Fault> parse_spec(std::string_view text);

// "ID=ROLE[;[address:]clientPort]" as the line of that member with another role. Its client part is the present one if
// none is given; a list that came from files has none, and then it must be given.
Result<MemberLine, Fault> with_role(const Configuration& now, std::string_view text);

// A server id.
Result<std::uint32_t, Fault> server_id_of(std::string_view text);
// As the last line of the configuration has it: hexadecimal, with or without 0x.
Result<std::uint64_t, Fault> parse_config_version(std::string_view text);

}  // namespace coord::tools
