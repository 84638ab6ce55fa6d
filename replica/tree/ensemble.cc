#include "replica/tree/ensemble.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace coord::tree {
namespace {

using Text = std::string_view;

constexpr std::size_t kHostMax = 255;   // of a name (RFC 1035)
constexpr std::size_t kShownMax = 200;  // of a bad line in the message about it

Text trim(Text text) {
  constexpr Text kBlank = " \t\r\n";
  const auto begin = text.find_first_not_of(kBlank);
  if (begin == Text::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
}

template <class Int>
bool parse_number(Text text, std::uint32_t low, std::uint32_t high, Int& out) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < low || number > high) return false;
  out = static_cast<Int>(number);
  return true;
}
bool parse_port(Text text, std::uint16_t& out) { return parse_number(text, 1, 65535, out); }

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

// Each says what is wrong, or nullptr.
const char* parse_peer_part(Text text, Member& member) {
  if (text.find('|') != Text::npos) return "several addresses for one server are not supported";
  if (!take_host(text, member.host)) return "the host is missing or malformed (an IPv6 address stands in brackets)";
  const std::vector<Text> fields = fields_of(text);
  if (fields.size() < 2) return "two ports must follow the host, each behind a colon";
  if (fields.size() > 3) return "there is too much behind the ports: only a role may be there";
  if (!parse_port(fields[0], member.port) || !parse_port(fields[1], member.election_port)) {
    return "a port must be a whole number from 1 to 65535";
  }
  if (fields.size() < 3) return nullptr;
  const std::string role = lower(fields[2]);
  if (role != "participant" && role != "observer") return "the role must be participant or observer";
  member.observer = role == "observer";
  return nullptr;
}

const char* parse_client_part(Text text, Member& member) {
  if (text.find(';') != Text::npos) return "a secure client port is not supported";
  constexpr const char* kForm = "behind the semicolon must be [clientHost:]clientPort";
  std::uint16_t port = 0;
  std::string host = "0.0.0.0";
  if (text.find(':') != Text::npos) {
    if (!take_host(text, host)) return kForm;
    const std::vector<Text> fields = fields_of(text);
    if (fields.size() != 1 || !parse_port(fields[0], port)) return kForm;
  } else if (!parse_port(text, port)) {
    return kForm;
  }
  member.client = shown(host) + ':' + std::to_string(port);
  return nullptr;
}

const char* parse(Text text, bool need_client, Member& member) {
  const auto equals = text.find('=');
  const Text key = trim(text.substr(0, equals));
  constexpr Text kPrefix = "server.";
  if (equals == Text::npos || !key.starts_with(kPrefix)) {
    return "the form is server.N=host:port:port[:role];[clientHost:]clientPort";
  }
  if (!parse_number(key.substr(kPrefix.size()), 1, 254, member.sid.value)) {
    return "the id behind server. must be a whole number from 1 to 254";
  }
  const Text value = trim(text.substr(equals + 1));
  const auto semicolon = value.find(';');
  if (const char* wrong = parse_peer_part(trim(value.substr(0, semicolon)), member)) return wrong;
  if (semicolon != Text::npos) return parse_client_part(trim(value.substr(semicolon + 1)), member);
  return need_client ? "the part for clients is missing: ;[clientHost:]clientPort" : nullptr;
}

}  // namespace

Result<Member, Fault> parse_member(std::string_view text, bool need_client) {
  Member member;
  const char* wrong = parse(text, need_client, member);
  if (wrong == nullptr) return member;
  std::string line(trim(text).substr(0, kShownMax));
  for (char& c : line) {
    if (c < ' ' || c > '~') c = '?';
  }
  return fail(Fault{'"' + line + "\": " + wrong});
}

std::string to_text(const Member& member) {
  std::string out = "server." + std::to_string(member.sid.value) + '=' + shown(member.host) + ':' +
                    std::to_string(member.port) + ':' +
                    std::to_string(member.election_port != 0 ? member.election_port : member.port) + ':' +
                    (member.observer ? "observer" : "participant");
  if (!member.client.empty()) out += ';' + member.client;
  return out;
}

std::string config_text(const std::vector<Member>& members, Zxid version) {
  std::string out;
  for (const Member& member : members) out += to_text(member) + '\n';
  char digits[24];
  std::snprintf(digits, sizeof digits, "%llx", static_cast<unsigned long long>(version.value));
  return out + "version=" + digits;
}

std::string above_known(std::int32_t level, std::int32_t known) {
  return "the data is at feature level " + std::to_string(level) + ", and this replica knows " + std::to_string(known) +
         ": start a newer version (or one that coord.featureLevelMax does not hold back)";
}

}  // namespace coord::tree
