// The shell around session.h: one thread, one io_context, at most one Link at a time.
#include "common/client/client.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "common/base/log.h"
#include "common/client/link.h"
#include "common/client/session.h"

namespace coord::client {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr Millis kStable{1000};  // a connection that lived so long counts as a success for the back-off
constexpr int kStopPasses = 16;  // how often completions may submit again while the client stops

std::string name_of(const Server& server) {
  if (!server.unix_path.empty()) return "unix:" + server.unix_path;
  const bool ipv6 = server.host.find(':') != std::string::npos;
  return (ipv6 ? "[" + server.host + "]" : server.host) + ":" + std::to_string(server.port);
}

Session::Settings settings_of(const Options& options) {
  Session::Settings settings;
  settings.timeout_ms = options.session_timeout_ms;
  settings.session = options.session;
  settings.password = options.password;
  settings.renew = options.renew;
  settings.rearm_watches = options.rearm_watches;
  settings.hold_after_connect = options.hold_after_connect;
  return settings;
}

std::uint64_t random_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

class ClientImpl final : public Client, public Link::Owner {
 public:
  explicit ClientImpl(Options options)
      : options_(std::move(options)),
        seed_(random_seed()),
        session_(settings_of(options_)),
        backoff_(options_.backoff_max, seed_),
        errors_(options_.target.servers.size()) {
    // Sockets first, in the order given; hosts in any, that the clients of one configuration do not all begin with one.
    auto& servers = options_.target.servers;
    const auto hosts = std::stable_partition(servers.begin(), servers.end(),
                                             [](const Server& server) { return !server.unix_path.empty(); });
    std::mt19937_64 random(seed_ + 1);
    std::shuffle(hosts, servers.end(), random);
    publish();
    asio::post(io_, [this] { try_next(); });
    // Signals are the business of the program's own threads.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { io_.run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_setname_np(thread_.native_handle(), "coord-client");
  }

  ~ClientImpl() override {
    COORD_CHECK_MSG(std::this_thread::get_id() != thread_.get_id(), "a client destroyed from its own callback");
    asio::post(io_, [this] { stop(); });
    thread_.join();
  }

  void submit(wire::Op op, std::string body, Submit how, Completion done) override {
    {
      const std::lock_guard<std::mutex> lock(inbox_mutex_);
      if (stopped_) return;  // only from a completion that the destructor calls, after its last pass
      inbox_.push_back({op, std::move(body), std::move(how), std::move(done)});
      if (wake_pending_) return;
      wake_pending_ = true;
    }
    asio::post(io_, [this] { wake(); });
  }

  void close(std::chrono::milliseconds limit) override;
  void release() override { session_.release(); }

  bool wait_connected(std::chrono::milliseconds limit) override {
    std::unique_lock<std::mutex> lock(facts_mutex_);
    return facts_changed_.wait_for(lock, limit, [this] { return facts_.was_connected; });
  }
  std::string what_was_tried() const override;
  bool connected() const override {
    const std::lock_guard<std::mutex> lock(facts_mutex_);
    return facts_.connected;
  }
  std::int64_t session() const override {
    const std::lock_guard<std::mutex> lock(facts_mutex_);
    return facts_.session;
  }
  std::string password() const override {
    const std::lock_guard<std::mutex> lock(facts_mutex_);
    return facts_.password;
  }
  std::int32_t negotiated_timeout_ms() const override {
    const std::lock_guard<std::mutex> lock(facts_mutex_);
    return facts_.timeout_ms;
  }
  std::int64_t last_zxid() const override { return last_zxid_.load(std::memory_order_relaxed); }
  std::string chroot() const override { return options_.target.chroot; }

 private:
  enum class State { kWaiting, kConnecting, kUp, kClosed };

  // Link::Owner
  void link_connected() override;
  void link_frame(std::string_view payload) override;
  void link_received() override;
  void link_written() override { flush(); }
  void link_closed(const std::string& why, std::uint64_t written) override;

