#include "replica/runtime/client_conn.h"

#include <algorithm>
#include <limits>
#include <shared_mutex>

#include "common/base/check.h"
#include "common/base/log.h"
#include "replica/runtime/admin.h"
#include "replica/runtime/core.h"

namespace coord::runtime {
namespace {

using wire::Op;

constexpr std::size_t kQueueMax = 4096;              // requests of one connection behind an unanswered write
constexpr std::size_t kQueueBytesMax = 2u << 20;     // and what they take
// Reads of it that wait for their turn. All of them are answered at once when a write behind them is applied, no matter
// how much waits to be sent. More than the hundred that a fast client has on its way, or pipelines would stall.
constexpr std::size_t kQueuedReadsMax = 128;
constexpr std::size_t kOutputPauseBytes = 4u << 20;  // nothing more is answered before so much is sent
constexpr std::size_t kEventBytesMax = 64u << 20;    // a reader so slow that events pile up is closed
constexpr std::size_t kIdsMax = 64;                  // of one connection; each request has them with it
constexpr std::size_t kIdsBytesMax = 64u << 10;
constexpr std::int64_t kTurnUs = 10'000;             // requests are answered for so long before others have their turn
constexpr std::int32_t kConnectRequestMax = 4096;    // 45 bytes are usual; strangers do not get jute.maxbuffer
constexpr std::size_t kHeaderSize = 8;

std::size_t bytes_of(const std::vector<AuthId>& ids) {
  std::size_t bytes = 0;
  for (const AuthId& id : ids) bytes += id.scheme.size() + id.id.size();
  return bytes;
}

}  // namespace

ClientConn::ClientConn(Core& core, std::shared_ptr<net::Stream> stream, ConnId id)
    : core_(core), stream_(std::move(stream)), id_(id), accepted_ms_(core.now_ms()), last_active_ms_(accepted_ms_) {
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
  ids_bytes_ = bytes_of(peer_.ids);
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
  for (;;) {
    const bool was_new = stage_ == Stage::kNew;
    take_frames(in);
    if (stage_ == Stage::kEnding) return true;
    const bool connecting = was_new && stage_ != Stage::kNew;
    flush();
    if (connecting) return false;  // accept_session resumes, if it has not asked for that already
    if (stage_ == Stage::kNew) return true;
    const std::lock_guard lock(mutex_);
    starved_ = full();
    if (starved_) return false;  // complete, drain or take_output resumes
    if (turn_over_) {
      stream_->resume_reading();  // posted
      return false;
    }
    if (!full_) return true;
  }
}

// Handles whole frames from the front of `in`, until no more is there or the client has to wait for its answers or for
// its next turn: the tree is not held for all that it may ask for in one piece.
void ClientConn::take_frames(std::string& in) {
  std::size_t at = 0;
  bool go_on = true;
  std::vector<tree::Request> writes;
  full_ = false;
  turn_over_ = false;
  {
    std::shared_lock<TreeLock> tree_lock(core_.tree_lock());
    const std::int64_t until_us = core_.now_us() + kTurnUs;
    while (go_on && !full_ && !turn_over_ && stage_ != Stage::kWaiting && stage_ != Stage::kEnding &&
           in.size() - at >= 4) {
      const auto length = wire::load_be<std::int32_t>(in.data() + at);
      const std::int32_t most = core_.config().frame_size_max;
      if (length <= 0 || length > (stage_ == Stage::kNew ? std::min(most, kConnectRequestMax) : most)) {
        drop();
        break;
      }
      if (in.size() - at - 4 < static_cast<std::size_t>(length)) break;
      const std::string_view payload(in.data() + at + 4, static_cast<std::size_t>(length));
      at += 4 + static_cast<std::size_t>(length);
      packets_received_.fetch_add(1, std::memory_order_relaxed);
      core_.traffic().received.fetch_add(1, std::memory_order_relaxed);
      go_on = stage_ == Stage::kNew ? connect_request(payload) : request(payload, writes);
      turn_over_ = core_.now_us() >= until_us;
    }
  }
  in.erase(0, at);
  if (connecting_) core_.connect(shared_from_this(), *std::exchange(connecting_, std::nullopt));
  if (!writes.empty()) core_.submit(shared_from_this(), std::move(writes));
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

bool ClientConn::accept_session(SessionId session, std::int32_t timeout_ms) {
  wire::ConnectResponse response;
  response.timeout_ms = timeout_ms;
  response.session = session.value;
  response.password = core_.password_of(session);
  response.has_read_only = has_read_only_flag_;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    peer_.session = session;
    wire::Writer writer(out_);
    const std::size_t frame = wire::begin_frame(out_);
    write(writer, response);
    wire::end_frame(out_, frame);
    core_.tree().connection_opened(peer_);
  }
  session_.store(session.value, std::memory_order_relaxed);
  connected_.store(true, std::memory_order_relaxed);
  last_active_ms_.store(core_.now_ms(), std::memory_order_relaxed);
  stream_->loop().dispatch([self = shared_from_this()] {
    if (self->stage_ != Stage::kWaiting) return;
    self->stage_ = Stage::kOpen;
    self->flush();
    self->stream_->resume_reading();
  });
  return true;
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
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  const bool go_on = handle(xid, op, payload.substr(kHeaderSize), writes);
  full_ = full();
  return go_on;
}

void ClientConn::note_sign_of_life() { last_active_ms_.store(core_.now_ms(), std::memory_order_relaxed); }

bool ClientConn::handle(std::int32_t xid, Op op, std::string_view body, std::vector<tree::Request>& writes) {
  if (op != Op::kAuth && op != Op::kSasl) note_sign_of_life();
  if (op == Op::kAuth) return authenticate(xid, body);
  if (op == Op::kSasl) {
    wire::Reader reader(body);
    reader.buffer();
    if (reader.failed()) return drop();
  }
  if (tree::StateMachine::is_write(op, body) && op != Op::kCreateSession && op != Op::kDeleteContainer) {
    writes.push_back(make_request(xid, op, body));
    const bool last = op == Op::kCloseSession;
    enqueue(Pending{xid, op, Wait::kApply, last, {}, {}, body.size() + ids_bytes_});
    if (last) stage_ = Stage::kEnding;  // what is pipelined behind it is dropped
    return true;
  }
  if (op == Op::kSync && core_.sync_asks_leader()) {
    // In order with the writes before it, up to the leader.
    writes.push_back(make_request(xid, op, {}));
    enqueue(Pending{xid, op, Wait::kLeader, false, std::string(body), {}, body.size()});
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
    enqueue(Pending{xid, op, Wait::kNothing, false, std::string(body), {}, body.size()});
  }
  return true;
}

void ClientConn::enqueue(Pending pending) {
  queued_bytes_ += pending.bytes;
  if (pending.wait == Wait::kNothing) ++queued_reads_;
  queue_.push_back(std::move(pending));
}

void ClientConn::pop_front() {
  queued_bytes_ -= queue_.front().bytes;
  if (queue_.front().wait == Wait::kNothing) --queued_reads_;
  queue_.pop_front();
}

bool ClientConn::full() const {
  return queue_.size() >= kQueueMax || queued_bytes_ >= kQueueBytesMax || queued_reads_ >= kQueuedReadsMax ||
         out_.size() >= kOutputPauseBytes;
}

// True once when the reading that was paused can go on.
bool ClientConn::may_resume() {
  if (!starved_ || queue_.size() > kQueueMax / 2 || queued_bytes_ > kQueueBytesMax / 2 ||
      queued_reads_ > kQueuedReadsMax / 2 || out_.size() >= kOutputPauseBytes) {
    return false;
  }
  starved_ = false;
  return true;
}

// Bytes that are an answer already: in their turn.
void ClientConn::answer_ready(std::string reply, bool last) {
  if (!queue_.empty()) {
    const std::size_t bytes = reply.size();
    enqueue(Pending{0, Op::kError, Wait::kNothing, last, {}, std::move(reply), bytes});
    return;
  }
  out_ += reply;
  if (last) stream_->request_close(true);
}

std::string ClientConn::encode_reply(std::int32_t xid, std::int64_t zxid, Err err, std::string_view body) {
  std::string reply;
  const std::size_t frame = wire::begin_frame(reply);
  wire::Writer writer(reply);
  write(writer, wire::ReplyHeader{xid, zxid, err});
  writer.raw(body);
  wire::end_frame(reply, frame);
  packets_sent_.fetch_add(1, std::memory_order_relaxed);
  core_.traffic().sent.fetch_add(1, std::memory_order_relaxed);
  return reply;
}

// The ids count for every request read after this one; the answer keeps its place in the order.
bool ClientConn::authenticate(std::int32_t xid, std::string_view body) {
  wire::Reader reader(body);
  reader.i32();
  const std::string_view scheme = reader.string();
  const std::string_view credential = reader.string();
  if (reader.failed()) return drop();
  std::vector<AuthId> ids = peer_.ids;
  Err result = core_.tree().authenticate(scheme, credential, ids);
  const std::size_t bytes = bytes_of(ids);
  const bool too_many = result == Err::kOk && (ids.size() > kIdsMax || bytes > kIdsBytesMax);
  if (too_many) result = Err::kAuthFailed;
  const bool failed = result != Err::kOk;
  if (!failed) {
    peer_.ids = std::move(ids);
    ids_bytes_ = bytes;
    core_.tree().connection_opened(peer_);
  }
  answer_ready(encode_reply(xid, 0, result, {}), failed);
  if (!failed) return true;
  const std::string why = too_many ? std::to_string(kIdsMax) + " ids of " + std::to_string(kIdsBytesMax) +
                                         " bytes in all are the most that a connection may have"
                                   : "unknown scheme or wrong credential";
  log::warn("client", "authentication failed scheme=\"{}\" from={} session=0x{:x}: {}", scheme.substr(0, 64),
            remote().address, static_cast<std::uint64_t>(peer_.session.value), why);
  stage_ = Stage::kEnding;
  return false;
}

void ClientConn::unknown_op(std::int32_t xid) {
  answer_ready(encode_reply(xid, -1, Err::kUnimplemented, {}), true);
  stage_ = Stage::kEnding;
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

// Behind it they would show what comes later, and leave their watches too late for it.
void ClientConn::before_write() {
  const std::lock_guard lock(mutex_);
  if (!closed_) answer_queued(std::numeric_limits<std::size_t>::max());
}

void ClientConn::complete(const tree::Applied& applied, Zxid zxid) {
  bool resume = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    // before_write has answered what stood before it.
    COORD_CHECK_MSG(!queue_.empty() && queue_.front().wait == Wait::kApply && queue_.front().xid == applied.xid,
                    "replies must come in the order of the requests");
    const Err err = static_cast<std::int32_t>(applied.op) < 1000 ? stock_code(applied.err) : applied.err;
    append_reply(applied.xid, zxid.wire(), err, applied.body);
    if (queue_.front().last) stream_->request_close(true);
    pop_front();
    answer_queued(kOutputPauseBytes);
    resume = may_resume();
  }
  if (resume) stream_->resume_reading();
}

void ClientConn::complete_sync() {
  bool resume = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    const auto sync =
        std::find_if(queue_.begin(), queue_.end(), [](const Pending& p) { return p.wait == Wait::kLeader; });
    COORD_CHECK_MSG(sync != queue_.end(), "a sync is answered that nobody asked for");
    sync->wait = Wait::kNothing;
    ++queued_reads_;
    answer_queued(kOutputPauseBytes);
    resume = may_resume();
  }
  if (resume) stream_->resume_reading();
}

