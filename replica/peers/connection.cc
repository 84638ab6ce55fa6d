#include "replica/peers/connection.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <utility>

#include "replica/peers/codec.h"

namespace coord::peers {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr std::size_t kChunkBytes = 16 * 1024;     // messages are gathered into these
constexpr std::size_t kSpareChunks = 4;
constexpr std::size_t kBuffersPerWrite = 64;       // what one system call takes
constexpr std::size_t kPieceBytes = 1u << 20;      // of a larger message, made a frame at once
constexpr auto kPartEvery = std::chrono::milliseconds(50);  // what does not come whole is answered with a sign of life
constexpr std::size_t kReadStranger = 4 * 1024;
constexpr std::size_t kReadElection = 4 * 1024;
constexpr std::size_t kReadLearner = 128 * 1024;
constexpr int kUnansweredMs = 5'000;               // TCP_USER_TIMEOUT
constexpr int kKeepIdleS = 2, kKeepIntervalS = 1, kKeepCount = 3;

void set_options(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&socket](int name, int value) {
    static_cast<void>(::setsockopt(socket.native_handle(), IPPROTO_TCP, name, &value, sizeof value));
  };
  set(TCP_USER_TIMEOUT, kUnansweredMs);
  set(TCP_KEEPIDLE, kKeepIdleS);
  set(TCP_KEEPINTVL, kKeepIntervalS);
  set(TCP_KEEPCNT, kKeepCount);
}

std::string shown(const tcp::socket& socket) {
  boost::system::error_code error;
  const tcp::endpoint end = socket.remote_endpoint(error);
  if (error) return "an address that is gone";
  asio::ip::address address = end.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  const std::string text = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
  return text + ":" + std::to_string(end.port());
}

bool is_end(const boost::system::error_code& error) {
  return error == asio::error::eof || error == asio::ssl::error::stream_truncated ||
         error == asio::error::connection_reset || error == asio::error::broken_pipe;
}

}  // namespace

Connection::Connection(tcp::socket socket, asio::ssl::context* tls, const Limits& limits, ConnectionOwner& owner,
                       std::unique_ptr<Handshake> handshake)
    : socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      limits_(limits),
      owner_(&owner),
      handshake_(std::move(handshake)),
      dialed_(handshake_->dialed()),
      address_(shown(socket_)),
      heard_at_(std::chrono::steady_clock::now()) {
  set_options(socket_);
  if (tls != nullptr) tls_.emplace(socket_, *tls);
}

void Connection::start() {
  arm(limits_.handshake);
  if (!tls_) return begin_handshake();
  state_ = State::kTls;
  const auto side = dialed_ ? asio::ssl::stream_base::client : asio::ssl::stream_base::server;
  tls_->async_handshake(side, [self = shared_from_this()](const Error& error) { self->tls_done(error); });
}

void Connection::tls_done(const Error& error) {
  if (state_ != State::kTls) return;
  if (!error) return begin_handshake();
  tls_failed_ = !is_end(error) && error != asio::error::operation_aborted;
  give_up(tls_failed_ ? error.message() : "TLS: " + error.message());
}

void Connection::begin_handshake() {
  state_ = State::kHandshake;
  std::string& chunk = chunk_for(kHelloBytesMax);
  const std::size_t before = chunk.size();
  handshake_->start(writer_, chunk);
  add(chunk.size() - before);
  flush();
  read();
}

// ---------------------------------------------------------------- in

void Connection::read() {
  if (reading_ || state_ == State::kEnded) return;
  reading_ = true;
  auto done = [self = shared_from_this()](const Error& error, std::size_t count) { self->read_done(error, count); };
  if (state_ == State::kLinger) return socket_.async_read_some(asio::buffer(drain_), std::move(done));
  std::size_t least = kReadStranger;
  if (state_ == State::kUp) {
    least = handshake_->peer()->channel == zab::Channel::kLearner ? kReadLearner : kReadElection;
  }
  const FrameReader::Room room = reader_.room(least);
  const auto buffer = asio::buffer(room.data, room.size);
  tls_ ? tls_->async_read_some(buffer, std::move(done)) : socket_.async_read_some(buffer, std::move(done));
}

