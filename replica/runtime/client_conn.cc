#include "replica/runtime/client_conn.h"

#include <shared_mutex>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/runtime/admin.h"
#include "replica/runtime/core.h"

namespace coord::runtime {
namespace {

using wire::Op;

constexpr std::size_t kQueueMax = 4096;          // requests of one connection behind an unanswered write
constexpr std::size_t kOutputPauseBytes = 32u << 20;   // do not read on before so much is sent
constexpr std::size_t kOutputCloseBytes = 256u << 20;  // a reader so slow that events pile up is closed
constexpr std::size_t kHeaderSize = 8;

}  // namespace

ClientConn::ClientConn(Core& core, std::shared_ptr<net::Stream> stream, ConnId id)
    : core_(core), stream_(std::move(stream)), id_(id), accepted_ms_(Core::now_ms()), last_active_ms_(accepted_ms_) {
  const net::Remote& remote = stream_->remote();
  peer_.conn = id_;
  if (remote.is_unix) {
    peer_.ids = {AuthId{"unix", "u:" + std::to_string(remote.uid)}, AuthId{"unix", "g:" + std::to_string(remote.gid)}};
    peer_.trusted = remote.uid == 0 || core_.config().mount_users.contains(remote.uid);
    peer_.credentials = Credentials{remote.uid, remote.gid, {}};
  } else {
    peer_.ids = {AuthId{"ip", remote.address}};
    peer_.credentials = core_.config().tcp_user;  // a TCP peer proves no user
  }
}

std::size_t ClientConn::queued() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

bool ClientConn::drop() {
  stage_ = Stage::kEnding;
  stream_->request_close(false);
  return false;
}

bool ClientConn::on_bytes(std::string& in) {
  if (stage_ == Stage::kEnding) {
    in.clear();
    return true;
  }
  if (stage_ == Stage::kNew && in.size() >= 4 && four_letter_word(in)) return true;
  std::size_t at = 0;
  bool go_on = true;
  std::vector<tree::Request> writes;
  {
    std::shared_lock<TreeLock> tree_lock(core_.tree_lock());
    while (go_on && stage_ != Stage::kWaiting && stage_ != Stage::kEnding && in.size() - at >= 4) {
      const auto length = wire::load_be<std::int32_t>(in.data() + at);
      if (length <= 0 || length > core_.config().frame_size_max) {
        go_on = drop();
        break;
      }
      if (in.size() - at - 4 < static_cast<std::size_t>(length)) break;
      const std::string_view payload(in.data() + at + 4, static_cast<std::size_t>(length));
      at += 4 + static_cast<std::size_t>(length);
      packets_received_.fetch_add(1, std::memory_order_relaxed);
      core_.traffic().received.fetch_add(1, std::memory_order_relaxed);
      go_on = stage_ == Stage::kNew ? connect_request(payload) : request(payload, writes);
    }
  }
  in.erase(0, at);
  if (connecting_) core_.connect(shared_from_this(), *std::exchange(connecting_, std::nullopt));
  if (!writes.empty()) core_.submit(shared_from_this(), std::move(writes));
  if (stage_ == Stage::kEnding) return true;
  flush();
  if (stage_ == Stage::kWaiting) return false;  // accept_session resumes
  const std::lock_guard lock(mutex_);
  starved_ = queue_.size() >= kQueueMax || out_.size() >= kOutputPauseBytes;
  return !starved_;
}

bool ClientConn::four_letter_word(std::string& in) {
  const std::string_view word(in.data(), 4);
  if (!is_four_letter_word(word)) return false;
  stage_ = Stage::kEnding;
  std::string answer = answer_four_letter_word(core_, word, remote().is_unix);
  {
    const std::lock_guard lock(mutex_);
    out_ += answer;
  }
  in.clear();
  stream_->request_close(true);
  return true;
}

bool ClientConn::connect_request(std::string_view payload) {
  wire::Reader reader(payload);
  wire::ConnectRequest request = wire::read_connect_request(reader);
  if (reader.failed() || !core_.serving()) return drop();
  has_read_only_flag_ = request.has_read_only;
  stage_ = Stage::kWaiting;
  connecting_ = std::move(request);  // handed to the core when the tree lock is free again
  return true;
}

void ClientConn::accept_session(SessionId session, std::int32_t timeout_ms) {
  wire::ConnectResponse response;
  response.timeout_ms = timeout_ms;
  response.session = session.value;
  response.password = core_.password_of(session);
  response.has_read_only = has_read_only_flag_;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    peer_.session = session;
    wire::Writer writer(out_);
    const std::size_t frame = wire::begin_frame(out_);
    write(writer, response);
    wire::end_frame(out_, frame);
    core_.tree().connection_opened(peer_);
  }
  session_.store(session.value, std::memory_order_relaxed);
  connected_.store(true, std::memory_order_relaxed);
  last_active_ms_.store(Core::now_ms(), std::memory_order_relaxed);
  stream_->loop().dispatch([self = shared_from_this()] {
    if (self->stage_ != Stage::kWaiting) return;
    self->stage_ = Stage::kOpen;
    self->flush();
    self->stream_->resume_reading();
  });
}

