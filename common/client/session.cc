#include "common/client/session.h"

#include <algorithm>

namespace coord::client {
namespace {

constexpr Millis kDeadlineMax = std::chrono::hours(24 * 365);
constexpr std::int32_t kXidMax = 0x7fffffff;

}  // namespace

Millis Backoff::next() {
  const Millis step = std::min(step_, max_);
  step_ = std::min(step_ * 2, max_);
  const std::int64_t half = step.count() / 2;
  return Millis(step.count() - std::uniform_int_distribution<std::int64_t>(0, half)(random_));
}

Session::Session(Settings settings)
    : settings_(std::move(settings)),
      session_(settings_.session),
      password_(settings_.password),
      xid_(settings_.last_xid) {
  password_.resize(wire::kPasswordSize, '\0');
}

void Session::submit(Request request, Instant now, std::vector<Finished>& finished) {
  if (ended_) {
    finished.push_back({std::move(request.done), end_error_, false});
    return;
  }
  if (pending() >= kRequestsMax) {
    finished.push_back({std::move(request.done), Err::kConnectionLoss, false});
    return;
  }
  Pending pending;
  pending.order = ++order_;
  pending.deadline = now + std::clamp(request.how.deadline, Millis(0), kDeadlineMax);
  pending.request = std::move(request);
  next_deadline_ = std::min(next_deadline_, pending.deadline);
  queue_.push_back(std::move(pending));
}

void Session::finish(Pending& pending, Err err, bool sent, std::vector<Finished>& finished) {
  if (!pending.waited_for) return;
  pending.waited_for = false;
  if (pending.internal) return;
  finished.push_back({std::move(pending.request.done), err, sent || pending.ever_sent});
  pending.request.done = nullptr;
}

void Session::expire_deadlines(Instant now, std::vector<Finished>& finished) {
  if (now < next_deadline_) return;
  next_deadline_ = Instant::max();
  const auto visit = [&](std::deque<Pending>& requests, bool sent) {
    for (Pending& pending : requests) {
      if (!pending.waited_for || pending.internal) continue;
      if (pending.deadline <= now) {
        finish(pending, Err::kOperationTimeout, sent, finished);
      } else {
        next_deadline_ = std::min(next_deadline_, pending.deadline);
      }
    }
  };
  visit(queue_, false);
  visit(in_flight_, true);
  visit(auths_, true);
  std::erase_if(queue_, [](const Pending& pending) { return !pending.waited_for; });
}

void Session::begin_connection(std::string& out) {
  wire::ConnectRequest request;
  request.last_zxid_seen = last_zxid_;
  request.timeout_ms = settings_.timeout_ms;
  request.session = session_;
  request.password = password_;
  request.has_read_only = true;
  const std::size_t at = wire::begin_frame(out);
  wire::Writer w(out);
  write(w, request);
  wire::end_frame(out, at);
  stream_end_ = out.size() - at;
}

void Session::queue_internal(wire::Op op, std::string body) {
  Pending pending;
  pending.internal = true;
  pending.request.op = op;
  pending.request.body = std::move(body);
  control_.push_back(std::move(pending));
}

Session::Handshake Session::handshake(std::string_view payload, Instant now, std::vector<Finished>& finished) {
  wire::Reader r(payload);
  wire::ConnectResponse response = wire::read_connect_response(r);
  if (r.failed()) return Handshake::kRefused;
  if (response.timeout_ms <= 0) {
    if (session_ == 0) return Handshake::kRefused;  // nothing of ours can have expired
    session_ = 0;
    password_.assign(wire::kPasswordSize, '\0');
    watches_.clear();
    if (settings_.renew) {
      finish_all(Err::kSessionExpired, finished);
    } else {
      end(Err::kSessionExpired, finished);
    }
    return Handshake::kExpired;
  }
  if (response.session == 0 || (session_ != 0 && response.session != session_)) return Handshake::kRefused;
  const bool same = session_ != 0;
  session_ = response.session;
  password_ = std::move(response.password);
  timeout_ms_ = response.timeout_ms;
  established_ = true;
  held_ = settings_.hold_after_connect;
  last_receive_ = last_send_ = now;
  for (const std::string& credential : credentials_) queue_internal(wire::Op::kAuth, credential);
  if (same) {
    for (WatchRegistry::Rearm& rearm : watches_.rearm(last_zxid_)) queue_internal(rearm.op, std::move(rearm.body));
  }
  return same ? Handshake::kSameSession : Handshake::kNewSession;
}

std::int32_t Session::next_xid() {
  xid_ = xid_ == kXidMax ? 1 : xid_ + 1;
  return xid_;
}

void Session::put_frame(std::string& out, std::int32_t xid, wire::Op op, std::string_view body) {
  const std::size_t at = wire::begin_frame(out);
  wire::Writer w(out);
  w.i32(xid);
  w.i32(static_cast<std::int32_t>(op));
  w.raw(body);
  wire::end_frame(out, at);
  stream_end_ += out.size() - at;
}

void Session::send(Pending pending, std::string& out) {
  const bool auth = pending.request.op == wire::Op::kAuth;
  pending.xid = auth ? wire::xid::kAuth : next_xid();
  put_frame(out, pending.xid, pending.request.op, pending.request.body);
  pending.stream_end = stream_end_;
  // The bodies that are needed again: of what may have to be repeated, and of what changes the registry of watches.
  const wire::Op op = pending.request.op;
  if (!pending.request.how.resend && !auth && op != wire::Op::kAddWatch && op != wire::Op::kRemoveWatches) {
    pending.request.body = std::string();
  }
  (auth ? auths_ : in_flight_).push_back(std::move(pending));
}

void Session::take_output(std::string& out, Instant now) {
  if (!established_) return;
  const std::size_t before = out.size();
  while (!control_.empty()) {
    send(std::move(control_.front()), out);
    control_.pop_front();
  }
  if (held_) {
    const auto held = [](const Pending& pending) { return !pending.request.how.first; };
    const auto passes = std::stable_partition(queue_.begin(), queue_.end(), held);
    for (auto it = passes; it != queue_.end(); ++it) send(std::move(*it), out);
    queue_.erase(passes, queue_.end());
  } else {
    while (!queue_.empty() && out.size() - before < kWriteBatchMax) {
      send(std::move(queue_.front()), out);
      queue_.pop_front();
    }
  }
  if (out.size() != before) {
    last_send_ = now;
  } else if (now - last_send_ >= Millis(timeout_ms_) / 3) {
    put_frame(out, wire::xid::kPing, wire::Op::kPing, {});
    last_send_ = now;
  }
}

Incoming Session::receive(std::string_view payload, Instant now) {
  last_receive_ = now;
  Incoming in;
  const auto broken = [&](std::string why) {
    in.kind = Incoming::Kind::kBroken;
    in.why = std::move(why);
    return std::move(in);
  };
  wire::Reader r(payload);
  const wire::ReplyHeader header = wire::read_reply_header(r);
  if (r.failed()) return broken("a frame of " + std::to_string(payload.size()) + " bytes, too short for a reply");
  last_zxid_ = std::max(last_zxid_, header.zxid);

  switch (header.xid) {
    case wire::xid::kPing:
      return in;
    case wire::xid::kNotification:
      in.watch = wire::read_watcher_event(r);
      if (r.failed()) return broken("a watch event that does not decode");
      watches_.fired(in.watch);
      in.reply.zxid = header.zxid;
      in.kind = Incoming::Kind::kWatch;
      return in;
    case wire::xid::kChangeEvent:
      read(r, in.change);
      if (r.failed()) return broken("a change event that does not decode");
      in.kind = Incoming::Kind::kChange;
      return in;
    default:
      break;
  }
  std::deque<Pending>& requests = header.xid == wire::xid::kAuth ? auths_ : in_flight_;
  if (requests.empty()) return broken("a reply with xid " + std::to_string(header.xid) + " to no request");
  if (requests.front().xid != header.xid) {
    return broken("a reply with xid " + std::to_string(header.xid) + " where " + std::to_string(requests.front().xid) +
                  " was due");
  }
  Pending pending = std::move(requests.front());
  requests.pop_front();
  return reply(std::move(pending), header, r.rest());
}

Incoming Session::reply(Pending pending, const wire::ReplyHeader& header, std::string_view body) {
  if (pending.request.op == wire::Op::kAuth) {
    const auto known = std::find(credentials_.begin(), credentials_.end(), pending.request.body);
    if (header.err == Err::kOk && known == credentials_.end()) credentials_.push_back(pending.request.body);
    // A credential that is refused now would be refused for ever, and each time cost the connection.
    if (header.err != Err::kOk && known != credentials_.end()) credentials_.erase(known);
  }
  note_watch(pending, header.err);
  Incoming in;
  if (!pending.waited_for || pending.internal) return in;
  in.kind = Incoming::Kind::kReply;
  in.done = std::move(pending.request.done);
  in.reply = {header.err, header.zxid, body, true};
  return in;
}

void Session::note_watch(const Pending& pending, Err err) {
  if (!settings_.rearm_watches) return;
  const Submit& how = pending.request.how;
  using Kind = WatchRegistry::Kind;
  switch (how.watch) {
    case Submit::Watch::kNone:
      break;
    case Submit::Watch::kData:
      if (err == Err::kOk) watches_.add(Kind::kData, how.watch_path);
      break;
    case Submit::Watch::kExist:
      if (err == Err::kOk) watches_.add(Kind::kData, how.watch_path);
      if (err == Err::kNoNode) watches_.add(Kind::kExist, how.watch_path);
      break;
    case Submit::Watch::kChild:
      if (err == Err::kOk) watches_.add(Kind::kChild, how.watch_path);
      break;
  }
  const wire::Op op = pending.request.op;
  if (err != Err::kOk || (op != wire::Op::kAddWatch && op != wire::Op::kRemoveWatches)) return;
  wire::Reader r(pending.request.body);
  const std::string_view path = r.string();
  const std::int32_t number = r.i32();
  if (r.failed()) return;
  if (op == wire::Op::kRemoveWatches) {
    watches_.removed(number, path);
  } else {
    watches_.add(number == 1 ? Kind::kRecursive : Kind::kPersistent, path);
  }
}

void Session::disconnected(std::uint64_t written, std::vector<Finished>& finished) {
  established_ = false;
  held_ = false;
  control_.clear();
  std::deque<Pending> again;
  const auto lose = [&](std::deque<Pending>& requests, bool in_flight) {
    for (Pending& pending : requests) {
      const bool sent = in_flight && pending.stream_end <= written;
      if (pending.waited_for && pending.request.how.resend) {
        pending.ever_sent = pending.ever_sent || sent;
        again.push_back(std::move(pending));
      } else {
        finish(pending, Err::kConnectionLoss, sent, finished);
      }
    }
    requests.clear();
  };
  lose(auths_, true);
  lose(in_flight_, true);
  lose(queue_, false);
  std::sort(again.begin(), again.end(), [](const Pending& a, const Pending& b) { return a.order < b.order; });
  queue_ = std::move(again);
}

void Session::finish_all(Err err, std::vector<Finished>& finished) {
  established_ = false;
  for (Pending& pending : in_flight_) finish(pending, err, true, finished);
  for (Pending& pending : auths_) finish(pending, err, true, finished);
  for (Pending& pending : queue_) finish(pending, err, false, finished);
  in_flight_.clear();
  auths_.clear();
  queue_.clear();
  control_.clear();
  next_deadline_ = Instant::max();
}

void Session::end(Err err, std::vector<Finished>& finished) {
  ended_ = true;
  end_error_ = err;
  finish_all(err, finished);
}

Instant Session::next_wakeup() const {
  Instant at = next_deadline_;
  if (established_) {
    at = std::min(at, last_send_ + Millis(timeout_ms_) / 3);
    at = std::min(at, last_receive_ + Millis(timeout_ms_) * 2 / 3);
  }
  return at;
}

}  // namespace coord::client