  void try_next();
  void begin_attempt();
  void wait_and_try(Millis delay);
  void take_handshake(std::string_view payload);
  void deliver(Incoming in);
  void complete(std::vector<Finished>& finished);
  void announce(SessionEvent event);
  bool take_inbox();
  void wake();
  void flush();
  void arm_tick();
  void tick();
  void stop();
  void publish();
  void note_error(const std::string& why);
  void shut();

  Options options_;
  std::uint64_t seed_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  asio::steady_timer attempt_timer_{io_};  // back-off, or the limit of an attempt
  asio::steady_timer tick_timer_{io_};
  Instant tick_at_ = Instant::max();

  // I/O thread only.
  Session session_;
  Backoff backoff_;
  State state_ = State::kWaiting;
  std::unique_ptr<Link> link_;
  bool link_open_ = false;
  bool handshaken_ = false;  // on this link
  bool stopping_ = false;
  Instant up_since_;
  std::size_t next_server_ = 0;
  std::size_t failures_ = 0;  // since the last success
  unsigned rounds_ = 0;
  std::uint64_t attempts_ = 0;
  std::string out_;
  std::shared_ptr<std::atomic<int>> resolving_ = std::make_shared<std::atomic<int>>(0);

  std::mutex inbox_mutex_;
  std::vector<Request> inbox_;
  bool wake_pending_ = false;
  bool stopped_ = false;
  std::vector<Request> draining_;  // I/O thread only

  struct Facts {
    bool connected = false;
    bool was_connected = false;
    std::int64_t session = 0;
    std::string password;
    std::int32_t timeout_ms = 0;
  };
  mutable std::mutex facts_mutex_;
  std::condition_variable facts_changed_;
  Facts facts_;
  std::vector<std::string> errors_;  // per server, under facts_mutex_
  std::atomic<std::int64_t> last_zxid_{0};

