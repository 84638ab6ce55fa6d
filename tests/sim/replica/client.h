// A simulated client that speaks the ZooKeeper protocol over a simulated connection and writes down what it asked and
// what it was told (tests/history/record.h).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "tests/sim/replica/session.h"

namespace coord::sim {

class SimClient final : public SimSession {
 public:
  using SimSession::SimSession;

 private:
  struct Outstanding {
    std::int32_t xid = 0;
    wire::Op op = wire::Op::kError;
    std::uint64_t id = 0;  // in the history; 0: not recorded
    history::Request request;
  };

  void opened(bool) override {}
  void ended() override { versions_.clear(); }
  void dropped() override;
  void frame(const wire::ReplyHeader& header, wire::Reader& in) override;
  void ping() override;
  void think() override;

  void act();
  void event(std::int64_t zxid, wire::Reader& in);
  void answer(const Outstanding& what, const wire::ReplyHeader& header, wire::Reader& in);
  void request(wire::Op op, history::Request request, const std::function<void(wire::Writer&)>& body);

  void create(const std::string& path, wire::CreateMode mode, history::Op op);
  void set(const std::string& path, std::int32_t expected);
  void remove(const std::string& path, std::int32_t expected);
  void read(wire::Op op, history::Op recorded, const std::string& path, bool watch);
  void sync(const std::string& path);

  std::uint64_t next_value_ = 1;
  std::deque<Outstanding> outstanding_;
  std::map<std::string, std::int32_t> versions_;  // last seen
};

}  // namespace coord::sim
