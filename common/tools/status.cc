// status: what each server says of itself (`srvr`) and of its ensemble (`memb`, a coordd only), asked over the same
// addresses: a line for each, then what is wrong; and what our session says.
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/model/ids.h"
#include "common/tools/commands.h"

namespace coord::tools {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kAnswerMax = 1 << 20;

bool wait_for(int fd, short events, Clock::time_point limit) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - Clock::now()).count();
  pollfd p{fd, events, 0};
  return left > 0 && ::poll(&p, 1, static_cast<int>(left)) == 1;
}

// 0, or an errno.
int connect_within(int fd, const sockaddr* address, socklen_t size, Clock::time_point limit) {
  if (::connect(fd, address, size) == 0) return 0;
  if (errno != EINPROGRESS && errno != EAGAIN) return errno;
  if (!wait_for(fd, POLLOUT, limit)) return ETIMEDOUT;
  int error = 0;
  socklen_t error_size = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0) return errno;
  return error;
}

Result<std::string, Fault> exchange(int fd, std::string_view word, Clock::time_point limit) {
  if (::send(fd, word.data(), word.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(word.size())) {
    return fail(Fault{std::strerror(errno)});
  }
  std::string answer;
  char buffer[4096];
  while (answer.size() < kAnswerMax) {
    if (!wait_for(fd, POLLIN, limit)) return fail(Fault{"no answer in time"});
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) continue;
    if (n < 0) return fail(Fault{std::strerror(errno)});
    if (n == 0) break;
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  if (answer.empty()) return fail(Fault{"the server closed the connection without an answer"});
  return answer;
}

Result<std::string, Fault> ask_address(const sockaddr* address, socklen_t size, std::string_view word,
                                       Clock::time_point limit) {
  const Fd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return fail(Fault{std::strerror(errno)});
  if (const int error = connect_within(fd.get(), address, size, limit); error != 0) {
    return fail(Fault{std::strerror(error)});
  }
  return exchange(fd.get(), word, limit);
}

// A four-letter word to one server. Blocks for at most `timeout`, beside a look-up of the name.
Result<std::string, Fault> ask(const client::Server& server, std::string_view word, std::chrono::milliseconds timeout) {
  if (!server.unix_path.empty()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, server.unix_path.data(), server.unix_path.size());  // parse_target checks the length
    return ask_address(reinterpret_cast<const sockaddr*>(&address), sizeof address, word, Clock::now() + timeout);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int code = ::getaddrinfo(server.host.c_str(), std::to_string(server.port).c_str(), &hints, &list);
  if (code != 0) return fail(Fault{::gai_strerror(code)});
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> freeing(list, &::freeaddrinfo);
  Result<std::string, Fault> answer = fail(Fault{"the name has no address"});
  for (const addrinfo* a = list; a != nullptr && !answer; a = a->ai_next) {
    answer = ask_address(a->ai_addr, a->ai_addrlen, word, Clock::now() + timeout);
  }
  return answer;
}

std::string name_of(const client::Server& server) {
  if (!server.unix_path.empty()) return "unix:" + server.unix_path;
  const bool ipv6 = server.host.find(':') != std::string::npos;
  return (ipv6 ? "[" + server.host + "]" : server.host) + ":" + std::to_string(server.port);
}

void print_session(Context& context) {
  const client::Client& client = *context.client;
  std::printf("Session: 0x%llx\n", static_cast<unsigned long long>(client.session()));
  std::printf("Session timeout: %d ms\n", client.negotiated_timeout_ms());
  if (!client.chroot().empty()) std::printf("Chroot: %s\n", client.chroot().c_str());
  std::string body;
  wire::Writer w(body);
  write(w, wire::CapabilitiesRequest{});
  const auto reply = context.blocking().call(wire::Op::kCapabilities, std::move(body));
  wire::CapabilitiesReply capabilities;
  if (reply) {
    wire::Reader r(*reply);
    read(r, capabilities);
    if (!r.failed()) {
      std::printf("Extensions: version %d%s\n", capabilities.feature_level,
                  capabilities.trusted ? ", trusted connection" : "");
      std::printf("Last zxid: %s\n", to_string(Zxid(static_cast<std::uint64_t>(client.last_zxid()))).c_str());
      return;
    }
  }
  std::printf("Extensions: none (not a coordd, or one that refuses them)\n");
}

// The value behind "KEY: " at the start of a line; empty: none.
std::string value_of(const std::string& text, std::string_view key) {
  const std::string start = std::string(key) + ": ";
  std::size_t at = text.starts_with(start) ? 0 : text.find("\n" + start);
  if (at == std::string::npos) return "";
  at = text.find(start, at) + start.size();
  return text.substr(at, text.find('\n', at) - at);
}

// One server and what it said.
struct Row {
  std::string name, role, epoch, zxid, digest, learners;
  bool serves = false;
  std::string refused;  // it did not answer, and why
  std::string details;  // as it said it
  std::string members, level;
  bool reconfiguring = false;
  std::vector<std::string> wrong, notes;
};

void take_ensemble(const std::string& text, Row& row) {
  row.role = value_of(text, "Role");
  row.epoch = value_of(text, "Epoch");
  row.zxid = value_of(text, "Applied");
  row.digest = value_of(text, "Digest");
  if (row.role == "leader") row.learners = value_of(text, "Learners");
  row.members = value_of(text, "Members");
  row.level = value_of(text, "Feature level");
  row.reconfiguring = value_of(text, "Reconfiguring") == "yes";
  if (value_of(text, "Serving") == "no") row.role += ", not serving";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    const bool note = line.starts_with("Note: ");
    if (note || line.starts_with("Trouble: ") || line.starts_with("Alarm: ")) {
      const std::size_t kind = line.find(' ') + 1;
      (note ? row.notes : row.wrong).push_back(line.substr(0, kind) + row.name + ": " + line.substr(kind));
    }
    at = end + 1;
  }
}

