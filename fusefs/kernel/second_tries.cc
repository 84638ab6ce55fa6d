#include "fusefs/kernel/second_tries.h"

#include <utility>

namespace coord::fs {
namespace {

// The kernel tries again at once; what the thread does later is another call.
constexpr std::chrono::milliseconds kLasts{250};

}  // namespace

void SecondTries::expect(pid_t tid) {
  if (tid == 0) return;  // not one that can be told from others: of another pid namespace
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard guard(mutex_);
  std::erase_if(items_, [now](const auto& item) { return now - item.second.since > kLasts; });
  items_[tid] = Item{now, {}};
  any_ = true;
}

bool SecondTries::expected(pid_t tid) const {
  if (!any_) return false;
  const std::lock_guard guard(mutex_);
  return items_.contains(tid);
}

void SecondTries::found(pid_t tid, Found what) {
  if (!any_) return;
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard guard(mutex_);
  const auto it = items_.find(tid);
  if (it == items_.end()) return;
  if (now - it->second.since <= kLasts) {
    it->second.found = std::move(what);
    return;
  }
  items_.erase(it);
  any_ = !items_.empty();
}

bool SecondTries::has(pid_t tid, Ino ino) const {
  if (!any_) return false;
  const std::lock_guard guard(mutex_);
  const auto it = items_.find(tid);
  return it != items_.end() && it->second.found.ino == ino &&
         std::chrono::steady_clock::now() - it->second.since <= kLasts;
}

std::optional<SecondTries::Found> SecondTries::take(pid_t tid, Ino ino, bool last) {
  if (!any_) return std::nullopt;
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard guard(mutex_);
  const auto it = items_.find(tid);
  if (it == items_.end()) return std::nullopt;
  std::optional<Found> out;
  if (it->second.found.ino == ino && now - it->second.since <= kLasts) out = std::exchange(it->second.found, {});
  if (last) items_.erase(it);
  any_ = !items_.empty();
  return out;
}

}  // namespace coord::fs