void Connection::read_done(const Error& error, std::size_t count) {
  reading_ = false;
  if (state_ == State::kEnded) return;
  if (state_ == State::kLinger) return error ? end() : read();
  if (error) {
    tls_failed_ = state_ == State::kHandshake && error.category() == asio::error::get_ssl_category();
    return give_up(error == asio::error::eof || error == asio::ssl::error::stream_truncated ? "closed by the other side"
                                                                                        : error.message());
  }
  heard_at_ = std::chrono::steady_clock::now();
  reader_.wrote(count);
  if (state_ == State::kHandshake) advance_handshake();
  if (state_ == State::kUp) deliver();
  read();
}

void Connection::advance_handshake() {
  const bool speaks_tls = !tls_ && reader_.rest().substr(0, 2) == "\x16\x03";
  std::string& chunk = chunk_for(kHelloBytesMax);
  const std::size_t before = chunk.size();
  const auto progress = handshake_->advance(reader_, writer_, chunk);
  add(chunk.size() - before);
  if (progress == Handshake::Progress::kMore) return flush();
  if (progress == Handshake::Progress::kRefused) {
    const auto self = shared_from_this();
    finish();
    if (owner_ == nullptr) return;
    if (speaks_tls) return owner_->broken(self, "it speaks TLS and this server does not (coord.peerTls.*)");
    return owner_->refused(self);
  }
  reader_.set_payload_max(kMessageMax);
  state_ = State::kUp;
  timer_.cancel();
  flush();
  if (owner_ != nullptr) owner_->came_up(shared_from_this());
}

// Everything whole that has arrived, in one call.
void Connection::deliver() {
  std::vector<zab::Message> messages;
  std::string why;
  while (true) {
    std::string_view payload;
    const auto status = reader_.next(payload);
    if (status == FrameReader::Status::kNothing) break;
    if (status == FrameReader::Status::kBad) {
      why = reader_.error();
      break;
    }
    if (payload.empty()) continue;  // alive
    auto message = decode(payload);
    if (!message) {
      why = "a message that cannot be decoded";
      break;
    }
    messages.push_back(std::move(*message));
  }
  const auto self = shared_from_this();
  if (messages.empty() && why.empty()) return note_part();
  if (!messages.empty() && owner_ != nullptr) owner_->received(self, std::move(messages));
  if (!why.empty() && state_ == State::kUp) give_up(why);
}

// A message may be long on its way, and those behind it wait, pings too: its progress is a sign of life for this side,
// and its sender gets one.
void Connection::note_part() {
  const bool answer = reader_.within_message() && heard_at_ - answered_at_ >= kPartEvery;
  if (answer) {
    answered_at_ = heard_at_;
    ping();
    flush();
  }
  if (owner_ != nullptr) owner_->heard(shared_from_this());
}

// ---------------------------------------------------------------- out

std::string& Connection::chunk_for(std::size_t bytes) {
  if (!queue_.empty() && queue_.back().capacity() - queue_.back().size() >= bytes) return queue_.back();
  if (bytes <= kChunkBytes && !spare_.empty()) {
    queue_.push_back(std::move(spare_.back()));
    spare_.pop_back();
  } else {
    queue_.emplace_back().reserve(std::max(bytes, kChunkBytes));
  }
  return queue_.back();
}

void Connection::add(std::size_t bytes) { queued_ += bytes; }

bool Connection::send(const zab::Message& message) {
  if (state_ != State::kUp || doomed_) return true;
  if (queued_ > limits_.queue_max) {
    fail_later("it does not read: " + std::to_string(queued_ >> 20) + " MiB are waiting for it");
    return false;
  }
  const std::size_t size = encoded_size(message);
  if (size <= kPieceBytes && unframed_.empty()) {
    std::string& chunk = chunk_for(writer_.header_bytes() + size);
    const std::size_t begun = writer_.begin(chunk);
    encode(message, chunk);
    writer_.end(chunk, begun);
    add(chunk.size() - begun);
  } else {
    std::string& whole = unframed_.emplace_back();
    whole.reserve(size);
    encode(message, whole);
    add(whole.size());
  }
  if (queued_ <= limits_.queue_high) return true;
  above_high_ = true;
  return false;
}

void Connection::ping() {
  if (state_ != State::kUp || doomed_ || queued_ > 0) return;
  std::string& chunk = chunk_for(writer_.header_bytes());
  const std::size_t before = chunk.size();
  writer_.put("", chunk);
  add(chunk.size() - before);
}

void Connection::flush() {
  if (!writing_now_ && state_ != State::kEnded && state_ != State::kTls) write();
}

