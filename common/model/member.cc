#include "common/model/member.h"

#include <arpa/inet.h>

#include <algorithm>
#include <vector>

#include "common/base/number.h"

namespace coord {
namespace {

using Text = std::string_view;

constexpr std::size_t kHostMax = 255;  // of a name (RFC 1035)

Text trim(Text text) {
  constexpr Text kBlank = " \t\r\n";
  const auto begin = text.find_first_not_of(kBlank);
  if (begin == Text::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
}

std::optional<std::uint16_t> parse_port(Text text) { return parse_number<std::uint16_t>(text, 1, 65535); }

bool is_ipv6(Text text) {
  char buffer[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof buffer || text.find('\0') != Text::npos) return false;
  *std::copy(text.begin(), text.end(), buffer) = '\0';
  in6_addr address{};
  return inet_pton(AF_INET6, buffer, &address) == 1;
}

// A name or an IPv4 address. What separates things in a list of members cannot be in it.
bool is_name(Text text) {
  static constexpr Text kSeparators = ",;=[]:|\"";
  return !text.empty() && text.size() <= kHostMax && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < '\x7f' && kSeparators.find(c) == Text::npos;
  });
}

// Takes the host off the beginning of `rest`, up to the colon behind it. False: it is none.
bool take_host(Text& rest, std::string& host) {
  if (rest.starts_with('[')) {
    const auto end = rest.find(']');
    if (end == Text::npos) return false;
    host = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
    return is_ipv6(host);
  }
  const auto end = std::min(rest.find(':'), rest.size());
  host = rest.substr(0, end);
  rest.remove_prefix(end);
  return is_name(host);
}

// ":a:b" as "a", "b"; nothing for "".
std::vector<Text> fields_of(Text rest) {
  std::vector<Text> fields;
  while (rest.starts_with(':')) {
    rest.remove_prefix(1);
    const auto end = std::min(rest.find(':'), rest.size());
    fields.push_back(trim(rest.substr(0, end)));
    rest.remove_prefix(end);
  }
  if (!rest.empty()) fields.clear();  // something between the bracket and the colon
  return fields;
}

std::string lower(Text text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string shown(const std::string& host) { return host.find(':') == std::string::npos ? host : '[' + host + ']'; }

bool looks_like_port(Text text) { return text.empty() || (text[0] >= '0' && text[0] <= '9'); }

// Each says what is wrong, or nullptr.
const char* parse_peer_part(Text text, MemberForm form, Member& member) {
  constexpr const char* kPort = "a port must be a whole number from 1 to 65535";
  if (text.find('|') != Text::npos) return "several addresses for one server are not supported";
  if (!take_host(text, member.host)) return "the host is missing or malformed (an IPv6 address stands in brackets)";
  std::vector<Text> fields = fields_of(text);
  if (form.election_port && fields.size() < 2) return "two ports must follow the host, each behind a colon";
  if (fields.empty()) return "a port must follow the host, behind a colon";
  const bool both = fields.size() > 1 && (form.election_port || looks_like_port(fields[1]));
  const auto port = parse_port(fields[0]), election_port = both ? parse_port(fields[1]) : port;
  if (!port || !election_port) return kPort;
  member.port = *port;
  member.election_port = *election_port;
  fields.erase(fields.begin(), fields.begin() + (both ? 2 : 1));
  if (fields.empty()) return nullptr;
  if (fields.size() > 1) return "there is too much behind the ports: only a role may be there";
  const std::string role = lower(fields[0]);
  if (role != "participant" && role != "observer") return "the role must be participant or observer";
  member.observer = role == "observer";
  return nullptr;
}

const char* parse_client_part(Text text, Member& member) {
  if (text.find(';') != Text::npos) return "a secure client port is not supported by this version: leave it out";
  const auto client = parse_client_address(text);
  if (!client) return "behind the semicolon must be [clientHost:]clientPort";
  member.client = *client;
  return nullptr;
}

const char* parse(Text text, MemberForm form, Member& member) {
  const auto equals = text.find('=');
  const Text key = trim(text.substr(0, equals));
  constexpr Text kPrefix = "server.";
  if (equals == Text::npos || !key.starts_with(kPrefix)) {
    return "the form is server.N=host:port[:port][:role][;[clientHost:]clientPort]";
  }
  const auto sid = parse_server_id(key.substr(kPrefix.size()));
  if (!sid) return "the id behind server. must be a whole number from 1 to 254";
  member.sid = *sid;
  const Text value = trim(text.substr(equals + 1));
  const auto semicolon = value.find(';');
  if (const char* wrong = parse_peer_part(trim(value.substr(0, semicolon)), form, member)) return wrong;
  return semicolon == Text::npos ? nullptr : parse_client_part(trim(value.substr(semicolon + 1)), member);
}

}  // namespace

Result<Member, Fault> parse_member(Text text, MemberForm form) {
  Member member;
  if (const char* wrong = parse(text, form, member)) return fail(Fault{wrong});
  return member;
}

std::string to_text(const Member& member) {
  std::string out = "server." + std::to_string(member.sid.value) + '=' + shown(member.host) + ':' +
                    std::to_string(member.port) + ':' +
                    std::to_string(member.election_port != 0 ? member.election_port : member.port) + ':' +
                    (member.observer ? "observer" : "participant");
  if (!member.client.empty()) out += ';' + member.client;
  return out;
}

std::optional<Sid> parse_server_id(Text text) {
  const auto id = parse_number<std::uint32_t>(text, 1, kServerIdMax);
  return id ? std::optional(Sid(*id)) : std::nullopt;
}

std::optional<std::string> parse_client_address(Text text) {
  std::string host = "0.0.0.0";
  std::optional<std::uint16_t> port;
  if (text.find(':') == Text::npos) {
    port = parse_port(text);
  } else {
    if (!take_host(text, host)) return std::nullopt;
    const std::vector<Text> fields = fields_of(text);
    if (fields.size() == 1) port = parse_port(fields[0]);
  }
  return port ? std::optional(shown(host) + ':' + std::to_string(*port)) : std::nullopt;
}

}  // namespace coord
