// A simulated client of a replica that speaks the ZooKeeper protocol over a simulated connection and writes down what
// it asked and what it was told (tests/history/record.h). It keeps its session over reconnections, to the same replica
// or another.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/wire/protocol.h"
#include "tests/history/record.h"
#include "tests/sim/random.h"
#include "tests/sim/scheduler.h"

namespace coord::sim {

// What a client needs of the world: connections by number, bytes in order.
class ClientNet {
 public:
  virtual ~ClientNet() = default;
  // 0: refused. The answer comes by SimClient::connected or ::closed, never inside.
  virtual std::uint64_t open(std::uint32_t client, std::uint32_t replica) = 0;
  virtual void send(std::uint64_t connection, std::string bytes) = 0;
  virtual void close(std::uint64_t connection) = 0;
};

class SimClient {
 public:
  SimClient(std::uint32_t number, int replicas, std::int32_t timeout_ms, Scheduler& scheduler, Random& random,
            ClientNet& net, history::History& history);

  void start();  // connects, and goes on by itself until stop()
  void stop() { active_ = false; }
  void pause_for(std::int64_t ms);
  void leave_connection();  // and reconnects elsewhere

  // --- from the world
  void connected(std::uint64_t connection);
  void received(std::uint64_t connection, std::string_view bytes);
  void closed(std::uint64_t connection);

  std::uint32_t number() const { return number_; }
  bool in_session() const { return ready_; }
  std::uint64_t answers() const { return answers_; }
  std::int64_t session() const { return session_; }
  std::uint64_t expiries() const { return expiries_; }
  std::function<void(const std::string&)> on_wrong;  // a reply that breaks the protocol

 private:
  struct Outstanding {
    std::int32_t xid = 0;
    wire::Op op = wire::Op::kError;
    std::uint64_t id = 0;  // in the history; 0: not recorded
    history::Request request;
  };

  std::int64_t ns() const { return scheduler_.now_us() * 1000; }
  void connect_later();
  void connect();
  void lost();
  void think();
  void act();
  void watchdog();
  void handshake(std::string_view payload);
  void frame(std::string_view payload);
  void event(std::int64_t zxid, wire::Reader& in);
  void answer(const Outstanding& what, const wire::ReplyHeader& header, wire::Reader& in);
  void request(wire::Op op, history::Request request, const std::function<void(wire::Writer&)>& body);

  void create(const std::string& path, wire::CreateMode mode, history::Op op);
  void set(const std::string& path, std::int32_t expected);
  void remove(const std::string& path, std::int32_t expected);
  void read(wire::Op op, history::Op recorded, const std::string& path, bool watch);
  void sync(const std::string& path);

  const std::uint32_t number_;
  const int replicas_;
  const std::int32_t timeout_ms_;
  Scheduler& scheduler_;
  Random& random_;
  ClientNet& net_;
  history::History& history_;
  bool active_ = true;
  bool ready_ = false;       // in a session
  std::uint64_t connection_ = 0;
  std::uint32_t replica_ = 0;
  std::string input_;
  std::int64_t session_ = 0;
  std::string password_ = std::string(wire::kPasswordSize, '\0');
  std::int64_t last_zxid_ = 0;
  std::int32_t next_xid_ = 1;
  std::uint64_t next_value_ = 1;
  std::deque<Outstanding> outstanding_;
  std::map<std::string, std::int32_t> versions_;  // last seen
  std::int64_t heard_us_ = 0;
  std::int64_t paused_until_us_ = 0;
  std::uint64_t answers_ = 0;
  std::uint64_t expiries_ = 0;
  std::uint64_t connects_ = 0;
};

}  // namespace coord::sim
