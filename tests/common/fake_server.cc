#include "tests/common/fake_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace coord::client {
namespace {

constexpr int kWaitMs = 5000;

bool readable(int fd, int ms) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, ms) == 1;
}

void require(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(std::string("fake server: ") + what + ": " + std::strerror(errno));
}

}  // namespace

FakeConnection& FakeConnection::operator=(FakeConnection&& other) noexcept {
  close();
  fd_ = other.fd_;
  other.fd_ = -1;
  return *this;
}

void FakeConnection::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

bool FakeConnection::read_some(char* to, std::size_t n) {
  while (n > 0) {
    require(readable(fd_, kWaitMs), "nothing to read in time");
    const ssize_t got = ::recv(fd_, to, n, 0);
    if (got <= 0) return false;
    to += got;
    n -= static_cast<std::size_t>(got);
  }
  return true;
}

std::string FakeConnection::frame() {
  char length[4];
  require(read_some(length, 4), "the client closed");
  std::string payload(static_cast<std::size_t>(wire::load_be<std::int32_t>(length)), '\0');
  require(read_some(payload.data(), payload.size()), "the client closed within a frame");
  return payload;
}

wire::ConnectRequest FakeConnection::connect_request() {
  const std::string payload = frame();
  wire::Reader r(payload);
  wire::ConnectRequest request = wire::read_connect_request(r);
  require(!r.failed(), "a bad ConnectRequest");
  return request;
}

FakeConnection::Request FakeConnection::request() {
  for (;;) {
    const std::string payload = frame();
    wire::Reader r(payload);
    Request request;
    request.xid = r.i32();
    request.op = static_cast<wire::Op>(r.i32());
    request.body = r.rest();
    require(!r.failed(), "a frame without a header");
    if (request.op != wire::Op::kPing) return request;
    reply(request.xid);
  }
}

bool FakeConnection::at_end() {
  char byte;
  for (;;) {
    require(readable(fd_, kWaitMs), "the client neither closed nor sent in time");
    const ssize_t got = ::recv(fd_, &byte, 1, 0);
    if (got <= 0) return true;
  }
}

bool FakeConnection::silent(int ms) {
  while (readable(fd_, ms)) {
    const std::string payload = frame();
    if (wire::load_be<std::int32_t>(payload.data()) != wire::xid::kPing) return false;
  }
  return true;
}

void FakeConnection::raw(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the client has gone; the test will see
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

void FakeConnection::send(std::string_view payload) {
  std::string out;
  const std::size_t at = wire::begin_frame(out);
  out += payload;
  wire::end_frame(out, at);
  raw(out);
}

void FakeConnection::welcome(std::int64_t session, std::int32_t timeout_ms) {
  wire::ConnectResponse response;
  response.session = session;
  response.timeout_ms = timeout_ms;
  if (timeout_ms > 0) response.password = std::string(wire::kPasswordSize, 'p');
  std::string payload;
  wire::Writer w(payload);
  write(w, response);
  send(payload);
}

void FakeConnection::reply(std::int32_t xid, Err err, std::string_view body, std::int64_t zxid) {
  std::string payload;
  wire::Writer w(payload);
  write(w, wire::ReplyHeader{xid, zxid, err});
  w.raw(body);
  send(payload);
}

void FakeConnection::event(WatchType type, const std::string& path, std::int64_t zxid) {
  std::string body;
  wire::Writer w(body);
  write(w, wire::WatcherEvent{type, kStateSyncConnected, path});
  reply(wire::xid::kNotification, Err::kOk, body, zxid);
}

FakeServer::FakeServer(Kind kind) {
  Server server;
  if (kind == Kind::kUnix) {
    char directory[] = "/tmp/coord-fake-XXXXXX";
    require(::mkdtemp(directory) != nullptr, "mkdtemp");
    directory_ = directory;
    server.unix_path = directory_ + "/s";
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, server.unix_path.c_str(), server.unix_path.size());
    require(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "bind");
  } else {
    server.host = "127.0.0.1";
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    require(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "bind");
    socklen_t size = sizeof address;
    require(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
    server.port = ntohs(address.sin_port);
  }
  require(::listen(fd_, 16) == 0, "listen");
  target_.servers.push_back(server);
}

FakeServer::~FakeServer() {
  stop_listening();
  if (directory_.empty()) return;
  ::unlink(target_.servers[0].unix_path.c_str());
  ::rmdir(directory_.c_str());
}

void FakeServer::stop_listening() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

FakeConnection FakeServer::accept() {
  require(readable(fd_, kWaitMs), "no client came in time");
  const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  require(fd >= 0, "accept");
  return FakeConnection(fd);
}

FakeConnection FakeServer::accept_session(std::int64_t session, std::int32_t timeout_ms) {
  FakeConnection connection = accept();
  static_cast<void>(connection.connect_request());
  connection.welcome(session, timeout_ms);
  return connection;
}

}  // namespace coord::client
