#include "fusefs/kernel/workers.h"

#include <cerrno>
#include <cstdlib>

#include "common/base/log.h"

namespace coord::fs {
namespace {

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Workers::~Workers() {
  for (std::thread& thread : threads_) {
    // A worker that hangs after the connection was aborted hangs in our own code; the process is about to end.
    if (running_.load() == 0) {
      thread.join();
    } else {
      thread.detach();
    }
  }
}

void Workers::start(fuse_session* session) {
  session_ = session;
  for (int i = 0; i < kMountWorkersStart; ++i) add();
  started_ = true;
}

void Workers::add() {
  const std::lock_guard guard(mutex_);
  const int index = count_.load();
  if (index >= kMountWorkersMax) return;
  count_.store(index + 1);
  ++running_;
  ++idle_;
  threads_.emplace_back([this, index] { run(slots_[static_cast<std::size_t>(index)]); });
}

void Workers::run(Slot& slot) {
  fuse_buf buffer = {};
  while (fuse_session_exited(session_) == 0) {
    const int got = fuse_session_receive_buf(session_, &buffer);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got <= 0) {
      if (got < 0) log::warn("fuse", "reading requests failed errno={}", -got);
      fuse_session_exit(session_);
      break;
    }
    if (--idle_ == 0 && count_.load() < kMountWorkersMax) add();
    slot.since_ms.store(now_ms(), std::memory_order_relaxed);
    fuse_session_process_buf(session_, &buffer);
    slot.since_ms.store(0, std::memory_order_relaxed);
    requests_.fetch_add(1, std::memory_order_relaxed);
    ++idle_;
  }
  std::free(buffer.mem);
  const std::lock_guard guard(mutex_);
  --running_;
  ended_.notify_all();
}

bool Workers::wait(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return ended_.wait_for(lock, limit, [this] { return running_.load() == 0; });
}

bool Workers::stuck(std::chrono::milliseconds limit) const {
  const std::int64_t now = now_ms();
  const int count = count_.load();
  for (int i = 0; i < count; ++i) {
    const std::int64_t since = slots_[static_cast<std::size_t>(i)].since_ms.load(std::memory_order_relaxed);
    if (since == 0 || now - since < limit.count()) return false;
  }
  return count > 0;
}

}  // namespace coord::fs