void Connection::frame_more() {
  for (std::size_t framed = 0; framed < kPieceBytes && !unframed_.empty();) {
    const std::string& whole = unframed_.front();
    const std::string_view piece = std::string_view(whole).substr(framed_, kPieceBytes);
    std::string& chunk = chunk_for(writer_.header_bytes() + piece.size());
    const std::size_t begun = writer_.begin(chunk);
    chunk.append(piece);
    framed_ += piece.size();
    framed += piece.size();
    writer_.end(chunk, begun, framed_ < whole.size());
    add(writer_.header_bytes());
    if (framed_ < whole.size()) continue;
    unframed_.pop_front();
    framed_ = 0;
  }
}

void Connection::write() {
  if (writing_.empty()) {
    if (queue_.empty()) frame_more();
    writing_.swap(queue_);
  }
  std::vector<asio::const_buffer> buffers;
  buffers.reserve(std::min(writing_.size(), kBuffersPerWrite));
  for (const std::string& chunk : writing_) {
    const std::size_t skip = &chunk == &writing_.front() ? written_ : 0;
    if (chunk.size() > skip) buffers.push_back(asio::buffer(chunk.data() + skip, chunk.size() - skip));
    if (buffers.size() == kBuffersPerWrite) break;
  }
  if (buffers.empty()) {
    writing_.clear();
    written_ = 0;
    if (state_ != State::kLinger || shut_) return;
    shut_ = true;  // all is sent: say so, and wait for the other side to see it
    Error error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    return error ? end() : read();
  }
  writing_now_ = true;
  auto done = [self = shared_from_this()](const Error& error, std::size_t count) { self->write_done(error, count); };
  tls_ ? tls_->async_write_some(buffers, std::move(done)) : socket_.async_write_some(buffers, std::move(done));
}

void Connection::write_done(const Error& error, std::size_t count) {
  writing_now_ = false;
  if (state_ == State::kEnded) return;
  if (error) {
    if (state_ == State::kLinger) return end();
    return give_up(error.message());
  }
  queued_ -= count;
  written_ += count;
  while (!writing_.empty() && written_ >= writing_.front().size()) {
    written_ -= writing_.front().size();
    recycle();
  }
  write();
  if (!above_high_ || queued_ >= limits_.queue_low || state_ != State::kUp) return;
  above_high_ = false;
  if (owner_ != nullptr) owner_->writable(shared_from_this());
}

void Connection::recycle() {
  std::string chunk = std::move(writing_.front());
  writing_.pop_front();
  if (spare_.size() >= kSpareChunks || chunk.capacity() > 2 * kChunkBytes) return;
  chunk.clear();
  spare_.push_back(std::move(chunk));
}

// ---------------------------------------------------------------- the end

void Connection::arm(TransportOptions::Ms limit) {
  timer_.expires_after(limit);
  timer_.async_wait([self = shared_from_this()](const Error& error) {
    if (error) return;
    if (self->state_ == State::kLinger) return self->end();
    if (self->state_ == State::kTls || self->state_ == State::kHandshake) {
      self->give_up("the handshake was not done in time");
    }
  });
}

void Connection::give_up(const std::string& why) {
  if (state_ == State::kLinger || state_ == State::kEnded) return;
  const auto self = shared_from_this();
  const bool was_up = state_ == State::kUp;
  // What is queued is not for anybody any more; but an alert of TLS may still be on its way.
  queue_.clear();
  unframed_.clear();
  framed_ = 0;
  if (tls_failed_) {
    finish();
  } else {
    drop();
  }
  if (owner_ == nullptr) return;
  was_up ? owner_->lost(self, why) : owner_->broken(self, why);
}

void Connection::fail_later(const std::string& why) {
  doomed_ = true;
  asio::post(socket_.get_executor(), [self = shared_from_this(), why] { self->give_up(why); });
}

void Connection::finish() {
  if (state_ == State::kLinger || state_ == State::kEnded) return;
  if (state_ == State::kNew || (state_ == State::kTls && !tls_failed_)) return drop();
  state_ = State::kLinger;
  arm(limits_.linger);
  if (!writing_now_) write();
}

void Connection::drop() {
  if (state_ != State::kEnded) end();
}

void Connection::disown() {
  owner_ = nullptr;
  drop();
}

void Connection::end() {
  state_ = State::kEnded;
  timer_.cancel();
  Error ignored;
  socket_.close(ignored);
  queued_ = 0;
  // Told later: whoever closed is not to be called from within.
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->owner_ != nullptr) self->owner_->ended(self);
  });
}

}  // namespace coord::peers