Row ask_row(const client::Server& server, std::chrono::milliseconds timeout) {
  Row row;
  row.name = name_of(server);
  const auto text = ask(server, "srvr", timeout);
  if (!text) {
    row.refused = text.error().message;
    row.wrong.push_back("Trouble: " + row.name + ": not answering: " + row.refused);
    return row;
  }
  row.details = *text;
  row.role = value_of(*text, "Mode");
  row.zxid = value_of(*text, "Zxid");
  row.serves = !row.role.empty();
  const auto ensemble = ask(server, "memb", timeout);
  if (ensemble && ensemble->starts_with("Server:")) {
    row.details += ensemble->substr(ensemble->find('\n') + 1);
    take_ensemble(*ensemble, row);
  }
  if (row.role.empty()) row.role = "not serving";
  return row;
}

// Two replicas with the same transactions and another content: the worst that can be.
void compare(std::vector<Row>& rows) {
  for (std::size_t a = 0; a < rows.size(); ++a) {
    for (std::size_t b = a + 1; b < rows.size(); ++b) {
      if (!rows[a].serves || !rows[b].serves || rows[a].digest.empty() || rows[b].digest.empty()) continue;
      if (rows[a].zxid != rows[b].zxid || rows[a].digest == rows[b].digest) continue;
      rows[b].wrong.push_back("Alarm: " + rows[b].name + ": its tree differs from that of " + rows[a].name +
                              " at the same zxid " + rows[a].zxid);
    }
  }
}

void print_rows(const std::vector<Row>& rows) {
  const auto text = [](const std::string& value) { return value.empty() ? "-" : value.c_str(); };
  std::size_t width = 6;
  for (const Row& row : rows) width = std::max(width, row.name.size());
  const int wide = static_cast<int>(width);
  std::printf("%-*s  %-20s  %-5s  %-18s  %-16s  %s\n", wide, "SERVER", "ROLE", "EPOCH", "ZXID", "DIGEST", "LEARNERS");
  for (const Row& row : rows) {
    if (!row.refused.empty()) {
      std::printf("%-*s  not answering: %s\n", wide, row.name.c_str(), row.refused.c_str());
      continue;
    }
    std::printf("%-*s  %-20s  %-5s  %-18s  %-16s  %s\n", wide, row.name.c_str(), text(row.role), text(row.epoch),
                text(row.zxid), text(row.digest), text(row.learners));
  }
  for (const Row& row : rows) {
    for (const std::string& line : row.wrong) std::printf("%s\n", line.c_str());
  }
  for (const Row& row : rows) {
    for (const std::string& line : row.notes) std::printf("%s\n", line.c_str());
  }
}

// What is one thing for the whole ensemble, as its leader says it.
void print_ensemble(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    if (row.learners.empty() || row.members.empty()) continue;
    std::printf("Members: version %s%s\n", row.members.c_str(), row.reconfiguring ? ", a change is under way" : "");
    std::printf("Feature level: %s\n", row.level.c_str());
  }
}

void print_details(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    if (row.details.empty()) continue;
    std::printf("\n%s\n%s%s", row.name.c_str(), row.details.c_str(), row.details.back() == '\n' ? "" : "\n");
  }
  std::printf("\n");
}

}  // namespace

// The servers first: they answer without a quorum too, which a session needs.
int status(Context& context, bool long_form) {
  const auto target = client::parse_target(context.server);
  if (!target) return complain(kUsage, target.error().message);
  std::vector<Row> rows;
  for (const client::Server& server : target->servers) rows.push_back(ask_row(server, context.timeout()));
  compare(rows);
  print_rows(rows);
  print_ensemble(rows);
  if (long_form) print_details(rows);
  bool any = false, serves = false, wrong = false;
  for (const Row& row : rows) {
    any = any || row.refused.empty();
    serves = serves || row.serves;
    wrong = wrong || !row.wrong.empty();
  }
  if (!any) return complain(kNoServer, "no server answers `srvr`");
  if (!serves) return complain(kRefused, "no server serves: there is no leader with a majority");
  if (const int failed = context.connect(); failed != kDone) return failed;
  print_session(context);
  return wrong ? complain(kRefused, "something is wrong, see the lines Trouble and Alarm") : kDone;
}

}  // namespace coord::tools
