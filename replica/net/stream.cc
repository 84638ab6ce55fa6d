#include "replica/net/stream.h"

#include <grp.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>

#include "common/base/log.h"
#include "replica/net/asio_impl.h"

namespace coord::net {
namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;
using boost::system::error_code;
namespace {

constexpr std::size_t kReadChunk = 64 * 1024;
constexpr std::size_t kWriteChunk = 256 * 1024;        // others have their turn between
constexpr auto kTakenPeriod = std::chrono::milliseconds(100);  // of looking whether a paused peer takes its output
constexpr auto kLingerLimit = std::chrono::seconds(2);  // without anything taken
constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // after EMFILE and its like

// A connection does not keep the memory of its largest frame for life.
void give_back(std::string& buffer) {
  if (buffer.capacity() > kReadChunk) std::string().swap(buffer);
}

class SocketStream final : public Stream, public std::enable_shared_from_this<SocketStream> {
 public:
  SocketStream(Loop& loop, Socket socket, Remote remote)
      : loop_(loop), socket_(std::move(socket)), timer_(loop.impl().context), remote_(std::move(remote)) {}

  const Remote& remote() const override { return remote_; }
  Executor& loop() override { return loop_; }

  void start(std::shared_ptr<StreamUser> user) override {
    user_ = std::move(user);
    error_code error;
    socket_.non_blocking(true, error);
    read_more();
  }

  void request_flush() override {
    if (loop_.in_this_thread()) {
      write_more();
      return;
    }
    if (flush_posted_.exchange(true)) return;
    loop_.post([self = shared_from_this()] {
      self->flush_posted_ = false;
      self->write_more();
    });
  }

  void resume_reading() override {
    loop_.post([self = shared_from_this()] {
      if (!self->paused_ || self->closing_ || self->ended_) return;
      self->paused_ = false;
      if (self->deliver()) self->read_more();
    });
  }

  void request_close(bool flush) override {
    loop_.post([self = shared_from_this(), flush] {
      if (self->ended_) return;
      if (!flush) {
        self->end();
        return;
      }
      if (!self->closing_) {
        self->closing_ = true;
        self->taken_since();
        self->linger();
      }
      self->write_more();
    });
  }

 private:
  // Whether the peer has taken anything of the output since the last call: its socket had room for more, or has less
  // that is not acknowledged. Room alone would not do: a full socket says that it has some when much of it is free.
  bool taken_since() {
    int waiting = waiting_;
    ::ioctl(socket_.native_handle(), SIOCOUTQ, &waiting);
    const bool taken = handed_over_ != handed_over_before_ || waiting < waiting_;
    handed_over_before_ = handed_over_;
    waiting_ = waiting;
    return taken;
  }

  // Closes when nothing is taken any more: who takes his last answers slowly gets them all.
  void linger() {
    timer_.expires_after(kLingerLimit);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (error || self->ended_) return;
      self->taken_since() ? self->linger() : self->end();
    });
  }