void ClientConn::refuse_session() {
  wire::ConnectResponse response;
  response.has_read_only = has_read_only_flag_;
  {
    const std::lock_guard lock(mutex_);
    wire::Writer writer(out_);
    const std::size_t frame = wire::begin_frame(out_);
    write(writer, response);
    wire::end_frame(out_, frame);
  }
  stream_->request_close(true);
}

tree::Request ClientConn::make_request(std::int32_t xid, Op op, std::string_view body) const {
  tree::Request request;
  request.session = peer_.session;
  request.xid = xid;
  request.op = op;
  request.body = body;
  request.ids = peer_.ids;
  request.trusted = peer_.trusted;
  request.credentials = peer_.credentials;
  return request;
}

bool ClientConn::request(std::string_view payload, std::vector<tree::Request>& writes) {
  if (payload.size() < kHeaderSize) return drop();
  const auto xid = wire::load_be<std::int32_t>(payload.data());
  const auto op = static_cast<Op>(wire::load_be<std::int32_t>(payload.data() + 4));
  const std::string_view body = payload.substr(kHeaderSize);
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  if (op != Op::kAuth && op != Op::kSasl) last_active_ms_.store(Core::now_ms(), std::memory_order_relaxed);
  if (op == Op::kAuth) return authenticate(xid, body);
  if (op == Op::kSasl) {
    wire::Reader reader(body);
    reader.buffer();
    if (reader.failed()) return drop();
  }
  if (tree::StateMachine::is_write(op, body) && op != Op::kCreateSession && op != Op::kDeleteContainer) {
    writes.push_back(make_request(xid, op, body));
    queue_.push_back(Pending{xid, op, true, {}, {}});
    ++writes_queued_;
    if (op == Op::kCloseSession) stage_ = Stage::kEnding;  // what is pipelined behind it is dropped
    return true;
  }
  const bool answerable = tree::StateMachine::is_read(op) || op == Op::kPing || op == Op::kSync || op == Op::kSasl;
  if (!answerable) {
    unknown_op(xid);
    return false;
  }
  if (queue_.empty()) {
    answer_read(xid, op, body);
  } else {
    queue_.push_back(Pending{xid, op, false, std::string(body), {}});
  }
  return true;
}

// The ids count for every request read after this one; the answer keeps its place in the order.
bool ClientConn::authenticate(std::int32_t xid, std::string_view body) {
  wire::Reader reader(body);
  reader.i32();
  const std::string_view scheme = reader.string();
  const std::string_view credential = reader.string();
  if (reader.failed()) return drop();
  const Err result = core_.tree().authenticate(scheme, credential, peer_.ids);
  std::string reply;
  wire::Writer writer(reply);
  const std::size_t frame = wire::begin_frame(reply);
  write(writer, wire::ReplyHeader{xid, 0, result});
  wire::end_frame(reply, frame);
  if (result == Err::kOk) core_.tree().connection_opened(peer_);
  if (queue_.empty()) {
    out_ += reply;
    packets_sent_.fetch_add(1, std::memory_order_relaxed);
  } else {
    queue_.push_back(Pending{xid, Op::kAuth, false, {}, std::move(reply)});
  }
  if (result == Err::kOk) return true;
  log::warn("client", "authentication failed scheme=\"{}\" from={} session=0x{:x}", scheme, remote().address,
            static_cast<std::uint64_t>(peer_.session.value));
  stage_ = Stage::kEnding;
  stream_->request_close(true);
  return false;
}

void ClientConn::unknown_op(std::int32_t xid) {
  append_reply(xid, -1, Err::kUnimplemented, {});
  stage_ = Stage::kEnding;
  stream_->request_close(true);
}