  std::thread thread_;
};

Instant now() { return std::chrono::steady_clock::now(); }

// ---- connecting

void ClientImpl::wait_and_try(Millis delay) {
  state_ = State::kWaiting;
  attempt_timer_.expires_after(delay);
  attempt_timer_.async_wait([this](const error_code& ec) {
    if (!ec) try_next();
  });
}

void ClientImpl::try_next() {
  if (stopping_ || state_ != State::kWaiting || link_open_) return;
  if (options_.target.servers.empty()) return;  // nothing to try: every request runs into its deadline
  begin_attempt();
}

void ClientImpl::begin_attempt() {
  state_ = State::kConnecting;
  link_ = std::make_unique<Link>(io_, *this, resolving_);
  link_open_ = true;
  handshaken_ = false;
  out_.clear();
  attempt_timer_.expires_after(options_.connect_timeout);
  attempt_timer_.async_wait([this, attempt = ++attempts_](const error_code& ec) {
    if (ec || attempt != attempts_ || state_ != State::kConnecting) return;
    link_->close("no answer within the limit for one attempt");
  });
  link_->open(options_.target.servers[next_server_], rounds_);
}

void ClientImpl::link_connected() {
  session_.begin_connection(out_);
  link_->write(out_);
}

void ClientImpl::note_error(const std::string& why) {
  const std::lock_guard<std::mutex> lock(facts_mutex_);
  errors_[next_server_] = why;
}

void ClientImpl::link_closed(const std::string& why, std::uint64_t written) {
  link_open_ = false;
  attempt_timer_.cancel();
  const bool was_up = state_ == State::kUp;
  note_error(why);
  log::debug("client", "connection closed server={} why={}", name_of(options_.target.servers[next_server_]), why);
  if (was_up) {
    std::vector<Finished> finished;
    session_.disconnected(written, finished);
    publish();
    if (!session_.ended()) announce(SessionEvent::kDisconnected);
    complete(finished);
  }
  if (stopping_) return;
  if (session_.ended()) {
    state_ = State::kClosed;
    return;
  }
  const bool success = was_up && now() - up_since_ >= kStable;
  if (success) {
    backoff_.reset();
    failures_ = 0;
  }
  const std::size_t count = options_.target.servers.size();
  next_server_ = (next_server_ + 1) % count;
  if (next_server_ == 0) ++rounds_;
  // A connection that was good is replaced at once; a whole round of failures waits.
  const bool round_over = !success && ++failures_ % count == 0;
  wait_and_try(round_over ? backoff_.next() : Millis(0));
}

void ClientImpl::take_handshake(std::string_view payload) {
  std::vector<Finished> finished;
  const Session::Handshake result = session_.handshake(payload, now(), finished);
  switch (result) {
    case Session::Handshake::kRefused:
      link_->close("an answer to the ConnectRequest that makes no sense");
      return;
    case Session::Handshake::kExpired:
      link_->close("the session has expired");
      failures_ = 0;  // the server is well: the new session is not delayed by earlier failures
      backoff_.reset();
      publish();
      announce(SessionEvent::kExpired);
      complete(finished);
      return;
    case Session::Handshake::kNewSession:
    case Session::Handshake::kSameSession:
      break;
  }
  handshaken_ = true;
  attempt_timer_.cancel();
  state_ = State::kUp;
  up_since_ = now();
  publish();
  announce(result == Session::Handshake::kSameSession ? SessionEvent::kReconnected : SessionEvent::kConnected);
}

void ClientImpl::announce(SessionEvent event) {
  if (options_.on_session) options_.on_session(event);
}

void ClientImpl::publish() {
  const std::lock_guard<std::mutex> lock(facts_mutex_);
  facts_.connected = state_ == State::kUp && session_.established();
  facts_.was_connected = facts_.was_connected || facts_.connected;
  facts_.session = session_.id();
  facts_.password = session_.password();
  facts_.timeout_ms = session_.timeout_ms();
  facts_changed_.notify_all();
}

std::string ClientImpl::what_was_tried() const {
  const std::lock_guard<std::mutex> lock(facts_mutex_);
  std::string out;
  for (std::size_t i = 0; i < errors_.size(); ++i) {
    if (!out.empty()) out += "; ";
    out += name_of(options_.target.servers[i]) + ": " + (errors_[i].empty() ? "not tried yet" : errors_[i]);
  }
  return out.empty() ? "no server was given" : out;
}

// ---- traffic

void ClientImpl::link_frame(std::string_view payload) {
  if (!handshaken_) {
    take_handshake(payload);
    return;
  }
  Incoming in = session_.receive(payload, now());
  last_zxid_.store(session_.last_zxid(), std::memory_order_relaxed);
  if (in.kind == Incoming::Kind::kBroken) {
    log::warn("client", "dropping the connection server={} why={}", name_of(options_.target.servers[next_server_]),
              in.why);
    link_->close(std::move(in.why));
    return;
  }
  deliver(std::move(in));
}

void ClientImpl::deliver(Incoming in) {
  switch (in.kind) {
    case Incoming::Kind::kReply:
      if (in.done) in.done(in.reply);
      return;
    case Incoming::Kind::kWatch: {
      const std::string& chroot = options_.target.chroot;
      if (in.watch.path.starts_with(chroot)) in.watch.path.erase(0, chroot.size());
      if (in.watch.path.empty()) in.watch.path = "/";
      if (options_.on_watch) options_.on_watch(in.watch, in.reply.zxid);
      return;
    }
    case Incoming::Kind::kChange:
      if (options_.on_change) options_.on_change(in.change);
      return;
    case Incoming::Kind::kNothing:
    case Incoming::Kind::kBroken:
      return;
  }
}

void ClientImpl::link_received() {
  session_.received_bytes(now());
  take_inbox();
  flush();
}

void ClientImpl::complete(std::vector<Finished>& finished) {
  for (Finished& f : finished) {
    if (!f.done) continue;
    Reply reply;
    reply.err = f.err;
    reply.sent = f.sent;
    f.done(reply);
  }
  finished.clear();
}

bool ClientImpl::take_inbox() {
  {
    const std::lock_guard<std::mutex> lock(inbox_mutex_);
    if (inbox_.empty()) return false;
    draining_.swap(inbox_);
  }
  const Instant at = now();
  std::vector<Finished> finished;
  for (Request& request : draining_) session_.submit(std::move(request), at, finished);
  draining_.clear();
  complete(finished);
  return true;
}

void ClientImpl::wake() {
  {
    const std::lock_guard<std::mutex> lock(inbox_mutex_);
    wake_pending_ = false;
  }
  if (stopping_) return;  // stop() takes what is left
  take_inbox();
  flush();
}

void ClientImpl::flush() {
  if (link_open_ && state_ == State::kUp && !link_->writing() && !link_->closing()) {
    session_.take_output(out_, now());
    if (!out_.empty()) link_->write(out_);
  }
  arm_tick();
}

void ClientImpl::arm_tick() {
  const Instant wanted = session_.next_wakeup();
  if (stopping_ || wanted >= tick_at_) return;  // it fires earlier and looks again
  tick_at_ = wanted;
  tick_timer_.expires_at(wanted);
  tick_timer_.async_wait([this](const error_code& ec) {
    if (!ec) tick();
  });
}

void ClientImpl::tick() {
  tick_at_ = Instant::max();
  if (stopping_) return;
  const Instant at = now();
  std::vector<Finished> finished;
  session_.expire_deadlines(at, finished);
  if (state_ == State::kUp && session_.dead(at)) link_->close("no answer for two thirds of the session time-out");
  complete(finished);
  take_inbox();
  flush();
}

// ---- the end

void ClientImpl::close(std::chrono::milliseconds limit) {
  struct Wait {
    std::mutex mutex;
    std::condition_variable done;
    bool closed = false;
  };
  const auto wait = std::make_shared<Wait>();
  const auto closed = [wait] {
    const std::lock_guard<std::mutex> lock(wait->mutex);
    wait->closed = true;
    wait->done.notify_all();
  };
  asio::post(io_, [this, limit, closed] {
    if (session_.ended() || session_.id() == 0) {
      shut();
      closed();
      return;
    }
    take_inbox();
    session_.release();  // what was held back goes first, then the end
    Submit how;
    how.deadline = limit;
    how.resend = true;  // after a reconnect: ends the session, or finds it expired
    how.first = true;
    std::vector<Finished> finished;
    Request request{wire::Op::kCloseSession, {}, how, [this, closed](const Reply&) {
                      asio::post(io_, [this, closed] {
                        shut();
                        closed();
                      });
                    }};
    session_.submit(std::move(request), now(), finished);
    complete(finished);
    flush();
  });
  if (std::this_thread::get_id() == thread_.get_id()) return;
  std::unique_lock<std::mutex> lock(wait->mutex);
  // The deadline of the request ends the wait; the margin is for a callback that is slow.
  wait->done.wait_for(lock, limit + Millis(500), [&] { return wait->closed; });
}

void ClientImpl::shut() {
  if (stopping_) return;
  if (link_open_) link_->close("closed");
  std::vector<Finished> finished;
  session_.end(Err::kSessionExpired, finished);
  if (!link_open_) state_ = State::kClosed;
  attempt_timer_.cancel();
  publish();
  complete(finished);
}

void ClientImpl::stop() {
  stopping_ = true;
  attempt_timer_.cancel();
  tick_timer_.cancel();
  if (link_open_) {
    if (!link_->closing()) link_->close("the client ends");
    // link_closed comes with the exact count of bytes written; end there, after this turn.
    asio::post(io_, [this] { stop(); });
    return;
  }
  std::vector<Finished> finished;
  session_.end(Err::kConnectionLoss, finished);
  publish();
  complete(finished);
  for (int pass = 0; pass < kStopPasses && take_inbox(); ++pass) {
  }
  {
    const std::lock_guard<std::mutex> lock(inbox_mutex_);
    stopped_ = true;
    inbox_.clear();
  }
  work_.reset();
}

}  // namespace

std::unique_ptr<Client> Client::create(Options options) { return std::make_unique<ClientImpl>(std::move(options)); }

}  // namespace coord::client
