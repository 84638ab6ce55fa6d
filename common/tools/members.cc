#include "common/tools/members.h"

#include <charconv>

#include "common/base/log.h"

namespace coord::tools {
namespace {

using Text = std::string_view;

constexpr const char* kSpecForm = "expected ID=HOST:PORT, or server.ID=HOST:PORT:PORT:participant;CLIENTPORT";

template <class Int>
bool parse_number(Text text, Int& out, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  return error == std::errc() && end == text.data() + text.size();
}

bool is_port(Text text) {
  std::uint32_t port = 0;
  return parse_number(text, port) && port >= 1 && port <= 65535;
}

bool is_role(Text text) { return text == "participant" || text == "observer"; }

// "2181" or "address:2181", an IPv6 address in brackets; as the server shows it.
std::optional<std::string> client_part(Text text) {
  const auto colon = text.rfind(':');
  const Text port = colon == Text::npos ? text : text.substr(colon + 1);
  if (!is_port(port)) return std::nullopt;
  const Text host = colon == Text::npos ? Text("0.0.0.0") : text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (host.empty() || (!bracketed && host.find_first_of(":[]; \t") != Text::npos)) return std::nullopt;
  return std::string(host) + ":" + std::string(port);
}

// Where the host ends: the first colon behind brackets.
std::size_t host_end(Text text) {
  const auto bracket = text.starts_with('[') ? text.find(']') : Text::npos;
  return text.find(':', bracket == Text::npos ? 0 : bracket);
}

// host:port[:port][:role]; false: it is none.
bool set_peers(MemberLine& member, Text text) {
  const auto colon = host_end(text);
  if (colon == Text::npos || colon == 0) return false;
  std::vector<Text> fields;
  for (Text rest = text.substr(colon + 1);;) {
    const auto end = rest.find(':');
    fields.push_back(rest.substr(0, end));
    if (end == Text::npos) break;
    rest = rest.substr(end + 1);
  }
  member.role = "participant";
  if (is_role(fields.back())) {
    member.role = std::string(fields.back());
    fields.pop_back();
  }
  if (fields.empty() || fields.size() > 2 || !is_port(fields.front()) || !is_port(fields.back())) return false;
  member.peers = fmt::format("{}:{}:{}", text.substr(0, colon), fields.front(), fields.back());
  return true;
}

// A line that the server wrote: nothing is filled in, nothing is judged beyond its shape.
std::optional<MemberLine> parse_line(Text line) {
  if (!line.starts_with("server.")) return std::nullopt;
  const auto equals = line.find('=');
  MemberLine member;
  if (equals == Text::npos || !parse_number(line.substr(7, equals - 7), member.id)) return std::nullopt;
  const auto semicolon = line.find(';', equals);
  const Text left = line.substr(equals + 1, semicolon == Text::npos ? Text::npos : semicolon - equals - 1);
  if (semicolon != Text::npos) member.client = std::string(line.substr(semicolon + 1));
  const auto colon = left.rfind(':');
  if (colon == Text::npos) return std::nullopt;
  const bool has_role = is_role(left.substr(colon + 1));
  member.role = has_role ? std::string(left.substr(colon + 1)) : "participant";
  member.peers = std::string(has_role ? left.substr(0, colon) : left);
  return member;
}

}  // namespace

std::string to_text(const MemberLine& member) {
  return fmt::format("server.{}={}:{}{}{}", member.id, member.peers, member.role, member.client.empty() ? "" : ";",
                     member.client);
}

const MemberLine* Configuration::find(std::uint32_t id) const {
  for (const MemberLine& member : members) {
    if (member.id == id) return &member;
  }
  return nullptr;
}

std::optional<Configuration> parse_configuration(Text text) {
  Configuration configuration;
  bool has_version = false;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const Text line = text.substr(0, end);
    if (const auto member = parse_line(line)) configuration.members.push_back(*member);
    if (line.starts_with("version=")) has_version = parse_number(line.substr(8), configuration.version, 16);
    text = end == Text::npos ? Text() : text.substr(end + 1);
  }
  if (!has_version || configuration.members.empty()) return std::nullopt;
  return configuration;
}

Result<std::uint32_t, Fault> parse_server_id(Text text) {
  std::uint32_t id = 0;
  if (parse_number(text, id) && id >= 1 && id <= 254) return id;
  return fail(Fault{fmt::format("\"{}\" is not a server id: a whole number from 1 to 254", text)});
}

Result<std::uint64_t, Fault> parse_config_version(Text text) {
  const Text digits = text.starts_with("0x") ? text.substr(2) : text;
  std::uint64_t version = 0;
  if (parse_number(digits, version, 16)) return version;
  return fail(Fault{fmt::format("\"{}\" is not a version: hexadecimal, as `coordctl config` prints it", text)});
}

Result<MemberLine, Fault> parse_spec(Text text) {
  const auto wrong = [text](Text why) { return fail(Fault{fmt::format("\"{}\": {}", text, why)}); };
  const auto equals = text.find('=');
  if (equals == Text::npos) return wrong(kSpecForm);
  const Text name = text.substr(0, equals);
  const auto id = parse_server_id(name.starts_with("server.") ? name.substr(7) : name);
  if (!id) return fail(id.error());
  MemberLine member;
  member.id = *id;
  const Text value = text.substr(equals + 1);
  const auto semicolon = value.find(';');
  if (!set_peers(member, value.substr(0, semicolon))) return wrong(kSpecForm);
  const std::string port = std::to_string(kDefaultClientPort);
  const auto client = client_part(semicolon == Text::npos ? Text(port) : value.substr(semicolon + 1));
  if (!client) return wrong("behind the semicolon: expected [ADDRESS:]CLIENTPORT");
  member.client = *client;
  return member;
}

Result<MemberLine, Fault> with_role(const Configuration& now, Text text) {
  const auto equals = text.find('=');
  const Text value = equals == Text::npos ? Text() : text.substr(equals + 1);
  const auto semicolon = value.find(';');
  const Text role = value.substr(0, semicolon);
  if (!is_role(role)) return fail(Fault{fmt::format("\"{}\": expected ID=participant or ID=observer", text)});
  const auto id = parse_server_id(text.substr(0, equals));
  if (!id) return fail(id.error());
  const MemberLine* present = now.find(*id);
  if (present == nullptr) return fail(Fault{fmt::format("server {} is not a member; to make it one, use --add", *id)});
  MemberLine member = *present;
  member.role = std::string(role);
  if (semicolon != Text::npos) {
    const auto client = client_part(value.substr(semicolon + 1));
    if (!client) return fail(Fault{fmt::format("\"{}\": behind the semicolon: expected [ADDRESS:]CLIENTPORT", text)});
    member.client = *client;
  }
  if (member.client.empty()) {
    return fail(Fault{fmt::format("the list does not say where clients of server {} go, and the request must: "
                                  "--role '{}={};CLIENTPORT'",
                                  *id, *id, role)});
  }
  return member;
}

}  // namespace coord::tools
