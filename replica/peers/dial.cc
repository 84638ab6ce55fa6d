#include "replica/peers/dial.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

namespace coord::peers {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {
constexpr auto kAttemptLeast = std::chrono::milliseconds(200);  // for one of several addresses
}  // namespace

Dial::Dial(asio::io_context& context, std::string host, std::uint16_t port, std::chrono::milliseconds limit,
           std::shared_ptr<Endpoints> known, Done done)
    : resolver_(context),
      socket_(context),
      timer_(context),
      host_(std::move(host)),
      port_(port),
      deadline_(std::chrono::steady_clock::now() + limit),
      known_(std::move(known)),
      done_(std::move(done)) {}

void Dial::start() {
  error_code error;
  const auto numeric = asio::ip::make_address(host_, error);
  if (!error) {
    left_ = {tcp::endpoint(numeric, port_)};
    asio::post(socket_.get_executor(), [self = shared_from_this()] { self->next(); });
    return;
  }
  resolving_ = true;
  // Half of the time for the name, so that known addresses can still be tried.
  timer_.expires_at(deadline_ - (deadline_ - std::chrono::steady_clock::now()) / 2);
  timer_.async_wait([self = shared_from_this()](error_code late) {
    if (!late) self->resolve_late();
  });
  resolver_.async_resolve(host_, std::to_string(port_),
                          [self = shared_from_this()](error_code failed, tcp::resolver::results_type found) {
                            self->resolved(failed, found);
                          });
}

void Dial::cancel() {
  done_ = nullptr;
  resolver_.cancel();
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

void Dial::resolved(const error_code& error, const tcp::resolver::results_type& found) {
  if (!done_ || !resolving_) return;
  resolving_ = false;
  timer_.cancel();
  if (error) {
    last_error_ = "cannot resolve " + host_ + ": " + error.message();
    left_ = *known_;
  } else {
    for (const auto& entry : found) left_.push_back(entry.endpoint());
    *known_ = left_;
  }
  next();
}

void Dial::resolve_late() {
  if (!done_ || !resolving_) return;
  resolving_ = false;
  resolver_.cancel();
  last_error_ = "cannot resolve " + host_ + ": no answer in time";
  left_ = *known_;
  next();
}

void Dial::next() {
  if (!done_) return;
  const auto now = std::chrono::steady_clock::now();
  if (left_.empty() || now >= deadline_) return finish(last_error_.empty() ? "no answer in time" : last_error_);
  const tcp::endpoint endpoint = left_.front();
  const auto share = (deadline_ - now) / static_cast<int>(left_.size());
  left_.erase(left_.begin());
  error_code error;
  socket_.close(error);
  socket_.open(endpoint.protocol(), error);
  if (error) {
    last_error_ = error.message();
    asio::post(socket_.get_executor(), [self = shared_from_this()] { self->next(); });
    return;
  }
  const std::uint64_t attempt = ++attempt_;
  timer_.expires_after(std::max<std::chrono::steady_clock::duration>(share, kAttemptLeast));
  timer_.async_wait([self = shared_from_this(), attempt](error_code late) {
    if (late || !self->done_ || attempt != self->attempt_) return;
    ++self->attempt_;
    self->last_error_ = "no answer in time";
    self->next();
  });
  socket_.async_connect(endpoint, [self = shared_from_this(), attempt](error_code failed) {
    if (self->done_ && attempt == self->attempt_) self->connected(failed);
  });
}

void Dial::connected(const error_code& error) {
  ++attempt_;
  timer_.cancel();
  if (!error) return finish("");
  last_error_ = error.message();
  next();
}

void Dial::finish(const std::string& error) {
  const Done done = std::exchange(done_, nullptr);
  timer_.cancel();
  if (!error.empty()) {
    error_code ignored;
    socket_.close(ignored);
  }
  done(std::move(socket_), error);
}

}  // namespace coord::peers
