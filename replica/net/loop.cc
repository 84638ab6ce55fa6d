#include "replica/net/loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <csignal>

#include "replica/net/asio_impl.h"

namespace coord::net {
namespace asio = boost::asio;
namespace {

void arm(asio::steady_timer& timer, std::chrono::milliseconds period, std::shared_ptr<std::function<void()>> work) {
  timer.expires_after(period);
  timer.async_wait([&timer, period, work](boost::system::error_code error) {
    if (error) return;
    (*work)();
    arm(timer, period, work);
  });
}

void arm_signals(asio::signal_set& set, std::shared_ptr<std::function<void(int)>> end,
                 std::shared_ptr<std::function<void()>> hangup) {
  set.async_wait([&set, end, hangup](boost::system::error_code error, int number) {
    if (error) return;
    if (number == SIGHUP) {
      (*hangup)();
      arm_signals(set, end, hangup);
      return;
    }
    (*end)(number);
  });
}

}  // namespace

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;

void Loop::run() {
  impl_->thread = std::this_thread::get_id();
  auto guard = asio::make_work_guard(impl_->context);
  impl_->context.run();
}

void Loop::stop() { impl_->context.stop(); }

void Loop::post(std::function<void()> work) { asio::post(impl_->context, std::move(work)); }

void Loop::dispatch(std::function<void()> work) {
  if (in_this_thread()) {
    work();
  } else {
    post(std::move(work));
  }
}

bool Loop::in_this_thread() const { return impl_->thread.load() == std::this_thread::get_id(); }

std::int64_t Loop::now_us() const {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

std::int64_t Loop::wall_ms() const {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

void Loop::every(std::chrono::milliseconds period, std::function<void()> work) {
  impl_->timers.push_back(std::make_unique<asio::steady_timer>(impl_->context));
  arm(*impl_->timers.back(), period, std::make_shared<std::function<void()>>(std::move(work)));
}

void Loop::on_signals(std::function<void(int)> work, std::function<void()> hangup) {
  impl_->signals = std::make_unique<asio::signal_set>(impl_->context, SIGTERM, SIGINT, SIGHUP);
  arm_signals(*impl_->signals, std::make_shared<std::function<void(int)>>(std::move(work)),
              std::make_shared<std::function<void()>>(std::move(hangup)));
}

}  // namespace coord::net
