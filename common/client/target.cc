#include <algorithm>

#include "common/base/number.h"
#include "common/client/client.h"
#include "common/model/path.h"

namespace coord::client {
namespace {

constexpr std::size_t kUnixPathMax = 107;  // sun_path, with its NUL
constexpr std::uint16_t kDefaultPort = 2181;

Fault misunderstood(std::string_view piece, std::string_view why) {
  return Fault{"cannot understand \"" + std::string(piece) + "\": " + std::string(why)};
}

Result<Server, Fault> parse_unix(std::string_view piece) {
  const std::string_view path = piece.substr(5);
  if (path.empty()) return fail(misunderstood(piece, "no path behind unix:"));
  if (path.size() > kUnixPathMax) return fail(misunderstood(piece, "a socket's path has at most 107 bytes"));
  Server server;
  server.unix_path = path;
  return server;
}

Result<std::uint16_t, Fault> parse_port(std::string_view piece, std::string_view digits) {
  const auto port = parse_number<std::uint16_t>(digits, 1, 65535);
  if (!port) return fail(misunderstood(piece, "a port is a number from 1 to 65535"));
  return *port;
}

bool host_characters(std::string_view host, bool ipv6) {
  for (const char c : host) {
    const bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                    c == '-' || c == '_' || (ipv6 && (c == ':' || c == '%'));
    if (!ok) return false;
  }
  return true;
}

Result<Server, Fault> parse_tcp(std::string_view piece) {
  Server server;
  server.port = kDefaultPort;
  std::string_view rest = piece;
  const bool bracket = piece.starts_with('[');
  if (bracket) {
    const std::size_t close = piece.find(']');
    if (close == std::string_view::npos) return fail(misunderstood(piece, "no closing bracket"));
    server.host = piece.substr(1, close - 1);
    rest = piece.substr(close + 1);
    if (!rest.empty() && rest[0] != ':') return fail(misunderstood(piece, "expected [address]:port"));
  } else {
    const std::size_t colon = piece.find(':');
    server.host = piece.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : piece.substr(colon);
    if (rest.find(':', 1) != std::string_view::npos) {
      return fail(misunderstood(piece, "expected host:port (an IPv6 address stands in brackets)"));
    }
  }
  if (server.host.empty()) return fail(misunderstood(piece, "no host name"));
  if (!host_characters(server.host, bracket)) return fail(misunderstood(piece, "not a host name or address"));
  if (!rest.empty()) {
    const auto port = parse_port(piece, rest.substr(1));
    if (!port) return fail(port.error());
    server.port = *port;
  }
  return server;
}

}  // namespace

// Pieces separated by commas, of both kinds in any order. A chroot stands behind the last of them if that is a host's,
// and reaches to the end of the text: it may contain commas itself.
Result<Target, Fault> parse_target(std::string_view text) {
  if (text.empty()) return fail(Fault{"no server given: expected unix:/path/to/socket or host:port,..."});
  Target target;
  for (;;) {
    const bool local = text.starts_with("unix:");
    const std::size_t comma = text.find(',');
    const std::size_t slash = local ? std::string_view::npos : text.find('/');
    if (slash < comma) {
      const std::string_view chroot = text.substr(slash);
      if (!valid_path(chroot)) return fail(misunderstood(chroot, "not a valid node path for a chroot"));
      if (chroot.find(",unix:") != std::string_view::npos) {
        return fail(misunderstood(chroot, "a chroot stands behind the last server"));
      }
      if (chroot != "/") target.chroot = chroot;
    }
    const std::string_view piece = text.substr(0, std::min(comma, slash));
    if (piece.empty()) return fail(misunderstood(text, "an empty piece between commas"));
    Result<Server, Fault> server = local ? parse_unix(piece) : parse_tcp(piece);
    if (!server) return fail(server.error());
    target.servers.push_back(std::move(*server));
    if (comma == std::string_view::npos || slash < comma) return target;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace coord::client
