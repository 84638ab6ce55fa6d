#include "tests/sim/replica/session.h"

#include <algorithm>
#include <utility>

namespace coord::sim {

void SimSession::start() {
  connect();
  go_on();
  watchdog();
}

void SimSession::pause_for(std::int64_t ms) { paused_until_us_ = scheduler_.now_us() + ms * kMs; }

void SimSession::leave_connection() {
  if (connection_ == 0) return;
  net_.close(connection_);
  lost();
}

// --- connections

void SimSession::connect_later() {
  scheduler_.after(random_.between(5, 200) * kMs, [this] { connect(); });
}

void SimSession::connect() {
  if (!active_ || connection_ != 0) return;
  if (std::exchange(over_, false)) {
    session_ = 0;
    password_ = std::string(wire::kPasswordSize, '\0');
  }
  replica_ = static_cast<std::uint32_t>(random_.between(1, replicas_));
  if (only_ != 0) replica_ = only_;
  heard_us_ = scheduler_.now_us();
  connection_ = net_.open(number_, replica_);
  if (connection_ == 0) connect_later();
}

void SimSession::connected(std::uint64_t connection) {
  if (connection != connection_) return;
  input_.clear();
  std::string bytes;
  const std::size_t at = wire::begin_frame(bytes);
  wire::Writer out(bytes);
  wire::ConnectRequest request;
  request.last_zxid_seen = last_zxid_;
  request.timeout_ms = timeout_ms_;
  request.session = session_;
  request.password = password_;
  request.has_read_only = true;
  write(out, request);
  wire::end_frame(bytes, at);
  net_.send(connection_, std::move(bytes));
}

void SimSession::closed(std::uint64_t connection) {
  if (connection == connection_) lost();
}

void SimSession::lost() {
  connection_ = 0;
  dropped();
  if (ready_) history_.add(session_record(ns(), number_, session_, history::SessionChange::kDisconnected));
  ready_ = false;
  if (active_) connect_later();
}

// Pings when idle, and gives a silent replica up after two thirds of the timeout, as clients do.
void SimSession::watchdog() {
  scheduler_.after(static_cast<std::int64_t>(timeout_ms_) * kMs / 6, [this] {
    if (!active_) return;
    if (connection_ != 0 && scheduler_.now_us() >= paused_until_us_) {
      if (scheduler_.now_us() - heard_us_ > static_cast<std::int64_t>(timeout_ms_) * kMs * 2 / 3) {
        leave_connection();
      } else if (ready_) {
        ping();
      }
    }
    watchdog();
  });
}

void SimSession::go_on() {
  scheduler_.after(random_.heavy(15 * kMs), [this] {
    if (!active_) return;
    if (ready_ && scheduler_.now_us() >= paused_until_us_) think();
    go_on();
  });
}

// --- bytes

void SimSession::send(std::int32_t xid, wire::Op op, const std::function<void(wire::Writer&)>& body) {
  std::string bytes;
  const std::size_t at = wire::begin_frame(bytes);
  wire::Writer out(bytes);
  out.i32(xid);
  out.i32(static_cast<std::int32_t>(op));
  body(out);
  wire::end_frame(bytes, at);
  net_.send(connection_, std::move(bytes));
}

void SimSession::received(std::uint64_t connection, std::string_view bytes) {
  if (connection != connection_) return;
  input_.append(bytes);
  while (connection == connection_ && input_.size() >= 4) {
    const auto size = static_cast<std::size_t>(wire::load_be<std::int32_t>(input_.data()));
    if (input_.size() < 4 + size) return;
    const std::string payload = input_.substr(4, size);
    input_.erase(0, 4 + size);
    heard_us_ = scheduler_.now_us();
    if (!ready_) {
      handshake(payload);
      continue;
    }
    wire::Reader in(payload);
    const wire::ReplyHeader header = wire::read_reply_header(in);
    if (in.failed()) return on_wrong(18, "a reply without a header");
    if (header.zxid > 0) last_zxid_ = std::max(last_zxid_, header.zxid);
    frame(header, in);
  }
}

void SimSession::handshake(std::string_view payload) {
  wire::Reader in(payload);
  const wire::ConnectResponse response = wire::read_connect_response(in);
  if (in.failed()) return on_wrong(18, "a ConnectResponse that does not decode");
  if (response.timeout_ms == 0) {
    if (session_ != 0) {
      history_.add(session_record(ns(), number_, session_, history::SessionChange::kExpired));
      ++expiries_;
    }
    session_ = 0;
    password_ = std::string(wire::kPasswordSize, '\0');
    ended();
    return leave_connection();
  }
  const bool fresh = session_ == 0;
  if (!fresh && response.session != session_) return on_wrong(18, "another session than the one asked for");
  session_ = response.session;
  password_ = response.password;
  ready_ = true;
  const std::int64_t timeout_ns = static_cast<std::int64_t>(response.timeout_ms) * 1'000'000;
  history_.add(session_record(ns(), number_, session_,
                              fresh ? history::SessionChange::kOpened : history::SessionChange::kMoved, replica_,
                              timeout_ns));
  opened(fresh);
}

}  // namespace coord::sim
