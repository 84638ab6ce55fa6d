// status: what each server says of itself (`srvr`) and of its ensemble (`memb`, a coordd only), asked over the same
// addresses, and what our session says.
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/base/log.h"
#include "common/model/ids.h"
#include "common/tools/commands.h"

namespace coord::tools {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kAnswerMax = 1 << 20;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

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
      std::printf("Extensions: feature level %d%s\n", capabilities.feature_level,
                  capabilities.trusted ? ", trusted connection" : "");
      std::printf("Last zxid: %s\n", to_string(Zxid(static_cast<std::uint64_t>(client.last_zxid()))).c_str());
      return;
    }
  }
  std::printf("Extensions: none (not a coordd, or one that refuses them)\n");
}

}  // namespace

namespace {

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (text.back() != '\n') std::printf("\n");
}

bool has_line(const std::string& text, std::string_view start) {
  return text.starts_with(start) || text.find("\n" + std::string(start)) != std::string::npos;
}

}  // namespace

// The servers first: they answer without a quorum too, which a session needs.
int status(Context& context) {
  const auto target = client::parse_target(context.server);
  if (!target) return complain(kUsage, target.error().message);
  bool any = false, serving = false, trouble = false;
  for (const client::Server& server : target->servers) {
    std::printf("Server: %s\n", name_of(server).c_str());
    const auto text = ask(server, "srvr", context.timeout());
    if (!text) {
      std::printf("  not answering: %s\n", text.error().message.c_str());
      continue;
    }
    any = true;
    print(*text);
    serving = serving || has_line(*text, "Mode:");
    const auto ensemble = ask(server, "memb", context.timeout());
    if (ensemble && ensemble->starts_with("Server:")) {
      print(ensemble->substr(ensemble->find('\n') + 1));
      trouble = trouble || has_line(*ensemble, "Trouble:") || has_line(*ensemble, "Alarm:");
    }
  }
  if (!any) return complain(kNoServer, "no server answers `srvr`");
  if (!serving) return complain(kNoServer, "no server serves: there is no quorum");
  if (const int failed = context.connect(); failed != kDone) return failed;
  print_session(context);
  return trouble ? complain(kRefused, "something is wrong, see the lines Trouble and Alarm") : kDone;
}

}  // namespace coord::tools