// Stops at a write that is not applied yet or a sync that is not confirmed, and when much is waiting to be sent: then
// take_output goes on.
void ClientConn::answer_queued(std::size_t output_max) {
  while (!queue_.empty() && queue_.front().wait == Wait::kNothing && out_.size() < output_max) {
    const Pending& next = queue_.front();
    if (!next.reply.empty()) {
      out_ += next.reply;
    } else {
      answer_read(next.xid, next.op, next.body);
    }
    if (next.last) stream_->request_close(true);
    pop_front();
  }
}

void ClientConn::drain() {
  bool resume = false;
  {
    const std::shared_lock<TreeLock> tree_lock(core_.tree_lock());
    const std::lock_guard lock(mutex_);
    drain_posted_ = false;
    if (closed_) return;
    answer_queued(kOutputPauseBytes);
    resume = may_resume();
  }
  flush();
  if (resume) stream_->resume_reading();
}

void ClientConn::send_watch_event(WatchType type, std::string_view path, Zxid zxid) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  const std::size_t frame = wire::begin_frame(out_);
  wire::Writer writer(out_);
  write(writer, wire::ReplyHeader{wire::xid::kNotification, zxid.wire(), Err::kOk});
  write(writer, wire::WatcherEvent{type, kStateSyncConnected, std::string(path)});
  wire::end_frame(out_, frame);
  count_event(out_.size() - frame);
}

