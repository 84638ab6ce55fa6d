// The rules of a client session, as pure code: xids, pending requests, deadlines, keep-alive, what happens to which
// request when a connection breaks, what is sent first on a new one, back-off. Time and seed are arguments; bytes go in
// and out as strings; the completions of requests are handed out, never called here. No internal locking.
//
// Life of a request: submit() queues it; take_output() encodes it and moves it to the requests in flight; receive() or
// expire_deadlines() or disconnected() hand out its completion. When a connection breaks, requests that were submitted
// before the break end with kConnectionLoss, written or not, so that nothing submitted behind a lost request is carried
// out after all; resend requests go back into the queue in their order. Requests submitted while there is no connection
// wait for one, or for their deadline.
//
// Source: client-protocol.md sections 2, 4 and 17.1.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/client/client.h"
#include "common/client/watches.h"

namespace coord::client {

using Instant = std::chrono::steady_clock::time_point;
using Millis = std::chrono::milliseconds;

inline constexpr std::size_t kRequestsMax = 1'000'000;   // queued and in flight; above it: kConnectionLoss, not sent
inline constexpr std::size_t kWriteBatchMax = 4 << 20;   // bytes after which take_output() ends a batch
inline constexpr std::int32_t kReplyBytesMax = 1 << 30;  // a longer frame is taken for garbage

struct Request {
  wire::Op op = wire::Op::kPing;
  std::string body;
  Submit how;
  Completion done;
};

// A request that has ended without a reply.
struct Finished {
  Completion done;
  Err err = Err::kConnectionLoss;
  bool sent = false;
};

// What a frame from the server meant.
struct Incoming {
  enum class Kind {
    kNothing,  // a ping, a reply nobody waits for any more
    kReply,    // call `done` with `reply`
    kWatch,
    kChange,
    kBroken,  // `why`: drop the connection
  };
  Kind kind = Kind::kNothing;
  Completion done;
  Reply reply;  // `body` points into the frame
  wire::WatcherEvent watch;
  wire::ChangeEvent change;
  std::string why;
};

// Delays between rounds over all servers: 20 ms, doubling up to a maximum, each shortened by a random part of up to one
// half so that clients do not come back in step.
class Backoff {
 public:
  Backoff(Millis max, std::uint64_t seed) : max_(max), random_(seed) {}
  Millis next();
  void reset() { step_ = kFirst; }

 private:
  static constexpr Millis kFirst{20};
  Millis max_;
  Millis step_ = kFirst;
  std::mt19937_64 random_;
};

class Session {
 public:
  struct Settings {
    std::int32_t timeout_ms = 10000;
    std::int64_t session = 0;
    std::string password;
    bool renew = true;
    bool rearm_watches = true;
    bool hold_after_connect = false;
    std::int32_t last_xid = 0;  // numbering goes on from here; wraps from 2^31-1 to 1
  };
  explicit Session(Settings settings);

  void submit(Request request, Instant now, std::vector<Finished>& finished);
  // Ends every request whose deadline has passed with kOperationTimeout.
  void expire_deadlines(Instant now, std::vector<Finished>& finished);

  // A new connection: appends the frame with the ConnectRequest.
  void begin_connection(std::string& out);
  enum class Handshake {
    kNewSession,
    kSameSession,
    kExpired,  // the session is over; `finished` has all its requests. Drop the connection.
    kRefused,  // not a sensible answer. Drop the connection.
  };
  Handshake handshake(std::string_view payload, Instant now, std::vector<Finished>& finished);
  void release() { held_ = false; }

  // Appends the frames that may be written now, at most about kWriteBatchMax bytes; a ping when one is due. Nothing
  // without an established connection.
  void take_output(std::string& out, Instant now);
  Incoming receive(std::string_view payload, Instant now);
  void received_bytes(Instant now) { last_receive_ = now; }
  // The connection is gone, and `written` bytes of what begin_connection() and take_output() gave had been handed to
  // the operating system: exactly the requests that lie wholly within them were sent.
  void disconnected(std::uint64_t written, std::vector<Finished>& finished);

  // No byte for two thirds of the session time-out.
  bool dead(Instant now) const { return established_ && now - last_receive_ >= Millis(timeout_ms_) * 2 / 3; }
  // When expire_deadlines(), take_output() (for a ping) or dead() has something to do next.
  Instant next_wakeup() const;

  // The end: every request fails with `err`, also those submitted later.
  void end(Err err, std::vector<Finished>& finished);

  bool ended() const { return ended_; }
  bool established() const { return established_; }
  std::int64_t id() const { return session_; }
  const std::string& password() const { return password_; }
  std::int32_t timeout_ms() const { return timeout_ms_; }  // negotiated
  std::int64_t last_zxid() const { return last_zxid_; }
  std::size_t pending() const { return queue_.size() + in_flight_.size() + auths_.size(); }
  const WatchRegistry& watches() const { return watches_; }

 private:
  struct Pending {
    std::uint64_t order = 0;  // of submission
    std::int32_t xid = 0;
    std::uint64_t stream_end = 0;  // bytes of this connection up to the end of its frame
    bool ever_sent = false;        // on an earlier connection
    bool waited_for = true;        // false: its completion has been handed out, only the reply is still to come
    bool internal = false;         // our own re-registration; no completion
    Instant deadline;
    Request request;
  };

  void put_frame(std::string& out, std::int32_t xid, wire::Op op, std::string_view body);
  void send(Pending pending, std::string& out);
  void queue_internal(wire::Op op, std::string body);
  void finish(Pending& pending, Err err, bool sent, std::vector<Finished>& finished);
  void finish_all(Err err, std::vector<Finished>& finished);
  void note_watch(const Pending& pending, Err err);
  Incoming reply(Pending pending, const wire::ReplyHeader& header, std::string_view body);
  std::int32_t next_xid();

  Settings settings_;
  std::int64_t session_ = 0;
  std::string password_;
  std::int32_t timeout_ms_ = 0;
  std::int64_t last_zxid_ = 0;

  bool established_ = false;
  bool held_ = false;
  bool ended_ = false;
  Err end_error_ = Err::kSessionExpired;
  Instant last_receive_;
  Instant last_send_;
  Instant next_deadline_ = Instant::max();  // not later than the earliest deadline of a request

  std::int32_t xid_ = 0;
  std::uint64_t order_ = 0;
  std::uint64_t stream_end_ = 0;
  std::deque<Pending> control_;  // authentication and watches, to be sent first on this connection
  std::deque<Pending> queue_;
  std::deque<Pending> in_flight_;
  std::deque<Pending> auths_;             // in flight; servers may answer them out of order with the others
  std::vector<std::string> credentials_;  // bodies of auth requests that succeeded: repeated on each connection
  WatchRegistry watches_;
};

}  // namespace coord::client
