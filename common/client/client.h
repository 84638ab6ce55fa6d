// The asynchronous client of a ZooKeeper-protocol server, ours or another: one session over one connection at a time,
// pipelined, kept alive, reconnected; watches, and the extension operations of common/wire/extension.h. coordfs,
// coordctl, the benches and the tests are built on it. An Asio shell behind a plain header; the rules about xids,
// pending requests, time-outs and back-off are pure code in session.h.
//
// Threading: submit and close from any thread. All callbacks run on the client's own I/O thread, one at a time, in the
// order of the stream: a watch or change event comes before any later reply. A callback must not block and must not
// destroy the client; it may submit.
//
// Every request ends in exactly one call of its completion: with the reply, with kConnectionLoss (the connection broke
// before the reply came: the outcome is unknown; a request that was never written says so by Reply::sent = false), with
// kOperationTimeout (its deadline passed) or with kSessionExpired.
//
// Exactly-once requests (Submit::resend) survive a reconnect: they are sent again, in their order, in the same session,
// until the session expires or the deadline passes. Only for extension mutations, which the replica deduplicates.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/model/records.h"
#include "common/wire/extension.h"
#include "common/wire/protocol.h"

namespace coord::client {

struct Server {
  std::string unix_path;  // not empty: a Unix socket
  std::string host;       // else TCP
  std::uint16_t port = 0;
};

struct Target {
  std::vector<Server> servers;
  std::string chroot;  // "" or "/app/x": put before every path, taken off every result and event
};

// "unix:/path/to/socket" and "host:port" (IPv6 in brackets), several separated by commas, of both kinds if need be; a
// chroot "/app/x" may follow a host that is the last. The message names the piece that could not be understood.
Result<Target, Fault> parse_target(std::string_view text);

enum class SessionEvent {
  kConnected,     // a new session is established (the first, or after expiry)
  kReconnected,   // the same session on a new connection: all watches and holds of the old connection are gone
  kDisconnected,  // the connection broke; trying again
  kExpired,       // the session is over, with its ephemerals; a new one follows if Options::renew
};

struct Options {
  Target target;
  std::int32_t session_timeout_ms = 10000;
  std::chrono::milliseconds connect_timeout{2000};  // for one server: TCP connect and ConnectResponse
  std::chrono::milliseconds backoff_max{1000};      // between rounds over all servers; starts at 20 ms, doubles
  std::int64_t session = 0;                         // take over an existing session
  std::string password;
  bool renew = true;         // after expiry start a new session
  bool rearm_watches = true;  // re-register watches after a reconnect (setWatches2)
  // After kReconnected and kConnected hold back everything but Submit::first requests until release() is called.
  bool hold_after_connect = false;
  std::function<void(SessionEvent)> on_session;
  std::function<void(const wire::WatcherEvent&, std::int64_t zxid)> on_watch;
  std::function<void(const wire::ChangeEvent&)> on_change;
};

struct Reply {
  Err err = Err::kOk;
  std::int64_t zxid = 0;
  std::string_view body;  // valid during the completion only
  bool sent = true;       // false: never written to a connection
};
using Completion = std::function<void(const Reply&)>;

struct Submit {
  std::chrono::milliseconds deadline{5000};
  bool resend = false;  // sent again over reconnects: extension mutations, exactly once; what changes nothing
  bool first = false;   // passes hold_after_connect
  // Remember this as a watch to re-arm: set by the typed calls below.
  enum class Watch : std::uint8_t { kNone, kData, kExist, kChild } watch = Watch::kNone;
  std::string watch_path;
};

class Client {
 public:
  // Starts the I/O thread and connecting. Never blocks.
  static std::unique_ptr<Client> create(Options options);
  virtual ~Client() = default;  // abandons the session (it lives until it expires); stops the thread

  // `body` is the encoded request record. With a chroot, use the typed calls: submit sends what it is given.
  virtual void submit(wire::Op op, std::string body, Submit how, Completion done) = 0;
  // Ends the session on the server and stops; returns when the server has answered or after `limit`.
  virtual void close(std::chrono::milliseconds limit) = 0;
  // See Options::hold_after_connect. I/O thread only (from a callback).
  virtual void release() = 0;
  // Waits for the first kConnected; false after `limit`. `what_was_tried` for the message: servers and last errors.
  virtual bool wait_connected(std::chrono::milliseconds limit) = 0;
  virtual std::string what_was_tried() const = 0;

  virtual bool connected() const = 0;
  virtual std::int64_t session() const = 0;
  virtual std::string password() const = 0;
  virtual std::int32_t negotiated_timeout_ms() const = 0;
  virtual std::int64_t last_zxid() const = 0;  // highest zxid of any reply header
  virtual std::string chroot() const = 0;
};

// Blocking conveniences for tools and tests, from any thread but the client's own.
class Blocking {
 public:
  explicit Blocking(Client& c, std::chrono::milliseconds deadline = std::chrono::seconds(5))
      : client_(c), deadline_(deadline) {}

  Result<std::string> create(std::string_view path, std::optional<std::string_view> data, wire::CreateMode mode,
                             const Acl& acl = open_acl(), std::int64_t ttl_ms = 0, Stat* stat = nullptr);
  Result<bool> remove(std::string_view path, std::int32_t version = -1);
  Result<Stat> exists(std::string_view path, bool watch = false);
  struct Data {
    bool is_null = false;
    std::string data;
    Stat stat;
  };
  Result<Data> get(std::string_view path, bool watch = false);
  Result<Stat> set(std::string_view path, std::optional<std::string_view> data, std::int32_t version = -1);
  Result<std::vector<std::string>> children(std::string_view path, bool watch = false, Stat* stat = nullptr);
  Result<Acl> get_acl(std::string_view path, Stat* stat = nullptr);
  Result<Stat> set_acl(std::string_view path, const Acl& acl, std::int32_t version = -1);
  Result<bool> sync(std::string_view path);
  Result<bool> auth(std::string_view scheme, std::string_view credential);
  Result<bool> add_watch(std::string_view path, bool recursive);
  // One request of any kind; the body of the reply.
  Result<std::string> call(wire::Op op, std::string body);

 private:
  Client& client_;
  std::chrono::milliseconds deadline_;
};

}  // namespace coord::client
