#include "common/tools/members.h"

#include "common/base/log.h"
#include "common/base/number.h"
#include "common/model/member.h"

namespace coord::tools {
namespace {

using Text = std::string_view;

constexpr const char* kSpecForm = "expected ID=HOST:PORT, or server.ID=HOST:PORT:PORT:participant;CLIENTPORT";

bool is_role(Text text) { return text == "participant" || text == "observer"; }

// A line that the server wrote: nothing is filled in, nothing is judged beyond its shape.
std::optional<MemberLine> parse_line(Text line) {
  if (!line.starts_with("server.")) return std::nullopt;
  const auto equals = line.find('=');
  MemberLine member;
  const auto id = equals == Text::npos ? std::nullopt : parse_number<std::uint32_t>(line.substr(7, equals - 7));
  if (!id) return std::nullopt;
  member.id = *id;
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
  std::optional<std::uint64_t> version;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const Text line = text.substr(0, end);
    if (const auto member = parse_line(line)) configuration.members.push_back(*member);
    if (line.starts_with("version=")) version = parse_number<std::uint64_t>(line.substr(8), 16);
    text = end == Text::npos ? Text() : text.substr(end + 1);
  }
  if (!version || configuration.members.empty()) return std::nullopt;
  configuration.version = *version;
  return configuration;
}

Result<std::uint32_t, Fault> server_id_of(Text text) {
  if (const auto id = parse_server_id(text)) return id->value;
  return fail(Fault{fmt::format("\"{}\" is not a server id: a whole number from 1 to 254", text)});
}

Result<std::uint64_t, Fault> parse_config_version(Text text) {
  const Text digits = text.starts_with("0x") ? text.substr(2) : text;
  if (const auto version = parse_number<std::uint64_t>(digits, 16)) return *version;
  return fail(Fault{fmt::format("\"{}\" is not a version: hexadecimal, as `coordctl config` prints it", text)});
}

Result<MemberLine, Fault> parse_spec(Text text) {
  const auto wrong = [text](Text why) { return fail(Fault{fmt::format("\"{}\": {}", text, why)}); };
  const auto equals = text.find('=');
  if (equals == Text::npos) return wrong(kSpecForm);
  const Text name = text.substr(0, equals);
  const auto id = server_id_of(name.starts_with("server.") ? name.substr(7) : name);
  if (!id) return fail(id.error());
  auto member = parse_member(fmt::format("server.{}={}", *id, text.substr(equals + 1)), {});
  if (!member) return wrong(fmt::format("{}; {}", member.error().message, kSpecForm));
  if (member->client.empty()) member->client = *parse_client_address(std::to_string(kDefaultClientPort));
  return *parse_line(to_text(*member));
}

Result<MemberLine, Fault> with_role(const Configuration& now, Text text) {
  const auto equals = text.find('=');
  const Text value = equals == Text::npos ? Text() : text.substr(equals + 1);
  const auto semicolon = value.find(';');
  const Text role = value.substr(0, semicolon);
  if (!is_role(role)) return fail(Fault{fmt::format("\"{}\": expected ID=participant or ID=observer", text)});
  const auto id = server_id_of(text.substr(0, equals));
  if (!id) return fail(id.error());
  const MemberLine* present = now.find(*id);
  if (present == nullptr) return fail(Fault{fmt::format("server {} is not a member; to make it one, use --add", *id)});
  MemberLine member = *present;
  member.role = std::string(role);
  if (semicolon != Text::npos) {
    const auto client = parse_client_address(value.substr(semicolon + 1));
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