void ClientConn::answer_read(std::int32_t xid, Op op, std::string_view body) {
  const std::int64_t zxid = core_.tree().last_applied().wire();
  const std::size_t start = out_.size();
  const std::size_t frame = wire::begin_frame(out_);
  wire::Writer writer(out_);
  write(writer, wire::ReplyHeader{xid, zxid, Err::kOk});
  Err result = Err::kOk;
  if (op == Op::kSync) {
    wire::Reader reader(body);
    const auto path = reader.buffer();
    if (reader.failed()) {
      result = Err::kMarshallingError;
    } else {
      writer.buffer(path);
    }
  } else if (op == Op::kSasl) {
    writer.i32(-1);  // SASL is not configured: no token, no error
  } else if (op != Op::kPing) {
    // setWatches answers with events first: they go before this frame.
    std::string early;
    result = core_.tree().read(peer_, op, body, out_, [&](WatchType type, std::string_view path) {
      wire::Writer event(early);
      const std::size_t event_frame = wire::begin_frame(early);
      write(event, wire::ReplyHeader{wire::xid::kNotification, -1, Err::kOk});
      write(event, wire::WatcherEvent{type, kStateSyncConnected, std::string(path)});
      wire::end_frame(early, event_frame);
    });
    if (!early.empty()) {
      // `frame` moves by what is put before it.
      out_.insert(start, early);
      wire::end_frame(out_, frame + early.size());
      packets_sent_.fetch_add(1, std::memory_order_relaxed);
      core_.traffic().sent.fetch_add(1, std::memory_order_relaxed);
      if (result == Err::kOk) return;
      out_.resize(start + early.size());
      append_reply(xid, zxid, result, {});
      return;
    }
  }
  if (result != Err::kOk) {
    out_.resize(start);
    append_reply(xid, zxid, static_cast<std::int32_t>(op) < 1000 ? stock_code(result) : result, {});
    return;
  }
  wire::end_frame(out_, frame);
  packets_sent_.fetch_add(1, std::memory_order_relaxed);
  core_.traffic().sent.fetch_add(1, std::memory_order_relaxed);
}

void ClientConn::append_reply(std::int32_t xid, std::int64_t zxid, Err err, std::string_view body) {
  const std::size_t frame = wire::begin_frame(out_);
  wire::Writer writer(out_);
  write(writer, wire::ReplyHeader{xid, zxid, err});
  writer.raw(body);
  wire::end_frame(out_, frame);
  packets_sent_.fetch_add(1, std::memory_order_relaxed);
  core_.traffic().sent.fetch_add(1, std::memory_order_relaxed);
}

void ClientConn::complete(const tree::Applied& applied, Zxid zxid) {
  bool resume = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    COORD_CHECK_MSG(!queue_.empty() && queue_.front().write && queue_.front().xid == applied.xid,
                    "replies must come in the order of the requests");
    const Err err = static_cast<std::int32_t>(applied.op) < 1000 ? stock_code(applied.err) : applied.err;
    append_reply(applied.xid, zxid.wire(), err, applied.body);
    queue_.pop_front();
    --writes_queued_;
    answer_queued();
    if (starved_ && queue_.size() <= kQueueMax / 2 && out_.size() < kOutputPauseBytes) {
      starved_ = false;
      resume = true;
    }
  }
  if (resume) stream_->resume_reading();
  if (applied.op == Op::kCloseSession) stream_->request_close(true);
}

void ClientConn::answer_queued() {
  while (!queue_.empty() && !queue_.front().write) {
    Pending& next = queue_.front();
    if (!next.reply.empty()) {
      out_ += next.reply;
    } else {
      answer_read(next.xid, next.op, next.body);
    }
    queue_.pop_front();
  }
}

void ClientConn::send_watch_event(WatchType type, std::string_view path, Zxid zxid) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  const std::size_t frame = wire::begin_frame(out_);
  wire::Writer writer(out_);
  write(writer, wire::ReplyHeader{wire::xid::kNotification, zxid.wire(), Err::kOk});
  write(writer, wire::WatcherEvent{type, kStateSyncConnected, std::string(path)});
  wire::end_frame(out_, frame);
  packets_sent_.fetch_add(1, std::memory_order_relaxed);
  core_.traffic().sent.fetch_add(1, std::memory_order_relaxed);
  if (out_.size() > kOutputCloseBytes) {
    closed_ = true;
    stream_->request_close(false);
  }
}

void ClientConn::send_change_event(const wire::ChangeEvent& event) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  const std::size_t frame = wire::begin_frame(out_);
  wire::Writer writer(out_);
  write(writer, wire::ReplyHeader{wire::xid::kChangeEvent, event.zxid, Err::kOk});
  write(writer, event);
  wire::end_frame(out_, frame);
  packets_sent_.fetch_add(1, std::memory_order_relaxed);
  if (out_.size() > kOutputCloseBytes) {
    closed_ = true;
    stream_->request_close(false);
  }
}

void ClientConn::take_output(std::string& out) {
  bool resume = false;
  {
    const std::lock_guard lock(mutex_);
    out.swap(out_);
    if (starved_ && queue_.size() <= kQueueMax / 2) {
      starved_ = false;
      resume = true;
    }
  }
  if (resume) stream_->resume_reading();
}

void ClientConn::on_closed() {
  stage_ = Stage::kEnding;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    std::string().swap(out_);
  }
  core_.closed(shared_from_this());
}

}  // namespace coord::runtime