void ClientConn::send_change_event(const wire::ChangeEvent& event) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  const std::size_t frame = wire::begin_frame(out_);
  wire::Writer writer(out_);
  write(writer, wire::ReplyHeader{wire::xid::kChangeEvent, event.zxid, Err::kOk});
  write(writer, event);
  wire::end_frame(out_, frame);
  count_event(out_.size() - frame);
}

void ClientConn::count_event(std::size_t bytes) {
  packets_sent_.fetch_add(1, std::memory_order_relaxed);
  core_.traffic().sent.fetch_add(1, std::memory_order_relaxed);
  event_bytes_ += bytes;
  if (event_bytes_ <= kEventBytesMax) return;
  log::warn("client", "too slow for its watch events, closed from={} session=0x{:x}", remote().address,
            static_cast<std::uint64_t>(peer_.session.value));
  closed_ = true;
  stream_->request_close(false);
}

// Called again when what was lent before has been sent.
void ClientConn::take_output(std::string& out) {
  bool resume = false;
  bool go_on = false;
  {
    const std::lock_guard lock(mutex_);
    out.swap(out_);
    event_bytes_ = 0;
    go_on = !closed_ && !drain_posted_ && !queue_.empty() && queue_.front().wait == Wait::kNothing &&
            out_.size() < kOutputPauseBytes;
    if (go_on) drain_posted_ = true;
    resume = may_resume();
  }
  // Posted: the caller may hold the tree lock.
  if (go_on) stream_->loop().post([self = shared_from_this()] { self->drain(); });
  if (resume) stream_->resume_reading();
}

void ClientConn::on_closed() {
  stage_ = Stage::kEnding;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    std::string().swap(out_);
    queue_.clear();
    queued_bytes_ = 0;
    queued_reads_ = 0;
  }
  core_.closed(shared_from_this());
}

}  // namespace coord::runtime