  // As long as reading is paused.
  void watch_output() {
    if (watching_ || closing_ || ended_) return;
    watching_ = true;
    timer_.expires_after(kTakenPeriod);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      self->watching_ = false;
      if (error || !self->paused_ || self->closing_ || self->ended_) return;
      if (self->taken_since()) self->user_->on_taken();
      self->watch_output();
    });
  }

  // Waits for readiness and then reads into a buffer of the thread, so that an idle connection holds no buffer.
  void read_more() {
    if (closing_ || ended_) return;
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
      if (self->ended_ || self->closing_) return;
      if (error) {
        self->end();
        return;
      }
      static thread_local std::unique_ptr<char[]> chunk(new char[kReadChunk]);
      const std::size_t got = self->socket_.read_some(asio::buffer(chunk.get(), kReadChunk), error);
      if (error == asio::error::would_block || error == asio::error::interrupted) {
        self->read_more();
        return;
      }
      if (error) {
        self->end();
        return;
      }
      self->in_.append(chunk.get(), got);
      if (self->deliver()) self->read_more();
    });
  }

  // False when the user asked to pause or the stream has ended.
  bool deliver() {
    const bool go_on = user_->on_bytes(in_);
    if (in_.empty()) give_back(in_);
    if (!go_on) {
      paused_ = true;
      if (!watching_) taken_since();
      watch_output();
      return false;
    }
    return !ended_ && !closing_;
  }

  void write_more() {
    if (writing_ || ended_ || !user_) return;
    out_.clear();
    user_->take_output(out_);
    if (out_.empty()) {
      if (closing_) end();
      return;
    }
    writing_ = true;
    written_ = 0;
    write_rest();
  }

  void write_rest() {
    const std::size_t most = std::min(out_.size() - written_, kWriteChunk);
    const auto rest = asio::buffer(out_.data() + written_, most);
    socket_.async_write_some(rest, [self = shared_from_this()](error_code error, std::size_t count) {
      self->written_ += count;
      self->handed_over_ += count;
      if (!error && !self->ended_ && self->written_ < self->out_.size()) {
        self->write_rest();
        return;
      }
      self->writing_ = false;
      self->out_.clear();
      give_back(self->out_);
      if (self->ended_) return;
      if (error) {
        self->end();
        return;
      }
      self->write_more();
    });
  }

  void end() {
    if (ended_) return;
    ended_ = true;
    timer_.cancel();
    error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_both, ignored);
    socket_.close(ignored);
    if (user_) {
      user_->on_closed();
      // The user holds the stream and the stream the user: let go, but not inside a callback of the user's.
      loop_.post([user = std::move(user_)] {});
      user_ = nullptr;
    }
  }

  Loop& loop_;
  Socket socket_;
  asio::steady_timer timer_;  // watch_output's, then linger's
  Remote remote_;
  std::shared_ptr<StreamUser> user_;
  std::string in_;
  std::string out_;
  std::size_t written_ = 0;  // of out_
  std::uint64_t handed_over_ = 0, handed_over_before_ = 0;  // to the socket, so far and at the last look
  int waiting_ = 0;  // in the socket, at the last look
  std::atomic<bool> flush_posted_{false};
  bool writing_ = false;
  bool paused_ = false;
  bool watching_ = false;
  bool closing_ = false;
  bool ended_ = false;
};

Remote remote_of(asio::ip::tcp::socket& socket) {
  Remote remote;
  error_code error;
  const auto end = socket.remote_endpoint(error);
  if (error) return remote;
  auto address = end.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  remote.address = address.to_string();
  remote.port = end.port();
  socket.set_option(asio::ip::tcp::no_delay(true), error);
  return remote;
}

Remote remote_of(asio::local::stream_protocol::socket& socket) {
  Remote remote;
  remote.is_unix = true;
  ucred who{};
  socklen_t size = sizeof who;
  if (getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &who, &size) == 0) {
    remote.uid = who.uid;
    remote.gid = who.gid;
    remote.pid = who.pid;
  } else {
    remote.uid = remote.gid = 65534;  // unknown: nobody
  }
  return remote;
}

template <class Protocol>
class SocketListener final : public Listener {
 public:
  using Acceptor = typename Protocol::acceptor;
  SocketListener(std::vector<Loop*> loops, Acceptor acceptor, OnAccept on_accept, std::string unix_path)
      : state_(std::make_shared<State>(std::move(loops), std::move(acceptor), std::move(on_accept))),
        unix_path_(std::move(unix_path)) {
    accept(state_);
  }
  ~SocketListener() override { close(); }

  std::uint16_t port() const override {
    if constexpr (std::is_same_v<Protocol, asio::ip::tcp>) {
      error_code ignored;
      return state_->acceptor.local_endpoint(ignored).port();
    }
    return 0;
  }

  void close() override {
    error_code ignored;
    state_->acceptor.close(ignored);
    state_->pause.cancel();
    if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
    unix_path_.clear();
  }

 private:
  struct State {
    State(std::vector<Loop*> l, Acceptor a, OnAccept o)
        : loops(std::move(l)), acceptor(std::move(a)), on_accept(std::move(o)), pause(loops[0]->impl().context) {}
    std::vector<Loop*> loops;
    Acceptor acceptor;
    OnAccept on_accept;
    asio::steady_timer pause;
    std::size_t next = 0;
  };

