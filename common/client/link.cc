#include "common/client/link.h"

#include <netdb.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

#include "common/client/session.h"

namespace coord::client {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::size_t kReadBuffer = 64 * 1024;
constexpr std::size_t kReadBufferKept = 1 << 20;  // a larger one is given back when it is empty
constexpr int kResolvingMax = 4;

using Endpoint = asio::generic::stream_protocol::endpoint;

Endpoint tcp_endpoint(const asio::ip::address& address, std::uint16_t port) {
  return Endpoint(asio::ip::tcp::endpoint(address, port));
}

// Blocks; empty with `error` when the name cannot be found.
std::vector<Endpoint> look_up(const std::string& host, std::uint16_t port, std::string& error) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  std::vector<Endpoint> endpoints;
  if (code != 0) {
    error = ::gai_strerror(code);
    return endpoints;
  }
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
    endpoints.emplace_back(a->ai_addr, a->ai_addrlen, 0);
  }
  ::freeaddrinfo(list);
  if (endpoints.empty()) error = "the name has no address";
  return endpoints;
}

}  // namespace

// Shared with the thread that looks a name up, which may outlive the link and the client.
struct Link::Resolution {
  std::mutex mutex;
  asio::io_context* io = nullptr;  // null: nobody waits any more
  std::vector<Endpoint> endpoints;
  std::string error;
};

Link::Link(asio::io_context& io, Owner& owner, std::shared_ptr<std::atomic<int>> resolving)
    : io_(io), owner_(owner), resolving_(std::move(resolving)), socket_(io) {}

Link::~Link() = default;

void Link::end_operation() {
  COORD_CHECK(operations_ > 0);
  if (--operations_ > 0 || !closing_) return;
  owner_.link_closed(why_, written_);
}

void Link::close(std::string why) {
  if (closing_) return;
  closing_ = true;
  why_ = std::move(why);
  if (resolution_) {
    bool waited = false;
    {
      const std::lock_guard<std::mutex> lock(resolution_->mutex);
      waited = std::exchange(resolution_->io, nullptr) != nullptr;
    }
    resolution_.reset();
    if (waited) --operations_;  // its handler will not come
  }
  error_code ignored;
  socket_.close(ignored);
  begin_operation();
  asio::post(io_, [this] { end_operation(); });
}

void Link::open(const Server& server, unsigned attempt) {
  attempt_ = attempt;
  if (!server.unix_path.empty()) {
    endpoints_.emplace_back(asio::local::stream_protocol::endpoint(server.unix_path));
    connect_next(0);
    return;
  }
  tcp_ = true;
  error_code not_numeric;
  const asio::ip::address address = asio::ip::make_address(server.host, not_numeric);
  if (!not_numeric) {
    endpoints_.push_back(tcp_endpoint(address, server.port));
    connect_next(0);
    return;
  }
  resolve(server);
}

void Link::resolve(const Server& server) {
  if (resolving_->load() >= kResolvingMax) {
    close("earlier look-ups of host names have not ended yet");
    return;
  }
  resolution_ = std::make_shared<Resolution>();
  resolution_->io = &io_;
  const auto finish = [this, resolution = resolution_] {
    // The lock orders this behind the thread's last access; a link that was closed meanwhile is gone.
    {
      const std::lock_guard<std::mutex> lock(resolution->mutex);
      if (resolution->io == nullptr) return;
      resolution->io = nullptr;
    }
    resolution_.reset();
    endpoints_ = resolution->endpoints;
    error_ = resolution->error;
    connect_next(0);
    end_operation();
  };
  const auto work = [resolution = resolution_, finish, resolving = resolving_, host = server.host, port = server.port] {
    std::string error;
    std::vector<Endpoint> endpoints = look_up(host, port, error);
    --*resolving;
    const std::lock_guard<std::mutex> lock(resolution->mutex);
    if (resolution->io == nullptr) return;
    resolution->endpoints = std::move(endpoints);
    resolution->error = std::move(error);
    asio::post(*resolution->io, finish);
  };
  begin_operation();
  ++*resolving_;
  try {
    std::thread(work).detach();
  } catch (const std::system_error& e) {
    --*resolving_;
    --operations_;
    resolution_.reset();
    close(std::string("cannot start a thread: ") + e.what());
  }
}

void Link::connect_next(std::size_t tried) {
  if (closing_) return;
  if (tried >= endpoints_.size()) {
    close(error_);
    return;
  }
  const Endpoint& endpoint = endpoints_[(tried + attempt_) % endpoints_.size()];
  error_code ec;
  socket_.close(ec);
  socket_.open(endpoint.protocol(), ec);
  if (ec) {
    error_ = ec.message();
    connect_next(tried + 1);
    return;
  }
  begin_operation();
  socket_.async_connect(endpoint, [this, tried](const error_code& failed) {
    if (!closing_) {
      if (failed) {
        error_ = failed.message();
        connect_next(tried + 1);
      } else {
        connected();
      }
    }
    end_operation();
  });
}

void Link::connected() {
  error_code ignored;
  if (tcp_) socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  in_.resize(kReadBuffer);
  owner_.link_connected();
  if (!closing_) read();
}

void Link::write(std::string& batch) {
  COORD_CHECK(!writing_ && !closing_);
  out_.clear();
  out_.swap(batch);
  writing_ = true;
  begin_operation();
  asio::async_write(socket_, asio::buffer(out_), [this](const error_code& ec, std::size_t n) {
    written_ += n;
    writing_ = false;
    if (!closing_) {
      if (ec) {
        close(ec.message());
      } else {
        owner_.link_written();
      }
    }
    end_operation();
  });
}

void Link::make_room() {
  if (in_begin_ == in_end_) {
    in_begin_ = in_end_ = 0;
    if (in_.size() > kReadBufferKept) {
      in_.resize(kReadBuffer);
      in_.shrink_to_fit();
    }
  }
  // Moving is rare: only when less than a quarter is free at the end.
  if (in_begin_ > 0 && in_.size() - in_end_ < in_.size() / 4) {
    std::memmove(in_.data(), in_.data() + in_begin_, in_end_ - in_begin_);
    in_end_ -= in_begin_;
    in_begin_ = 0;
  }
  // It grows with what has come, not with what a length field claims.
  if (in_.size() - in_end_ < in_.size() / 4) in_.resize(in_.size() * 2);
}

void Link::read() {
  make_room();
  begin_operation();
  socket_.async_read_some(asio::buffer(in_.data() + in_end_, in_.size() - in_end_),
                          [this](const error_code& ec, std::size_t n) {
                            if (!closing_) {
                              in_end_ += n;
                              if (ec) {
                                close(ec == asio::error::eof ? "the server closed the connection" : ec.message());
                              } else if (parse()) {
                                owner_.link_received();
                                if (!closing_) read();
                              }
                            }
                            end_operation();
                          });
}

bool Link::parse() {
  while (in_end_ - in_begin_ >= 4) {
    const auto length = wire::load_be<std::int32_t>(in_.data() + in_begin_);
    if (length < 0 || length > kReplyBytesMax) {
      close("a frame of length " + std::to_string(length));
      return false;
    }
    const std::size_t size = 4 + static_cast<std::size_t>(length);
    if (in_end_ - in_begin_ < size) break;
    const std::string_view payload(in_.data() + in_begin_ + 4, static_cast<std::size_t>(length));
    in_begin_ += size;
    owner_.link_frame(payload);
    if (closing_) return false;
  }
  return true;
}

}  // namespace coord::client
