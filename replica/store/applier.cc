#include "replica/store/applier.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace coord::store {

namespace {

constexpr std::size_t kBatchesMax = 20'000;
constexpr std::uint64_t kGroupsPerSlice = 8;  // under load
constexpr auto kAsideRetry = std::chrono::seconds(1);
constexpr auto kAsideBreath = std::chrono::milliseconds(1);

}  // namespace

Applier::Applier(Limits limits, Apply apply, Idle idle)
    : limits_(limits), apply_(std::move(apply)), idle_(std::move(idle)) {}

Applier::~Applier() {
  {
    const std::lock_guard lock(mutex_);
    COORD_CHECK_MSG(queued_.empty(), "an applier is drained before it goes");
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Applier::start() {
  thread_ = std::thread([this] { run(); });
}

bool Applier::full() const {
  return queued_.bytes >= limits_.bytes || queued_.entries >= limits_.entries || queued_.batches.size() >= kBatchesMax;
}

bool Applier::due(Clock::time_point now) const {
  return full() || wanted_ > done_ || now >= oldest_ + limits_.age || now >= newest_ + limits_.quiet;
}

void Applier::add(Group group) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    wake = queued_.empty();
    if (wake) oldest_ = now;
    newest_ = now;
    ++added_;
    if (wake) {
      queued_ = std::move(group);
    } else {
      queued_.batches.insert(queued_.batches.end(), std::make_move_iterator(group.batches.begin()),
                             std::make_move_iterator(group.batches.end()));
      queued_.work += group.work;
      queued_.bytes += group.bytes;
      queued_.entries += group.entries;
      queued_.sequence = group.sequence;
    }
    wake = wake || full();
  }
  if (wake) wake_.notify_one();
}

void Applier::wait_for_room() {
  std::unique_lock lock(mutex_);
  applied_.wait(lock, [this] { return !full(); });
}

// Asks for it, too. `count`: groups.
void Applier::wait_until_applied(std::unique_lock<std::mutex>& lock, std::uint64_t count) {
  if (done_ >= count) return;
  wanted_ = std::max(wanted_, count);
  wake_.notify_one();
  applied_.wait(lock, [&] { return done_ >= count; });
}

void Applier::wait_for(std::uint64_t sequence) {
  std::unique_lock lock(mutex_);
  if (sequence_ < sequence) wait_until_applied(lock, applying_ ? done_ + 1 : added_);
  // What was being applied may have ended below it.
  if (sequence_ < sequence) wait_until_applied(lock, added_);
  COORD_CHECK_MSG(sequence_ >= sequence, "what the journal holds was handed on");
}

void Applier::drain() {
  std::unique_lock lock(mutex_);
  wait_until_applied(lock, added_);
}

void Applier::settle() {
  std::unique_lock lock(mutex_);
  wait_until_applied(lock, added_);
}

std::pair<Work, Work> Applier::ahead() const {
  const std::lock_guard lock(mutex_);
  return {taken_, queued_.work};
}

void Applier::look_aside() {
  {
    const std::lock_guard lock(mutex_);
    aside_ = Aside::kMore;
  }
  wake_.notify_one();
}

void Applier::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto now = Clock::now();
    if (!queued_.empty()) {
      if (due(now) || stop_) {
        apply(lock);
        if (++since_aside_ >= kGroupsPerSlice) aside(lock);
      } else {
        wake_.wait_until(lock, std::min(oldest_ + limits_.age, newest_ + limits_.quiet));
      }
    } else if (stop_) {
      return;
    } else if (aside_ == Aside::kMore || (aside_ == Aside::kLater && now >= aside_at_)) {
      aside(lock);
    } else if (aside_ == Aside::kLater) {
      wake_.wait_until(lock, aside_at_);
    } else {
      wake_.wait(lock);
    }
  }
}

void Applier::apply(std::unique_lock<std::mutex>& lock) {
  Group group = std::exchange(queued_, {});
  const std::uint64_t count = added_;
  taken_ = group.work;
  applying_ = true;
  applied_.notify_all();  // there is room
  lock.unlock();
  apply_(group);
  const std::uint64_t sequence = group.sequence;
  group = {};  // payloads go without the lock
  lock.lock();
  taken_ = {};
  applying_ = false;
  done_ = count;
  sequence_ = std::max(sequence_, sequence);
  applied_.notify_all();
}

void Applier::aside(std::unique_lock<std::mutex>& lock) {
  since_aside_ = 0;
  if (aside_ == Aside::kNothing) return;
  aside_ = Aside::kNothing;  // look_aside() may say otherwise meanwhile
  lock.unlock();
  const Aside found = idle_();
  lock.lock();
  if (found == Aside::kNothing) return;
  if (aside_ != Aside::kMore) aside_ = found;
  // The writer waits for the database too, and a mutex is not fair: it gets a moment in between.
  if (found == Aside::kMore && !stop_) wake_.wait_for(lock, kAsideBreath);
  aside_at_ = Clock::now() + kAsideRetry;
}

}  // namespace coord::store
