// A simulated client that does nothing by itself but ping: a test says what it asks, and when, and looks at each
// answer.
// What it asks is in the history as well, unless the test switches that off.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/replica/session.h"

namespace coord::sim {

class ScriptedClient final : public SimSession {
 public:
  using SimSession::SimSession;

  // One request. The numbers of requests ascend in the order of asking.
  struct Asked {
    wire::Op op = wire::Op::kError;
    std::string path;
    std::string value;          // as written
    std::uint64_t opening = 0;  // the connection that it was sent on, see openings()
    bool answered = false;
    bool lost = false;          // the connection ended before the answer, or there was none
    Err err = Err::kOk;
    std::int64_t zxid = 0;      // of the answer's header
    std::string body;           // of the answer
    bool ok() const { return answered && err == Err::kOk; }
  };
  using Number = std::size_t;

  Number create(const std::string& path, wire::CreateMode mode = wire::CreateMode::kPersistent);
  Number set(const std::string& path);
  Number remove(const std::string& path);
  Number get(const std::string& path);
  Number exists(const std::string& path);
  Number sync(const std::string& path);
  Number close();  // the session; the next connection opens another one
  // Operations of one multi, put together by the functions below.
  Number multi(const std::string& operations);
  static std::string multi_create(const std::string& path, wire::CreateMode mode);
  static std::string multi_remove(const std::string& path);

  const Asked& asked(Number number) const { return asked_[number]; }
  const std::deque<Asked>& all() const { return asked_; }
  bool over(Number number) const { return asked_[number].answered || asked_[number].lost; }
  bool ok(Number number) const { return asked_[number].ok(); }
  std::string value(Number get) const;  // that a get was answered with
  std::string name(Number create) const;  // the path that a create was answered with
  bool idle() const { return outstanding_.empty(); }
  std::uint64_t openings() const { return openings_; }  // connections that became a session's, so far

  bool records = true;          // in the history; that it closes its session is there in any case
  std::function<void()> work;   // called once in a while, in a session, in place of a ping

 private:
  struct Outstanding {
    std::int32_t xid = 0;
    bool is_ping = false;
    Number number = 0;
    std::uint64_t id = 0;  // in the history; 0: not recorded
  };

  void opened(bool) override { ++openings_; }
  void ended() override {}
  void dropped() override;
  void frame(const wire::ReplyHeader& header, wire::Reader& in) override;
  void ping() override;
  void think() override;

  Number request(wire::Op op, history::Request request, const std::function<void(wire::Writer&)>& body);
  void record_answer(const Outstanding& what, const Asked& asked);

  std::deque<Asked> asked_;
  std::deque<Outstanding> outstanding_;  // on this connection
  std::uint64_t openings_ = 0;
  std::uint64_t next_value_ = 1;
  std::int64_t told_zxid_ = 0;
};

}  // namespace coord::sim
