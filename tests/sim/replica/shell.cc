#include "tests/sim/replica/shell.h"

#include <algorithm>
#include <utility>

#include "tests/sim/replica/world.h"

namespace coord::sim {

namespace {
constexpr std::int64_t kClientLatencyUs = 150;
}

// --- the executor

void SimExecutor::later(std::int64_t delay_us, std::function<void()> work) {
  scheduler_.after(delay_us, [this, work = std::move(work)]() mutable { enter(std::move(work)); });
}

void SimExecutor::enter(std::function<void()> work) {
  if (!alive_) return;
  if (paused_) {
    inbox_.push_back(std::move(work));
  } else {
    work();
  }
}

void SimExecutor::every(std::chrono::milliseconds period, std::function<void()> work) {
  later(period.count() * 1000, [this, period, work = std::move(work)] {
    work();
    every(period, work);
  });
}

void SimExecutor::kill() {
  alive_ = false;
  inbox_.clear();
}

void SimExecutor::resume() {
  paused_ = false;
  while (!inbox_.empty() && alive_ && !paused_) {
    auto work = std::move(inbox_.front());
    inbox_.pop_front();
    work();
  }
}

// --- client connections

SimStream::SimStream(ReplicaWorld& world, std::uint64_t number, std::uint32_t client, Sid replica, bool mount,
                     std::shared_ptr<SimExecutor> executor)
    : world_(world), number_(number), client_(client), replica_(replica), executor_(std::move(executor)) {
  remote_.is_unix = mount;  // of uid 0: trusted
  if (!mount) remote_.address = "10.0.0." + std::to_string(client);
}

void SimStream::request_flush() {
  executor_->post([self = shared_from_this()] { self->flush(); });
}

void SimStream::resume_reading() {
  executor_->post([self = shared_from_this()] {
    self->paused_ = false;
    self->deliver();
  });
}

void SimStream::request_close(bool rest) {
  executor_->post([self = shared_from_this(), rest] {
    if (rest) self->flush();
    self->end();
  });
}

void SimStream::put(Pipe& pipe, Item item, void (SimStream::*pump)()) {
  Scheduler& scheduler = world_.scheduler();
  pipe.last_ready = std::max(pipe.last_ready, scheduler.now_us() + world_.random().heavy(kClientLatencyUs));
  item.ready = pipe.last_ready;
  pipe.items.push_back(std::move(item));
  scheduler.at(pipe.last_ready, [self = shared_from_this(), pump] { (*self.*pump)(); });
}

void SimStream::pump_in() {
  while (!to_replica_.items.empty() && to_replica_.items.front().ready <= world_.scheduler().now_us()) {
    if (world_.client_cut(client_, replica_, ReplicaWorld::Direction::kToReplica)) return;
    Item item = std::move(to_replica_.items.front());
    to_replica_.items.pop_front();
    executor_->enter([self = shared_from_this(), item = std::move(item)] {
      if (item.end) return self->end();
      self->in_ += item.bytes;
      self->deliver();
    });
  }
}

void SimStream::pump_out() {
  while (!to_client_.items.empty() && to_client_.items.front().ready <= world_.scheduler().now_us()) {
    if (world_.client_cut(client_, replica_, ReplicaWorld::Direction::kToClient)) return;
    const Item item = std::move(to_client_.items.front());
    to_client_.items.pop_front();
    if (item.end) {
      world_.forget_stream(number_);
      if (!std::exchange(client_left_, true)) world_.client(client_).closed(number_);
    } else if (!client_left_) {
      world_.gave(client_, number_, item.bytes);
      world_.client(client_).received(number_, item.bytes);
    }
  }
}

void SimStream::reachable() {
  pump_in();
  pump_out();
}

void SimStream::deliver() {
  if (paused_ || ended_ || in_.empty()) return;
  if (!user_->on_bytes(in_)) paused_ = true;
}

void SimStream::flush() {
  if (ended_) return;
  std::string out, piece;
  for (user_->take_output(piece); !piece.empty(); user_->take_output(piece)) out += std::exchange(piece, {});
  if (!out.empty() && !client_left_) put(to_client_, {0, false, std::move(out)}, &SimStream::pump_out);
}

void SimStream::end() {
  if (std::exchange(ended_, true)) return;
  const auto user = std::move(user_);
  user->on_closed();
  put(to_client_, {0, true, {}}, &SimStream::pump_out);
}

void SimStream::hang_up() {
  client_left_ = true;
  put(to_replica_, {0, true, {}}, &SimStream::pump_in);
}

void SimStream::cut() {
  if (std::exchange(ended_, true)) return;
  user_.reset();
  put(to_client_, {0, true, {}}, &SimStream::pump_out);
}

}  // namespace coord::sim
