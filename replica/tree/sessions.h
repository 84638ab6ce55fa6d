// When sessions expire. Leader only, volatile: a new leader starts every session with its full timeout. Pure: time is a
// monotonic argument in ms. Expiry instants are rounded up to the next multiple of the tick strictly above now plus
// timeout (client-protocol.md section 2.5), so that a dead session lives between its timeout and timeout + tick.
// Core thread only.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/model/ids.h"

namespace coord::tree {

class ExpiryTracker {
 public:
  explicit ExpiryTracker(std::int64_t tick_ms) : tick_ms_(tick_ms) {}

  // Adds or renews; `timeout_ms` > 0.
  void touch(SessionId id, std::int32_t timeout_ms, std::int64_t now_ms);
  // Renews with the timeout it has; false when not tracked.
  bool touch(SessionId id, std::int64_t now_ms);
  void remove(SessionId id);
  void clear();

  // Sessions whose instant has passed. Each is reported once; it stays away unless touched anew.
  std::vector<SessionId> expired(std::int64_t now_ms);
  // After a pause of this process (stop, VM freeze): nobody may be blamed for it.
  void extend_all(std::int64_t by_ms);

  // The next instant at which expired() can return anything; INT64_MAX when empty.
  std::int64_t next_instant() const;
  std::size_t size() const { return sessions_.size(); }

 private:
  struct Entry {
    std::int32_t timeout_ms;
    std::int64_t instant;
  };
  std::int64_t instant_for(std::int32_t timeout_ms, std::int64_t now_ms) const;
  void put(SessionId id, Entry entry);

  std::int64_t tick_ms_;
  std::unordered_map<SessionId, Entry> sessions_;
  std::map<std::int64_t, std::unordered_set<SessionId>> buckets_;
};

}  // namespace coord::tree
