#include "replica/tree/sessions.h"

#include <algorithm>
#include <limits>

#include "common/base/check.h"

namespace coord::tree {

std::int64_t ExpiryTracker::instant_for(std::int32_t timeout_ms, std::int64_t now_ms) const {
  COORD_CHECK(tick_ms_ > 0 && timeout_ms > 0);
  return ((now_ms + timeout_ms) / tick_ms_ + 1) * tick_ms_;
}

void ExpiryTracker::put(SessionId id, Entry entry) {
  const auto [at, is_new] = sessions_.try_emplace(id, entry);
  if (!is_new) {
    if (at->second.instant == entry.instant) {
      at->second.timeout_ms = entry.timeout_ms;
      return;
    }
    const auto bucket = buckets_.find(at->second.instant);
    COORD_CHECK(bucket != buckets_.end());
    bucket->second.erase(id);
    if (bucket->second.empty()) buckets_.erase(bucket);
    at->second = entry;
  }
  buckets_[entry.instant].insert(id);
}

void ExpiryTracker::touch(SessionId id, std::int32_t timeout_ms, std::int64_t now_ms) {
  const auto at = sessions_.find(id);
  std::int64_t instant = instant_for(timeout_ms, now_ms);
  // A renewal never shortens what the client was promised, unless the timeout itself was renegotiated.
  if (at != sessions_.end() && at->second.timeout_ms == timeout_ms) instant = std::max(instant, at->second.instant);
  put(id, Entry{timeout_ms, instant});
}

bool ExpiryTracker::touch(SessionId id, std::int64_t now_ms) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end()) return false;
  touch(id, at->second.timeout_ms, now_ms);
  return true;
}

void ExpiryTracker::remove(SessionId id) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end()) return;
  const auto bucket = buckets_.find(at->second.instant);
  COORD_CHECK(bucket != buckets_.end());
  bucket->second.erase(id);
  if (bucket->second.empty()) buckets_.erase(bucket);
  sessions_.erase(at);
}

void ExpiryTracker::clear() {
  sessions_.clear();
  buckets_.clear();
}

std::vector<SessionId> ExpiryTracker::expired(std::int64_t now_ms) {
  std::vector<SessionId> out;
  while (!buckets_.empty() && buckets_.begin()->first <= now_ms) {
    for (const SessionId id : buckets_.begin()->second) {
      sessions_.erase(id);
      out.push_back(id);
    }
    buckets_.erase(buckets_.begin());
  }
  std::sort(out.begin(), out.end());
  return out;
}

void ExpiryTracker::extend_all(std::int64_t by_ms) {
  if (by_ms <= 0) return;
  // Whole ticks, so that instants stay multiples of the tick.
  const std::int64_t shift = (by_ms + tick_ms_ - 1) / tick_ms_ * tick_ms_;
  std::map<std::int64_t, std::unordered_set<SessionId>> shifted;
  for (auto& [instant, ids] : buckets_) shifted.emplace_hint(shifted.end(), instant + shift, std::move(ids));
  buckets_ = std::move(shifted);
  for (auto& [id, entry] : sessions_) entry.instant += shift;
}

std::int64_t ExpiryTracker::next_instant() const {
  return buckets_.empty() ? std::numeric_limits<std::int64_t>::max() : buckets_.begin()->first;
}

}  // namespace coord::tree