  static void accept(std::shared_ptr<State> state) {
    Loop* loop = state->loops[state->next++ % state->loops.size()];
    state->acceptor.async_accept(
        loop->impl().context, [state, loop](error_code error, typename Protocol::socket socket) {
          if (error == asio::error::operation_aborted || !state->acceptor.is_open()) return;
          if (error) {
            log::warn("net", "accept failed reason=\"{}\"", error.message());
            state->pause.expires_after(kAcceptPause);
            state->pause.async_wait([state](error_code stopped) {
              if (!stopped) accept(state);
            });
            return;
          }
          Remote remote = remote_of(socket);
          auto stream = std::make_shared<SocketStream>(*loop, Socket(std::move(socket)), std::move(remote));
          loop->dispatch([state, stream] { state->on_accept(stream); });
          accept(state);
        });
  }

  std::shared_ptr<State> state_;
  std::string unix_path_;
};

bool somebody_listens(const std::string& path) {
  // Not blocking: a stopped process with a full queue is a live one too.
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const bool live = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ||
                    (errno != ECONNREFUSED && errno != ENOENT);
  ::close(fd);
  return live;
}

}  // namespace

Result<std::unique_ptr<Listener>, Fault> listen_tcp(std::vector<Loop*> loops, const std::string& address,
                                                    std::uint16_t port, int backlog, OnAccept on_accept) {
  using asio::ip::tcp;
  auto& context = loops[0]->impl().context;
  const std::string shown = (address.empty() ? "all addresses" : address) + " port " + std::to_string(port);
  error_code error;
  tcp::acceptor acceptor(context);
  tcp::endpoint end(tcp::v6(), port);
  if (!address.empty()) {
    const auto parsed = asio::ip::make_address(address, error);
    if (!error) {
      end = tcp::endpoint(parsed, port);
    } else {
      tcp::resolver resolver(context);
      const auto found = resolver.resolve(address, std::to_string(port), error);
      if (error) return fail(Fault{"cannot listen on " + shown + ": " + error.message()});
      end = found.begin()->endpoint();
    }
  }
  acceptor.open(end.protocol(), error);
  if (error && address.empty()) {  // no IPv6 on this host
    end = tcp::endpoint(tcp::v4(), port);
    acceptor.open(end.protocol(), error);
  }
  if (!error && address.empty() && end.protocol() == tcp::v6()) {
    acceptor.set_option(asio::ip::v6_only(false), error);
  }
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(end, error);
  if (!error) acceptor.listen(backlog > 0 ? backlog : asio::socket_base::max_listen_connections, error);
  if (error) return fail(Fault{"cannot listen on " + shown + ": " + error.message()});
  return std::unique_ptr<Listener>(
      std::make_unique<SocketListener<tcp>>(std::move(loops), std::move(acceptor), std::move(on_accept), ""));
}

Result<std::unique_ptr<Listener>, Fault> listen_unix(std::vector<Loop*> loops, const std::string& path,
                                                     const std::string& group, OnAccept on_accept) {
  using Local = asio::local::stream_protocol;
  if (path.size() >= sizeof(sockaddr_un{}.sun_path)) {
    return fail(Fault{"socket path " + path + " is longer than " + std::to_string(sizeof(sockaddr_un{}.sun_path) - 1) +
                      " bytes; choose a shorter one (coord.socket)"});
  }
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) return fail(Fault{path + " exists and is not a socket; move it away"});
    if (somebody_listens(path)) return fail(Fault{"another process already listens on " + path});
    ::unlink(path.c_str());
  }
  error_code error;
  Local::acceptor acceptor(loops[0]->impl().context);
  acceptor.open(Local(), error);
  if (!error) {
    const mode_t old = ::umask(0117);
    acceptor.bind(Local::endpoint(path), error);
    ::umask(old);
  }
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(Fault{"cannot listen on socket " + path + ": " + error.message()});
  if (!group.empty()) {
    const struct group* entry = ::getgrnam(group.c_str());
    if (entry != nullptr && ::chown(path.c_str(), static_cast<uid_t>(-1), entry->gr_gid) != 0) {
      log::warn("net", "cannot give {} to group {}: {}", path, group, std::strerror(errno));
    }
  }
  return std::unique_ptr<Listener>(
      std::make_unique<SocketListener<Local>>(std::move(loops), std::move(acceptor), std::move(on_accept), path));
}

}  // namespace coord::net
