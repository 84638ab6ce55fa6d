// What every simulated client of a replica does: it connects, keeps its session over reconnections to the same replica
// or another, pings, and notices a replica that has fallen silent. What it asks is its descendants' affair: client.h
// (the stock protocol), mount.h (the extension operations).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/wire/protocol.h"
#include "tests/history/record.h"
#include "tests/sim/random.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

// What a client needs of the world: connections by number, bytes in order.
class ClientNet {
 public:
  virtual ~ClientNet() = default;
  // 0: refused. The answer comes by SimSession::connected or ::closed, never inside.
  virtual std::uint64_t open(std::uint32_t client, std::uint32_t replica) = 0;
  virtual void send(std::uint64_t connection, std::string bytes) = 0;
  virtual void close(std::uint64_t connection) = 0;
};

class SimSession {
 public:
  SimSession(std::uint32_t number, int replicas, std::int32_t timeout_ms, Scheduler& scheduler, Random& random,
             ClientNet& net, history::History& history)
      : number_(number),
        replicas_(replicas),
        timeout_ms_(timeout_ms),
        scheduler_(scheduler),
        random_(random),
        net_(net),
        history_(history) {}
  virtual ~SimSession() = default;
  SimSession(const SimSession&) = delete;
  SimSession& operator=(const SimSession&) = delete;

  void start();  // connects, and goes on by itself until stop()
  void stop() { active_ = false; }
  void pause_for(std::int64_t ms);
  void leave_connection();  // and reconnects elsewhere
  // To this one only from now on, once the present connection is over; 0: to any; kNowhere: to none.
  static constexpr std::uint32_t kNowhere = UINT32_MAX;
  void stay_with(std::uint32_t replica) { only_ = replica; }

  // --- from the world
  void connected(std::uint64_t connection);
  void received(std::uint64_t connection, std::string_view bytes);
  void closed(std::uint64_t connection);

  // By the Unix socket, as root.
  virtual bool is_mount() const { return false; }
  std::uint32_t number() const { return number_; }
  std::uint32_t replica() const { return replica_; }  // that it is connected to, or was last
  bool in_session() const { return ready_; }
  std::uint64_t answers() const { return answers_; }
  std::int64_t session() const { return session_; }
  std::uint64_t expiries() const { return expiries_; }
  std::function<void(int invariant, const std::string&)> on_wrong;  // what it was told breaks this one; never returns

 protected:
  virtual void opened(bool fresh) = 0;  // in a session: a new one, or the one it had
  virtual void ended() = 0;             // its session has expired
  virtual void dropped() = 0;           // the connection has gone, and with it the answers that were to come on it
  virtual void frame(const wire::ReplyHeader& header, wire::Reader& in) = 0;
  virtual void ping() = 0;
  virtual void think() = 0;             // once in a while, in a session

  void forget_session() { over_ = true; }  // closed: the next connection opens another one
  // A whole frame: xid, op, and what `body` writes.
  void send(std::int32_t xid, wire::Op op, const std::function<void(wire::Writer&)>& body);
  std::int64_t ns() const { return scheduler_.now_us() * 1000; }
  bool ready() const { return ready_; }

  const std::uint32_t number_;
  const int replicas_;
  const std::int32_t timeout_ms_;
  Scheduler& scheduler_;
  Random& random_;
  ClientNet& net_;
  history::History& history_;
  std::int32_t next_xid_ = 1;
  std::uint64_t answers_ = 0;

 private:
  void connect_later();
  void connect();
  void lost();
  void go_on();
  void watchdog();
  void handshake(std::string_view payload);

  bool active_ = true;
  bool ready_ = false;  // in a session
  std::uint64_t connection_ = 0;
  std::uint32_t replica_ = 0;
  std::uint32_t only_ = 0;
  bool over_ = false;
  std::string input_;
  std::int64_t session_ = 0;
  std::string password_ = std::string(wire::kPasswordSize, '\0');
  std::int64_t last_zxid_ = 0;
  std::int64_t heard_us_ = 0;
  std::int64_t paused_until_us_ = 0;
  std::uint64_t expiries_ = 0;
};

}  // namespace coord::sim
